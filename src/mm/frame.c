/* SPDX-License-Identifier: MIT */
/*
 * Handing out frames: each CPU's stacks of blocks, and behind them the nodes' buddy systems. The common case, a single frame
 * from or to the own CPU's stack, touches that stack and the frame's descriptor and nothing else.
 *
 * State of a block's descriptors (head, tails) on its way, and who owns it meanwhile:
 *
 *   FREE, FREE_TAIL  ──refill──>  CACHED, FREE_TAIL  ──alloc──>  RAW everywhere, then typed by the caller
 *      (node lock)   <──flush──     (owning CPU)     <──free───
 */
#include "mm/buddy.h"
#include "mm/percpu.h"

#define POISON 0xaaaaaaaaaaaaaaaaull /* what a free frame is full of when poisoning is on */

/* ------------------------------------------------------------------------------------- debugging: poison, frees of what is free */

static void poison_frames(struct quire *q, u64 pfn, unsigned order)
{
	memset(pfn_to_virt(q, pfn), (int)(POISON & 0xff), PAGE_SIZE << order);
}

/* Somebody wrote to a frame that was free. A frame never used since boot is zero instead of poisoned. */
static void poison_check(struct quire *q, u64 pfn)
{
	const u64 *word = (const u64 *)(const void *)pfn_to_virt(q, pfn);
	u64 expected = word[0] ? POISON : 0;

	for (u64 i = 0; i < PAGE_SIZE / sizeof(*word); i++)
		BUG_ON2(word[i] != expected /* free frame written to: pfn, offset */, pfn, i * sizeof(*word));
}

void frame_alloc_debug(struct quire *q, u64 pfn, unsigned order)
{
	for (u64 i = 0; i < 1ull << order; i++)
		poison_check(q, pfn + i);
}

static void frame_assert_in_use(struct quire *q, u64 pfn, unsigned order)
{
	for (u64 i = 0; i < 1ull << order; i++) {
		u64 word = READ_ONCE(q->pages[pfn + i].word);

		BUG_ON2(page_word_type(word) < PAGE_FOLIO /* freed twice, or reserved: pfn, descriptor */, pfn + i,
			word);
	}
}

void frame_free_debug(struct quire *q, u64 pfn, unsigned order)
{
	frame_assert_in_use(q, pfn, order);
	poison_frames(q, pfn, order);
}

/* ------------------------------------------------------------------------------------- nodes */

struct node *pfn_node(struct quire *q, u64 pfn)
{
	struct node *node = q->nodes;

	while (pfn >= node->end_pfn)
		node++;
	return node;
}

/*
 * The @nth node for a CPU in order of distance, which is the difference of their numbers: own, next above, next below, second next
 * above... n runs over [0, 2 * nr_nodes); NULL where there is no such node.
 */
static struct node *node_by_distance(const struct quire_cpu *cpu, u32 nth)
{
	u32 step = (nth + 1) / 2;

	if (nth & 1)
		return cpu->node + step < cpu->q->nr_nodes ? &cpu->q->nodes[cpu->node + step] : NULL;
	return cpu->node >= step ? &cpu->q->nodes[cpu->node - step] : NULL;
}

/* One block straight from the nearest node that has one. */
static u64 node_alloc(struct quire_cpu *cpu, unsigned order)
{
	for (u32 nth = 0; nth < 2 * cpu->q->nr_nodes; nth++) {
		struct node *node = node_by_distance(cpu, nth);
		u64 pfn;

		if (!node)
			continue;
		spin_lock(&node->lock);
		pfn = buddy_alloc(cpu->q, node, order);
		spin_unlock(&node->lock);
		if (pfn)
			return pfn;
	}
	return 0;
}

static void node_free(struct quire_cpu *cpu, u64 pfn, unsigned order)
{
	struct node *node = pfn_node(cpu->q, pfn);

	spin_lock(&node->lock);
	buddy_free(cpu->q, node, pfn, order);
	spin_unlock(&node->lock);
}

/* Single frames for a bulk allocation, in one visit of each node: as many as there are, up to @nr. */
static unsigned node_alloc_bulk(struct quire_cpu *cpu, unsigned nr, u64 *pfns)
{
	unsigned got = 0;

	for (u32 nth = 0; nth < 2 * cpu->q->nr_nodes && got < nr; nth++) {
		struct node *node = node_by_distance(cpu, nth);

		if (!node)
			continue;
		spin_lock(&node->lock);
		while (got < nr) {
			u32 run;
			u64 pfn = buddy_alloc_run(cpu->q, node, 0, nr - got, &run);

			if (!pfn)
				break;
			for (u32 i = 0; i < run; i++)
				pfns[got++] = pfn + i;
		}
		spin_unlock(&node->lock);
	}
	return got;
}

/* ------------------------------------------------------------------------------------- per-CPU stacks */

/* One batch from one node. Pushed such that pops ascend within what one free block gave. */
static bool pcp_refill_from(struct quire *q, struct node *node, struct pcp_list *list, unsigned order)
{
	u32 count = list->count;
	u32 want = list->batch;

	spin_lock(&node->lock);
	while (want) {
		u32 run;
		u64 pfn = buddy_alloc_run(q, node, order, want, &run);

		if (!pfn)
			break;
		want -= run;
		for (pfn += (u64)run << order; run; run--)
			list->pfn[count++] = (u32)(pfn -= 1ull << order);
	}
	spin_unlock(&node->lock);
	WRITE_ONCE(list->count, count);
	return count != 0;
}

noinline bool pcp_refill(struct quire_cpu *cpu, struct pcp_list *list, unsigned order)
{
	for (u32 nth = 0; nth < 2 * cpu->q->nr_nodes; nth++) {
		struct node *node = node_by_distance(cpu, nth);

		if (node && pcp_refill_from(cpu->q, node, list, order))
			return true;
	}
	return false;
}

/* How many of the blocks at @pfn are adjacent, rising or falling, and the lowest: what was freed in order goes back as a few large
 * blocks. */
static u32 pcp_run(const u32 *pfn, u32 nr, unsigned order, u64 *start)
{
	u32 step = 1u << order;
	u32 n = 1;

	while (n < nr && pfn[n] == pfn[0] + n * step)
		n++;
	*start = pfn[0];
	if (n > 1)
		return n;
	while (n < nr && pfn[n] == pfn[0] - n * step)
		n++;
	*start = pfn[n - 1];
	return n;
}

/* Returns the @nr oldest blocks of a stack to their nodes. */
static void pcp_flush(struct quire *q, struct pcp_list *list, unsigned order, u32 nr)
{
	u32 done = 0;

	while (done < nr) {
		struct node *node = pfn_node(q, list->pfn[done]);

		spin_lock(&node->lock);
		while (done < nr && pfn_node(q, list->pfn[done]) == node) {
			u64 start;
			u32 run = pcp_run(list->pfn + done, nr - done, order, &start);

			/* Frames may be adjacent across the border of two nodes. */
			if (start < node->start_pfn || start + ((u64)run << order) > node->end_pfn) {
				run = 1;
				start = list->pfn[done];
			}
			buddy_free_range(q, node, start, start + ((u64)run << order));
			done += run;
		}
		spin_unlock(&node->lock);
	}
	memmove(list->pfn, list->pfn + nr, (list->count - nr) * sizeof(*list->pfn));
	WRITE_ONCE(list->count, list->count - nr);
}

/*
 * How many blocks to return: a batch, or more if the cut would go through an aligned batch of adjacent blocks, so that
 * they are one block in the buddy system at once instead of pieces that are joined again later.
 */
static u32 pcp_trim_count(const struct pcp_list *list, unsigned order)
{
	u32 step = 1u << order;
	u32 mask = (list->batch << order) - 1;
	u32 nr = list->count < list->batch ? list->count : list->batch;

	while (nr < list->count && list->pfn[nr] == list->pfn[nr - 1] + step && list->pfn[nr] & mask)
		nr++;
	while (nr < list->count && list->pfn[nr] == list->pfn[nr - 1] - step && list->pfn[nr - 1] & mask)
		nr++;
	return nr;
}

noinline void pcp_trim(struct quire *q, struct pcp_list *list, unsigned order)
{
	pcp_flush(q, list, order, pcp_trim_count(list, order));
}

static void pcp_huge_drain(struct quire_cpu *cpu)
{
	struct pcp *pcp = &cpu->pcp;

	while (pcp->huge_count) {
		WRITE_ONCE(pcp->huge_count, pcp->huge_count - 1);
		node_free(cpu, pcp->huge[pcp->huge_count], MAX_FOLIO_ORDER);
	}
}

void pcp_drain(struct quire_cpu *cpu)
{
	struct pcp *pcp = &cpu->pcp;

	for (unsigned order = 0; order < PCP_ORDERS; order++)
		pcp_flush(cpu->q, &pcp->list[order], order, pcp->list[order].count);
	pcp_flush(cpu->q, &pcp->remote, 0, pcp->remote.count);
	pcp_huge_drain(cpu);
}

/* ------------------------------------------------------------------------------------- allocation */

/* A block from the nodes, or from a stack that is refilled from them; 0 when they have none. Never sleeps. */
static noinline u64 frame_get_shared(struct quire_cpu *cpu, unsigned order)
{
	if (order >= PCP_ORDERS)
		return node_alloc(cpu, order);
	return pcp_refill(cpu, &cpu->pcp.list[order], order) ? pcp_pop(&cpu->pcp.list[order]) : 0;
}

/* A block from the stacks or the nodes; 0 when neither has one. Never sleeps. */
static inline u64 frame_get(struct quire_cpu *cpu, unsigned order)
{
	struct pcp *pcp = &cpu->pcp;

	if (likely(order < PCP_ORDERS)) {
		if (likely(pcp->list[order].count))
			return pcp_pop(&pcp->list[order]);
	} else if (order == MAX_FOLIO_ORDER && pcp->huge_count) {
		WRITE_ONCE(pcp->huge_count, pcp->huge_count - 1);
		return pcp->huge[pcp->huge_count];
	}
	return frame_get_shared(cpu, order);
}

/*
 * Nothing is free where we may look. Memory may be in this CPU's own stacks, as other orders or as empty slabs, and
 * may be waiting for readers (page tables, type-stable slabs).
 */
static noinline u64 frame_get_slow(struct quire_cpu *cpu, unsigned order)
{
	u64 pfn = 0;

	for (unsigned round = 0; round < 2 && !pfn; round++) {
		cpu_shrink(cpu);
		pfn = frame_get(cpu, order);
		if (!pfn) {
			rcu_barrier(cpu);
			pfn = frame_get(cpu, order);
		}
	}
	return pfn;
}

/* What every allocated block goes through, wherever it came from. */
static inline void frame_prepare(struct quire *q, u64 pfn, unsigned order, unsigned gfp)
{
	if (poison_enabled(q))
		frame_alloc_debug(q, pfn, order);
	if (gfp & GFP_ZERO)
		clear_pages(pfn_to_virt(q, pfn), PAGE_SIZE << order);
}

u64 frame_alloc_untyped(struct quire_cpu *cpu, unsigned order, unsigned gfp)
{
	u64 pfn = frame_get(cpu, order);

	if (unlikely(!pfn)) {
		pfn = gfp & GFP_NORETRY ? 0 : frame_get_slow(cpu, order);
		if (!pfn)
			return 0;
	}
	count_event(cpu, PGALLOC, 1ull << order);
	frame_prepare(cpu->q, pfn, order, gfp);
	return pfn;
}

#define CLEAR_CHUNK 64u

/* Pages that are zeroed in one go need not be adjacent. */
static void frame_clear_bulk(struct quire *q, const u64 *pfns, unsigned nr)
{
	void *pages[CLEAR_CHUNK];

	for (unsigned done = 0, chunk; done < nr; done += chunk) {
		chunk = nr - done < CLEAR_CHUNK ? nr - done : CLEAR_CHUNK;
		for (unsigned i = 0; i < chunk; i++)
			pages[i] = pfn_to_virt(q, pfns[done + i]);
		clear_pages_scattered(pages, chunk);
	}
}

static void frame_prepare_bulk(struct quire *q, const u64 *pfns, unsigned nr, unsigned gfp)
{
	for (unsigned i = 0; poison_enabled(q) && i < nr; i++)
		frame_alloc_debug(q, pfns[i], 0);
	if (gfp & GFP_ZERO)
		frame_clear_bulk(q, pfns, nr);
}

unsigned frame_alloc_bulk_untyped(struct quire_cpu *cpu, unsigned nr, u64 *pfns, unsigned gfp)
{
	struct pcp_list *list = &cpu->pcp.list[0];
	unsigned got = 0;

	/* A small rest is worth refilling the stack for; a large one comes from the node directly. */
	while (got < nr && (list->count || (nr - got < list->batch && pcp_refill(cpu, list, 0)))) {
		pfns[got++] = pcp_pop(list);
	}
	if (got < nr)
		got += node_alloc_bulk(cpu, nr - got, pfns + got);
	while (unlikely(got < nr) && !(gfp & GFP_NORETRY)) {
		u64 pfn = frame_get_slow(cpu, 0);

		if (!pfn)
			break;
		pfns[got++] = pfn;
	}
	count_event(cpu, PGALLOC, got);
	frame_prepare_bulk(cpu->q, pfns, got, gfp);
	return got;
}

/* ------------------------------------------------------------------------------------- descriptors */

static inline void page_set_words(struct quire *q, u64 pfn, u64 nr, u64 word)
{
	for (u64 i = 0; i < nr; i++)
		smp_store_release(&q->pages[pfn + i].word, word);
}

void page_set_folio(struct quire *q, u64 pfn, unsigned order, struct folio *folio, bool exclusive)
{
	page_set_words(q, pfn, 1ull << order, page_word_mk(PAGE_FOLIO, folio) | (exclusive ? PAGE_EXCLUSIVE : 0));
}

void page_set_table(struct quire *q, u64 pfn, struct ptdesc *pt)
{
	page_set_words(q, pfn, 1, page_word_mk(PAGE_TABLE, pt));
}

void page_set_slab(struct quire *q, u64 pfn, unsigned order, void *slab)
{
	page_set_words(q, pfn, 1ull << order, page_word_mk(PAGE_SLAB, slab));
}

u64 frame_alloc(struct quire_cpu *cpu, unsigned order, unsigned gfp)
{
	u64 pfn = frame_alloc_untyped(cpu, order, gfp);

	if (pfn)
		page_set_words(cpu->q, pfn, 1ull << order, PAGE_RAW);
	return pfn;
}

unsigned frame_alloc_bulk(struct quire_cpu *cpu, unsigned nr, u64 *pfns, unsigned gfp)
{
	unsigned got = frame_alloc_bulk_untyped(cpu, nr, pfns, gfp);

	for (unsigned i = 0; i < got; i++)
		page_set_words(cpu->q, pfns[i], 1, PAGE_RAW);
	return got;
}

/* ------------------------------------------------------------------------------------- freeing */

/* Where blocks of several frames go. Their descriptors say that they are free. */
static void frame_free_block(struct quire_cpu *cpu, u64 pfn, unsigned order)
{
	struct pcp *pcp = &cpu->pcp;
	bool local = pcp_is_local(pcp, pfn);

	if (local && order < PCP_ORDERS) {
		if (pcp_push(&pcp->list[order], pfn))
			pcp_trim(cpu->q, &pcp->list[order], order);
	} else if (local && order == MAX_FOLIO_ORDER && pcp->huge_count < pcp->huge_max) {
		pcp->huge[pcp->huge_count] = (u32)pfn;
		WRITE_ONCE(pcp->huge_count, pcp->huge_count + 1);
	} else {
		node_free(cpu, pfn, order);
	}
}

void frame_free(struct quire_cpu *cpu, u64 pfn, unsigned order)
{
	struct quire *q = cpu->q;

	if (poison_enabled(q))
		frame_free_debug(q, pfn, order);
	count_event(cpu, PGFREE, 1ull << order);
	page_set_cached(q, pfn, order);
	if (likely(!order)) {
		struct pcp_list *list = pcp_list_of(&cpu->pcp, pfn);

		if (pcp_push(list, pfn))
			pcp_trim(q, list, 0);
	} else {
		page_set_words(q, pfn + 1, (1ull << order) - 1, PAGE_FREE_TAIL);
		frame_free_block(cpu, pfn, order);
	}
}

/* ------------------------------------------------------------------------------------- boot and sums */

/* High and batch of a stack that may hold @frames frames: whole blocks, never beyond the array. */
static void pcp_list_init(struct pcp_list *list, unsigned order, u64 frames)
{
	u64 high = frames >> order;

	list->high = (u32)(high < PCP_MAX - 1 ? high : PCP_MAX - 1);
	list->batch = 1;
	while (list->batch * 3 < list->high)
		list->batch *= 2;
}

#define PCP_FRAMES 1536u /* per stack: 6 MiB */

/* No more than 1/16 of the memory is in the stacks of all CPUs together. The service CPU keeps nothing: nobody could drain it
 * when memory runs out. */
static void pcp_init(struct quire *q, struct quire_cpu *cpu)
{
	struct node *node = &q->nodes[cpu->node];
	struct pcp *pcp = &cpu->pcp;
	u64 budget = cpu->id == q->nr_cpus ? 0 : (q->nr_frames - q->first_frame) / 16 / q->nr_cpus;
	u64 small = budget / (PCP_ORDERS + 2);

	pcp->start_pfn = node->start_pfn;
	pcp->end_pfn = node->end_pfn;
	small = small < PCP_FRAMES ? small : PCP_FRAMES;
	for (unsigned order = 0; order < PCP_ORDERS; order++)
		pcp_list_init(&pcp->list[order], order, small);
	pcp_list_init(&pcp->remote, 0, small);
	budget = (budget - budget / 2) >> MAX_FOLIO_ORDER;
	pcp->huge_max = (u32)(budget < PCP_HUGE_MAX ? budget : PCP_HUGE_MAX);
}

void page_set_reserved(struct quire *q, u64 pfn, u64 nr)
{
	page_set_words(q, pfn, nr, PAGE_RESERVED);
}

void frame_init(struct quire *q, unsigned nr_nodes, u64 start_pfn, u64 end_pfn)
{
	/* Nodes meet at multiples of a leaf PMD, so that none straddles two. */
	u64 per_node = (end_pfn - start_pfn) / nr_nodes & ~((1ull << MAX_FOLIO_ORDER) - 1);

	for (unsigned i = 0; i < nr_nodes; i++) {
		struct node *node = &q->nodes[i];

		node->id = i;
		node->start_pfn = start_pfn + i * per_node;
		node->end_pfn = i + 1 < nr_nodes ? node->start_pfn + per_node : end_pfn;
		buddy_init(q, node);
	}
	for (u32 id = 0; id <= q->nr_cpus; id++)
		pcp_init(q, q->cpus[id]);
}

static u64 pcp_nr_free(const struct pcp *pcp)
{
	u64 nr = READ_ONCE(pcp->remote.count) + ((u64)READ_ONCE(pcp->huge_count) << MAX_FOLIO_ORDER);

	for (unsigned order = 0; order < PCP_ORDERS; order++)
		nr += (u64)READ_ONCE(pcp->list[order].count) << order;
	return nr;
}

u64 frame_nr_free(struct quire *q)
{
	u64 nr = 0;

	for (u32 i = 0; i < q->nr_nodes; i++)
		nr += READ_ONCE(q->nodes[i].nr_free);
	for (u32 id = 0; id <= q->nr_cpus; id++)
		nr += pcp_nr_free(&q->cpus[id]->pcp);
	return nr;
}
