/* SPDX-License-Identifier: MIT */
/*
 * Boot of a machine in an arena, and what concerns all of it: draining, use counts, sums of counters.
 *
 * The arena from frame 0 up: struct quire, CPUs, nodes, the wait table, object stacks, page descriptors, the zero page,
 * padding to a multiple of 2 MiB; then the frames that the buddy system manages. The machine's own frames are PAGE_RESERVED.
 */
#include "mm/instance.h"
#include "mm/file.h"
#include "mm/rmap.h"

/* ------------------------------------------------------------------------------------- layout of the arena */

/* Offsets in bytes from the arena's start. */
struct boot_layout {
	u64 cpus, cpu_ptrs, nodes, wait, stacks, pages, zero_page;
	u64 end; /* of all this: where managed frames begin */
};

/* Reserves @size bytes at the next multiple of @align. */
static u64 boot_take(u64 *offset, u64 size, u64 align)
{
	u64 at = (*offset + align - 1) & ~(align - 1);

	*offset = at + size;
	return at;
}

static unsigned boot_nodes(const struct quire_config *config)
{
	return config->nr_nodes ? config->nr_nodes : 1;
}

/* Each CPU stands on pages of its own, so that no two share a line, nor a page for whoever maps the arena page by page. */
static void boot_layout(struct boot_layout *layout, const struct quire_config *config, u64 nr_frames)
{
	u64 cpus = config->nr_cpus + 1;
	u64 offset = 0;

	boot_take(&offset, sizeof(struct quire), CACHE_LINE);
	layout->cpu_ptrs = boot_take(&offset, cpus * sizeof(struct quire_cpu *), CACHE_LINE);
	layout->nodes = boot_take(&offset, boot_nodes(config) * sizeof(struct node), CACHE_LINE);
	layout->wait = boot_take(&offset, WAIT_BUCKETS * sizeof(struct wait_bucket), CACHE_LINE);
	layout->stacks = boot_take(&offset, NR_CACHES * cpus * sizeof(struct kmem_cache_cpu), CACHE_LINE);
	layout->cpus = boot_take(&offset, cpus * ((sizeof(struct quire_cpu) + PAGE_SIZE - 1) & PAGE_MASK), PAGE_SIZE);
	layout->pages = boot_take(&offset, nr_frames * sizeof(struct page), PAGE_SIZE);
	layout->zero_page = boot_take(&offset, PAGE_SIZE, PAGE_SIZE);
	layout->end = boot_take(&offset, 0, PMD_SIZE);
}

u64 quire_boot_overhead(const struct quire_config *config)
{
	u64 managed = config->memory & PMD_MASK;
	struct boot_layout layout = { .end = 0 };
	u64 overhead;

	/* The descriptors of the overhead's own frames are overhead too. Grows a little each time, so it settles soon. */
	do {
		overhead = layout.end;
		boot_layout(&layout, config, (managed + overhead) >> PAGE_SHIFT);
	} while (layout.end != overhead);
	return overhead;
}

/* ------------------------------------------------------------------------------------- boot */

static void boot_cpus(struct quire *q, u8 *arena, const struct boot_layout *layout)
{
	u64 stride = (sizeof(struct quire_cpu) + PAGE_SIZE - 1) & PAGE_MASK;

	q->cpus = (struct quire_cpu **)(void *)(arena + layout->cpu_ptrs);
	for (u32 id = 0; id <= q->nr_cpus; id++) {
		struct quire_cpu *cpu = (struct quire_cpu *)(void *)(arena + layout->cpus + id * stride);

		cpu->q = q;
		cpu->id = id;
		cpu->node = id < q->nr_cpus ? id * q->nr_nodes / q->nr_cpus : 0;
		INIT_LIST_HEAD(&cpu->wait.list);
		q->cpus[id] = cpu;
	}
}

/* Type-safe caches mostly have no constructor: the zeroes of a new slab are a free object of these types, count 0, unlocked. */
static void boot_caches(struct quire *q, struct kmem_cache_cpu *stacks)
{
	const u32 cpus = q->nr_cpus + 1;
	const struct {
		const char *name;
		size_t size, align;
		u32 flags;
		void (*ctor)(void *object);
	} caches[NR_CACHES] = {
		[CACHE_FOLIO] = { "folio", sizeof(struct folio), CACHE_LINE, SLAB_TYPESAFE_BY_RCU, folio_ctor },
		[CACHE_PTDESC] = { "ptdesc", sizeof(struct ptdesc), CACHE_LINE, 0, NULL },
		[CACHE_VMA] = { "vma", sizeof(struct vma), CACHE_LINE, SLAB_TYPESAFE_BY_RCU, NULL },
		[CACHE_VMA_NODE] = { "vma_node", sizeof(struct vma_node), CACHE_LINE, 0, NULL },
		[CACHE_ANON_VMA] = { "anon_vma", sizeof(struct anon_vma), CACHE_LINE, SLAB_TYPESAFE_BY_RCU, NULL },
		[CACHE_AVC] = { "anon_vma_chain", sizeof(struct anon_vma_chain), 16, 0, NULL },
		[CACHE_MM] = { "mm", sizeof(struct quire_mm), CACHE_LINE, SLAB_TYPESAFE_BY_RCU, NULL },
		[CACHE_MM_COUNTERS] = { "mm_counters", cpus * sizeof(struct mm_cpu_counters), CACHE_LINE, SLAB_ZERO,
					NULL },
		[CACHE_FILE] = { "file", sizeof(struct quire_file), CACHE_LINE, 0, NULL },
		[CACHE_PAGECACHE_NODE] = { "pagecache_node", sizeof(struct pagecache_node), 16, 0, NULL },
	};

	for (unsigned id = 0; id < NR_CACHES; id++)
		kmem_cache_init(&q->cache[id], q, caches[id].name, (u32)caches[id].size, (u32)caches[id].align,
				caches[id].flags, caches[id].ctor, stacks + (size_t)id * cpus);
}

struct quire *quire_boot(void *arena, u64 size, const struct quire_config *config, struct machine *machine)
{
	struct quire *q = arena;
	struct boot_layout layout;

	boot_layout(&layout, config, size >> PAGE_SHIFT);
	if (size < PMD_SIZE || layout.end > size - PMD_SIZE)
		return NULL;
	q->machine = machine;
	q->config = *config;
	q->config.nr_nodes = boot_nodes(config);
	q->frames = arena;
	q->pages = (struct page *)(void *)(q->frames + layout.pages);
	q->nr_frames = size >> PAGE_SHIFT;
	q->first_frame = layout.end >> PAGE_SHIFT;
	q->nr_cpus = config->nr_cpus;
	q->nr_nodes = q->config.nr_nodes;
	q->nodes = (struct node *)(void *)(q->frames + layout.nodes);
	q->wait = (struct wait_bucket *)(void *)(q->frames + layout.wait);
	q->zero_pfn = layout.zero_page >> PAGE_SHIFT;
	INIT_LIST_HEAD(&q->mm_list);
	INIT_LIST_HEAD(&q->file_list);
	boot_cpus(q, q->frames, &layout);
	boot_caches(q, (struct kmem_cache_cpu *)(void *)(q->frames + layout.stacks));
	for (u32 id = 0; id <= q->nr_cpus; id++)
		q->cpus[id]->folios = &q->cache[CACHE_FOLIO].cpus[id];
	wait_init(q);
	page_set_reserved(q, 0, q->first_frame);
	frame_init(q, q->nr_nodes, q->first_frame, q->nr_frames);
	return q;
}

/* ------------------------------------------------------------------------------------- drain and use */

void cpu_drain(struct quire_cpu *cpu)
{
	for (unsigned id = 0; id < NR_CACHES; id++)
		kmem_cache_drain(cpu, &cpu->q->cache[id]);
	pcp_drain(cpu);
}

void cpu_shrink(struct quire_cpu *cpu)
{
	for (unsigned id = 0; id < NR_CACHES; id++) {
		kmem_cache_drain(cpu, &cpu->q->cache[id]);
		kmem_cache_shrink(cpu, &cpu->q->cache[id]);
	}
	pcp_drain(cpu);
}

/* What readers held back comes back through the barrier and makes more slabs empty; those of type-safe caches wait for readers
 * in turn. */
void quire_drain(struct quire_cpu *cpu)
{
	for (unsigned round = 0; round < 2; round++) {
		rcu_barrier(cpu);
		cpu_shrink(cpu);
	}
	rcu_barrier(cpu);
}

static u64 list_count(struct spinlock *lock, const struct list_head *head)
{
	u64 nr = 0;

	spin_lock(lock);
	for (const struct list_head *pos = head->next; pos != head; pos = pos->next)
		nr++;
	spin_unlock(lock);
	return nr;
}

u64 quire_in_use(struct quire *q)
{
	u64 nr = list_count(&q->mm_lock, &q->mm_list) + list_count(&q->file_lock, &q->file_list);

	for (u32 id = 0; id < q->nr_cpus; id++)
		nr += smp_load_acquire(&q->cpus[id]->owned) != 0;
	return nr;
}

/* ------------------------------------------------------------------------------------- counters */

/* Sums are over all CPUs, the service CPU too. A gauge goes up on one CPU and down on another: only the sum has a meaning. */
u64 quire_event_sum(struct quire *q, enum vm_event event)
{
	u64 sum = 0;

	for (u32 id = 0; id <= q->nr_cpus; id++)
		sum += READ_ONCE(q->cpus[id]->event[event]);
	return sum;
}

static void stat_tlb(struct quire *q, struct quire_stat *out)
{
	for (u32 id = 0; id < q->nr_cpus; id++) {
		const struct tlb *tlb = &q->cpus[id]->tlb.tlb;

		out->tlb_hit += READ_ONCE(tlb->nr_hit);
		out->tlb_miss += READ_ONCE(tlb->nr_miss);
		out->tlb_dirty_assist += READ_ONCE(tlb->nr_dirty_assist);
	}
}

void quire_stat(struct quire_cpu *cpu, struct quire_stat *out)
{
	struct quire *q = cpu->q;

	*out = (struct quire_stat){
		.frames_total = q->nr_frames,
		.frames_free = frame_nr_free(q),
		.frames_table = quire_event_sum(q, NR_PAGETABLE),
		.frames_slab = quire_event_sum(q, NR_SLAB),
		.frames_meta = q->first_frame,
		.fault_anon_zero = quire_event_sum(q, FAULT_ANON_ZERO),
		.fault_anon = quire_event_sum(q, FAULT_ANON),
		.fault_file = quire_event_sum(q, FAULT_FILE),
		.fault_file_around = quire_event_sum(q, FAULT_FILE_AROUND),
		.fault_cow_copy = quire_event_sum(q, FAULT_COW_COPY),
		.fault_cow_reuse = quire_event_sum(q, FAULT_COW_REUSE),
		.fault_cow_file = quire_event_sum(q, FAULT_COW_FILE),
		.fault_spurious = quire_event_sum(q, FAULT_SPURIOUS),
		.fault_retry = quire_event_sum(q, FAULT_RETRIED),
		.fault_mmap_lock = quire_event_sum(q, FAULT_MMAP_LOCK),
		.fault_segv = quire_event_sum(q, FAULT_SEGV),
		.fault_bus = quire_event_sum(q, FAULT_BUS),
		.fault_oom = quire_event_sum(q, FAULT_OOM),
		.fork_pages_shared = quire_event_sum(q, FORK_PAGES_SHARED),
		.fork_pages_copied = quire_event_sum(q, FORK_PAGES_COPIED),
		.tlb_flush_local = quire_event_sum(q, TLB_FLUSH_LOCAL),
		.tlb_shootdown = quire_event_sum(q, TLB_SHOOTDOWN),
		.tlb_ipi = quire_event_sum(q, TLB_IPI),
		.pgalloc = quire_event_sum(q, PGALLOC),
		.pgfree = quire_event_sum(q, PGFREE),
		.file_read_pages = quire_event_sum(q, FILE_READ_PAGES),
		.file_written_pages = quire_event_sum(q, FILE_WRITTEN_PAGES),
	};
	for (unsigned order = 0; order <= MAX_FOLIO_ORDER; order++)
		out->folios[order] = quire_event_sum(q, (enum vm_event)(FOLIO_ALLOC_0 + order));
	stat_tlb(q, out);
}
