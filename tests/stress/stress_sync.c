/* SPDX-License-Identifier: MIT */
/*
 * No store to a mapped host file is lost (invariants 40, 83): one CPU stores and stops at some moment, one takes the entries
 * away under it (MADV_DONTNEED), one writes back all the while. Whatever the last store was, a last sync must bring it to the
 * host. What it is after: a store through a TLB entry that is not flushed yet, after the folio was written and called clean.
 */
#define _GNU_SOURCE /* memfd_create */
#include "cmocka_setup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mm/fault.h"
#include "random.h"

#define NR_ROUNDS 600u
#define MAX_STORES 3000u
#define SIZE (1ull << 20) /* zapping many entries with one flush makes the time long in which TLBs are stale */

struct shared {
	struct quire *q;
	struct quire_file *file;
	struct quire_mm *mm;
	u64 map;
	u32 round;	 /* begun by the main thread */
	u32 stored;	 /* the last round in which all stores are done */
	u32 nr_finished; /* threads that are done with the round */
	u64 last;	 /* what the storing thread stored last */
	u64 failures;
};

static void check(struct shared *s, bool ok)
{
	if (!ok)
		__atomic_fetch_add(&s->failures, 1, __ATOMIC_RELAXED);
}

static void wait_for(const u32 *word, u32 value)
{
	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) < value)
		machine_yield();
}

static struct quire_cpu *enter(struct shared *s, unsigned id)
{
	struct quire_cpu *cpu = NULL;

	check(s, quire_cpu_enter(s->q, id, &cpu) == 0);
	quire_cpu_run(cpu, s->mm);
	return cpu;
}

static void leave(struct quire_cpu *cpu)
{
	quire_cpu_run(cpu, NULL);
	quire_cpu_leave(cpu);
}

static void *storer(void *arg)
{
	struct shared *s = arg;
	struct quire_cpu *cpu = enter(s, 1);
	u64 seed = 1, value = 0;

	for (u32 round = 1; round <= NR_ROUNDS; round++) {
		u64 stores = 1 + random_below(&seed, MAX_STORES);

		wait_for(&s->round, round);
		while (stores--) {
			value++;
			check(s, quire_store(cpu, s->map, &value, sizeof(value)) == 0);
		}
		s->last = value;
		__atomic_store_n(&s->stored, round, __ATOMIC_RELEASE);
		__atomic_fetch_add(&s->nr_finished, 1, __ATOMIC_RELEASE);
	}
	leave(cpu);
	return NULL;
}

static void *zapper(void *arg)
{
	struct shared *s = arg;
	struct quire_cpu *cpu = enter(s, 2);

	for (u32 round = 1; round <= NR_ROUNDS; round++) {
		wait_for(&s->round, round);
		do {
			u8 byte;

			for (u64 at = PAGE_SIZE; at < SIZE; at += PAGE_SIZE)
				check(s, quire_load(cpu, s->map + at, &byte, 1) == 0);
			check(s, quire_madvise(cpu, s->map, SIZE, MADV_DONTNEED) == 0);
		} while (__atomic_load_n(&s->stored, __ATOMIC_ACQUIRE) < round);
		__atomic_fetch_add(&s->nr_finished, 1, __ATOMIC_RELEASE);
	}
	leave(cpu);
	return NULL;
}

static void run_round(struct shared *s, struct quire_cpu *cpu, int fd, u32 round)
{
	u64 on_host = 0;

	__atomic_store_n(&s->nr_finished, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&s->round, round, __ATOMIC_RELEASE);
	do {
		check(s, file_writeback_range(cpu, s->file, 0, ~0ull) == 0);
	} while (__atomic_load_n(&s->nr_finished, __ATOMIC_ACQUIRE) < 2);
	assert_int_equal(file_writeback_range(cpu, s->file, 0, ~0ull), 0);
	assert_int_equal(pread(fd, &on_host, sizeof(on_host), 0), sizeof(on_host));
	assert_int_equal(on_host, s->last);
}

static void test_no_store_is_lost(void **state)
{
	const struct quire_config config = { .memory = 16 << 20, .nr_cpus = 3 };
	int fd = memfd_create("host", 0); /* a regular file to us */
	pthread_t threads[2];
	struct shared s = { 0 };
	struct quire_cpu *cpu;
	s64 at;

	(void)state;
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(quire_create(&config, &s.q), 0);
	assert_int_equal(quire_cpu_enter(s.q, 0, &cpu), 0);
	assert_int_equal(quire_file_open_host(cpu, fd, true, &s.file), 0);
	assert_int_equal(quire_mm_create(cpu, NULL, &s.mm), 0);
	quire_cpu_run(cpu, s.mm);
	at = quire_mmap(cpu, 0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, s.file, 0);
	assert_true(at > 0);
	s.map = (u64)at;
	assert_int_equal(pthread_create(&threads[0], NULL, storer, &s), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, zapper, &s), 0);
	for (u32 round = 1; round <= NR_ROUNDS; round++)
		run_round(&s, cpu, fd, round);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(s.failures, 0);
	quire_cpu_run(cpu, NULL);
	quire_mm_put(cpu, s.mm);
	quire_file_put(cpu, s.file);
	quire_drain(cpu);
	assert_int_equal(quire_validate(cpu, NULL, NULL), 0);
	quire_cpu_leave(cpu);
	assert_int_equal(quire_destroy(s.q), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_store_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
