/* SPDX-License-Identifier: MIT */
/*
 * A program's loads and stores, as its CPU does them: through the TLB in user mode, one page after another; a page fault leaves
 * user mode, is handled, and the access is tried again.
 */
#include "mm/fault.h"

/* No program needs a page faulted in this often before one access gets through; a fault handler that makes no progress does. */
#define MAX_FAULTS_PER_ACCESS 1000000u

static unsigned access_fault_flags(enum mmu_access access)
{
	switch (access) {
	case MMU_WRITE:
		return FAULT_WRITE;
	case MMU_EXEC:
		return FAULT_EXEC;
	case MMU_READ:
		break;
	}
	return 0;
}

/* An address whose upper 17 bits differ is none: a general protection, not a page fault, and the CPU does not say where. */
static bool is_canonical(u64 addr)
{
	return (u64)((s64)(addr << 16) >> 16) == addr;
}

static int program_fault(struct quire_cpu *cpu, u64 addr, enum mmu_access access)
{
	if (likely(is_canonical(addr)))
		return handle_mm_fault(cpu, cpu->mm, addr, access_fault_flags(access));
	cpu->fault = (struct quire_fault){ .signo = SIGSEGV, .code = SI_KERNEL };
	return -EFAULT;
}

/*
 * Where @addr is, for @access; in user mode, which it leaves while it handles faults and when it fails. NULL: *error.
 */
static u8 *user_translate(struct quire_cpu *cpu, u64 addr, enum mmu_access access, int *error)
{
	struct quire_mm *mm = cpu->mm;

	for (u32 faults = 0;; faults++) {
		u8 *host;

		cpu_user_poll(cpu, &cpu->tlb);
		host = mmu_translate(&cpu->tlb.tlb, cpu->q->frames, mm->pgd->pfn, addr, access);
		if (likely(host))
			return host;
		BUG_ON2(faults > MAX_FAULTS_PER_ACCESS, addr, access);
		cpu_user_exit(&cpu->tlb);
		*error = program_fault(cpu, addr, access);
		if (*error)
			return NULL;
		cpu_user_enter(cpu, &cpu->tlb);
	}
}

/* Running no address space is like running an empty one. */
static int no_address_space(struct quire_cpu *cpu, u64 addr)
{
	cpu->fault = (struct quire_fault){ .signo = SIGSEGV, .code = SEGV_MAPERR, .addr = addr };
	return -EFAULT;
}

/* One side of every copy is @buf, the other the program's memory; @access says which way. */
static int user_access(struct quire_cpu *cpu, u64 addr, void *buf, u64 len, enum mmu_access access)
{
	u8 *at = buf;
	int error = 0;

	if (!len)
		return 0;
	if (unlikely(!cpu->mm))
		return no_address_space(cpu, addr);
	cpu_user_enter(cpu, &cpu->tlb);
	while (len) {
		u64 room = PAGE_SIZE - (addr & ~PAGE_MASK), size = len < room ? len : room;
		u8 *host = user_translate(cpu, addr, access, &error);

		if (unlikely(!host))
			return error;
		if (access == MMU_WRITE)
			copy_to_user(host, at, size);
		else
			copy_from_user(at, host, size);
		addr += size;
		at += size;
		len -= size;
	}
	cpu_user_exit(&cpu->tlb);
	return 0;
}

/*
 * Nearly every access lies in one page that needs no fault: this is it. False: it does not, and nothing was done. It need not
 * look for interrupts, as it enters user mode clean and leaves it at once.
 */
static inline bool access_one_page(struct quire_cpu *cpu, u64 addr, void *buf, u64 len, enum mmu_access access)
{
	u8 *host;

	if (unlikely(!cpu->mm || len - 1 >= PAGE_SIZE - (addr & ~PAGE_MASK)))
		return false;
	cpu_user_enter(cpu, &cpu->tlb);
	host = mmu_translate(&cpu->tlb.tlb, cpu->q->frames, cpu->mm->pgd->pfn, addr, access);
	if (likely(host)) {
		if (access == MMU_WRITE)
			copy_to_user(host, buf, len);
		else
			copy_from_user(buf, host, len);
	}
	cpu_user_exit(&cpu->tlb);
	return host;
}

int quire_load(struct quire_cpu *cpu, uint64_t addr, void *buf, uint64_t len)
{
	return likely(access_one_page(cpu, addr, buf, len, MMU_READ)) ? 0 : user_access(cpu, addr, buf, len, MMU_READ);
}

int quire_store(struct quire_cpu *cpu, uint64_t addr, const void *buf, uint64_t len)
{
	void *from = (void *)(uintptr_t)buf; /* only read */

	return likely(access_one_page(cpu, addr, from, len, MMU_WRITE)) ? 0
									: user_access(cpu, addr, from, len, MMU_WRITE);
}

int quire_fetch(struct quire_cpu *cpu, uint64_t addr, void *buf, uint64_t len)
{
	return likely(access_one_page(cpu, addr, buf, len, MMU_EXEC)) ? 0 : user_access(cpu, addr, buf, len, MMU_EXEC);
}

int quire_cmpxchg(struct quire_cpu *cpu, uint64_t addr, uint64_t *old, uint64_t new_value)
{
	int error = 0;
	u64 *word;

	if (addr & 7)
		return -EINVAL;
	if (unlikely(!cpu->mm))
		return no_address_space(cpu, addr);
	cpu_user_enter(cpu, &cpu->tlb);
	word = (u64 *)(void *)user_translate(cpu, addr, MMU_WRITE, &error);
	if (!word)
		return error;
	__atomic_compare_exchange_n(word, old, new_value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	cpu_user_exit(&cpu->tlb);
	return 0;
}
