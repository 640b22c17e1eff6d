/* SPDX-License-Identifier: MIT */
/*
 * What a leaf entry can be when it is not present. One enum, one decoder, tiny predicates: no raw bit test of a
 * non-present entry stands outside this file. Named as Linux's softleaf_t.
 *
 *      63 ........ 12  11..9   8            7..5    4..1   0
 *      offset or pfn   flags   0 (PROTNONE) (zero)  type   0 (PRESENT)
 */
#ifndef QUIRE_MM_SOFTLEAF_H
#define QUIRE_MM_SOFTLEAF_H

#include "mm/pgtable.h"

typedef u64 softleaf_t;

enum softleaf_type {
	SOFTLEAF_NONE,
	SOFTLEAF_SWAP,
	SOFTLEAF_MIGRATION_READ,
	SOFTLEAF_MIGRATION_READ_EXCLUSIVE,
	SOFTLEAF_MIGRATION_WRITE,
	SOFTLEAF_HWPOISON,
	SOFTLEAF_DEVICE_PRIVATE,
	SOFTLEAF_DEVICE_EXCLUSIVE,
	SOFTLEAF_MARKER,
	NR_SOFTLEAF_TYPES,
};

/* Markers stand for no page at all, and change what a fault there does. */
#define MARKER_GUARD (1ull << 0)    /* MADV_GUARD_INSTALL: any access is SIGSEGV */
#define MARKER_POISONED (1ull << 1) /* an access is SIGBUS */
#define MARKER_UFFD_WP (1ull << 2)

static inline enum softleaf_type softleaf_type(pte_t pte)
{
	return pte == 0 ? SOFTLEAF_NONE : (enum softleaf_type)(pte >> 1 & 0xf);
}

static inline u64 softleaf_offset(pte_t pte)
{
	return pte >> PAGE_SHIFT;
}

static inline pte_t softleaf_mk(enum softleaf_type type, u64 offset)
{
	return offset << PAGE_SHIFT | (u64)type << 1;
}

static inline bool softleaf_is_swap(pte_t pte)
{
	return softleaf_type(pte) == SOFTLEAF_SWAP;
}

static inline bool softleaf_is_marker(pte_t pte)
{
	return softleaf_type(pte) == SOFTLEAF_MARKER;
}

static inline bool softleaf_is_guard(pte_t pte)
{
	return softleaf_is_marker(pte) && (softleaf_offset(pte) & MARKER_GUARD);
}

static inline bool softleaf_is_migration(pte_t pte)
{
	enum softleaf_type type = softleaf_type(pte);

	return type >= SOFTLEAF_MIGRATION_READ && type <= SOFTLEAF_MIGRATION_WRITE;
}

static inline pte_t softleaf_mk_guard(void)
{
	return softleaf_mk(SOFTLEAF_MARKER, MARKER_GUARD);
}

#endif
