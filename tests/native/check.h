/*
 * check.h - all the framework that the C tests have: CHECK and CHECK_EQUAL report what does not hold and go on;
 * main ends with `return check_result();`.
 */
#ifndef PAGESHARE_TESTS_CHECK_H
#define PAGESHARE_TESTS_CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

static unsigned long checks_done, checks_failed;

#define CHECK(condition) CHECK_EQUAL((condition) != 0, 1)
#define CHECK_EQUAL(found, expected) \
    check_equal((uint64_t)(found), (uint64_t)(expected), #found, #expected, __FILE__, __LINE__)

static inline int check_equal(uint64_t found, uint64_t expected, const char *found_text, const char *expected_text,
                              const char *file, int line)
{
    checks_done++;
    if (found == expected)
        return 1;
    if (checks_failed++ < 20)
        fprintf(stderr, "%s:%d: %s is %" PRIu64 ", expected %s = %" PRIu64 "\n", file, line, found_text, found,
                expected_text, expected);
    return 0;
}

static inline int check_result(void)
{
    printf("%lu checks, %lu failed\n", checks_done, checks_failed);
    return checks_failed != 0 || checks_done == 0;
}

/* Bytes that look random and are the same on every run (xorshift64*, Vigna 2016). */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

#endif
