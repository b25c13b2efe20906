/*
 * spaces.h - makers of small page spaces, for the C tests. What the library refuses here ends the test.
 */
#ifndef PAGESHARE_TESTS_SPACES_H
#define PAGESHARE_TESTS_SPACES_H

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pageshare.h"

#define PAGE 256u /* the smallest page there is: the tests are about counts, not about sizes */

static inline void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "cannot go on: %s\n", what);
        exit(1);
    }
}

#define REQUIRE(condition) require((condition) != 0, #condition)

/* Pages that hold nothing but the byte content[i]. */
static inline uint8_t *pages_of(const char *content)
{
    uint8_t *memory = malloc(strlen(content) * PAGE);
    REQUIRE(memory);
    for (size_t i = 0; content[i]; i++)
        memset(memory + i * PAGE, content[i] == '0' ? 0 : content[i], PAGE);
    return memory;
}

/* `pages` pages in a buffer, or (base NULL) in a file; in `domains` equal parts, each a source with an owner and a
 * domain of its own. */
static inline ps_space *space_of(const uint8_t *base, int fd, uint32_t pages, uint32_t domains)
{
    ps_source sources[4] = {{0}};
    ps_segment segments[4] = {{0}};
    ps_space *space = NULL;
    uint32_t part = pages / domains;

    REQUIRE(domains <= 4 && part * domains == pages);
    for (uint32_t i = 0; i < domains; i++) {
        sources[i] = (ps_source){.base = base, .bytes = (uint64_t)pages * PAGE, .fd = fd, .owner = i, .domain = i};
        segments[i] = (ps_segment){.offset = (uint64_t)i * part * PAGE, .first = i * part, .source = i};
    }
    REQUIRE(ps_space_new(&space, segments, domains, sources, domains, pages, PAGE) == PS_OK);
    return space;
}

static inline ps_table *table_over(ps_space *space, ps_table_config config)
{
    ps_table *table = NULL;
    REQUIRE(ps_table_new(&table, space, &config) == PS_OK);
    return table;
}

#define DEFAULTS .seed = 1, .hash_bits = 64, .kernel = -1

static inline void check_sound(const ps_table *table)
{
    char why[200] = "";
    if (!CHECK_EQUAL(ps_table_check(table, why, sizeof why), PS_OK))
        fprintf(stderr, "  %s\n", why);
}

/* Scans pages first .. first+count-1 and compares the outcomes with letters, one a page (see `letters`). */
#define CHECK_SCAN(table, first, expected) check_scan((table), (first), (expected), __LINE__)

static inline void check_scan(ps_table *table, uint32_t first, const char *expected, int line)
{
    /* In the order of ps_outcome: Zero, Hinted, already hinted, New frame, Joined, already shared, sTale hint,
     * False match, Volatile, Unreadable. */
    static const char letters[] = "ZHhNJjTFVU";
    char found[100] = "";
    uint8_t outcomes[100];
    size_t count = strlen(expected), scanned = 0;

    REQUIRE(count < sizeof found);
    CHECK_EQUAL(ps_table_scan(table, NULL, first, count, outcomes, NULL, NULL, &scanned), PS_OK);
    CHECK_EQUAL(scanned, count);
    for (size_t i = 0; i < scanned; i++)
        found[i] = letters[outcomes[i]];
    if (!CHECK(strcmp(found, expected) == 0))
        fprintf(stderr, "  line %d: outcomes %s, expected %s\n", line, found, expected);
    check_sound(table);
}

#endif
