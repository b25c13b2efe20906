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
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

/* ---- small parts ---- */

/* The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static uint64_t random_below(ps_table *table, uint64_t limit)
{
    table->random = mix(table->random);
    __extension__ unsigned __int128 product = (unsigned __int128)table->random * limit;
    return (uint64_t)(product >> 64);
}

static void set_state(ps_table *table, uint32_t page, ps_state state)
{
    unsigned shift = (page & 3) * 2;
    uint8_t *at = &table->states[page >> 2];
    *at = (uint8_t)((*at & ~(3u << shift)) | (unsigned)state << shift);
}

static const ps_source *source_of(const ps_table *table, uint32_t page)
{
    return &table->space->sources[ps_space_find(table->space, page)->source];
}

uint64_t ps_table_key(const ps_table *table, uint64_t hash, uint32_t domain)
{
    return (hash ^ mix(table->key.seed ^ (uint64_t)domain << 32)) & table->hash_mask;
}

static uint64_t zero_key(const ps_table *table, uint32_t domain)
{
    return ps_table_key(table, table->zero_hash, domain);
}

/* The bytes of a page other than the one being visited; NULL if they can't be had. */
static const uint8_t *bytes_of(const ps_table *table, uint32_t page)
{
    const uint8_t *address = ps_space_address(table->space, page);
    if (address)
        return address;
    const ps_segment *segment = ps_space_find(table->space, page);
    uint64_t offset = ps_segment_offset(table->space, segment, page);
    return ps_space_read(table->space, segment->source, offset, 1, table->scratch) == PS_OK ? table->scratch : NULL;
}

/* ---- chains ---- */

static void push(ps_table *table, uint32_t page, uint32_t tag)
{
    uint32_t *bucket = &table->buckets[ps_table_bucket(table, tag)];
    table->entries[page] = (ps_entry){.link = *bucket, .tag = tag, .next = PS_NONE};
    *bucket = page;
}

/* The place that holds `page` in its chain. */
static uint32_t *place_of(ps_table *table, uint32_t page)
{
    uint32_t *place = &table->buckets[ps_table_bucket(table, table->entries[page].tag)];
    while (*place != page)
        place = &table->entries[*place].link;
    return place;
}

static void forget_hint(ps_table *table, uint32_t page, uint32_t *place)
{
    *place = table->entries[page].link;
    set_state(table, page, PS_STATE_NONE);
    table->stats.hints--;
}

static void add_hint(ps_table *table, uint32_t page, uint32_t tag)
{
    push(table, page, tag);
    set_state(table, page, PS_STATE_HINT);
    table->stats.hints++;
}

/* ---- frames ---- */

static uint32_t frame_size(const ps_table *table, uint32_t head)
{
    uint32_t first = table->entries[head].next;
    return first == PS_NONE ? 1 : table->entries[first].tag;
}

static uint32_t head_of(const ps_table *table, uint32_t member)
{
    const ps_entry *entry = &table->entries[member];
    return ps_table_state(table, entry->link) == PS_STATE_HEAD ? entry->link : entry->tag;
}

static bool is_full(const ps_table *table, uint32_t head)
{
    return table->max_refs && frame_size(table, head) >= table->max_refs;
}

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
    uint32_t first = entries[head].next, size = frame_size(table, head);

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
}

/* Takes a member that is not the head out of its frame. */
static void leave(ps_table *table, uint32_t member, uint32_t head)
{
    ps_entry *entries = table->entries;
    uint32_t size = frame_size(table, head), next = entries[member].next;

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
    set_state(table, member, PS_STATE_NONE);
    table->stats.members--;
}

/* Takes the head out of its frame: a member drawn at random becomes the head, or the frame goes. */
static void leave_as_head(ps_table *table, uint32_t head)
{
    ps_entry *entries = table->entries;
    uint32_t *place = place_of(table, head), size = frame_size(table, head);
    uint32_t *zero_frame = &table->zero_frames[source_of(table, head)->domain];
    uint32_t heir = PS_NONE;

    if (size > 1) {
        heir = entries[head].next;
        for (uint64_t steps = random_below(table, size - 1); steps; steps--)
            heir = entries[heir].next;
        leave(table, heir, head);
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
        *place = entries[head].link;
        table->stats.frames--;
        table->stats.lone_frames--;
        table->stats.members--;
    }
    if (*zero_frame == head)
        *zero_frame = heir;
    set_state(table, head, PS_STATE_NONE);
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
 * same hash and other bytes. */
static uint32_t find_equal(ps_table *table, uint32_t page, const uint8_t *bytes, uint64_t key, uint32_t domain,
                           uint32_t *stale, uint32_t *unlike)
{
    uint32_t *place = &table->buckets[ps_table_bucket(table, (uint32_t)key)], hint = PS_NONE;

    while (*place != PS_NONE) {
        uint32_t entry = *place;
        bool is_hint = ps_table_state(table, entry) == PS_STATE_HINT;
        const uint8_t *theirs = NULL;

        if (entry != page && table->entries[entry].tag == (uint32_t)key &&
            source_of(table, entry)->domain == domain && (is_hint ? hint == PS_NONE : !is_full(table, entry)))
            theirs = bytes_of(table, entry);
        if (theirs) {
            table->stats.compares++;
            if (table->kernel->equal(bytes, theirs, table->space->page_bytes)) {
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
                continue;
            }
        }
        place = &table->entries[entry].link;
    }
    return hint;
}

/* The page's checksum is that of its last visit; remembers it for the next. */
static bool is_calm(ps_table *table, uint32_t page, uint32_t checksum)
{
    if (!table->checksums)
        return true;
    bool calm = table->checksums[page] == checksum;
    table->checksums[page] = checksum;
    return calm;
}

ps_outcome ps_table_visit(ps_table *table, uint32_t page, const uint8_t *bytes, uint64_t key, bool zero,
                          uint32_t *partner)
{
    uint32_t tag = (uint32_t)key, domain = source_of(table, page)->domain;
    uint32_t match = PS_NONE, stale = PS_NONE, unlike = PS_NONE;

    *partner = PS_NONE;
    switch (ps_table_state(table, page)) {
    case PS_STATE_HEAD:
        *partner = table->entries[page].next;
        return PS_ALREADY_SHARED;
    case PS_STATE_MEMBER:
        *partner = head_of(table, page);
        return PS_ALREADY_SHARED;
    case PS_STATE_HINT:
        /* A page has at most one entry: changed, its old hint goes first. A zero page is never a hint. */
        if (table->entries[page].tag != tag || zero)
            forget_hint(table, page, place_of(table, page));
        break;
    case PS_STATE_NONE:
        break;
    }
    table->stats.visits++;

    if (zero && table->zero_frames[domain] != PS_NONE && !is_full(table, table->zero_frames[domain]))
        match = table->zero_frames[domain];
    else
        match = find_equal(table, page, bytes, key, domain, &stale, &unlike);
    bool was_hinted = ps_table_state(table, page) == PS_STATE_HINT;

    if (match != PS_NONE) {
        bool hint_hit = ps_table_state(table, match) == PS_STATE_HINT;
        if (was_hinted)
            forget_hint(table, page, place_of(table, page));
        if (hint_hit) {
            table->stats.hints--;
            open_frame(table, match);
        }
        join(table, page, match);
        if (zero)
            table->zero_frames[domain] = match;
        *partner = match;
        return zero ? PS_ZERO : hint_hit ? PS_SHARED_NEW : PS_SHARED;
    }
    if (was_hinted)
        return PS_ALREADY_HINTED;
    if (!is_calm(table, page, tag))
        return PS_VOLATILE;
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
            leave(table, pages[i], head_of(table, pages[i]));
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

/* ---- life ---- */

/* Zeroed memory, taken page by page as it is touched; huge pages spare the random accesses TLB misses. */
static void *reserve(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

static void release(void *memory, uint64_t bytes)
{
    if (memory)
        munmap(memory, bytes ? bytes : 1);
}

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
    release(table->entries, entries_bytes(table));
    release(table->states, states_bytes(table));
    release(table->buckets, buckets_bytes(table));
    release(table->checksums, checksums_bytes(table));
    free(table->zero_frames);
    free(table->scratch);
    free(table->block);
    free(table);
}

ps_status ps_table_new(ps_table **out, ps_space *space, const ps_table_config *config)
{
    if (config->hash_bits > 64 || config->max_refs == 1 || (config->options & ~(uint32_t)PS_CHECKSUM) ||
        (config->kernel != -1 && !ps_kernel_usable(config->kernel)))
        return PS_INVALID;
    ps_table *table = calloc(1, sizeof *table);
    if (!table)
        return PS_NO_MEMORY;
    table->space = space;
    table->pages = space->pages;
    table->kernel = ps_kernel_at(config->kernel < 0 ? ps_kernel_best() : config->kernel);
    ps_hash_key_init(&table->key, config->seed);
    table->hash_mask = config->hash_bits == 64 ? ~(uint64_t)0 : ((uint64_t)1 << config->hash_bits) - 1;
    table->random = mix(config->seed);
    table->max_refs = config->max_refs;
    table->bucket_count = (uint32_t)((uint64_t)table->pages * 7 / 8 + 1);
    table->chunk = (256u << 10) / space->page_bytes;
    table->chunk = table->chunk < PS_CHUNK_MIN ? PS_CHUNK_MIN : table->chunk;
    table->chunk = table->chunk > PS_CHUNK_MAX ? PS_CHUNK_MAX : table->chunk;
    for (uint32_t i = 0; i < space->source_count; i++)
        if (space->sources[i].domain >= table->domain_count)
            table->domain_count = space->sources[i].domain + 1;

    table->entries = reserve(entries_bytes(table));
    table->states = reserve(states_bytes(table));
    table->buckets = reserve(buckets_bytes(table));
    if (config->options & PS_CHECKSUM)
        table->checksums = reserve(checksums_bytes(table));
    table->zero_frames = malloc(((size_t)table->domain_count + 1) * sizeof *table->zero_frames);
    table->scratch = calloc(1, space->page_bytes);
    if (!table->entries || !table->states || !table->buckets || !table->zero_frames || !table->scratch ||
        ((config->options & PS_CHECKSUM) && !table->checksums)) {
        ps_table_free(table);
        return PS_NO_MEMORY;
    }
    memset(table->buckets, 0xff, buckets_bytes(table));
    memset(table->zero_frames, 0xff, ((size_t)table->domain_count + 1) * sizeof *table->zero_frames);
    table->zero_hash = table->kernel->hash64(&table->key, table->scratch, space->page_bytes);
    *out = table;
    return PS_OK;
}

/* ---- counting ---- */

void ps_table_get_stats(const ps_table *table, ps_table_stats *stats)
{
    *stats = table->stats;
    stats->bytes = sizeof *table + entries_bytes(table) + states_bytes(table) + buckets_bytes(table) +
                   (table->checksums ? checksums_bytes(table) : 0) +
                   table->domain_count * sizeof *table->zero_frames +
                   (table->block ? table->chunk + 1 : 1) * (uint64_t)table->space->page_bytes +
                   ps_space_bytes(table->space);
}

void ps_table_get_chains(const ps_table *table, ps_chain_stats *chains)
{
    *chains = (ps_chain_stats){.buckets = table->bucket_count};
    for (uint32_t i = 0; i < table->bucket_count; i++) {
        uint64_t length = 0;
        for (uint32_t entry = table->buckets[i]; entry != PS_NONE; entry = table->entries[entry].link)
            length++;
        chains->entries += length;
        chains->lengths[length < 15 ? length : 15]++;
        if (length > chains->longest)
            chains->longest = length;
    }
}

ps_status ps_table_classes(const ps_table *table, uint32_t first, size_t count, uint32_t *classes)
{
    if (first > table->pages || count > table->pages - first)
        return PS_INVALID;
    for (size_t i = 0; i < count; i++) {
        uint32_t page = first + (uint32_t)i;
        ps_state state = ps_table_state(table, page);
        classes[i] = state == PS_STATE_NONE ? PS_NONE : state == PS_STATE_MEMBER ? head_of(table, page) : page;
    }
    return PS_OK;
}

static bool is_zero_frame(const ps_table *table, uint32_t head)
{
    if (table->entries[head].tag != (uint32_t)zero_key(table, source_of(table, head)->domain))
        return false;
    const uint8_t *bytes = bytes_of(table, head);
    return bytes && table->kernel->is_zero(bytes, table->space->page_bytes);
}

/* Counts the frame's pages owner by owner in `held` (zero before and after; `touched` lists the owners). */
static void tally_frame(const ps_table *table, uint32_t head, ps_owner_tally *owners, uint32_t *held,
                        uint32_t *touched, ps_tally *total)
{
    uint32_t size = frame_size(table, head), touched_count = 0;
    bool zero = is_zero_frame(table, head);

    for (uint32_t page = head; page != PS_NONE; page = table->entries[page].next) {
        uint32_t owner = source_of(table, page)->owner;
        if (held[owner]++ == 0)
            touched[touched_count++] = owner;
    }
    if (zero)
        total->zero += size;
    else if (size == 1)
        total->lone++;
    else {
        total->kept++;
        total->shared += size;
    }
    for (uint32_t i = 0; i < touched_count; i++) {
        ps_owner_tally *owner = &owners[touched[i]];
        uint32_t pages = held[touched[i]];
        held[touched[i]] = 0;
        if (zero) {
            owner->zero += pages;
            continue;
        }
        *(size > 1 ? &owner->shared : &owner->unique) += pages;
        if (pages > 1) {
            owner->alone_shared += pages;
            owner->alone_kept++;
        } else {
            owner->alone_unique++;
        }
    }
}

ps_status ps_table_tally(const ps_table *table, ps_owner_tally *owners, uint32_t owner_count, ps_tally *total)
{
    for (uint32_t i = 0; i < table->space->source_count; i++)
        if (table->space->sources[i].owner >= owner_count)
            return PS_INVALID;
    uint32_t *held = calloc((size_t)owner_count * 2 + 1, sizeof *held);
    if (!held)
        return PS_NO_MEMORY;
    memset(owners, 0, owner_count * sizeof *owners);
    memset(total, 0, sizeof *total);
    for (uint32_t page = 0; page < table->pages; page++) {
        ps_state state = ps_table_state(table, page);
        if (state == PS_STATE_HEAD) {
            tally_frame(table, page, owners, held, held + owner_count, total);
        } else if (state == PS_STATE_HINT) {
            ps_owner_tally *owner = &owners[source_of(table, page)->owner];
            total->hints++;
            owner->unique++;
            owner->alone_unique++;
        }
    }
    free(held);
    return ps_space_status(table->space);
}

/* ---- self-check ---- */

#define FAIL(...) return snprintf(why, why_bytes, __VA_ARGS__), false
#define EXPECT(condition, ...) do { if (!(condition)) FAIL(__VA_ARGS__); } while (0)

/* One frame: its list is sound both ways, its count right, its pages equal and of one domain. */
static bool check_frame(const ps_table *table, uint32_t head, uint64_t *members, uint8_t *copy, char *why,
                        size_t why_bytes)
{
    const ps_entry *entries = table->entries;
    uint32_t size = frame_size(table, head), previous = head, found = 1;
    uint32_t domain = source_of(table, head)->domain;
    const uint8_t *bytes = bytes_of(table, head);

    EXPECT(bytes, "frame %u: its bytes can't be read", head);
    memcpy(copy, bytes, table->space->page_bytes);
    uint64_t hash = table->kernel->hash64(&table->key, copy, table->space->page_bytes);
    EXPECT((uint32_t)ps_table_key(table, hash, domain) == entries[head].tag, "frame %u: not its hash", head);
    for (uint32_t page = entries[head].next; page != PS_NONE; page = entries[page].next) {
        EXPECT(page < table->pages, "frame %u: member %u does not exist", head, page);
        EXPECT(ps_table_state(table, page) == PS_STATE_MEMBER, "frame %u: page %u is not a member", head, page);
        EXPECT(entries[page].link == previous, "frame %u: page %u: wrong link back", head, page);
        EXPECT(head_of(table, page) == head, "frame %u: page %u names another head", head, page);
        EXPECT(++found <= size, "frame %u: more members than its count %u", head, size);
        EXPECT(source_of(table, page)->domain == domain, "frame %u: page %u: another domain", head, page);
        bytes = bytes_of(table, page);
        EXPECT(bytes && table->kernel->equal(copy, bytes, table->space->page_bytes), "frame %u: page %u differs",
               head, page);
        previous = page;
    }
    EXPECT(found == size, "frame %u: %u members, count %u", head, found, size);
    EXPECT(!table->max_refs || size <= table->max_refs, "frame %u: %u members, more than %u", head, size,
           table->max_refs);
    *members += size;
    return true;
}

static bool check(const ps_table *table, uint8_t *copy, char *why, size_t why_bytes)
{
    uint64_t hints = 0, frames = 0, lone = 0, members = 0, states[4] = {0};

    for (uint32_t page = 0; page < table->pages; page++)
        states[ps_table_state(table, page)]++;
    for (uint32_t i = 0; i < table->bucket_count; i++) {
        for (uint32_t entry = table->buckets[i]; entry != PS_NONE; entry = table->entries[entry].link) {
            EXPECT(entry < table->pages, "bucket %u: page %u does not exist", i, entry);
            EXPECT(ps_table_bucket(table, table->entries[entry].tag) == i, "page %u: in the wrong chain", entry);
            ps_state state = ps_table_state(table, entry);
            EXPECT(state == PS_STATE_HINT || state == PS_STATE_HEAD, "page %u: in a chain, state %d", entry, state);
            EXPECT(++*(state == PS_STATE_HINT ? &hints : &frames) <= table->pages, "bucket %u: a loop", i);
            if (state == PS_STATE_HEAD) {
                lone += frame_size(table, entry) == 1;
                if (!check_frame(table, entry, &members, copy, why, why_bytes))
                    return false;
            }
        }
    }
    for (uint32_t domain = 0; domain < table->domain_count; domain++) {
        uint32_t head = table->zero_frames[domain];
        EXPECT(head == PS_NONE || (ps_table_state(table, head) == PS_STATE_HEAD && is_zero_frame(table, head) &&
                                   source_of(table, head)->domain == domain),
               "domain %u: page %u is not its zero frame", domain, head);
    }
    EXPECT(hints == states[PS_STATE_HINT] && frames == states[PS_STATE_HEAD] &&
               members == states[PS_STATE_HEAD] + states[PS_STATE_MEMBER],
           "pages of some state are in no chain or frame");
    EXPECT(hints == table->stats.hints && frames == table->stats.frames && lone == table->stats.lone_frames &&
               members == table->stats.members,
           "the counters disagree with the table");
    return true;
}

ps_status ps_table_check(const ps_table *table, char *why, size_t why_bytes)
{
    uint8_t *copy = malloc(table->space->page_bytes);
    if (!copy)
        return PS_NO_MEMORY;
    bool sound = check(table, copy, why, why_bytes);
    free(copy);
    return sound ? PS_OK : PS_INVALID;
}
