// SPDX-License-Identifier: GPL-2.0
/*
 * What a test sees and does inside its guest, page by page: touches pages by their frame numbers, whoever has them;
 * says what state each page is in; notes when the balloon's driver does what.
 *
 * Commands are written to /proc/pageprobe, one a line; they end before the write does. Results are in an area of the
 * guest's memory that the host reads, and writes, without the guest's help: reading the file says where it is. Made for
 * guests with one processor, 4 KiB pages and up to 1 GiB.
 */
#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/virtio.h>
#include <asm/tsc.h>

MODULE_LICENSE("GPL"); /* kprobes and the OOM notifier are for such modules only */
MODULE_DESCRIPTION("Page states, touches and balloon events, for tests");

#define AREA_ORDER 9 /* 2 MiB */
#define STATES_AT (4 << 10)
#define STATES (256 << 10)
#define RECORDS_AT (512 << 10)
#define RECORDS ((512 << 10) / sizeof(struct record))
#define EVENTS_AT (1024 << 10)
#define EVENTS ((1024 << 10) / sizeof(struct event))
#define PATTERN 0x5041474553484152ULL /* xor the frame number, over the whole page */

/* The first page of the area. */
struct header {
	u64 clock; /* the time stamp counter, while the command `clock` runs; else 0 */
	u64 events; /* how many there were */
	u64 count; /* how many records the last command filled in */
};

/* One page that was asked about or touched. */
struct record {
	u64 pfn;
	u64 cycles; /* of the one access */
	u64 word; /* the page's first, before it was written to */
	u64 zero; /* whether everything else in it is zero, 1 or 0; whether it has PATTERN, 2 */
};

struct event {
	u64 cycles;
	u64 kind;
	u64 what;
	u64 more;
};

enum kind {
	CHANGED = 1, /* the interrupt: the device's configuration changed */
	ENQUEUE, /* what: a page that goes into the balloon */
	DEQUEUE, /* what: a page that is taken out */
	TELL, /* what: the queue that the host is told on; 0 is inflate, 1 deflate */
	ACK, /* what: the queue on which the host has read it */
	STATS, /* the host asked for statistics */
	REPORT, /* what: how many blocks of free memory the host is told of; more: the bytes of them */
	OOM, /* out of memory, before the balloon's driver hears of it */
	OOM_DONE, /* what: how many pages have been made free since */
	FREED, /* what: a page of the balloon that goes back to the guest's free ones */
};

/* Bits of a page's state. */
enum state {
	OFFLINE = 1, /* in the balloon */
	BUDDY = 2, /* on a list of free pages */
	REPORTED = 4, /* the host has been told that it is free */
	FILE_CACHE = 8,
	ANON = 16,
	OTHER = 32, /* in use for something else */
	RESERVED = 64,
};

static u8 *area;
static struct header *header;
static u8 *states;
static struct record *records;
static struct event *events;
static LIST_HEAD(held);
static unsigned int held_order;
static bool tracing;
static DECLARE_BITMAP(leaving, STATES); /* taken out of the balloon, and not yet freed */

static void note(enum kind kind, u64 what, u64 more)
{
	unsigned long flags;
	u64 at;

	local_irq_save(flags);
	at = header->events;
	if (at < EVENTS)
		events[at] = (struct event){ rdtsc_ordered(), kind, what, more };
	WRITE_ONCE(header->events, at + 1);
	local_irq_restore(flags);
}

static int on_changed(struct kprobe *probe, struct pt_regs *regs)
{
	note(CHANGED, 0, 0);
	return 0;
}

static int on_enqueue(struct kprobe *probe, struct pt_regs *regs)
{
	note(ENQUEUE, page_to_pfn((struct page *)regs_get_kernel_argument(regs, 1)), 0);
	return 0;
}

static int on_tell(struct kprobe *probe, struct pt_regs *regs)
{
	note(TELL, ((struct virtqueue *)regs_get_kernel_argument(regs, 1))->index, 0);
	return 0;
}

static int on_ack(struct kprobe *probe, struct pt_regs *regs)
{
	note(ACK, ((struct virtqueue *)regs_get_kernel_argument(regs, 0))->index, 0);
	return 0;
}

static int on_stats(struct kprobe *probe, struct pt_regs *regs)
{
	note(STATS, 0, 0);
	return 0;
}

static int on_report(struct kprobe *probe, struct pt_regs *regs)
{
	struct scatterlist *list = (struct scatterlist *)regs_get_kernel_argument(regs, 1);
	unsigned int count = regs_get_kernel_argument(regs, 2), i;
	u64 bytes = 0;

	for (i = 0; i < count; i++)
		bytes += list[i].length;
	note(REPORT, count, bytes);
	return 0;
}

static int on_put(struct kprobe *probe, struct pt_regs *regs)
{
	unsigned long pfn = page_to_pfn((struct page *)regs_get_kernel_argument(regs, 0));

	if (pfn < STATES && test_and_clear_bit(pfn, leaving))
		note(FREED, pfn, 0);
	return 0;
}

static int on_dequeued(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct page *page = (struct page *)regs_return_value(regs);

	if (!page)
		return 0;
	if (page_to_pfn(page) < STATES)
		set_bit(page_to_pfn(page), leaving);
	note(DEQUEUE, page_to_pfn(page), 0);
	return 0;
}

static struct kprobe probes[] = {
	{ .symbol_name = "virtballoon_changed", .pre_handler = on_changed },
	{ .symbol_name = "balloon_page_enqueue", .pre_handler = on_enqueue },
	{ .symbol_name = "tell_host", .pre_handler = on_tell },
	{ .symbol_name = "balloon_ack", .pre_handler = on_ack },
	{ .symbol_name = "stats_request", .pre_handler = on_stats },
	{ .symbol_name = "virtballoon_free_page_report", .pre_handler = on_report },
	{ .symbol_name = "__folio_put", .pre_handler = on_put },
};
static bool probed[ARRAY_SIZE(probes)];
static struct kretprobe dequeued = { .kp.symbol_name = "balloon_page_dequeue", .handler = on_dequeued };
static bool dequeued_probed;

/* A function that the compiler left no symbol of is not traced; reading the file says which are. */
static void trace(bool wanted)
{
	int i;

	if (wanted == tracing)
		return;
	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		if (wanted) {
			probes[i].addr = NULL;
			probes[i].flags = 0;
			probed[i] = register_kprobe(&probes[i]) == 0;
		} else if (probed[i]) {
			unregister_kprobe(&probes[i]);
			probed[i] = false;
		}
	}
	if (wanted) {
		dequeued.kp.addr = NULL;
		dequeued.kp.flags = 0;
		dequeued_probed = register_kretprobe(&dequeued) == 0;
	} else if (dequeued_probed) {
		unregister_kretprobe(&dequeued);
		dequeued_probed = false;
	}
	tracing = wanted;
}

static int on_oom(struct notifier_block *block, unsigned long unused, void *freed)
{
	note(OOM, *(unsigned long *)freed, 0);
	return NOTIFY_OK;
}

static int on_oom_done(struct notifier_block *block, unsigned long unused, void *freed)
{
	note(OOM_DONE, *(unsigned long *)freed, 0);
	return NOTIFY_OK;
}

/* The balloon's has priority 80. */
static struct notifier_block before_balloon = { .notifier_call = on_oom, .priority = 200 };
static struct notifier_block after_balloon = { .notifier_call = on_oom_done, .priority = 1 };

/* Every page's state, at one moment: there is one processor, and nothing interrupts it. */
static void look(void)
{
	unsigned long pfn, flags, i, size;
	struct page *page;

	memset(states, 0, STATES);
	local_irq_save(flags);
	for (pfn = 0; pfn < STATES; pfn++) {
		if (!pfn_valid(pfn))
			continue;
		page = pfn_to_page(pfn);
		if (PageReserved(page)) {
			states[pfn] |= RESERVED;
			continue;
		}
		if (PageOffline(page))
			states[pfn] |= OFFLINE;
		if (PageBuddy(page)) {
			size = min(1UL << page_private(page), STATES - pfn);
			for (i = 0; i < size; i++)
				states[pfn + i] |= BUDDY | (PageReported(page) ? REPORTED : 0);
		}
		if (page_count(page) && !PageOffline(page)) {
			if (PageAnon(compound_head(page)))
				states[pfn] |= ANON;
			else if (PageLRU(compound_head(page)))
				states[pfn] |= FILE_CACHE;
			else
				states[pfn] |= OTHER;
		}
	}
	local_irq_restore(flags);
}

/* Reads or writes the pages of the first `count` records, once each, by the kernel's own mapping of all memory. */
static int touch(bool write, unsigned long count)
{
	unsigned long flags, i, j;
	struct record *record;
	u64 *page, begin;

	if (count > RECORDS)
		return -EINVAL;
	for (i = 0; i < count; i++)
		if (!pfn_valid(records[i].pfn))
			return -EINVAL;
	for (i = 0; i < count; i++) {
		record = &records[i];
		page = page_address(pfn_to_page(record->pfn));
		local_irq_save(flags);
		begin = rdtsc_ordered();
		if (write)
			WRITE_ONCE(page[0], PATTERN);
		else
			record->word = READ_ONCE(page[0]);
		record->cycles = rdtsc_ordered() - begin;
		local_irq_restore(flags);
		record->zero = !memchr_inv(page + 1, 0, PAGE_SIZE - sizeof(*page));
		for (j = 0; !record->zero && j < PAGE_SIZE / sizeof(*page); j++)
			if (page[j] != (PATTERN ^ record->pfn))
				break;
		if (j == PAGE_SIZE / sizeof(*page))
			record->zero = 2;
	}
	header->count = count;
	return 0;
}

static void fill(struct page *page)
{
	u64 *words = page_address(page);
	unsigned long i;

	for (i = 0; i < PAGE_SIZE / sizeof(*words); i++)
		words[i] = PATTERN ^ page_to_pfn(page);
}

/* Takes blocks and fills them with PATTERN, until so many are held or there are no more; their pages are recorded. */
static int hold(unsigned long blocks, unsigned int order)
{
	struct page *block;
	unsigned long i;

	if (!list_empty(&held) || order > MAX_ORDER - 1)
		return -EINVAL;
	held_order = order;
	header->count = 0;
	while (blocks--) {
		block = alloc_pages(GFP_HIGHUSER_MOVABLE | __GFP_NORETRY | __GFP_NOMEMALLOC | __GFP_NOWARN, order);
		if (!block)
			break;
		list_add_tail(&block->lru, &held);
		for (i = 0; i < 1UL << order; i++) {
			fill(block + i);
			if (header->count < RECORDS)
				records[header->count++].pfn = page_to_pfn(block + i);
		}
	}
	return 0;
}

/* Frees every `step`-th block that is held. */
static int release(unsigned long step)
{
	struct page *block, *next;
	unsigned long i = 0;

	if (!step)
		return -EINVAL;
	list_for_each_entry_safe(block, next, &held, lru) {
		if (i++ % step)
			continue;
		list_del(&block->lru);
		__free_pages(block, held_order);
	}
	return 0;
}

/* Shows the time stamp counter to the host for so many milliseconds. */
static void show_clock(unsigned long ms)
{
	ktime_t end = ktime_add_ms(ktime_get(), ms);
	int i;

	do {
		for (i = 0; i < 100; i++)
			WRITE_ONCE(header->clock, rdtsc_ordered());
	} while (ktime_before(ktime_get(), end));
	WRITE_ONCE(header->clock, 0);
}

static int run(char *line)
{
	char word[16] = "";
	unsigned long first = 0, second = 0;
	char mode;

	if (sscanf(line, "touch %c %lu", &mode, &first) == 2 && (mode == 'r' || mode == 'w'))
		return touch(mode == 'w', first);
	sscanf(line, "%15s %lu %lu", word, &first, &second);
	if (!strcmp(word, "look"))
		look();
	else if (!strcmp(word, "hold"))
		return hold(first, second);
	else if (!strcmp(word, "release"))
		return release(first);
	else if (!strcmp(word, "trace"))
		trace(first);
	else if (!strcmp(word, "forget"))
		header->events = 0;
	else if (!strcmp(word, "clock"))
		show_clock(first);
	else
		return -EINVAL;
	return 0;
}

static ssize_t on_write(struct file *file, const char __user *buffer, size_t size, loff_t *offset)
{
	char line[64];
	int error;

	if (size >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, buffer, size))
		return -EFAULT;
	line[size] = 0;
	error = run(line);
	return error ? error : size;
}

static int show(struct seq_file *file, void *unused)
{
	int i;

	seq_printf(file, "area %lu\n", page_to_pfn(virt_to_page(area)));
	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (probed[i])
			seq_printf(file, "traced %s\n", probes[i].symbol_name);
	if (dequeued_probed)
		seq_printf(file, "traced %s\n", dequeued.kp.symbol_name);
	return 0;
}

static int on_open(struct inode *inode, struct file *file)
{
	return single_open(file, show, NULL);
}

static const struct proc_ops operations = {
	.proc_open = on_open,
	.proc_read = seq_read,
	.proc_write = on_write,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

static int __init pageprobe_init(void)
{
	struct page *block = alloc_pages(GFP_KERNEL | __GFP_ZERO, AREA_ORDER);

	if (!block)
		return -ENOMEM;
	area = page_address(block);
	header = (struct header *)area;
	states = area + STATES_AT;
	records = (struct record *)(area + RECORDS_AT);
	events = (struct event *)(area + EVENTS_AT);
	if (!proc_create("pageprobe", 0600, NULL, &operations)) {
		__free_pages(block, AREA_ORDER);
		return -ENOMEM;
	}
	register_oom_notifier(&before_balloon);
	register_oom_notifier(&after_balloon);
	return 0;
}

/* It stays until the guest ends: there is no way to unload it. */
module_init(pageprobe_init);
