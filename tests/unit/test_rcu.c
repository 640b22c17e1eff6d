/* SPDX-License-Identifier: MIT */
/*
 * RCU: what is freed after a grace period is seen by no reader who began before; callbacks run once, on the service CPU;
 * a barrier waits for all of them. Contents are plain memory on purpose, so that the thread sanitizer knows of a reader who is
 * not waited for.
 */
#include "fixture.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "random.h"

#define NR_THREADS 4u

struct item {
	struct rcu_head rcu;
	u64 value, copy; /* equal while readers may see it; plain */
	u32 in_use;	 /* atomic: published, or waiting for readers */
};

struct world {
	struct fixture f;
	struct item *published;		/* RCU */
	u32 step, stop;			/* atomic */
	u32 nr_called;			/* atomic: callbacks that ran */
	u32 broken;			/* atomic */
	const struct quire_cpu *ran_on; /* by the last callback */
};

struct worker {
	struct world *world;
	unsigned id;
	pthread_t thread;
};

struct counted {
	struct rcu_head rcu;
	struct world *world;
	u32 again; /* how often it queues itself once more */
};

/* As many CPUs as there can be, so that the worker is long on its way past their lists. */
static void world_start(struct world *w)
{
	const struct quire_config config = { .memory = 8u << 20, .nr_cpus = QUIRE_MAX_CPUS };

	memset(w, 0, sizeof(*w));
	fixture_start(&w->f, &config);
}

static void world_stop(struct world *w)
{
	assert_int_equal(w->broken, 0);
	fixture_stop(&w->f);
}

static void sleep_ms(long ms)
{
	const struct timespec time = { .tv_nsec = ms * 1000000l };

	nanosleep(&time, NULL);
}

static void wait_for_step(const u32 *step, u32 value)
{
	while (smp_load_acquire(step) < value)
		machine_yield();
}

/* CPU id + 1 for the calling thread. */
static struct quire_cpu *worker_cpu(struct worker *w)
{
	struct quire_cpu *cpu = NULL;

	if (quire_cpu_enter(w->world->f.q, w->id + 1, &cpu))
		abort();
	return cpu;
}

static void worker_start(struct world *world, struct worker *w, unsigned id, void *(*body)(void *))
{
	memset(w, 0, sizeof(*w));
	w->world = world;
	w->id = id;
	assert_int_equal(pthread_create(&w->thread, NULL, body, w), 0);
}

static void count_call(struct quire_cpu *cpu, struct rcu_head *head)
{
	struct counted *c = container_of(head, struct counted, rcu);

	c->world->ran_on = cpu;
	__atomic_fetch_add(&c->world->nr_called, 1, __ATOMIC_RELEASE);
	if (c->again) {
		c->again--;
		call_rcu(cpu, head, count_call);
	}
}

/* ---------------------------------------------------------------------------------------- one reader */

/* A read section, nested, from step 1 to step 2. */
static void *one_reader(void *arg)
{
	struct worker *w = arg;
	struct quire_cpu *cpu = worker_cpu(w);

	rcu_read_lock(cpu);
	rcu_read_lock(cpu);
	smp_store_release(&w->world->step, 1);
	wait_for_step(&w->world->step, 2);
	rcu_read_unlock(cpu);
	/* Still inside: the inner section's end is no end. */
	sleep_ms(20);
	if (READ_ONCE(w->world->nr_called))
		WRITE_ONCE(w->world->broken, 1);
	rcu_read_unlock(cpu);
	quire_cpu_leave(cpu);
	return NULL;
}

static void test_callback_waits_for_reader(void **state)
{
	static struct worker reader;
	struct world w;
	struct counted c = { .world = &w };

	(void)state;
	world_start(&w);
	worker_start(&w, &reader, 0, one_reader);
	wait_for_step(&w.step, 1);
	call_rcu(w.f.cpu, &c.rcu, count_call);
	sleep_ms(30);
	assert_int_equal(READ_ONCE(w.nr_called), 0);
	smp_store_release(&w.step, 2);
	rcu_barrier(w.f.cpu);
	assert_int_equal(w.nr_called, 1);
	assert_ptr_equal(w.ran_on, w.f.q->cpus[w.f.q->nr_cpus]);
	pthread_join(reader.thread, NULL);
	world_stop(&w);
}

static void test_synchronize_waits_for_reader(void **state)
{
	static struct worker reader;
	struct world w;

	(void)state;
	world_start(&w);
	worker_start(&w, &reader, 0, one_reader);
	wait_for_step(&w.step, 1);
	smp_store_release(&w.step, 2);
	synchronize_rcu(w.f.cpu);
	/* The reader looks at this for 20 ms after step 2, before it leaves its section. */
	WRITE_ONCE(w.nr_called, 1);
	pthread_join(reader.thread, NULL);
	world_stop(&w);
}

/* ---------------------------------------------------------------------------------------- barriers */

#define CALLS 2000u

static void *queue_calls(void *arg)
{
	static struct counted counted[NR_THREADS][CALLS];
	struct worker *w = arg;
	struct quire_cpu *cpu = worker_cpu(w);

	for (unsigned i = 0; i < CALLS; i++) {
		counted[w->id][i].world = w->world;
		call_rcu(cpu, &counted[w->id][i].rcu, count_call);
	}
	/* The CPU is given back: nobody but the worker looks after its callbacks now. */
	quire_cpu_leave(cpu);
	return NULL;
}

static void test_barrier_waits_for_all_cpus(void **state)
{
	static struct worker worker[NR_THREADS];
	struct world w;

	(void)state;
	world_start(&w);
	for (unsigned i = 0; i < NR_THREADS; i++)
		worker_start(&w, &worker[i], i, queue_calls);
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(worker[i].thread, NULL);
	rcu_barrier(w.f.cpu);
	assert_int_equal(smp_load_acquire(&w.nr_called), NR_THREADS * CALLS);
	world_stop(&w);
}

#define BARRIERS 3000u

static void count_own(struct quire_cpu *cpu, struct rcu_head *head)
{
	struct counted *c = container_of(head, struct counted, rcu);

	(void)cpu;
	c->again++; /* plain: the barrier orders it before the queuer's look */
}

/* Queues one and waits for it, again and again: the worker is met at every point of its round. */
static void *queue_and_wait(void *arg)
{
	struct worker *w = arg;
	struct quire_cpu *cpu = worker_cpu(w);
	struct counted c = { .again = 0 };
	u64 random = w->id;

	for (u32 i = 0; i < BARRIERS; i++) {
		for (u64 n = random_below(&random, 300); n; n--)
			cpu_relax();
		call_rcu(cpu, &c.rcu, count_own);
		rcu_barrier(cpu);
		if (c.again != i + 1)
			__atomic_fetch_add(&w->world->broken, 1, __ATOMIC_RELAXED);
	}
	quire_cpu_leave(cpu);
	return NULL;
}

static void test_barriers_at_any_time(void **state)
{
	static struct worker worker[NR_THREADS];
	struct world w;

	(void)state;
	world_start(&w);
	for (unsigned i = 0; i < NR_THREADS; i++)
		worker_start(&w, &worker[i], i, queue_and_wait);
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(worker[i].thread, NULL);
	world_stop(&w);
}

static void test_callbacks_queue_callbacks(void **state)
{
	struct world w;
	struct counted c = { .world = &w, .again = 5 };

	(void)state;
	world_start(&w);
	call_rcu(w.f.cpu, &c.rcu, count_call);
	/* Each barrier waits for what was queued before it: one more at least. */
	for (u32 i = 1; i <= 6; i++) {
		rcu_barrier(w.f.cpu);
		assert_true(smp_load_acquire(&w.nr_called) >= i);
	}
	assert_int_equal(w.nr_called, 6);
	world_stop(&w);
}

/* Without a barrier, and without anybody in a hurry, they run all the same, soon. */
static void test_callbacks_run_by_themselves(void **state)
{
	struct world w;
	struct counted c = { .world = &w };

	(void)state;
	world_start(&w);
	for (u32 round = 1; round <= 20; round++) {
		call_rcu(w.f.cpu, &c.rcu, count_call);
		wait_for_step(&w.nr_called, round);
		if (round % 2)
			sleep_ms(3); /* the worker is asleep again, or on its way there */
	}
	world_stop(&w);
}

static void test_destroy_with_callbacks_queued(void **state)
{
	struct world w;
	static struct counted c[100];

	(void)state;
	world_start(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		c[i].world = &w;
		call_rcu(w.f.cpu, &c[i].rcu, count_call);
	}
	quire_cpu_leave(w.f.cpu);
	assert_int_equal(quire_destroy(w.f.q), 0);
}

/* ---------------------------------------------------------------------------------------- readers against an updater */

#define UPDATES 3000u

/* No reader is left who could see it: it is spoilt and may be used again. */
static void item_free(struct quire_cpu *cpu, struct rcu_head *head)
{
	struct item *item = container_of(head, struct item, rcu);

	(void)cpu;
	item->value = 0xdead;
	item->copy = 0xbeef;
	smp_store_release(&item->in_use, 0);
}

static void *read_items(void *arg)
{
	struct worker *w = arg;
	struct quire_cpu *cpu = worker_cpu(w);
	u64 random = w->id;

	while (!smp_load_acquire(&w->world->stop)) {
		const struct item *item;

		rcu_read_lock(cpu);
		item = rcu_dereference(w->world->published);
		for (u64 n = random_below(&random, 100); n; n--)
			cpu_relax();
		if (item && item->value != item->copy)
			__atomic_fetch_add(&w->world->broken, 1, __ATOMIC_RELAXED);
		rcu_read_unlock(cpu);
	}
	quire_cpu_leave(cpu);
	return NULL;
}

/* An item that nobody uses; waits for readers when there is none. */
static struct item *item_alloc(struct world *w, struct item *item, unsigned nr)
{
	for (;;) {
		for (unsigned i = 0; i < nr; i++)
			if (!smp_load_acquire(&item[i].in_use))
				return &item[i];
		rcu_barrier(w->f.cpu);
	}
}

static void test_readers_see_whole_items(void **state)
{
	static struct worker worker[NR_THREADS];
	static struct item item[64];
	struct world w;

	(void)state;
	memset(item, 0, sizeof(item));
	world_start(&w);
	for (unsigned i = 0; i < NR_THREADS - 1; i++)
		worker_start(&w, &worker[i], i, read_items);
	for (u64 i = 0; i < UPDATES; i++) {
		struct item *next = item_alloc(&w, item, ARRAY_SIZE(item)), *last = w.published;

		WRITE_ONCE(next->in_use, 1);
		next->value = i;
		next->copy = i;
		rcu_assign_pointer(w.published, next);
		if (!last)
			continue;
		if (i % 64) {
			call_rcu(w.f.cpu, &last->rcu, item_free);
		} else {
			synchronize_rcu(w.f.cpu);
			item_free(w.f.cpu, &last->rcu);
		}
	}
	smp_store_release(&w.stop, 1);
	for (unsigned i = 0; i < NR_THREADS - 1; i++)
		pthread_join(worker[i].thread, NULL);
	rcu_barrier(w.f.cpu);
	world_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_callback_waits_for_reader),
		cmocka_unit_test(test_synchronize_waits_for_reader),
		cmocka_unit_test(test_barrier_waits_for_all_cpus),
		cmocka_unit_test(test_barriers_at_any_time),
		cmocka_unit_test(test_callbacks_queue_callbacks),
		cmocka_unit_test(test_callbacks_run_by_themselves),
		cmocka_unit_test(test_destroy_with_callbacks_queued),
		cmocka_unit_test(test_readers_see_whole_items),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
