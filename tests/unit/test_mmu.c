/* SPDX-License-Identifier: MIT */
/*
 * The software MMU over page tables made by hand: permissions, accessed and dirty bits, leaf PMDs, and a TLB that keeps a stale
 * entry until it is told to forget it, and no longer.
 */
#include "cmocka_setup.h"

#include <stdlib.h>
#include <string.h>

#include "machine/mmu.h"

#define NR_FRAMES 2048u /* 8 MiB */
#define ROOT 1u
#define PUD 2u
#define PMD 3u
#define PTE 4u
#define DATA 16u  /* first frame of what is mapped */
#define HUGE 512u /* a 2 MiB frame */

#define VA 0x7f1234400000ull /* begins a PTE table; the leaf PMD stands behind it */
#define HUGE_VA (VA + PMD_SIZE)
#define TABLE (_PAGE_PRESENT | _PAGE_RW | _PAGE_USER | _PAGE_ACCESSED)
#define READABLE (_PAGE_PRESENT | _PAGE_USER | _PAGE_NX)
#define WRITABLE (READABLE | _PAGE_RW)

struct world {
	u8 *frames;
	struct tlb tlb;
};

static u64 *table(struct world *w, u64 pfn)
{
	return (u64 *)(void *)(w->frames + (pfn << PAGE_SHIFT));
}

static u64 *pte(struct world *w, u64 va)
{
	return &table(w, PTE)[va >> PAGE_SHIFT & 511];
}

static u64 *pmd(struct world *w, u64 va)
{
	return &table(w, PMD)[va >> PMD_SHIFT & 511];
}

static u8 *frame(struct world *w, u64 pfn)
{
	return w->frames + (pfn << PAGE_SHIFT);
}

static u64 leaf(u64 pfn, u64 bits)
{
	return pfn << PAGE_SHIFT | bits;
}

static u8 *translate(struct world *w, u64 va, enum mmu_access access)
{
	return mmu_translate(&w->tlb, w->frames, ROOT, va, access);
}

static int setup(void **state)
{
	static struct world w;

	w = (struct world){ .frames = aligned_alloc(PMD_SIZE, NR_FRAMES * PAGE_SIZE) };
	assert_non_null(w.frames);
	memset(w.frames, 0, NR_FRAMES * PAGE_SIZE);
	table(&w, ROOT)[VA >> P4D_SHIFT & 511] = leaf(PUD, TABLE);
	table(&w, PUD)[VA >> PUD_SHIFT & 511] = leaf(PMD, TABLE);
	*pmd(&w, VA) = leaf(PTE, TABLE);
	*state = &w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	free(w->frames);
	return 0;
}

/* ---------------------------------------------------------------------------------------- the walk */

static void test_translates_to_the_byte(void **state)
{
	struct world *w = *state;

	for (u64 page = 0; page < 512; page++)
		*pte(w, VA + page * PAGE_SIZE) = leaf(DATA + page, READABLE);
	for (u64 page = 0; page < 512; page++) {
		u64 offset = page * 8 % PAGE_SIZE;

		/* Once by the walk, once by the TLB. */
		assert_ptr_equal(translate(w, VA + page * PAGE_SIZE + offset, MMU_READ),
				 frame(w, DATA + page) + offset);
		assert_ptr_equal(translate(w, VA + page * PAGE_SIZE, MMU_READ), frame(w, DATA + page));
	}
	assert_int_equal(w->tlb.nr_miss, 512);
	assert_int_equal(w->tlb.nr_hit, 512);
}

static void test_faults_where_nothing_is_mapped(void **state)
{
	struct world *w = *state;
	const u64 nowhere[] = { VA,	   VA + PMD_SIZE, VA + (1ull << PUD_SHIFT), VA ^ (1ull << P4D_SHIFT), 0,
				TASK_SIZE, ~0ull,	  VA | 1ull << 63,	    VA | 1ull << 48 };

	for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++)
		for (enum mmu_access access = MMU_READ; access <= MMU_EXEC; access++)
			assert_null(translate(w, nowhere[i], access));
	/* None of it was kept: what is mapped now is found without a flush. */
	*pte(w, VA) = leaf(DATA, WRITABLE);
	assert_non_null(translate(w, VA, MMU_WRITE));
	/* Addresses of the kernel's half do not alias those of the user's. */
	assert_null(translate(w, VA | 1ull << 63, MMU_READ));
	assert_null(translate(w, VA | 1ull << 48, MMU_READ));
}

static void test_permissions(void **state)
{
	const struct {
		u64 bits;
		bool read, write, exec;
	} cases[] = {
		{ 0, false, false, false },
		{ _PAGE_PRESENT, false, false, false },		/* not the user's */
		{ _PAGE_USER | _PAGE_RW, false, false, false }, /* not present */
		{ _PAGE_PRESENT | _PAGE_RW, false, false, false },
		{ _PAGE_PRESENT | _PAGE_USER, true, false, true },
		{ _PAGE_PRESENT | _PAGE_USER | _PAGE_NX, true, false, false },
		{ _PAGE_PRESENT | _PAGE_USER | _PAGE_RW, true, true, true },
		{ _PAGE_PRESENT | _PAGE_USER | _PAGE_RW | _PAGE_NX, true, true, false },
		{ 1ull << 8 | _PAGE_USER | _PAGE_RW, false, false, false }, /* PROTNONE */
	};
	struct world *w = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 va = VA + i * PAGE_SIZE;

		*pte(w, va) = leaf(DATA + i, cases[i].bits);
		/* Twice, so that the answer does not depend on what the TLB learnt from the others. */
		for (unsigned n = 0; n < 2; n++) {
			assert_int_equal(translate(w, va, MMU_READ) != NULL, cases[i].read);
			assert_int_equal(translate(w, va, MMU_EXEC) != NULL, cases[i].exec);
			assert_int_equal(translate(w, va, MMU_WRITE) != NULL, cases[i].write);
		}
		/* An access that is not allowed changes nothing. */
		if (!cases[i].read)
			assert_true(*pte(w, va) == leaf(DATA + i, cases[i].bits));
	}
}

static void test_upper_levels_restrict(void **state)
{
	struct world *w = *state;

	*pte(w, VA) = leaf(DATA, WRITABLE & ~_PAGE_NX);
	*pmd(w, VA) = leaf(PTE, TABLE & ~_PAGE_RW);
	assert_null(translate(w, VA, MMU_WRITE));
	assert_non_null(translate(w, VA, MMU_READ));
	*pmd(w, VA) = leaf(PTE, TABLE & ~_PAGE_USER);
	mmu_flush_all(&w->tlb);
	assert_null(translate(w, VA, MMU_READ));
	*pmd(w, VA) = leaf(PTE, TABLE | _PAGE_NX);
	assert_null(translate(w, VA, MMU_EXEC));
}

/* ---------------------------------------------------------------------------------------- accessed and dirty */

static void test_accessed_and_dirty(void **state)
{
	struct world *w = *state;

	*pte(w, VA) = leaf(DATA, WRITABLE);
	assert_non_null(translate(w, VA, MMU_READ));
	assert_true(*pte(w, VA) == leaf(DATA, WRITABLE | _PAGE_ACCESSED));
	assert_int_equal(w->tlb.nr_dirty_assist, 0);
	/* The entry is in the TLB and writable, but clean: the store walks to set dirty. */
	assert_non_null(translate(w, VA, MMU_WRITE));
	assert_true(*pte(w, VA) == leaf(DATA, WRITABLE | _PAGE_ACCESSED | _PAGE_DIRTY));
	assert_int_equal(w->tlb.nr_dirty_assist, 1);
	/* From now on it does not. */
	assert_non_null(translate(w, VA, MMU_WRITE));
	assert_int_equal(w->tlb.nr_dirty_assist, 1);
	assert_int_equal(w->tlb.nr_miss, 1);
	/* A store first: both bits at once, and loads need no second walk. */
	*pte(w, VA + PAGE_SIZE) = leaf(DATA + 1, WRITABLE);
	assert_non_null(translate(w, VA + PAGE_SIZE, MMU_WRITE));
	assert_true(*pte(w, VA + PAGE_SIZE) == leaf(DATA + 1, WRITABLE | _PAGE_ACCESSED | _PAGE_DIRTY));
	assert_non_null(translate(w, VA + PAGE_SIZE, MMU_READ));
	assert_int_equal(w->tlb.nr_miss, 2);
	/* Software's bits stay. */
	*pte(w, VA + 2 * PAGE_SIZE) = leaf(DATA + 2, WRITABLE | 7ull << 9 | 1ull << 52);
	assert_non_null(translate(w, VA + 2 * PAGE_SIZE, MMU_WRITE));
	assert_true(*pte(w, VA + 2 * PAGE_SIZE) ==
		    leaf(DATA + 2, WRITABLE | 7ull << 9 | 1ull << 52 | _PAGE_ACCESSED | _PAGE_DIRTY));
}

static void test_read_only_never_dirty(void **state)
{
	struct world *w = *state;

	*pte(w, VA) = leaf(DATA, READABLE);
	assert_non_null(translate(w, VA, MMU_READ));
	assert_null(translate(w, VA, MMU_WRITE));
	assert_true(*pte(w, VA) == leaf(DATA, READABLE | _PAGE_ACCESSED));
	/* Made writable: the walk finds it, although the TLB has the old entry. */
	*pte(w, VA) |= _PAGE_RW;
	assert_non_null(translate(w, VA, MMU_WRITE));
	assert_true(*pte(w, VA) == leaf(DATA, WRITABLE | _PAGE_ACCESSED | _PAGE_DIRTY));
}

/* What makes dirty tracking need a flush: an entry that was dirty when it was filled stores without setting dirty again. */
static void test_cleaned_entry_stores_silently_until_flushed(void **state)
{
	struct world *w = *state;

	*pte(w, VA) = leaf(DATA, WRITABLE);
	assert_non_null(translate(w, VA, MMU_WRITE));
	*pte(w, VA) &= ~_PAGE_DIRTY;
	assert_non_null(translate(w, VA, MMU_WRITE));
	assert_false(*pte(w, VA) & _PAGE_DIRTY);
	mmu_flush_page(&w->tlb, VA);
	assert_non_null(translate(w, VA, MMU_WRITE));
	assert_true(*pte(w, VA) & _PAGE_DIRTY);
}

/* ---------------------------------------------------------------------------------------- leaf PMDs */

static void test_huge_leaf(void **state)
{
	struct world *w = *state;
	const u64 entry = leaf(HUGE, WRITABLE | _PAGE_PSE);

	*pmd(w, HUGE_VA) = entry;
	assert_ptr_equal(translate(w, HUGE_VA + 0x12345, MMU_READ), frame(w, HUGE) + 0x12345);
	assert_true(*pmd(w, HUGE_VA) == (entry | _PAGE_ACCESSED));
	/* One entry of the TLB serves all of it. */
	assert_ptr_equal(translate(w, HUGE_VA + PMD_SIZE - 1, MMU_READ), frame(w, HUGE) + PMD_SIZE - 1);
	assert_int_equal(w->tlb.nr_miss, 1);
	assert_int_equal(w->tlb.nr_hit, 1);
	assert_ptr_equal(translate(w, HUGE_VA + PAGE_SIZE, MMU_WRITE), frame(w, HUGE) + PAGE_SIZE);
	assert_true(*pmd(w, HUGE_VA) == (entry | _PAGE_ACCESSED | _PAGE_DIRTY));
	assert_int_equal(w->tlb.nr_dirty_assist, 1);
	assert_null(translate(w, HUGE_VA, MMU_EXEC));
	assert_null(translate(w, HUGE_VA + PMD_SIZE, MMU_READ));
	assert_null(translate(w, HUGE_VA - 1, MMU_READ));
}

static void test_huge_leaf_is_flushed_by_any_part(void **state)
{
	struct world *w = *state;
	const u64 parts[][2] = {
		{ 0, PAGE_SIZE }, { PMD_SIZE - PAGE_SIZE, PMD_SIZE }, { 5 * PAGE_SIZE, 9 * PAGE_SIZE }, { 0, PMD_SIZE }
	};

	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		*pmd(w, HUGE_VA) = leaf(HUGE, READABLE | _PAGE_PSE);
		assert_non_null(translate(w, HUGE_VA, MMU_READ));
		*pmd(w, HUGE_VA) = 0;
		assert_non_null(translate(w, HUGE_VA + 7 * PAGE_SIZE, MMU_READ));
		/* Neighbours do not. */
		mmu_flush_range(&w->tlb, HUGE_VA - 4 * PAGE_SIZE, HUGE_VA);
		mmu_flush_page(&w->tlb, HUGE_VA + PMD_SIZE);
		assert_non_null(translate(w, HUGE_VA + 7 * PAGE_SIZE, MMU_READ));
		mmu_flush_range(&w->tlb, HUGE_VA + parts[i][0], HUGE_VA + parts[i][1]);
		assert_null(translate(w, HUGE_VA + 7 * PAGE_SIZE, MMU_READ));
	}
	*pmd(w, HUGE_VA) = leaf(HUGE, READABLE | _PAGE_PSE);
	assert_non_null(translate(w, HUGE_VA, MMU_READ));
	*pmd(w, HUGE_VA) = 0;
	mmu_flush_page(&w->tlb, HUGE_VA + 3 * PAGE_SIZE);
	assert_null(translate(w, HUGE_VA, MMU_READ));
}

/* ---------------------------------------------------------------------------------------- stale entries */

static void map_and_load(struct world *w, unsigned nr)
{
	for (u64 page = 0; page < nr; page++) {
		*pte(w, VA + page * PAGE_SIZE) = leaf(DATA + page, READABLE);
		assert_non_null(translate(w, VA + page * PAGE_SIZE, MMU_READ));
	}
	for (u64 page = 0; page < nr; page++)
		*pte(w, VA + page * PAGE_SIZE) = 0;
}

/* Of the pages that map_and_load unmapped, those of [from, to) are forgotten, and only those. */
static void assert_forgotten(struct world *w, unsigned nr, u64 from, u64 to)
{
	for (u64 page = 0; page < nr; page++) {
		u8 *host = translate(w, VA + page * PAGE_SIZE, MMU_READ);

		if (page >= from && page < to)
			assert_null(host);
		else
			assert_ptr_equal(host, frame(w, DATA + page));
	}
}

static void test_stale_until_flushed(void **state)
{
	struct world *w = *state;

	map_and_load(w, 64);
	/* The tables are empty, and the TLB does not know. */
	assert_forgotten(w, 64, 0, 0);
	mmu_flush_page(&w->tlb, VA + 7 * PAGE_SIZE + 123);
	assert_forgotten(w, 64, 7, 8);
	map_and_load(w, 64);
	mmu_flush_range(&w->tlb, VA + 10 * PAGE_SIZE, VA + 20 * PAGE_SIZE);
	assert_forgotten(w, 64, 10, 20);
	map_and_load(w, 64);
	mmu_flush_all(&w->tlb);
	assert_forgotten(w, 64, 0, 64);
}

static void test_stale_entry_reads_the_old_frame(void **state)
{
	struct world *w = *state;

	*pte(w, VA) = leaf(DATA, WRITABLE);
	assert_ptr_equal(translate(w, VA, MMU_WRITE), frame(w, DATA));
	*pte(w, VA) = leaf(DATA + 1, WRITABLE);
	assert_ptr_equal(translate(w, VA, MMU_WRITE), frame(w, DATA));
	mmu_flush_page(&w->tlb, VA);
	assert_ptr_equal(translate(w, VA, MMU_READ), frame(w, DATA + 1));
}

/* A set has four ways: the fifth page of a set takes the place of one of the others, and only one. */
static void test_ways_and_replacement(void **state)
{
	struct world *w = *state;
	const u64 stride = TLB_SETS * PAGE_SIZE;
	u64 misses;

	for (u64 i = 0; i < 4; i++)
		*pte(w, VA + i * stride) = leaf(DATA + i, READABLE);
	for (u64 i = 0; i < 4; i++)
		assert_non_null(translate(w, VA + i * stride, MMU_READ));
	assert_int_equal(w->tlb.nr_miss, 4);
	for (u64 i = 0; i < 4; i++)
		assert_ptr_equal(translate(w, VA + i * stride, MMU_READ), frame(w, DATA + i));
	assert_int_equal(w->tlb.nr_miss, 4);
	/* The fifth, in the next PTE table's range: the same set. */
	*pmd(w, VA + 4 * stride) = leaf(PTE + 1, TABLE);
	table(w, PTE + 1)[0] = leaf(DATA + 4, READABLE);
	assert_ptr_equal(translate(w, VA + 4 * stride, MMU_READ), frame(w, DATA + 4));
	misses = w->tlb.nr_miss;
	for (u64 i = 0; i < 4; i++)
		*pte(w, VA + i * stride) = 0;
	for (u64 i = 0; i < 4; i++)
		misses += translate(w, VA + i * stride, MMU_READ) == NULL;
	assert_int_equal(misses, w->tlb.nr_miss + 1);
	assert_non_null(translate(w, VA + 4 * stride, MMU_READ));
}

/* A page that was walked twice, for a load and then a store, is in one way only: one flush forgets it. */
static void test_no_duplicates(void **state)
{
	struct world *w = *state;

	for (u64 i = 0; i < 3; i++) {
		u64 va = VA + i * TLB_SETS * PAGE_SIZE;

		*pte(w, va) = leaf(DATA + i, WRITABLE);
		assert_non_null(translate(w, va, MMU_READ));
		assert_non_null(translate(w, va, MMU_WRITE));
		*pte(w, va) = 0;
		mmu_flush_page(&w->tlb, va);
		assert_null(translate(w, va, MMU_READ));
	}
}

#define mmu_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		mmu_test(test_translates_to_the_byte),
		mmu_test(test_faults_where_nothing_is_mapped),
		mmu_test(test_permissions),
		mmu_test(test_upper_levels_restrict),
		mmu_test(test_accessed_and_dirty),
		mmu_test(test_read_only_never_dirty),
		mmu_test(test_cleaned_entry_stores_silently_until_flushed),
		mmu_test(test_huge_leaf),
		mmu_test(test_huge_leaf_is_flushed_by_any_part),
		mmu_test(test_stale_until_flushed),
		mmu_test(test_stale_entry_reads_the_old_frame),
		mmu_test(test_ways_and_replacement),
		mmu_test(test_no_duplicates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
