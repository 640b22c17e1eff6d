/* SPDX-License-Identifier: MIT */
/*
 * Queues between the reading thread and the CPUs, and the dependencies between their items.
 */
#include "trace/schedule.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define SPINS 200 /* looks at a counter before going to sleep: most waits are short */

/* ----------------------------------------------------------------------------------------------------- regions */

/* A multiplicative hash of the region's number: neighbours land far apart, so that small sets stay small. */
void regions_add_page(struct regions *regions, uint64_t page)
{
	uint64_t hash = (page >> REGION_SHIFT) * 0x9e3779b97f4a7c15u >> 56;

	regions->bits[hash / 64] |= 1ull << hash % 64;
}

void regions_add_all(struct regions *regions)
{
	memset(regions->bits, 0xff, sizeof(regions->bits));
}

void regions_add(struct regions *regions, uint64_t addr, uint64_t len)
{
	uint64_t page = addr >> QREC_PAGE_SHIFT, last = (addr + len) >> QREC_PAGE_SHIFT;

	/* The page behind the range too: mappings merge with their neighbours, stacks grow. */
	if ((last >> REGION_SHIFT) - (page >> REGION_SHIFT) > 256) {
		regions_add_all(regions);
		return;
	}
	for (; page >> REGION_SHIFT <= last >> REGION_SHIFT; page += 1u << REGION_SHIFT)
		regions_add_page(regions, page);
}

/* Sets of hashes: what does not meet is certainly apart. */
static bool regions_meet(const struct regions *a, const struct regions *b)
{
	uint64_t common = 0;

	for (unsigned i = 0; i < 4; i++)
		common |= a->bits[i] & b->bits[i];
	return common;
}

/* ---------------------------------------------------------------------------------------------------- conflicts */

/* Symmetric but for forks and waits, where it matters which of the two comes first. */
static bool conflict(const struct work_item *later, const struct work_item *earlier)
{
	if (later->exclusive || earlier->exclusive)
		return true;
	/* A fork comes before all that the child does. An exit comes before the wait for it. */
	if (earlier->other && earlier->other == later->process)
		return true;
	if (later->other && later->other == earlier->process)
		return true;
	if (later->process != earlier->process || (later->work == WORK_TOUCHES && earlier->work == WORK_TOUCHES))
		return false;
	return regions_meet(&later->about, &earlier->about);
}

/* The last item of @cpu that is not done yet and that @item must wait for; 0: none. Counted from 1. */
static uint64_t last_conflict(const struct replay_cpu *cpu, const struct work_item *item)
{
	uint64_t done = __atomic_load_n(&cpu->done, __ATOMIC_ACQUIRE);

	for (uint64_t n = cpu->published; n > done; n--)
		if (conflict(item, &cpu->ring[(n - 1) % SCHEDULE_DEPTH]))
			return n;
	return 0;
}

/* --------------------------------------------------------------------------------------------------- waiting */

/* Sequentially consistent: it is one half of going to sleep, see wait_for. */
static bool has_reached(const uint64_t *counter, uint64_t value)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST) >= value;
}

/* Waits until a counter of @cpu, protected by nobody, is at least @value; or, if @or_finish, nothing more will come. */
static void wait_for(struct replay_cpu *cpu, const uint64_t *counter, uint64_t value, bool or_finish)
{
	for (int i = 0; i < SPINS; i++) {
		if (has_reached(counter, value))
			return;
		if (i > SPINS / 2)
			sched_yield();
	}
	pthread_mutex_lock(&cpu->lock);
	/* Whoever changes a counter looks at @waiters after that: either it sees us, or we see the change. */
	__atomic_fetch_add(&cpu->waiters, 1, __ATOMIC_SEQ_CST);
	while (!has_reached(counter, value) && !(or_finish && __atomic_load_n(&cpu->finish, __ATOMIC_SEQ_CST)))
		pthread_cond_wait(&cpu->changed, &cpu->lock);
	__atomic_fetch_sub(&cpu->waiters, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&cpu->lock);
}

/* Costs one load if nobody sleeps. */
static void wake(struct replay_cpu *cpu)
{
	if (!__atomic_load_n(&cpu->waiters, __ATOMIC_SEQ_CST))
		return;
	pthread_mutex_lock(&cpu->lock);
	pthread_cond_broadcast(&cpu->changed);
	pthread_mutex_unlock(&cpu->lock);
}

/* ----------------------------------------------------------------------------------------------- reading thread */

/* The place in the ring is free when the item before it in this place is done. */
struct work_item *schedule_begin(struct replay *replay, unsigned cpu)
{
	struct replay_cpu *to = &replay->cpus[cpu];
	struct work_item *item = &to->ring[to->published % SCHEDULE_DEPTH];

	if (to->published >= SCHEDULE_DEPTH)
		wait_for(to, &to->done, to->published - SCHEDULE_DEPTH + 1, false);
	memset(item, 0, offsetof(struct work_item, touch));
	return item;
}

/* Dependencies are found before the item can be seen: nobody but us adds items, so none is missed. */
void schedule_commit(struct replay *replay, unsigned cpu)
{
	struct replay_cpu *to = &replay->cpus[cpu];
	struct work_item *item = &to->ring[to->published % SCHEDULE_DEPTH];

	for (unsigned i = 0; i < replay->options.nr_cpus; i++)
		item->after[i] = i == cpu ? 0 : last_conflict(&replay->cpus[i], item);
	__atomic_store_n(&to->published, to->published + 1, __ATOMIC_SEQ_CST);
	wake(to);
}

void schedule_wait(struct replay *replay, unsigned cpu)
{
	wait_for(&replay->cpus[cpu], &replay->cpus[cpu].done, replay->cpus[cpu].published, false);
}

/* ------------------------------------------------------------------------------------------------------- CPUs */

/* Never for a later item, so nobody waits in a circle. */
static void wait_for_others(struct replay_cpu *cpu, const struct work_item *item)
{
	struct replay *replay = cpu->replay;

	for (unsigned i = 0; i < replay->options.nr_cpus; i++)
		if (item->after[i])
			wait_for(&replay->cpus[i], &replay->cpus[i].done, item->after[i], false);
}

/* The CPU's thread, until nothing more can come. */
static void work_off(struct replay_cpu *cpu)
{
	for (;;) {
		struct work_item *item = &cpu->ring[cpu->done % SCHEDULE_DEPTH];

		wait_for(cpu, &cpu->published, cpu->done + 1, true);
		if (!has_reached(&cpu->published, cpu->done + 1))
			return;
		wait_for_others(cpu, item);
		/* After a failure the queues are emptied without doing anything. */
		if (!replay_stopped(cpu->replay))
			perform(cpu, item);
		__atomic_store_n(&cpu->done, cpu->done + 1, __ATOMIC_SEQ_CST);
		wake(cpu);
	}
}

/* If the CPU cannot be had the queue is still emptied, or the reading thread would wait for ever. */
static void *cpu_thread(void *arg)
{
	struct replay_cpu *cpu = arg;
	int err = quire_cpu_enter(cpu->replay->quire, cpu->id, &cpu->cpu);

	if (err)
		replay_fail(cpu->replay, NULL, "cannot take CPU %u: %s", cpu->id, strerror(-err));
	work_off(cpu);
	if (!err)
		quire_cpu_leave(cpu->cpu);
	return NULL;
}

/* What it fails to get is seen by the caller and freed with the rest. */
static bool create_cpu(struct replay *replay, struct replay_cpu *cpu, unsigned id)
{
	cpu->replay = replay;
	cpu->id = id;
	pthread_mutex_init(&cpu->lock, NULL);
	pthread_cond_init(&cpu->changed, NULL);
	cpu->ring = calloc(SCHEDULE_DEPTH, sizeof(*cpu->ring));
	cpu->timed = calloc(NR_TIMED, sizeof(*cpu->timed));
	return cpu->ring && cpu->timed;
}

/* Their threads have ended. Those that were never created are all zero. */
static void destroy_cpus(struct replay *replay)
{
	for (unsigned i = 0; i < replay->options.nr_cpus; i++) {
		struct replay_cpu *cpu = &replay->cpus[i];

		if (!cpu->replay)
			continue;
		pthread_cond_destroy(&cpu->changed);
		pthread_mutex_destroy(&cpu->lock);
		free(cpu->ring);
		free(cpu->timed);
	}
	free(replay->cpus);
	replay->cpus = NULL;
}

/* It ends when its queue is empty. */
static void finish_cpu(struct replay_cpu *cpu)
{
	__atomic_store_n(&cpu->finish, true, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&cpu->lock);
	pthread_cond_broadcast(&cpu->changed);
	pthread_mutex_unlock(&cpu->lock);
}

/* All or none: those that were started are ended again. */
bool schedule_start(struct replay *replay)
{
	unsigned nr = replay->options.nr_cpus, started = 0;
	int err = 0;

	replay->cpus = calloc(nr, sizeof(*replay->cpus));
	for (unsigned i = 0; replay->cpus && i < nr && !err; i++)
		err = create_cpu(replay, &replay->cpus[i], i) ? 0 : ENOMEM;
	for (; replay->cpus && started < nr && !err; started += !err)
		err = pthread_create(&replay->cpus[started].thread, NULL, cpu_thread, &replay->cpus[started]);
	if (replay->cpus && !err)
		return true;
	replay_fail(replay, NULL, "cannot start the CPUs' threads: %s", strerror(err ? err : ENOMEM));
	for (unsigned i = 0; i < started; i++) {
		finish_cpu(&replay->cpus[i]);
		pthread_join(replay->cpus[i].thread, NULL);
	}
	if (replay->cpus)
		destroy_cpus(replay);
	return false;
}

/* What the CPUs measured is added up when nobody measures any more. */
void schedule_stop(struct replay *replay)
{
	for (unsigned i = 0; i < replay->options.nr_cpus; i++)
		finish_cpu(&replay->cpus[i]);
	for (unsigned i = 0; i < replay->options.nr_cpus; i++) {
		struct replay_cpu *cpu = &replay->cpus[i];

		pthread_join(cpu->thread, NULL);
		replay->nr_checked += cpu->checked;
		for (unsigned timed = 0; timed < NR_TIMED; timed++)
			timing_merge(&replay->timed[timed], &cpu->timed[timed]);
	}
	destroy_cpus(replay);
}
