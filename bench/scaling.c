/* SPDX-License-Identifier: MIT */
/*
 * Two threads in separate mappings of one address space. Each works on its own half of the chunks; before every chunk they
 * wait for each other, so that both are always at the same operation. What one thread needs for a chunk when it is alone,
 * divided by what it needs when the other works beside it, is the share of perfect scaling that is kept.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

/* One round, shared by its threads. */
struct scaling {
	struct side *side;
	const struct bench_setup *setup;
	struct bench_result *result;
	const unsigned *cpus;
	unsigned threads; /* 1 or 2 */
	bool keep;
	uint32_t arrived; /* a: at the barrier, counted over all of its uses */
};

struct scaling_thread {
	struct scaling *scaling;
	unsigned who;
	uint32_t barriers; /* that this thread has passed */
	struct samples samples[NR_SCALE_OPS];
	int err;
	const char *what;
};

/* Spins: the threads have a processor each, and sleeping would cost more than what is measured. Yields now and then in case
 * that they have not. */
static void barrier(struct scaling_thread *thread)
{
	struct scaling *scaling = thread->scaling;
	uint32_t goal = ++thread->barriers * scaling->threads;

	__atomic_fetch_add(&scaling->arrived, 1, __ATOMIC_ACQ_REL);
	for (unsigned spins = 1; __atomic_load_n(&scaling->arrived, __ATOMIC_ACQUIRE) < goal; spins++)
		if (spins % 4096 == 0)
			sched_yield();
}

static uint64_t own_chunks(const struct scaling *scaling)
{
	return scaling->setup->range / scaling->setup->chunk / SIDE_THREADS;
}

static int scale_step(struct scaling_thread *thread, enum scale_op op, uint64_t addr)
{
	struct side *side = thread->scaling->side;
	uint64_t len = thread->scaling->setup->chunk;

	switch (op) {
	case SCALE_FAULT:
		return side->touch(side, thread->who, addr, len);
	case SCALE_MPROTECT:
		return side->protect(side, thread->who, addr, len, PROT_READ);
	case SCALE_DONTNEED:
		return side->advise(side, thread->who, addr, len, MADV_DONTNEED);
	case SCALE_MUNMAP:
		return side->unmap(side, thread->who, addr, len);
	case NR_SCALE_OPS:
		break;
	}
	return -EINVAL;
}

/* One operation on all chunks of the thread. Every thread passes every barrier even if it has failed. */
static void scale_pass(struct scaling_thread *thread, enum scale_op op, bool timed)
{
	struct scaling *scaling = thread->scaling;
	uint64_t pages = scaling->setup->chunk / BENCH_PAGE;

	for (uint64_t i = 0; i < own_chunks(scaling); i++) {
		uint64_t addr = chunk_address(scaling->setup, thread->who, i), begun;

		barrier(thread);
		begun = bench_now();
		if (!thread->err) {
			thread->err = scale_step(thread, op, addr);
			thread->what = scale_rows[op].name;
		}
		if (timed)
			samples_add(&thread->samples[op], (double)(bench_now() - begun) / (double)pages);
	}
}

/* Unprotects what was measured as protecting, for the faults to come. Not timed. */
static void unprotect(struct scaling_thread *thread)
{
	struct side *side = thread->scaling->side;

	for (uint64_t i = 0; i < own_chunks(thread->scaling) && !thread->err; i++)
		thread->err = side->protect(side, thread->who, chunk_address(thread->scaling->setup, thread->who, i),
					    thread->scaling->setup->chunk, PROT_READ | PROT_WRITE);
}

static void scale_script(struct scaling_thread *thread)
{
	scale_pass(thread, SCALE_FAULT, true);
	scale_pass(thread, SCALE_MPROTECT, true);
	scale_pass(thread, SCALE_DONTNEED, true);
	unprotect(thread);
	scale_pass(thread, SCALE_FAULT, false);
	scale_pass(thread, SCALE_MUNMAP, true);
}

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set); /* of the calling thread; the caller knows that it works */
}

static void *second_thread(void *arg)
{
	struct scaling_thread *thread = arg;
	struct side *side = thread->scaling->side;

	pin(thread->scaling->cpus[thread->who]);
	thread->err = side->thread_begin(side, thread->who);
	thread->what = "second thread";
	scale_script(thread);
	side->thread_end(side, thread->who);
	return NULL;
}

/* Maps what the threads will work on. */
static int map_all(struct scaling *scaling)
{
	struct side *side = scaling->side;

	for (unsigned who = 0; who < scaling->threads; who++) {
		for (uint64_t i = 0; i < own_chunks(scaling); i++) {
			uint64_t addr = chunk_address(scaling->setup, who, i);
			int err = side->map(side, 0, addr, scaling->setup->chunk, false, 0);

			if (!err)
				err = side->advise(side, 0, addr, scaling->setup->chunk, MADV_NOHUGEPAGE);
			if (err)
				return err;
		}
	}
	return 0;
}

static bool collect(struct scaling *scaling, struct scaling_thread *thread)
{
	if (thread->err)
		return bench_fail(scaling->result, scaling->side, thread->what, thread->err);
	for (unsigned op = 0; scaling->keep && op < NR_SCALE_OPS; op++)
		for (uint32_t i = 0; i < thread->samples[op].nr; i++)
			samples_add(&scaling->result->scale[op][scaling->threads - 1], thread->samples[op].ns[i]);
	return true;
}

/* All operations by one thread, or by two at once; @threads is room for them. */
static bool scale_with(struct scaling *scaling, struct scaling_thread threads[SIDE_THREADS])
{
	bool both = scaling->threads > 1;
	pthread_t second;
	int err = map_all(scaling);

	if (err)
		return bench_fail(scaling->result, scaling->side, "mmap", err);
	for (unsigned who = 0; who < scaling->threads; who++)
		threads[who] = (struct scaling_thread){ .scaling = scaling, .who = who };
	if (both) {
		err = pthread_create(&second, NULL, second_thread, &threads[1]);
		if (err)
			return bench_fail(scaling->result, scaling->side, "thread", -err);
	}
	scale_script(&threads[0]);
	if (both)
		pthread_join(second, NULL);
	return collect(scaling, &threads[0]) && (!both || collect(scaling, &threads[1]));
}

bool scaling_round(struct side *side, const struct bench_setup *setup, const unsigned cpus[SIDE_THREADS], bool keep,
		   struct bench_result *result)
{
	static struct scaling_thread threads[SIDE_THREADS];
	struct scaling scaling = { .side = side, .setup = setup, .result = result, .cpus = cpus, .keep = keep };
	int err = side->warm(side);

	if (err)
		return bench_fail(result, side, "warming up", err);
	for (scaling.threads = 1; scaling.threads <= SIDE_THREADS; scaling.threads++) {
		scaling.arrived = 0;
		if (!scale_with(&scaling, threads))
			return false;
	}
	return true;
}
