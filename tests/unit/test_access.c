/* SPDX-License-Identifier: MIT */
/* A program's loads and stores: across pages, at the edges of what is mapped, and what they report when they fail. */
#define _GNU_SOURCE
#include "fixture.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "random.h"

#define NR_PAGES 16u
#define NR_CPUS 3u
#define RW (PROT_READ | PROT_WRITE)

struct world {
	struct fixture f;
	struct quire_mm *mm;
	u64 base; /* NR_PAGES pages, readable and writable, with nothing mapped before and behind */
	u32 failed;
};

static void world_start(struct world *w)
{
	const struct quire_config config = { .memory = 8u << 20, .nr_cpus = NR_CPUS };

	memset(w, 0, sizeof(*w));
	w->base = 0x10000000;
	fixture_start(&w->f, &config);
	assert_int_equal(quire_mm_create(w->f.cpu, NULL, &w->mm), 0);
	quire_cpu_run(w->f.cpu, w->mm);
	assert_int_equal(quire_mmap(w->f.cpu, w->base, NR_PAGES * PAGE_SIZE, RW,
				    MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0),
			 w->base);
}

static void world_stop(struct world *w)
{
	quire_cpu_run(w->f.cpu, NULL);
	quire_mm_put(w->f.cpu, w->mm);
	fixture_stop(&w->f);
}

static void assert_fault(struct world *w, int signo, int code, u64 addr)
{
	struct quire_fault fault;

	quire_cpu_fault(w->f.cpu, &fault);
	assert_int_equal(fault.signo, signo);
	assert_int_equal(fault.code, code);
	assert_int_equal(fault.addr, addr);
}

/* ---------------------------------------------------------------------------------------- what comes through */

static void test_against_a_flat_model(void **state)
{
	static u8 model[NR_PAGES * PAGE_SIZE], buf[3 * PAGE_SIZE];
	struct world w;
	u64 seed = 1;

	(void)state;
	world_start(&w);
	memset(model, 0, sizeof(model));
	for (unsigned i = 0; i < 3000; i++) {
		u64 len = random_below(&seed, 4) ? random_below(&seed, 32) : random_below(&seed, sizeof(buf));
		u64 at = random_below(&seed, sizeof(model) - len + 1);

		if (random_below(&seed, 2)) {
			for (u64 n = 0; n < len; n++)
				buf[n] = (u8)random_next(&seed);
			assert_int_equal(quire_store(w.f.cpu, w.base + at, buf, len), 0);
			memcpy(model + at, buf, len);
		} else {
			assert_int_equal(quire_load(w.f.cpu, w.base + at, buf, len), 0);
			assert_memory_equal(buf, model + at, len);
		}
		if (i % 500 == 0)
			tlb_flush_mm(w.f.cpu, w.mm);
	}
	/* process_vm_readv and writev see the same. */
	assert_int_equal(quire_mm_read(w.f.cpu, w.mm, w.base + 100, buf, sizeof(buf)), sizeof(buf));
	assert_memory_equal(buf, model + 100, sizeof(buf));
	memset(buf, 0x5a, sizeof(buf));
	assert_int_equal(quire_mm_write(w.f.cpu, w.mm, w.base + PAGE_SIZE - 1, buf, sizeof(buf)), sizeof(buf));
	memcpy(model + PAGE_SIZE - 1, buf, sizeof(buf));
	for (u64 at = 0; at < sizeof(model); at += sizeof(buf) / 2) {
		u64 len = sizeof(model) - at < sizeof(buf) ? sizeof(model) - at : sizeof(buf);

		assert_int_equal(quire_load(w.f.cpu, w.base + at, buf, len), 0);
		assert_memory_equal(buf, model + at, len);
	}
	world_stop(&w);
}

/* Accesses that end just before, at and behind the end of a page, whose neighbours in the machine are other pages. */
static void test_page_ends(void **state)
{
	u8 buf[2 * PAGE_SIZE], back[2 * PAGE_SIZE], byte = 0x77;
	struct world w;

	(void)state;
	world_start(&w);
	memset(buf, 0x11, sizeof(buf));
	/* Touched from the last to the first, so that frames do not stand as pages do. */
	for (u64 page = NR_PAGES; page--;)
		assert_int_equal(quire_store(w.f.cpu, w.base + page * PAGE_SIZE, &byte, 1), 0);
	for (u64 room = 1; room <= PAGE_SIZE; room += room < 16 ? 1 : 1020) {
		for (u64 len = room - 1; len <= room + 1; len++) {
			u64 at = w.base + 5 * PAGE_SIZE - room;

			memset(buf, (int)(room + len), sizeof(buf));
			assert_int_equal(quire_store(w.f.cpu, at, buf, len), 0);
			assert_int_equal(quire_load(w.f.cpu, at, back, len), 0);
			assert_memory_equal(back, buf, len);
			assert_int_equal(quire_mm_read(w.f.cpu, w.mm, at, back, len), len);
			assert_memory_equal(back, buf, len);
		}
	}
	/* The other pages' first bytes are as they were. */
	for (u64 page = 0; page < NR_PAGES; page++) {
		assert_int_equal(quire_load(w.f.cpu, w.base + page * PAGE_SIZE, back, 1), 0);
		if (page != 4 && page != 5)
			assert_int_equal(back[0], 0x77);
	}
	world_stop(&w);
}

static void test_nothing_is_no_access(void **state)
{
	struct world w;
	u8 byte = 7;

	(void)state;
	world_start(&w);
	assert_int_equal(quire_load(w.f.cpu, 0, &byte, 0), 0);
	assert_int_equal(quire_store(w.f.cpu, ~0ull, &byte, 0), 0);
	assert_int_equal(quire_mm_read(w.f.cpu, w.mm, 0, &byte, 0), 0);
	quire_cpu_run(w.f.cpu, NULL);
	assert_int_equal(quire_load(w.f.cpu, 0, &byte, 0), 0);
	world_stop(&w);
}

/* ---------------------------------------------------------------------------------------- what does not */

static void test_unmapped(void **state)
{
	const u64 end = 0x10000000 + NR_PAGES * PAGE_SIZE;
	struct world w;
	u8 buf[3 * PAGE_SIZE] = { 0 };

	(void)state;
	world_start(&w);
	assert_int_equal(quire_load(w.f.cpu, w.base - 1, buf, 1), -EFAULT);
	assert_fault(&w, SIGSEGV, SEGV_MAPERR, w.base - 1);
	/* The address is that of the first byte in the page that fails; the pages before it are done. */
	memset(buf, 0xab, sizeof(buf));
	assert_int_equal(quire_store(w.f.cpu, end - PAGE_SIZE - 5, buf, 3 * PAGE_SIZE), -EFAULT);
	assert_fault(&w, SIGSEGV, SEGV_MAPERR, end);
	assert_int_equal(quire_load(w.f.cpu, end - 1, buf, 1), 0);
	assert_int_equal(buf[0], 0xab);
	assert_int_equal(quire_store(w.f.cpu, w.base - 7, buf, 16), -EFAULT);
	assert_fault(&w, SIGSEGV, SEGV_MAPERR, w.base - 7);
	assert_int_equal(quire_load(w.f.cpu, w.base, buf, 1), 0);
	assert_int_equal(buf[0], 0);
	world_stop(&w);
}

static void test_impossible_addresses(void **state)
{
	const struct {
		u64 addr;
		bool canonical;
	} cases[] = {
		{ 0, true },
		{ TASK_SIZE, true },
		{ TASK_SIZE - 1, true },
		{ 1ull << 47, false },
		{ 1ull << 63, false },
		{ (1ull << 47) - 1, true },
		{ ~0ull << 47, true },
		{ (~0ull << 47) - 1, false },
		{ ~0ull, true },
		{ ~0ull - 4095, true },
	};
	struct world w;
	u8 buf[16];

	(void)state;
	world_start(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 addr = cases[i].addr, reported = cases[i].canonical ? addr : 0;
		int code = cases[i].canonical ? SEGV_MAPERR : SI_KERNEL;

		assert_int_equal(quire_load(w.f.cpu, addr, buf, 1), -EFAULT);
		assert_fault(&w, SIGSEGV, code, reported);
		assert_int_equal(quire_fetch(w.f.cpu, addr, buf, 1), -EFAULT);
		assert_fault(&w, SIGSEGV, code, reported);
		assert_int_equal(quire_store(w.f.cpu, addr, buf, sizeof(buf)), -EFAULT);
		assert_fault(&w, SIGSEGV, code, reported);
		assert_int_equal(quire_mm_read(w.f.cpu, w.mm, addr, buf, 1), -EFAULT);
	}
	quire_cpu_run(w.f.cpu, NULL);
	assert_int_equal(quire_load(w.f.cpu, w.base, buf, 1), -EFAULT);
	assert_fault(&w, SIGSEGV, SEGV_MAPERR, w.base);
	world_stop(&w);
}

static void test_protection(void **state)
{
	struct world w;
	u64 word = 1, old = 1;

	(void)state;
	world_start(&w);
	assert_int_equal(quire_store(w.f.cpu, w.base, &word, 8), 0);
	assert_int_equal(quire_fetch(w.f.cpu, w.base, &word, 8), -EFAULT);
	assert_fault(&w, SIGSEGV, SEGV_ACCERR, w.base);
	assert_int_equal(quire_mprotect(w.f.cpu, w.base, PAGE_SIZE, PROT_READ | PROT_EXEC), 0);
	assert_int_equal(quire_fetch(w.f.cpu, w.base, &word, 8), 0);
	assert_int_equal(word, 1);
	assert_int_equal(quire_store(w.f.cpu, w.base + 4, &word, 4), -EFAULT);
	assert_fault(&w, SIGSEGV, SEGV_ACCERR, w.base + 4);
	assert_int_equal(quire_cmpxchg(w.f.cpu, w.base + 8, &old, 2), -EFAULT);
	assert_fault(&w, SIGSEGV, SEGV_ACCERR, w.base + 8);
	assert_int_equal(quire_mm_write(w.f.cpu, w.mm, w.base, &word, 8), -EFAULT);
	assert_int_equal(quire_mprotect(w.f.cpu, w.base, PAGE_SIZE, PROT_NONE), 0);
	assert_int_equal(quire_load(w.f.cpu, w.base, &word, 8), -EFAULT);
	assert_fault(&w, SIGSEGV, SEGV_ACCERR, w.base);
	assert_int_equal(quire_mm_read(w.f.cpu, w.mm, w.base, &word, 8), -EFAULT);
	/* Some, then none. */
	assert_int_equal(quire_mm_read(w.f.cpu, w.mm, w.base + NR_PAGES * PAGE_SIZE - 3, &word, 8), 3);
	assert_int_equal(quire_mprotect(w.f.cpu, w.base, PAGE_SIZE, RW), 0);
	assert_int_equal(quire_load(w.f.cpu, w.base, &word, 8), 0);
	assert_int_equal(word, 1);
	world_stop(&w);
}

/* ---------------------------------------------------------------------------------------- atomic words */

static void test_cmpxchg(void **state)
{
	struct world w;
	u64 old = 0, word;

	(void)state;
	world_start(&w);
	assert_int_equal(quire_cmpxchg(w.f.cpu, w.base + 8, &old, 5), 0);
	assert_int_equal(old, 0);
	old = 4;
	assert_int_equal(quire_cmpxchg(w.f.cpu, w.base + 8, &old, 6), 0);
	assert_int_equal(old, 5);
	assert_int_equal(quire_cmpxchg(w.f.cpu, w.base + 8, &old, 6), 0);
	assert_int_equal(quire_load(w.f.cpu, w.base + 8, &word, 8), 0);
	assert_int_equal(word, 6);
	assert_int_equal(quire_cmpxchg(w.f.cpu, w.base + 4, &old, 6), -EINVAL);
	world_stop(&w);
}

#define INCREMENTS 20000u

static int increment(struct quire_cpu *cpu, u64 addr)
{
	u64 old, seen;
	int error = quire_load(cpu, addr, &old, sizeof(old));

	while (!error) {
		seen = old;
		error = quire_cmpxchg(cpu, addr, &seen, old + 1);
		if (seen == old)
			break;
		old = seen;
	}
	return error;
}

struct counter {
	struct world *w;
	unsigned id;
	pthread_t thread;
};

static void *count(void *arg)
{
	struct counter *c = arg;
	struct quire_cpu *cpu;

	if (quire_cpu_enter(c->w->f.q, c->id, &cpu))
		return NULL;
	quire_cpu_run(cpu, c->w->mm);
	for (unsigned i = 0; i < INCREMENTS; i++)
		if (increment(cpu, c->w->base + 16))
			__atomic_fetch_add(&c->w->failed, 1, __ATOMIC_RELAXED);
	quire_cpu_leave(cpu);
	return NULL;
}

/* Threads of one program count in one word, while its page changes under them: no increment is lost. */
static void test_threads_count(void **state)
{
	struct counter counter[NR_CPUS];
	struct world w;
	u64 word;

	(void)state;
	world_start(&w);
	for (unsigned i = 1; i < NR_CPUS; i++) {
		counter[i] = (struct counter){ .w = &w, .id = i };
		assert_int_equal(pthread_create(&counter[i].thread, NULL, count, &counter[i]), 0);
	}
	for (unsigned i = 0; i < 200; i++) {
		struct quire_mm *child;

		/* Fork makes the page shared, and whoever stores next copies it or takes it back. */
		assert_int_equal(quire_fork(w.f.cpu, &child), 0);
		machine_yield();
		quire_mm_put(w.f.cpu, child);
		assert_int_equal(quire_madvise(w.f.cpu, w.base + PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED), 0);
	}
	for (unsigned i = 1; i < NR_CPUS; i++)
		pthread_join(counter[i].thread, NULL);
	assert_int_equal(w.failed, 0);
	assert_int_equal(quire_load(w.f.cpu, w.base + 16, &word, 8), 0);
	assert_int_equal(word, (NR_CPUS - 1) * INCREMENTS);
	world_stop(&w);
}

struct foreigner {
	struct world *w;
	pthread_t thread;
	u64 lost; /* a store that a later load does not see */
	u32 stop; /* atomic */
};

/* process_vm_writev of one word that nobody else writes, and readv of it. */
static void *write_from_outside(void *arg)
{
	struct foreigner *o = arg;
	struct quire_cpu *cpu;

	if (quire_cpu_enter(o->w->f.q, 1, &cpu))
		return NULL;
	for (u64 n = 1, seen = 0; !smp_load_acquire(&o->stop); n++) {
		if (quire_mm_write(cpu, o->w->mm, o->w->base + 8, &n, 8) != 8 ||
		    quire_mm_read(cpu, o->w->mm, o->w->base + 8, &seen, 8) != 8 || seen != n)
			o->lost++;
	}
	quire_cpu_leave(cpu);
	return NULL;
}

/*
 * A store from outside meets fork and copy-on-write: it is in the parent's page or in both, but never in the child's alone,
 * and never in the child's later than fork.
 */
static void test_foreign_stores_and_fork(void **state)
{
	struct foreigner foreigner;
	struct world w;
	u64 changed = 0, word = 1;

	(void)state;
	world_start(&w);
	assert_int_equal(quire_store(w.f.cpu, w.base, &word, 8), 0);
	foreigner = (struct foreigner){ .w = &w };
	assert_int_equal(pthread_create(&foreigner.thread, NULL, write_from_outside, &foreigner), 0);
	for (unsigned i = 0; i < 3000; i++) {
		struct quire_mm *child;
		u64 before, after;

		assert_int_equal(quire_fork(w.f.cpu, &child), 0);
		assert_int_equal(quire_mm_read(w.f.cpu, child, w.base + 8, &before, 8), 8);
		/* The parent's next store makes its page its own again. */
		assert_int_equal(quire_store(w.f.cpu, w.base, &word, 8), 0);
		for (unsigned n = i % 100; n; n--)
			cpu_relax();
		assert_int_equal(quire_mm_read(w.f.cpu, child, w.base + 8, &after, 8), 8);
		changed += before != after;
		quire_mm_put(w.f.cpu, child);
	}
	smp_store_release(&foreigner.stop, 1);
	pthread_join(foreigner.thread, NULL);
	assert_int_equal(foreigner.lost, 0);
	assert_int_equal(changed, 0);
	world_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_a_flat_model),
		cmocka_unit_test(test_page_ends),
		cmocka_unit_test(test_nothing_is_no_access),
		cmocka_unit_test(test_unmapped),
		cmocka_unit_test(test_impossible_addresses),
		cmocka_unit_test(test_protection),
		cmocka_unit_test(test_cmpxchg),
		cmocka_unit_test(test_threads_count),
		cmocka_unit_test(test_foreign_stores_and_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
