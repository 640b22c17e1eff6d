/* SPDX-License-Identifier: MIT */
/*
 * machine.h for real threads of a host process: inline spin locks, the rest out of line in this folder. Includes no
 * system header, so that src/mm stays freestanding.
 */
#ifndef QUIRE_MACHINE_IMPL_H
#define QUIRE_MACHINE_IMPL_H

/* What struct quire_cpu keeps for us. Legend: a atomic; the rest is touched by the CPU's owner only. */
struct machine_cpu {
	void *thread;		    /* identifies the thread that owns the CPU, for assertions; NULL: none */
	void *ring;		    /* io_uring of this CPU, made at first use */
	u32 rcu_depth;		    /* nesting of read sections */
	u32 rcu_pending;	    /* callbacks queued by this CPU so far */
	struct rcu_head *rcu_queue; /* a: callbacks that the worker has not taken: pushed by the owner, taken whole */
};

static inline void smp_mb(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void cpu_relax(void)
{
	__builtin_ia32_pause();
}

/* Spin lock: 0 free, 1 held, 2 held and somebody may sleep on the word: a holder may lose its host CPU, so waiting is
 * spinning for a while and then sleeping. */
void machine_spin_lock_slow(struct spinlock *lock);
void machine_spin_unlock_slow(struct spinlock *lock);

static inline bool spin_trylock(struct spinlock *lock)
{
	u32 expected = 0;

	return __atomic_compare_exchange_n(&lock->word, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline void spin_lock(struct spinlock *lock)
{
	if (unlikely(!spin_trylock(lock)))
		machine_spin_lock_slow(lock);
}

static inline void spin_unlock(struct spinlock *lock)
{
	if (unlikely(__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2))
		machine_spin_unlock_slow(lock);
}

static inline bool spin_is_locked(struct spinlock *lock)
{
	return READ_ONCE(lock->word) != 0;
}

void down_read(struct rwsem *sem);
bool down_read_trylock(struct rwsem *sem);
void up_read(struct rwsem *sem);
void down_write(struct rwsem *sem);
bool down_write_trylock(struct rwsem *sem);
void up_write(struct rwsem *sem);
void downgrade_write(struct rwsem *sem);
bool rwsem_is_locked(struct rwsem *sem);
bool rwsem_is_write_locked(struct rwsem *sem);

void machine_yield(void);
void park(u32 *word, u32 value);
void unpark(u32 *word, int n);

void rcu_read_lock(struct quire_cpu *cpu);
void rcu_read_unlock(struct quire_cpu *cpu);
void call_rcu(struct quire_cpu *cpu, struct rcu_head *head, void (*func)(struct quire_cpu *, struct rcu_head *));
void synchronize_rcu(struct quire_cpu *cpu);
void rcu_barrier(struct quire_cpu *cpu);

void machine_cpu_enter(struct quire_cpu *cpu);
void machine_cpu_leave(struct quire_cpu *cpu);

void copy_from_user(void *dst, const void *frame, size_t size);
void copy_to_user(void *frame, const void *src, size_t size);
void clear_pages(void *dst, size_t bytes);
void copy_pages(void *dst, const void *src, size_t bytes);
void clear_pages_scattered(void *const *pages, unsigned nr);
void copy_pages_scattered(void *const *dst, void *const *src, unsigned nr);

int machine_file_open(struct quire *q, int handle, bool writable, struct machine_file **out, char *name, size_t size);
s64 machine_file_read(struct quire_cpu *cpu, struct machine_file *file, u64 off, void *const *pages, unsigned nr);
s64 machine_file_write(struct quire_cpu *cpu, struct machine_file *file, u64 off, void *const *pages, unsigned nr,
		       u64 bytes);
s64 machine_file_size(struct machine_file *file);
int machine_file_truncate(struct machine_file *file, u64 size);
int machine_file_sync(struct quire_cpu *cpu, struct machine_file *file);
int machine_file_punch(struct machine_file *file, u64 off, u64 len);
int machine_file_allocate(struct machine_file *file, int mode, u64 off, u64 len);
void machine_file_close(struct machine_file *file);

_Noreturn void machine_bug(const char *file, int line, const char *what, u64 a, u64 b);

#endif
