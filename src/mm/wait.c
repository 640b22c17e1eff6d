/* SPDX-License-Identifier: MIT */
/*
 * The folio lock, and sleeping until a folio is unlocked or written back. Why no wake-up is lost and nobody starves stands in
 * wait.h.
 */
#include "mm/wait.h"
#include "mm/percpu.h"

#define LOCKED (1ull << PG_locked)
#define WAITERS (1ull << PG_waiters)

#define LOCK_SPINS 64 /* looks at a locked folio before sleeping: holders are often about to unlock */

void wait_init(struct quire *q)
{
	for (u32 i = 0; i < WAIT_BUCKETS; i++)
		INIT_LIST_HEAD(&q->wait[i].waiters);
}

struct wait_bucket *wait_bucket(struct quire *q, const struct folio *folio)
{
	u64 hash = (u64)(uintptr_t)folio * 0x9e3779b97f4a7c15ull;

	return &q->wait[hash >> 56 & (WAIT_BUCKETS - 1)];
}

/* ------------------------------------------------------------------------------------- queues */

/* Bucket lock held. */
static struct wait_entry *wait_queue(struct quire_cpu *cpu, struct wait_bucket *bucket, const struct folio *folio,
				     enum folio_flag flag, bool exclusive)
{
	struct wait_entry *entry = &cpu->wait;

	entry->folio = folio;
	entry->flag = flag;
	entry->exclusive = exclusive;
	WRITE_ONCE(entry->woken, 0);
	list_add_tail(&entry->list, &bucket->waiters);
	return entry;
}

/* PG_waiters goes with the last waiter. Bucket lock held, and a reference on the folio. */
static void wait_clear_waiters(const struct wait_bucket *bucket, struct folio *folio)
{
	const struct wait_entry *entry;

	list_for_each_entry(entry, &bucket->waiters, list) {
		if (entry->folio == folio)
			return;
	}
	folio_clear(folio, PG_waiters);
}

/* Changed its mind. Bucket lock held, and a reference on the folio. */
static void wait_dequeue(struct wait_bucket *bucket, struct wait_entry *entry, struct folio *folio)
{
	list_del_init(&entry->list);
	wait_clear_waiters(bucket, folio);
}

/* Takes an entry off the queue and makes its CPU run: after the store it may be gone, so the list comes first. Bucket lock held.
 * Unparking under it is safe: a spin lock of ours only delays the woken CPU if it looks for another queue. */
static void wait_wake(struct wait_entry *entry)
{
	list_del_init(&entry->list);
	smp_store_release(&entry->woken, 1);
	unpark(&entry->woken, 1);
}

/* Wakes those who wait for @flag of @folio to clear; those who want to own the lock sleep on. Bucket lock held. */
static void wait_wake_all(struct wait_bucket *bucket, const struct folio *folio, enum folio_flag flag)
{
	struct wait_entry *entry, *next;

	list_for_each_entry_safe(entry, next, &bucket->waiters, list) {
		if (entry->folio == folio && entry->flag == flag && !entry->exclusive)
			wait_wake(entry);
	}
}

static struct wait_entry *wait_first_exclusive(struct wait_bucket *bucket, const struct folio *folio)
{
	struct wait_entry *entry;

	list_for_each_entry(entry, &bucket->waiters, list) {
		if (entry->folio == folio && entry->exclusive)
			return entry;
	}
	return NULL;
}

/* Sleeps until woken. No lock held. The entry's folio is not touched: it may be gone. */
static void wait_sleep(struct wait_entry *entry)
{
	while (!smp_load_acquire(&entry->woken))
		park(&entry->woken, 0);
}

/* ------------------------------------------------------------------------------------- the lock */

bool folio_trylock(struct folio *folio)
{
	return !(__atomic_fetch_or(&folio->flags, LOCKED, __ATOMIC_ACQUIRE) & LOCKED);
}

/* Somebody else has the lock: sleeps until it is handed over. */
static void folio_lock_wait(struct quire_cpu *cpu, struct folio *folio)
{
	struct wait_bucket *bucket = wait_bucket(cpu->q, folio);
	struct wait_entry *entry;

	spin_lock(&bucket->lock);
	entry = wait_queue(cpu, bucket, folio, PG_locked, true);
	/* Both bits at once: either the lock was free and is ours, or its owner will find PG_waiters when it unlocks. */
	if (!(__atomic_fetch_or(&folio->flags, LOCKED | WAITERS, __ATOMIC_ACQUIRE) & LOCKED)) {
		wait_dequeue(bucket, entry, folio);
		spin_unlock(&bucket->lock);
		return;
	}
	spin_unlock(&bucket->lock);
	wait_sleep(entry);
}

static noinline void folio_lock_slow(struct quire_cpu *cpu, struct folio *folio)
{
	/* Not while others queue: it would be theirs. */
	for (int i = 0; i < LOCK_SPINS && !folio_test(folio, PG_waiters); i++) {
		cpu_relax();
		if (!folio_test(folio, PG_locked) && folio_trylock(folio))
			return;
	}
	folio_lock_wait(cpu, folio);
}

void folio_lock(struct quire_cpu *cpu, struct folio *folio)
{
	if (!folio_trylock(folio))
		folio_lock_slow(cpu, folio);
}

/* There are waiters, and we still have the lock: it goes to the first who wants it. */
static noinline void folio_unlock_slow(struct quire_cpu *cpu, struct folio *folio)
{
	struct wait_bucket *bucket = wait_bucket(cpu->q, folio);
	struct wait_entry *next;

	spin_lock(&bucket->lock);
	wait_wake_all(bucket, folio, PG_locked);
	next = wait_first_exclusive(bucket, folio);
	if (next)
		list_del_init(&next->list);
	wait_clear_waiters(bucket, folio);
	if (next)
		wait_wake(next);
	else
		__atomic_fetch_and(&folio->flags, ~LOCKED, __ATOMIC_RELEASE);
	spin_unlock(&bucket->lock);
}

void folio_unlock(struct quire_cpu *cpu, struct folio *folio)
{
	u64 flags = READ_ONCE(folio->flags);

	BUG_ON2(!(flags & LOCKED), folio->pfn, flags);
	do {
		if (unlikely(flags & WAITERS)) {
			folio_unlock_slow(cpu, folio);
			return;
		}
	} while (!__atomic_compare_exchange_n(&folio->flags, &flags, flags & ~LOCKED, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
}

/* ------------------------------------------------------------------------------------- waiting for a bit to clear */

/* Queued, unless the bit is clear: then NULL. The caller holds a reference. */
static struct wait_entry *wait_prepare(struct quire_cpu *cpu, struct folio *folio, enum folio_flag flag)
{
	struct wait_bucket *bucket = wait_bucket(cpu->q, folio);
	struct wait_entry *entry;

	spin_lock(&bucket->lock);
	entry = wait_queue(cpu, bucket, folio, flag, false);
	if (!(__atomic_fetch_or(&folio->flags, WAITERS, __ATOMIC_ACQUIRE) >> flag & 1)) {
		wait_dequeue(bucket, entry, folio);
		entry = NULL;
	}
	spin_unlock(&bucket->lock);
	return entry;
}

void folio_wait_locked(struct quire_cpu *cpu, struct folio *folio)
{
	struct wait_entry *entry = NULL;

	if (smp_load_acquire(&folio->flags) & LOCKED)
		entry = wait_prepare(cpu, folio, PG_locked);
	if (entry)
		wait_sleep(entry);
}

void folio_put_wait_locked(struct quire_cpu *cpu, struct folio *folio)
{
	struct wait_entry *entry = wait_prepare(cpu, folio, PG_locked);

	/* We are in the queue, so whoever unlocks wakes us whether or not the folio is still there when we look (S1-R5). */
	folio_put(cpu, folio);
	if (entry)
		wait_sleep(entry);
}

void folio_wait_writeback(struct quire_cpu *cpu, struct folio *folio)
{
	while (smp_load_acquire(&folio->flags) >> PG_writeback & 1) {
		struct wait_entry *entry = wait_prepare(cpu, folio, PG_writeback);

		if (entry)
			wait_sleep(entry);
	}
}

void folio_end_writeback(struct quire_cpu *cpu, struct folio *folio)
{
	u64 old = __atomic_fetch_and(&folio->flags, ~(1ull << PG_writeback), __ATOMIC_ACQ_REL);

	BUG_ON2(!(old >> PG_writeback & 1), folio->pfn, old);
	if (unlikely(old & WAITERS)) {
		struct wait_bucket *bucket = wait_bucket(cpu->q, folio);

		spin_lock(&bucket->lock);
		wait_wake_all(bucket, folio, PG_writeback);
		wait_clear_waiters(bucket, folio);
		spin_unlock(&bucket->lock);
	}
	/* Only now: until the waiters are told, the folio must be there (invariant 88). */
	folio_put(cpu, folio);
}
