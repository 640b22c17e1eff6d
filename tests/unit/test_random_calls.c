/* SPDX-License-Identifier: MIT */
/*
 * Random calls on a few address spaces that fork from each other and share files, on one CPU, with a validation of everything
 * every few calls. What the calls return is the business of other tests: here nothing may contradict anything.
 */
#include "cmocka_setup.h"

#include <stdio.h>
#include <stdlib.h>

#include "mm/instance.h"
#include "mm/linux.h"
#include "random.h"

#define NR_MMS 4u
#define NR_FILES 2u
#define NR_CALLS 4000u
#define VALIDATE_EVERY 41u
#define BASE 0x40000000ull
#define SPACE 2048u /* pages: 8 MiB, so that mappings meet, and leaf PMDs fit */

struct world {
	struct quire *q;
	struct quire_cpu *cpu;
	struct quire_mm *mm[NR_MMS]; /* or NULL */
	struct quire_file *file[NR_FILES];
	u64 seed;
};

static u64 below(struct world *w, u64 n)
{
	return random_below(&w->seed, n);
}

static u64 random_addr(struct world *w)
{
	return BASE + (below(w, SPACE) << PAGE_SHIFT);
}

/* Mostly a few pages, sometimes more than two PMDs. */
static u64 random_len(struct world *w)
{
	return (1 + below(w, below(w, 8) ? 16 : 1100)) << PAGE_SHIFT;
}

static int random_prot(struct world *w)
{
	return below(w, 3) ? PROT_READ | PROT_WRITE : (int)below(w, 8);
}

/* ---------------------------------------------------------------------------------------- calls */

static void map_anon(struct world *w)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	flags |= below(w, 3) ? MAP_FIXED : 0;
	flags |= below(w, 8) ? 0 : MAP_POPULATE;
	flags |= below(w, 12) ? 0 : MAP_LOCKED;
	flags |= below(w, 20) ? 0 : MAP_GROWSDOWN;
	quire_mmap(w->cpu, random_addr(w), random_len(w), random_prot(w), flags, NULL, 0);
}

static void map_file(struct world *w)
{
	int flags = MAP_FIXED | (below(w, 2) ? MAP_SHARED : MAP_PRIVATE) | (below(w, 8) ? 0 : MAP_POPULATE);

	quire_mmap(w->cpu, random_addr(w), random_len(w), random_prot(w), flags, w->file[below(w, NR_FILES)],
		   below(w, 200) << PAGE_SHIFT);
}

static void unmap(struct world *w)
{
	quire_munmap(w->cpu, random_addr(w), random_len(w));
}

static void protect(struct world *w)
{
	quire_mprotect(w->cpu, random_addr(w), random_len(w), random_prot(w));
}

static void resize(struct world *w)
{
	quire_mremap(w->cpu, random_addr(w), random_len(w), random_len(w), below(w, 2) ? MREMAP_MAYMOVE : 0, 0);
}

static void move(struct world *w)
{
	u64 len = random_len(w);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (below(w, 3) ? 0 : MREMAP_DONTUNMAP);

	quire_mremap(w->cpu, random_addr(w), len, below(w, 2) ? len : random_len(w), flags, random_addr(w));
}

static void advise(struct world *w)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_FREE,	   MADV_REMOVE,		MADV_DONTFORK,	    MADV_DOFORK,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE,	   MADV_WIPEONFORK,	MADV_KEEPONFORK,    MADV_COLD,
		MADV_WILLNEED, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE,
	};

	quire_madvise(w->cpu, random_addr(w), random_len(w), advice[below(w, ARRAY_SIZE(advice))]);
}

static void lock(struct world *w)
{
	switch (below(w, 6)) {
	case 0:
		quire_mlockall(w->cpu, (int)(1 + below(w, 7)));
		break;
	case 1:
		quire_munlockall(w->cpu);
		break;
	case 2:
	case 3:
		quire_mlock2(w->cpu, random_addr(w), random_len(w), below(w, 2) ? MLOCK_ONFAULT : 0);
		break;
	default:
		quire_munlock(w->cpu, random_addr(w), random_len(w));
	}
}

static void change_file(struct world *w)
{
	struct quire_file *file = w->file[below(w, NR_FILES)];
	int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (below(w, 5) == 0)
		quire_file_truncate(w->cpu, file, below(w, 4 << 20));
	else
		quire_file_fallocate(w->cpu, file, below(w, 2) ? punch : 0, below(w, 2 << 20), 1 + below(w, 256 << 10));
}

static void touch(struct world *w)
{
	u64 addr = random_addr(w), value = w->seed;

	for (unsigned i = 0; i < 8; i++, addr += (1 + below(w, 3)) << PAGE_SHIFT) {
		if (below(w, 2))
			quire_store(w->cpu, addr, &value, sizeof(value));
		else
			quire_load(w->cpu, addr, &value, sizeof(value));
	}
}

/* ---------------------------------------------------------------------------------------- processes */

static void fork_mm(struct world *w)
{
	unsigned i = (unsigned)below(w, NR_MMS);

	if (!w->mm[i] && quire_fork(w->cpu, &w->mm[i]))
		w->mm[i] = NULL;
}

static void exit_mm(struct world *w)
{
	unsigned i = (unsigned)below(w, NR_MMS);

	if (!w->mm[i] || w->mm[i] == w->cpu->mm)
		return;
	quire_mm_put(w->cpu, w->mm[i]);
	w->mm[i] = NULL;
}

static void switch_mm(struct world *w)
{
	unsigned i = (unsigned)below(w, NR_MMS);

	if (w->mm[i])
		quire_cpu_run(w->cpu, w->mm[i]);
}

static void random_call(struct world *w)
{
	static void (*const calls[])(struct world *) = {
		map_anon, map_anon, map_file, map_file,	   unmap,   protect, resize,	move,
		advise,	  advise,   lock,     change_file, fork_mm, exit_mm, switch_mm, touch,
		touch,	  touch,    touch,    touch,	   touch,   touch,   touch,
	};

	calls[below(w, ARRAY_SIZE(calls))](w);
}

/* ---------------------------------------------------------------------------------------- */

static void print_line(void *arg, const char *line)
{
	(void)arg;
	printf("%s\n", line);
}

static void start(struct world *w, unsigned orders, u64 seed)
{
	const struct quire_config config = {
		.memory = 128ull << 20, .nr_cpus = 1, .anon_orders = orders, .shmem_orders = orders, .poison = true
	};

	*w = (struct world){ .seed = seed };
	assert_int_equal(quire_create(&config, &w->q), 0);
	assert_int_equal(quire_cpu_enter(w->q, 0, &w->cpu), 0);
	assert_int_equal(quire_mm_create(w->cpu, NULL, &w->mm[0]), 0);
	for (unsigned i = 0; i < NR_FILES; i++)
		assert_int_equal(quire_file_create_shmem(w->cpu, (1 + i) << 20, &w->file[i]), 0);
	quire_cpu_run(w->cpu, w->mm[0]);
}

static void finish(struct world *w)
{
	quire_cpu_run(w->cpu, NULL);
	for (unsigned i = 0; i < NR_MMS; i++)
		if (w->mm[i])
			quire_mm_put(w->cpu, w->mm[i]);
	for (unsigned i = 0; i < NR_FILES; i++)
		quire_file_put(w->cpu, w->file[i]);
	assert_int_equal(quire_validate(w->cpu, print_line, NULL), 0);
	for (unsigned id = 0; id < NR_CACHES; id++)
		assert_int_equal(kmem_cache_in_use(&w->q->cache[id]), 0);
	quire_cpu_leave(w->cpu);
	assert_int_equal(quire_destroy(w->q), 0);
}

static void run(unsigned orders, u64 seed)
{
	struct world w;

	start(&w, orders, seed);
	for (unsigned i = 0; i < NR_CALLS; i++) {
		random_call(&w);
		if (i % VALIDATE_EVERY)
			continue;
		if (quire_validate(w.cpu, print_line, NULL))
			fail_msg("after call %u, orders %#x, seed %llu", i, orders, (unsigned long long)seed);
	}
	finish(&w);
}

static void test_small_folios(void **state)
{
	(void)state;
	run(QUIRE_ORDERS_4K, 1);
}

static void test_large_folios(void **state)
{
	(void)state;
	run(QUIRE_ORDERS_64K, 2);
}

static void test_leaf_pmds(void **state)
{
	(void)state;
	run(QUIRE_ORDERS_2M, 3);
}

static void test_all_orders(void **state)
{
	(void)state;
	run(QUIRE_ORDERS_ALL, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_folios),
		cmocka_unit_test(test_large_folios),
		cmocka_unit_test(test_leaf_pmds),
		cmocka_unit_test(test_all_orders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
