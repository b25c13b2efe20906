/*
 * census.h - what the stages of a census share: its state, and how it goes from one to the next.
 */
#ifndef PAGESHARE_CENSUS_H
#define PAGESHARE_CENSUS_H

#include <pthread.h>

#include "internal.h"

/* Most pages that are looked at together. */
#define PS_BLOCK_MAX 512
/* Entries of the sorted list that a thread verifies at a time, in blocks. */
#define PS_CHUNK_BLOCKS 2

/* How far ahead a head's slot or counter is asked for, measured on Zen 5. */
#define PS_LOOKUP_AHEAD 24

typedef struct {
    ps_space *space;
    const ps_kernel *kernel;
    ps_control *control;
    uint64_t hash_mask;
    uint32_t options;
    uint32_t keep;             /* from this page on they are taken out of the mapping when they are done with */
    uint64_t borne;            /* when more is mapped, they are; 0: not known yet */
    bool sweeping;
    uint64_t hold_bytes;       /* streamed: most memory for contents */
    uint32_t threads;
    uint32_t domain_count;
    uint32_t pages;
    uint32_t block;            /* pages to a block */
    uint32_t blocks;
    uint32_t chunk;            /* entries of the sorted list to a chunk */
    uint32_t parts;            /* in which contents are sorted and counted: a power of two, no fewer than threads */
    uint64_t memory_bytes;     /* of `slots`, and of all that lies over it later */

    /* The round: which one, its hash, and where in a page the two lines of a sample lie: where lines of memory begin, for
     * most pages. (Payload may lie anywhere in a dump, but mostly in the same way in all of them.) */
    uint32_t round;
    ps_hash_key key;
    uint64_t sample_key[16];
    size_t first_line;
    size_t second_line;

    uint32_t *canonical;       /* while keys are looked up by several threads, the number of the key's slot */
    uint64_t *open;            /* a bit a page */
    uint64_t *slots;           /* lowest page of the key + 1, and 32 bits of the key; then one a domain for zeros */
    uint32_t capacity;         /* slots for keys */
    uint32_t *zeros;           /* one a domain */
    ps_owner_tally *owners;
    ps_tally *total;
    uint32_t owner_count;

    /* Over `slots`, once every page knows its head. */
    uint32_t *counts;          /* members of each head; later the place of its next member in `sorted` */
    uint32_t *sorted;          /* heads and members, group by group, by ascending head */
    uint64_t *heads;           /* a bit for each place in `sorted` */
    uint32_t entries;
    uint32_t *places;          /* one a block: entries of its groups, then the place of its first */
    uint32_t *chunk_heads;     /* one a chunk: head of its first entry */

    uint64_t advanced;         /* pages that were counted for control->done */
    bool any_open;
    bool more;                 /* another round */
    ps_census_stats stats;

    /* Threads meet here. */
    pthread_mutex_t mutex;
    pthread_cond_t everybody;
    uint32_t arrived;
    uint32_t meetings;
    uint32_t next;             /* the next block or chunk to be taken */
    int first_cpu;             /* where the first thread was when it made the others */
    ps_status status;          /* the first that was not PS_OK */
} ps_census_state;

/* Some pages of a block, of one domain. */
typedef struct {
    uint32_t count;
    uint32_t domain;
    uint32_t pages[PS_BLOCK_MAX];
    const uint8_t *at[PS_BLOCK_MAX];
    uint64_t keys[PS_BLOCK_MAX];
} ps_batch;

/* The first failure is the one that is told. */
static inline void ps_fail(ps_census_state *c, ps_status status)
{
    ps_status ok = PS_OK;
    __atomic_compare_exchange_n(&c->status, &ok, status, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static inline bool ps_failed(const ps_census_state *c)
{
    return __atomic_load_n(&c->status, __ATOMIC_ACQUIRE) != PS_OK;
}

static inline void ps_set_bit(uint64_t *bits, uint32_t bit)
{
    __atomic_fetch_or(&bits[bit / 64], (uint64_t)1 << bit % 64, __ATOMIC_RELAXED);
}

static inline bool ps_get_bit(const uint64_t *bits, uint32_t bit)
{
    return bits[bit / 64] >> bit % 64 & 1;
}

/* For who has the word to himself. */
static inline void ps_clear_bit(uint64_t *bits, uint32_t bit)
{
    bits[bit / 64] &= ~((uint64_t)1 << bit % 64);
}

static inline uint32_t ps_domain_of(const ps_census_state *c, uint32_t page)
{
    return c->space->sources[ps_space_find(c->space, page)->source].domain;
}

static inline uint32_t ps_block_end(const ps_census_state *c, uint32_t block)
{
    return c->pages - block * c->block < c->block ? c->pages : (block + 1) * c->block;
}

/* Whether to leave a long loop early. */
static inline bool ps_leaving(ps_census_state *c)
{
    ps_status status = ps_stopped(c->control) ? PS_STOPPED : ps_space_status(c->space);

    if (status != PS_OK)
        ps_fail(c, status);
    return ps_failed(c);
}

/* Leaves a page to the next round. A head is left once for each of its members: what is so already is not written again,
 * which would take the line away from the other threads each time. */
static inline void ps_leave_open(ps_census_state *c, uint32_t page)
{
    if (!(__atomic_load_n(&c->open[page / 64], __ATOMIC_RELAXED) >> page % 64 & 1))
        ps_set_bit(c->open, page);
    if (!__atomic_load_n(&c->any_open, __ATOMIC_RELAXED))
        __atomic_store_n(&c->any_open, true, __ATOMIC_RELAXED);
}

/* ---- census.c ---- */

/* A stage: its parts 0 .. count-1 are taken in turn by the threads, which meet when all are done; `last`, if any, is
 * called by the last of them. */
void ps_each(ps_census_state *c, uint32_t count, void (*stage)(ps_census_state *, uint32_t),
             void (*last)(ps_census_state *));

/* After a round: what is open goes through another (c->more). */
void ps_end_round(ps_census_state *c);

/* ---- look.c ---- */

/* Looks at a block: its pages get their keys and are entered; zero pages are closed. */
void ps_look(ps_census_state *c, uint32_t block);

/* Enters pages whose keys are known: canonical[] of each is the lowest page of its key so far, or the number of its
 * slot where there are several threads. Those that are not open are zero. */
void ps_enter(const ps_census_state *c, ps_batch *batch);

/* Once all are entered: c->zeros. */
void ps_entered(ps_census_state *c);

/* Slot numbers become page numbers, now that no slot changes any more. */
void ps_find_heads(ps_census_state *c, uint32_t block);

/* ---- group.c ---- */

/* How many others have each page for their lowest: c->counts, which lie over the slots. By one thread. */
void ps_count_groups(ps_census_state *c);

/* c->sorted, by all threads; every page is closed. */
void ps_group(ps_census_state *c);

/* ---- verify.c ---- */

/* Compares a chunk of the sorted list; what it cannot settle is open again. */
void ps_verify(ps_census_state *c, uint32_t chunk);

/* ---- stream.c ---- */

/* All rounds, by reading files from end to end. */
void ps_stream(ps_census_state *c);

#endif
