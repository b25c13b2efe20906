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
 * Files are read from end to end, through a block that stays in the cache, and never mapped: what is mapped counts as this
 * process's memory. The 64-bit key stands in for the bytes: nothing is compared.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* What the disk is asked for ahead, and in what portions. */
#define AHEAD_BYTES (64u << 20)
#define AHEAD_PORTION (8u << 20)
/* Slots between two looks at whether to stop, while contents are evicted. */
#define STOP_SLOTS (1u << 20)

/* A content that is kept; a slot without pages is free. */
typedef struct {
    uint32_t key_low;
    uint32_t key_high;
    uint32_t pages;
    uint32_t owners;           /* how many hold it: pages come owner by owner */
    uint32_t last;             /* the owner that held it last */
} content;

typedef struct {
    content *slots;            /* open addressing, linear probing */
    uint64_t slot_count;
    uint64_t most;             /* contents that the table takes */
    uint64_t key_seed;
    ps_sample *found;
    ps_control *control;
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
    s->found->threshold -= s->found->threshold / 4;
    for (uint64_t slot = 0; slot < s->slot_count;) {
        if (s->slots[slot].pages && key_of(&s->slots[slot]) >= s->found->threshold) {
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

/* The keys below the threshold are fetched for first, so that their cache misses overlap. */
static ps_status enter_all(sample *s, const uint64_t *keys, size_t count, uint32_t owner)
{
    ps_status status = PS_OK;

    for (size_t i = 0; i < count; i++)
        __builtin_prefetch(&s->slots[home(s, (uint32_t)keys[i])], 1);
    for (size_t i = 0; i < count && status == PS_OK; i++)
        status = enter(s, keys[i], owner);
    return status;
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

/* ---- reading ---- */

typedef struct {
    ps_space *space;
    const ps_kernel *kernel;
    ps_hash_key key;
    uint64_t zero_hash;
    uint8_t *block;            /* pages of a file */
    uint32_t block_pages;
    uint32_t asked;            /* pages up to here were asked for */
} reader;

static void ask_ahead(reader *r, uint32_t page)
{
    uint32_t bytes = r->space->page_bytes;
    uint64_t until = (uint64_t)page + AHEAD_BYTES / bytes + 1;

    while (r->asked < r->space->pages && r->asked < until) {
        uint32_t left = r->space->pages - r->asked, portion = AHEAD_PORTION / bytes + 1;
        portion = portion < left ? portion : left;
        ps_space_ask(r->space, r->asked, portion);
        r->asked += portion;
    }
}

/* Has some pages of a segment in memory: where they lie; *bad: a bit for each that can't be read. */
static ps_status load(reader *r, const ps_segment *segment, uint32_t page, uint32_t count, const uint8_t **at,
                      bool *bad)
{
    ps_space *space = r->space;
    uint64_t offset = ps_segment_offset(space, segment, page);

    memset(bad, 0, count * sizeof *bad);
    if (space->sources[segment->source].fd < 0) {
        *at = ps_space_address(space, page);
        return PS_OK;
    }
    *at = r->block;
    ask_ahead(r, page);
    ps_status status = ps_space_read(space, segment->source, offset, count, r->block);
    for (uint32_t i = 0; status == PS_IO_ERROR && i < count; i++) {
        size_t into = (size_t)i * space->page_bytes;
        ps_status one = ps_space_read(space, segment->source, offset + into, 1, r->block + into);
        bad[i] = one == PS_IO_ERROR;
        if (one == PS_SHRANK)
            return one;
    }
    return status == PS_IO_ERROR ? PS_OK : status;
}

static ps_status look_at(reader *r, sample *s, const ps_segment *segment, uint32_t page, uint32_t count,
                         ps_owner_sample *owners)
{
    const ps_source *source = &r->space->sources[segment->source];
    uint64_t salt = ps_mix(s->key_seed ^ (uint64_t)source->domain << 32), keys[PS_CHUNK_MAX];
    size_t bytes = r->space->page_bytes, found = 0;
    const uint8_t *at;
    bool bad[PS_CHUNK_MAX];

    ps_status status = load(r, segment, page, count, &at, bad);
    for (uint32_t i = 0; i < count && status == PS_OK; i++, at += bytes) {
        if (bad[i]) {
            owners[source->owner].unreadable++;
            continue;
        }
        uint64_t hash = r->kernel->hash64(&r->key, at, bytes);
        if (hash == r->zero_hash && ps_is_zero_page(r->kernel, at, bytes)) {
            owners[source->owner].zero++;
            continue;
        }
        /* A threshold above all keys would need 65 bits. */
        uint64_t key = ps_mix(hash ^ salt);
        keys[found] = key - (key == UINT64_MAX);
        found += keys[found] < s->found->threshold;
    }
    return status == PS_OK ? enter_all(s, keys, found, source->owner) : status;
}

static ps_status look_at_all(reader *r, sample *s, ps_owner_sample *owners)
{
    ps_status status = PS_OK;

    for (uint32_t i = 0; i < r->space->segment_count && status == PS_OK; i++) {
        const ps_segment *segment = &r->space->segments[i];
        uint32_t end = ps_segment_end(r->space, segment);
        for (uint32_t page = segment->first, count; page < end && status == PS_OK; page += count) {
            count = end - page < r->block_pages ? end - page : r->block_pages;
            status = ps_stopped(s->control) ? PS_STOPPED : look_at(r, s, segment, page, count, owners);
            ps_advance(s->control, count);
        }
    }
    return status;
}

/* ---- all of it ---- */

static uint64_t hash_of_zeros(const reader *r, uint8_t *block)
{
    memset(block, 0, r->space->page_bytes);
    return r->kernel->hash64(&r->key, block, r->space->page_bytes);
}

ps_status ps_sample_contents(ps_space *space, const ps_sample_config *config, ps_owner_sample *owners,
                             uint32_t owner_count, ps_sample *found, ps_control *control)
{
    bool fingerprints = space->page_bytes == PS_FINGERPRINT_BYTES;
    reader r = {.space = space};
    sample s = {.found = found, .control = control, .key_seed = config->seed};

    if (config->memory < 1024 || (config->kernel >= 0 && !ps_kernel_usable(config->kernel)))
        return PS_INVALID;
    for (uint32_t i = 0; i < space->source_count; i++)
        if (space->sources[i].owner >= owner_count)
            return PS_INVALID;
    /* No more than all pages need: a quarter of the slots stays free. */
    s.slot_count = config->memory / sizeof(content);
    if (s.slot_count > (uint64_t)space->pages / 3 * 4 + 16)
        s.slot_count = (uint64_t)space->pages / 3 * 4 + 16;
    s.most = s.slot_count * 3 / 4;
    r.block_pages = (uint32_t)(ps_l2_bytes() / 2 / space->page_bytes);
    r.block_pages = r.block_pages < 1 ? 1 : r.block_pages > PS_CHUNK_MAX ? PS_CHUNK_MAX : r.block_pages;
    r.kernel = fingerprints ? ps_fingerprint_kernel()
                            : ps_kernel_at(config->kernel < 0 ? ps_kernel_best() : config->kernel);
    ps_hash_key_init(&r.key, config->seed);
    memset(owners, 0, owner_count * sizeof *owners);
    *found = (ps_sample){.threshold = UINT64_MAX};

    r.block = malloc((size_t)r.block_pages * space->page_bytes);
    s.slots = r.block ? ps_reserve(s.slot_count * sizeof(content)) : NULL;
    ps_status status = PS_NO_MEMORY;
    if (s.slots) {
        r.zero_hash = fingerprints ? config->zero_hash : hash_of_zeros(&r, r.block);
        found->bytes = ps_space_bytes(space) + s.slot_count * sizeof(content) +
                       (uint64_t)r.block_pages * space->page_bytes;
        status = look_at_all(&r, &s, owners);
        add_up(&s);
        ps_release(s.slots, s.slot_count * sizeof(content));
    }
    free(r.block);
    return status == PS_OK ? ps_space_status(space) : status;
}
