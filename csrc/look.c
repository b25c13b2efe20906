/*
 * look.c - the first stage of a census: every page gets a key, and a table knows the lowest page of each key.
 *
 * In the first round the key is a sample, two cache lines of the page; a page whose two lines are zero is read to see
 * whether it is all zero, and if so is done with, or else hashed. In further rounds it is the hash of the whole page.
 */
#include <string.h>

#include "census.h"

/* How far ahead memory is asked for, measured on Zen 5: pages to be sampled, slots to be looked at. */
#define SAMPLE_AHEAD 16
#define ENTER_AHEAD 32

/* Zero pages lie in runs: after so many in a row whose samples are zero the next ones are not sampled but read. So many,
 * so that few are read in vain, whatever the pages hold. */
#define STREAK 8
/* XXH3 is another function of 240 bytes and fewer. */
#define LEAST_HASHED 256

typedef ps_census_state census;
typedef ps_batch batch;

/* The open pages from *page on, at most to `end` or to the first of another domain, which is then *page. */
static void gather(const census *c, uint32_t *page, uint32_t end, batch *b)
{
    const ps_space *space = c->space;

    b->count = 0;
    while (*page < end) {
        const ps_segment *segment = ps_space_find(space, *page);
        uint32_t run_end = ps_segment_end(space, segment);
        uint32_t domain = space->sources[segment->source].domain;
        const uint8_t *at = ps_space_address(space, *page);

        if (b->count && domain != b->domain)
            return;
        b->domain = domain;
        for (run_end = run_end < end ? run_end : end; *page < run_end; ++*page, at += space->page_bytes) {
            b->pages[b->count] = *page;
            b->at[b->count] = at;
            b->count += ps_get_bit(c->open, *page);
        }
    }
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

/* A sampled line is one of memory in most pages (see ps_census_state); where it is two, both are asked for. To ask twice
 * for the same took 20 ns a page on Granite Rapids. */
static inline void ask_for_line(const uint8_t *line)
{
    __builtin_prefetch(line);
    if ((uintptr_t)line % 64)
        __builtin_prefetch(line + 63);
}

/* The key that two lines of a page make, as XXH3 would hash so few bytes: products of 64-bit words, keyed. *any is
 * not 0 unless both lines are zero. */
static inline uint64_t sample(const census *c, const uint8_t *page, uint64_t *any)
{
    const uint8_t *lines[2] = {page + c->first_line, page + c->second_line};
    uint64_t sum = 0, bits = 0;

    for (int line = 0; line < 2; line++)
        for (int i = 0; i < 8; i += 2) {
            uint64_t a = load64(lines[line] + 8 * i), b = load64(lines[line] + 8 * i + 8);
            bits |= a | b;
            sum += ps_multiply_fold(a ^ c->sample_key[8 * line + i], b ^ c->sample_key[8 * line + i + 1]);
        }
    *any = bits;
    return ps_mix(sum);
}

/* A page whose samples are zero: closes it, or takes a key from the first bytes that are not zero and all after them.
 * So far it has been read; so the key of the whole page costs no second reading. */
static void settle_zero(census *c, batch *b, uint32_t i, size_t nonzero)
{
    size_t bytes = c->space->page_bytes, last = bytes - LEAST_HASHED, from = nonzero < last ? nonzero : last;

    if (nonzero == bytes)
        ps_clear_bit(c->open, b->pages[i]);
    else
        b->keys[i] = c->kernel->hash64(&c->key, b->at[i] + from, bytes - from);
}

/* Pages that wait to be found zero, four at a time, while the first lines of the next four come in. */
static void settle_zeros(census *c, batch *b, uint32_t *waiting, uint32_t count)
{
    size_t bytes = c->space->page_bytes;

    for (uint32_t i = count; count && i < count + 2 * PS_ABREAST; i++)
        waiting[i] = waiting[count - 1];
    for (uint32_t done = 0; done < count; done += PS_ABREAST) {
        const uint8_t *pages[PS_ABREAST];
        for (uint32_t i = 0; i < PS_ABREAST; i++) {
            pages[i] = b->at[waiting[done + i]];
            ps_prefetch_page(b->at[waiting[done + PS_ABREAST + i]]);
        }
        unsigned zero = c->kernel->zeros(pages, bytes);
        for (uint32_t i = 0; i < PS_ABREAST; i++)
            settle_zero(c, b, waiting[done + i], zero >> i & 1 ? bytes : c->kernel->first_nonzero(pages[i], bytes));
    }
}

typedef enum { NOT_READ, READ, READ_IN_VAIN } reading;

/* Reads PS_ABREAST pages from i on in lockstep, which are likely to be zero and so were not asked for; not if the first
 * line of one is not. In vain, if the second line of one would have told that it is not. */
static reading read_zeros(census *c, batch *b, uint32_t i)
{
    size_t bytes = c->space->page_bytes;
    const uint8_t *const *pages = b->at + i;
    reading result = READ;

    if (b->count - i < PS_ABREAST || c->kernel->zeros(pages, 64) != PS_ALL_ABREAST)
        return NOT_READ;
    unsigned zero = c->kernel->zeros(pages, bytes);
    for (uint32_t j = 0; j < PS_ABREAST; j++) {
        uint64_t any = 0;
        if (!(zero >> j & 1))
            b->keys[i + j] = sample(c, pages[j], &any);
        if (any)
            result = READ_IN_VAIN;
        else
            settle_zero(c, b, i + j, zero >> j & 1 ? bytes : c->kernel->first_nonzero(pages[j], bytes));
    }
    return result;
}

/* Keys from samples; zero pages are closed. */
static void sample_keys(census *c, batch *b)
{
    uint32_t waiting[PS_BLOCK_MAX + 2 * PS_ABREAST], waiting_count = 0, streak = 0, zero_tests = 0, asked = 0;

    for (uint32_t i = 0; i < b->count;) {
        reading read = streak < STREAK ? NOT_READ : read_zeros(c, b, i);
        if (read != NOT_READ) {
            streak = read == READ_IN_VAIN ? 0 : streak;
            zero_tests += PS_ABREAST;
            i += PS_ABREAST;
            continue;
        }
        /* After a streak, during which none was, as many at once as are else on their way. */
        for (asked = asked > i ? asked : i; asked < b->count && asked <= i + SAMPLE_AHEAD; asked++) {
            ask_for_line(b->at[asked] + c->first_line);
            ask_for_line(b->at[asked] + c->second_line);
        }
        uint64_t any;
        b->keys[i] = sample(c, b->at[i], &any);
        streak = any ? 0 : streak < STREAK ? streak + 1 : 1;
        waiting[waiting_count] = i++;
        waiting_count += !any;
        zero_tests += !any;
    }
    settle_zeros(c, b, waiting, waiting_count);
    ps_add(&c->stats.zero_tests, zero_tests);
}

/* Keys from whole pages. Those that lie one behind the other stream by themselves, a third faster than if asked for. */
static void hash_keys(census *c, batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        if (i + 2 < b->count && b->at[i + 2] != b->at[i] + 2 * (size_t)c->space->page_bytes)
            ps_prefetch_page(b->at[i + 2]);
        b->keys[i] = c->kernel->hash64(&c->key, b->at[i], c->space->page_bytes);
    }
    ps_add(&c->stats.hashes, b->count);
}

static uint32_t home(const census *c, uint64_t key)
{
    return (uint32_t)((key >> 32) * c->capacity >> 32);
}

static uint32_t page_of(uint64_t slot)
{
    return (uint32_t)(slot >> 32) - 1;
}

/* One thread takes blocks in order, so the first page of a key is its lowest. Nothing predicts whether a key is known
 * already: no branch depends on it. */
static uint32_t enter_alone(const census *c, uint64_t key, uint32_t page)
{
    uint64_t mine = ((uint64_t)page + 1) << 32 | (uint32_t)key;

    for (uint32_t i = home(c, key);; i = i + 1 == c->capacity ? 0 : i + 1) {
        uint64_t found = c->slots[i] ? c->slots[i] : mine;
        c->slots[i] = found;
        if ((uint32_t)found == (uint32_t)key)
            return page_of(found);
    }
}

/* Gives a slot this page, if it is free or has a higher one; not if it is put to use for another key meanwhile. */
static void lower(uint64_t *slot, uint64_t mine)
{
    uint64_t theirs = __atomic_load_n(slot, __ATOMIC_RELAXED);

    while ((!theirs || ((uint32_t)theirs == (uint32_t)mine && mine < theirs)) &&
           !__atomic_compare_exchange_n(slot, &theirs, mine, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

/* Several threads lower the page of a slot as they come: which it is must be looked up when all pages are entered. */
static uint32_t enter_with_others(const census *c, uint64_t key, uint32_t page)
{
    uint64_t mine = ((uint64_t)page + 1) << 32 | (uint32_t)key;

    for (uint32_t i = home(c, key);; i = i + 1 == c->capacity ? 0 : i + 1) {
        lower(&c->slots[i], mine);
        if ((uint32_t)__atomic_load_n(&c->slots[i], __ATOMIC_RELAXED) == (uint32_t)key)
            return i;
    }
}

/* Zero pages share a slot of their domain. */
static void enter_zeros(const census *c, const batch *b)
{
    uint32_t slot = c->capacity + b->domain, i = 0;

    while (i < b->count && ps_get_bit(c->open, b->pages[i]))
        i++;
    if (i == b->count)
        return;
    lower(&c->slots[slot], ((uint64_t)b->pages[i] + 1) << 32);
    uint32_t result = c->threads == 1 ? page_of(c->slots[slot]) : slot;
    for (; i < b->count; i++)
        c->canonical[b->pages[i]] = result;
}

void ps_enter(const census *c, batch *b)
{
    uint64_t salt = ps_mix(c->key.seed ^ (uint64_t)b->domain << 32);
    uint32_t entered[PS_BLOCK_MAX], count = 0, *canonical = c->canonical;

    for (uint32_t i = 0; i < b->count; i++) {
        b->keys[count] = (b->keys[i] ^ salt) & c->hash_mask;
        entered[count] = b->pages[i];
        count += ps_get_bit(c->open, b->pages[i]);
    }
    if (count < b->count)
        enter_zeros(c, b);
    for (uint32_t i = 0; i < count && i < ENTER_AHEAD; i++)
        __builtin_prefetch(&c->slots[home(c, b->keys[i])], 1);
    for (uint32_t i = 0; i < count; i++) {
        if (i + ENTER_AHEAD < count)
            __builtin_prefetch(&c->slots[home(c, b->keys[i + ENTER_AHEAD])], 1);
        canonical[entered[i]] = c->threads == 1 ? enter_alone(c, b->keys[i], entered[i])
                                                : enter_with_others(c, b->keys[i], entered[i]);
    }
}

void ps_look(census *c, uint32_t block)
{
    uint32_t page = block * c->block, first = page, end = ps_block_end(c, block);
    batch b;

    if (c->round == 1 && (c->options & PS_MAP)) {
        ps_status status = ps_space_populate(c->space, page, end - page, c->control);
        if (status != PS_OK) {
            ps_fail(c, status);
            return;
        }
    }
    while (page < end) {
        gather(c, &page, end, &b);
        if (c->round == 1)
            sample_keys(c, &b);
        else
            hash_keys(c, &b);
        ps_enter(c, &b);
    }
    if (first >= c->keep)
        ps_space_let_go(c->space, first, end - first);
    if (c->round == 1) {
        ps_add(&c->advanced, (end - first) / 2);
        ps_advance(c->control, (end - first) / 2);
    }
}

void ps_entered(census *c)
{
    for (uint32_t domain = 0; c->round == 1 && domain < c->domain_count; domain++)
        c->zeros[domain] = page_of(c->slots[c->capacity + domain]);
}

void ps_find_heads(census *c, uint32_t block)
{
    uint32_t pages[PS_BLOCK_MAX + PS_LOOKUP_AHEAD], count = 0;

    for (uint32_t page = block * c->block; page < ps_block_end(c, block); page++) {
        pages[count] = page;
        count += c->round == 1 || ps_get_bit(c->open, page);
    }
    for (uint32_t i = count; count && i < count + PS_LOOKUP_AHEAD; i++)
        pages[i] = pages[count - 1];
    for (uint32_t i = 0; i < count; i++) {
        __builtin_prefetch(&c->slots[c->canonical[pages[i + PS_LOOKUP_AHEAD]]]);
        c->canonical[pages[i]] = page_of(c->slots[c->canonical[pages[i]]]);
    }
}
