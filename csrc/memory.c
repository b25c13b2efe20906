/*
 * memory.c - large arrays straight from the kernel.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define HUGE_PAGE (2u << 20)

/* Whole huge pages where there is room for one: the rest would come in small ones, at several times the price. */
static uint64_t rounded(uint64_t bytes)
{
    const uint64_t unit = bytes < HUGE_PAGE / 2 ? 4096 : HUGE_PAGE;
    return bytes ? (bytes + unit - 1) / unit * unit : unit;
}

void *ps_reserve(uint64_t bytes)
{
    bytes = rounded(bytes);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

void ps_release(void *memory, uint64_t bytes)
{
    if (memory)
        munmap(memory, rounded(bytes));
}

uint64_t ps_mapped_bytes(void)
{
    char line[128];
    unsigned long long all, shared = 0;
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t length = read(file, line, sizeof line - 1);
    close(file);
    line[length > 0 ? length : 0] = 0;
    return sscanf(line, "%*u %llu %llu", &all, &shared) == 2 ? shared * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

uint64_t ps_l2_bytes(void)
{
    long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? (uint64_t)bytes : 1u << 20;
}
