/*
 * Work for a guest, and what its kernel says of it; a static program.
 *
 *   load hog MIB               writes to so much new memory, a page at a time; says which writes took long
 *   load cycle PAGES:MS ...    a region of so many pages each, every page read once in so many milliseconds, for ever
 *   load ages PID MS           clears the accessed bits of PID, waits, and says how much of each region had them set
 *   load put FILE TEXT         writes to a file, and says how long that took
 *   load get FILE              reads one, and says how long that took
 *   load spin                  keeps the processor busy
 *
 * Times are in nanoseconds of the guest's clock, or in cycles of its time stamp counter.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { PAGE = 4096, MOST_REGIONS = 8, TICK_MS = 20 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * UINT64_C(1000000000) + time.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
    struct timespec time = {ns / 1000000000, ns % 1000000000};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* New memory in small pages, with a page before and behind it that keeps it apart from other mappings. */
static char *region(size_t pages)
{
    char *at = mmap(NULL, (pages + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED || mprotect(at + PAGE, pages * PAGE, PROT_READ | PROT_WRITE))
        die("mmap");
    madvise(at + PAGE, pages * PAGE, MADV_NOHUGEPAGE);
    return at + PAGE;
}

static int hog(size_t pages)
{
    static struct { size_t page; uint64_t cycles; } slow[4096];
    char *memory = region(pages);
    uint64_t *each = calloc(pages, sizeof *each), begin = now(), total;
    size_t i, count = 0;

    if (!each)
        die("calloc");
    memset(each, 1, pages * sizeof *each); /* so that what is measured is not this */
    for (i = 0; i < pages; i++) {
        uint64_t start = __rdtsc();

        *(volatile char *)(memory + i * PAGE) = 1;
        each[i] = __rdtsc() - start;
        if (each[i] > 2000000 && count < 4096) {
            slow[count].page = i;
            slow[count++].cycles = each[i];
        }
    }
    total = now() - begin;
    printf("total %" PRIu64 "\n", total);
    for (i = 0; i < count; i++)
        printf("slow %zu %" PRIu64 "\n", slow[i].page, slow[i].cycles);
    return 0;
}

static int cycle(int count, char **words)
{
    struct { char *at; size_t pages; uint64_t ms, done; } regions[MOST_REGIONS];
    uint64_t start, tick;
    int i;

    if (count > MOST_REGIONS)
        return 2;
    for (i = 0; i < count; i++) {
        if (sscanf(words[i], "%zu:%" SCNu64, &regions[i].pages, &regions[i].ms) != 2)
            return 2;
        regions[i].at = region(regions[i].pages);
        regions[i].done = 0;
        memset(regions[i].at, 1, regions[i].pages * PAGE);
        printf("region %" PRIxPTR " %zu %" PRIu64 "\n", (uintptr_t)regions[i].at, regions[i].pages, regions[i].ms);
    }
    printf("pid %d\n", getpid());
    fflush(stdout);
    fclose(stdout);
    start = now();
    for (tick = 1;; tick++) {
        sleep_until(start + tick * TICK_MS * 1000000);
        for (i = 0; i < count; i++) {
            uint64_t due;

            if (!regions[i].ms) /* never again */
                continue;
            due = tick * TICK_MS * regions[i].pages / regions[i].ms;
            for (; regions[i].done < due; regions[i].done++)
                *(volatile char *)(regions[i].at + regions[i].done % regions[i].pages * PAGE);
        }
    }
}

static char *whole(const char *path)
{
    static char text[1 << 20];
    size_t size = 0;
    ssize_t got;
    int file = open(path, O_RDONLY);

    if (file < 0)
        die(path);
    while ((got = read(file, text + size, sizeof text - 1 - size)) > 0)
        size += got;
    close(file);
    text[size] = 0;
    return text;
}

static void put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY);

    if (file < 0 || write(file, text, strlen(text)) < 0)
        die(path);
    close(file);
}

static int ages(const char *pid, uint64_t ms)
{
    char clear[64], smaps[64], *line, *text;
    uint64_t start, cleared, waited, read;
    uintptr_t first = 0, last;
    int kib;

    snprintf(clear, sizeof clear, "/proc/%s/clear_refs", pid);
    snprintf(smaps, sizeof smaps, "/proc/%s/smaps", pid);
    whole(smaps); /* so that its memory is there */
    start = now();
    put(clear, "1");
    cleared = now();
    sleep_until(cleared + ms * 1000000);
    waited = now();
    text = whole(smaps);
    read = now();
    for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        uintptr_t begin;

        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &begin, &last) == 2)
            first = begin;
        else if (sscanf(line, "Referenced: %d kB", &kib) == 1)
            printf("referenced %" PRIxPTR " %d\n", first, kib / 4);
    }
    printf("clear %" PRIu64 "\nwaited %" PRIu64 "\nread %" PRIu64 "\n", cleared - start, waited - cleared, read - waited);
    return 0;
}

int main(int count, char **words)
{
    uint64_t start;

    if (count == 3 && !strcmp(words[1], "hog"))
        return hog(strtoul(words[2], NULL, 10) << 20 >> 12);
    if (count >= 3 && !strcmp(words[1], "cycle"))
        return cycle(count - 2, words + 2);
    if (count == 4 && !strcmp(words[1], "ages"))
        return ages(words[2], strtoul(words[3], NULL, 10));
    if (count == 2 && !strcmp(words[1], "spin"))
        for (;;)
            __asm__ volatile("");
    if (count == 4 && !strcmp(words[1], "put")) {
        start = now();
        put(words[2], words[3]);
        printf("ns %" PRIu64 "\n", now() - start);
        return 0;
    }
    if (count == 3 && !strcmp(words[1], "get")) {
        char *text;

        whole(words[2]);
        start = now();
        text = whole(words[2]);
        printf("ns %" PRIu64 "\n%s", now() - start, text);
        return 0;
    }
    fputs("usage: load hog|cycle|ages|put|get|spin ..\n", stderr);
    return 2;
}
