/*
 * internal.h - what the files of the core know of each other, and nobody else.
 */
#ifndef PAGESHARE_INTERNAL_H
#define PAGESHARE_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "pageshare.h"

/* ---- arithmetic ---- */

/* The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
static inline uint64_t ps_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static inline uint64_t ps_multiply_fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline void ps_add(uint64_t *to, uint64_t number)
{
    __atomic_fetch_add(to, number, __ATOMIC_RELAXED);
}

/* For loops that wait for another thread. */
static inline void ps_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Two lines of a page: the hardware walks the TLB and streams the rest by itself. */
static inline void ps_prefetch_page(const uint8_t *page)
{
    __builtin_prefetch(page);
    __builtin_prefetch(page + 64);
}

/* ---- memory.c ---- */

/* Zeroed memory, taken page by page as it is touched; huge pages spare random accesses TLB misses. */
void *ps_reserve(uint64_t bytes);
void ps_release(void *memory, uint64_t bytes);
/* Of this machine's L2 cache, for one core; 1 MiB where that is not known. */
uint64_t ps_l2_bytes(void);
/* How much of files this process has mapped and resident; 0 where the kernel does not say (proc(5), statm). */
uint64_t ps_mapped_bytes(void);

/* ---- threads.c ---- */

/* Starts a thread; false if there can be none. Signals are for the threads that were there before; a fault is for the
 * thread that meets it. */
bool ps_thread_start(pthread_t *thread, void *(*run)(void *), void *argument);

/* ---- page.c ---- */

typedef struct {
    const char *name;
    int (*usable)(void);
    uint64_t (*hash64)(const ps_hash_key *key, const uint8_t *page, size_t bytes);
    /* Of PS_ABREAST pages. */
    void (*hashes64)(const ps_hash_key *key, const uint8_t *const *pages, size_t bytes, uint64_t *hashes);
    void (*hash128)(const ps_hash_key *key, const uint8_t *page, size_t bytes, uint64_t hash[2]);
    size_t (*first_nonzero)(const uint8_t *page, size_t bytes);
    int (*equal)(const uint8_t *a, const uint8_t *b, size_t bytes);
    /* Of PS_ABREAST pages: a bit for each that equals its partner, and PS_TO_THE_END if they had to be read so far; or a
     * bit for each that is zero. */
    unsigned (*equals)(const uint8_t *const *pages, const uint8_t *const *partners, size_t bytes);
    unsigned (*zeros)(const uint8_t *const *pages, size_t bytes);
} ps_kernel;

/* How many pages are compared or hashed in lockstep: four streams from random places are about all that a core follows. */
#define PS_ABREAST 4
#define PS_ALL_ABREAST ((1u << PS_ABREAST) - 1)
#define PS_TO_THE_END (1u << PS_ABREAST)

static inline bool ps_is_zero_page(const ps_kernel *kernel, const uint8_t *page, size_t bytes)
{
    return kernel->first_nonzero(page, bytes) == bytes;
}

const ps_kernel *ps_kernel_at(int kernel);

/* What a table needs of pages of PS_FINGERPRINT_BYTES. */
const ps_kernel *ps_fingerprint_kernel(void);

/* ---- space.c ---- */

struct ps_space {
    ps_segment *segments;
    uintptr_t *origins;        /* one a segment: where page 0 would lie in memory; not used if it has to be read */
    ps_source *sources;
    struct guard **guards;     /* one a source; NULL where nothing is mapped from a file */
    uint32_t *index;           /* the segment of page (i << index_shift); one more: the last segment */
    uint32_t segment_count;
    uint32_t source_count;
    uint32_t pages;
    uint32_t page_bytes;
    unsigned index_shift;
    uint32_t asked;            /* pages up to here were asked for ahead; set atomically */
    int32_t cut_source;        /* the first source found short by a read, -1 for none; set atomically */
    int32_t bad_source;        /* the first one of which an entered page can't be read any more; likewise */
};

/* The segment that page lies in: the index narrows it down, mostly to one. */
static inline const ps_segment *ps_space_find(const ps_space *space, uint32_t page)
{
    uint32_t low = space->index[page >> space->index_shift];
    uint32_t high = space->index[(page >> space->index_shift) + 1];
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        if (space->segments[middle].first <= page)
            low = middle;
        else
            high = middle - 1;
    }
    return space->segments + low;
}

/* The number of the page behind the segment's last. */
static inline uint32_t ps_segment_end(const ps_space *space, const ps_segment *segment)
{
    return segment + 1 < space->segments + space->segment_count ? segment[1].first : space->pages;
}

static inline uint64_t ps_segment_offset(const ps_space *space, const ps_segment *segment, uint32_t page)
{
    return segment->offset + (uint64_t)(page - segment->first) * space->page_bytes;
}

/* Where the page lies in memory, or NULL if it has to be read. */
static inline const uint8_t *ps_space_address(const ps_space *space, uint32_t page)
{
    const ps_segment *segment = ps_space_find(space, page);
    if (!space->sources[segment->source].base)
        return NULL;
    return (const uint8_t *)(space->origins[segment - space->segments] + (uintptr_t)page * space->page_bytes);
}

/* Reads `count` pages of one source, at offset, from its file. PS_OK, PS_SHRANK (noted in the space), or
 * PS_IO_ERROR (not noted: a page that never could be read is just lost). */
ps_status ps_space_read(ps_space *space, uint32_t source, uint64_t offset, size_t count, uint8_t *to);

/* Asks for pages to be read into the page cache, without waiting for them. */
void ps_space_ask(const ps_space *space, uint32_t first, uint32_t count);

/* Notes that a page that has been read before can't be read any more: what rests on it can't be verified. */
void ps_space_went_bad(ps_space *space, uint32_t page);

/* PS_OK, or why the sources can't be trusted any more (a fault, a short read). */
ps_status ps_space_status(const ps_space *space);

static inline bool ps_stopped(const ps_control *control)
{
    return control && __atomic_load_n(&control->stop, __ATOMIC_RELAXED);
}

static inline void ps_advance(ps_control *control, uint64_t pages)
{
    if (control)
        __atomic_fetch_add(&control->done, pages, __ATOMIC_RELAXED);
}

/* ---- frame_table.c ---- */

/* Of a page without an entry: what was found when it was last looked at. */
typedef enum { PS_LAST_NOTHING = 0, PS_LAST_STALE, PS_LAST_UNREADABLE } ps_last;

/* What a page is to the table, in two bits. */
typedef enum { PS_STATE_NONE, PS_STATE_HINT, PS_STATE_HEAD, PS_STATE_MEMBER } ps_state;

/*
 * Twelve bytes a page say all: a hint is an entry of a chain; so is the head of a frame with room, the member
 * through which the frame is read. The other members hang on the head in a list.
 *
 *             link                  tag                        next
 *   hint      next in the chain     its hash                   -
 *   head      next in the chain     the frame's hash           first of the other members
 *   first     the head              how many pages the frame   next member
 *                                   has, the head included
 *   others    previous member       the head                   next member
 *   no entry  -                     -                          a ps_last
 *
 * PS_NONE ends chains and lists. A write to the head makes a member drawn at random the new head, so the cost
 * of telling all the others is O(1) on average unless somebody keeps asking for the head and writes to just that.
 */
typedef struct {
    uint32_t link;
    uint32_t tag;
    uint32_t next;
} ps_entry;

struct ps_table {
    ps_space *space;
    uint32_t pages;            /* the space's: it may be gone when the table is freed */
    const ps_kernel *kernel;
    ps_hash_key key;
    uint64_t hash_mask;
    uint64_t zero_hash;        /* of a page of zeros */
    uint64_t random;           /* state of the generator that draws heads */
    uint32_t max_refs;
    uint32_t options;
    uint32_t accept_first;     /* tags that are looked up */
    uint32_t accept_last;
    uint32_t bucket_count;
    uint32_t domain_count;
    uint32_t chunk;            /* pages that the scan takes at a time: half the L2 cache, where they stay */
    ps_entry *entries;         /* one a page */
    uint8_t *states;           /* two bits a page */
    uint32_t *buckets;         /* first entry of each chain */
    uint32_t *checksums;       /* one a page, or NULL without PS_CHECKSUM */
    uint32_t *zero_frames;     /* one a domain: the head of its zero frame, PS_NONE if there is none */
    uint8_t *scratch;          /* a page, for partners that have to be read */
    uint8_t *block;            /* a chunk of pages, for runs that have to be read; NULL until needed */
    ps_table_stats stats;
};

/* Bounds of `chunk`. */
#define PS_CHUNK_MIN 4
#define PS_CHUNK_MAX 256

static inline ps_state ps_table_state(const ps_table *table, uint32_t page)
{
    return (ps_state)(table->states[page >> 2] >> (page & 3) * 2 & 3);
}

static inline uint32_t ps_table_bucket(const ps_table *table, uint32_t tag)
{
    return (uint32_t)((uint64_t)tag * table->bucket_count >> 32);
}

static inline const ps_source *ps_table_source(const ps_table *table, uint32_t page)
{
    return &table->space->sources[ps_space_find(table->space, page)->source];
}

/* How many pages the frame has that is read through `head`. */
static inline uint32_t ps_frame_size(const ps_table *table, uint32_t head)
{
    uint32_t first = table->entries[head].next;
    return first == PS_NONE ? 1 : table->entries[first].tag;
}

/* With max_refs: no page may join. Such a frame is in no chain, so that those with room are found at once. A zero frame
 * always has room. */
static inline bool ps_frame_is_full(const ps_table *table, uint32_t head)
{
    return table->max_refs && ps_frame_size(table, head) >= table->max_refs &&
           table->zero_frames[ps_table_source(table, head)->domain] != head;
}

static inline uint32_t ps_frame_head(const ps_table *table, uint32_t member)
{
    const ps_entry *entry = &table->entries[member];
    return ps_table_state(table, entry->link) == PS_STATE_HEAD ? entry->link : entry->tag;
}

/* The bytes of a page other than the one being visited; NULL if they can't be had. */
const uint8_t *ps_table_bytes(const ps_table *table, uint32_t page);

/* The key under which a page with this hash is entered: the domain is mixed in. */
uint64_t ps_table_key(const ps_table *table, uint64_t hash, uint32_t domain);

/* Looks at one page whose bytes and key are at hand; `zero` says that all bytes are zero, `equal` which page is known
 * to hold the same (PS_NONE: none). */
ps_outcome ps_table_visit(ps_table *table, uint32_t page, const uint8_t *bytes, uint64_t key, bool zero,
                          uint32_t equal, uint32_t *partner);

/* The page was looked at, and its bytes could not be had. */
void ps_table_unreadable(ps_table *table, uint32_t page);

/* What was last found of a page that has no entry. */
static inline ps_last ps_table_last(const ps_table *table, uint32_t page)
{
    return (ps_last)table->entries[page].next;
}

/* The first entry that a page with this tag would be compared with, or PS_NONE: for prefetching only. */
uint32_t ps_table_candidate(const ps_table *table, uint32_t page, uint32_t tag);

/* ---- count.c ---- */

/* What is counted of a content, while pages go by in ascending order. */
typedef struct {
    uint32_t pages;
    uint32_t mark;             /* 2 * owner + 1: the owner that holds it last, once; + 2: more than once */
} ps_class;

/* Contents are counted in parts, by their first pages, so many of these in turn: a power of two. */
#define PS_PART_PAGES 1024

static inline uint32_t ps_part_of(uint32_t page, uint32_t parts)
{
    return page / PS_PART_PAGES & (parts - 1);
}

/* Counts a part of a space whose pages have their canonical pages (see ps_census), beside other threads; `classes` has room
 * for one a page, owners and total are zero before the first part. Leaves off early if it is told to stop. */
void ps_tally_part(const ps_space *space, const uint32_t *canonical, const uint32_t *zeros, uint32_t part,
                   uint32_t parts, ps_class *classes, ps_owner_tally *owners, ps_tally *total,
                   const ps_control *control);
/* When all parts are counted. */
void ps_tally_total(ps_owner_tally *owners, uint32_t owner_count, ps_tally *total);

#endif
