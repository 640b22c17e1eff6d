/* SPDX-License-Identifier: MIT */
/*
 * Validation of anon_vmas. They are found by going through the slabs of their cache, since nothing lists them.
 *
 * Counts that one anon_vma keeps of others (children, references of descendants) are checked without memory: each live anon_vma
 * takes off what it should have added to its parent and root; then everyone must be at zero; then each adds it again.
 * Nobody else is running, so nobody sees the numbers in between.
 */
#include "mm/validate.h"

#define MARK_LIVE (1u << 31) /* in num_active_vmas, for as long as we are here: had references when we came */

typedef void (*anon_vma_fn)(struct validate *v, struct anon_vma *anon_vma);

static void for_each_in_list(struct validate *v, const struct list_head *slabs, anon_vma_fn fn)
{
	struct slab *slab;

	list_for_each_entry(slab, slabs, list)
		for (u32 i = 0; i < slab->nr; i++)
			fn(v, kmem_cache_object(slab->cache, slab, i));
}

/* Visits every object of the cache, free ones too. */
static void for_each_anon_vma(struct validate *v, anon_vma_fn fn)
{
	for_each_in_list(v, &v->q->cache[CACHE_ANON_VMA].full, fn);
	for_each_in_list(v, &v->q->cache[CACHE_ANON_VMA].partial, fn);
}

static bool is_live(struct validate *v, const struct anon_vma *anon_vma)
{
	return is_object(v->q, CACHE_ANON_VMA, anon_vma) && (anon_vma->num_active_vmas & MARK_LIVE);
}

/* One of a live family, so that parent and root can be followed. */
static bool is_followable(struct validate *v, const struct anon_vma *anon_vma)
{
	return (anon_vma->num_active_vmas & MARK_LIVE) && is_live(v, anon_vma->root) && is_live(v, anon_vma->parent);
}

static void mark(struct validate *v, struct anon_vma *anon_vma)
{
	if (READ_ONCE(anon_vma->refcount) == 0)
		return;
	anon_vma->num_active_vmas |= MARK_LIVE;
	v->anon_vmas++;
}

static void unmark(struct validate *v, struct anon_vma *anon_vma)
{
	(void)v;
	anon_vma->num_active_vmas &= ~MARK_LIVE;
}

/* A descendant is a reference of its root; one with links is a child of its parent, a root its own. */
static void take_off(struct validate *v, struct anon_vma *anon_vma)
{
	if (!is_followable(v, anon_vma))
		return;
	if (anon_vma->root != anon_vma)
		anon_vma->root->refcount--;
	if (!interval_tree_empty(&anon_vma->tree))
		anon_vma->parent->num_children--;
}

static void put_back(struct validate *v, struct anon_vma *anon_vma)
{
	if (!is_followable(v, anon_vma))
		return;
	if (anon_vma->root != anon_vma)
		anon_vma->root->refcount++;
	if (!interval_tree_empty(&anon_vma->tree))
		anon_vma->parent->num_children++;
}

/* One VMA in the tree: the VMA is attached, and its link is of this anon_vma. False: it cannot be followed. */
static bool check_link(struct validate *v, const struct anon_vma *anon_vma, const struct interval_node *node)
{
	const struct anon_vma_chain *avc = container_of(node, const struct anon_vma_chain, node);

	if (!is_object(v->q, CACHE_AVC, avc) || avc->anon_vma != anon_vma || !is_object(v->q, CACHE_VMA, avc->vma) ||
	    READ_ONCE(avc->vma->refcnt) == 0) {
		violation(v, 51, "anon_vma %x lists %x, which links no live VMA", (u64)(uintptr_t)anon_vma,
			  (u64)(uintptr_t)avc, 0);
		return false;
	}
	return true;
}

/* Goes through the tree; returns how many of the VMAs have this as their own. */
static u32 check_tree(struct validate *v, const struct anon_vma *anon_vma)
{
	u32 active = 0;

	if (!interval_tree_is_valid(&anon_vma->tree)) {
		violation(v, 18, "interval tree of anon_vma %x is broken", (u64)(uintptr_t)anon_vma, 0, 0);
		return 0;
	}
	for (const struct interval_node *node = interval_tree_first(&anon_vma->tree, 0, ~0ull); node;
	     node = interval_tree_next(node, 0, ~0ull)) {
		if (!check_link(v, anon_vma, node))
			return active;
		v->tree_links++;
		active += container_of(node, const struct anon_vma_chain, node)->vma->anon_vma == anon_vma;
	}
	return active;
}

/* Between take_off and put_back: what is left of the counts is the anon_vma's own. */
static void check(struct validate *v, struct anon_vma *anon_vma)
{
	const u64 name = (u64)(uintptr_t)anon_vma;
	u32 linked = interval_tree_empty(&anon_vma->tree) ? 0 : 1, active;

	if (!(anon_vma->num_active_vmas & MARK_LIVE))
		return;
	if (!is_followable(v, anon_vma)) {
		violation(v, 45, "anon_vma %x has a parent or root that is not live", name, 0, 0);
		return;
	}
	if (anon_vma->refcount != linked)
		violation(v, 45, "anon_vma %x: %d references besides descendants, linked by VMAs: %d", name,
			  anon_vma->refcount, linked);
	if (anon_vma->num_children != 0)
		violation(v, 45, "anon_vma %x: num_children is too large by %d (modulo 2^32)", name,
			  anon_vma->num_children, 0);
	active = check_tree(v, anon_vma);
	if ((anon_vma->num_active_vmas & ~MARK_LIVE) != active)
		violation(v, 45, "anon_vma %x: num_active_vmas is %d, found %d", name,
			  anon_vma->num_active_vmas & ~MARK_LIVE, active);
	if (READ_ONCE(anon_vma->rwsem.state))
		violation(v, 91, "anon_vma %x is locked", name, 0, 0);
}

void validate_anon_vmas(struct validate *v)
{
	for_each_anon_vma(v, mark);
	for_each_anon_vma(v, take_off);
	for_each_anon_vma(v, check);
	for_each_anon_vma(v, put_back);
	for_each_anon_vma(v, unmark);
	/* Each link that VMAs have stands in one tree, and each in a tree is a VMA's. */
	if (v->tree_links != v->chain_links)
		violation(v, 18, "anon_vmas list %d links, VMAs have %d", v->tree_links, v->chain_links, 0);
}
