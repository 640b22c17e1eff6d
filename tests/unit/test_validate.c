/* SPDX-License-Identifier: MIT */
/*
 * quire_validate finds nothing in a machine that is well, with some of everything in it, and finds each kind of damage that is
 * done to it on purpose. Damage is undone after each look, so that the machine can be torn down.
 */
#include "cmocka_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mm/fault.h"
#include "mm/softleaf.h"

#define ANON 0x100000000ull /* private anonymous memory, some of it shared with a child by fork */
#define ANON_PAGES 64u
#define HUGE 0x140000000ull    /* backed by an order-9 folio */
#define SHMEM 0x180000000ull   /* a shmem file, shared, mapped by parent and child */
#define PRIVATE 0x1c0000000ull /* the same file, private, some pages copied */
#define LOCKED 0x200000000ull  /* mlocked */
#define GUARDED 0x240000000ull /* with a guard region */
#define FILE_PAGES 32u

#define ANON_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
#define RW (PROT_READ | PROT_WRITE)

struct world {
	struct quire *q;
	struct quire_cpu *cpu;
	struct quire_mm *mm, *child;
	struct quire_file *file;
};

/* ---------------------------------------------------------------------------------------- a machine with everything */

static void map(struct world *w, u64 addr, u64 pages, int flags, struct quire_file *file)
{
	assert_int_equal(quire_mmap(w->cpu, addr, pages * PAGE_SIZE, RW, flags, file, 0), addr);
}

static void store(struct world *w, u64 addr, u64 pages)
{
	for (u64 i = 0; i < pages; i++)
		assert_int_equal(quire_store(w->cpu, addr + i * PAGE_SIZE, &i, sizeof(i)), 0);
}

static void load(struct world *w, u64 addr, u64 pages)
{
	u64 value;

	for (u64 i = 0; i < pages; i++)
		assert_int_equal(quire_load(w->cpu, addr + i * PAGE_SIZE, &value, sizeof(value)), 0);
}

static void populate(struct world *w)
{
	map(w, ANON, ANON_PAGES, ANON_FLAGS, NULL);
	store(w, ANON, ANON_PAGES / 2);
	load(w, ANON, ANON_PAGES); /* the upper half maps the zero page */
	map(w, HUGE, 2ull * PTRS_PER_TABLE, ANON_FLAGS, NULL);
	store(w, HUGE, 4);
	map(w, SHMEM, FILE_PAGES, MAP_SHARED | MAP_FIXED, w->file);
	store(w, SHMEM, FILE_PAGES / 2);
	map(w, PRIVATE, FILE_PAGES, MAP_PRIVATE | MAP_FIXED, w->file);
	load(w, PRIVATE, FILE_PAGES);
	store(w, PRIVATE, 4);
	map(w, LOCKED, 8, ANON_FLAGS, NULL);
	assert_int_equal(quire_mlock(w->cpu, LOCKED, 8 * PAGE_SIZE), 0);
	map(w, GUARDED, 8, ANON_FLAGS, NULL);
	assert_int_equal(quire_madvise(w->cpu, GUARDED + PAGE_SIZE, 2 * PAGE_SIZE, MADV_GUARD_INSTALL), 0);
}

/* A child that shares all, has copied some, and a split VMA in the parent. */
static void diverge(struct world *w)
{
	assert_int_equal(quire_fork(w->cpu, &w->child), 0);
	store(w, ANON, 4); /* copies in the parent */
	assert_int_equal(quire_mprotect(w->cpu, ANON + 8 * PAGE_SIZE, 8 * PAGE_SIZE, PROT_READ), 0);
	quire_cpu_run(w->cpu, w->child);
	store(w, ANON + 4 * PAGE_SIZE, 4);
	load(w, SHMEM, FILE_PAGES);
	quire_cpu_run(w->cpu, w->mm);
}

static int setup(void **state)
{
	const struct quire_config config = {
		.memory = 64ull << 20, .nr_cpus = 2, .anon_orders = QUIRE_ORDERS_2M, .shmem_orders = QUIRE_ORDERS_64K
	};
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_int_equal(quire_create(&config, &w->q), 0);
	assert_int_equal(quire_cpu_enter(w->q, 0, &w->cpu), 0);
	assert_int_equal(quire_mm_create(w->cpu, NULL, &w->mm), 0);
	assert_int_equal(quire_file_create_shmem(w->cpu, FILE_PAGES * PAGE_SIZE, &w->file), 0);
	quire_cpu_run(w->cpu, w->mm);
	populate(w);
	diverge(w);
	*state = w;
	return 0;
}

static void print_line(void *arg, const char *line)
{
	(void)arg;
	printf("%s\n", line);
}

static void assert_clean(struct world *w)
{
	assert_int_equal(quire_validate(w->cpu, print_line, NULL), 0);
}

static int teardown(void **state)
{
	struct world *w = *state;

	assert_clean(w);
	quire_cpu_run(w->cpu, NULL);
	quire_mm_put(w->cpu, w->child);
	assert_clean(w);
	quire_mm_put(w->cpu, w->mm);
	quire_file_put(w->cpu, w->file);
	assert_clean(w);
	quire_cpu_leave(w->cpu);
	assert_int_equal(quire_destroy(w->q), 0);
	free(w);
	return 0;
}

/* ---------------------------------------------------------------------------------------- looking for a complaint */

struct wanted {
	char start[32]; /* "invariant 12: " */
	bool seen;
};

static void look_for(void *arg, const char *line)
{
	struct wanted *wanted = arg;

	if (!strncmp(line, wanted->start, strlen(wanted->start)))
		wanted->seen = true;
}

static void assert_reported(struct world *w, unsigned invariant)
{
	struct wanted wanted = { .seen = false };

	snprintf(wanted.start, sizeof(wanted.start), "invariant %u: ", invariant);
	assert_int_not_equal(quire_validate(w->cpu, look_for, &wanted), 0);
	if (!wanted.seen)
		quire_validate(w->cpu, print_line, NULL);
	assert_true(wanted.seen);
}

static pte_t *pte_of(struct world *w, u64 addr)
{
	struct ptdesc *tbl;
	pmd_t *pmdp = pmd_offset(w->mm, addr, &tbl);

	assert_non_null(pmdp);
	return pte_offset_lockless(w->mm, pmdp, addr);
}

static struct folio *folio_of(struct world *w, u64 addr)
{
	return pfn_folio(w->q, pte_pfn(*pte_of(w, addr)));
}

static struct vma *vma_of(struct world *w, u64 addr)
{
	struct vma *vma = vma_tree_find(&w->mm->tree, addr);

	assert_non_null(vma);
	return vma;
}

/* Changes a field, wants the complaint, changes it back. */
#define DAMAGE(w, field, value, invariant)                                                                             \
	do {                                                                                                           \
		__typeof__(field) saved_ = (field);                                                                    \
		(field) = (value);                                                                                     \
		assert_reported(w, invariant);                                                                         \
		(field) = saved_;                                                                                      \
	} while (0)

/* ---------------------------------------------------------------------------------------- tests */

static void test_clean(void **state)
{
	assert_clean(*state);
}

static void test_references(void **state)
{
	struct world *w = *state;
	struct folio *anon = folio_of(w, ANON), *cached = folio_of(w, SHMEM);

	DAMAGE(w, anon->refs, anon->refs + FOLIO_REF, 1);
	DAMAGE(w, cached->refs, cached->refs - FOLIO_REF, 1);
	DAMAGE(w, anon->refs, anon->refs + FOLIO_MAP, 12);
	DAMAGE(w, cached->refs, cached->refs - FOLIO_MAP, 12);
	DAMAGE(w, anon->flags, anon->flags | 1ull << PG_locked, 91);
	DAMAGE(w, anon->flags, anon->flags & ~(1ull << PG_uptodate), 85);
}

static void test_exclusive(void **state)
{
	struct world *w = *state;
	u64 mine = pte_pfn(*pte_of(w, ANON)), shared = pte_pfn(*pte_of(w, ANON + 20 * PAGE_SIZE));

	/* A writable page must be exclusive; a page that the child has too must not be. */
	DAMAGE(w, w->q->pages[mine].word, w->q->pages[mine].word & ~PAGE_EXCLUSIVE, 25);
	DAMAGE(w, w->q->pages[shared].word, w->q->pages[shared].word | PAGE_EXCLUSIVE, 26);
}

static void test_entries(void **state)
{
	struct world *w = *state;
	pte_t *pte = pte_of(w, ANON), *zero = pte_of(w, ANON + 40 * PAGE_SIZE),
	      *file = pte_of(w, PRIVATE + 8 * PAGE_SIZE);
	pte_t *locked = pte_of(w, LOCKED), *readonly = pte_of(w, ANON + 9 * PAGE_SIZE);

	DAMAGE(w, *pte, 0, 12);				       /* an entry lost */
	DAMAGE(w, *pte, 0, 63);				       /* and missing in rss */
	DAMAGE(w, *pte, *pte_of(w, ANON + PAGE_SIZE), 17);     /* another page's */
	DAMAGE(w, *pte, pte_mk(0, *pte & ~_PAGE_PFN_MASK), 9); /* nobody's frame */
	DAMAGE(w, *readonly, *readonly | _PAGE_RW, 15);	       /* more than the VMA permits */
	DAMAGE(w, *pte, *pte & ~_PAGE_NX, 15);
	DAMAGE(w, *pte, softleaf_mk(SOFTLEAF_SWAP, 1), 14); /* of a kind that nothing makes */
	DAMAGE(w, *zero, *zero | _PAGE_RW, 34);
	DAMAGE(w, *file, *file | _PAGE_RW, 34);
	DAMAGE(w, *locked, *locked & ~_PAGE_MLOCKED, 56);
}

static void test_tables(void **state)
{
	struct world *w = *state;
	struct ptdesc *tbl;
	pmd_t *pmdp = pmd_offset(w->mm, ANON, &tbl), *huge = pmd_offset(w->mm, HUGE, &tbl);
	struct ptdesc *pt = entry_table(w->q, *pmdp);

	DAMAGE(w, *huge, *pmdp, 19); /* a table linked twice */
	DAMAGE(w, *pmdp, 0, 23);     /* a table lost */
	DAMAGE(w, *pmdp, 0, 10);
	DAMAGE(w, pt->level, 1, 14);
	DAMAGE(w, tbl->deposit, NULL, 20); /* nothing to split the leaf with */
	DAMAGE(w, w->mm->counters[0].tables, w->mm->counters[0].tables + 1, 23);
	DAMAGE(w, w->mm->counters[0].rss[MM_ANONPAGES], w->mm->counters[0].rss[MM_ANONPAGES] - 1, 63);
}

static void test_vmas(void **state)
{
	struct world *w = *state;
	struct vma *vma = vma_of(w, ANON);

	DAMAGE(w, vma->end, vma->end - PAGE_SIZE, 49);
	DAMAGE(w, w->mm->tree.root->gap[0], 1u, 49);
	DAMAGE(w, w->mm->total_vm, w->mm->total_vm + 1, 49);
	DAMAGE(w, w->mm->locked_vm, 0, 49);
	DAMAGE(w, vma->refcnt, 2, 51);
	DAMAGE(w, vma->lock_seq, w->mm->lock_seq, 52);
	DAMAGE(w, vma->page_prot, vma->page_prot | _PAGE_NX | _PAGE_DIRTY, 15);
	DAMAGE(w, w->mm->tlb.flush_pending, 1, 43);
	DAMAGE(w, w->mm->mmap_lock.state, 1, 91);
	DAMAGE(w, w->mm->unmapping, 1, 91);
}

static void test_reverse_mapping(void **state)
{
	struct world *w = *state;
	struct vma *vma = vma_of(w, ANON), *file_vma = vma_of(w, SHMEM);
	struct anon_vma *anon_vma = vma->anon_vma;
	struct anon_vma_chain *avc = list_entry(vma->anon_vma_chain.next, struct anon_vma_chain, same_vma);

	DAMAGE(w, anon_vma->refcount, anon_vma->refcount + 1, 45);
	DAMAGE(w, anon_vma->num_children, anon_vma->num_children + 1, 45);
	DAMAGE(w, anon_vma->num_active_vmas, anon_vma->num_active_vmas - 1, 45);
	DAMAGE(w, avc->node.start, avc->node.start + 1, 18);
	DAMAGE(w, avc->node.subtree_last, avc->node.subtree_last - 1, 18);
	DAMAGE(w, file_vma->i_mmap_node.last, file_vma->i_mmap_node.last + 1, 18);
	DAMAGE(w, w->file->mapping.i_mmap_writable, 0, 18);

	/* Not in the tree at all: the walk of the reverse mapping misses its pages. */
	anon_vma_interval_remove(vma);
	assert_reported(w, 18);
	anon_vma_interval_insert(vma);
}

static void test_page_cache(void **state)
{
	struct world *w = *state;
	struct folio *folio = folio_of(w, SHMEM);

	DAMAGE(w, folio->index, folio->index + 1, 81);
	DAMAGE(w, folio->index, folio->index + 16, 16);
	DAMAGE(w, w->file->mapping.nr_pages, w->file->mapping.nr_pages + 1, 81);
}

static void test_frames(void **state)
{
	struct world *w = *state;
	u64 pfn = frame_alloc(w->cpu, 0, 0);

	/* A frame that nobody knows of is a leak. */
	assert_int_not_equal(pfn, 0);
	assert_reported(w, 10);
	frame_free(w->cpu, pfn, 0);
	DAMAGE(w, w->cpu->event[NR_SLAB], w->cpu->event[NR_SLAB] + 1, 10);
	DAMAGE(w, w->cpu->event[NR_ANON_MAPPED], w->cpu->event[NR_ANON_MAPPED] + 1, 63);
	DAMAGE(w, w->cpu->event[NR_MLOCK], w->cpu->event[NR_MLOCK] + 1, 61);
}

/* An object allocated and lost. */
static void test_objects(void **state)
{
	struct world *w = *state;

	for (unsigned id = 0; id < NR_CACHES; id++) {
		void *object = cache_alloc(w->cpu, (enum cache_id)id);

		assert_non_null(object);
		assert_reported(w, 10);
		cache_free(w->cpu, (enum cache_id)id, object);
	}
}

/* The entry goes without a flush: the TLB still has it. */
static void test_tlb(void **state)
{
	struct world *w = *state;
	u64 value = 1;
	pte_t *pte = pte_of(w, ANON);

	assert_int_equal(quire_store(w->cpu, ANON, &value, sizeof(value)), 0);
	assert_clean(w);
	DAMAGE(w, *pte, *pte & ~_PAGE_DIRTY, 37);
	DAMAGE(w, w->mm->tlb.cpumask, 0, 42);
}

/* Where there is no memory to count in, that is said. */
static void test_no_memory(void **state)
{
	struct world *w = *state;
	u64 pfn, *kept = NULL;

	while ((pfn = frame_alloc(w->cpu, 0, 0)) != 0) {
		u64 *frame = (u64 *)(void *)pfn_to_virt(w->q, pfn);

		*frame = (u64)(uintptr_t)kept;
		kept = frame;
	}
	assert_reported(w, 10);
	while (kept) {
		u64 *next = (u64 *)(uintptr_t)*kept;

		frame_free(w->cpu, virt_to_pfn(w->q, kept), 0);
		kept = next;
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_clean),	    TEST(test_references), TEST(test_exclusive),
		TEST(test_entries),	    TEST(test_tables),	   TEST(test_vmas),
		TEST(test_reverse_mapping), TEST(test_page_cache), TEST(test_frames),
		TEST(test_objects),	    TEST(test_tlb),	   TEST(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
