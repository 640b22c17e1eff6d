/* SPDX-License-Identifier: MIT */
/* The end of an address space. */
#include "mm/map.h"

/* Every page goes; entries that others' reverse walks may still visit are cleared under their PTLs as always. */
static void exit_unmap(struct mmu_gather *tlb, struct quire_mm *mm)
{
	struct vma *vma;

	vma_tree_for_each(vma, &mm->tree)
		unmap_page_range(tlb, vma, vma->start, vma->end, NULL);
}

/* After this no reverse walk reaches the tables. */
static void exit_unlink(struct quire_cpu *cpu, struct quire_mm *mm)
{
	struct vma *vma;

	vma_tree_for_each(vma, &mm->tree) {
		vma_start_write(cpu, vma);
		unlink_anon_vmas(cpu, vma);
		if (vma->file)
			vma_unlink_file(vma);
	}
}

static void exit_free_vmas(struct quire_cpu *cpu, struct quire_mm *mm)
{
	struct vma *vma;
	u64 next;

	/* The tree still names what we free: it is walked by addresses read before, and dropped as a whole afterwards. */
	for (vma = vma_tree_find(&mm->tree, 0); vma; vma = vma_tree_find(&mm->tree, next)) {
		next = vma->end;
		mm_account(mm, vma->flags, -(s64)vma_pages(vma));
		vma_mark_detached(cpu, vma);
		vma_free(cpu, vma);
	}
	vma_tree_destroy(cpu, &mm->tree);
}

void exit_mmap(struct quire_cpu *cpu, struct quire_mm *mm)
{
	struct mmu_gather *tlb;

	mmap_write_lock(mm);
	tlb = tlb_gather_mmu_fullmm(cpu, mm);
	exit_unmap(tlb, mm);
	exit_unlink(cpu, mm);
	free_pgtables(tlb, mm, 0, TASK_SIZE, 0, 0);
	tlb_finish_mmu(tlb);
	exit_free_vmas(cpu, mm);
	mmap_write_unlock(mm);
}
