/*
 * test_no_memory.c - every allocation of the core fails once: PS_NO_MEMORY comes back, nothing is handed out, and
 * (under AddressSanitizer) nothing is lost.
 *
 * link with: -Wl,--wrap=malloc,--wrap=calloc,--wrap=mmap
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "spaces.h"

/* How many allocations succeed before one fails; UINT64_MAX: all of them. */
static uint64_t allowed = UINT64_MAX;

static bool fails(void)
{
    if (allowed == UINT64_MAX)
        return false;
    errno = ENOMEM;
    return allowed-- == 0;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(address, bytes, protection, flags, fd, offset);
}

/* Everything that allocates, once; the first status that is not PS_OK. */
static ps_status use_everything(FILE *file, const uint8_t *mapped)
{
    ps_source sources[] = {{.base = mapped, .bytes = 8 * PAGE, .fd = fileno(file)},
                           {.base = NULL, .bytes = 8 * PAGE, .fd = fileno(file), .owner = 1}};
    ps_segment segments[] = {{0, 0, 0}, {0, 8, 1}};
    ps_table_config config = {DEFAULTS, .options = PS_CHECKSUM};
    ps_owner_tally owners[2];
    ps_tally total;
    ps_space *space = NULL;
    ps_table *table = NULL;
    size_t scanned = 0;
    char why[200];

    ps_status status = ps_space_new(&space, segments, 2, sources, 2, 16, PAGE);
    CHECK_EQUAL(status == PS_OK, space != NULL);
    if (status != PS_OK)
        return status;
    status = ps_table_new(&table, space, &config);
    CHECK_EQUAL(status == PS_OK, table != NULL);
    if (status == PS_OK)
        status = ps_table_scan(table, NULL, 0, 16, NULL, NULL, NULL, &scanned);
    if (status == PS_OK)
        status = ps_table_tally(table, owners, 2, &total, NULL);
    if (status == PS_OK)
        status = ps_table_check(table, why, sizeof why);
    if (status == PS_OK)
        status = ps_space_sketch(space, &(uint32_t){15}, 1, 1, 0, &(uint32_t){0}, NULL);
    ps_table_free(table);
    for (uint32_t options = 0; status == PS_OK && options <= PS_STREAM; options += PS_STREAM) {
        /* In place only what is mapped. */
        ps_census_config how = {.hash_bits = 64, .threads = 3, .options = options, .kernel = -1};
        uint32_t canonical[16], zeros[1];
        ps_census_stats stats;
        ps_space_free(space);
        space = NULL;
        status = ps_space_new(&space, segments, options ? 2 : 1, sources, 2, options ? 16 : 8, PAGE);
        if (status == PS_OK)
            status = ps_census(space, &how, canonical, zeros, owners, 2, &total, &stats, NULL);
    }
    if (status == PS_OK) {
        ps_sample_config how = {.memory = 4096, .threads = 2, .kernel = -1};
        ps_owner_sample counts[2];
        ps_sample found;
        status = ps_sample_contents(space, &how, counts, 2, &found, NULL);
    }
    if (status == PS_OK) {
        const uint32_t halves[4] = {1, 2, 1, 2};
        ps_pair_counts counts;
        uint32_t blocks[2];
        status = ps_blocks_pair(halves, 2, 0, blocks, &counts, NULL);
    }
    ps_space_free(space);
    return status;
}

int main(void)
{
    FILE *file = tmpfile();
    uint8_t memory[8 * PAGE] = {1};
    REQUIRE(file && fwrite(memory, sizeof memory, 1, file) == 1 && fflush(file) == 0);
    uint8_t *mapped = mmap(NULL, sizeof memory, PROT_READ, MAP_SHARED, fileno(file), 0);
    REQUIRE(mapped != MAP_FAILED);

    uint64_t failures = 0;
    ps_status status;
    do {
        allowed = failures++;
        status = use_everything(file, mapped);
        bool all_succeeded = allowed != UINT64_MAX && status == PS_OK;
        CHECK_EQUAL(status, all_succeeded ? PS_OK : PS_NO_MEMORY);
    } while (status != PS_OK && failures < 100);
    CHECK(failures > 15);
    allowed = UINT64_MAX;
    munmap(mapped, sizeof memory);
    fclose(file);
    return check_result();
}
