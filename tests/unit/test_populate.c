/* SPDX-License-Identifier: MIT */
/*
 * Populating and zapping in batches: what whole batches do must be what one fault or one page after the other does, whatever
 * lies between the pages, and every count must be right afterwards.
 */
#include "calls.h"

#define PAGES 150u /* more than any batch, and no multiple of one */

static int populate(struct calls *c, int page, u64 nr, int advice)
{
	return quire_madvise(c->cpu, (u64)AT(page), nr * P, advice);
}

/* A child that has a copy of everything, for the pages to be shared with. */
static struct quire_mm *fork_child(struct calls *c)
{
	struct quire_mm *child;

	assert_int_equal(quire_fork(c->cpu, &child), 0);
	return child;
}

static void run_in(struct calls *c, struct quire_mm *mm)
{
	quire_cpu_run(c->cpu, mm);
}

/* Every page of the child holds what the parent had stored before the fork. */
static void assert_child_pages(struct calls *c, struct quire_mm *child, unsigned first, unsigned nr)
{
	run_in(c, child);
	for (unsigned i = first; i < first + nr; i++)
		assert_int_equal(load_page(c, i), i % 251);
	run_in(c, c->mm);
}

static void fill(struct calls *c, unsigned first, unsigned nr)
{
	for (unsigned i = first; i < first + nr; i++)
		store_page(c, i, (u8)(i % 251));
}

static void test_copies_a_batch(void **state)
{
	struct calls *c = *state;
	struct quire_stat before, after;
	struct quire_mm *child;

	map_anon(c, 0, PAGES, RW);
	fill(c, 0, PAGES);
	child = fork_child(c);
	quire_stat(c->cpu, &before);
	assert_int_equal(populate(c, 0, PAGES, MADV_POPULATE_WRITE), 0);
	quire_stat(c->cpu, &after);
	assert_int_equal(after.fault_cow_copy - before.fault_cow_copy, PAGES);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(load_page(c, i), i % 251);
		store_page(c, i, 255);
	}
	assert_child_pages(c, child, 0, PAGES);
	calls_validate(c);
	/* Everything is writable: nothing is left to do. */
	before = after;
	assert_int_equal(populate(c, 0, PAGES, MADV_POPULATE_WRITE), 0);
	quire_stat(c->cpu, &after);
	assert_int_equal(after.fault_cow_copy, before.fault_cow_copy);
	quire_mm_put(c->cpu, child);
}

static void test_reuses_what_is_its_own(void **state)
{
	struct calls *c = *state;
	struct quire_stat before, after;

	map_anon(c, 0, PAGES, RW);
	fill(c, 0, PAGES);
	quire_mm_put(c->cpu, fork_child(c));
	quire_stat(c->cpu, &before);
	assert_int_equal(populate(c, 0, PAGES, MADV_POPULATE_WRITE), 0);
	quire_stat(c->cpu, &after);
	assert_int_equal(after.fault_cow_copy, before.fault_cow_copy);
	assert_int_equal(after.fault_cow_reuse - before.fault_cow_reuse, PAGES);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(load_page(c, i), i % 251);
}

/* Shared, own, zero page, hole, guard, and pages of a file, in turn. */
static void test_mixed_batch(void **state)
{
	struct calls *c = *state;
	struct quire_stat before, after;
	struct quire_mm *child;
	u8 byte = 0;

	map_anon(c, 0, 48, RW);
	fill(c, 0, 16);
	child = fork_child(c);
	for (unsigned i = 1; i < 16; i += 4)
		store_page(c, i, (u8)(i % 251)); /* copied already: the parent's own */
	for (unsigned i = 16; i < 32; i += 2)
		assert_int_equal(load_page(c, i), 0); /* the zero page, and holes between */
	quire_stat(c->cpu, &before);
	assert_int_equal(populate(c, 0, 48, MADV_POPULATE_WRITE), 0);
	quire_stat(c->cpu, &after);
	assert_int_equal(after.fault_cow_copy - before.fault_cow_copy, 12);
	for (unsigned i = 0; i < 48; i++)
		assert_int_equal(load_page(c, i), i < 16 ? i : 0);
	assert_child_pages(c, child, 0, 16);
	assert_int_equal(populate(c, 40, 2, 102 /* GUARD_INSTALL */), 0);
	assert_int_equal(populate(c, 0, 48, MADV_POPULATE_WRITE), -EFAULT);
	assert_int_equal(quire_load(c->cpu, (u64)AT(40), &byte, 1), -EFAULT);
	calls_validate(c);
	quire_mm_put(c->cpu, child);
}

static void test_copies_pages_of_a_file(void **state)
{
	struct calls *c = *state;
	struct quire_stat before, after;
	u8 byte = 7;

	assert_int_equal(quire_file_write(c->cpu, c->file, 3 * P, &byte, 1), 1);
	assert_int_equal(quire_mmap(c->cpu, AT(0), FILE_PAGES * P, RW, MAP_PRIVATE | MAP_FIXED, c->file, 0), AT(0));
	assert_int_equal(populate(c, 0, FILE_PAGES, MADV_POPULATE_READ), 0);
	quire_stat(c->cpu, &before);
	assert_int_equal(populate(c, 0, FILE_PAGES, MADV_POPULATE_WRITE), 0);
	quire_stat(c->cpu, &after);
	assert_int_equal(after.fault_cow_file - before.fault_cow_file, FILE_PAGES);
	assert_int_equal(load_page(c, 3), 7);
	store_page(c, 3, 8);
	assert_int_equal(quire_file_read(c->cpu, c->file, 3 * P, &byte, 1), 1);
	assert_int_equal(byte, 7);
	calls_validate(c);
}

/* Zapping in batches: own pages, shared ones, and in which order they go. */
static void test_zaps_own_and_shared(void **state)
{
	struct calls *c = *state;
	struct quire_mm_stat stat;
	struct quire_mm *child;

	map_anon(c, 0, PAGES, RW);
	fill(c, 0, PAGES);
	child = fork_child(c);
	assert_int_equal(populate(c, 0, PAGES / 2, MADV_POPULATE_WRITE), 0);
	assert_int_equal(quire_madvise(c->cpu, (u64)AT(0), PAGES * P, MADV_DONTNEED), 0);
	quire_mm_stat(c->cpu, c->mm, &stat);
	assert_int_equal(stat.rss_anon, 0);
	calls_validate(c);
	assert_child_pages(c, child, 0, PAGES);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(load_page(c, i), 0);
	/* Now the child is the only owner, and goes: every page with it. */
	quire_mm_put(c->cpu, child);
	calls_validate(c);
}

/* Memory runs out in the middle of a batch: what was done stays, everything counts right. */
static void test_no_memory(void **state)
{
	struct calls *c = *state;
	struct quire_mm *child;
	int ret;

	map_anon(c, 0, 6000, RW); /* of 8192 pages that there are */
	assert_int_equal(populate(c, 0, 6000, MADV_POPULATE_WRITE), 0);
	fill(c, 0, 100);
	child = fork_child(c);
	ret = populate(c, 0, 6000, MADV_POPULATE_WRITE);
	assert_int_equal(ret, -ENOMEM);
	assert_child_pages(c, child, 0, 100);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(load_page(c, i), i % 251);
	quire_mm_put(c->cpu, child);
	assert_int_equal(populate(c, 0, 6000, MADV_POPULATE_WRITE), 0);
	calls_validate(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALLS_TEST(test_copies_a_batch),      CALLS_TEST(test_reuses_what_is_its_own),
		CALLS_TEST(test_mixed_batch),	      CALLS_TEST(test_copies_pages_of_a_file),
		CALLS_TEST(test_zaps_own_and_shared), CALLS_TEST(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
