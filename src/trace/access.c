/* SPDX-License-Identifier: MIT */
/*
 * What an access to a page must do according to the flat model: find the range, as the stack grows find it anyway, decide
 * between memory and a signal, and give a process its own copy of a page before it stores to it.
 */
#include "trace/modelfile.h"

#include <sys/mman.h>

#define STACK_GAP (256ull * CONTENT_PAGE) /* Linux keeps this much free below a stack */

/* A stack reaches down to @addr if nothing that can be accessed is too near. mm->lock is held. */
static struct range *grow_stack(struct ranges *ranges, uint64_t addr)
{
	size_t above = ranges_lower(ranges, addr);
	const struct range *below;

	if (above == ranges->nr || !(ranges->list[above].flags & RANGE_GROWSDOWN))
		return NULL;
	if (above) {
		below = &ranges->list[above - 1];
		if (below->prot && !(below->flags & RANGE_GROWSDOWN) && addr - below->end < STACK_GAP)
			return NULL;
	}
	ranges->list[above].start = addr;
	return &ranges->list[above];
}

/* What the protection of a range allows. Protection keys and the like do not exist here. */
static bool may_access(const struct range *range, enum qrec_op kind)
{
	if (kind == QREC_STORE)
		return range->prot & PROT_WRITE;
	if (kind == QREC_FETCH)
		return range->prot & PROT_EXEC;
	/* x86 has no memory that can be written or executed and not read. */
	return range->prot;
}

/* Which page of the file @page shows. */
static uint64_t file_page(const struct range *range, uint64_t page)
{
	return range->offset / CONTENT_PAGE + page - range->start / CONTENT_PAGE;
}

/* How many whole lines of a page lie before the end of the file. */
static unsigned lines_before_end(const struct model_file *file, uint64_t page)
{
	uint64_t left = file->size - page * CONTENT_PAGE;

	return left >= CONTENT_PAGE ? CONTENT_LINES : (unsigned)left / CONTENT_LINE;
}

/* Makes the page at @place one that only this address space has. */
static bool take_own_copy(struct model *model, struct content **place)
{
	struct content *copy;

	if (*place && content_is_exclusive(*place))
		return true;
	copy = *place ? content_copy(*place, &model->live) : content_create(&model->live);
	if (!copy)
		return false;
	content_put(*place, CONTENT_OWNER, &model->live);
	*place = copy;
	return true;
}

/* Memory of the process itself: anonymous, or a private copy of a file's page. mm->lock is held. */
static enum model_verdict begin_private(struct model_mm *mm, uint64_t page, enum qrec_op kind,
					struct model_access *access)
{
	struct content **place, *content = pagemap_get(&mm->pages, page);

	if (content == &pagemap_guard)
		return MODEL_MAPERR;
	if (kind == QREC_STORE) {
		place = pagemap_place(&mm->pages, page);
		if (!place || !take_own_copy(mm->model, place))
			return MODEL_NO_MEMORY;
		content = *place;
	}
	if (content)
		content_get(content, CONTENT_PIN);
	access->content = content;
	access->lines = CONTENT_LINES;
	return MODEL_OK;
}

/* A store to a private mapping of a file, of which the process has no copy yet. The page's lock is held, and mm->lock. */
static enum model_verdict begin_copy(struct model_mm *mm, uint64_t page, const struct content *content,
				     struct model_access *access)
{
	struct content **place = pagemap_place(&mm->pages, page);

	if (!place)
		return MODEL_NO_MEMORY;
	*place = content_copy(content, &mm->model->live);
	if (!*place)
		return MODEL_NO_MEMORY;
	content_get(*place, CONTENT_PIN);
	access->content = *place;
	access->lines = CONTENT_LINES;
	return MODEL_OK;
}

/*
 * A page of a file that the process has no copy of. The page's lock is held, and stays so on success: until the access is
 * over nobody else may store to the page, or copy it. mm->lock is held.
 */
static enum model_verdict begin_file(struct model_mm *mm, const struct range *range, uint64_t page, enum qrec_op kind,
				     struct model_access *access)
{
	uint32_t id = range->file - 1;
	uint64_t index = file_page(range, page);
	struct content *content = model_file_content(mm->model, id, index);

	if (!content)
		return MODEL_NO_MEMORY;
	if (kind == QREC_STORE && !(range->flags & RANGE_SHARED))
		return begin_copy(mm, page, content, access);
	content_get(content, CONTENT_PIN);
	access->content = content;
	access->lines = lines_before_end(model_file(mm->model, id), index);
	return MODEL_OK;
}

/* Checks what can be checked before it matters whose page it is. mm->lock is held. */
static enum model_verdict find_range(struct model_mm *mm, uint64_t page, enum qrec_op kind, struct range **found)
{
	uint64_t addr = page * CONTENT_PAGE;
	struct range *range = ranges_find(&mm->ranges, addr);
	const struct model_file *file;

	if (!range)
		range = grow_stack(&mm->ranges, addr);
	*found = range;
	if (!range)
		return MODEL_MAPERR;
	if (!may_access(range, kind))
		return MODEL_ACCERR;
	if (!range->file)
		return MODEL_OK;
	file = model_file(mm->model, range->file - 1);
	return file_page(range, page) * CONTENT_PAGE < file->size ? MODEL_OK : MODEL_BUS;
}

/* With both locks held, or only mm->lock if access->lock is NULL. */
static enum model_verdict begin_locked(struct model_mm *mm, uint64_t page, enum qrec_op kind,
				       struct model_access *access, bool *wants_lock)
{
	struct range *range;
	enum model_verdict verdict = find_range(mm, page, kind, &range);

	*wants_lock = false;
	if (verdict != MODEL_OK)
		return verdict;
	if (!range->file || (!(range->flags & RANGE_SHARED) && pagemap_get(&mm->pages, page)))
		return begin_private(mm, page, kind, access);
	if (access->lock)
		return begin_file(mm, range, page, kind, access);
	*wants_lock = true;
	access->lock = model_page_lock(mm->model, range->file - 1, file_page(range, page));
	return MODEL_OK;
}

/* Twice round if a file's page is involved: the first look finds out which lock it takes. */
enum model_verdict model_begin(struct model_mm *mm, uint64_t page, enum qrec_op kind, struct model_access *access)
{
	enum model_verdict verdict;
	bool wants_lock;

	*access = (struct model_access){ .model = mm->model };
	pthread_mutex_lock(&mm->lock);
	verdict = begin_locked(mm, page, kind, access, &wants_lock);
	if (wants_lock) {
		/* The page's lock comes first. Another thread may take a copy meanwhile: then it is not needed. */
		pthread_mutex_unlock(&mm->lock);
		pthread_mutex_lock(access->lock);
		pthread_mutex_lock(&mm->lock);
		verdict = begin_locked(mm, page, kind, access, &wants_lock);
	}
	pthread_mutex_unlock(&mm->lock);
	if (verdict != MODEL_OK && access->lock)
		pthread_mutex_unlock(access->lock);
	return verdict;
}

/* The page's lock last: the content may be freed with the pin. */
void model_end(struct model_access *access)
{
	content_put(access->content, CONTENT_PIN, &access->model->live);
	if (access->lock)
		pthread_mutex_unlock(access->lock);
}

bool model_is_current(struct model_mm *mm, uint64_t page, const struct model_access *access)
{
	bool current;

	/* A file's page is locked: whoever stores to it, or takes a copy, waits. */
	if (access->lock)
		return true;
	pthread_mutex_lock(&mm->lock);
	current = pagemap_get(&mm->pages, page) == access->content;
	pthread_mutex_unlock(&mm->lock);
	return current;
}
