/* SPDX-License-Identifier: MIT */
/*
 * Locks of real threads, on futexes. A holder may lose its host CPU at any moment, so nobody spins for long.
 *
 * Every unlock is one atomic operation on the lock, and after it at most a wake-up, which uses the lock's address but not
 * its memory: the next owner may free the object that the lock is in at once.
 */
#define _GNU_SOURCE
#include "host.h"

#include <limits.h>

#define SPINS 200u /* looks at a taken lock before sleeping: about as long as sleeping and waking take */

/* ---------------------------------------------------------------------------------------- spin locks
 *
 * 0 free, 1 held, 2 held and somebody may sleep. Whoever sleeps has made it 2 and takes the lock as 2 when woken, because
 * there may be more sleepers; so the worst is one wake-up too many, never one too few.
 */

void machine_spin_lock_slow(struct spinlock *lock)
{
	for (unsigned i = 0; i < SPINS; i++) {
		if (READ_ONCE(lock->word) == 0 && spin_trylock(lock))
			return;
		cpu_relax();
	}
	while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0)
		park(&lock->word, 2);
}

void machine_spin_unlock_slow(struct spinlock *lock)
{
	unpark(&lock->word, 1);
}

/* ---------------------------------------------------------------------------------------- reader-writer semaphores
 *
 *      31      30      29 ........ 16  15 ...... 0
 *      WRITER  ASLEEP  waiting writers  readers
 *
 * Readers get in while there is neither a writer nor a waiting one; a writer while there is neither a writer nor a reader.
 * A writer that has to wait counts itself first, so from then on readers come after it.
 *
 * Readers and writers sleep on the same word, told apart by the futex's mask. Why no wake-up is lost: a sleeper sleeps only
 * if the word still is what it saw, which told it that it must wait. From such a word on, somebody who will let go is under
 * way, and lets go by changing the word:
 *   - a waiting writer is counted in the word, and whoever makes the lock free with such a count wakes one writer. If another
 *     is faster than the woken one, that other lets go later, and wakes one again;
 *   - a reader has set ASLEEP, which is set only while there is a writer or a waiting one. It is cleared only by the writer who
 *     lets go with no writer left to wait; that one wakes all readers.
 */
#define READER 1u
#define READERS 0x0000ffffu
#define WAITING_WRITER 0x00010000u
#define WAITING_WRITERS 0x3fff0000u
#define ASLEEP 0x40000000u
#define WRITER 0x80000000u

#define MASK_READERS 1u
#define MASK_WRITERS 2u

static bool may_read(u32 state)
{
	return !(state & (WRITER | WAITING_WRITERS));
}

static bool may_write(u32 state)
{
	return !(state & (WRITER | READERS));
}

bool down_read_trylock(struct rwsem *sem)
{
	u32 state = READ_ONCE(sem->state);

	while (may_read(state)) {
		VM_BUG_ON2((state & READERS) == READERS, sem, state);
		if (__atomic_compare_exchange_n(&sem->state, &state, state + READER, true, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return true;
	}
	return false;
}

/* Sleeps if the word is still @state, in which readers must wait. Returns early at will. */
static void reader_sleep(struct rwsem *sem, u32 state)
{
	if (!(state & ASLEEP) && !__atomic_compare_exchange_n(&sem->state, &state, state | ASLEEP, false,
							      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	futex_wait(&sem->state, state | ASLEEP, MASK_READERS, NULL);
}

void down_read(struct rwsem *sem)
{
	for (unsigned i = 0; !down_read_trylock(sem); i++) {
		u32 state = READ_ONCE(sem->state);

		if (i < SPINS)
			cpu_relax();
		else if (!may_read(state))
			reader_sleep(sem, state);
	}
}

/* The last reader lets a waiting writer in. */
void up_read(struct rwsem *sem)
{
	u32 state = __atomic_sub_fetch(&sem->state, READER, __ATOMIC_RELEASE);

	VM_BUG_ON2((state & WRITER) || (state & READERS) == READERS, sem, state);
	if (unlikely((state & WAITING_WRITERS) && may_write(state)))
		futex_wake(&sem->state, 1, MASK_WRITERS);
}

/* Only a lock that nobody waits for: those who wait were first. */
bool down_write_trylock(struct rwsem *sem)
{
	u32 unlocked = 0;

	return __atomic_compare_exchange_n(&sem->state, &unlocked, WRITER, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* From one of the waiting writers to the writer, if it can be now. */
static bool waiting_writer_trylock(struct rwsem *sem, u32 *state)
{
	*state = READ_ONCE(sem->state);
	while (may_write(*state))
		if (__atomic_compare_exchange_n(&sem->state, state, (*state - WAITING_WRITER) | WRITER, true,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
	return false;
}

void down_write(struct rwsem *sem)
{
	u32 state;

	if (likely(down_write_trylock(sem)))
		return;
	__atomic_fetch_add(&sem->state, WAITING_WRITER, __ATOMIC_RELAXED);
	for (unsigned i = 0; !waiting_writer_trylock(sem, &state); i++) {
		if (i < SPINS)
			cpu_relax();
		else
			futex_wait(&sem->state, state, MASK_WRITERS, NULL);
	}
}

/* Takes WRITER away and leaves @readers instead. Who waits is woken: one writer, else all readers. */
static void writer_leave(struct rwsem *sem, u32 readers)
{
	u32 state = READ_ONCE(sem->state), left;

	do {
		VM_BUG_ON2((state & (WRITER | READERS)) != WRITER, sem, state);
		left = (state & ~WRITER) + readers;
		if (!(state & WAITING_WRITERS))
			left &= ~ASLEEP;
	} while (!__atomic_compare_exchange_n(&sem->state, &state, left, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	if (unlikely((state & ASLEEP) && !(left & ASLEEP)))
		futex_wake(&sem->state, INT_MAX, MASK_READERS);
	if (unlikely((left & WAITING_WRITERS) && may_write(left)))
		futex_wake(&sem->state, 1, MASK_WRITERS);
}

void up_write(struct rwsem *sem)
{
	writer_leave(sem, 0);
}

void downgrade_write(struct rwsem *sem)
{
	writer_leave(sem, READER);
}

bool rwsem_is_locked(struct rwsem *sem)
{
	return READ_ONCE(sem->state) & (WRITER | READERS);
}

bool rwsem_is_write_locked(struct rwsem *sem)
{
	return READ_ONCE(sem->state) & WRITER;
}
