/* SPDX-License-Identifier: MIT */
/*
 * Calls in a machine whose memory has run out: they fail with -ENOMEM (or -EAGAIN), and whatever they had begun is undone or
 * stays as Linux leaves it, but never broken. Random calls on a machine of 4 MiB, with everything checked in between.
 */
#include "calls.h"

#define PAGES 400u /* of addresses played with; memory is for fewer */
#define ROUNDS 80u
#define CALLS 60u /* between two checks */
#define FILLING 0x40000000

static u64 random_state = 88172645463325252ull;

static unsigned draw(unsigned limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)((random_state >> 20) % limit);
}

static const int prots[] = { PROT_NONE, PROT_READ, RW, RW | PROT_EXEC };
static const int advices[] = { MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK, MADV_RANDOM, MADV_NORMAL,
			       MADV_FREE,     102,	     103,	  22,	       23 };

static s64 map_something(struct calls *c, u64 addr, u64 len)
{
	const int types[] = { ANON, ANON, SHANON, MAP_PRIVATE, MAP_SHARED };
	const unsigned type = draw(ARRAY_SIZE(types));

	return quire_mmap(c->cpu, addr, len, prots[draw(4)], types[type] | MAP_FIXED | (draw(3) ? MAP_POPULATE : 0),
			  type < 3 ? NULL : c->file, type < 3 ? 0 : draw(FILE_PAGES) * P);
}

/* A child lives for a moment. */
static s64 fork_and_exit(struct calls *c)
{
	struct quire_mm *child;
	int error = quire_fork(c->cpu, &child);

	if (!error)
		quire_mm_put(c->cpu, child);
	return error;
}

static s64 random_call(struct calls *c)
{
	u64 page = draw(PAGES), len = (1 + draw(40)) * P, addr = BASE + page * P;
	u8 byte = 1;

	switch (draw(12)) {
	case 0:
	case 1:
		return map_something(c, addr, len);
	case 2:
		return quire_munmap(c->cpu, addr, len / 2 + 1);
	case 3:
	case 4:
		return quire_mprotect(c->cpu, addr, len, prots[draw(4)]);
	case 5:
		return quire_madvise(c->cpu, addr, len, advices[draw(ARRAY_SIZE(advices))]);
	case 6:
		return quire_mremap(c->cpu, addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + draw(PAGES) * P);
	case 7:
		return quire_mremap(c->cpu, addr, len, (1 + draw(40)) * P, MREMAP_MAYMOVE, 0);
	case 8:
		return draw(2) ? quire_mlock(c->cpu, addr, len) : quire_munlock(c->cpu, addr, len);
	case 9:
		return fork_and_exit(c);
	default:
		return quire_store(c->cpu, addr, &byte, 1);
	}
}

static bool is_expected(s64 ret)
{
	return ret >= 0 || ret == -ENOMEM || ret == -EAGAIN || ret == -EFAULT || ret == -EINVAL || ret == -EACCES;
}

/* Maps pages until there are none left. */
static void fill_memory(struct calls *c, u64 addr)
{
	u8 byte = 1;

	assert_int_equal(quire_mmap(c->cpu, addr, 4096 * P, RW, ANON | MAP_FIXED, NULL, 0), addr);
	while (quire_store(c->cpu, addr, &byte, 1) == 0)
		addr += P;
}

/* Checking needs some memory itself, so it is done when the filling has gone. */
static void test_random_calls(void **state)
{
	struct calls *c = *state;
	unsigned no_memory = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		fill_memory(c, FILLING);
		for (unsigned i = 0; i < CALLS; i++) {
			s64 ret = random_call(c);

			if (!is_expected(ret))
				fail_msg("call %u of round %u returned %lld", i, round, (long long)ret);
			no_memory += ret == -ENOMEM;
		}
		assert_int_equal(quire_munmap(c->cpu, FILLING, 4096 * P), 0);
		calls_validate(c);
		if (round % 8 == 7)
			assert_int_equal(quire_munmap(c->cpu, BASE, 2 * PAGES * P), 0);
	}
	assert_true(no_memory > ROUNDS);
}

/* Without memory for a VMA nothing is unmapped to make room for it. */
static void test_fixed_keeps_old(void **state)
{
	struct calls *c = *state;
	s64 ret = 0;
	unsigned i;

	map_anon(c, 0, 4, RW);
	store_page(c, 1, 7);
	fill_memory(c, FILLING);
	/* Each is a VMA of its own, until the caches of small objects are empty too. */
	for (i = 0; ret >= 0 && i < 60000; i++)
		ret = quire_mmap(c->cpu, 0x80000000 + i * 2 * P, P, RW, ANON | MAP_FIXED, NULL, 0);
	assert_int_equal(ret, -ENOMEM);
	assert_int_equal(quire_mmap(c->cpu, AT(1), 2 * P, PROT_READ, ANON | MAP_FIXED, NULL, 0), -ENOMEM);
	assert_int_equal(load_page(c, 1), 7);
	assert_int_equal(quire_munmap(c->cpu, FILLING, 4096 * P), 0);
	assert_int_equal(quire_munmap(c->cpu, 0x80000000, 2 * 60000 * P), 0);
	assert_int_equal(load_page(c, 1), 7);
}

static int setup_small(void **state)
{
	calls_start(&calls_instance, 4u << 20);
	*state = &calls_instance;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random_calls, setup_small, calls_teardown),
		cmocka_unit_test_setup_teardown(test_fixed_keeps_old, setup_small, calls_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
