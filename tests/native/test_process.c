/*
 * test_process.c - pages of a child process: data, zeros, holes in the middle of a run, no permission to read, pages that
 * must not be pinned, an end in between; words of a file at chosen places.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spaces.h"

#define SIZE 4096u

/* A child with this process's memory, which waits to be killed. */
static pid_t child_of(void)
{
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static int open_mem(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    return fd;
}

/* Whole pages of memory of its own; each holds its number, every third is zero. */
static uint8_t *numbered(size_t pages)
{
    uint8_t *memory = mmap(NULL, pages * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    for (size_t i = 0; i < pages; i++)
        memset(memory + i * SIZE, i % 3 ? (int)(i % 251 + 1) : 0, SIZE);
    return memory;
}

static void check_page(const uint8_t *page, uint64_t seed, const uint64_t *hash, unsigned state)
{
    uint64_t expected[2];
    ps_hash_key key;
    ps_hash_key_init(&key, seed);
    ps_hash128(0, &key, page, SIZE, 1, expected);
    CHECK_EQUAL(hash[0], expected[0]);
    CHECK_EQUAL(hash[1], expected[1]);
    CHECK_EQUAL(state, page[0] ? PS_PAGE_DATA : PS_PAGE_ZERO);
}

/* Runs of 1, 2, .. pages with gaps of one, through buffers of one page and more. */
static void test_runs(void)
{
    enum { PAGES = 4000, RUNS = 80 };
    uint8_t *memory = numbered(PAGES), *buffer = malloc(64 * SIZE), *states = malloc(PAGES);
    uint64_t *hashes = malloc(PAGES * 16);
    size_t numbers[PAGES], count = 0, page = 0;
    ps_run runs[RUNS];
    REQUIRE(buffer && states && hashes);
    for (size_t i = 0; i < RUNS; i++) {
        runs[i] = (ps_run){(uintptr_t)(memory + page * SIZE), i, 0};
        for (size_t j = 0; j < i; j++)
            numbers[count++] = page++;
        page++;
    }
    REQUIRE(page <= PAGES);
    pid_t pid = child_of();
    static const size_t sizes[] = {SIZE, 3 * SIZE + 5, 64 * SIZE};
    for (size_t size = 0; size < 3; size++) {
        ps_control control = {0};
        CHECK_EQUAL(ps_process_hash(pid, -1, runs, RUNS, SIZE, size, buffer, sizes[size], hashes, states, &control), PS_OK);
        CHECK_EQUAL(control.done, count);
        for (size_t i = 0; i < count; i++)
            check_page(memory + numbers[i] * SIZE, size, hashes + 2 * i, states[i]);
    }
    CHECK_EQUAL(ps_process_hash(pid, -1, runs, 0, SIZE, 0, buffer, SIZE, hashes, states, NULL), PS_OK);
    CHECK_EQUAL(ps_process_hash(pid, -1, runs, 1, SIZE, 0, buffer, SIZE, hashes, states, NULL), PS_OK);
    CHECK_EQUAL(ps_process_hash(pid, -1, runs, RUNS, SIZE, 0, buffer, SIZE - 1, hashes, states, NULL), PS_INVALID);
    CHECK_EQUAL(ps_process_hash(pid, -1, runs, RUNS, 100, 0, buffer, SIZE, hashes, states, NULL), PS_INVALID);
    ps_control stopped = {.stop = 1};
    CHECK_EQUAL(ps_process_hash(pid, -1, runs, RUNS, SIZE, 0, buffer, SIZE, hashes, states, &stopped), PS_STOPPED);
    end(pid);
    CHECK_EQUAL(ps_process_hash(pid, -1, runs, RUNS, SIZE, 0, buffer, SIZE, hashes, states, NULL), PS_GONE);
    munmap(memory, PAGES * SIZE);
    free(buffer);
    free(states);
    free(hashes);
}

/* Of ten pages the third is not mapped in the child, the fifth to seventh may not be read by it. */
static void test_holes(void)
{
    uint8_t *memory = numbered(10), buffer[4 * SIZE], states[10];
    uint64_t hashes[20];
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        munmap(memory + 2 * SIZE, SIZE);
        mprotect(memory + 4 * SIZE, 3 * SIZE, PROT_NONE);
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char byte;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    ps_run run = {(uintptr_t)memory, 10, 0};
    int mem = open_mem(pid);
    for (int with_mem = 0; with_mem < 2; with_mem++) {
        ps_control control = {0};
        CHECK_EQUAL(ps_process_hash(pid, with_mem ? mem : -1, &run, 1, SIZE, 7, buffer, sizeof buffer, hashes, states,
                                    &control), PS_OK);
        CHECK_EQUAL(control.done, 10);
        for (size_t i = 0; i < 10; i++)
            if (i == 2 || (!with_mem && i >= 4 && i < 7)) {
                CHECK_EQUAL(states[i], PS_PAGE_UNREADABLE);
                CHECK_EQUAL(hashes[2 * i] | hashes[2 * i + 1], 0);
            } else {
                check_page(memory + i * SIZE, 7, hashes + 2 * i, states[i]);
            }
    }
    close(mem);
    close(ready[0]);
    close(ready[1]);
    end(pid);
    munmap(memory, 10 * SIZE);
}

/* Runs of one page that are shared and not in turn, and one of many that is. Without /proc/PID/mem those can't be read. */
static void test_shared(void)
{
    enum { PAGES = 400 };
    uint8_t *memory = numbered(PAGES), *buffer = malloc(64 * SIZE), states[PAGES];
    uint64_t hashes[2 * PAGES];
    ps_run runs[101];
    REQUIRE(buffer);
    pid_t pid = child_of();
    int mem = open_mem(pid);
    for (size_t i = 0; i < 100; i++)
        runs[i] = (ps_run){(uintptr_t)(memory + i * SIZE), 1, i % 3 != 0};
    runs[100] = (ps_run){(uintptr_t)(memory + 100 * SIZE), PAGES - 100, 1};
    CHECK_EQUAL(ps_process_hash(pid, mem, runs, 101, SIZE, 3, buffer, 64 * SIZE, hashes, states, NULL), PS_OK);
    for (size_t i = 0; i < PAGES; i++)
        check_page(memory + i * SIZE, 3, hashes + 2 * i, states[i]);
    CHECK_EQUAL(ps_process_hash(pid, -1, runs, 101, SIZE, 3, buffer, 64 * SIZE, hashes, states, NULL), PS_OK);
    for (size_t i = 0; i < PAGES; i++)
        if (i >= 100 || i % 3 != 0)
            CHECK_EQUAL(states[i], PS_PAGE_UNREADABLE);
        else
            check_page(memory + i * SIZE, 3, hashes + 2 * i, states[i]);
    close(mem);
    end(pid);
    munmap(memory, PAGES * SIZE);
    free(buffer);
}

static void test_words(void)
{
    enum { WORDS = 20000 };
    char path[] = "/tmp/pageshare-words-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    unlink(path);
    for (uint64_t i = 0; i < WORDS; i++)
        REQUIRE(write(fd, &(uint64_t){i * i + 1}, 8) == 8);
    uint64_t places[3000], words[3000], state = 1, place = 0;
    for (size_t i = 0; i < 3000; i++) {
        places[i] = place;
        place += i % 100 ? next_random(&state) % 12 : next_random(&state) % 900; /* equal ones too */
    }
    CHECK_EQUAL(ps_read_words(fd, places, 3000, words, NULL), PS_OK);
    for (size_t i = 0; i < 3000; i++)
        CHECK_EQUAL(words[i], places[i] < WORDS ? places[i] * places[i] + 1 : 0);
    CHECK(places[2999] > WORDS);
    CHECK_EQUAL(ps_read_words(fd, places, 0, words, NULL), PS_OK);
    CHECK_EQUAL(ps_read_words(fd, places, 1, words, &(ps_control){.stop = 1}), PS_STOPPED);
    close(fd);
    CHECK_EQUAL(ps_read_words(fd, places, 1, words, NULL), PS_REFUSED);
}

int main(void)
{
    test_runs();
    test_holes();
    test_shared();
    test_words();
    return check_result();
}
