/*
 * test_estimate.c - the sample of contents: exact with memory enough, every content below the threshold with all its pages
 * without; buffers and files alike; stopped, cut short, arguments out of range.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "spaces.h"

enum { OWNERS = 3, EACH = 2000, PAGES = OWNERS * EACH, CONTENTS = 1500 };

/* Pages of random contents, 1 to CONTENTS, or zero; a source for each owner, in a buffer or a file. */
static ps_space *random_space(const uint8_t *memory, int fd, const uint32_t *domains)
{
    ps_source sources[OWNERS];
    ps_segment segments[OWNERS];
    ps_space *space = NULL;

    for (uint32_t i = 0; i < OWNERS; i++) {
        sources[i] = (ps_source){.base = memory, .bytes = (uint64_t)PAGES * PAGE, .fd = fd, .owner = i,
                                 .domain = domains[i]};
        segments[i] = (ps_segment){(uint64_t)i * EACH * PAGE, i * EACH, i};
    }
    REQUIRE(ps_space_new(&space, segments, OWNERS, sources, OWNERS, PAGES, PAGE) == PS_OK);
    return space;
}

/* What all contents come to, by a plain array. */
static ps_sample count_plainly(const uint32_t *numbers, const uint32_t *domains, uint64_t *zeros)
{
    static uint32_t held[2][CONTENTS + 1][OWNERS];
    ps_sample all = {0};

    memset(held, 0, sizeof held);
    memset(zeros, 0, OWNERS * sizeof *zeros);
    for (uint32_t i = 0; i < PAGES; i++) {
        held[domains[i / EACH]][numbers[i]][i / EACH]++;
        zeros[i / EACH] += !numbers[i];
    }
    for (uint32_t d = 0; d < 2; d++) {
        for (uint32_t c = 1; c <= CONTENTS; c++) {
            uint64_t pages = 0, owners = 0;
            for (uint32_t o = 0; o < OWNERS; o++) {
                pages += held[d][c][o];
                owners += held[d][c][o] != 0;
            }
            all.contents += pages > 0;
            all.unique += pages == 1;
            all.pages += pages;
            all.owners += owners;
            all.owners_squared += owners * owners;
        }
    }
    return all;
}

static void check_same(const ps_sample *found, const ps_sample *expected)
{
    CHECK_EQUAL(found->threshold, expected->threshold);
    CHECK_EQUAL(found->contents, expected->contents);
    CHECK_EQUAL(found->evicted, expected->evicted);
    CHECK_EQUAL(found->unique, expected->unique);
    CHECK_EQUAL(found->pages, expected->pages);
    CHECK_EQUAL(found->owners, expected->owners);
    CHECK_EQUAL(found->owners_squared, expected->owners_squared);
}

static void test_random(uint64_t seed, FILE *file)
{
    uint8_t *memory = calloc(PAGES, PAGE);
    uint32_t *numbers = calloc(PAGES, sizeof *numbers), domains[OWNERS] = {0, seed % 2, 0};
    uint64_t state = seed, zeros[OWNERS];
    REQUIRE(memory && numbers);

    for (uint32_t i = 0; i < PAGES; i++) {
        numbers[i] = next_random(&state) % 4 ? (uint32_t)(next_random(&state) % CONTENTS) + 1 : 0;
        memcpy(memory + (size_t)i * PAGE + PAGE / 2, &numbers[i], sizeof *numbers);
    }
    REQUIRE(fseek(file, 0, SEEK_SET) == 0 && fwrite(memory, PAGE, PAGES, file) == PAGES && fflush(file) == 0);
    ps_space *space = random_space(memory, -1, domains), *on_disk = random_space(NULL, fileno(file), domains);
    ps_sample all = count_plainly(numbers, domains, zeros), found, again;
    ps_owner_sample owners[OWNERS];
    ps_control control = {0};

    all.threshold = UINT64_MAX;
    ps_sample_config config = {.seed = seed, .memory = 1 << 20, .threads = (uint32_t)(seed % 4) + 1, .kernel = -1};
    CHECK_EQUAL(ps_sample_contents(space, &config, owners, OWNERS, &found, &control), PS_OK);
    check_same(&found, &all);
    CHECK_EQUAL(control.done, PAGES);
    for (uint32_t i = 0; i < OWNERS; i++)
        CHECK(owners[i].zero == zeros[i] && owners[i].unreadable == 0);

    /* Less and less memory: the samples lie one within the other, for the threshold only falls. */
    ps_sample more = found;
    for (config.memory = 16 << 10; config.memory >= 1 << 10; config.memory /= 2) {
        uint64_t most = config.memory / 20 * 3 / 4;
        CHECK_EQUAL(ps_sample_contents(space, &config, owners, OWNERS, &found, NULL), PS_OK);
        CHECK(found.contents <= most && found.contents > most / 4 && found.evicted > 0);
        CHECK(found.threshold < more.threshold && found.contents < more.contents && found.pages < more.pages);
        CHECK(found.unique <= more.unique && found.owners < more.owners);
        CHECK(found.pages >= 2 * found.contents - found.unique && found.owners <= found.pages);
        for (uint32_t i = 0; i < OWNERS; i++)
            CHECK_EQUAL(owners[i].zero, zeros[i]);
        CHECK_EQUAL(ps_sample_contents(on_disk, &config, owners, OWNERS, &again, NULL), PS_OK);
        check_same(&again, &found);
        more = found;
    }
    ps_space_free(space);
    ps_space_free(on_disk);
    free(memory);
    free(numbers);
}

static void test_ends(FILE *file)
{
    uint8_t *memory = pages_of("aabbc0");
    ps_sample_config config = {.memory = 4096, .threads = 2, .kernel = -1};
    ps_owner_sample owners[1];
    ps_sample found;
    ps_control control = {.stop = 1};
    ps_space *space = space_of(memory, -1, 6, 1);

    CHECK_EQUAL(ps_sample_contents(space, &config, owners, 1, &found, &control), PS_STOPPED);
    CHECK_EQUAL(ps_sample_contents(space, &config, owners, 0, &found, NULL), PS_INVALID);
    config.memory = 1023;
    CHECK_EQUAL(ps_sample_contents(space, &config, owners, 1, &found, NULL), PS_INVALID);
    config.memory = 1024;
    config.kernel = 99;
    CHECK_EQUAL(ps_sample_contents(space, &config, owners, 1, &found, NULL), PS_INVALID);
    config.kernel = 0;
    CHECK_EQUAL(ps_sample_contents(space, &config, owners, 1, &found, NULL), PS_OK);
    CHECK(found.contents == 3 && found.unique == 1 && found.pages == 5 && owners[0].zero == 1);
    ps_space_free(space);

    REQUIRE(ftruncate(fileno(file), 6 * PAGE) == 0);
    space = space_of(NULL, fileno(file), 6, 1);
    REQUIRE(ftruncate(fileno(file), 3 * PAGE + 1) == 0);
    CHECK_EQUAL(ps_sample_contents(space, &config, owners, 1, &found, NULL), PS_SHRANK);
    CHECK_EQUAL(ps_space_faulted(space), 0);
    ps_space_free(space);

    REQUIRE(ps_space_new(&space, NULL, 0, NULL, 0, 0, PAGE) == PS_OK);
    CHECK_EQUAL(ps_sample_contents(space, &config, owners, 0, &found, NULL), PS_OK);
    CHECK(found.contents == 0 && found.threshold == UINT64_MAX);
    ps_space_free(space);
    free(memory);
}

/* Pages that are hashes: each a content, but for those that stand for zeros. */
static void test_fingerprints(void)
{
    const uint64_t pages[] = {5, 7, 5, 1, 1, 9};
    ps_source source = {.base = (const uint8_t *)pages, .bytes = sizeof pages, .fd = -1};
    ps_segment segment = {0, 0, 0};
    ps_sample_config config = {.memory = 4096, .threads = 2, .kernel = -1, .zero_hash = 1};
    ps_owner_sample owners[1];
    ps_sample found;
    ps_space *space = NULL;

    REQUIRE(ps_space_new(&space, &segment, 1, &source, 1, 6, PS_FINGERPRINT_BYTES) == PS_OK);
    CHECK_EQUAL(ps_sample_contents(space, &config, owners, 1, &found, NULL), PS_OK);
    CHECK(found.contents == 3 && found.unique == 2 && found.pages == 4 && owners[0].zero == 2);
    ps_space_free(space);
}

int main(void)
{
    FILE *file = tmpfile();
    REQUIRE(file);
    for (uint64_t seed = 1; seed <= 6; seed++)
        test_random(seed, file);
    test_fingerprints();
    test_ends(file);
    fclose(file);
    return check_result();
}
