/* SPDX-License-Identifier: MIT */
/* mprotect and mseal: errors, what a call that fails in the middle leaves behind, and what accesses may do afterwards. */
#include "calls.h"

static void test_arguments(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, 0x100), -EINVAL);
	assert_int_equal(quire_mprotect(c->cpu, AT(0) + 1, 0, PROT_READ), -EINVAL);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), 0, 0x100), 0); /* nothing to do comes before bad permissions */
	assert_int_equal(quire_mprotect(c->cpu, AT(0), 0, PROT_GROWSDOWN | PROT_GROWSUP), -EINVAL);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), ~0ull, PROT_READ), -ENOMEM); /* rounds up to nothing */
	assert_int_equal(quire_mprotect(c->cpu, AT(0), -P, 0x100), -ENOMEM);
	assert_int_equal(quire_mprotect(c->cpu, AT(-1), P, PROT_NONE), -ENOMEM);
	assert_int_equal(quire_mprotect(c->cpu, AT(-1), 2 * P, PROT_NONE), -ENOMEM); /* a hole first: nothing is done */
	assert_maps(c, "0-4 rw-p");
	assert_int_equal(quire_mprotect(c->cpu, AT(2), 8 * P, PROT_READ), -ENOMEM); /* a hole last: the rest is done */
	assert_maps(c, "0-2 rw-p; 2-4 r--p");
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, PROT_READ | PROT_GROWSDOWN), -EINVAL); /* no stack */
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, PROT_READ | PROT_GROWSUP), -EINVAL);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, 0x8), 0); /* PROT_SEM is PROT_NONE */
	assert_maps(c, "0-1 ---p; 1-2 rw-p; 2-4 r--p");
}

static void test_growsdown(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mmap(c->cpu, AT(16), 4 * P, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, NULL, 0), AT(16));
	assert_int_equal(quire_mprotect(c->cpu, AT(18), P, PROT_READ | PROT_GROWSDOWN), 0);
	assert_maps(c, "16-19 r--p; 19-20 rw-p");
	assert_int_equal(quire_mprotect(c->cpu, AT(15), P, PROT_READ | PROT_GROWSDOWN), -ENOMEM);
	assert_int_equal(quire_mprotect(c->cpu, AT(15), 2 * P, PROT_NONE | PROT_GROWSDOWN), 0);
	assert_maps(c, "16-17 ---p; 17-19 r--p; 19-20 rw-p");
}

static void test_access(void **state)
{
	struct calls *c = *state;
	struct quire_fault fault;
	u8 byte = 1;

	map_anon(c, 0, 2, RW);
	store_page(c, 0, 5);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, PROT_READ), 0);
	assert_int_equal(quire_store(c->cpu, AT(0), &byte, 1), -EFAULT);
	quire_cpu_fault(c->cpu, &fault);
	assert_int_equal(fault.signo, 11);
	assert_int_equal(fault.code, 2); /* SEGV_ACCERR */
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, PROT_NONE), 0);
	assert_int_equal(load_page(c, 0), -EFAULT);
	assert_resident(c, 0, "10"); /* still there, out of reach */
	assert_int_equal(quire_fetch(c->cpu, AT(0), &byte, 1), -EFAULT);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, PROT_EXEC), 0);
	assert_int_equal(quire_fetch(c->cpu, AT(0), &byte, 1), 0);
	assert_int_equal(byte, 5);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, RW), 0);
	store_page(c, 0, 6);
	assert_int_equal(load_page(c, 0), 6);
	assert_maps(c, "0-2 rw-p");
}

static void test_partial_failure(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, PROT_READ);
	assert_int_equal(quire_mmap(c->cpu, AT(4), 4 * P, PROT_READ, MAP_SHARED | MAP_FIXED, c->readonly, 0), AT(4));
	map_anon(c, 8, 4, PROT_READ);
	assert_int_equal(quire_mprotect(c->cpu, AT(4), P, RW), -EACCES);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), 12 * P, RW), -EACCES);
	assert_maps(c, "0-4 rw-p; 4-8 r--s@0; 8-12 r--p");
}

static void test_limits(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 2, RW);
	map_anon(c, 2, 2, PROT_READ);
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_DATA, 2 * P), 0);
	assert_int_equal(quire_mprotect(c->cpu, AT(2), P, RW), -ENOMEM);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, RW | PROT_EXEC), 0); /* data before, data after */
	assert_int_equal(quire_mprotect(c->cpu, AT(0), 2 * P, PROT_READ), 0);
	assert_int_equal(quire_mprotect(c->cpu, AT(2), 2 * P, RW), 0);
	assert_maps(c, "0-2 r--p; 2-4 rw-p");
}

/* Locked private memory that becomes writable is copied at once. */
static void test_locked(void **state)
{
	struct calls *c = *state;
	struct quire_mm_stat stat;

	map_file(c, 0, 2, PROT_READ, MAP_PRIVATE, 0);
	map_anon(c, 2, 2, PROT_READ);
	assert_int_equal(quire_mlock(c->cpu, AT(0), 2 * P), 0);
	quire_mm_stat(c->cpu, c->mm, &stat);
	assert_int_equal(stat.rss_anon, 0);
	assert_int_equal(quire_mprotect(c->cpu, AT(0), 4 * P, RW), 0);
	quire_mm_stat(c->cpu, c->mm, &stat);
	assert_int_equal(stat.rss_anon, 2);
	assert_resident(c, 2, "00"); /* not locked: not touched */
}

/* ---------------------------------------------------------------------------------------- mseal */

static void test_mseal_arguments(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	assert_int_equal(quire_mseal(c->cpu, AT(0), P, 1), -EINVAL);
	assert_int_equal(quire_mseal(c->cpu, AT(0) + 1, P, 0), -EINVAL);
	assert_int_equal(quire_mseal(c->cpu, AT(0), ~0ull, 0), -EINVAL);
	assert_int_equal(quire_mseal(c->cpu, AT(0), -P, 0), -EINVAL);
	assert_int_equal(quire_mseal(c->cpu, AT(64), 0, 0), 0);
	assert_int_equal(quire_mseal(c->cpu, AT(0), 5 * P, 0), -ENOMEM); /* a hole: nothing is sealed */
	assert_int_equal(quire_munmap(c->cpu, AT(3), P), 0);
	assert_int_equal(quire_mseal(c->cpu, AT(1), P, 0), 0);
	assert_int_equal(quire_mseal(c->cpu, AT(1), P, 0), 0);
	assert_maps(c, "0-1 rw-p; 1-2 rw-p; 2-3 rw-p");
	assert_int_equal(quire_mseal(c->cpu, AT(0), 3 * P, 0), 0);
	assert_maps(c, "0-3 rw-p");
}

static void test_mseal_effects(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, PROT_READ);
	map_anon(c, 4, 4, RW);
	map_file(c, 8, 4, PROT_READ, MAP_PRIVATE, 0);
	assert_int_equal(quire_mseal(c->cpu, AT(2), 8 * P, 0), 0);
	assert_int_equal(quire_mprotect(c->cpu, AT(2), P, PROT_READ), -EPERM); /* even with nothing to change */
	assert_int_equal(quire_mprotect(c->cpu, AT(1), 2 * P, PROT_NONE), -EPERM);
	assert_maps(c, "0-1 r--p; 1-2 ---p; 2-4 r--p; 4-8 rw-p; 8-10 r--p@0; 10-12 r--p@2");
	/* Discarding what may not be written would change it. */
	assert_int_equal(quire_madvise(c->cpu, AT(2), P, MADV_DONTNEED), -EPERM);
	assert_int_equal(quire_madvise(c->cpu, AT(2), P, MADV_FREE), -EPERM);
	assert_int_equal(quire_madvise(c->cpu, AT(2), P, MADV_DONTFORK), -EPERM);
	assert_int_equal(quire_madvise(c->cpu, AT(2), P, MADV_WIPEONFORK), -EPERM);
	assert_int_equal(quire_madvise(c->cpu, AT(2), P, 102), -EPERM); /* GUARD_INSTALL */
	assert_int_equal(quire_madvise(c->cpu, AT(2), P, MADV_REMOVE), -EPERM);
	assert_int_equal(quire_madvise(c->cpu, AT(2), P, MADV_RANDOM), 0);
	assert_int_equal(quire_madvise(c->cpu, AT(4), P, MADV_DONTNEED), 0);
	assert_int_equal(quire_madvise(c->cpu, AT(8), P, MADV_DONTNEED), 0);
	assert_int_equal(quire_mlock(c->cpu, AT(2), P), 0);
	store_page(c, 4, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALLS_TEST(test_arguments),	  CALLS_TEST(test_growsdown),	  CALLS_TEST(test_access),
		CALLS_TEST(test_partial_failure), CALLS_TEST(test_limits),	  CALLS_TEST(test_locked),
		CALLS_TEST(test_mseal_arguments), CALLS_TEST(test_mseal_effects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
