/* SPDX-License-Identifier: MIT */
/*
 * The set of touches that were recorded: a hash table with linear probing. Forgetting does not take slots out, which would
 * break the probing, but gives them an old epoch; they are dropped when the table is rebuilt.
 */
#include "trace/fold.h"

#include <stdlib.h>
#include <string.h>

#define LEAST_ROOM 4096u

/* Thread, page and kind in one word, never 0: 16, 35 and 2 bits and a one. */
static uint64_t make_key(uint32_t thread, uint64_t page, enum qrec_op kind)
{
	return (uint64_t)thread << 40 | page << 3 | (uint64_t)kind << 1 | 1;
}

/* The middle of a key: see make_key. */
static uint64_t page_of(uint64_t key)
{
	return key >> 3 & (QREC_PAGES_MAX - 1);
}

void fold_destroy(struct fold *fold)
{
	free(fold->slots);
	*fold = (struct fold){ 0 };
}

/* The slot of @key, or the free one where it belongs. There always is one: the table is at most half full. */
static struct fold_slot *find_slot(const struct fold *fold, uint64_t key)
{
	size_t i = (key * 0x9e3779b97f4a7c15u) >> 20 & (fold->room - 1);

	while (fold->slots[i].key && fold->slots[i].key != key)
		i = (i + 1) & (fold->room - 1);
	return &fold->slots[i];
}

/* How many touches are in the set now; the other slots hold what was forgotten. */
static size_t count_current(const struct fold *fold)
{
	size_t nr = 0;

	for (size_t i = 0; i < fold->room; i++)
		nr += fold->slots[i].key && fold->slots[i].epoch == fold->epoch;
	return nr;
}

/* Rebuilds the table without what was forgotten, at most a quarter full. */
static bool rebuild(struct fold *fold)
{
	struct fold old = *fold;
	size_t room = LEAST_ROOM, nr = count_current(fold);

	while (room < 4 * nr)
		room *= 2;
	fold->slots = calloc(room, sizeof(*fold->slots));
	if (!fold->slots) {
		*fold = old;
		return false;
	}
	fold->room = room;
	fold->used = nr;
	for (size_t i = 0; i < old.room; i++)
		if (old.slots[i].key && old.slots[i].epoch == fold->epoch)
			*find_slot(fold, old.slots[i].key) = old.slots[i];
	free(old.slots);
	return true;
}

bool fold_touch(struct fold *fold, uint32_t thread, uint64_t page, enum qrec_op kind)
{
	uint64_t key = make_key(thread, page, kind);
	struct fold_slot *slot;

	if (fold->last[kind] == key)
		return false;
	if (2 * fold->used >= fold->room && !rebuild(fold))
		return false;
	fold->last[kind] = key;
	slot = find_slot(fold, key);
	if (slot->key && slot->epoch == fold->epoch)
		return false;
	fold->used += !slot->key;
	*slot = (struct fold_slot){ .key = key, .epoch = fold->epoch };
	if (thread >= fold->nr_threads)
		fold->nr_threads = thread + 1;
	return true;
}

/* Stays in its slot, out of the set. */
static void forget_one(struct fold *fold, uint64_t key)
{
	struct fold_slot *slot = find_slot(fold, key);

	/* An epoch that never comes: they only rise. */
	if (slot->key)
		slot->epoch = UINT64_MAX;
}

/* For small ranges: three kinds for every thread and page are looked up. */
static void forget_by_page(struct fold *fold, uint64_t page, uint64_t pages)
{
	for (uint64_t p = page; p < page + pages; p++)
		for (uint32_t thread = 0; thread < fold->nr_threads; thread++)
			for (enum qrec_op kind = QREC_LOAD; kind <= QREC_FETCH; kind++)
				forget_one(fold, make_key(thread, p, kind));
}

/* For large ranges: the whole table is looked at once. */
static void forget_by_slot(struct fold *fold, uint64_t page, uint64_t pages)
{
	for (size_t i = 0; i < fold->room; i++)
		if (fold->slots[i].key && page_of(fold->slots[i].key) - page < pages)
			fold->slots[i].epoch = UINT64_MAX;
}

void fold_forget(struct fold *fold, uint64_t page, uint64_t pages)
{
	memset(fold->last, 0, sizeof(fold->last));
	if (!fold->room)
		return;
	/* Whichever looks at fewer slots. */
	if (pages < fold->room / (3 * (size_t)fold->nr_threads + 1))
		forget_by_page(fold, page, pages);
	else
		forget_by_slot(fold, page, pages);
}

void fold_forget_all(struct fold *fold)
{
	memset(fold->last, 0, sizeof(fold->last));
	fold->epoch++;
}
