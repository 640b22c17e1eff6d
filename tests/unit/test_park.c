/* SPDX-License-Identifier: MIT */
/* Sleeping on a word: set-then-unpark is never lost, and a wake-up reaches as many as it should. */
#include "cmocka_setup.h"

#include <pthread.h>
#include <time.h>

#include "machine/machine.h"
#include "random.h"

/* ---------------------------------------------------------------------------------------- no lost wake-up */

#define NR_PLAYERS 3u
#define TURNS 10000u /* each: a lost wake-up is a test that never ends */

struct ring {
	u32 turn;    /* atomic: whose turn it is; all sleep on it */
	u64 counter; /* whose turn it is: plain, so that the thread sanitizer watches */
};

struct player {
	struct ring *ring;
	u32 id;
	u64 random;
	pthread_t thread;
};

static void pause_at_random(u64 *random)
{
	for (u64 n = random_below(random, 200); n; n--)
		cpu_relax();
}

/* Waits for its turn, counts, passes the turn on; sleeps and wakes meet at every distance. */
static void *play(void *arg)
{
	struct player *p = arg;

	for (unsigned i = 0; i < TURNS; i++) {
		u32 turn;

		while ((turn = smp_load_acquire(&p->ring->turn)) != p->id) {
			pause_at_random(&p->random);
			park(&p->ring->turn, turn);
		}
		p->ring->counter++;
		pause_at_random(&p->random);
		smp_store_release(&p->ring->turn, (p->id + 1) % NR_PLAYERS);
		unpark(&p->ring->turn, -1);
	}
	return NULL;
}

static void test_no_lost_wakeup(void **state)
{
	struct ring ring = { .turn = 0 };
	struct player player[NR_PLAYERS];

	(void)state;
	for (u32 i = 0; i < NR_PLAYERS; i++) {
		player[i] = (struct player){ .ring = &ring, .id = i, .random = i };
		assert_int_equal(pthread_create(&player[i].thread, NULL, play, &player[i]), 0);
	}
	for (u32 i = 0; i < NR_PLAYERS; i++)
		pthread_join(player[i].thread, NULL);
	assert_int_equal(ring.counter, NR_PLAYERS * TURNS);
}

/* ---------------------------------------------------------------------------------------- how many */

struct bed {
	u32 word;   /* 0: sleep on */
	u32 asleep; /* atomic: about to sleep, or asleep */
	u32 woken;  /* atomic: were woken while word was 0 still */
};

/* Goes back to sleep until the word changes. */
static void *sleeper(void *arg)
{
	struct bed *bed = arg;

	__atomic_fetch_add(&bed->asleep, 1, __ATOMIC_RELEASE);
	while (!smp_load_acquire(&bed->word)) {
		park(&bed->word, 0);
		if (!smp_load_acquire(&bed->word))
			__atomic_fetch_add(&bed->woken, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void sleep_ms(long ms)
{
	const struct timespec time = { .tv_nsec = ms * 1000000l };

	nanosleep(&time, NULL);
}

static void test_unpark_counts(void **state)
{
	struct bed bed = { .word = 0 };
	pthread_t thread[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sleeper, &bed), 0);
	while (smp_load_acquire(&bed.asleep) < 3)
		machine_yield();
	sleep_ms(50);
	/* One wake-up without a change: one of them looks, finds nothing, and sleeps again. */
	unpark(&bed.word, 1);
	sleep_ms(50);
	assert_in_range(smp_load_acquire(&bed.woken), 0, 1);
	/* All of them. */
	smp_store_release(&bed.word, 1);
	unpark(&bed.word, -1);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
}

static void test_park_needs_the_value(void **state)
{
	u32 word = 1;

	(void)state;
	/* The word is not what the caller saw: returns at once, or the test never ends. */
	park(&word, 0);
	assert_int_equal(word, 1);
	unpark(&word, 1); /* nobody there */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_lost_wakeup),
		cmocka_unit_test(test_unpark_counts),
		cmocka_unit_test(test_park_needs_the_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
