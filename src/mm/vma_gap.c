/* SPDX-License-Identifier: MIT */
/*
 * VMA tree: searching for free address ranges.
 *
 * A search walks the gaps in address order, from the top or from the bottom, and skips each subtree that has none long enough
 * (vma_node.gap) or lies outside the window. So it looks in vain only into subtrees that the window's edge cuts, one
 * per level: O(log n). (Also into those with a gap that is too long to be kept exactly: see gap_pages.)
 */
#include "mm/vma_node.h"

struct window {
	u64 len, low, high;
};

/* The part of the free range [from, to) that is inside the window, if @len fits. */
static bool fits(const struct window *w, u64 *from, u64 *to)
{
	if (*from < w->low)
		*from = w->low;
	if (*to > w->high)
		*to = w->high;
	return *to > *from && *to - *from >= w->len;
}

static bool fits_high(const struct window *w, u64 from, u64 to, u64 *addr)
{
	if (!fits(w, &from, &to))
		return false;
	*addr = to - w->len;
	return true;
}

static bool fits_low(const struct window *w, u64 from, u64 to, u64 *addr)
{
	if (!fits(w, &from, &to))
		return false;
	*addr = from;
	return true;
}

/* May there be a gap inside the subtree of this slot that fits? */
static bool slot_may_fit(const struct window *w, const struct vma_node *node, unsigned i)
{
	return node->level > 0 && node->gap[i] >= gap_pages(0, w->len) && slot_start(node, i) < w->high &&
	       node->end[i] > w->low;
}

/* The place in the walk: slot[l] of node[l] at levels from `level` to the root's. */
struct gap_walk {
	const struct vma_node *node[VMA_TREE_MAX_HEIGHT];
	u8 slot[VMA_TREE_MAX_HEIGHT];
	unsigned level, top;
};

static void walk_begin(struct gap_walk *walk, const struct vma_node *root)
{
	walk->top = root->level;
	walk->level = root->level;
	walk->node[root->level] = root;
}

/* Into the child of the slot at hand. */
static const struct vma_node *walk_down(struct gap_walk *walk)
{
	const struct vma_node *child = item_node(walk->node[walk->level]->item[walk->slot[walk->level]]);

	walk->level--;
	walk->node[walk->level] = child;
	return child;
}

/* Descends along last slots, as long as the gaps inside may fit. */
static void descend_last(const struct window *w, struct gap_walk *walk)
{
	while (slot_may_fit(w, walk->node[walk->level], walk->slot[walk->level])) {
		const struct vma_node *child = walk_down(walk);

		walk->slot[walk->level] = (u8)(child->nr - 1);
	}
}

static void descend_first(const struct window *w, struct gap_walk *walk)
{
	while (slot_may_fit(w, walk->node[walk->level], walk->slot[walk->level])) {
		walk_down(walk);
		walk->slot[walk->level] = 0;
	}
}

/* All gaps between two VMAs, from the highest down. */
static bool search_down(const struct window *w, const struct vma_node *root, u64 *addr)
{
	struct gap_walk walk;

	walk_begin(&walk, root);
	walk.slot[walk.level] = (u8)(root->nr - 1);
	descend_last(w, &walk);
	for (;;) {
		const struct vma_node *node = walk.node[walk.level];
		unsigned i = walk.slot[walk.level];

		if (i == 0) {
			if (walk.level == walk.top)
				return false;
			walk.level++;
			continue;
		}
		if (fits_high(w, node->end[i - 1], start_floor(node->start[i]), addr))
			return true;
		walk.slot[walk.level]--;
		descend_last(w, &walk);
	}
}

/* The same from the lowest up. */
static bool search_up(const struct window *w, const struct vma_node *root, u64 *addr)
{
	struct gap_walk walk;

	walk_begin(&walk, root);
	walk.slot[walk.level] = 0;
	descend_first(w, &walk);
	for (;;) {
		const struct vma_node *node = walk.node[walk.level];
		unsigned i = walk.slot[walk.level];

		if (i + 1 == node->nr) {
			if (walk.level == walk.top)
				return false;
			walk.level++;
			continue;
		}
		if (fits_low(w, node->end[i], start_floor(node->start[i + 1]), addr))
			return true;
		walk.slot[walk.level]++;
		descend_first(w, &walk);
	}
}

bool vma_tree_gap_topdown(const struct vma_tree *tree, u64 len, u64 low, u64 high, u64 *addr)
{
	const struct window w = { .len = len, .low = low, .high = high };
	const struct vma_node *root = rcu_dereference(tree->root);

	if (!root)
		return fits_high(&w, 0, ~0ull, addr);
	return fits_high(&w, root->end[root->nr - 1], ~0ull, addr) || search_down(&w, root, addr) ||
	       fits_high(&w, 0, start_floor(root->start[0]), addr);
}

bool vma_tree_gap_bottomup(const struct vma_tree *tree, u64 len, u64 low, u64 high, u64 *addr)
{
	const struct window w = { .len = len, .low = low, .high = high };
	const struct vma_node *root = rcu_dereference(tree->root);

	if (!root)
		return fits_low(&w, 0, ~0ull, addr);
	return fits_low(&w, 0, start_floor(root->start[0]), addr) || search_up(&w, root, addr) ||
	       fits_low(&w, root->end[root->nr - 1], ~0ull, addr);
}
