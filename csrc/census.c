/*
 * census.c - all pages at once: sample, group, verify.
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
 * pages own (canonical, their bits in `open`) is written by the block's thread. For the sort each thread goes through
 * all pages, but counts and places only the members of its own heads: counters that threads share would go from
 * core to core with every member of a large group.
 *
 * Memory: 4 bytes a page for the result and 8 * 4/3 for the table, over which the sort lies afterwards, and at the end
 * the tally: 14.9 in all.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "census.h"

/* A block is this large, and within these bounds; a multiple of 64 pages, so that words of bits have one owner. */
#define BLOCK_BYTES (2u << 20)
#define BLOCK_MIN 64
/* Streamed: what is read at a time stays in the L2 cache. */
#define STREAM_BLOCK_BYTES (256u << 10)
/* Entries of the sorted list that a thread verifies at a time, in blocks. */
#define CHUNK_BLOCKS 2
#define CHUNK_MAX (CHUNK_BLOCKS * PS_BLOCK_MAX)

/* How far ahead memory is asked for, measured on Zen 5: pages to be sampled (any distance from 4 to 16 will do),
 * entries to be compared, slots and counters to be looked at. */
#define SAMPLE_AHEAD 8
#define VERIFY_AHEAD 6
#define LOOKUP_AHEAD 24
#define ENTER_AHEAD 32

/* Groups are sorted in parts, a thread each: by their heads, so many pages of these in turn. */
#define PART_PAGES 1024

/* How often a thread looks whether the others have come before it sleeps: a few dozen microseconds. */
#define LOOKS 1000

/* Zero pages lie in runs: after so many in a row whose samples are zero the next is read without asking, which streams;
 * others wait and are read four at a time. */
#define STREAK 4
/* Members unlike their head that are compared with each other right away; more of them are hashed first. */
#define SETTLE_MOST 8
/* From so many on, if they outnumber the others, the rest of a chunk is not compared but hashed. */
#define BAIL_OUT 64

typedef ps_census_state census;
typedef ps_batch batch;

/* ---- small parts ---- */

static void add64(uint64_t *to, uint64_t number)
{
    __atomic_fetch_add(to, number, __ATOMIC_RELAXED);
}

/* Whether to leave a long loop early. */
static bool stopping(census *c)
{
    if (ps_stopped(c->control))
        ps_fail(c, PS_STOPPED);
    return ps_failed(c);
}

/* Leaves a page to the next round. */
static void leave_open(census *c, uint32_t page)
{
    ps_set_bit(c->open, page);
    __atomic_store_n(&c->any_open, true, __ATOMIC_RELAXED);
}

/* ---- look ---- */

/* Writes to a part of the table before anybody reads it: memory that is read first is mapped to the one page of zeros,
 * and then, at the first write, once more, with the other threads interrupted to tell them. A part is a huge page. */
#define TOUCH_BYTES (2u << 20)

static void touch(census *c, uint32_t part)
{
    uint8_t *memory = (uint8_t *)c->slots;
    uint64_t at = (uint64_t)part * TOUCH_BYTES;
    uint64_t end = c->memory_bytes - at < TOUCH_BYTES ? c->memory_bytes : at + TOUCH_BYTES;

    for (; at < end; at += 4096)
        *(volatile uint8_t *)(memory + at) = 0;
}

/* The open pages from *page on, at most to `end` or to the first of another domain, which is then *page. */
static void gather(const census *c, uint32_t *page, uint32_t end, batch *b)
{
    const ps_space *space = c->space;

    b->count = 0;
    while (*page < end) {
        const ps_segment *segment = ps_space_find(space, *page);
        uint32_t run_end = ps_segment_end(space, segment);
        uint32_t domain = space->sources[segment->source].domain;
        const uint8_t *at = ps_space_address(space, *page);

        if (b->count && domain != b->domain)
            return;
        b->domain = domain;
        for (run_end = run_end < end ? run_end : end; *page < run_end; ++*page, at += space->page_bytes) {
            b->pages[b->count] = *page;
            b->at[b->count] = at;
            b->count += ps_get_bit(c->open, *page);
        }
    }
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

/* The key that two lines of a page make, as XXH3 would hash so few bytes: products of 64-bit words, keyed. *any is
 * not 0 unless both lines are zero. */
static inline uint64_t sample(const census *c, const uint8_t *page, uint64_t *any)
{
    const uint8_t *lines[2] = {page, page + c->second_line};
    uint64_t sum = 0, bits = 0;

    for (int line = 0; line < 2; line++)
        for (int i = 0; i < 8; i += 2) {
            uint64_t a = load64(lines[line] + 8 * i), b = load64(lines[line] + 8 * i + 8);
            bits |= a | b;
            sum += ps_multiply_fold(a ^ c->sample_key[8 * line + i], b ^ c->sample_key[8 * line + i + 1]);
        }
    *any = bits;
    return ps_mix(sum);
}

/* A page whose samples are zero: closes it, or takes a key from its first bytes that are not. */
static void settle_zero(census *c, batch *b, uint32_t i, size_t nonzero)
{
    size_t bytes = c->space->page_bytes, last = bytes - c->near_bytes;

    if (nonzero == bytes)
        ps_clear_bit(c->open, b->pages[i]);
    else
        b->keys[i] = c->kernel->hash64(&c->key, b->at[i] + (nonzero < last ? nonzero : last), c->near_bytes);
}

/* Pages that wait to be found zero, four at a time, while the first lines of the next four come in. */
static void settle_zeros(census *c, batch *b, uint32_t *waiting, uint32_t count)
{
    size_t bytes = c->space->page_bytes;

    for (uint32_t i = count; count && i < count + 2 * PS_ABREAST; i++)
        waiting[i] = waiting[count - 1];
    for (uint32_t done = 0; done < count; done += PS_ABREAST) {
        const uint8_t *pages[PS_ABREAST];
        for (uint32_t i = 0; i < PS_ABREAST; i++) {
            pages[i] = b->at[waiting[done + i]];
            ps_prefetch_page(b->at[waiting[done + PS_ABREAST + i]]);
        }
        unsigned zero = c->kernel->zeros(pages, bytes);
        for (uint32_t i = 0; i < PS_ABREAST; i++)
            settle_zero(c, b, waiting[done + i], zero >> i & 1 ? bytes : c->kernel->first_nonzero(pages[i], bytes));
    }
}

/* Keys from samples; zero pages are closed. */
static void sample_keys(census *c, batch *b)
{
    uint32_t waiting[PS_BLOCK_MAX + 2 * PS_ABREAST], waiting_count = 0, streak = 0, zero_tests = 0;

    for (uint32_t i = 0; i < b->count; i++) {
        size_t nonzero = 0, bytes = c->space->page_bytes;
        uint64_t any;
        bool read = streak >= STREAK;
        if (read) {
            zero_tests++;
            nonzero = c->kernel->first_nonzero(b->at[i], bytes);
            if (nonzero == bytes) {
                ps_clear_bit(c->open, b->pages[i]);
                continue;
            }
        }
        if (i + SAMPLE_AHEAD < b->count) {
            __builtin_prefetch(b->at[i + SAMPLE_AHEAD]);
            __builtin_prefetch(b->at[i + SAMPLE_AHEAD] + c->second_line);
        }
        b->keys[i] = sample(c, b->at[i], &any);
        streak = any || read ? 0 : streak + 1;
        if (read && !any) {
            settle_zero(c, b, i, nonzero);
            continue;
        }
        waiting[waiting_count] = i;
        waiting_count += !any;
        zero_tests += !any;
    }
    settle_zeros(c, b, waiting, waiting_count);
    add64(&c->stats.zero_tests, zero_tests);
}

/* Keys from whole pages. */
static void hash_keys(census *c, batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        if (i + 2 < b->count)
            ps_prefetch_page(b->at[i + 2]);
        b->keys[i] = c->kernel->hash64(&c->key, b->at[i], c->space->page_bytes);
    }
    add64(&c->stats.hashes, b->count);
}

static uint32_t home(const census *c, uint64_t key)
{
    return (uint32_t)((key >> 32) * c->capacity >> 32);
}

/* Lowers the page of a slot that has one, if this is lower. */
static void lower(const census *c, uint64_t *slot, uint64_t mine)
{
    uint64_t theirs = __atomic_load_n(slot, __ATOMIC_RELAXED);

    if (c->threads == 1)
        *slot = mine < theirs ? mine : theirs;
    else
        while (mine < theirs &&
               !__atomic_compare_exchange_n(slot, &theirs, mine, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            ;
}

/* Puts a free slot to use, unless another thread was quicker: then it tells what that one put there. */
static bool take(const census *c, uint64_t *slot, uint64_t mine, uint64_t *theirs)
{
    if (c->threads > 1)
        return __atomic_compare_exchange_n(slot, theirs, mine, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    *slot = mine;
    return true;
}

/* The slot of this key, which knows the page from now on. */
static uint32_t enter(const census *c, uint64_t key, uint32_t page)
{
    uint64_t mine = ((uint64_t)page + 1) << 32 | (uint32_t)key;

    for (uint32_t i = home(c, key);; i = i + 1 == c->capacity ? 0 : i + 1) {
        uint64_t theirs = __atomic_load_n(&c->slots[i], __ATOMIC_RELAXED);
        if (!theirs && take(c, &c->slots[i], mine, &theirs))
            return i;
        if ((uint32_t)theirs == (uint32_t)key) {
            lower(c, &c->slots[i], mine);
            return i;
        }
    }
}

static uint32_t page_of(const census *c, uint32_t slot)
{
    return (uint32_t)(c->slots[slot] >> 32) - 1;
}

/* One thread takes blocks in order, so that a slot has its lowest page from the first moment on; several have to look
 * again when all pages are entered (find_heads). */
static uint32_t result_of(const census *c, uint32_t slot)
{
    return c->threads == 1 ? page_of(c, slot) : slot;
}

/* Zero pages share a slot of their domain. */
static void enter_zeros(const census *c, const batch *b)
{
    uint32_t slot = c->capacity + b->domain, i = 0;

    while (i < b->count && ps_get_bit(c->open, b->pages[i]))
        i++;
    if (i == b->count)
        return;
    uint64_t mine = ((uint64_t)b->pages[i] + 1) << 32, theirs = 0;
    if (__atomic_load_n(&c->slots[slot], __ATOMIC_RELAXED) || !take(c, &c->slots[slot], mine, &theirs))
        lower(c, &c->slots[slot], mine);
    uint32_t result = result_of(c, slot);
    for (; i < b->count; i++)
        c->canonical[b->pages[i]] = result;
}

void ps_census_enter(const census *c, batch *b)
{
    uint64_t salt = ps_mix(c->key.seed ^ (uint64_t)b->domain << 32);
    uint32_t entered[PS_BLOCK_MAX], count = 0, *canonical = c->canonical;

    for (uint32_t i = 0; i < b->count; i++) {
        b->keys[count] = (b->keys[i] ^ salt) & c->hash_mask;
        entered[count] = b->pages[i];
        count += ps_get_bit(c->open, b->pages[i]);
    }
    if (count < b->count)
        enter_zeros(c, b);
    for (uint32_t i = 0; i < count && i < ENTER_AHEAD; i++)
        __builtin_prefetch(&c->slots[home(c, b->keys[i])], 1);
    for (uint32_t i = 0; i < count; i++) {
        if (i + ENTER_AHEAD < count)
            __builtin_prefetch(&c->slots[home(c, b->keys[i + ENTER_AHEAD])], 1);
        canonical[entered[i]] = result_of(c, enter(c, b->keys[i], entered[i]));
    }
}

static void look(census *c, uint32_t block)
{
    uint32_t page = block * c->block, first = page, end = ps_block_end(c, block);
    batch b;

    if (c->round == 1 && (c->options & PS_MAP)) {
        ps_status status = ps_space_populate(c->space, page, end - page, c->control);
        if (status != PS_OK) {
            ps_fail(c, status);
            return;
        }
    }
    while (page < end) {
        gather(c, &page, end, &b);
        if (c->round == 1)
            sample_keys(c, &b);
        else
            hash_keys(c, &b);
        ps_census_enter(c, &b);
    }
    if (first >= c->keep)
        ps_space_let_go(c->space, first, end - first);
    if (c->round == 1) {
        add64(&c->advanced, (end - first) / 2);
        ps_advance(c->control, (end - first) / 2);
    }
}

void ps_census_entered(census *c)
{
    for (uint32_t domain = 0; c->round == 1 && domain < c->domain_count; domain++)
        c->zeros[domain] = page_of(c, c->capacity + domain);
}

/* ---- group ---- */

/* Slot numbers become page numbers, now that no slot changes any more. */
static void find_heads(census *c, uint32_t block)
{
    uint32_t pages[PS_BLOCK_MAX + LOOKUP_AHEAD], count = 0;

    for (uint32_t page = block * c->block; page < ps_block_end(c, block); page++) {
        pages[count] = page;
        count += c->round == 1 || ps_get_bit(c->open, page);
    }
    for (uint32_t i = count; count && i < count + LOOKUP_AHEAD; i++)
        pages[i] = pages[count - 1];
    for (uint32_t i = 0; i < count; i++) {
        __builtin_prefetch(&c->slots[c->canonical[pages[i + LOOKUP_AHEAD]]]);
        c->canonical[pages[i]] = page_of(c, c->canonical[pages[i]]);
    }
}

static void clear_counts(census *c, uint32_t block)
{
    uint32_t first = block * c->block, end = ps_block_end(c, block);

    for (uint32_t page = first; page < end; page += 64)
        if (c->open[page / 64])
            memset(c->counts + page, 0, 64 * sizeof *c->counts);
    memset(c->heads + first / 64, 0, (end - first + 63) / 64 * sizeof *c->heads);
}

/* The open pages of a block that are not their own head, but have it in this part. */
static uint32_t members_of(const census *c, uint32_t block, uint32_t part, uint32_t *members)
{
    uint32_t count = 0, end = ps_block_end(c, block);

    for (uint32_t page = block * c->block; page < end; page += 64) {
        uint64_t bits = c->open[page / 64];
        uint32_t pages = end - page < 64 ? end - page : 64;
        for (uint32_t i = 0; bits && i < pages; i++) {
            uint32_t head = c->canonical[page + i];
            members[count] = page + i;
            count += (bits >> i & 1) & (head != page + i) & ((head / PART_PAGES & (c->parts - 1)) == part);
        }
    }
    return count;
}

/* How many of the members from i on have one head: then they need one look at its counter. */
static uint32_t run_of(const census *c, const uint32_t *members, uint32_t count, uint32_t i)
{
    uint32_t first = i, head = c->canonical[members[i]];
    while (++i < count && c->canonical[members[i]] == head)
        ;
    return i - first;
}

static void fetch_counter(const census *c, const uint32_t *members, uint32_t count, uint32_t i)
{
    if (i + LOOKUP_AHEAD < count)
        __builtin_prefetch(&c->counts[c->canonical[members[i + LOOKUP_AHEAD]]], 1);
}

static void count_members(census *c, uint32_t part)
{
    for (uint32_t block = 0; block < c->blocks && !stopping(c); block++) {
        uint32_t members[PS_BLOCK_MAX], count = members_of(c, block, part, members);

        for (uint32_t i = 0, run; i < count; i += run) {
            run = run_of(c, members, count, i);
            fetch_counter(c, members, count, i);
            c->counts[c->canonical[members[i]]] += run;
        }
    }
}

void ps_census_count(census *c)
{
    for (uint32_t block = 0; block < c->blocks; block++)
        clear_counts(c, block);
    count_members(c, 0);
}

/* How many entries of the sorted list the groups of this block's heads take. Where a word of `open` is not 0, all its
 * pages have counters, those of closed pages being 0. */
static void count_entries(census *c, uint32_t block)
{
    uint32_t sum = 0, end = ps_block_end(c, block);

    for (uint32_t page = block * c->block; page < end; page += 64)
        for (uint32_t i = 0; c->open[page / 64] && i < 64; i++)
            sum += c->counts[page + i] + (c->counts[page + i] > 0);
    c->places[block] = sum;
}

static void place_blocks(census *c)
{
    c->entries = 0;
    for (uint32_t block = 0; block < c->blocks; block++) {
        uint32_t sum = c->places[block];
        c->places[block] = c->entries;
        c->entries += sum;
    }
}

static void place_heads(census *c, uint32_t block)
{
    uint32_t place = c->places[block], end = ps_block_end(c, block);

    for (uint32_t page = block * c->block; page < end; page += 64)
        for (uint32_t i = page; c->open[page / 64] && i < page + 64; i++) {
            uint32_t count = c->counts[i];
            if (!count)
                continue;
            c->sorted[place] = i;
            ps_set_bit(c->heads, place);
            c->counts[i] = place + 1;
            /* Chunks that begin among its members. */
            for (uint64_t chunk = place / c->chunk + 1; chunk * c->chunk <= (uint64_t)place + count; chunk++)
                c->chunk_heads[chunk] = i;
            place += count + 1;
        }
}

/* Members of a head in ascending order, as they are met. */
static void place_members(census *c, uint32_t part)
{
    for (uint32_t block = 0; block < c->blocks && !stopping(c); block++) {
        uint32_t members[PS_BLOCK_MAX], count = members_of(c, block, part, members);

        for (uint32_t i = 0, run; i < count; i += run) {
            run = run_of(c, members, count, i);
            fetch_counter(c, members, count, i);
            uint32_t *place = &c->counts[c->canonical[members[i]]];
            memcpy(c->sorted + *place, members + i, run * sizeof *members);
            *place += run;
        }
    }
}

/* From here on `open` is about the next round. */
static void close_all(census *c)
{
    memset(c->open, 0, ((uint64_t)c->pages / 64 + 1) * sizeof *c->open);
}

/* ---- verify ---- */

/* The members in a chunk of the sorted list, and the head of each. */
typedef struct {
    uint32_t count;
    uint32_t pages[CHUNK_MAX];
    uint32_t heads[CHUNK_MAX];
    const uint8_t *at[CHUNK_MAX + PS_ABREAST + VERIFY_AHEAD];
    const uint8_t *head_at[CHUNK_MAX + PS_ABREAST + VERIFY_AHEAD];
} pairs;

/* Pairs that are padded at the end with their last one. */
static void pair_up(const census *c, uint32_t chunk, pairs *p)
{
    uint32_t first = chunk * c->chunk, head = c->chunk_heads[chunk];
    uint32_t end = c->entries - first < c->chunk ? c->entries : first + c->chunk;
    const uint8_t *head_at = ps_space_address(c->space, head);

    p->count = 0;
    for (uint32_t place = first; place < end; place++) {
        uint32_t page = c->sorted[place];
        const uint8_t *at = ps_space_address(c->space, page);
        bool is_head = ps_get_bit(c->heads, place);
        head = is_head ? page : head;
        head_at = is_head ? at : head_at;
        p->pages[p->count] = page;
        p->at[p->count] = at;
        p->heads[p->count] = head;
        p->head_at[p->count] = head_at;
        p->count += !is_head;
    }
    for (uint32_t i = p->count; i < p->count + PS_ABREAST + VERIFY_AHEAD; i++) {
        p->at[i] = p->count ? p->at[p->count - 1] : head_at;
        p->head_at[i] = p->count ? p->head_at[p->count - 1] : head_at;
    }
}

/* Compares pair after pair, as many as are worth it: their number. Fills unlike[] with those that differ. */
static uint32_t compare_pairs(const census *c, const pairs *p, uint32_t *unlike, uint32_t *unlike_count)
{
    uint32_t done = 0, found = 0;

    while (done < p->count) {
        for (uint32_t i = done + VERIFY_AHEAD; i < done + VERIFY_AHEAD + PS_ABREAST; i++) {
            __builtin_prefetch(p->at[i]);
            __builtin_prefetch(p->head_at[i]);
        }
        unsigned equal = c->kernel->equals(p->at + done, p->head_at + done, c->space->page_bytes);
        for (uint32_t i = done; i < done + PS_ABREAST && i < p->count; i++) {
            bool alike = equal >> (i - done) & 1;
            if (c->domain_count > 1)
                alike = alike && ps_domain_of(c, p->pages[i]) == ps_domain_of(c, p->heads[i]);
            unlike[found] = i;
            found += !alike;
        }
        done = p->count - done < PS_ABREAST ? p->count : done + PS_ABREAST;
        /* The hash of a whole page tells apart what samples did not; what that does not must be settled here. */
        if (c->round == 1 && found >= BAIL_OUT && found > done / 2)
            break;
    }
    *unlike_count = found;
    return done;
}

/* Members that differ from their head, few, in ascending order: each is compared with those before it. */
static void settle(census *c, const uint32_t *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t found = pages[i];
        for (uint32_t j = 0; j < i && found == pages[i]; j++)
            if (c->canonical[pages[j]] == pages[j] &&
                (c->domain_count == 1 || ps_domain_of(c, pages[i]) == ps_domain_of(c, pages[j])) &&
                c->kernel->equal(ps_space_address(c->space, pages[i]), ps_space_address(c->space, pages[j]),
                                 c->space->page_bytes))
                found = pages[j];
        c->canonical[pages[i]] = found;
    }
    add64(&c->stats.compares, count * (count - 1) / 2);
}

/* Members unlike[0 .. count-1] have one head, from which they differ: settles them, or leaves them to the next round if
 * they are many, or if others of their group lie elsewhere. */
static void settle_group(census *c, const pairs *p, const uint32_t *unlike, uint32_t count, bool whole)
{
    uint32_t pages[SETTLE_MOST];

    if (whole && count <= SETTLE_MOST) {
        for (uint32_t i = 0; i < count; i++)
            pages[i] = p->pages[unlike[i]];
        settle(c, pages, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        leave_open(c, p->pages[unlike[i]]);
}

/* Pages that were compared are let go of together, when a third more than is kept has been mapped: what will be needed
 * again has to be mapped again, and who knows which that is. Other mappings of this process may be large too: they
 * raise what is borne. */
static void sweep(census *c)
{
    uint64_t third = (uint64_t)c->keep * c->space->page_bytes / 3, borne = __atomic_load_n(&c->borne, __ATOMIC_RELAXED);

    if (ps_mapped_bytes() <= (borne ? borne : 4 * third) || __atomic_test_and_set(&c->sweeping, __ATOMIC_ACQUIRE))
        return;
    ps_space_let_go(c->space, c->keep, c->pages - c->keep);
    __atomic_store_n(&c->borne, ps_mapped_bytes() + third, __ATOMIC_RELAXED);
    __atomic_clear(&c->sweeping, __ATOMIC_RELEASE);
}

static void verify(census *c, uint32_t chunk)
{
    uint32_t unlike[CHUNK_MAX + PS_ABREAST], unlike_count, next = chunk + 1;
    pairs p;

    pair_up(c, chunk, &p);
    uint32_t done = compare_pairs(c, &p, unlike, &unlike_count);
    add64(&c->stats.compares, done);

    /* Groups that go on in another chunk, or were not compared to their end. */
    uint32_t first_head = ps_get_bit(c->heads, chunk * c->chunk) ? PS_NONE : c->chunk_heads[chunk];
    uint32_t last_head = next * (uint64_t)c->chunk < c->entries && !ps_get_bit(c->heads, next * c->chunk)
                             ? c->chunk_heads[next] : PS_NONE;
    uint32_t cut_head = done < p.count ? p.heads[done] : PS_NONE;
    for (uint32_t i = 0, end; i < unlike_count; i = end) {
        uint32_t head = p.heads[unlike[i]];
        for (end = i + 1; end < unlike_count && p.heads[unlike[end]] == head; end++)
            ;
        settle_group(c, &p, unlike + i, end - i, head != first_head && head != last_head && head != cut_head);
    }
    /* What was not compared may equal its head. */
    for (; done < p.count; done++) {
        leave_open(c, p.heads[done]);
        leave_open(c, p.pages[done]);
    }
    if (c->keep < c->pages)
        sweep(c);
    if (c->round == 1) {
        uint64_t half = c->pages - c->pages / 2, chunks = (c->entries + c->chunk - 1) / c->chunk;
        uint64_t pages_done = half * (chunk + 1) / chunks - half * chunk / chunks;
        add64(&c->advanced, pages_done);
        ps_advance(c->control, pages_done);
    }
}

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

void ps_census_end_round(census *c)
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

/* The last one to come does what has to be done by one; all go on when it is done. Who comes earlier looks for it for a
 * while before sleeping: to be woken takes longer than most waits, above all in a virtual machine. */
static void meet(census *c, void (*last)(census *))
{
    pthread_mutex_lock(&c->mutex);
    uint32_t meeting = c->meetings;
    if (++c->arrived == c->threads) {
        if (last)
            last(c);
        c->next = 0;
        c->arrived = 0;
        __atomic_store_n(&c->meetings, meeting + 1, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&c->everybody);
    } else {
        pthread_mutex_unlock(&c->mutex);
        for (uint32_t i = 0; i < LOOKS && __atomic_load_n(&c->meetings, __ATOMIC_ACQUIRE) == meeting; i++)
            ps_pause();
        pthread_mutex_lock(&c->mutex);
        while (c->meetings == meeting)
            pthread_cond_wait(&c->everybody, &c->mutex);
    }
    pthread_mutex_unlock(&c->mutex);
}

static void each(census *c, uint32_t count, void (*stage)(census *, uint32_t), void (*last)(census *))
{
    for (uint32_t i; !stopping(c) && (i = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED)) < count;)
        stage(c, i);
    meet(c, last);
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

/* Counts; meanwhile other threads take out of the mapping what was mapped, which is a fifth of all time where the page
 * cache holds small folios, and would else be one thread's work at the end of the process. */
static void finish(census *c, uint32_t part)
{
    if (part == 0) {
        ps_tally_classes(c->space, c->canonical, c->zeros, (ps_class *)c->slots, c->owners, c->owner_count, c->total);
    } else {
        uint32_t block = part - 1;
        ps_space_let_go(c->space, block * c->block, ps_block_end(c, block) - block * c->block);
    }
}

static void work(census *c)
{
    each(c, (uint32_t)(c->memory_bytes / TOUCH_BYTES + 1), touch, NULL);
    do {
        each(c, c->blocks, look, ps_census_entered);
        if (c->threads > 1)
            each(c, c->blocks, find_heads, NULL);
        each(c, c->blocks, clear_counts, NULL);
        each(c, c->parts, count_members, NULL);
        each(c, c->blocks, count_entries, place_blocks);
        each(c, c->blocks, place_heads, NULL);
        each(c, c->parts, place_members, close_all);
        each(c, (c->entries + c->chunk - 1) / c->chunk, verify, ps_census_end_round);
    } while (c->more);
    each(c, c->round > 1 ? c->blocks : 0, flatten, NULL);
    each(c, c->options & PS_MAP ? c->blocks + 1 : 1, finish, NULL);
}

static void *help(void *argument)
{
    census *c = argument;
    /* Until it is known how many there are. */
    pthread_mutex_lock(&c->mutex);
    pthread_mutex_unlock(&c->mutex);
    work(c);
    return NULL;
}

/* Works with as many threads as can be had. Signals are for the threads that were there before; a fault is for the
 * thread that meets it. */
static void work_together(census *c, uint32_t threads)
{
    pthread_t *helpers = calloc(threads, sizeof *helpers);
    sigset_t blocked, before;

    if (!helpers) {
        ps_fail(c, PS_NO_MEMORY);
        return;
    }
    sigfillset(&blocked);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    pthread_mutex_lock(&c->mutex);
    c->threads = 1;
    while (c->threads < threads && pthread_create(&helpers[c->threads], NULL, help, c) == 0)
        c->threads++;
    pthread_mutex_unlock(&c->mutex);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    work(c);
    for (uint32_t i = 1; i < c->threads; i++)
        pthread_join(helpers[i], NULL);
    free(helpers);
}

/* ---- life ---- */

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool set_up(census *c, ps_space *space, const ps_census_config *config)
{
    uint64_t words = (uint64_t)c->pages / 64 + 1;

    uint32_t block_bytes = config->options & PS_STREAM ? STREAM_BLOCK_BYTES : BLOCK_BYTES;

    c->block = block_bytes / space->page_bytes / 64 * 64;
    c->block = c->block < BLOCK_MIN ? BLOCK_MIN : c->block > PS_BLOCK_MAX ? PS_BLOCK_MAX : c->block;
    c->blocks = (uint32_t)(((uint64_t)c->pages + c->block - 1) / c->block);
    c->chunk = c->block * CHUNK_BLOCKS;
    for (c->parts = 1; c->parts < config->threads && !(config->options & PS_STREAM);)
        c->parts *= 2;
    for (uint32_t i = 0; i < space->source_count; i++)
        if (space->sources[i].domain >= c->domain_count)
            c->domain_count = space->sources[i].domain + 1;
    begin_round(c, config->seed, c->pages);
    uint32_t lines = space->page_bytes / 64, last_quarter = lines / 4 > 1 ? lines / 4 - 1 : 1;
    c->second_line = 64 * (lines * 3 / 4 + (size_t)(ps_mix(config->seed ^ 1) % last_quarter));
    c->near_bytes = space->page_bytes < 512 ? 256 : 512;
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
    if (config->hash_bits > 64 || config->threads == 0 || (config->options & ~(uint32_t)(PS_MAP | PS_LET_GO | PS_STREAM)) ||
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

    census c = {.space = space, .control = control, .canonical = canonical, .zeros = zeros, .pages = space->pages,
                .owners = owners, .owner_count = owner_count, .total = total, .threads = 1,
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
            for (uint32_t block = 0; c.status == PS_OK && block < c.blocks; block++)
                flatten(&c, block);
            if (c.status == PS_OK)
                finish(&c, 0);
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
