/*
 * page_kernel.h - XXH3, zero test and equality of a page, written once for vectors of any width.
 *
 * page.c includes this file once for each instruction set, after defining
 *   NAME(f)      the name of f for this set          TARGET    the attribute that switches it on
 *   V, LANES     a vector of 64-bit lanes, how many
 *   LOAD(p) SAVE(p, v) SET1(x)                       unaligned load and store, all lanes x
 *   XOR OR ADD MUL32(a, b)                           MUL32: 64-bit products of the low halves of lanes
 *   HIGH32(v) LOW_TO_HIGH(v) SHIFT47(v)              lanes >> 32, << 32, >> 47
 *   SWAP_PAIRS(v)                                    lanes 0 and 1 exchanged, 2 and 3, ..
 *   ANY(v)                                           whether a bit is set
 * Scalar code has one lane, thus no pair to swap in a vector: it adds to the neighbour's sum instead.
 *
 * The algorithm is XXH3's for inputs of more than 240 bytes with a seed, as the XXH3 specification
 * (Cyan4973/xxHash, doc/xxhash_spec.md) describes it.
 */

#define VECTORS (8 / LANES)

/* One stripe of 64 bytes: acc[i] += low32(k) * high32(k), and the input to the neighbouring lane. */
TARGET static inline void NAME(stripe)(V acc[VECTORS], const uint8_t *input, const uint8_t *secret)
{
    for (int i = 0; i < VECTORS; i++) {
        V data = LOAD(input + i * 8 * LANES);
        V keyed = XOR(data, LOAD(secret + i * 8 * LANES));
        V product = MUL32(keyed, HIGH32(keyed));
#if LANES == 1
        acc[i ^ 1] = ADD(acc[i ^ 1], data);
        acc[i] = ADD(acc[i], product);
#else
        acc[i] = ADD(acc[i], ADD(SWAP_PAIRS(data), product));
#endif
    }
}

/* After each block: acc = (acc ^ acc >> 47 ^ secret) * PRIME32_1, in 64 bits from two 32-bit products. */
TARGET static inline void NAME(scramble)(V acc[VECTORS], const uint8_t *secret)
{
    const V prime = SET1(PRIME32_1);
    for (int i = 0; i < VECTORS; i++) {
        V mixed = XOR(XOR(acc[i], SHIFT47(acc[i])), LOAD(secret + i * 8 * LANES));
        acc[i] = ADD(MUL32(mixed, prime), LOW_TO_HIGH(MUL32(HIGH32(mixed), prime)));
    }
}

TARGET static inline void NAME(accumulate)(const ps_hash_key *key, const uint8_t *page, size_t bytes,
                                           uint64_t sums[8])
{
    const uint8_t *secret = key->secret;
    V acc[VECTORS];
    for (int i = 0; i < VECTORS; i++)
        acc[i] = LOAD((const uint8_t *)(initial_sums + i * LANES));

    size_t blocks = (bytes - 1) / BLOCK_BYTES;
    for (size_t block = 0; block < blocks; block++) {
        const uint8_t *input = page + block * BLOCK_BYTES;
#if LANES > 1
        /* Unrolled, and the memory asked 12 lines ahead: measured to be the fastest for every vector width, on
         * Zen 5; scalar code is better off without. Prefetching past the end of a mapping is harmless. */
#pragma GCC unroll 16
        for (int n = 0; n < STRIPES_PER_BLOCK; n++) {
            __builtin_prefetch(input + n * 64 + 768);
            NAME(stripe)(acc, input + n * 64, secret + n * 8);
        }
#else
        for (int n = 0; n < STRIPES_PER_BLOCK; n++)
            NAME(stripe)(acc, input + n * 64, secret + n * 8);
#endif
        NAME(scramble)(acc, secret + SECRET_BYTES - 64);
    }
    /* What is left of the last block; its last stripe has a secret of its own. */
    const uint8_t *rest = page + blocks * BLOCK_BYTES;
    size_t stripes = (bytes - 1 - blocks * BLOCK_BYTES) / 64;
    for (size_t n = 0; n < stripes; n++)
        NAME(stripe)(acc, rest + n * 64, secret + n * 8);
    NAME(stripe)(acc, page + bytes - 64, secret + SECRET_BYTES - 64 - 7);

    for (int i = 0; i < VECTORS; i++)
        SAVE((uint8_t *)(sums + i * LANES), acc[i]);
}

TARGET static uint64_t NAME(hash64)(const ps_hash_key *key, const uint8_t *page, size_t bytes)
{
    uint64_t sums[8];
    NAME(accumulate)(key, page, bytes, sums);
    return merge_low(sums, key, bytes);
}

/* PS_ABREAST pages in lockstep, for the same sums: random pages come several at a time from memory. They take turns every
 * four stripes. Not in scalar code, whose time goes into sums that registers have no room for. */
TARGET static void NAME(hashes64)(const ps_hash_key *key, const uint8_t *const *pages, size_t bytes, uint64_t *hashes)
{
#if LANES == 1
    for (int i = 0; i < PS_ABREAST; i++)
        hashes[i] = NAME(hash64)(key, pages[i], bytes);
#else
    const uint8_t *secret = key->secret;
    size_t stripes = (bytes - 1) / 64;
    V acc[PS_ABREAST][VECTORS];
    for (int i = 0; i < PS_ABREAST; i++)
        for (int j = 0; j < VECTORS; j++)
            acc[i][j] = LOAD((const uint8_t *)(initial_sums + j * LANES));

    for (size_t n = 0; n < stripes; n += 4) {
        size_t turn = stripes - n < 4 ? stripes - n : 4;
        for (int i = 0; i < PS_ABREAST; i++)
            for (size_t k = n; k < n + turn; k++)
                NAME(stripe)(acc[i], pages[i] + k * 64, secret + k % STRIPES_PER_BLOCK * 8);
        if ((n + turn) % STRIPES_PER_BLOCK == 0)
            for (int i = 0; i < PS_ABREAST; i++)
                NAME(scramble)(acc[i], secret + SECRET_BYTES - 64);
    }
    for (int i = 0; i < PS_ABREAST; i++) {
        uint64_t sums[8];
        NAME(stripe)(acc[i], pages[i] + bytes - 64, secret + SECRET_BYTES - 64 - 7);
        for (int j = 0; j < VECTORS; j++)
            SAVE((uint8_t *)(sums + j * LANES), acc[i][j]);
        hashes[i] = merge_low(sums, key, bytes);
    }
#endif
}

TARGET static void NAME(hash128)(const ps_hash_key *key, const uint8_t *page, size_t bytes, uint64_t hash[2])
{
    uint64_t sums[8];
    NAME(accumulate)(key, page, bytes, sums);
    hash[0] = merge_low(sums, key, bytes);
    hash[1] = merge_high(sums, key, bytes);
}

/* All bits of `bytes` bytes, a constant, so that the loop is unrolled. */
TARGET static inline V NAME(or_of)(const uint8_t *at, int bytes)
{
    V sum = LOAD(at);
    for (int i = 8 * LANES; i < bytes; i += 8 * LANES)
        sum = OR(sum, LOAD(at + i));
    return sum;
}

TARGET static inline V NAME(difference)(const uint8_t *a, const uint8_t *b, int bytes)
{
    V sum = XOR(LOAD(a), LOAD(b));
    for (int i = 8 * LANES; i < bytes; i += 8 * LANES)
        sum = OR(sum, XOR(LOAD(a + i), LOAD(b + i)));
    return sum;
}

/* Where the first line (64 bytes) begins that is not zero; `bytes` if all are. Most pages that are not zero show it in
 * their first line, so that one is asked first; the rest goes four lines at a time. Zero pages lie in runs: what comes
 * next is asked for 12 lines ahead, as in the hash. */
TARGET static size_t NAME(first_nonzero)(const uint8_t *page, size_t bytes)
{
    size_t at = 64;
    if (ANY(NAME(or_of)(page, 64)))
        return 0;
    while (at + 256 <= bytes) {
        for (int line = 0; line < 256; line += 64)
            __builtin_prefetch(page + at + line + 768);
        if (ANY(NAME(or_of)(page + at, 256)))
            break;
        at += 256;
    }
    while (at < bytes && !ANY(NAME(or_of)(page + at, 64)))
        at += 64;
    return at;
}

TARGET static int NAME(equal)(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    size_t at = 64;
    if (ANY(NAME(difference)(a, b, 64)))
        return 0;
    for (; at + 256 <= bytes; at += 256)
        if (ANY(NAME(difference)(a + at, b + at, 256)))
            return 0;
    for (; at < bytes; at += 64)
        if (ANY(NAME(difference)(a + at, b + at, 64)))
            return 0;
    return 1;
}

/* PS_ABREAST pages in lockstep, since random pages come several at a time from memory: a bit for each that equals its
 * partner, or if that is the question, for each that is zero. They take turns every `step` bytes, a constant. */
TARGET static inline __attribute__((always_inline)) size_t NAME(compare_by)(
    V sums[PS_ABREAST], const uint8_t *const *pages, const uint8_t *const *partners, bool zero, size_t at, size_t bytes,
    size_t step)
{
    for (; at + step <= bytes; at += step)
#pragma GCC unroll 8
        for (int i = 0; i < PS_ABREAST; i++)
#pragma GCC unroll 16
            for (size_t lane = 0; lane < step; lane += 8 * LANES) {
                V found = LOAD(pages[i] + at + lane);
                sums[i] = OR(sums[i], zero ? found : XOR(found, LOAD(partners[i] + at + lane)));
            }
    return at;
}

TARGET static inline unsigned NAME(none_of)(const V sums[PS_ABREAST])
{
    unsigned none = 0;
    for (int i = 0; i < PS_ABREAST; i++)
        none |= (unsigned)!ANY(sums[i]) << i;
    return none;
}

/* By 256 bytes, a length at which each page still is a stream to the hardware: line by line took a tenth longer. To be read
 * to its end is what most of these pages need; but some long runs of guests' pages (a kernel's tables of records, it seems)
 * are alike in what was sampled, and mostly differ soon: so they are asked once, and not read to their end then. */
TARGET static inline __attribute__((always_inline)) unsigned NAME(compare)(
    const uint8_t *const *pages, const uint8_t *const *partners, bool zero, size_t bytes)
{
    V sums[PS_ABREAST] = {SET1(0), SET1(0), SET1(0), SET1(0)};
    size_t quarter = bytes / 4 / 256 * 256, soon = quarter < SOON_BYTES ? quarter : SOON_BYTES;

    size_t at = NAME(compare_by)(sums, pages, partners, zero, 0, soon, 256);
    if (at && !NAME(none_of)(sums))
        return 0;
    at = NAME(compare_by)(sums, pages, partners, zero, at, bytes, 256);
    NAME(compare_by)(sums, pages, partners, zero, at, bytes, 64);
    return NAME(none_of)(sums) | PS_TO_THE_END;
}

TARGET static unsigned NAME(equals)(const uint8_t *const *pages, const uint8_t *const *partners, size_t bytes)
{
    return NAME(compare)(pages, partners, false, bytes);
}

TARGET static unsigned NAME(zeros)(const uint8_t *const *pages, size_t bytes)
{
    return NAME(compare)(pages, NULL, true, bytes) & PS_ALL_ABREAST;
}

#undef VECTORS
#undef NAME
#undef TARGET
#undef V
#undef LANES
#undef LOAD
#undef SAVE
#undef SET1
#undef XOR
#undef OR
#undef ADD
#undef MUL32
#undef HIGH32
#undef LOW_TO_HIGH
#undef SHIFT47
#undef SWAP_PAIRS
#undef ANY
