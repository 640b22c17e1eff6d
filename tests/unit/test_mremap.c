/* SPDX-License-Identifier: MIT */
/* mremap: the errors and their precedence, resizing in place, moving one and several VMAs, and merging at the destination. */
#include "calls.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define MAYMOVE MREMAP_MAYMOVE
#define FIXED (MREMAP_MAYMOVE | MREMAP_FIXED)
#define KEEP (MREMAP_MAYMOVE | MREMAP_DONTUNMAP)
#define TOP 0x7ffffffff000ull

struct mremap_case {
	u64 addr, old_len, new_len;
	int flags;
	u64 new_addr;
	s64 expected;
};

static void run_cases(struct calls *c, const struct mremap_case *cases, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		const struct mremap_case *m = &cases[i];
		s64 got = quire_mremap(c->cpu, m->addr, m->old_len, m->new_len, m->flags, m->new_addr);

		if (got != m->expected)
			fail_msg("case %zu: %lld instead of %lld", i, (long long)got, (long long)m->expected);
	}
}

static void move(struct calls *c, unsigned from, unsigned nr, unsigned to)
{
	assert_int_equal(quire_mremap(c->cpu, AT(from), nr * P, nr * P, FIXED, AT(to)), AT(to));
}

static void test_arguments(void **state)
{
	struct calls *c = *state;
	const struct mremap_case cases[] = {
		{ AT(0), P, P, 8, 0, -EINVAL },
		{ AT(0) + 1, P, P, 0, 0, -EINVAL },
		{ AT(0), P, 0, 0, 0, -EINVAL },
		{ AT(0), P, -P, MAYMOVE, 0, -EINVAL },
		{ AT(0), P, 1ull << 47, MAYMOVE, 0, -EINVAL },
		{ AT(0), P, TOP, MAYMOVE, 0, -ENOMEM },
		{ AT(0), P, P, MREMAP_FIXED, AT(256), -EINVAL }, /* FIXED and DONTUNMAP need MAYMOVE */
		{ AT(0), P, P, MREMAP_DONTUNMAP, 0, -EINVAL },
		{ AT(0), P, P, FIXED, AT(256) + 1, -EINVAL },
		{ AT(0), P, P, FIXED, TOP, -EINVAL },
		{ AT(0), P, P, FIXED, 0, -EPERM },		/* below mmap_min_addr */
		{ AT(0), 4 * P, 4 * P, FIXED, AT(2), -EINVAL }, /* overlaps */
		{ AT(0), 4 * P, 2 * P, FIXED, AT(3), -EINVAL },
		{ AT(0), P, P, FIXED, AT(0), -EINVAL },
		{ AT(0), P, P, KEEP, AT(0), -EINVAL },
		{ AT(0), P, 2 * P, KEEP, 0, -EINVAL }, /* DONTUNMAP cannot resize */
		{ AT(-1), P, P, 0, 0, -EFAULT },       /* nothing mapped */
		{ AT(-1), P, 2 * P, MAYMOVE, 0, -EFAULT },
		{ AT(-1), P, P, FIXED, AT(256), -EFAULT },
		{ AT(-1), 2 * P, 2 * P, FIXED, AT(256), -EFAULT },
		{ AT(0), 16 * P, 16 * P, 0, 0, AT(0) }, /* nothing to do: the end is not looked at */
		{ AT(0), 16 * P, 17 * P, MAYMOVE, 0, -EFAULT },
		{ AT(0), 16 * P, 17 * P, FIXED, AT(256), -EFAULT },
		{ AT(0), 16 * P, 15 * P, FIXED, AT(256), -EFAULT },
		{ AT(0), -(2 * P), 4 * P, FIXED, AT(256), -EINVAL },
		{ AT(0), -(2 * P), 4 * P, 0, 0, -EINVAL },
		{ AT(0), 0, P, MAYMOVE, 0, -EINVAL }, /* old size 0 of private memory */
		{ AT(0), 0, P, 0, 0, -EINVAL },
		{ AT(0), 0, P, FIXED, AT(256), -EINVAL },
		{ AT(0), 0, P, FIXED, AT(0), -EINVAL },
	};

	map_anon(c, 0, 8, RW);
	run_cases(c, cases, ARRAY_SIZE(cases));
	assert_maps(c, "0-8 rw-p");
}

static void test_in_place(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 2, RW);
	store_page(c, 1, 7);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 2 * P, 4 * P, 0, 0), AT(0));
	assert_int_equal(load_page(c, 1), 7);
	assert_int_equal(load_page(c, 3), 0);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 2 * P, 8 * P, 0, 0), -ENOMEM); /* not the end of the VMA */
	map_anon(c, 6, 2, PROT_READ);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 4 * P, 7 * P, 0, 0), -ENOMEM); /* something is there */
	assert_int_equal(quire_mremap(c->cpu, AT(0), 4 * P, 6 * P, 0, 0), AT(0));
	assert_maps(c, "0-6 rw-p; 6-8 r--p");
	assert_int_equal(quire_mremap(c->cpu, AT(4), 4 * P, P, 0, 0), AT(4)); /* shrinks across VMAs */
	assert_maps(c, "0-5 rw-p");
	assert_int_equal(quire_mremap(c->cpu, AT(0), 64 * P, P, 0, 0), AT(0)); /* and across holes */
	assert_maps(c, "0-1 rw-p");
	assert_int_equal(total_pages(c), 1);
}

/* Growing in place until the next VMA touches joins it. */
static void test_in_place_merges(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 2, RW);
	map_anon(c, 4, 2, RW);
	store_page(c, 4, 4);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 2 * P, 4 * P, 0, 0), AT(0));
	assert_maps(c, "0-6 rw-p");
	assert_int_equal(load_page(c, 4), 4);
	store_page(c, 0, 1);
	calls_validate(c);
}

static void test_grow_by_moving(void **state)
{
	struct calls *c = *state;
	u8 byte = 0;
	s64 addr;

	map_anon(c, 0, 2, RW);
	map_anon(c, 2, 1, PROT_READ);
	store_page(c, 0, 1);
	store_page(c, 1, 2);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 2 * P, 3 * P, 0, 0), -ENOMEM);
	addr = quire_mremap(c->cpu, AT(0), 2 * P, 3 * P, MAYMOVE, 0);
	assert_true(addr > 0);
	assert_int_equal(quire_load(c->cpu, (u64)addr + P, &byte, 1), 0);
	assert_int_equal(byte, 2);
	assert_int_equal(load_page(c, 0), -EFAULT);
	assert_int_equal(quire_munmap(c->cpu, (u64)addr, 3 * P), 0);
	assert_maps(c, "2-3 r--p");
}

static void test_move(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	for (unsigned i = 0; i < 4; i++)
		store_page(c, i, (unsigned char)(i + 1));
	map_anon(c, 100, 4, PROT_READ); /* what is at the destination goes */
	assert_int_equal(quire_mremap(c->cpu, AT(1), 2 * P, 2 * P, FIXED, AT(101)), AT(101));
	assert_maps(c, "0-1 rw-p; 3-4 rw-p; 100-101 r--p; 101-103 rw-p; 103-104 r--p");
	assert_int_equal(load_page(c, 101), 2);
	assert_int_equal(load_page(c, 102), 3);
	assert_int_equal(load_page(c, 1), -EFAULT);
	move(c, 101, 2, 1); /* and back: one VMA again */
	assert_maps(c, "0-4 rw-p; 100-101 r--p; 103-104 r--p");
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(load_page(c, i), i + 1);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 4 * P, 2 * P, FIXED, AT(200)), AT(200)); /* shrinks, then moves */
	assert_int_equal(quire_mremap(c->cpu, AT(200), 2 * P, 4 * P, FIXED, AT(300)), AT(300)); /* grows */
	assert_maps(c, "100-101 r--p; 103-104 r--p; 300-304 rw-p");
	map_anon(c, 306, 2, PROT_READ);
	assert_int_equal(quire_mremap(c->cpu, AT(300), 7 * P, 4 * P, FIXED, AT(400)),
			 AT(400)); /* cuts off beyond the VMA */
	assert_maps(c, "100-101 r--p; 103-104 r--p; 307-308 r--p; 400-404 rw-p");
	assert_int_equal(quire_munmap(c->cpu, AT(307), P), 0);
	move(c, 400, 4, 300);
	assert_int_equal(load_page(c, 301), 2);
	assert_int_equal(load_page(c, 302), 0);
	assert_int_equal(total_pages(c), 6);
}

/* An error after the destination has been emptied leaves it empty; one found before leaves it alone. */
static void test_failed_move(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 2, RW);
	map_anon(c, 100, 4, RW);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 4 * P, 5 * P, FIXED, AT(100)), -EFAULT);
	assert_maps(c, "0-2 rw-p; 100-104 rw-p");
	assert_int_equal(quire_mseal(c->cpu, AT(102), P, 0), 0);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 2 * P, 4 * P, FIXED, AT(100)), -EPERM);
	assert_maps(c, "0-2 rw-p; 100-102 rw-p; 102-103 rw-p; 103-104 rw-p");
	assert_int_equal(quire_mremap(c->cpu, AT(102), P, P, FIXED, AT(200)), -EPERM);
	assert_int_equal(quire_mremap(c->cpu, AT(102), P, P, 0, 0), -EPERM);
	assert_int_equal(quire_mremap(c->cpu, AT(101), 3 * P, P, 0, 0), -EPERM); /* shrinks into it */
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_AS, 6 * P), 0);
	assert_int_equal(quire_mremap(c->cpu, AT(0), P, P, KEEP | MREMAP_FIXED, AT(300)), -ENOMEM);
	assert_int_equal(quire_mremap(c->cpu, AT(0), P, 2 * P, MAYMOVE, 0), -ENOMEM);
	assert_maps(c, "0-2 rw-p; 100-102 rw-p; 102-103 rw-p; 103-104 rw-p");
}

static void test_move_several(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 2, RW);
	map_anon(c, 2, 2, PROT_READ);
	map_file(c, 6, 2, RW, MAP_SHARED, 0);
	map_file(c, 8, 2, PROT_READ, MAP_PRIVATE, 5);
	store_page(c, 0, 1);
	store_page(c, 6, 6);
	map_anon(c, 100, 32, PROT_NONE);
	move(c, 0, 16, 100); /* the hole at the end is no error, and holes keep what is there */
	assert_maps(c, "100-102 rw-p; 102-104 r--p; 104-106 ---p; 106-108 rw-s@0; 108-110 r--p@5; 110-132 ---p");
	assert_int_equal(load_page(c, 100), 1);
	assert_int_equal(load_page(c, 106), 6);
	assert_int_equal(quire_mremap(c->cpu, AT(99), 4 * P, 4 * P, FIXED, AT(200)), -EFAULT); /* a hole first */
	move(c, 101, 6, 200); /* cuts the first and the last */
	assert_maps(c, "100-101 rw-p; 107-108 rw-s@1; 108-110 r--p@5; 110-132 ---p; "
		       "200-201 rw-p; 201-203 r--p; 203-205 ---p; 205-206 rw-s@0");
	assert_int_equal(quire_mseal(c->cpu, AT(201), P, 0), 0);
	assert_int_equal(quire_mremap(c->cpu, AT(200), 6 * P, 6 * P, FIXED, AT(300)), -EPERM);
	assert_maps(c, "100-101 rw-p; 107-108 rw-s@1; 108-110 r--p@5; 110-132 ---p; "
		       "201-202 r--p; 202-203 r--p; 203-205 ---p; 205-206 rw-s@0; 300-301 rw-p");
}

static void test_dontunmap(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	store_page(c, 1, 9);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 4 * P, 4 * P, KEEP | MREMAP_FIXED, AT(100)), AT(100));
	assert_maps(c, "0-4 rw-p; 100-104 rw-p");
	assert_int_equal(load_page(c, 101), 9);
	assert_int_equal(load_page(c, 1), 0);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 4 * P, 4 * P, KEEP, AT(200)), AT(200)); /* a hint */
	store_page(c, 0, 3);
	assert_int_equal(total_pages(c), 12);
	map_anon(c, 4, 4, PROT_READ);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 8 * P, 8 * P, KEEP, 0),
			 -EFAULT); /* several VMAs only with FIXED */
	assert_int_equal(quire_mremap(c->cpu, AT(0), 8 * P, 8 * P, KEEP | MREMAP_FIXED, AT(300)), AT(300));
	assert_maps(c, "0-4 rw-p; 4-8 r--p; 100-104 rw-p; 200-204 rw-p; 300-304 rw-p; 304-308 r--p");
	assert_int_equal(load_page(c, 300), 3);
	map_file(c, 400, 2, RW, MAP_SHARED, 0);
	store_page(c, 400, 4);
	assert_int_equal(quire_mremap(c->cpu, AT(400), 2 * P, 2 * P, KEEP | MREMAP_FIXED, AT(500)), AT(500));
	assert_int_equal(load_page(c, 400), 4); /* the file's page is at both */
	assert_int_equal(load_page(c, 500), 4);
}

static void test_duplicate_shared(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mmap(c->cpu, AT(0), 4 * P, RW, SHANON | MAP_FIXED, NULL, 0), AT(0));
	store_page(c, 1, 5);
	assert_int_equal(quire_mremap(c->cpu, AT(0), 0, 4 * P, FIXED, AT(100)), AT(100));
	assert_int_equal(quire_mremap(c->cpu, AT(1), 0, 8 * P, FIXED, AT(200)), AT(200));
	assert_int_equal(quire_mremap(c->cpu, AT(0), 0, 2 * P, 0, 0), -ENOMEM);
	assert_int_equal(quire_mremap(c->cpu, AT(4), 0, P, MAYMOVE, 0), -EFAULT);
	assert_maps(c, "0-4 rw-s@0; 100-104 rw-s@0; 200-208 rw-s@1");
	assert_int_equal(load_page(c, 101), 5);
	assert_int_equal(load_page(c, 200), 5);
	assert_int_equal(load_page(c, 203), -EFAULT); /* beyond the end of the object */
	store_page(c, 100, 6);
	assert_int_equal(load_page(c, 0), 6);
}

/* ---------------------------------------------------------------------------------------- merging where it lands */

static void test_merge_at_destination(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	store_page(c, 0, 1);
	map_anon(c, 100, 4, RW);
	move(c, 100, 4, 4); /* never touched: takes the page offsets of its new place */
	assert_maps(c, "0-8 rw-p");
	map_anon(c, 100, 4, RW);
	store_page(c, 100, 2);
	move(c, 100, 4, 8); /* touched: another anon_vma, and other page offsets */
	assert_maps(c, "0-8 rw-p; 8-12 rw-p");
	calls_validate(c);
	move(c, 8, 4, 100);
	map_anon(c, 104, 4, RW); /* back where its offsets fit, it joins new memory */
	assert_maps(c, "0-8 rw-p; 100-108 rw-p");
	move(c, 0, 1, 200);
	move(c, 200, 1, 0);
	assert_maps(c, "0-8 rw-p; 100-108 rw-p");
	assert_int_equal(load_page(c, 0), 1);
	assert_int_equal(load_page(c, 100), 2);
}

/* Untouched memory can be merged with the very VMA that it is moved out of. */
static void test_merge_with_source(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	assert_int_equal(load_page(c, 1), 0); /* the zero page moves, too */
	move(c, 0, 2, 4);
	assert_maps(c, "2-6 rw-p");
	assert_int_equal(quire_mremap(c->cpu, AT(2), 2 * P, 2 * P, KEEP | MREMAP_FIXED, AT(6)), AT(6));
	assert_maps(c, "2-8 rw-p");
	map_anon(c, 0, 2, RW);
	map_anon(c, 10, 4, RW);
	move(c, 10, 2, 8); /* between two neighbours, one of them the source: it is swallowed */
	assert_maps(c, "0-10 rw-p; 12-14 rw-p");
	assert_int_equal(total_pages(c), 12);
}

/* An untouched VMA swallows the touched one that moves next to it: its anon_vma must come along (race B63). */
static void test_untouched_takes_touched(void **state)
{
	struct calls *c = *state;

	map_anon(c, 0, 4, RW);
	store_page(c, 2, 3);
	move(c, 2, 2, 100);    /* touched, with the offsets of 2 */
	map_anon(c, 0, 2, RW); /* what is left at 0 has the anon_vma still */
	map_anon(c, 0, 2, PROT_NONE);
	map_anon(c, 0, 2, RW); /* now it is new */
	assert_maps(c, "0-2 rw-p; 100-102 rw-p");
	move(c, 100, 2, 2);
	assert_maps(c, "0-4 rw-p");
	calls_validate(c);
	assert_int_equal(load_page(c, 2), 3);
	store_page(c, 0, 1);
}

/* ---------------------------------------------------------------------------------------- accounting */

static void test_locked(void **state)
{
	struct calls *c = *state;

	assert_int_equal(quire_mmap(c->cpu, AT(0), 4 * P, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0), AT(0));
	assert_int_equal(quire_mremap(c->cpu, AT(0), 4 * P, 8 * P, 0, 0), AT(0));
	assert_int_equal(locked_pages(c), 8);
	assert_resident(c, 0, "11111111");
	assert_int_equal(quire_mremap(c->cpu, AT(0), 8 * P, 12 * P, FIXED, AT(100)), AT(100));
	assert_int_equal(locked_pages(c), 12);
	assert_resident(c, 100, "111111111111");
	assert_int_equal(quire_mremap(c->cpu, AT(100), 12 * P, 4 * P, FIXED, AT(0)), AT(0));
	assert_int_equal(locked_pages(c), 4);
	/* What DONTUNMAP leaves behind is not locked any more, all of the VMA. */
	assert_int_equal(quire_mremap(c->cpu, AT(0), 2 * P, 2 * P, KEEP | MREMAP_FIXED, AT(100)), AT(100));
	assert_int_equal(locked_pages(c), 2);
	calls_validate(c);
	assert_int_equal(quire_mm_set_limit(c->mm, RLIMIT_MEMLOCK, 3 * P), 0);
	assert_int_equal(quire_mremap(c->cpu, AT(100), 2 * P, 4 * P, MAYMOVE, 0), -EAGAIN);
	assert_int_equal(quire_mremap(c->cpu, AT(100), 2 * P, 3 * P, 0, 0), AT(100));
	assert_int_equal(quire_munlockall(c->cpu), 0);
	assert_int_equal(locked_pages(c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALLS_TEST(test_arguments),
		CALLS_TEST(test_in_place),
		CALLS_TEST(test_in_place_merges),
		CALLS_TEST(test_grow_by_moving),
		CALLS_TEST(test_move),
		CALLS_TEST(test_failed_move),
		CALLS_TEST(test_move_several),
		CALLS_TEST(test_dontunmap),
		CALLS_TEST(test_duplicate_shared),
		CALLS_TEST(test_merge_at_destination),
		CALLS_TEST(test_merge_with_source),
		CALLS_TEST(test_untouched_takes_touched),
		CALLS_TEST(test_locked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
