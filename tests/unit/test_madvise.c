/* SPDX-License-Identifier: MIT */
/* madvise, msync and mincore: errors, holes, which mappings take which advice, and what the advice does. */
#include "calls.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#define TOP 0x7ffffffff000ull

static int advise(struct calls *c, int page, unsigned nr, int advice)
{
	return quire_madvise(c->cpu, (u64)AT(page), nr * P, advice);
}

static void test_arguments(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_madvise(c->cpu, AT(0) + 1, P, MADV_DONTNEED), -EINVAL);
	assert_int_equal(quire_madvise(c->cpu, AT(0), ~0ull, MADV_DONTNEED), -EINVAL);
	assert_int_equal(quire_madvise(c->cpu, AT(0), -P, MADV_DONTNEED), -EINVAL);
	assert_int_equal(quire_madvise(c->cpu, AT(0), P, 99), -EINVAL);
	assert_int_equal(quire_madvise(c->cpu, AT(0), 0, 99), -EINVAL);
	assert_int_equal(quire_madvise(c->cpu, AT(0), 0, MADV_DONTNEED), 0);
	assert_int_equal(quire_madvise(c->cpu, AT(0), P, MADV_DONTNEED), -ENOMEM);
	assert_int_equal(quire_madvise(c->cpu, AT(0), P, -1), -EINVAL);
}

/* Holes are passed over and told at the end. */
static void test_holes(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 2, RW);
	map_anon(c, 4, 2, RW);
	for (unsigned i = 0; i < 6; i = i == 1 ? 4 : i + 1)
		store_page(c, i, 1);
	assert_int_equal(advise(c, 0, 6, MADV_DONTNEED), -ENOMEM);
	assert_resident(c, 0, "00");
	assert_resident(c, 4, "00");
	assert_int_equal(advise(c, -1, 8, MADV_DONTFORK), -ENOMEM);
	assert_int_equal(advise(c, 0, 6, MADV_POPULATE_WRITE), -ENOMEM);
	assert_resident(c, 0, "11");
	assert_resident(c, 4, "00"); /* populating stops at the hole */
}

/* The answers of the kernel for one page of each kind of mapping; 1: not asked here. */
struct advice_row {
	int advice, anonymous, locked, shared_anonymous, readonly_file, private_file, none;
};

static const struct advice_row advice_rows[] = {
	{ MADV_NORMAL, 0, 0, 0, 0, 0, 0 },
	{ MADV_RANDOM, 0, 0, 0, 0, 0, 0 },
	{ MADV_SEQUENTIAL, 0, 0, 0, 0, 0, 0 },
	{ MADV_WILLNEED, 0, 0, 0, 0, 0, 0 },
	{ MADV_DONTNEED, 0, -EINVAL, 0, 0, 0, 0 },
	{ 5, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL },
	{ MADV_FREE, 0, -EINVAL, -EINVAL, -EINVAL, -EINVAL, 0 },
	{ MADV_REMOVE, -EINVAL, -EINVAL, 0, -EACCES, -EACCES, -EINVAL },
	{ MADV_DONTFORK, 0, 0, 0, 0, 0, 0 },
	{ MADV_DOFORK, 0, 0, 0, 0, 0, 0 },
	{ MADV_MERGEABLE, 0, 0, 0, 0, 0, 0 },
	{ MADV_UNMERGEABLE, 0, 0, 0, 0, 0, 0 },
	{ MADV_HUGEPAGE, 0, 0, 0, 0, 0, 0 },
	{ MADV_NOHUGEPAGE, 0, 0, 0, 0, 0, 0 },
	{ MADV_DONTDUMP, 0, 0, 0, 0, 0, 0 },
	{ MADV_DODUMP, 0, 0, 0, 0, 0, 0 },
	{ MADV_WIPEONFORK, 0, 0, -EINVAL, -EINVAL, -EINVAL, 0 },
	{ MADV_KEEPONFORK, 0, 0, 0, 0, 0, 0 },
	{ MADV_COLD, 0, -EINVAL, 0, 0, 0, 0 },
	{ MADV_PAGEOUT, 0, -EINVAL, 0, 0, 0, 0 },
	{ MADV_POPULATE_READ, 0, 0, 0, 0, 0, -EINVAL },
	{ MADV_POPULATE_WRITE, 0, 0, 0, -EINVAL, 0, -EINVAL },
	{ MADV_DONTNEED_LOCKED, 0, 0, 0, 0, 0, 0 },
	{ MADV_GUARD_INSTALL, 0, -EINVAL, 0, 0, 0, 0 },
	{ MADV_GUARD_REMOVE, 0, 0, 0, 0, 0, 0 },
};

static void test_kinds(void **state)
{
	struct calls *c = *state;

	for (size_t i = 0; i < ARRAY_SIZE(advice_rows); i++) {
		const struct advice_row *row = &advice_rows[i];
		const int expected[] = { row->anonymous,     row->locked,	row->shared_anonymous,
					 row->readonly_file, row->private_file, row->none };

		map_anon(c, 0, 1, RW);
		assert_int_equal(quire_mmap(c->cpu, AT(2), P, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0), AT(2));
		assert_int_equal(quire_mmap(c->cpu, AT(4), P, RW, SHANON | MAP_FIXED, NULL, 0), AT(4));
		assert_int_equal(quire_mmap(c->cpu, AT(6), P, PROT_READ, MAP_SHARED | MAP_FIXED, c->readonly, 0),
				 AT(6));
		map_file(c, 8, 1, RW, MAP_PRIVATE, 0);
		map_anon(c, 10, 1, PROT_NONE);
		for (int kind = 0; kind < 6; kind++) {
			int got = advise(c, 2 * kind, 1, row->advice);

			if (got != expected[kind])
				fail_msg("advice %d on kind %d: %d instead of %d", row->advice, kind, got,
					 expected[kind]);
		}
	}
}

/* Flags split and merge VMAs as protections do. */
static void test_flags_merge(void **state)
{
	struct calls *c = *state;
	const int pairs[][2] = { { MADV_RANDOM, MADV_NORMAL },	       { MADV_SEQUENTIAL, MADV_NORMAL },
				 { MADV_DONTFORK, MADV_DOFORK },       { MADV_DONTDUMP, MADV_DODUMP },
				 { MADV_WIPEONFORK, MADV_KEEPONFORK }, { MADV_MERGEABLE, MADV_UNMERGEABLE } };

	map_anon(c, 0, 6, RW);
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		assert_int_equal(advise(c, 2, 2, pairs[i][0]), 0);
		assert_maps(c, "0-2 rw-p; 2-4 rw-p; 4-6 rw-p");
		assert_int_equal(advise(c, 0, 6, pairs[i][0]), 0);
		assert_maps(c, "0-6 rw-p");
		assert_int_equal(advise(c, 0, 3, pairs[i][1]), 0);
		assert_maps(c, "0-3 rw-p; 3-6 rw-p");
		assert_int_equal(advise(c, 3, 3, pairs[i][1]), 0);
		assert_maps(c, "0-6 rw-p");
	}
	assert_int_equal(advise(c, 0, 6, MADV_HUGEPAGE), 0);
	assert_int_equal(advise(c, 0, 3, MADV_NOHUGEPAGE), 0);
	assert_maps(c, "0-3 rw-p; 3-6 rw-p");
}

static void test_dontneed(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 2, RW);
	map_file(c, 2, 2, RW, MAP_SHARED, 0);
	map_file(c, 4, 2, RW, MAP_PRIVATE, 0);
	store_page(c, 2, 7);
	store_page(c, 0, 5);
	store_page(c, 4, 6);
	assert_int_equal(advise(c, 0, 6, MADV_DONTNEED), 0);
	assert_int_equal(load_page(c, 0), 0);
	assert_int_equal(load_page(c, 2), 7); /* the file has it */
	assert_int_equal(load_page(c, 4), 7); /* the private copy is gone */
}

static void test_remove(void **state)
{
	struct calls *c = *state;

	map_file(c, 0, 4, RW, MAP_SHARED, 2);
	for (unsigned i = 0; i < 4; i++)
		store_page(c, i, 9);
	assert_int_equal(advise(c, 1, 2, MADV_REMOVE), 0);
	assert_int_equal(load_page(c, 0), 9);
	assert_int_equal(load_page(c, 1), 0);
	assert_int_equal(load_page(c, 2), 0);
	assert_int_equal(load_page(c, 3), 9);
	assert_int_equal(quire_file_size(c->file), FILE_PAGES * P);
	map_anon(c, 6, 2, RW);
	assert_int_equal(advise(c, 3, 5, MADV_REMOVE), -EINVAL); /* stops there, with the part before done */
	assert_int_equal(load_page(c, 3), 0);
}

static void test_populate(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	assert_int_equal(advise(c, 0, 2, MADV_POPULATE_READ), 0);
	assert_int_equal(advise(c, 2, 2, MADV_POPULATE_WRITE), 0);
	assert_resident(c, 0, "1111");
	map_anon(c, 4, 2, PROT_WRITE);
	assert_int_equal(advise(c, 4, 2, MADV_POPULATE_READ), -EINVAL);
	assert_int_equal(advise(c, 4, 2, MADV_POPULATE_WRITE), 0);
	map_anon(c, 6, 1, PROT_EXEC);
	assert_int_equal(advise(c, 6, 1, MADV_POPULATE_READ), -EINVAL);
	map_file(c, 8, 4, RW, MAP_SHARED, FILE_PAGES - 2);
	assert_int_equal(advise(c, 8, 4, MADV_POPULATE_READ), -EFAULT); /* SIGBUS */
	assert_resident(c, 8, "1100");
}

/* ---------------------------------------------------------------------------------------- guard regions */

static void test_guard(void **state)
{
	struct calls *c = *state;
	struct quire_fault fault;

	map_anon(c, 0, 4, RW);
	store_page(c, 1, 5);
	assert_int_equal(advise(c, 1, 1, MADV_GUARD_INSTALL), 0);
	assert_maps(c, "0-4 rw-p");
	assert_int_equal(load_page(c, 1), -EFAULT);
	quire_cpu_fault(c->cpu, &fault);
	assert_int_equal(fault.signo, 11);
	assert_int_equal(fault.code, 1); /* SEGV_MAPERR */
	assert_int_equal(advise(c, 0, 4, MADV_POPULATE_WRITE), -EFAULT);
	assert_int_equal(advise(c, 0, 4, MADV_DONTNEED), 0); /* guards stay */
	assert_int_equal(load_page(c, 1), -EFAULT);
	assert_int_equal(load_page(c, 2), 0);
	map_anon(c, 4, 2, RW); /* merging does not lose the mark */
	assert_maps(c, "0-6 rw-p");
	assert_int_equal(advise(c, 0, 4, MADV_GUARD_REMOVE), 0);
	assert_int_equal(load_page(c, 1), 0);
}

/* Guards are inherited, of files too, where there is no private page that would make fork look at the tables. */
static void test_guard_fork(void **state)
{
	struct calls *c = *state;
	struct quire_mm *child;

	map_anon(c, 0, 2, RW);
	map_file(c, 4, 2, RW, MAP_SHARED, 0);
	map_file(c, 8, 2, RW, MAP_PRIVATE, 0);
	map_anon(c, 12, 2, RW);
	assert_int_equal(advise(c, 12, 2, MADV_WIPEONFORK), 0);
	for (int page = 0; page <= 12; page += 4)
		assert_int_equal(advise(c, page, 1, MADV_GUARD_INSTALL), 0);
	assert_int_equal(quire_fork(c->cpu, &child), 0);
	quire_cpu_run(c->cpu, child);
	for (unsigned page = 0; page < 12; page += 4) {
		assert_int_equal(load_page(c, page), -EFAULT);
		assert_int_equal(load_page(c, page + 1), 0);
	}
	assert_int_equal(load_page(c, 12), 0); /* wiped, guards and all */
	calls_validate(c);
	quire_cpu_run(c->cpu, c->mm);
	quire_mm_put(c->cpu, child);
	assert_int_equal(load_page(c, 12), -EFAULT);
}

/* A file's mapping with guards has no anon_vma, so it can be merged with one that has. */
static void test_guard_file_merges(void **state)
{
	struct calls *c = *state;

	map_file(c, 0, 2, RW, MAP_PRIVATE, 0);
	store_page(c, 0, 1);
	map_file(c, 100, 2, RW, MAP_PRIVATE, 2);
	assert_int_equal(advise(c, 100, 1, MADV_GUARD_INSTALL), 0);
	assert_int_equal(quire_mremap(c->cpu, AT(100), 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, AT(2)), AT(2));
	assert_maps(c, "0-4 rw-p@0");
	assert_int_equal(load_page(c, 2), -EFAULT);
	assert_int_equal(load_page(c, 3), 0);
}

/* ---------------------------------------------------------------------------------------- msync, mincore */

static void test_msync(void **state)
{
	struct calls *c = *state;

	map_file(c, 0, 4, RW, MAP_SHARED, 0);
	map_anon(c, 6, 2, RW);
	assert_int_equal(quire_msync(c->cpu, AT(0), 4 * P, 0), 0);
	assert_int_equal(quire_msync(c->cpu, AT(0), 4 * P, MS_ASYNC | MS_INVALIDATE), 0);
	assert_int_equal(quire_msync(c->cpu, AT(0), 4 * P, MS_ASYNC | MS_SYNC), -EINVAL);
	assert_int_equal(quire_msync(c->cpu, AT(0), 4 * P, 8), -EINVAL);
	assert_int_equal(quire_msync(c->cpu, AT(0) + 1, P, MS_SYNC), -EINVAL);
	assert_int_equal(quire_msync(c->cpu, AT(0), ~0ull, MS_SYNC), 0); /* rounds up to nothing */
	assert_int_equal(quire_msync(c->cpu, AT(0), -P, MS_SYNC), -ENOMEM);
	for (int flags = 0; flags < 5; flags += flags ? 3 : 1)
		assert_int_equal(quire_msync(c->cpu, AT(0), 8 * P, flags), -ENOMEM); /* a hole */
	assert_int_equal(quire_mlock(c->cpu, AT(1), P), 0);
	assert_int_equal(quire_msync(c->cpu, AT(0), 4 * P, MS_SYNC | MS_INVALIDATE), -EBUSY);
	assert_int_equal(quire_msync(c->cpu, AT(-1), 4 * P, MS_SYNC | MS_INVALIDATE), -EBUSY);
}

static void test_mincore(void **state)
{
	struct calls *c = *state;
	unsigned char vec[8] = { 9, 9, 9, 9, 9, 9, 9, 9 };

	assert_int_equal(quire_mincore(c->cpu, AT(0) + 1, P, vec), -EINVAL);
	assert_int_equal(quire_mincore(c->cpu, AT(0), 0, vec), 0);
	assert_int_equal(quire_mincore(c->cpu, AT(0), ~0ull, vec), -ENOMEM);
	assert_int_equal(quire_mincore(c->cpu, TOP, 0, vec), 0);
	assert_int_equal(quire_mincore(c->cpu, TOP, P, vec), -ENOMEM);
	assert_int_equal(quire_mincore(c->cpu, AT(0), P, vec), -ENOMEM);
	map_anon(c, 0, 4, RW);
	assert_int_equal(quire_mincore(c->cpu, AT(0), P, NULL), -EFAULT);
	store_page(c, 1, 1);
	assert_int_equal(load_page(c, 2), 0);
	assert_int_equal(quire_mincore(c->cpu, AT(0), 5 * P, vec), -ENOMEM); /* with what is before the hole told */
	assert_memory_equal(vec, "\0\1\1\0\11\11\11\11", 8);
	assert_int_equal(quire_mincore(c->cpu, AT(0), 4 * P - 1, vec), 0);
	map_file(c, 0, 4, RW, MAP_PRIVATE, 0);
	assert_resident(c, 0, "0000");
	assert_int_equal(load_page(c, 0), 0);
	store_page(c, 1, 1);
	assert_resident(c, 0, "1100");
	assert_int_equal(advise(c, 0, 2, MADV_DONTNEED), 0);
	assert_resident(c, 0, "1100"); /* the file's cache has them */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALLS_TEST(test_arguments),	    CALLS_TEST(test_holes),    CALLS_TEST(test_kinds),
		CALLS_TEST(test_flags_merge),	    CALLS_TEST(test_dontneed), CALLS_TEST(test_remove),
		CALLS_TEST(test_populate),	    CALLS_TEST(test_guard),    CALLS_TEST(test_guard_fork),
		CALLS_TEST(test_guard_file_merges), CALLS_TEST(test_msync),    CALLS_TEST(test_mincore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
