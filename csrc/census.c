/*
 * census.c - all pages at once: sample, group, verify. The stages are in look.c, group.c and verify.c.
 *
 * A page need not be hashed to be compared, nor read whole to be told from most others. So, for blocks of pages:
 *
 *   look     Two cache lines of each page make its key; a page whose two lines are zero is read to see whether it is
 *            all zero, and if so is done with. Keys go into a hash table, whose slot holds the lowest page of a key.
 *   group    A counting sort by that page: each one that has company (a head), then the others of its key, members.
 *   verify   Group by group: the head against its members, byte by byte, four members in lockstep. Every page of a
 *            group is read once. Members that differ from their head settle among themselves.
 *
 * A group with too many of these (contents that agree in the lines that are sampled) goes to another round, with the
 * hash of the whole page for its key: `open` has a bit for each page whose class is not known yet, and a round is
 * about the open pages alone. No content costs more than being sampled, compared in vain, hashed and compared.
 *
 * Threads take block after block from a counter and meet between the stages. That the lowest page of a key wins
 * makes the result independent of their order. Nothing is locked: slots change by compare-and-swap, and what a block's
 * pages own (canonical, their bits in `open`) is written by the block's thread.
 *
 * Memory: 4 bytes a page for the result and 8 * 4/3 for the table, over which the sort lies afterwards, and at the end
 * the tally: 14.8 in all.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "census.h"

/* A block is this large, and within these bounds; a multiple of 64 pages, so that words of bits have one owner. */
#define BLOCK_BYTES (2u << 20)
#define BLOCK_MIN 64
/* Streamed: what is read at a time stays in the L2 cache. */
#define STREAM_BLOCK_BYTES (256u << 10)
/* How often a thread looks whether the others have come, a few dozen microseconds in all, and how often it gives way to
 * them then, about a millisecond. */
#define LOOKS 1000
#define YIELDS 2000
/* Of the table: a huge page; and how many of these the first thread touches. */
#define TOUCH_BYTES (2u << 20)
#define FIRST_TOUCHES 8

typedef ps_census_state census;

/* ---- rounds and threads ---- */

/* Everything that has room for every open page. */
static void begin_round(census *c, uint64_t seed, uint64_t open)
{
    uint64_t capacity = open + open / 3 + 8, most = UINT32_MAX - c->domain_count;

    c->round++;
    ps_hash_key_init(&c->key, seed);
    c->capacity = (uint32_t)(capacity < most ? capacity : most);
    c->any_open = false;
}

void ps_end_round(census *c)
{
    uint64_t open = 0;

    if (c->status == PS_OK)
        c->status = ps_space_status(c->space);
    c->more = c->any_open && !ps_failed(c);
    if (!c->more)
        return;
    for (uint32_t i = 0; i < (c->pages + 63) / 64; i++)
        open += (uint64_t)__builtin_popcountll(c->open[i]);
    begin_round(c, ps_mix(c->key.seed), open);
    memset(c->slots, 0, ((uint64_t)c->capacity + c->domain_count) * sizeof *c->slots);
}

/* With the mutex: who waits may go on. */
static void go_on(census *c)
{
    __atomic_store_n(&c->meetings, c->meetings + 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&c->everybody);
}

/* Waits until a meeting is over: at first looking for it, then giving way to others, and asleep only when neither helps.
 * To be woken takes longer than most waits; and where all CPUs were busy lately, Linux wakes a thread on the CPU of the
 * one that wakes it, next to an idle one, and notices milliseconds later. */
static void await(census *c, uint32_t meeting)
{
    for (uint32_t i = 0; i < LOOKS && __atomic_load_n(&c->meetings, __ATOMIC_ACQUIRE) == meeting; i++)
        ps_pause();
    for (uint32_t i = 0; i < YIELDS && __atomic_load_n(&c->meetings, __ATOMIC_ACQUIRE) == meeting; i++)
        sched_yield();
    pthread_mutex_lock(&c->mutex);
    while (c->meetings == meeting)
        pthread_cond_wait(&c->everybody, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
}

/* The last one to come does what has to be done by one; all go on when it is done. */
static void meet(census *c, void (*last)(census *))
{
    pthread_mutex_lock(&c->mutex);
    uint32_t meeting = c->meetings;
    bool waits = ++c->arrived < c->threads;
    if (!waits) {
        if (last)
            last(c);
        c->next = 0;
        c->arrived = 0;
        go_on(c);
    }
    pthread_mutex_unlock(&c->mutex);
    if (waits)
        await(c, meeting);
}

void ps_each(census *c, uint32_t count, void (*stage)(census *, uint32_t), void (*last)(census *))
{
    for (uint32_t i; !ps_leaving(c) && (i = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED)) < count;)
        stage(c, i);
    meet(c, last);
}

/* Writes to a part of the table before anybody reads it: memory that is read first is mapped to the one page of zeros,
 * and then, at the first write, once more, with the other threads interrupted to tell them.
 *
 * The first parts are for the first thread, which gives the memory back at the end: Linux keeps what was given back on a CPU
 * for that CPU, so the next census finds the same. Another thread's CPU would bring memory that nobody had lately, and under
 * a hypervisor that takes back what is free (page reporting, ballooning) that cost 4.7 ms a huge page, instead of 0.1. */
static void touch(census *c, uint32_t part)
{
    uint8_t *memory = (uint8_t *)c->slots;
    uint64_t at = (uint64_t)part * TOUCH_BYTES;
    uint64_t end = c->memory_bytes - at < TOUCH_BYTES ? c->memory_bytes : at + TOUCH_BYTES;

    for (; at < end; at += 4096)
        *(volatile uint8_t *)(memory + at) = 0;
}

static uint32_t touches(const census *c)
{
    return (uint32_t)(c->memory_bytes / TOUCH_BYTES + 1);
}

/* What was written while it was read may have become a member of what is no head: every head its own, again. Heads are
 * lower than their members, so this comes to an end. */
static void flatten(census *c, uint32_t block)
{
    for (uint32_t page = block * c->block; page < ps_block_end(c, block); page++) {
        uint32_t head = c->canonical[page], of_head;
        if (head == page)
            continue;
        while (head != PS_NONE && (of_head = __atomic_load_n(&c->canonical[head], __ATOMIC_RELAXED)) != head)
            head = of_head;
        __atomic_store_n(&c->canonical[page], head, __ATOMIC_RELAXED);
    }
}

/* Counts, and then takes out of the mapping what was mapped, which is a fifth of all time where the page cache holds small
 * folios, and would else be one thread's work at the end of the process. */
static void finish(census *c, uint32_t part)
{
    if (part < c->parts) {
        ps_tally_part(c->space, c->canonical, c->zeros, part, c->parts, (ps_class *)c->slots, c->owners, c->total,
                      c->control);
    } else {
        uint32_t block = part - c->parts;
        ps_space_let_go(c->space, block * c->block, ps_block_end(c, block) - block * c->block);
    }
}

static void add_up(census *c)
{
    ps_tally_total(c->owners, c->owner_count, c->total);
}

/* Ends a lap: the time since the last one goes to a stage. */
static void lap(uint64_t *stage_ns, uint64_t *since)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    *stage_ns += ns - *since;
    *since = ns;
}

/* All stages; the threads agree about when each ends. */
static void work(census *c, ps_census_stats *times)
{
    uint64_t since = 0, before = 0;

    lap(&before, &since);
    ps_each(c, touches(c), touch, NULL);
    do {
        ps_each(c, c->blocks, ps_look, ps_entered);
        if (c->threads > 1)
            ps_each(c, c->blocks, ps_find_heads, NULL);
        lap(&times->look_ns, &since);
        ps_group(c);
        lap(&times->group_ns, &since);
        ps_each(c, (c->entries + c->chunk - 1) / c->chunk, ps_verify, ps_end_round);
        lap(&times->verify_ns, &since);
    } while (c->more);
    ps_each(c, c->round > 1 ? c->blocks : 0, flatten, NULL);
    ps_each(c, c->parts + (c->options & PS_MAP ? c->blocks : 0), finish, add_up);
    lap(&times->tally_ns, &since);
}

/* Leaves a CPU if there is another, and may come back: new threads too are put where the one is that makes them. */
static void move_from(int cpu)
{
    cpu_set_t may, elsewhere;

    if (sched_getcpu() != cpu || sched_getaffinity(0, sizeof may, &may))
        return;
    elsewhere = may;
    CPU_CLR(cpu, &elsewhere);
    if (!sched_setaffinity(0, sizeof elsewhere, &elsewhere))
        sched_setaffinity(0, sizeof may, &may);
}

static void *help(void *argument)
{
    census *c = argument;
    ps_census_stats times = {0};

    move_from(c->first_cpu);
    /* Until it is known how many there are. */
    await(c, 0);
    work(c, &times);
    return NULL;
}

/* Works with as many threads as can be had. */
static void work_together(census *c, uint32_t threads)
{
    pthread_t *helpers = calloc(threads, sizeof *helpers);

    if (!helpers) {
        ps_fail(c, PS_NO_MEMORY);
        return;
    }
    while (c->next < FIRST_TOUCHES && c->next < touches(c))
        touch(c, c->next++);
    c->first_cpu = sched_getcpu();
    uint32_t made = 1;
    while (made < threads && ps_thread_start(&helpers[made], help, c))
        made++;
    pthread_mutex_lock(&c->mutex);
    c->threads = made;
    while (c->parts < made)
        c->parts *= 2;
    go_on(c);
    pthread_mutex_unlock(&c->mutex);
    work(c, &c->stats);
    for (uint32_t i = 1; i < c->threads; i++)
        pthread_join(helpers[i], NULL);
    free(helpers);
}

/* ---- life ---- */

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Where in most pages the first whole line of memory begins. */
static size_t first_line(const ps_space *space)
{
    uint64_t pages[64] = {0};
    size_t found = 0;

    for (uint32_t i = 0; i < space->segment_count; i++) {
        const ps_segment *segment = &space->segments[i];
        pages[-space->origins[i] % 64] += ps_segment_end(space, segment) - segment->first;
    }
    for (size_t at = 1; at < 64; at++)
        found = pages[at] > pages[found] ? at : found;
    return found;
}

/* The second line is one of the last quarter, an odd number of lines behind the first: on a Xeon that seems to be a Granite
 * Rapids both came in 31 ns a page, and in 34 to 43 where the number is even; probably since memory's channels differ. */
static void place_samples(census *c, uint64_t random)
{
    uint32_t lines = c->space->page_bytes / 64, odd = lines / 8 > 1 ? lines / 8 - 1 : 1;

    /* The smallest pages have no room to choose. */
    c->first_line = lines > 8 ? first_line(c->space) : 0;
    c->second_line = c->first_line + 64 * (lines * 3 / 4 + (lines > 4) + 2 * (size_t)(random % odd));
}

static bool set_up(census *c, ps_space *space, const ps_census_config *config)
{
    uint64_t words = (uint64_t)c->pages / 64 + 1;

    uint32_t block_bytes = config->options & PS_STREAM ? STREAM_BLOCK_BYTES : BLOCK_BYTES;

    c->block = block_bytes / space->page_bytes / 64 * 64;
    c->block = c->block < BLOCK_MIN ? BLOCK_MIN : c->block > PS_BLOCK_MAX ? PS_BLOCK_MAX : c->block;
    c->blocks = (uint32_t)(((uint64_t)c->pages + c->block - 1) / c->block);
    c->chunk = c->block * PS_CHUNK_BLOCKS;
    for (uint32_t i = 0; i < space->source_count; i++)
        if (space->sources[i].domain >= c->domain_count)
            c->domain_count = space->sources[i].domain + 1;
    begin_round(c, config->seed, c->pages);
    place_samples(c, ps_mix(config->seed ^ 1));
    for (int i = 0; i < 16; i++)
        c->sample_key[i] = ps_mix(config->seed + (uint64_t)i * 0x9E3779B97F4A7C15u);

    c->memory_bytes = most(((uint64_t)c->capacity + c->domain_count) * sizeof *c->slots,
                           2 * sizeof(uint32_t) * (words * 64) + words * sizeof *c->heads);
    c->slots = ps_reserve(c->memory_bytes);
    c->open = ps_reserve(words * sizeof *c->open);
    c->places = calloc((size_t)c->blocks + 1, sizeof *c->places);
    c->chunk_heads = calloc((size_t)c->blocks + 2, sizeof *c->chunk_heads);
    if (!c->slots || !c->open || !c->places || !c->chunk_heads)
        return false;
    memset(c->open, 0xff, c->pages / 64 * sizeof *c->open);
    c->open[c->pages / 64] = ((uint64_t)1 << c->pages % 64) - 1;
    c->counts = (uint32_t *)c->slots;
    c->sorted = c->counts + words * 64;
    c->heads = (uint64_t *)(c->sorted + words * 64);
    c->stats.bytes = c->memory_bytes + words * sizeof *c->open + (uint64_t)c->pages * sizeof *c->canonical +
                     ((uint64_t)c->blocks * 2 + 3) * sizeof(uint32_t) + sizeof *c + ps_space_bytes(space);
    return true;
}

static void tear_down(census *c)
{
    ps_release(c->slots, c->memory_bytes);
    ps_release(c->open, ((uint64_t)c->pages / 64 + 1) * sizeof *c->open);
    free(c->places);
    free(c->chunk_heads);
}

ps_status ps_census(ps_space *space, const ps_census_config *config, uint32_t *canonical, uint32_t *zeros,
                    ps_owner_tally *owners, uint32_t owner_count, ps_tally *total, ps_census_stats *stats,
                    ps_control *control)
{
    if (space->page_bytes == PS_FINGERPRINT_BYTES || config->hash_bits > 64 || config->threads == 0 ||
        (config->options & ~(uint32_t)(PS_MAP | PS_LET_GO | PS_STREAM)) ||
        (config->kernel != -1 && !ps_kernel_usable(config->kernel)))
        return PS_INVALID;
    for (uint32_t i = 0; i < space->source_count; i++)
        if (space->sources[i].domain == UINT32_MAX || space->sources[i].owner >= owner_count)
            return PS_INVALID;
    for (uint32_t i = 0, owner = 0; i < space->segment_count; i++) {
        const ps_source *source = &space->sources[space->segments[i].source];
        if ((!source->base && !(config->options & PS_STREAM)) || source->owner < owner)
            return PS_INVALID;
        owner = source->owner;
    }
    ps_status status = ps_space_status(space);
    if (status != PS_OK)
        return status;
    memset(owners, 0, owner_count * sizeof *owners);
    memset(total, 0, sizeof *total);

    census c = {.space = space, .control = control, .canonical = canonical, .zeros = zeros, .pages = space->pages,
                .owners = owners, .owner_count = owner_count, .total = total, .threads = 1, .parts = 1,
                .hold_bytes = config->hold_bytes};
    c.kernel = ps_kernel_at(config->kernel < 0 ? ps_kernel_best() : config->kernel);
    c.hash_mask = config->hash_bits == 64 ? ~(uint64_t)0 : ((uint64_t)1 << config->hash_bits) - 1;
    c.options = config->options;
    uint64_t keep = config->options & PS_LET_GO ? config->keep_bytes / space->page_bytes : c.pages;
    c.keep = keep < c.pages ? (uint32_t)keep : c.pages;
    pthread_mutex_init(&c.mutex, NULL);
    pthread_cond_init(&c.everybody, NULL);
    if (set_up(&c, space, config)) {
        if (config->options & PS_STREAM) {
            ps_stream(&c);
            ps_each(&c, c.blocks, flatten, NULL);
            ps_each(&c, c.parts, finish, add_up);
        } else {
            work_together(&c, config->threads);
            ps_advance(control, c.status == PS_OK ? c.pages - c.advanced : 0);
        }
    } else {
        c.status = PS_NO_MEMORY;
    }
    tear_down(&c);
    pthread_cond_destroy(&c.everybody);
    pthread_mutex_destroy(&c.mutex);
    c.stats.rounds = c.round;
    c.stats.threads = c.threads;
    *stats = c.stats;
    return c.status;
}
