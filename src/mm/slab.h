/* SPDX-License-Identifier: MIT */
/*
 * Slabs: objects of one size out of frames, with a per-CPU stack of free objects per cache.
 *
 * A cache with SLAB_TYPESAFE_BY_RCU may hand a freed object out again at once, but as the same type only: the frames of an
 * empty slab go back through RCU. A reader in an RCU section who found the object by a stale pointer therefore reads a
 * live or free object of that type, and must check its identity after taking a reference. Such objects are constructed
 * once per slab (by ctor, or zeroed when there is none), never re-zeroed on allocation, and never written to by the allocator.
 *
 * Free objects of a slab are bits in its header, not a list through the objects: freeing touches no object, and allocation
 * hands objects out in rising address order, so that what is allocated together can be prefetched together.
 */
#ifndef QUIRE_MM_SLAB_H
#define QUIRE_MM_SLAB_H

#include "mm/frame.h"

#define SLAB_TYPESAFE_BY_RCU (1u << 0)
#define SLAB_ZERO (1u << 1) /* objects are zeroed on allocation; not with TYPESAFE */

/*
 * Free objects of one CPU, last in first out. The owning CPU only; sums read the count. Half a stack goes to or comes from
 * the cache at once: what a visit costs is the cache's lines that another CPU has changed, a dozen misses whatever the number.
 */
#define SLAB_CPU_MIN 16u
#define SLAB_CPU_MAX 512u
struct kmem_cache_cpu {
	u32 count;
	u32 full; /* const: even; the count at which half of the objects go back */
	void *object[SLAB_CPU_MAX];
} cache_aligned;

/* Header of a slab, at the start of its first frame. Legend: l the cache's lock; c constant. */
struct slab {
	struct list_head list;	  /* l: on one of the cache's lists */
	struct kmem_cache *cache; /* c */
	struct rcu_head rcu;	  /* once it is on no list */
	u32 order;		  /* c: 2^order frames */
	u16 nr;			  /* c: objects */
	u16 nr_free;		  /* l */
	u64 free[];		  /* l: bit n: object n is free, and on no CPU's stack */
};

/* Legend: l lock; c constant after boot. */
struct kmem_cache {
	struct quire *q;		    /* c */
	const char *name;		    /* c */
	u32 size, align, flags;		    /* c; size is rounded up to align */
	u32 order, min_order;		    /* c: frames per slab: wanted, and when such a block is not to be had */
	u32 reciprocal;			    /* c: 2^32 / size, rounded up: to divide by size */
	u32 max_empty;			    /* c: empty slabs that are kept */
	void (*ctor)(void *object);	    /* c, may be NULL */
	struct kmem_cache_cpu *cpus;	    /* c: [nr_cpus + 1] */
	struct spinlock lock cache_aligned; /* just outside the nodes' */
	u32 nr_empty;			    /* l */
	struct list_head partial;	    /* l: slabs with free and used objects */
	struct list_head full;		    /* l: slabs without free objects */
	struct list_head empty;		    /* l: slabs without used objects */
	u64 nr_slabs, nr_active; /* l; nr_active counts objects out of slabs, including those in per-CPU stacks */
};

/* Boot. @per_cpu points to zeroed kmem_cache_cpu[nr_cpus + 1]; @align is a power of two, 8 to 64. */
void kmem_cache_init(struct kmem_cache *cache, struct quire *q, const char *name, u32 size, u32 align, u32 flags,
		     void (*ctor)(void *), struct kmem_cache_cpu *per_cpu);

/* NULL when there is no memory. May sleep (a frame may have to be waited for); the second not with GFP_NORETRY. */
void *kmem_cache_alloc(struct quire_cpu *cpu, struct kmem_cache *cache);
void *kmem_cache_alloc_gfp(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned gfp);
/* All @nr or none; false when there is no memory. In rising address order as far as possible. The same rules. */
bool kmem_cache_alloc_bulk(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned nr, void **objects);
bool kmem_cache_alloc_bulk_gfp(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned nr, void **objects,
			       unsigned gfp);
/* Never sleeps; spin locks may be held. */
void kmem_cache_free(struct quire_cpu *cpu, struct kmem_cache *cache, void *object);
/* Frees object after a grace period; @head is an rcu_head inside the object. */
void kmem_cache_free_rcu(struct quire_cpu *cpu, struct kmem_cache *cache, void *object, struct rcu_head *head);

/* Returns the CPU's stack of free objects to the slabs. Called by its owner. Never sleeps. */
void kmem_cache_drain(struct quire_cpu *cpu, struct kmem_cache *cache);
/* Frees the frames of empty slabs that are kept for later; those of type-safe caches through RCU. Never sleeps. */
void kmem_cache_shrink(struct quire_cpu *cpu, struct kmem_cache *cache);
/* Objects allocated and not freed: exact at quiescence. For leak checks. */
u64 kmem_cache_in_use(struct kmem_cache *cache);
/* Object number @index of a slab, and the number of the object that an address in the slab belongs to. */
void *kmem_cache_object(const struct kmem_cache *cache, struct slab *slab, u32 index);
u32 kmem_cache_index(const struct kmem_cache *cache, const struct slab *slab, const void *address);
/* Checks bitmaps, counts, lists, stacks and descriptors; calls back per violation. Quiescent machine only. */
unsigned kmem_cache_validate(struct kmem_cache *cache, violation_fn report, void *arg);

#endif
