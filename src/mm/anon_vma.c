/* SPDX-License-Identifier: MIT */
/*
 * anon_vmas: which VMAs may map a private page. The structure is explained in rmap.h; the life of an anon_vma:
 *
 *   free ──alloc──> linked (refcount 1 while any chain links it) ──last chain unlinked──> referenced ──last put──> free
 *
 * It must outlive all mappings of its folios, not all references to them: unlink_anon_vmas runs when the VMA's entries
 * are gone. Whoever reaches it through a folio afterwards is turned away by folio_lock_anon_vma_read. The cache is
 * type-safe under RCU, so the reference count of a stale pointer can always be tried.
 */
#include "mm/instance.h"
#include "mm/rmap.h"

void anon_vma_lock_write(struct anon_vma *anon_vma)
{
	down_write(&anon_vma->root->rwsem);
}

void anon_vma_unlock_write(struct anon_vma *anon_vma)
{
	up_write(&anon_vma->root->rwsem);
}

void anon_vma_lock_read(struct anon_vma *anon_vma)
{
	down_read(&anon_vma->root->rwsem);
}

void anon_vma_unlock_read(struct anon_vma *anon_vma)
{
	up_read(&anon_vma->root->rwsem);
}

/* ------------------------------------------------------------------------------------------------ life */

static void get_anon_vma(struct anon_vma *anon_vma)
{
	__atomic_fetch_add(&anon_vma->refcount, 1, __ATOMIC_RELAXED);
}

/* Fails on an anon_vma that is free: inc, not zero, never plain inc (race B64). */
static bool anon_vma_try_get(struct anon_vma *anon_vma)
{
	u32 old = READ_ONCE(anon_vma->refcount);

	while (old != 0) {
		if (__atomic_compare_exchange_n(&anon_vma->refcount, &old, old + 1, false, __ATOMIC_SEQ_CST,
						__ATOMIC_RELAXED))
			return true;
	}
	return false;
}

void put_anon_vma(struct quire_cpu *cpu, struct anon_vma *anon_vma)
{
	struct anon_vma *root = anon_vma->root;
	u32 old = __atomic_fetch_sub(&anon_vma->refcount, 1, __ATOMIC_ACQ_REL);

	BUG_ON2(old == 0, anon_vma, root);
	if (old != 1)
		return;
	VM_BUG_ON(!interval_tree_empty(&anon_vma->tree));
	cache_free(cpu, CACHE_ANON_VMA, anon_vma);
	if (root != anon_vma)
		put_anon_vma(cpu, root); /* a root has no other root: this ends here */
}

/*
 * A new anon_vma below @parent, or a root when that is NULL. The object may be looked at by a stale reader while we set it
 * up (the cache is type-safe); its count is 0 until the release store, so nobody gets hold of it.
 */
static struct anon_vma *anon_vma_alloc(struct quire_cpu *cpu, struct anon_vma *parent)
{
	struct anon_vma *anon_vma = cache_alloc(cpu, CACHE_ANON_VMA);

	if (!anon_vma)
		return NULL;
	anon_vma->num_children = parent ? 0 : 1; /* a root counts itself, so that it is never taken for abandoned */
	anon_vma->num_active_vmas = 0;
	anon_vma->tree.root = NULL;
	WRITE_ONCE(anon_vma->parent, parent ? parent : anon_vma);
	WRITE_ONCE(anon_vma->root, parent ? parent->root : anon_vma);
	if (parent)
		get_anon_vma(anon_vma->root);
	smp_store_release(&anon_vma->refcount, 1);
	return anon_vma;
}

/* ------------------------------------------------------------------------------------------------ chains */

/* The root's lock is held for write. The VMA's newest link stands first. */
static void chain_link(struct vma *vma, struct anon_vma_chain *avc, struct anon_vma *anon_vma)
{
	avc->vma = vma;
	avc->anon_vma = anon_vma;
	avc->node.start = vma->pgoff;
	avc->node.last = vma->pgoff + vma_pages(vma) - 1;
	list_add(&avc->same_vma, &vma->anon_vma_chain);
	interval_tree_insert(&anon_vma->tree, &avc->node);
}

void anon_vma_interval_remove(struct vma *vma)
{
	struct anon_vma_chain *avc;

	list_for_each_entry(avc, &vma->anon_vma_chain, same_vma)
		interval_tree_remove(&avc->anon_vma->tree, &avc->node);
}

void anon_vma_interval_insert(struct vma *vma)
{
	struct anon_vma_chain *avc;

	list_for_each_entry(avc, &vma->anon_vma_chain, same_vma) {
		avc->node.start = vma->pgoff;
		avc->node.last = vma->pgoff + vma_pages(vma) - 1;
		interval_tree_insert(&avc->anon_vma->tree, &avc->node);
	}
}

static bool chain_is_singular(const struct vma *vma)
{
	return !list_empty(&vma->anon_vma_chain) && vma->anon_vma_chain.next->next == &vma->anon_vma_chain;
}

/* Could the two be one VMA some day, so that sharing an anon_vma now keeps that possible? */
static bool anon_vma_compatible(const struct vma *low, const struct vma *high)
{
	return low->end == high->start && low->file == high->file &&
	       !((low->flags ^ high->flags) & ~(VM_ACCESS_FLAGS | VM_MAYBE_GUARD)) &&
	       high->pgoff == low->pgoff + vma_pages(low);
}

/*
 * The anon_vma of a neighbour that @vma may adopt, or NULL. Only a neighbour whose chain is that one anon_vma: adopting one
 * out of a longer chain would leave the two with the same anon_vma and different chains, and a later merge would drop
 * an ancestor that still has folios here (races S3-R6, B62).
 */
static struct anon_vma *find_mergeable_anon_vma(const struct vma *vma)
{
	struct vma *near[2] = { vma_tree_find(&vma->mm->tree, vma->end),
				vma_tree_find_below(&vma->mm->tree, vma->start) };

	for (unsigned i = 0; i < 2; i++) {
		const struct vma *other = near[i];
		struct anon_vma *anon_vma;

		if (!other || !(i == 0 ? anon_vma_compatible(vma, other) : anon_vma_compatible(other, vma)))
			continue;
		anon_vma = smp_load_acquire(&other->anon_vma);
		if (anon_vma && chain_is_singular(other))
			return anon_vma;
	}
	return NULL;
}

int anon_vma_prepare(struct quire_cpu *cpu, struct vma *vma)
{
	struct anon_vma *anon_vma, *fresh = NULL;
	struct anon_vma_chain *avc;

	if (READ_ONCE(vma->anon_vma))
		return 0;
	mmap_assert_locked(vma->mm);
	avc = cache_alloc(cpu, CACHE_AVC);
	anon_vma = find_mergeable_anon_vma(vma);
	if (!anon_vma)
		anon_vma = fresh = anon_vma_alloc(cpu, NULL);
	if (avc && anon_vma) {
		anon_vma_lock_write(anon_vma);
		spin_lock(&vma->mm->page_table_lock); /* another thread may be here with the mmap lock for read too */
		if (!vma->anon_vma) {
			chain_link(vma, avc, anon_vma);
			anon_vma->num_active_vmas++;
			smp_store_release(&vma->anon_vma, anon_vma);
			fresh = NULL;
			avc = NULL;
		}
		spin_unlock(&vma->mm->page_table_lock);
		anon_vma_unlock_write(anon_vma);
	}
	if (fresh)
		put_anon_vma(cpu, fresh);
	if (avc)
		cache_free(cpu, CACHE_AVC, avc);
	return vma->anon_vma ? 0 : -ENOMEM;
}

static void chain_free_all(struct quire_cpu *cpu, struct list_head *unused)
{
	struct anon_vma_chain *avc, *next;

	list_for_each_entry_safe(avc, next, unused, same_vma)
		cache_free(cpu, CACHE_AVC, avc);
}

/* As many empty links as @src has, on @links; none when there is no memory. */
static int chain_alloc_like(struct quire_cpu *cpu, const struct vma *src, struct list_head *links)
{
	struct anon_vma_chain *avc;

	INIT_LIST_HEAD(links);
	list_for_each_entry(avc, &src->anon_vma_chain, same_vma) {
		struct anon_vma_chain *link = cache_alloc(cpu, CACHE_AVC);

		if (!link) {
			chain_free_all(cpu, links);
			return -ENOMEM;
		}
		list_add(&link->same_vma, links);
	}
	return 0;
}

/* May a child take over @anon_vma as its own? Only when no VMA uses it and at most one child remains (race B62: two
 * separate counts, for one count cannot tell the two cases apart). A root counts itself and so never is. */
static bool anon_vma_abandoned(const struct anon_vma *anon_vma)
{
	return anon_vma->num_children < 2 && anon_vma->num_active_vmas == 0;
}

/* Links @dst to all of @src's anon_vmas, oldest first so that the order is kept. Returns an abandoned one, if any. */
static struct anon_vma *chain_copy(struct vma *dst, const struct vma *src, struct list_head *links)
{
	struct anon_vma *reusable = NULL;

	for (struct list_head *at = src->anon_vma_chain.prev; at != &src->anon_vma_chain; at = at->prev) {
		struct anon_vma *anon_vma = list_entry(at, struct anon_vma_chain, same_vma)->anon_vma;
		struct anon_vma_chain *link = list_first_entry(links, struct anon_vma_chain, same_vma);

		list_del_init(&link->same_vma);
		chain_link(dst, link, anon_vma);
		if (!reusable && anon_vma_abandoned(anon_vma))
			reusable = anon_vma;
	}
	return reusable;
}

int anon_vma_clone(struct quire_cpu *cpu, struct vma *dst, struct vma *src)
{
	struct list_head links;

	if (!src->anon_vma)
		return 0;
	if (chain_alloc_like(cpu, src, &links))
		return -ENOMEM;
	anon_vma_lock_write(src->anon_vma);
	chain_copy(dst, src, &links);
	src->anon_vma->num_active_vmas++;
	WRITE_ONCE(dst->anon_vma, src->anon_vma);
	anon_vma_unlock_write(src->anon_vma);
	return 0;
}

int anon_vma_fork(struct quire_cpu *cpu, struct vma *vma, struct vma *parent)
{
	struct anon_vma *fresh, *own;
	struct anon_vma_chain *avc;
	struct list_head links;

	if (!parent->anon_vma)
		return 0;
	fresh = anon_vma_alloc(cpu, parent->anon_vma);
	if (!fresh)
		return -ENOMEM;
	avc = cache_alloc(cpu, CACHE_AVC);
	if (!avc || chain_alloc_like(cpu, parent, &links)) {
		if (avc)
			cache_free(cpu, CACHE_AVC, avc);
		put_anon_vma(cpu, fresh);
		return -ENOMEM;
	}
	anon_vma_lock_write(parent->anon_vma);
	own = chain_copy(vma, parent, &links);
	if (!own) {
		own = fresh;
		fresh = NULL;
		chain_link(vma, avc, own);
		avc = NULL;
		own->parent->num_children++;
	}
	own->num_active_vmas++;
	WRITE_ONCE(vma->anon_vma, own);
	anon_vma_unlock_write(parent->anon_vma);
	if (fresh)
		put_anon_vma(cpu, fresh);
	if (avc)
		cache_free(cpu, CACHE_AVC, avc);
	return 0;
}

void unlink_anon_vmas(struct quire_cpu *cpu, struct vma *vma)
{
	struct anon_vma_chain *avc, *next;
	struct anon_vma *anon_vma = vma->anon_vma;

	if (!anon_vma)
		return;
	anon_vma_lock_write(anon_vma);
	list_for_each_entry_safe(avc, next, &vma->anon_vma_chain, same_vma) {
		interval_tree_remove(&avc->anon_vma->tree, &avc->node);
		if (interval_tree_empty(&avc->anon_vma->tree)) {
			avc->anon_vma->parent->num_children--;
			continue; /* this was the last link: its reference is put below, without the lock that is in the root */
		}
		list_del_init(&avc->same_vma);
		cache_free(cpu, CACHE_AVC, avc);
	}
	anon_vma->num_active_vmas--;
	WRITE_ONCE(vma->anon_vma, NULL);
	anon_vma_unlock_write(anon_vma);
	list_for_each_entry_safe(avc, next, &vma->anon_vma_chain, same_vma) {
		put_anon_vma(cpu, avc->anon_vma);
		cache_free(cpu, CACHE_AVC, avc);
	}
	INIT_LIST_HEAD(&vma->anon_vma_chain);
}

/* ------------------------------------------------------------------------------------------------ from a folio */

/* The anon_vma that the folio names, with a reference, the folio having been mapped after the reference was taken: so the
 * anon_vma is the folio's and not a recycled one. */
static struct anon_vma *folio_get_anon_vma(struct quire_cpu *cpu, struct folio *folio, u64 *mapping_out)
{
	struct anon_vma *anon_vma = NULL;
	u64 mapping;

	rcu_read_lock(cpu);
	mapping = READ_ONCE(folio->mapping);
	if ((mapping & FOLIO_MAPPING_FLAGS) == FOLIO_MAPPING_ANON && folio_mapped(folio)) {
		anon_vma = (struct anon_vma *)(uintptr_t)(mapping & ~FOLIO_MAPPING_FLAGS);
		if (!anon_vma_try_get(anon_vma))
			anon_vma = NULL;
	}
	rcu_read_unlock(cpu);
	*mapping_out = mapping;
	if (anon_vma && !folio_mapped(folio)) {
		put_anon_vma(cpu, anon_vma);
		anon_vma = NULL;
	}
	return anon_vma;
}

struct anon_vma *folio_lock_anon_vma_read(struct quire_cpu *cpu, struct folio *folio)
{
	u64 mapping;
	struct anon_vma *anon_vma = folio_get_anon_vma(cpu, folio, &mapping);

	if (!anon_vma)
		return NULL;
	anon_vma_lock_read(anon_vma);
	/* While we slept it may have been unmapped, or given another anon_vma (S3-R4). */
	if (folio_mapped(folio) && READ_ONCE(folio->mapping) == mapping)
		return anon_vma;
	anon_vma_unlock_read(anon_vma);
	put_anon_vma(cpu, anon_vma);
	return NULL;
}
