/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a bit of a folio: a hashed table of wait queues in the machine, so that folios need no queue of their own.
 *
 * No wake-up is lost (race B104): a waiter queues itself under the bucket's lock, sets PG_waiters, and tests the bit again
 * before it sleeps; the waker clears the bit and reads PG_waiters in one atomic operation. PG_waiters is cleared only
 * under the bucket's lock when no waiter of that folio is left.
 */
#ifndef QUIRE_MM_WAIT_H
#define QUIRE_MM_WAIT_H

#include "mm/folio.h"

#define WAIT_BUCKETS 256u

struct wait_bucket {
	struct spinlock lock;
	struct list_head waiters; /* struct wait_entry.list */
} cache_aligned;

/* One per CPU: a CPU waits for one thing at a time. After being woken the folio must be looked at afresh. */
struct wait_entry {
	struct list_head list;	     /* bucket's lock */
	const struct folio *folio;   /* bucket's lock: identity only, never dereferenced by wakers */
	enum folio_flag flag;	     /* bucket's lock */
	bool exclusive;		     /* bucket's lock: wants to take the bit; one such is woken at a time */
	u32 woken;		     /* 0 asleep, 1 woken: the word that the CPU parks on */
};

void wait_init(struct quire *q);

#endif
