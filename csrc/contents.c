/*
 * contents.c - what a census comes to content by content: which are held more than once, and by whom.
 *
 * All of it are passes over the pages in order, each page with a look at its content's record; records are asked for some
 * pages ahead. A content that is held once gets no record: there may be as many as pages.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Pages between two looks at the stop flag: a few milliseconds. */
#define STOP_EVERY (1u << 16)
/* Pages that are sorted out together; a multiple of 64. */
#define STRIP 512
/* How many pages ahead memory is asked for: first what names the record, or the record, then what that leads to. */
#define AHEAD 32
#define LAST_AHEAD 16

static bool is_set(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

static void set(uint64_t *bits, uint32_t i)
{
    bits[i / 64] |= (uint64_t)1 << i % 64;
}

/* ---- numbering ---- */

/* Below, `named` has a bit for each page whose entry is a class number already, or will be before the next strip; the
 * others' is still the canonical page. */

/* Of a strip, the pages that are not the first of their content, and neither zero nor unreadable: how many. Zeros get
 * their number. No branch here, since none could be foretold. */
static uint32_t find_others(uint32_t *classes, uint64_t *named, uint32_t first, uint32_t count, uint32_t zero,
                            uint32_t *others, uint32_t *zeros)
{
    uint32_t found = 0, zero_count = 0;

    for (uint32_t low = 0; low < count; low += 64) {
        uint32_t most = count - low < 64 ? count - low : 64;
        uint64_t bits = 0;
        for (uint32_t i = 0; i < most; i++) {
            uint32_t page = first + low + i, head = classes[page];
            bool is_lost = head == PS_NONE, is_zero = (head == zero) & !is_lost;
            bool is_other = (head != page) & !is_lost & !is_zero;
            classes[page] = is_zero ? PS_CLASS_ZERO : head;
            others[found] = page;
            found += is_other;
            zero_count += is_zero;
            bits |= (uint64_t)(is_lost | is_zero | is_other) << i;
        }
        named[(first + low) / 64] |= bits;
    }
    *zeros += zero_count;
    return found;
}

static void number_others(uint32_t *classes, uint64_t *named, const uint32_t *others, uint32_t found,
                          ps_content *contents, uint32_t *count)
{
    for (uint32_t i = 0; i < found; i++) {
        if (i + AHEAD < found) {
            uint32_t head = classes[others[i + AHEAD]];
            __builtin_prefetch(&classes[head], 1);
            __builtin_prefetch(&named[head / 64], 1);
        }
        if (i + LAST_AHEAD < found) {
            uint32_t head = classes[others[i + LAST_AHEAD]];
            if (is_set(named, head))
                __builtin_prefetch(&contents[classes[head]], 1);
        }
        uint32_t head = classes[others[i]];
        if (!is_set(named, head)) {
            contents[*count] = (ps_content){.first = head, .pages = 1};
            classes[head] = (*count)++;
            set(named, head);
        }
        classes[others[i]] = classes[head];
        contents[classes[head]].pages++;
    }
}

ps_status ps_contents_number(uint32_t *classes, uint32_t pages, uint32_t zero, ps_content *contents, uint32_t *count,
                             const ps_control *control)
{
    uint64_t *named = calloc((size_t)pages / 64 + 1, sizeof *named);
    uint32_t others[STRIP], strip;

    if (!named)
        return PS_NO_MEMORY;
    contents[PS_CLASS_ZERO] = (ps_content){.first = zero};
    *count = 1;
    bool stopped = false;
    for (uint32_t first = 0; first < pages && !stopped; first += strip) {
        strip = pages - first < STRIP ? pages - first : STRIP;
        stopped = first % STOP_EVERY == 0 && ps_stopped(control);
        uint32_t found = find_others(classes, named, first, strip, zero, others, &contents[PS_CLASS_ZERO].pages);
        number_others(classes, named, others, found, contents, count);
    }
    for (uint32_t page = 0; page < pages && !stopped; page++)
        classes[page] = is_set(named, page) ? classes[page] : PS_CLASS_UNIQUE;
    free(named);
    return stopped ? PS_STOPPED : PS_OK;
}

/* ---- who holds what ---- */

static bool is_shared(uint32_t content)
{
    return content != PS_CLASS_ZERO && content < PS_CLASS_UNIQUE;
}

/* Of a strip, the pages whose content has a record: how many. */
static uint32_t find_shared(const uint32_t *classes, uint32_t first, uint32_t count, uint32_t *shared,
                            ps_owner_pages *pages)
{
    uint32_t found = 0, zero = 0, unique = 0, lost = 0;

    for (uint32_t page = first; page < first + count; page++) {
        uint32_t class = classes[page];
        shared[found] = class;
        found += is_shared(class);
        zero += class == PS_CLASS_ZERO;
        unique += class == PS_CLASS_UNIQUE;
        lost += class == PS_NONE;
    }
    pages->zero += zero;
    pages->unique += unique;
    pages->unreadable += lost;
    return found;
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
                           uint32_t count, ps_holding *holdings, uint32_t *holding_count, ps_owner_pages *owners,
                           const ps_control *control)
{
    uint32_t start = 0, held = 0, looks = 0;

    for (uint32_t i = 1; i < count; i++) {
        contents[i].start = start;
        contents[i].owners = 0;
        start += contents[i].pages;
    }
    memset(owners, 0, owner_count * sizeof *owners);
    for (uint32_t owner = 0; owner < owner_count; owner++) {
        uint32_t end = owner_first[owner + 1];
        for (uint32_t first = owner_first[owner], after; first < end; first = after) {
            uint32_t shared[STRIP], count_here = end - first > STRIP ? STRIP : end - first;
            if (looks++ % (STOP_EVERY / STRIP) == 0 && ps_stopped(control))
                return PS_STOPPED;
            after = first + count_here;
            hold(shared, find_shared(classes, first, count_here, shared, &owners[owner]), owner, contents, holdings);
        }
    }
    for (uint32_t i = 1; i < count; i++) {
        memmove(&holdings[held], &holdings[contents[i].start], contents[i].owners * sizeof *holdings);
        contents[i].start = held;
        held += contents[i].owners;
    }
    contents[PS_CLASS_ZERO].start = contents[PS_CLASS_ZERO].owners = 0;
    *holding_count = held;
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

static unsigned ones(uint64_t bits)
{
    bits -= bits >> 1 & 0x5555555555555555u;
    bits = (bits & 0x3333333333333333u) + (bits >> 2 & 0x3333333333333333u);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)(bits * 0x0101010101010101u >> 56);
}

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
