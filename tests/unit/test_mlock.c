/* SPDX-License-Identifier: MIT */
/* mlock, mlock2, munlock, mlockall, munlockall: errors, limits, what becomes resident, and the sum of locked pages. */
#include "calls.h"

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif

static void test_ranges(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	map_anon(c, 6, 2, PROT_READ);
	assert_int_equal(quire_mlock(c->cpu, AT(0) + 123, P), 0); /* two pages */
	assert_int_equal(locked_pages(c), 2);
	assert_resident(c, 0, "1100");
	assert_int_equal(quire_mlock(c->cpu, AT(0), 8 * P), -ENOMEM); /* a hole: locked up to it */
	assert_int_equal(locked_pages(c), 4);
	assert_int_equal(quire_mlock(c->cpu, AT(8), 0), 0);
	assert_int_equal(quire_mlock(c->cpu, AT(8), P), -ENOMEM);
	assert_int_equal(quire_mlock(c->cpu, AT(0), ~0ull), 0); /* rounds up to nothing */
	assert_int_equal(quire_mlock(c->cpu, AT(0), -P), -EINVAL);
	assert_int_equal(quire_munlock(c->cpu, AT(1), -(2 * P)), -EINVAL);
	assert_int_equal(quire_munlock(c->cpu, AT(-1), 4 * P), -ENOMEM); /* a hole first: nothing is done */
	assert_int_equal(locked_pages(c), 4);
	assert_int_equal(quire_munlock(c->cpu, AT(1), 2 * P), 0);
	assert_maps(c, "0-1 rw-p; 1-3 rw-p; 3-4 rw-p; 6-8 r--p");
	assert_int_equal(locked_pages(c), 2);
	assert_int_equal(quire_munlock(c->cpu, AT(0), 4 * P), 0);
	assert_maps(c, "0-4 rw-p; 6-8 r--p");
	assert_int_equal(locked_pages(c), 0);
}

static void test_onfault(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	assert_int_equal(quire_mlock2(c->cpu, AT(0), P, 2), -EINVAL);
	assert_int_equal(quire_mlock2(c->cpu, AT(0), 2 * P, MLOCK_ONFAULT), 0);
	assert_resident(c, 0, "0000");
	assert_int_equal(locked_pages(c), 2);
	store_page(c, 0, 1);
	calls_validate(c);
	assert_int_equal(quire_mlock2(c->cpu, AT(0), 2 * P, 0), 0);
	assert_resident(c, 0, "1100");
	assert_int_equal(locked_pages(c), 2);
	assert_int_equal(quire_mlock2(c->cpu, AT(1), 2 * P, MLOCK_ONFAULT), 0);
	assert_maps(c, "0-1 rw-p; 1-3 rw-p; 3-4 rw-p");
	assert_int_equal(locked_pages(c), 3);
}

/* What cannot be faulted in is an error, but the range is locked. */
static void test_unpopulated(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 2, PROT_NONE);
	assert_int_equal(quire_mlock(c->cpu, AT(0), P), -ENOMEM); /* may not be accessed */
	map_file(c, 4, 4, RW, MAP_SHARED, FILE_PAGES - 1);
	assert_int_equal(quire_mlock(c->cpu, AT(4), 4 * P), -ENOMEM); /* beyond the end of the file */
	assert_int_equal(locked_pages(c), 5);
	assert_int_equal(quire_madvise(c->cpu, AT(0), P, MADV_DONTNEED), -EINVAL);
	map_anon(c, 8, 2, RW);
	assert_int_equal(quire_madvise(c->cpu, AT(8), P, 102), 0); /* a guard */
	assert_int_equal(quire_mlock(c->cpu, AT(8), 2 * P), -ENOMEM);
	assert_int_equal(locked_pages(c), 7);
}

static void test_limits(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_MEMLOCK, 4 * P + 1), 0);
	map_anon(c, 0, 8, RW);
	assert_int_equal(quire_mlock(c->cpu, AT(0), 4 * P), 0);
	assert_int_equal(quire_mlock(c->cpu, AT(4), P), -ENOMEM);
	assert_int_equal(quire_mlock(c->cpu, AT(0), 5 * P), -ENOMEM);
	assert_int_equal(quire_mlock(c->cpu, AT(0), 4 * P), 0); /* what is locked already does not count again */
	assert_int_equal(quire_mlockall(c->cpu, MCL_CURRENT), -ENOMEM);
	assert_int_equal(quire_mlockall(c->cpu, MCL_FUTURE), 0);
	assert_int_equal(quire_mmap(c->cpu, AT(16), P, RW, ANON | MAP_FIXED, NULL, 0), -EAGAIN);
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_MEMLOCK, 0), 0);
	assert_int_equal(quire_mlock(c->cpu, AT(0), P), -EPERM);
	assert_int_equal(quire_mlock(c->cpu, AT(0), 0), -EPERM);
	assert_int_equal(quire_mlock2(c->cpu, AT(0), P, 2), -EINVAL);
	assert_int_equal(quire_mlockall(c->cpu, MCL_CURRENT), -EPERM);
	assert_int_equal(quire_mlockall(c->cpu, 0), -EINVAL);
	assert_int_equal(quire_munlock(c->cpu, AT(0), P), 0);
	assert_int_equal(quire_munlockall(c->cpu), 0);
	assert_maps(c, "0-8 rw-p");
}

static void test_all(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mlockall(c->cpu, 0), -EINVAL);
	assert_int_equal(quire_mlockall(c->cpu, 8), -EINVAL);
	assert_int_equal(quire_mlockall(c->cpu, MCL_ONFAULT), -EINVAL);
	map_anon(c, 0, 2, RW);
	map_file(c, 2, 2, PROT_READ, MAP_PRIVATE, FILE_PAGES - 1); /* its second page cannot be faulted in */
	map_anon(c, 4, 2, RW);
	assert_int_equal(quire_mlockall(c->cpu, MCL_CURRENT), 0);
	assert_resident(c, 0, "111011");
	assert_int_equal(locked_pages(c), 6);
	assert_int_equal(quire_mlockall(c->cpu, MCL_FUTURE | MCL_ONFAULT), 0);
	map_anon(c, 8, 2, RW);
	assert_resident(c, 8, "00");
	assert_int_equal(quire_mlockall(c->cpu, MCL_FUTURE), 0);
	map_anon(c, 8, 2, RW);
	assert_resident(c, 8, "11");
	assert_int_equal(locked_pages(c), 8);
	assert_int_equal(quire_munlockall(c->cpu), 0);
	assert_int_equal(locked_pages(c), 0);
	map_anon(c, 12, 2, RW);
	assert_resident(c, 12, "00");
	assert_int_equal(quire_mlockall(c->cpu, MCL_CURRENT | MCL_ONFAULT), 0);
	assert_resident(c, 12, "00");
	assert_int_equal(locked_pages(c), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALLS_TEST(test_ranges), CALLS_TEST(test_onfault), CALLS_TEST(test_unpopulated),
		CALLS_TEST(test_limits), CALLS_TEST(test_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
