/* SPDX-License-Identifier: MIT */
/*
 * Counters. Each CPU has its own, written by it alone with plain relaxed stores, so that counting costs no shared cache
 * line; a reader adds them up. Sums are exact whenever no CPU is inside a call.
 */
#ifndef QUIRE_MM_COUNTERS_H
#define QUIRE_MM_COUNTERS_H

#include "machine/machine.h"

/* Resident set of an address space by kind, in pages (invariant 63). */
enum mm_counter {
	MM_FILEPAGES,
	MM_ANONPAGES,
	MM_SWAPENTS,
	MM_SHMEMPAGES,
	NR_MM_COUNTERS,
};

/* Events and gauges of the machine; quire_stat and /proc/vmstat's names are made from these. */
enum vm_event {
	FAULT_ANON_ZERO,
	FAULT_ANON,
	FAULT_FILE,
	FAULT_FILE_AROUND,
	FAULT_COW_COPY,
	FAULT_COW_REUSE,
	FAULT_COW_FILE,
	FAULT_SPURIOUS,
	FAULT_RETRIED,
	FAULT_MMAP_LOCK,
	FAULT_SEGV,
	FAULT_BUS,
	FAULT_OOM,
	FORK_PAGES_SHARED,
	FORK_PAGES_COPIED,
	TLB_FLUSH_LOCAL,
	TLB_SHOOTDOWN,
	TLB_IPI,
	PGALLOC,
	PGFREE,
	FILE_READ_PAGES,
	FILE_WRITTEN_PAGES,
	PGFAULT,
	PGMAJFAULT,
	NR_ANON_MAPPED, /* gauges from here: pages */
	NR_FILE_MAPPED,
	NR_FILE_PAGES,
	NR_SHMEM,
	NR_FILE_DIRTY,
	NR_WRITEBACK,
	NR_MLOCK,
	NR_PAGETABLE,
	NR_SLAB,
	FOLIO_ALLOC_0, /* folios allocated, one counter per order: FOLIO_ALLOC_0 + order */
	FOLIO_ALLOC_LAST = FOLIO_ALLOC_0 + 9,
	NR_VM_EVENTS,
};

/* By the owning CPU only. */
static inline void counter_add(u64 *counter, u64 value)
{
	WRITE_ONCE(*counter, READ_ONCE(*counter) + value);
}

#endif
