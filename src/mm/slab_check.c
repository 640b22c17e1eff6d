/* SPDX-License-Identifier: MIT */
/*
 * kmem_cache_validate: bitmaps, counts, lists and stacks of a cache agree, and its frames know their slab. Separate because nothing
 * here runs but in tests and on request; the machine is quiescent, so it takes no locks.
 */
#include "mm/instance.h"

struct slab_check {
	struct kmem_cache *cache;
	violation_fn report;
	void *arg;
	unsigned violations;
	u64 nr_slabs, nr_out; /* found; objects not free in their slab */
};

static void violation(struct slab_check *check, const char *what, u64 a, u64 b)
{
	check->violations++;
	if (check->report)
		check->report(check->arg, what, a, b);
}

static u32 slab_count_free(const struct slab *slab)
{
	u32 nr = 0;

	for (u32 i = 0; i < slab->nr; i++)
		nr += (u32)(slab->free[i / 64] >> i % 64 & 1);
	return nr;
}

static void check_slab(struct slab_check *check, const struct slab *slab)
{
	struct quire *q = check->cache->q;
	u64 pfn = virt_to_pfn(q, slab);
	u64 expected = page_word_mk(PAGE_SLAB, slab);

	if (slab->cache != check->cache)
		violation(check, "slab of another cache: slab, cache", (u64)(uintptr_t)slab,
			  (u64)(uintptr_t)slab->cache);
	if (slab_count_free(slab) != slab->nr_free)
		violation(check, "free objects of a slab: counted, found", slab->nr_free, slab_count_free(slab));
	for (u64 i = 0; i < 1ull << slab->order; i++) {
		if (READ_ONCE(q->pages[pfn + i].word) != expected)
			violation(check, "slab's frame: pfn, descriptor", pfn + i, READ_ONCE(q->pages[pfn + i].word));
	}
	check->nr_slabs++;
	check->nr_out += slab->nr - slab->nr_free;
}

static void check_listed(struct slab_check *check, const struct slab *slab, bool right_list)
{
	if (!right_list)
		violation(check, "slab on the wrong list: slab, free", (u64)(uintptr_t)slab, slab->nr_free);
	check_slab(check, slab);
}

/* Returns how many slabs are empty. */
static u32 check_lists(struct slab_check *check)
{
	const struct kmem_cache *cache = check->cache;
	const struct slab *slab;
	u32 nr_empty = 0;

	list_for_each_entry(slab, &cache->partial, list)
		check_listed(check, slab, slab->nr_free > 0 && slab->nr_free < slab->nr);
	list_for_each_entry(slab, &cache->full, list)
		check_listed(check, slab, slab->nr_free == 0);
	list_for_each_entry(slab, &cache->empty, list) {
		check_listed(check, slab, slab->nr_free == slab->nr);
		nr_empty++;
	}
	return nr_empty;
}

/* The bitmap word and bit of an object that lies in a slab of this cache; NULL: it does not. */
static u64 *object_bit(struct slab_check *check, const void *object, u64 *bit)
{
	struct kmem_cache *cache = check->cache;
	u64 word = READ_ONCE(cache->q->pages[virt_to_pfn(cache->q, object)].word);
	struct slab *slab = page_word_ptr(word);
	u32 index;

	if (page_word_type(word) != PAGE_SLAB || slab->cache != cache)
		return NULL;
	index = kmem_cache_index(cache, slab, object);
	if (index >= slab->nr || kmem_cache_object(cache, slab, index) != object)
		return NULL;
	*bit = 1ull << index % 64;
	return &slab->free[index / 64];
}

/* Objects on stacks are not free in their slab, and each is there once: we set their bits as we go. */
static void check_stack_mark(struct slab_check *check, const struct kmem_cache_cpu *stack)
{
	for (u32 i = 0; i < stack->count; i++) {
		u64 bit;
		u64 *word = object_bit(check, stack->object[i], &bit);

		if (!word)
			violation(check, "no object of this cache on a stack: address, index",
				  (u64)(uintptr_t)stack->object[i], i);
		else if (*word & bit)
			violation(check, "object free twice: address, index", (u64)(uintptr_t)stack->object[i], i);
		else
			*word |= bit;
	}
}

static void check_stack_unmark(struct slab_check *check, const struct kmem_cache_cpu *stack)
{
	for (u32 i = 0; i < stack->count; i++) {
		u64 bit;
		u64 *word = object_bit(check, stack->object[i], &bit);

		if (word)
			*word &= ~bit;
	}
}

unsigned kmem_cache_validate(struct kmem_cache *cache, violation_fn report, void *arg)
{
	struct slab_check check = { .cache = cache, .report = report, .arg = arg };
	u32 nr_empty = check_lists(&check);
	u64 nr_stacked = 0;

	if (nr_empty != cache->nr_empty)
		violation(&check, "empty slabs: counted, found", cache->nr_empty, nr_empty);
	if (check.nr_slabs != cache->nr_slabs)
		violation(&check, "slabs: counted, found", cache->nr_slabs, check.nr_slabs);
	if (check.nr_out != cache->nr_active)
		violation(&check, "objects out of slabs: counted, found", cache->nr_active, check.nr_out);
	for (u32 id = 0; id <= cache->q->nr_cpus; id++) {
		nr_stacked += cache->cpus[id].count;
		check_stack_mark(&check, &cache->cpus[id]);
	}
	for (u32 id = 0; id <= cache->q->nr_cpus; id++)
		check_stack_unmark(&check, &cache->cpus[id]);
	if (nr_stacked > cache->nr_active)
		violation(&check, "objects on stacks and out of slabs: stacked, out", nr_stacked, cache->nr_active);
	return check.violations;
}
