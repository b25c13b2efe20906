/*
 * frame_table.c - hints and shared frames, as VMware ESX keeps them (Waldspurger, OSDI 2002, section 4.2).
 *
 * One hash table for all pages. A page seen for the first time leaves a hint: nothing is promised about it,
 * it may change at any time. When another page has the hint's hash, the two are compared byte by byte, and
 * if equal become one frame: shared, to be written only after ps_table_write(). A hint whose page has changed
 * is found out when it is used, and dropped.
 *
 * Differences from ESX, each of which keeps the counts exact: pages with equal hash and different bytes each
 * get an entry of their own; equality is asked first and the hint rehashed only if its bytes differ (a hint
 * with equal bytes is as good as an unchanged one); a frame has no bytes of its own but is read through one of
 * its members; the reference count has 32 bits, since the layout (internal.h) has them to spare, and so needs no
 * overflow table.
 *
 * At most 16 bytes a page: 12 for the entry, 1/4 for the state, 3 1/2 for the buckets.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- small parts ---- */

static uint64_t random_below(ps_table *table, uint64_t limit)
{
    table->random = ps_mix(table->random);
    __extension__ unsigned __int128 product = (unsigned __int128)table->random * limit;
    return (uint64_t)(product >> 64);
}

static void set_state(ps_table *table, uint32_t page, ps_state state)
{
    unsigned shift = (page & 3) * 2;
    uint8_t *at = &table->states[page >> 2];
    *at = (uint8_t)((*at & ~(3u << shift)) | (unsigned)state << shift);
}

uint64_t ps_table_key(const ps_table *table, uint64_t hash, uint32_t domain)
{
    return (hash ^ ps_mix(table->key.seed ^ (uint64_t)domain << 32)) & table->hash_mask;
}

const uint8_t *ps_table_bytes(const ps_table *table, uint32_t page)
{
    const uint8_t *address = ps_space_address(table->space, page);
    if (address)
        return address;
    const ps_segment *segment = ps_space_find(table->space, page);
    uint64_t offset = ps_segment_offset(table->space, segment, page);
    ps_status status = ps_space_read(table->space, segment->source, offset, 1, table->scratch);
    if (status == PS_IO_ERROR)
        ps_space_went_bad(table->space, page);
    return status == PS_OK ? table->scratch : NULL;
}

/* ---- chains ---- */

/* At the head of the chain of its tag. */
static void put_first(ps_table *table, uint32_t page)
{
    uint32_t *bucket = &table->buckets[ps_table_bucket(table, table->entries[page].tag)];
    table->entries[page].link = *bucket;
    *bucket = page;
}

static void push(ps_table *table, uint32_t page, uint32_t tag)
{
    table->entries[page] = (ps_entry){.tag = tag, .next = PS_NONE};
    put_first(table, page);
}

/* The place that holds `page` in its chain. */
static uint32_t *place_of(ps_table *table, uint32_t page)
{
    uint32_t *place = &table->buckets[ps_table_bucket(table, table->entries[page].tag)];
    while (*place != page)
        place = &table->entries[*place].link;
    return place;
}

static void no_entry(ps_table *table, uint32_t page, ps_last last)
{
    set_state(table, page, PS_STATE_NONE);
    table->entries[page].next = last;
}

static void forget_hint(ps_table *table, uint32_t page, uint32_t *place)
{
    *place = table->entries[page].link;
    no_entry(table, page, PS_LAST_NOTHING);
    table->stats.hints--;
}

static void add_hint(ps_table *table, uint32_t page, uint32_t tag)
{
    push(table, page, tag);
    set_state(table, page, PS_STATE_HINT);
    table->stats.hints++;
}

/* ---- frames ---- */

/* Makes an entry of a chain the head of a frame of one. */
static void open_frame(ps_table *table, uint32_t page)
{
    set_state(table, page, PS_STATE_HEAD);
    table->entries[page].next = PS_NONE;
    table->stats.frames++;
    table->stats.lone_frames++;
    table->stats.members++;
}

static void join(ps_table *table, uint32_t page, uint32_t head)
{
    ps_entry *entries = table->entries;
    uint32_t first = entries[head].next, size = ps_frame_size(table, head);

    if (first == PS_NONE) {
        table->stats.lone_frames--;
    } else {
        entries[first].link = page;
        entries[first].tag = head;
    }
    entries[page] = (ps_entry){.link = head, .tag = size + 1, .next = first};
    entries[head].next = page;
    set_state(table, page, PS_STATE_MEMBER);
    table->stats.members++;
    if (ps_frame_is_full(table, head))
        *place_of(table, head) = entries[head].link;
}

/* Takes a member that is not the head out of its frame. */
static void leave(ps_table *table, uint32_t member, uint32_t head)
{
    ps_entry *entries = table->entries;
    uint32_t size = ps_frame_size(table, head), next = entries[member].next;

    if (ps_frame_is_full(table, head))
        put_first(table, head);
    if (entries[member].link == head) {
        entries[head].next = next;
        if (next != PS_NONE)
            entries[next].link = head;
    } else {
        entries[entries[member].link].next = next;
        if (next != PS_NONE)
            entries[next].link = entries[member].link;
    }
    if (size == 2)
        table->stats.lone_frames++;
    else
        entries[entries[head].next].tag = size - 1;
    no_entry(table, member, PS_LAST_NOTHING);
    table->stats.members--;
}

/* Takes the head out of its frame: a member drawn at random becomes the head, or the frame goes. */
static void leave_as_head(ps_table *table, uint32_t head)
{
    ps_entry *entries = table->entries;
    uint32_t size = ps_frame_size(table, head);
    uint32_t *zero_frame = &table->zero_frames[ps_table_source(table, head)->domain];
    uint32_t heir = PS_NONE;

    if (size > 1) {
        heir = entries[head].next;
        for (uint64_t steps = random_below(table, size - 1); steps; steps--)
            heir = entries[heir].next;
        leave(table, heir, head);
        uint32_t *place = place_of(table, head);
        entries[heir] = entries[head];
        set_state(table, heir, PS_STATE_HEAD);
        uint32_t first = entries[heir].next;
        if (first != PS_NONE) {
            entries[first].link = heir;
            for (uint32_t other = entries[first].next; other != PS_NONE; other = entries[other].next)
                entries[other].tag = heir;
        }
        *place = heir;
    } else {
        *place_of(table, head) = entries[head].link;
        table->stats.frames--;
        table->stats.lone_frames--;
        table->stats.members--;
    }
    if (*zero_frame == head)
        *zero_frame = heir;
    no_entry(table, head, PS_LAST_NOTHING);
}

/* ---- looking at a page ---- */

uint32_t ps_table_candidate(const ps_table *table, uint32_t page, uint32_t tag)
{
    uint32_t entry = table->buckets[ps_table_bucket(table, tag)];
    while (entry != PS_NONE && (table->entries[entry].tag != tag || entry == page))
        entry = table->entries[entry].link;
    return entry;
}

/* The entry that holds the same bytes in the same domain and has room, or PS_NONE. A frame goes before a hint:
 * a hint page that has changed may by now hold what a frame of the same tag holds, and must not open a second one.
 * Hints that turn out to have changed are dropped on the way (*stale: the last of them); *unlike is one with the
 * same hash and other bytes. `equal` is known to hold the same bytes, or PS_NONE. */
static uint32_t find_equal(ps_table *table, uint32_t page, const uint8_t *bytes, uint64_t key, uint32_t domain,
                           uint32_t equal, uint32_t *stale, uint32_t *unlike)
{
    uint32_t *place = &table->buckets[ps_table_bucket(table, (uint32_t)key)], hint = PS_NONE;

    while (*place != PS_NONE) {
        uint32_t entry = *place;
        bool is_hint = ps_table_state(table, entry) == PS_STATE_HINT;
        const uint8_t *theirs = NULL;

        if (entry != page && table->entries[entry].tag == (uint32_t)key &&
            ps_table_source(table, entry)->domain == domain && (!is_hint || hint == PS_NONE))
            theirs = ps_table_bytes(table, entry);
        if (theirs) {
            table->stats.compares++;
            if (entry == equal || table->kernel->equal(bytes, theirs, table->space->page_bytes)) {
                if (!is_hint)
                    return entry;
                hint = entry;
            }
        }
        if (theirs && hint == PS_NONE) {
            table->stats.rehashes++;
            uint64_t hash = table->kernel->hash64(&table->key, theirs, table->space->page_bytes);
            uint64_t their_key = ps_table_key(table, hash, domain);
            if (their_key == key) {
                table->stats.false_matches++;
                *unlike = entry;
            } else if (is_hint && (uint32_t)their_key != (uint32_t)key) {
                table->stats.stale_hints++;
                *stale = entry;
                forget_hint(table, entry, place);
                no_entry(table, entry, PS_LAST_STALE);
                continue;
            }
        }
        place = &table->entries[entry].link;
    }
    return hint;
}

/* Without checksums always; else if the page's is that of its last visit. Remembers it for the next. */
static bool is_calm(ps_table *table, uint32_t page, uint32_t checksum)
{
    if (!table->checksums)
        return true;
    bool calm = table->checksums[page] == checksum;
    table->checksums[page] = checksum;
    return calm;
}

ps_outcome ps_table_visit(ps_table *table, uint32_t page, const uint8_t *bytes, uint64_t key, bool zero,
                          uint32_t equal, uint32_t *partner)
{
    uint32_t tag = (uint32_t)key, domain = ps_table_source(table, page)->domain;
    uint32_t match = PS_NONE, stale = PS_NONE, unlike = PS_NONE;

    zero = zero && !(table->options & PS_ZERO_ORDINARY);
    *partner = PS_NONE;
    switch (ps_table_state(table, page)) {
    case PS_STATE_HEAD:
        *partner = table->entries[page].next;
        return PS_ALREADY_SHARED;
    case PS_STATE_MEMBER:
        *partner = ps_frame_head(table, page);
        return PS_ALREADY_SHARED;
    case PS_STATE_HINT:
        /* A page has at most one entry: changed, its old hint goes first. A zero page is never a hint. */
        if (table->entries[page].tag != tag || zero)
            forget_hint(table, page, place_of(table, page));
        break;
    case PS_STATE_NONE:
        no_entry(table, page, PS_LAST_NOTHING);
        break;
    }
    table->stats.visits++;

    bool accepted = zero || (tag >= table->accept_first && tag <= table->accept_last);
    if (!accepted || !is_calm(table, page, tag)) {
        if (ps_table_state(table, page) == PS_STATE_HINT)
            forget_hint(table, page, place_of(table, page));
        return accepted ? PS_VOLATILE : PS_PASSED_OVER;
    }
    if (zero && table->zero_frames[domain] != PS_NONE)
        match = table->zero_frames[domain];
    else
        match = find_equal(table, page, bytes, key, domain, equal, &stale, &unlike);
    bool was_hinted = ps_table_state(table, page) == PS_STATE_HINT;

    if (match != PS_NONE) {
        bool hint_hit = ps_table_state(table, match) == PS_STATE_HINT;
        if (was_hinted)
            forget_hint(table, page, place_of(table, page));
        if (hint_hit) {
            table->stats.hints--;
            open_frame(table, match);
        }
        if (zero)
            table->zero_frames[domain] = match;
        join(table, page, match);
        *partner = match;
        return zero ? PS_ZERO : hint_hit ? PS_SHARED_NEW : PS_SHARED;
    }
    if (was_hinted)
        return PS_ALREADY_HINTED;
    if (zero) {
        push(table, page, tag);
        open_frame(table, page);
        table->zero_frames[domain] = page;
        return PS_ZERO;
    }
    add_hint(table, page, tag);
    *partner = stale != PS_NONE ? stale : unlike;
    return stale != PS_NONE ? PS_STALE_HINT : unlike != PS_NONE ? PS_FALSE_MATCH : PS_HINTED;
}

void ps_table_unreadable(ps_table *table, uint32_t page)
{
    if (ps_table_state(table, page) == PS_STATE_NONE)
        no_entry(table, page, PS_LAST_UNREADABLE);
    else
        ps_space_went_bad(table->space, page);
}

ps_status ps_table_write(ps_table *table, const uint32_t *pages, size_t count, uint8_t *broken)
{
    for (size_t i = 0; i < count; i++)
        if (pages[i] >= table->pages)
            return PS_INVALID;
    for (size_t i = 0; i < count; i++) {
        ps_state state = ps_table_state(table, pages[i]);
        bool breaks = state == PS_STATE_HEAD || state == PS_STATE_MEMBER;
        if (state == PS_STATE_HEAD)
            leave_as_head(table, pages[i]);
        else if (state == PS_STATE_MEMBER)
            leave(table, pages[i], ps_frame_head(table, pages[i]));
        table->stats.cow_breaks += breaks;
        if (broken)
            broken[i] = breaks;
    }
    return PS_OK;
}

void ps_table_drop_hints(ps_table *table)
{
    for (uint32_t i = 0; i < table->bucket_count; i++) {
        uint32_t *place = &table->buckets[i];
        while (*place != PS_NONE) {
            if (ps_table_state(table, *place) == PS_STATE_HINT)
                forget_hint(table, *place, place);
            else
                place = &table->entries[*place].link;
        }
    }
}

void ps_table_accept(ps_table *table, uint32_t first, uint32_t last)
{
    table->accept_first = first;
    table->accept_last = last;
}

/* ---- life ---- */

static uint64_t entries_bytes(const ps_table *table)
{
    return (uint64_t)table->pages * sizeof *table->entries;
}

static uint64_t states_bytes(const ps_table *table)
{
    return (uint64_t)table->pages / 4 + 1;
}

static uint64_t buckets_bytes(const ps_table *table)
{
    return (uint64_t)table->bucket_count * sizeof *table->buckets;
}

static uint64_t checksums_bytes(const ps_table *table)
{
    return (uint64_t)table->pages * sizeof *table->checksums;
}

void ps_table_free(ps_table *table)
{
    if (!table)
        return;
    ps_release(table->entries, entries_bytes(table));
    ps_release(table->states, states_bytes(table));
    ps_release(table->buckets, buckets_bytes(table));
    ps_release(table->checksums, checksums_bytes(table));
    free(table->zero_frames);
    free(table->scratch);
    free(table->block);
    free(table);
}

ps_status ps_table_new(ps_table **out, ps_space *space, const ps_table_config *config)
{
    if (config->hash_bits > 64 || config->max_refs == 1 ||
        (config->options & ~(uint32_t)(PS_CHECKSUM | PS_ZERO_ORDINARY)) ||
        (config->kernel != -1 && !ps_kernel_usable(config->kernel)))
        return PS_INVALID;
    for (uint32_t i = 0; i < space->source_count; i++)
        if (space->sources[i].domain == UINT32_MAX)
            return PS_INVALID;
    ps_table *table = calloc(1, sizeof *table);
    if (!table)
        return PS_NO_MEMORY;
    table->space = space;
    table->pages = space->pages;
    table->kernel = space->page_bytes == PS_FINGERPRINT_BYTES
                        ? ps_fingerprint_kernel()
                        : ps_kernel_at(config->kernel < 0 ? ps_kernel_best() : config->kernel);
    ps_hash_key_init(&table->key, config->seed);
    table->hash_mask = config->hash_bits == 64 ? ~(uint64_t)0 : ((uint64_t)1 << config->hash_bits) - 1;
    table->random = ps_mix(config->seed);
    table->max_refs = config->max_refs;
    table->options = config->options;
    table->accept_last = UINT32_MAX;
    table->bucket_count = (uint32_t)((uint64_t)table->pages * 7 / 8 + 1);
    table->chunk = (uint32_t)(ps_l2_bytes() / 2 / space->page_bytes);
    table->chunk = table->chunk < PS_CHUNK_MIN ? PS_CHUNK_MIN : table->chunk;
    table->chunk = table->chunk > PS_CHUNK_MAX ? PS_CHUNK_MAX : table->chunk;
    for (uint32_t i = 0; i < space->source_count; i++)
        if (space->sources[i].domain >= table->domain_count)
            table->domain_count = space->sources[i].domain + 1;

    table->entries = ps_reserve(entries_bytes(table));
    table->states = ps_reserve(states_bytes(table));
    table->buckets = ps_reserve(buckets_bytes(table));
    if (config->options & PS_CHECKSUM)
        table->checksums = ps_reserve(checksums_bytes(table));
    table->zero_frames = malloc(((size_t)table->domain_count + 1) * sizeof *table->zero_frames);
    table->scratch = calloc(1, space->page_bytes);
    if (!table->entries || !table->states || !table->buckets || !table->zero_frames || !table->scratch ||
        ((config->options & PS_CHECKSUM) && !table->checksums)) {
        ps_table_free(table);
        return PS_NO_MEMORY;
    }
    memset(table->buckets, 0xff, buckets_bytes(table));
    memset(table->zero_frames, 0xff, ((size_t)table->domain_count + 1) * sizeof *table->zero_frames);
    table->zero_hash = space->page_bytes == PS_FINGERPRINT_BYTES
                           ? config->zero_hash
                           : table->kernel->hash64(&table->key, table->scratch, space->page_bytes);
    *out = table;
    return PS_OK;
}

void ps_table_get_stats(const ps_table *table, ps_table_stats *stats)
{
    *stats = table->stats;
    stats->bytes = sizeof *table + entries_bytes(table) + states_bytes(table) + buckets_bytes(table) +
                   (table->checksums ? checksums_bytes(table) : 0) +
                   table->domain_count * sizeof *table->zero_frames +
                   (table->block ? table->chunk + 1 : 1) * (uint64_t)table->space->page_bytes +
                   ps_space_bytes(table->space);
}
