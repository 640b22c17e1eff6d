/* SPDX-License-Identifier: MIT */
/* What the files of this folder share: the machine of real threads behind one struct quire, and the host's futexes. */
#ifndef QUIRE_MACHINE_HOST_H
#define QUIRE_MACHINE_HOST_H

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mm/instance.h"

/*
 * One per struct quire, on the host's heap. Legend: a atomic; c constant once the machine runs; w the RCU worker's own.
 */
struct machine {
	struct quire *q;			    /* c */
	void *arena;				    /* c: as mapped, 2 MiB aligned */
	u64 arena_size;				    /* c: bytes */
	pthread_t rcu_worker;			    /* c */
	struct rcu_head *batch[QUIRE_MAX_CPUS + 1]; /* w: callbacks whose grace period runs, per CPU that queued them */
	bool service_dirty;			    /* w: the service CPU ran callbacks and was not drained since */
	u32 rcu_state cache_aligned;		    /* a: RCU_IDLE.. of rcu.c; the worker sleeps on it */
	u32 rcu_stop;				    /* a: the worker is to end when nothing is left to do */
	u32 barriers_wanted;			    /* a: rcu_barrier calls begun */
	u32 barriers_done;			    /* a: of those, how many are over; the callers sleep on it */
};

/*
 * The futex system call. @mask says whom FUTEX_WAKE_BITSET wakes: sleepers with a bit in common. A timeout is an
 * absolute time of CLOCK_MONOTONIC. Errors need no handling: every caller looks at its word again.
 */
static inline void futex_wait(u32 *word, u32 value, u32 mask, const struct timespec *until)
{
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, until, NULL, mask);
}

static inline void futex_wake(u32 *word, int nr, u32 mask)
{
	syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, nr, NULL, NULL, mask);
}

/* ---- rcu.c: starts the worker that is the machine's service CPU; runs what is left and ends it. 0 or a negative errno. */
int rcu_start(struct machine *machine);
void rcu_stop(struct machine *machine);

/* ---- io.c: gives back the CPU's io_uring, if it made one. Nobody uses the CPU any more. */
void io_close_ring(struct quire_cpu *cpu);

/* ---- cpu.c: the CPU that the calling thread entered last and has not left, or NULL. For messages. */
struct quire_cpu *host_current_cpu(void);
/* What machine_cpu.thread of the calling thread's CPUs is. */
void *host_thread(void);

#endif
