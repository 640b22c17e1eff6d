/* SPDX-License-Identifier: MIT */
/*
 * Life and references of folios.
 *
 * A folio is found without locks by whoever kept a pointer to it or to its frame: such a finder takes a reference unless the
 * count is zero, then checks that the folio is still what it looked for. So the order here matters:
 *
 *   alloc   fields, then descriptors, then the count becomes 1 (release)
 *   free    the count is 0, then descriptors stop naming the folio, then frames and folio may be had by others
 *
 * Whoever gets a reference on a recycled folio therefore sees all its new fields, and its old descriptors changed.
 */
#include "mm/folio.h"
#include "mm/percpu.h"

/* What must not be left when a folio is freed. PG_dirty may: nobody wants the contents any more. */
#define PG_CHECK_AT_FREE                                                                                               \
	(1ull << PG_locked | 1ull << PG_waiters | 1ull << PG_writeback | 1ull << PG_lru | 1ull << PG_swapcache |       \
	 1ull << PG_mlocked | 1ull << PG_unevictable | 1ull << PG_private)

#define BULK_CHUNK 64u

/* ------------------------------------------------------------------------------------- references */

bool folio_try_get(struct folio *folio)
{
	u64 refs = READ_ONCE(folio->refs);

	do {
		if (!REFS_REFCOUNT(refs))
			return false;
	} while (!__atomic_compare_exchange_n(&folio->refs, &refs, refs + FOLIO_REF, true, __ATOMIC_SEQ_CST,
					      __ATOMIC_RELAXED));
	return true;
}

static inline void folio_drop(struct quire_cpu *cpu, struct folio *folio, u32 nr)
{
	if (folio_put_many_testzero(folio, nr))
		folio_free(cpu, folio);
}

void folio_put(struct quire_cpu *cpu, struct folio *folio)
{
	folio_drop(cpu, folio, 1);
}

void folio_put_many(struct quire_cpu *cpu, struct folio *folio, u32 nr)
{
	folio_drop(cpu, folio, nr);
}

bool folio_freeze(struct folio *folio, u32 expected)
{
	u64 refs = expected;

	return __atomic_compare_exchange_n(&folio->refs, &refs, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

void folio_unfreeze(struct folio *folio, u32 count)
{
	VM_BUG_ON2(READ_ONCE(folio->refs) != 0, folio->pfn, READ_ONCE(folio->refs));
	VM_BUG_ON(!count);
	smp_store_release(&folio->refs, (u64)count);
}

struct folio *folio_try_get_pfn(struct quire_cpu *cpu, u64 pfn)
{
	const u64 identity = PAGE_PTR_MASK | PAGE_TYPE_MASK;
	struct page *page = pfn_to_page(cpu->q, pfn);
	u64 word = smp_load_acquire(&page->word);
	struct folio *folio = page_word_ptr(word);

	if (page_word_type(word) != PAGE_FOLIO || !folio_try_get(folio))
		return NULL;
	/* Pairs with the release of the count in folio_alloc: if it is another's folio now, the descriptor says so. */
	if ((READ_ONCE(page->word) & identity) == (word & identity))
		return folio;
	folio_put(cpu, folio);
	return NULL;
}

/* ------------------------------------------------------------------------------------- life */

/* What free folios are like, so that allocation need not see to it: unreferenced, on no list, not mlocked. */
void folio_ctor(void *object)
{
	struct folio *folio = object;

	memset(folio, 0, sizeof(*folio));
	INIT_LIST_HEAD(&folio->lru);
}

/* Everything but the descriptors. Others may be looking at the count, and only at that: it is 0 until the end. */
static inline void folio_init(struct folio *folio, u64 pfn, unsigned order, u32 node)
{
	VM_BUG_ON2(READ_ONCE(folio->refs) != 0, folio->pfn, READ_ONCE(folio->refs));
	VM_BUG_ON2(folio->mlock_count || !list_empty(&folio->lru), pfn, folio->mlock_count);
	WRITE_ONCE(folio->flags, 0);
	WRITE_ONCE(folio->mapping, 0);
	folio->index = 0;
	folio->swap = 0;
	folio->pfn = (u32)pfn;
	folio->order = (u8)order;
	folio->node = (u8)node;
}

static inline u32 frame_node_id(struct quire_cpu *cpu, u64 pfn)
{
	return pcp_is_local(&cpu->pcp, pfn) ? cpu->node : pfn_node(cpu->q, pfn)->id;
}

static inline void folio_publish(struct folio *folio)
{
	smp_store_release(&folio->refs, FOLIO_REF);
}

/* The descriptor of a folio's only frame. */
static inline void page_set_folio_single(struct quire *q, u64 pfn, struct folio *folio, bool exclusive)
{
	smp_store_release(&q->pages[pfn].word, page_word_mk(PAGE_FOLIO, folio) | (u64)exclusive << PAGE_EXCLUSIVE_BIT);
}

static noinline struct folio *folio_alloc_slow(struct quire_cpu *cpu, unsigned order, unsigned gfp, bool exclusive)
{
	struct kmem_cache *cache = &cpu->q->cache[CACHE_FOLIO];
	struct folio *folio = kmem_cache_alloc_gfp(cpu, cache, gfp);
	u64 pfn;

	if (unlikely(!folio))
		return NULL;
	pfn = frame_alloc_untyped(cpu, order, gfp);
	if (unlikely(!pfn)) {
		kmem_cache_free(cpu, cache, folio);
		return NULL;
	}
	count_event(cpu, (enum vm_event)(FOLIO_ALLOC_0 + order), 1);
	folio_init(folio, pfn, order, frame_node_id(cpu, pfn));
	page_set_folio(cpu->q, pfn, order, folio, exclusive);
	folio_publish(folio);
	return folio;
}

/* A single frame as it is, of the own node, and both stacks have one: nothing is called, so no register is saved. The rest
 * is slow anyway. */
struct folio *folio_alloc(struct quire_cpu *cpu, unsigned order, unsigned gfp, bool exclusive)
{
	struct pcp *pcp = &cpu->pcp;
	struct pcp_list *list = &pcp->list[0];
	struct folio *folio;
	u64 pfn;

	if (unlikely(!cpu->folios->count || !list->count) || order || gfp & GFP_ZERO || poison_enabled(cpu->q))
		return folio_alloc_slow(cpu, order, gfp, exclusive);
	pfn = list->pfn[list->count - 1];
	if (!pcp_is_local(pcp, pfn))
		return folio_alloc_slow(cpu, order, gfp, exclusive);
	pcp_pop(list);
	folio = slab_stack_pop(cpu->folios);
	count_event(cpu, FOLIO_ALLOC_0, 1);
	count_event(cpu, PGALLOC, 1);
	folio_init(folio, pfn, 0, cpu->node);
	page_set_folio_single(cpu->q, pfn, folio, exclusive);
	folio_publish(folio);
	return folio;
}

/* At most BULK_CHUNK at once. */
static unsigned folio_alloc_chunk(struct quire_cpu *cpu, unsigned nr, struct folio **folios, unsigned gfp,
				  bool exclusive)
{
	struct kmem_cache *cache = &cpu->q->cache[CACHE_FOLIO];
	u64 pfns[BULK_CHUNK];
	unsigned got;

	if (unlikely(!kmem_cache_alloc_bulk_gfp(cpu, cache, nr, (void **)folios, gfp)))
		return 0;
	/* They come while the frames are found and zeroed. */
	for (unsigned i = 0; i < nr; i++)
		__builtin_prefetch(folios[i], 1);
	got = frame_alloc_bulk_untyped(cpu, nr, pfns, gfp);
	while (unlikely(nr > got))
		kmem_cache_free(cpu, cache, folios[--nr]);
	for (unsigned i = 0; i < got; i++) {
		folio_init(folios[i], pfns[i], 0, frame_node_id(cpu, pfns[i]));
		page_set_folio_single(cpu->q, pfns[i], folios[i], exclusive);
		folio_publish(folios[i]);
	}
	count_event(cpu, FOLIO_ALLOC_0, got);
	return got;
}

unsigned folio_alloc_bulk(struct quire_cpu *cpu, unsigned nr, struct folio **folios, unsigned gfp, bool exclusive)
{
	unsigned done = 0;

	while (done < nr) {
		unsigned want = nr - done < BULK_CHUNK ? nr - done : BULK_CHUNK;
		unsigned got = folio_alloc_chunk(cpu, want, folios + done, gfp, exclusive);

		done += got;
		if (got == want)
			continue;
		/* Memory is short: there may still be some for one, though not for the objects of all. */
		folios[done] = folio_alloc(cpu, 0, gfp, exclusive);
		if (!folios[done])
			break;
		done++;
	}
	return done;
}

/*
 * "Bad page state": what a live folio may have and a free one must not. The counts are one word, so one test covers references
 * and mappings; a folio in the page cache or swap cache has references from there.
 */
static inline void folio_check_at_free(const struct folio *folio)
{
	u64 flags = READ_ONCE(folio->flags);
	u64 refs = READ_ONCE(folio->refs);

	BUG_ON2(refs != 0 /* freed while referenced or mapped: pfn, counts */, folio->pfn, refs);
	BUG_ON2(flags & PG_CHECK_AT_FREE /* freed while in use: pfn, flags */, folio->pfn, flags);
	VM_BUG_ON2(folio->mlock_count != 0, folio->pfn, folio->mlock_count);
	VM_BUG_ON2(!folio_anon(folio) && folio->mapping, folio->pfn, folio->mapping);
	VM_BUG_ON2(!list_empty(&folio->lru), folio->pfn, flags);
}

static noinline void folio_free_slow(struct quire_cpu *cpu, struct folio *folio)
{
	frame_free(cpu, folio->pfn, folio->order);
	kmem_cache_free(cpu, &cpu->q->cache[CACHE_FOLIO], folio);
}

/* One of the stacks is full. */
static noinline void folio_free_trim(struct quire_cpu *cpu, struct pcp_list *list)
{
	if (list->count > list->high)
		pcp_trim(cpu->q, list, 0);
	if (cpu->folios->count == cpu->folios->full)
		slab_stack_trim(cpu, &cpu->q->cache[CACHE_FOLIO], cpu->folios);
}

/* First the frames, whose descriptors then no longer name the folio, then the folio. */
void folio_free(struct quire_cpu *cpu, struct folio *folio)
{
	struct pcp_list *list;
	u64 pfn = folio->pfn;
	bool full;

	folio_check_at_free(folio);
	if (folio->order || poison_enabled(cpu->q)) {
		folio_free_slow(cpu, folio);
		return;
	}
	/* The rest is frame_free and kmem_cache_free, with what may call something at the end. */
	count_event(cpu, PGFREE, 1);
	page_set_cached(cpu->q, pfn, 0);
	list = pcp_list_of(&cpu->pcp, pfn);
	full = pcp_push(list, pfn);
	full |= slab_stack_push(cpu->folios, folio);
	if (unlikely(full))
		folio_free_trim(cpu, list);
}
