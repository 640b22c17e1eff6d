/* SPDX-License-Identifier: MIT */
/*
 * Keeping TLBs true: which CPUs may hold an address space, and how they learn that entries changed.
 *
 * A CPU's TLB holds entries of the one address space that it runs; changing that empties it. Every address space has a
 * generation, raised by each flush *after* the entries changed, and a log of the ranges of the last few. A CPU that runs the address space remembers the generation up to which its TLB is clean, and catches up
 * from the log (or flushes everything) when it falls behind.
 *
 *   idle ──cpu_user_enter──> user ──cpu_user_exit──> idle        user_seq: even idle, odd in user mode
 *
 *   flusher                               CPU
 *   1 change entries                      a user_seq becomes odd
 *   2 gen++, log          (full order)    b read gen, catch up     (full order between a and b)
 *   3 user_seq odd? interrupt, wait       c access through the TLB; an interrupt is seen between accesses
 *     until clean_gen >= gen or it left   d user_seq becomes even
 *
 * 2-3 against a-b is Dekker's pattern: either the flusher sees the CPU in user mode and waits, or the CPU sees the new
 * generation before it uses an entry. A CPU in user mode holds no lock and never sleeps, so a flusher may wait for it
 * while holding any lock.
 */
#ifndef QUIRE_MM_TLB_H
#define QUIRE_MM_TLB_H

#include "machine/mmu.h"

struct quire_mm;
struct quire_cpu;

#define TLB_LOG 16u
#define TLB_FULL_FLUSH_PAGES 64u /* a longer range flushes the whole TLB */

#define TLB_LOG_BUSY (~0ull)

/* The range of one flush. All fields atomic. */
struct tlb_log_entry {
	u64 gen; /* whose range this is; 0 nobody's yet, TLB_LOG_BUSY while being written */
	u64 start, end;
};

/* In struct quire_mm. All fields atomic. */
struct mm_tlb {
	u64 gen;	   /* begins at 1 */
	u64 cpumask;	   /* CPUs that run this address space: only their TLBs may hold its entries */
	u64 id;		   /* const: unique, never reused: names the address space in reports */
	u32 flush_pending; /* gathers and changes begun and not flushed (B14, B22, B24) */
	struct tlb_log_entry log[TLB_LOG];
} cache_aligned;

/* In struct quire_cpu. */
struct cpu_tlb {
	u64 user_seq;	   /* a: written by the CPU, read by flushers */
	u64 clean_gen;	   /* a: written by the CPU, read by flushers; of the mm that it runs */
	u32 interrupt;	   /* a: set by flushers, cleared by the CPU */
	struct mm_tlb *mm; /* the CPU's own: of the mm that it runs */
	struct tlb tlb;	   /* the CPU's own */
} cache_aligned;

/* Runs another address space (or none) from now on. Caller: the CPU, not in user mode. */
void tlb_switch_mm(struct quire_cpu *cpu, struct quire_mm *mm);

/* Out of line: takes an interrupt; flushes what the CPU's TLB missed since clean_gen. In user mode. */
void cpu_user_interrupt(struct quire_cpu *cpu);
void tlb_catch_up(struct quire_cpu *cpu);

/*
 * User mode: between enter and exit the CPU may use its TLB. It holds no lock, and nothing sleeps. Caller: the CPU, which
 * runs an address space; @tlb is its own.
 */
static inline void cpu_user_enter(struct quire_cpu *cpu, struct cpu_tlb *tlb)
{
	VM_BUG_ON2(tlb->user_seq & 1, cpu, tlb->user_seq);
	/* Full order against the load of the generation: steps a and b. */
	__atomic_store_n(&tlb->user_seq, tlb->user_seq + 1, __ATOMIC_SEQ_CST);
	if (unlikely(__atomic_load_n(&tlb->mm->gen, __ATOMIC_SEQ_CST) != tlb->clean_gen))
		tlb_catch_up(cpu);
}

/* Release: the accesses are over. */
static inline void cpu_user_exit(struct cpu_tlb *tlb)
{
	VM_BUG_ON2(!(tlb->user_seq & 1), tlb, tlb->user_seq);
	smp_store_release(&tlb->user_seq, tlb->user_seq + 1);
}

/* Between two accesses: takes a pending interrupt. One load of the CPU's own line when there is none. */
static inline void cpu_user_poll(struct quire_cpu *cpu, struct cpu_tlb *tlb)
{
	if (unlikely(READ_ONCE(tlb->interrupt)))
		cpu_user_interrupt(cpu);
}

/*
 * Makes sure that no CPU uses an entry for [start, end) as it was before the caller changed the tables. Returns when that
 * is so. Any lock may be held; spins, never sleeps. Caller: any CPU, not in user mode.
 */
void tlb_flush_range(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end);
void tlb_flush_mm(struct quire_cpu *cpu, struct quire_mm *mm);

/* Another change of entries begins / is flushed. Begin before the first entry changes; any lock may be held. */
static inline void tlb_pending_inc(struct mm_tlb *tlb)
{
	__atomic_fetch_add(&tlb->flush_pending, 1, __ATOMIC_SEQ_CST);
}

static inline void tlb_pending_dec(struct mm_tlb *tlb)
{
	__atomic_fetch_sub(&tlb->flush_pending, 1, __ATOMIC_SEQ_CST);
}

/* Under a PTL: is a flush of entries that this PTL protects perhaps outstanding? */
static inline bool tlb_is_pending(const struct mm_tlb *tlb)
{
	return __atomic_load_n(&tlb->flush_pending, __ATOMIC_SEQ_CST) != 0;
}

#endif
