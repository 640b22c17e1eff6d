/* SPDX-License-Identifier: MIT */
/* Looking at the entries of a range, for views. Nothing is changed; whoever changes entries has walks of its own. */
#ifndef QUIRE_MM_PAGEWALK_H
#define QUIRE_MM_PAGEWALK_H

#include "mm/instance.h"

struct page_walk;

/* Called with the lock of the entry's table held: what the entry names stays, nothing may sleep. @level is 0 for an entry
 * of one page and 1 for a leaf PMD, of which [addr, end) is the part inside the range. None entries are left out. */
typedef void (*page_walk_fn)(struct page_walk *walk, u64 entry, u64 addr, u64 end, unsigned level);

struct page_walk {
	struct quire_mm *mm;
	page_walk_fn entry;
	void *arg;
};

/* Visits [start, end) of one VMA in address order. mmap lock held (read), so its tables stay. */
void walk_page_range(struct page_walk *walk, u64 start, u64 end);

#endif
