/*
 * stream.c - a census of what memory cannot hold: every file is read from end to end, a few times.
 *
 * A page that has to come from disk by itself costs a hundred times what it costs among its neighbours, so nothing is
 * read but in the order of the files. The first reading hashes every page, and so tells which pages may be equal: those
 * are groups. Each further one takes the groups in the order in which it meets them: the content of a group's first page
 * is held in memory, and the group's other pages are compared with it as they come by, until the last one has been.
 * While there is no room for another content, groups are left to the next reading. How many that makes is known after
 * the first, by going through the motions without reading.
 *
 * Readings go forth and back in turn: what was read last is most likely to lie in the page cache still.
 *
 * A page that differs from its group's content (equal hashes), or is of another domain, is left to another round, with
 * another hash. Going back, the content need not be that of the group's lowest page, so then the whole group is left.
 */
#include <stdlib.h>
#include <string.h>

#include "census.h"

/* What the disk is asked for ahead, and in what portions. */
#define AHEAD_BYTES (64u << 20)
#define AHEAD_PORTION (8u << 20)
/* While nothing is read, so many pages go by between two looks at whether to stop: a few milliseconds. */
#define STOP_PAGES (1u << 20)

typedef struct {
    ps_census_state *c;
    uint8_t *block;            /* the pages of a block */
    uint8_t *contents;         /* slots for pages that are held */
    uint32_t *free_slots;      /* a stack */
    uint32_t slots;
    uint32_t free_count;
    uint32_t fresh;            /* slots from here on were never used */
    uint32_t *held;            /* for each head: the slot of its group's content, or one of the states below */
    uint64_t *again;           /* a bit for each page that goes to another round */
    bool back;                 /* this reading goes from the end to the start */
    bool first;                /* of this reading a page that can't be read is merely lost */
} stream;

#define NOT_SEEN PS_NONE       /* in this reading */
#define LEFT (PS_NONE - 1)     /* there was no room for it in this reading */
#define BROKEN (PS_NONE - 2)   /* its pages were not all equal: all go to another round */

/* ---- reading ---- */

/* Asks for a portion of the blocks, if anything in it is needed. */
static void ask(const stream *s, uint32_t first, uint32_t count)
{
    uint32_t page = first * s->c->block, end = ps_block_end(s->c, first + count - 1);
    uint64_t open = 0;

    for (uint32_t word = page / 64; word < (end + 63) / 64; word++)
        open |= s->c->open[word];
    if (open)
        ps_space_ask(s->c->space, page, end - page);
}

/* Before the `done`th block of a reading: asks for what is AHEAD_BYTES away. */
static void ask_ahead(const stream *s, uint32_t done)
{
    const ps_census_state *c = s->c;
    uint32_t portion = AHEAD_PORTION / c->block / c->space->page_bytes, depth = AHEAD_BYTES / AHEAD_PORTION;
    portion = portion ? portion : 1;

    if (done % portion)
        return;
    for (uint32_t i = done ? depth : 0; i <= depth; i++) {
        uint64_t from = done + (uint64_t)i * portion;
        if (from >= c->blocks)
            return;
        uint32_t count = c->blocks - from < portion ? c->blocks - (uint32_t)from : portion;
        ask(s, s->back ? c->blocks - (uint32_t)from - count : (uint32_t)from, count);
    }
}

/* Reads pages one by one, where together they can't be had. */
static ps_status read_singly(stream *s, const ps_segment *segment, uint32_t page, uint32_t count, uint8_t *to)
{
    ps_census_state *c = s->c;

    for (uint32_t i = 0; i < count; i++, to += c->space->page_bytes) {
        if (!ps_get_bit(c->open, page + i))
            continue;
        uint64_t offset = ps_segment_offset(c->space, segment, page + i);
        ps_status status = ps_space_read(c->space, segment->source, offset, 1, to);
        if (status == PS_IO_ERROR && s->first) {
            c->canonical[page + i] = PS_NONE;
            ps_clear_bit(c->open, page + i);
        } else if (status != PS_OK) {
            if (status == PS_IO_ERROR)
                ps_space_went_bad(c->space, page + i);
            return status;
        }
    }
    return PS_OK;
}

/* Has the open pages of a block in memory: where each lies. One read for each file that the block lies in. */
static ps_status load(stream *s, uint32_t block, const uint8_t **at)
{
    ps_census_state *c = s->c;
    ps_space *space = c->space;
    uint32_t first = block * c->block, end = ps_block_end(c, block), run_end;

    for (uint32_t page = first; page < end; page = run_end) {
        const ps_segment *segment = ps_space_find(space, page);
        run_end = ps_segment_end(space, segment) < end ? ps_segment_end(space, segment) : end;
        uint32_t low = page, high = run_end;
        while (low < high && !ps_get_bit(c->open, low))
            low++;
        while (low < high && !ps_get_bit(c->open, high - 1))
            high--;
        const uint8_t *from = s->block + (size_t)(low - first) * space->page_bytes;
        if (space->sources[segment->source].fd < 0) {
            from = ps_space_address(space, low);
        } else if (low < high) {
            uint8_t *to = s->block + (size_t)(low - first) * space->page_bytes;
            ps_status status = ps_space_read(space, segment->source, ps_segment_offset(space, segment, low),
                                             high - low, to);
            if (status == PS_IO_ERROR)
                status = read_singly(s, segment, low, high - low, to);
            if (status != PS_OK)
                return status;
        }
        for (uint32_t i = low; i < high; i++)
            at[i - first] = from + (size_t)(i - low) * space->page_bytes;
    }
    return PS_OK;
}

/* Goes through all blocks, forth or back. */
static void reading(stream *s, bool back, void (*look)(stream *, uint32_t, const uint8_t *const *))
{
    ps_census_state *c = s->c;
    const uint8_t *at[PS_BLOCK_MAX];

    s->back = back;
    if (c->control)
        c->control->reading++;
    c->stats.readings++;
    for (uint32_t done = 0; done < c->blocks && !ps_failed(c); done++) {
        uint32_t block = back ? c->blocks - 1 - done : done;
        if (ps_stopped(c->control)) {
            ps_fail(c, PS_STOPPED);
            return;
        }
        ask_ahead(s, done);
        ps_status status = load(s, block, at);
        if (status != PS_OK)
            ps_fail(c, status);
        else
            look(s, block, at);
        ps_advance(c->control, ps_block_end(c, block) - block * c->block);
    }
}

/* ---- keys ---- */

static void look_for_keys(stream *s, uint32_t block, const uint8_t *const *at)
{
    ps_census_state *c = s->c;
    uint32_t first = block * c->block;
    size_t bytes = c->space->page_bytes;
    ps_batch b = {.count = 0};

    for (uint32_t page = first; page < ps_block_end(c, block); page++) {
        if (!ps_get_bit(c->open, page))
            continue;
        uint32_t domain = ps_domain_of(c, page);
        if (b.count && domain != b.domain) {
            ps_enter(c, &b);
            b.count = 0;
        }
        b.domain = domain;
        b.pages[b.count] = page;
        if (c->round == 1 && c->kernel->first_nonzero(at[page - first], bytes) == bytes) {
            ps_clear_bit(c->open, page);
        } else {
            b.keys[b.count] = c->kernel->hash64(&c->key, at[page - first], bytes);
            c->stats.hashes++;
        }
        b.count++;
    }
    ps_enter(c, &b);
}

/* ---- groups ---- */

/* c->counts becomes the number of pages of each group, head included, that are to be looked at; pages without company
 * are done with. */
static void count_groups(stream *s)
{
    ps_census_state *c = s->c;

    ps_count_groups(c);
    for (uint32_t page = 0; page < c->pages; page++) {
        if (!ps_get_bit(c->open, page) || c->canonical[page] != page)
            continue;
        if (c->counts[page])
            c->counts[page]++;
        else
            ps_clear_bit(c->open, page);
    }
}

/* The groups that are left get another chance. */
static void forget(stream *s)
{
    for (uint32_t page = 0; page < s->c->pages; page++)
        if (s->held[page] != BROKEN)
            s->held[page] = NOT_SEEN;
}

/* Room for the content of this head's group, or LEFT. */
static uint32_t hold(stream *s, uint32_t head)
{
    uint32_t slot = LEFT;

    if (s->free_count)
        slot = s->free_slots[--s->free_count];
    else if (s->fresh < s->slots)
        slot = s->fresh++;
    return s->held[head] = slot;
}

/* One page less to come in this group; after the last its content goes. */
static void came(stream *s, uint32_t head)
{
    if (--s->c->counts[head] == 0)
        s->free_slots[s->free_count++] = s->held[head];
}

/* How many readings the groups take, by what `look_for_equals` will do. */
static uint32_t rehearse(stream *s, bool back)
{
    ps_census_state *c = s->c;
    uint32_t readings = 0;

    for (bool left = true; left; back = !back) {
        left = false;
        forget(s);
        uint32_t seen = 0;
        for (uint32_t done = 0; done < c->pages; done++) {
            uint32_t page = back ? c->pages - 1 - done : done;
            if (done % STOP_PAGES == 0 && ps_leaving(c))
                return readings;
            if (!ps_get_bit(c->open, page) || !c->counts[c->canonical[page]])
                continue;
            uint32_t head = c->canonical[page];
            seen++;
            if (s->held[head] == NOT_SEEN)
                hold(s, head);
            if (s->held[head] == LEFT)
                left = true;
            else
                came(s, head);
        }
        readings += seen > 0;
    }
    s->free_count = s->fresh = 0;
    return readings;
}

/* Not equal to the content of its group. */
static void differs(stream *s, uint32_t page, uint32_t head)
{
    ps_census_state *c = s->c;

    c->any_open = true;
    if (s->back) {
        s->free_slots[s->free_count++] = s->held[head];
        s->held[head] = BROKEN;
        c->counts[head] = 0;
    } else {
        ps_set_bit(s->again, page);
        came(s, head);
    }
}

static void look_for_equals(stream *s, uint32_t block, const uint8_t *const *at)
{
    ps_census_state *c = s->c;
    size_t bytes = c->space->page_bytes;
    uint32_t first = block * c->block, count = ps_block_end(c, block) - first;

    for (uint32_t done = 0; done < count; done++) {
        uint32_t page = first + (s->back ? count - 1 - done : done);
        uint32_t head = c->canonical[page];
        if (!ps_get_bit(c->open, page))
            continue;
        if (s->held[head] == NOT_SEEN && hold(s, head) != LEFT) {
            memcpy(s->contents + s->held[head] * bytes, at[page - first], bytes);
            if (ps_domain_of(c, head) == ps_domain_of(c, page))
                came(s, head);
            else
                differs(s, page, head);
        } else if (s->held[head] == LEFT) {
            continue;
        } else if (s->held[head] != BROKEN) {
            c->stats.compares++;
            if (c->kernel->equal(s->contents + s->held[head] * bytes, at[page - first], bytes) &&
                ps_domain_of(c, head) == ps_domain_of(c, page))
                came(s, head);
            else
                differs(s, page, head);
        }
        ps_clear_bit(c->open, page);
    }
}

static bool any_left(const ps_census_state *c)
{
    for (uint32_t word = 0; word < (c->pages + 63) / 64; word++)
        if (c->open[word])
            return true;
    return false;
}

/* What goes to another round is open again. */
static void reopen(stream *s)
{
    ps_census_state *c = s->c;

    for (uint32_t page = 0; page < c->pages; page++)
        if (c->canonical[page] != PS_NONE &&
            (ps_get_bit(s->again, page) || s->held[c->canonical[page]] == BROKEN))
            ps_set_bit(c->open, page);
}

/* ---- rounds ---- */

static void round_of(stream *s)
{
    ps_census_state *c = s->c;
    /* Later rounds have few pages, if any, and must settle at least the head of each group. */
    bool back = c->round == 1;

    s->first = c->round == 1;
    reading(s, false, look_for_keys);
    s->first = false;
    if (ps_failed(c))
        return;
    ps_entered(c);
    count_groups(s);
    memset(s->held, 0xff, (size_t)c->pages * sizeof *s->held);
    memset(s->again, 0, ((size_t)c->pages + 63) / 64 * sizeof *s->again);
    if (c->round == 1) {
        uint32_t readings = rehearse(s, back);
        count_groups(s);
        if (c->control)
            c->control->readings = 1 + readings;
    }
    while (any_left(c) && !ps_failed(c)) {
        forget(s);
        reading(s, back, look_for_equals);
        back = !back && c->round == 1;
    }
    if (c->any_open)
        reopen(s);
}

void ps_stream(ps_census_state *c)
{
    size_t bytes = c->space->page_bytes;
    uint64_t slots = c->hold_bytes / bytes ? c->hold_bytes / bytes : 1;
    stream s = {.c = c, .slots = (uint32_t)(slots < c->pages ? slots : c->pages)};

    s.held = c->sorted;
    s.again = c->heads;
    s.block = ps_reserve((uint64_t)c->block * bytes);
    s.contents = ps_reserve((uint64_t)s.slots * bytes);
    s.free_slots = ps_reserve((uint64_t)s.slots * sizeof *s.free_slots);
    if (!s.block || !s.contents || !s.free_slots)
        ps_fail(c, PS_NO_MEMORY);
    while (!ps_failed(c)) {
        round_of(&s);
        ps_end_round(c);
        if (!c->more)
            break;
        s.free_count = s.fresh = 0;
    }
    c->stats.bytes += (uint64_t)c->block * bytes + (uint64_t)s.fresh * (bytes + sizeof *s.free_slots);
    ps_release(s.block, (uint64_t)c->block * bytes);
    ps_release(s.contents, (uint64_t)s.slots * bytes);
    ps_release(s.free_slots, (uint64_t)s.slots * sizeof *s.free_slots);
}
