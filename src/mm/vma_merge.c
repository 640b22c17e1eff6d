/* SPDX-License-Identifier: MIT */
/*
 * Merging: neighbours that differ in nothing become one VMA. P is the VMA before a range, M the one that the range is
 * part of (none for a new mapping), N the one after; * marks the range that is to have the flags of a neighbour.
 *
 *                    before              after               who is gone
 *   new range        PPPP****NNNN        PPPPPPPPPPPP        N             P grows to the end of N
 *                    PPPP****            PPPPPPPP            -             P grows
 *                        ****NNNN            NNNNNNNN        -             N grows down
 *   all of M         PPPP****NNNN        PPPPPPPPPPPP        M, N
 *                    PPPP****            PPPPPPPP            M
 *                        ****NNNN            NNNNNNNN        M
 *   lower part of M  PPPP**MM            PPPPPPMM            -             the boundary moves up
 *   upper part of M      MM**NNNN            MMNNNNNN        -             the boundary moves down
 *   middle of M          MM**MM              (split)                       no neighbour touches the range
 *
 * Two VMAs differ in nothing when they touch, have the same flags and the same file (or none), and page offsets run
 * on. (VM_MAYBE_GUARD does not count, and stays with the merged VMA.) Their anon_vmas must be the same, or one of the
 * two has none yet and the other's is its own alone (a chain of one link): then all pages of the merged VMA can be
 * found through that one. A VMA with a longer chain is a fork's child; merging it with an untouched neighbour would
 * let the family's lock grow over ever more memory, so Linux does not, and neither do we.
 */
#include "mm/map.h"

static bool chain_is_singular(const struct vma *vma)
{
	return vma->anon_vma_chain.next->next == &vma->anon_vma_chain;
}

/* Does the VMA share its pages' anon_vmas with a parent's? Its chain then has the parent's links too. */
static bool is_fork_child(const struct vma *vma)
{
	return vma && vma->anon_vma && !chain_is_singular(vma);
}

/*
 * The range's anon_vma against that of the VMA that would take it. Either both are the same (perhaps none), or the
 * one that is there will be used for both.
 */
static bool anon_vmas_fit(const struct vma_merge *merge, const struct vma *taker)
{
	if (taker->anon_vma && !merge->anon_vma)
		return !is_fork_child(taker);
	if (!taker->anon_vma && merge->anon_vma)
		return !is_fork_child(merge->middle) && !is_fork_child(merge->copied_from);
	return taker->anon_vma == merge->anon_vma;
}

static bool properties_fit(const struct vma_merge *merge, const struct vma *vma)
{
	return !((vma->flags ^ merge->flags) & ~VM_MAYBE_GUARD) && vma->file == merge->file &&
	       anon_vmas_fit(merge, vma);
}

/* Touching, alike, and page offsets that run on: for private anonymous memory that was never moved they always do. */
static bool fits_left(const struct vma_merge *merge)
{
	const struct vma *prev = merge->prev;

	return prev && prev->end == merge->start && prev->pgoff + vma_pages(prev) == merge->pgoff &&
	       properties_fit(merge, prev);
}

static bool fits_right(const struct vma_merge *merge)
{
	const struct vma *next = merge->next;

	return next && next->start == merge->end &&
	       next->pgoff == merge->pgoff + ((merge->end - merge->start) >> PAGE_SHIFT) && properties_fit(merge, next);
}

/* Each of the two fits the range; that does not mean that they fit each other: the range may have no anon_vma. */
static bool neighbours_fit(const struct vma_merge *merge)
{
	const struct anon_vma *low = merge->prev->anon_vma, *high = merge->next->anon_vma;

	return !low || !high || low == high;
}

/* A range inside a VMA has only the neighbours that it touches: none in the middle, one at either end. */
bool vma_merge_plan(struct vma_merge *merge)
{
	const struct vma *middle = merge->middle;

	merge->target = NULL;
	merge->cloned = NULL;
	merge->left = merge->right = false;
	if (merge->flags & VM_SPECIAL)
		return false;
	if (!middle || merge->start == middle->start)
		merge->left = fits_left(merge);
	if (!middle || merge->end == middle->end)
		merge->right = fits_right(merge) && (!merge->left || neighbours_fit(merge));
	if (merge->left)
		merge->target = merge->prev;
	else if (merge->right)
		merge->target = merge->next;
	return merge->target != NULL;
}

/* ---------------------------------------------------------------------------------------- preparing */

/* Of the VMAs whose pages the target takes over, one that has an anon_vma. All that have one have the same. */
static struct vma *anon_vma_source(const struct vma_merge *merge)
{
	struct vma *sources[3] = { merge->middle, merge->left && merge->right ? merge->next : NULL,
				   merge->copied_from };

	for (unsigned i = 0; i < ARRAY_SIZE(sources); i++)
		if (sources[i] && sources[i]->anon_vma)
			return sources[i];
	return NULL;
}

/*
 * A target without anon_vma gets the one of the pages that it takes over, before those pages' own VMA lets go of it
 * (race B63). Links the target under its old bounds; commit moves it.
 */
int vma_merge_prepare(struct quire_cpu *cpu, struct vma_merge *merge)
{
	struct vma *source = merge->target->anon_vma ? NULL : anon_vma_source(merge);

	if (!source)
		return 0;
	vma_start_write(cpu, merge->target);
	if (anon_vma_clone(cpu, merge->target, source))
		return -ENOMEM;
	merge->cloned = merge->target;
	return 0;
}

/* The target keeps no anon_vma that it had no pages of. */
void vma_merge_abort(struct quire_cpu *cpu, struct vma_merge *merge)
{
	if (merge->cloned)
		unlink_anon_vmas(cpu, merge->cloned);
}

/* ---------------------------------------------------------------------------------------- committing */

/* What becomes of the VMAs besides the target. */
struct merge_effect {
	struct vma *gone[2]; /* removed */
	struct vma *shrunk;  /* keeps a part */
	u64 keep_start, keep_end;
};

/* A VMA that lies wholly in the range goes; of one that does not, the part outside stays. */
static void merge_effect(const struct vma_merge *merge, struct merge_effect *effect)
{
	struct vma *middle = merge->middle;

	*effect = (struct merge_effect){ 0 };
	if (merge->left && merge->right)
		effect->gone[1] = merge->next;
	if (!middle)
		return;
	if (merge->start == middle->start && merge->end == middle->end) {
		effect->gone[0] = middle;
		return;
	}
	effect->shrunk = middle;
	effect->keep_start = merge->left ? merge->end : middle->start;
	effect->keep_end = merge->left ? middle->end : merge->start;
}

/* No fault may be in any VMA that changes; leaf PMDs may not lie across the boundary that moves. */
static void merge_lock_vmas(struct quire_cpu *cpu, const struct vma_merge *merge, const struct merge_effect *effect)
{
	vma_start_write(cpu, merge->target);
	for (unsigned i = 0; i < ARRAY_SIZE(effect->gone); i++)
		if (effect->gone[i])
			vma_start_write(cpu, effect->gone[i]);
	if (effect->shrunk) {
		vma_start_write(cpu, effect->shrunk);
		vma_split_leaf(cpu, effect->shrunk, merge->left ? effect->keep_start : effect->keep_end);
	}
}

/* A flag that must not get lost with whoever had it. */
static void merge_sticky_flags(struct quire_cpu *cpu, const struct vma_merge *merge, const struct merge_effect *effect)
{
	u64 flags = merge->flags | (effect->gone[1] ? effect->gone[1]->flags : 0);

	if (flags & ~merge->target->flags & VM_MAYBE_GUARD)
		vma_set_flags(cpu, merge->target, merge->target->flags | VM_MAYBE_GUARD);
}

/* New bounds in the tree, the VMA and its page offset; the rmap trees do not hold it now. */
static void merge_resize(struct vma_txn *txn, struct vma *vma, u64 start, u64 end)
{
	u64 pgoff = vma->pgoff + (u64)((s64)(start - vma->start) >> PAGE_SHIFT); /* either way */

	vma_tree_resize(txn, vma, start, end);
	vma->pgoff = pgoff;
}

/* The trees. Erased and shrunk before the target grows: never an overlap. Rmap locks held for write. */
static void merge_change(const struct vma_merge *merge, const struct merge_effect *effect, struct vma_txn *txn)
{
	struct vma *target = merge->target, *shrunk = effect->shrunk;
	u64 start = merge->left ? target->start : merge->start;
	u64 end = merge->right ? merge->next->end : merge->end;

	vma_i_mmap_remove(target);
	anon_vma_interval_remove(target);
	for (unsigned i = 0; i < ARRAY_SIZE(effect->gone); i++) {
		if (!effect->gone[i])
			continue;
		vma_i_mmap_remove(effect->gone[i]);
		vma_i_mmap_count(effect->gone[i], -1);
		vma_tree_erase(txn, effect->gone[i]);
	}
	if (shrunk) {
		vma_i_mmap_remove(shrunk);
		anon_vma_interval_remove(shrunk);
		merge_resize(txn, shrunk, effect->keep_start, effect->keep_end);
		anon_vma_interval_insert(shrunk);
		vma_i_mmap_insert(shrunk);
	}
	merge_resize(txn, target, start, end);
	anon_vma_interval_insert(target);
	vma_i_mmap_insert(target);
}

/*
 * VMA locks, then rmap locks, then the change; the removed are freed when nobody can find them. They still hold a
 * reference on the same file as the target, so their last reference is never the file's last.
 */
struct vma *vma_merge_commit(struct quire_cpu *cpu, struct vma_merge *merge, struct vma_txn *txn)
{
	struct vma *target = merge->target;
	struct merge_effect effect;

	merge_effect(merge, &effect);
	merge_lock_vmas(cpu, merge, &effect);
	merge_sticky_flags(cpu, merge, &effect);
	vma_rmap_lock(target->file, target->anon_vma);
	merge_change(merge, &effect, txn);
	vma_rmap_unlock(target->file, target->anon_vma);
	for (unsigned i = 0; i < ARRAY_SIZE(effect.gone); i++) {
		if (!effect.gone[i])
			continue;
		/* Until here an rmap walk may meet its pages twice, through it and the target, which is harmless. */
		unlink_anon_vmas(cpu, effect.gone[i]);
		vma_mark_detached(cpu, effect.gone[i]);
		vma_free(cpu, effect.gone[i]);
	}
	return target;
}

/* Prepares and commits a planned merge with a transaction of its own. */
static int merge_apply(struct quire_cpu *cpu, struct vma_merge *merge, struct vma **out)
{
	struct vma_txn txn;

	if (vma_merge_prepare(cpu, merge))
		return -ENOMEM;
	if (vma_txn_begin(&txn, cpu, &merge->mm->tree, VMA_MERGE_CHANGES)) {
		vma_merge_abort(cpu, merge);
		return -ENOMEM;
	}
	*out = vma_merge_commit(cpu, merge, &txn);
	vma_txn_end(&txn);
	return 0;
}

/* For ranges that become part of the address space with this; the caller counts their pages. */
int vma_merge_new_range(struct quire_cpu *cpu, struct vma_merge *merge, struct vma **out)
{
	*out = NULL;
	return vma_merge_plan(merge) ? merge_apply(cpu, merge, out) : 0;
}

/* ---------------------------------------------------------------------------------------- changed flags */

/* A split that somebody asked for by changing a part: it counts against the limit of mappings. */
static int split_counted(struct quire_cpu *cpu, struct vma *vma, u64 addr)
{
	return map_count_full(vma->mm) ? -ENOMEM : vma_split(cpu, vma, addr);
}

/* Splits the range off on both sides; *@vmap becomes the VMA of the range alone. */
static int isolate_range(struct quire_cpu *cpu, struct vma **vmap, u64 start, u64 end)
{
	struct vma *vma = *vmap;

	if (vma->start < start) {
		if (split_counted(cpu, vma, start))
			return -ENOMEM;
		vma = vma_tree_find(&vma->mm->tree, start);
	}
	*vmap = vma;
	return vma->end > end ? split_counted(cpu, vma, end) : 0;
}

/* Merging is tried first, and takes no VMA more; that is why it
 * is allowed at the limit of mappings when splitting is not. */
int vma_modify_flags(struct quire_cpu *cpu, struct vma **vmap, u64 start, u64 end, u64 flags)
{
	struct vma *vma = *vmap;
	struct vma_merge merge = {
		.mm = vma->mm,
		.prev = start == vma->start ? vma_tree_find_below(&vma->mm->tree, start) : NULL,
		.next = end == vma->end ? vma_tree_find(&vma->mm->tree, end) : NULL,
		.middle = vma,
		.start = start,
		.end = end,
		.pgoff = vma_linear_index(vma, start),
		.flags = flags,
		.file = vma->file,
		.anon_vma = vma->anon_vma,
	};

	if (vma_merge_plan(&merge))
		return merge_apply(cpu, &merge, vmap);
	if (isolate_range(cpu, vmap, start, end))
		return -ENOMEM;
	vma_set_flags(cpu, *vmap, flags);
	return 0;
}
