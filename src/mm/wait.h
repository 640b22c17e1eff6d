/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a bit of a folio: a hashed table of wait queues in the machine, so that folios need no queue of their own.
 *
 * No wake-up is lost (race B104): a waiter queues itself under the bucket's lock, then sets PG_waiters and reads the bit in one
 * atomic operation, and sleeps only if the bit was set; the waker clears the bit and reads PG_waiters in one atomic
 * operation, and if it was set looks for waiters under the bucket's lock. PG_waiters is cleared only under the bucket's lock when no
 * waiter of that folio is left.
 *
 * The folio lock is handed over: while somebody waits to own it, unlocking leaves PG_locked set and makes the first in the queue the
 * owner. So nobody starves, and a woken waiter has nothing to try again. Those who only want to see it unlocked wake at
 * every unlock.
 *
 *   unlocked ──trylock──> locked ──unlock, no PG_waiters──> unlocked
 *                           │  ──unlock, PG_waiters, owner waiting (bucket lock)──> locked by the next
 *                           └──unlock, PG_waiters, none wants it (bucket lock)────> unlocked
 */
#ifndef QUIRE_MM_WAIT_H
#define QUIRE_MM_WAIT_H

#include "mm/folio.h"

#define WAIT_BUCKETS 256u

struct wait_bucket {
	struct spinlock lock;
	struct list_head waiters; /* struct wait_entry.list */
} cache_aligned;

/*
 * One per CPU, in struct quire_cpu: a CPU waits for one thing at a time, and a waker that is late to unpark it finds the entry
 * there still. It may wake the next wait of that CPU too early, nothing else.
 */
struct wait_entry {
	struct list_head list;	   /* bucket's lock */
	const struct folio *folio; /* bucket's lock: identity only, never dereferenced by wakers */
	enum folio_flag flag;	   /* bucket's lock */
	bool exclusive;		   /* bucket's lock: wants to own the folio lock; woken when it does */
	u32 woken;		   /* a: 0 asleep, 1 woken (release, off the queue): the word that the CPU parks on */
};

/* Where those wait who wait for a bit of @folio. */
struct wait_bucket *wait_bucket(struct quire *q, const struct folio *folio);

/* Boot: empties q->wait. */
void wait_init(struct quire *q);

#endif
