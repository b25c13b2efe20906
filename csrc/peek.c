/*
 * peek.c - pages without the table: the key of one line, hashes of the whole, what tells similar pages, and bytes for
 * those who need them elsewhere.
 *
 * A peek reads one cache line. In address order that costs a twentieth of a visit (docs/policies.md): memory is asked for
 * far ahead, and nothing is written but the key.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define LINE 64
/* Pages whose lines are on their way while one is looked at. */
#define PEEK_AHEAD 24
/* Pages between two looks at the stop flag. */
#define STOP_EVERY 1024
/* The same in bytes. */
#define STOP_BYTES ((size_t)STOP_EVERY * 4096)
/* Pages whose first lines are on their way while one is hashed. */
#define DIGEST_AHEAD 1

static bool all_there(const ps_space *space, const uint32_t *pages, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (pages[i] >= space->pages)
            return false;
    return true;
}

/* The bytes of a page: in place, or read to `scratch`. NULL if they can't be had. */
static const uint8_t *bytes_of(ps_space *space, uint32_t page, uint8_t *scratch)
{
    const uint8_t *at = ps_space_address(space, page);
    if (at)
        return at;
    const ps_segment *segment = ps_space_find(space, page);
    return ps_space_read(space, segment->source, ps_segment_offset(space, segment, page), 1, scratch) == PS_OK ? scratch
                                                                                                              : NULL;
}

/* As XXH3 hashes few bytes: products of words, keyed. 0 is kept for a line of zeros. */
static uint32_t line_key(const uint8_t *line, const uint64_t *secret)
{
    uint64_t words[LINE / 8], sum = 0, any = 0;

    memcpy(words, line, LINE);
    for (int i = 0; i < LINE / 8; i += 2) {
        any |= words[i] | words[i + 1];
        sum += ps_multiply_fold(words[i] ^ secret[i], words[i + 1] ^ secret[i + 1]);
    }
    uint32_t key = (uint32_t)(ps_mix(sum) >> 32);
    return !any ? 0 : key ? key : 1;
}

ps_status ps_space_peek(ps_space *space, const uint32_t *pages, size_t count, uint32_t line, uint64_t seed, uint32_t *keys)
{
    uint64_t secret[LINE / 8];
    size_t offset = (size_t)line * LINE;

    if (offset + LINE > space->page_bytes)
        return PS_INVALID;
    if (!all_there(space, pages, count))
        return PS_INVALID;
    for (int i = 0; i < LINE / 8; i++)
        secret[i] = ps_mix(seed + (uint64_t)i);
    uint8_t *scratch = malloc(space->page_bytes);
    if (!scratch)
        return PS_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *ahead = i + PEEK_AHEAD < count ? ps_space_address(space, pages[i + PEEK_AHEAD]) : NULL;
        if (ahead)
            __builtin_prefetch(ahead + offset);
        const uint8_t *page = bytes_of(space, pages[i], scratch);
        keys[i] = page ? line_key(page + offset, secret) : 0;
    }
    free(scratch);
    return ps_space_status(space);
}

ps_status ps_space_hash(ps_space *space, const uint32_t *pages, size_t count, uint64_t seed, uint64_t *hashes,
                        ps_control *control)
{
    const ps_kernel *kernel = ps_kernel_at(ps_kernel_best());
    ps_hash_key key;

    if (space->page_bytes == PS_FINGERPRINT_BYTES || !all_there(space, pages, count))
        return PS_INVALID;
    ps_hash_key_init(&key, seed);
    uint8_t *scratch = malloc(space->page_bytes);
    ps_status status = scratch ? PS_OK : PS_NO_MEMORY;
    for (size_t i = 0; i < count && status == PS_OK; i++) {
        const uint8_t *page = bytes_of(space, pages[i], scratch);
        hashes[i] = page ? kernel->hash64(&key, page, space->page_bytes) : 0;
        if (i % STOP_EVERY == 0) {
            status = ps_stopped(control) ? PS_STOPPED : PS_OK;
            ps_advance(control, count - i < STOP_EVERY ? count - i : STOP_EVERY);
        }
    }
    free(scratch);
    return status == PS_OK ? ps_space_status(space) : status;
}

static void store_big_endian(uint8_t *to, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> (56 - 8 * i));
}

ps_status ps_space_digest(ps_space *space, const uint32_t *pages, size_t count, uint8_t *digests, uint8_t *kinds,
                          ps_control *control)
{
    const ps_kernel *kernel = ps_kernel_at(ps_kernel_best());
    ps_hash_key key;

    if (space->page_bytes == PS_FINGERPRINT_BYTES || !all_there(space, pages, count))
        return PS_INVALID;
    ps_hash_key_init(&key, 0);
    uint8_t *scratch = malloc(space->page_bytes);
    ps_status status = scratch ? PS_OK : PS_NO_MEMORY;
    size_t every = STOP_BYTES / space->page_bytes ? STOP_BYTES / space->page_bytes : 1;
    for (size_t i = 0; i < count && status == PS_OK; i++) {
        const uint8_t *ahead = i + DIGEST_AHEAD < count ? ps_space_address(space, pages[i + DIGEST_AHEAD]) : NULL;
        if (ahead)
            ps_prefetch_page(ahead);
        const uint8_t *page = bytes_of(space, pages[i], scratch);
        uint64_t hash[2] = {0, 0};
        if (page)
            kernel->hash128(&key, page, space->page_bytes, hash);
        else
            ps_space_went_bad(space, pages[i]);
        store_big_endian(digests + 16 * i, hash[1]);
        store_big_endian(digests + 16 * i + 8, hash[0]);
        if (kinds)
            kinds[i] = page ? ps_kind(page, space->page_bytes) : PS_KIND_OTHER;
        if (i % every == 0) {
            status = ps_stopped(control) ? PS_STOPPED : ps_space_status(space);
            ps_advance(control, count - i < every ? count - i : every);
        }
    }
    free(scratch);
    return status == PS_OK ? ps_space_status(space) : status;
}

/* Min-wise hashing (Broder, SEQUENCES 1997) of the set of a page's words, in one go: each word belongs to one of the parts,
 * and the smallest hash of each part is its key (Li, Owen, Zhang, NIPS 2012). Where two pages have a share J of the words
 * of both in common, a key is equal with probability J. Words of zeros are in all pages, and tell nothing. */
static void sketch(const uint8_t *page, size_t bytes, uint64_t secret, uint32_t keys, uint32_t *to)
{
    uint64_t least[PS_SKETCH_MAX], word;

    for (uint32_t j = 0; j < keys; j++)
        least[j] = UINT64_MAX;
    for (size_t at = 0; at < bytes; at += sizeof word) {
        memcpy(&word, page + at, sizeof word);
        if (!word)
            continue;
        uint64_t hash = ps_mix(word ^ secret);
        uint64_t *part = &least[(uint64_t)(uint32_t)hash * keys >> 32];
        *part = hash < *part ? hash : *part;
    }
    /* Smallest hashes begin with zeros: mixed again, few of them meet by chance. */
    for (uint32_t j = 0; j < keys; j++) {
        uint32_t key = (uint32_t)(ps_mix(least[j]) >> 32);
        to[j] = least[j] == UINT64_MAX ? 0 : key ? key : 1;
    }
}

ps_status ps_space_sketch(ps_space *space, const uint32_t *pages, size_t count, uint32_t keys, uint64_t seed,
                          uint32_t *sketches, ps_control *control)
{
    if (space->page_bytes == PS_FINGERPRINT_BYTES || !keys || keys > PS_SKETCH_MAX || !all_there(space, pages, count))
        return PS_INVALID;
    uint8_t *scratch = malloc(space->page_bytes);
    ps_status status = scratch ? PS_OK : PS_NO_MEMORY;
    for (size_t i = 0; i < count && status == PS_OK; i++) {
        const uint8_t *page = bytes_of(space, pages[i], scratch);
        uint32_t domain = space->sources[ps_space_find(space, pages[i])->source].domain;
        if (page)
            sketch(page, space->page_bytes, ps_mix(ps_mix(seed) + domain), keys, sketches + i * keys);
        else
            memset(sketches + i * keys, 0, keys * sizeof *sketches);
        if (i % STOP_EVERY == 0) {
            status = ps_stopped(control) ? PS_STOPPED : PS_OK;
            ps_advance(control, count - i < STOP_EVERY ? count - i : STOP_EVERY);
        }
    }
    free(scratch);
    return status == PS_OK ? ps_space_status(space) : status;
}

ps_status ps_space_kinds(ps_space *space, const uint32_t *pages, size_t count, uint8_t *kinds, ps_control *control)
{
    if (space->page_bytes == PS_FINGERPRINT_BYTES || !all_there(space, pages, count))
        return PS_INVALID;
    uint8_t *scratch = malloc(space->page_bytes);
    ps_status status = scratch ? PS_OK : PS_NO_MEMORY;
    for (size_t i = 0; i < count && status == PS_OK; i++) {
        const uint8_t *next = i + 1 < count ? ps_space_address(space, pages[i + 1]) : NULL;
        if (next)
            ps_prefetch_page(next);
        const uint8_t *page = bytes_of(space, pages[i], scratch);
        kinds[i] = page ? ps_kind(page, space->page_bytes) : PS_KIND_OTHER;
        if (i % STOP_EVERY == 0) {
            status = ps_stopped(control) ? PS_STOPPED : PS_OK;
            ps_advance(control, count - i < STOP_EVERY ? count - i : STOP_EVERY);
        }
    }
    free(scratch);
    return status == PS_OK ? ps_space_status(space) : status;
}

ps_status ps_space_gather(ps_space *space, const uint32_t *pages, size_t count, uint8_t *to)
{
    if (!all_there(space, pages, count))
        return PS_INVALID;
    for (size_t i = 0; i < count; i++, to += space->page_bytes) {
        const uint8_t *page = bytes_of(space, pages[i], to);
        if (page && page != to)
            memcpy(to, page, space->page_bytes);
        else if (!page)
            memset(to, 0, space->page_bytes);
    }
    return ps_space_status(space);
}

ps_status ps_space_copy(ps_space *to, const uint32_t *to_pages, ps_space *from, const uint32_t *from_pages, size_t count)
{
    if (to->page_bytes != from->page_bytes || !all_there(to, to_pages, count) || !all_there(from, from_pages, count))
        return PS_INVALID;
    uint8_t *scratch = malloc(from->page_bytes);
    if (!scratch)
        return PS_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes = bytes_of(from, from_pages[i], scratch);
        uint8_t *at = (uint8_t *)(uintptr_t)ps_space_address(to, to_pages[i]);
        if (!at) {
            free(scratch);
            return PS_INVALID;
        }
        if (bytes)
            memmove(at, bytes, to->page_bytes);
    }
    free(scratch);
    ps_status status = ps_space_status(from);
    return status == PS_OK ? ps_space_status(to) : status;
}
