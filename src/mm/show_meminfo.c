/* SPDX-License-Identifier: MIT */
/* /proc/meminfo: Linux 6.18's names in its order. What quire does not count, mostly because it cannot exist yet, is 0. */
#include "mm/show.h"

/* Where a value comes from: an enum vm_event that counts pages, or one of these. */
enum {
	NONE = NR_VM_EVENTS,
	MEM_TOTAL,
	MEM_FREE,
	MEM_AVAILABLE,
	HUGE_PAGE,
};

#define LABEL_WIDTH 16u
#define NUMBER_WIDTH 8u
#define LINE_MAX 48u

static const struct {
	char label[LABEL_WIDTH + 1];
	u16 source;
} rows[] = {
	/* clang-format off */
	{ "MemTotal:", MEM_TOTAL },
	{ "MemFree:", MEM_FREE },
	{ "MemAvailable:", MEM_AVAILABLE },
	{ "Buffers:", NONE },
	{ "Cached:", NR_FILE_PAGES },
	{ "SwapCached:", NONE },
	{ "Active:", NONE },
	{ "Inactive:", NONE },
	{ "Active(anon):", NONE },
	{ "Inactive(anon):", NONE },
	{ "Active(file):", NONE },
	{ "Inactive(file):", NONE },
	{ "Unevictable:", NONE },
	{ "Mlocked:", NR_MLOCK },
	{ "SwapTotal:", NONE },
	{ "SwapFree:", NONE },
	{ "Zswap:", NONE },
	{ "Zswapped:", NONE },
	{ "Dirty:", NR_FILE_DIRTY },
	{ "Writeback:", NR_WRITEBACK },
	{ "AnonPages:", NR_ANON_MAPPED },
	{ "Mapped:", NR_FILE_MAPPED },
	{ "Shmem:", NR_SHMEM },
	{ "KReclaimable:", NONE },
	{ "Slab:", NR_SLAB },
	{ "SReclaimable:", NONE },
	{ "SUnreclaim:", NR_SLAB },
	{ "KernelStack:", NONE },
	{ "PageTables:", NR_PAGETABLE },
	{ "SecPageTables:", NONE },
	{ "NFS_Unstable:", NONE },
	{ "Bounce:", NONE },
	{ "WritebackTmp:", NONE },
	{ "CommitLimit:", NONE },
	{ "Committed_AS:", NONE },
	{ "VmallocTotal:", NONE },
	{ "VmallocUsed:", NONE },
	{ "VmallocChunk:", NONE },
	{ "Percpu:", NONE },
	{ "AnonHugePages:", NONE },
	{ "ShmemHugePages:", NONE },
	{ "ShmemPmdMapped:", NONE },
	{ "FileHugePages:", NONE },
	{ "FilePmdMapped:", NONE },
	{ "Balloon:", NONE },
	{ "HugePages_Total:", NONE },
	{ "HugePages_Free:", NONE },
	{ "HugePages_Rsvd:", NONE },
	{ "HugePages_Surp:", NONE },
	{ "Hugepagesize:", HUGE_PAGE },
	{ "Hugetlb:", NONE },
	{ "DirectMap4k:", NONE },
	{ "DirectMap2M:", NONE },
	{ "DirectMap1G:", NONE },
	/* clang-format on */
};

/* What could be had without writing anything: free frames and the clean page cache. Shmem has no other home. */
static u64 available_pages(struct quire *q)
{
	u64 cache = quire_gauge(q, NR_FILE_PAGES);
	u64 kept = quire_gauge(q, NR_SHMEM) + quire_gauge(q, NR_FILE_DIRTY) + quire_gauge(q, NR_WRITEBACK);

	return frame_nr_free(q) + (cache > kept ? cache - kept : 0);
}

/* In pages. */
static u64 value_of(struct quire *q, unsigned source)
{
	switch (source) {
	case NONE:
		return 0;
	case MEM_TOTAL: /* as Linux: without the descriptors and what else boot has kept */
		return q->nr_frames - q->first_frame;
	case MEM_FREE:
		return frame_nr_free(q);
	case MEM_AVAILABLE:
		return available_pages(q);
	case HUGE_PAGE:
		return PMD_SIZE >> PAGE_SHIFT;
	default:
		return quire_gauge(q, (enum vm_event)source);
	}
}

/* The numbers of huge pages are counts; everything else is in kB. */
static bool is_count(const char *label)
{
	return label[0] == 'H' && label[4] == 'P';
}

static void show_row(struct text *text, struct quire *q, unsigned i)
{
	u64 pages = value_of(q, rows[i].source);

	text_label(text, rows[i].label, LABEL_WIDTH);
	text_dec(text, is_count(rows[i].label) ? pages : pages << (PAGE_SHIFT - 10), NUMBER_WIDTH);
	text_str(text, is_count(rows[i].label) ? "\n" : " kB\n");
}

int quire_show_meminfo(struct quire_cpu *cpu, quire_emit_fn emit, void *arg)
{
	char piece[1024];
	struct text text;
	int ret = 0;

	text_init(&text, piece, sizeof(piece));
	for (unsigned i = 0; i < ARRAY_SIZE(rows) && !ret; i++) {
		show_row(&text, cpu->q, i);
		if (text.size - text.len >= LINE_MAX && i + 1 < ARRAY_SIZE(rows))
			continue;
		ret = emit(arg, piece, text.len);
		text.len = 0;
	}
	return ret;
}
