/* SPDX-License-Identifier: MIT */
/*
 * A hash table of leaves. Leaves are not taken out before the end: programs come back to addresses that they used.
 */
#include "trace/pagemap.h"

#include <stdlib.h>

#define LEAST_ROOM 16u

struct content pagemap_guard;

/* The slot of the leaf, or the empty one where it belongs. map->room is not 0. */
static struct pagemap_leaf **find_slot(const struct pagemap *map, uint64_t number)
{
	size_t i = (number * 0x9e3779b97f4a7c15u) >> 32 & (map->room - 1);

	while (map->slots[i] && map->slots[i]->number != number)
		i = (i + 1) & (map->room - 1);
	return &map->slots[i];
}

/* A leaf that does not exist has no contents; looking does not make it. */
struct content *pagemap_get(const struct pagemap *map, uint64_t page)
{
	const struct pagemap_leaf *leaf = map->room ? *find_slot(map, page / PAGEMAP_LEAF) : NULL;

	return leaf ? leaf->page[page % PAGEMAP_LEAF] : NULL;
}

/* Leaves stay where they are, only the table that finds them changes. */
static bool grow(struct pagemap *map)
{
	struct pagemap old = *map;

	map->room = old.room ? 2 * old.room : LEAST_ROOM;
	map->slots = calloc(map->room, sizeof(struct pagemap_leaf *));
	if (!map->slots) {
		*map = old;
		return false;
	}
	for (size_t i = 0; i < old.room; i++)
		if (old.slots[i])
			*find_slot(map, old.slots[i]->number) = old.slots[i];
	free(old.slots);
	return true;
}

/* Makes the leaf if there is none: whoever asks for a place is going to put something there. */
struct content **pagemap_place(struct pagemap *map, uint64_t page)
{
	struct pagemap_leaf **slot;

	if (2 * map->nr >= map->room && !grow(map))
		return NULL;
	slot = find_slot(map, page / PAGEMAP_LEAF);
	if (!*slot) {
		*slot = calloc(1, sizeof(**slot));
		if (!*slot)
			return NULL;
		(*slot)->number = page / PAGEMAP_LEAF;
		map->nr++;
	}
	return &(*slot)->page[page % PAGEMAP_LEAF];
}

/* Visits what of @leaf lies in the range. */
static void visit_leaf(struct pagemap_leaf *leaf, uint64_t page, uint64_t pages, pagemap_visit visit, void *arg)
{
	uint64_t first = leaf->number * PAGEMAP_LEAF;

	for (unsigned i = 0; i < PAGEMAP_LEAF; i++)
		if (leaf->page[i] && first + i - page < pages)
			visit(arg, first + i, &leaf->page[i]);
}

void pagemap_for_each(struct pagemap *map, uint64_t page, uint64_t pages, pagemap_visit visit, void *arg)
{
	uint64_t first = page / PAGEMAP_LEAF, last = (page + pages - 1) / PAGEMAP_LEAF;

	if (!map->nr || !pages)
		return;
	/* Whichever is shorter: the leaves that could exist, or those that do. */
	if (last - first < map->room) {
		for (uint64_t number = first; number <= last; number++)
			if (*find_slot(map, number))
				visit_leaf(*find_slot(map, number), page, pages, visit, arg);
		return;
	}
	for (size_t i = 0; i < map->room; i++)
		if (map->slots[i])
			visit_leaf(map->slots[i], page, pages, visit, arg);
}

/* Guards have no references. */
static void drop_one(void *arg, uint64_t page, struct content **place)
{
	(void)page;
	if (*place != &pagemap_guard)
		content_put(*place, CONTENT_OWNER, arg);
	*place = NULL;
}

/* The places stay, empty. */
void pagemap_drop(struct pagemap *map, uint64_t page, uint64_t pages, uint64_t *live)
{
	pagemap_for_each(map, page, pages, drop_one, live);
}

/* Contents that others own as well live on. */
void pagemap_destroy(struct pagemap *map, uint64_t *live)
{
	pagemap_drop(map, 0, UINT64_MAX, live);
	for (size_t i = 0; i < map->room; i++)
		free(map->slots[i]);
	free(map->slots);
	*map = (struct pagemap){ 0 };
}
