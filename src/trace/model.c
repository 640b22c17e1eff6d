/* SPDX-License-Identifier: MIT */
/*
 * The flat model of address spaces: which ranges are mapped, and which pages a process has to itself. Files are in
 * modelfile.c, accesses in access.c.
 */
#define _GNU_SOURCE
#include "trace/model.h"

#include "trace/modelfile.h"

#include <stdlib.h>
#include <sys/mman.h>

/* Advice that the headers of Debian 12 do not know. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define GUARDS_MAX (1u << 22) /* pages of guard regions set by one call */

static uint64_t page_up(uint64_t value)
{
	return (value + CONTENT_PAGE - 1) & ~(uint64_t)(CONTENT_PAGE - 1);
}

/* How many pages @len bytes are, the last one perhaps in part. */
static uint64_t pages_of(uint64_t len)
{
	return page_up(len) / CONTENT_PAGE;
}

/* ------------------------------------------------------------------------------------------------------- lives */

/* The list is for truncation, which must reach all address spaces. */
static void link_mm(struct model_mm *mm)
{
	struct model *model = mm->model;

	pthread_mutex_lock(&model->lock);
	mm->next = model->mms;
	if (mm->next)
		mm->next->previous = mm;
	model->mms = mm;
	pthread_mutex_unlock(&model->lock);
}

static void unlink_mm(struct model_mm *mm)
{
	struct model *model = mm->model;

	pthread_mutex_lock(&model->lock);
	if (mm->next)
		mm->next->previous = mm->previous;
	if (mm->previous)
		mm->previous->next = mm->next;
	else
		model->mms = mm->next;
	pthread_mutex_unlock(&model->lock);
}

/* Without ranges: what there is comes from records. */
struct model_mm *model_mm_create(struct model *model)
{
	struct model_mm *mm = calloc(1, sizeof(*mm));

	if (!mm)
		return NULL;
	mm->model = model;
	pthread_mutex_init(&mm->lock, NULL);
	link_mm(mm);
	return mm;
}

/* Contents that children or parents have, too, stay with them. */
void model_mm_destroy(struct model_mm *mm)
{
	unlink_mm(mm);
	pagemap_destroy(&mm->pages, &mm->model->live);
	ranges_destroy(&mm->ranges);
	pthread_mutex_destroy(&mm->lock);
	free(mm);
}

struct share {
	struct model_mm *child;
	bool ok;
};

/* The child has the same page; whoever stores first takes a copy. */
static void share_page(void *arg, uint64_t page, struct content **place)
{
	struct share *share = arg;
	struct content **copy = pagemap_place(&share->child->pages, page);

	if (!copy) {
		share->ok = false;
		return;
	}
	if (*place != &pagemap_guard)
		content_get(*place, CONTENT_OWNER);
	*copy = *place;
}

/* One range of the parent, as its child gets it. */
static bool fork_range(struct model_mm *parent, struct model_mm *child, const struct range *range)
{
	struct share share = { .child = child, .ok = true };

	if (range->flags & RANGE_DONTFORK)
		return true;
	if (!ranges_insert(&child->ranges, range))
		return false;
	if (!(range->flags & RANGE_WIPEONFORK))
		pagemap_for_each(&parent->pages, range->start / CONTENT_PAGE, pages_of(range->end - range->start),
				 share_page, &share);
	return share.ok;
}

/*
 * Contents are shared, not copied, as in a real fork; unlike there, who stores first decides nothing but who copies.
 */
struct model_mm *model_mm_fork(struct model_mm *parent)
{
	struct model_mm *child = model_mm_create(parent->model);
	bool ok = child;

	if (!child)
		return NULL;
	pthread_mutex_lock(&parent->lock);
	for (size_t i = 0; ok && i < parent->ranges.nr; i++)
		ok = fork_range(parent, child, &parent->ranges.list[i]);
	pthread_mutex_unlock(&parent->lock);
	if (ok)
		return child;
	model_mm_destroy(child);
	return NULL;
}

/* -------------------------------------------------------------------------------------------- mapping and unmapping */

/* What the address space had to itself in this range is forgotten; files keep theirs. */
static void drop_pages(struct model_mm *mm, uint64_t addr, uint64_t len)
{
	pagemap_drop(&mm->pages, addr / CONTENT_PAGE, pages_of(len), &mm->model->live);
}

/* mm->lock is held. */
static bool unmap(struct model_mm *mm, uint64_t addr, uint64_t len)
{
	drop_pages(mm, addr, len);
	return ranges_remove(&mm->ranges, addr, addr + page_up(len));
}

/* A new mapping begins without contents of its own, whatever was there before. mm->lock is held. */
static bool map(struct model_mm *mm, const struct range *range)
{
	drop_pages(mm, range->start, range->end - range->start);
	return ranges_insert(&mm->ranges, range);
}

/* Flags are reduced to what the model knows. Populating, locking and reserving change no content. */
bool model_map(struct model_mm *mm, uint64_t addr, uint64_t len, uint32_t prot, uint32_t flags, uint32_t file,
	       uint64_t offset)
{
	struct range range = {
		.start = addr, .end = addr + page_up(len), .prot = prot, .file = file, .offset = offset
	};
	bool ok;

	range.flags = (flags & MAP_SHARED ? RANGE_SHARED : 0) | (flags & MAP_GROWSDOWN ? RANGE_GROWSDOWN : 0);
	/* Shared memory without a name is a file that nobody else can open. */
	if (!file && flags & MAP_SHARED) {
		range.file = model_file_add_unnamed(mm->model, page_up(len));
		range.offset = 0;
		if (!range.file)
			return false;
	}
	pthread_mutex_lock(&mm->lock);
	ok = map(mm, &range);
	pthread_mutex_unlock(&mm->lock);
	return ok;
}

/* Also of what was never mapped: munmap does not mind. */
bool model_unmap(struct model_mm *mm, uint64_t addr, uint64_t len)
{
	bool ok;

	pthread_mutex_lock(&mm->lock);
	ok = unmap(mm, addr, len);
	pthread_mutex_unlock(&mm->lock);
	return ok;
}

/* Gaps in the range are not this model's affair: the call has succeeded. */
bool model_protect(struct model_mm *mm, uint64_t addr, uint64_t len, uint32_t prot)
{
	size_t first, last;
	bool ok;

	pthread_mutex_lock(&mm->lock);
	ok = ranges_isolate(&mm->ranges, addr, addr + page_up(len), &first, &last);
	for (; ok && first < last; first++)
		mm->ranges.list[first].prot = prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
	pthread_mutex_unlock(&mm->lock);
	return ok;
}

/* The heap is memory like any other. Only whole pages matter. */
bool model_brk(struct model_mm *mm, uint64_t old, uint64_t brk)
{
	old = page_up(old);
	brk = page_up(brk);
	if (brk > old)
		return model_map(mm, old, brk - old, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, 0);
	return brk == old || model_unmap(mm, brk, old - brk);
}

/* ------------------------------------------------------------------------------------------------------- mremap */

/* Contents on their way from one place to another. */
struct move {
	struct moved {
		uint64_t page;
		struct content *content;
	} * list;
	size_t nr, room;
	bool ok;
};

/* Ownership goes from the map to the list; references do not change. */
static void take_page(void *arg, uint64_t page, struct content **place)
{
	struct move *move = arg;

	if (move->nr == move->room) {
		size_t room = move->room ? 2 * move->room : 64;
		struct moved *list = reallocarray(move->list, room, sizeof(*list));

		if (!list) {
			move->ok = false;
			return;
		}
		move->list = list;
		move->room = room;
	}
	move->list[move->nr++] = (struct moved){ page, *place };
	*place = NULL;
}

/* Pages of [addr, addr + len) go to @new_addr, where there are none. Taken out first, as a map may not grow while walked. */
static bool move_pages(struct model_mm *mm, uint64_t addr, uint64_t len, uint64_t new_addr)
{
	struct move move = { .ok = true };

	pagemap_for_each(&mm->pages, addr / CONTENT_PAGE, pages_of(len), take_page, &move);
	for (size_t i = 0; move.ok && i < move.nr; i++) {
		uint64_t page = move.list[i].page - addr / CONTENT_PAGE + new_addr / CONTENT_PAGE;
		struct content **place = pagemap_place(&mm->pages, page);

		if (place)
			*place = move.list[i].content;
		else
			move.ok = false;
	}
	free(move.list);
	return move.ok;
}

/* In place: only the end moves. */
static bool resize(struct model_mm *mm, uint64_t addr, uint64_t len, uint64_t new_len)
{
	struct range *range;

	if (new_len <= len)
		return new_len == len || unmap(mm, addr + new_len, len - new_len);
	range = ranges_find(&mm->ranges, addr + len - 1);
	if (range && range->end == addr + len)
		range->end = addr + new_len;
	return true;
}

/*
 * Elsewhere: what is at the new place goes, a shorter mapping loses its tail, a longer one gains an empty one. A
 * length of zero leaves the old mapping as it is and maps its file a second time. mm->lock is held.
 */
static bool move(struct model_mm *mm, uint64_t addr, uint64_t len, uint64_t new_addr, uint64_t new_len, bool dont_unmap)
{
	const struct range *from = ranges_find(&mm->ranges, addr);
	struct range range;

	if (!from)
		return true;
	range = *from;
	range.offset += addr - range.start;
	range.start = new_addr;
	range.end = new_addr + new_len;
	if (new_len < len && !unmap(mm, addr + new_len, len - new_len))
		return false;
	len = new_len < len ? new_len : len;
	if (!map(mm, &range) || (len && !move_pages(mm, addr, len, new_addr)))
		return false;
	return !len || dont_unmap || unmap(mm, addr, len);
}

/*
 * Addresses come from a call that succeeded: the old range is mapped, the new one is free or meant to be replaced.
 */
bool model_remap(struct model_mm *mm, uint64_t addr, uint64_t len, uint64_t new_addr, uint64_t new_len, bool dont_unmap)
{
	bool ok;

	pthread_mutex_lock(&mm->lock);
	if (addr == new_addr)
		ok = resize(mm, addr, page_up(len), page_up(new_len));
	else
		ok = move(mm, addr, page_up(len), new_addr, page_up(new_len), dont_unmap);
	pthread_mutex_unlock(&mm->lock);
	return ok;
}

/* ------------------------------------------------------------------------------------------------------ madvise */

/* Guard regions stay; everything else in the range is forgotten. */
static void forget_page(void *arg, uint64_t page, struct content **place)
{
	(void)page;
	if (*place == &pagemap_guard)
		return;
	content_put(*place, CONTENT_OWNER, arg);
	*place = NULL;
}

/* From now until it is stored to, a line may read as zeroes. */
static void free_page_lazily(void *arg, uint64_t page, struct content **place)
{
	struct model_mm *mm = arg;
	struct content *copy;

	(void)page;
	if (*place == &pagemap_guard)
		return;
	if (!content_is_exclusive(*place)) {
		/* A copy that is not made keeps the old contents, which are allowed too. */
		copy = content_copy(*place, &mm->model->live);
		if (!copy)
			return;
		content_put(*place, CONTENT_OWNER, &mm->model->live);
		*place = copy;
	}
	(*place)->lazy = UINT64_MAX;
}

/* Only guards go; contents that are there stay. */
static void remove_guard(void *arg, uint64_t page, struct content **place)
{
	(void)arg;
	(void)page;
	if (*place == &pagemap_guard)
		*place = NULL;
}

/* Contents in the range are dropped, as Linux zaps what it guards. mm->lock is held. */
static bool install_guards(struct model_mm *mm, uint64_t page, uint64_t pages)
{
	/* Nobody guards gigabytes page by page; whoever wrote this recording wants our memory. */
	if (pages > GUARDS_MAX)
		return false;
	pagemap_drop(&mm->pages, page, pages, &mm->model->live);
	for (uint64_t end = page + pages; page < end; page++) {
		struct content **place = pagemap_place(&mm->pages, page);

		if (!place)
			return false;
		*place = &pagemap_guard;
	}
	return true;
}

/* MADV_REMOVE: the part of the file that each range shows becomes a hole. */
static bool remove_file_pages(struct model_mm *mm, uint64_t addr, uint64_t end)
{
	bool ok = true;

	for (size_t i = ranges_lower(&mm->ranges, addr); ok && i < mm->ranges.nr; i++) {
		const struct range *range = &mm->ranges.list[i];
		uint64_t from = range->start > addr ? range->start : addr, to = range->end < end ? range->end : end;

		if (from >= to)
			break;
		if (range->file)
			ok = model_file_punch(mm->model, range->file - 1, range->offset + from - range->start,
					      to - from);
	}
	return ok;
}

/*
 * Splits ranges where the advice begins and ends; they are never joined again, which nobody can tell. mm->lock is
 * held.
 */
static bool set_flags(struct model_mm *mm, uint64_t addr, uint64_t end, uint32_t set, uint32_t clear)
{
	size_t first, last;

	if (!ranges_isolate(&mm->ranges, addr, end, &first, &last))
		return false;
	for (; first < last; first++)
		mm->ranges.list[first].flags = (mm->ranges.list[first].flags & ~clear) | set;
	return true;
}

/* mm->lock is held. MADV_REMOVE is exclusive work: it is about a file, and so about everybody. */
static bool advise(struct model_mm *mm, uint64_t addr, uint64_t len, int advice)
{
	uint64_t page = addr / CONTENT_PAGE, pages = pages_of(len), end = addr + page_up(len);

	switch (advice) {
	case MADV_DONTNEED:
		pagemap_for_each(&mm->pages, page, pages, forget_page, &mm->model->live);
		return true;
	case MADV_FREE:
		pagemap_for_each(&mm->pages, page, pages, free_page_lazily, mm);
		return true;
	case MADV_REMOVE:
		return remove_file_pages(mm, addr, end);
	case MADV_GUARD_INSTALL:
		return install_guards(mm, page, pages);
	case MADV_GUARD_REMOVE:
		pagemap_for_each(&mm->pages, page, pages, remove_guard, NULL);
		return true;
	case MADV_DONTFORK:
		return set_flags(mm, addr, end, RANGE_DONTFORK, 0);
	case MADV_DOFORK:
		return set_flags(mm, addr, end, 0, RANGE_DONTFORK);
	case MADV_WIPEONFORK:
		return set_flags(mm, addr, end, RANGE_WIPEONFORK, 0);
	case MADV_KEEPONFORK:
		return set_flags(mm, addr, end, 0, RANGE_WIPEONFORK);
	default:
		/* Changes nothing that a program could read. */
		return true;
	}
}

bool model_advise(struct model_mm *mm, uint64_t addr, uint64_t len, int advice)
{
	bool ok;

	pthread_mutex_lock(&mm->lock);
	ok = advise(mm, addr, len, advice);
	pthread_mutex_unlock(&mm->lock);
	return ok;
}
