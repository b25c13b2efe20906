/*
 * runs.c - stretches of pages that are the same elsewhere, in a stretch as well; and stretches of zeros. One pass over the
 * pages, and one over the stretches.
 */
#include <stdlib.h>

#include "internal.h"

/* Pages between two looks at the stop flag. */
#define STOP_EVERY (1u << 16)
/* Pages ahead for which a content's record is asked. */
#define AHEAD 32

static bool is_set(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

/* What a page matches: the first page of its content; none if that is itself, or if it is held once or unknown. */
static uint32_t match_of(uint32_t class, uint32_t page, const ps_content *contents)
{
    if (class == PS_CLASS_ZERO || class >= PS_CLASS_UNIQUE)
        return PS_NONE;
    return contents[class].first == page ? PS_NONE : contents[class].first;
}

/* `apart` has a bit for each page that does not follow the one before it. */
static ps_status find_runs(const uint32_t *classes, uint32_t pages, const ps_content *contents, const uint64_t *apart,
                           ps_stretch *runs, uint32_t *count, const ps_control *control)
{
    ps_stretch run = {.pages = 0};
    uint32_t found = 0;

    for (uint32_t page = 0; page < pages; page++) {
        if (page % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        if (pages - page > AHEAD && classes[page + AHEAD] < PS_CLASS_UNIQUE)
            __builtin_prefetch(&contents[classes[page + AHEAD]]);
        uint32_t match = match_of(classes[page], page, contents);
        bool is_zero = classes[page] == PS_CLASS_ZERO, is_member = is_zero || match != PS_NONE;
        uint32_t next = run.matches == PS_NONE ? PS_NONE : run.matches + run.pages;
        if (is_member && run.pages && match == next && !is_set(apart, page) && (is_zero || !is_set(apart, match))) {
            run.pages++;
            continue;
        }
        runs[found] = run;
        found += run.pages != 0;
        run = (ps_stretch){.page = page, .pages = is_member, .matches = match};
    }
    if (run.pages)
        runs[found++] = run;
    *count = found;
    return PS_OK;
}

ps_status ps_contents_runs(const uint32_t *classes, uint32_t pages, const ps_content *contents, const uint32_t *begins,
                           uint32_t begin_count, ps_stretch *runs, uint32_t *count, const ps_control *control)
{
    uint64_t *apart = calloc((size_t)pages / 64 + 1, sizeof *apart);

    if (!apart)
        return PS_NO_MEMORY;
    for (uint32_t i = 0; i < begin_count; i++)
        apart[begins[i] / 64] |= (uint64_t)1 << begins[i] % 64;
    ps_status status = find_runs(classes, pages, contents, apart, runs, count, control);
    free(apart);
    return status;
}

/* ---- what they come to ---- */

/* The owner of a page: the last one whose first page is not behind it. Without branches, since none could be foretold. */
static uint32_t owner_of(uint32_t page, const uint32_t *owner_first, uint32_t owner_count)
{
    uint32_t owner = 0;

    for (uint32_t rest = owner_count; rest > 1; rest -= rest / 2)
        owner += owner_first[owner + rest / 2] <= page ? rest / 2 : 0;
    return owner;
}

/* Keeps the `most` longest ones, the longest first; of equal ones the first that came. */
static void keep_longest(ps_stretch run, ps_stretch *longest, uint32_t most, uint32_t *kept)
{
    uint32_t at = *kept;

    if (at == most && (!most || longest[most - 1].pages >= run.pages))
        return;
    *kept += at < most;
    for (at -= at == most; at && longest[at - 1].pages < run.pages; at--)
        longest[at] = longest[at - 1];
    longest[at] = run;
}

ps_status ps_runs_sum(const ps_stretch *runs, size_t count, const uint32_t *owner_first, uint32_t owner_count,
                      ps_run_sums *sums, ps_run_pair *pairs, ps_stretch *longest, uint32_t most, uint32_t *kept,
                      const ps_control *control)
{
    for (size_t i = 0; i < count; i++) {
        if (i % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        ps_stretch run = runs[i];
        bool is_zero = run.matches == PS_NONE;
        ps_lengths *lengths = &(is_zero ? sums->zeros : sums->runs)[31 - __builtin_clz(run.pages)];
        lengths->runs++;
        lengths->pages += run.pages;
        if (is_zero)
            continue;
        uint32_t owner = owner_of(run.matches, owner_first, owner_count);
        pairs[owner].runs++;
        pairs[owner].pages += run.pages;
        if (pairs[owner].longest < run.pages)
            pairs[owner].longest = run.pages;
        keep_longest(run, longest, most, kept);
    }
    return PS_OK;
}
