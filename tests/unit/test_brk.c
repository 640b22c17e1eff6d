/* SPDX-License-Identifier: MIT */
/* The two mappings that grow by themselves: the heap, by brk, and stacks, by faults. */
#include "calls.h"

#define GAP 256 /* pages that must stay free below a stack */

static void test_brk_moves(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_brk(c->cpu, AT(4)), 0); /* no heap */
	assert_int_equal(quire_mm_set_brk(c->cpu, c->mm, AT(0)), 0);
	assert_int_equal(quire_brk(c->cpu, 0), AT(0));
	assert_int_equal(quire_brk(c->cpu, AT(-1)), AT(0));
	assert_int_equal(quire_brk(c->cpu, AT(0) + 10), AT(0) + 10);
	assert_maps(c, "0-1 rw-p");
	assert_non_null(strstr(calls_maps(c), "[heap]"));
	assert_int_equal(quire_brk(c->cpu, AT(1)), AT(1)); /* within the page */
	store_page(c, 0, 7);
	assert_int_equal(quire_brk(c->cpu, AT(4)), AT(4));
	assert_maps(c, "0-4 rw-p");
	store_page(c, 3, 8);
	assert_int_equal(quire_brk(c->cpu, AT(1) - 5), AT(1) - 5);
	assert_maps(c, "0-1 rw-p");
	assert_int_equal(quire_brk(c->cpu, AT(4)), AT(4));
	assert_int_equal(load_page(c, 0), 7);
	assert_int_equal(load_page(c, 3), 0);
	assert_int_equal(quire_brk(c->cpu, AT(0)), AT(0));
	assert_maps(c, "");
}

static void test_brk_refused(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mm_set_brk(c->cpu, c->mm, AT(0)), 0);
	assert_int_equal(quire_brk(c->cpu, AT(2)), AT(2));
	assert_int_equal(quire_brk(c->cpu, ~0ull), AT(2));
	assert_int_equal(quire_brk(c->cpu, 0x7ffffffff001ull), AT(2));
	map_anon(c, 8, 1, RW);
	assert_int_equal(quire_brk(c->cpu, AT(9)), AT(2)); /* something is there */
	assert_int_equal(quire_brk(c->cpu, AT(8)), AT(2)); /* a page must stay between */
	assert_int_equal(quire_brk(c->cpu, AT(7)), AT(7));
	assert_int_equal(quire_munmap(c->cpu, AT(0), 16 * P), 0);
	assert_int_equal(quire_brk(c->cpu, AT(3)), AT(7)); /* nothing of what goes is mapped */
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_DATA, 9 * P), 0);
	assert_int_equal(quire_brk(c->cpu, AT(10)), AT(7));
	assert_int_equal(quire_brk(c->cpu, AT(9)), AT(9));
	assert_maps(c, "7-9 rw-p");
	assert_int_equal(quire_mseal(c->cpu, AT(7), P, 0), 0);
	assert_int_equal(quire_brk(c->cpu, AT(7)), AT(9));
	assert_int_equal(quire_mmap(c->cpu, AT(300), P, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, NULL, 0), AT(300));
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_DATA, UINT64_MAX), 0);
	assert_int_equal(quire_brk(c->cpu, AT(300 - GAP)), AT(9)); /* the gap of a stack, and a page */
	assert_int_equal(quire_brk(c->cpu, AT(300 - GAP - 1)), AT(300 - GAP - 1));
}

/* The heap grows by its own VMA, does not join what lies before its start, and is locked when all that is new is. */
static void test_brk_mappings(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	assert_int_equal(quire_mm_set_brk(c->cpu, c->mm, AT(4)), 0);
	assert_int_equal(quire_brk(c->cpu, AT(6)), AT(6));
	assert_maps(c, "0-4 rw-p; 4-6 rw-p");
	assert_int_equal(quire_mprotect(c->cpu, AT(5), P, PROT_READ), 0);
	assert_int_equal(quire_brk(c->cpu, AT(8)), AT(8));
	assert_maps(c, "0-4 rw-p; 4-5 rw-p; 5-6 r--p; 6-8 rw-p");
	assert_int_equal(quire_brk(c->cpu, AT(5)), AT(5)); /* takes all of it */
	assert_int_equal(quire_mlockall(c->cpu, MCL_FUTURE), 0);
	assert_int_equal(quire_brk(c->cpu, AT(7)), AT(7));
	assert_resident(c, 4, "011");
	assert_int_equal(locked_pages(c), 2);
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_MEMLOCK, 3 * P), 0);
	assert_int_equal(quire_brk(c->cpu, AT(9)), AT(7));
	assert_int_equal(quire_brk(c->cpu, AT(8)), AT(8));
}

/* ---------------------------------------------------------------------------------------- stacks */

static void map_stack(struct calls *c, unsigned page)
{
	assert_int_equal(quire_mmap(c->cpu, AT(page), P, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, NULL, 0), AT(page));
}

static void test_stack_grows(void **state)
{
	struct calls *c = *state;
	struct quire_fault fault;

	map_stack(c, 1000);
	store_page(c, 999, 1);
	store_page(c, 990, 2);
	assert_maps(c, "990-1001 rw-p");
	assert_int_equal(load_page(c, 980), 0); /* reading, too */
	assert_maps(c, "980-1001 rw-p");
	assert_int_equal(load_page(c, 990), 2);
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_STACK, 30 * P), 0);
	assert_int_equal(load_page(c, 970), -EFAULT);
	quire_cpu_fault(c->cpu, &fault);
	assert_int_equal(fault.signo, 11);
	assert_int_equal(fault.code, 1);
	assert_int_equal(load_page(c, 971), 0);
	assert_maps(c, "971-1001 rw-p");
}

/* An accessible neighbour is kept at a distance; one that cannot be accessed is a guard itself. */
static void test_stack_gap(void **state)
{
	struct calls *c = *state;

	map_stack(c, 1000);
	map_anon(c, 600, 1, PROT_READ);
	store_page(c, 601 + GAP, 1);
	assert_int_equal(load_page(c, 600 + GAP), -EFAULT);
	assert_int_equal(quire_mprotect(c->cpu, AT(600), P, PROT_NONE), 0);
	store_page(c, 600 + GAP, 1);
	store_page(c, 601, 1);
	assert_maps(c, "600-601 ---p; 601-1001 rw-p");
	assert_int_equal(load_page(c, 599), -EFAULT);
	map_stack(c, 5000);
	map_stack(c, 4900);
	store_page(c, 4901, 1); /* down to another stack */
	assert_maps(c, "600-601 ---p; 601-1001 rw-p; 4900-4901 rw-p; 4901-5001 rw-p");
}

static void test_stack_limits(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mmap(c->cpu, AT(1000), P, RW, ANON | MAP_FIXED | MAP_GROWSDOWN | MAP_LOCKED, NULL, 0),
			 AT(1000));
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_MEMLOCK, 3 * P), 0);
	store_page(c, 998, 1);
	assert_int_equal(locked_pages(c), 3);
	assert_int_equal(load_page(c, 997), -EFAULT);
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_MEMLOCK, UINT64_MAX), 0);
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_AS, 4 * P), 0);
	assert_int_equal(load_page(c, 996), -EFAULT);
	assert_int_equal(load_page(c, 997), 0);
	assert_int_equal(total_pages(c), 4);
	/* Nothing is below mmap_min_addr, and a mapping that does not grow is not grown into. */
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_AS, UINT64_MAX), 0);
	map_anon(c, 10, 1, RW);
	assert_int_equal(load_page(c, 9), -EFAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALLS_TEST(test_brk_moves),   CALLS_TEST(test_brk_refused), CALLS_TEST(test_brk_mappings),
		CALLS_TEST(test_stack_grows), CALLS_TEST(test_stack_gap),   CALLS_TEST(test_stack_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
