/* Touches pages in a way that is known, for test_recorder.py: touching FILE. Pages of 4 KiB, in areas of 16 pages, each
 * preceded by a gap, so that neighbours have nothing to do with them. Where they lie is printed; then it does what the
 * test expects, each step in an interval of its own, which it ends itself; with a second argument it sleeps so many
 * milliseconds instead. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, AREA = 16, AREAS = 12 };
static const unsigned long MAGIC = 0x7061676573686172u;
static volatile char *area[AREAS];
static int file, fd_pair[2];

static long milliseconds;

static void intend(unsigned long intent) {
    syscall(39, MAGIC, intent);
}
static void end_interval(void) {
    struct timespec time = {0, milliseconds * 1000000};
    if (milliseconds != 0)
        nanosleep(&time, NULL);
    else
        syscall(39, MAGIC, 4);
}
static void *by_another(void *data) {
    prctl(PR_SET_NAME, "another");
    for (int i = 0; i < AREA; i += 2)
        area[2][i * PAGE] = 1;
    intend(1);
    memset((void *)area[3], 0, AREA * PAGE);
    return data;
}
static void *brief(void *data) {
    prctl(PR_SET_NAME, data);
    (void)area[8][(((const char *)data)[5] - 48) * PAGE];
    return data;
}
static void in_thread(void *(*what)(void *), void *data) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, what, data) || pthread_join(thread, NULL))
        exit(1);
}

int main(int count, char **arguments) {
    milliseconds = count > 2 ? atol(arguments[2]) : 0;
    if (count < 2 || (file = open(arguments[1], O_RDWR)) < 0 || pipe(fd_pair))
        return 2;
    char *all = mmap(NULL, (size_t)AREAS * 2 * AREA * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < AREAS; i++) {
        area[i] = all + (size_t)(2 * i + 1) * AREA * PAGE;
        printf("%d %lu\n", i, (unsigned long)((uintptr_t)area[i] / PAGE));
    }
    fflush(stdout);
    end_interval();

    /* Area 0: pages 0 to 3 read, 4 to 7 written, 8 and 9 read and written, the rest left alone. */
    for (int i = 0; i < 10; i++) {
        if (i < 4 || i >= 8)
            (void)area[0][i * PAGE + 100];
        if (i >= 4)
            area[0][i * PAGE + 200] = 7;
    }
    end_interval();
    /* Area 1: an access that goes over the end of page 2, and one that ends with page 5. */
    *(volatile uint64_t *)(area[1] + 3 * PAGE - 4) = UINT64_MAX;
    (void)*(volatile uint64_t *)(area[1] + 6 * PAGE - 8);
    end_interval();
    /* Areas 2 and 3: another thread; the second with the intent to zero. */
    in_thread(by_another, NULL);
    end_interval();
    /* Area 4: by the kernel: 3 pages read from a file into page 1, by a vector to page 6 and 8; page 10 written out. */
    if (pread(file, (void *)(area[4] + PAGE), 3 * PAGE, 0) != 3 * PAGE)
        return 3;
    struct iovec vector[2] = {{(void *)(area[4] + 6 * PAGE), PAGE}, {(void *)(area[4] + 8 * PAGE), PAGE}};
    if (preadv(file, vector, 2, 0) != 2 * PAGE || write(fd_pair[1], (void *)(area[4] + 10 * PAGE), 10) != 10)
        return 4;
    end_interval();
    /* Area 5: written, then half of it given back by munmap; never touched area 6 too. */
    memset((void *)area[5], 3, AREA * PAGE);
    end_interval();
    munmap((void *)area[5], AREA / 2 * PAGE);
    munmap((void *)area[6], AREA * PAGE);
    end_interval();
    /* Area 7: written, given back by madvise, and a part touched again at once. */
    memset((void *)area[7], 4, AREA * PAGE);
    madvise((void *)area[7], AREA * PAGE, MADV_DONTNEED);
    (void)area[7][3 * PAGE];
    area[7][4 * PAGE] = 1;
    end_interval();
    /* Area 8: threads one after the other, which are new ones each. */
    in_thread(brief, "brief0");
    in_thread(brief, "brief1");
    in_thread(brief, "brief2");
    end_interval();
    /* Area 9: what a child does is another process's. */
    pid_t child = fork();
    if (child == 0) {
        memset((void *)area[9], 1, AREA * PAGE);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    area[9][0] = 1;
    end_interval();
    /* Area 10: intents of one thread, and a page that both touch. */
    intend(2);
    (void)area[10][0];
    (void)area[10][PAGE];
    intend(0);
    (void)area[10][PAGE];
    (void)area[10][2 * PAGE];
    end_interval();
    /* Area 11: moved, when its first half had been touched. */
    memset((void *)area[11], 5, AREA / 2 * PAGE);
    end_interval();
    if (mremap((void *)area[11], AREA * PAGE, 2 * AREA * PAGE, MREMAP_MAYMOVE) == (void *)area[11])
        return 5;
    end_interval();
    return 0;
}
