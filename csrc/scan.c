/*
 * scan.c - the batch loop over the frame table.
 *
 * A chunk of pages goes through five steps, so that the cache misses of many pages overlap: hash, look at the bucket,
 * walk the chain (to the page to compare with), compare, and last the decision, page after page, with the outcomes of
 * sequential execution: hashing and comparing early change nothing, since only the last step changes the table.
 *
 * Nothing else is fetched while pages are hashed: where single lines from here and there were (on a Xeon that seems to be
 * a Granite Rapids), pages took half as long again for ten microseconds or more after it, as if the hardware had stopped
 * streaming. So chunks are large, too (64 pages: a quarter slower).
 *
 * Random pages: the hardware walks the TLB and streams a page by itself once its first lines are asked for;
 * asking for all of them in software is slower.
 */
#include <stdlib.h>

#include "internal.h"

typedef struct {
    const uint8_t *bytes;      /* NULL: shared already, or unreadable */
    uint64_t key;
    uint32_t page;
    uint32_t candidate;        /* the entry that it will be compared with first, or PS_NONE */
    bool equal;                /* to that */
    bool zero;
    bool unreadable;
} item;

static bool is_shared(const ps_table *table, uint32_t page)
{
    return ps_table_state(table, page) >= PS_STATE_HEAD;
}

/* Reads the run of pages that begins at items[0] and lies in one piece in its file; how many these were. */
static size_t read_run(ps_table *table, item *items, size_t count, uint8_t *to)
{
    ps_space *space = table->space;
    const ps_segment *segment = ps_space_find(space, items[0].page);
    uint64_t offset = ps_segment_offset(space, segment, items[0].page);
    size_t run = 1;

    while (run < count && items[run].page == items[0].page + run && ps_space_find(space, items[run].page) == segment)
        run++;
    ps_status status = ps_space_read(space, segment->source, offset, run, to);
    for (size_t i = 0; i < run; i++) {
        uint8_t *page = to + i * space->page_bytes;
        /* A run that can't be read as a whole is read page by page: only the bad ones are lost. */
        items[i].unreadable = status != PS_OK && ps_space_read(space, segment->source,
                                                               offset + i * space->page_bytes, 1, page) != PS_OK;
        items[i].bytes = items[i].unreadable ? NULL : page;
    }
    return run;
}

/* Finds the bytes of every page of the chunk that has to be looked at. */
static ps_status locate(ps_table *table, item *items, size_t count)
{
    for (size_t i = 0; i < count;) {
        const ps_source *source = &table->space->sources[ps_space_find(table->space, items[i].page)->source];
        if (is_shared(table, items[i].page)) {
            i++;
        } else if (source->base) {
            items[i].bytes = ps_space_address(table->space, items[i].page);
            i++;
        } else {
            if (!table->block)
                table->block = malloc((size_t)table->chunk * table->space->page_bytes);
            if (!table->block)
                return PS_NO_MEMORY;
            i += read_run(table, items + i, count - i, table->block + i * table->space->page_bytes);
        }
    }
    return PS_OK;
}

/* What follows from the hash of a page. Zero pages are hashed as well: whether a page is zero can't be foretold, and to
 * guess wrong costs more than its hash does. */
static void enter_hash(const ps_table *table, item *found, uint64_t hash)
{
    const ps_space *space = table->space;
    uint32_t domain = space->sources[ps_space_find(space, found->page)->source].domain;

    found->zero = hash == table->zero_hash && ps_is_zero_page(table->kernel, found->bytes, space->page_bytes);
    found->key = ps_table_key(table, hash, domain);
}

/* Pages one behind the other are hashed one by one, and stream by themselves; others four in lockstep, while the first
 * lines of the next four come in. */
static void hash(const ps_table *table, item *items, size_t count)
{
    const uint8_t *at[PS_CHUNK_MAX + 2 * PS_ABREAST];
    size_t found = 0, which[PS_CHUNK_MAX], bytes = table->space->page_bytes;

    for (size_t i = 0; i < count; i++) {
        at[found] = items[i].bytes;
        which[found] = i;
        found += items[i].bytes != NULL;
    }
    for (size_t i = found; found && i < found + 2 * PS_ABREAST; i++)
        at[i] = at[found - 1];
    for (size_t done = 0; done < found; done += PS_ABREAST) {
        uint64_t hashes[PS_ABREAST];
        bool stream = true;

        for (size_t i = done; i < done + PS_ABREAST; i++) {
            stream = stream && (i == done || at[i] == at[i - 1] + bytes);
            if (at[i + PS_ABREAST] != at[i + PS_ABREAST - 1] + bytes)
                ps_prefetch_page(at[i + PS_ABREAST]);
        }
        if (!stream)
            table->kernel->hashes64(&table->key, at + done, bytes, hashes);
        for (size_t i = 0; i < PS_ABREAST && done + i < found; i++) {
            if (stream)
                hashes[i] = table->kernel->hash64(&table->key, at[done + i], bytes);
            enter_hash(table, &items[which[done + i]], hashes[i]);
        }
    }
}

/* Finds the entry that each page will be compared with first. */
static void find_candidates(const ps_table *table, item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!items[i].bytes)
            continue;
        __builtin_prefetch(&table->buckets[ps_table_bucket(table, (uint32_t)items[i].key)]);
        __builtin_prefetch(&table->entries[items[i].page], 1);
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t entry = PS_NONE;
        /* A hint of its own that is not right any more will be taken from the chain of its old hash. */
        if (items[i].bytes && ps_table_state(table, items[i].page) == PS_STATE_HINT)
            __builtin_prefetch(&table->buckets[ps_table_bucket(table, table->entries[items[i].page].tag)], 1);
        if (items[i].bytes && !items[i].zero)
            entry = table->buckets[ps_table_bucket(table, (uint32_t)items[i].key)];
        if (entry != PS_NONE) {
            __builtin_prefetch(&table->entries[entry]);
            __builtin_prefetch(&table->states[entry >> 2]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        items[i].candidate = PS_NONE;
        if (items[i].bytes && !items[i].zero)
            items[i].candidate = ps_table_candidate(table, items[i].page, (uint32_t)items[i].key);
    }
}

/* Compares pages with their candidates, four pairs in lockstep: partners lie anywhere. */
static void compare_candidates(const ps_table *table, item *items, size_t count)
{
    const uint8_t *pages[PS_CHUNK_MAX + 2 * PS_ABREAST], *partners[PS_CHUNK_MAX + 2 * PS_ABREAST];
    size_t found = 0, which[PS_CHUNK_MAX];

    for (size_t i = 0; i < count; i++) {
        if (items[i].candidate == PS_NONE)
            continue;
        /* Of a frame: the member beside which the page will be put. */
        if (table->entries[items[i].candidate].next != PS_NONE)
            __builtin_prefetch(&table->entries[table->entries[items[i].candidate].next], 1);
        partners[found] = ps_space_address(table->space, items[i].candidate);
        pages[found] = items[i].bytes;
        which[found] = i;
        if (partners[found] && found < PS_ABREAST)
            ps_prefetch_page(partners[found]);
        found += partners[found] != NULL;
    }
    for (size_t i = found; found && i < found + 2 * PS_ABREAST; i++) {
        pages[i] = pages[found - 1];
        partners[i] = partners[found - 1];
    }
    for (size_t done = 0; done < found; done += PS_ABREAST) {
        for (size_t i = done + PS_ABREAST; i < done + 2 * PS_ABREAST; i++)
            ps_prefetch_page(partners[i]);
        unsigned equal = table->kernel->equals(pages + done, partners + done, table->space->page_bytes);
        for (size_t i = done; i < done + PS_ABREAST && i < found; i++)
            items[which[i]].equal = equal >> (i - done) & 1;
    }
}

static void decide(ps_table *table, item *items, size_t count, uint8_t *outcomes, uint32_t *partners)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t partner = PS_NONE;
        ps_outcome outcome = PS_UNREADABLE;

        if (items[i].unreadable)
            ps_table_unreadable(table, items[i].page);
        else
            outcome = ps_table_visit(table, items[i].page, items[i].bytes, items[i].key, items[i].zero,
                                     items[i].equal ? items[i].candidate : PS_NONE, &partner);
        if (outcomes)
            outcomes[i] = (uint8_t)outcome;
        if (partners)
            partners[i] = partner;
    }
}

ps_status ps_table_scan(ps_table *table, const uint32_t *pages, uint32_t first, size_t count, uint8_t *outcomes,
                        uint32_t *partners, ps_control *control, size_t *scanned)
{
    const ps_space *space = table->space;
    ps_status status = ps_space_status(space);

    *scanned = 0;
    if (status != PS_OK)
        return status;
    if (!pages && (first > space->pages || count > space->pages - first))
        return PS_INVALID;
    for (size_t i = 0; pages && i < count; i++)
        if (pages[i] >= space->pages)
            return PS_INVALID;

    for (size_t at = 0; at < count; at += table->chunk) {
        item items[PS_CHUNK_MAX];
        size_t n = count - at < table->chunk ? count - at : table->chunk;

        if (ps_stopped(control))
            return PS_STOPPED;
        for (size_t i = 0; i < n; i++)
            items[i] = (item){.page = pages ? pages[at + i] : first + (uint32_t)(at + i)};
        status = locate(table, items, n);
        if (status != PS_OK)
            return status;
        hash(table, items, n);
        find_candidates(table, items, n);
        compare_candidates(table, items, n);
        decide(table, items, n, outcomes ? outcomes + at : NULL, partners ? partners + at : NULL);
        /* Bytes that were not there may have been taken for zeros: nothing of this chunk counts. */
        status = ps_space_status(space);
        if (status != PS_OK)
            return status;
        *scanned += n;
        ps_advance(control, n);
    }
    return PS_OK;
}
