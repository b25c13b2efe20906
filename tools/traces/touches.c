/* A plugin for QEMU's user-mode emulator that records which pages a program touches, in intervals of real time.
 *
 *   cc -O2 -shared -fPIC -pthread -o touches.so touches.c
 *   qemu-x86_64 -plugin ./touches.so,out=FILE,interval=100000 PROGRAM ARGUMENT...
 *
 * It writes, for each interval (microseconds, 100 ms if not given), which 4 KiB pages each thread read and wrote: by
 * loads, stores, execution, and by the system calls that pass data (read, write, recvfrom, ...: there the kernel touches
 * them for the thread). Of pages that were written, whether they are all zero when the interval ends. And which pages
 * were given back to the system (munmap, MADV_DONTNEED, MADV_FREE, a smaller brk, and what a fixed mmap or an mremap
 * replaces). record.py turns the file into a trace; what its records are stands at write_record below.
 *
 * A program may tell what a thread is about to do by system call 39 (getpid, which ignores arguments) with INTENT_MAGIC
 * and a number from 0 to 3; with 4 it ends an interval there and then, with interval=0 nothing else does. Without this
 * plugin the call does nothing.
 *
 * Who may touch what. A touch must cost nanoseconds, so a thread of the program keeps what it noted to itself:
 *   - `cache`: pages noted since `now` last changed. Only its thread reads or writes it, without a lock.
 *   - `table`, `interval` (which the table is of), `ended`: under the thread's own mutex, which its thread takes for a
 *     page that is not in the cache, and the closer when an interval ends.
 *   - `instructions`: written by its thread alone, read by the closer; atomic, relaxed.
 * `now` is the number of the interval and an epoch, in one word so that both are read at once. It changes under
 * `everything`, when an interval ends and when pages are released (then the epoch alone: touches after it must be noted
 * anew, to be told from those before). A thread that sees an old `now` and finds the page in its cache noted it in that
 * old interval, in which the touch then belongs. One that has to note looks at `now` again under its mutex: if the table
 * is of an older interval, it hands that over first. So a touch is never noted for an interval that was already written,
 * nor forgotten in the next. The order of locks is: `closing` (by whom an interval is ended), everything, then a
 * thread's mutex; handing over takes `handing`, the innermost.
 *
 * Debian has no header for plugins. What is declared here is from QEMU's documentation, version 1 of the interface
 * (https://www.qemu.org/docs/master/devel/tcg-plugins.html); guest_base is a variable of the emulator, which it exports.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_RW = 3 };
typedef uint32_t qemu_plugin_meminfo_t;
typedef struct {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
} qemu_info_t;

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t at);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned, void *),
                                          enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
                                      void (*cb)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *),
                                      enum qemu_plugin_cb_flags flags, enum qemu_plugin_mem_rw rw, void *data);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id,
                                          void (*cb)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                     uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
void qemu_plugin_register_vcpu_syscall_ret_cb(qemu_plugin_id_t id,
                                              void (*cb)(qemu_plugin_id_t, unsigned, int64_t, int64_t));
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *), void *data);
extern uintptr_t guest_base;

PUBLIC int qemu_plugin_version = 1;

enum { READ = 1, WRITTEN = 2, ZERO = 4 };
enum { PAGE_BITS = 12, PAGE = 1 << PAGE_BITS, INTENTS = 4, CACHED = 4096, EPOCH_BITS = 25, CALL_INTENT = 39, END_INTERVAL = 4 };
#define INTENT_MAGIC 0x7061676573686172u /* "pageshar" */
#define EPOCH_MASK ((UINT64_C(1) << EPOCH_BITS) - 1)
#define MOST_ADDRESS (UINT64_C(1) << 47) /* page numbers have 35 bits: with epoch, intent and bits, a word */

struct entry {
    uint64_t key; /* page << 8 | intent << 4 | bits; 0: free. Page 0 is never mapped */
    uint64_t epoch; /* of the last touch that was noted */
};
struct table {
    struct entry *entries;
    size_t size, used; /* size: 0 or a power of two */
};
struct thread {
    uint64_t cache[CACHED]; /* page << 29 | epoch << 4 | intent << 2 | bits */
    uint64_t intent;
    _Atomic uint64_t instructions;
    uint64_t counted; /* the closer's: instructions up to the last interval */
    uint64_t call[6];
    pthread_mutex_t mutex;
    struct table table;
    uint64_t interval;
    bool ended;
    int number, tid;
    unsigned age; /* the closer's, in intervals */
    char name[32];
    struct thread *next;
};
struct handed {
    struct handed *next;
    uint64_t interval;
    int thread;
    size_t count;
    struct entry entries[];
};
struct release {
    uint64_t interval, thread, intent, first, pages, epoch;
};

static _Atomic uint64_t now; /* interval << 32 | epoch */
static pthread_mutex_t closing = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t everything = PTHREAD_MUTEX_INITIALIZER;
static struct thread *threads;
static int thread_count;
static struct release *releases;
static size_t release_count, release_room;
static _Atomic uint64_t brk_start, brk_end;
static pthread_mutex_t handing = PTHREAD_MUTEX_INITIALIZER;
static struct handed *handed_over;

static pthread_mutex_t stop_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t stop_cond;
static bool stopping;
static pthread_t closer;
static pthread_key_t thread_key;
static uint64_t interval_ns = 100000000, interval_began;
static FILE *out;
static atomic_bool recording;

/* Threads of the program are threads of the emulator: this tells them apart, where a vcpu's index may be used again. */
static __thread struct thread *me __attribute__((tls_model("initial-exec")));

static void fail(const char *what) {
    fprintf(stderr, "touches: %s: %s\n", what, strerror(errno));
    _exit(125);
}
static void *need(void *memory) {
    if (memory == NULL)
        fail("out of memory");
    return memory;
}
static uint64_t clock_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* --- what a thread notes --- */

static size_t slot_of(const struct table *table, uint64_t key) {
    size_t at = (size_t)((key >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (table->size - 1);
    while (table->entries[at].key != 0 && (table->entries[at].key ^ key) >> 4 != 0)
        at = (at + 1) & (table->size - 1);
    return at;
}
static void grow(struct table *table) {
    struct table larger = {.size = table->size ? table->size * 2 : 1024, .used = table->used};
    larger.entries = need(calloc(larger.size, sizeof *larger.entries));
    for (size_t i = 0; i < table->size; i++)
        if (table->entries[i].key != 0)
            larger.entries[slot_of(&larger, table->entries[i].key)] = table->entries[i];
    free(table->entries);
    *table = larger;
}
/* With the thread's mutex held. */
static void hand_over(struct thread *thread, uint64_t next) {
    struct table *table = &thread->table;
    if (table->used != 0) {
        struct handed *handed = need(malloc(sizeof *handed + table->used * sizeof *handed->entries));
        handed->interval = thread->interval;
        handed->thread = thread->number;
        handed->count = 0;
        for (size_t i = 0; i < table->size; i++)
            if (table->entries[i].key != 0)
                handed->entries[handed->count++] = table->entries[i];
        memset(table->entries, 0, table->size * sizeof *table->entries);
        table->used = 0;
        pthread_mutex_lock(&handing);
        handed->next = handed_over;
        handed_over = handed;
        pthread_mutex_unlock(&handing);
    }
    thread->interval = next;
}
static struct thread *enter(void) {
    struct thread *thread = need(calloc(1, sizeof *thread));
    pthread_mutex_init(&thread->mutex, NULL);
    thread->tid = gettid();
    pthread_mutex_lock(&everything);
    thread->number = thread_count++;
    thread->interval = atomic_load(&now) >> 32;
    thread->next = threads;
    threads = thread;
    pthread_mutex_unlock(&everything);
    pthread_setspecific(thread_key, thread);
    me = thread;
    return thread;
}
static void read_name(struct thread *thread, char name[32]) {
    char path[64];
    memset(name, 0, 32);
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", thread->tid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    ssize_t length = read(file, name, 31);
    close(file);
    if (length < 0)
        length = 0;
    name[strcspn(name, "\n")] = 0;
}
static void leave(void *data) {
    struct thread *thread = data;
    char name[32];
    read_name(thread, name); /* gone when the closer next looks */
    pthread_mutex_lock(&thread->mutex);
    if (name[0] != 0)
        memcpy(thread->name, name, sizeof name);
    thread->ended = true;
    pthread_mutex_unlock(&thread->mutex);
    me = NULL;
}
static __attribute__((noinline)) void note(struct thread *thread, uint64_t page, uint64_t bit) {
    pthread_mutex_lock(&thread->mutex);
    uint64_t at = atomic_load(&now), epoch = at & 0xffffffffu, interval = at >> 32;
    if (thread->interval != interval)
        hand_over(thread, interval);
    struct table *table = &thread->table;
    if (table->used * 2 >= table->size)
        grow(table);
    uint64_t key = page << 8 | thread->intent << 4;
    struct entry *entry = &table->entries[slot_of(table, key)];
    table->used += entry->key == 0;
    entry->key = entry->key | key | bit;
    entry->epoch = epoch;
    pthread_mutex_unlock(&thread->mutex);
    uint64_t *cached = &thread->cache[page % CACHED];
    uint64_t tag = page << (EPOCH_BITS + 4) | (epoch & EPOCH_MASK) << 4 | thread->intent << 2;
    *cached = (*cached & ~UINT64_C(3)) == tag ? *cached | bit : tag | bit;
}
static inline void touch(struct thread *thread, uint64_t page, uint64_t bit) {
    uint64_t epoch = atomic_load_explicit(&now, memory_order_relaxed) & EPOCH_MASK;
    uint64_t tag = page << (EPOCH_BITS + 4) | epoch << 4 | thread->intent << 2;
    uint64_t cached = thread->cache[page % CACHED];
    if ((cached & ~UINT64_C(3)) != tag || (cached & bit) == 0)
        note(thread, page, bit);
}
static void touch_all(struct thread *thread, uint64_t address, uint64_t bytes, uint64_t bit) {
    if (bytes == 0 || address >= MOST_ADDRESS || bytes > MOST_ADDRESS - address)
        return;
    for (uint64_t page = address >> PAGE_BITS; page <= (address + bytes - 1) >> PAGE_BITS; page++)
        touch(thread, page, bit);
}

static void on_memory(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *data) {
    (void)vcpu, (void)data;
    struct thread *thread = me != NULL ? me : enter();
    if (address >= MOST_ADDRESS)
        return;
    uint64_t bit = qemu_plugin_mem_is_store(info) ? WRITTEN : READ;
    touch(thread, address >> PAGE_BITS, bit);
    if (address % PAGE > PAGE - 16 && address % PAGE + (UINT64_C(1) << qemu_plugin_mem_size_shift(info)) > PAGE)
        touch(thread, (address >> PAGE_BITS) + 1, bit);
}
/* What is executed, where it begins: page << 16 | whether it goes on into the next page << 15 | instructions. */
static void on_block(unsigned vcpu, void *data) {
    (void)vcpu;
    struct thread *thread = me != NULL ? me : enter();
    uint64_t block = (uintptr_t)data, count = block & 0x7fff;
    touch(thread, block >> 16, READ);
    if ((block & 0x8000) != 0)
        touch(thread, (block >> 16) + 1, READ);
    uint64_t sum = atomic_load_explicit(&thread->instructions, memory_order_relaxed) + count;
    atomic_store_explicit(&thread->instructions, sum, memory_order_relaxed);
}
static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(tb);
    if (count == 0)
        return;
    struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(tb, count - 1);
    uint64_t page = qemu_plugin_tb_vaddr(tb) >> PAGE_BITS;
    uint64_t end = (qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last) - 1) >> PAGE_BITS;
    if (page < MOST_ADDRESS >> PAGE_BITS) {
        uint64_t block = page << 16 | (uint64_t)(end != page) << 15 | (count < 0x7fff ? count : 0x7fff);
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)block);
    }
    /* One callback for both: of several for the same instruction, this version leaves out some that don't fit. */
    for (size_t i = 0; i < count; i++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), on_memory, QEMU_PLUGIN_CB_NO_REGS,
                                         QEMU_PLUGIN_MEM_RW, NULL);
}

/* --- system calls --- */

static bool read_guest(uint64_t address, void *to, size_t bytes) {
    struct iovec local = {to, bytes}, remote = {(void *)(uintptr_t)(address + guest_base), bytes};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)bytes;
}
/* Before the call is made: what another thread maps there afterwards, it touches in a later epoch. */
static void release(struct thread *thread, uint64_t address, uint64_t bytes) {
    if (address % PAGE != 0 || bytes == 0 || address >= MOST_ADDRESS || bytes > MOST_ADDRESS - address)
        return;
    pthread_mutex_lock(&everything);
    if (atomic_load(&recording)) {
        if (release_count == release_room) {
            release_room = release_room ? release_room * 2 : 256;
            releases = need(realloc(releases, release_room * sizeof *releases));
        }
        uint64_t at = atomic_load(&now) + 1;
        releases[release_count++] = (struct release){
            at >> 32, (uint64_t)thread->number, thread->intent, address >> PAGE_BITS, (bytes + PAGE - 1) >> PAGE_BITS,
            at & 0xffffffffu};
        atomic_store(&now, at);
    }
    pthread_mutex_unlock(&everything);
}
/* The buffers of a vector that the first so many bytes were passed through. */
static void touch_vector(struct thread *thread, uint64_t vector, uint64_t count, uint64_t bytes, uint64_t bit) {
    for (uint64_t i = 0; i < count && i < 1024 && bytes > 0; i++) {
        uint64_t part[2];
        if (!read_guest(vector + 16 * i, part, sizeof part))
            return;
        uint64_t length = part[1] < bytes ? part[1] : bytes;
        touch_all(thread, part[0], length, bit);
        bytes -= length;
    }
}
static void end_interval(bool last);
static void on_call(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)vcpu, (void)g, (void)h;
    struct thread *thread = me != NULL ? me : enter();
    memcpy(thread->call, (uint64_t[]){a, b, c, d, e, f}, sizeof thread->call);
    switch (number) {
    case CALL_INTENT:
        if (a == INTENT_MAGIC && b < INTENTS)
            thread->intent = b;
        else if (a == INTENT_MAGIC && b == END_INTERVAL)
            end_interval(false);
        break;
    case 9: /* mmap */
        if ((d & MAP_FIXED) != 0)
            release(thread, a, b);
        break;
    case 11: /* munmap */
        release(thread, a, b);
        break;
    case 12: /* brk: smaller than it was */
        if (a != 0 && a >= brk_start && a < brk_end) {
            uint64_t from = (a + PAGE - 1) / PAGE * PAGE;
            release(thread, from, brk_end > from ? brk_end - from : 0);
        }
        break;
    case 28: /* madvise */
        if (c == MADV_DONTNEED || c == MADV_FREE)
            release(thread, a, b);
        break;
    }
}
static void on_return(qemu_plugin_id_t id, unsigned vcpu, int64_t number, int64_t result) {
    (void)id, (void)vcpu;
    struct thread *thread = me != NULL ? me : enter();
    const uint64_t *call = thread->call;
    uint64_t passed = result > 0 ? (uint64_t)result : 0, header[7];
    switch (number) {
    case 12: /* brk */
        if (passed != 0) {
            pthread_mutex_lock(&everything);
            if (brk_start == 0)
                brk_start = passed;
            brk_end = passed;
            pthread_mutex_unlock(&everything);
        }
        break;
    case 25: /* mremap: where it moved from, or what it lost. Its new pages count from their first touch */
        if (result > 0 && passed < MOST_ADDRESS) {
            uint64_t kept = passed == call[0] ? (call[2] + PAGE - 1) / PAGE * PAGE : 0;
            release(thread, call[0] + kept, call[1] > kept ? call[1] - kept : 0);
        }
        break;
    case 0: case 17: case 45: case 217: /* read, pread64, recvfrom, getdents64 */
        touch_all(thread, call[1], passed, WRITTEN);
        break;
    case 1: case 18: case 44: /* write, pwrite64, sendto */
        touch_all(thread, call[1], passed, READ);
        break;
    case 318: /* getrandom */
        touch_all(thread, call[0], passed, WRITTEN);
        break;
    case 19: case 295: /* readv, preadv */
        touch_vector(thread, call[1], call[2], passed, WRITTEN);
        break;
    case 20: case 296: /* writev, pwritev */
        touch_vector(thread, call[1], call[2], passed, READ);
        break;
    case 46: case 47: /* sendmsg, recvmsg: the vector is the third word of the header, its length the fourth */
        if (passed != 0 && read_guest(call[1], header, sizeof header))
            touch_vector(thread, header[2], header[3], passed, number == 47 ? WRITTEN : READ);
        break;
    }
}

/* --- the end of an interval --- */

enum { THREAD = 1, INTERVAL, TOUCHES, RELEASE, MAPS };

/* A record: its kind, six numbers, the bytes of what follows, and that, filled up to a word. All in words of 64 bits:
 *   THREAD    number, id of the operating system; its name, which it may get again later
 *   TOUCHES   interval, thread; entries
 *   RELEASE   interval, thread, intent, first page, pages, epoch (touches of this one or later are after it)
 *   INTERVAL  number, nanoseconds when it began and ended, instructions in it: all of it was written
 *   MAPS      where the heap of brk begins and ends; text of /proc/self/maps */
static void write_record(uint64_t kind, const uint64_t numbers[6], const void *data, size_t bytes) {
    uint64_t head[8] = {kind}, zeros = 0;
    memcpy(head + 1, numbers, 6 * sizeof *numbers);
    head[7] = bytes;
    if (fwrite(head, sizeof head, 1, out) != 1 || (bytes != 0 && fwrite(data, bytes, 1, out) != 1) ||
        (bytes % 8 != 0 && fwrite(&zeros, 8 - bytes % 8, 1, out) != 1))
        fail("can't write");
}
static void write_maps(void) {
    static char text[1 << 20];
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t more = 1;
    while (file >= 0 && length < sizeof text && (more = read(file, text + length, sizeof text - length)) > 0)
        length += (size_t)more;
    if (file >= 0)
        close(file);
    write_record(MAPS, (uint64_t[6]){brk_start, brk_end, guest_base}, text, length);
}

static int by_page(const void *a, const void *b) {
    uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;
    return (first > second) - (first < second);
}
static bool all_zero(const char *page) {
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}
/* Of pages in order, each once, those that are zero, to the front; returns how many. A page may be gone: the kernel
 * reads it for us, and says so. */
static size_t keep_zeros(uint64_t *pages, size_t count) {
    enum { TOGETHER = 64 };
    static char bytes[TOGETHER * PAGE];
    size_t kept = 0;
    for (size_t at = 0; at < count;) {
        struct iovec remote[TOGETHER], local;
        size_t many = count - at < TOGETHER ? count - at : TOGETHER;
        for (size_t i = 0; i < many; i++)
            remote[i] = (struct iovec){(void *)(uintptr_t)((pages[at + i] << PAGE_BITS) + guest_base), PAGE};
        local = (struct iovec){bytes, many * PAGE};
        ssize_t got = process_vm_readv(getpid(), &local, 1, remote, many, 0);
        size_t whole = got > 0 ? (size_t)got / PAGE : 0;
        for (size_t i = 0; i < whole; i++)
            if (all_zero(bytes + i * PAGE))
                pages[kept++] = pages[at + i];
        at += whole < many ? whole + 1 : whole; /* over the one that could not be read */
    }
    return kept;
}
static void mark_zeros(struct handed *first) {
    size_t count = 0, unique = 0;
    for (struct handed *some = first; some != NULL; some = some->next)
        count += some->count;
    uint64_t *pages = need(malloc((count + 1) * sizeof *pages));
    count = 0;
    for (struct handed *some = first; some != NULL; some = some->next)
        for (size_t i = 0; i < some->count; i++)
            if ((some->entries[i].key & WRITTEN) != 0)
                pages[count++] = some->entries[i].key >> 8;
    qsort(pages, count, sizeof *pages, by_page);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || pages[i] != pages[i - 1])
            pages[unique++] = pages[i];
    size_t zeros = keep_zeros(pages, unique);
    for (struct handed *some = first; some != NULL && zeros != 0; some = some->next)
        for (size_t i = 0; i < some->count; i++) {
            uint64_t page = some->entries[i].key >> 8;
            if ((some->entries[i].key & WRITTEN) != 0 && bsearch(&page, pages, zeros, sizeof page, by_page) != NULL)
                some->entries[i].key |= ZERO;
        }
    free(pages);
}

static void close_interval(bool last) {
    uint64_t instructions = 0, began = interval_began;
    pthread_mutex_lock(&everything);
    uint64_t at = atomic_load(&now), interval = at >> 32;
    interval_began = clock_ns();
    atomic_store(&now, (interval + 1) << 32 | ((at & 0xffffffffu) + 1));
    if (last)
        atomic_store(&recording, false);
    for (struct thread **link = &threads; *link != NULL;) {
        struct thread *thread = *link;
        char name[32] = {0};
        if (thread->age < 5 || thread->age % 16 == 0 || last)
            read_name(thread, name);
        pthread_mutex_lock(&thread->mutex);
        bool ended = thread->ended;
        if (thread->interval <= interval)
            hand_over(thread, interval + 1);
        pthread_mutex_unlock(&thread->mutex);
        if (ended)
            memcpy(name, thread->name, sizeof name);
        if (name[0] != 0 && (ended || thread->age == 0 || strcmp(name, thread->name) != 0)) {
            if (!ended)
                memcpy(thread->name, name, sizeof name);
            write_record(THREAD, (uint64_t[6]){(uint64_t)thread->number, (uint64_t)thread->tid}, name, strlen(name));
        }
        thread->age++;
        uint64_t sum = atomic_load_explicit(&thread->instructions, memory_order_relaxed);
        instructions += sum - thread->counted;
        thread->counted = sum;
        if (ended) {
            *link = thread->next;
            free(thread->table.entries);
            free(thread);
        } else {
            link = &thread->next;
        }
    }
    struct release *released = releases;
    size_t released_count = release_count;
    releases = NULL;
    release_count = release_room = 0;
    pthread_mutex_unlock(&everything);

    /* A thread that already went on into the next interval handed over its table itself. */
    pthread_mutex_lock(&handing);
    struct handed *some = handed_over;
    handed_over = NULL;
    pthread_mutex_unlock(&handing);
    mark_zeros(some);
    while (some != NULL) {
        struct handed *next = some->next;
        write_record(TOUCHES, (uint64_t[6]){some->interval, (uint64_t)some->thread}, some->entries,
                     some->count * sizeof *some->entries);
        free(some);
        some = next;
    }
    for (size_t i = 0; i < released_count; i++)
        write_record(RELEASE,
                     (uint64_t[6]){released[i].interval, released[i].thread, released[i].intent, released[i].first,
                                   released[i].pages, released[i].epoch},
                     NULL, 0);
    free(released);
    if (interval % 64 == 5 || last)
        write_maps();
    write_record(INTERVAL, (uint64_t[6]){interval, began, interval_began, instructions}, NULL, 0);
    if (fflush(out) != 0)
        fail("can't write");
}
/* By the closer, by a thread that asks for it, and by the one that exits, when the closer has ended. */
static void end_interval(bool last) {
    pthread_mutex_lock(&closing);
    if (atomic_load(&recording))
        close_interval(last);
    pthread_mutex_unlock(&closing);
}
/* If it comes late by more than an interval, since the machine had no time for it, the recorded machine's clock stood
 * still meanwhile: the next interval has its full length. */
static void *close_intervals(void *data) {
    (void)data;
    uint64_t due = interval_began;
    pthread_mutex_lock(&stop_mutex);
    while (!stopping) {
        uint64_t time = clock_ns();
        due += interval_ns;
        if (due < time)
            due = time + interval_ns;
        struct timespec until = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        while (!stopping && pthread_cond_timedwait(&stop_cond, &stop_mutex, &until) == 0)
            ;
        if (!stopping) {
            pthread_mutex_unlock(&stop_mutex);
            end_interval(false);
            pthread_mutex_lock(&stop_mutex);
        }
    }
    pthread_mutex_unlock(&stop_mutex);
    return NULL;
}
static void on_exit_of_all(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    if (!atomic_load(&recording))
        return;
    pthread_mutex_lock(&stop_mutex);
    stopping = true;
    pthread_cond_signal(&stop_cond);
    pthread_mutex_unlock(&stop_mutex);
    if (interval_ns != 0)
        pthread_join(closer, NULL);
    end_interval(true);
    if (fclose(out) != 0)
        fail("can't write");
}
/* A forked child is another process, with memory of its own: it is not recorded. Its one thread may go on noting, but
 * nobody writes that, and no lock that another thread held is in its way. */
static void in_child(void) {
    atomic_store(&recording, false);
    pthread_mutex_init(&closing, NULL);
    pthread_mutex_init(&everything, NULL);
    pthread_mutex_init(&handing, NULL);
    if (me != NULL)
        pthread_mutex_init(&me->mutex, NULL);
}

PUBLIC int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    const char *path = NULL;
    char *end = "";
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0)
            path = argv[i] + 4;
        else if (strncmp(argv[i], "interval=", 9) == 0)
            interval_ns = strtoull(argv[i] + 9, &end, 10) * 1000;
    }
    if (path == NULL || *end != 0 || info->system_emulation || strcmp(info->target_name, "x86_64") != 0) {
        fprintf(stderr, "touches: needs qemu-x86_64, out=FILE, and interval=MICROSECONDS if it is not 100000\n");
        return -1;
    }
    out = fopen(path, "wbe");
    if (out == NULL)
        fail(path);
    setvbuf(out, NULL, _IOFBF, 1 << 20);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&stop_cond, &monotonic);
    pthread_key_create(&thread_key, leave);
    pthread_atfork(NULL, NULL, in_child);
    interval_began = clock_ns();
    atomic_store(&recording, true);

    /* No signal of the program may come to the closer, which has no processor to handle it on. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errno = interval_ns == 0 ? 0 : pthread_create(&closer, NULL, close_intervals, NULL);
    if (errno != 0)
        fail("no thread");
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    qemu_plugin_register_vcpu_syscall_ret_cb(id, on_return);
    qemu_plugin_register_atexit_cb(id, on_exit_of_all, NULL);
    return 0;
}
