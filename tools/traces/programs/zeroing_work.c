/* Workers with buffers from a pool whose freed pages a thread clears in the background: zeroing_work SECONDS.
 *
 * As in Windows: a freed page goes to the free list; when eight or more are there, a thread of low priority takes one
 * after the other, writes zeros to all of it, and puts it on the list of zeroed pages, from which pages are taken first.
 * A worker that finds none there clears one itself, which is a part of its work. The pool has 24,576 pages (96 MiB).
 *
 * Two workers, each with buffers of 64 pages as a program has documents: it goes through some of its buffers again and
 * again, opens new ones and closes old ones, at another pace in each phase. One phase ends all of one worker's buffers,
 * so that the clearing thread touches half of the pool though nobody uses it: the spike that VMware saw under Windows.
 * In idle phases nothing is touched at all, once clearing is done.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 24576, BUFFER = 64, BUFFERS = 180, WAKE = 8, ZERO_INTENT = 1, CALL = 39 };
static const unsigned long MAGIC = 0x7061676573686172u;

static char *pool;
static int free_list[PAGES], zeroed[PAGES], free_count, zeroed_count;
static pthread_mutex_t lists = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some_free = PTHREAD_COND_INITIALIZER;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}
static void nap(double seconds) {
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    if (seconds > 0)
        nanosleep(&time, NULL);
}

static void *clear_pages(void *data) {
    prctl(PR_SET_NAME, "zero-page");
    syscall(CALL, MAGIC, ZERO_INTENT);
    pthread_mutex_lock(&lists);
    for (;;) {
        while (free_count < WAKE)
            pthread_cond_wait(&some_free, &lists);
        while (free_count > 0) {
            int page = free_list[--free_count];
            pthread_mutex_unlock(&lists);
            memset(pool + (size_t)page * PAGE, 0, PAGE);
            nap(0.0002); /* it has the lowest priority */
            pthread_mutex_lock(&lists);
            zeroed[zeroed_count++] = page;
        }
    }
    return data;
}
/* -1: there is none. */
static int take_page(void) {
    int page = -1, dirty = 0;
    pthread_mutex_lock(&lists);
    if (zeroed_count > 0)
        page = zeroed[--zeroed_count];
    else if (free_count > 0)
        page = free_list[--free_count], dirty = 1;
    pthread_mutex_unlock(&lists);
    if (dirty)
        memset(pool + (size_t)page * PAGE, 0, PAGE);
    return page;
}
static void give_page(int page) {
    pthread_mutex_lock(&lists);
    free_list[free_count++] = page;
    if (free_count >= WAKE)
        pthread_cond_signal(&some_free);
    pthread_mutex_unlock(&lists);
}

struct worker {
    const char *name;
    unsigned seed;
    const double (*phases)[5];
    int buffers[BUFFERS][BUFFER], count;
    double part;
};
static unsigned chance(struct worker *worker, unsigned below) {
    worker->seed = worker->seed * 1103515245u + 12345u;
    return (worker->seed >> 8) % below;
}
static void open_buffer(struct worker *worker) {
    int *pages = worker->buffers[worker->count];
    for (int i = 0; i < BUFFER; i++) {
        pages[i] = take_page();
        if (pages[i] < 0) { /* there are no more: none of them */
            while (i-- > 0)
                give_page(pages[i]);
            return;
        }
        memset(pool + (size_t)pages[i] * PAGE, 1 + (int)chance(worker, 250), PAGE / 2);
    }
    worker->count++;
}
static void close_buffer(struct worker *worker, int which) {
    for (int i = 0; i < BUFFER; i++)
        give_page(worker->buffers[which][i]);
    worker->count--;
    memcpy(worker->buffers[which], worker->buffers[worker->count], sizeof worker->buffers[which]);
}
static unsigned long use_buffer(struct worker *worker, int which) {
    unsigned long sum = 0;
    for (int i = 0; i < BUFFER; i++) {
        char *page = pool + (size_t)worker->buffers[which][i] * PAGE;
        for (int at = 0; at < PAGE; at += 512)
            sum += (unsigned char)page[at];
        if (chance(worker, 8) == 0)
            page[chance(worker, PAGE)]++;
    }
    return sum;
}
/* A phase: percent of the time, steps a second, buffers in use, buffers to have at the end, replaced in 1000 steps. */
static void *work(void *data) {
    struct worker *worker = data;
    unsigned long sum = 0;
    prctl(PR_SET_NAME, worker->name);
    for (const double(*phase)[5] = worker->phases; (*phase)[0] > 0; phase++) {
        double begin = now(), end = begin + (*phase)[0] * worker->part, pace = (*phase)[1];
        int in_use = (int)(*phase)[2], wanted = (int)(*phase)[3];
        for (long step = 0; now() < end; step++) {
            if (pace == 0) {
                nap(end - now());
                break;
            }
            if (worker->count < wanted)
                open_buffer(worker);
            else if (worker->count > wanted)
                close_buffer(worker, worker->count - 1);
            else if (chance(worker, 1000) < (unsigned)(*phase)[4] && worker->count > 0) {
                close_buffer(worker, (int)chance(worker, (unsigned)worker->count));
                open_buffer(worker);
            }
            if (worker->count > 0)
                sum += use_buffer(worker, (int)chance(worker, (unsigned)(worker->count < in_use ? worker->count : in_use)));
            nap(begin + (double)step / pace - now());
        }
    }
    while (worker->count > 0)
        close_buffer(worker, worker->count - 1);
    return (void *)sum;
}

static const double first_phases[][5] = {{12, 30, 170, 170, 0}, {15, 30, 40, 170, 20}, {8, 60, 1, 0, 0}, {17, 0, 0, 0, 0},
                                         {20, 30, 60, 120, 10}, {14, 30, 120, 120, 50}, {14, 0, 0, 0, 0}, {0}};
static const double second_phases[][5] = {{20, 20, 20, 60, 10}, {25, 5, 10, 60, 5}, {5, 0, 0, 0, 0}, {20, 25, 150, 150, 0},
                                          {10, 50, 10, 30, 100}, {20, 0, 0, 0, 0}, {0}};

int main(int count, char **arguments) {
    if (count != 2)
        return 2;
    double part = atof(arguments[1]) / 100;
    static struct worker first = {.name = "worker-1", .seed = 1, .phases = first_phases};
    static struct worker second = {.name = "worker-2", .seed = 2, .phases = second_phases};
    first.part = second.part = part;
    pool = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool == MAP_FAILED)
        return 1;
    for (int page = PAGES; page > 0; page--)
        zeroed[zeroed_count++] = page - 1; /* the system gave them zeroed */
    pthread_t zero, one, two;
    if (pthread_create(&zero, NULL, clear_pages, NULL) || pthread_create(&one, NULL, work, &first) ||
        pthread_create(&two, NULL, work, &second))
        return 1;
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    nap(2 * part);
    puts("done");
    return 0;
}
