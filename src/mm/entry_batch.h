/* SPDX-License-Identifier: MIT */
/* What walks over many entries share: runs of one folio, fetching folios ahead, and counting once per table. */
#ifndef QUIRE_MM_ENTRY_BATCH_H
#define QUIRE_MM_ENTRY_BATCH_H

#include "mm/fault.h"

/* How many entries from @ptep on, at most @max, map consecutive pages of @folio with the same _PAGE_MLOCKED. PTL held. */
static inline u32 folio_pte_batch(const struct folio *folio, const pte_t *ptep, pte_t pte, u32 max)
{
	u64 left = folio->pfn + folio_nr_pages(folio) - pte_pfn(pte);
	u32 nr = 1;

	max = max < left ? max : (u32)left;
	while (nr < max) {
		pte_t next = pte_read(ptep + nr);

		if (!pte_present(next) || pte_pfn(next) != pte_pfn(pte) + nr || ((next ^ pte) & _PAGE_MLOCKED))
			break;
		nr++;
	}
	return nr;
}

#define ENTRY_PREFETCH 8u

/* Brings the folio of an entry further on into the cache, for writing: a miss a page is what such walks cost. */
static inline void entry_prefetch(struct quire *q, const pte_t *ptep, u32 left)
{
	pte_t pte;

	if (left <= ENTRY_PREFETCH)
		return;
	pte = pte_read(ptep + ENTRY_PREFETCH);
	if (pte_present(pte) && !pte_special(pte))
		__builtin_prefetch(pfn_folio(q, pte_pfn(pte)), 1);
}

/* Pages mapped or unmapped by a walk, by kind, not yet in the counters. */
struct rss_delta {
	u64 pages[NR_MM_COUNTERS];
};

static inline void rss_delta_add(struct rss_delta *delta, const struct folio *folio, u64 pages)
{
	delta->pages[folio_mm_counter(folio)] += pages;
}

/* Adds (@sign 1) or takes off (-1) what was gathered, and starts anew. The PTL under which it was gathered is still held. */
static inline void rss_delta_flush(struct quire_cpu *cpu, struct quire_mm *mm, struct rss_delta *delta, s64 sign)
{
	u64 file = delta->pages[MM_FILEPAGES] + delta->pages[MM_SHMEMPAGES];

	for (unsigned i = 0; i < NR_MM_COUNTERS; i++) {
		const s64 pages = (s64)delta->pages[i];

		if (pages)
			mm_rss_add(mm, cpu->id, (enum mm_counter)i, sign * pages);
	}
	count_event(cpu, NR_ANON_MAPPED, (u64)(sign * (s64)delta->pages[MM_ANONPAGES]));
	count_event(cpu, NR_FILE_MAPPED, (u64)(sign * (s64)file));
	*delta = (struct rss_delta){ 0 };
}

#endif
