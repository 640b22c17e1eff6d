/* SPDX-License-Identifier: MIT */
/* Locks of real threads: spin locks and reader-writer semaphores exclude whom they must, let in whom they may, and in order. */
#include "cmocka_setup.h"

#include <pthread.h>
#include <time.h>

#include "machine/machine.h"
#include "random.h"

#define NR_THREADS 4u

struct shared {
	struct spinlock spin;
	struct rwsem sem;
	u64 a, b;    /* the lock's: plain, so that the thread sanitizer watches it; always equal outside a writer */
	u32 readers; /* atomic: inside a read section */
	u32 writers; /* atomic: inside a write section */
	u32 broken;  /* atomic: exclusion did not hold */
	u32 step;    /* atomic: the test's stages */
};

struct worker {
	struct shared *s;
	pthread_t thread;
	u64 random;
	u64 written; /* own: sections that wrote */
};

static void sleep_us(unsigned us)
{
	const struct timespec time = { .tv_nsec = us * 1000l };

	nanosleep(&time, NULL);
}

static void start_all(struct shared *s, struct worker *worker, void *(*body)(void *))
{
	for (unsigned i = 0; i < NR_THREADS; i++) {
		worker[i] = (struct worker){ .s = s, .random = i + 1 };
		assert_int_equal(pthread_create(&worker[i].thread, NULL, body, &worker[i]), 0);
	}
}

/* Waits for all; how many sections wrote. */
static u64 join_all(struct worker *worker)
{
	u64 written = 0;

	for (unsigned i = 0; i < NR_THREADS; i++) {
		assert_int_equal(pthread_join(worker[i].thread, NULL), 0);
		written += worker[i].written;
	}
	return written;
}

static void wait_for_step(const u32 *step, u32 value)
{
	while (smp_load_acquire(step) < value)
		machine_yield();
}

/* ---------------------------------------------------------------------------------------- spin locks */

#define SPIN_ROUNDS 20000u

static void *spin_worker(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < SPIN_ROUNDS; i++) {
		if (random_below(&w->random, 8) || !spin_trylock(&w->s->spin))
			spin_lock(&w->s->spin);
		w->s->a++;
		w->written++;
		/* A holder that loses its CPU: the others go to sleep. */
		if (random_below(&w->random, SPIN_ROUNDS / 16) == 0)
			sleep_us(300);
		spin_unlock(&w->s->spin);
	}
	return NULL;
}

static void test_spinlock_excludes(void **state)
{
	struct worker worker[NR_THREADS];
	struct shared s = { .a = 0 };
	u64 written;

	(void)state;
	start_all(&s, worker, spin_worker);
	written = join_all(worker);
	assert_int_equal(written, NR_THREADS * SPIN_ROUNDS);
	assert_int_equal(s.a, written);
	assert_false(spin_is_locked(&s.spin));
	assert_true(spin_trylock(&s.spin));
	assert_false(spin_trylock(&s.spin));
	assert_true(spin_is_locked(&s.spin));
	spin_unlock(&s.spin);
}

/* ---------------------------------------------------------------------------------------- exclusion */

#define SEM_ROUNDS 10000u

static void broken_if(struct shared *s, bool condition)
{
	if (condition)
		__atomic_fetch_add(&s->broken, 1, __ATOMIC_RELAXED);
}

static void read_inside(struct shared *s)
{
	__atomic_fetch_add(&s->readers, 1, __ATOMIC_RELAXED);
	broken_if(s, READ_ONCE(s->writers) != 0 || s->a != s->b);
	__atomic_fetch_sub(&s->readers, 1, __ATOMIC_RELAXED);
}

static void write_inside(struct worker *w)
{
	struct shared *s = w->s;

	broken_if(s, __atomic_fetch_add(&s->writers, 1, __ATOMIC_RELAXED) != 0 || READ_ONCE(s->readers) != 0);
	s->a++;
	if (random_below(&w->random, SEM_ROUNDS / 16) == 0)
		sleep_us(300);
	s->b++;
	w->written++;
	__atomic_fetch_sub(&s->writers, 1, __ATOMIC_RELAXED);
}

static void *sem_worker(void *arg)
{
	struct worker *w = arg;
	struct rwsem *sem = &w->s->sem;

	for (unsigned i = 0; i < SEM_ROUNDS; i++) {
		switch (random_below(&w->random, 8)) {
		case 0:
			down_write(sem);
			write_inside(w);
			up_write(sem);
			break;
		case 1:
			down_write(sem);
			write_inside(w);
			downgrade_write(sem);
			read_inside(w->s);
			up_read(sem);
			break;
		case 2:
			if (down_write_trylock(sem)) {
				write_inside(w);
				up_write(sem);
			}
			break;
		case 3:
			if (down_read_trylock(sem)) {
				read_inside(w->s);
				up_read(sem);
			}
			break;
		default:
			down_read(sem);
			read_inside(w->s);
			up_read(sem);
			break;
		}
	}
	return NULL;
}

static void test_rwsem_excludes(void **state)
{
	struct worker worker[NR_THREADS];
	struct shared s = { .a = 0 };
	u64 written;

	(void)state;
	start_all(&s, worker, sem_worker);
	written = join_all(worker);
	assert_int_equal(s.broken, 0);
	assert_int_equal(s.a, written);
	assert_int_equal(s.b, written);
	/* Nobody holds it, and nothing is left of those who waited. */
	assert_int_equal(s.sem.state, 0);
}

/* Two readers meet inside: each leaves only when both are there. */
static void *meeting_reader(void *arg)
{
	struct worker *w = arg;

	down_read(&w->s->sem);
	__atomic_fetch_add(&w->s->step, 1, __ATOMIC_RELEASE);
	wait_for_step(&w->s->step, NR_THREADS);
	up_read(&w->s->sem);
	return NULL;
}

static void test_readers_share(void **state)
{
	struct worker worker[NR_THREADS];
	struct shared s = { .a = 0 };

	(void)state;
	start_all(&s, worker, meeting_reader);
	join_all(worker);
	assert_int_equal(s.step, NR_THREADS);
}

/* ---------------------------------------------------------------------------------------- order */

static void test_trylock_and_predicates(void **state)
{
	struct rwsem sem = { .state = 0 };

	(void)state;
	assert_false(rwsem_is_locked(&sem));
	assert_true(down_read_trylock(&sem));
	assert_true(down_read_trylock(&sem));
	assert_false(down_write_trylock(&sem));
	assert_true(rwsem_is_locked(&sem));
	assert_false(rwsem_is_write_locked(&sem));
	up_read(&sem);
	up_read(&sem);
	assert_true(down_write_trylock(&sem));
	assert_false(down_write_trylock(&sem));
	assert_false(down_read_trylock(&sem));
	assert_true(rwsem_is_write_locked(&sem));
	downgrade_write(&sem);
	assert_false(rwsem_is_write_locked(&sem));
	assert_true(down_read_trylock(&sem));
	up_read(&sem);
	up_read(&sem);
	assert_int_equal(sem.state, 0);
}

/* Takes it for writing once, and leaves its mark: a is 1 when the writer was in. */
static void *one_writer(void *arg)
{
	struct worker *w = arg;

	down_write(&w->s->sem);
	w->s->a = 1;
	smp_store_release(&w->s->writers, 1);
	up_write(&w->s->sem);
	return NULL;
}

/* A reader that comes after a waiting writer: it must find the writer's mark. */
static void *late_reader(void *arg)
{
	struct worker *w = arg;

	down_read(&w->s->sem);
	broken_if(w->s, w->s->a != 1);
	up_read(&w->s->sem);
	return NULL;
}

static void test_waiting_writer_goes_first(void **state)
{
	struct shared s = { .a = 0 };
	struct worker writer = { .s = &s }, reader = { .s = &s };

	(void)state;
	/* A reader is in. A writer comes and waits: from then on no other reader gets in. */
	down_read(&s.sem);
	assert_int_equal(pthread_create(&writer.thread, NULL, one_writer, &writer), 0);
	while (down_read_trylock(&s.sem)) {
		up_read(&s.sem);
		machine_yield();
	}
	assert_int_equal(pthread_create(&reader.thread, NULL, late_reader, &reader), 0);
	/* Long enough for both to be asleep. */
	sleep_us(20000);
	assert_int_equal(smp_load_acquire(&s.writers), 0);
	up_read(&s.sem);
	pthread_join(writer.thread, NULL);
	pthread_join(reader.thread, NULL);
	assert_int_equal(s.broken, 0);
	assert_int_equal(s.a, 1);
	assert_int_equal(s.sem.state, 0);
}

/* Shows that it got in, and stays until told to leave. */
static void *staying_reader(void *arg)
{
	struct worker *w = arg;

	down_read(&w->s->sem);
	broken_if(w->s, w->s->a != 7);
	smp_store_release(&w->s->step, 1);
	wait_for_step(&w->s->step, 2);
	up_read(&w->s->sem);
	return NULL;
}

static void test_downgrade_lets_readers_in(void **state)
{
	struct shared s = { .a = 0 };
	struct worker reader = { .s = &s };

	(void)state;
	down_write(&s.sem);
	assert_int_equal(pthread_create(&reader.thread, NULL, staying_reader, &reader), 0);
	sleep_us(20000); /* asleep by now */
	assert_int_equal(smp_load_acquire(&s.step), 0);
	s.a = 7;
	downgrade_write(&s.sem);
	/* It comes in while we are still there. */
	wait_for_step(&s.step, 1);
	assert_false(down_write_trylock(&s.sem));
	smp_store_release(&s.step, 2);
	pthread_join(reader.thread, NULL);
	up_read(&s.sem);
	assert_int_equal(s.broken, 0);
	assert_int_equal(s.sem.state, 0);
}

static void test_downgrade_keeps_writers_out(void **state)
{
	struct shared s = { .a = 0 };
	struct worker writer = { .s = &s };

	(void)state;
	down_write(&s.sem);
	assert_int_equal(pthread_create(&writer.thread, NULL, one_writer, &writer), 0);
	sleep_us(20000);
	downgrade_write(&s.sem);
	/* The writer waits still, and no reader passes it. */
	sleep_us(5000);
	assert_int_equal(smp_load_acquire(&s.writers), 0);
	assert_false(down_read_trylock(&s.sem));
	up_read(&s.sem);
	pthread_join(writer.thread, NULL);
	assert_int_equal(s.a, 1);
	assert_int_equal(s.sem.state, 0);
}

/* Many writers one after the other, all asleep at once: each is woken in its turn. */
static void test_every_waiting_writer_is_woken(void **state)
{
	struct worker worker[NR_THREADS];

	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		struct shared s = { .a = 0 };

		down_write(&s.sem);
		start_all(&s, worker, one_writer);
		sleep_us(round % 2 ? 2000 : 50);
		up_write(&s.sem);
		join_all(worker);
		assert_int_equal(s.sem.state, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spinlock_excludes),
		cmocka_unit_test(test_rwsem_excludes),
		cmocka_unit_test(test_readers_share),
		cmocka_unit_test(test_trylock_and_predicates),
		cmocka_unit_test(test_waiting_writer_goes_first),
		cmocka_unit_test(test_downgrade_lets_readers_in),
		cmocka_unit_test(test_downgrade_keeps_writers_out),
		cmocka_unit_test(test_every_waiting_writer_is_woken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
