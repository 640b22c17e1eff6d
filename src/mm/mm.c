/* SPDX-License-Identifier: MIT */
/*
 * Address spaces: their life, layout, limits and figures.
 *
 * Defaults, as Linux gives a process without address randomisation: mappings are placed below TASK_SIZE minus the space that
 * mmap_base() leaves for the stack, which is the stack's limit and guard gap but at least 128 MiB; nothing is mapped below
 * 64 KiB (vm.mmap_min_addr). Limits: RLIMIT_STACK 8 MiB, RLIMIT_AS, RLIMIT_DATA and RLIMIT_MEMLOCK none, as for root.
 */
#include "mm/instance.h"

#define DEFAULT_STACK_LIMIT (8ull << 20)
#define MIN_STACK_SPACE (128ull << 20) /* more than DEFAULT_STACK_LIMIT + STACK_GUARD_GAP, so this decides */
#define DEFAULT_MMAP_BASE ((TASK_SIZE - MIN_STACK_SPACE) & PAGE_MASK)
#define DEFAULT_MMAP_MIN_ADDR (64ull << 10)
#define NO_LIMIT (~0ull)

/* -------------------------------------------------------------------------------------------- life */

static void set_defaults(struct quire_mm *mm)
{
	mm->mmap_base = DEFAULT_MMAP_BASE;
	mm->mmap_min_addr = DEFAULT_MMAP_MIN_ADDR;
	mm->limits.as = NO_LIMIT;
	mm->limits.data = NO_LIMIT;
	mm->limits.stack = DEFAULT_STACK_LIMIT;
	mm->limits.memlock = NO_LIMIT;
}

/*
 * A recycled object may be zeroed although its cache is type-safe: a stale reader of a recycled VMA looks at the mm that it
 * holds itself, never into vma->mm (vma_lock.c).
 */
static void mm_init(struct quire *q, struct quire_mm *mm)
{
	memset(mm, 0, sizeof(*mm));
	mm->q = q;
	mm->users = 1;
	mm->lock_seq = 1;
	mm->tree.q = q;
	mm->tlb.gen = 1;
	mm->tlb.id = __atomic_add_fetch(&q->next_id, 1, __ATOMIC_RELAXED);
	INIT_LIST_HEAD(&mm->mm_list);
	set_defaults(mm);
}

static void mm_publish(struct quire *q, struct quire_mm *mm)
{
	spin_lock(&q->mm_lock);
	list_add_tail(&mm->mm_list, &q->mm_list);
	spin_unlock(&q->mm_lock);
}

struct quire_mm *mm_alloc(struct quire_cpu *cpu)
{
	struct quire *q = cpu->q;
	struct quire_mm *mm = cache_alloc(cpu, CACHE_MM);

	if (!mm)
		return NULL;
	mm_init(q, mm);
	mm->counters = cache_alloc(cpu, CACHE_MM_COUNTERS);
	if (!mm->counters)
		goto free_mm;
	mm->pgd = pgd_alloc(cpu, mm);
	if (!mm->pgd)
		goto free_counters;
	mm_publish(q, mm);
	return mm;

free_counters:
	cache_free(cpu, CACHE_MM_COUNTERS, mm->counters);
free_mm:
	cache_free(cpu, CACHE_MM, mm);
	return NULL;
}

/* Invariants 23 and 24: whoever emptied it took everything off the counters again. */
static void assert_empty(struct quire_mm *mm)
{
	VM_BUG_ON2(mm->tree.root, mm->tree.count, mm->total_vm);
	VM_BUG_ON2(mm->total_vm | mm->locked_vm | mm->stack_vm, mm->total_vm, mm->locked_vm);
	for (enum mm_counter which = MM_FILEPAGES; which < NR_MM_COUNTERS; which++)
		VM_BUG_ON2(mm_rss(mm, which) != 0, which, mm_rss(mm, which));
	(void)mm;
}

void mm_free(struct quire_cpu *cpu, struct quire_mm *mm)
{
	struct quire *q = mm->q;

	assert_empty(mm);
	spin_lock(&q->mm_lock);
	list_del_init(&mm->mm_list);
	spin_unlock(&q->mm_lock);
	pgd_free(cpu, mm);
	VM_BUG_ON2(mm_tables(mm) != 0, mm_tables(mm), mm->tlb.id);
	cache_free(cpu, CACHE_MM_COUNTERS, mm->counters);
	cache_free(cpu, CACHE_MM, mm);
}

/* Zero fields mean the default. False: an address space could not have this layout. */
static bool set_layout(struct quire_mm *mm, const struct quire_layout *layout)
{
	if (layout->mmap_base)
		mm->mmap_base = layout->mmap_base & PAGE_MASK;
	if (layout->mmap_min_addr)
		mm->mmap_min_addr = (layout->mmap_min_addr + PAGE_SIZE - 1) & PAGE_MASK;
	mm->start_brk = (layout->start_brk + PAGE_SIZE - 1) & PAGE_MASK;
	mm->brk = mm->start_brk;
	return mm->mmap_base <= TASK_SIZE && layout->mmap_min_addr < mm->mmap_base &&
	       mm->mmap_min_addr < mm->mmap_base && layout->start_brk < TASK_SIZE;
}

int quire_mm_create(struct quire_cpu *cpu, const struct quire_layout *layout, struct quire_mm **out)
{
	struct quire_mm *mm = mm_alloc(cpu);

	if (!mm)
		return -ENOMEM;
	if (layout && !set_layout(mm, layout)) {
		mm_free(cpu, mm);
		return -EINVAL;
	}
	*out = mm;
	return 0;
}

void quire_mm_get(struct quire_mm *mm)
{
	u32 old = __atomic_fetch_add(&mm->users, 1, __ATOMIC_RELAXED);

	VM_BUG_ON2(old == 0, mm->tlb.id, old);
	(void)old;
}

/* Acquire and release: what every former user did comes before the tearing down. */
void quire_mm_put(struct quire_cpu *cpu, struct quire_mm *mm)
{
	if (__atomic_sub_fetch(&mm->users, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	exit_mmap(cpu, mm);
	mm_free(cpu, mm);
}

/* -------------------------------------------------------------------------------------------- layout and limits */

static int set_brk_locked(struct quire_mm *mm, u64 start)
{
	if (mm->start_brk || start == 0 || start >= TASK_SIZE)
		return -EINVAL;
	mm->start_brk = (start + PAGE_SIZE - 1) & PAGE_MASK;
	mm->brk = mm->start_brk;
	return 0;
}

int quire_mm_set_brk(struct quire_cpu *cpu, struct quire_mm *mm, uint64_t start)
{
	int error;

	(void)cpu;
	mmap_write_lock(mm);
	error = set_brk_locked(mm, start);
	mmap_write_unlock(mm);
	return error;
}

static u64 *limit_of(struct quire_mm *mm, int resource)
{
	switch (resource) {
	case RLIMIT_AS:
		return &mm->limits.as;
	case RLIMIT_DATA:
		return &mm->limits.data;
	case RLIMIT_STACK:
		return &mm->limits.stack;
	case RLIMIT_MEMLOCK:
		return &mm->limits.memlock;
	default:
		return NULL;
	}
}

/* Takes effect for calls that begin later; what exceeds a lowered limit already stays, as in Linux. */
int quire_mm_set_limit(struct quire_mm *mm, int resource, uint64_t value)
{
	u64 *limit = limit_of(mm, resource);

	if (!limit)
		return -EINVAL;
	WRITE_ONCE(*limit, value);
	return 0;
}

/* -------------------------------------------------------------------------------------------- figures */

/* One CPU's part may be negative: pages are often freed by another CPU than the one that mapped them. */
u64 mm_rss(struct quire_mm *mm, enum mm_counter which)
{
	s64 sum = 0;

	for (u32 i = 0; i < mm->q->nr_cpus; i++)
		sum += READ_ONCE(mm->counters[i].rss[which]);
	return sum > 0 ? (u64)sum : 0;
}

u64 mm_tables(struct quire_mm *mm)
{
	s64 sum = 0;

	for (u32 i = 0; i < mm->q->nr_cpus; i++)
		sum += READ_ONCE(mm->counters[i].tables);
	return sum > 0 ? (u64)sum : 0;
}

void quire_mm_stat(struct quire_cpu *cpu, struct quire_mm *mm, struct quire_mm_stat *out)
{
	(void)cpu;
	out->rss_anon = mm_rss(mm, MM_ANONPAGES);
	out->rss_file = mm_rss(mm, MM_FILEPAGES);
	out->rss_shmem = mm_rss(mm, MM_SHMEMPAGES);
	out->swap_entries = mm_rss(mm, MM_SWAPENTS);
	out->pgtable_bytes = mm_tables(mm) << PAGE_SHIFT;
	mmap_read_lock(mm);
	out->total_vm = mm->total_vm;
	out->locked_vm = mm->locked_vm;
	out->stack_vm = mm->stack_vm;
	out->data_vm = mm->data_vm;
	out->exec_vm = mm->exec_vm;
	out->map_count = mm->tree.count;
	mmap_read_unlock(mm);
}
