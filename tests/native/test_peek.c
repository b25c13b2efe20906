/*
 * test_peek.c - keys that tell similar pages, held against sets of words; the bytes of pages and their hashes, in place
 * and from a file; the stop flag; a file that is shorter than it was; arguments out of range.
 */
#include <unistd.h>

#include "spaces.h"

#define WORDS (PAGE / 8)

/* Pages of random words of which neighbours have most in common: page i lacks the first i of a common set, the order is
 * another one each time. */
static void similar_pages(uint64_t *memory, uint32_t pages)
{
    uint64_t random = 7, common[WORDS];

    for (uint32_t i = 0; i < WORDS; i++)
        common[i] = next_random(&random) | 1;
    for (uint32_t page = 0; page < pages; page++)
        for (uint32_t i = 0; i < WORDS; i++)
            memory[page * WORDS + (i + 5 * page) % WORDS] = i < page ? next_random(&random) | 1 : common[i];
}

static void test_order_and_repetition_do_not_matter(void)
{
    uint64_t memory[3 * WORDS] = {0};
    uint32_t sketches[3][8], pages[] = {0, 1, 2};

    for (uint32_t i = 0; i < 10; i++) {
        memory[i] = i + 1;
        memory[2 * WORDS - 1 - i] = i + 1; /* the other way round, */
        memory[WORDS + i] = 3;             /* one of them eleven times */
    }
    memory[2 * WORDS] = 1; /* and only one */
    ps_space *space = space_of((const uint8_t *)memory, -1, 3, 1);
    CHECK_EQUAL(ps_space_sketch(space, pages, 3, 8, 42, sketches[0], NULL), PS_OK);
    CHECK(memcmp(sketches[0], sketches[1], sizeof sketches[0]) == 0);
    uint32_t there = 0;
    for (uint32_t j = 0; j < 8; j++)
        there += sketches[2][j] != 0;
    CHECK_EQUAL(there, 1);
    ps_space_free(space);
}

/* How often keys are equal is the share of words in common. */
static void test_keys_estimate_likeness(void)
{
    enum { PAGES = 16, SEEDS = 4000, KEYS = 4 };
    uint64_t memory[PAGES * WORDS];
    uint32_t pages[PAGES], sketches[PAGES][KEYS], equal[PAGES] = {0}, both[PAGES] = {0};

    similar_pages(memory, PAGES);
    ps_space *space = space_of((const uint8_t *)memory, -1, PAGES, 1);
    for (uint32_t i = 0; i < PAGES; i++)
        pages[i] = i;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        CHECK_EQUAL(ps_space_sketch(space, pages, PAGES, KEYS, seed, sketches[0], NULL), PS_OK);
        for (uint32_t i = 0; i < PAGES; i++)
            for (uint32_t j = 0; j < KEYS; j++) {
                both[i] += sketches[0][j] != 0;
                equal[i] += sketches[0][j] && sketches[0][j] == sketches[i][j];
            }
    }
    CHECK_EQUAL(equal[0], both[0]);
    for (uint32_t i = 1; i < PAGES; i++) {
        /* Page i has WORDS - i of page 0's words, and i others; six standard errors of 16,000 draws are 0.024. */
        double likeness = (double)(WORDS - i) / (WORDS + i), found = (double)equal[i] / both[i];
        if (!CHECK(found > likeness - 0.024 && found < likeness + 0.024))
            fprintf(stderr, "  page %u: %.3f instead of %.3f\n", i, found, likeness);
    }
    ps_space_free(space);
}

static void test_domains_and_zeros(void)
{
    uint8_t *memory = pages_of("aa00");
    uint32_t sketches[4], pages[] = {0, 1, 2, 3};
    ps_space *space = space_of(memory, -1, 4, 4);

    CHECK_EQUAL(ps_space_sketch(space, pages, 4, 1, 5, sketches, NULL), PS_OK);
    CHECK(sketches[0] && sketches[1] && sketches[0] != sketches[1]);
    CHECK_EQUAL(sketches[2], 0);
    CHECK_EQUAL(sketches[3], 0);
    ps_space_free(space);
    free(memory);
}

static void test_files(void)
{
    uint8_t *memory = pages_of("abcdef"), to[4 * PAGE];
    uint32_t in_place[6][4], read[6][4], pages[] = {0, 1, 2, 3, 4, 5}, some[] = {4, 0, 0, 5};
    FILE *file = tmpfile();
    REQUIRE(file && fwrite(memory, PAGE, 6, file) == 6 && fflush(file) == 0);
    ps_space *mapped = space_of(memory, -1, 6, 1), *filed = space_of(NULL, fileno(file), 6, 1);

    CHECK_EQUAL(ps_space_sketch(mapped, pages, 6, 4, 5, in_place[0], NULL), PS_OK);
    CHECK_EQUAL(ps_space_sketch(filed, pages, 6, 4, 5, read[0], NULL), PS_OK);
    CHECK(memcmp(in_place, read, sizeof read) == 0);
    for (int i = 0; i < 2; i++) {
        memset(to, 0xee, sizeof to);
        CHECK_EQUAL(ps_space_gather(i ? filed : mapped, some, 4, to), PS_OK);
        for (uint32_t j = 0; j < 4; j++)
            CHECK(memcmp(to + j * PAGE, memory + some[j] * PAGE, PAGE) == 0);
    }
    REQUIRE(ftruncate(fileno(file), 4 * PAGE) == 0);
    CHECK_EQUAL(ps_space_gather(filed, some, 4, to), PS_SHRANK);
    CHECK_EQUAL(ps_space_sketch(filed, pages, 6, 4, 5, read[0], NULL), PS_SHRANK);
    ps_space_free(mapped);
    ps_space_free(filed);
    fclose(file);
    free(memory);
}

/* The numbers of ps_hash128, from the highest byte on. */
static void test_digests(void)
{
    enum { MANY = 50000 };
    uint8_t *memory = pages_of("abc0"), digests[4][16], expected[4][16], kinds[4];
    uint32_t pages[] = {3, 1, 1, 2}, beyond = 4, *many = calloc(MANY, sizeof *many);
    uint8_t *all = malloc(16 * MANY);
    FILE *file = tmpfile();
    REQUIRE(many && all && file && fwrite(memory, PAGE, 4, file) == 4 && fflush(file) == 0);
    ps_space *mapped = space_of(memory, -1, 4, 1), *filed = space_of(NULL, fileno(file), 4, 1);
    ps_hash_key key;
    ps_control control = {0};

    ps_hash_key_init(&key, 0);
    for (int i = 0; i < 4; i++) {
        uint64_t hash[2];
        ps_hash128(0, &key, memory + pages[i] * PAGE, PAGE, 1, hash);
        for (int j = 0; j < 16; j++)
            expected[i][15 - j] = (uint8_t)(hash[j / 8] >> 8 * (j % 8));
    }
    CHECK_EQUAL(ps_space_digest(mapped, pages, 4, digests[0], NULL, &control), PS_OK);
    CHECK(memcmp(digests, expected, sizeof digests) == 0);
    CHECK_EQUAL(control.done, 4);
    memset(digests, 0, sizeof digests);
    CHECK_EQUAL(ps_space_digest(filed, pages, 4, digests[0], kinds, NULL), PS_OK);
    CHECK(memcmp(digests, expected, sizeof digests) == 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(kinds[i], ps_kind(memory + pages[i] * PAGE, PAGE));
    CHECK_EQUAL(ps_space_digest(mapped, many, MANY, all, NULL, &control), PS_OK);
    CHECK_EQUAL(control.done, 4 + MANY);
    CHECK_EQUAL(ps_space_digest(mapped, &beyond, 1, digests[0], kinds, NULL), PS_INVALID);
    CHECK_EQUAL(ps_space_digest(mapped, NULL, 0, NULL, NULL, NULL), PS_OK);
    control.stop = 1;
    CHECK_EQUAL(ps_space_digest(mapped, pages, 4, digests[0], kinds, &control), PS_STOPPED);
    REQUIRE(ftruncate(fileno(file), 2 * PAGE) == 0);
    CHECK_EQUAL(ps_space_digest(filed, pages, 4, digests[0], kinds, NULL), PS_SHRANK);
    ps_space_free(mapped);
    ps_space_free(filed);
    fclose(file);
    free(memory);
    free(many);
    free(all);
}

static void test_control_and_arguments(void)
{
    enum { COUNT = 3000 };
    uint8_t *memory = pages_of("ab"), to[PAGE];
    uint32_t pages[COUNT] = {0}, *sketches = calloc(COUNT, PS_SKETCH_MAX * sizeof *sketches), beyond = 2;
    ps_control control = {0};
    ps_space *space = space_of(memory, -1, 2, 1);

    REQUIRE(sketches);
    CHECK_EQUAL(ps_space_sketch(space, pages, COUNT, PS_SKETCH_MAX, 5, sketches, &control), PS_OK);
    CHECK_EQUAL(control.done, COUNT);
    control.stop = 1;
    CHECK_EQUAL(ps_space_sketch(space, pages, COUNT, 1, 5, sketches, &control), PS_STOPPED);
    CHECK_EQUAL(ps_space_sketch(space, pages, 1, 0, 5, sketches, NULL), PS_INVALID);
    CHECK_EQUAL(ps_space_sketch(space, pages, 1, PS_SKETCH_MAX + 1, 5, sketches, NULL), PS_INVALID);
    CHECK_EQUAL(ps_space_sketch(space, &beyond, 1, 1, 5, sketches, NULL), PS_INVALID);
    CHECK_EQUAL(ps_space_gather(space, &beyond, 1, to), PS_INVALID);
    CHECK_EQUAL(ps_space_gather(space, NULL, 0, NULL), PS_OK);
    ps_space_free(space);
    free(sketches);
    free(memory);
}

int main(void)
{
    test_order_and_repetition_do_not_matter();
    test_keys_estimate_likeness();
    test_domains_and_zeros();
    test_files();
    test_digests();
    test_control_and_arguments();
    return check_result();
}
