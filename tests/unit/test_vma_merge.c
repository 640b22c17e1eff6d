/* SPDX-License-Identifier: MIT */
/*
 * Merging and splitting, case by case as the table in vma_merge.c has them, seen through the text of maps. Each case is also
 * what the Linux kernel shows.
 */
#include "calls.h"

static void protect(struct calls *c, unsigned page, unsigned nr, int prot)
{
	assert_int_equal(quire_mprotect(c->cpu, AT(page), nr * P, prot), 0);
}

/* ---------------------------------------------------------------------------------------- new ranges */

static void test_new_range(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	map_anon(c, 4, 4, RW); /* left */
	assert_maps(c, "0-8 rw-p");
	map_anon(c, 12, 4, RW);
	map_anon(c, 10, 2, RW); /* right */
	assert_maps(c, "0-8 rw-p; 10-16 rw-p");
	map_anon(c, 8, 2, RW); /* both */
	assert_maps(c, "0-16 rw-p");
	map_anon(c, 16, 4, PROT_READ); /* other flags */
	assert_maps(c, "0-16 rw-p; 16-20 r--p");
}

static void test_new_range_over_old(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 12, RW);
	map_anon(c, 4, 4, PROT_READ);
	assert_maps(c, "0-4 rw-p; 4-8 r--p; 8-12 rw-p");
	map_anon(c, 4, 4, RW); /* takes the place of the other, and joins both neighbours */
	assert_maps(c, "0-12 rw-p");
	map_anon(c, 2, 8, PROT_NONE);
	map_anon(c, 1, 10, RW); /* three VMAs go, wholly or in part */
	assert_maps(c, "0-12 rw-p");
}

static void test_new_range_of_file(void **state)
{
	struct calls *c = *state;

	map_file(c, 0, 4, RW, MAP_SHARED, 0);
	map_file(c, 4, 4, RW, MAP_SHARED, 4);
	assert_maps(c, "0-8 rw-s@0");
	map_file(c, 8, 4, RW, MAP_SHARED, 9); /* offsets do not run on */
	map_file(c, 12, 4, RW, MAP_PRIVATE, 13);
	assert_maps(c, "0-8 rw-s@0; 8-12 rw-s@9; 12-16 rw-p@13");
	assert_int_equal(quire_mmap(c->cpu, AT(16), 4 * P, RW, MAP_PRIVATE | MAP_FIXED, c->readonly, 17 * P), AT(16));
	assert_maps(c, "0-8 rw-s@0; 8-12 rw-s@9; 12-16 rw-p@13; 16-20 rw-p@17"); /* another file */
	map_file(c, 4, 4, RW, MAP_SHARED, 5);
	assert_maps(c, "0-4 rw-s@0; 4-12 rw-s@5; 12-16 rw-p@13; 16-20 rw-p@17");
}

/* Shared anonymous mappings are files of their own and never one. */
static void test_shared_anonymous(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mmap(c->cpu, AT(0), 4 * P, RW, SHANON | MAP_FIXED, NULL, 0), AT(0));
	assert_int_equal(quire_mmap(c->cpu, AT(4), 4 * P, RW, SHANON | MAP_FIXED, NULL, 0), AT(4));
	assert_maps(c, "0-4 rw-s@0; 4-8 rw-s@0");
	assert_non_null(strstr(calls_maps(c), "/dev/zero (deleted)"));
	protect(c, 1, 1, PROT_READ);
	assert_maps(c, "0-1 rw-s@0; 1-2 r--s@1; 2-4 rw-s@2; 4-8 rw-s@0");
	protect(c, 1, 1, RW);
	assert_maps(c, "0-4 rw-s@0; 4-8 rw-s@0");
}

/* ---------------------------------------------------------------------------------------- changed ranges */

static void test_modify_whole(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	map_anon(c, 4, 4, PROT_READ);
	map_anon(c, 8, 4, RW);
	protect(c, 4, 4, RW); /* all of M, both neighbours */
	assert_maps(c, "0-12 rw-p");
	protect(c, 8, 4, PROT_NONE);
	protect(c, 4, 4, PROT_READ);
	protect(c, 4, 4, RW); /* all of M, left */
	assert_maps(c, "0-8 rw-p; 8-12 ---p");
	protect(c, 4, 4, PROT_READ);
	protect(c, 4, 4, PROT_NONE); /* all of M, right */
	assert_maps(c, "0-4 rw-p; 4-12 ---p");
}

static void test_modify_part(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	map_anon(c, 4, 8, PROT_READ);
	map_anon(c, 12, 4, RW);
	protect(c, 4, 2, RW); /* the lower boundary moves up */
	assert_maps(c, "0-6 rw-p; 6-12 r--p; 12-16 rw-p");
	protect(c, 10, 2, RW); /* the upper moves down */
	assert_maps(c, "0-6 rw-p; 6-10 r--p; 10-16 rw-p");
	protect(c, 7, 2, RW); /* no neighbour touches: three parts */
	assert_maps(c, "0-6 rw-p; 6-7 r--p; 7-9 rw-p; 9-10 r--p; 10-16 rw-p");
	protect(c, 2, 12, PROT_NONE); /* across five VMAs */
	assert_maps(c, "0-2 rw-p; 2-14 ---p; 14-16 rw-p");
	protect(c, 0, 16, RW);
	assert_maps(c, "0-16 rw-p");
}

static void test_modify_file(void **state)
{
	struct calls *c = *state;

	map_file(c, 0, 12, RW, MAP_SHARED, 3);
	protect(c, 4, 4, PROT_READ);
	assert_maps(c, "0-4 rw-s@3; 4-8 r--s@7; 8-12 rw-s@11");
	store_page(c, 0, 1);
	store_page(c, 11, 2);
	protect(c, 6, 2, RW);
	assert_maps(c, "0-4 rw-s@3; 4-6 r--s@7; 6-12 rw-s@9");
	protect(c, 4, 2, RW);
	assert_maps(c, "0-12 rw-s@3");
	assert_int_equal(load_page(c, 0), 1);
	assert_int_equal(load_page(c, 11), 2);
}

/* Memory contents stay with their addresses through splits and merges. */
static void test_contents(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 16, RW);
	for (unsigned i = 0; i < 16; i++)
		store_page(c, i, (unsigned char)(i + 1));
	for (unsigned i = 0; i < 16; i += 2)
		protect(c, i, 1, PROT_READ);
	calls_validate(c);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(load_page(c, i), i + 1);
	protect(c, 0, 16, RW);
	assert_maps(c, "0-16 rw-p");
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(load_page(c, i), i + 1);
}

/* ---------------------------------------------------------------------------------------- anon_vmas */

/* Two mappings touched apart from each other have anon_vmas of their own and stay two. */
static void test_different_anon_vmas(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	map_anon(c, 8, 4, RW);
	store_page(c, 0, 1);
	store_page(c, 8, 2);
	map_anon(c, 4, 4, RW); /* fits each of them, but they do not fit each other */
	assert_maps(c, "0-8 rw-p; 8-12 rw-p");
	assert_int_equal(load_page(c, 8), 2);
}

/* An untouched neighbour takes over the anon_vma of the touched one. */
static void test_untouched_joins_touched(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	map_anon(c, 4, 4, PROT_READ);
	map_anon(c, 8, 4, RW);
	store_page(c, 8, 9);
	protect(c, 4, 4, RW); /* prev has no anon_vma, next has: it is cloned */
	assert_maps(c, "0-12 rw-p");
	calls_validate(c);
	assert_int_equal(load_page(c, 8), 9);
	protect(c, 8, 4, PROT_READ);
	protect(c, 0, 8, PROT_NONE);
	protect(c, 0, 4, RW);
	assert_maps(c, "0-4 rw-p; 4-8 ---p; 8-12 r--p");
	calls_validate(c);
}

/* Touched while split, the parts share one anon_vma and can be one again. */
static void test_adopted_anon_vma(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	map_anon(c, 4, 4, PROT_READ | PROT_WRITE | PROT_EXEC);
	store_page(c, 0, 1);
	store_page(c, 4, 2);
	protect(c, 4, 4, RW);
	assert_maps(c, "0-8 rw-p");
	assert_int_equal(load_page(c, 0), 1);
	assert_int_equal(load_page(c, 4), 2);
}

/* A fork's child does not spread its family's anon_vmas over memory that was never touched. */
static void test_fork_child_does_not_merge(void **state)
{
	struct calls *c = *state;
	struct quire_mm *parent = c->mm;

	map_anon(c, 0, 4, RW);
	store_page(c, 0, 1);
	assert_int_equal(quire_fork(c->cpu, &c->mm), 0);
	quire_cpu_run(c->cpu, c->mm);
	map_anon(c, 4, 4, RW);
	assert_maps(c, "0-4 rw-p; 4-8 rw-p");
	assert_int_equal(quire_mremap(c->cpu, AT(0), 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, AT(100)), AT(100));
	assert_int_equal(load_page(c, 100), 1);
	calls_validate(c);
	quire_cpu_run(c->cpu, parent);
	quire_mm_put(c->cpu, c->mm);
	c->mm = parent;
	map_anon(c, 4, 4, RW);
	assert_maps(c, "0-8 rw-p"); /* the parent's chain is its own alone */
}

/* ---------------------------------------------------------------------------------------- limits */

/* At the limit on mappings nothing may be split, but whole mappings may go. */
static void test_map_count(void **state)
{
	struct calls *c = *state;
	const unsigned max = 65530;
	long ret = 0;

	map_anon(c, 0, 8, RW);
	for (unsigned i = 0; ret >= 0 && i < max + 2; i++)
		ret = quire_mmap(c->cpu, AT(16 + 2 * i), P, RW, ANON | MAP_FIXED, NULL, 0);
	assert_int_equal(ret, -ENOMEM);
	assert_int_equal(quire_munmap(c->cpu, AT(1), P), -ENOMEM);
	assert_int_equal(quire_mprotect(c->cpu, AT(1), P, PROT_READ), -ENOMEM);
	assert_int_equal(quire_madvise(c->cpu, AT(1), P, MADV_DONTFORK), -EAGAIN);
	assert_int_equal(quire_mlock(c->cpu, AT(1), P), -ENOMEM);
	assert_int_equal(quire_munmap(c->cpu, AT(0), P), 0);
	assert_int_equal(quire_munmap(c->cpu, AT(16), P), 0);
	assert_int_equal(quire_munmap(c->cpu, AT(18), P), 0);
	assert_int_equal(quire_mprotect(c->cpu, AT(2), P, PROT_READ), -ENOMEM); /* one split of two */
	assert_int_equal(quire_munmap(c->cpu, AT(16), 2 * (u64)max * P), 0);
	assert_maps(c, "1-2 rw-p; 2-8 rw-p");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALLS_TEST(test_new_range),	      CALLS_TEST(test_new_range_over_old),
		CALLS_TEST(test_new_range_of_file),   CALLS_TEST(test_shared_anonymous),
		CALLS_TEST(test_modify_whole),	      CALLS_TEST(test_modify_part),
		CALLS_TEST(test_modify_file),	      CALLS_TEST(test_contents),
		CALLS_TEST(test_different_anon_vmas), CALLS_TEST(test_untouched_joins_touched),
		CALLS_TEST(test_adopted_anon_vma),    CALLS_TEST(test_fork_child_does_not_merge),
		CALLS_TEST(test_map_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
