/*
 * test_page.c - every kernel that this processor runs: known hashes, the same ones as the scalar kernel's, and
 * zero and equality tests that see every bit, of one page and of several in lockstep.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "internal.h"

static const size_t page_sizes[] = {256, 512, 576, 1024, 1088, 2048, 4096, 4160, 8192, 16384, 65536, 2 << 20};
#define PAGE_SIZES (sizeof page_sizes / sizeof *page_sizes)

/* Memory of exactly this size, so that AddressSanitizer sees a read beyond it. */
static uint8_t *random_bytes(size_t bytes, uint64_t state)
{
    uint8_t *memory = malloc(bytes);
    if (!memory)
        abort();
    for (size_t i = 0; i < bytes; i++)
        memory[i] = (uint8_t)(next_random(&state) >> 32);
    return memory;
}

/* Computed by PyPI xxhash 4.1.0 (xxh3_128_intdigest) over the first `bytes` bytes of the little-endian words that
 * next_random gives from 0x9E3779B97F4A7C15 on. For inputs this long XXH3-64 is the low word. */
static const struct {
    size_t bytes;
    uint64_t seed, low, high;
} known[] = {
    {256, 0x0, 0x7437275dec51e0a9, 0x08e5ec39382e6406},
    {256, 0xffffffffffffffff, 0x7f1154e3ea5dc4cb, 0x91cba617b47fea27},
    {512, 0x0, 0xadd48bd67ded6c4a, 0xae613270e53b849d},
    {512, 0x9e3779b185ebca87, 0x0d11f5f283e7f134, 0xe09c56bba08080a7},
    {1024, 0x0, 0xca90fd6f43131929, 0xc83471745c0eb1a8},
    {1024, 0x1, 0x3b906e9faaf71299, 0x489198df90c9febc},
    {4096, 0x0, 0xfbd392f054e620e7, 0xfcc6021fdbaa2650},
    {4096, 0x1, 0x456bef2d36b95aab, 0x0057280e67bd548e},
    {4096, 0x9e3779b185ebca87, 0x3f54318c324415a8, 0xd9d9f39ed549cdf8},
    {4096, 0xffffffffffffffff, 0xf0a5a32fc3c31bf7, 0x01ea38ab0e7f1228},
    {65536, 0x0, 0x70abd5348eb1ad39, 0xcf9a041e3c1c6210},
    {65536, 0x1, 0x7f3b45726161dc4c, 0xda41081623aa6545},
    {2 << 20, 0x0, 0x387d0bb212a56904, 0x3bfd612f9f5210e3},
    {2 << 20, 0xffffffffffffffff, 0x1f6c9e7f96c1aced, 0x9d3dc9a4606449c2},
};

static void test_known_hashes(int kernel)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint8_t *page = malloc(known[i].bytes);
        uint64_t state = 0x9E3779B97F4A7C15, hash64 = 0, hash128[2] = {0};
        if (!page)
            abort();
        for (size_t at = 0; at < known[i].bytes; at += 8) {
            uint64_t word = next_random(&state);
            for (int byte = 0; byte < 8; byte++)
                page[at + (size_t)byte] = (uint8_t)(word >> 8 * byte);
        }
        ps_hash_key key;
        ps_hash_key_init(&key, known[i].seed);
        ps_hash64(kernel, &key, page, known[i].bytes, 1, &hash64);
        ps_hash128(kernel, &key, page, known[i].bytes, 1, hash128);
        CHECK_EQUAL(hash64, known[i].low);
        CHECK_EQUAL(hash128[0], known[i].low);
        CHECK_EQUAL(hash128[1], known[i].high);
        free(page);
    }
}

/* As many pages as fit in 256 KiB, and at least two, at an offset of 0 to 63 bytes from an aligned address. */
static void test_like_scalar(int kernel, size_t page_bytes, size_t shift, uint64_t seed)
{
    size_t count = (256 << 10) / page_bytes < 2 ? 2 : (256 << 10) / page_bytes;
    uint8_t *memory = random_bytes(count * page_bytes + shift, seed + page_bytes + 1);
    uint64_t *hashes = calloc(count * 6, 8), *scalar = hashes + 3 * count;
    if (!hashes)
        abort();
    ps_hash_key key;
    ps_hash_key_init(&key, seed);
    ps_hash64(kernel, &key, memory + shift, page_bytes, count, hashes);
    ps_hash128(kernel, &key, memory + shift, page_bytes, count, hashes + count);
    ps_hash64(0, &key, memory + shift, page_bytes, count, scalar);
    ps_hash128(0, &key, memory + shift, page_bytes, count, scalar + count);
    for (size_t i = 0; i < 3 * count; i++)
        CHECK_EQUAL(hashes[i], scalar[i]);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *pages[PS_ABREAST];
        uint64_t abreast[PS_ABREAST];
        for (size_t j = 0; j < PS_ABREAST; j++)
            pages[j] = memory + shift + (i + 7 * j) % count * page_bytes;
        ps_kernel_at(kernel)->hashes64(&key, pages, page_bytes, abreast);
        for (size_t j = 0; j < PS_ABREAST; j++)
            CHECK_EQUAL(abreast[j], scalar[(i + 7 * j) % count]);
    }
    free(memory);
    free(hashes);
}

/* One bit set at each place of a page of zeros, one bit flipped at each place of a copy. */
static void test_every_byte_counts(int kernel, size_t bytes, size_t shift)
{
    uint8_t *zero = calloc(1, bytes + shift), *one = random_bytes(bytes + shift, bytes + shift);
    uint8_t *other = malloc(bytes);
    if (!zero || !other)
        abort();
    memcpy(other, one + shift, bytes);
    CHECK(ps_is_zero(kernel, zero + shift, bytes));
    CHECK(ps_equal(kernel, one + shift, other, bytes));
    CHECK(ps_equal(kernel, one + shift, one + shift, bytes));
    /* In large pages every byte of the first and the last KiB, and one in 4099 between. */
    for (size_t at = 0; at < bytes; at += bytes > 16384 && at > 1024 && at + 5120 < bytes ? 4099 : 1) {
        uint8_t bit = (uint8_t)(1u << at % 8);
        zero[shift + at] = bit;
        other[at] ^= bit;
        CHECK(!ps_is_zero(kernel, zero + shift, bytes));
        CHECK(!ps_equal(kernel, one + shift, other, bytes));
        zero[shift + at] = 0;
        other[at] ^= bit;
    }
    free(zero);
    free(one);
    free(other);
}

/* Pages in lockstep: any of them alike or not, different early or late, and the hashes of one page at a time. */
static void test_lockstep(int number, size_t bytes, size_t shift)
{
    const ps_kernel *kernel = ps_kernel_at(number);
    uint8_t *memory[2][PS_ABREAST];
    const uint8_t *pages[PS_ABREAST], *partners[PS_ABREAST], *zeros[PS_ABREAST];
    uint64_t state = bytes + shift, hashes[PS_ABREAST];
    ps_hash_key key;

    ps_hash_key_init(&key, state);
    for (int i = 0; i < PS_ABREAST; i++) {
        memory[0][i] = random_bytes(bytes + shift, (uint64_t)i + 1);
        memory[1][i] = calloc(bytes + shift, 1);
        if (!memory[1][i])
            abort();
        pages[i] = memory[0][i] + shift;
        zeros[i] = memory[1][i] + shift;
    }
    kernel->hashes64(&key, pages, bytes, hashes);
    for (int i = 0; i < PS_ABREAST; i++)
        CHECK_EQUAL(hashes[i], kernel->hash64(&key, pages[i], bytes));
    for (unsigned alike = 0; alike <= PS_ALL_ABREAST; alike++)
        for (int n = 0; n < 20; n++) {
            uint8_t *copies[PS_ABREAST];
            size_t at[PS_ABREAST];
            for (int i = 0; i < PS_ABREAST; i++) {
                /* Half of the differences lie early. */
                at[i] = next_random(&state) % (n % 2 ? bytes : 256);
                copies[i] = malloc(bytes);
                if (!copies[i])
                    abort();
                memcpy(copies[i], pages[i], bytes);
                copies[i][at[i]] ^= alike >> i & 1 ? 0 : 1;
                memory[1][i][shift + at[i]] = alike >> i & 1 ? 0 : 1;
                partners[i] = copies[i];
            }
            unsigned equal = kernel->equals(pages, partners, bytes);
            CHECK_EQUAL(equal & PS_ALL_ABREAST, alike);
            CHECK(equal & PS_TO_THE_END || !alike);
            CHECK(!(equal & PS_TO_THE_END) || alike || n % 2 || bytes < 1024);
            /* What was read to the end is said so, whatever it is. */
            CHECK(equal & PS_TO_THE_END || bytes >= 1024);
            CHECK_EQUAL(kernel->zeros(zeros, bytes), alike);
            for (int i = 0; i < PS_ABREAST; i++) {
                memory[1][i][shift + at[i]] = 0;
                free(copies[i]);
            }
        }
    for (int i = 0; i < PS_ABREAST; i++) {
        free(memory[0][i]);
        free(memory[1][i]);
    }
}

static void test_kernels_are_listed(void)
{
    int count = ps_kernel_count();
    CHECK(count >= 1);
    CHECK(strcmp(ps_kernel_name(0), "scalar") == 0);
    CHECK(ps_kernel_usable(0));
    CHECK(ps_kernel_usable(ps_kernel_best()));
    for (int kernel = ps_kernel_best() + 1; kernel < count; kernel++)
        CHECK(!ps_kernel_usable(kernel));
    CHECK(ps_kernel_name(count) == NULL);
    CHECK(ps_kernel_name(-1) == NULL);
    CHECK(!ps_kernel_usable(count));
    CHECK(!ps_kernel_usable(-1));
}

int main(void)
{
    static const size_t shifts[] = {0, 1, 8, 31, 63};
    static const uint64_t seeds[] = {0, 1, 0x9E3779B185EBCA87, UINT64_MAX};

    test_kernels_are_listed();
    for (int kernel = 0; kernel < ps_kernel_count(); kernel++) {
        if (!ps_kernel_usable(kernel)) {
            printf("(no %s here) ", ps_kernel_name(kernel));
            continue;
        }
        test_known_hashes(kernel);
        for (size_t i = 0; i < PAGE_SIZES; i++)
            for (size_t n = 0; n < sizeof shifts / sizeof *shifts; n++) {
                if (page_sizes[i] < 1 << 20 || n < 2)
                    test_like_scalar(kernel, page_sizes[i], shifts[n], seeds[n % 4]);
                if (page_sizes[i] <= 8192)
                    test_lockstep(kernel, page_sizes[i], shifts[n]);
                if (page_sizes[i] <= 4160 || n == 1)
                    test_every_byte_counts(kernel, page_sizes[i], shifts[n]);
            }
        for (size_t bytes = 64; bytes < 1024; bytes += 64)
            test_every_byte_counts(kernel, bytes, bytes % 64 + 3);
    }
    return check_result();
}
