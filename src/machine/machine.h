/* SPDX-License-Identifier: MIT */
/*
 * What the memory manager needs from the world: the only header below src/mm. An embedder ports quire by implementing
 * it; src/machine/threads does so for real threads of a host process, src/machine/check for the checker. The
 * implementation is chosen by the include path (machine_impl.h).
 *
 * Contract lines read: who may call (context), whether it may sleep, what it orders.
 */
#ifndef QUIRE_MACHINE_H
#define QUIRE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CACHE_LINE 64
#define cache_aligned __attribute__((aligned(CACHE_LINE)))

struct quire;
struct quire_cpu;

/* The four functions of a C library that src/mm may call; it sees no header that declares them. */
void *memcpy(void *restrict dst, const void *restrict src, size_t size);
void *memmove(void *dst, const void *src, size_t size);
void *memset(void *dst, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);

/* --------------------------------------------------------------------------------------- memory order
 * Names as in Linux's memory model. READ_ONCE and WRITE_ONCE are relaxed atomics (never volatile: the checker must be
 * able to choose the value of a load).
 */
#define READ_ONCE(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
#define smp_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define smp_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
/* rcu_dereference is an acquire load: stronger than the address dependency it needs, free on x86, and exact under C11. */
#define rcu_dereference(p) __atomic_load_n(&(p), __ATOMIC_ACQUIRE)
#define rcu_assign_pointer(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELEASE)

/* --------------------------------------------------------------------------------------- spin locks
 * A short critical section; the holder must not sleep or take a sleeping lock. Zeroed memory is an unlocked lock.
 * lock is an acquire, unlock a release. Not recursive, no owner recorded except in debug builds.
 */
struct spinlock {
	u32 word;
};

/* --------------------------------------------------------------------------------------- sleeping locks
 * A reader-writer semaphore: writers are preferred once waiting, so that readers cannot starve them. Zeroed memory is an
 * unlocked rwsem. May sleep (except trylock and unlock).
 */
struct rwsem {
	u32 state; /* readers, or the writer; waiting writers; whether readers sleep */
};

/* --------------------------------------------------------------------------------------- RCU */
struct rcu_head {
	struct rcu_head *next;
	void (*func)(struct quire_cpu *cpu, struct rcu_head *head);
};

struct machine;	     /* per struct quire: what the implementation keeps (threads, rings); opaque to mm */
struct machine_file; /* a backing file or device */

#include "machine_impl.h"

/*
 * machine_impl.h gives the following, as inline functions or as declarations:
 *
 * void spin_lock(struct spinlock *lock);
 * bool spin_trylock(struct spinlock *lock);
 * void spin_unlock(struct spinlock *lock);
 * bool spin_is_locked(struct spinlock *lock);          for assertions only
 *
 * void down_read(struct rwsem *sem);                   may sleep
 * bool down_read_trylock(struct rwsem *sem);
 * void up_read(struct rwsem *sem);
 * void down_write(struct rwsem *sem);                  may sleep
 * bool down_write_trylock(struct rwsem *sem);
 * void up_write(struct rwsem *sem);
 * void downgrade_write(struct rwsem *sem);             the writer becomes a reader; nobody gets in between
 * bool rwsem_is_locked(struct rwsem *sem);             for assertions only
 * bool rwsem_is_write_locked(struct rwsem *sem);       for assertions only
 *
 * void smp_mb(void);                                   full barrier
 * void cpu_relax(void);                                hint inside a spin loop that cannot sleep
 * void machine_yield(void);                            gives the host's CPU to somebody else; may sleep
 *
 * void park(u32 *word, u32 value);
 *      Sleeps while *word == value, until unpark(word); may return early. The check and going to sleep are atomic
 *      with respect to unpark, so set-word-then-unpark is never lost. Holds no spin lock.
 * void unpark(u32 *word, int n);                       wakes up to n sleepers of word (n = -1: all)
 *
 * void rcu_read_lock(struct quire_cpu *cpu);           nests; no sleeping inside
 * void rcu_read_unlock(struct quire_cpu *cpu);
 * void call_rcu(struct quire_cpu *cpu, struct rcu_head *head, func);
 *      Calls func(some_cpu, head) after every read section that has begun is over. The callback runs on a CPU of the
 *      machine's own (machine_service_cpu) or on the caller's at a later call; it may take spin locks and free, it may
 *      not sleep.
 * void synchronize_rcu(struct quire_cpu *cpu);         may sleep
 * void rcu_barrier(struct quire_cpu *cpu);             waits for all callbacks queued so far; may sleep
 *
 * void clear_pages(void *dst, size_t bytes);           zeroes whole 4 KiB pages; may pick non-temporal stores
 * void copy_pages(void *dst, const void *src, size_t bytes);
 * void clear_pages_scattered(void *const *pages, unsigned nr);
 * void copy_pages_scattered(void *const *dst, void *const *src, unsigned nr);
 *      The same for nr single pages anywhere, as for nr adjacent ones.
 * void copy_from_user(void *dst, const void *frame, size_t size);
 * void copy_to_user(void *frame, const void *src, size_t size);
 *      Copy a program's bytes out of or into a frame, in which other CPUs may load and store meanwhile, as programs do: an
 *      aligned word of up to 8 bytes is copied whole, old or new.
 *
 * void machine_cpu_enter(struct quire_cpu *cpu);       the calling thread takes the CPU, which nobody has
 * void machine_cpu_leave(struct quire_cpu *cpu);       and gives it back
 *
 * int machine_file_open(struct quire *, int handle, bool writable, struct machine_file **out, char *name, size_t size);
 *      Opens the backing that @handle (here: a file descriptor, which is duplicated) names; -EACCES when it cannot be
 *      written though @writable, -EBADF, -ENODEV when it is no regular file. @name receives its path, truncated.
 * s64 machine_file_read(struct quire_cpu *, struct machine_file *, u64 off, void *const *pages, unsigned nr);
 * s64 machine_file_write(struct quire_cpu *, struct machine_file *, u64 off, void *const *pages, unsigned nr, u64 bytes);
 *      Reads or writes nr pages of 4 KiB, scattered in memory, at byte offset off: one submission. Returns the bytes
 *      done (short at end of file) or a negative errno. May sleep. Any number of CPUs at once.
 * s64 machine_file_size(struct machine_file *);        bytes, or a negative errno
 * int machine_file_truncate(struct machine_file *, u64 size);
 * int machine_file_sync(struct quire_cpu *, struct machine_file *);    data and metadata are on the device
 * int machine_file_punch(struct machine_file *, u64 off, u64 len);     0 or a negative errno
 * int machine_file_allocate(struct machine_file *, int mode, u64 off, u64 len);
 * void machine_file_close(struct machine_file *);
 *
 * _Noreturn void machine_bug(const char *file, int line, const char *what, u64 a, u64 b);
 *      A broken internal invariant: reports what and where with two values of interest, then stops.
 */

/* An invariant of quire itself. Never for anything that a caller, a file or a lack of memory can cause. */
#define BUG_ON(cond)                                                                                                   \
	do {                                                                                                           \
		if (unlikely(cond))                                                                                    \
			machine_bug(__FILE__, __LINE__, #cond, 0, 0);                                                  \
	} while (0)
/* The same with two values that help to understand it. */
#define BUG_ON2(cond, a, b)                                                                                            \
	do {                                                                                                           \
		if (unlikely(cond))                                                                                    \
			machine_bug(__FILE__, __LINE__, #cond, (u64)(a), (u64)(b));                                    \
	} while (0)

/* Graded assertions: VM_BUG_ON in debug and checker builds only. */
#ifdef QUIRE_DEBUG
#define VM_BUG_ON(cond) BUG_ON(cond)
#define VM_BUG_ON2(cond, a, b) BUG_ON2(cond, a, b)
#else
#define VM_BUG_ON(cond) ((void)sizeof(!(cond)))
#define VM_BUG_ON2(cond, a, b) ((void)sizeof(!(cond)), (void)sizeof((u64)(a)), (void)sizeof((u64)(b)))
#endif

#endif
