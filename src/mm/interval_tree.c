/* SPDX-License-Identifier: MIT */
/*
 * Interval tree: an AVL tree ordered by start, in which every node also knows the largest `last` of its subtree. A search
 * for [start, last] skips each subtree whose subtree_last is below start, and stops at the first node that begins above
 * `last`; so it costs O(log n + found).
 *
 * AVL and not another balance: the height is kept in the node, so that a validator checks balance locally, and the trees
 * (VMAs of one anon_vma, or of one file) are searched far more often than they change.
 */
#include "mm/interval_tree.h"

static u32 height_of(const struct interval_node *node)
{
	return node ? node->height : 0;
}

static u64 max_last(u64 last, const struct interval_node *child)
{
	return child && child->subtree_last > last ? child->subtree_last : last;
}

/* What node->height and node->subtree_last must be, given correct children. */
static u32 computed_height(const struct interval_node *node)
{
	u32 left = height_of(node->left), right = height_of(node->right);

	return 1 + (left > right ? left : right);
}

static u64 computed_subtree_last(const struct interval_node *node)
{
	return max_last(max_last(node->last, node->left), node->right);
}

static void update(struct interval_node *node)
{
	node->height = computed_height(node);
	node->subtree_last = computed_subtree_last(node);
}

/* Makes @with (may be NULL) the child of @parent (NULL: the root) that @old was. */
static void replace_child(struct interval_tree *tree, struct interval_node *parent, const struct interval_node *old,
			  struct interval_node *with)
{
	if (!parent)
		tree->root = with;
	else if (parent->left == old)
		parent->left = with;
	else
		parent->right = with;
	if (with)
		with->parent = parent;
}

/* The right child takes the place of @node, which becomes its left child. In-order sequence unchanged. */
static struct interval_node *rotate_left(struct interval_tree *tree, struct interval_node *node)
{
	struct interval_node *top = node->right;

	replace_child(tree, node->parent, node, top);
	node->right = top->left;
	if (node->right)
		node->right->parent = node;
	top->left = node;
	node->parent = top;
	update(node);
	update(top);
	return top;
}

static struct interval_node *rotate_right(struct interval_tree *tree, struct interval_node *node)
{
	struct interval_node *top = node->left;

	replace_child(tree, node->parent, node, top);
	node->left = top->right;
	if (node->left)
		node->left->parent = node;
	top->right = node;
	node->parent = top;
	update(node);
	update(top);
	return top;
}

/* Restores the balance at @node, whose subtrees are balanced and differ in height by at most two. Returns the new top. */
static struct interval_node *balance(struct interval_tree *tree, struct interval_node *node)
{
	u32 left = height_of(node->left), right = height_of(node->right);

	if (left > right + 1) {
		if (height_of(node->left->left) < height_of(node->left->right))
			rotate_left(tree, node->left);
		return rotate_right(tree, node);
	}
	if (right > left + 1) {
		if (height_of(node->right->right) < height_of(node->right->left))
			rotate_right(tree, node->right);
		return rotate_left(tree, node);
	}
	update(node);
	return node;
}

/* Everything from @node up may have a changed subtree below it. */
static void balance_upwards(struct interval_tree *tree, struct interval_node *node)
{
	while (node)
		node = balance(tree, node)->parent;
}

void interval_tree_insert(struct interval_tree *tree, struct interval_node *node)
{
	struct interval_node *parent = NULL, **link = &tree->root;

	while (*link) {
		parent = *link;
		/* Equal goes right: after all that are there already (B65). */
		link = node->start < parent->start ? &parent->left : &parent->right;
	}
	node->parent = parent;
	node->left = NULL;
	node->right = NULL;
	*link = node;
	balance_upwards(tree, node);
}

static struct interval_node *leftmost(struct interval_node *node)
{
	while (node->left)
		node = node->left;
	return node;
}

/*
 * Takes out a node with two children: its in-order successor, which has no left child, takes its place. Returns the lowest
 * node whose subtree changed.
 */
static struct interval_node *remove_inner(struct interval_tree *tree, struct interval_node *node)
{
	struct interval_node *next = leftmost(node->right);
	struct interval_node *changed = next;

	if (next->parent != node) {
		changed = next->parent;
		replace_child(tree, next->parent, next, next->right);
		next->right = node->right;
		next->right->parent = next;
	}
	next->left = node->left;
	next->left->parent = next;
	replace_child(tree, node->parent, node, next);
	return changed;
}

void interval_tree_remove(struct interval_tree *tree, struct interval_node *node)
{
	struct interval_node *changed = node->parent;

	if (node->left && node->right)
		changed = remove_inner(tree, node);
	else
		replace_child(tree, node->parent, node, node->left ? node->left : node->right);
	balance_upwards(tree, changed);
	node->parent = NULL;
	node->left = NULL;
	node->right = NULL;
}

static bool reaches(const struct interval_node *subtree, u64 start)
{
	return subtree && subtree->subtree_last >= start;
}

/*
 * The leftmost node of the subtree that overlaps [start, last]. If the left subtree reaches @start at all, the answer is
 * there or nowhere: the node there that reaches it either overlaps, or begins above @last like everything to its right.
 */
static const struct interval_node *first_in(const struct interval_node *node, u64 start, u64 last)
{
	while (reaches(node, start)) {
		if (reaches(node->left, start)) {
			node = node->left;
			continue;
		}
		if (node->start > last)
			return NULL;
		if (node->last >= start)
			return node;
		node = node->right;
	}
	return NULL;
}

struct interval_node *interval_tree_first(const struct interval_tree *tree, u64 start, u64 last)
{
	return (struct interval_node *)(uintptr_t)first_in(tree->root, start, last);
}

/* The nearest ancestor that comes after @node in order: the first one that is entered from its left side. */
static const struct interval_node *ancestor_after(const struct interval_node *node)
{
	while (node->parent && node->parent->right == node)
		node = node->parent;
	return node->parent;
}

struct interval_node *interval_tree_next(const struct interval_node *node, u64 start, u64 last)
{
	const struct interval_node *found;

	for (;;) {
		if (reaches(node->right, start)) {
			found = first_in(node->right, start, last);
			return (struct interval_node *)(uintptr_t)found;
		}
		node = ancestor_after(node);
		if (!node || node->start > last)
			return NULL;
		if (node->last >= start)
			return (struct interval_node *)(uintptr_t)node;
	}
}

/* One node against its children, which are checked in their turn. */
static bool node_is_valid(const struct interval_node *node)
{
	u32 left = height_of(node->left), right = height_of(node->right);

	return node->start <= node->last && left <= right + 1 && right <= left + 1 &&
	       node->height == computed_height(node) && node->subtree_last == computed_subtree_last(node) &&
	       (!node->left || node->left->parent == node) && (!node->right || node->right->parent == node);
}

bool interval_tree_is_valid(const struct interval_tree *tree)
{
	const struct interval_node *node = tree->root;
	u64 start = 0;

	if (!node)
		return true;
	if (node->parent)
		return false;
	while (node->left)
		node = node->left;
	/* In order, by parent pointers: each is checked from above before the walk comes back through it. */
	while (node) {
		if (!node_is_valid(node) || node->start < start)
			return false;
		start = node->start;
		node = node->right ? leftmost(node->right) : ancestor_after(node);
	}
	return true;
}
