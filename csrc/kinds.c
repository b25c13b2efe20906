/*
 * kinds.c - what a page's bytes look like: zeros, a repeated word, text, an ELF header, a page table, ...
 *
 * The first test that holds decides. Most pages are told by 32 of their words, one in each 128 bytes: more is looked at
 * only where these make a kind likely. What each kind is, is told in src/pageshare/core/_kinds.py.
 */
#include <string.h>

#include "internal.h"

/* Words that are looked at, and at most, where bytes are dense. */
#define SAMPLED 32
#define MOST_SAMPLED 64
/* Different values of 512 bytes from which on they are dense. */
#define DENSE_LEAST 195

/* What the compiler makes one instruction of. */
typedef uint8_t lanes __attribute__((vector_size(16)));

static uint16_t le16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t le32(const uint8_t *at)
{
    return le16(at) | (uint32_t)le16(at + 2) << 16;
}

static uint64_t word(const uint8_t *page, size_t i)
{
    uint64_t value;
    memcpy(&value, page + 8 * i, 8);
    return value;
}

/* ---- zeros and repeated words ---- */

/* The shortest period of 1, 2, 4 or 8 bytes; PS_KIND_OTHER if there is none. */
static uint8_t repeated(const uint8_t *page, size_t bytes)
{
    if (memcmp(page, page + 8, 8) != 0 || memcmp(page, page + 8, bytes - 8) != 0)
        return PS_KIND_OTHER;
    uint64_t first = word(page, 0);
    if (first == 0)
        return PS_KIND_ZERO;
    if (first != (first >> 32 | first << 32))
        return PS_KIND_WORD8;
    if ((uint16_t)first != (uint16_t)(first >> 16))
        return PS_KIND_WORD4;
    return page[0] == page[1] ? PS_KIND_BYTE : PS_KIND_WORD2;
}

/* ---- what files begin with ---- */

static bool is_elf(const uint8_t *page)
{
    bool wide = page[4] == 2, big = page[5] == 2;

    if (memcmp(page, "\177ELF", 4) != 0 || page[4] < 1 || page[4] > 2 || page[5] < 1 || page[5] > 2 || page[6] != 1)
        return false;
    const uint8_t *size = page + (wide ? 52 : 40);
    unsigned type = big ? (unsigned)(page[16] << 8 | page[17]) : le16(page + 16);
    unsigned header = big ? (unsigned)(size[0] << 8 | size[1]) : le16(size);
    return type >= 1 && type <= 4 && header == (wide ? 64u : 52u);
}

/* ---- file systems ---- */

/* On-disk inodes of 256 bytes: all of a valid type, or free. */
static bool is_ext4_inodes(const uint8_t *page, size_t bytes)
{
    unsigned valid = 0;

    for (size_t at = 0; at + 256 <= bytes; at += 256) {
        const uint8_t *inode = page + at;
        unsigned mode = le16(inode), extra = le16(inode + 128);
        if (mode == 0) {
            if (le16(inode + 26) != 0 || extra != 0)
                return false;
            continue;
        }
        /* FIFO, character device, directory, block device, file, symbolic link, socket. */
        if (!(0x1556 >> (mode >> 12) & 1) || (extra != 28 && extra != 32))
            return false;
        if ((le16(inode + 26) == 0 && le32(inode + 20) == 0) ||
            ((le32(inode + 32) & 0x80000) && le16(inode + 40) != 0xf30a))
            return false;
        valid++;
    }
    return valid > 0;
}

/* Entries {inode, length, name length, type, name} from end to end of a block of 4 KiB. */
static bool is_ext4_directory(const uint8_t *page, size_t bytes)
{
    unsigned named = 0;
    size_t at = 0, block = 4096;

    if (bytes < block)
        return false;
    while (at + 12 <= block) {
        const uint8_t *entry = page + at;
        unsigned length = le16(entry + 4), name = entry[6], type = entry[7];
        if (length % 4 != 0 || length < 8 + name || length < 12 || length > block - at)
            return false;
        if (le32(entry) != 0) {
            if (name == 0 || type > 7 || memchr(entry + 8, 0, name) || memchr(entry + 8, '/', name))
                return false;
            named++;
        } else if (type > 7 && type != 0xde) {
            return false;
        }
        at += length;
    }
    return at == block && named > 0;
}

static bool is_xfs_inodes(const uint8_t *page, size_t bytes)
{
    for (size_t at = 0; at + 512 <= bytes; at += 512)
        if (page[at] != 'I' || page[at + 1] != 'N' || page[at + 4] < 1 || page[at + 4] > 3 || page[at + 5] > 5)
            return false;
    return bytes >= 512;
}

static bool has_magic(const uint8_t *page)
{
    static const char magics[][5] = {"XFSB", "XAGF", "XAGI", "XAFL", "XDB3", "XDD3", "XDF3", "XD2B", "XD2D", "XD2F",
                                     "AB3B", "AB3C", "IAB3", "FIB3", "BMA3", "RMB3", "R3FC", "ABTB", "ABTC", "IABT",
                                     "FIBT", "BMAP"};
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
        if (memcmp(page, magics[i], 4) == 0)
            return true;
    return false;
}

static bool is_file_system(const uint8_t *page, size_t bytes)
{
    if (page[0] >= 'A' && page[0] <= 'X' && has_magic(page))
        return true;
    if (le16(page) == 0xf30a && le16(page + 4) >= 1 && le16(page + 4) <= 340 && le16(page + 2) <= le16(page + 4) &&
        le16(page + 6) <= 5)
        return true;
    if (memcmp(page, "hsqs", 4) == 0 && le16(page + 28) == 4)
        return true;
    if (memcmp(page, "FILE", 4) == 0 && (le16(page + 4) == 0x30 || le16(page + 4) == 0x2a))
        return true;
    if (memcmp(page, "INDX", 4) == 0 && le16(page + 4) == 0x28)
        return true;
    if (bytes >= 2048 && le16(page + 1080) == 0xef53 && le16(page + 1082) <= 7 && le32(page + 1100) <= 1)
        return true;
    return is_xfs_inodes(page, bytes) || is_ext4_inodes(page, bytes) || is_ext4_directory(page, bytes);
}

/* ---- bytes ---- */

typedef struct {
    unsigned nul, control, high; /* control: what text has none of; NUL is not among them */
} byte_counts;

static unsigned sum(lanes counts)
{
    unsigned total = 0;
    for (size_t i = 0; i < sizeof counts; i++)
        total += counts[i];
    return total;
}

/* Of a multiple of 16 bytes, at most 255 times 16. */
static byte_counts count_bytes(const void *bytes, size_t count)
{
    lanes nul = {0}, low = {0}, space = {0}, high = {0}, c;

    for (size_t at = 0; at < count; at += sizeof c) {
        memcpy(&c, (const uint8_t *)bytes + at, sizeof c);
        /* A comparison that holds is -1. */
        nul -= (lanes)(c == 0);
        low -= (lanes)(c < 32);
        space -= (lanes)(c - 9 < 5); /* tab to carriage return */
        high -= (lanes)(c > 127);
    }
    unsigned zeros = sum(nul);
    return (byte_counts){.nul = zeros, .control = sum(low) - zeros - sum(space), .high = sum(high)};
}

/* How long a well-formed sequence of UTF-8 from `at` on is (Unicode, table 3-7); 0 if it is none. */
static size_t sequence(const uint8_t *at, size_t left)
{
    size_t length = at[0] < 0x80 ? 1 : at[0] >= 0xc2 && at[0] < 0xe0 ? 2 : (at[0] & 0xf0) == 0xe0 ? 3
                    : at[0] >= 0xf0 && at[0] < 0xf5 ? 4 : 0;

    for (size_t i = 1; i < length && i < left; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if (length > 1 && left > 1 &&
        ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
         (at[0] == 0xf4 && at[1] > 0x8f)))
        return 0;
    return length < left ? length : left;
}

/* Whether at most `most` bytes begin no character. */
static bool is_utf8(const uint8_t *bytes, size_t count, size_t most)
{
    size_t at = 0;

    /* A character may have begun on the page before. */
    while (at < 3 && at < count && (bytes[at] & 0xc0) == 0x80)
        at++;
    while (at < count) {
        uint64_t eight = UINT64_MAX;
        if (count - at >= sizeof eight)
            memcpy(&eight, bytes + at, sizeof eight);
        if (!(eight & 0x8080808080808080u)) {
            at += sizeof eight;
            continue;
        }
        size_t length = sequence(bytes + at, count - at);
        if (length == 0 && most-- == 0)
            return false;
        at += length ? length : 1;
    }
    return true;
}

/* `sample` is of `count` words in the order of the page. */
static bool is_text(const uint64_t *sample, size_t count, byte_counts found, const uint8_t *page, size_t bytes)
{
    /* The last page of a file is zero behind its end. */
    size_t behind = 0;
    while (behind < count && sample[count - 1 - behind] == 0)
        behind++;
    size_t seen = 8 * (count - behind);
    if (seen < 16 || found.control > seen / 64 || found.nul - 8 * behind > seen / 8)
        return false;
    if (!found.high)
        return true;
    while (bytes && page[bytes - 1] == 0)
        bytes--;
    return is_utf8(page, bytes, bytes / 64);
}

/* One word of each part of the page; not the same one in each: structures repeat. */
static void take(uint64_t *sample, size_t count, const uint8_t *page, size_t bytes)
{
    size_t each = bytes / 8 / count, step = 5 % each;

    for (size_t i = 0, at = 0; i < count; i++) {
        sample[i] = word(page, i * each + at);
        at += step;
        at -= at >= each ? each : 0;
    }
}

/* Different values among 512 bytes. Of random ones it is 221.4 on average, with a deviation of 4.5. */
static bool is_dense(const uint8_t *page, size_t bytes)
{
    uint64_t sample[MOST_SAMPLED];
    uint8_t seen[256] = {0};
    unsigned different = 0;

    if (bytes < sizeof sample)
        return false;
    take(sample, MOST_SAMPLED, page, bytes);
    for (size_t i = 0; i < MOST_SAMPLED; i++)
        for (int shift = 0; shift < 64; shift += 8)
            seen[(uint8_t)(sample[i] >> shift)] = 1;
    for (int i = 0; i < 256; i++)
        different += seen[i];
    return different >= DENSE_LEAST;
}

/* ---- words ---- */

/* Present, of a frame below 4 TiB, and no bit set that the processor reserves or Linux leaves clear. */
static bool is_entry(uint64_t e)
{
    return ((e & 0x79fffc0000000401u) == 1) & ((e & 0x3fffffff000u) != 0);
}

static bool is_zero_block(const uint8_t *page, size_t first)
{
    uint64_t any = 0;
    for (size_t i = 0; i < 8; i++)
        any |= word(page, first + i);
    return any == 0;
}

static bool is_page_table(const uint8_t *page, size_t bytes)
{
    unsigned used = 0, entries = 0, accessed = 0, far = 0, different = 0;
    uint32_t attributes[32] = {0};

    for (size_t i = 0; i < bytes / 8; i++) {
        if (i % 8 == 0 && is_zero_block(page, i)) {
            i += 7;
            continue;
        }
        uint64_t e = word(page, i);
        if (e == 0)
            continue;
        used++;
        if (!is_entry(e)) {
            if (8 * (used - entries) > bytes / 8)
                return false;
            continue;
        }
        entries++;
        accessed += e >> 5 & 1;
        far += (e & 0x3fffff00000u) != 0;
        /* All bits but accessed and dirty. */
        uint32_t *group = &attributes[e >> 7 & 31], bit = (uint32_t)1 << (e & 31);
        different += !(*group & bit);
        *group |= bit;
    }
    return entries > 0 && 8 * (used - entries) <= used && 2 * accessed >= entries && 2 * far >= entries &&
           different <= 4 + entries / 64;
}

/* To the kernel's half, or where Linux puts programs (0x55.., 0x56..) and what is mapped (0x7e.., 0x7f..). */
static bool is_pointer(uint64_t w)
{
    uint64_t top = w >> 40;
    return ((w >= 0xffff000000000000u) & (w < 0xffffffffff000000u)) | (top - 0x55 < 2) | (top - 0x7e < 2);
}

uint8_t ps_kind(const void *bytes_of_page, size_t bytes)
{
    const uint8_t *page = bytes_of_page;
    uint64_t sample[SAMPLED];
    unsigned used = 0, pointers = 0, entries = 0;

    uint8_t kind = repeated(page, bytes);
    if (kind != PS_KIND_OTHER)
        return kind;
    if (is_elf(page))
        return PS_KIND_ELF;
    if (is_file_system(page, bytes))
        return PS_KIND_FILE_SYSTEM;
    take(sample, SAMPLED, page, bytes);
    byte_counts found = count_bytes(sample, sizeof sample);
    if (is_text(sample, SAMPLED, found, page, bytes))
        return PS_KIND_TEXT;
    /* Of 256 random bytes 1 is NUL, 26 are control characters. */
    if (found.nul <= 9 && found.control >= 6 && is_dense(page, bytes))
        return PS_KIND_HIGH_ENTROPY;
    for (size_t i = 0; i < SAMPLED; i++) {
        used += sample[i] != 0;
        pointers += is_pointer(sample[i]);
        entries += is_entry(sample[i]);
    }
    if (4 * (used - entries) <= used && is_page_table(page, bytes))
        return PS_KIND_PAGE_TABLE;
    return 8 * pointers >= SAMPLED && 3 * pointers >= used ? PS_KIND_POINTERS : PS_KIND_OTHER;
}
