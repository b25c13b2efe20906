/*
 * pageshare.h - the native core of pageshare.
 *
 * Its parts, each in the file of its name:
 *   page.c         hash, zero test and equality of a page, for each instruction set
 *   space.c        where each numbered page lies: mapped, in a buffer, or to be read from a file
 *   frame_table.c  ESX's table of hints and shared frames (Waldspurger, OSDI 2002, section 4)
 *   count.c        what a table comes to: chains, classes, tallies, self-check
 *   scan.c         the batch loop over that table: read, hash, prefetch, look up
 *   census.c       all pages at once: sample, group, verify; on several threads
 *   stream.c       the same of files that memory cannot hold
 *   estimate.c     counts of the contents in a part of hash space, in bounded memory
 *   contents.c     what a census comes to content by content: which are held more than once, and by whom
 *   blocks.c       which blocks of twice the size are equal, from which of their halves are; and which may be, from keys
 *   runs.c         how long the stretches are in which pages are the same elsewhere
 *   rows.c         the rows of a saved scan: made, and taken in and held against each other
 *   peek.c         what can be learnt of pages without the table: the key of one line, the hash of a whole page, keys
 *                  that tell similar pages
 *   kinds.c        what a page's bytes look like: text, a page table, ...
 *   process.c      pages of other processes as these run, hashed
 *   lab.c          touches of the laboratory's simulated guests, page by page
 *   memory.c       large arrays
 *   threads.c      how threads are started
 *
 * The part between the two cdef markers is what the Python builder reads: plain declarations,
 * no macros but integer constants. Nothing here needs Python.
 *
 * Numbers: a page number is 32 bits, addresses, offsets and byte counts are 64. Every function that
 * can fail returns a ps_status; what it hands out is of no use then.
 */
#ifndef PAGESHARE_H
#define PAGESHARE_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */
typedef enum {
    PS_OK = 0,
    PS_NO_MEMORY = 1,      /* an allocation failed */
    PS_INVALID = 2,        /* an argument is out of its range */
    PS_STOPPED = 3,        /* control->stop was set */
    PS_SHRANK = 4,         /* a file ended before its page: see ps_space_faulted */
    PS_IO_ERROR = 5,       /* a mapped page, or one read before, could not be read: see ps_space_faulted */
    PS_GONE = 6,           /* the process has ended */
    PS_REFUSED = 7         /* the kernel does not allow it */
} ps_status;

/* What a caller may share with a running loop: it reads `done`, it sets `stop`. */
typedef struct {
    uint64_t done;         /* pages looked at so far, counted up by the loop */
    int32_t stop;          /* not 0: return PS_STOPPED at the next chance */
    uint32_t reading;      /* of a streamed census: which time files are read, from 1 on */
    uint32_t readings;     /* how many times it will be; 0: not known yet */
} ps_control;

/* ---- page.c ---- */

/* A seed and the XXH3 secret derived from it, made once. */
typedef struct {
    uint64_t seed;
    uint8_t secret[192];
} ps_hash_key;

void ps_hash_key_init(ps_hash_key *key, uint64_t seed);

/* Kernels, worst first: "scalar", then "sse2", "avx2", "avx512" or "neon". The number of those compiled in;
 * the name of one (NULL beyond the last); whether this processor runs it; the best one that it runs. */
int ps_kernel_count(void);
const char *ps_kernel_name(int kernel);
int ps_kernel_usable(int kernel);
int ps_kernel_best(void);

/* XXH3-64 and XXH3-128 (low word first) of `count` pages one behind the other. `page_bytes` is a multiple
 * of 64 and at least 256; any alignment. Undefined if the kernel is not usable. */
void ps_hash64(int kernel, const ps_hash_key *key, const void *pages, size_t page_bytes, size_t count,
               uint64_t *hashes);
void ps_hash128(int kernel, const ps_hash_key *key, const void *pages, size_t page_bytes, size_t count,
                uint64_t *hashes);
/* 1 if all `bytes` (a multiple of 64) are zero, else 0. */
int ps_is_zero(int kernel, const void *page, size_t bytes);
/* 1 if both hold the same `bytes` (a multiple of 64), else 0. */
int ps_equal(int kernel, const void *a, const void *b, size_t bytes);

/* ---- space.c ---- */

/* One thing that holds pages: a mapped file, a file to be read, or a buffer. */
typedef struct {
    const uint8_t *base;   /* where byte 0 is in memory; NULL: pages are read from fd */
    uint64_t bytes;        /* length of the file or buffer as it was opened */
    int32_t fd;            /* -1: a buffer; else the file, for reading and for telling why a fault came */
    uint32_t owner;        /* number of the owner of its pages */
    uint32_t domain;       /* number of their sharing domain */
} ps_source;

/* A run of pages that lie one behind the other in a source. It ends where the next one's `first` begins. */
typedef struct {
    uint64_t offset;       /* of the first page, in the source; need not be aligned */
    uint32_t first;        /* number of the first page */
    uint32_t source;
} ps_segment;

typedef struct ps_space ps_space;

/* Pages of so many bytes are fingerprints: each is the hash of the content that it stands for (ps_space_hash). A table of
 * the hash's seed does over them what it does over the pages themselves, with nothing to be read. */
#define PS_FINGERPRINT_BYTES 8

/* A space of pages 0 .. pages-1. Segments are in ascending order of `first`, the first one's is 0, none is
 * empty, each lies within its source. The arrays are copied; files and memory must outlive the space. `page_bytes` is a
 * multiple of 64 and at least 256, or PS_FINGERPRINT_BYTES.
 * Watches mapped files (fd >= 0 and base): a page that cannot be had ends the loop that reads it with
 * PS_SHRANK or PS_IO_ERROR, not the process. */
ps_status ps_space_new(ps_space **space, const ps_segment *segments, uint32_t segment_count,
                       const ps_source *sources, uint32_t source_count, uint32_t pages, uint32_t page_bytes);
void ps_space_free(ps_space *space);
/* Maps pages first .. first+count-1, by touching them, in steps. Of control only `stop` is used. */
ps_status ps_space_populate(ps_space *space, uint32_t first, uint32_t count, const ps_control *control);
/* Takes them out of the mapping again (MADV_DONTNEED): they stay in the page cache, and come back when touched. */
void ps_space_let_go(ps_space *space, uint32_t first, uint32_t count);
/* The same with all pages, if this process has more than so many bytes of files mapped. */
void ps_space_shed(ps_space *space, uint64_t most);
/* The first source that was found cut short or unreadable, or -1. */
int64_t ps_space_faulted(const ps_space *space);
/* Bytes that the space takes itself. */
uint64_t ps_space_bytes(const ps_space *space);

/* ---- frame_table.c ---- */

/* What became of a page that was looked at, and the partner that goes with it (PS_NONE: none). */
typedef enum {
    PS_ZERO = 0,           /* all zero: joined, or opened, its domain's zero frame; another member */
    PS_HINTED = 1,         /* first sight, or changed since its last: now a hint */
    PS_ALREADY_HINTED = 2, /* its own hint, unchanged */
    PS_SHARED_NEW = 3,     /* a hint hit: both pages are now one frame; the hint's page */
    PS_SHARED = 4,         /* joined a frame; the member through which the frame is read */
    PS_ALREADY_SHARED = 5, /* a member of a frame since before, not read; another member */
    PS_STALE_HINT = 6,     /* a hint fitted, but its page had changed: replaced; the hint's page */
    PS_FALSE_MATCH = 7,    /* same hash, other bytes: now a hint of its own; the other page */
    PS_VOLATILE = 8,       /* with PS_CHECKSUM: new or changed since its last visit, not looked up */
    PS_UNREADABLE = 9,     /* its bytes could not be read (an I/O error): not entered */
    PS_PASSED_OVER = 10    /* its hash is outside of the range of ps_table_accept: not looked up */
} ps_outcome;

/* Options of a table. */
enum {
    PS_CHECKSUM = 1,       /* a page is looked up only if its checksum is that of its last visit (KSM) */
    PS_ZERO_ORDINARY = 2   /* zero pages are treated as any other content: hints first, and no outcome PS_ZERO */
};

typedef struct {
    uint64_t seed;         /* of the hash and of random choices */
    uint32_t hash_bits;    /* how many bits of the hash are used: 64, or fewer to test collisions */
    uint32_t max_refs;     /* most pages to a frame (KSM's max_page_sharing), but for the zero frame; 0: no limit */
    uint32_t options;      /* PS_CHECKSUM, PS_ZERO_ORDINARY */
    int32_t kernel;        /* a kernel's number; -1: the best one */
    uint64_t zero_hash;    /* over fingerprints: that of a page of zeros */
} ps_table_config;

/* Counts since the table was made (events) and as they stand now (states). */
typedef struct {
    uint64_t visits;       /* event: pages whose bytes were read whole and looked up */
    uint64_t compares;     /* event: byte comparisons of two pages */
    uint64_t rehashes;     /* event: hints rehashed since their bytes differed from a page that fitted */
    uint64_t false_matches;/* event: same 64-bit hash, other bytes */
    uint64_t stale_hints;  /* event: hints dropped since their page had changed */
    uint64_t cow_breaks;   /* event: writes to a member of a frame */
    uint64_t hints;        /* state: pages that are hints */
    uint64_t frames;       /* state: frames, those of one page included */
    uint64_t lone_frames;  /* state: frames of one page */
    uint64_t members;      /* state: pages that are members of frames, those of one included */
    uint64_t bytes;        /* state: memory the table takes, its space's included */
} ps_table_stats;

/* How long the chains of the hash table are. */
typedef struct {
    uint64_t buckets;
    uint64_t entries;      /* hints, and frames that are not full */
    uint64_t longest;
    uint64_t lengths[16];  /* buckets with a chain of 0, 1, .. 14, and 15 or more entries */
} ps_chain_stats;

/* Page counts of one owner, over the pages that the table has entered. */
typedef struct {
    uint64_t zero;         /* zero pages; every figure below is without them */
    uint64_t unique;       /* contents held once, by the whole table, and stale pages (ps_tally) */
    uint64_t shared;       /* members of frames of two or more */
    uint64_t alone_unique; /* contents that this owner holds once, whatever the others hold */
    uint64_t alone_shared; /* its pages whose content it holds twice or more */
    uint64_t alone_kept;   /* how many contents these are */
    uint64_t unreadable;   /* pages that could not be read, in none of the above */
} ps_owner_tally;

/* The same over all owners; zero pages left out but for `zero`. */
typedef struct {
    uint64_t zero;
    uint64_t hints;        /* hints, zero never is one */
    uint64_t shared;       /* members of frames of two or more */
    uint64_t kept;         /* frames of two or more */
    uint64_t lone;         /* frames of one */
    uint64_t stale;        /* pages without an entry since their hint was found stale; unlike what they fitted, and
                              not looked at again: taken to be unique */
    uint64_t unreadable;   /* pages that could not be read, and have no entry */
} ps_tally;

typedef struct ps_table ps_table;

/* No page. */
#define PS_NONE 0xffffffff

ps_status ps_table_new(ps_table **table, ps_space *space, const ps_table_config *config);
void ps_table_free(ps_table *table);
/* Looks at `count` pages in the order given (pages == NULL: first, first+1, ..), as one after the other.
 * outcomes and partners may be NULL. *scanned pages were done; less than count only if not PS_OK. */
ps_status ps_table_scan(ps_table *table, const uint32_t *pages, uint32_t first, size_t count,
                        uint8_t *outcomes, uint32_t *partners, ps_control *control, size_t *scanned);
/* To be called before the bytes of these pages change. broken[i] (may be NULL) is 1 where that was a
 * copy-on-write break: the page was a member of a frame, and has left it. */
ps_status ps_table_write(ps_table *table, const uint32_t *pages, size_t count, uint8_t *broken);
/* Forgets every hint; frames stay (KSM drops its unstable tree after each pass). */
void ps_table_drop_hints(ps_table *table);
/* From now on only pages whose tag, the lower 32 bits of their hash, is from `first` to `last` are looked up; zero pages
 * always are. Difference Engine's passes over a part of all hashes each (Gupta et al., OSDI 2008). */
void ps_table_accept(ps_table *table, uint32_t first, uint32_t last);
void ps_table_get_stats(const ps_table *table, ps_table_stats *stats);
void ps_table_get_chains(const ps_table *table, ps_chain_stats *chains);
/* For each of `count` pages from `first` on, the page that stands for its content: the hint itself, or the
 * member through which its frame is read; PS_NONE where it has no entry. */
ps_status ps_table_classes(const ps_table *table, uint32_t first, size_t count, uint32_t *classes);
/* Fills owners[0 .. owner_count-1] and total. Of control only `stop` is used. */
ps_status ps_table_tally(const ps_table *table, ps_owner_tally *owners, uint32_t owner_count, ps_tally *total,
                         const ps_control *control);
/* Walks the whole table and checks every invariant, the bytes of frames included. PS_OK, or PS_INVALID and
 * a sentence in `why`. */
ps_status ps_table_check(const ps_table *table, char *why, size_t why_bytes);

/* ---- census.c ---- */

/* Options of a census. */
enum {
    PS_MAP = 1,            /* map pages block by block, each just before it is sampled; at the end
                              take them out of the mapping again (MADV_DONTNEED) */
    PS_LET_GO = 2,         /* take pages behind the first keep_bytes out of the mapping as soon as they are done with, to
                              map them again where they have to be compared: what is mapped counts as this process's
                              memory */
    PS_STREAM = 4          /* read files from end to end, as often as it takes, instead of by their mappings */
};

typedef struct {
    uint64_t seed;         /* of the hashes, and of what part of a page is sampled */
    uint32_t hash_bits;    /* how many bits of the hashes are used: 64, or fewer to test collisions */
    uint32_t threads;      /* how many to use at most, this one included */
    uint32_t options;      /* PS_MAP, PS_LET_GO, PS_STREAM */
    int32_t kernel;        /* a kernel's number; -1: the best one */
    uint64_t keep_bytes;   /* with PS_LET_GO: of the pages, how much stays mapped */
    uint64_t hold_bytes;   /* with PS_STREAM: most memory for contents that others are compared with */
} ps_census_config;

typedef struct {
    uint64_t zero_tests;   /* pages read to see whether they are zero */
    uint64_t hashes;       /* pages hashed whole */
    uint64_t compares;     /* pages compared with another, read whole where they are equal */
    uint64_t bytes;        /* memory that it took, `canonical` and the space included */
    uint64_t look_ns;      /* without PS_STREAM, time: keys made and entered */
    uint64_t group_ns;     /* sorted */
    uint64_t verify_ns;    /* compared */
    uint64_t tally_ns;     /* counted, and taken out of the mapping */
    uint32_t rounds;       /* 1, and one more for each time that equal keys stood for too many contents */
    uint32_t threads;      /* how many there were */
    uint32_t readings;     /* with PS_STREAM: how often files were read from end to end */
} ps_census_stats;

/* Looks at all pages of a space, which are numbered owner by owner; without PS_STREAM all must be in memory.
 * canonical[page] becomes the lowest page with the same bytes in the same domain: the same for any seed, any kernel, any
 * number of threads. Pages of zeros are those whose canonical is zeros[domain] (PS_NONE where a domain has none; as many
 * as there are domains, numbered from 0). owners[0 .. owner_count-1] and total are filled as by ps_table_tally, every
 * content but zero held once being a hint there. */
ps_status ps_census(ps_space *space, const ps_census_config *config, uint32_t *canonical, uint32_t *zeros,
                    ps_owner_tally *owners, uint32_t owner_count, ps_tally *total, ps_census_stats *stats,
                    ps_control *control);

/* ---- contents.c ---- */

/* Numbers of contents: all zero; held once, with no record; from 1 on those that are held by two pages or more. PS_NONE:
 * the page could not be read. */
#define PS_CLASS_ZERO 0
#define PS_CLASS_UNIQUE 0xfffffffe

typedef struct {
    uint32_t first;        /* its first page; PS_NONE where there is no page of zeros */
    uint32_t pages;        /* how many hold it */
    uint32_t start;        /* its first holding */
    uint32_t owners;       /* how many hold it: of zeros 0, whose holders are in ps_owner_pages */
} ps_content;

/* What an owner has of a content. */
typedef struct {
    uint32_t owner;
    uint32_t pages;
} ps_holding;

/* Pages of an owner that are in no holding. */
typedef struct {
    uint64_t zero;
    uint64_t unique;
    uint64_t unreadable;
} ps_owner_pages;

/* What an owner has of the contents that several pages hold, zeros left out. */
typedef struct {
    uint64_t pages;
    uint64_t contents;     /* how many of them it holds */
    uint64_t only;         /* ... that nobody else holds */
    double kept;           /* its part of their frames: one each, split evenly over the pages that hold it */
} ps_owner_share;

/* The steps from a census over a single domain, whose page of zeros is `zero`, to the numbers of contents. Pages, owners
 * and contents can be parted among threads. Of control only `stop` is used.
 *
 * Sets a bit of `shared` (one a page, zero at first, and room for one more) for each page that is the first of a content that
 * a page of first .. end-1 holds too. */
ps_status ps_contents_mark(const uint32_t *canonical, uint32_t first, uint32_t end, uint32_t zero, uint64_t *shared,
                           const ps_control *control);
/* ranks[i] becomes the number of the first content that has a bit in word i of `shared`: they are numbered from 1 on by
 * ascending first page. Returns how many there are, and one more. */
uint32_t ps_contents_rank(const uint64_t *shared, uint32_t pages, uint32_t *ranks);
/* Of the canonical pages in `classes`, of pages first .. end-1, makes the numbers of their contents, in place; unless it is
 * NULL, `contents` gets `first`; not that of zeros. */
ps_status ps_contents_name(uint32_t *classes, uint32_t first, uint32_t end, uint32_t zero, const uint64_t *shared,
                           const uint32_t *ranks, ps_content *contents, const ps_control *control);
/* Counts `pages` of contents i where (i / 64 & mask) == part, which are 0 at first; not that of zeros. */
ps_status ps_contents_pages(const uint32_t *classes, uint32_t pages, uint32_t part, uint32_t mask, ps_content *contents,
                            const ps_control *control);
/* Owner o has pages owner_first[o] .. owner_first[o+1]-1. Fills owners[first_owner .. end_owner-1]. */
ps_status ps_contents_count(const uint32_t *classes, const uint32_t *owner_first, uint32_t first_owner, uint32_t end_owner,
                            ps_owner_pages *owners, const ps_control *control);
/* Pages edges[i] .. edges[i+1]-1 lie in cell cells[i]: adds to counts[s * cell_count + cells[i]] how many of them are zero
 * (s = 0), of a content held once (1), of one that only one owner holds (2) or several do (3), unreadable (4).
 * several[0 .. count-1] is 1 for contents of several owners, and 0 for zeros. */
ps_status ps_contents_states(const uint32_t *classes, const uint8_t *several, uint32_t count, const uint64_t *edges,
                             const int64_t *cells, size_t pieces, uint64_t *counts, size_t cell_count,
                             const ps_control *control);
/* Of contents 1 .. count-1, that are held by so many pages together, `start` becomes where there is room for a holding of
 * each page, and `owners` 0. Contents edges[i] .. edges[i+1]-1 are about the same work, for i < parts. */
void ps_contents_place(ps_content *contents, uint32_t count, uint64_t pages, uint32_t parts, uint32_t *edges);
/* Fills the holdings of contents first .. end-1, by content, then by ascending owner: *held from the `start` of the first
 * one on; and their `start` and `owners`. */
ps_status ps_contents_hold(const uint32_t *classes, const uint32_t *owner_first, uint32_t owner_count, ps_content *contents,
                           uint32_t first, uint32_t end, ps_holding *holdings, uint32_t *held, const ps_control *control);
/* canonical[page] becomes the lowest page with the same content in the same domain, where owner o is in domain domains[o]
 * < domain_count; that of zeros for them, in every domain. */
ps_status ps_contents_divide(const uint32_t *classes, const uint32_t *owner_first, uint32_t owner_count,
                             const uint32_t *domains, uint32_t domain_count, const ps_content *contents, uint32_t count,
                             uint32_t *canonical, const ps_control *control);
/* The tally of a census in which owner o is in domain domains[o], less than owner_count. */
ps_status ps_contents_tally(const ps_content *contents, uint32_t count, const ps_holding *holdings,
                            const ps_owner_pages *pages, uint32_t owner_count, const uint32_t *domains,
                            ps_owner_tally *owners, ps_tally *total, const ps_control *control);
/* common[a * owner_count + b]: how many distinct contents but zero both a and b hold; where a == b, that one holds. */
ps_status ps_contents_common(const ps_content *contents, uint32_t count, const ps_holding *holdings,
                             const ps_owner_pages *pages, uint32_t owner_count, uint64_t *common, const ps_control *control);
/* Fills shares[0 .. owner_count-1]. */
ps_status ps_contents_share(const ps_content *contents, uint32_t count, const ps_holding *holdings, uint32_t owner_count,
                            ps_owner_share *shares, const ps_control *control);

/* ---- runs.c ---- */

/* Pages in spans, each at consecutive frames: span i has pages first[i] .. first[i + 1] - 1, the last one up to `end`. */
typedef struct {
    const uint32_t *first;
    const uint64_t *frame;
    size_t count;
    uint64_t end;
} ps_spans;

/* Sets a bit for each page that does not follow the one before it, in the memory of the same owner. */
void ps_runs_apart(const ps_spans *read, const uint32_t *owner_first, uint32_t owner_count, uint64_t *apart);

/* An owner's pages: those that are read, and known zeros, by ascending frame. The rest is of all owners. */
typedef struct {
    ps_spans read;
    ps_spans zeros;
    const uint32_t *classes;
    const ps_content *contents;
    const uint64_t *apart;
    const uint32_t *owner_first;
    uint32_t owner_count;
} ps_run_source;

/* `pages` pages from `page` on that are the same as those from `matches` on. */
typedef struct {
    uint32_t page;
    uint32_t pages;
    uint32_t matches;
} ps_stretch;

typedef struct {
    uint64_t runs;
    uint64_t pages;
} ps_lengths;

typedef struct {
    uint64_t runs;
    uint64_t pages;
    uint64_t longest;      /* in pages */
} ps_run_pair;

/* Stretches by length: entry i is about those of 2^i to 2^(i+1) - 1 pages; by the owner of what they match, pairs[0 ..
 * owner_count-1]; and longest[0 .. kept-1], the `most` longest ones, the longest first, of equal ones the first. Zeros are
 * by themselves, and by length alone. All is zero at first. */
typedef struct {
    ps_lengths runs[32];
    ps_lengths zeros[32];
    ps_run_pair *pairs;
    ps_stretch *longest;
    uint32_t most;
    uint32_t kept;
} ps_run_found;

/* Adds up the maximal stretches of an owner's pages begin .. end-1 that are not the first of their content, as long as they
 * and their first pages follow each other; and those of zeros. Of control only `stop` is used. */
ps_status ps_runs_find(const ps_run_source *from, uint32_t begin, uint32_t end, ps_run_found *to, const ps_control *control);

/* ---- estimate.c ---- */

typedef struct {
    uint64_t seed;         /* of the hash: another one is another sample */
    uint64_t memory;       /* most bytes for contents that are kept: from 1 KiB on */
    uint32_t threads;      /* how many to use at most, this one included */
    int32_t kernel;        /* a kernel's number; -1: the best one */
    uint64_t zero_hash;    /* over fingerprints: that of a page of zeros */
} ps_sample_config;

/* Exact counts of one owner. */
typedef struct {
    uint64_t zero;
    uint64_t unreadable;
} ps_owner_sample;

/* What a sample of contents (zero pages left out) comes to. */
typedef struct {
    uint64_t threshold;    /* contents are in it whose key, of 64 uniform bits, is below; UINT64_MAX: all */
    uint64_t contents;     /* how many are in it: the sums below are over these */
    uint64_t evicted;      /* how many were, until the threshold fell */
    uint64_t unique;       /* contents of one page */
    uint64_t pages;
    uint64_t owners;       /* sum of the numbers of owners that hold each */
    uint64_t owners_squared; /* sum of their squares */
    uint64_t bytes;        /* memory that it took, the space's included */
} ps_sample;

/* Reads every page once, files from end to end (by their descriptors, not by mappings), and samples contents by hash as
 * described in estimate.c; a content is bytes in a domain. Pages must be numbered owner by owner. Fills
 * owners[0 .. owner_count-1]. The same for any number of threads and any kernel. PS_INVALID for less memory than 1 KiB. */
ps_status ps_sample_contents(ps_space *space, const ps_sample_config *config, ps_owner_sample *owners,
                             uint32_t owner_count, ps_sample *found, ps_control *control);
/* ---- blocks.c ---- */

/* Blocks of which both halves are known: all zero; held once; held twice or more, and how many different ones these are. */
typedef struct {
    uint64_t unknown;      /* a half of it is not known */
    uint64_t zero;
    uint64_t unique;
    uint64_t shared;
    uint64_t kept;
} ps_pair_counts;

/* classes[0 .. 2 * count - 1] are numbers of contents, as ps_contents_name makes them, of the halves of `count` blocks,
 * one block after the other. pairs[i] becomes the number of block i's content in the same way: from 1 on for what two
 * blocks or more hold, PS_NONE where that of a half is. The same for any seed, which is that of a hash table. */
ps_status ps_blocks_pair(const uint32_t *classes, uint32_t count, uint64_t seed, uint32_t *pairs, ps_pair_counts *counts,
                         const ps_control *control);
/* Bits for keys (see ps_space_peek), 2^(32 - shift) of either sort, zero at first: for those that are there, and for those
 * that are there a second time. */
typedef struct {
    uint64_t *once;
    uint64_t *twice;
    uint32_t shift;        /* at most 26 */
} ps_key_bits;

/* Sets the bits of some keys; several threads may. Of control only `stop` is used, as below. */
ps_status ps_keys_mark(const uint32_t *keys, uint32_t count, const ps_key_bits *of, const ps_control *control);
/* When all are marked: again[i] becomes 1 where keys[i] is 0 or is there a second time; with 32 bits a key in some 3 % of
 * all other cases too, if keys are as good as random; else 0. */
ps_status ps_keys_again(const uint32_t *keys, uint32_t count, const ps_key_bits *of, uint8_t *again,
                        const ps_control *control);

/* ---- kinds.c ---- */

/* What a page looks like. Saved scans keep these numbers: they never change. */
typedef enum {
    PS_KIND_ZERO = 0,
    PS_KIND_BYTE = 1,      /* one byte, again and again */
    PS_KIND_WORD2 = 2,     /* 2 bytes */
    PS_KIND_WORD4 = 3,
    PS_KIND_WORD8 = 4,
    PS_KIND_TEXT = 5,
    PS_KIND_ELF = 6,       /* the beginning of an ELF file */
    PS_KIND_PAGE_TABLE = 7,/* of x86-64 */
    PS_KIND_FILE_SYSTEM = 8,/* inodes, directories, superblocks, trees */
    PS_KIND_POINTERS = 9,
    PS_KIND_HIGH_ENTROPY = 10,    /* high entropy: compressed, encrypted, random */
    PS_KIND_OTHER = 11
} ps_page_kind;

/* A ps_page_kind of `bytes` (a multiple of 64 and at least 256). */
uint8_t ps_kind(const void *page, size_t bytes);

/* ---- rows.c ---- */

/* What the pages of a row are: of some content; read and found zero; zero without being read; not known. */
#define PS_ROW_DATA 0
#define PS_ROW_ZERO 1
#define PS_ROW_HOLE 2
#define PS_ROW_UNKNOWN 3

/* What is wrong with a row. */
typedef enum {
    PS_ROW_FINE = 0,
    PS_ROW_NOWHERE,        /* no memory has such a frame */
    PS_ROW_ORDER,          /* it does not lie behind the one before */
    PS_ROW_MORE_PAGES,     /* than most_pages */
    PS_ROW_SEVERAL,        /* pages of one content in a row */
    PS_ROW_HAS_CONTENT,    /* though it is not known */
    PS_ROW_NOT_ZERO,       /* by its number, though it is zero */
    PS_ROW_ZERO_AGAIN,     /* zeros begin here, but did before; or should, and don't */
    PS_ROW_NUMBER,         /* contents are not numbered as they appear */
    PS_ROW_MORE_CONTENTS   /* than most_contents */
} ps_row_fault;

/* Rows in file order. `first`: it is the first one of its content, PS_NONE where there is none. */
typedef struct {
    const int32_t *owner;
    const uint64_t *frame;
    const uint64_t *pages;
    const int8_t *state;
    const uint32_t *content;
    const uint8_t *first;
} ps_row_columns;

/* Pages of one sort, numbered in order: those that are read, holes, or unknown ones. run_*[0 .. runs-1], with room for one
 * more for each row: where stretches of consecutive frames of one owner begin, and with which number. */
typedef struct {
    uint64_t pages;
    uint64_t most_pages;
    uint64_t *by_owner;
    uint64_t *run_frame;
    uint64_t *run_first;
    int32_t *run_owner;
    uint64_t runs;
    uint64_t end;          /* of the last row, as a frame of `owner`: -1 before there is one */
    int32_t owner;
} ps_row_part;

/* What rows come to. content[0 .. parts[0].most_pages-1] gets the number of each page that is read, first_page and held
 * [0 .. most_contents] the first of these pages of each content, and how many pages are said to hold it: the next of
 * `count` where a content begins. zero_at: how many contents begin before zeros do; PS_NONE while there are none, as is
 * first_page[0] while none were read. */
typedef struct {
    uint64_t most_frame;
    uint32_t most_contents;
    uint32_t contents;
    uint32_t zero_at;
    ps_row_fault fault;
    ps_row_part parts[3];
    uint32_t *content;
    uint32_t *first_page;
    uint32_t *held;
    const uint32_t *count;
    uint64_t end;
    int32_t owner;
} ps_rows;

/* Takes more rows in: PS_INVALID, and `fault` says why, at the first that can't be. Owners are numbers of by_owner, states
 * are PS_ROW_*, and as many rows are `first` as there are counts: nobody else looks. */
ps_status ps_rows_take(ps_rows *to, const ps_row_columns *from, size_t rows, const ps_control *control);

/* Of what rows are made: runs of consecutive frames in file order, PS_ROW_DATA where pages are read, of which `first` is the
 * first one's number; the pages' contents, as contents.c has them; number_of[0 .. content_count-1], zeroed; how many pages
 * are zero. The rest says where it goes on, and is zero at first. */
typedef struct {
    const int32_t *owner;
    const uint64_t *frame;
    const uint64_t *pages;
    const uint32_t *first;
    const int8_t *state;
    uint64_t runs;
    const uint32_t *classes;
    const ps_content *contents;
    uint32_t content_count;
    uint32_t zeros;
    uint32_t *number_of;
    uint64_t run;
    uint64_t into;
    uint32_t numbered;
    uint32_t unique;
    uint8_t zero_seen;
} ps_row_source;

/* Room for `most` rows, in file order, and what got into it. which[0 .. begun-1]: the contents that begin here: 0 for zeros,
 * else their class, else content_count and, of those that are held once, how many came before; `count` pages hold them. */
typedef struct {
    uint64_t most;
    uint64_t rows;
    uint64_t begun;
    int32_t *owner;
    uint64_t *frame;
    uint64_t *pages;
    int8_t *state;
    uint32_t *content;
    uint8_t *first;
    uint32_t *which;
    uint32_t *count;
} ps_row_room;

/* Makes the next `most` rows; less where these are the last. */
ps_status ps_rows_make(ps_row_source *from, ps_row_room *to, const ps_control *control);

/* ---- peek.c ---- */

/* keys[i] becomes a key of the 64 bytes from 64 * line on of pages[i]: 0 if they are all zero, else the same number for the
 * same bytes and seed. A line beyond the page is PS_INVALID. */
ps_status ps_space_peek(ps_space *space, const uint32_t *pages, size_t count, uint32_t line, uint64_t seed, uint32_t *keys);
/* to_pages[i] gets the bytes of from_pages[i], one after the other: of spaces with pages of one size, the first of which
 * can be written to. */
ps_status ps_space_copy(ps_space *to, const uint32_t *to_pages, ps_space *from, const uint32_t *from_pages, size_t count);
/* hashes[i] becomes XXH3-64 of pages[i]. Of control only `stop` and `done` are used. */
ps_status ps_space_hash(ps_space *space, const uint32_t *pages, size_t count, uint64_t seed, uint64_t *hashes,
                        ps_control *control);
/* digests[16 * i ..] becomes XXH3-128 of pages[i] of seed 0, as it is written: from the highest byte on; and, unless
 * it is NULL, kinds[i] its ps_page_kind. A page that can't be had ends it with PS_SHRANK or PS_IO_ERROR. Of control only
 * `stop` and `done` are used. */
ps_status ps_space_digest(ps_space *space, const uint32_t *pages, size_t count, uint8_t *digests, uint8_t *kinds,
                          ps_control *control);

/* Most keys of a sketch. */
#define PS_SKETCH_MAX 64
/* sketches[i * keys .. + keys - 1] become keys of pages[i] that tell similar pages: its words of 8 bytes, but for those that
 * are zero, are divided into `keys` parts by a hash; the key of each is that of the word that hashes least, 0 if there is
 * none. Pages of different domains have different ones. Of control only `stop` and `done` are used. */
ps_status ps_space_sketch(ps_space *space, const uint32_t *pages, size_t count, uint32_t keys, uint64_t seed,
                          uint32_t *sketches, ps_control *control);
/* `to` gets the bytes of pages[0], pages[1] .. one behind the other. */
ps_status ps_space_gather(ps_space *space, const uint32_t *pages, size_t count, uint8_t *to);

/* kinds[i] becomes the ps_page_kind of pages[i]. Of control only `stop` and `done` are used. */
ps_status ps_space_kinds(ps_space *space, const uint32_t *pages, size_t count, uint8_t *kinds, ps_control *control);

/* ---- process.c ---- */

/* Pages of a process, one behind the other. Anonymous pages that are mapped more than once must be `shared`: to read
 * them by process_vm_readv pins them, for which the kernel gives the process copies of its own (gup_must_unshare in its
 * mm/gup.c), so that looking would undo what a fork or KSM has shared. */
typedef struct {
    uint64_t address;
    uint64_t pages;
    uint64_t shared;       /* 1: they are read by /proc/PID/mem, which pins nothing */
} ps_run;

/* What a page was when it was read. */
typedef enum {
    PS_PAGE_DATA = 0,
    PS_PAGE_ZERO = 1,
    PS_PAGE_UNREADABLE = 2 /* unmapped since, or the kernel keeps it from everybody */
} ps_page_state;

/* Reads the pages of `runs` of a running process, which is not stopped, through `buffer` (at least a page; what fits into
 * the L2 cache is best). hashes[2i], hashes[2i + 1] become the XXH3-128 of page i of all runs, low word first, 0 where it
 * can't be read; states[i] a ps_page_state. `mem` is its /proc/PID/mem, for shared pages and for those without read permission; -1: none.
 * With PS_GONE, PS_REFUSED and PS_STOPPED the first `control->done` pages more than before are valid. */
ps_status ps_process_hash(int32_t pid, int32_t mem, const ps_run *runs, size_t run_count, uint32_t page_bytes, uint64_t seed,
                          uint8_t *buffer, size_t buffer_bytes, uint64_t *hashes, uint8_t *states, ps_control *control);
/* words[i] becomes the 64-bit word number places[i] (ascending) of a file such as /proc/kpageflags; 0 beyond its end.
 * PS_REFUSED where it can't be read. Of control only `stop` is used. */
ps_status ps_read_words(int32_t fd, const uint64_t *places, size_t count, uint64_t *words, const ps_control *control);

/* ---- lab.c ---- */

/* What was done to a page of a simulated guest: bits. */
typedef enum {
    PS_TOUCH_READ = 1,
    PS_TOUCH_WRITTEN = 2,
    PS_TOUCH_ZERO = 4,     /* what was written left all bytes zero */
    PS_TOUCH_RELEASED = 8  /* there is no more use for it */
} ps_touch_kind;

/* Of each page of a guest: when it was touched, touched by the guest's own work and written; whether it is zero, free, and
 * was written by its last touch; the thread of that. */
typedef struct {
    int64_t *touched;
    int64_t *worked;
    int64_t *written;
    uint8_t *zero;
    uint8_t *free;
    uint8_t *wrote;
    uint16_t *thread;
    uint32_t pages;
} ps_lab_memory;

/* Of touches: a value for all (step 0), or one each (step 1). `kinds` are ps_touch_kind. */
typedef struct {
    const uint8_t *kinds;
    const uint8_t *work;
    const uint16_t *thread;
    size_t kinds_step;
    size_t work_step;
    size_t thread_step;
} ps_lab_touches;

/* `count` pages are touched in turn, those that are read or written; of a page's touches at one time the first is
 * remembered as such. PS_INVALID for a page that there is not: those before it were touched. */
ps_status ps_lab_touch(const ps_lab_memory *memory, int64_t now, const uint32_t *pages, size_t count,
                       const ps_lab_touches *how);

/* Places of pages that need nothing to be touched: in frames of their own; and shared ones, unless they are written. */
typedef struct {
    uint8_t resident;
    uint8_t shared;
} ps_lab_places;

/* A guest whose programs have `count` pages: at which of the guest's each of these is (-1: at none) and what it holds; of
 * the guest's pages the place, the frame, and what stands for the bytes, `words` each (NULL: nothing); of frames what
 * they hold. */
typedef struct {
    const ps_lab_memory *memory;
    const int32_t *at;
    uint64_t *held;
    const uint8_t *place;
    const int32_t *frame;
    uint64_t *content;
    uint64_t *stand_in;
    size_t words;
    uint64_t count;
    ps_lab_places places;
} ps_lab_guest;

/* Programs' pages, numbered from `offset` on, are touched, and those that are written get contents: fresh + i, if that is
 * NULL. 0, and nothing is done, unless none of them needs anything, and none is released. */
int32_t ps_lab_use(const ps_lab_guest *guest, int64_t now, const uint32_t *pages, size_t count, uint64_t offset,
                   const ps_lab_touches *how, const uint64_t *contents, uint64_t fresh);
/* Whether none of the pages needs anything to be touched, and written where `write` (NULL: nowhere). */
int32_t ps_lab_ready(const uint8_t *place, ps_lab_places places, const uint32_t *pages, size_t count, const uint8_t *write);
/* The frames of pages, where they are written, get contents; so do, unless it is NULL, their stand-ins, `words` each. */
void ps_lab_store(const int32_t *frame, uint64_t *content, uint64_t *stand_in, size_t words, const uint32_t *pages,
                  size_t count, const uint8_t *write, const uint64_t *contents);
/* cdef: end */

#endif
