/*
 * rows.c - the rows of a saved scan: one for each page that has a content, and for stretches of the others. They are made
 * of what an inventory has, or taken in: those were written by who knows whom, and are held against each other as they
 * come.
 */
#include "internal.h"

/* Rows, or pages, between two looks at the stop flag. */
#define STOP_EVERY (1u << 16)

/* Of zeros and of unknown pages a row may be many: they are no work, but those that are read are. */
static ps_status fill(uint32_t *to, uint64_t count, uint32_t value, const ps_control *control)
{
    for (uint64_t i = 0; i < count; i++) {
        if (i % (16 * STOP_EVERY) == 16 * STOP_EVERY - 1 && ps_stopped(control))
            return PS_STOPPED;
        to[i] = value;
    }
    return PS_OK;
}

/* ---- taking them in ---- */

/* Whether its content is what it can be; a new one becomes known. */
static ps_row_fault take_content(ps_rows *to, const ps_row_columns *from, size_t i)
{
    uint32_t content = from->content[i];
    bool first = from->first[i];

    if (from->state[i] == PS_ROW_UNKNOWN)
        return content != PS_NONE || first ? PS_ROW_HAS_CONTENT : PS_ROW_FINE;
    if (from->state[i] != PS_ROW_DATA) {
        if (content != PS_CLASS_ZERO)
            return PS_ROW_NOT_ZERO;
        if (first != (to->zero_at == PS_NONE))
            return PS_ROW_ZERO_AGAIN;
        if (first)
            to->zero_at = to->contents;
        if (from->state[i] == PS_ROW_ZERO && to->first_page[0] == PS_NONE)
            to->first_page[0] = (uint32_t)to->parts[0].pages;
    } else {
        if (from->pages[i] != 1)
            return PS_ROW_SEVERAL;
        if (first && to->contents == to->most_contents)
            return PS_ROW_MORE_CONTENTS;
        if (first)
            to->first_page[++to->contents] = (uint32_t)to->parts[0].pages;
        if (content < 1 || content > to->contents || (first && content != to->contents))
            return PS_ROW_NUMBER;
    }
    if (first)
        to->held[content] = *to->count++;
    return PS_ROW_FINE;
}

/* Whether it lies behind those before it, and is not more than there can be. */
static ps_row_fault check_place(const ps_rows *to, const ps_row_columns *from, size_t i, const ps_row_part *part)
{
    uint64_t frame = from->frame[i], pages = from->pages[i];
    int32_t owner = from->owner[i];

    if (pages < 1 || frame >= to->most_frame || pages > to->most_frame - frame)
        return PS_ROW_NOWHERE;
    if (owner < to->owner || (owner == to->owner && frame < to->end))
        return PS_ROW_ORDER;
    return pages > part->most_pages - part->pages ? PS_ROW_MORE_PAGES : PS_ROW_FINE;
}

ps_status ps_rows_take(ps_rows *to, const ps_row_columns *from, size_t rows, const ps_control *control)
{
    for (size_t i = 0; i < rows; i++) {
        if (i % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        bool read = from->state[i] <= PS_ROW_ZERO;
        ps_row_part *part = &to->parts[read ? 0 : from->state[i] - PS_ROW_ZERO];
        to->fault = check_place(to, from, i, part);
        if (!to->fault)
            to->fault = take_content(to, from, i);
        if (to->fault)
            return PS_INVALID;
        uint64_t frame = from->frame[i], pages = from->pages[i];
        int32_t owner = from->owner[i];
        if (read && fill(to->content + part->pages, pages, from->content[i], control) != PS_OK)
            return PS_STOPPED;
        if (owner != part->owner || frame != part->end) {
            part->run_owner[part->runs] = owner;
            part->run_frame[part->runs] = frame;
            part->run_first[part->runs++] = part->pages;
        }
        part->by_owner[owner] += pages;
        part->pages += pages;
        part->owner = to->owner = owner;
        part->end = to->end = frame + pages;
    }
    return PS_OK;
}

/* ---- making them ---- */

/* A row that begins at a page, or a stretch, of which only its owner, its frame and its state are known. */
static void begin_row(ps_row_source *from, uint32_t class, ps_row_room *to)
{
    size_t i = to->rows++;
    uint32_t which = class, count = 1;

    if (to->state[i] == PS_ROW_UNKNOWN) {
        to->content[i] = PS_NONE;
        to->first[i] = false;
        return;
    }
    if (to->state[i] != PS_ROW_DATA) {
        to->content[i] = PS_CLASS_ZERO;
        to->first[i] = !from->zero_seen;
        from->zero_seen = true;
        which = PS_CLASS_ZERO;
        count = from->zeros;
    } else if (class == PS_CLASS_UNIQUE) {
        to->content[i] = ++from->numbered;
        to->first[i] = true;
        which = from->content_count + from->unique++;
    } else {
        uint32_t *number = &from->number_of[class];
        to->first[i] = *number == 0;
        if (to->first[i])
            *number = ++from->numbered;
        to->content[i] = *number;
        count = from->contents[class].pages;
    }
    if (to->first[i]) {
        to->which[to->begun] = which;
        to->count[to->begun++] = count;
    }
}

/* Whether there was room: neighbouring pages that have no content of their own share a row. */
static bool add_pages(ps_row_source *from, int8_t state, uint64_t frame, uint64_t pages, uint32_t class, ps_row_room *to)
{
    int32_t owner = from->owner[from->run];
    size_t last = to->rows - 1, i = to->rows;

    if (i > 0 && state != PS_ROW_DATA && to->state[last] == state && to->owner[last] == owner &&
        to->frame[last] + to->pages[last] == frame) {
        to->pages[last] += pages;
        return true;
    }
    if (i == to->most)
        return false;
    to->owner[i] = owner;
    to->frame[i] = frame;
    to->pages[i] = pages;
    to->state[i] = state;
    begin_row(from, class, to);
    return true;
}

ps_status ps_rows_make(ps_row_source *from, ps_row_room *to, const ps_control *control)
{
    to->rows = to->begun = 0;
    for (; from->run < from->runs; from->run++, from->into = 0) {
        size_t run = from->run;
        if (run % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        if (from->state[run] != PS_ROW_DATA) {
            if (!add_pages(from, from->state[run], from->frame[run], from->pages[run], PS_CLASS_ZERO, to))
                return PS_OK;
            continue;
        }
        const uint32_t *classes = from->classes + from->first[run];
        for (; from->into < from->pages[run]; from->into++) {
            if (from->into % STOP_EVERY == 0 && ps_stopped(control))
                return PS_STOPPED;
            uint32_t class = classes[from->into];
            int8_t state = class == PS_CLASS_ZERO ? PS_ROW_ZERO : class == PS_NONE ? PS_ROW_UNKNOWN : PS_ROW_DATA;
            if (!add_pages(from, state, from->frame[run] + from->into, 1, class, to))
                return PS_OK;
        }
    }
    return PS_OK;
}
