/* SPDX-License-Identifier: MIT */
/*
 * From page numbers to contents: what the model's address spaces and files are made of. Pages are kept in leaves of 512,
 * found through a hash table. Not locked: the owner sees to that.
 */
#ifndef QUIRE_TRACE_PAGEMAP_H
#define QUIRE_TRACE_PAGEMAP_H

#include "trace/content.h"

#define PAGEMAP_LEAF 512u

struct pagemap_leaf {
	uint64_t number; /* page number / PAGEMAP_LEAF */
	struct content *page[PAGEMAP_LEAF];
};

/* Empty when all zero. */
struct pagemap {
	struct pagemap_leaf **slots;
	size_t room, nr; /* a power of two; leaves */
};

struct content *pagemap_get(const struct pagemap *map, uint64_t page);

/* Where the content of @page is kept, to be changed; NULL: no memory. The place stays the same as long as the map lives. */
struct content **pagemap_place(struct pagemap *map, uint64_t page);

/*
 * Calls @visit for every page of [page, page + pages) that has a content, in no particular order. It may change the place
 * (also to NULL), but not add others.
 */
typedef void (*pagemap_visit)(void *arg, uint64_t page, struct content **place);
void pagemap_for_each(struct pagemap *map, uint64_t page, uint64_t pages, pagemap_visit visit, void *arg);

/* Drops the contents of a range, as their owner. */
void pagemap_drop(struct pagemap *map, uint64_t page, uint64_t pages, uint64_t *live);

/* Drops all contents and the map itself. */
void pagemap_destroy(struct pagemap *map, uint64_t *live);

/* The content that stands for a guard region: it has no references and is never freed. */
extern struct content pagemap_guard;

#endif
