/*
 * page.c - hash, zero test and equality of a page, for each instruction set, chosen at run time.
 *
 * XXH3 in the form for long inputs, written from the public specification; the kernels proper are in
 * page_kernel.h. Pages are read where they lie, at any alignment: copying one to align it costs more.
 */
#include <string.h>

#include "internal.h"

#define PRIME32_1 0x9E3779B1u
#define PRIME32_2 0x85EBCA77u
#define PRIME32_3 0xC2B2AE3Du
#define PRIME64_1 0x9E3779B185EBCA87u
#define PRIME64_2 0xC2B2AE3D27D4EB4Fu
#define PRIME64_3 0x165667B19E3779F9u
#define PRIME64_4 0x85EBCA77C2B2AE63u
#define PRIME64_5 0x27D4EB2F165667C5u
#define AVALANCHE 0x165667919E3779F9u

/* Pages in lockstep are asked after so many bytes, at most a quarter, whether one of them is still alike. */
#define SOON_BYTES 1024

#define SECRET_BYTES 192
#define STRIPES_PER_BLOCK ((SECRET_BYTES - 64) / 8)
#define BLOCK_BYTES (STRIPES_PER_BLOCK * 64)

static const uint64_t initial_sums[8] = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3,
                                         PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1};

/* The specification's default secret. */
static const uint8_t default_secret[SECRET_BYTES] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint64_t read64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

static void write64(void *at, uint64_t value)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    memcpy(at, &value, 8);
}

void ps_hash_key_init(ps_hash_key *key, uint64_t seed)
{
    key->seed = seed;
    for (int i = 0; i < SECRET_BYTES; i += 16) {
        write64(key->secret + i, read64(default_secret + i) + seed);
        write64(key->secret + i + 8, read64(default_secret + i + 8) - seed);
    }
}

static uint64_t merge(const uint64_t sums[8], const uint8_t *secret, uint64_t start)
{
    uint64_t hash = start;
    for (int i = 0; i < 4; i++)
        hash += ps_multiply_fold(sums[2 * i] ^ read64(secret + 16 * i),
                              sums[2 * i + 1] ^ read64(secret + 16 * i + 8));
    hash ^= hash >> 37;
    hash *= AVALANCHE;
    return hash ^ hash >> 32;
}

static uint64_t merge_low(const uint64_t sums[8], const ps_hash_key *key, size_t bytes)
{
    return merge(sums, key->secret + 11, (uint64_t)bytes * PRIME64_1);
}

static uint64_t merge_high(const uint64_t sums[8], const ps_hash_key *key, size_t bytes)
{
    return merge(sums, key->secret + SECRET_BYTES - 64 - 11, ~((uint64_t)bytes * PRIME64_2));
}

/* ---- scalar ---- */

#define NAME(f) scalar_##f
#define TARGET
#define V uint64_t
#define LANES 1
#define LOAD(p) read64(p)
#define SAVE(p, v) memcpy((p), &(v), 8)
#define SET1(x) ((uint64_t)(x))
#define XOR(a, b) ((a) ^ (b))
#define OR(a, b) ((a) | (b))
#define ADD(a, b) ((a) + (b))
#define MUL32(a, b) ((uint64_t)(uint32_t)(a) * (uint32_t)(b))
#define HIGH32(v) ((v) >> 32)
#define LOW_TO_HIGH(v) ((v) << 32)
#define SHIFT47(v) ((v) >> 47)
#define ANY(v) ((v) != 0)
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "the scalar kernel loads initial sums as little-endian bytes"
#endif
#include "page_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* ---- SSE2 ---- */

#define NAME(f) sse2_##f
#define TARGET
#define V __m128i
#define LANES 2
#define LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define SAVE(p, v) _mm_storeu_si128((__m128i *)(p), (v))
#define SET1(x) _mm_set1_epi64x((long long)(x))
#define XOR(a, b) _mm_xor_si128((a), (b))
#define OR(a, b) _mm_or_si128((a), (b))
#define ADD(a, b) _mm_add_epi64((a), (b))
#define MUL32(a, b) _mm_mul_epu32((a), (b))
#define HIGH32(v) _mm_srli_epi64((v), 32)
#define LOW_TO_HIGH(v) _mm_slli_epi64((v), 32)
#define SHIFT47(v) _mm_srli_epi64((v), 47)
#define SWAP_PAIRS(v) _mm_shuffle_epi32((v), 0x4e)
#define ANY(v) (_mm_movemask_epi8(_mm_cmpeq_epi8((v), _mm_setzero_si128())) != 0xffff)
#include "page_kernel.h"

/* ---- AVX2 ---- */

#define NAME(f) avx2_##f
#define TARGET __attribute__((target("avx2")))
#define V __m256i
#define LANES 4
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define SAVE(p, v) _mm256_storeu_si256((__m256i *)(p), (v))
#define SET1(x) _mm256_set1_epi64x((long long)(x))
#define XOR(a, b) _mm256_xor_si256((a), (b))
#define OR(a, b) _mm256_or_si256((a), (b))
#define ADD(a, b) _mm256_add_epi64((a), (b))
#define MUL32(a, b) _mm256_mul_epu32((a), (b))
#define HIGH32(v) _mm256_srli_epi64((v), 32)
#define LOW_TO_HIGH(v) _mm256_slli_epi64((v), 32)
#define SHIFT47(v) _mm256_srli_epi64((v), 47)
#define SWAP_PAIRS(v) _mm256_shuffle_epi32((v), 0x4e)
#define ANY(v) (!_mm256_testz_si256((v), (v)))
#include "page_kernel.h"

/* ---- AVX-512 ---- */

#define NAME(f) avx512_##f
#define TARGET __attribute__((target("avx512f")))
#define V __m512i
#define LANES 8
#define LOAD(p) _mm512_loadu_si512((const void *)(p))
#define SAVE(p, v) _mm512_storeu_si512((void *)(p), (v))
#define SET1(x) _mm512_set1_epi64((long long)(x))
#define XOR(a, b) _mm512_xor_si512((a), (b))
#define OR(a, b) _mm512_or_si512((a), (b))
#define ADD(a, b) _mm512_add_epi64((a), (b))
#define MUL32(a, b) _mm512_mul_epu32((a), (b))
#define HIGH32(v) _mm512_srli_epi64((v), 32)
#define LOW_TO_HIGH(v) _mm512_slli_epi64((v), 32)
#define SHIFT47(v) _mm512_srli_epi64((v), 47)
#define SWAP_PAIRS(v) _mm512_shuffle_epi32((v), (_MM_PERM_ENUM)0x4e)
#define ANY(v) (_mm512_test_epi64_mask((v), (v)) != 0)
#include "page_kernel.h"

static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

#elif defined(__aarch64__)
#include <arm_neon.h>

/* ---- NEON ---- */

#define NAME(f) neon_##f
#define TARGET
#define V uint64x2_t
#define LANES 2
#define LOAD(p) vreinterpretq_u64_u8(vld1q_u8(p))
#define SAVE(p, v) vst1q_u8((p), vreinterpretq_u8_u64(v))
#define SET1(x) vdupq_n_u64(x)
#define XOR(a, b) veorq_u64((a), (b))
#define OR(a, b) vorrq_u64((a), (b))
#define ADD(a, b) vaddq_u64((a), (b))
#define MUL32(a, b) vmull_u32(vmovn_u64(a), vmovn_u64(b))
#define HIGH32(v) vshrq_n_u64((v), 32)
#define LOW_TO_HIGH(v) vshlq_n_u64((v), 32)
#define SHIFT47(v) vshrq_n_u64((v), 47)
#define SWAP_PAIRS(v) vextq_u64((v), (v), 1)
#define ANY(v) (vmaxvq_u32(vreinterpretq_u32_u64(v)) != 0)
#include "page_kernel.h"
#endif

/* ---- the choice ---- */

static int always(void)
{
    return 1;
}

#define KERNEL(label, prefix, usable) \
    {label, usable, prefix##_hash64, prefix##_hashes64, prefix##_hash128, \
     prefix##_first_nonzero, prefix##_equal, prefix##_equals, prefix##_zeros}

/* Worst first. */
static const ps_kernel kernels[] = {
    KERNEL("scalar", scalar, always),
#if defined(__x86_64__)
    KERNEL("sse2", sse2, always),
    KERNEL("avx2", avx2, has_avx2),
    KERNEL("avx512", avx512, has_avx512),
#elif defined(__aarch64__)
    KERNEL("neon", neon, always),
#endif
};

int ps_kernel_count(void)
{
    return (int)(sizeof kernels / sizeof *kernels);
}

const char *ps_kernel_name(int kernel)
{
    return kernel >= 0 && kernel < ps_kernel_count() ? kernels[kernel].name : NULL;
}

int ps_kernel_usable(int kernel)
{
    return kernel >= 0 && kernel < ps_kernel_count() && kernels[kernel].usable();
}

int ps_kernel_best(void)
{
    int kernel = ps_kernel_count() - 1;
    while (!kernels[kernel].usable())
        kernel--;
    return kernel;
}

const ps_kernel *ps_kernel_at(int kernel)
{
    return &kernels[kernel];
}

/* ---- fingerprints: pages that are numbers ---- */

static uint64_t fingerprint(const uint8_t *page)
{
    uint64_t value;
    memcpy(&value, page, sizeof value);
    return value;
}

static uint64_t fingerprint_hash64(const ps_hash_key *key, const uint8_t *page, size_t bytes)
{
    (void)key;
    (void)bytes;
    return fingerprint(page);
}

static void fingerprint_hashes64(const ps_hash_key *key, const uint8_t *const *pages, size_t bytes, uint64_t *hashes)
{
    (void)key;
    (void)bytes;
    for (int i = 0; i < PS_ABREAST; i++)
        hashes[i] = fingerprint(pages[i]);
}

/* It may be zero: its hash tells. */
static size_t fingerprint_first_nonzero(const uint8_t *page, size_t bytes)
{
    (void)page;
    return bytes;
}

static int fingerprint_equal(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    (void)bytes;
    return fingerprint(a) == fingerprint(b);
}

static unsigned fingerprint_equals(const uint8_t *const *pages, const uint8_t *const *partners, size_t bytes)
{
    unsigned equal = 0;
    (void)bytes;
    for (int i = 0; i < PS_ABREAST; i++)
        equal |= (unsigned)(fingerprint(pages[i]) == fingerprint(partners[i])) << i;
    return equal;
}

const ps_kernel *ps_fingerprint_kernel(void)
{
    static const ps_kernel kernel = {
        .name = "fingerprint",
        .usable = always,
        .hash64 = fingerprint_hash64,
        .hashes64 = fingerprint_hashes64,
        .first_nonzero = fingerprint_first_nonzero,
        .equal = fingerprint_equal,
        .equals = fingerprint_equals,
    };
    return &kernel;
}

void ps_hash64(int kernel, const ps_hash_key *key, const void *pages, size_t page_bytes, size_t count,
               uint64_t *hashes)
{
    for (size_t i = 0; i < count; i++)
        hashes[i] = kernels[kernel].hash64(key, (const uint8_t *)pages + i * page_bytes, page_bytes);
}

void ps_hash128(int kernel, const ps_hash_key *key, const void *pages, size_t page_bytes, size_t count,
                uint64_t *hashes)
{
    for (size_t i = 0; i < count; i++)
        kernels[kernel].hash128(key, (const uint8_t *)pages + i * page_bytes, page_bytes, hashes + 2 * i);
}

int ps_is_zero(int kernel, const void *page, size_t bytes)
{
    return kernels[kernel].first_nonzero(page, bytes) == bytes;
}

int ps_equal(int kernel, const void *a, const void *b, size_t bytes)
{
    return kernels[kernel].equal(a, b, bytes);
}
