/* SPDX-License-Identifier: MIT */
/*
 * The fast paths of the CPU's own stacks of frames and objects, inline for frame.c, slab.c and folio.c: a few instructions on
 * lines that no other CPU writes. Everything else, which takes locks, is out of line, so that these need no stack
 * frame. Caller: the CPU's owner.
 */
#ifndef QUIRE_MM_PERCPU_H
#define QUIRE_MM_PERCPU_H

#include "mm/instance.h"

#define noinline __attribute__((noinline))

#ifdef QUIRE_DEBUG
#define debug_checks true
#else
#define debug_checks false
#endif

static inline bool poison_enabled(const struct quire *q)
{
	return debug_checks || unlikely(q->config.poison);
}

/* ---- frames (frame.c). Counts are read by sums on other CPUs. */

/* Another batch of blocks from the nearest node that has some, at most what fits. False: none has. */
bool pcp_refill(struct quire_cpu *cpu, struct pcp_list *list, unsigned order);
/* Returns the oldest batch of blocks to their nodes. */
void pcp_trim(struct quire *q, struct pcp_list *list, unsigned order);
/* What debugging does with blocks: on allocation their contents are as freeing or boot left them; on freeing they are in use,
 * and filled with a pattern. Reports if not. */
void frame_alloc_debug(struct quire *q, u64 pfn, unsigned order);
void frame_free_debug(struct quire *q, u64 pfn, unsigned order);

/* The stack is not empty. */
static inline u64 pcp_pop(struct pcp_list *list)
{
	u32 count = list->count - 1;

	WRITE_ONCE(list->count, count);
	return list->pfn[count];
}

/* True when the stack is above its limit now: the caller trims it before the next push. */
static inline bool pcp_push(struct pcp_list *list, u64 pfn)
{
	u32 count = list->count;

	list->pfn[count] = (u32)pfn;
	WRITE_ONCE(list->count, count + 1);
	return unlikely(count >= list->high);
}

/* Is the frame of the CPU's own node? */
static inline bool pcp_is_local(const struct pcp *pcp, u64 pfn)
{
	return likely(pfn - pcp->start_pfn < pcp->end_pfn - pcp->start_pfn);
}

/* The stack that a single frame is freed to. */
static inline struct pcp_list *pcp_list_of(struct pcp *pcp, u64 pfn)
{
	return pcp_is_local(pcp, pfn) ? &pcp->list[0] : &pcp->remote;
}

/* The descriptor of a block's head says that it is free. From here on a look-up by pfn finds nothing; only after this may
 * anybody else get the frame. */
static inline void page_set_cached(struct quire *q, u64 pfn, unsigned order)
{
	smp_store_release(&q->pages[pfn].word, page_mk_cached(order));
}

/* ---- objects (slab.c) */

/* Half a stack of objects such that pops rise. False: no memory. May sleep unless GFP_NORETRY. */
bool slab_stack_refill(struct quire_cpu *cpu, struct kmem_cache *cache, struct kmem_cache_cpu *stack, unsigned gfp);
/* Returns the older half of a full stack to the slabs. */
void slab_stack_trim(struct quire_cpu *cpu, struct kmem_cache *cache, struct kmem_cache_cpu *stack);

static inline struct kmem_cache_cpu *slab_stack(struct quire_cpu *cpu, struct kmem_cache *cache)
{
	return &cache->cpus[cpu->id];
}

/* The stack is not empty. */
static inline void *slab_stack_pop(struct kmem_cache_cpu *stack)
{
	u32 count = stack->count - 1;

	WRITE_ONCE(stack->count, count);
	return stack->object[count];
}

/* There always is room. True when the stack is full now: the caller trims it before the next push. */
static inline bool slab_stack_push(struct kmem_cache_cpu *stack, void *object)
{
	u32 count = stack->count;

	stack->object[count] = object;
	WRITE_ONCE(stack->count, count + 1);
	return unlikely(count + 1 == stack->full);
}

#endif
