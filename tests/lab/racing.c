/* Threads that touch as fast as intervals end, for test_recorder.py: says where their pages lie. Each goes through pages
 * of its own, each once, and between two of them touches one page again; another thread maps and unmaps memory. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, THREADS = 3, PAGES = 10000, SPIN = 400 };
static volatile char *area[THREADS];
static volatile int done;

static void *touch(void *data) {
    volatile char *pages = data;
    for (long i = 1; i <= PAGES; i++) {
        pages[i * PAGE] = 1;
        pages[0] = 1;
        for (volatile int spin = 0; spin < SPIN; spin++)
            ;
    }
    return NULL;
}
static void *map(void *data) {
    while (!done) {
        volatile char *some = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (some == MAP_FAILED)
            exit(1);
        some[PAGE] = 1;
        munmap((void *)some, 4 * PAGE);
    }
    return data;
}

int main(void) {
    pthread_t threads[THREADS], other;
    for (int i = 0; i < THREADS; i++) {
        area[i] = mmap(NULL, (PAGES + 2L) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area[i] == MAP_FAILED)
            return 1;
        printf("%d %lu\n", i, (unsigned long)((uintptr_t)area[i] / PAGE));
    }
    if (pthread_create(&other, NULL, map, NULL))
        return 1;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, touch, (void *)area[i]))
            return 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    done = 1;
    pthread_join(other, NULL);
    return 0;
}
