/* SPDX-License-Identifier: MIT */
/*
 * frame_validate: every frame is accounted for exactly once, and lists, descriptors and counts tell the same story. Separate
 * because nothing here runs but in tests and on request; the machine is quiescent, so it takes no locks and sees a state at rest.
 */
#include "mm/instance.h"

/* Set for the duration of a check in the heads of cached blocks that were found on a CPU's stack. Their links are 0 otherwise. */
#define PAGE_SEEN (1ull << PAGE_PREV_SHIFT)

struct frame_check {
	struct quire *q;
	violation_fn report;
	void *arg;
	unsigned violations;
	u64 nr_blocks[NR_ORDERS]; /* free blocks of the node at hand, as the descriptors have it */
};

static void violation(struct frame_check *check, const char *what, u64 a, u64 b)
{
	check->violations++;
	if (check->report)
		check->report(check->arg, what, a, b);
}

static u64 word_of(const struct frame_check *check, u64 pfn)
{
	return READ_ONCE(check->q->pages[pfn].word);
}

static bool is_head(const struct frame_check *check, u64 pfn, enum page_type type, unsigned order)
{
	u64 word = word_of(check, pfn);

	return page_word_type(word) == type && page_word_order(word) == order;
}

/* ------------------------------------------------------------------------------------- blocks, by descriptors */

static void check_tails(struct frame_check *check, const struct node *node, u64 pfn, unsigned order)
{
	if (order > MAX_ORDER || pfn & ((1ull << order) - 1) || pfn + (1ull << order) > node->end_pfn) {
		violation(check, "free block misplaced: pfn, order", pfn, order);
		return;
	}
	for (u64 i = 1; i < 1ull << order; i++) {
		if (word_of(check, pfn + i) != PAGE_FREE_TAIL)
			violation(check, "free block with a frame in use: pfn, descriptor", pfn + i,
				  word_of(check, pfn + i));
	}
}

static void check_free_block(struct frame_check *check, const struct node *node, u64 pfn, unsigned order)
{
	u64 buddy = pfn ^ 1ull << order;
	bool in_node = buddy >= node->start_pfn && buddy + (1ull << order) <= node->end_pfn;

	if (order < MAX_ORDER && in_node && is_head(check, buddy, PAGE_FREE, order))
		violation(check, "two free buddies not joined: pfn, order", pfn, order);
	check->nr_blocks[order]++;
}

/* The block or frame at @pfn; how many frames it has. */
static u64 check_frame(struct frame_check *check, const struct node *node, u64 pfn)
{
	u64 word = word_of(check, pfn);
	unsigned order = page_word_order(word);

	switch (page_word_type(word)) {
	case PAGE_FREE:
		check_tails(check, node, pfn, order);
		if (order <= MAX_ORDER)
			check_free_block(check, node, pfn, order);
		return 1ull << order;
	case PAGE_CACHED:
		check_tails(check, node, pfn, order);
		if (!(word & PAGE_SEEN))
			violation(check, "cached block on no CPU's stack: pfn, order", pfn, order);
		WRITE_ONCE(check->q->pages[pfn].word, word & ~PAGE_SEEN);
		return 1ull << order;
	case PAGE_FREE_TAIL:
		violation(check, "tail of no free block: pfn, descriptor", pfn, word);
		return 1;
	case PAGE_RESERVED:
		violation(check, "reserved frame among those managed: pfn, descriptor", pfn, word);
		return 1;
	case PAGE_FOLIO:
	case PAGE_TABLE:
	case PAGE_SLAB:
		if (!page_word_ptr(word))
			violation(check, "frame in use without its object: pfn, descriptor", pfn, word);
		return 1;
	case PAGE_RAW:
		return 1;
	}
	violation(check, "descriptor of no known type: pfn, descriptor", pfn, word);
	return 1;
}

/* ------------------------------------------------------------------------------------- blocks, by lists */

static void check_list(struct frame_check *check, const struct node *node, unsigned order)
{
	u64 pfn = node->free_head[order];
	u64 prev = 0;
	u64 nr = 0;

	/* More than the count is a loop. */
	for (; pfn && nr <= node->nr_free_blocks[order]; nr++) {
		if (pfn < node->start_pfn || pfn >= node->end_pfn || !is_head(check, pfn, PAGE_FREE, order)) {
			violation(check, "free list names what is not free: pfn, order", pfn, order);
			return;
		}
		if (page_word_prev(word_of(check, pfn)) != prev)
			violation(check, "free list's links disagree: pfn, previous", pfn, prev);
		prev = pfn;
		pfn = page_word_next(word_of(check, pfn));
	}
	if (nr != node->nr_free_blocks[order])
		violation(check, "free list's length and its count: length, count", nr, node->nr_free_blocks[order]);
	if (nr != check->nr_blocks[order])
		violation(check, "free list's length and the free blocks: length, blocks", nr, check->nr_blocks[order]);
	if ((node->nonempty >> order & 1) != (node->free_head[order] != 0))
		violation(check, "mask of nonempty lists: order, mask", order, node->nonempty);
}

static void check_node(struct frame_check *check, const struct node *node)
{
	u64 nr_free = 0;

	memset(check->nr_blocks, 0, sizeof(check->nr_blocks));
	for (u64 pfn = node->start_pfn; pfn < node->end_pfn;)
		pfn += check_frame(check, node, pfn);
	for (unsigned order = 0; order < NR_ORDERS; order++) {
		check_list(check, node, order);
		nr_free += check->nr_blocks[order] << order;
	}
	if (nr_free != node->nr_free)
		violation(check, "free frames of the node: counted, found", node->nr_free, nr_free);
}

/* ------------------------------------------------------------------------------------- per-CPU stacks */

/* Marks what is on the stack; a block that is marked already is on two, or twice on one. */
static void check_stack(struct frame_check *check, const u32 *pfns, u32 count, unsigned order)
{
	for (u32 i = 0; i < count; i++) {
		u64 pfn = pfns[i];

		if (pfn < check->q->first_frame || pfn >= check->q->nr_frames ||
		    !is_head(check, pfn, PAGE_CACHED, order)) {
			violation(check, "CPU's stack names what is not cached: pfn, order", pfn, order);
			continue;
		}
		if (word_of(check, pfn) & PAGE_SEEN)
			violation(check, "block twice on CPUs' stacks: pfn, order", pfn, order);
		WRITE_ONCE(check->q->pages[pfn].word, word_of(check, pfn) | PAGE_SEEN);
	}
}

static void check_pcp(struct frame_check *check, const struct pcp *pcp)
{
	for (unsigned order = 0; order < PCP_ORDERS; order++)
		check_stack(check, pcp->list[order].pfn, pcp->list[order].count, order);
	check_stack(check, pcp->remote.pfn, pcp->remote.count, 0);
	check_stack(check, pcp->huge, pcp->huge_count, MAX_FOLIO_ORDER);
}

unsigned frame_validate(struct quire *q, violation_fn report, void *arg)
{
	struct frame_check check = { .q = q, .report = report, .arg = arg };

	for (u64 pfn = 0; pfn < q->first_frame; pfn++) {
		if (word_of(&check, pfn) != PAGE_RESERVED)
			violation(&check, "the machine's own frame: pfn, descriptor", pfn, word_of(&check, pfn));
	}
	for (u32 id = 0; id <= q->nr_cpus; id++)
		check_pcp(&check, &q->cpus[id]->pcp);
	for (u32 i = 0; i < q->nr_nodes; i++)
		check_node(&check, &q->nodes[i]);
	return check.violations;
}
