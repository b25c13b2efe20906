/*
 * hash_stdin.c - hashes the pages on its standard input, for tests/core/test_neon.py.
 *
 * hash_stdin          prints the names of the kernels that this processor runs, worst first
 * hash_stdin KERNEL   reads records {seed, page bytes, pages, shift} of 64-bit words, each followed by its pages, up
 *                     to the end of the input. The pages are placed `shift` bytes beyond an aligned address. Writes
 *                     for each page: XXH3-64, XXH3-128 (low, high), 1 if it is zero, 1 if it equals the one before
 *                     (0 for the first).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pageshare.h"

static int number_of(const char *name)
{
    for (int kernel = 0; kernel < ps_kernel_count(); kernel++)
        if (ps_kernel_usable(kernel) && strcmp(ps_kernel_name(kernel), name) == 0)
            return kernel;
    return -1;
}

static int hash_record(int kernel, const uint64_t record[4])
{
    size_t page_bytes = record[1], count = record[2], shift = record[3];
    uint8_t *memory = malloc(count * page_bytes + shift), *page = memory + shift;
    ps_hash_key key;

    if (!memory || fread(page, page_bytes, count, stdin) != count) {
        fprintf(stderr, "hash_stdin: a record is cut short, or too large for the memory\n");
        free(memory);
        return 0;
    }
    ps_hash_key_init(&key, record[0]);
    for (size_t i = 0; i < count; i++, page += page_bytes) {
        uint64_t result[5];
        ps_hash64(kernel, &key, page, page_bytes, 1, result);
        ps_hash128(kernel, &key, page, page_bytes, 1, result + 1);
        result[3] = (uint64_t)ps_is_zero(kernel, page, page_bytes);
        result[4] = i > 0 && ps_equal(kernel, page - page_bytes, page, page_bytes);
        fwrite(result, sizeof result, 1, stdout);
    }
    free(memory);
    return 1;
}

int main(int argc, char **argv)
{
    uint64_t record[4];

    if (argc == 1) {
        for (int kernel = 0; kernel < ps_kernel_count(); kernel++)
            if (ps_kernel_usable(kernel))
                puts(ps_kernel_name(kernel));
        return 0;
    }
    int kernel = number_of(argv[1]);
    if (kernel < 0) {
        fprintf(stderr, "hash_stdin: no kernel %s here\n", argv[1]);
        return 2;
    }
    while (fread(record, sizeof record, 1, stdin) == 1)
        if (!hash_record(kernel, record))
            return 1;
    return fflush(stdout) != 0;
}
