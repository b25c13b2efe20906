/*
 * runs.c - stretches of pages that are the same elsewhere, in a stretch as well; and stretches of zeros. One pass.
 */
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
