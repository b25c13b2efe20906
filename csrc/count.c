/*
 * count.c - what a frame table comes to: chains, classes, tallies owner by owner, and the self-check for tests.
 *
 * Nothing here changes a table.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Pages between two looks at the stop flag: a few milliseconds. */
#define STOP_EVERY (1u << 16)

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
        classes[i] = state == PS_STATE_NONE ? PS_NONE : state == PS_STATE_MEMBER ? ps_frame_head(table, page) : page;
    }
    return PS_OK;
}

static bool is_zero_frame(const ps_table *table, uint32_t head)
{
    uint32_t domain = ps_table_source(table, head)->domain;

    if (!(table->options & PS_ZERO_ORDINARY))
        return table->zero_frames[domain] == head;
    if (table->entries[head].tag != (uint32_t)ps_table_key(table, table->zero_hash, domain))
        return false;
    const uint8_t *bytes = ps_table_bytes(table, head);
    return bytes && ps_is_zero_page(table->kernel, bytes, table->space->page_bytes);
}

/* What each owner holds of a frame alone. `held` counts pages by owner, all zero before and after; `touched` lists
 * the owners. */
static void tally_alone(const ps_table *table, uint32_t head, ps_owner_tally *owners, uint32_t *held,
                        uint32_t *touched)
{
    uint32_t touched_count = 0;

    for (uint32_t page = head; page != PS_NONE; page = table->entries[page].next) {
        uint32_t owner = ps_table_source(table, page)->owner;
        if (held[owner]++ == 0)
            touched[touched_count++] = owner;
    }
    for (uint32_t i = 0; i < touched_count; i++) {
        ps_owner_tally *owner = &owners[touched[i]];
        uint32_t pages = held[touched[i]];
        held[touched[i]] = 0;
        if (pages > 1) {
            owner->alone_shared += pages;
            owner->alone_kept++;
        } else {
            owner->alone_unique++;
        }
    }
}

/* One page, by its state. Page after page that is a pass over the entries in order; only what owners hold alone
 * needs a walk from member to member, and with a single owner not even that. */
static void tally_page(const ps_table *table, uint32_t page, ps_owner_tally *owner, ps_tally *total)
{
    ps_state state = ps_table_state(table, page);
    uint32_t head = state == PS_STATE_MEMBER ? ps_frame_head(table, page) : page;

    if (state == PS_STATE_NONE) {
        ps_last last = ps_table_last(table, page);
        owner->unique += last == PS_LAST_STALE;
        total->stale += last == PS_LAST_STALE;
        owner->unreadable += last == PS_LAST_UNREADABLE;
        total->unreadable += last == PS_LAST_UNREADABLE;
    } else if (state == PS_STATE_HINT) {
        owner->unique++;
        total->hints++;
    } else if (is_zero_frame(table, head)) {
        owner->zero++;
        total->zero++;
    } else if (state == PS_STATE_HEAD && ps_frame_size(table, head) == 1) {
        owner->unique++;
        total->lone++;
    } else {
        owner->shared++;
        total->shared++;
        total->kept += state == PS_STATE_HEAD;
    }
}

static ps_status tally(const ps_table *table, ps_owner_tally *owners, uint32_t *held, uint32_t *touched,
                       ps_tally *total, const ps_control *control)
{
    for (uint32_t page = 0; page < table->pages; page++) {
        if (page % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        ps_owner_tally *owner = &owners[ps_table_source(table, page)->owner];
        tally_page(table, page, owner, total);
        if (!held)
            continue;
        ps_state state = ps_table_state(table, page);
        if (state == PS_STATE_HINT || (state == PS_STATE_NONE && ps_table_last(table, page) == PS_LAST_STALE))
            owner->alone_unique++;
        else if (state == PS_STATE_HEAD && !is_zero_frame(table, page))
            tally_alone(table, page, owners, held, touched);
    }
    return ps_space_status(table->space);
}

ps_status ps_table_tally(const ps_table *table, ps_owner_tally *owners, uint32_t owner_count, ps_tally *total,
                         const ps_control *control)
{
    for (uint32_t i = 0; i < table->space->source_count; i++)
        if (table->space->sources[i].owner >= owner_count)
            return PS_INVALID;
    memset(owners, 0, owner_count * sizeof *owners);
    memset(total, 0, sizeof *total);
    if (owner_count < 2) {
        ps_status status = tally(table, owners, NULL, NULL, total, control);
        for (uint32_t i = 0; i < owner_count; i++) {
            owners[i].alone_unique = owners[i].unique;
            owners[i].alone_shared = owners[i].shared;
            owners[i].alone_kept = total->kept;
        }
        return status;
    }
    uint32_t *held = calloc((size_t)owner_count * 2, sizeof *held);
    if (!held)
        return PS_NO_MEMORY;
    ps_status status = tally(table, owners, held, held + owner_count, total, control);
    free(held);
    return status;
}

/* ---- of a census ---- */

/* Pages looked at together, and how far ahead memory is asked for. */
#define STRIP 512
#define AHEAD 16

/* Pages of one owner, and of one part as far as they begin a content. */
typedef struct {
    uint32_t first;
    uint32_t count;
    uint32_t zero;             /* the first zero page of their domain */
    uint32_t once;             /* see ps_class */
    bool own;                  /* of the part that is being tallied */
} strip;

/* Of a strip, the pages whose content is of this part, but for zero ones and the first of each content: how many. In a strip
 * of this part every page's own class begins with that page, whether or not it will ever have another. No branch here,
 * since none could be foretold. */
static uint32_t find_others(strip s, const uint32_t *canonical, uint32_t part, uint32_t parts, ps_class *classes,
                            uint32_t *others, ps_owner_tally *owner)
{
    uint32_t found = 0, firsts = 0, zeros = 0, lost = 0;

    for (uint32_t page = s.first; page < s.first + s.count; page++) {
        uint32_t head = canonical[page];
        bool is_lost = head == PS_NONE, is_zero = head == s.zero && !is_lost, is_first = head == page && !is_zero;
        if (s.own)
            classes[page] = (ps_class){.pages = 1, .mark = s.once};
        others[found] = page;
        found += !is_zero & !is_lost & !is_first & (ps_part_of(head, parts) == part);
        firsts += is_first;
        zeros += is_zero;
        lost += is_lost;
    }
    if (s.own) {
        owner->zero += zeros;
        owner->unreadable += lost;
        owner->alone_unique += firsts;
    }
    return found;
}

/* A page of a content that this owner may hold already. */
static void join_class(ps_class *content, uint32_t once, ps_owner_tally *owner)
{
    content->pages++;
    if (content->mark < once) {
        content->mark = once;
        owner->alone_unique++;
    } else if (content->mark == once) {
        content->mark = once + 1;
        owner->alone_unique--;
        owner->alone_shared += 2;
        owner->alone_kept++;
    } else {
        owner->alone_shared++;
    }
}

static void tally_others(strip s, const uint32_t *canonical, uint32_t part, uint32_t parts, ps_class *classes,
                         ps_owner_tally *owner)
{
    uint32_t others[STRIP], found = find_others(s, canonical, part, parts, classes, others, owner);

    for (uint32_t i = 0; i < found; i++) {
        if (i + AHEAD < found)
            __builtin_prefetch(&classes[canonical[others[i + AHEAD]]], 1);
        join_class(&classes[canonical[others[i]]], s.once, owner);
    }
}

/* The second time round, when it is known how many pages each content has: how many are kept. */
static uint32_t tally_firsts(strip s, const uint32_t *canonical, const ps_class *classes, ps_owner_tally *owner)
{
    uint32_t unique = 0, kept = 0;

    for (uint32_t page = s.first; page < s.first + s.count; page++) {
        uint32_t pages = classes[page].pages & -(uint32_t)((canonical[page] == page) & (page != s.zero));
        unique += pages == 1;
        kept += pages > 1;
    }
    owner->unique += unique;
    return kept;
}

/* What one thread has counted of an owner. */
static void add_to_owner(ps_owner_tally *owner, ps_owner_tally *counted)
{
    ps_add(&owner->zero, counted->zero);
    ps_add(&owner->unique, counted->unique);
    ps_add(&owner->alone_unique, counted->alone_unique);
    ps_add(&owner->alone_shared, counted->alone_shared);
    ps_add(&owner->alone_kept, counted->alone_kept);
    ps_add(&owner->unreadable, counted->unreadable);
    *counted = (ps_owner_tally){0};
}

/* Once through the space: first all others join the classes of this part, then these are counted. */
static uint32_t tally_once(const ps_space *space, const uint32_t *canonical, const uint32_t *zeros, uint32_t part,
                           uint32_t parts, bool joined, ps_class *classes, ps_owner_tally *owners,
                           const ps_control *control)
{
    ps_owner_tally counted = {0};
    uint32_t kept = 0;

    for (uint32_t i = 0; i < space->segment_count; i++) {
        const ps_segment *segment = &space->segments[i];
        const ps_source *source = &space->sources[segment->source];
        uint32_t end = ps_segment_end(space, segment);
        strip s = {.zero = zeros[source->domain], .once = 2 * source->owner + 1};

        for (s.first = segment->first; s.first < end && !ps_stopped(control); s.first += s.count) {
            uint32_t most = STRIP - s.first % STRIP;
            s.count = end - s.first < most ? end - s.first : most;
            s.own = ps_part_of(s.first, parts) == part;
            if (!joined)
                tally_others(s, canonical, part, parts, classes, &counted);
            else if (s.own)
                kept += tally_firsts(s, canonical, classes, &counted);
        }
        if (i + 1 == space->segment_count || space->sources[segment[1].source].owner != source->owner)
            add_to_owner(&owners[source->owner], &counted);
    }
    return kept;
}

void ps_tally_part(const ps_space *space, const uint32_t *canonical, const uint32_t *zeros, uint32_t part,
                   uint32_t parts, ps_class *classes, ps_owner_tally *owners, ps_tally *total,
                   const ps_control *control)
{
    tally_once(space, canonical, zeros, part, parts, false, classes, owners, control);
    ps_add(&total->kept, tally_once(space, canonical, zeros, part, parts, true, classes, owners, control));
}

void ps_tally_total(ps_owner_tally *owners, uint32_t owner_count, ps_tally *total)
{
    for (uint32_t i = 0; i < owner_count; i++) {
        owners[i].shared = owners[i].alone_unique + owners[i].alone_shared - owners[i].unique;
        total->zero += owners[i].zero;
        total->hints += owners[i].unique;
        total->shared += owners[i].shared;
        total->unreadable += owners[i].unreadable;
    }
}

/* ---- self-check ---- */

#define FAIL(...) return snprintf(why, why_bytes, __VA_ARGS__), false
#define EXPECT(condition, ...) do { if (!(condition)) FAIL(__VA_ARGS__); } while (0)

/* One frame: its list is sound both ways, its count right, its pages equal and of one domain. */
static bool check_frame(const ps_table *table, uint32_t head, uint64_t *members, uint8_t *copy, char *why,
                        size_t why_bytes)
{
    const ps_entry *entries = table->entries;
    uint32_t size = ps_frame_size(table, head), previous = head, found = 1;
    uint32_t domain = ps_table_source(table, head)->domain;
    const uint8_t *bytes = ps_table_bytes(table, head);

    EXPECT(bytes, "frame %u: its bytes can't be read", head);
    memcpy(copy, bytes, table->space->page_bytes);
    uint64_t hash = table->kernel->hash64(&table->key, copy, table->space->page_bytes);
    EXPECT((uint32_t)ps_table_key(table, hash, domain) == entries[head].tag, "frame %u: not its hash", head);
    for (uint32_t page = entries[head].next; page != PS_NONE; page = entries[page].next) {
        EXPECT(page < table->pages, "frame %u: member %u does not exist", head, page);
        EXPECT(ps_table_state(table, page) == PS_STATE_MEMBER, "frame %u: page %u is not a member", head, page);
        EXPECT(entries[page].link == previous, "frame %u: page %u: wrong link back", head, page);
        EXPECT(ps_frame_head(table, page) == head, "frame %u: page %u names another head", head, page);
        EXPECT(++found <= size, "frame %u: more members than its count %u", head, size);
        EXPECT(ps_table_source(table, page)->domain == domain, "frame %u: page %u: another domain", head, page);
        bytes = ps_table_bytes(table, page);
        EXPECT(bytes && table->kernel->equal(copy, bytes, table->space->page_bytes), "frame %u: page %u differs",
               head, page);
        previous = page;
    }
    EXPECT(found == size, "frame %u: %u members, count %u", head, found, size);
    EXPECT(!table->max_refs || size <= table->max_refs || is_zero_frame(table, head), "frame %u: %u members, more than %u", head, size,
           table->max_refs);
    *members += size;
    return true;
}

static bool check(const ps_table *table, uint8_t *copy, char *why, size_t why_bytes)
{
    uint64_t hints = 0, frames = 0, lone = 0, members = 0, states[4] = {0};

    for (uint32_t page = 0; page < table->pages; page++) {
        states[ps_table_state(table, page)]++;
        if (ps_table_state(table, page) == PS_STATE_HEAD && ps_frame_is_full(table, page)) {
            frames++;
            if (!check_frame(table, page, &members, copy, why, why_bytes))
                return false;
        }
    }
    for (uint32_t i = 0; i < table->bucket_count; i++) {
        for (uint32_t entry = table->buckets[i]; entry != PS_NONE; entry = table->entries[entry].link) {
            EXPECT(entry < table->pages, "bucket %u: page %u does not exist", i, entry);
            EXPECT(ps_table_bucket(table, table->entries[entry].tag) == i, "page %u: in the wrong chain", entry);
            ps_state state = ps_table_state(table, entry);
            EXPECT(state == PS_STATE_HINT || state == PS_STATE_HEAD, "page %u: in a chain, state %d", entry, state);
            EXPECT(++*(state == PS_STATE_HINT ? &hints : &frames) <= table->pages, "bucket %u: a loop", i);
            if (state == PS_STATE_HEAD) {
                EXPECT(!ps_frame_is_full(table, entry), "frame %u: full, and in a chain", entry);
                lone += ps_frame_size(table, entry) == 1;
                if (!check_frame(table, entry, &members, copy, why, why_bytes))
                    return false;
            }
        }
    }
    for (uint32_t domain = 0; domain < table->domain_count; domain++) {
        uint32_t head = table->zero_frames[domain];
        EXPECT(head == PS_NONE || (ps_table_state(table, head) == PS_STATE_HEAD && is_zero_frame(table, head) &&
                                   ps_table_source(table, head)->domain == domain),
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
