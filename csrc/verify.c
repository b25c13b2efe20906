/*
 * verify.c - the third stage of a census: the pages of a group are compared, byte by byte.
 */
#include "census.h"

#define CHUNK_MAX (PS_CHUNK_BLOCKS * PS_BLOCK_MAX)

/* Members unlike their head that are compared with each other right away; more of them are hashed first. */
#define SETTLE_MOST 8
/* From so many on that were compared in vain, if they outnumber the others, the rest of a chunk is hashed instead. */
#define BAIL_OUT 64

typedef ps_census_state census;

/* The members in a chunk of the sorted list, and the head of each. */
typedef struct {
    uint32_t count;
    uint32_t pages[CHUNK_MAX];
    uint32_t heads[CHUNK_MAX];
    const uint8_t *at[CHUNK_MAX + 2 * PS_ABREAST];
    const uint8_t *head_at[CHUNK_MAX + 2 * PS_ABREAST];
} pairs;

/* Pairs that are padded at the end with their last one. */
static void pair_up(const census *c, uint32_t chunk, pairs *p)
{
    uint32_t first = chunk * c->chunk, head = c->chunk_heads[chunk];
    uint32_t end = c->entries - first < c->chunk ? c->entries : first + c->chunk;
    const uint8_t *head_at = ps_space_address(c->space, head);

    p->count = 0;
    for (uint32_t place = first; place < end; place++) {
        uint32_t page = c->sorted[place];
        const uint8_t *at = ps_space_address(c->space, page);
        bool is_head = ps_get_bit(c->heads, place);
        head = is_head ? page : head;
        head_at = is_head ? at : head_at;
        p->pages[p->count] = page;
        p->at[p->count] = at;
        p->heads[p->count] = head;
        p->head_at[p->count] = head_at;
        p->count += !is_head;
    }
    for (uint32_t i = p->count; i < p->count + 2 * PS_ABREAST; i++) {
        p->at[i] = p->count ? p->at[p->count - 1] : head_at;
        p->head_at[i] = p->count ? p->head_at[p->count - 1] : head_at;
    }
}

/* Compares pair after pair, as many as are worth it: their number. Fills unlike[] with those that differ. Meanwhile the
 * first lines of the next few come in; to ask for those of six pairs instead of four took a fourteenth longer on Zen 4. */
static uint32_t compare_pairs(const census *c, const pairs *p, uint32_t *unlike, uint32_t *unlike_count)
{
    uint32_t done = 0, found = 0, in_vain = 0;

    while (done < p->count) {
        for (uint32_t i = done + PS_ABREAST; i < done + 2 * PS_ABREAST; i++) {
            __builtin_prefetch(p->at[i]);
            __builtin_prefetch(p->head_at[i]);
        }
        unsigned equal = c->kernel->equals(p->at + done, p->head_at + done, c->space->page_bytes);
        for (uint32_t i = done; i < done + PS_ABREAST && i < p->count; i++) {
            bool alike = equal >> (i - done) & 1, to_the_end = equal & PS_TO_THE_END;
            /* More of one group than are settled here. */
            bool many = found >= SETTLE_MOST && p->heads[unlike[found - SETTLE_MOST]] == p->heads[i];
            if (c->domain_count > 1)
                alike = alike && ps_domain_of(c, p->pages[i]) == ps_domain_of(c, p->heads[i]);
            unlike[found] = i;
            found += !alike;
            in_vain += !alike && (to_the_end || many);
        }
        done = p->count - done < PS_ABREAST ? p->count : done + PS_ABREAST;
        /* The hash of a whole page tells apart what samples did not; what that does not must be settled here. */
        if (c->round == 1 && in_vain >= BAIL_OUT && in_vain > done / 2)
            break;
    }
    *unlike_count = found;
    return done;
}

/* Members that differ from their head, few, in ascending order: each is compared with those before it. */
static void settle(census *c, const uint32_t *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t found = pages[i];
        for (uint32_t j = 0; j < i && found == pages[i]; j++)
            if (c->canonical[pages[j]] == pages[j] &&
                (c->domain_count == 1 || ps_domain_of(c, pages[i]) == ps_domain_of(c, pages[j])) &&
                c->kernel->equal(ps_space_address(c->space, pages[i]), ps_space_address(c->space, pages[j]),
                                 c->space->page_bytes))
                found = pages[j];
        c->canonical[pages[i]] = found;
    }
    if (count > 1)
        ps_add(&c->stats.compares, count * (count - 1) / 2);
}

/* Members unlike[0 .. count-1] have one head, from which they differ: settles them, or leaves them to the next round if
 * they are many, or if others of their group lie elsewhere. */
static void settle_group(census *c, const pairs *p, const uint32_t *unlike, uint32_t count, bool whole)
{
    uint32_t pages[SETTLE_MOST];

    if (whole && count <= SETTLE_MOST) {
        for (uint32_t i = 0; i < count; i++)
            pages[i] = p->pages[unlike[i]];
        settle(c, pages, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        ps_leave_open(c, p->pages[unlike[i]]);
}

/* Pages that were compared are let go of together, when a third more than is kept has been mapped: what will be needed
 * again has to be mapped again, and who knows which that is. Other mappings of this process may be large too: they
 * raise what is borne. */
static void sweep(census *c)
{
    uint64_t third = (uint64_t)c->keep * c->space->page_bytes / 3, borne = __atomic_load_n(&c->borne, __ATOMIC_RELAXED);

    if (ps_mapped_bytes() <= (borne ? borne : 4 * third) || __atomic_test_and_set(&c->sweeping, __ATOMIC_ACQUIRE))
        return;
    ps_space_let_go(c->space, c->keep, c->pages - c->keep);
    __atomic_store_n(&c->borne, ps_mapped_bytes() + third, __ATOMIC_RELAXED);
    __atomic_clear(&c->sweeping, __ATOMIC_RELEASE);
}

void ps_verify(census *c, uint32_t chunk)
{
    uint32_t unlike[CHUNK_MAX + PS_ABREAST], unlike_count, next = chunk + 1;
    pairs p;

    pair_up(c, chunk, &p);
    uint32_t done = compare_pairs(c, &p, unlike, &unlike_count);
    ps_add(&c->stats.compares, done);

    /* Groups that go on in another chunk, or were not compared to their end. */
    uint32_t first_head = ps_get_bit(c->heads, chunk * c->chunk) ? PS_NONE : c->chunk_heads[chunk];
    uint32_t last_head = next * (uint64_t)c->chunk < c->entries && !ps_get_bit(c->heads, next * c->chunk)
                             ? c->chunk_heads[next] : PS_NONE;
    uint32_t cut_head = done < p.count ? p.heads[done] : PS_NONE;
    for (uint32_t i = 0, end; i < unlike_count; i = end) {
        uint32_t head = p.heads[unlike[i]];
        for (end = i + 1; end < unlike_count && p.heads[unlike[end]] == head; end++)
            ;
        settle_group(c, &p, unlike + i, end - i, head != first_head && head != last_head && head != cut_head);
    }
    /* What was not compared may equal its head. */
    for (; done < p.count; done++) {
        ps_leave_open(c, p.heads[done]);
        ps_leave_open(c, p.pages[done]);
    }
    if (c->keep < c->pages)
        sweep(c);
    if (c->round == 1) {
        uint64_t half = c->pages - c->pages / 2, chunks = (c->entries + c->chunk - 1) / c->chunk;
        uint64_t pages_done = half * (chunk + 1) / chunks - half * chunk / chunks;
        ps_add(&c->advanced, pages_done);
        ps_advance(c->control, pages_done);
    }
}
