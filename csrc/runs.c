/*
 * runs.c - stretches of pages that are the same elsewhere, in a stretch as well; and stretches of zeros. One pass over the
 * pages, and one over the stretches.
 */
#include <string.h>

#include "internal.h"

/* Pages between two looks at the stop flag. */
#define STOP_EVERY (1u << 16)
/* Pages ahead for which a content's record is asked. */
#define AHEAD 32

/* Where frames stop to follow each other. */
typedef struct {
    const uint32_t *begins;
    uint32_t count, pages;
} layout;

/* The first page from `page` + 1 on that does not follow the one before. */
static uint32_t end_of_stretch(const layout *where, uint32_t page)
{
    uint32_t low = 0, high = where->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (where->begins[middle] > page)
            high = middle;
        else
            low = middle + 1;
    }
    return low < where->count ? where->begins[low] : where->pages;
}

/* What a page matches: the first page of its content; none if that is itself, or if it is held once or unknown. */
static uint32_t match_of(uint32_t class, uint32_t page, const ps_content *contents)
{
    if (class == PS_CLASS_ZERO || class >= PS_CLASS_UNIQUE)
        return PS_NONE;
    return contents[class].first == page ? PS_NONE : contents[class].first;
}

ps_status ps_contents_runs(const uint32_t *classes, uint32_t pages, const ps_content *contents, const uint32_t *begins,
                           uint32_t begin_count, ps_stretch *runs, uint32_t *count, const ps_control *control)
{
    layout where = {.begins = begins, .count = begin_count, .pages = pages};
    ps_stretch run = {.pages = 0};
    uint32_t end = 0, match_end = 0, found = 0;
    bool zero = false;

    for (uint32_t page = 0; page < pages; page++) {
        if (page % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        if (pages - page > AHEAD && classes[page + AHEAD] < PS_CLASS_UNIQUE)
            __builtin_prefetch(&contents[classes[page + AHEAD]]);
        uint32_t match = match_of(classes[page], page, contents);
        bool is_zero = classes[page] == PS_CLASS_ZERO;
        if (run.pages && page != end &&
            (zero ? is_zero : match != PS_NONE && match == run.matches + run.pages && match < match_end)) {
            run.pages++;
            continue;
        }
        if (run.pages)
            runs[found++] = run;
        if (page >= end)
            end = end_of_stretch(&where, page);
        zero = is_zero;
        run = (ps_stretch){.page = page, .pages = is_zero || match != PS_NONE, .matches = match};
        if (match != PS_NONE)
            match_end = end_of_stretch(&where, match);
    }
    if (run.pages)
        runs[found++] = run;
    *count = found;
    return PS_OK;
}

/* ---- what they come to ---- */

/* The owner of a page, which mostly is that of the page before it. */
static uint32_t owner_of(uint32_t page, const uint32_t *owner_first, uint32_t owner_count, uint32_t guess)
{
    uint32_t low = 0, high = owner_count - 1;

    if (owner_first[guess] <= page && page < owner_first[guess + 1])
        return guess;
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        if (owner_first[middle] <= page)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
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
    uint32_t owner = 0;

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
        owner = owner_of(run.matches, owner_first, owner_count, owner);
        pairs[owner].runs++;
        pairs[owner].pages += run.pages;
        if (pairs[owner].longest < run.pages)
            pairs[owner].longest = run.pages;
        keep_longest(run, longest, most, kept);
    }
    return PS_OK;
}
