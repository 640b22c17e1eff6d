/* SPDX-License-Identifier: MIT */
/* mmap and munmap: every error of the man pages with Linux's precedence, and where mappings are placed. */
#include "calls.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#define TOP 0x7ffffffff000ull /* end of user addresses */

struct mmap_case {
	u64 addr, len;
	int prot, flags;
	u64 offset;
	s64 expected;
};

static void run_cases(struct calls *c, struct quire_file *file, const struct mmap_case *cases, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		const struct mmap_case *m = &cases[i];
		s64 got = quire_mmap(c->cpu, m->addr, m->len, m->prot, m->flags, file, m->offset);

		if (got != m->expected)
			fail_msg("case %zu: %lld instead of %lld", i, (long long)got, (long long)m->expected);
	}
}

static void test_mmap_arguments(void **state)
{
	struct calls *c = *state;
	const struct mmap_case cases[] = {
		{ 0, 0, RW, ANON, 1, -EINVAL }, /* offset not aligned */
		{ 0, P, RW, ANON, 123, -EINVAL },
		{ 0, 0, RW, ANON, 0, -EINVAL },
		{ 0, P, RW, MAP_PRIVATE, 1, -EINVAL },
		{ 0, 0, RW, MAP_PRIVATE, 0, -EBADF }, /* no file */
		{ 1, P, RW, ANON | MAP_FIXED, 0, -EINVAL },
		{ BASE, ~0ull, RW, ANON, 0, -ENOMEM },
		{ BASE, -P, RW, ANON, 0, -ENOMEM },
		{ BASE, 1ull << 47, RW, ANON, 0, -ENOMEM },
		{ BASE, (1ull << 47) - P, RW, ANON | MAP_FIXED, 0, -ENOMEM },
		{ TOP, P, RW, ANON | MAP_FIXED, 0, -ENOMEM },
		{ TOP + 1, P, RW, ANON | MAP_FIXED, 0, -ENOMEM },
		{ TOP - P, 2 * P, RW, ANON | MAP_FIXED, 0, -ENOMEM },
		{ 0, P, RW, ANON | MAP_FIXED, 0, -EPERM },
		{ 0, P, RW, ANON | MAP_FIXED_NOREPLACE, 0, -EPERM },
		{ BASE, P, RW, MAP_ANONYMOUS, 0, -EINVAL }, /* no type, bad types */
		{ BASE, P, RW, MAP_ANONYMOUS | MAP_SHARED_VALIDATE, 0, -EINVAL },
		{ BASE, P, RW, MAP_ANONYMOUS | 4, 0, -EINVAL },
		{ BASE, P, RW, SHANON | MAP_GROWSDOWN, 0, -EINVAL },
		{ BASE, P, RW, MAP_ANONYMOUS | MAP_DROPPABLE | MAP_GROWSDOWN, 0, -EINVAL },
		{ BASE, P, RW, MAP_ANONYMOUS | MAP_DROPPABLE | MAP_LOCKED, 0, -EINVAL },
		{ BASE, P, RW, MAP_ANONYMOUS | MAP_DROPPABLE | MAP_HUGETLB, 0, -EINVAL },
		{ (u64)-1, P, RW, ANON | MAP_FIXED, 0, -1 }, /* taken for an error number on its way */
		{ BASE, 2u << 20, RW, ANON | MAP_HUGETLB, 0, -ENOMEM },
		{ BASE, 2u << 20, RW, ANON | MAP_HUGETLB | 22 << 26, 0, -EINVAL },
		{ BASE + P, P, RW, ANON | MAP_HUGETLB | MAP_FIXED, 0, -EINVAL },
		{ 0, 0, RW, ANON | MAP_HUGETLB, 0, -EINVAL },
	};

	run_cases(c, NULL, cases, ARRAY_SIZE(cases));
	assert_maps(c, "");
}

static void test_mmap_file_arguments(void **state)
{
	struct calls *c = *state;
	const struct mmap_case cases[] = {
		{ BASE, P, RW, MAP_SHARED, -P, -EOVERFLOW },
		{ BASE, 2 * P, RW, MAP_SHARED, -P, -EOVERFLOW },
		{ BASE, P, RW, MAP_PRIVATE, 0x7ffffffffffff000, -EOVERFLOW },
		{ BASE, 2 * P, RW, MAP_PRIVATE, 0x7fffffffffffe000, -EOVERFLOW },
		{ BASE, P, RW, MAP_PRIVATE, 0x7fffffffffffe000, BASE },
		{ BASE, P, RW, MAP_PRIVATE | MAP_GROWSDOWN, 0, -EINVAL },
		{ BASE, P, RW, 0, 0, -EINVAL },
		{ BASE, P, RW, 4, 0, -EINVAL },
		{ BASE, P, RW, MAP_DROPPABLE, 0, -EINVAL },
		{ BASE, P, RW, MAP_SHARED_VALIDATE | MAP_SYNC, 0, -EOPNOTSUPP },
		{ BASE, P, RW, MAP_SHARED_VALIDATE | 0x200000, 0, -EOPNOTSUPP },
		{ AT(9), P, RW, MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, 0, -EOPNOTSUPP },
		{ AT(8), P, RW, MAP_SHARED_VALIDATE | MAP_FIXED, 0, AT(8) },
		{ AT(10), P, RW, MAP_SHARED | 0x200000 | MAP_FIXED, 0, AT(10) }, /* unknown flags are ignored */
		{ BASE, 2u << 20, RW, MAP_PRIVATE | MAP_HUGETLB, 0, -EINVAL },
	};

	run_cases(c, c->file, cases, ARRAY_SIZE(cases));
	assert_maps(c, "0-1 rw-p@2251799813685246; 8-9 rw-s@0; 10-11 rw-s@0");
}

static void test_mmap_readonly_file(void **state)
{
	struct calls *c = *state;
	const struct mmap_case cases[] = {
		{ BASE, P, RW, MAP_SHARED | MAP_FIXED, 0, -EACCES },
		{ BASE, P, PROT_WRITE, MAP_SHARED_VALIDATE | MAP_FIXED, 0, -EACCES },
		{ AT(0), P, PROT_READ, MAP_SHARED | MAP_FIXED, 0, AT(0) },
		{ AT(1), P, RW, MAP_PRIVATE | MAP_FIXED, 0, AT(1) },
	};

	run_cases(c, c->readonly, cases, ARRAY_SIZE(cases));
	assert_int_equal(quire_mprotect(c->cpu, AT(0), P, RW), -EACCES);
	store_page(c, 1, 5);
	assert_maps(c, "0-1 r--s@0; 1-2 rw-p@0");
}

static void test_mmap_noreplace(void **state)
{
	struct calls *c = *state;
	const struct mmap_case cases[] = {
		{ AT(4) + 1, P, RW, ANON | MAP_FIXED_NOREPLACE, 0, -EINVAL },
		{ AT(4), P, RW, ANON | MAP_FIXED_NOREPLACE, 0, AT(4) },
		{ AT(4), P, RW, ANON | MAP_FIXED_NOREPLACE | MAP_FIXED, 0, -EEXIST },
		{ AT(3), 2 * P, RW, ANON | MAP_FIXED_NOREPLACE, 0, -EEXIST },
		{ AT(2), 2 * P, RW, ANON | MAP_FIXED_NOREPLACE, 0, AT(2) },
	};

	run_cases(c, NULL, cases, ARRAY_SIZE(cases));
	assert_maps(c, "2-5 rw-p");
}

static void test_mmap_locked(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_MEMLOCK, 2 * P), 0);
	assert_int_equal(quire_mmap(c->cpu, AT(0), P, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0), AT(0));
	assert_resident(c, 0, "1");
	assert_int_equal(quire_mmap(c->cpu, AT(0), 2 * P, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0), -EAGAIN);
	assert_int_equal(quire_mmap(c->cpu, AT(0), P, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0), AT(0));
	assert_int_equal(locked_pages(c), 1);
	/* The limit is looked at before the file and the type. */
	assert_int_equal(quire_mmap(c->cpu, AT(0), 2 * P, RW, 4 | MAP_FIXED | MAP_LOCKED, c->file, 0), -EAGAIN);
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_MEMLOCK, 0), 0);
	assert_int_equal(quire_mmap(c->cpu, AT(0), P, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0), -EPERM);
	assert_int_equal(quire_mmap(c->cpu, AT(0), P, RW, ANON | MAP_FIXED_NOREPLACE | MAP_LOCKED, NULL, 0), -EEXIST);
	assert_maps(c, "0-1 rw-p");
}

static void test_mmap_limits(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_AS, 4 * P), 0);
	map_anon(c, 0, 4, RW);
	assert_int_equal(quire_mmap(c->cpu, AT(8), P, RW, ANON | MAP_FIXED, NULL, 0), -ENOMEM);
	map_anon(c, 0, 4, RW); /* what goes makes room for what comes */
	assert_int_equal(quire_mmap(c->cpu, AT(0), 5 * P, RW, ANON | MAP_FIXED, NULL, 0), -ENOMEM);
	assert_maps(c, "0-4 rw-p");
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_AS, UINT64_MAX), 0);
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_DATA, 4 * P), 0);
	assert_int_equal(quire_mmap(c->cpu, AT(4), P, RW, ANON | MAP_FIXED, NULL, 0), -ENOMEM);
	assert_int_equal(quire_mmap(c->cpu, AT(4), P, RW, MAP_PRIVATE | MAP_FIXED, c->file, 0), -ENOMEM);
	map_anon(c, 4, 1, PROT_READ); /* not data: neither read-only, nor shared, nor a stack */
	map_file(c, 5, 1, RW, MAP_SHARED, 0);
	assert_int_equal(quire_mmap(c->cpu, AT(1000), P, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, NULL, 0), AT(1000));
	assert_int_equal(quire_mprotect(c->cpu, AT(4), P, RW), -ENOMEM);
}

static void test_mmap_populate(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mmap(c->cpu, AT(0), 2 * P, RW, ANON | MAP_FIXED | MAP_POPULATE, NULL, 0), AT(0));
	assert_resident(c, 0, "11");
	assert_int_equal(quire_mmap(c->cpu, AT(2), 2 * P, RW, ANON | MAP_FIXED | MAP_POPULATE | MAP_NONBLOCK, NULL, 0),
			 AT(2));
	assert_resident(c, 2, "00");
	/* Beyond the end of the file is no error. */
	assert_int_equal(quire_mmap(c->cpu, AT(8), 4 * P, RW, MAP_SHARED | MAP_FIXED | MAP_POPULATE, c->file,
				    (FILE_PAGES - 2) * P),
			 AT(8));
	assert_resident(c, 8, "1100");
}

static void test_mmap_droppable(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mlockall(c->cpu, MCL_FUTURE), 0);
	assert_int_equal(quire_mmap(c->cpu, AT(0), 2 * P, RW, MAP_ANONYMOUS | MAP_DROPPABLE | MAP_FIXED, NULL, 0),
			 AT(0));
	assert_int_equal(quire_mlock(c->cpu, AT(0), 2 * P), 0);
	assert_int_equal(locked_pages(c), 0);
	assert_int_equal(quire_madvise(c->cpu, AT(0), P, MADV_KEEPONFORK), -EINVAL);
	assert_int_equal(quire_madvise(c->cpu, AT(0), P, MADV_DODUMP), -EINVAL);
	store_page(c, 0, 3);
	assert_int_equal(load_page(c, 0), 3);
}

/* ---------------------------------------------------------------------------------------- placement */

static u64 place(struct calls *c, u64 hint, u64 len, int flags, struct quire_file *file, u64 offset)
{
	s64 addr = quire_mmap(c->cpu, hint, len, RW, flags, file, offset);

	assert_true(addr > 0);
	return (u64)addr;
}

static void test_place_hints(void **state)
{
	struct calls *c = *state;
	u64 base = place(c, 0, P, ANON, NULL, 0) + P; /* mmap_base */

	assert_int_equal(place(c, BASE + 123, P, ANON, NULL, 0), BASE);
	assert_int_equal(place(c, BASE, P, ANON, NULL, 0), base - 2 * P); /* taken: top down */
	assert_int_equal(place(c, 1, P, ANON, NULL, 0), base - 3 * P);	  /* rounded down to 0: no hint */
	assert_int_equal(place(c, P, P, ANON, NULL, 0), 0x10000);	  /* moved up to mmap_min_addr */
	assert_int_equal(place(c, TOP, P, ANON, NULL, 0), base - 4 * P);
	assert_int_equal(place(c, TOP - P, P, ANON, NULL, 0), TOP - P);
	assert_int_equal(quire_munmap(c->cpu, base - 2 * P, P), 0);
	assert_int_equal(place(c, 0, P, ANON, NULL, 0), base - 2 * P); /* the highest hole */
}

static void test_place_32bit(void **state)
{
	struct calls *c = *state;

	assert_int_equal(place(c, 0x40000000, P, ANON | MAP_32BIT, NULL, 0), 0x40000000);
	assert_int_equal(place(c, 0x20000123, P, ANON | MAP_32BIT, NULL, 0), 0x20000000);
	assert_int_equal(place(c, 0x7ffff123, P, ANON | MAP_32BIT, NULL, 0), 0x7ffff000);
	assert_int_equal(place(c, 0x90000000, P, ANON | MAP_32BIT, NULL, 0), 0x40001000);
	assert_int_equal(place(c, 0, 2u << 20, ANON | MAP_32BIT, NULL, 0), 0x40200000);
	assert_int_equal(quire_mmap(c->cpu, 0, 1ull << 31, RW, ANON | MAP_32BIT, NULL, 0), -ENOMEM);
}

/* Nothing is placed in the gap below a stack, by hint or by search. */
static void test_place_stack_gap(void **state)
{
	struct calls *c = *state;
	u64 stack = 0x30000000, low;

	assert_int_equal(place(c, stack, P, ANON | MAP_FIXED | MAP_GROWSDOWN, NULL, 0), stack);
	assert_int_not_equal(place(c, stack - P, P, ANON, NULL, 0), stack - P);
	assert_int_not_equal(place(c, stack - 256 * P, P, ANON, NULL, 0), stack - 256 * P);
	assert_int_equal(place(c, stack - 257 * P, P, ANON, NULL, 0), stack - 257 * P);
	assert_int_equal(place(c, stack + P, P, ANON, NULL, 0), stack + P); /* above it is no gap */
	low = place(c, 0, P, ANON, NULL, 0);
	assert_int_equal(place(c, low - 512 * P, P, ANON | MAP_FIXED | MAP_GROWSDOWN, NULL, 0), low - 512 * P);
	assert_int_equal(place(c, 0, 400 * P, ANON, NULL, 0), low - 400 * P);
	assert_int_equal(place(c, 0, 200 * P, ANON, NULL, 0), low - (512 + 256 + 200) * P);
}

/* When the highest hole belongs to a stack's gap, Linux goes on below that gap, though another mapping in the gap would guard it. */
static void test_place_other_in_gap(void **state)
{
	struct calls *c = *state;
	u64 stack = place(c, 0, P, ANON | MAP_GROWSDOWN, NULL, 0);

	assert_int_equal(place(c, stack - 30 * P, P, ANON | MAP_FIXED, NULL, 0), stack - 30 * P);
	assert_int_equal(place(c, 0, P, ANON, NULL, 0), stack - 257 * P);
	assert_int_equal(place(c, 0, 40 * P, ANON, NULL, 0),
			 stack - 70 * P); /* too large for that hole: not looked at */
}

/* Anonymous memory of whole 2 MiB without a hint is aligned to that; other sizes, shmem and hints are not. */
static void test_place_aligned(void **state)
{
	struct calls *c = *state;
	const u64 huge = 2u << 20;
	u64 top = place(c, 0, P, ANON, NULL, 0), addr;

	addr = place(c, 0, huge, SHANON, NULL, 0);
	assert_int_equal(addr, top - huge);
	assert_int_not_equal(addr & (huge - 1), 0);
	top = addr;
	addr = place(c, 0, huge, ANON, NULL, 0);
	assert_int_equal(addr, (top - huge) & -huge);
	assert_int_equal(place(c, 0, huge + P, ANON, NULL, 0), addr - huge - P);
	top = addr - huge - P;
	assert_int_equal(place(c, 0, 2 * huge, ANON, NULL, 0), (top - 2 * huge) & -huge);
	assert_int_equal(place(c, BASE + P, huge, ANON, NULL, 0), BASE + P);
}

/* Top down until nothing is left, then bottom up. */
static void test_place_fallback(void **state)
{
	struct calls *c = *state;
	u64 base = place(c, 0, P, ANON, NULL, 0) + P, above = 16 * (2ull << 20) + P;

	place(c, 0x10000, base - 0x10000 - P, PROT_NONE | ANON | MAP_FIXED, NULL, 0);
	assert_int_equal(place(c, 0, above, ANON, NULL, 0), base);
	assert_int_equal(quire_mmap(c->cpu, 0, TOP - base, RW, ANON, NULL, 0), -ENOMEM);
	assert_int_equal(quire_munmap(c->cpu, BASE, P), 0);
	assert_int_equal(place(c, 0, P, ANON, NULL, 0), BASE);
}

/* ---------------------------------------------------------------------------------------- munmap */

static void test_munmap_arguments(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_munmap(c->cpu, BASE + 1, P), -EINVAL);
	assert_int_equal(quire_munmap(c->cpu, BASE, 0), -EINVAL);
	assert_int_equal(quire_munmap(c->cpu, BASE, ~0ull), -EINVAL);
	assert_int_equal(quire_munmap(c->cpu, BASE, -P), -EINVAL);
	assert_int_equal(quire_munmap(c->cpu, TOP, 0), -EINVAL);
	assert_int_equal(quire_munmap(c->cpu, TOP, P), -EINVAL);
	assert_int_equal(quire_munmap(c->cpu, TOP - P, 2 * P), -EINVAL);
	assert_int_equal(quire_munmap(c->cpu, BASE, P), 0); /* nothing there is no error */
	map_anon(c, 0, 2, RW);
	assert_int_equal(quire_munmap(c->cpu, BASE, 1), 0); /* rounded up */
	assert_maps(c, "1-2 rw-p");
}

static void test_munmap_parts(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 8, RW);
	map_file(c, 8, 8, RW, MAP_SHARED, 0);
	for (unsigned i = 0; i < 16; i++)
		store_page(c, i, (unsigned char)(i + 1));
	assert_int_equal(quire_munmap(c->cpu, AT(2), 2 * P), 0);
	assert_maps(c, "0-2 rw-p; 4-8 rw-p; 8-16 rw-s@0");
	assert_int_equal(quire_munmap(c->cpu, AT(6), 4 * P), 0);
	assert_maps(c, "0-2 rw-p; 4-6 rw-p; 10-16 rw-s@2");
	assert_int_equal(quire_munmap(c->cpu, AT(0), 13 * P), 0); /* holes in between */
	assert_maps(c, "13-16 rw-s@5");
	assert_int_equal(load_page(c, 2), -EFAULT);
	assert_int_equal(load_page(c, 13), 14);
	assert_int_equal(total_pages(c), 3);
	map_anon(c, 0, 8, RW); /* nothing of the old contents comes back */
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(load_page(c, i), 0);
}

/* A sealed mapping in the range: nothing is unmapped, but the cut at the start stays. */
static void test_munmap_sealed(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 8, RW);
	assert_int_equal(quire_mseal(c->cpu, AT(6), P, 0), 0);
	assert_int_equal(quire_munmap(c->cpu, AT(2), 5 * P), -EPERM);
	assert_maps(c, "0-2 rw-p; 2-6 rw-p; 6-7 rw-p; 7-8 rw-p");
	assert_int_equal(quire_mmap(c->cpu, AT(1), 6 * P, PROT_READ, ANON | MAP_FIXED, NULL, 0), -EPERM);
	assert_maps(c, "0-1 rw-p; 1-2 rw-p; 2-6 rw-p; 6-7 rw-p; 7-8 rw-p");
	assert_int_equal(quire_munmap(c->cpu, AT(6), P), -EPERM);
	assert_int_equal(quire_munmap(c->cpu, AT(7), P), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALLS_TEST(test_mmap_arguments),     CALLS_TEST(test_mmap_file_arguments),
		CALLS_TEST(test_mmap_readonly_file), CALLS_TEST(test_mmap_noreplace),
		CALLS_TEST(test_mmap_locked),	     CALLS_TEST(test_mmap_limits),
		CALLS_TEST(test_mmap_populate),	     CALLS_TEST(test_mmap_droppable),
		CALLS_TEST(test_place_hints),	     CALLS_TEST(test_place_32bit),
		CALLS_TEST(test_place_stack_gap),    CALLS_TEST(test_place_aligned),
		CALLS_TEST(test_place_other_in_gap), CALLS_TEST(test_place_fallback),
		CALLS_TEST(test_munmap_arguments),   CALLS_TEST(test_munmap_parts),
		CALLS_TEST(test_munmap_sealed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
