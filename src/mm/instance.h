/* SPDX-License-Identifier: MIT */
/* struct quire, the machine, and struct quire_cpu, one of its CPUs: everything that other systems keep in globals. */
#ifndef QUIRE_MM_INSTANCE_H
#define QUIRE_MM_INSTANCE_H

#include "mm/counters.h"
#include "mm/gather.h"
#include "mm/mm.h"
#include "mm/slab.h"
#include "mm/tlb.h"
#include "mm/wait.h"
#include "quire/quire.h"

/* Caches of small objects. One enum, so that boot, drain and leak checks visit all of them. */
enum cache_id {
	CACHE_FOLIO, /* TYPESAFE */
	CACHE_PTDESC,
	CACHE_VMA, /* TYPESAFE */
	CACHE_VMA_NODE,
	CACHE_ANON_VMA, /* TYPESAFE */
	CACHE_AVC,
	CACHE_MM, /* TYPESAFE: a VMA reader may look at the mm of a recycled VMA (B74) */
	CACHE_MM_COUNTERS,
	CACHE_FILE,
	CACHE_PAGECACHE_NODE,
	NR_CACHES,
};

struct quire_cpu {
	struct quire *q;	       /* const */
	u32 id;			       /* const */
	u32 node;		       /* const */
	u32 owned;		       /* a: taken by a thread */
	struct quire_mm *mm;	       /* own: what it runs */
	struct quire_fault fault;      /* own */
	struct machine_cpu machine;    /* the implementation's own */
	struct kmem_cache_cpu *folios; /* const: its stack of CACHE_FOLIO */
	struct pcp pcp;
	struct wait_entry wait;
	u64 event[NR_VM_EVENTS]; /* own, read by sums */
	struct mmu_gather gather;
	struct cpu_tlb tlb;
} cache_aligned;

struct quire {
	struct machine *machine;    /* const: the implementation's */
	struct quire_config config; /* const but for the folio orders, which are atomic */
	u8 *frames;		    /* const: host address of frame 0 */
	struct page *pages;	    /* const: descriptor of frame 0 */
	u64 nr_frames;		    /* const: including reserved ones */
	u64 first_frame;	    /* const: below it the machine's own structures */
	u32 nr_cpus;		    /* const; CPUs of users. cpus[nr_cpus] is the service CPU for RCU callbacks */
	u32 nr_nodes;		    /* const */
	struct node *nodes;	    /* const: [nr_nodes] */
	struct quire_cpu **cpus;    /* const: [nr_cpus + 1] */
	struct kmem_cache cache[NR_CACHES];
	u64 zero_pfn;		 /* const: a reserved frame of zeroes */
	u64 next_id;		 /* a: identities of address spaces and files */
	struct spinlock mm_lock; /* mm_list */
	struct list_head mm_list;
	struct spinlock file_lock; /* file_list */
	struct list_head file_list;
	struct wait_bucket *wait; /* const: [WAIT_BUCKETS] */
};

static inline struct page *pfn_to_page(struct quire *q, u64 pfn)
{
	return &q->pages[pfn];
}

static inline u8 *pfn_to_virt(struct quire *q, u64 pfn)
{
	return q->frames + (pfn << PAGE_SHIFT);
}

static inline u64 virt_to_pfn(struct quire *q, const void *virt)
{
	return (u64)((const u8 *)virt - q->frames) >> PAGE_SHIFT;
}

/* The folio of a frame that the caller knows to be one: it holds a reference, or the PTL of an entry that maps it. */
static inline struct folio *pfn_folio(struct quire *q, u64 pfn)
{
	return (struct folio *)page_word_ptr(READ_ONCE(q->pages[pfn].word));
}

static inline u8 *folio_address(struct quire *q, const struct folio *folio)
{
	return pfn_to_virt(q, folio->pfn);
}

static inline bool page_anon_exclusive(struct quire *q, u64 pfn)
{
	return READ_ONCE(q->pages[pfn].word) & PAGE_EXCLUSIVE;
}

/*
 * PTL of the only mapping held: then nobody else changes the word, and no read-modify-write is needed. (Hwpoison, when it
 * comes, is set once the frame is unmapped, or under that same PTL.)
 */
static inline void page_set_anon_exclusive(struct quire *q, u64 pfn)
{
	WRITE_ONCE(q->pages[pfn].word, READ_ONCE(q->pages[pfn].word) | PAGE_EXCLUSIVE);
}

static inline void page_clear_anon_exclusive(struct quire *q, u64 pfn)
{
	WRITE_ONCE(q->pages[pfn].word, READ_ONCE(q->pages[pfn].word) & ~PAGE_EXCLUSIVE);
}

static inline void count_event(struct quire_cpu *cpu, enum vm_event event, u64 n)
{
	counter_add(&cpu->event[event], n);
}

static inline void *cache_alloc(struct quire_cpu *cpu, enum cache_id id)
{
	return kmem_cache_alloc(cpu, &cpu->q->cache[id]);
}

static inline void cache_free(struct quire_cpu *cpu, enum cache_id id, void *object)
{
	kmem_cache_free(cpu, &cpu->q->cache[id], object);
}

/*
 * Boot (instance.c): lays out struct quire, CPUs, nodes, descriptors and caches at the start of the arena of @size bytes
 * (2 MiB aligned, zeroed), and gives the rest to the buddy system. NULL: too small. Single-threaded.
 */
struct quire *quire_boot(void *arena, u64 size, const struct quire_config *config, struct machine *machine);
/* Bytes of arena that a machine with @config needs for its own structures, besides frames. */
u64 quire_boot_overhead(const struct quire_config *config);
/* How many address spaces, files and CPUs are still in use: quire_destroy refuses then. */
u64 quire_in_use(struct quire *q);
/* Flushes this CPU's stacks of frames and objects to the shared pools. Called by its owner. Never sleeps. */
void cpu_drain(struct quire_cpu *cpu);
/* The same, and frees what the caches keep for later: for when memory is short. Called by the CPU's owner. Never sleeps. */
void cpu_shrink(struct quire_cpu *cpu);
/* An event or gauge summed over all CPUs. A racy snapshot; exact while no CPU is inside a call. */
u64 quire_event_sum(struct quire *q, enum vm_event event);

#endif
