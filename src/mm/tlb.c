/* SPDX-License-Identifier: MIT */
/*
 * TLB coherence by generations. The protocol is drawn in tlb.h; here is why each step is ordered as it is.
 *
 * Who must be told. A CPU sets its bit in cpumask, a full barrier, before it fills its first entry (race B31). A flusher changes
 * the tables, a full barrier (the increment of gen), then reads cpumask. So a CPU that it does not see there walks
 * the changed tables.
 *
 * The log only saves work: a CPU that does not find there, for each generation that it missed, exactly that generation,
 * before and after reading its range, flushes everything.
 */
#include "mm/instance.h"

/* ---------------------------------------------------------------------------------------- the log */

/*
 * Notes the range of generation @gen in its entry, which generation gen - TLB_LOG had before. Somebody who is that much later or
 * earlier may be at the same entry: who claims it writes it, and a range that found no place is simply not known.
 */
static void tlb_log_write(struct mm_tlb *tlb, u64 gen, u64 start, u64 end)
{
	struct tlb_log_entry *entry = &tlb->log[gen % TLB_LOG];
	u64 old = READ_ONCE(entry->gen);

	if (old > gen) /* TLB_LOG_BUSY is, too */
		return;
	if (!__atomic_compare_exchange_n(&entry->gen, &old, TLB_LOG_BUSY, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return;
	/* Releases: a reader that sees one of these also sees that the entry is busy. */
	smp_store_release(&entry->start, start);
	smp_store_release(&entry->end, end);
	smp_store_release(&entry->gen, gen);
}

/* The range of generation @gen, if the log still has it. */
static bool tlb_log_read(const struct mm_tlb *tlb, u64 gen, u64 *start, u64 *end)
{
	const struct tlb_log_entry *entry = &tlb->log[gen % TLB_LOG];

	if (smp_load_acquire(&entry->gen) != gen)
		return false;
	*start = smp_load_acquire(&entry->start);
	*end = smp_load_acquire(&entry->end);
	return READ_ONCE(entry->gen) == gen;
}

/* ---------------------------------------------------------------------------------------- the CPU's own TLB */

static void flush_own_range(struct cpu_tlb *tlb, u64 start, u64 end)
{
	if (end - start > TLB_FULL_FLUSH_PAGES * PAGE_SIZE)
		mmu_flush_all(&tlb->tlb);
	else
		mmu_flush_range(&tlb->tlb, start, end);
}

/* Flushes what generations (clean_gen, gen] changed. False: the log does not tell. */
static bool catch_up_from_log(struct cpu_tlb *tlb, const struct mm_tlb *mm_tlb, u64 gen)
{
	u64 start, end;

	if (gen - tlb->clean_gen > TLB_LOG / 2)
		return false;
	for (u64 missed = tlb->clean_gen + 1; missed <= gen; missed++) {
		if (!tlb_log_read(mm_tlb, missed, &start, &end))
			return false;
		flush_own_range(tlb, start, end);
	}
	return true;
}

void tlb_catch_up(struct quire_cpu *cpu)
{
	struct mm_tlb *mm_tlb = cpu->tlb.mm;
	u64 gen = __atomic_load_n(&mm_tlb->gen, __ATOMIC_SEQ_CST);

	if (gen == cpu->tlb.clean_gen)
		return;
	if (!catch_up_from_log(&cpu->tlb, mm_tlb, gen))
		mmu_flush_all(&cpu->tlb.tlb);
	count_event(cpu, TLB_FLUSH_LOCAL, 1);
	/* Release: whoever waits for this knows that the entries are gone. */
	smp_store_release(&cpu->tlb.clean_gen, gen);
}

/* The last address space's entries go before its bit, which a flusher may find set a little too long, never too short. */
void tlb_switch_mm(struct quire_cpu *cpu, struct quire_mm *mm)
{
	u64 bit = 1ull << (cpu->id % QUIRE_MAX_CPUS);

	VM_BUG_ON2(cpu->tlb.user_seq & 1, cpu->id, cpu->tlb.user_seq);
	if (cpu->mm == mm)
		return;
	if (cpu->mm) {
		mmu_flush_all(&cpu->tlb.tlb);
		__atomic_fetch_and(&cpu->mm->tlb.cpumask, ~bit, __ATOMIC_SEQ_CST);
	}
	cpu->mm = mm;
	cpu->tlb.mm = mm ? &mm->tlb : NULL;
	if (mm) {
		/* Before any entry is filled (B31), and before the generation is read: a flusher that does not see the bit has
		 * raised it already. */
		__atomic_fetch_or(&mm->tlb.cpumask, bit, __ATOMIC_SEQ_CST);
		smp_store_release(&cpu->tlb.clean_gen, __atomic_load_n(&mm->tlb.gen, __ATOMIC_SEQ_CST));
	}
}

void cpu_user_interrupt(struct quire_cpu *cpu)
{
	/* Cleared before the generation is read: a flusher that comes later sets it again. */
	__atomic_store_n(&cpu->tlb.interrupt, 0, __ATOMIC_SEQ_CST);
	tlb_catch_up(cpu);
}

/* ---------------------------------------------------------------------------------------- flushing */

#define SPINS_BEFORE_YIELD 200u

/*
 * Waits until @target, seen in user mode with @seq, has caught up with @gen or left: then it catches up before it uses another
 * entry. If it runs another address space by now it has left too, and clean_gen means nothing, but either answer is right.
 */
static void wait_for_target(const struct cpu_tlb *target, u64 seq, u64 gen)
{
	for (u32 spins = 0; smp_load_acquire(&target->user_seq) == seq; spins++) {
		if (smp_load_acquire(&target->clean_gen) >= gen)
			break;
		if (spins < SPINS_BEFORE_YIELD)
			cpu_relax();
		else
			machine_yield(); /* the target's thread may not be running on the host */
	}
}

/* Interrupts those CPUs of @mask that are in user mode, all of them first, so that they flush at the same time; then waits. */
static void shoot_down(struct quire_cpu *cpu, u64 mask, u64 gen)
{
	u64 seq[QUIRE_MAX_CPUS], interrupted = 0;

	count_event(cpu, TLB_SHOOTDOWN, 1);
	for (u64 rest = mask; rest; rest &= rest - 1) {
		unsigned id = (unsigned)__builtin_ctzll(rest);
		struct cpu_tlb *target = &cpu->q->cpus[id]->tlb;

		seq[id] = __atomic_load_n(&target->user_seq, __ATOMIC_SEQ_CST);
		if (!(seq[id] & 1))
			continue;
		__atomic_store_n(&target->interrupt, 1, __ATOMIC_SEQ_CST);
		interrupted |= 1ull << id;
		count_event(cpu, TLB_IPI, 1);
	}
	for (; interrupted; interrupted &= interrupted - 1) {
		unsigned id = (unsigned)__builtin_ctzll(interrupted);

		wait_for_target(&cpu->q->cpus[id]->tlb, seq[id], gen);
	}
}

/* The own TLB, when it holds this address space. In the common case it missed nothing before this flush. */
static void flush_own(struct quire_cpu *cpu, u64 gen, u64 start, u64 end)
{
	if (cpu->tlb.clean_gen != gen - 1) {
		tlb_catch_up(cpu);
		return;
	}
	flush_own_range(&cpu->tlb, start, end);
	count_event(cpu, TLB_FLUSH_LOCAL, 1);
	smp_store_release(&cpu->tlb.clean_gen, gen);
}

void tlb_flush_range(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end)
{
	/* Full order: the caller's changes of the tables, then this, then the reads of cpumask and user_seq (step 2). */
	u64 gen = __atomic_add_fetch(&mm->tlb.gen, 1, __ATOMIC_SEQ_CST);
	u64 mask = __atomic_load_n(&mm->tlb.cpumask, __ATOMIC_SEQ_CST);

	VM_BUG_ON2(cpu->tlb.user_seq & 1, cpu->id, start);
	if (cpu->mm == mm)
		mask &= ~(1ull << (cpu->id % QUIRE_MAX_CPUS));
	if (mask)
		tlb_log_write(&mm->tlb, gen, start, end);
	if (cpu->mm == mm)
		flush_own(cpu, gen, start, end);
	if (mask)
		shoot_down(cpu, mask, gen);
}

void tlb_flush_mm(struct quire_cpu *cpu, struct quire_mm *mm)
{
	tlb_flush_range(cpu, mm, 0, TASK_SIZE);
}
