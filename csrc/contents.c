/*
 * contents.c - what a census comes to content by content: which are held more than once, and by whom.
 *
 * All of it are passes over the pages in order, each page with a look at its content's record; records are asked for some
 * pages ahead. A content that is held once gets no record: there may be as many as pages. Passes are cut into parts for
 * several threads: of pages, or of contents.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Pages between two looks at the stop flag: a few milliseconds. */
#define STOP_EVERY (1u << 16)
/* Pages that are sorted out together. */
#define STRIP 512
/* How many pages ahead memory is asked for: first the record, then what that leads to. */
#define AHEAD 32
#define LAST_AHEAD 16

static unsigned ones(uint64_t bits)
{
    bits -= bits >> 1 & 0x5555555555555555u;
    bits = (bits & 0x3333333333333333u) + (bits >> 2 & 0x3333333333333333u);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)(bits * 0x0101010101010101u >> 56);
}

static uint64_t bit_of(uint32_t page)
{
    return (uint64_t)1 << page % 64;
}

/* ---- numbering ---- */

/* Here and below, what is sorted out is written whether it counts or not, and no branch is taken on it: none could be
 * foretold. */
ps_status ps_contents_mark(const uint32_t *canonical, uint32_t first, uint32_t end, uint32_t zero, uint64_t *shared,
                           const ps_control *control)
{
    uint32_t heads[STRIP];

    for (uint32_t low = first, count; low < end; low += count) {
        uint32_t found = 0;
        if ((low - first) % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        count = end - low < STRIP ? end - low : STRIP;
        for (uint32_t page = low; page < low + count; page++) {
            uint32_t head = canonical[page];
            heads[found] = head;
            found += (head != page) & (head != zero) & (head != PS_NONE);
        }
        for (uint32_t i = 0; i < found; i++) {
            uint64_t *word = &shared[heads[i] / 64], bit = bit_of(heads[i]);
            if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
                __atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
        }
    }
    return PS_OK;
}

uint32_t ps_contents_rank(const uint64_t *shared, uint32_t pages, uint32_t *ranks)
{
    uint32_t rank = 1;

    for (uint32_t i = 0; i <= pages / 64; i++) {
        ranks[i] = rank;
        rank += ones(shared[i]);
    }
    return rank;
}

/* Of a strip, the pages whose content has a record: how many. The others get their number. */
static uint32_t find_shared(uint32_t *classes, uint32_t first, uint32_t count, uint32_t zero, const uint64_t *shared,
                            uint32_t *pages)
{
    uint32_t found = 0;

    for (uint32_t page = first; page < first + count; page++) {
        uint32_t head = classes[page];
        bool is_lost = head == PS_NONE, is_zero = (head == zero) & !is_lost;
        uint32_t at = is_lost ? page : head, other = is_lost ? PS_NONE : is_zero ? PS_CLASS_ZERO : PS_CLASS_UNIQUE;
        bool is_shared = (shared[at / 64] >> at % 64 & 1) & !is_lost & !is_zero;
        pages[found] = page;
        found += is_shared;
        classes[page] = is_shared ? head : other;
    }
    return found;
}

ps_status ps_contents_name(uint32_t *classes, uint32_t first, uint32_t end, uint32_t zero, const uint64_t *shared,
                           const uint32_t *ranks, ps_content *contents, const ps_control *control)
{
    uint32_t pages[STRIP];

    for (uint32_t low = first, count; low < end; low += count) {
        if ((low - first) % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        count = end - low < STRIP ? end - low : STRIP;
        uint32_t found = find_shared(classes, low, count, zero, shared, pages);
        for (uint32_t i = 0; i < found; i++) {
            uint32_t head = classes[pages[i]], number = ranks[head / 64] + ones(shared[head / 64] & (bit_of(head) - 1));
            classes[pages[i]] = number;
            if (contents && head == pages[i])
                contents[number].first = head;
        }
    }
    return PS_OK;
}

/* ---- how many pages hold them ---- */

static bool is_shared(uint32_t content)
{
    return content != PS_CLASS_ZERO && content < PS_CLASS_UNIQUE;
}

ps_status ps_contents_pages(const uint32_t *classes, uint32_t pages, uint32_t part, uint32_t mask, ps_content *contents,
                            const ps_control *control)
{
    uint32_t mine[STRIP];

    for (uint32_t low = 0, count; low < pages; low += count) {
        uint32_t found = 0;
        if (low % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        count = pages - low < STRIP ? pages - low : STRIP;
        for (uint32_t page = low; page < low + count; page++) {
            mine[found] = classes[page];
            /* 64 records next to each other, so that few cache lines are two threads'. */
            found += is_shared(classes[page]) & ((classes[page] / 64 & mask) == part);
        }
        for (uint32_t i = 0; i < found; i++) {
            if (i + AHEAD < found)
                __builtin_prefetch(&contents[mine[i + AHEAD]], 1);
            contents[mine[i]].pages++;
        }
    }
    return PS_OK;
}

/* ---- who holds what ---- */

ps_status ps_contents_count(const uint32_t *classes, const uint32_t *owner_first, uint32_t first_owner, uint32_t end_owner,
                            ps_owner_pages *owners, const ps_control *control)
{
    for (uint32_t owner = first_owner; owner < end_owner; owner++) {
        ps_owner_pages pages = {0};
        for (uint32_t low = owner_first[owner], end = owner_first[owner + 1], after; low < end; low = after) {
            uint32_t zero = 0, unique = 0, lost = 0;
            after = end - low < STOP_EVERY ? end : low + STOP_EVERY;
            for (uint32_t page = low; page < after; page++) {
                zero += classes[page] == PS_CLASS_ZERO;
                unique += classes[page] == PS_CLASS_UNIQUE;
                lost += classes[page] == PS_NONE;
            }
            pages.zero += zero;
            pages.unique += unique;
            pages.unreadable += lost;
            if (ps_stopped(control))
                return PS_STOPPED;
        }
        owners[owner] = pages;
    }
    return PS_OK;
}

ps_status ps_contents_states(const uint32_t *classes, const uint8_t *several, uint32_t count, const uint64_t *edges,
                             const int64_t *cells, size_t pieces, uint64_t *counts, size_t cell_count,
                             const ps_control *control)
{
    uint64_t since = STOP_EVERY;

    for (size_t piece = 0; piece < pieces; piece++) {
        uint64_t zero = 0, unique = 0, lost = 0, inter = 0, *of = counts + cells[piece];
        if (since >= STOP_EVERY && ps_stopped(control))
            return PS_STOPPED;
        since = (since >= STOP_EVERY ? 0 : since) + (edges[piece + 1] - edges[piece]);
        for (uint64_t page = edges[piece]; page < edges[piece + 1]; page++) {
            zero += classes[page] == PS_CLASS_ZERO;
            unique += classes[page] == PS_CLASS_UNIQUE;
            lost += classes[page] == PS_NONE;
        }
        for (uint64_t page = edges[piece]; page < edges[piece + 1]; page++)
            inter += several[classes[page] < count ? classes[page] : PS_CLASS_ZERO];
        of[0] += zero;
        of[cell_count] += unique;
        of[2 * cell_count] += edges[piece + 1] - edges[piece] - zero - unique - lost - inter;
        of[3 * cell_count] += inter;
        of[4 * cell_count] += lost;
    }
    return PS_OK;
}

void ps_contents_place(ps_content *contents, uint32_t count, uint64_t pages, uint32_t parts, uint32_t *edges)
{
    uint64_t start = 0;
    uint32_t part = 0;

    for (uint32_t i = 1; i < count; i++) {
        while (part < parts && start >= pages * part / parts)
            edges[part++] = i;
        contents[i].start = (uint32_t)start;
        contents[i].owners = 0;
        start += contents[i].pages;
    }
    while (part <= parts)
        edges[part++] = count;
}

/* `owner` has a page more of each of these contents. Holdings of a content lie from its `start` on, with room for one a
 * page. */
static void hold(const uint32_t *shared, uint32_t found, uint32_t owner, ps_content *contents, ps_holding *holdings)
{
    for (uint32_t i = 0; i < found; i++) {
        if (i + AHEAD < found)
            __builtin_prefetch(&contents[shared[i + AHEAD]], 1);
        if (i + LAST_AHEAD < found) {
            const ps_content *next = &contents[shared[i + LAST_AHEAD]];
            __builtin_prefetch(&holdings[next->start + next->owners - (next->owners > 0)], 1);
        }
        ps_content *content = &contents[shared[i]];
        ps_holding *last = &holdings[content->start + content->owners];
        if (content->owners && last[-1].owner == owner) {
            last[-1].pages++;
        } else {
            *last = (ps_holding){.owner = owner, .pages = 1};
            content->owners++;
        }
    }
}

ps_status ps_contents_hold(const uint32_t *classes, const uint32_t *owner_first, uint32_t owner_count, ps_content *contents,
                           uint32_t first, uint32_t end, ps_holding *holdings, uint32_t *held, const ps_control *control)
{
    uint32_t looks = 0, shared[STRIP];

    for (uint32_t owner = 0; owner < owner_count; owner++) {
        for (uint32_t low = owner_first[owner], after; low < owner_first[owner + 1]; low = after) {
            uint32_t found = 0;
            if (looks++ % (STOP_EVERY / STRIP) == 0 && ps_stopped(control))
                return PS_STOPPED;
            after = owner_first[owner + 1] - low > STRIP ? low + STRIP : owner_first[owner + 1];
            for (uint32_t page = low; page < after; page++) {
                shared[found] = classes[page];
                found += classes[page] - first < end - first;
            }
            hold(shared, found, owner, contents, holdings);
        }
    }
    uint32_t at = first < end ? contents[first].start : 0, begin = at;
    for (uint32_t i = first; i < end; i++) {
        memmove(&holdings[at], &holdings[contents[i].start], contents[i].owners * sizeof *holdings);
        contents[i].start = at;
        at += contents[i].owners;
    }
    *held = at - begin;
    return PS_OK;
}

/* ---- domains ---- */

/* The first page of a content in the domain that was looked at last. */
typedef struct {
    uint32_t page;
    uint32_t domain;
} first_seen;

static void divide_owner(const uint32_t *classes, uint32_t first, uint32_t end, uint32_t domain, uint32_t zero,
                         first_seen *seen, uint32_t *canonical)
{
    for (uint32_t page = first; page < end; page++) {
        if (page + AHEAD < end && is_shared(classes[page + AHEAD]))
            __builtin_prefetch(&seen[classes[page + AHEAD]], 1);
        uint32_t class = classes[page];
        if (is_shared(class)) {
            if (seen[class].domain != domain)
                seen[class] = (first_seen){.page = page, .domain = domain};
            canonical[page] = seen[class].page;
        } else {
            canonical[page] = class == PS_CLASS_ZERO ? zero : class == PS_CLASS_UNIQUE ? page : PS_NONE;
        }
    }
}

ps_status ps_contents_divide(const uint32_t *classes, const uint32_t *owner_first, uint32_t owner_count,
                             const uint32_t *domains, uint32_t domain_count, const ps_content *contents, uint32_t count,
                             uint32_t *canonical, const ps_control *control)
{
    first_seen *seen = malloc((size_t)count * sizeof *seen);

    if (!seen)
        return PS_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        seen[i].domain = domain_count;
    bool stopped = false;
    for (uint32_t domain = 0; domain < domain_count; domain++) {
        for (uint32_t owner = 0; owner < owner_count && !stopped; owner++) {
            if (domains[owner] != domain)
                continue;
            uint32_t end = owner_first[owner + 1];
            for (uint32_t first = owner_first[owner], after; first < end && !stopped; first = after) {
                after = end - first > STOP_EVERY ? first + STOP_EVERY : end;
                divide_owner(classes, first, after, domain, contents[PS_CLASS_ZERO].first, seen, canonical);
                stopped = ps_stopped(control);
            }
        }
    }
    free(seen);
    return stopped ? PS_STOPPED : PS_OK;
}

/* ---- what that comes to ---- */

/* One content, where only pages of one domain are shared. `in_domain` is all zero before and after. */
static void tally_content(const ps_holding *holdings, uint32_t count, const uint32_t *domains, uint64_t *in_domain,
                          ps_owner_tally *owners, ps_tally *total)
{
    for (uint32_t i = 0; i < count; i++)
        in_domain[domains[holdings[i].owner]] += holdings[i].pages;
    for (uint32_t i = 0; i < count; i++) {
        ps_owner_tally *owner = &owners[holdings[i].owner];
        uint32_t pages = holdings[i].pages;
        if (in_domain[domains[holdings[i].owner]] > 1) {
            owner->shared += pages;
            total->shared += pages;
        } else {
            owner->unique++;
            total->hints++;
        }
        if (pages > 1) {
            owner->alone_shared += pages;
            owner->alone_kept++;
        } else {
            owner->alone_unique++;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t *pages = &in_domain[domains[holdings[i].owner]];
        total->kept += *pages > 1;
        *pages = 0;
    }
}

ps_status ps_contents_tally(const ps_content *contents, uint32_t count, const ps_holding *holdings,
                            const ps_owner_pages *pages, uint32_t owner_count, const uint32_t *domains,
                            ps_owner_tally *owners, ps_tally *total, const ps_control *control)
{
    uint64_t *in_domain = calloc((size_t)owner_count + 1, sizeof *in_domain);

    if (!in_domain)
        return PS_NO_MEMORY;
    memset(owners, 0, owner_count * sizeof *owners);
    *total = (ps_tally){0};
    bool stopped = false;
    for (uint32_t i = 1; i < count && !stopped; i++) {
        stopped = i % STOP_EVERY == 1 && ps_stopped(control);
        tally_content(&holdings[contents[i].start], contents[i].owners, domains, in_domain, owners, total);
    }
    for (uint32_t i = 0; i < owner_count; i++) {
        owners[i].zero = pages[i].zero;
        owners[i].unreadable = pages[i].unreadable;
        owners[i].unique += pages[i].unique;
        owners[i].alone_unique += pages[i].unique;
        total->zero += pages[i].zero;
        total->unreadable += pages[i].unreadable;
        total->hints += pages[i].unique;
    }
    free(in_domain);
    return stopped ? PS_STOPPED : PS_OK;
}

/* A content that n owners hold is in n^2 / 2 cells. One that many hold is therefore kept as a bit of each of them, until
 * there are 64: then the cell of two owners grows by the bits that both have. That takes owner_count^2 / 128 steps a content,
 * and is what is done if they are fewer. */
#define IN_A_WORD 64u

/* Clears the words. Returns whether it was stopped. */
static bool add_words(uint64_t *words, uint32_t owner_count, uint64_t *common, const ps_control *control)
{
    for (uint32_t a = 0; a < owner_count; a++) {
        uint64_t *row = common + (size_t)a * owner_count;
        if (a % 1024 == 0 && ps_stopped(control))
            return true;
        if (words[a])
            for (uint32_t b = a; b < owner_count; b++)
                row[b] += ones(words[a] & words[b]);
        words[a] = 0;
    }
    return false;
}

static void add_pairs(const ps_holding *held, uint32_t owners, uint32_t owner_count, uint64_t *common)
{
    for (uint32_t a = 0; a < owners; a++) {
        uint64_t *row = common + (size_t)held[a].owner * owner_count;
        for (uint32_t b = a; b < owners; b++)
            row[held[b].owner]++;
    }
}

ps_status ps_contents_common(const ps_content *contents, uint32_t count, const ps_holding *holdings,
                             const ps_owner_pages *pages, uint32_t owner_count, uint64_t *common, const ps_control *control)
{
    uint64_t *words = calloc((size_t)owner_count + 1, sizeof *words);
    uint64_t since = 0;
    unsigned bit = 0;
    bool stopped = false;

    if (!words)
        return PS_NO_MEMORY;
    memset(common, 0, (size_t)owner_count * owner_count * sizeof *common);
    for (uint32_t i = 1; i < count && !stopped; i++) {
        const ps_holding *held = &holdings[contents[i].start];
        uint32_t owners = contents[i].owners;
        uint64_t steps = (uint64_t)owners * owners;
        bool as_bits = steps * IN_A_WORD > (uint64_t)owner_count * owner_count;
        since += as_bits ? owners : steps;
        if (since >= 16u * STOP_EVERY) {
            since = 0;
            stopped = ps_stopped(control);
        }
        if (!as_bits) {
            add_pairs(held, owners, owner_count, common);
            continue;
        }
        for (uint32_t a = 0; a < owners; a++)
            words[held[a].owner] |= (uint64_t)1 << bit;
        if (++bit == IN_A_WORD) {
            bit = 0;
            stopped = stopped || add_words(words, owner_count, common, control);
        }
    }
    stopped = stopped || add_words(words, owner_count, common, control);
    free(words);
    if (stopped)
        return PS_STOPPED;
    for (uint32_t a = 0; a < owner_count; a++) {
        common[(size_t)a * owner_count + a] += pages[a].unique;
        for (uint32_t b = 0; b < a; b++)
            common[(size_t)a * owner_count + b] = common[(size_t)b * owner_count + a];
    }
    return PS_OK;
}

ps_status ps_contents_share(const ps_content *contents, uint32_t count, const ps_holding *holdings, uint32_t owner_count,
                            ps_owner_share *shares, const ps_control *control)
{
    memset(shares, 0, owner_count * sizeof *shares);
    for (uint32_t i = 1; i < count; i++) {
        if (i % STOP_EVERY == 1 && ps_stopped(control))
            return PS_STOPPED;
        const ps_holding *held = &holdings[contents[i].start];
        double each = 1.0 / contents[i].pages;
        for (uint32_t a = 0; a < contents[i].owners; a++) {
            ps_owner_share *share = &shares[held[a].owner];
            share->pages += held[a].pages;
            share->contents++;
            share->only += contents[i].owners == 1;
            share->kept += held[a].pages * each;
        }
    }
    return PS_OK;
}
