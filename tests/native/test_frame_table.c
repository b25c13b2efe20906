/*
 * test_frame_table.c - the frame table's promises one by one, then long random scripts after which the table's
 * classes must be those of the bytes.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "spaces.h"

static ps_table_stats stats_of(const ps_table *table)
{
    ps_table_stats stats;
    ps_table_get_stats(table, &stats);
    return stats;
}

static void test_outcomes_and_partners(void)
{
    uint8_t *memory = pages_of("aab00ba");
    ps_space *space = space_of(memory, -1, 7, 1);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    uint32_t order[] = {6, 0, 3, 4, 2, 1}, partners[6];
    uint32_t expected[] = {PS_NONE, 6, PS_NONE, 3, PS_NONE, 6};
    uint8_t outcomes[6], expected_outcomes[] = {PS_HINTED, PS_SHARED_NEW, PS_ZERO, PS_ZERO, PS_HINTED, PS_SHARED};
    size_t scanned = 0;

    CHECK_EQUAL(ps_table_scan(table, order, 0, 6, outcomes, partners, NULL, &scanned), PS_OK);
    for (int i = 0; i < 6; i++) {
        CHECK_EQUAL(outcomes[i], expected_outcomes[i]);
        CHECK_EQUAL(partners[i], expected[i]);
    }
    check_sound(table);
    CHECK_SCAN(table, 0, "jjhjjNj");
    CHECK_SCAN(table, 0, "jjjjjjj");
    CHECK_EQUAL(stats_of(table).visits, 8);
    CHECK_EQUAL(stats_of(table).frames, 3);
    CHECK_EQUAL(stats_of(table).members, 7);
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_writes_break_copies(void)
{
    uint8_t *memory = pages_of("aaab0");
    ps_space *space = space_of(memory, -1, 5, 1);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    uint32_t head = 0, pages[] = {0, 3};
    uint8_t broken[2];

    CHECK_SCAN(table, 0, "HNJHZ");
    CHECK_EQUAL(ps_table_classes(table, 1, 1, &head), PS_OK);
    CHECK_EQUAL(head, 0);
    CHECK_EQUAL(ps_table_write(table, pages, 2, broken), PS_OK);
    CHECK_EQUAL(broken[0], 1);
    CHECK_EQUAL(broken[1], 0);
    memset(memory, 'x', PAGE); /* the frame is read through another member by now */
    check_sound(table);
    CHECK_SCAN(table, 0, "Hjjhj");
    CHECK_EQUAL(ps_table_classes(table, 1, 1, &head), PS_OK);
    CHECK(head == 1 || head == 2);

    /* A frame of one stays, at none it goes. */
    uint32_t member = head == 1 ? 2 : 1;
    CHECK_EQUAL(ps_table_write(table, &member, 1, NULL), PS_OK);
    check_sound(table);
    CHECK_EQUAL(stats_of(table).lone_frames, 2); /* and the zero page */
    CHECK_EQUAL(ps_table_write(table, &head, 1, NULL), PS_OK);
    check_sound(table);
    CHECK_EQUAL(stats_of(table).frames, 1);
    CHECK_EQUAL(stats_of(table).cow_breaks, 3);

    /* The zero frame too: it goes, and comes again. */
    uint32_t zero = 4;
    CHECK_EQUAL(ps_table_write(table, &zero, 1, NULL), PS_OK);
    check_sound(table);
    CHECK_EQUAL(stats_of(table).frames, 0);
    CHECK_SCAN(table, 4, "Z");
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_stale_hints(void)
{
    uint8_t *memory = pages_of("abab");
    ps_space *space = space_of(memory, -1, 4, 1);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});

    CHECK_SCAN(table, 0, "HH");
    memset(memory, 'x', PAGE);        /* nobody notices, */
    CHECK_SCAN(table, 2, "TN");       /* until the hint is used */
    CHECK_EQUAL(stats_of(table).stale_hints, 1);
    ps_owner_tally owner;
    ps_tally total;
    CHECK_EQUAL(ps_table_tally(table, &owner, 1, &total, NULL), PS_OK);
    CHECK_EQUAL(total.stale, 1);      /* page 0 has no entry, but is not forgotten */
    CHECK_EQUAL(owner.unique, 2);
    CHECK_EQUAL(owner.shared, 2);
    CHECK_SCAN(table, 0, "Hj");
    CHECK_EQUAL(ps_table_tally(table, &owner, 1, &total, NULL), PS_OK);
    CHECK_EQUAL(total.stale, 0);
    memset(memory, 'a', PAGE);        /* its own old hint goes first */
    CHECK_SCAN(table, 0, "N");
    CHECK_EQUAL(stats_of(table).hints, 0);
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_false_matches(void)
{
    uint8_t *memory = pages_of("abcabc0");
    ps_space *space = space_of(memory, -1, 7, 1);
    ps_table *table = table_over(space, (ps_table_config){.seed = 1, .hash_bits = 0, .kernel = -1});

    CHECK_SCAN(table, 0, "HFFNNNZ");
    CHECK(stats_of(table).false_matches >= 3);
    memset(memory, 'd', PAGE);
    uint32_t page = 0;
    CHECK_EQUAL(ps_table_write(table, &page, 1, NULL), PS_OK);
    CHECK_SCAN(table, 0, "Fjjjjjj");
    CHECK_EQUAL(stats_of(table).stale_hints, 0);
    memset(memory, 0, PAGE); /* a zero page is no hint, whatever its hash */
    CHECK_SCAN(table, 0, "Z");
    CHECK_EQUAL(ps_table_write(table, (uint32_t[]){0, 6}, 2, NULL), PS_OK);
    memset(memory, 'e', PAGE);
    CHECK_SCAN(table, 0, "F");
    memset(memory, 0, PAGE);
    CHECK_SCAN(table, 0, "Z");
    CHECK_EQUAL(stats_of(table).hints, 0);
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_domains_share_nothing(void)
{
    uint8_t *memory = pages_of("ab00ab00");
    for (uint32_t bits = 0; bits <= 64; bits += 64) {
        ps_space *space = space_of(memory, -1, 8, 2);
        ps_table *table = table_over(space, (ps_table_config){.seed = 1, .hash_bits = bits, .kernel = -1});
        ps_owner_tally owners[2];
        ps_tally total;
        uint32_t classes[8];

        CHECK_SCAN(table, 0, bits ? "HHZZHHZZ" : "HFZZHFZZ");
        CHECK_EQUAL(ps_table_classes(table, 0, 8, classes), PS_OK);
        CHECK(classes[0] == 0 && classes[4] == 4 && classes[2] != classes[6]);
        CHECK_EQUAL(ps_table_tally(table, owners, 2, &total, NULL), PS_OK);
        CHECK_EQUAL(total.zero, 4);
        CHECK_EQUAL(total.hints, 4);
        CHECK_EQUAL(total.shared, 0);
        CHECK_EQUAL(owners[1].unique, 2);
        CHECK_EQUAL(ps_table_tally(table, owners, 1, &total, NULL), PS_INVALID);
        ps_table_free(table);
        ps_space_free(space);
    }
    free(memory);
}

static void test_owners_alone(void)
{
    /* One domain, two owners: a is held by both, b twice by the first, c once by each. */
    uint8_t *memory = pages_of("abb0cacd");
    ps_source sources[] = {{.base = memory, .bytes = 4 * PAGE, .fd = -1, .owner = 0},
                           {.base = memory + 4 * PAGE, .bytes = 4 * PAGE, .fd = -1, .owner = 1}};
    ps_segment segments[] = {{0, 0, 0}, {0, 4, 1}};
    ps_space *space = NULL;
    ps_owner_tally owners[2];
    ps_tally total;

    REQUIRE(ps_space_new(&space, segments, 2, sources, 2, 8, PAGE) == PS_OK);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    CHECK_SCAN(table, 0, "HHNZHNNH");
    CHECK_EQUAL(ps_table_tally(table, owners, 2, &total, NULL), PS_OK);
    CHECK(total.zero == 1 && total.hints == 1 && total.shared == 6 && total.kept == 3 && total.lone == 0);
    CHECK(owners[0].zero == 1 && owners[0].unique == 0 && owners[0].shared == 3);
    CHECK(owners[0].alone_unique == 1 && owners[0].alone_shared == 2 && owners[0].alone_kept == 1);
    CHECK(owners[1].zero == 0 && owners[1].unique == 1 && owners[1].shared == 3);
    CHECK(owners[1].alone_unique == 2 && owners[1].alone_shared == 2 && owners[1].alone_kept == 1);
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_drop_hints(void)
{
    uint8_t *memory = pages_of("aabc");
    ps_space *space = space_of(memory, -1, 4, 1);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    uint32_t classes[4];

    CHECK_SCAN(table, 0, "HNHH");
    ps_table_drop_hints(table);
    check_sound(table);
    CHECK_EQUAL(stats_of(table).hints, 0);
    CHECK_EQUAL(stats_of(table).frames, 1);
    CHECK_EQUAL(ps_table_classes(table, 0, 4, classes), PS_OK);
    CHECK(classes[1] == 0 && classes[2] == PS_NONE && classes[3] == PS_NONE);
    CHECK_SCAN(table, 0, "jjHH");
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_cap_on_references(void)
{
    uint8_t *memory = pages_of("aaaaaaa00000");
    ps_space *space = space_of(memory, -1, 12, 1);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS, .max_refs = 3});

    CHECK_SCAN(table, 0, "HNJHNJHZZZZZ"); /* zeros have no limit */
    CHECK_EQUAL(stats_of(table).frames, 3);
    CHECK_EQUAL(stats_of(table).members, 11);
    /* Room made by a write is used again. */
    uint32_t page = 1;
    CHECK_EQUAL(ps_table_write(table, &page, 1, NULL), PS_OK);
    memset(memory + PAGE, 'b', PAGE);
    CHECK_SCAN(table, 0, "jHjjjjJjjjjj");
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_zero_pages_as_any_other(void)
{
    uint8_t *memory = pages_of("0000ab0a");
    ps_space *space = space_of(memory, -1, 8, 1);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS, .max_refs = 3, .options = PS_ZERO_ORDINARY});

    CHECK_SCAN(table, 0, "HNJHHHNN");
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_checksum_keeps_volatile_pages_out(void)
{
    uint8_t *memory = pages_of("aab0");
    ps_space *space = space_of(memory, -1, 4, 1);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS, .options = PS_CHECKSUM});

    CHECK_SCAN(table, 0, "VVVV");
    memset(memory + 2 * PAGE, 'c', PAGE);
    CHECK_SCAN(table, 0, "HNVZ");
    CHECK_SCAN(table, 0, "jjHj");
    memset(memory + 2 * PAGE, 'a', PAGE); /* nor is a page that changed compared with frames (Linux 6.11 and later) */
    CHECK_SCAN(table, 0, "jjVj");
    CHECK_SCAN(table, 0, "jjJj");
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_more_references_than_16_bits_hold(void)
{
    enum { PAGES = 70000 };
    uint8_t *memory = calloc(PAGES, PAGE);
    REQUIRE(memory);
    for (uint32_t i = 0; i < PAGES; i += 2)
        memory[i * PAGE + 7] = 1;
    memory[3 * PAGE] = 9;
    /* Half of them zero; of the others all but page 3 equal; doubled by a second segment over the same bytes. */
    ps_source source = {.base = memory, .bytes = (uint64_t)PAGES * PAGE, .fd = -1};
    ps_segment segments[] = {{0, 0, 0}, {0, PAGES, 0}};
    ps_space *space = NULL;
    ps_owner_tally owner;
    ps_tally total;
    size_t scanned = 0;

    REQUIRE(ps_space_new(&space, segments, 2, &source, 1, 2 * PAGES, PAGE) == PS_OK);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    CHECK_EQUAL(ps_table_scan(table, NULL, 0, 2 * PAGES, NULL, NULL, NULL, &scanned), PS_OK);
    check_sound(table);
    CHECK_EQUAL(ps_table_tally(table, &owner, 1, &total, NULL), PS_OK);
    CHECK_EQUAL(total.zero, PAGES - 2);
    CHECK_EQUAL(total.shared, PAGES + 2);
    CHECK_EQUAL(total.kept, 2);
    CHECK(stats_of(table).bytes <= 16ull * 2 * PAGES + 4096);

    /* Write to 40,000 of them, the head of the frame among them. */
    for (uint32_t page = 0; page < 80000; page += 2)
        CHECK_EQUAL(ps_table_write(table, &page, 1, NULL), PS_OK);
    check_sound(table);
    CHECK_EQUAL(ps_table_tally(table, &owner, 1, &total, NULL), PS_OK);
    CHECK_EQUAL(total.shared, PAGES + 2 - 40000);
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_stop_and_progress(void)
{
    uint8_t *memory = pages_of("abcd");
    ps_space *space = space_of(memory, -1, 4, 1);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    ps_control control = {0};
    size_t scanned = 9;

    CHECK_EQUAL(ps_table_scan(table, NULL, 0, 3, NULL, NULL, &control, &scanned), PS_OK);
    CHECK_EQUAL(control.done, 3);
    control.stop = 1;
    CHECK_EQUAL(ps_table_scan(table, NULL, 3, 1, NULL, NULL, &control, &scanned), PS_STOPPED);
    CHECK_EQUAL(scanned, 0);
    CHECK_EQUAL(stats_of(table).hints, 3);
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
}

static void test_chains(void)
{
    uint8_t *memory = pages_of("abcdefab");
    ps_space *space = space_of(memory, -1, 8, 1);
    for (uint32_t bits = 0; bits <= 64; bits += 64) {
        ps_table *table = table_over(space, (ps_table_config){.hash_bits = bits, .kernel = -1});
        ps_chain_stats chains;
        uint64_t buckets = 0, entries = 0;

        CHECK_SCAN(table, 0, bits ? "HHHHHHNN" : "HFFFFFNN");
        ps_table_get_chains(table, &chains);
        for (uint64_t length = 0; length < 16; length++) {
            buckets += chains.lengths[length];
            entries += chains.lengths[length] * length;
        }
        CHECK_EQUAL(chains.entries, 6);
        CHECK_EQUAL(entries, 6);
        CHECK_EQUAL(buckets, chains.buckets);
        CHECK(bits || chains.longest == 6);
        ps_table_free(table);
    }
    ps_space_free(space);
    free(memory);
}

static void test_bad_arguments(void)
{
    uint8_t *memory = pages_of("abcd");
    ps_space *space = space_of(memory, -1, 4, 1);
    const ps_table_config bad[] = {
        {.hash_bits = 65, .kernel = -1},
        {.hash_bits = 64, .kernel = -1, .max_refs = 1},
        {.hash_bits = 64, .kernel = -1, .options = 4},
        {.hash_bits = 64, .kernel = ps_kernel_count()},
        {.hash_bits = 64, .kernel = -2},
    };
    ps_table *table = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQUAL(ps_table_new(&table, space, &bad[i]), PS_INVALID);
    CHECK(table == NULL);

    table = table_over(space, (ps_table_config){DEFAULTS});
    uint32_t pages[] = {0, 4}, classes[5];
    size_t scanned = 0;
    CHECK_EQUAL(ps_table_scan(table, pages, 0, 2, NULL, NULL, NULL, &scanned), PS_INVALID);
    CHECK_EQUAL(ps_table_scan(table, NULL, 0, 5, NULL, NULL, NULL, &scanned), PS_INVALID);
    CHECK_EQUAL(ps_table_scan(table, NULL, 5, 0, NULL, NULL, NULL, &scanned), PS_INVALID);
    CHECK_EQUAL(ps_table_scan(table, NULL, PS_NONE, 2, NULL, NULL, NULL, &scanned), PS_INVALID);
    CHECK_EQUAL(ps_table_write(table, pages, 2, NULL), PS_INVALID);
    CHECK_EQUAL(ps_table_classes(table, 0, 5, classes), PS_INVALID);
    CHECK_EQUAL(ps_table_classes(table, PS_NONE, 1, classes), PS_INVALID);
    CHECK_EQUAL(stats_of(table).visits, 0);
    CHECK_SCAN(table, 0, "HHHH");
    ps_table_free(table);
    ps_table_free(NULL);
    ps_space_free(space);
    free(memory);
}

/* After every page was looked at since its last change: two pages are in one class if and only if they hold the
 * same bytes and are of one domain. */
static void check_classes(const ps_table *table, const uint8_t *memory, uint32_t pages, uint32_t domains)
{
    uint32_t classes[96];
    REQUIRE(pages <= 96 && ps_table_classes(table, 0, pages, classes) == PS_OK);
    for (uint32_t i = 0; i < pages; i++)
        for (uint32_t j = 0; j < pages; j++) {
            int equal = memcmp(memory + i * PAGE, memory + j * PAGE, PAGE) == 0;
            int one_domain = i / (pages / domains) == j / (pages / domains);
            CHECK_EQUAL(classes[i] == classes[j], equal && one_domain);
        }
}

/* Scans in random order and random portions; writes announced for pages of frames, unannounced for hints. */
static void test_random_script(uint64_t seed, uint32_t bits, uint32_t domains, int from_file)
{
    enum { PAGES = 96, ROUNDS = 30 };
    uint8_t *memory = calloc(PAGES, PAGE);
    FILE *file = from_file ? tmpfile() : NULL;
    REQUIRE(memory && (file || !from_file));
    int fd = file ? fileno(file) : -1;
    REQUIRE(!file || write(fd, memory, PAGES * PAGE) == PAGES * PAGE);
    ps_space *space = space_of(file ? NULL : memory, fd, PAGES, domains);
    ps_table *table = table_over(space, (ps_table_config){.seed = seed, .hash_bits = bits, .kernel = -1});
    uint64_t random = seed * 2 + 1;
    size_t scanned;

    for (int round = 0; round < ROUNDS; round++) {
        uint32_t order[PAGES], changed = (uint32_t)(next_random(&random) >> 32) % 40;
        for (uint32_t i = 0; i < changed; i++) {
            uint32_t page = (uint32_t)(next_random(&random) >> 32) % PAGES;
            CHECK_EQUAL(ps_table_write(table, &page, 1, NULL), PS_OK);
            uint8_t *at = memory + page * PAGE;
            at[next_random(&random) >> 63 ? 0 : PAGE - 1] = (uint8_t)(next_random(&random) >> 62);
            REQUIRE(!file || pwrite(fd, at, PAGE, page * PAGE) == PAGE);
        }
        if (next_random(&random) >> 61 == 0)
            ps_table_drop_hints(table);
        for (uint32_t i = 0; i < PAGES; i++) {
            uint32_t other = (uint32_t)(next_random(&random) >> 32) % (i + 1);
            order[i] = order[other];
            order[other] = i;
        }
        uint32_t part = (uint32_t)(next_random(&random) >> 32) % PAGES;
        CHECK_EQUAL(ps_table_scan(table, order, 0, part, NULL, NULL, NULL, &scanned), PS_OK);
        check_sound(table);
        if (next_random(&random) >> 63)
            continue; /* what was not looked at now may change once more */
        CHECK_EQUAL(ps_table_scan(table, order + part, 0, PAGES - part, NULL, NULL, NULL, &scanned), PS_OK);
        check_sound(table);
        check_classes(table, memory, PAGES, domains);
    }
    ps_table_free(table);
    ps_space_free(space);
    if (file)
        fclose(file);
    free(memory);
}

int main(void)
{
    static const uint32_t bits[] = {0, 1, 3, 64};

    test_outcomes_and_partners();
    test_writes_break_copies();
    test_stale_hints();
    test_false_matches();
    test_domains_share_nothing();
    test_owners_alone();
    test_drop_hints();
    test_cap_on_references();
    test_zero_pages_as_any_other();
    test_checksum_keeps_volatile_pages_out();
    test_more_references_than_16_bits_hold();
    test_stop_and_progress();
    test_chains();
    test_bad_arguments();
    for (uint64_t seed = 1; seed <= 24; seed++)
        test_random_script(seed, bits[seed % 4], 1 + seed % 3, seed % 5 == 0);
    return check_result();
}
