/* SPDX-License-Identifier: MIT */
/* Page tables: making, finding, locking and freeing them. The rules stand in pgtable.h. */
#include "mm/pgtable.h"
#include "mm/instance.h"

enum {
	PTE_LEVEL,
	PMD_LEVEL,
	PUD_LEVEL,
	PGD_LEVEL,
};

u64 *ptdesc_entries(struct quire *q, const struct ptdesc *pt)
{
	return (u64 *)(void *)pfn_to_virt(q, pt->pfn);
}

struct ptdesc *entry_table(struct quire *q, u64 entry)
{
	u64 word = READ_ONCE(pfn_to_page(q, pte_pfn(entry))->word);

	VM_BUG_ON2(page_word_type(word) != PAGE_TABLE, entry, word);
	return (struct ptdesc *)page_word_ptr(word);
}

/* The entries that a non-leaf entry points to. */
static u64 *entry_entries(struct quire *q, u64 entry)
{
	return (u64 *)(void *)pfn_to_virt(q, pte_pfn(entry));
}

/* ---------------------------------------------------------------------------------------- life of a table */

struct ptdesc *ptdesc_alloc(struct quire_cpu *cpu, struct quire_mm *mm, unsigned level)
{
	struct ptdesc *pt = cache_alloc(cpu, CACHE_PTDESC);
	u64 pfn;

	if (!pt)
		return NULL;
	pfn = frame_alloc(cpu, 0, GFP_ZERO);
	if (!pfn) {
		cache_free(cpu, CACHE_PTDESC, pt);
		return NULL;
	}
	*pt = (struct ptdesc){ .pfn = (u32)pfn, .level = level, .mm = mm };
	page_set_table(cpu->q, pfn, pt);
	count_event(cpu, NR_PAGETABLE, 1);
	return pt;
}

void ptdesc_free(struct quire_cpu *cpu, struct ptdesc *pt)
{
	VM_BUG_ON2(pt->deposit, pt->pfn, pt->level);
	frame_free(cpu, pt->pfn, 0);
	cache_free(cpu, CACHE_PTDESC, pt);
	count_event(cpu, NR_PAGETABLE, (u64)-1);
}

static void ptdesc_free_callback(struct quire_cpu *cpu, struct rcu_head *head)
{
	ptdesc_free(cpu, container_of(head, struct ptdesc, rcu));
}

void ptdesc_free_rcu(struct quire_cpu *cpu, struct ptdesc *pt)
{
	call_rcu(cpu, &pt->rcu, ptdesc_free_callback);
}

struct ptdesc *pgd_alloc(struct quire_cpu *cpu, struct quire_mm *mm)
{
	struct ptdesc *pgd = ptdesc_alloc(cpu, mm, PGD_LEVEL);

	if (pgd)
		mm_tables_add(mm, cpu->id, 1);
	return pgd;
}

void pgd_free(struct quire_cpu *cpu, struct quire_mm *mm)
{
	mm_tables_add(mm, cpu->id, -1);
	ptdesc_free(cpu, mm->pgd);
	mm->pgd = NULL;
}

void pgtable_deposit(struct ptdesc *pmd_tbl, struct ptdesc *pt)
{
	VM_BUG_ON(!spin_is_locked(&pmd_tbl->ptl));
	pt->deposit = pmd_tbl->deposit;
	pmd_tbl->deposit = pt;
}

struct ptdesc *pgtable_withdraw(struct ptdesc *pmd_tbl)
{
	struct ptdesc *pt = pmd_tbl->deposit;

	BUG_ON2(!pt, pmd_tbl->pfn, 0);
	pmd_tbl->deposit = pt->deposit;
	pt->deposit = NULL;
	return pt;
}

/* ---------------------------------------------------------------------------------------- walking */

/*
 * Puts @child into an empty entry of table @parent, or frees it when somebody was faster (race B49). The release in pte_set
 * makes the zeroed table visible before the entry (B103).
 */
static void table_install(struct quire_cpu *cpu, struct quire_mm *mm, struct ptdesc *parent, u64 *entry,
			  struct ptdesc *child)
{
	bool installed = false;

	spin_lock(&parent->ptl);
	if (pte_none(pte_read(entry))) {
		pte_set(entry, pte_mk(child->pfn, TABLE_BITS));
		installed = true;
	}
	spin_unlock(&parent->ptl);
	if (installed)
		mm_tables_add(mm, cpu->id, 1);
	else
		ptdesc_free(cpu, child);
}

/* The table below entry @entry of @parent, made if it is missing. NULL: no memory. */
static struct ptdesc *table_below(struct quire_cpu *cpu, struct quire_mm *mm, struct ptdesc *parent, u64 *entry)
{
	u64 value = pte_read(entry);

	if (pte_none(value)) {
		struct ptdesc *child = ptdesc_alloc(cpu, mm, parent->level - 1);

		if (!child)
			return NULL;
		table_install(cpu, mm, parent, entry, child);
		value = pte_read(entry);
	}
	return entry_table(cpu->q, value);
}

pmd_t *pmd_alloc(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr, struct ptdesc **pmd_table_out)
{
	struct ptdesc *table = mm->pgd;

	while (table->level > PMD_LEVEL) {
		table = table_below(cpu, mm, table, ptdesc_entries(cpu->q, table) + table_index(addr, table->level));
		if (!table)
			return NULL;
	}
	*pmd_table_out = table;
	return ptdesc_entries(cpu->q, table) + table_index(addr, PMD_LEVEL);
}

pmd_t *pmd_offset(struct quire_mm *mm, u64 addr, struct ptdesc **pmd_table_out)
{
	u64 *entries = ptdesc_entries(mm->q, mm->pgd);
	u64 entry = 0;

	for (unsigned level = PGD_LEVEL; level > PMD_LEVEL; level--) {
		entry = pte_read(entries + table_index(addr, level));
		if (pte_none(entry))
			return NULL;
		entries = entry_entries(mm->q, entry);
	}
	*pmd_table_out = entry_table(mm->q, entry);
	return entries + table_index(addr, PMD_LEVEL);
}

pmd_t *pmd_next(struct quire_mm *mm, u64 *addr, u64 end, struct ptdesc **pmd_table_out)
{
	u64 at = *addr;

	while (at < end) {
		u64 *entries = ptdesc_entries(mm->q, mm->pgd);
		unsigned level = PGD_LEVEL;
		u64 entry = 0, parent = 0, span;

		for (;; level--) {
			entry = pte_read(entries + table_index(at, level));
			if (pte_none(entry) || level == PMD_LEVEL)
				break;
			parent = entry;
			entries = entry_entries(mm->q, entry);
		}
		if (!pte_none(entry)) {
			*addr = at;
			*pmd_table_out = entry_table(mm->q, parent);
			return entries + table_index(at, PMD_LEVEL);
		}
		span = PAGE_SIZE << (9 * level);
		at = (at + span) & ~(span - 1);
	}
	return NULL;
}

int pte_alloc(struct quire_cpu *cpu, struct quire_mm *mm, struct ptdesc *pmd_tbl, pmd_t *pmdp)
{
	struct ptdesc *pt;

	if (!pmd_none(pte_read(pmdp)))
		return 0;
	pt = ptdesc_alloc(cpu, mm, PTE_LEVEL);
	if (!pt)
		return -ENOMEM;
	table_install(cpu, mm, pmd_tbl, pmdp, pt);
	return 0;
}

pte_t *pte_offset_lockless(struct quire_mm *mm, pmd_t *pmdp, u64 addr)
{
	pmd_t pmd = pte_read(pmdp);

	return pmd_table(pmd) ? entry_entries(mm->q, pmd) + pte_index(addr) : NULL;
}

pte_t *pte_offset_map_lock(struct quire_mm *mm, pmd_t *pmdp, u64 addr, struct ptdesc **pt)
{
	for (;;) {
		pmd_t pmd = pte_read(pmdp);

		if (!pmd_table(pmd))
			return NULL;
		*pt = entry_table(mm->q, pmd);
		spin_lock(&(*pt)->ptl);
		/* The table may have been moved (mremap) or taken away before we had its lock. */
		if (likely(pte_read(pmdp) == pmd))
			return entry_entries(mm->q, pmd) + pte_index(addr);
		spin_unlock(&(*pt)->ptl);
	}
}
