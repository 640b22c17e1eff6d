/* SPDX-License-Identifier: MIT */
/*
 * Sorted list of the ranges of an address space. An array: programs have tens to thousands of mappings and look them up a
 * thousand times more often than they change them.
 */
#include "trace/ranges.h"

#include <stdlib.h>
#include <string.h>

void ranges_destroy(struct ranges *ranges)
{
	free(ranges->list);
	*ranges = (struct ranges){ 0 };
}

/* Exactly as large as it is: a copy is made by fork, and most children change little. */
bool ranges_copy(struct ranges *copy, const struct ranges *ranges)
{
	*copy = (struct ranges){ 0 };
	if (!ranges->nr)
		return true;
	copy->list = malloc(ranges->nr * sizeof(*copy->list));
	if (!copy->list)
		return false;
	memcpy(copy->list, ranges->list, ranges->nr * sizeof(*copy->list));
	copy->nr = copy->room = ranges->nr;
	return true;
}

/* Binary search by end: ranges do not overlap, so their ends rise with their starts. */
size_t ranges_lower(const struct ranges *ranges, uint64_t addr)
{
	size_t low = 0, high = ranges->nr;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ranges->list[middle].end > addr)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* The first that ends above may begin above, too: then @addr is in a gap. */
struct range *ranges_find(const struct ranges *ranges, uint64_t addr)
{
	size_t i = ranges_lower(ranges, addr);

	return i < ranges->nr && ranges->list[i].start <= addr ? &ranges->list[i] : NULL;
}

/* Makes room for one more range at index @at. */
static bool open_gap(struct ranges *ranges, size_t at)
{
	if (ranges->nr == ranges->room) {
		size_t room = ranges->room ? 2 * ranges->room : 32;
		struct range *list = reallocarray(ranges->list, room, sizeof(*list));

		if (!list)
			return false;
		ranges->list = list;
		ranges->room = room;
	}
	memmove(&ranges->list[at + 1], &ranges->list[at], (ranges->nr - at) * sizeof(*ranges->list));
	ranges->nr++;
	return true;
}

/* Makes @addr a boundary. */
static bool split(struct ranges *ranges, uint64_t addr)
{
	size_t i = ranges_lower(ranges, addr);

	if (i == ranges->nr || ranges->list[i].start >= addr)
		return true;
	if (!open_gap(ranges, i))
		return false;
	ranges->list[i].end = addr;
	ranges->list[i + 1].offset += addr - ranges->list[i].start;
	ranges->list[i + 1].start = addr;
	return true;
}

/* Split at the start first: the second split then cannot move what the first found. */
bool ranges_isolate(struct ranges *ranges, uint64_t start, uint64_t end, size_t *first, size_t *last)
{
	if (!split(ranges, start) || !split(ranges, end))
		return false;
	*first = ranges_lower(ranges, start);
	*last = *first;
	while (*last < ranges->nr && ranges->list[*last].start < end)
		++*last;
	return true;
}

/* What is cut at its ends keeps the rest, with the offset moved along. */
bool ranges_remove(struct ranges *ranges, uint64_t start, uint64_t end)
{
	size_t first, last;

	if (!ranges_isolate(ranges, start, end, &first, &last))
		return false;
	if (first == last)
		return true;
	memmove(&ranges->list[first], &ranges->list[last], (ranges->nr - last) * sizeof(*ranges->list));
	ranges->nr -= last - first;
	return true;
}

/* Nothing is joined with its neighbours. Linux does, but nobody can read that from memory. */
bool ranges_insert(struct ranges *ranges, const struct range *range)
{
	size_t at;

	if (!ranges_remove(ranges, range->start, range->end))
		return false;
	at = ranges_lower(ranges, range->start);
	if (!open_gap(ranges, at))
		return false;
	ranges->list[at] = *range;
	return true;
}
