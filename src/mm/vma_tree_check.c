/* SPDX-License-Identifier: MIT */
/*
 * VMA tree: checks. Each node is checked against its own slots and against what its parent's slot says of it; together
 * that is order, balance, fill and every gap.
 */
#include "mm/vma_node.h"

struct check {
	violation_fn report;
	void *arg;
	unsigned violations;
	u32 vmas;
	u32 nodes;
};

static void complain(struct check *c, const char *what, u64 a, u64 b)
{
	c->violations++;
	if (c->report)
		c->report(c->arg, what, a, b);
}

static void check_fill(struct check *c, const struct vma_node *node, const struct vma_node *root)
{
	unsigned least = node != root ? VMA_NODE_MIN : node->level > 0 ? 2 : 1;

	if (node->nr < least)
		complain(c, "vma tree: node has too few slots: level, slots", node->level, node->nr);
	for (unsigned i = node->nr; i < VMA_NODE_SLOTS; i++)
		if (node->start[i] != ~0ull || node->end[i] != ~0ull || node->item[i] || node->gap[i])
			complain(c, "vma tree: unused slot is not empty: level, slot", node->level, i);
}

static void check_order(struct check *c, const struct vma_node *node)
{
	for (unsigned i = 0; i < node->nr; i++) {
		u64 start = slot_start(node, i), end = node->end[i];

		if (start >= end || (start | end) & ~PAGE_MASK)
			complain(c, "vma tree: bad range: start, end", start, end);
		if (i > 0 && node->end[i - 1] > start)
			complain(c, "vma tree: ranges overlap: end, next start", node->end[i - 1], start);
		if (item_is_vma(node->item[i]) != (node->level == 0) || node->item[i] <= 1)
			complain(c, "vma tree: slot holds the wrong kind: level, item", node->level, node->item[i]);
		if (node->level == 0 && node->gap[i])
			complain(c, "vma tree: gap inside a VMA: slot, pages", i, node->gap[i]);
	}
}

static u32 largest_gap(const struct vma_node *node)
{
	u32 largest = 0;

	for (unsigned i = 0; i < node->nr; i++) {
		u32 before = i > 0 ? gap_pages(node->end[i - 1], start_floor(node->start[i])) : 0;

		largest = node->gap[i] > largest ? node->gap[i] : largest;
		largest = before > largest ? before : largest;
	}
	return largest;
}

/* What the parent's slot @i says of the child. */
static void check_child(struct check *c, const struct vma_node *parent, unsigned i, const struct vma_node *child)
{
	if (child->nr == 0)
		return; /* check_fill says so */
	if (parent->start[i] != child->start[0] || parent->end[i] != child->end[child->nr - 1])
		complain(c, "vma tree: slot's range is not its child's: start, end", parent->start[i], parent->end[i]);
	if (parent->gap[i] != largest_gap(child))
		complain(c, "vma tree: slot's largest gap is wrong: kept, found (pages)", parent->gap[i],
			 largest_gap(child));
}

static void check_vma(struct check *c, const struct vma_node *node, unsigned i)
{
	const struct vma *vma = item_vma(node->item[i]);
	u64 growsdown = vma->flags & VM_GROWSDOWN ? VMA_SLOT_GROWSDOWN : 0;

	if (vma->start != slot_start(node, i) || vma->end != node->end[i])
		complain(c, "vma tree: vma's range is not its slot's: start of slot, of vma", slot_start(node, i),
			 vma->start);
	if ((node->start[i] & VMA_SLOT_GROWSDOWN) != growsdown)
		complain(c, "vma tree: vma's guard gap is not its slot's: start, flags", vma->start, vma->flags);
}

/* A damaged node must not lead the walk astray: only a child that looks like one is entered. */
static bool enterable(const struct vma_node *node, unsigned i)
{
	const struct vma_node *child;

	if (node->level == 0 || item_is_vma(node->item[i]) || !node->item[i])
		return false;
	child = item_node(node->item[i]);
	return child->level + 1 == node->level && child->nr <= VMA_NODE_SLOTS;
}

typedef void (*leaf_check)(struct check *c, const struct vma_node *node, unsigned slot);

/* Depth first, each node before its children. */
static void check_nodes(struct check *c, const struct vma_node *root, leaf_check leaf)
{
	const struct vma_node *node[VMA_TREE_MAX_HEIGHT];
	u8 slot[VMA_TREE_MAX_HEIGHT];
	unsigned level = root->level;

	node[level] = root;
	slot[level] = 0;
	c->nodes++;
	check_fill(c, root, root);
	check_order(c, root);
	while (level <= root->level) {
		const struct vma_node *n = node[level];
		unsigned i = slot[level]++;

		if (i >= n->nr) {
			level++;
		} else if (enterable(n, i)) {
			level--;
			node[level] = item_node(n->item[i]);
			slot[level] = 0;
			c->nodes++;
			check_fill(c, node[level], root);
			check_order(c, node[level]);
			check_child(c, n, i, node[level]);
		} else if (n->level == 0) {
			c->vmas++;
			leaf(c, n, i);
		} else {
			complain(c, "vma tree: child is no node: level, item", n->level, n->item[i]);
		}
	}
}

static void check_no_vma(struct check *c, const struct vma_node *node, unsigned i)
{
	(void)c;
	(void)node;
	(void)i;
}

unsigned vma_tree_validate_nodes(const struct vma_node *root, violation_fn report, void *arg)
{
	struct check c = { .report = report, .arg = arg };

	if (root && root->level < VMA_TREE_MAX_HEIGHT && root->nr <= VMA_NODE_SLOTS)
		check_nodes(&c, root, check_no_vma);
	else if (root)
		complain(&c, "vma tree: root is no node: level, slots", root->level, root->nr);
	return c.violations;
}

unsigned vma_tree_validate(const struct vma_tree *tree, violation_fn report, void *arg)
{
	struct check c = { .report = report, .arg = arg };
	const struct vma_node *root = tree->root;

	if (root && root->level < VMA_TREE_MAX_HEIGHT && root->nr <= VMA_NODE_SLOTS)
		check_nodes(&c, root, check_vma);
	else if (root)
		complain(&c, "vma tree: root is no node: level, slots", root->level, root->nr);
	if (c.vmas != tree->count)
		complain(&c, "vma tree: wrong count: kept, found", tree->count, c.vmas);
	return c.violations;
}

u32 vma_tree_nr_nodes(const struct vma_tree *tree)
{
	struct check c = { .report = NULL };

	if (tree->root)
		check_nodes(&c, tree->root, check_no_vma);
	return c.nodes + tree->nr_spare;
}
