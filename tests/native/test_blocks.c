/*
 * test_blocks.c - equal blocks from equal halves, against plain loops over all pairs of blocks, on random halves: with
 * zeros, halves that are held once, and halves that are not known; and keys that are there again. Arrays are as long as
 * they have to be, so that AddressSanitizer sees what lies beyond.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pageshare.h"

#define MOST_BLOCKS 300u

static uint32_t random_class(uint64_t *state, uint32_t values)
{
    uint32_t drawn = (uint32_t)(next_random(state) % 40);
    return drawn == 0 ? PS_NONE : drawn < 5 ? PS_CLASS_UNIQUE : (uint32_t)(next_random(state) % values);
}

static int is_unknown(const uint32_t *halves)
{
    return halves[0] == PS_NONE || halves[1] == PS_NONE;
}

static uint32_t copies(const uint32_t *classes, uint32_t count, uint32_t block)
{
    const uint32_t *halves = &classes[2 * block];
    uint32_t found = 0;

    if (halves[0] == PS_CLASS_UNIQUE || halves[1] == PS_CLASS_UNIQUE)
        return 1;
    for (uint32_t other = 0; other < count; other++)
        found += !memcmp(halves, &classes[2 * other], 2 * sizeof *halves);
    return found;
}

static void check_blocks(const uint32_t *classes, uint32_t count, uint64_t seed)
{
    uint32_t *pairs = malloc(count * sizeof *pairs + 1);
    ps_pair_counts counts, expected = {0};
    uint32_t largest = 0;

    CHECK_EQUAL(ps_blocks_pair(classes, count, seed, pairs, &counts, NULL), PS_OK);
    for (uint32_t block = 0; block < count; block++) {
        const uint32_t *halves = &classes[2 * block];
        if (is_unknown(halves)) {
            CHECK_EQUAL(pairs[block], PS_NONE);
            expected.unknown++;
        } else if (!halves[0] && !halves[1]) {
            CHECK_EQUAL(pairs[block], PS_CLASS_ZERO);
            expected.zero++;
        } else if (copies(classes, count, block) == 1) {
            CHECK_EQUAL(pairs[block], PS_CLASS_UNIQUE);
            expected.unique++;
        } else {
            int first = 1;
            for (uint32_t other = 0; other < block; other++) {
                int equal = !memcmp(halves, &classes[2 * other], 2 * sizeof *halves);
                CHECK_EQUAL(pairs[block] == pairs[other], equal);
                first &= !equal;
            }
            CHECK(pairs[block] > 0 && pairs[block] < PS_CLASS_UNIQUE);
            largest = pairs[block] > largest ? pairs[block] : largest;
            expected.shared++;
            expected.kept += (uint64_t)first;
        }
    }
    CHECK_EQUAL(memcmp(&counts, &expected, sizeof counts), 0);
    CHECK_EQUAL(largest, expected.kept);
    free(pairs);
}

static void check_keys(uint64_t *state, const ps_control *stop)
{
    uint32_t count = (uint32_t)(next_random(state) % 2000), others = 0, by_chance = 0;
    uint32_t values = 1 + (uint32_t)(next_random(state) % (2 * count + 1));
    uint32_t *keys = malloc(count * sizeof *keys + 1);
    uint8_t *again = malloc(count + 1);

    for (uint32_t i = 0; i < count; i++)
        keys[i] = (uint32_t)(next_random(state) % values) * 2654435769u;
    ps_key_bits of = {.shift = 26};
    while (1u << (32 - of.shift) < 32 * count)
        of.shift--;
    of.once = calloc((size_t)1 << (32 - of.shift) >> 6, sizeof *of.once);
    of.twice = calloc((size_t)1 << (32 - of.shift) >> 6, sizeof *of.twice);
    /* In two parts, as threads do it. */
    CHECK_EQUAL(ps_keys_mark(keys, count / 3, &of, NULL), PS_OK);
    CHECK_EQUAL(ps_keys_mark(keys + count / 3, count - count / 3, &of, NULL), PS_OK);
    CHECK_EQUAL(ps_keys_again(keys, count, &of, again, NULL), PS_OK);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t copies = 0;
        for (uint32_t other = 0; other < count; other++)
            copies += keys[other] == keys[i];
        if (copies > 1 || !keys[i]) {
            CHECK_EQUAL(again[i], 1);
        } else {
            others++;
            by_chance += again[i];
        }
    }
    CHECK(by_chance <= others / 16 + 20);
    if (count) {
        CHECK_EQUAL(ps_keys_mark(keys, count, &of, stop), PS_STOPPED);
        CHECK_EQUAL(ps_keys_again(keys, count, &of, again, stop), PS_STOPPED);
    }
    free(of.once);
    free(of.twice);
    free(keys);
    free(again);
}

int main(void)
{
    uint64_t state = 20021209;
    ps_control stop = {.stop = 1};
    ps_pair_counts counts;

    for (int i = 0; i < 200; i++) {
        uint32_t count = (uint32_t)(next_random(&state) % (MOST_BLOCKS + 1));
        uint32_t values = 1 + (uint32_t)(next_random(&state) % 30);
        uint32_t *classes = malloc(2 * count * sizeof *classes + 1), *pairs = malloc(count * sizeof *pairs + 1);
        for (uint32_t half = 0; half < 2 * count; half++)
            classes[half] = random_class(&state, values);
        check_blocks(classes, count, 0);
        check_blocks(classes, count, next_random(&state));
        if (count)
            CHECK_EQUAL(ps_blocks_pair(classes, count, 1, pairs, &counts, &stop), PS_STOPPED);
        free(classes);
        free(pairs);
        check_keys(&state, &stop);
    }
    CHECK_EQUAL(ps_blocks_pair(NULL, PS_CLASS_UNIQUE / 2, 0, NULL, &counts, NULL), PS_INVALID);
    return check_result();
}
