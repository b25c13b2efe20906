/*
 * estimate.c - exact counts of the contents in a part of hash space, in memory that is bounded.
 *
 * Every page is read and hashed once. Pages of zeros are counted. Of all other contents those are kept whose key, a
 * number of 64 bits drawn from the hash, lies below a threshold: at first all of them. When the table is full, the
 * threshold falls to three quarters of itself, and what lies above goes. So at any time the table holds every content below
 * the threshold that was met, each with its counts since its first page, for the threshold has never been lower: a
 * sample of contents that each got in with the same probability, however many pages they have. This is adaptive sampling
 * (Wegman; Flajolet, Computing 43, 1990; Gibbons, VLDB 2001: distinct sampling).
 *
 * Files are read from end to end, through blocks that stay in the cache, and never mapped: what is mapped counts as this
 * process's memory. Threads take the blocks in turn, read and hash them side by side, and enter their keys one after the
 * other, in the order of the pages. The 64-bit key stands in for the bytes: nothing is compared.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* What the disk is asked for ahead, and in what portions. */
#define AHEAD_BYTES (64u << 20)
#define AHEAD_PORTION (8u << 20)
/* Slots between two looks at whether to stop, while contents are evicted. */
#define STOP_SLOTS (1u << 20)
/* Bytes that a thread reads and hashes at a time. */
#define BLOCK_BYTES (256u << 10)

/* A content that is kept; a slot without pages is free. */
typedef struct {
    uint32_t key_low;
    uint32_t key_high;
    uint32_t pages;
    uint32_t owners;           /* how many hold it: pages come owner by owner */
    uint32_t last;             /* the owner that held it last */
} content;

typedef struct {
    ps_space *space;
    const ps_kernel *kernel;
    ps_hash_key key;
    uint64_t zero_hash;
    ps_control *control;
    uint8_t *blocks;           /* one for each thread, for pages of a file */
    uint32_t block_pages;
    pthread_mutex_t mutex;     /* of all below */
    pthread_cond_t entered_one;
    uint32_t segment;          /* the next block begins here */
    uint32_t page;
    uint32_t asked;            /* pages up to here were asked for */
    uint32_t threads;
    uint64_t taken;            /* blocks */
    uint64_t entered;
    ps_status status;
    content *slots;            /* open addressing, linear probing */
    uint64_t slot_count;
    uint64_t most;             /* contents that the table takes */
    ps_sample *found;          /* its threshold is read without the mutex too */
    ps_owner_sample *owners;
} sample;

static uint64_t key_of(const content *each)
{
    return (uint64_t)each->key_high << 32 | each->key_low;
}

/* Where the search for a key begins: by its low bits, for the threshold is about the high ones. */
static uint64_t home(const sample *s, uint32_t key_low)
{
    return (uint64_t)key_low * s->slot_count >> 32;
}

static uint64_t next(const sample *s, uint64_t slot)
{
    return slot + 1 < s->slot_count ? slot + 1 : 0;
}

static uint64_t distance(const sample *s, uint64_t from, uint64_t to)
{
    return to >= from ? to - from : to + s->slot_count - from;
}

/* Frees a slot; contents that follow, and would no more be found behind it, move up. */
static void take_out(sample *s, uint64_t gap)
{
    for (uint64_t slot = next(s, gap); s->slots[slot].pages; slot = next(s, slot)) {
        if (distance(s, home(s, s->slots[slot].key_low), slot) >= distance(s, gap, slot)) {
            s->slots[gap] = s->slots[slot];
            gap = slot;
        }
    }
    s->slots[gap].pages = 0;
}

/* Lowers the threshold, and takes out what it leaves. */
static ps_status evict(sample *s)
{
    uint64_t threshold = s->found->threshold - s->found->threshold / 4;

    __atomic_store_n(&s->found->threshold, threshold, __ATOMIC_RELAXED);
    for (uint64_t slot = 0; slot < s->slot_count;) {
        if (s->slots[slot].pages && key_of(&s->slots[slot]) >= threshold) {
            take_out(s, slot); /* another one may be here now */
            s->found->contents--;
            s->found->evicted++;
        } else if (++slot % STOP_SLOTS == 0 && ps_stopped(s->control)) {
            return PS_STOPPED;
        }
    }
    return PS_OK;
}

/* Counts a page whose key was below the threshold. */
static ps_status enter(sample *s, uint64_t key, uint32_t owner)
{
    uint64_t slot;

    while (true) {
        if (key >= s->found->threshold)
            return PS_OK;
        slot = home(s, (uint32_t)key);
        while (s->slots[slot].pages && key_of(&s->slots[slot]) != key)
            slot = next(s, slot);
        if (s->slots[slot].pages || s->found->contents < s->most)
            break;
        ps_status status = evict(s);
        if (status != PS_OK)
            return status;
    }
    content *at = &s->slots[slot];
    if (!at->pages) {
        *at = (content){.key_low = (uint32_t)key, .key_high = (uint32_t)(key >> 32)};
        s->found->contents++;
    }
    at->owners += !at->pages || at->last != owner;
    at->last = owner;
    at->pages++;
    return PS_OK;
}

static void add_up(sample *s)
{
    for (uint64_t slot = 0; slot < s->slot_count; slot++) {
        const content *each = &s->slots[slot];
        s->found->unique += each->pages == 1;
        s->found->pages += each->pages;
        if (each->pages) {
            s->found->owners += each->owners;
            s->found->owners_squared += (uint64_t)each->owners * each->owners;
        }
    }
}

/* ---- blocks ---- */

/* A run of pages of one segment, and what was found there. */
typedef struct {
    uint8_t *room;             /* for pages of a file */
    const ps_segment *segment;
    uint64_t number;
    uint32_t page;
    uint32_t pages;
    ps_status status;
    size_t key_count;
    ps_owner_sample counts;
    uint64_t keys[PS_CHUNK_MAX];
} block;

static void ask_ahead(sample *s)
{
    uint32_t bytes = s->space->page_bytes;
    uint64_t until = (uint64_t)s->page + AHEAD_BYTES / bytes + 1;

    while (s->asked < s->space->pages && s->asked < until) {
        uint32_t left = s->space->pages - s->asked, portion = AHEAD_PORTION / bytes + 1;
        portion = portion < left ? portion : left;
        ps_space_ask(s->space, s->asked, portion);
        s->asked += portion;
    }
}

/* The next block that nobody has taken; false at the end, or if something went wrong. */
static bool take(sample *s, block *b)
{
    if (s->status == PS_OK && ps_stopped(s->control))
        s->status = PS_STOPPED;
    if (s->status != PS_OK || s->page == s->space->pages)
        return false;
    const ps_segment *segment = &s->space->segments[s->segment];
    uint32_t left = ps_segment_end(s->space, segment) - s->page;
    b->segment = segment;
    b->number = s->taken++;
    b->page = s->page;
    b->pages = left < s->block_pages ? left : s->block_pages;
    s->page += b->pages;
    s->segment += b->pages == left;
    ask_ahead(s);
    return true;
}

/* Has a block in memory: where it lies; bad[i]: its page i can't be read. */
static const uint8_t *load(const sample *s, block *b, bool *bad)
{
    ps_space *space = s->space;
    uint32_t source = b->segment->source;
    uint64_t offset = ps_segment_offset(space, b->segment, b->page);

    memset(bad, 0, b->pages * sizeof *bad);
    b->status = PS_OK;
    if (space->sources[source].fd < 0)
        return ps_space_address(space, b->page);
    b->status = ps_space_read(space, source, offset, b->pages, b->room);
    if (b->status == PS_IO_ERROR) {
        b->status = PS_OK;
        for (uint32_t i = 0; i < b->pages && b->status == PS_OK; i++) {
            size_t into = (size_t)i * space->page_bytes;
            ps_status one = ps_space_read(space, source, offset + into, 1, b->room + into);
            bad[i] = one == PS_IO_ERROR;
            b->status = bad[i] ? PS_OK : one;
        }
    }
    return b->room;
}

/* Counts zeros, and makes keys of all else. */
static void look(const sample *s, block *b, uint64_t seed)
{
    uint64_t salt = ps_mix(seed ^ (uint64_t)s->space->sources[b->segment->source].domain << 32);
    uint64_t threshold = __atomic_load_n(&s->found->threshold, __ATOMIC_RELAXED);
    size_t bytes = s->space->page_bytes;
    bool bad[PS_CHUNK_MAX];
    const uint8_t *at = load(s, b, bad);

    b->key_count = 0;
    b->counts = (ps_owner_sample){0};
    for (uint32_t i = 0; i < b->pages && b->status == PS_OK; i++, at += bytes) {
        if (bad[i]) {
            b->counts.unreadable++;
            continue;
        }
        uint64_t hash = s->kernel->hash64(&s->key, at, bytes);
        if (hash == s->zero_hash && ps_is_zero_page(s->kernel, at, bytes)) {
            b->counts.zero++;
            continue;
        }
        /* A threshold above all keys would need 65 bits. */
        uint64_t key = ps_mix(hash ^ salt);
        b->keys[b->key_count] = key - (key == UINT64_MAX);
        b->key_count += b->keys[b->key_count] < threshold;
    }
}

/* The keys are fetched for first, so that their cache misses overlap. */
static void enter_all(sample *s, const block *b)
{
    uint32_t owner = s->space->sources[b->segment->source].owner;

    for (size_t i = 0; i < b->key_count; i++)
        __builtin_prefetch(&s->slots[home(s, (uint32_t)b->keys[i])], 1);
    for (size_t i = 0; i < b->key_count && s->status == PS_OK; i++)
        s->status = enter(s, b->keys[i], owner);
    s->owners[owner].zero += b->counts.zero;
    s->owners[owner].unreadable += b->counts.unreadable;
}

/* What each thread does. */
static void *work(void *argument)
{
    sample *s = argument;
    block b;

    pthread_mutex_lock(&s->mutex);
    b.room = s->blocks + (size_t)s->threads++ * s->block_pages * s->space->page_bytes;
    while (take(s, &b)) {
        pthread_mutex_unlock(&s->mutex);
        look(s, &b, s->key.seed);
        pthread_mutex_lock(&s->mutex);
        while (s->entered != b.number)
            pthread_cond_wait(&s->entered_one, &s->mutex);
        if (s->status == PS_OK)
            s->status = b.status;
        if (s->status == PS_OK)
            enter_all(s, &b);
        s->entered++;
        pthread_cond_broadcast(&s->entered_one);
        ps_advance(s->control, b.pages);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* With as many threads as can be had. */
static void work_together(sample *s, pthread_t *others, uint32_t count)
{
    uint32_t made = 0;

    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->entered_one, NULL);
    while (made < count && ps_thread_start(&others[made], work, s))
        made++;
    work(s);
    while (made)
        pthread_join(others[--made], NULL);
    pthread_cond_destroy(&s->entered_one);
    pthread_mutex_destroy(&s->mutex);
}

/* ---- all of it ---- */

/* Its size in slots: no more than all pages need, with a quarter of them free. */
static void size_table(sample *s, uint64_t memory)
{
    uint64_t enough = (uint64_t)s->space->pages / 3 * 4 + 16;

    s->slot_count = memory / sizeof(content) < enough ? memory / sizeof(content) : enough;
    s->most = s->slot_count * 3 / 4;
}

static bool in_range(const ps_space *space, const ps_sample_config *config, uint32_t owner_count)
{
    for (uint32_t i = 0; i < space->source_count; i++)
        if (space->sources[i].owner >= owner_count)
            return false;
    return config->memory >= 1024 && config->threads && (config->kernel < 0 || ps_kernel_usable(config->kernel));
}

ps_status ps_sample_contents(ps_space *space, const ps_sample_config *config, ps_owner_sample *owners,
                             uint32_t owner_count, ps_sample *found, ps_control *control)
{
    bool fingerprints = space->page_bytes == PS_FINGERPRINT_BYTES;
    sample s = {.space = space, .found = found, .owners = owners, .control = control};
    uint32_t pages = BLOCK_BYTES / space->page_bytes;

    if (!in_range(space, config, owner_count))
        return PS_INVALID;
    size_table(&s, config->memory);
    s.block_pages = pages < 1 ? 1 : pages > PS_CHUNK_MAX ? PS_CHUNK_MAX : pages;
    s.kernel = fingerprints ? ps_fingerprint_kernel()
                            : ps_kernel_at(config->kernel < 0 ? ps_kernel_best() : config->kernel);
    ps_hash_key_init(&s.key, config->seed);
    memset(owners, 0, owner_count * sizeof *owners);
    *found = (ps_sample){.threshold = UINT64_MAX};

    uint64_t blocks_bytes = (uint64_t)config->threads * s.block_pages * space->page_bytes;
    pthread_t *others = calloc(config->threads, sizeof *others);
    s.blocks = calloc(1, blocks_bytes);
    s.slots = ps_reserve(s.slot_count * sizeof(content));
    s.status = others && s.blocks && s.slots ? PS_OK : PS_NO_MEMORY;
    if (s.status == PS_OK) {
        s.zero_hash = fingerprints ? config->zero_hash : s.kernel->hash64(&s.key, s.blocks, space->page_bytes);
        work_together(&s, others, config->threads - 1);
        add_up(&s);
        found->bytes = ps_space_bytes(space) + s.slot_count * sizeof(content) + blocks_bytes;
    }
    ps_release(s.slots, s.slot_count * sizeof(content));
    free(s.blocks);
    free(others);
    return s.status == PS_OK ? ps_space_status(space) : s.status;
}
