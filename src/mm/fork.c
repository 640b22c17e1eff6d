/* SPDX-License-Identifier: MIT */
/*
 * fork: a child address space whose private pages are shared copy-on-write with the parent.
 *
 * The parent's mmap lock is held for write, and each VMA is write-locked before its anon_vma is looked at, so that no fault
 * slips a page in that the child's VMA could not be found for (race B70). Sharing a page clears PageAnonExclusive and
 * write-protects the parent's entry under its PTL; the parent's TLBs are flushed before fork returns, and before the VMA
 * locks are released, so nobody writes to a page that the child has (invariant 31).
 */
#include "mm/entry_batch.h"
#include "mm/map.h"
#include "mm/softleaf.h"

/* Two tables of the same range, the parent's and the child's, and what is carried along. */
struct fork_copy {
	struct quire_cpu *cpu;
	struct vma *dst, *src;
	struct rss_delta rss;
	bool shared; /* some parent entry was write-protected */
};

static void fork_flush_counts(struct fork_copy *c)
{
	count_event(c->cpu, FORK_PAGES_SHARED, c->rss.pages[MM_ANONPAGES]);
	rss_delta_flush(c->cpu, c->dst->mm, &c->rss, 1);
}

/* The child's entry for a page shared with the parent: not writable, not accessed yet, not mlocked (locks are not
 * inherited). */
static u64 child_entry(u64 entry)
{
	return entry & ~(_PAGE_RW | _PAGE_ACCESSED | _PAGE_MLOCKED);
}

/* Takes the right to write from the parent's entry of an anonymous page that the child is about to map. PTL held. */
static void share_anon_entry(struct fork_copy *c, u64 *entry, u64 value)
{
	if (page_anon_exclusive(c->cpu->q, pte_pfn(value)))
		page_clear_anon_exclusive(c->cpu->q, pte_pfn(value));
	if (pte_write(value)) {
		pte_wrprotect(entry, value);
		c->shared = true;
	}
}

/* Copies a run of present entries; returns how many. Both PTLs held. */
static u32 copy_present(struct fork_copy *c, pte_t *dst, pte_t *src, pte_t pte, u32 max)
{
	struct folio *folio;
	u32 nr;

	if (pte_special(pte)) {
		pte_set(dst, child_entry(pte));
		return 1;
	}
	folio = pfn_folio(c->cpu->q, pte_pfn(pte));
	nr = folio->order == 0 ? 1 : folio_pte_batch(folio, src, pte, max);
	folio_map_many(folio, nr); /* the references first, then the entries (invariant 13) */
	for (u32 i = 0; i < nr; i++) {
		pte_t each = pte_read(src + i);

		if (folio_anon(folio))
			share_anon_entry(c, src + i, each);
		pte_set(dst + i, child_entry(each));
	}
	rss_delta_add(&c->rss, folio, nr);
	return nr;
}

static void copy_entries(struct fork_copy *c, pte_t *dst, pte_t *src, u32 left)
{
	while (left) {
		pte_t pte = pte_read(src);
		u32 nr = 1;

		entry_prefetch(c->cpu->q, src, left);
		if (pte_present(pte))
			nr = copy_present(c, dst, src, pte, left);
		else if (softleaf_is_guard(pte))
			pte_set(dst, pte); /* guard regions are inherited; no other marker is */
		left -= nr;
		dst += nr;
		src += nr;
	}
}

/* The tables of [addr, end), below one PMD. The child's is made if needed; its lock nests inside the parent's: nobody
 * else can reach the child's tables the other way round. */
static int copy_pte_range(struct fork_copy *c, pmd_t *src_pmd, u64 addr, u64 end)
{
	struct ptdesc *dst_tbl, *src_pt, *dst_pt;
	pte_t *src, *dst;
	pmd_t *dst_pmd = pmd_alloc(c->cpu, c->dst->mm, addr, &dst_tbl);

	if (!dst_pmd || pte_alloc(c->cpu, c->dst->mm, dst_tbl, dst_pmd))
		return -ENOMEM;
	src = pte_offset_map_lock(c->src->mm, src_pmd, addr, &src_pt);
	if (!src)
		return 0;
	dst = pte_offset_map_lock(c->dst->mm, dst_pmd, addr, &dst_pt);
	BUG_ON2(!dst, addr, end);
	copy_entries(c, dst, src, (u32)((end - addr) >> PAGE_SHIFT));
	fork_flush_counts(c);
	pte_unmap_unlock(dst_pt);
	pte_unmap_unlock(src_pt);
	return 0;
}

/* A leaf PMD, which always lies wholly in its VMA, is shared whole. */
static int copy_huge_pmd(struct fork_copy *c, struct ptdesc *src_tbl, pmd_t *src_pmd, u64 addr)
{
	struct ptdesc *dst_tbl, *deposit = ptdesc_alloc(c->cpu, c->dst->mm, 0);
	pmd_t *dst_pmd = deposit ? pmd_alloc(c->cpu, c->dst->mm, addr, &dst_tbl) : NULL;
	struct folio *folio;
	pmd_t pmd;

	if (!dst_pmd) {
		if (deposit)
			ptdesc_free(c->cpu, deposit);
		return -ENOMEM;
	}
	spin_lock(&src_tbl->ptl);
	spin_lock(&dst_tbl->ptl);
	pmd = pte_read(src_pmd);
	folio = pfn_folio(c->cpu->q, pte_pfn(pmd));
	folio_map_many(folio, 1);
	share_anon_entry(c, src_pmd, pmd);
	pgtable_deposit(dst_tbl, deposit);
	mm_tables_add(c->dst->mm, c->cpu->id, 1);
	pte_set(dst_pmd, child_entry(pmd));
	rss_delta_add(&c->rss, folio, PTRS_PER_TABLE);
	fork_flush_counts(c);
	spin_unlock(&dst_tbl->ptl);
	spin_unlock(&src_tbl->ptl);
	return 0;
}

/* A VMA whose pages can all be faulted in again needs no copy of its tables: then fork costs nothing for it. Guard markers
 * can not. */
static bool vma_needs_copy(const struct vma *src)
{
	return src->anon_vma || (src->flags & VM_MAYBE_GUARD);
}

int copy_page_range(struct quire_cpu *cpu, struct vma *dst, struct vma *src)
{
	struct fork_copy c = { .cpu = cpu, .dst = dst, .src = src };
	u64 addr = src->start, next;
	struct ptdesc *tbl;
	pmd_t *pmdp;
	int ret = 0;

	vma_assert_write_locked(src);
	if (!vma_needs_copy(src))
		return 0;
	for (; !ret && (pmdp = pmd_next(src->mm, &addr, src->end, &tbl)) != NULL; addr = next) {
		next = pmd_addr_end(addr, src->end);
		/* Anonymous leaves change only under the VMA's write lock, which we hold. */
		if (pmd_leaf(pte_read(pmdp)))
			ret = copy_huge_pmd(&c, tbl, pmdp, addr);
		else
			ret = copy_pte_range(&c, pmdp, addr, next);
	}
	if (c.shared)
		tlb_flush_range(cpu, src->mm, src->start, src->end);
	return ret;
}

/* ---------------------------------------------------------------------------------------- address spaces */

/* Flags of a child's VMA: memory locks are not inherited. */
static u64 child_vma_flags(const struct vma *src)
{
	return src->flags & ~VM_LOCKED_MASK;
}

/* A copy of @src linked to its file and anon_vmas, not yet in the child's tree. */
static int dup_vma(struct quire_cpu *cpu, struct quire_mm *child, struct vma *src, struct vma **out)
{
	struct vma *vma = vma_dup(cpu, src);

	if (!vma)
		return -ENOMEM;
	vma->mm = child;
	WRITE_ONCE(vma->flags, child_vma_flags(src));
	if (!(src->flags & VM_WIPEONFORK) && anon_vma_fork(cpu, vma, src)) {
		vma_free(cpu, vma);
		return -ENOMEM;
	}
	*out = vma;
	return 0;
}

/* Copies one VMA and its entries into the child. */
static int fork_vma(struct quire_cpu *cpu, struct quire_mm *child, struct vma *src)
{
	struct vma_txn txn;
	struct vma *vma;
	int ret;

	vma_start_write(cpu, src); /* before anything of it is looked at: B70 */
	if (src->flags & VM_DONTCOPY)
		return 0;
	ret = vma_txn_begin(&txn, cpu, &child->tree, 1);
	if (ret)
		return ret;
	ret = dup_vma(cpu, child, src, &vma);
	if (!ret) {
		vma_link(cpu, &txn, vma);
		mm_account(child, vma->flags, (s64)vma_pages(vma));
	}
	vma_txn_end(&txn);
	if (!ret && !(src->flags & VM_WIPEONFORK))
		ret = copy_page_range(cpu, vma, src);
	return ret;
}

static void fork_copy_settings(struct quire_mm *child, const struct quire_mm *parent)
{
	child->mmap_base = parent->mmap_base;
	child->mmap_min_addr = parent->mmap_min_addr;
	child->start_brk = parent->start_brk;
	child->brk = parent->brk;
	child->limits = parent->limits;
	child->def_flags = parent->def_flags & ~VM_LOCKED_MASK;
}

int quire_fork(struct quire_cpu *cpu, struct quire_mm **out)
{
	struct quire_mm *parent = cpu->mm, *child;
	struct vma *vma;
	int ret = 0;

	*out = NULL;
	if (!parent)
		return -EINVAL;
	child = mm_alloc(cpu);
	if (!child)
		return -ENOMEM;
	mmap_write_lock(parent);
	mmap_write_lock(child); /* nobody else has it: no order to keep */
	fork_copy_settings(child, parent);
	tlb_pending_inc(&parent->tlb);
	__atomic_fetch_add(&parent->write_protect_seq, 1, __ATOMIC_SEQ_CST);
	vma_tree_for_each(vma, &parent->tree) {
		ret = fork_vma(cpu, child, vma);
		if (ret)
			break;
	}
	__atomic_fetch_add(&parent->write_protect_seq, 1, __ATOMIC_SEQ_CST);
	tlb_pending_dec(&parent->tlb);
	mmap_write_unlock(child);
	mmap_write_unlock(parent);
	if (ret)
		quire_mm_put(cpu, child);
	else
		*out = child;
	return ret;
}
