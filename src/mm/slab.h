/* SPDX-License-Identifier: MIT */
/*
 * Slabs: objects of one size out of frames, with a per-CPU stack of free objects per cache.
 *
 * A cache with SLAB_TYPESAFE_BY_RCU may hand a freed object out again at once, but as the same type only: the frames of an
 * empty slab go back through RCU. A reader in an RCU section who found the object by a stale pointer therefore reads a
 * live or free object of that type, and must check its identity after taking a reference. Such objects are constructed
 * once per slab (ctor), never re-zeroed on allocation.
 */
#ifndef QUIRE_MM_SLAB_H
#define QUIRE_MM_SLAB_H

#include "mm/frame.h"

#define SLAB_TYPESAFE_BY_RCU (1u << 0)
#define SLAB_ZERO (1u << 1) /* objects are zeroed on allocation; not with TYPESAFE */

#define SLAB_CPU_MAX 64u
struct kmem_cache_cpu {
	u32 count;
	void *object[SLAB_CPU_MAX]; /* last in first out; the owning CPU only */
} cache_aligned;

struct kmem_cache {
	struct quire *q;	     /* const */
	const char *name;	     /* const */
	u32 size, align, flags;	     /* const; size is rounded up to align */
	u32 order, per_slab;	     /* const: frames per slab, objects per slab */
	void (*ctor)(void *object);  /* const, may be NULL */
	struct kmem_cache_cpu *cpus; /* const: [nr_cpus] */
	struct spinlock lock;	     /* l */
	struct list_head partial;    /* l: slabs with free objects */
	struct list_head full;	     /* l: slabs without (validation and destroy) */
	u64 nr_slabs, nr_active;     /* l; nr_active counts objects out of slabs, including those in per-CPU stacks */
};

/* Boot. @per_cpu points to zeroed kmem_cache_cpu[nr_cpus]. */
void kmem_cache_init(struct kmem_cache *cache, struct quire *q, const char *name, u32 size, u32 align, u32 flags,
		     void (*ctor)(void *), struct kmem_cache_cpu *per_cpu);

/* NULL when there is no memory. May sleep (a frame may have to be waited for). */
void *kmem_cache_alloc(struct quire_cpu *cpu, struct kmem_cache *cache);
/* All @nr or none; false when there is no memory. */
bool kmem_cache_alloc_bulk(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned nr, void **objects);
/* Never sleeps; spin locks may be held. */
void kmem_cache_free(struct quire_cpu *cpu, struct kmem_cache *cache, void *object);
/* Frees object after a grace period; @offset of the rcu_head inside the object. */
void kmem_cache_free_rcu(struct quire_cpu *cpu, struct kmem_cache *cache, void *object, struct rcu_head *head);

/* Returns the CPU's stack of free objects to the slabs, and empty slabs to the frames. Called by the owner. */
void kmem_cache_drain(struct quire_cpu *cpu, struct kmem_cache *cache);
/* Objects allocated and not freed: exact at quiescence. For leak checks. */
u64 kmem_cache_in_use(struct kmem_cache *cache);
unsigned kmem_cache_validate(struct kmem_cache *cache, violation_fn report, void *arg);

#endif
