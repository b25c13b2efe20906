/*
 * group.c - the second stage of a census: a counting sort of the open pages by their heads.
 *
 * Each thread goes through all pages, but counts and places only the members of its own heads: counters that threads
 * share would go from core to core with every member of a large group.
 */
#include <string.h>

#include "census.h"

typedef ps_census_state census;

static void clear_counts(census *c, uint32_t block)
{
    uint32_t first = block * c->block, end = ps_block_end(c, block);

    for (uint64_t page = first; page < end; page += 64)
        if (c->open[page / 64])
            memset(c->counts + page, 0, 64 * sizeof *c->counts);
    memset(c->heads + first / 64, 0, (end - first + 63) / 64 * sizeof *c->heads);
}

/* The open pages of a block that are not their own head, but have it in this part. */
static uint32_t members_of(const census *c, uint32_t block, uint32_t part, uint32_t *members)
{
    uint32_t count = 0, end = ps_block_end(c, block);

    for (uint64_t first = block * c->block; first < end; first += 64) {
        uint64_t bits = c->open[first / 64];
        uint32_t page = (uint32_t)first, pages = end - page < 64 ? end - page : 64;
        for (uint32_t i = 0; bits && i < pages; i++) {
            uint32_t head = c->canonical[page + i];
            members[count] = page + i;
            count += (bits >> i & 1) & (head != page + i) & (ps_part_of(head, c->parts) == part);
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

/* Adds the members of a part to the counters of their heads; these may stand for the place of the next one in `sorted`,
 * where they are put then, in ascending order. */
static void count_members(census *c, uint32_t part, bool place)
{
    for (uint32_t block = 0; block < c->blocks && !ps_leaving(c); block++) {
        uint32_t members[PS_BLOCK_MAX], count = members_of(c, block, part, members);

        for (uint32_t i = 0, run; i < count; i += run) {
            run = run_of(c, members, count, i);
            if (i + PS_LOOKUP_AHEAD < count)
                __builtin_prefetch(&c->counts[c->canonical[members[i + PS_LOOKUP_AHEAD]]], 1);
            uint32_t *counter = &c->counts[c->canonical[members[i]]];
            if (place)
                memcpy(c->sorted + *counter, members + i, run * sizeof *members);
            *counter += run;
        }
    }
}

static void number_members(census *c, uint32_t part)
{
    count_members(c, part, false);
}

static void place_members(census *c, uint32_t part)
{
    count_members(c, part, true);
}

void ps_count_groups(census *c)
{
    for (uint32_t block = 0; block < c->blocks; block++)
        clear_counts(c, block);
    count_members(c, 0, false);
}

/* How many entries of the sorted list the groups of this block's heads take. Where a word of `open` is not 0, all its
 * pages have counters, those of closed pages being 0. */
static void count_entries(census *c, uint32_t block)
{
    uint32_t sum = 0, end = ps_block_end(c, block);

    for (uint64_t page = block * c->block; page < end; page += 64)
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

    for (uint64_t page = block * c->block; page < end; page += 64)
        for (uint64_t i = page; c->open[page / 64] && i < page + 64; i++) {
            uint32_t count = c->counts[i];
            if (!count)
                continue;
            c->sorted[place] = (uint32_t)i;
            ps_set_bit(c->heads, place);
            c->counts[i] = place + 1;
            /* Chunks that begin among its members. */
            for (uint64_t chunk = place / c->chunk + 1; chunk * c->chunk <= (uint64_t)place + count; chunk++)
                c->chunk_heads[chunk] = (uint32_t)i;
            place += count + 1;
        }
}

/* From here on `open` is about the next round. */
static void close_all(census *c)
{
    memset(c->open, 0, ((uint64_t)c->pages / 64 + 1) * sizeof *c->open);
}

void ps_group(census *c)
{
    ps_each(c, c->blocks, clear_counts, NULL);
    ps_each(c, c->parts, number_members, NULL);
    ps_each(c, c->blocks, count_entries, place_blocks);
    ps_each(c, c->blocks, place_heads, NULL);
    ps_each(c, c->parts, place_members, close_all);
}
