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

/* Slots laid out as in struct vma_node, as many as a level may have to deal out: a neighbour's, two new ones, and fewer than
 * VMA_NODE_MIN besides; or those left of and right of a run, and two. */
#define EDIT_SLOTS (2 * VMA_NODE_SLOTS + 2)
struct slots {
	unsigned nr;
	u32 gap[EDIT_SLOTS];
	u64 end[EDIT_SLOTS];
	u64 start[EDIT_SLOTS];
	u64 item[EDIT_SLOTS];
};

/* One run of slots replaced by others. Lives on the writer's stack; nobody else sees it. */
struct edit {
	struct vma_txn *txn;
	unsigned height;       /* of the tree before */
	struct vma_path left;  /* at the first slot replaced */
	struct vma_path right; /* at the first slot that stays behind them; above the leaves: the last one replaced */
	unsigned nr_in;	       /* slots that take their place on the level at hand: at most 2 */
	u32 in_gap[2];
	u64 in_end[2], in_start[2], in_item[2];
	unsigned in_at;		   /* where they stand in all */
	struct slots all;	   /* all that the new nodes of the level at hand get */
	struct vma_node *replaced; /* linked by rcu.next; to be freed after publication */
};

static struct vma_node *node_list_pop(struct vma_node **list)
{
	struct vma_node *node = *list;

	BUG_ON(!node); /* the caller has counted them */
	*list = node->rcu.next ? container_of(node->rcu.next, struct vma_node, rcu) : NULL;
	return node;
}

static void node_list_push(struct vma_node **list, struct vma_node *node)
{
	node->rcu.next = *list ? &(*list)->rcu : NULL;
	*list = node;
}

static void edit_begin(struct edit *e, struct vma_txn *txn)
{
	e->txn = txn;
	e->height = tree_height(txn->tree);
	e->nr_in = 0;
	e->replaced = NULL;
}

/* One more slot that takes the place of the old ones. */
static void edit_put(struct edit *e, u64 start, u64 end, u64 item, u32 gap)
{
	unsigned i = e->nr_in++;

	e->in_start[i] = start;
	e->in_end[i] = end;
	e->in_item[i] = item;
	e->in_gap[i] = gap;
}

/* The new slot of a VMA with these bounds. */
static void edit_put_vma(struct edit *e, const struct vma *vma, u64 start, u64 end)
{
	u64 growsdown = vma->flags & VM_GROWSDOWN ? VMA_SLOT_GROWSDOWN : 0;

	edit_put(e, start | growsdown, end, (u64)(uintptr_t)vma | 1, 0);
}

/* Takes slots [from, to) of a node over into the level at hand. */
static void edit_keep(struct slots *all, const struct vma_node *node, unsigned from, unsigned to)
{
	size_t nr = to - from;

	memcpy(&all->gap[all->nr], &node->gap[from], nr * sizeof(u32));
	memcpy(&all->end[all->nr], &node->end[from], nr * sizeof(u64));
	memcpy(&all->start[all->nr], &node->start[from], nr * sizeof(u64));
	memcpy(&all->item[all->nr], &node->item[from], nr * sizeof(u64));
	all->nr += to - from;
}

/* And those that are new. */
static void edit_keep_new(struct edit *e)
{
	struct slots *all = &e->all;

	e->in_at = all->nr;
	for (unsigned i = 0; i < e->nr_in; i++, all->nr++) {
		all->gap[all->nr] = e->in_gap[i];
		all->end[all->nr] = e->in_end[i];
		all->start[all->nr] = e->in_start[i];
		all->item[all->nr] = e->in_item[i];
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

	e->all.nr = 0;
	if (few && path_prev(&e->left, level, e->height)) {
		edit_keep(&e->all, e->left.node[level], 0, e->left.node[level]->nr);
		few = false;
	}
	edit_keep(&e->all, left, 0, keep);
	edit_keep_new(e);
	edit_keep(&e->all, right, from, right->nr);
	if (few && path_next(&e->right, level, e->height))
		edit_keep(&e->all, e->right.node[level], 0, e->right.node[level]->nr);
}

/* Puts the nodes of @level from left to right on the list of replaced ones. Their slots, in number. Readers may still
 * be looking at them, but not at their rcu_head. */
static unsigned edit_replace_nodes(struct edit *e, unsigned level)
{
	struct vma_path path = e->left;
	unsigned nr = 0;

	for (;;) {
		struct vma_node *node = path.node[level];

		node_list_push(&e->replaced, node);
		nr += node->nr;
		if (node == e->right.node[level])
			return nr;
		path_next(&path, level, e->height);
	}
}

static struct vma_node *txn_take_node(struct vma_txn *txn)
{
	BUG_ON(!txn->tree->spare); /* vma_txn_begin was told of fewer changes */
	txn->tree->nr_spare--;
	return node_list_pop(&txn->tree->spare);
}

/* The largest gap inside a node: in one of its children, or between two. */
static u32 largest_gap(const struct vma_node *node)
{
	u32 largest = node->gap[0];

	for (unsigned i = 1; i < node->nr; i++) {
		u32 before = gap_pages(node->end[i - 1], start_floor(node->start[i]));

		largest = node->gap[i] > largest ? node->gap[i] : largest;
		largest = before > largest ? before : largest;
	}
	return largest;
}

/* A new node of slots [from, to), which becomes a new slot of the level above. */
static struct vma_node *edit_make_node(struct edit *e, unsigned level, unsigned from, unsigned to)
{
	struct vma_node *node = txn_take_node(e->txn);
	const struct slots *all = &e->all;
	unsigned nr = to - from;

	node->level = level;
	node->nr = nr;
	memcpy(node->gap, &all->gap[from], nr * sizeof(u32));
	memcpy(node->end, &all->end[from], nr * sizeof(u64));
	memcpy(node->start, &all->start[from], nr * sizeof(u64));
	memcpy(node->item, &all->item[from], nr * sizeof(u64));
	memset(&node->gap[nr], 0, (VMA_NODE_SLOTS - nr) * sizeof(u32));
	memset(&node->end[nr], 0xff, (VMA_NODE_SLOTS - nr) * sizeof(u64));
	memset(&node->start[nr], 0xff, (VMA_NODE_SLOTS - nr) * sizeof(u64));
	memset(&node->item[nr], 0, (VMA_NODE_SLOTS - nr) * sizeof(u64));
	edit_put(e, node->start[0], node->end[nr - 1], (u64)(uintptr_t)node, largest_gap(node));
	return node;
}

static unsigned min_unsigned(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/*
 * How many of the slots go to the left one of two nodes: half of them, unless the new ones are the first or the last. Then
 * more are likely to come there, as mmap places one mapping below the other, and that side is left with room.
 */
static unsigned split_point(const struct edit *e)
{
	unsigned nr = e->all.nr, most = min_unsigned(VMA_NODE_SLOTS, nr - VMA_NODE_MIN);

	if (e->in_at + e->nr_in == nr)
		return most;
	return e->in_at == 0 ? nr - most : nr / 2;
}

/* Deals the slots at hand to one or two new nodes of @level; they are what the level above gets. */
static void edit_make_nodes(struct edit *e, unsigned level)
{
	unsigned left = e->all.nr > VMA_NODE_SLOTS ? split_point(e) : 0;

	e->nr_in = 0;
	if (left)
		edit_make_node(e, level, 0, left);
	if (e->all.nr > left)
		edit_make_node(e, level, left, e->all.nr);
}

/* The slots at hand are all there is on @level: makes them the top of the tree. */
static struct vma_node *edit_make_root(struct edit *e, unsigned level)
{
	if (e->all.nr == 0)
		return NULL;
	if (level > 0 && e->all.nr == 1)
		return item_node(e->all.item[0]);
	edit_make_nodes(e, level);
	if (e->nr_in == 1)
		return item_node(e->in_item[0]);
	e->all.nr = 0;
	edit_keep_new(e);
	BUG_ON(level + 1 >= VMA_TREE_MAX_HEIGHT);
	e->nr_in = 0;
	return edit_make_node(e, level + 1, 0, e->all.nr);
}

/* Makes the new root, from the leaves up. *vmas becomes how many more VMAs the tree has (modulo 2^32). */
static struct vma_node *edit_build(struct edit *e, u32 *vmas)
{
	unsigned level = 0;
	bool whole = e->height == 0;

	e->all.nr = 0;
	if (whole) {
		edit_keep_new(e);
		*vmas = 1;
	}
	while (!whole) {
		unsigned before;

		edit_gather(e, level);
		before = edit_replace_nodes(e, level);
		if (level == 0)
			*vmas = e->all.nr - before;
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

static void free_nodes_rcu(struct quire_cpu *cpu, struct vma_node *list)
{
	while (list) {
		struct vma_node *node = node_list_pop(&list);

		kmem_cache_free_rcu(cpu, &cpu->q->cache[CACHE_VMA_NODE], node, &node->rcu);
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

/* Up to RESERVE_BATCH nodes more. */
static bool reserve_batch(struct quire_cpu *cpu, struct vma_tree *tree, unsigned nr)
{
	void *batch[RESERVE_BATCH];

	nr = min_unsigned(nr, RESERVE_BATCH);
	if (!kmem_cache_alloc_bulk(cpu, &cpu->q->cache[CACHE_VMA_NODE], nr, batch))
		return false;
	tree->nr_spare += nr;
	while (nr > 0)
		node_list_push(&tree->spare, (struct vma_node *)batch[--nr]);
	return true;
}

/* Frees spare nodes but @keep. No reader has seen them. */
static void trim_spare(struct quire_cpu *cpu, struct vma_tree *tree, unsigned keep)
{
	while (tree->nr_spare > keep) {
		tree->nr_spare--;
		cache_free(cpu, CACHE_VMA_NODE, node_list_pop(&tree->spare));
	}
}

int vma_txn_begin(struct vma_txn *txn, struct quire_cpu *cpu, struct vma_tree *tree, unsigned changes)
{
	unsigned needed = nodes_needed(tree_height(tree), changes);

	BUG_ON2(changes < 1 || changes > 8, changes, 0);
	txn->cpu = cpu;
	txn->tree = tree;
	while (tree->nr_spare < needed) {
		if (!reserve_batch(cpu, tree, needed - tree->nr_spare)) {
			vma_txn_end(txn);
			return -ENOMEM;
		}
	}
	return 0;
}

/*
 * The worst case is much more than the usual one: what is left of one transaction saves allocating it for the next. 8 KiB,
 * and only in address spaces that have had a use for it.
 */
#define SPARE_NODES 32u

void vma_txn_end(struct vma_txn *txn)
{
	trim_spare(txn->cpu, txn->tree, SPARE_NODES);
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
	if (e.height > 0) {
		path_seek(&e.left, tree->root, 0);
		path_seek(&e.right, tree->root, ~0ull);
		edit_commit(&e); /* nothing stays, so no node is needed */
	}
	trim_spare(cpu, tree, 0);
}
