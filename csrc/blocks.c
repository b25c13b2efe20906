/*
 * blocks.c - which blocks of twice the size are equal, from which of their halves are; and which blocks may be, from a few
 * bytes of each.
 *
 * What a block holds is the pair of what its halves hold, so no byte is read. A half that is held once makes its block one
 * that is held once: only pairs of shared halves go through a hash table. It has nothing but the number of a pair that is
 * entered; the pair itself is read where it lies.
 */
#include "internal.h"

/* Pairs between two looks at the stop flag: a few milliseconds. */
#define STOP_EVERY (1u << 15)
/* Pairs ahead for which memory is asked: first the slot, then the pair that is entered there. */
#define FIRST_AHEAD 32
#define AHEAD 16

typedef struct {
    const uint32_t *classes;
    uint32_t *slots;       /* a pair's number and 1; 0: empty */
    uint64_t mask;
    uint64_t seed;
} pair_table;

static uint64_t key_of(const uint32_t *classes, uint32_t pair)
{
    return (uint64_t)classes[2 * (size_t)pair] << 32 | classes[2 * (size_t)pair + 1];
}

/* Whether equal halves elsewhere may make an equal pair, that is not one of zeros. */
static bool is_candidate(const uint32_t *classes, uint32_t pair)
{
    return classes[2 * (size_t)pair] < PS_CLASS_UNIQUE && classes[2 * (size_t)pair + 1] < PS_CLASS_UNIQUE &&
           key_of(classes, pair) != 0;
}

static uint32_t *slot_of(const pair_table *table, uint32_t pair)
{
    return &table->slots[ps_mix(key_of(table->classes, pair) ^ table->seed) & table->mask];
}

static void ask_ahead(const pair_table *table, uint32_t pair, uint32_t count)
{
    if (count - pair > FIRST_AHEAD && is_candidate(table->classes, pair + FIRST_AHEAD))
        __builtin_prefetch(slot_of(table, pair + FIRST_AHEAD), 1);
    if (count - pair > AHEAD && is_candidate(table->classes, pair + AHEAD)) {
        uint32_t entered = *slot_of(table, pair + AHEAD);
        if (entered)
            __builtin_prefetch(&table->classes[2 * (size_t)(entered - 1)]);
    }
}

/* The first pair that is equal to this one, which is entered if there is none yet. */
static uint32_t first_equal(const pair_table *table, uint32_t pair)
{
    uint64_t key = key_of(table->classes, pair);

    for (uint64_t at = ps_mix(key ^ table->seed);; at++) {
        uint32_t *slot = &table->slots[at & table->mask];
        if (!*slot)
            *slot = pair + 1;
        if (key_of(table->classes, *slot - 1) == key)
            return *slot - 1;
    }
}

static void pair_up(const pair_table *table, uint32_t pair, uint32_t *pairs, ps_pair_counts *counts)
{
    uint32_t low = table->classes[2 * (size_t)pair], high = table->classes[2 * (size_t)pair + 1];

    if (low == PS_NONE || high == PS_NONE) {
        pairs[pair] = PS_NONE;
        counts->unknown++;
        return;
    }
    if (!(low | high)) {
        pairs[pair] = PS_CLASS_ZERO;
        counts->zero++;
        return;
    }
    pairs[pair] = PS_CLASS_UNIQUE;
    counts->unique++;
    if (low == PS_CLASS_UNIQUE || high == PS_CLASS_UNIQUE)
        return;
    uint32_t first = first_equal(table, pair);
    if (first == pair)
        return;
    counts->unique--;
    counts->shared++;
    if (pairs[first] == PS_CLASS_UNIQUE) {
        pairs[first] = (uint32_t)++counts->kept;
        counts->unique--;
        counts->shared++;
    }
    pairs[pair] = pairs[first];
}

ps_status ps_blocks_pair(const uint32_t *classes, uint32_t count, uint64_t seed, uint32_t *pairs, ps_pair_counts *counts,
                         const ps_control *control)
{
    uint64_t candidates = 0, room = 2;
    bool stopped = false;

    *counts = (ps_pair_counts){0};
    if (count >= PS_CLASS_UNIQUE / 2)
        return PS_INVALID;
    for (uint32_t pair = 0; pair < count && !stopped; pair++) {
        candidates += is_candidate(classes, pair);
        stopped = pair % STOP_EVERY == 0 && ps_stopped(control);
    }
    while (room < candidates + candidates / 2)
        room *= 2;
    pair_table table = {.classes = classes, .mask = room - 1, .seed = seed};
    if (!(table.slots = ps_reserve(room * sizeof *table.slots)))
        return PS_NO_MEMORY;
    for (uint32_t pair = 0; pair < count && !stopped; pair++) {
        stopped = pair % STOP_EVERY == 0 && ps_stopped(control);
        ask_ahead(&table, pair, count);
        pair_up(&table, pair, pairs, counts);
    }
    ps_release(table.slots, room * sizeof *table.slots);
    return stopped ? PS_STOPPED : PS_OK;
}

/* Keys are random numbers: their upper bits are the place of a key's bit. */
static uint64_t *word_of(uint64_t *bits, uint32_t key, const ps_key_bits *of)
{
    return &bits[(key >> of->shift) / 64];
}

static uint64_t bit_of(uint32_t key, const ps_key_bits *of)
{
    return (uint64_t)1 << (key >> of->shift) % 64;
}

ps_status ps_keys_mark(const uint32_t *keys, uint32_t count, const ps_key_bits *of, const ps_control *control)
{
    for (uint32_t i = 0; i < count; i++) {
        if (i % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        if (count - i > AHEAD)
            __builtin_prefetch(word_of(of->once, keys[i + AHEAD], of), 1);
        uint64_t bit = bit_of(keys[i], of);
        /* Other threads mark theirs meanwhile. */
        if (__atomic_fetch_or(word_of(of->once, keys[i], of), bit, __ATOMIC_RELAXED) & bit)
            __atomic_fetch_or(word_of(of->twice, keys[i], of), bit, __ATOMIC_RELAXED);
    }
    return PS_OK;
}

ps_status ps_keys_again(const uint32_t *keys, uint32_t count, const ps_key_bits *of, uint8_t *again,
                        const ps_control *control)
{
    for (uint32_t i = 0; i < count; i++) {
        if (i % STOP_EVERY == 0 && ps_stopped(control))
            return PS_STOPPED;
        if (count - i > AHEAD)
            __builtin_prefetch(word_of(of->twice, keys[i + AHEAD], of));
        again[i] = !keys[i] || *word_of(of->twice, keys[i], of) & bit_of(keys[i], of);
    }
    return PS_OK;
}
