/* SPDX-License-Identifier: MIT */
/*
 * The TLB protocol: after a flush has returned no CPU gets through by an entry as it was before, whatever the CPU is doing; and
 * what a flush does not concern stays. Entries are taken away and given back here under the nose of the memory manager, which
 * finds all of them in place again at the end.
 */
#include "fixture.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "mm/pgtable.h"
#include "random.h"

#define NR_CPUS 4u
#define NR_PAGES 128u

struct world {
	struct fixture f;
	struct quire_cpu
		*cpu[NR_CPUS]; /* [0] is the fixture's; the others are entered by their threads, or by the test */
	struct quire_mm *mm;
	u64 base;
	u32 stop;   /* atomic */
	u32 broken; /* atomic: a load got through, and should not */
	u32 loads;  /* atomic: loads that got through while they might */
};

static u64 page_va(const struct world *w, u64 page)
{
	return w->base + page * PAGE_SIZE;
}

/* All pages hold their number + 1 in their first word. */
static void world_start(struct world *w)
{
	const struct quire_config config = { .memory = 8u << 20, .nr_cpus = NR_CPUS };
	s64 addr;

	memset(w, 0, sizeof(*w));
	fixture_start(&w->f, &config);
	w->cpu[0] = w->f.cpu;
	assert_int_equal(quire_mm_create(w->f.cpu, NULL, &w->mm), 0);
	quire_cpu_run(w->f.cpu, w->mm);
	addr = quire_mmap(w->f.cpu, 0, NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL,
			  0);
	assert_true(addr > 0);
	w->base = (u64)addr;
	for (u64 page = 0; page < NR_PAGES; page++) {
		u64 word = page + 1;

		assert_int_equal(quire_store(w->f.cpu, page_va(w, page), &word, sizeof(word)), 0);
	}
}

static void world_stop(struct world *w)
{
	assert_int_equal(w->broken, 0);
	quire_cpu_run(w->f.cpu, NULL);
	quire_mm_put(w->f.cpu, w->mm);
	fixture_stop(&w->f);
}

/* This thread plays all CPUs in turn. */
static void enter_all(struct world *w)
{
	for (unsigned id = 1; id < NR_CPUS; id++) {
		assert_int_equal(quire_cpu_enter(w->f.q, id, &w->cpu[id]), 0);
		quire_cpu_run(w->cpu[id], w->mm);
	}
}

static void leave_all(struct world *w)
{
	for (unsigned id = 1; id < NR_CPUS; id++)
		quire_cpu_leave(w->cpu[id]);
}

static pte_t *page_pte(struct world *w, u64 page)
{
	struct ptdesc *tbl;
	pmd_t *pmdp = pmd_offset(w->mm, page_va(w, page), &tbl);
	pte_t *ptep = pmdp ? pte_offset_lockless(w->mm, pmdp, page_va(w, page)) : NULL;

	BUG_ON(!ptep);
	return ptep;
}

/* One access in user mode, without faults: the frame's address or NULL. */
static u8 *touch(struct quire_cpu *cpu, u64 va, enum mmu_access access)
{
	u8 *host;

	cpu_user_enter(cpu, &cpu->tlb);
	host = mmu_translate(&cpu->tlb.tlb, cpu->q->frames, cpu->mm->pgd->pfn, va, access);
	cpu_user_exit(&cpu->tlb);
	return host;
}

/* ---------------------------------------------------------------------------------------- one thread, all CPUs */

static void test_stale_until_flushed(void **state)
{
	struct world w;
	pte_t saved;

	(void)state;
	world_start(&w);
	enter_all(&w);
	for (unsigned id = 0; id < NR_CPUS; id++)
		assert_non_null(touch(w.cpu[id], page_va(&w, 3), MMU_READ));
	saved = pte_get_and_clear(page_pte(&w, 3));
	/* Nobody was told. */
	for (unsigned id = 0; id < NR_CPUS; id++)
		assert_non_null(touch(w.cpu[id], page_va(&w, 3), MMU_READ));
	tlb_flush_range(w.cpu[1], w.mm, page_va(&w, 3), page_va(&w, 4));
	for (unsigned id = 0; id < NR_CPUS; id++)
		assert_null(touch(w.cpu[id], page_va(&w, 3), MMU_READ));
	pte_set(page_pte(&w, 3), saved);
	leave_all(&w);
	world_stop(&w);
}

static void test_flusher_need_not_run_it(void **state)
{
	struct world w;
	pte_t saved;

	(void)state;
	world_start(&w);
	enter_all(&w);
	quire_cpu_run(w.cpu[2], NULL);
	assert_non_null(touch(w.cpu[1], page_va(&w, 3), MMU_READ));
	saved = pte_get_and_clear(page_pte(&w, 3));
	tlb_flush_mm(w.cpu[2], w.mm);
	for (unsigned id = 0; id < 2; id++)
		assert_null(touch(w.cpu[id], page_va(&w, 3), MMU_READ));
	pte_set(page_pte(&w, 3), saved);
	leave_all(&w);
	world_stop(&w);
}

/* How many of pages [0, nr) the CPU has in its TLB. */
static u64 count_cached(struct world *w, struct quire_cpu *cpu, u64 nr)
{
	u64 hits = cpu->tlb.tlb.nr_hit;

	for (u64 page = 0; page < nr; page++)
		assert_non_null(touch(cpu, page_va(w, page), MMU_READ));
	return cpu->tlb.tlb.nr_hit - hits;
}

/* A CPU that missed a few flushes finds in the log what they were about, and keeps the rest. */
static void test_log_keeps_the_rest(void **state)
{
	struct world w;

	(void)state;
	world_start(&w);
	enter_all(&w);
	count_cached(&w, w.cpu[1], 32);
	assert_int_equal(count_cached(&w, w.cpu[1], 32), 32);
	for (u64 page = 0; page < 3; page++)
		tlb_flush_range(w.cpu[0], w.mm, page_va(&w, 2 * page), page_va(&w, 2 * page + 1));
	assert_int_equal(count_cached(&w, w.cpu[1], 32), 29);
	/* More than the log holds: all goes. */
	for (unsigned i = 0; i <= TLB_LOG; i++)
		tlb_flush_range(w.cpu[0], w.mm, page_va(&w, 100), page_va(&w, 101));
	assert_int_equal(count_cached(&w, w.cpu[1], 32), 0);
	/* A long range: all goes. */
	assert_int_equal(count_cached(&w, w.cpu[1], 32), 32);
	tlb_flush_range(w.cpu[0], w.mm, page_va(&w, 0), page_va(&w, TLB_FULL_FLUSH_PAGES + 1));
	assert_int_equal(count_cached(&w, w.cpu[1], 32), 0);
	leave_all(&w);
	world_stop(&w);
}

/* Alone: nothing but the own TLB is told, and only of the range. */
static void test_alone_is_local(void **state)
{
	struct world w;
	u64 shootdowns;

	(void)state;
	world_start(&w);
	count_cached(&w, w.cpu[0], 32);
	shootdowns = quire_event_sum(w.f.q, TLB_SHOOTDOWN);
	tlb_flush_range(w.cpu[0], w.mm, page_va(&w, 4), page_va(&w, 8));
	assert_int_equal(count_cached(&w, w.cpu[0], 32), 28);
	assert_int_equal(quire_event_sum(w.f.q, TLB_SHOOTDOWN), shootdowns);
	/* Others that run it are not interrupted unless they are in user mode. */
	enter_all(&w);
	tlb_flush_range(w.cpu[0], w.mm, page_va(&w, 4), page_va(&w, 8));
	assert_int_equal(quire_event_sum(w.f.q, TLB_SHOOTDOWN), shootdowns + 1);
	assert_int_equal(quire_event_sum(w.f.q, TLB_IPI), 0);
	leave_all(&w);
	world_stop(&w);
}

static void test_switch_empties_and_clears_the_mask(void **state)
{
	struct world w;
	struct quire_mm *other;

	(void)state;
	world_start(&w);
	enter_all(&w);
	assert_int_equal(w.mm->tlb.cpumask, (1u << NR_CPUS) - 1);
	count_cached(&w, w.cpu[1], 16);
	assert_int_equal(quire_mm_create(w.f.cpu, NULL, &other), 0);
	quire_cpu_run(w.cpu[1], other);
	assert_int_equal(w.mm->tlb.cpumask, ((1u << NR_CPUS) - 1) & ~2u);
	assert_int_equal(other->tlb.cpumask, 2);
	/* The other address space is empty: nothing of the first shows through. */
	assert_null(touch(w.cpu[1], page_va(&w, 3), MMU_READ));
	quire_cpu_run(w.cpu[1], w.mm);
	assert_int_equal(other->tlb.cpumask, 0);
	assert_int_equal(count_cached(&w, w.cpu[1], 16), 0);
	quire_mm_put(w.f.cpu, other);
	leave_all(&w);
	assert_int_equal(w.mm->tlb.cpumask, 1);
	world_stop(&w);
}

/* ---------------------------------------------------------------------------------------- shootdown */

#define POISON 0xdeadbeefull

struct reader {
	struct world *w;
	unsigned id;
	pthread_t thread;
};

/* Loads in user mode what the test may take away any moment. The word is read as plain memory: see clear_and_check. */
static void *load_all_the_time(void *arg)
{
	struct reader *r = arg;
	struct world *w = r->w;
	struct quire_cpu *cpu;
	u64 random = r->id;

	if (quire_cpu_enter(w->f.q, r->id, &cpu))
		return NULL;
	while (!smp_load_acquire(&w->stop)) {
		quire_cpu_run(cpu, w->mm);
		for (u64 sections = random_below(&random, 20); sections; sections--) {
			cpu_user_enter(cpu, &cpu->tlb);
			for (u64 n = random_below(&random, 8) ? 50 : 5000; n; n--) {
				u64 page = random_below(&random, NR_PAGES);
				const u8 *host;

				cpu_user_poll(cpu, &cpu->tlb);
				host = mmu_translate(&cpu->tlb.tlb, w->f.q->frames, w->mm->pgd->pfn, page_va(w, page),
						     MMU_READ);
				if (!host)
					continue;
				__atomic_fetch_add(*(const u64 *)(const void *)host == page + 1 ? &w->loads
												: &w->broken,
						   1, __ATOMIC_RELAXED);
			}
			cpu_user_exit(&cpu->tlb);
		}
		/* Out of user mode now and then, so that a flusher need not wait for the host to run this thread each time. */
		machine_yield();
		if (random_below(&random, 4) == 0)
			quire_cpu_run(cpu, NULL);
	}
	quire_cpu_leave(cpu);
	return NULL;
}

/*
 * Takes pages [first, first + nr) away, flushes, and only then spoils the frames, as their next owner would: with plain stores, which
 * race with a load that still gets through. Then all is as before.
 */
static void clear_and_check(struct world *w, struct quire_cpu *cpu, u64 first, u64 nr)
{
	pte_t saved[NR_PAGES];
	u64 *word[NR_PAGES];

	for (u64 i = 0; i < nr; i++) {
		saved[i] = pte_get_and_clear(page_pte(w, first + i));
		word[i] = (u64 *)(void *)pfn_to_virt(w->f.q, pte_pfn(saved[i]));
	}
	tlb_flush_range(cpu, w->mm, page_va(w, first), page_va(w, first + nr));
	for (u64 i = 0; i < nr; i++)
		*word[i] = POISON;
	for (u64 i = 0; i < nr; i++)
		*word[i] = first + i + 1;
	for (u64 i = 0; i < nr; i++)
		pte_set(page_pte(w, first + i), saved[i]);
}

struct flusher {
	struct world *w;
	struct quire_cpu *cpu;
	u64 first, nr; /* its own pages */
	unsigned rounds;
	u64 random;
};

static void flush_often(struct flusher *f)
{
	for (unsigned i = 0; i < f->rounds; i++) {
		u64 at = random_below(&f->random, f->nr), most = f->nr - at;

		/* Mostly single pages; now and then so many that all is flushed. */
		clear_and_check(f->w, f->cpu, f->first + at,
				random_below(&f->random, 8) ? 1 : 1 + random_below(&f->random, most));
	}
}

static void *flusher_body(void *arg)
{
	struct flusher *f = arg;

	if (quire_cpu_enter(f->w->f.q, 1, &f->cpu))
		return NULL;
	/* Now running it, now not. */
	for (unsigned i = 0; i < 20; i++) {
		quire_cpu_run(f->cpu, i % 2 ? f->w->mm : NULL);
		flush_often(f);
	}
	quire_cpu_leave(f->cpu);
	return NULL;
}

#define ROUNDS 200u

static void test_no_load_gets_through_after_flush(void **state)
{
	struct reader reader[3];
	struct world w;
	struct flusher f = { .w = &w, .first = 0, .nr = NR_PAGES, .rounds = ROUNDS, .random = 1 };

	(void)state;
	world_start(&w);
	f.cpu = w.f.cpu;
	for (unsigned i = 0; i < 3; i++) {
		reader[i] = (struct reader){ .w = &w, .id = i + 1 };
		assert_int_equal(pthread_create(&reader[i].thread, NULL, load_all_the_time, &reader[i]), 0);
	}
	/* Not before they are at it. */
	while (READ_ONCE(w.loads) < 1000)
		machine_yield();
	/* On until some were met in user mode, which is up to the host's scheduler; the test's time limit ends it otherwise. */
	do {
		flush_often(&f);
		machine_yield();
	} while (quire_event_sum(w.f.q, TLB_IPI) < 50);
	smp_store_release(&w.stop, 1);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(reader[i].thread, NULL);
	world_stop(&w);
}

/* Two flush at the same time, each its own pages: generations, log entries and interrupts cross. */
static void test_two_flushers(void **state)
{
	struct reader reader[2];
	struct world w;
	struct flusher mine = { .w = &w, .first = 0, .nr = NR_PAGES / 2, .rounds = ROUNDS, .random = 2 };
	struct flusher theirs = {
		.w = &w, .first = NR_PAGES / 2, .nr = NR_PAGES / 2, .rounds = ROUNDS / 20, .random = 3
	};
	pthread_t thread;

	(void)state;
	world_start(&w);
	mine.cpu = w.f.cpu;
	for (unsigned i = 0; i < 2; i++) {
		reader[i] = (struct reader){ .w = &w, .id = i + 2 };
		assert_int_equal(pthread_create(&reader[i].thread, NULL, load_all_the_time, &reader[i]), 0);
	}
	while (READ_ONCE(w.loads) < 1000)
		machine_yield();
	assert_int_equal(pthread_create(&thread, NULL, flusher_body, &theirs), 0);
	flush_often(&mine);
	pthread_join(thread, NULL);
	smp_store_release(&w.stop, 1);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(reader[i].thread, NULL);
	world_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stale_until_flushed),
		cmocka_unit_test(test_flusher_need_not_run_it),
		cmocka_unit_test(test_log_keeps_the_rest),
		cmocka_unit_test(test_alone_is_local),
		cmocka_unit_test(test_switch_empties_and_clears_the_mask),
		cmocka_unit_test(test_no_load_gets_through_after_flush),
		cmocka_unit_test(test_two_flushers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
