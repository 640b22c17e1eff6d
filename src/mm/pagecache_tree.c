/* SPDX-License-Identifier: MIT */
/* The radix tree below a page cache. Its shape and rules stand in pagecache_tree.h. */
#include "mm/pagecache_tree.h"
#include "mm/instance.h"

static bool entry_is_node(u64 entry)
{
	return entry & PAGECACHE_NODE_TAG;
}

static struct pagecache_node *entry_node(u64 entry)
{
	return (struct pagecache_node *)(uintptr_t)(entry & ~PAGECACHE_NODE_TAG);
}

static u64 node_entry(const struct pagecache_node *node)
{
	return (u64)(uintptr_t)node | PAGECACHE_NODE_TAG;
}

static unsigned node_offset(const struct pagecache_node *node, u64 index)
{
	return (unsigned)(index >> node->shift) & PAGECACHE_SLOT_MASK;
}

/* Does page @index lie below this node, if it is the root? */
static bool root_covers(const struct pagecache_node *root, u64 index)
{
	return index >> root->shift <= PAGECACHE_SLOT_MASK;
}

/* The shift of the smallest root that covers @index. */
static unsigned index_shift(u64 index)
{
	unsigned shift = 0;

	while (index >> shift > PAGECACHE_SLOT_MASK)
		shift += PAGECACHE_SHIFT;
	return shift;
}

/* The cursor's node if it has a slot for page @index, else NULL. */
static struct pagecache_node *cursor_node(const struct pagecache_cursor *cursor, u64 index)
{
	struct pagecache_node *node = cursor->node;

	return node && index >> node->shift >> PAGECACHE_SHIFT == cursor->base ? node : NULL;
}

static void cursor_set(struct pagecache_cursor *cursor, struct pagecache_node *node, u64 index)
{
	cursor->node = node;
	cursor->base = index >> node->shift >> PAGECACHE_SHIFT;
}

/* As many ones as the order takes slots, from the slot of @index on. At most 32 slots, so no shift by 64. */
static u64 slots_mask(const struct pagecache_node *node, u64 index, unsigned order)
{
	return ((1ull << order_slots(order)) - 1) << node_offset(node, index);
}

/* -------------------------------------------------------------------------------------------- nodes */

static void pool_push(struct pagecache_pool *pool, struct pagecache_node *node)
{
	node->parent = pool->head;
	pool->head = node;
	pool->nr++;
}

static struct pagecache_node *pool_pop(struct pagecache_pool *pool)
{
	struct pagecache_node *node = pool->head;

	BUG_ON(!node); /* the caller has asked how many it takes */
	pool->head = node->parent;
	node->parent = NULL;
	pool->nr--;
	return node;
}

bool pagecache_pool_fill(struct quire_cpu *cpu, struct pagecache_pool *pool, u32 nr)
{
	while (pool->nr < nr) {
		struct pagecache_node *node = cache_alloc(cpu, CACHE_PAGECACHE_NODE);

		if (!node)
			return false;
		memset(node, 0, sizeof(*node));
		pool_push(pool, node);
	}
	return true;
}

void pagecache_pool_free(struct quire_cpu *cpu, struct pagecache_pool *pool)
{
	while (pool->head)
		cache_free(cpu, CACHE_PAGECACHE_NODE, pool_pop(pool));
}

void pagecache_pool_free_rcu(struct quire_cpu *cpu, struct pagecache_pool *pool)
{
	while (pool->head) {
		struct pagecache_node *node = pool_pop(pool);

		kmem_cache_free_rcu(cpu, &cpu->q->cache[CACHE_PAGECACHE_NODE], node, &node->rcu);
	}
}

/* -------------------------------------------------------------------------------------------- reading */

u64 *pagecache_slot(struct address_space *mapping, u64 index, u64 *entry)
{
	struct pagecache_node *node = rcu_dereference(mapping->root);

	if (!node || !root_covers(node, index))
		return NULL;
	for (;;) {
		u64 *slot = &node->slots[node_offset(node, index)];

		*entry = smp_load_acquire(slot); /* pairs with the release of whoever filled the folio or the node */
		if (!entry_is_node(*entry))
			return slot;
		node = entry_node(*entry);
	}
}

/*
 * The first slot of @node at or after *index with @mark; *index follows. False: none, *index is the first page after
 * the node (0 when it is beyond the last possible page).
 */
static bool node_find(const struct pagecache_node *node, u64 *index, enum pagecache_mark mark)
{
	unsigned offset = node_offset(node, *index);
	u64 bits = READ_ONCE(node->marks[mark]) >> offset;
	unsigned skip;

	if (!bits) {
		*index = ((*index >> node->shift >> PAGECACHE_SHIFT) + 1) << PAGECACHE_SHIFT << node->shift;
		return false;
	}
	skip = (unsigned)__builtin_ctzll(bits);
	if (skip)
		*index = ((*index >> node->shift) + skip) << node->shift;
	return true;
}

/*
 * Descends from the cursor or the root to the next candidate. 1: found; 0: nothing in the tree any more; -1: *index moved
 * on. A node that left the tree meanwhile is empty, or will be left at its end: what came into its place is not missed
 * for longer than that.
 */
static int find_step(struct address_space *mapping, struct pagecache_cursor *cursor, u64 *index, u64 last,
		     enum pagecache_mark mark, u64 **slot, u64 *entry)
{
	struct pagecache_node *node = cursor_node(cursor, *index);

	if (!node) {
		node = rcu_dereference(mapping->root);
		if (!node || !root_covers(node, *index))
			return 0;
	}
	for (;;) {
		if (!node_find(node, index, mark) || *index > last)
			return -1;
		*slot = &node->slots[node_offset(node, *index)];
		*entry = smp_load_acquire(*slot);
		if (!entry_is_node(*entry))
			break;
		node = entry_node(*entry);
	}
	cursor_set(cursor, node, *index);
	if (*entry)
		return 1;
	/* It has just been taken out, or is about to be put in: either way absent at this instant. */
	*index = ((*index >> node->shift) + 1) << node->shift;
	return -1;
}

u64 *pagecache_find(struct address_space *mapping, struct pagecache_cursor *cursor, u64 *index, u64 last,
		    enum pagecache_mark mark, u64 *entry)
{
	u64 *slot, first = *index;

	while (*index <= last && *index >= first) { /* the second: *index wrapped */
		int found = find_step(mapping, cursor, index, last, mark, &slot, entry);

		if (found == 1)
			return slot;
		if (found == 0)
			break;
	}
	return NULL;
}

/* The node at the level of @order on the path to @index, which is there. pages_lock. */
static struct pagecache_node *entry_level(struct address_space *mapping, u64 index, unsigned order)
{
	struct pagecache_node *node = mapping->root;

	while (node->shift > order_shift(order))
		node = entry_node(node->slots[node_offset(node, index)]);
	return node;
}

/* -------------------------------------------------------------------------------------------- marks */

/* Sets @mark on the slots @mask of @node and on all slots above them. */
static void node_set_mark(struct pagecache_node *node, u64 mask, enum pagecache_mark mark)
{
	for (; node; node = node->parent) {
		u64 old = node->marks[mark];

		WRITE_ONCE(node->marks[mark], old | mask);
		if (old)
			return; /* above, it is set already */
		mask = 1ull << node->offset;
	}
}

static void node_clear_mark(struct pagecache_node *node, u64 mask, enum pagecache_mark mark)
{
	for (; node; node = node->parent) {
		u64 old = node->marks[mark], left = old & ~mask;

		if (left == old)
			return;
		WRITE_ONCE(node->marks[mark], left);
		if (left)
			return;
		mask = 1ull << node->offset;
	}
}

void pagecache_set_mark(struct address_space *mapping, u64 index, unsigned order, enum pagecache_mark mark)
{
	struct pagecache_node *node = entry_level(mapping, index, order);

	node_set_mark(node, slots_mask(node, index, order), mark);
}

void pagecache_clear_mark(struct address_space *mapping, u64 index, unsigned order, enum pagecache_mark mark)
{
	struct pagecache_node *node = entry_level(mapping, index, order);

	node_clear_mark(node, slots_mask(node, index, order), mark);
}

bool pagecache_test_mark(struct address_space *mapping, u64 index, enum pagecache_mark mark)
{
	struct pagecache_cursor cursor = { 0 };
	u64 found = index, entry;

	return pagecache_find(mapping, &cursor, &found, index, mark, &entry) != NULL;
}

/* -------------------------------------------------------------------------------------------- changing */

/* The same for a tree whose root has to grow up to shift @top first. */
static int missing_above(const struct pagecache_node *root, u64 index, unsigned top, unsigned shift)
{
	if (index >> top == 0)
		return -EEXIST; /* it would cover what the old root holds, and that is not empty */
	return (int)((top - root->shift + top - shift) / PAGECACHE_SHIFT);
}

int pagecache_missing(struct address_space *mapping, u64 index, unsigned order)
{
	struct pagecache_node *node = mapping->root;
	unsigned shift = order_shift(order), top = index_shift(index);

	top = top > shift ? top : shift;
	if (!node)
		return (int)((top - shift) / PAGECACHE_SHIFT + 1);
	if (node->shift < top)
		return missing_above(node, index, top, shift);
	while (node->shift > shift) {
		u64 entry = node->slots[node_offset(node, index)];

		if (!entry)
			return (node->shift - (int)shift) / (int)PAGECACHE_SHIFT;
		if (!entry_is_node(entry))
			return -EEXIST;
		node = entry_node(entry);
	}
	return node->marks[PAGECACHE_PRESENT] & slots_mask(node, index, order) ? -EEXIST : 0;
}

/* Puts new roots above the old one until pages up to shift @top are covered. */
static void tree_grow(struct address_space *mapping, unsigned top, struct pagecache_pool *pool)
{
	struct pagecache_node *root = mapping->root;

	while (!root || root->shift < top) {
		struct pagecache_node *node = pool_pop(pool);

		node->shift = (u8)(root ? root->shift + PAGECACHE_SHIFT : top);
		if (root) {
			node->slots[0] = node_entry(root);
			for (unsigned mark = 0; mark < NR_PAGECACHE_MARKS; mark++)
				node->marks[mark] = root->marks[mark] != 0;
			root->parent = node; /* its offset is 0, as any root's */
		}
		rcu_assign_pointer(mapping->root, node);
		root = node;
	}
}

/* The child of @node towards @index, made if need be. */
static struct pagecache_node *child_make(struct pagecache_node *node, u64 index, struct pagecache_pool *pool)
{
	u64 *slot = &node->slots[node_offset(node, index)];
	struct pagecache_node *child;

	if (*slot)
		return entry_node(*slot);
	child = pool_pop(pool);
	child->shift = (u8)(node->shift - PAGECACHE_SHIFT);
	child->offset = (u8)node_offset(node, index);
	child->parent = node;
	smp_store_release(slot, node_entry(child));
	return child;
}

void pagecache_insert(struct address_space *mapping, u64 index, unsigned order, u64 entry, struct pagecache_pool *pool)
{
	unsigned shift = order_shift(order), top = index_shift(index);
	struct pagecache_node *node;

	tree_grow(mapping, top > shift ? top : shift, pool);
	node = mapping->root;
	while (node->shift > shift)
		node = child_make(node, index, pool);
	for (unsigned i = 0; i < order_slots(order); i++)
		smp_store_release(&node->slots[node_offset(node, index) + i], entry);
	node_set_mark(node, slots_mask(node, index, order), PAGECACHE_PRESENT);
}

/* Takes empty nodes out, upwards from @node, and roots that hold nothing but one child for slot 0. */
static void tree_prune(struct address_space *mapping, struct pagecache_node *node, struct pagecache_pool *freed)
{
	while (node && !node->marks[PAGECACHE_PRESENT]) {
		struct pagecache_node *parent = node->parent;

		if (parent)
			WRITE_ONCE(parent->slots[node->offset], 0);
		else
			WRITE_ONCE(mapping->root, NULL);
		pool_push(freed, node);
		node = parent;
	}
	for (node = mapping->root; node && node->shift && node->marks[PAGECACHE_PRESENT] == 1; node = mapping->root) {
		if (!entry_is_node(node->slots[0]))
			break;
		/* Readers inside the old root go on to the child as before; they are why it is not emptied. */
		entry_node(node->slots[0])->parent = NULL;
		rcu_assign_pointer(mapping->root, entry_node(node->slots[0]));
		pool_push(freed, node);
	}
}

void pagecache_erase(struct address_space *mapping, struct pagecache_cursor *cursor, u64 index, unsigned order,
		     struct pagecache_pool *freed)
{
	struct pagecache_node *node = cursor_node(cursor, index);
	u32 nr_freed = freed->nr;
	u64 mask;

	if (!node || node->shift != order_shift(order))
		node = entry_level(mapping, index, order);
	mask = slots_mask(node, index, order);
	/* Slots before anything else: who took a reference just now must find them empty when reading them again. */
	for (unsigned i = 0; i < order_slots(order); i++)
		WRITE_ONCE(node->slots[node_offset(node, index) + i], 0);
	for (unsigned mark = 0; mark < NR_PAGECACHE_MARKS; mark++)
		node_clear_mark(node, mask, mark);
	cursor_set(cursor, node, index);
	tree_prune(mapping, node, freed);
	if (freed->nr != nr_freed)
		cursor->node = NULL; /* perhaps one of those */
}

/* Fills @nr slots of @node from @offset on with the next folios: @folio first if it is not NULL, then from the list. */
static void split_fill(struct pagecache_node *node, unsigned offset, unsigned nr, struct folio *folio,
		       struct list_head **next)
{
	for (unsigned i = offset; i < offset + nr; i++) {
		if (!folio) {
			folio = list_entry(*next, struct folio, lru);
			*next = (*next)->next;
		}
		smp_store_release(&node->slots[i], (u64)(uintptr_t)folio);
		folio = NULL;
	}
}

void pagecache_split(struct address_space *mapping, struct folio *folio, unsigned order, struct list_head *tails,
		     struct pagecache_pool *pool)
{
	struct pagecache_node *node = entry_level(mapping, folio->index, order);
	unsigned offset = node_offset(node, folio->index);
	struct list_head *next = tails->next;

	if (order < PAGECACHE_SHIFT) {
		split_fill(node, offset, 1u << order, folio, &next);
		return;
	}
	/* Each slot gets a full lowest node. It is filled before it is published, and carries the marks of its slot. */
	for (unsigned i = offset; i < offset + order_slots(order); i++) {
		struct pagecache_node *child = pool_pop(pool);

		child->offset = (u8)i;
		child->parent = node;
		for (unsigned mark = 0; mark < NR_PAGECACHE_MARKS; mark++)
			child->marks[mark] = node->marks[mark] >> i & 1 ? ~0ull : 0;
		split_fill(child, 0, PAGECACHE_SLOTS, i == offset ? folio : NULL, &next);
		smp_store_release(&node->slots[i], node_entry(child));
	}
}

/* -------------------------------------------------------------------------------------------- validation */

struct tree_check {
	violation_fn report;
	void *arg;
	unsigned violations;
};

static void tree_violation(struct tree_check *check, const char *what, u64 a, u64 b)
{
	check->violations++;
	if (check->report)
		check->report(check->arg, what, a, b);
}

/* A child against its parent: place, shift and the marks above it. */
static void validate_child(struct tree_check *check, const struct pagecache_node *node, unsigned offset)
{
	const struct pagecache_node *child = entry_node(node->slots[offset]);

	if (child->parent != node || child->offset != offset)
		tree_violation(check, "page cache node: parent or offset wrong", child->shift, offset);
	if (child->shift + PAGECACHE_SHIFT != node->shift)
		tree_violation(check, "page cache node: shift does not follow its parent's", child->shift, node->shift);
	for (unsigned mark = 0; mark < NR_PAGECACHE_MARKS; mark++)
		if ((child->marks[mark] != 0) != (node->marks[mark] >> offset & 1))
			tree_violation(check, "page cache node: mark not as below", mark, offset);
}

static void validate_node(struct tree_check *check, const struct pagecache_node *node)
{
	u64 present = 0;

	for (unsigned i = 0; i < PAGECACHE_SLOTS; i++) {
		present |= (u64)(node->slots[i] != 0) << i;
		if (entry_is_node(node->slots[i]))
			validate_child(check, node, i);
	}
	if (present != node->marks[PAGECACHE_PRESENT] || !present)
		tree_violation(check, "page cache node: presence wrong or node empty", present, node->shift);
	for (unsigned mark = 0; mark < PAGECACHE_PRESENT; mark++)
		if (node->marks[mark] & ~present)
			tree_violation(check, "page cache node: mark on an empty slot", mark, node->shift);
}

/* The next node after @node in pre-order, without recursion; NULL at the end. */
static const struct pagecache_node *node_next(const struct pagecache_node *node)
{
	unsigned from = 0;

	for (; node; from = node->offset + 1u, node = node->parent)
		for (unsigned i = from; i < PAGECACHE_SLOTS; i++)
			if (entry_is_node(node->slots[i]))
				return entry_node(node->slots[i]);
	return NULL;
}

unsigned pagecache_tree_validate(struct address_space *mapping, violation_fn report, void *arg)
{
	struct tree_check check = { .report = report, .arg = arg };
	const struct pagecache_node *root = mapping->root;

	if (root && (root->parent || root->offset))
		tree_violation(&check, "page cache root has a parent or an offset", root->shift, root->offset);
	for (const struct pagecache_node *node = root; node; node = node_next(node))
		validate_node(&check, node);
	return check.violations;
}
