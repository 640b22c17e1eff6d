/* SPDX-License-Identifier: MIT */
/*
 * The folio lock and its wait queues: mutual exclusion, nobody sleeps for ever, nobody starves, and a waiter that gave up its
 * reference touches nothing but its own queue entry.
 */
#include "fixture.h"

#include <pthread.h>
#include <time.h>

#include "random.h"

#define NR_THREADS 4u

struct arena {
	struct fixture f;
	struct folio *folio;   /* what they fight for */
	u32 step;	       /* atomic: the test's stages */
	u32 nr_waiting;	       /* atomic */
	u32 failed;	       /* atomic */
	u64 counter;	       /* folio lock: plain on purpose, so that the thread sanitizer watches the lock */
	u64 turns[NR_THREADS]; /* own */
};

struct worker {
	struct arena *a;
	struct quire_cpu *cpu;
	unsigned id;
	u64 random;
	pthread_t thread;
};

static void arena_start(struct arena *a, struct worker *worker)
{
	struct quire_config config = { .memory = 8u << 20, .nr_cpus = NR_THREADS };

	*a = (struct arena){ .step = 0 };
	fixture_start(&a->f, &config);
	a->folio = folio_alloc(a->f.cpu, 0, 0, false);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		worker[i] = (struct worker){ .a = a, .cpu = a->f.cpu, .id = i, .random = i + 1 };
		if (i)
			assert_int_equal(quire_cpu_enter(a->f.q, i, &worker[i].cpu), 0);
	}
}

static void arena_stop(struct arena *a, struct worker *worker)
{
	assert_int_equal(a->failed, 0);
	for (unsigned i = 0; i < WAIT_BUCKETS; i++)
		assert_true(list_empty(&a->f.q->wait[i].waiters));
	if (a->folio) {
		assert_int_equal(a->folio->flags, 0);
		assert_int_equal(a->folio->refs, 1);
		folio_put(a->f.cpu, a->folio);
	}
	for (unsigned i = 1; i < NR_THREADS; i++)
		quire_cpu_leave(worker[i].cpu);
	fixture_stop(&a->f);
}

static void run_all(struct worker *worker, void *(*run)(void *))
{
	for (unsigned i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&worker[i].thread, NULL, run, &worker[i]), 0);
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(worker[i].thread, NULL);
}

static void sleep_us(unsigned us)
{
	struct timespec time = { .tv_nsec = us * 1000l };

	nanosleep(&time, NULL);
}

static void count_failure(struct arena *a)
{
	__atomic_fetch_add(&a->failed, 1, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------------------------- one CPU */

static void lock_and_unlock(void **state)
{
	struct worker worker[NR_THREADS];
	struct arena a;

	(void)state;
	arena_start(&a, worker);
	assert_true(folio_trylock(a.folio));
	assert_false(folio_trylock(a.folio));
	assert_true(folio_test(a.folio, PG_locked));
	folio_unlock(a.f.cpu, a.folio);
	folio_lock(a.f.cpu, a.folio);
	folio_set(a.folio, PG_dirty);
	folio_unlock(a.f.cpu, a.folio);
	assert_int_equal(a.folio->flags, 1u << PG_dirty);
	folio_clear(a.folio, PG_dirty);
	/* None of these waits for what is not. */
	folio_wait_locked(a.f.cpu, a.folio);
	folio_wait_writeback(a.f.cpu, a.folio);
	folio_get(a.folio);
	folio_put_wait_locked(a.f.cpu, a.folio);
	assert_int_equal(a.folio->flags, 0);
	arena_stop(&a, worker);
}

/* ------------------------------------------------------------------------------------- exclusion and progress */

/* All ways to take the lock, all ways to wait, with the holder sleeping now and then so that others really queue. */
static void *contend(void *arg)
{
	struct worker *w = arg;
	struct arena *a = w->a;

	for (unsigned i = 0; i < 4000; i++) {
		switch (random_below(&w->random, 8)) {
		case 0:
			folio_wait_locked(w->cpu, a->folio);
			continue;
		case 1:
			folio_get(a->folio);
			folio_put_wait_locked(w->cpu, a->folio);
			continue;
		case 2:
			if (!folio_trylock(a->folio))
				continue;
			break;
		default:
			folio_lock(w->cpu, a->folio);
		}
		a->counter++;
		a->turns[w->id]++;
		if (random_below(&w->random, 64) == 0)
			sleep_us(50);
		else if (random_below(&w->random, 4) == 0)
			machine_yield();
		folio_unlock(w->cpu, a->folio);
	}
	return NULL;
}

static void one_owner_at_a_time(void **state)
{
	struct worker worker[NR_THREADS];
	struct arena a;
	u64 turns = 0;

	(void)state;
	arena_start(&a, worker);
	run_all(worker, contend);
	for (unsigned i = 0; i < NR_THREADS; i++)
		turns += a.turns[i];
	assert_int_equal(a.counter, turns);
	assert_true(turns > NR_THREADS * 2000ull);
	arena_stop(&a, worker);
}

/* Thread 0 holds the lock nearly all the time and never sleeps while it is free; the others must get their turns. */
static void *hog(void *arg)
{
	struct worker *w = arg;
	struct arena *a = w->a;

	for (unsigned i = 0; w->id ? i < 50 : READ_ONCE(a->step) < NR_THREADS - 1; i++) {
		folio_lock(w->cpu, a->folio);
		a->counter++;
		a->turns[w->id]++;
		if (!w->id)
			machine_yield();
		folio_unlock(w->cpu, a->folio);
	}
	if (w->id)
		__atomic_fetch_add(&a->step, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void nobody_starves(void **state)
{
	struct worker worker[NR_THREADS];
	struct arena a;

	(void)state;
	arena_start(&a, worker);
	run_all(worker, hog);
	for (unsigned i = 1; i < NR_THREADS; i++)
		assert_int_equal(a.turns[i], 50);
	arena_stop(&a, worker);
}

/* While somebody waits to own the lock, it never becomes free for others to take: it is handed over. */
static void *wait_for_lock(void *arg)
{
	struct worker *w = arg;

	folio_lock(w->cpu, w->a->folio);
	w->a->turns[w->id] = ++w->a->counter;
	return NULL;
}

static bool is_queued(struct arena *a, struct quire_cpu *cpu)
{
	struct wait_bucket *bucket = wait_bucket(a->f.q, a->folio);
	bool queued;

	spin_lock(&bucket->lock);
	queued = !list_empty(&cpu->wait.list);
	spin_unlock(&bucket->lock);
	return queued;
}

static void the_lock_is_handed_over_in_order(void **state)
{
	struct worker worker[NR_THREADS];
	struct arena a;

	(void)state;
	arena_start(&a, worker);
	folio_lock(a.f.cpu, a.folio);
	for (unsigned i = 1; i < NR_THREADS; i++) {
		assert_int_equal(pthread_create(&worker[i].thread, NULL, wait_for_lock, &worker[i]), 0);
		while (!is_queued(&a, worker[i].cpu))
			sleep_us(100);
	}
	for (unsigned i = 1; i < NR_THREADS; i++) {
		folio_unlock(i == 1 ? a.f.cpu : worker[i - 1].cpu, a.folio);
		assert_false(folio_trylock(a.folio));
		pthread_join(worker[i].thread, NULL);
		assert_int_equal(a.turns[i], i);
	}
	assert_false(folio_test(a.folio, PG_waiters));
	folio_unlock(a.f.cpu, a.folio);
	arena_stop(&a, worker);
}

/* ------------------------------------------------------------------------------------- one step at a time
 *
 * With the bucket's lock held a thread stops where it would take it, and what it has done until then can be looked at. (The
 * word of a spin lock is 2 when somebody sleeps for it.)
 */

static struct wait_bucket *bucket_hold(struct arena *a)
{
	struct wait_bucket *bucket = wait_bucket(a->f.q, a->folio);

	spin_lock(&bucket->lock);
	return bucket;
}

static void await_stopped(struct wait_bucket *bucket)
{
	while (READ_ONCE(bucket->lock.word) != 2)
		sleep_us(100);
}

/* The lock becomes free just before a waiter queues itself: it must look again, nobody will wake it. */
static void freed_before_the_waiter_is_queued(void **state)
{
	struct worker worker[NR_THREADS];
	struct wait_bucket *bucket;
	struct arena a;

	(void)state;
	arena_start(&a, worker);
	folio_lock(a.f.cpu, a.folio);
	bucket = bucket_hold(&a);
	assert_int_equal(pthread_create(&worker[1].thread, NULL, wait_for_lock, &worker[1]), 0);
	await_stopped(bucket);
	folio_unlock(a.f.cpu, a.folio);
	spin_unlock(&bucket->lock);
	pthread_join(worker[1].thread, NULL);
	assert_int_equal(a.turns[1], 1);
	folio_unlock(a.f.cpu, a.folio);
	arena_stop(&a, worker);
}

static void *put_wait(void *arg)
{
	struct worker *w = arg;

	folio_put_wait_locked(w->cpu, w->a->folio);
	return NULL;
}

/* The reference goes only when the waiter is in the queue, and then before it sleeps. */
static void put_after_queueing_and_before_sleeping(void **state)
{
	struct worker worker[NR_THREADS];
	struct wait_bucket *bucket;
	struct arena a;

	(void)state;
	arena_start(&a, worker);
	folio_lock(a.f.cpu, a.folio);
	folio_get(a.folio);
	bucket = bucket_hold(&a);
	assert_int_equal(pthread_create(&worker[1].thread, NULL, put_wait, &worker[1]), 0);
	await_stopped(bucket);
	assert_int_equal(folio_refcount(a.folio), 2);
	spin_unlock(&bucket->lock);
	while (folio_refcount(a.folio) != 1)
		sleep_us(100);
	assert_true(is_queued(&a, worker[1].cpu));
	folio_unlock(a.f.cpu, a.folio);
	pthread_join(worker[1].thread, NULL);
	arena_stop(&a, worker);
}

static void *wait_writeback(void *arg)
{
	struct worker *w = arg;

	folio_wait_writeback(w->cpu, w->a->folio);
	return NULL;
}

static void *end_writeback(void *arg)
{
	struct worker *w = arg;

	folio_end_writeback(w->cpu, w->a->folio);
	return NULL;
}

/* The bit is clear, the waiters are not woken yet: the reference must be there still. */
static void writeback_holds_its_reference_until_waiters_are_woken(void **state)
{
	struct worker worker[NR_THREADS];
	struct wait_bucket *bucket;
	struct arena a;

	(void)state;
	arena_start(&a, worker);
	folio_get(a.folio);
	folio_set(a.folio, PG_writeback);
	assert_int_equal(pthread_create(&worker[1].thread, NULL, wait_writeback, &worker[1]), 0);
	while (!is_queued(&a, worker[1].cpu))
		sleep_us(100);
	bucket = bucket_hold(&a);
	assert_int_equal(pthread_create(&worker[2].thread, NULL, end_writeback, &worker[2]), 0);
	await_stopped(bucket);
	assert_false(folio_test(a.folio, PG_writeback));
	assert_int_equal(folio_refcount(a.folio), 2);
	spin_unlock(&bucket->lock);
	pthread_join(worker[1].thread, NULL);
	pthread_join(worker[2].thread, NULL);
	arena_stop(&a, worker);
}

/* ------------------------------------------------------------------------------------- waiting without a reference */

/*
 * The others wait without a reference; then the owner unlocks and drops the last one, and the folio and its frame are used for
 * something else at once. The waiters must come back all the same, and the new folio must be as new.
 */
static void *put_and_wait(void *arg)
{
	struct worker *w = arg;
	struct arena *a = w->a;

	for (unsigned round = 1; round <= 300; round++) {
		struct folio *folio;

		while (__atomic_load_n(&a->step, __ATOMIC_ACQUIRE) != round)
			machine_yield();
		folio = a->folio;
		if (w->id) {
			folio_put_wait_locked(w->cpu, folio);
			__atomic_fetch_add(&a->nr_waiting, 1, __ATOMIC_RELEASE);
			continue;
		}
		if (round % 3)
			sleep_us(20);
		folio_unlock(w->cpu, folio);
		folio_put(w->cpu, folio);
		while (__atomic_load_n(&a->nr_waiting, __ATOMIC_ACQUIRE) != NR_THREADS - 1)
			machine_yield();
		/* The last put of whoever was last has freed it; it is had again as new. */
		a->folio = folio_alloc(w->cpu, 0, 0, false);
		if (a->folio->flags || a->folio->refs != 1)
			count_failure(a);
		folio_lock(w->cpu, a->folio);
		folio_get_many(a->folio, NR_THREADS - 1);
		a->nr_waiting = 0;
		__atomic_store_n(&a->step, round + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void waiting_without_a_reference(void **state)
{
	struct worker worker[NR_THREADS];
	struct arena a;

	(void)state;
	arena_start(&a, worker);
	folio_lock(a.f.cpu, a.folio);
	folio_get_many(a.folio, NR_THREADS - 1);
	a.step = 1;
	run_all(worker, put_and_wait);
	folio_unlock(a.f.cpu, a.folio);
	folio_put_many(a.f.cpu, a.folio, NR_THREADS - 1);
	arena_stop(&a, worker);
}

/* ------------------------------------------------------------------------------------- writeback */

/* Thread 0 writes back again and again, under the lock as writers do; the others wait for it, or for the lock. */
static void *write_back(void *arg)
{
	struct worker *w = arg;
	struct arena *a = w->a;

	for (unsigned i = 0; i < 3000; i++) {
		if (w->id == 0) {
			folio_lock(w->cpu, a->folio);
			a->counter++;
			folio_get(a->folio);
			folio_set(a->folio, PG_writeback);
			folio_unlock(w->cpu, a->folio);
			if (i % 32 == 0)
				sleep_us(50);
			folio_end_writeback(w->cpu, a->folio);
		} else if (w->id == 1) {
			folio_wait_writeback(w->cpu, a->folio);
		} else {
			folio_lock(w->cpu, a->folio);
			a->counter++;
			if (i % 2)
				folio_wait_writeback(w->cpu, a->folio);
			folio_unlock(w->cpu, a->folio);
		}
	}
	return NULL;
}

static void waiting_for_writeback(void **state)
{
	struct worker worker[NR_THREADS];
	struct arena a;

	(void)state;
	arena_start(&a, worker);
	run_all(worker, write_back);
	assert_int_equal(a.counter, 3 * 3000);
	arena_stop(&a, worker);
}

/* Several folios in one bucket do not wake each other's waiters for good, nor forget them. */
static void *many_folios(void *arg)
{
	struct worker *w = arg;
	struct folio **folios = (struct folio **)(void *)w->a->folio;

	for (unsigned i = 0; i < 6000; i++) {
		struct folio *folio = folios[random_below(&w->random, 3)];

		folio_lock(w->cpu, folio);
		folio->index++;
		if (random_below(&w->random, 16) == 0)
			machine_yield();
		folio_unlock(w->cpu, folio);
	}
	return NULL;
}

static void folios_that_share_a_bucket(void **state)
{
	static struct folio *all[3000];
	struct folio *same[3], *kept;
	struct worker worker[NR_THREADS];
	struct arena a;
	unsigned nr = 1;

	(void)state;
	arena_start(&a, worker);
	assert_int_equal(folio_alloc_bulk(a.f.cpu, 1500, all, 0, false), 1500);
	same[0] = all[0];
	for (unsigned i = 1; i < 1500 && nr < 3; i++) {
		if (wait_bucket(a.f.q, all[i]) == wait_bucket(a.f.q, all[0]))
			same[nr++] = all[i];
	}
	assert_int_equal(nr, 3);
	kept = a.folio;
	a.folio = (struct folio *)(void *)same;
	run_all(worker, many_folios);
	a.folio = kept;
	assert_int_equal(same[0]->index + same[1]->index + same[2]->index, NR_THREADS * 6000);
	for (unsigned i = 0; i < 1500; i++) {
		assert_int_equal(all[i]->flags, 0);
		folio_put(a.f.cpu, all[i]);
	}
	arena_stop(&a, worker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lock_and_unlock),
		cmocka_unit_test(one_owner_at_a_time),
		cmocka_unit_test(nobody_starves),
		cmocka_unit_test(the_lock_is_handed_over_in_order),
		cmocka_unit_test(freed_before_the_waiter_is_queued),
		cmocka_unit_test(put_after_queueing_and_before_sleeping),
		cmocka_unit_test(writeback_holds_its_reference_until_waiters_are_woken),
		cmocka_unit_test(waiting_without_a_reference),
		cmocka_unit_test(waiting_for_writeback),
		cmocka_unit_test(folios_that_share_a_bucket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
