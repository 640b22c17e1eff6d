/* SPDX-License-Identifier: MIT */
/*
 * mremap: changing the size of a mapping in place, or moving it with its pages.
 *
 *                       same size        smaller              larger
 *   no new address      nothing to do    unmap the end        grow in place, else (MAYMOVE) move to a free place
 *   FIXED               move, also       unmap the end,       move, grown
 *                       several VMAs     then move
 *   DONTUNMAP           move the pages; the old VMA stays, empty
 *   old size 0          a second mapping of the same pages of a shared mapping, at a new place
 *
 * A move makes the new VMA (or grows a neighbour of the destination), moves the page-table entries, and unmaps the
 * source. If there is no memory for a table on the way, what has been moved is moved back, and the destination is
 * unmapped.
 */
#include "mm/map.h"

#define MREMAP_FLAGS (MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)

/* One call on its way. The mmap lock is held for write until unlocked says otherwise. */
struct mremap {
	struct quire_cpu *cpu;
	struct quire_mm *mm;
	u64 addr, old_len, new_len, flags, new_addr;
	struct vma *vma;       /* the VMA of addr */
	struct list_head gone; /* VMAs to free when the mmap lock is not held any more */
	bool unlocked;	       /* the mmap lock has been dropped on success */
	bool populate;	       /* what is new at the end is to be faulted in: the VMA is locked */
};

/* FIXED says where to, DONTUNMAP only that it must be elsewhere: its address is a hint. */
static bool implies_new_addr(const struct mremap *req)
{
	return req->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
}

static bool grows(const struct mremap *req)
{
	return req->new_len > req->old_len;
}

static bool shrinks(const struct mremap *req)
{
	return req->new_len < req->old_len;
}

/* ---------------------------------------------------------------------------------------- checks, in Linux's order */

/* In numbers that may wrap around, as in Linux: an absurd old size is found out later. */
static bool ranges_overlap(const struct mremap *req)
{
	return req->addr + req->old_len > req->new_addr && req->new_addr + req->new_len > req->addr;
}

/* What is wrong with the arguments themselves. */
static int check_arguments(const struct mremap *req)
{
	if ((req->flags & ~(u64)MREMAP_FLAGS) || !page_aligned(req->addr) || !req->new_len || req->new_len > TASK_SIZE)
		return -EINVAL;
	if (!implies_new_addr(req))
		return 0;
	if (req->new_addr > TASK_SIZE - req->new_len || !page_aligned(req->new_addr) || !(req->flags & MREMAP_MAYMOVE))
		return -EINVAL;
	if ((req->flags & MREMAP_DONTUNMAP) && req->old_len != req->new_len)
		return -EINVAL;
	return ranges_overlap(req) ? -EINVAL : 0;
}

/* A move may split source and destination, each into three: far from the limit of mappings it cannot fail half-way. */
static bool too_many_maps_to_move(const struct quire_mm *mm)
{
	return mm->tree.count + 2 >= DEFAULT_MAX_MAP_COUNT - 3;
}

/* Growing: limits, and a page offset that would wrap around. */
static int check_growth(struct mremap *req)
{
	const struct vma *vma = req->vma;
	u64 pgoff = vma_linear_index(vma, req->addr), delta = req->new_len - req->old_len;

	if (pgoff + (req->new_len >> PAGE_SHIFT) < pgoff)
		return -EINVAL;
	if (vma->flags & VM_DONTEXPAND)
		return -EFAULT;
	if (!mlock_future_ok(req->mm, vma->flags, delta))
		return -EAGAIN;
	if (!may_expand_vm(req->mm, vma->flags, delta >> PAGE_SHIFT))
		return -ENOMEM;
	req->populate = vma->flags & VM_LOCKED;
	return 0;
}

/* The VMA against the request. Only growing and moving need the range to lie in one VMA. */
static int check_vma(struct mremap *req)
{
	const struct vma *vma = req->vma;

	if (!vma)
		return -EFAULT;
	if (vma->flags & VM_SEALED)
		return -EPERM;
	if (!implies_new_addr(req)) {
		req->new_addr = req->addr;
		if (!grows(req))
			return 0;
	}
	if (!req->old_len && !(vma->flags & (VM_SHARED | VM_MAYSHARE)))
		return -EINVAL; /* a second mapping of private memory would be a new, empty one */
	if ((req->flags & MREMAP_DONTUNMAP) && (vma->flags & VM_DONTEXPAND))
		return -EINVAL;
	/* What is cut off first may reach beyond the VMA. */
	if (min_u64(req->old_len, req->new_len) > vma->end - req->addr)
		return -EFAULT;
	return grows(req) ? check_growth(req) : 0;
}

/* Is the part that a smaller size cuts off no range of addresses?
 * It may reach beyond the VMA: whatever is there goes. */
static bool bad_tail(const struct mremap *req)
{
	u64 end = req->addr + req->old_len;

	return end < req->addr + req->new_len || end > TASK_SIZE;
}

/* The VMA of @addr itself, not the next one above it. */
static struct vma *find_exact(const struct quire_mm *mm, u64 addr)
{
	struct vma *vma = vma_tree_find(&mm->tree, addr);

	return vma && vma->start <= addr ? vma : NULL;
}

/* ---------------------------------------------------------------------------------------- moving */

/* Where the pages go, unless FIXED says it. */
static int choose_new_addr(struct mremap *req)
{
	const struct vma *vma = req->vma;
	u64 flags = (req->flags & MREMAP_FIXED ? MAP_FIXED : 0) | (vma->flags & VM_MAYSHARE ? MAP_SHARED : 0);
	u64 hint = implies_new_addr(req) ? req->new_addr : 0;
	s64 addr = get_unmapped_area(req->mm, vma->file, hint, req->new_len, vma_linear_index(vma, req->addr), flags);

	if (addr < 0)
		return (int)addr;
	req->new_addr = (u64)addr;
	return 0;
}

/* A VMA of its own for the destination, like the source. NULL: no memory. */
static struct vma *copy_new_vma(const struct mremap *req, u64 pgoff)
{
	struct vma *vma = vma_dup(req->cpu, req->vma);

	if (!vma)
		return NULL;
	vma->start = req->new_addr;
	vma->end = req->new_addr + req->new_len;
	vma->pgoff = pgoff;
	if (anon_vma_clone(req->cpu, vma, req->vma))
		goto out_free;
	if (vma_insert(req->cpu, vma))
		goto out_unlink;
	return vma;
out_unlink:
	unlink_anon_vmas(req->cpu, vma);
out_free:
	vma_free(req->cpu, vma);
	return NULL;
}

/*
 * The VMA for the destination; NULL: no memory. Memory that was never touched has no page offsets to keep, and takes
 * those of its new place, so that it can be merged there, even with the source itself, which may be swallowed by
 * that: req->vma is then the merged VMA.
 */
static struct vma *copy_vma(struct mremap *req)
{
	struct vma *vma = req->vma, *new_vma;
	bool untouched = vma_is_anonymous(vma) && !vma->anon_vma;
	u64 start = vma->start;
	struct vma_merge merge = {
		.mm = req->mm,
		.prev = vma_tree_find_below(&req->mm->tree, req->new_addr),
		.next = vma_tree_find(&req->mm->tree, req->new_addr),
		.start = req->new_addr,
		.end = req->new_addr + req->new_len,
		.pgoff = untouched ? req->new_addr >> PAGE_SHIFT : vma_linear_index(vma, req->addr),
		.flags = vma->flags,
		.file = vma->file,
		.anon_vma = vma->anon_vma,
		.copied_from = vma,
	};

	if (vma_merge_new_range(req->cpu, &merge, &new_vma))
		return NULL;
	if (!new_vma)
		return copy_new_vma(req, merge.pgoff);
	if (start >= new_vma->start && start < new_vma->end)
		req->vma = new_vma;
	return new_vma;
}

/* The old VMA stays without its pages, which were all that its anon_vmas had there, and is not locked any more: all
 * of it, even when only a part was moved. */
static void finish_dontunmap(struct mremap *req, struct vma *new_vma)
{
	struct vma *vma = req->vma;

	if (vma->flags & VM_LOCKED) {
		req->mm->locked_vm -= vma_pages(vma);
		vma_set_flags(req->cpu, vma, vma->flags & ~VM_LOCKED_MASK);
		mlock_range(req->cpu, vma, vma->start, vma->end, false);
	}
	if (new_vma != vma && vma->start == req->addr && vma->end == req->addr + req->old_len)
		unlink_anon_vmas(req->cpu, vma);
}

/* Moves all the entries, or none. Both VMAs are write-locked: no fault sees a page in neither place. */
static bool move_entries(const struct mremap *req, struct vma *new_vma)
{
	u64 moved;

	if (!req->old_len)
		return true;
	moved = move_page_tables(req->cpu, req->vma, req->addr, new_vma, req->new_addr, req->old_len);
	if (moved == req->old_len)
		return true;
	/* The way back has its tables still. */
	move_page_tables(req->cpu, new_vma, req->new_addr, req->vma, req->addr, moved);
	return false;
}

/* The destination is free and chosen. Faults stay out of both VMAs until the mmap lock is released. */
static s64 move_vma(struct mremap *req)
{
	struct quire_mm *mm = req->mm;
	u64 flags = req->vma->flags;
	struct vma *new_vma;
	bool moved;

	if (mm->tree.count >= DEFAULT_MAX_MAP_COUNT - 3)
		return -ENOMEM;
	vma_start_write(req->cpu, req->vma);
	new_vma = copy_vma(req);
	if (!new_vma)
		return -ENOMEM;
	moved = move_entries(req, new_vma);
	mm_account(mm, flags, (s64)(req->new_len >> PAGE_SHIFT));
	/* Unmapping can fail for want of memory to split a VMA: an empty mapping remains, as in Linux. */
	if (!moved)
		do_munmap(req->cpu, mm, req->new_addr, req->new_addr + req->new_len, &req->gone);
	else if (req->flags & MREMAP_DONTUNMAP)
		finish_dontunmap(req, new_vma);
	else if (req->old_len)
		do_munmap(req->cpu, mm, req->addr, req->addr + req->old_len, &req->gone);
	return moved ? (s64)req->new_addr : -ENOMEM;
}

/* To a place that the caller names, which is emptied first (FIXED), or hints at (DONTUNMAP alone). */
static s64 mremap_to(struct mremap *req)
{
	struct quire_mm *mm = req->mm;
	int error;

	if (req->flags & MREMAP_FIXED) {
		error = do_munmap(req->cpu, mm, req->new_addr, req->new_addr + req->new_len, &req->gone);
		if (error)
			return error;
	}
	if (shrinks(req)) {
		error = bad_tail(req) ? -EINVAL
				      : do_munmap(req->cpu, mm, req->addr + req->new_len, req->addr + req->old_len,
						  &req->gone);
		if (error)
			return error;
		req->old_len = req->new_len;
	}
	req->vma = find_exact(mm, req->addr); /* it may have been split */
	if (!req->vma)
		return -EFAULT;
	if ((req->flags & MREMAP_DONTUNMAP) && !may_expand_vm(mm, req->vma->flags, req->old_len >> PAGE_SHIFT))
		return -ENOMEM;
	error = choose_new_addr(req);
	return error ? error : move_vma(req);
}

/*
 * FIXED and the same size: every VMA of the range moves, keeping their distances. What follows the last may be a
 * hole. An error leaves the VMAs before it moved. Returns the new address of the first.
 */
static s64 mremap_several(struct mremap *req)
{
	u64 start = req->addr, end = req->addr + req->old_len, offset = req->new_addr - req->addr, at = start;
	s64 result = -EFAULT;

	while (at < end) {
		struct vma *vma = vma_tree_find(&req->mm->tree, at);
		s64 moved;

		if (!vma || vma->start >= end)
			break;
		if (at == start && vma->start > start)
			return -EFAULT;
		req->vma = vma;
		req->addr = vma->start > at ? vma->start : at;
		req->new_addr = req->addr + offset;
		at = min_u64(vma->end, end);
		req->old_len = req->new_len = at - req->addr;
		moved = check_vma(req);
		if (!moved)
			moved = mremap_to(req);
		if (moved < 0)
			return moved;
		if (result < 0)
			result = moved;
	}
	return result;
}

/* ---------------------------------------------------------------------------------------- in place */

/* Is the old range the end of its VMA, and the room after it
 * free? A stack's guard gap there does not count, as in Linux. */
static bool can_grow_in_place(const struct mremap *req)
{
	const struct vma *vma = req->vma, *next;
	u64 end = req->addr + req->new_len;

	if (req->addr + req->old_len != vma->end)
		return false;
	next = vma_tree_find(&req->mm->tree, vma->end);
	return end <= TASK_SIZE && (!next || next->start >= end);
}

/* As a new range after the VMA, which can always take it; and when it then touches the next VMA, that may join. */
static s64 grow_in_place(struct mremap *req)
{
	struct vma *vma = req->vma, *grown;
	u64 pages = (req->new_len - req->old_len) >> PAGE_SHIFT, flags = vma->flags;
	struct vma_merge merge = {
		.mm = req->mm,
		.prev = vma,
		.next = vma_tree_find(&req->mm->tree, vma->end),
		.start = vma->end,
		.end = req->addr + req->new_len,
		.pgoff = vma->pgoff + vma_pages(vma),
		.flags = flags,
		.file = vma->file,
		.anon_vma = vma->anon_vma,
	};

	if (vma_merge_new_range(req->cpu, &merge, &grown) || !grown)
		return -ENOMEM;
	mm_account(req->mm, flags, (s64)pages);
	return (s64)req->addr;
}

/* In place costs nothing but the VMA. Without MAYMOVE there is no other way. */
static s64 mremap_grow(struct mremap *req)
{
	int error;

	if (can_grow_in_place(req))
		return grow_in_place(req);
	if (!(req->flags & MREMAP_MAYMOVE))
		return -ENOMEM;
	error = choose_new_addr(req);
	return error ? error : move_vma(req);
}

/* Ends the mmap lock, for read only while the tail is emptied. On an error nothing but boundaries has changed. */
static s64 mremap_shrink(struct mremap *req)
{
	int error;

	if (bad_tail(req))
		return -EINVAL;
	error = do_munmap_unlock(req->cpu, req->mm, req->addr + req->new_len, req->addr + req->old_len);
	req->unlocked = true;
	return error ? error : (s64)req->addr;
}

static s64 mremap_at(struct mremap *req)
{
	if (grows(req))
		return mremap_grow(req);
	return shrinks(req) ? mremap_shrink(req) : (s64)req->addr;
}

/* ---------------------------------------------------------------------------------------- the call */

/* Chooses the way. The mmap lock is held. */
static s64 do_mremap(struct mremap *req)
{
	int error;

	if (implies_new_addr(req) && too_many_maps_to_move(req->mm))
		return -ENOMEM;
	if ((req->flags & MREMAP_FIXED) && req->old_len == req->new_len)
		return mremap_several(req);
	req->vma = find_exact(req->mm, req->addr);
	error = check_vma(req);
	if (error)
		return error;
	return implies_new_addr(req) ? mremap_to(req) : mremap_at(req);
}

int64_t quire_mremap(struct quire_cpu *cpu, uint64_t addr, uint64_t old_len, uint64_t new_len, int flags,
		     uint64_t new_addr)
{
	struct mremap req = {
		.cpu = cpu,
		.mm = cpu->mm,
		.addr = addr,
		.old_len = page_align(old_len),
		.new_len = page_align(new_len),
		.flags = (u32)flags,
		.new_addr = new_addr,
	};
	u64 delta = req.new_len - req.old_len; /* what is new at the end; old_len may have been cut on the way */
	s64 result;

	if (!req.mm || check_arguments(&req))
		return -EINVAL;
	INIT_LIST_HEAD(&req.gone);
	mmap_write_lock(req.mm);
	result = do_mremap(&req);
	if (!req.unlocked)
		mmap_write_unlock(req.mm);
	vmas_free(cpu, &req.gone);
	if (result >= 0 && req.populate)
		mm_populate(cpu, req.mm, (u64)result + req.new_len - delta, delta);
	return result;
}
