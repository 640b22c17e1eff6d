/* SPDX-License-Identifier: MIT */
/*
 * Frames: the 4 KiB units of the arena, their 8-byte descriptors, and the buddy allocator that hands them out.
 *
 * struct page is one word, read and written atomically. What the bits mean depends on the type:
 *
 *                  63        62        61..48  47                 4   3..0
 *   frames in use  hwpoison  exclusive (zero)  pointer (16-aligned)   type
 *
 *                  63            36  35             8   7..4    3..0
 *   free blocks    next pfn          prev pfn           order   type
 *
 *   PAGE_FREE      head of a free block of the buddy system; linked to the other free blocks of its order
 *   PAGE_FREE_TAIL any other frame of a free or cached block
 *   PAGE_CACHED    head of a block on a per-CPU stack: free, but not in the buddy system; links 0
 *   PAGE_FOLIO     pointer to the struct folio that this frame is part of; bit 62 is PageAnonExclusive of this frame
 *   PAGE_TABLE     pointer to the struct ptdesc of this page table
 *   PAGE_SLAB      pointer to the slab
 *   PAGE_RESERVED  the machine's own, never freed (descriptors, the zero page). Frame 0 is: so pfn 0 can mean "none"
 *
 * A lockless look-up reads the word, takes a reference on the folio that it names if that is not zero, reads the word
 * again and compares (folio_try_get_pfn).
 */
#ifndef QUIRE_MM_FRAME_H
#define QUIRE_MM_FRAME_H

#include "mm/list.h"

struct quire;
struct quire_cpu;
struct folio;
struct ptdesc;

#define MAX_ORDER 10u	   /* largest block of the buddy allocator: 4 MiB */
#define MAX_FOLIO_ORDER 9u /* largest folio: 2 MiB, one PMD */
#define NR_ORDERS (MAX_ORDER + 1)

/* Zeroed descriptors are PAGE_FREE_TAIL, so that boot writes few of a large arena's. From PAGE_FOLIO on frames are in use. */
enum page_type {
	PAGE_FREE_TAIL,
	PAGE_RESERVED,
	PAGE_FREE,
	PAGE_CACHED,
	PAGE_FOLIO,
	PAGE_TABLE,
	PAGE_SLAB,
	PAGE_RAW, /* allocated frames without a descriptor of their own: owner keeps track */
};

struct page {
	u64 word;
};

#define PAGE_TYPE_MASK 0xfull
#define PAGE_PTR_MASK 0x0000fffffffffff0ull
#define PAGE_EXCLUSIVE_BIT 62
#define PAGE_EXCLUSIVE                                                                                                 \
	(1ull << PAGE_EXCLUSIVE_BIT) /* PageAnonExclusive: S2 of the seeds; changes under the PTL that maps the frame */
#define PAGE_HWPOISON (1ull << 63)

static inline enum page_type page_word_type(u64 word)
{
	return (enum page_type)(word & PAGE_TYPE_MASK);
}

static inline void *page_word_ptr(u64 word)
{
	return (void *)(uintptr_t)(word & PAGE_PTR_MASK);
}

static inline u64 page_word_mk(enum page_type type, const void *ptr)
{
	return (u64)(uintptr_t)ptr | (u64)type;
}

/* Heads of free and cached blocks. 28 bits of pfn reach 1 TiB. */
#define PAGE_ORDER_SHIFT 4
#define PAGE_PREV_SHIFT 8
#define PAGE_NEXT_SHIFT 36
#define PAGE_LINK_MASK 0xfffffffull
#define PAGE_HEAD_MASK 0xffull /* type and order */

static inline u64 page_mk_free(unsigned order, u64 prev, u64 next)
{
	return next << PAGE_NEXT_SHIFT | prev << PAGE_PREV_SHIFT | (u64)order << PAGE_ORDER_SHIFT | PAGE_FREE;
}

static inline u64 page_mk_cached(unsigned order)
{
	return (u64)order << PAGE_ORDER_SHIFT | PAGE_CACHED;
}

/* Of PAGE_FREE and PAGE_CACHED only. */
static inline unsigned page_word_order(u64 word)
{
	return word >> PAGE_ORDER_SHIFT & 0xf;
}

/* Neighbours on the free list of the block's order; 0: none. Of PAGE_FREE only. */
static inline u64 page_word_prev(u64 word)
{
	return word >> PAGE_PREV_SHIFT & PAGE_LINK_MASK;
}

static inline u64 page_word_next(u64 word)
{
	return word >> PAGE_NEXT_SHIFT;
}

/* One memory node: a range of frames with its own buddy system. Legend: l its lock; c constant. */
struct node {
	struct spinlock lock;	       /* innermost of all locks */
	u32 nonempty;		       /* l: bit n: free_head[n] is not 0 */
	u64 nr_free;		       /* l, read without: frames free in the buddy system */
	u32 free_head[NR_ORDERS];      /* l: pfn of the first free block of each order, 0: none */
	u64 nr_free_blocks[NR_ORDERS]; /* l */
	u64 start_pfn cache_aligned;   /* c: read by every free, so apart from what the lock makes bounce */
	u64 end_pfn;		       /* c */
	u32 id;			       /* c */
} cache_aligned;

/*
 * Per CPU: recently freed blocks, last in first out, one stack per small order and one for PMD-sized blocks. All of it is
 * touched by the owning CPU only; sums read the counts. Refills put ascending frames on top in descending order, so
 * that a range populated in order gets frames in order. A visit to the node costs a dozen cache lines that another CPU has changed,
 * whatever the number of blocks: so the stacks are large where memory is not short.
 */
#define PCP_ORDERS 5u /* orders 0..4 */
#define PCP_MAX 2048u
#define PCP_HUGE_MAX 4u
struct pcp_list {
	u32 count;
	u32 high;  /* above this, the oldest blocks go back to the node; less than PCP_MAX */
	u32 batch; /* blocks moved per visit to the node, a power of two */
	u32 pfn[PCP_MAX];
};
struct pcp {
	u64 start_pfn, end_pfn; /* const: frames of the CPU's own node */
	struct pcp_list list[PCP_ORDERS];
	struct pcp_list remote; /* single frames of other nodes on their way back; not allocated from */
	u32 huge_count, huge_max;
	u32 huge[PCP_HUGE_MAX]; /* order 9 */
};

/* What an allocation wants. */
enum gfp {
	GFP_KERNEL = 0,
	GFP_ZERO = 1 << 0,    /* zeroed: whatever a user may see, and page tables */
	GFP_NORETRY = 1 << 1, /* do not drain caches or wait to satisfy it: for large orders with a fallback */
};

/*
 * Allocates 2^order contiguous frames aligned to their size, from the CPU's node first. Returns the pfn of the first, or
 * 0 when there is no memory (after draining this CPU's caches and waiting for RCU, unless GFP_NORETRY or atomic). The
 * descriptors are PAGE_RAW: the caller types them with page_set_*() before it publishes them. May sleep unless
 * GFP_NORETRY. Holds no lock.
 */
u64 frame_alloc(struct quire_cpu *cpu, unsigned order, unsigned gfp);

/* Allocates @nr single frames into @pfns in one go; returns how many it got (all or fewer). Same rules. */
unsigned frame_alloc_bulk(struct quire_cpu *cpu, unsigned nr, u64 *pfns, unsigned gfp);

/*
 * Frees 2^order frames. The caller owns them alone: no reference, no entry, no TLB maps them (invariant 8). Never sleeps;
 * spin locks may be held (takes the node's lock below all others).
 */
void frame_free(struct quire_cpu *cpu, u64 pfn, unsigned order);

/*
 * As frame_alloc and frame_alloc_bulk, but the descriptors still say that the frames are free: the caller types every one of them
 * before anything else, which saves a store per frame.
 */
u64 frame_alloc_untyped(struct quire_cpu *cpu, unsigned order, unsigned gfp);
unsigned frame_alloc_bulk_untyped(struct quire_cpu *cpu, unsigned nr, u64 *pfns, unsigned gfp);

/*
 * Types all 2^order descriptors: a folio's, one table's, or a slab's. Release: whoever reads a descriptor with acquire sees
 * what it points to as it was before.
 */
void page_set_folio(struct quire *q, u64 pfn, unsigned order, struct folio *folio, bool exclusive);
void page_set_table(struct quire *q, u64 pfn, struct ptdesc *pt);
void page_set_slab(struct quire *q, u64 pfn, unsigned order, void *slab);
/* Boot: @nr frames that are never free. */
void page_set_reserved(struct quire *q, u64 pfn, u64 nr);

/* Returns the CPU's cached frames to the nodes. Called by its owner. */
void pcp_drain(struct quire_cpu *cpu);

/* Boot: divides frames [start, end) among q->nodes, free, and sizes the CPUs' stacks. start_pfn > 0. Single-threaded. */
void frame_init(struct quire *q, unsigned nr_nodes, u64 start_pfn, u64 end_pfn);

/* The node that a frame belongs to; it is one that frame_init got. */
struct node *pfn_node(struct quire *q, u64 pfn);

/* Frames free in buddy and per-CPU caches, a racy sum; exact at quiescence. */
u64 frame_nr_free(struct quire *q);

/* Checks free lists, descriptors and counts; calls back per violation. Quiescent machine only. */
typedef void (*violation_fn)(void *arg, const char *what, u64 a, u64 b);
unsigned frame_validate(struct quire *q, violation_fn report, void *arg);

#endif
