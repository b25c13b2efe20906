/*
 * process.c - pages of other processes while these run: read in batches, hashed, forgotten.
 *
 * No page is kept: what is read fills one buffer of the caller, small enough to stay in the cache, and is hashed from there.
 * Sources: process_vm_readv(2), proc(5) (mem), and the kernel's Documentation/admin-guide/mm/pagemap.rst.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "internal.h"

/* Ranges that are asked for at once; the kernel takes no more than IOV_MAX, 1024. */
#define MOST_RANGES 64
/* Words that are read though nobody asked for them, if that spares a call. */
#define MOST_GAP 64
#define WORDS 512

/* How far a walk over runs of pages has come. */
typedef struct {
    const ps_run *runs;
    size_t count;
    size_t run;                /* the current one */
    uint64_t page;             /* its pages before this one are done */
} ps_walk;

static void skip(ps_walk *walk, uint64_t pages)
{
    walk->page += pages;
    while (walk->run < walk->count && walk->page >= walk->runs[walk->run].pages) {
        walk->page -= walk->runs[walk->run].pages;
        walk->run++;
    }
}

static uint64_t address_of(const ps_walk *walk, uint32_t page_bytes)
{
    return walk->runs[walk->run].address + walk->page * page_bytes;
}

/* Reads as many of the next pages as the buffer takes and the kernel gives, without going on. Returns how many; 0: the next
 * one can't be read; -1: the process has ended; -2: its memory may not be read. */
static int64_t read_some(int pid, int mem, const ps_walk *walk, uint32_t page_bytes, uint8_t *buffer, size_t buffer_bytes)
{
    struct iovec ranges[MOST_RANGES], to = {buffer, 0};
    unsigned long used = 0;

    for (ps_walk ahead = *walk; used < MOST_RANGES && ahead.run < ahead.count && to.iov_len < buffer_bytes; used++) {
        if (used && (ahead.runs[ahead.run].shared || walk->runs[walk->run].shared))
            break;
        uint64_t left = (ahead.runs[ahead.run].pages - ahead.page) * page_bytes;
        size_t take = left < buffer_bytes - to.iov_len ? (size_t)left : buffer_bytes - to.iov_len;
        ranges[used] = (struct iovec){(void *)(uintptr_t)address_of(&ahead, page_bytes), take};
        to.iov_len += take;
        skip(&ahead, take / page_bytes);
    }
    ssize_t got = 0;
    if (!walk->runs[walk->run].shared) {
        got = process_vm_readv(pid, &to, 1, ranges, used, 0);
        if (got < 0 && errno == ESRCH)
            return -1;
        if (got < 0 && errno != EFAULT && mem < 0)
            return -2;
    }
    /* Pages without read permission are in memory all the same, and this file gives them. It does so too where a sandbox
     * forbids the call above. */
    if (got < (ssize_t)page_bytes && mem >= 0)
        got = pread(mem, buffer, ranges[0].iov_len, (off_t)(uintptr_t)ranges[0].iov_base);
    return got < 0 ? 0 : got / page_bytes;
}

ps_status ps_process_hash(int32_t pid, int32_t mem, const ps_run *runs, size_t run_count, uint32_t page_bytes, uint64_t seed,
                          uint8_t *buffer, size_t buffer_bytes, uint64_t *hashes, uint8_t *states, ps_control *control)
{
    const ps_kernel *kernel = ps_kernel_at(ps_kernel_best());
    ps_walk walk = {runs, run_count, 0, 0};
    ps_hash_key key;
    size_t done = 0;

    if (page_bytes < 256 || page_bytes % 64 || buffer_bytes < page_bytes)
        return PS_INVALID;
    buffer_bytes -= buffer_bytes % page_bytes;
    ps_hash_key_init(&key, seed);
    skip(&walk, 0);
    while (walk.run < walk.count) {
        if (ps_stopped(control))
            return PS_STOPPED;
        int64_t got = read_some(pid, mem, &walk, page_bytes, buffer, buffer_bytes);
        if (got < 0)
            return got == -1 ? PS_GONE : PS_REFUSED;
        if (got == 0) {
            hashes[2 * done] = hashes[2 * done + 1] = 0;
            states[done++] = PS_PAGE_UNREADABLE;
            got = 1;
        } else {
            for (int64_t i = 0; i < got; i++, done++) {
                const uint8_t *page = buffer + (size_t)i * page_bytes;
                states[done] = ps_is_zero_page(kernel, page, page_bytes) ? PS_PAGE_ZERO : PS_PAGE_DATA;
                kernel->hash128(&key, page, page_bytes, hashes + 2 * done);
            }
        }
        ps_advance(control, (uint64_t)got);
        skip(&walk, (uint64_t)got);
    }
    return PS_OK;
}

ps_status ps_read_words(int32_t fd, const uint64_t *places, size_t count, uint64_t *words, const ps_control *control)
{
    uint64_t block[WORDS];

    for (size_t first = 0; first < count;) {
        if (ps_stopped(control))
            return PS_STOPPED;
        size_t end = first + 1;
        while (end < count && places[end] - places[first] < WORDS && places[end] - places[end - 1] <= MOST_GAP)
            end++;
        size_t wanted = (size_t)(places[end - 1] - places[first] + 1) * sizeof *block;
        ssize_t got = pread(fd, block, wanted, (off_t)(places[first] * sizeof *block));
        if (got < 0)
            return PS_REFUSED;
        for (; first < end; first++) {
            size_t at = (size_t)(places[first] - places[end - 1]) + wanted / sizeof *block - 1;
            words[first] = (at + 1) * sizeof *block <= (size_t)got ? block[at] : 0;
        }
    }
    return PS_OK;
}
