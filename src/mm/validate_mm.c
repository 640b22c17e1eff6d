/* SPDX-License-Identifier: MIT */
/* Validation of address spaces: their locks and totals, and each VMA with its links to file and anon_vmas. */
#include "mm/validate.h"

/* Sums over the VMAs of one address space, in pages. */
struct vma_sums {
	u64 total, exec, stack, data, locked;
};

/* The kinds are Linux's, in this order: executable and not writable; growing; private and writable. */
static void sum_vma(struct vma_sums *sums, const struct vma *vma)
{
	u64 pages = vma_pages(vma), flags = vma->flags;

	sums->total += pages;
	sums->locked += flags & VM_LOCKED ? pages : 0;
	if ((flags & (VM_EXEC | VM_WRITE | VM_GROWSDOWN)) == VM_EXEC)
		sums->exec += pages;
	else if (flags & VM_GROWSDOWN)
		sums->stack += pages;
	else if ((flags & (VM_WRITE | VM_SHARED)) == VM_WRITE)
		sums->data += pages;
}

static void check_sum(struct validate *v, const struct quire_mm *mm, u64 kept, u64 found)
{
	if (kept != found)
		violation(v, 49, "mm %d: a total of its VMAs is %d pages, they have %d", mm->tlb.id, kept, found);
}

static void check_sums(struct validate *v, const struct quire_mm *mm, const struct vma_sums *sums)
{
	check_sum(v, mm, mm->total_vm, sums->total);
	check_sum(v, mm, mm->exec_vm, sums->exec);
	check_sum(v, mm, mm->stack_vm, sums->stack);
	check_sum(v, mm, mm->data_vm, sums->data);
	check_sum(v, mm, mm->locked_vm, sums->locked);
}

/* -------------------------------------------------------------------------------------------- VMAs */

static void check_state(struct validate *v, const struct quire_mm *mm, const struct vma *vma)
{
	if (vma->refcnt != 1 || vma->mm != mm)
		violation(v, 51, "VMA at %x: reference count %x, or in another mm than %d", vma->start, vma->refcnt,
			  mm->tlb.id);
	if (vma->lock_seq == mm->lock_seq)
		violation(v, 52, "VMA at %x of mm %d is still write-locked, section %d", vma->start, mm->tlb.id,
			  mm->lock_seq);
	if (vma->page_prot != vma_flags_to_prot(vma->flags))
		violation(v, 15, "VMA at %x: page_prot %x does not follow from its flags %x", vma->start,
			  vma->page_prot, vma->flags);
	if (vma->end > TASK_SIZE || (!vma->file && (vma->flags & VM_SHARED)))
		violation(v, 50, "VMA at %x with flags %x: above user space, or shared without a file", vma->start,
			  vma->flags, 0);
}

static bool node_matches(const struct interval_node *node, const struct vma *vma)
{
	return node->start == vma->pgoff && node->last == vma->pgoff + vma_pages(vma) - 1;
}

static void check_file_link(struct validate *v, const struct vma *vma)
{
	if (!vma->file)
		return;
	v->file_vmas++;
	if (!is_object(v->q, CACHE_FILE, vma->file) || READ_ONCE(vma->file->refcount) == 0)
		violation(v, 44, "VMA at %x maps %x, which is no live file", vma->start, (u64)(uintptr_t)vma->file, 0);
	if (!node_matches(&vma->i_mmap_node, vma))
		violation(v, 18, "VMA at %x stands in i_mmap at page %x, not %x", vma->start, vma->i_mmap_node.start,
			  vma->pgoff);
}

/* One link of the VMA's chain. False: it cannot be followed. */
static bool check_link(struct validate *v, const struct vma *vma, const struct anon_vma_chain *avc)
{
	if (!is_object(v->q, CACHE_AVC, avc) || avc->vma != vma || !is_object(v->q, CACHE_ANON_VMA, avc->anon_vma) ||
	    READ_ONCE(avc->anon_vma->refcount) == 0) {
		violation(v, 44, "VMA at %x has a chain link %x that is broken", vma->start, (u64)(uintptr_t)avc, 0);
		return false;
	}
	v->chain_links++;
	if (!node_matches(&avc->node, vma))
		violation(v, 18, "VMA at %x stands in an anon_vma at page %x, not %x", vma->start, avc->node.start,
			  vma->pgoff);
	if (vma->anon_vma && avc->anon_vma->root != vma->anon_vma->root)
		violation(v, 45, "VMA at %x is linked to two families of anon_vmas", vma->start, 0, 0);
	return true;
}

static void check_chain(struct validate *v, const struct vma *vma)
{
	const struct anon_vma_chain *avc;
	bool own = false;

	list_for_each_entry(avc, &vma->anon_vma_chain, same_vma) {
		if (!check_link(v, vma, avc))
			return;
		own |= avc->anon_vma == vma->anon_vma;
	}
	if (!own && vma->anon_vma)
		violation(v, 44, "VMA at %x is not linked to its own anon_vma", vma->start, 0, 0);
	if (!vma->anon_vma && !list_empty(&vma->anon_vma_chain))
		violation(v, 44, "VMA at %x has chain links but no anon_vma", vma->start, 0, 0);
}

static bool chain_has(const struct vma *vma, const struct anon_vma *anon_vma)
{
	const struct anon_vma_chain *avc;

	list_for_each_entry(avc, &vma->anon_vma_chain, same_vma)
		if (avc->anon_vma == anon_vma)
			return true;
	return false;
}

static u64 chain_length(const struct vma *vma)
{
	u64 nr = 0;

	for (const struct list_head *at = vma->anon_vma_chain.next; at != &vma->anon_vma_chain; at = at->next)
		nr++;
	return nr;
}

/* Two neighbours that could be merged, but for permissions that may change, must not lose an ancestor by it. */
static void check_neighbours(struct validate *v, const struct vma *low, const struct vma *high)
{
	const struct anon_vma_chain *avc;

	if (!low || low->end != high->start || low->file != high->file || !low->anon_vma ||
	    low->anon_vma != high->anon_vma || high->pgoff != low->pgoff + vma_pages(low))
		return;
	list_for_each_entry(avc, &low->anon_vma_chain, same_vma)
		if (!chain_has(high, avc->anon_vma))
			violation(v, 47, "VMAs at %x and %x share an anon_vma but not their chains", low->start,
				  high->start, 0);
	if (chain_length(low) != chain_length(high))
		violation(v, 47, "VMAs at %x and %x share an anon_vma but not their chains' length", low->start,
			  high->start, 0);
}

static void validate_vmas(struct validate *v, const struct quire_mm *mm)
{
	struct vma_sums sums = { 0 };
	const struct vma *vma, *prev = NULL;

	vma_tree_for_each(vma, &mm->tree) {
		if (!is_object(v->q, CACHE_VMA, vma)) {
			violation(v, 51, "the tree of mm %d names %x, which is no VMA", mm->tlb.id, (u64)(uintptr_t)vma,
				  0);
			return;
		}
		check_state(v, mm, vma);
		check_file_link(v, vma);
		check_chain(v, vma);
		check_neighbours(v, prev, vma);
		sum_vma(&sums, vma);
		v->vmas++;
		prev = vma;
	}
	check_sums(v, mm, &sums);
}

/* -------------------------------------------------------------------------------------------- address spaces */

static void check_mm_quiet(struct validate *v, struct quire_mm *mm)
{
	if (READ_ONCE(mm->users) == 0)
		violation(v, 55, "mm %d is in the list without a user", mm->tlb.id, 0, 0);
	if (rwsem_is_locked(&mm->mmap_lock) || spin_is_locked(&mm->page_table_lock))
		violation(v, 91, "a lock of mm %d is held", mm->tlb.id, 0, 0);
	if (READ_ONCE(mm->tlb.flush_pending))
		violation(v, 43, "mm %d has %d flushes pending", mm->tlb.id, mm->tlb.flush_pending, 0);
	if (READ_ONCE(mm->unmapping))
		violation(v, 91, "mm %d has ranges noted as being emptied: %x", mm->tlb.id, mm->unmapping, 0);
	if (READ_ONCE(mm->write_protect_seq) & 1)
		violation(v, 91, "mm %d is being write-protected by a fork: sequence %d", mm->tlb.id,
			  mm->write_protect_seq, 0);
}

static void validate_mm(struct validate *v, struct quire_mm *mm)
{
	unsigned before = v->violations;

	check_mm_quiet(v, mm);
	v->part = 49;
	vma_tree_validate(&mm->tree, part_violation, v);
	/* A broken tree would only bring up everything else. */
	if (v->violations == before) {
		v->vma_nodes += vma_tree_nr_nodes(&mm->tree);
		validate_vmas(v, mm);
	}
	validate_page_tables(v, mm);
	v->mms++;
}

void validate_mms(struct validate *v)
{
	struct list_head *at;

	for (at = v->q->mm_list.next; at != &v->q->mm_list; at = at->next) {
		struct quire_mm *mm = list_entry(at, struct quire_mm, mm_list);

		if (!is_object(v->q, CACHE_MM, mm)) {
			violation(v, 55, "the list of address spaces names %x, which is none", (u64)(uintptr_t)mm, 0,
				  0);
			return;
		}
		validate_mm(v, mm);
	}
}
