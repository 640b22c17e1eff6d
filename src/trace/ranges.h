/* SPDX-License-Identifier: MIT */
/*
 * What an address space consists of: a sorted list of ranges that do not overlap, each with what is mapped there. Nothing
 * is merged; a range is split where a call cuts it. Used by the recorder to know which file a touch belongs to, and by the
 * model as its notion of VMAs. Deliberately the simplest thing that is right.
 */
#ifndef QUIRE_TRACE_RANGES_H
#define QUIRE_TRACE_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t start, end; /* addresses, page-aligned */
	uint64_t offset;     /* of @start in the file */
	uint32_t file;	     /* id + 1; 0: none */
	uint32_t prot;
	uint32_t flags; /* MAP_SHARED, MAP_GROWSDOWN and what the owner adds */
};

/* Empty when all zero. Not locked: the owner sees to that. */
struct ranges {
	struct range *list;
	size_t nr, room;
};

void ranges_destroy(struct ranges *ranges);

/* Makes @copy (empty before) equal to @ranges. False: no memory, @copy is empty. */
bool ranges_copy(struct ranges *copy, const struct ranges *ranges);

/* The range that contains @addr, or NULL. Valid until the next change. */
struct range *ranges_find(const struct ranges *ranges, uint64_t addr);

/* Index of the first range that ends above @addr; ranges->nr if there is none. */
size_t ranges_lower(const struct ranges *ranges, uint64_t addr);

/* Removes everything in [start, end), splitting ranges at both ends. False: no memory, nothing changed. */
bool ranges_remove(struct ranges *ranges, uint64_t start, uint64_t end);

/* Puts @range in, in the place of whatever was there. False: no memory; what was there may be gone. */
bool ranges_insert(struct ranges *ranges, const struct range *range);

/*
 * Makes @start and @end boundaries of ranges, so that [*first, *last) are the indices of those that lie within. False: no
 * memory.
 */
bool ranges_isolate(struct ranges *ranges, uint64_t start, uint64_t end, size_t *first, size_t *last);

#endif
