/*
 * test_space.c - pages wherever they lie: unaligned segments, buffers, mapped files and files that are read; files
 * that get shorter before and while they are scanned, by one thread and by two; arguments out of range.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spaces.h"

static ps_table_stats stats_of(const ps_table *table)
{
    ps_table_stats stats;
    ps_table_get_stats(table, &stats);
    return stats;
}

static void test_segments(void)
{
    /* Content at odd offsets, in two sources and in an order other than theirs. */
    uint8_t *one = malloc(3 * PAGE + 13), *other = malloc(PAGE + 1);
    REQUIRE(one && other);
    memset(one, 'x', 3 * PAGE + 13);
    memset(one + 13, 'a', 2 * PAGE);
    memset(one + 13 + 2 * PAGE, 0, PAGE);
    memset(other, 'a', PAGE + 1);
    ps_source sources[] = {{.base = one, .bytes = 3 * PAGE + 13, .fd = -1},
                           {.base = other, .bytes = PAGE + 1, .fd = -1}};
    ps_segment segments[] = {{13 + 2 * PAGE, 0, 0}, {1, 1, 1}, {13, 2, 0}, {0, 4, 0}};
    ps_space *space = NULL;

    REQUIRE(ps_space_new(&space, segments, 4, sources, 2, 5, PAGE) == PS_OK);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    CHECK_SCAN(table, 0, "ZHNJH");
    CHECK_EQUAL(ps_space_faulted(space), UINT64_MAX);
    CHECK(ps_space_bytes(space) < 1024);
    ps_table_free(table);
    ps_space_free(space);
    free(one);
    free(other);
}

/* Every page its own segment: the index must lead to the right one of thousands. */
static void test_many_segments(void)
{
    enum { PAGES = 5000 };
    uint8_t *memory = calloc(PAGES, PAGE);
    ps_segment *segments = calloc(PAGES, sizeof *segments);
    uint32_t *classes = calloc(PAGES, sizeof *classes), used = 0, page = 0;
    size_t scanned = 0;
    REQUIRE(memory && segments && classes);
    for (uint32_t i = 0; i < PAGES; i++)
        memcpy(memory + (size_t)i * PAGE, &(uint32_t){i / 2 + 1}, 4);
    /* Runs of 1, 2, .. 7 pages, each taken from the end of the memory that is left. */
    for (uint32_t run = 1; page < PAGES; page += run, run = run % 7 + 1) {
        run = run > PAGES - page ? PAGES - page : run;
        segments[used++] = (ps_segment){.offset = (uint64_t)(PAGES - page - run) * PAGE, .first = page};
    }
    ps_source source = {.base = memory, .bytes = (uint64_t)PAGES * PAGE, .fd = -1};
    ps_space *space = NULL;
    REQUIRE(ps_space_new(&space, segments, used, &source, 1, PAGES, PAGE) == PS_OK);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    CHECK_EQUAL(ps_table_scan(table, NULL, 0, PAGES, NULL, NULL, NULL, &scanned), PS_OK);
    check_sound(table);
    CHECK_EQUAL(ps_table_classes(table, 0, PAGES, classes), PS_OK);
    CHECK_EQUAL(stats_of(table).frames, PAGES / 2);
    for (uint32_t s = 0; s < used; s++)
        for (uint32_t i = segments[s].first; i < (s + 1 < used ? segments[s + 1].first : PAGES); i++) {
            const uint8_t *mine = memory + segments[s].offset + (uint64_t)(i - segments[s].first) * PAGE;
            uint32_t head = classes[i], t = used - 1;
            while (segments[t].first > head)
                t--;
            const uint8_t *theirs = memory + segments[t].offset + (uint64_t)(head - segments[t].first) * PAGE;
            CHECK(memcmp(mine, theirs, 4) == 0);
        }
    ps_table_free(table);
    ps_space_free(space);
    free(memory);
    free(segments);
    free(classes);
}

static void test_arguments(void)
{
    uint8_t memory[4 * PAGE] = {0};
    const ps_source buffer = {.base = memory, .bytes = sizeof memory, .fd = -1};
    const ps_source nowhere = {.base = NULL, .bytes = sizeof memory, .fd = -1};
    const struct {
        ps_segment segments[2];
        uint32_t segment_count, pages, page_bytes;
        const ps_source *source;
    } bad[] = {
        {{{0, 0, 0}}, 1, 4, 128, &buffer},              /* page size too small, */
        {{{0, 0, 0}}, 1, 3, 300, &buffer},              /* not a multiple of 64 */
        {{{0, 0, 0}}, 1, 4, 0, &buffer},
        {{{0, 0, 0}}, 0, 4, PAGE, &buffer},             /* pages without a segment, */
        {{{0, 0, 0}}, 1, 0, PAGE, &buffer},             /* a segment without pages */
        {{{0, 1, 0}}, 1, 4, PAGE, &buffer},             /* the first page missing */
        {{{0, 0, 0}, {0, 0, 0}}, 2, 4, PAGE, &buffer},  /* an empty segment */
        {{{0, 0, 0}, {0, 5, 0}}, 2, 4, PAGE, &buffer},  /* one beyond the last page */
        {{{0, 0, 1}}, 1, 4, PAGE, &buffer},             /* no such source */
        {{{0, 0, 0}}, 1, 5, PAGE, &buffer},             /* beyond the end of the source: in length, */
        {{{1, 0, 0}}, 1, 4, PAGE, &buffer},             /* by its offset, */
        {{{UINT64_MAX - PAGE + 1, 0, 0}}, 1, 4, PAGE, &buffer}, /* by one that would wrap around */
        {{{0, 0, 0}}, 1, PS_NONE, PAGE, &buffer},
        {{{0, 0, 0}}, 1, 4, PAGE, &nowhere},            /* neither memory nor a file */
    };
    ps_space *space = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQUAL(ps_space_new(&space, bad[i].segments, bad[i].segment_count, bad[i].source, 1, bad[i].pages,
                                 bad[i].page_bytes), PS_INVALID);
        CHECK(space == NULL);
    }
    space = space_of(memory, -1, 4, 1);
    CHECK_EQUAL(ps_space_populate(space, 0, 5, NULL), PS_INVALID);
    CHECK_EQUAL(ps_space_populate(space, 5, 0, NULL), PS_INVALID);
    CHECK_EQUAL(ps_space_populate(space, 4, PS_NONE, NULL), PS_INVALID);
    CHECK_EQUAL(ps_space_populate(space, 1, 3, NULL), PS_OK);
    ps_space_free(space);
    ps_space_free(NULL);
}

static void test_no_pages_at_all(void)
{
    ps_space *space = NULL;
    size_t scanned = 1;
    REQUIRE(ps_space_new(&space, NULL, 0, NULL, 0, 0, PAGE) == PS_OK);
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    CHECK_EQUAL(ps_table_scan(table, NULL, 0, 0, NULL, NULL, NULL, &scanned), PS_OK);
    CHECK_EQUAL(scanned, 0);
    check_sound(table);
    ps_table_free(table);
    ps_space_free(space);
}

/* ---- files ---- */

/* A file of `pages` pages: pairs of equal ones, every eighth zero; it goes when it is closed. */
static FILE *file_of(uint32_t pages)
{
    FILE *file = tmpfile();
    uint8_t page[PAGE];
    REQUIRE(file);
    for (uint32_t i = 0; i < pages; i++) {
        memset(page, 0, PAGE);
        if (i % 8)
            memcpy(page, &(uint32_t){i / 2 + 1}, 4);
        REQUIRE(fwrite(page, PAGE, 1, file) == 1);
    }
    REQUIRE(fflush(file) == 0);
    return file;
}

typedef enum { MAPPED, READ, WAYS } way;

typedef struct {
    FILE *file;
    int fd;
    uint32_t pages;
    uint8_t *base; /* NULL: read */
    ps_space *space;
    ps_table *table;
} scanned_file;

static ps_space *space_over(const scanned_file *file, way how)
{
    ps_source source = {.base = how == READ ? NULL : file->base, .bytes = (uint64_t)file->pages * PAGE,
                        .fd = file->fd};
    ps_segment segment = {0};
    ps_space *space = NULL;
    REQUIRE(ps_space_new(&space, &segment, 1, &source, 1, file->pages, PAGE) == PS_OK);
    return space;
}

static scanned_file open_file(uint32_t pages, way how)
{
    scanned_file file = {.file = file_of(pages), .pages = pages};
    file.fd = fileno(file.file);
    file.base = mmap(NULL, (size_t)pages * PAGE, PROT_READ, MAP_SHARED, file.fd, 0);
    REQUIRE(file.base != MAP_FAILED);
    file.space = space_over(&file, how);
    file.table = table_over(file.space, (ps_table_config){DEFAULTS});
    return file;
}

static void close_file(scanned_file *file)
{
    ps_table_free(file->table);
    ps_space_free(file->space);
    munmap(file->base, (size_t)file->pages * PAGE);
    fclose(file->file);
}

static ps_status scan_all(ps_table *table, uint32_t pages)
{
    size_t scanned = 0;
    ps_status status = ps_table_scan(table, NULL, 0, pages, NULL, NULL, NULL, &scanned);
    CHECK((status == PS_OK) == (scanned == pages));
    return status;
}

static void test_every_way_gives_the_same(void)
{
    for (way how = MAPPED; how < WAYS; how++) {
        scanned_file file = open_file(8000, how);
        CHECK_EQUAL(ps_space_populate(file.space, 0, 8000, NULL), PS_OK);
        CHECK_EQUAL(scan_all(file.table, 8000), PS_OK);
        check_sound(file.table);
        CHECK_EQUAL(stats_of(file.table).hints, 1000);       /* the neighbours of the zero pages */
        CHECK_EQUAL(stats_of(file.table).frames, 3000 + 1);
        CHECK_EQUAL(stats_of(file.table).members, 7000);
        close_file(&file);
    }
}

static void test_shrunk_before_the_scan(void)
{
    for (way how = MAPPED; how < WAYS; how++) {
        scanned_file file = open_file(8000, how);
        REQUIRE(ftruncate(file.fd, 5000 * PAGE) == 0);
        CHECK_EQUAL(scan_all(file.table, 5000 / 64 * 64), PS_OK);
        CHECK_EQUAL(ps_space_faulted(file.space), UINT64_MAX);
        CHECK_EQUAL(scan_all(file.table, 8000), PS_SHRANK);
        CHECK_EQUAL(ps_space_faulted(file.space), 0);
        /* It stays so: nothing of the file can be trusted any more. */
        CHECK_EQUAL(scan_all(file.table, 1), PS_SHRANK);
        close_file(&file);
    }
    scanned_file file = open_file(8000, MAPPED);
    REQUIRE(ftruncate(file.fd, 0) == 0);
    CHECK_EQUAL(ps_space_populate(file.space, 0, 8000, NULL), PS_SHRANK);
    CHECK_EQUAL(ps_space_faulted(file.space), 0);
    close_file(&file);
}

static void test_a_hint_lies_in_the_lost_part(void)
{
    /* The last page becomes a hint; it is gone when its equal is looked at: no match with the zeros in its place. */
    for (way how = MAPPED; how < WAYS; how++) {
        scanned_file file = open_file(64, how);
        size_t scanned = 0;
        CHECK_EQUAL(ps_table_scan(file.table, (uint32_t[]){63}, 0, 1, NULL, NULL, NULL, &scanned), PS_OK);
        REQUIRE(ftruncate(file.fd, 0) == 0);
        CHECK_EQUAL(ps_table_scan(file.table, (uint32_t[]){62}, 0, 1, NULL, NULL, NULL, &scanned), PS_SHRANK);
        CHECK_EQUAL(scanned, 0);
        close_file(&file);
    }
}

/* Whether this process has the page at an address mapped; -1 if the kernel does not say. */
static int is_mapped(const uint8_t *at)
{
    uint64_t entry = 0;
    FILE *file = fopen("/proc/self/pagemap", "rb");
    size_t host_page = (size_t)sysconf(_SC_PAGESIZE);
    int told = file && fseek(file, (long)((uintptr_t)at / host_page * sizeof entry), SEEK_SET) == 0 &&
               fread(&entry, sizeof entry, 1, file) == 1;
    if (file)
        fclose(file);
    return told ? (int)(entry >> 63) : -1;
}

/* Pieces of pages, near to each other and far, forwards and back: all are mapped, and all are let go of. */
static void test_pieces_come_and_go(void)
{
    enum { PIECES = 130, HOST = 4096 };
    scanned_file file = open_file(8000, MAPPED);
    ps_segment segments[PIECES];
    ps_space *space = NULL;
    int mapped = 0, left = 0;

    for (uint32_t i = 0; i < PIECES; i++) {
        uint64_t place = i < 80 ? 400 + i : i < 100 ? 20 * (i - 80) : 399 - i;
        segments[i] = (ps_segment){.offset = place * HOST + i % (HOST / PAGE) * PAGE, .first = i};
    }
    ps_source source = {.base = file.base, .bytes = 8000 * (uint64_t)PAGE, .fd = file.fd};
    REQUIRE(ps_space_new(&space, segments, PIECES, &source, 1, PIECES, PAGE) == PS_OK);
    ps_space_shed(space, 0);
    CHECK_EQUAL(ps_space_populate(space, 0, PIECES, NULL), PS_OK);
    for (uint32_t i = 0; i < PIECES; i++)
        mapped += is_mapped(file.base + segments[i].offset) != 0;
    CHECK_EQUAL(mapped, PIECES);
    ps_space_shed(space, 0);
    for (uint32_t i = 0; i < PIECES; i++)
        left += is_mapped(file.base + segments[i].offset) == 1;
    CHECK_EQUAL(left, 0);
    ps_space_free(space);
    close_file(&file);
}

static void check_lost(const scanned_file *file, ps_space *space)
{
    ps_table *table = table_over(space, (ps_table_config){DEFAULTS});
    CHECK_EQUAL(scan_all(table, file->pages), PS_SHRANK);
    CHECK_EQUAL(ps_space_faulted(space), 0);
    ps_table_free(table);
}

/* A lost page is zeros once a space has met it, and faults no more: no space may take these for its content. */
static void test_other_spaces_over_the_same_mapping(void)
{
    scanned_file file = open_file(64, MAPPED);
    ps_space *before = space_over(&file, MAPPED);
    REQUIRE(ftruncate(file.fd, 0) == 0);
    check_lost(&file, file.space);
    ps_space *after = space_over(&file, MAPPED);
    check_lost(&file, before);
    check_lost(&file, after);
    ps_space_free(before);
    ps_space_free(after);
    close_file(&file);

    file = open_file(64, MAPPED);
    REQUIRE(ftruncate(file.fd, 0) == 0);
    for (int again = 0; again < 2; again++) {
        ps_space *alone = space_over(&file, MAPPED);
        check_lost(&file, alone);
        ps_space_free(alone);
    }
    close_file(&file);
}

/* Lost pages are met in any order, and are more than there may be mappings (vm.max_map_count, 65530 by default). */
static void test_more_lost_pages_than_mappings(void)
{
    size_t bytes = (size_t)1 << 30, step = 2 * (size_t)sysconf(_SC_PAGESIZE);
    scanned_file file = {.file = tmpfile(), .pages = (uint32_t)(bytes / PAGE)};
    REQUIRE(file.file);
    file.fd = fileno(file.file);
    REQUIRE(ftruncate(file.fd, (off_t)bytes) == 0);
    file.base = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file.fd, 0);
    REQUIRE(file.base != MAP_FAILED);
    file.space = space_over(&file, MAPPED);
    REQUIRE(ftruncate(file.fd, 0) == 0);
    for (size_t at = bytes; at; at -= step)
        CHECK_EQUAL(*(volatile uint8_t *)(file.base + at - step), 0);
    CHECK_EQUAL(ps_space_faulted(file.space), 0);
    close_file(&file);
}

/* ---- faults that are none of the core's ---- */

static sigjmp_buf jump;

static void on_foreign_fault(int signal_number)
{
    siglongjmp(jump, signal_number);
}

static void test_other_faults_go_to_the_handler_before(void)
{
    struct sigaction before, action = {.sa_handler = on_foreign_fault};
    sigaction(SIGBUS, &action, &before);
    scanned_file ours = open_file(64, MAPPED), other = open_file(64, READ);
    REQUIRE(ftruncate(other.fd, 0) == 0);
    for (int again = 0; again < 2; again++) {
        int came = sigsetjmp(jump, 1);
        if (!came) {
            (void)*(volatile uint8_t *)other.base;
            CHECK(!"reached");
        }
        CHECK_EQUAL(came, SIGBUS);
    }
    CHECK_EQUAL(scan_all(ours.table, 64), PS_OK);
    close_file(&other);
    close_file(&ours);
    sigaction(SIGBUS, &before, NULL);
}

/* How a child ends in which `die` runs after a scan, with no handler before ours. */
static int signal_that_ends(void (*die)(void))
{
    int status = 0;
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        signal(SIGBUS, SIG_DFL);
        scanned_file file = open_file(64, MAPPED);
        (void)file;
        die();
        _exit(0);
    }
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void is_sent_one(void)
{
    kill(getpid(), SIGBUS);
}

static struct sigaction ours_before;

/* As Python's faulthandler does: puts back who was there before, and raises. */
static void on_fault_put_back(int signal_number)
{
    sigaction(SIGBUS, &ours_before, NULL);
    raise(signal_number);
}

static void faults_between_two_of_ours(void)
{
    struct sigaction action = {.sa_handler = on_fault_put_back, .sa_flags = SA_NODEFER};
    sigaction(SIGBUS, &action, &ours_before);
    scanned_file ours = open_file(64, MAPPED), other = open_file(64, READ);
    (void)ours;
    REQUIRE(ftruncate(other.fd, 0) == 0);
    (void)*(volatile uint8_t *)other.base;
}

static void test_a_process_dies_of_its_own_faults(void)
{
    CHECK_EQUAL(signal_that_ends(is_sent_one), SIGBUS);
    CHECK_EQUAL(signal_that_ends(faults_between_two_of_ours), SIGBUS);
}

/* ---- a file that gets shorter while it is scanned ---- */

typedef struct {
    const scanned_file *file;
    ps_space *space;
    int64_t faulted;
    ps_status status;
} scanner;

/* Scans pass after pass, until it is told that the file shrank. */
static void *scan_until_cut(void *argument)
{
    scanner *self = argument;
    do {
        ps_table *table = table_over(self->space, (ps_table_config){DEFAULTS});
        size_t scanned = 0;
        self->status = ps_table_scan(table, NULL, 0, self->file->pages, NULL, NULL, NULL, &scanned);
        ps_table_free(table);
    } while (self->status == PS_OK);
    self->faulted = ps_space_faulted(self->space);
    return NULL;
}

static void test_shrinks_during_scans(way how, int threads)
{
    enum { PAGES = 40000, ROUNDS = 12 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        scanned_file file = open_file(PAGES, how);
        scanner scanners[2];
        pthread_t ids[2];
        for (int i = 0; i < threads; i++) {
            scanners[i] = (scanner){.file = &file, .space = space_over(&file, how)};
            REQUIRE(pthread_create(&ids[i], NULL, scan_until_cut, &scanners[i]) == 0);
        }
        usleep(500 * round);
        REQUIRE(ftruncate(file.fd, (off_t)(round % 3) * PAGES / 3 * PAGE) == 0);
        for (int i = 0; i < threads; i++) {
            REQUIRE(pthread_join(ids[i], NULL) == 0);
            CHECK_EQUAL(scanners[i].status, PS_SHRANK);
            CHECK_EQUAL(scanners[i].faulted, 0);
            ps_space_free(scanners[i].space);
        }
        close_file(&file);
    }
}

int main(void)
{
    /* A scanner that is never told that its file is gone would go on for ever. */
    alarm(60);
    test_segments();
    test_many_segments();
    test_arguments();
    test_no_pages_at_all();
    test_every_way_gives_the_same();
    test_pieces_come_and_go();
    test_shrunk_before_the_scan();
    test_a_hint_lies_in_the_lost_part();
    test_other_spaces_over_the_same_mapping();
    test_more_lost_pages_than_mappings();
    test_other_faults_go_to_the_handler_before();
    test_a_process_dies_of_its_own_faults();
    for (way how = MAPPED; how < WAYS; how++)
        for (int threads = 1; threads <= 2; threads++)
            test_shrinks_during_scans(how, threads);
    return check_result();
}
