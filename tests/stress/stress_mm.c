/* SPDX-License-Identifier: MIT */
/*
 * Threads against each other: faults, munmap, mprotect, mremap, madvise, mlock, fork, exit, truncation and hole punching, all at
 * once, over one shared address space and the children forked from it.
 *
 * Every thread has two kinds of places:
 *   the arena   one range of addresses, and files mapped there, that all threads tear at; an access may fail, but only in
 *               the ways that a signal can explain, and what is read must be something that was once written there
 *   its own     a range that no other thread touches: every byte is checked against what this thread wrote, also in
 *               forked children, whatever happens elsewhere in the address space meanwhile
 *
 * The work goes in rounds. Between rounds all threads stand still and quire_validate checks every structure. At the
 * end nothing may be left: no frame, no object.
 */
#define _GNU_SOURCE
#include "cmocka_setup.h"

#include <errno.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "quire/quire.h"

#define NR_THREADS 4u
#define PAGE 4096ull
#define ARENA_START 0x10000000ull /* not aligned to 2 MiB on purpose: see arena_base */
#define ARENA_PAGES 1400ull	  /* crosses two boundaries between page tables */
#define OWN_START 0x40000000ull
#define OWN_STRIDE 0x1000000ull
#define OWN_PAGES 600ull
#define FILE_PAGES 256ull
#define NR_FILES 2u

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

struct stress {
	struct quire *q;
	struct quire_mm *mm; /* shared by all threads */
	struct quire_file *file[NR_FILES];
	pthread_barrier_t barrier;
	unsigned rounds, ops; /* per thread */
	unsigned violations;
};

struct worker {
	struct stress *s;
	struct quire_cpu *cpu;
	struct quire_mm *child; /* a forked address space kept for a while, or NULL */
	unsigned id;
	uint64_t random;
	uint64_t stamp[OWN_PAGES];	 /* what this thread last wrote to each of its own pages; 0: zeroes */
	uint64_t child_stamp[OWN_PAGES]; /* the same as the child must see it */
};

static uint64_t rnd(struct worker *w, uint64_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random % below;
}

#define REQUIRE(cond)                                                                                                  \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: thread %u: %s\n", __FILE__, __LINE__, w->id, #cond);                   \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* ---------------------------------------------------------------------------------------- the arena */

static uint64_t arena_page(struct worker *w)
{
	return ARENA_START + 0xff000 + rnd(w, ARENA_PAGES) * PAGE;
}

static uint64_t some_pages(struct worker *w)
{
	return (1 + rnd(w, rnd(w, 8) ? 24 : 700)) * PAGE;
}

static int some_prot(struct worker *w)
{
	static const int prot[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
				    PROT_READ | PROT_EXEC };

	return prot[rnd(w, sizeof(prot) / sizeof(prot[0]))];
}

/* Failures that a call on a torn range may end with. */
static bool call_failed_properly(int64_t ret)
{
	return ret == -ENOMEM || ret == -EINVAL || ret == -EFAULT || ret == -EAGAIN || ret == -EPERM ||
	       ret == -EACCES || ret == -EEXIST || ret == -EBUSY;
}

static void check_call(struct worker *w, int64_t ret)
{
	REQUIRE(ret >= 0 || call_failed_properly(ret));
}

static void arena_map(struct worker *w)
{
	static const int kinds[] = { MAP_PRIVATE | MAP_ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED,
				     MAP_PRIVATE };
	int flags = kinds[rnd(w, 4)] | (rnd(w, 8) ? MAP_FIXED : 0) | (rnd(w, 6) ? 0 : MAP_POPULATE);
	struct quire_file *file = flags & MAP_ANONYMOUS ? NULL : w->s->file[rnd(w, NR_FILES)];
	int64_t at;

	at = quire_mmap(w->cpu, arena_page(w), some_pages(w), rnd(w, 4) ? PROT_READ | PROT_WRITE : some_prot(w), flags,
			file, file ? rnd(w, FILE_PAGES) * PAGE : 0);
	check_call(w, at);
	/* What landed outside the arena would pile up. */
	if (at > 0 && !(flags & MAP_FIXED))
		check_call(w, quire_munmap(w->cpu, (uint64_t)at, 700 * PAGE));
}

static void arena_remap(struct worker *w)
{
	uint64_t old_len = some_pages(w), new_len = rnd(w, 2) ? old_len : some_pages(w);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (!rnd(w, 6) && old_len == new_len)
		flags |= 4; /* MREMAP_DONTUNMAP */
	check_call(w, quire_mremap(w->cpu, arena_page(w), old_len, new_len, flags, arena_page(w)));
}

static void arena_advise(struct worker *w)
{
	static const int advice[] = { MADV_DONTNEED,
				      MADV_DONTNEED,
				      MADV_FREE,
				      MADV_COLD,
				      MADV_WILLNEED,
				      MADV_DONTFORK,
				      MADV_DOFORK,
				      MADV_WIPEONFORK,
				      MADV_KEEPONFORK,
				      MADV_REMOVE,
				      MADV_GUARD_INSTALL,
				      MADV_GUARD_REMOVE,
				      22 /* POPULATE_READ */,
				      23 /* POPULATE_WRITE */ };

	check_call(w, quire_madvise(w->cpu, arena_page(w), some_pages(w),
				    advice[rnd(w, sizeof(advice) / sizeof(advice[0]))]));
}

static void arena_lock(struct worker *w)
{
	if (rnd(w, 2))
		check_call(w, quire_mlock2(w->cpu, arena_page(w), some_pages(w), (int)rnd(w, 2)));
	else
		check_call(w, quire_munlock(w->cpu, arena_page(w), some_pages(w)));
}

/* Every word ever stored in the arena or its files carries this mark, so that a word from elsewhere is noticed. */
#define ARENA_MARK 0xa2ea000000000000ull

static void check_arena_word(struct worker *w, uint64_t word)
{
	REQUIRE(word == 0 || (word & 0xffff000000000000ull) == ARENA_MARK);
}

static void check_access(struct worker *w, int ret)
{
	struct quire_fault fault;

	if (!ret)
		return;
	quire_cpu_fault(w->cpu, &fault);
	if (ret == -EFAULT)
		REQUIRE(fault.signo == SIGSEGV || fault.signo == SIGBUS);
	else
		REQUIRE(ret == -ENOMEM && fault.signo == SIGKILL);
}

static void arena_touch(struct worker *w)
{
	for (unsigned i = 0; i < 16; i++) {
		uint64_t addr = arena_page(w) + rnd(w, 512) * 8, word = ARENA_MARK | rnd(w, 1ull << 40);
		int ret;

		if (rnd(w, 2)) {
			check_access(w, quire_store(w->cpu, addr, &word, 8));
			continue;
		}
		ret = quire_load(w->cpu, addr, &word, 8);
		check_access(w, ret);
		if (!ret)
			check_arena_word(w, word);
	}
}

static void arena_file(struct worker *w)
{
	struct quire_file *file = w->s->file[rnd(w, NR_FILES)];
	uint64_t word = ARENA_MARK | rnd(w, 1ull << 40);

	switch (rnd(w, 4)) {
	case 0:
		check_call(w, quire_file_truncate(w->cpu, file, rnd(w, FILE_PAGES * PAGE / 8) * 8));
		break;
	case 1:
		check_call(w, quire_file_fallocate(w->cpu, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						   rnd(w, FILE_PAGES) * PAGE, some_pages(w)));
		break;
	case 2:
		check_call(w, quire_file_write(w->cpu, file, rnd(w, FILE_PAGES * PAGE / 8) * 8, &word, 8));
		break;
	default:
		if (quire_file_read(w->cpu, file, rnd(w, FILE_PAGES * PAGE / 8) * 8, &word, 8) == 8)
			check_arena_word(w, word);
		break;
	}
}

/* ---------------------------------------------------------------------------------------- its own pages */

static uint64_t own_addr(const struct worker *w, uint64_t page)
{
	return OWN_START + w->id * OWN_STRIDE + page * PAGE;
}

static void own_check_page(struct worker *w, uint64_t page, uint64_t expected)
{
	uint64_t word = ~0ull, at = own_addr(w, page) + rnd(w, 2) * (PAGE - 8);

	REQUIRE(quire_load(w->cpu, at, &word, 8) == 0);
	REQUIRE(word == expected);
}

static void own_store(struct worker *w, uint64_t page, uint64_t *stamp)
{
	uint64_t value = (uint64_t)w->id << 56 | rnd(w, 1ull << 50) << 1 | 1;

	REQUIRE(quire_store(w->cpu, own_addr(w, page), &value, 8) == 0);
	REQUIRE(quire_store(w->cpu, own_addr(w, page) + PAGE - 8, &value, 8) == 0);
	stamp[page] = value;
}

static void own_map(struct worker *w)
{
	REQUIRE(quire_mmap(w->cpu, own_addr(w, 0), OWN_PAGES * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0) == (int64_t)own_addr(w, 0));
	memset(w->stamp, 0, sizeof(w->stamp));
}

static void own_touch(struct worker *w)
{
	for (unsigned i = 0; i < 16; i++) {
		uint64_t page = rnd(w, OWN_PAGES);

		if (rnd(w, 2))
			own_store(w, page, w->stamp);
		else
			own_check_page(w, page, w->stamp[page]);
	}
}

static void own_drop(struct worker *w)
{
	uint64_t first = rnd(w, OWN_PAGES), nr = 1 + rnd(w, OWN_PAGES - first);

	if (rnd(w, 2)) {
		REQUIRE(quire_madvise(w->cpu, own_addr(w, first), nr * PAGE, MADV_DONTNEED) == 0);
	} else {
		REQUIRE(quire_munmap(w->cpu, own_addr(w, first), nr * PAGE) == 0);
		REQUIRE(quire_mmap(w->cpu, own_addr(w, first), nr * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0) > 0);
	}
	memset(w->stamp + first, 0, nr * sizeof(w->stamp[0]));
}

static void own_protect(struct worker *w)
{
	uint64_t first = rnd(w, OWN_PAGES), nr = 1 + rnd(w, OWN_PAGES - first), value = 1;
	struct quire_fault fault;

	REQUIRE(quire_mprotect(w->cpu, own_addr(w, first), nr * PAGE, PROT_READ) == 0);
	REQUIRE(quire_store(w->cpu, own_addr(w, first), &value, 8) == -EFAULT);
	quire_cpu_fault(w->cpu, &fault);
	REQUIRE(fault.signo == SIGSEGV && fault.code == 2 && fault.addr == own_addr(w, first));
	own_check_page(w, first, w->stamp[first]);
	REQUIRE(quire_mprotect(w->cpu, own_addr(w, first), nr * PAGE, PROT_READ | PROT_WRITE) == 0);
	own_store(w, first, w->stamp);
}

/* Moves everything away and back again, by whole tables or entry by entry. */
static void own_move(struct worker *w)
{
	uint64_t away = own_addr(w, 0) + OWN_STRIDE / 2 + (rnd(w, 2) ? 0 : 5 * PAGE), len = OWN_PAGES * PAGE;

	/* The range may have been cut into several VMAs; as one again it can move in one call. */
	if (quire_mremap(w->cpu, own_addr(w, 0), len, len, MREMAP_MAYMOVE | MREMAP_FIXED, away) != (int64_t)away)
		return;
	REQUIRE(quire_mremap(w->cpu, away, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, own_addr(w, 0)) ==
		(int64_t)own_addr(w, 0));
	own_touch(w);
}

/* ---------------------------------------------------------------------------------------- children */

/* The child sees what was there at the fork; it writes, the parent writes; neither sees the other's. */
static void child_visit(struct worker *w)
{
	quire_cpu_run(w->cpu, w->child);
	for (unsigned i = 0; i < 24; i++) {
		uint64_t page = rnd(w, OWN_PAGES);

		if (rnd(w, 3))
			own_check_page(w, page, w->child_stamp[page]);
		else
			own_store(w, page, w->child_stamp);
	}
	arena_touch(w);
	if (!rnd(w, 3))
		check_call(w, quire_munmap(w->cpu, arena_page(w), some_pages(w)));
	quire_cpu_run(w->cpu, w->s->mm);
}

static void child_exit(struct worker *w)
{
	quire_mm_put(w->cpu, w->child);
	w->child = NULL;
}

static void fork_or_exit(struct worker *w)
{
	int ret;

	if (w->child) {
		child_exit(w);
		return;
	}
	ret = quire_fork(w->cpu, &w->child);
	REQUIRE(ret == 0 || ret == -ENOMEM);
	if (!ret)
		memcpy(w->child_stamp, w->stamp, sizeof(w->stamp));
}

/* ---------------------------------------------------------------------------------------- rounds */

static void one_op(struct worker *w)
{
	static void (*const op[])(
		struct worker *) = { arena_map,	  arena_map,   arena_remap, arena_advise, arena_advise, arena_lock,
				     arena_touch, arena_touch, arena_touch, arena_touch,  arena_file,	own_touch,
				     own_touch,	  own_touch,   own_drop,    own_protect,  own_move,	fork_or_exit };

	switch (rnd(w, 12)) {
	case 0:
		check_call(w, quire_munmap(w->cpu, arena_page(w), some_pages(w)));
		break;
	case 1:
		check_call(w, quire_mprotect(w->cpu, arena_page(w), some_pages(w), some_prot(w)));
		break;
	case 2:
		if (w->child)
			child_visit(w);
		break;
	default:
		op[rnd(w, sizeof(op) / sizeof(op[0]))](w);
		break;
	}
}

static void print_violation(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "violation: %s\n", line);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct stress *s = w->s;

	REQUIRE(quire_cpu_enter(s->q, w->id, &w->cpu) == 0);
	quire_cpu_run(w->cpu, s->mm);
	own_map(w);
	for (unsigned round = 0; round < s->rounds; round++) {
		for (unsigned i = 0; i < s->ops; i++)
			one_op(w);
		for (uint64_t page = 0; page < OWN_PAGES; page += 7)
			own_check_page(w, page, w->stamp[page]);
		pthread_barrier_wait(&s->barrier);
		if (w->id == 0)
			s->violations += quire_validate(w->cpu, print_violation, NULL);
		pthread_barrier_wait(&s->barrier);
	}
	if (w->child)
		child_exit(w);
	quire_cpu_run(w->cpu, NULL);
	quire_cpu_leave(w->cpu);
	return NULL;
}

static void stress_begin(struct stress *s, uint32_t orders, struct quire_cpu **cpu)
{
	struct quire_config config = {
		.memory = 384ull << 20, .nr_cpus = NR_THREADS, .anon_orders = orders, .shmem_orders = orders
	};

	assert_int_equal(quire_create(&config, &s->q), 0);
	assert_int_equal(quire_cpu_enter(s->q, 0, cpu), 0);
	assert_int_equal(quire_mm_create(*cpu, NULL, &s->mm), 0);
	for (unsigned i = 0; i < NR_FILES; i++)
		assert_int_equal(quire_file_create_shmem(*cpu, FILE_PAGES * PAGE, &s->file[i]), 0);
	assert_int_equal(pthread_barrier_init(&s->barrier, NULL, NR_THREADS), 0);
}

/* Everything is given back: what is used is what was used when nothing had been done yet. */
static void stress_end(struct stress *s, uint64_t used_before)
{
	struct quire_cpu *cpu;
	struct quire_stat stat;

	assert_int_equal(quire_cpu_enter(s->q, 0, &cpu), 0);
	quire_mm_put(cpu, s->mm);
	for (unsigned i = 0; i < NR_FILES; i++)
		quire_file_put(cpu, s->file[i]);
	quire_drain(cpu);
	s->violations += quire_validate(cpu, print_violation, NULL);
	quire_stat(cpu, &stat);
	assert_int_equal(s->violations, 0);
	assert_int_equal(stat.frames_table, 0);
	/* Slabs keep a few empty ones for reuse: they are counted apart. */
	assert_int_equal(stat.frames_total - stat.frames_free - stat.frames_slab, used_before);
	quire_cpu_leave(cpu);
	assert_int_equal(quire_destroy(s->q), 0);
	pthread_barrier_destroy(&s->barrier);
}

static unsigned effort(void)
{
	const char *text = getenv("QUIRE_STRESS");

	return text ? (unsigned)strtoul(text, NULL, 10) : 1;
}

static void stress(uint32_t orders)
{
	struct stress s = { .rounds = 30 * effort(), .ops = 250 };
	struct worker *workers = calloc(NR_THREADS, sizeof(*workers));
	pthread_t threads[NR_THREADS];
	struct quire_stat stat;
	struct quire_cpu *cpu;
	uint64_t used;

	assert_non_null(workers);
	stress_begin(&s, orders, &cpu);
	quire_stat(cpu, &stat);
	used = stat.frames_total - stat.frames_free - stat.frames_slab - stat.frames_table;
	quire_cpu_leave(cpu);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		workers[i] = (struct worker){ .s = &s, .id = i, .random = 0x9e3779b97f4a7c15ull * (i + 1) + orders };
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	stress_end(&s, used);
	free(workers);
}

static void stress_4k(void **state)
{
	(void)state;
	stress(QUIRE_ORDERS_4K);
}

static void stress_64k(void **state)
{
	(void)state;
	stress(QUIRE_ORDERS_64K);
}

static void stress_all_orders(void **state)
{
	(void)state;
	stress(QUIRE_ORDERS_ALL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stress_4k),
		cmocka_unit_test(stress_64k),
		cmocka_unit_test(stress_all_orders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
