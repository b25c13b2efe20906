/*
 * runs.c - stretches of pages that are the same elsewhere, in a stretch as well; and stretches of zeros. One pass over an
 * owner's pages, which keeps none of them but the longest.
 */
#include "internal.h"

/* Pages between two looks at the stop flag. */
#define STOP_EVERY (1u << 16)
/* Pages ahead for which a content's record is asked. */
#define AHEAD 32

static bool is_set(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

static void set(uint64_t *bits, uint32_t i)
{
    bits[i / 64] |= (uint64_t)1 << i % 64;
}

void ps_runs_apart(const ps_spans *read, const uint32_t *owner_first, uint32_t owner_count, uint64_t *apart)
{
    for (size_t i = 0; i < read->count; i++)
        if (i == 0 || read->frame[i] - read->frame[i - 1] != (uint64_t)read->first[i] - read->first[i - 1])
            set(apart, read->first[i]);
    for (uint32_t owner = 0; owner < owner_count; owner++)
        if (owner_first[owner] < read->end)
            set(apart, owner_first[owner]);
}

/* ---- what they come to ---- */

static void count_length(ps_lengths *lengths, uint64_t pages)
{
    ps_lengths *of = &lengths[63 - __builtin_clzll(pages)];
    of->runs++;
    of->pages += pages;
}

/* The owner of a page: the last one whose first page is not behind it. Without branches, since none could be foretold. */
static uint32_t owner_of(uint32_t page, const uint32_t *owner_first, uint32_t owner_count)
{
    uint32_t owner = 0;

    for (uint32_t rest = owner_count; rest > 1; rest -= rest / 2)
        owner += owner_first[owner + rest / 2] <= page ? rest / 2 : 0;
    return owner;
}

/* Keeps the `most` longest ones, the longest first; of equal ones the first that came. */
static void keep_longest(ps_stretch run, ps_run_found *to)
{
    uint32_t at = to->kept;

    if (at == to->most && (!at || to->longest[at - 1].pages >= run.pages))
        return;
    to->kept += at < to->most;
    for (at -= at == to->most; at && to->longest[at - 1].pages < run.pages; at--)
        to->longest[at] = to->longest[at - 1];
    to->longest[at] = run;
}

static void add_run(ps_stretch run, const ps_run_source *from, ps_run_found *to)
{
    ps_run_pair *pair = &to->pairs[owner_of(run.matches, from->owner_first, from->owner_count)];

    count_length(to->runs, run.pages);
    pair->runs++;
    pair->pages += run.pages;
    if (pair->longest < run.pages)
        pair->longest = run.pages;
    keep_longest(run, to);
}

/* ---- zeros ---- */

/* Where the last stretch of zeros ends, and how long it is; and how far the spans were gone through. */
typedef struct {
    uint64_t end;
    uint64_t pages;
    size_t read;
    size_t zeros;
} zero_walk;

static void append_zeros(zero_walk *walk, uint64_t frame, uint64_t pages, ps_run_found *to)
{
    if (walk->pages && walk->end != frame) {
        count_length(to->zeros, walk->pages);
        walk->pages = 0;
    }
    walk->pages += pages;
    walk->end = frame + pages;
}

/* Those that need no reading, as far as they lie before a frame. */
static void append_known(zero_walk *walk, const ps_spans *zeros, uint64_t frame, ps_run_found *to)
{
    for (; walk->zeros < zeros->count && zeros->frame[walk->zeros] < frame; walk->zeros++) {
        size_t next = walk->zeros + 1;
        uint64_t end = next < zeros->count ? zeros->first[next] : zeros->end;
        append_zeros(walk, zeros->frame[walk->zeros], end - zeros->first[walk->zeros], to);
    }
}

static void add_zeros(zero_walk *walk, const ps_run_source *from, ps_stretch found, ps_run_found *to)
{
    const ps_spans *read = &from->read;

    while (walk->read + 1 < read->count && read->first[walk->read + 1] <= found.page)
        walk->read++;
    uint64_t frame = read->frame[walk->read] + (found.page - read->first[walk->read]);
    append_known(walk, &from->zeros, frame, to);
    append_zeros(walk, frame, found.pages, to);
}

/* ---- one pass ---- */

static void add(zero_walk *walk, const ps_run_source *from, ps_stretch found, ps_run_found *to)
{
    if (found.pages && found.matches == PS_NONE)
        add_zeros(walk, from, found, to);
    else if (found.pages)
        add_run(found, from, to);
}

/* What a page matches: the first page of its content; none if that is itself, or if it is held once or unknown. */
static uint32_t match_of(uint32_t class, uint32_t page, const ps_content *contents)
{
    if (class == PS_CLASS_ZERO || class >= PS_CLASS_UNIQUE)
        return PS_NONE;
    return contents[class].first == page ? PS_NONE : contents[class].first;
}

ps_status ps_runs_find(const ps_run_source *from, uint32_t begin, uint32_t end, ps_run_found *to, const ps_control *control)
{
    const uint32_t *classes = from->classes;
    const ps_content *contents = from->contents;
    const uint64_t *apart = from->apart;
    zero_walk walk = {.pages = 0};
    ps_stretch run = {.pages = 0};

    for (uint32_t page = begin; page < end; page++) {
        if ((page - begin) % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        if (end - page > AHEAD && classes[page + AHEAD] < PS_CLASS_UNIQUE)
            __builtin_prefetch(&contents[classes[page + AHEAD]]);
        uint32_t match = match_of(classes[page], page, contents);
        bool is_zero = classes[page] == PS_CLASS_ZERO, is_member = is_zero || match != PS_NONE;
        uint32_t next = run.matches == PS_NONE ? PS_NONE : run.matches + run.pages;
        if (is_member && run.pages && match == next && !is_set(apart, page) && (is_zero || !is_set(apart, match))) {
            run.pages++;
            continue;
        }
        add(&walk, from, run, to);
        run = (ps_stretch){.page = page, .pages = is_member, .matches = match};
    }
    add(&walk, from, run, to);
    append_known(&walk, &from->zeros, UINT64_MAX, to);
    if (walk.pages)
        count_length(to->zeros, walk.pages);
    return PS_OK;
}
