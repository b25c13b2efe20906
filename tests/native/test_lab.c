/* test_lab.c - touches of a guest of four pages, whose programs have five: nothing is done by halves, and nothing beyond. */
#include <string.h>

#include "check.h"
#include "pageshare.h"

#define PAGES 4
#define HELD 5
#define NEVER (-1000)

static int64_t touched[PAGES], worked[PAGES], written[PAGES];
static uint8_t zero[PAGES], is_free[PAGES], wrote[PAGES], place[PAGES];
static uint16_t thread[PAGES];
static int32_t at[HELD], frame[PAGES];
static uint64_t held[HELD], content[8], stand_in[2 * PAGES];

static const ps_lab_memory memory = {touched, worked, written, zero, is_free, wrote, thread, PAGES};
static ps_lab_guest guest = {&memory, at, held, place, frame, content, stand_in, 2, HELD, {1, 2}};

static void begin(void)
{
    static const int32_t places[HELD] = {3, 0, -1, 1, 2};

    for (int i = 0; i < PAGES; i++) {
        touched[i] = worked[i] = written[i] = NEVER;
        zero[i] = is_free[i] = place[i] = 1;
        wrote[i] = 0;
        thread[i] = 99;
        frame[i] = 7 - i;
    }
    memcpy(at, places, sizeof at);
    memset(held, 0, sizeof held);
    memset(content, 0, sizeof content);
    memset(stand_in, 0, sizeof stand_in);
}

static void check_touch(void)
{
    const uint32_t pages[] = {2, 0, 2, 3};
    const uint8_t kinds[] = {PS_TOUCH_READ, PS_TOUCH_WRITTEN, PS_TOUCH_WRITTEN | PS_TOUCH_ZERO, PS_TOUCH_RELEASED};
    const uint8_t work[] = {0, 1, 1, 1};
    const uint16_t threads[] = {4, 5, 6, 7};
    const ps_lab_touches how = {kinds, work, threads, 1, 1, 1};

    begin();
    CHECK_EQUAL(ps_lab_touch(&memory, 10, pages, 4, &how), PS_OK);
    CHECK(touched[2] == 10 && worked[2] == 10 && written[2] == 10 && zero[2] && !is_free[2]);
    /* The first touch at a time is what a trap tells of. */
    CHECK(thread[2] == 4 && !wrote[2]);
    CHECK(touched[0] == 10 && worked[0] == 10 && written[0] == 10 && !zero[0] && thread[0] == 5 && wrote[0]);
    CHECK(touched[3] == NEVER && worked[3] == NEVER && is_free[3] && thread[3] == 99);
    CHECK(touched[1] == NEVER && is_free[1]);

    const uint32_t beyond[] = {1, PAGES};
    const uint8_t kind = PS_TOUCH_READ, no_work = 0;
    const ps_lab_touches all = {&kind, &no_work, threads, 0, 0, 0};
    CHECK_EQUAL(ps_lab_touch(&memory, 20, beyond, 2, &all), PS_INVALID);
    CHECK(touched[1] == 20 && worked[1] == NEVER && thread[1] == 4);
}

static int32_t use(const uint32_t *pages, const uint8_t *kinds, const uint64_t *contents)
{
    const uint8_t work = 1;
    const uint16_t of = 3;
    const ps_lab_touches how = {kinds, &work, &of, 1, 0, 0};

    return ps_lab_use(&guest, 10, pages, 3, 1, &how, contents, 500);
}

static void check_use(void)
{
    const uint32_t pages[] = {0, 2, 3}, away[] = {0, 2, 1}, beyond[] = {0, 2, 4};
    const uint8_t kinds[] = {PS_TOUCH_READ, PS_TOUCH_WRITTEN, PS_TOUCH_WRITTEN | PS_TOUCH_ZERO};
    const uint8_t released[] = {PS_TOUCH_WRITTEN, PS_TOUCH_WRITTEN, PS_TOUCH_RELEASED};
    const uint64_t contents[] = {77, 78, 79};

    begin();
    content[5] = held[4] = stand_in[4] = 9;
    CHECK_EQUAL(use(away, kinds, NULL), 0);
    CHECK_EQUAL(use(beyond, kinds, NULL), 0);
    CHECK_EQUAL(use(pages, released, NULL), 0);
    place[2] = 3;
    CHECK_EQUAL(use(pages, kinds, NULL), 0);
    place[2] = 2;
    CHECK_EQUAL(use(pages, kinds, NULL), 0);
    place[2] = 1;
    for (int i = 0; i < PAGES; i++)
        CHECK(touched[i] == NEVER && is_free[i]);
    CHECK(held[3] == 0 && content[6] == 0);

    /* The first is only read. */
    place[0] = 2;
    CHECK_EQUAL(use(pages, kinds, NULL), 1);
    CHECK(touched[0] == 10 && touched[1] == 10 && touched[2] == 10 && touched[3] == NEVER);
    CHECK(held[1] == 0 && held[3] == 501 && held[4] == 0);
    CHECK(content[7] == 0 && content[6] == 501 && content[5] == 0);
    CHECK(stand_in[0] == 0 && stand_in[2] == 501 && stand_in[4] == 0 && stand_in[3] == 0);
    CHECK(zero[0] && !zero[1] && zero[2]);

    guest.stand_in = NULL;
    CHECK_EQUAL(use(pages, kinds, contents), 1);
    CHECK(held[3] == 78 && content[6] == 78 && stand_in[2] == 501);
    guest.stand_in = stand_in;
}

static void check_store(void)
{
    const uint32_t pages[] = {3, 1};
    const uint8_t write[] = {0, 1};
    const uint64_t contents[] = {5, 6};

    begin();
    place[1] = 2;
    CHECK_EQUAL(ps_lab_ready(place, guest.places, pages, 2, NULL), 1);
    CHECK_EQUAL(ps_lab_ready(place, guest.places, pages, 2, write), 0);
    CHECK_EQUAL(ps_lab_ready(place, guest.places, pages, 1, write + 1), 1);
    place[3] = 0;
    CHECK_EQUAL(ps_lab_ready(place, guest.places, pages, 2, NULL), 0);
    CHECK_EQUAL(ps_lab_ready(place, guest.places, pages, 0, NULL), 1);
    ps_lab_store(frame, content, stand_in, 2, pages, 2, write, contents);
    CHECK(content[6] == 6 && content[4] == 0 && stand_in[2] == 6 && stand_in[6] == 0);
    ps_lab_store(frame, content, NULL, 0, pages, 1, write + 1, contents);
    CHECK(content[4] == 5 && stand_in[6] == 0);
}

int main(void)
{
    check_touch();
    check_use();
    check_store();
    return check_result();
}
