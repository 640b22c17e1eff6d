/* SPDX-License-Identifier: MIT */
/*
 * Validation of TLBs: a CPU whose TLB counts as clean up to its address space's generation has no entry that the page tables
 * contradict. One that is behind may have, for it flushes before it uses any.
 */
#include "mm/validate.h"

/* The leaf entry of @level for @va; 0: there is none. */
static u64 leaf_entry(struct quire_mm *mm, u64 va, unsigned level)
{
	struct ptdesc *tbl;
	const pte_t *ptep;
	pmd_t *pmdp = pmd_offset(mm, va, &tbl);

	if (!pmdp)
		return 0;
	if (level)
		return pmd_leaf(pte_read(pmdp)) ? pte_read(pmdp) : 0;
	ptep = pte_offset_lockless(mm, pmdp, va);
	return ptep ? pte_read(ptep) : 0;
}

/* Does the page table still say what the TLB entry says? */
static bool agrees(struct quire *q, const struct tlb_entry *entry, u64 leaf)
{
	if (!(leaf & _PAGE_PRESENT) || entry->frame != pfn_to_virt(q, pte_pfn(leaf)))
		return false;
	if ((entry->tag & TLB_WRITE) && !(pte_write(leaf) && pte_dirty(leaf)))
		return false;
	return !(entry->tag & TLB_EXEC) || !(leaf & _PAGE_NX);
}

static void check_entry(struct validate *v, const struct quire_cpu *cpu, const struct tlb_entry *entry, unsigned level)
{
	u64 va = entry->tag & (level ? PMD_MASK : PAGE_MASK), leaf;

	if (!(entry->tag & TLB_VALID))
		return;
	leaf = leaf_entry(cpu->mm, va, level);
	if (!agrees(v->q, entry, leaf))
		violation(v, 37, "TLB of CPU %d has %x where the page table has %x", cpu->id, entry->tag, leaf);
}

static void check_entries(struct validate *v, const struct quire_cpu *cpu)
{
	const struct tlb *tlb = &cpu->tlb.tlb;

	for (unsigned set = 0; set < TLB_SETS; set++)
		for (unsigned way = 0; way < TLB_WAYS; way++)
			check_entry(v, cpu, &tlb->set[set][way], 0);
	for (unsigned i = 0; i < TLB_HUGE_ENTRIES; i++)
		check_entry(v, cpu, &tlb->huge[i], 1);
}

static void validate_tlb(struct validate *v, const struct quire_cpu *cpu)
{
	struct quire_mm *mm = cpu->mm;

	if (!mm)
		return;
	if (!is_object(v->q, CACHE_MM, mm) || READ_ONCE(mm->users) == 0) {
		violation(v, 55, "CPU %d runs %x, which is no live address space", cpu->id, (u64)(uintptr_t)mm, 0);
		return;
	}
	if (!(READ_ONCE(mm->tlb.cpumask) >> cpu->id & 1))
		violation(v, 42, "CPU %d runs mm %d and is not in its mask %x", cpu->id, mm->tlb.id, mm->tlb.cpumask);
	if (READ_ONCE(cpu->tlb.clean_gen) == READ_ONCE(mm->tlb.gen))
		check_entries(v, cpu);
}

void validate_tlbs(struct validate *v)
{
	for (u32 id = 0; id < v->q->nr_cpus; id++)
		validate_tlb(v, v->q->cpus[id]);
}
