/* rows.c: a scan of two owners, made and taken in, and rows that can't be. */
#include <string.h>

#include "check.h"
#include "pageshare.h"

#define ROWS 6

/* Zeros, a content, zeros that were not read, then of another owner the content again, one of its own, and a gap. */
static const int32_t owners[ROWS] = {0, 0, 0, 1, 1, 1};
static const uint64_t frames[ROWS] = {3, 5, 6, 0, 1, 2};
static const uint64_t lengths[ROWS] = {2, 1, 9, 1, 1, 1ull << 40};
static const int8_t states[ROWS] = {PS_ROW_ZERO, PS_ROW_DATA, PS_ROW_HOLE, PS_ROW_DATA, PS_ROW_DATA, PS_ROW_UNKNOWN};
static const uint32_t contents[ROWS] = {0, 1, 0, 1, 2, PS_NONE};
static const uint8_t firsts[ROWS] = {1, 1, 0, 0, 1, 0};
static const uint32_t counts[] = {11, 2, 1};

typedef struct {
    int32_t owner[ROWS];
    uint64_t frame[ROWS], pages[ROWS];
    int8_t state[ROWS];
    uint32_t content[ROWS];
    uint8_t first[ROWS];
} table;

static uint32_t content[5], first_page[3], held[3];
static uint64_t by_owner[3][2], run_frame[3][ROWS], run_first[3][ROWS];
static int32_t run_owner[3][ROWS];

static ps_rows empty(void)
{
    ps_rows to = {.most_frame = 1ull << 52, .most_contents = 2, .zero_at = PS_NONE, .content = content,
                  .first_page = first_page, .held = held, .count = counts, .owner = -1};
    static const uint64_t most[3] = {5, 9, 1ull << 63};

    memset(by_owner, 0, sizeof by_owner);
    first_page[0] = PS_NONE;
    for (int i = 0; i < 3; i++)
        to.parts[i] = (ps_row_part){.most_pages = most[i], .by_owner = by_owner[i], .run_frame = run_frame[i],
                                    .run_first = run_first[i], .run_owner = run_owner[i], .owner = -1};
    return to;
}

static table good(void)
{
    table t;
    memcpy(t.owner, owners, sizeof owners);
    memcpy(t.frame, frames, sizeof frames);
    memcpy(t.pages, lengths, sizeof lengths);
    memcpy(t.state, states, sizeof states);
    memcpy(t.content, contents, sizeof contents);
    memcpy(t.first, firsts, sizeof firsts);
    return t;
}

static ps_status take(ps_rows *to, const table *t, size_t from, size_t rows)
{
    ps_row_columns columns = {t->owner + from, t->frame + from, t->pages + from,
                              t->state + from, t->content + from, t->first + from};
    return ps_rows_take(to, &columns, rows, NULL);
}

static void test_all_or_in_two_parts(void)
{
    table t = good();
    for (size_t cut = 0; cut <= ROWS; cut++) {
        ps_rows to = empty();
        CHECK_EQUAL(take(&to, &t, 0, cut), PS_OK);
        uint64_t runs = to.parts[0].runs;
        CHECK_EQUAL(take(&to, &t, cut, ROWS - cut), PS_OK);
        static const uint32_t expected[5] = {0, 0, 1, 1, 2};
        CHECK(memcmp(content, expected, sizeof content) == 0);
        CHECK(first_page[0] == 0 && first_page[1] == 2 && first_page[2] == 4);
        CHECK(held[0] == 11 && held[1] == 2 && held[2] == 1);
        CHECK(to.parts[0].pages == 5 && to.parts[1].pages == 9 && to.parts[2].pages == 1ull << 40);
        CHECK(by_owner[0][0] == 3 && by_owner[0][1] == 2 && by_owner[1][0] == 9 && by_owner[2][1] == 1ull << 40);
        CHECK(to.zero_at == 0 && to.contents == 2);
        /* `runs` are counted on: zeros and the content beside them are one stretch. */
        CHECK_EQUAL(to.parts[0].runs, 2);
        CHECK(runs <= 2);
        CHECK(run_frame[0][1] == 0 && run_first[0][1] == 3 && run_owner[0][1] == 1);
    }
}

static void test_faults(void)
{
#define FAULT(change, expected) \
    do { \
        table t = good(); \
        ps_rows to = empty(); \
        change; \
        CHECK_EQUAL(take(&to, &t, 0, ROWS), PS_INVALID); \
        CHECK_EQUAL(to.fault, expected); \
    } while (0)
    FAULT(t.pages[1] = 0, PS_ROW_NOWHERE);
    FAULT(t.frame[5] = 1ull << 52, PS_ROW_NOWHERE);
    FAULT(t.pages[5] = UINT64_MAX, PS_ROW_NOWHERE);
    FAULT(t.frame[1] = 4, PS_ROW_ORDER);
    FAULT(t.owner[3] = 1; t.owner[4] = 0, PS_ROW_ORDER);
    FAULT(t.pages[2] = 10, PS_ROW_MORE_PAGES);
    FAULT(to.parts[0].most_pages = 4, PS_ROW_MORE_PAGES);
    FAULT(t.pages[0] = 1; t.frame[4] = 2; t.pages[3] = 2, PS_ROW_SEVERAL);
    FAULT(t.content[5] = 0, PS_ROW_HAS_CONTENT);
    FAULT(t.first[5] = 1, PS_ROW_HAS_CONTENT);
    FAULT(t.content[2] = 1, PS_ROW_NOT_ZERO);
    FAULT(t.first[0] = 0, PS_ROW_ZERO_AGAIN);
    FAULT(t.first[2] = 1, PS_ROW_ZERO_AGAIN);
    FAULT(t.content[3] = 2, PS_ROW_NUMBER);
    FAULT(t.content[4] = 1, PS_ROW_NUMBER);
    FAULT(t.content[3] = 0, PS_ROW_NUMBER);
    FAULT(t.first[3] = 1, PS_ROW_NUMBER);
    FAULT(to.most_contents = 1, PS_ROW_MORE_CONTENTS);
}

static void test_stop(void)
{
    table t = good();
    ps_rows to = empty();
    ps_control control = {.stop = 1};
    ps_row_columns columns = {t.owner, t.frame, t.pages, t.state, t.content, t.first};
    CHECK_EQUAL(ps_rows_take(&to, &columns, ROWS, &control), PS_STOPPED);
}

/* The rows above, from the contents of their pages; any number at a time. */
static void test_made(void)
{
    static const uint32_t classes[5] = {0, 0, 1, 1, PS_CLASS_UNIQUE};
    static const ps_content shared[2] = {{.first = 0, .pages = 2}, {.first = 2, .pages = 2}};
    static const int32_t run_owners[4] = {0, 0, 1, 1};
    static const uint64_t run_frames[4] = {3, 6, 0, 2}, run_pages[4] = {3, 9, 2, 1ull << 40};
    static const uint32_t run_numbers[4] = {0, 0, 3, 0};
    static const int8_t run_states[4] = {PS_ROW_DATA, PS_ROW_HOLE, PS_ROW_DATA, PS_ROW_UNKNOWN};
    static const uint32_t all[3] = {0, 1, 2};

    for (size_t most = 1; most <= ROWS + 1; most++) {
        table t = {0};
        uint32_t number_of[2] = {0}, which[ROWS + 1], count[ROWS + 1];
        ps_row_source from = {.owner = run_owners, .frame = run_frames, .pages = run_pages, .first = run_numbers,
                              .state = run_states, .runs = 4, .classes = classes, .contents = shared,
                              .content_count = 2, .zeros = 11, .number_of = number_of};
        size_t rows = 0, begun = 0;
        for (;;) {
            ps_row_room to = {.most = most < ROWS - rows ? most : ROWS - rows, .owner = t.owner + rows,
                              .frame = t.frame + rows, .pages = t.pages + rows, .state = t.state + rows,
                              .content = t.content + rows, .first = t.first + rows, .which = which + begun,
                              .count = count + begun};
            CHECK_EQUAL(ps_rows_make(&from, &to, NULL), PS_OK);
            if (!to.rows)
                break;
            CHECK(to.rows == to.most);
            rows += to.rows;
            begun += to.begun;
        }
        CHECK_EQUAL(from.run, 4);
        CHECK_EQUAL(rows, ROWS);
        CHECK_EQUAL(begun, 3);
        CHECK(memcmp(t.owner, owners, sizeof owners) == 0 && memcmp(t.frame, frames, sizeof frames) == 0);
        CHECK(memcmp(t.pages, lengths, sizeof lengths) == 0 && memcmp(t.state, states, sizeof states) == 0);
        CHECK(memcmp(t.content, contents, sizeof contents) == 0 && memcmp(t.first, firsts, sizeof firsts) == 0);
        CHECK(memcmp(which, all, sizeof all) == 0 && memcmp(count, counts, sizeof counts) == 0);
    }
}

int main(void)
{
    test_made();
    test_all_or_in_two_parts();
    test_faults();
    test_stop();
    return check_result();
}
