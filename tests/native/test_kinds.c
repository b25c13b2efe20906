/*
 * test_kinds.c - what pages of each size look like: from their first to their last byte and none beyond, which
 * AddressSanitizer watches; and that what decides is what it should be.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pageshare.h"

static const size_t sizes[] = {256, 320, 512, 1024, 4096, 65536};

static uint8_t kind_of(const uint8_t *bytes, size_t count)
{
    uint8_t *exact = malloc(count);
    memcpy(exact, bytes, count);
    uint8_t kind = ps_kind(exact, count);
    free(exact);
    return kind;
}

static void fill(uint8_t *page, size_t size, const char *pattern, size_t length)
{
    for (size_t i = 0; i < size; i++)
        page[i] = (uint8_t)pattern[i % length];
}

/* Magics at the beginning of random bytes, and random bytes with a byte of a header changed: nothing may be read that is
 * not there, whatever lengths they say. */
static void check_bounds(uint8_t *page, size_t size, uint64_t *state)
{
    static const char *const begins[] = {"\177ELF\2\1\1", "\177ELF\1\2\1", "hsqs", "FILE0", "INDX(", "XFSB", "BMAP", "IN\0\0\3\2",
                                         "\x0a\xf3\1\0\4", "\2\0\0\0\x0c\0\1\2.\0\0\0\2\0\0\0", "\355\101"};
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        for (int round = 0; round < 40; round++) {
            for (size_t at = 0; at < size; at++)
                page[at] = round % 2 ? (uint8_t)next_random(state) : 0;
            memcpy(page, begins[i], 16 < strlen(begins[i]) + 1 ? 16 : strlen(begins[i]));
            page[next_random(state) % 64] = (uint8_t)next_random(state);
            CHECK(kind_of(page, size) <= PS_KIND_OTHER);
        }
    }
}

static void check_size(size_t size, uint64_t *state)
{
    uint8_t *page = calloc(1, size);

    CHECK_EQUAL(kind_of(page, size), PS_KIND_ZERO);
    fill(page, size, "x", 1);
    CHECK_EQUAL(kind_of(page, size), PS_KIND_BYTE);
    fill(page, size, "xy", 2);
    CHECK_EQUAL(kind_of(page, size), PS_KIND_WORD2);
    fill(page, size, "xxxy", 4);
    CHECK_EQUAL(kind_of(page, size), PS_KIND_WORD4);
    fill(page, size, "xyzxyzxy", 8);
    CHECK_EQUAL(kind_of(page, size), PS_KIND_WORD8);
    page[size - 1] ^= 1;
    CHECK_EQUAL(kind_of(page, size), PS_KIND_TEXT);
    fill(page, size, "a line of \xc3\xa4 text\n", 18);
    CHECK_EQUAL(kind_of(page, size), PS_KIND_TEXT);
    fill(page, size, "a line of \xe4\xe4\xe4 text\n", 19); /* not UTF-8 */
    CHECK_EQUAL(kind_of(page, size), PS_KIND_OTHER);
    for (size_t at = 0; at < size; at++)
        page[at] = (uint8_t)next_random(state);
    CHECK_EQUAL(kind_of(page, size), size < 512 ? PS_KIND_OTHER : PS_KIND_HIGH_ENTROPY);
    memset(page, 0, size);
    for (size_t at = 0; at + 16 <= size; at += 16) {
        uint64_t pointer = 0xffff888000000000u + (next_random(state) & 0xffffff8);
        memcpy(page + at, &pointer, 8);
    }
    CHECK_EQUAL(kind_of(page, size), PS_KIND_POINTERS);
    for (size_t at = 0; at < size; at += 8) {
        uint64_t entry = next_random(state) % 3 ? (next_random(state) & 0x3ffffff000) + 0x8000000000100067u : 0;
        memcpy(page + at, &entry, 8);
    }
    CHECK_EQUAL(kind_of(page, size), PS_KIND_PAGE_TABLE);
    check_bounds(page, size, state);
    free(page);
}

int main(void)
{
    uint64_t state = 20021209;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        check_size(sizes[i], &state);
    return check_result();
}
