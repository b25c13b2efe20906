/*
 * test_contents.c - contents and who holds them, from random canonical pages, against plain loops over all pages: with
 * zeros, pages that could not be read, owners without pages, and domains. Arrays are as long as they have to be, so that
 * AddressSanitizer sees what lies beyond.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pageshare.h"

#define MOST_PAGES 300u
#define MOST_OWNERS 9u

typedef struct {
    uint32_t pages, owners, zero;
    uint32_t value[MOST_PAGES];      /* what a page holds: 0 zeros; PS_NONE: it can't be read */
    uint32_t owner[MOST_PAGES];
    uint32_t domain[MOST_OWNERS];
    uint32_t first[MOST_OWNERS + 1];
} memory;

static memory random_memory(uint64_t *state)
{
    memory m = {.pages = (uint32_t)(next_random(state) % (MOST_PAGES + 1)), .zero = PS_NONE};
    uint32_t values = 1 + (uint32_t)(next_random(state) % (m.pages + 1));

    m.owners = 1 + (uint32_t)(next_random(state) % MOST_OWNERS);
    for (uint32_t page = 0; page < m.pages; page++) {
        m.owner[page] = (uint32_t)((uint64_t)page * m.owners / m.pages);
        m.value[page] = next_random(state) % 50 ? (uint32_t)(next_random(state) % values) : PS_NONE;
        if (m.value[page] == 0 && m.zero == PS_NONE)
            m.zero = page;
    }
    for (uint32_t owner = 0; owner < m.owners; owner++) {
        m.domain[owner] = (uint32_t)(next_random(state) % m.owners);
        while (m.first[owner] < m.pages && m.owner[m.first[owner]] < owner)
            m.first[owner]++;
    }
    m.first[m.owners] = m.pages;
    return m;
}

/* The lowest page with the same value; within a domain, if `divided`. */
static uint32_t lowest(const memory *m, uint32_t page, int divided)
{
    if (m->value[page] == PS_NONE)
        return PS_NONE;
    if (m->value[page] == 0)
        return m->zero;
    for (uint32_t other = 0; other < page; other++)
        if (m->value[other] == m->value[page] &&
            (!divided || m->domain[m->owner[other]] == m->domain[m->owner[page]]))
            return other;
    return page;
}

static uint32_t copies(const memory *m, uint32_t page, uint32_t owner, int domain)
{
    uint32_t found = 0;

    for (uint32_t other = 0; other < m->pages; other++)
        found += m->value[other] == m->value[page] && (owner == PS_NONE || m->owner[other] == owner) &&
                 (!domain || m->domain[m->owner[other]] == m->domain[m->owner[page]]);
    return found;
}

static void check_records(const memory *m, const uint32_t *classes, const ps_content *contents, uint32_t count,
                          const ps_holding *holdings, uint32_t held)
{
    uint32_t entries = 0;

    for (uint32_t page = 0; page < m->pages; page++) {
        uint32_t class = classes[page];
        if (m->value[page] == PS_NONE || m->value[page] == 0) {
            CHECK_EQUAL(class, m->value[page] ? PS_NONE : PS_CLASS_ZERO);
            continue;
        }
        if (copies(m, page, PS_NONE, 0) == 1) {
            CHECK_EQUAL(class, PS_CLASS_UNIQUE);
            continue;
        }
        if (!CHECK_EQUAL(class > 0 && class < count, 1))
            continue;
        CHECK_EQUAL(contents[class].first, lowest(m, page, 0));
        CHECK_EQUAL(contents[class].pages, copies(m, page, PS_NONE, 0));
        if (contents[class].first == page)
            entries += contents[class].owners;
        uint32_t found = 0;
        for (uint32_t i = 0; i < contents[class].owners; i++) {
            ps_holding holding = holdings[contents[class].start + i];
            CHECK_EQUAL(holding.pages, copies(m, page, holding.owner, 0));
            CHECK(i == 0 || holding.owner > holdings[contents[class].start + i - 1].owner);
            found += holding.pages;
        }
        CHECK_EQUAL(found, contents[class].pages);
    }
    CHECK_EQUAL(entries, held);
}

static void check_tally(const memory *m, const ps_content *contents, uint32_t count, const ps_holding *holdings,
                        const ps_owner_pages *pages)
{
    ps_owner_tally owners[MOST_OWNERS], expected[MOST_OWNERS];
    ps_tally total;
    uint64_t kept = 0;

    memset(expected, 0, sizeof expected);
    CHECK_EQUAL(ps_contents_tally(contents, count, holdings, pages, m->owners, m->domain, owners, &total, NULL), PS_OK);
    for (uint32_t page = 0; page < m->pages; page++) {
        ps_owner_tally *owner = &expected[m->owner[page]];
        uint32_t alone = copies(m, page, m->owner[page], 0), all = copies(m, page, PS_NONE, 1);
        owner->unreadable += m->value[page] == PS_NONE;
        owner->zero += m->value[page] == 0;
        if (m->value[page] == PS_NONE || m->value[page] == 0)
            continue;
        owner->unique += all == 1;
        owner->shared += all > 1;
        owner->alone_unique += alone == 1;
        owner->alone_shared += alone > 1;
        uint32_t before = 0;
        for (uint32_t other = m->first[m->owner[page]]; other < page; other++)
            before += m->value[other] == m->value[page];
        owner->alone_kept += alone > 1 && before == 0;
        kept += all > 1 && lowest(m, page, 1) == page;
    }
    CHECK_EQUAL(memcmp(owners, expected, m->owners * sizeof *owners), 0);
    CHECK_EQUAL(total.kept, kept);
}

static void check_common(const memory *m, const ps_content *contents, uint32_t count, const ps_holding *holdings,
                         const ps_owner_pages *pages)
{
    uint64_t common[MOST_OWNERS * MOST_OWNERS];

    CHECK_EQUAL(ps_contents_common(contents, count, holdings, pages, m->owners, common, NULL), PS_OK);
    for (uint32_t a = 0; a < m->owners; a++) {
        for (uint32_t b = 0; b < m->owners; b++) {
            uint64_t both = 0;
            for (uint32_t page = 0; page < m->pages; page++)
                both += m->value[page] != PS_NONE && m->value[page] != 0 && lowest(m, page, 0) == page &&
                        copies(m, page, a, 0) && copies(m, page, b, 0);
            CHECK_EQUAL(common[a * m->owners + b], both);
        }
    }
}

/* Frames follow each other but where an owner begins, and before every 7th page: there a frame of known zeros is left,
 * and at every 14th one more, of which nothing is known. */
static int begins(const memory *m, uint32_t page)
{
    return page == m->pages || page % 7 == 0 || m->owner[page] != m->owner[page - 1];
}

#define NOTHING (PS_NONE - 1)
#define MOST_FRAMES (2 * MOST_PAGES)

/* What is at each frame of an owner: a page, PS_NONE for known zeros, NOTHING. The spans that it comes to. */
typedef struct {
    uint32_t frames, at[MOST_FRAMES];
    uint32_t read_first[MOST_PAGES], zero_first[MOST_PAGES];
    uint64_t read_frame[MOST_PAGES], zero_frame[MOST_PAGES];
    ps_spans read, zeros;
} layout;

static void lay_out(const memory *m, uint32_t owner, layout *l)
{
    memset(l, 0, sizeof *l);
    for (uint32_t page = m->first[owner]; page < m->first[owner + 1]; page++) {
        if (page % 7 == 0) {
            l->zero_first[l->zeros.count] = 1000 + (uint32_t)l->zeros.count;
            l->zero_frame[l->zeros.count++] = l->frames;
            l->at[l->frames++] = PS_NONE;
            if (page % 14 == 0)
                l->at[l->frames++] = NOTHING;
        }
        /* Spans may follow each other, too. */
        if (begins(m, page) || page % 5 == 0) {
            l->read_first[l->read.count] = page;
            l->read_frame[l->read.count++] = l->frames;
        }
        l->at[l->frames++] = page;
    }
    l->read = (ps_spans){l->read_first, l->read_frame, l->read.count, m->first[owner + 1]};
    l->zeros = (ps_spans){l->zero_first, l->zero_frame, l->zeros.count, 1000 + l->zeros.count};
}

static void count_length(ps_lengths *lengths, uint32_t pages)
{
    int power = 0;

    while (2u << power <= pages)
        power++;
    lengths[power].runs++;
    lengths[power].pages += pages;
}

static void expect_zeros(const memory *m, const layout *l, ps_lengths *lengths)
{
    for (uint32_t frame = 0, pages = 0; frame <= l->frames; frame++) {
        uint32_t at = frame == l->frames ? NOTHING : l->at[frame];
        if (at == PS_NONE || (at < m->pages && m->value[at] == 0))
            pages++;
        else if (pages) {
            count_length(lengths, pages);
            pages = 0;
        }
    }
}

/* Of pages other than zeros: into `runs`, by ascending page. */
static uint32_t expect_runs(const memory *m, uint32_t owner, ps_stretch *runs)
{
    uint32_t count = 0;

    for (uint32_t page = m->first[owner], end; page < m->first[owner + 1]; page = end) {
        uint32_t match = lowest(m, page, 0);
        end = page + 1;
        if (m->value[page] == 0 || m->value[page] == PS_NONE || match == page)
            continue;
        while (!begins(m, end) && m->value[end] != 0 && m->value[end] != PS_NONE && lowest(m, end, 0) != end &&
               lowest(m, end, 0) == match + end - page && !begins(m, match + end - page))
            end++;
        runs[count++] = (ps_stretch){.page = page, .pages = end - page, .matches = match};
    }
    return count;
}

static void check_found(const memory *m, uint32_t owner, const layout *l, const ps_run_found *found)
{
    ps_stretch runs[MOST_PAGES];
    ps_run_pair pairs[MOST_OWNERS];
    ps_lengths lengths[32], zeros[32];
    uint32_t count = expect_runs(m, owner, runs);

    memset(pairs, 0, sizeof pairs);
    memset(lengths, 0, sizeof lengths);
    memset(zeros, 0, sizeof zeros);
    expect_zeros(m, l, zeros);
    CHECK_EQUAL(found->kept, count < found->most ? count : found->most);
    for (uint32_t i = 0; i < count; i++) {
        ps_run_pair *pair = &pairs[m->owner[runs[i].matches]];
        count_length(lengths, runs[i].pages);
        pair->runs++;
        pair->pages += runs[i].pages;
        pair->longest = pair->longest > runs[i].pages ? pair->longest : runs[i].pages;
        uint32_t before = 0; /* how many are longer, or as long and earlier */
        for (uint32_t j = 0; j < count; j++)
            before += runs[j].pages > runs[i].pages || (runs[j].pages == runs[i].pages && j < i);
        if (before < found->most)
            CHECK_EQUAL(memcmp(&found->longest[before], &runs[i], sizeof *runs), 0);
    }
    CHECK_EQUAL(memcmp(found->runs, lengths, sizeof lengths), 0);
    CHECK_EQUAL(memcmp(found->zeros, zeros, sizeof zeros), 0);
    CHECK_EQUAL(memcmp(found->pairs, pairs, m->owners * sizeof *pairs), 0);
}

static void check_runs(const memory *m, const uint32_t *classes, const ps_content *contents, const ps_control *stop)
{
    static layout l;
    uint64_t apart[MOST_PAGES / 64 + 1] = {0}, expected[MOST_PAGES / 64 + 1] = {0};

    for (uint32_t page = 0; page < m->pages; page++)
        if (begins(m, page))
            expected[page / 64] |= (uint64_t)1 << page % 64;
    for (uint32_t owner = 0; owner < m->owners; owner++) {
        lay_out(m, owner, &l);
        ps_runs_apart(&l.read, m->first, m->owners, apart);
    }
    CHECK_EQUAL(memcmp(apart, expected, m->pages / 64 * sizeof *apart), 0);
    for (uint32_t owner = 0; owner < m->owners; owner++) {
        ps_run_pair pairs[MOST_OWNERS];
        ps_stretch longest[3];
        memset(pairs, 0, sizeof pairs);
        lay_out(m, owner, &l);
        ps_run_source from = {l.read, l.zeros, classes, contents, expected, m->first, m->owners};
        ps_run_found found = {.pairs = pairs, .longest = longest, .most = m->pages % 4};
        uint32_t begin = m->first[owner], end = m->first[owner + 1];
        CHECK_EQUAL(ps_runs_find(&from, begin, end, &found, NULL), PS_OK);
        check_found(m, owner, &l, &found);
        CHECK_EQUAL(ps_runs_find(&from, begin, end, &found, stop), begin < end ? PS_STOPPED : PS_OK);
    }
}

static void check_shares(const memory *m, const ps_content *contents, uint32_t count, const ps_holding *holdings)
{
    ps_owner_share shares[MOST_OWNERS], expected[MOST_OWNERS];

    memset(expected, 0, sizeof expected);
    CHECK_EQUAL(ps_contents_share(contents, count, holdings, m->owners, shares, NULL), PS_OK);
    for (uint32_t page = 0; page < m->pages; page++) {
        ps_owner_share *share = &expected[m->owner[page]];
        uint32_t all = copies(m, page, PS_NONE, 0), mine = copies(m, page, m->owner[page], 0), before = 0;
        if (m->value[page] == PS_NONE || m->value[page] == 0 || all == 1)
            continue;
        for (uint32_t other = m->first[m->owner[page]]; other < page; other++)
            before += m->value[other] == m->value[page];
        share->pages++;
        share->contents += before == 0;
        share->only += before == 0 && mine == all;
        share->kept += 1.0 / all;
    }
    for (uint32_t owner = 0; owner < m->owners; owner++) {
        double wrong = shares[owner].kept - expected[owner].kept;
        CHECK_EQUAL(shares[owner].pages, expected[owner].pages);
        CHECK_EQUAL(shares[owner].contents, expected[owner].contents);
        CHECK_EQUAL(shares[owner].only, expected[owner].only);
        CHECK(wrong < 1e-9 && wrong > -1e-9);
    }
}

/* In two parts, as threads do it. */
static ps_content *number(const memory *m, uint32_t *classes, uint32_t *count, const ps_control *stop)
{
    uint64_t *shared = calloc(m->pages / 64 + 1, sizeof *shared);
    uint32_t *ranks = malloc((m->pages / 64 + 1) * sizeof *ranks), half = m->pages / 2;

    if (m->pages)
        CHECK_EQUAL(ps_contents_mark(classes, 0, m->pages, m->zero, shared, stop), PS_STOPPED);
    CHECK_EQUAL(ps_contents_mark(classes, half, m->pages, m->zero, shared, NULL), PS_OK);
    CHECK_EQUAL(ps_contents_mark(classes, 0, half, m->zero, shared, NULL), PS_OK);
    *count = ps_contents_rank(shared, m->pages, ranks);
    ps_content *contents = calloc(*count, sizeof *contents);
    if (m->pages)
        CHECK_EQUAL(ps_contents_name(classes, 0, m->pages, m->zero, shared, ranks, contents, stop), PS_STOPPED);
    CHECK_EQUAL(ps_contents_name(classes, half, m->pages, m->zero, shared, ranks, contents, NULL), PS_OK);
    CHECK_EQUAL(ps_contents_name(classes, 0, half, m->zero, shared, ranks, contents, NULL), PS_OK);
    if (m->pages)
        CHECK_EQUAL(ps_contents_pages(classes, m->pages, 0, 0, contents, stop), PS_STOPPED);
    CHECK_EQUAL(ps_contents_pages(classes, m->pages, 0, 1, contents, NULL), PS_OK);
    CHECK_EQUAL(ps_contents_pages(classes, m->pages, 1, 1, contents, NULL), PS_OK);
    contents[PS_CLASS_ZERO].first = m->zero;
    for (uint32_t i = 2; i < *count; i++)
        CHECK(contents[i - 1].first < contents[i].first);
    free(shared);
    free(ranks);
    return contents;
}

/* In three parts, whose holdings are put together. */
static uint32_t hold(const memory *m, const uint32_t *classes, ps_content *contents, uint32_t count, uint32_t room,
                     ps_holding *holdings, const ps_control *stop)
{
    uint32_t edges[4], held = 0, found;

    ps_contents_place(contents, count, room, 3, edges);
    CHECK_EQUAL(edges[3], count);
    if (m->pages)
        CHECK_EQUAL(ps_contents_hold(classes, m->first, m->owners, contents, 1, 1, holdings, &found, stop), PS_STOPPED);
    for (int part = 2; part >= 0; part--)
        CHECK_EQUAL(ps_contents_hold(classes, m->first, m->owners, contents, edges[part], edges[part + 1], holdings, &found,
                                     NULL), PS_OK);
    for (uint32_t i = 1; i < count; i++) {
        memmove(&holdings[held], &holdings[contents[i].start], contents[i].owners * sizeof *holdings);
        contents[i].start = held;
        held += contents[i].owners;
    }
    return held;
}

static void check_memory(const memory *m, const ps_control *stop)
{
    uint32_t *classes = malloc(m->pages * sizeof *classes + 1), *canonical = malloc(m->pages * sizeof *canonical + 1);
    ps_owner_pages pages[MOST_OWNERS];
    uint32_t count = 0, held = 0, room = 0;

    for (uint32_t page = 0; page < m->pages; page++)
        classes[page] = lowest(m, page, 0);
    ps_content *contents = number(m, classes, &count, stop);
    for (uint32_t i = 1; i < count; i++)
        room += contents[i].pages;
    ps_holding *holdings = malloc(room * sizeof *holdings + 1);
    held = hold(m, classes, contents, count, room, holdings, stop);
    for (uint32_t owner = 0; owner < m->owners; owner++)
        CHECK_EQUAL(ps_contents_count(classes, m->first, owner, owner + 1, pages, NULL), PS_OK);
    check_records(m, classes, contents, count, holdings, held);
    check_tally(m, contents, count, holdings, pages);
    check_common(m, contents, count, holdings, pages);
    check_runs(m, classes, contents, stop);
    check_shares(m, contents, count, holdings);
    CHECK_EQUAL(ps_contents_share(contents, count, holdings, m->owners, (ps_owner_share[MOST_OWNERS]){{0}}, stop),
                count > 1 ? PS_STOPPED : PS_OK);
    CHECK_EQUAL(ps_contents_divide(classes, m->first, m->owners, m->domain, m->owners, contents, count, canonical, NULL),
                PS_OK);
    for (uint32_t page = 0; page < m->pages; page++)
        CHECK_EQUAL(canonical[page], lowest(m, page, 1));
    if (m->pages) {
        CHECK_EQUAL(ps_contents_divide(classes, m->first, m->owners, m->domain, m->owners, contents, count, canonical, stop),
                    PS_STOPPED);
        CHECK_EQUAL(ps_contents_count(classes, m->first, 0, m->owners, pages, stop), PS_STOPPED);
    }
    free(classes);
    free(canonical);
    free(contents);
    free(holdings);
}

int main(void)
{
    uint64_t state = 20021209;
    ps_control stop = {.stop = 1};

    for (int i = 0; i < 150; i++) {
        memory m = random_memory(&state);
        check_memory(&m, &stop);
    }
    return check_result();
}
