/*
 * space.c - where each numbered page lies, and what happens when it does not lie there any more.
 *
 * A mapped file that is truncated, or whose disk fails, raises SIGBUS at the next access to a lost page.
 * The handler below puts zeros there and on all that follows, so that the loop runs on, and marks every space over the
 * mapping as faulted; the loops look at the mark and end with an error, and nothing found since then is used. That needs
 * no jump out of a loop, works in any number of threads, and leaves every other SIGBUS to whoever had it before. Zeros
 * page by page would in time be more mappings than a process may have.
 * When the last faulted space over it goes, the file is mapped anew, so that nobody later takes those zeros for its
 * content.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* Small enough that a stop is seen at once, large enough that the call costs nothing. */
#define POPULATE_STEP (8u << 20)
/* What the kernel maps at one fault, if it is cached (fault_around_bytes). */
#define FAULT_AROUND (64u << 10)
/* Mapping 4 KiB that are in the page cache takes at most 400 ns; from here on they come from a disk, which is asked for
 * so much ahead. */
#define COLD_NS 800
#define AHEAD_BYTES (64u << 20)
/* What lies between two pages and is asked for, or let go of, with them: a call for each page would cost more. */
#define BRIDGED (64u << 10)

/* ---- guards: the address ranges whose faults are ours ---- */

/* Never freed, so that a handler can walk the list at any time; low == 0: free for use again. */
struct guard {
    uintptr_t low, high;
    int faulted;
    int goes; /* its space is being freed */
    int fd;
    dev_t device;
    ino_t inode;
    struct guard *next;
};

static struct guard *guards;
static int faults; /* there has been one in this process: until then nobody need look through guards */
static struct sigaction previous_action;
static int handed_over;
static uintptr_t host_page;

/* To the handler before us, which sees the fault as soon as this one returns. It may in turn have us before it, if it
 * was installed between two of our own installations: the second time round nobody is left to ask. */
static void hand_over(const siginfo_t *info)
{
    if (__atomic_exchange_n(&handed_over, 1, __ATOMIC_ACQ_REL))
        signal(SIGBUS, SIG_DFL);
    else
        sigaction(SIGBUS, &previous_action, NULL);
    if (info->si_code <= 0) /* sent by a process: it does not come again by itself */
        raise(SIGBUS);
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)context;
    uintptr_t address = (uintptr_t)info->si_addr, end = 0;
    int saved_errno = errno;

    for (struct guard *guard = __atomic_load_n(&guards, __ATOMIC_ACQUIRE); guard && info->si_code > 0;
         guard = guard->next) {
        uintptr_t high = __atomic_load_n(&guard->high, __ATOMIC_ACQUIRE);
        if (address < __atomic_load_n(&guard->low, __ATOMIC_ACQUIRE) || address >= high)
            continue;
        __atomic_store_n(&guard->faulted, 1, __ATOMIC_RELEASE);
        __atomic_store_n(&faults, 1, __ATOMIC_RELEASE);
        end = high > end ? high : end;
    }
    address &= ~(host_page - 1);
    if (!end || mmap((void *)address, end - address, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        hand_over(info);
    errno = saved_errno;
}

static void install_handler(void)
{
    struct sigaction current;
    __atomic_store_n(&handed_over, 0, __ATOMIC_RELEASE);
    sigaction(SIGBUS, NULL, &current);
    if ((current.sa_flags & SA_SIGINFO) && current.sa_sigaction == on_sigbus)
        return;
    host_page = (uintptr_t)sysconf(_SC_PAGESIZE);
    previous_action = current;
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

/* A guard that nobody uses, taken: `low` is 1. NULL if there is no memory. */
static struct guard *free_guard(void)
{
    struct guard *guard;
    uintptr_t none = 0;

    for (guard = __atomic_load_n(&guards, __ATOMIC_ACQUIRE); guard; guard = guard->next, none = 0)
        if (__atomic_compare_exchange_n(&guard->low, &none, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return guard;
    guard = calloc(1, sizeof *guard);
    if (!guard)
        return NULL;
    __atomic_store_n(&guard->low, 1, __ATOMIC_RELEASE);
    guard->next = __atomic_load_n(&guards, __ATOMIC_ACQUIRE);
    while (!__atomic_compare_exchange_n(&guards, &guard->next, guard, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
    return guard;
}

static struct guard *watch(const ps_source *source)
{
    struct guard *guard = free_guard();
    struct stat file = {0};

    install_handler();
    if (!guard)
        return NULL;
    fstat(source->fd, &file);
    guard->fd = source->fd;
    guard->device = file.st_dev;
    guard->inode = file.st_ino;
    __atomic_store_n(&guard->faulted, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&guard->goes, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&guard->low, (uintptr_t)source->base, __ATOMIC_RELEASE);
    __atomic_store_n(&guard->high, (uintptr_t)source->base + source->bytes, __ATOMIC_RELEASE);
    /* Another space may have met lost pages of this mapping: they are zeros now, and fault no more. */
    for (struct guard *other = __atomic_load_n(&guards, __ATOMIC_ACQUIRE); other; other = other->next)
        if (__atomic_load_n(&other->faulted, __ATOMIC_ACQUIRE) &&
            __atomic_load_n(&other->low, __ATOMIC_ACQUIRE) < guard->high &&
            guard->low < __atomic_load_n(&other->high, __ATOMIC_ACQUIRE))
            __atomic_store_n(&guard->faulted, 1, __ATOMIC_RELEASE);
    return guard;
}

/* Whether another space is over all that this guard watches: then so is every fault of this one's. Of two that go at
 * once neither leaves it to the other. */
static bool watched_by_another(const struct guard *guard)
{
    for (struct guard *other = __atomic_load_n(&guards, __ATOMIC_ACQUIRE); other; other = other->next)
        if (other != guard && __atomic_load_n(&other->high, __ATOMIC_SEQ_CST) >= guard->high &&
            __atomic_load_n(&other->low, __ATOMIC_SEQ_CST) <= guard->low &&
            __atomic_load_n(&other->faulted, __ATOMIC_SEQ_CST) && !__atomic_load_n(&other->goes, __ATOMIC_SEQ_CST))
            return true;
    return false;
}

/* `high` goes first and comes last: a guard with a low end alone watches nothing. Until the file is mapped anew, a
 * guard that comes to the same mapping must learn of its faults. The last one over it does that: others still read. */
static void unwatch(struct guard *guard)
{
    struct stat file;
    uintptr_t low = guard->low, high = guard->high;

    __atomic_store_n(&guard->goes, 1, __ATOMIC_SEQ_CST);
    /* The file may have been closed by now, and its number be another one's. */
    if (guard->faulted && !watched_by_another(guard) && low % host_page == 0 && fstat(guard->fd, &file) == 0 &&
        file.st_dev == guard->device && file.st_ino == guard->inode)
        mmap((void *)low, high - low, PROT_READ, MAP_SHARED | MAP_FIXED, guard->fd, 0);
    __atomic_store_n(&guard->high, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&guard->low, 0, __ATOMIC_RELEASE);
}

/* ---- the space ---- */

void ps_space_free(ps_space *space)
{
    if (!space)
        return;
    for (uint32_t i = 0; space->guards && i < space->source_count; i++)
        if (space->guards[i])
            unwatch(space->guards[i]);
    free(space->segments);
    free(space->origins);
    free(space->sources);
    free(space->guards);
    free(space->index);
    free(space);
}

static bool segments_fit(const ps_segment *segments, uint32_t segment_count, const ps_source *sources,
                         uint32_t source_count, uint32_t pages, uint32_t page_bytes)
{
    if (((page_bytes < 256 || page_bytes % 64) && page_bytes != PS_FINGERPRINT_BYTES) ||
        (segment_count == 0) != (pages == 0) || pages == PS_NONE)
        return false;
    for (uint32_t i = 0; i < segment_count; i++) {
        uint32_t end = i + 1 < segment_count ? segments[i + 1].first : pages;
        if (segments[i].source >= source_count || (i == 0 && segments[i].first != 0) || end <= segments[i].first)
            return false;
        uint64_t bytes = (uint64_t)(end - segments[i].first) * page_bytes;
        const ps_source *source = &sources[segments[i].source];
        if (bytes > source->bytes || segments[i].offset > source->bytes - bytes ||
            (!source->base && source->fd < 0))
            return false;
    }
    return true;
}

static void *copy_of(const void *array, size_t bytes)
{
    void *copy = malloc(bytes ? bytes : 1);
    if (copy && bytes)
        memcpy(copy, array, bytes);
    return copy;
}

static size_t index_entries(const ps_space *space)
{
    return (size_t)(space->pages >> space->index_shift) + 2;
}

ps_status ps_space_new(ps_space **out, const ps_segment *segments, uint32_t segment_count,
                       const ps_source *sources, uint32_t source_count, uint32_t pages, uint32_t page_bytes)
{
    if (!segments_fit(segments, segment_count, sources, source_count, pages, page_bytes))
        return PS_INVALID;
    ps_space *space = calloc(1, sizeof *space);
    if (!space)
        return PS_NO_MEMORY;
    space->segment_count = segment_count;
    space->source_count = source_count;
    space->pages = pages;
    space->page_bytes = page_bytes;
    space->cut_source = space->bad_source = -1;
    while (pages >> space->index_shift > 2 * (uint64_t)segment_count)
        space->index_shift++;
    space->segments = copy_of(segments, segment_count * sizeof *segments);
    space->origins = calloc(segment_count ? segment_count : 1, sizeof *space->origins);
    space->sources = copy_of(sources, source_count * sizeof *sources);
    space->guards = calloc(source_count ? source_count : 1, sizeof *space->guards);
    space->index = calloc(index_entries(space), sizeof *space->index);
    if (!space->segments || !space->origins || !space->sources || !space->guards || !space->index) {
        ps_space_free(space);
        return PS_NO_MEMORY;
    }
    for (uint32_t i = 0; i < segment_count; i++)
        space->origins[i] = (uintptr_t)sources[segments[i].source].base + segments[i].offset -
                            (uintptr_t)segments[i].first * page_bytes;
    for (uint32_t i = 0, s = 0; i < index_entries(space); i++) {
        uint64_t page = (uint64_t)i << space->index_shift;
        while (s + 1 < segment_count && space->segments[s + 1].first <= page)
            s++;
        space->index[i] = s;
    }
    for (uint32_t i = 0; i < source_count; i++) {
        if (!sources[i].base || sources[i].fd < 0)
            continue;
        space->guards[i] = watch(&sources[i]);
        if (!space->guards[i]) {
            ps_space_free(space);
            return PS_NO_MEMORY;
        }
    }
    *out = space;
    return PS_OK;
}

uint64_t ps_space_bytes(const ps_space *space)
{
    return sizeof *space + space->segment_count * (sizeof *space->segments + sizeof *space->origins) +
           space->source_count * (sizeof *space->sources + sizeof *space->guards) +
           index_entries(space) * sizeof *space->index;
}

int64_t ps_space_faulted(const ps_space *space)
{
    for (uint32_t i = 0; i < space->source_count && __atomic_load_n(&faults, __ATOMIC_ACQUIRE); i++)
        if (space->guards[i] && __atomic_load_n(&space->guards[i]->faulted, __ATOMIC_ACQUIRE))
            return i;
    int32_t cut = __atomic_load_n(&space->cut_source, __ATOMIC_ACQUIRE);
    return cut >= 0 ? cut : __atomic_load_n(&space->bad_source, __ATOMIC_ACQUIRE);
}

ps_status ps_space_status(const ps_space *space)
{
    int64_t source = ps_space_faulted(space);
    if (source < 0)
        return PS_OK;
    struct stat now;
    if (source != space->cut_source && source == space->bad_source)
        return PS_IO_ERROR;
    if (source == space->cut_source || fstat(space->sources[source].fd, &now) != 0 ||
        (S_ISREG(now.st_mode) && (uint64_t)now.st_size < space->sources[source].bytes))
        return PS_SHRANK;
    return PS_IO_ERROR;
}

/* Keeps the first. */
static void note_source(int32_t *noted, uint32_t source)
{
    int32_t none = -1;
    __atomic_compare_exchange_n(noted, &none, (int32_t)source, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

void ps_space_went_bad(ps_space *space, uint32_t page)
{
    note_source(&space->bad_source, ps_space_find(space, page)->source);
}

ps_status ps_space_read(ps_space *space, uint32_t source, uint64_t offset, size_t count, uint8_t *to)
{
    size_t bytes = count * space->page_bytes;
    while (bytes) {
        ssize_t got = pread(space->sources[source].fd, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return PS_IO_ERROR;
        if (got == 0) {
            note_source(&space->cut_source, source);
            return PS_SHRANK;
        }
        to += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return PS_OK;
}

/* Maps what is in the page cache: a fault brings its neighbours with it, and so costs half of what MADV_POPULATE_READ
 * takes, which looks each page up again. What is still being read has not come with the first page of such a window, but
 * has with the last, which is waited for. */
static void touch(const uint8_t *from, const uint8_t *to)
{
    while (from < to) {
        const uint8_t *end = (const uint8_t *)(((uintptr_t)from | (FAULT_AROUND - 1)) + 1);
        end = end < to ? end : to;
        (void)*(const volatile uint8_t *)from;
        (void)*(const volatile uint8_t *)(end - 1);
        from = end;
    }
}

/* Maps [low, high) of a mapped source, step by step. */
static ps_status populate(ps_space *space, uintptr_t low, uintptr_t high, const ps_control *control)
{
    while (low < high) {
        uintptr_t end = high - low > POPULATE_STEP ? low + POPULATE_STEP : high;
        if (ps_stopped(control))
            return PS_STOPPED;
        touch((const uint8_t *)low, (const uint8_t *)end);
        ps_status status = ps_space_status(space);
        if (status != PS_OK)
            return status;
        low = end;
    }
    return PS_OK;
}

/* The next run of pages, at most to `end`, that lies in one piece in memory; *low to *high: where, if mapped from a file,
 * in whole host pages. The number of the page behind it. */
static uint32_t mapped_run(const ps_space *space, uint32_t page, uint32_t end, uintptr_t *low, uintptr_t *high)
{
    const ps_segment *segment = ps_space_find(space, page);
    uint32_t run_end = ps_segment_end(space, segment) < end ? ps_segment_end(space, segment) : end;

    *low = *high = 0;
    if (space->guards[segment->source]) {
        uintptr_t at = (uintptr_t)ps_space_address(space, page);
        *low = at & ~(host_page - 1);
        *high = at + (uintptr_t)(run_end - page) * space->page_bytes;
    }
    return run_end;
}

/* Pages that lie close together in one source, one behind the other: from which byte to which, and the page behind them. */
typedef struct {
    uint32_t source;
    uint32_t next;
    uint64_t from;
    uint64_t to;
} stretch;

static stretch stretch_of(const ps_space *space, uint32_t page, uint32_t end)
{
    const ps_segment *segment = ps_space_find(space, page);
    uint64_t offset = ps_segment_offset(space, segment, page);
    stretch s = {.source = segment->source, .next = page, .from = offset, .to = offset};

    while (segment->source == s.source && offset >= s.to && offset - s.to <= BRIDGED) {
        uint32_t after = ps_segment_end(space, segment) < end ? ps_segment_end(space, segment) : end;
        s.to = offset + (uint64_t)(after - s.next) * space->page_bytes;
        s.next = after;
        if (after == end)
            break;
        offset = (++segment)->offset;
    }
    return s;
}

void ps_space_ask(const ps_space *space, uint32_t first, uint32_t count)
{
    for (uint32_t page = first; page < first + count;) {
        stretch s = stretch_of(space, page, first + count);
        if (space->sources[s.source].fd >= 0)
            posix_fadvise(space->sources[s.source].fd, (off_t)s.from, (off_t)(s.to - s.from), POSIX_FADV_WILLNEED);
        page = s.next;
    }
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What follows page `next` is asked for, unless it has been: the disk is to have a long queue, not one request at a
 * time. */
static void ask_ahead(ps_space *space, uint32_t next)
{
    uint32_t depth = AHEAD_BYTES / space->page_bytes ? AHEAD_BYTES / space->page_bytes : 1;
    uint32_t asked = __atomic_load_n(&space->asked, __ATOMIC_RELAXED);
    uint32_t from = asked > next ? asked : next;
    uint32_t to = space->pages - next < depth ? space->pages : next + depth;

    if (from < to && __atomic_compare_exchange_n(&space->asked, &asked, to, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ps_space_ask(space, from, to - from);
}

ps_status ps_space_populate(ps_space *space, uint32_t first, uint32_t count, const ps_control *control)
{
    uintptr_t low, high;
    uint64_t started = now_ns(), bytes = 0;

    if (first > space->pages || count > space->pages - first)
        return PS_INVALID;
    for (uint32_t page = first; page < first + count;) {
        page = mapped_run(space, page, first + count, &low, &high);
        ps_status status = populate(space, low, high, control);
        if (status != PS_OK)
            return status;
        bytes += (high - low + host_page - 1) & ~(uint64_t)(host_page - 1);
    }
    if (bytes && now_ns() - started > bytes / 4096 * COLD_NS)
        ask_ahead(space, first + count);
    return PS_OK;
}

void ps_space_shed(ps_space *space, uint64_t most)
{
    if (ps_mapped_bytes() > most)
        ps_space_let_go(space, 0, space->pages);
}

void ps_space_let_go(ps_space *space, uint32_t first, uint32_t count)
{
    for (uint32_t page = first; page < first + count;) {
        stretch s = stretch_of(space, page, first + count);
        uintptr_t base = (uintptr_t)space->sources[s.source].base, low = (base + s.from) & ~(host_page - 1);
        /* A fault put zeros there: they must stay until the space goes. */
        if (space->guards[s.source] && ps_space_faulted(space) < 0)
            madvise((void *)low, base + s.to - low, MADV_DONTNEED);
        page = s.next;
    }
}
