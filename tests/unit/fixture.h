/* SPDX-License-Identifier: MIT */
/* A machine for a test of its insides: made, entered on one CPU, validated and checked for leaks at the end. */
#ifndef QUIRE_TESTS_UNIT_FIXTURE_H
#define QUIRE_TESTS_UNIT_FIXTURE_H

#include "cmocka_setup.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm/instance.h"

struct fixture {
	struct quire *q;
	struct quire_cpu *cpu; /* CPU 0, ours */
	u64 nr_free;	       /* frames free when nothing was allocated */
};

static inline void fixture_violation(void *arg, const char *what, u64 a, u64 b)
{
	(void)arg;
	fprintf(stderr, "violation: %s %#llx %#llx\n", what, (unsigned long long)a, (unsigned long long)b);
}

/* Frames and every cache. No other CPU may be in a call; the service CPU is waited for. */
static inline void fixture_validate(struct fixture *f)
{
	rcu_barrier(f->cpu);
	assert_int_equal(frame_validate(f->q, fixture_violation, NULL), 0);
	for (unsigned id = 0; id < NR_CACHES; id++)
		assert_int_equal(kmem_cache_validate(&f->q->cache[id], fixture_violation, NULL), 0);
}

static inline void fixture_start(struct fixture *f, const struct quire_config *config)
{
	assert_int_equal(quire_create(config, &f->q), 0);
	assert_int_equal(quire_cpu_enter(f->q, 0, &f->cpu), 0);
	quire_drain(f->cpu);
	f->nr_free = frame_nr_free(f->q);
	fixture_validate(f);
}

/* Nothing may be left: no object, no frame. */
static inline void fixture_stop(struct fixture *f)
{
	quire_drain(f->cpu);
	fixture_validate(f);
	for (unsigned id = 0; id < NR_CACHES; id++)
		assert_int_equal(kmem_cache_in_use(&f->q->cache[id]), 0);
	assert_int_equal(frame_nr_free(f->q), f->nr_free);
	quire_cpu_leave(f->cpu);
	assert_int_equal(quire_destroy(f->q), 0);
}

/*
 * A broken invariant is reported and ends the program: @misuse in a child process must. The child has none of the machine's threads,
 * so @misuse does nothing that waits for them.
 */
static inline void assert_bug(struct fixture *f, void (*misuse)(struct fixture *f))
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		dup2(null, STDERR_FILENO);
		misuse(f);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

#endif
