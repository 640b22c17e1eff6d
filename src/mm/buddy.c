/* SPDX-License-Identifier: MIT */
/* The buddy system of one node. The rules stand in buddy.h; every function needs the node's lock. */
#include "mm/buddy.h"
#include "mm/instance.h"

static u64 page_word(struct quire *q, u64 pfn)
{
	return READ_ONCE(q->pages[pfn].word);
}

static void page_set_word(struct quire *q, u64 pfn, u64 word)
{
	WRITE_ONCE(q->pages[pfn].word, word);
}

static unsigned log2_floor(u64 x)
{
	return 63u - (unsigned)__builtin_clzll(x);
}

/* Puts a block at the head of its list. */
static void buddy_link(struct quire *q, struct node *node, u64 pfn, unsigned order)
{
	u64 next = node->free_head[order];

	page_set_word(q, pfn, page_mk_free(order, 0, next));
	if (next)
		page_set_word(q, next, page_mk_free(order, pfn, page_word_next(page_word(q, next))));
	node->free_head[order] = (u32)pfn;
	node->nonempty |= 1u << order;
	node->nr_free_blocks[order]++;
}

/* Takes a block out of its list. Its descriptor still says PAGE_FREE: the caller changes it. */
static void buddy_unlink(struct quire *q, struct node *node, u64 pfn, unsigned order)
{
	u64 word = page_word(q, pfn);
	u64 prev = page_word_prev(word);
	u64 next = page_word_next(word);

	if (prev)
		page_set_word(q, prev, page_mk_free(order, page_word_prev(page_word(q, prev)), next));
	else
		node->free_head[order] = (u32)next;
	if (next)
		page_set_word(q, next, page_mk_free(order, prev, page_word_next(page_word(q, next))));
	if (!node->free_head[order])
		node->nonempty &= ~(1u << order);
	node->nr_free_blocks[order]--;
}

u64 buddy_alloc(struct quire *q, struct node *node, unsigned order)
{
	unsigned have;
	u64 pfn;

	if (!(node->nonempty >> order))
		return 0;
	have = order + (unsigned)__builtin_ctz(node->nonempty >> order);
	pfn = node->free_head[have];
	buddy_unlink(q, node, pfn, have);
	/* The upper halves stay free: what is handed out next lies right behind. */
	while (have > order) {
		have--;
		buddy_link(q, node, pfn + (1ull << have), have);
	}
	page_set_word(q, pfn, page_mk_cached(order));
	WRITE_ONCE(node->nr_free, node->nr_free - (1ull << order));
	return pfn;
}

u64 buddy_alloc_run(struct quire *q, struct node *node, unsigned order, u32 max, u32 *nr)
{
	struct page *page;
	unsigned run;
	u64 pfn;

	*nr = 0;
	if (!(node->nonempty >> order))
		return 0;
	/* Small free blocks are used up before larger ones are broken. */
	run = order + (unsigned)__builtin_ctz(node->nonempty >> order);
	if (run > order + log2_floor(max))
		run = order + log2_floor(max);
	pfn = buddy_alloc(q, node, run);
	*nr = 1u << (run - order);
	page = &q->pages[pfn];
	for (const struct page *end = page + (1ull << run); page < end; page += 1ull << order)
		WRITE_ONCE(page->word, page_mk_cached(order));
	return pfn;
}

/* Is the block at @pfn inside the node, free, and of exactly this order? Only the lock's holder makes descriptors PAGE_FREE, so
 * the answer is stable, whatever the frames are used for if it is no. */
static bool buddy_is_free(struct quire *q, const struct node *node, u64 pfn, unsigned order)
{
	if (pfn < node->start_pfn || pfn + (1ull << order) > node->end_pfn)
		return false;
	return (page_word(q, pfn) & PAGE_HEAD_MASK) == page_mk_free(order, 0, 0);
}

void buddy_free(struct quire *q, struct node *node, u64 pfn, unsigned order)
{
	WRITE_ONCE(node->nr_free, node->nr_free + (1ull << order));
	while (order < MAX_ORDER) {
		u64 buddy = pfn ^ 1ull << order;

		if (!buddy_is_free(q, node, buddy, order))
			break;
		buddy_unlink(q, node, buddy, order);
		page_set_word(q, pfn | 1ull << order, PAGE_FREE_TAIL);
		pfn &= ~(1ull << order);
		order++;
	}
	buddy_link(q, node, pfn, order);
}

/* The order of the largest aligned block that ends (or begins) at @edge and has at most @nr frames. */
static unsigned largest_order(u64 edge, u64 nr)
{
	unsigned order = log2_floor(nr);
	unsigned align = (unsigned)__builtin_ctzll(edge);

	order = order < align ? order : align;
	return order < MAX_ORDER ? order : MAX_ORDER;
}

void buddy_free_range(struct quire *q, struct node *node, u64 start, u64 end)
{
	while (start < end) {
		unsigned order = largest_order(start, end - start);

		struct page *page = &q->pages[start];

		/* Heads of the blocks that were handed back are tails now. */
		for (u64 i = 1; i < 1ull << order; i++)
			WRITE_ONCE(page[i].word, PAGE_FREE_TAIL);
		buddy_free(q, node, start, order);
		start += 1ull << order;
	}
}

void buddy_init(struct quire *q, struct node *node)
{
	u64 end = node->end_pfn;

	while (end > node->start_pfn) {
		unsigned order = largest_order(end, end - node->start_pfn);

		end -= 1ull << order;
		buddy_free(q, node, end, order);
	}
}
