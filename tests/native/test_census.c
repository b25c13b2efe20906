/*
 * test_census.c - the census in place, by several threads, and streamed: pages wherever they lie, against memcmp of
 * every page with every other; files that get shorter before and while it runs; arguments out of range.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "spaces.h"

enum { PAGES = 3000, CONTENTS = 500 };

typedef struct {
    uint32_t canonical[PAGES];
    uint32_t zeros[4];
    ps_owner_tally owners[4];
    ps_tally total;
    ps_census_stats stats;
} result;

static ps_status census_of(ps_space *space, ps_census_config config, result *found)
{
    config.kernel = -1;
    memset(found, 0, sizeof *found);
    return ps_census(space, &config, found->canonical, found->zeros, found->owners, 4, &found->total, &found->stats,
                     NULL);
}

/* Pages of CONTENTS contents, which are equal in their first line and differ in a few bytes; each tenth is zero. */
static uint8_t *some_pages(uint64_t seed)
{
    uint8_t *memory = calloc(PAGES, PAGE);
    REQUIRE(memory);
    for (uint32_t i = 0; i < PAGES; i++) {
        uint64_t content = next_random(&seed) % CONTENTS;
        if (content % 10 == 0)
            continue;
        memset(memory + (size_t)i * PAGE, 7, 64);
        memcpy(memory + (size_t)i * PAGE + 64 + content % 3 * 64, &content, sizeof content);
    }
    return memory;
}

/* What every thread count, and streaming, must give. */
static void expect(const uint8_t *const *at, uint32_t domains, uint32_t *canonical)
{
    for (uint32_t i = 0; i < PAGES; i++) {
        uint32_t low = i / (PAGES / domains) * (PAGES / domains);
        canonical[i] = i;
        for (uint32_t j = low; j < i && canonical[i] == i; j++)
            if (canonical[j] == j && memcmp(at[i], at[j], PAGE) == 0)
                canonical[i] = j;
    }
}

static void check_census(ps_space *space, const uint32_t *canonical, ps_census_config config)
{
    static result found;
    REQUIRE(census_of(space, config, &found) == PS_OK);
    CHECK(memcmp(found.canonical, canonical, sizeof found.canonical) == 0);
    uint64_t pages = 0;
    for (int i = 0; i < 4; i++)
        pages += found.owners[i].zero + found.owners[i].unique + found.owners[i].shared;
    CHECK_EQUAL(pages, PAGES);
    CHECK_EQUAL(found.total.zero + found.total.hints + found.total.shared, PAGES);
}

static void test_any_threads_domains_and_hashes(void)
{
    static uint32_t canonical[PAGES];
    static const uint8_t *at[PAGES];
    uint8_t *memory = some_pages(1);
    for (uint32_t i = 0; i < PAGES; i++)
        at[i] = memory + (size_t)i * PAGE;
    for (uint32_t domains = 1; domains <= 4; domains += 3) {
        ps_space *space = space_of(memory, -1, PAGES, domains);
        expect(at, domains, canonical);
        for (uint64_t seed = 0; seed < 8; seed++)
            for (uint32_t threads = 1; threads <= 4; threads++)
                check_census(space, canonical, (ps_census_config){.seed = seed, .hash_bits = seed % 2 ? 64 : 2,
                                                                  .threads = threads});
        for (uint64_t hold = 0; hold < 40 * PAGE; hold += 13 * PAGE)
            check_census(space, canonical, (ps_census_config){.seed = hold, .hash_bits = hold ? 64 : 2, .threads = 4,
                                                              .options = PS_STREAM, .hold_bytes = hold});
        ps_space_free(space);
    }
    free(memory);
}

/* In files and a buffer at odd offsets, in runs of 1, 2, .. 7 pages that lie in no order. */
static void test_segments(void)
{
    static uint32_t canonical[PAGES];
    static const uint8_t *at[PAGES];
    static ps_segment segments[PAGES];
    uint32_t used = 0, page = 0;
    uint8_t *memory = some_pages(2);
    FILE *file = tmpfile();
    REQUIRE(file && fwrite("odd", 3, 1, file) == 1 && fwrite(memory, PAGE, PAGES, file) == PAGES);
    REQUIRE(fflush(file) == 0);
    size_t bytes = 3 + (size_t)PAGES * PAGE;
    uint8_t *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fileno(file), 0);
    REQUIRE(mapped != MAP_FAILED);
    ps_source sources[] = {{.base = mapped, .bytes = bytes, .fd = fileno(file)},
                           {.base = memory, .bytes = (uint64_t)PAGES * PAGE, .fd = -1},
                           {.base = NULL, .bytes = bytes, .fd = fileno(file)}};
    for (uint32_t run = 1; page < PAGES; page += run, run = run % 7 + 1) {
        run = run > PAGES - page ? PAGES - page : run;
        uint64_t offset = (uint64_t)(PAGES - page - run) * PAGE;
        uint32_t source = used % 2;
        for (uint32_t i = 0; i < run; i++)
            at[page + i] = memory + offset + (uint64_t)i * PAGE;
        segments[used++] = (ps_segment){.offset = offset + (source ? 0 : 3), .first = page, .source = source};
    }
    expect(at, 1, canonical);
    for (uint32_t options = 0; options < 2 * PS_STREAM; options++) {
        ps_space *space = NULL;
        REQUIRE(ps_space_new(&space, segments, used, sources, 3, PAGES, PAGE) == PS_OK);
        check_census(space, canonical, (ps_census_config){.hash_bits = 64, .threads = 3, .options = options,
                                                          .hold_bytes = 5 * PAGE});
        ps_space_free(space);
        /* The last two streamed: nothing is mapped. */
        for (uint32_t i = 0; options == 2 * PS_STREAM - 3 && i < used; i++)
            segments[i].source = segments[i].source ? 1 : 2;
    }
    munmap(mapped, bytes);
    fclose(file);
    free(memory);
}

static ps_space *space_over(FILE *file, uint8_t **mapped)
{
    ps_source source = {.bytes = (uint64_t)PAGES * PAGE, .fd = fileno(file)};
    ps_segment segment = {0};
    ps_space *space = NULL;
    source.base = *mapped = mmap(NULL, source.bytes, PROT_READ, MAP_SHARED, source.fd, 0);
    REQUIRE(*mapped != MAP_FAILED);
    REQUIRE(ps_space_new(&space, &segment, 1, &source, 1, PAGES, PAGE) == PS_OK);
    return space;
}

static void *shrink(void *file)
{
    usleep(300);
    REQUIRE(ftruncate(fileno(file), 1000 * PAGE) == 0);
    return NULL;
}

/* Whenever the file gets shorter: the right counts, or the error; never a crash. */
static void test_files_that_shrink(void)
{
    static result found;
    uint8_t *memory = some_pages(3), *mapped;
    for (int round = 0; round < 40; round++) {
        pthread_t other;
        ps_census_config config = {.hash_bits = 64, .threads = 3, .hold_bytes = 50 * PAGE};
        config.options = round % 4 == 3 ? PS_STREAM : (uint32_t)round % 4;
        FILE *file = tmpfile();
        REQUIRE(file && fwrite(memory, PAGE, PAGES, file) == PAGES && fflush(file) == 0);
        ps_space *space = space_over(file, &mapped);
        if (round < 8)
            shrink(file);
        else
            REQUIRE(pthread_create(&other, NULL, shrink, file) == 0);
        ps_status status = census_of(space, config, &found);
        CHECK(status == PS_SHRANK || (round >= 8 && status == PS_OK));
        CHECK_EQUAL(ps_space_faulted(space) == 0, status == PS_SHRANK);
        if (round >= 8)
            pthread_join(other, NULL);
        ps_space_free(space);
        munmap(mapped, (size_t)PAGES * PAGE);
        fclose(file);
    }
    free(memory);
}

static void test_arguments(void)
{
    static result found;
    uint8_t *memory = some_pages(4);
    ps_space *space = space_of(memory, -1, PAGES, 4), *unmapped = space_of(NULL, 0, PAGES, 1);
    CHECK_EQUAL(census_of(space, (ps_census_config){.hash_bits = 65, .threads = 1}, &found), PS_INVALID);
    CHECK_EQUAL(census_of(space, (ps_census_config){.hash_bits = 64, .threads = 0}, &found), PS_INVALID);
    CHECK_EQUAL(census_of(space, (ps_census_config){.hash_bits = 64, .threads = 1, .options = 8}, &found), PS_INVALID);
    CHECK_EQUAL(census_of(unmapped, (ps_census_config){.hash_bits = 64, .threads = 1}, &found), PS_INVALID);
    ps_census_config config = {.hash_bits = 64, .threads = 1, .kernel = 99};
    CHECK_EQUAL(ps_census(space, &config, found.canonical, found.zeros, found.owners, 4, &found.total, &found.stats,
                          NULL), PS_INVALID);
    config.kernel = -1;
    CHECK_EQUAL(ps_census(space, &config, found.canonical, found.zeros, found.owners, 3, &found.total, &found.stats,
                          NULL), PS_INVALID);
    ps_space_free(space);
    ps_space_free(unmapped);

    /* Owners must come one after the other. */
    ps_source sources[] = {{.base = memory, .bytes = 2 * PAGE, .fd = -1, .owner = 1},
                           {.base = memory, .bytes = 2 * PAGE, .fd = -1, .owner = 0}};
    ps_segment segments[] = {{0, 0, 0}, {0, 2, 1}};
    REQUIRE(ps_space_new(&space, segments, 2, sources, 2, 4, PAGE) == PS_OK);
    CHECK_EQUAL(census_of(space, (ps_census_config){.hash_bits = 64, .threads = 1}, &found), PS_INVALID);
    ps_space_free(space);
    free(memory);
}

/* Payload that begins anywhere in a line of memory, in two ways at once, in pages of any size: nothing outside it is read
 * (the buffers end with it, so that AddressSanitizer would tell), and every byte of it counts. */
static void test_payload_at_any_offset(void)
{
    static const uint32_t sizes[] = {256, 320, 512, 576, 1024, 4096};
    enum { ALL = 96, HALF = ALL / 2 };

    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (uint32_t offset = 0; offset < 64; offset += s == 5 ? 7 : 1) {
            uint32_t size = sizes[s], offsets[] = {offset, offset / 3};
            ps_source sources[2];
            ps_segment segments[2];
            const uint8_t *at[ALL];
            uint64_t bytes[] = {offsets[0] + HALF * (uint64_t)size, offsets[1] + HALF * (uint64_t)size};
            uint8_t *memory[] = {calloc(bytes[0], 1), calloc(bytes[1], 1)};
            REQUIRE(memory[0] && memory[1]);
            for (uint32_t i = 0; i < ALL; i++) {
                uint8_t *page = memory[i / HALF] + offsets[i / HALF] + i % HALF * (size_t)size;
                /* A byte anywhere; each content comes twice or more, and so do zeros. */
                if (i % 5)
                    page[i % HALF * (size - 1) / (HALF - 1)] = 1;
                at[i] = page;
            }
            for (uint32_t i = 0; i < 2; i++) {
                sources[i] = (ps_source){.base = memory[i], .bytes = bytes[i], .fd = -1};
                segments[i] = (ps_segment){.offset = offsets[i], .first = i * HALF, .source = i};
            }
            ps_space *space;
            REQUIRE(ps_space_new(&space, segments, 2, sources, 2, ALL, size) == PS_OK);
            for (uint64_t seed = 0; seed < 3; seed++) {
                static result found;
                ps_census_config config = {.seed = seed, .hash_bits = 64, .threads = 1 + seed % 2};
                REQUIRE(census_of(space, config, &found) == PS_OK);
                for (uint32_t i = 0; i < ALL; i++) {
                    uint32_t lowest = 0;
                    while (memcmp(at[lowest], at[i], size) != 0)
                        lowest++;
                    CHECK_EQUAL(found.canonical[i], lowest);
                }
            }
            ps_space_free(space);
            free(memory[0]);
            free(memory[1]);
        }
}

int main(void)
{
    test_any_threads_domains_and_hashes();
    test_segments();
    test_payload_at_any_offset();
    test_files_that_shrink();
    test_arguments();
    return check_result();
}
