/* SPDX-License-Identifier: MIT */
/*
 * VMAs: making and freeing them, linking them to the tree, their file and their anon_vmas, and splitting one in two.
 *
 * A VMA's bounds are read by four kinds of readers, and a change of bounds keeps out each of them:
 *
 *   faults               the VMA's own lock        vma_start_write waits for those inside, and nobody enters
 *   rmap through a file  i_mmap_rwsem, read        vma_rmap_lock
 *   rmap of anon folios  anon_vma root, read       vma_rmap_lock
 *   everybody else       mmap lock, read           the caller has it for write
 */
#include "mm/huge.h"
#include "mm/map.h"

/* ---------------------------------------------------------------------------------------- life */

/*
 * The object may be looked at by a reader that found it when it was another VMA. Such a reader touches nothing but
 * refcnt, which stays 0 until vma_mark_attached, and what vma_lock.c reads atomically before it has a reference.
 */
struct vma *vma_alloc(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, u64 flags)
{
	struct vma *vma = cache_alloc(cpu, CACHE_VMA);

	if (!vma)
		return NULL;
	vma->start = start;
	vma->end = end;
	WRITE_ONCE(vma->mm, mm);
	WRITE_ONCE(vma->flags, flags);
	vma->page_prot = vma_flags_to_prot(flags);
	vma->pgoff = start >> PAGE_SHIFT;
	vma->file = NULL;
	WRITE_ONCE(vma->anon_vma, NULL);
	INIT_LIST_HEAD(&vma->anon_vma_chain);
	INIT_LIST_HEAD(&vma->unmap_list);
	return vma;
}

/* Not the anon_vma: who needs it clones it, which may fail. */
struct vma *vma_dup(struct quire_cpu *cpu, const struct vma *vma)
{
	struct vma *copy = vma_alloc(cpu, vma->mm, vma->start, vma->end, vma->flags);

	if (!copy)
		return NULL;
	copy->pgoff = vma->pgoff;
	copy->file = vma->file;
	if (copy->file)
		quire_file_get(copy->file);
	return copy;
}

/* The object may be found by stale readers still; the cache is type-safe, and its refcnt is 0. */
void vma_free(struct quire_cpu *cpu, struct vma *vma)
{
	VM_BUG_ON2(vma->anon_vma, vma->start, vma->anon_vma);
	if (vma->file)
		quire_file_put(cpu, vma->file);
	cache_free(cpu, CACHE_VMA, vma);
}

/*
 * Readers without locks (reverse walks look at VM_LOCKED) see the old value or the new one, and nothing between.
 * Faults see flags and page_prot of one moment, because they hold the VMA's lock.
 */
void vma_set_flags(struct quire_cpu *cpu, struct vma *vma, u64 flags)
{
	vma_start_write(cpu, vma);
	WRITE_ONCE(vma->flags, flags);
	vma->page_prot = vma_flags_to_prot(flags);
}

/* ---------------------------------------------------------------------------------------- reverse mapping */

void vma_i_mmap_remove(struct vma *vma)
{
	if (vma->file)
		interval_tree_remove(&vma->file->mapping.i_mmap, &vma->i_mmap_node);
}

/* Bounds are taken over here, and must not change until it is removed again. */
void vma_i_mmap_insert(struct vma *vma)
{
	if (!vma->file)
		return;
	vma->i_mmap_node.start = vma->pgoff;
	vma->i_mmap_node.last = vma->pgoff + vma_pages(vma) - 1;
	interval_tree_insert(&vma->file->mapping.i_mmap, &vma->i_mmap_node);
}

/* Atomic, because the mappings of a file belong to many address spaces. */
void vma_i_mmap_count(struct vma *vma, int delta)
{
	if (vma->file && (vma->flags & VM_SHARED) && (vma->flags & VM_MAYWRITE))
		__atomic_fetch_add(&vma->file->mapping.i_mmap_writable, (u32)delta, __ATOMIC_RELAXED);
}

/* The file's lock comes before that of the anon_vma's root: the order of rmap walks that need both. */
void vma_rmap_lock(struct quire_file *file, struct anon_vma *anon_vma)
{
	if (file)
		down_write(&file->mapping.i_mmap_rwsem);
	if (anon_vma)
		anon_vma_lock_write(anon_vma);
}

void vma_rmap_unlock(struct quire_file *file, struct anon_vma *anon_vma)
{
	if (anon_vma)
		anon_vma_unlock_write(anon_vma);
	if (file)
		up_write(&file->mapping.i_mmap_rwsem);
}

/* A reverse walk may find it before a fault does, or after: it has no entries, and nothing is missed. */
void vma_link(struct quire_cpu *cpu, struct vma_txn *txn, struct vma *vma)
{
	vma_start_write(cpu, vma);
	vma_mark_attached(vma);
	vma_tree_insert(txn, vma);
	vma_rmap_lock(vma->file, NULL);
	vma_i_mmap_insert(vma);
	vma_i_mmap_count(vma, 1);
	vma_rmap_unlock(vma->file, NULL);
}

int vma_insert(struct quire_cpu *cpu, struct vma *vma)
{
	struct vma_txn txn;

	if (vma_txn_begin(&txn, cpu, &vma->mm->tree, 1))
		return -ENOMEM;
	vma_link(cpu, &txn, vma);
	vma_txn_end(&txn);
	return 0;
}

/* The entries are gone. A walk that had found the VMA before is over when we get the lock. */
void vma_unlink_file(struct vma *vma)
{
	vma_rmap_lock(vma->file, NULL);
	vma_i_mmap_remove(vma);
	vma_i_mmap_count(vma, -1);
	vma_rmap_unlock(vma->file, NULL);
}

/* ---------------------------------------------------------------------------------------- splitting */

/* Aligned addresses have no leaf across them. Nothing can put a leaf there again: faults are kept out. */
void vma_split_leaf(struct quire_cpu *cpu, struct vma *vma, u64 addr)
{
	struct ptdesc *tbl;
	pmd_t *pmdp;

	if (!(addr & ~PMD_MASK))
		return;
	pmdp = pmd_offset(vma->mm, addr, &tbl);
	if (pmdp && pmd_leaf(pte_read(pmdp)))
		split_huge_pmd(cpu, vma, tbl, pmdp, addr & PMD_MASK);
}

/*
 * The bounds change. Between the two publications of the tree an RCU reader finds a hole in place of the upper part;
 * it then takes the mmap lock, and waits for us. Rmap walks see the upper part in one VMA or in the other, never in
 * none.
 */
static void vma_split_commit(struct quire_cpu *cpu, struct vma_txn *txn, struct vma *vma, struct vma *upper)
{
	vma_start_write(cpu, vma);
	vma_start_write(cpu, upper);
	vma_split_leaf(cpu, vma, upper->start);
	vma_rmap_lock(vma->file, vma->anon_vma);
	vma_i_mmap_remove(vma);
	anon_vma_interval_remove(vma);
	vma_tree_resize(txn, vma, vma->start, upper->start);
	anon_vma_interval_insert(vma);
	vma_i_mmap_insert(vma);
	vma_i_mmap_insert(upper);
	vma_i_mmap_count(upper, 1);
	vma_mark_attached(upper);
	vma_tree_insert(txn, upper);
	vma_rmap_unlock(vma->file, vma->anon_vma);
}

/* All memory first. The clone of the anon_vmas is visible to
 * reverse walks at once, which then visit pages twice: harmless. */
int vma_split(struct quire_cpu *cpu, struct vma *vma, u64 addr)
{
	struct vma *upper = vma_dup(cpu, vma);
	struct vma_txn txn;

	VM_BUG_ON2(addr <= vma->start || addr >= vma->end, addr, vma->start);
	if (!upper)
		return -ENOMEM;
	upper->start = addr;
	upper->pgoff = vma_linear_index(vma, addr);
	if (anon_vma_clone(cpu, upper, vma))
		goto out_free;
	if (vma_txn_begin(&txn, cpu, &vma->mm->tree, 2))
		goto out_unlink;
	vma_split_commit(cpu, &txn, vma, upper);
	vma_txn_end(&txn);
	return 0;
out_unlink:
	unlink_anon_vmas(cpu, upper);
out_free:
	vma_free(cpu, upper);
	return -ENOMEM;
}
