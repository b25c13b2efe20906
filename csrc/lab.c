/*
 * lab.c - what the guests of the laboratory do page by page: when a page was touched, by whom, and what it holds then.
 */
#include "internal.h"

static void touch(const ps_lab_memory *memory, int64_t now, uint32_t page, const ps_lab_touches *how, size_t i, uint8_t kinds)
{
    if (!(kinds & (PS_TOUCH_READ | PS_TOUCH_WRITTEN)))
        return;
    if (memory->touched[page] < now) {
        memory->touched[page] = now;
        memory->thread[page] = how->thread[i * how->thread_step];
        memory->wrote[page] = (kinds & PS_TOUCH_WRITTEN) != 0;
    }
    memory->free[page] = 0;
    if (how->work[i * how->work_step])
        memory->worked[page] = now;
    if (kinds & PS_TOUCH_WRITTEN) {
        memory->written[page] = now;
        memory->zero[page] = (kinds & PS_TOUCH_ZERO) != 0;
    }
}

ps_status ps_lab_touch(const ps_lab_memory *memory, int64_t now, const uint32_t *pages, size_t count,
                       const ps_lab_touches *how)
{
    for (size_t i = 0; i < count; i++) {
        if (pages[i] >= memory->pages)
            return PS_INVALID;
        touch(memory, now, pages[i], how, i, how->kinds[i * how->kinds_step]);
    }
    return PS_OK;
}

static bool is_ready(ps_lab_places places, uint8_t place, bool write)
{
    return place == places.resident || (place == places.shared && !write);
}

static bool all_there(const ps_lab_guest *guest, const uint32_t *pages, size_t count, uint64_t offset,
                      const ps_lab_touches *how)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t page = pages[i] + offset;

        uint8_t kinds = how->kinds[i * how->kinds_step];

        if (page >= guest->count || kinds & PS_TOUCH_RELEASED || guest->at[page] < 0 ||
            !is_ready(guest->places, guest->place[guest->at[page]], kinds & PS_TOUCH_WRITTEN))
            return false;
    }
    return true;
}

int32_t ps_lab_use(const ps_lab_guest *guest, int64_t now, const uint32_t *pages, size_t count, uint64_t offset,
                   const ps_lab_touches *how, const uint64_t *contents, uint64_t fresh)
{
    if (!all_there(guest, pages, count, offset, how))
        return 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t page = pages[i] + offset;
        uint32_t own = (uint32_t)guest->at[page];
        uint8_t kinds = how->kinds[i * how->kinds_step];

        if (kinds & PS_TOUCH_WRITTEN) {
            uint64_t content = kinds & PS_TOUCH_ZERO ? 0 : contents ? contents[i] : fresh + i;

            guest->held[page] = content;
            guest->content[guest->frame[own]] = content;
            if (guest->stand_in)
                guest->stand_in[own * guest->words] = content;
        }
        touch(guest->memory, now, own, how, i, kinds);
    }
    return 1;
}

int32_t ps_lab_ready(const uint8_t *place, ps_lab_places places, const uint32_t *pages, size_t count, const uint8_t *write)
{
    for (size_t i = 0; i < count; i++)
        if (!is_ready(places, place[pages[i]], write && write[i]))
            return 0;
    return 1;
}

void ps_lab_store(const int32_t *frame, uint64_t *content, uint64_t *stand_in, size_t words, const uint32_t *pages,
                  size_t count, const uint8_t *write, const uint64_t *contents)
{
    for (size_t i = 0; i < count; i++) {
        if (!write[i])
            continue;
        content[frame[pages[i]]] = contents[i];
        if (stand_in)
            stand_in[(size_t)pages[i] * words] = contents[i];
    }
}
