/* SPDX-License-Identifier: MIT */
/* Sleeping and waking: futexes of the host, and its scheduler. */
#define _GNU_SOURCE
#include "host.h"

#include <limits.h>
#include <sched.h>

/* The host compares and queues in one step, so a waker that first changes *word cannot be missed. */
void park(u32 *word, u32 value)
{
	futex_wait(word, value, FUTEX_BITSET_MATCH_ANY, NULL);
}

/* Touches nothing but the address: the word may be gone already, if the sleeper woke by itself. */
void unpark(u32 *word, int n)
{
	futex_wake(word, n < 0 ? INT_MAX : n, FUTEX_BITSET_MATCH_ANY);
}

void machine_yield(void)
{
	sched_yield();
}
