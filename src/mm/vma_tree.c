/* SPDX-License-Identifier: MIT */
/*
 * VMA tree: look-ups, and changes by path copying. (Free ranges: vma_gap.c. Checks: vma_tree_check.c.)
 *
 * Guarantee. Whoever loaded tree->root once, in an RCU section or under the mmap lock, sees one version of the tree: all
 * VMAs of some instant between two changes. A node never changes once published; a change makes new nodes for the path
 * (and for a sibling where one must be split or filled up), stores the new root with release, and frees the replaced nodes
 * through RCU. The release pairs with the acquire of rcu_dereference(tree->root); the rest of the path needs no ordering of
 * its own, since every node reachable from a root was complete before that root was stored.
 *
 * Where gaps live. A gap between two VMAs belongs to the lowest node that has both below it: there it is the space between
 * two neighbouring slots, and is not stored at all, because the node has the end of the one and the start of the other. A
 * slot stores only the largest gap strictly inside its child: the maximum over the child's slots and over the spaces between
 * them. So moving an edge of a VMA changes nodes on its own path to the root and no other, also when its neighbour is in
 * another leaf, and a node's gaps follow from the node alone, which makes them checkable locally. The guard gap of a stack
 * is part of the slot too (VMA_SLOT_GROWSDOWN), so that a search touches no VMA. Gaps are kept in pages of 32 bits: one of
 * 16 TiB or more reads as "at least that", and a search then looks inside, which is right and only rarely in vain.
 *
 * How a change runs. It replaces a run of slots, [left, right), by others, level by level from the leaves. On each level the
 * slots that stay from the left node, the new ones, and those that stay from the right node are dealt to one or two new
 * nodes, which are the new slots of the level above. Should they be too few for a node, the neighbour's slots are added.
 * Everything between left and right is dropped, so that one VMA and a thousand of them go the same way. The first level
 * with nothing left of or right of the new slots becomes the top: that is the only place where the height changes.
 */
#include "mm/instance.h"
#include "mm/vma_node.h"

/* -------------------------------------------------------------------------------------------- reading */

/* The first slot that ends above @addr; unused slots end at ~0. VMA_NODE_SLOTS when there is none at all. */
static unsigned find_end_above(const struct vma_node *node, u64 addr)
{
	unsigned i = 0;

	while (i < VMA_NODE_SLOTS && node->end[i] <= addr)
		i++;
	return i;
}

struct vma *vma_tree_find(const struct vma_tree *tree, u64 addr)
{
	const struct vma_node *node = rcu_dereference(tree->root);

	while (node) {
		unsigned i = find_end_above(node, addr);
		u64 item = i < VMA_NODE_SLOTS ? node->item[i] : 0;

		if (item_is_vma(item))
			return item_vma(item);
		node = item_node(item); /* NULL at the top only: addr is above everything */
	}
	return NULL;
}

struct vma *vma_tree_find_below(const struct vma_tree *tree, u64 addr)
{
	const struct vma_node *node = rcu_dereference(tree->root);

	while (node) {
		unsigned i = node->nr;
		u64 item;

		while (i > 0 && slot_start(node, i - 1) >= addr)
			i--;
		item = i > 0 ? node->item[i - 1] : 0;
		if (item_is_vma(item))
			return item_vma(item);
		node = item_node(item);
	}
	return NULL;
}

/* -------------------------------------------------------------------------------------------- paths */

/* From the root to a leaf slot: node[l] is the node of level l, idx[l] a slot of it. For l > 0 that is the slot of
 * node[l - 1], unless the path was moved at level l or above since: then only the levels from there up hold together. */
struct vma_path {
	struct vma_node *node[VMA_TREE_MAX_HEIGHT];
	u8 idx[VMA_TREE_MAX_HEIGHT];
};

static unsigned tree_height(const struct vma_tree *tree)
{
	return tree->root ? tree->root->level + 1 : 0;
}

/* To the first slot that ends above @addr, or behind the last slot of the last leaf. */
static void path_seek(struct vma_path *path, struct vma_node *root, u64 addr)
{
	struct vma_node *node = root;

	for (unsigned level = root->level;; level--) {
		unsigned i = find_end_above(node, addr);

		if (i > node->nr)
			i = node->nr;
		if (level > 0 && i == node->nr)
			i--;
		path->node[level] = node;
		path->idx[level] = (u8)i;
		if (level == 0)
			return;
		node = item_node(node->item[i]);
	}
}

/* The node of @level becomes the child that the level above it is at. */
static void path_enter(struct vma_path *path, unsigned level)
{
	path->node[level] = item_node(path->node[level + 1]->item[path->idx[level + 1]]);
}

/* Moves to the previous node of @level (its idx: behind its last slot). False: it is the first; nothing has changed. */
static bool path_prev(struct vma_path *path, unsigned level, unsigned height)
{
	unsigned up = level + 1;

	while (up < height && path->idx[up] == 0)
		up++;
	if (up >= height)
		return false;
	path->idx[up]--;
	while (up-- > level) {
		path_enter(path, up);
		path->idx[up] = (u8)(path->node[up]->nr - (up > level ? 1 : 0));
	}
	return true;
}

/* Moves to the next node of @level (its idx: its first slot). */
static bool path_next(struct vma_path *path, unsigned level, unsigned height)
{
	unsigned up = level + 1;

	while (up < height && path->idx[up] + 1u == path->node[up]->nr)
		up++;
	if (up >= height)
		return false;
	path->idx[up]++;
	while (up-- > level) {
		path_enter(path, up);
		path->idx[up] = 0;
	}
	return true;
}

static bool path_is_first(const struct vma_path *path, unsigned level, unsigned height)
{
	for (unsigned up = level + 1; up < height; up++)
		if (path->idx[up] != 0)
			return false;
	return true;
}

static bool path_is_last(const struct vma_path *path, unsigned level, unsigned height)
{
	for (unsigned up = level + 1; up < height; up++)
		if (path->idx[up] + 1u != path->node[up]->nr)
			return false;
	return true;
}

/* -------------------------------------------------------------------------------------------- one change */

struct slot {
	u64 start, end, item; /* as in struct vma_node */
	u32 gap;
};

/* One run of slots replaced by others. Lives on the writer's stack; nobody else sees it. */
struct edit {
	struct vma_txn *txn;
	unsigned height;       /* of the tree before */
	struct vma_path left;  /* at the first slot replaced */
	struct vma_path right; /* at the first slot that stays behind them; above the leaves: the last one replaced */
	struct slot in[2];     /* what takes their place on the level at hand */
	unsigned nr_in;
	struct slot slot[3 * VMA_NODE_SLOTS]; /* all that the new nodes of the level at hand get */
	unsigned nr;
	struct vma_node *replaced; /* linked by rcu.next; to be freed after publication */
};

static void edit_begin(struct edit *e, struct vma_txn *txn)
{
	e->txn = txn;
	e->height = tree_height(txn->tree);
	e->nr_in = 0;
	e->replaced = NULL;
}

/* The new slot of a VMA with these bounds. */
static void edit_put_vma(struct edit *e, struct vma *vma, u64 start, u64 end)
{
	struct slot *slot = &e->in[e->nr_in++];

	slot->start = start | (vma->flags & VM_GROWSDOWN ? VMA_SLOT_GROWSDOWN : 0);
	slot->end = end;
	slot->item = (u64)(uintptr_t)vma | 1;
	slot->gap = 0;
}

static struct vma_node *txn_take_node(struct vma_txn *txn)
{
	struct vma_node *node = txn->reserved;

	BUG_ON(!node); /* vma_txn_begin was told of fewer changes */
	txn->reserved = node->rcu.next ? container_of(node->rcu.next, struct vma_node, rcu) : NULL;
	return node;
}

/* Takes slots [from, to) of a node over into the level at hand. */
static void edit_keep(struct edit *e, const struct vma_node *node, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		struct slot *slot = &e->slot[e->nr++];

		slot->start = node->start[i];
		slot->end = node->end[i];
		slot->item = node->item[i];
		slot->gap = node->gap[i];
	}
}

/*
 * Collects all slots for the new nodes of @level: what stays on the left, what is new, what stays on the right; and those of
 * a neighbour if that is too little for a node. left and right then stand in the outermost nodes that are replaced.
 */
static void edit_gather(struct edit *e, unsigned level)
{
	const struct vma_node *left = e->left.node[level], *right = e->right.node[level];
	unsigned keep = e->left.idx[level], from = e->right.idx[level] + (level > 0 ? 1u : 0u);
	unsigned nr = keep + e->nr_in + (right->nr - from);
	bool few = nr < VMA_NODE_MIN;

	e->nr = 0;
	if (few && path_prev(&e->left, level, e->height)) {
		edit_keep(e, e->left.node[level], 0, e->left.node[level]->nr);
		few = false;
	}
	edit_keep(e, left, 0, keep);
	for (unsigned i = 0; i < e->nr_in; i++)
		e->slot[e->nr++] = e->in[i];
	edit_keep(e, right, from, right->nr);
	if (few && path_next(&e->right, level, e->height))
		edit_keep(e, e->right.node[level], 0, e->right.node[level]->nr);
}

/* Puts the nodes of @level from left to right on the list of replaced ones. Their slots, in number. Readers may still
 * be looking at them, but not at their rcu_head. */
static unsigned edit_replace_nodes(struct edit *e, unsigned level)
{
	struct vma_path path = e->left;
	unsigned nr = 0;

	for (;;) {
		struct vma_node *node = path.node[level];

		node->rcu.next = e->replaced ? &e->replaced->rcu : NULL;
		e->replaced = node;
		nr += node->nr;
		if (node == e->right.node[level])
			return nr;
		path_next(&path, level, e->height);
	}
}

/* A new node of slots [from, to), and its slot in the level above: its range and the largest gap inside. */
static struct vma_node *edit_make_node(struct edit *e, unsigned level, unsigned from, unsigned to)
{
	struct vma_node *node = txn_take_node(e->txn);
	struct slot *above = &e->in[e->nr_in++];

	node->level = level;
	node->nr = to - from;
	above->gap = 0;
	for (unsigned i = node->nr; i < VMA_NODE_SLOTS; i++) {
		node->start[i] = ~0ull;
		node->end[i] = ~0ull;
		node->item[i] = 0;
		node->gap[i] = 0;
	}
	for (unsigned i = 0; i < node->nr; i++) {
		const struct slot *slot = &e->slot[from + i];
		u32 before = i > 0 ? gap_pages(slot[-1].end, start_floor(slot->start)) : 0;

		node->start[i] = slot->start;
		node->end[i] = slot->end;
		node->item[i] = slot->item;
		node->gap[i] = slot->gap;
		above->gap = slot->gap > above->gap ? slot->gap : above->gap;
		above->gap = before > above->gap ? before : above->gap;
	}
	above->start = node->start[0];
	above->end = node->end[node->nr - 1];
	above->item = (u64)(uintptr_t)node;
	return node;
}

/* Deals the slots at hand to one or two new nodes of @level, evenly; they are what the level above gets. */
static void edit_make_nodes(struct edit *e, unsigned level)
{
	unsigned half = e->nr > VMA_NODE_SLOTS ? e->nr / 2 : 0;

	e->nr_in = 0;
	if (half)
		edit_make_node(e, level, 0, half);
	if (e->nr > half)
		edit_make_node(e, level, half, e->nr);
}

/* The slots at hand are all there is on @level: makes them the top of the tree. */
static struct vma_node *edit_make_root(struct edit *e, unsigned level)
{
	if (e->nr == 0)
		return NULL;
	if (level > 0 && e->nr == 1)
		return item_node(e->slot[0].item);
	edit_make_nodes(e, level);
	if (e->nr_in == 1)
		return item_node(e->in[0].item);
	for (e->nr = 0; e->nr < e->nr_in; e->nr++)
		e->slot[e->nr] = e->in[e->nr];
	e->nr_in = 0;
	BUG_ON(level + 1 >= VMA_TREE_MAX_HEIGHT);
	return edit_make_node(e, level + 1, 0, e->nr);
}

/* Makes the new root, from the leaves up. *vmas becomes how many more VMAs the tree has (modulo 2^32). */
static struct vma_node *edit_build(struct edit *e, u32 *vmas)
{
	unsigned level = 0;
	bool whole = e->height == 0;

	e->nr = 0;
	if (whole) {
		e->slot[e->nr++] = e->in[0];
		*vmas = 1;
	}
	while (!whole) {
		unsigned before;

		edit_gather(e, level);
		before = edit_replace_nodes(e, level);
		if (level == 0)
			*vmas = e->nr - before;
		whole = path_is_first(&e->left, level, e->height) && path_is_last(&e->right, level, e->height);
		if (whole)
			break;
		edit_make_nodes(e, level);
		level++;
	}
	/* The levels above hold nothing but the way to this one. */
	for (unsigned up = level + 1; up < e->height; up++)
		edit_replace_nodes(e, up);
	return edit_make_root(e, level);
}

static void free_nodes_rcu(struct quire_cpu *cpu, struct vma_node *node)
{
	while (node) {
		struct rcu_head *next = node->rcu.next;

		kmem_cache_free_rcu(cpu, &cpu->q->cache[CACHE_VMA_NODE], node, &node->rcu);
		node = next ? container_of(next, struct vma_node, rcu) : NULL;
	}
}

/* Publishes the new version, and only then lets go of the old: a reader that begins later cannot find it any more. */
static void edit_commit(struct edit *e)
{
	struct vma_tree *tree = e->txn->tree;
	u32 vmas = 0;
	struct vma_node *root = edit_build(e, &vmas);

	rcu_assign_pointer(tree->root, root);
	tree->count += vmas;
	free_nodes_rcu(e->txn->cpu, e->replaced);
}

/* -------------------------------------------------------------------------------------------- transactions */

/*
 * The worst case of one change is two nodes on each level and a new root. The height grows at most once in eight changes:
 * the root that it made has two children, and needs seven more before it splits.
 */
static unsigned nodes_needed(unsigned height, unsigned changes)
{
	return changes * (2 * height + 1) + (changes - 1) * 2;
}

#define RESERVE_BATCH 16u

int vma_txn_begin(struct vma_txn *txn, struct quire_cpu *cpu, struct vma_tree *tree, unsigned changes)
{
	unsigned needed = nodes_needed(tree_height(tree), changes);
	void *batch[RESERVE_BATCH];

	BUG_ON2(changes < 1 || changes > 8, changes, 0);
	txn->cpu = cpu;
	txn->tree = tree;
	txn->reserved = NULL;
	while (needed > 0) {
		unsigned nr = needed < RESERVE_BATCH ? needed : RESERVE_BATCH;

		if (!kmem_cache_alloc_bulk(cpu, &cpu->q->cache[CACHE_VMA_NODE], nr, batch)) {
			vma_txn_end(txn);
			return -ENOMEM;
		}
		for (unsigned i = 0; i < nr; i++) {
			struct vma_node *node = (struct vma_node *)batch[i];

			node->rcu.next = txn->reserved ? &txn->reserved->rcu : NULL;
			txn->reserved = node;
		}
		needed -= nr;
	}
	return 0;
}

void vma_txn_end(struct vma_txn *txn)
{
	while (txn->reserved)
		cache_free(txn->cpu, CACHE_VMA_NODE, txn_take_node(txn));
}

/* -------------------------------------------------------------------------------------------- changes */

/* Points both paths at the slot of @vma, which is the one replaced. */
static void edit_seek_vma(struct edit *e, const struct vma *vma)
{
	const struct vma_node *leaf;
	unsigned i;

	BUG_ON2(e->height == 0, vma->start, vma->end);
	path_seek(&e->left, e->txn->tree->root, vma->start);
	leaf = e->left.node[0];
	i = e->left.idx[0];
	BUG_ON2(i == leaf->nr || item_vma(leaf->item[i]) != vma, vma->start, vma->end);
	e->right = e->left;
	e->right.idx[0]++;
}

void vma_tree_insert(struct vma_txn *txn, struct vma *vma)
{
	struct edit e;

	edit_begin(&e, txn);
	edit_put_vma(&e, vma, vma->start, vma->end);
	if (e.height > 0) {
		const struct vma_node *leaf;
		unsigned i;

		path_seek(&e.left, txn->tree->root, vma->start);
		leaf = e.left.node[0];
		i = e.left.idx[0];
		BUG_ON2(i < leaf->nr && slot_start(leaf, i) < vma->end, vma->start, vma->end);
		e.right = e.left;
	}
	edit_commit(&e);
}

void vma_tree_erase(struct vma_txn *txn, struct vma *vma)
{
	struct edit e;

	edit_begin(&e, txn);
	edit_seek_vma(&e, vma);
	edit_commit(&e);
}

void vma_tree_resize(struct vma_txn *txn, struct vma *vma, u64 start, u64 end)
{
	struct edit e;

	edit_begin(&e, txn);
	edit_seek_vma(&e, vma);
	edit_put_vma(&e, vma, start, end);
	/* Readers of vma->start and end hold the VMA's lock or the mmap lock, and we have excluded both. */
	WRITE_ONCE(vma->start, start);
	WRITE_ONCE(vma->end, end);
	edit_commit(&e);
}

void vma_tree_erase_range(struct vma_txn *txn, u64 start, u64 end)
{
	struct edit e;
	const struct vma_node *leaf;
	unsigned i;

	edit_begin(&e, txn);
	if (e.height == 0 || start >= end)
		return;
	path_seek(&e.left, txn->tree->root, start);
	path_seek(&e.right, txn->tree->root, end - 1);
	/* The right path is at the first slot that ends at or above @end: the last to go, or the first to stay. */
	leaf = e.right.node[0];
	i = e.right.idx[0];
	if (i < leaf->nr && slot_start(leaf, i) < end) {
		BUG_ON2(leaf->end[i] != end, start, end);
		e.right.idx[0]++;
	}
	if (e.left.node[0] == e.right.node[0] && e.left.idx[0] == e.right.idx[0])
		return;
	leaf = e.left.node[0];
	i = e.left.idx[0];
	BUG_ON2(i < leaf->nr && slot_start(leaf, i) < start, start, end);
	edit_commit(&e);
}

void vma_tree_destroy(struct quire_cpu *cpu, struct vma_tree *tree)
{
	struct vma_txn txn = { .cpu = cpu, .tree = tree };
	struct edit e;

	edit_begin(&e, &txn);
	if (e.height == 0)
		return;
	path_seek(&e.left, tree->root, 0);
	path_seek(&e.right, tree->root, ~0ull);
	edit_commit(&e); /* nothing stays, so no node is needed */
}
