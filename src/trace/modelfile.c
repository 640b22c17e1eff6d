/* SPDX-License-Identifier: MIT */
/*
 * The files of the flat model: a size, a pattern that they began with, and marks where something was stored.
 */
#include "trace/modelfile.h"

#include <stdlib.h>

/* Chunks are never moved or freed while the model lives: readers take no lock. */
static bool add_chunk(struct model *model, uint32_t chunk)
{
	if (!model->chunks[chunk])
		model->chunks[chunk] = calloc(MODEL_FILE_CHUNK, sizeof(struct model_file *));
	return model->chunks[chunk];
}

/* All chunks for named files at once: their ids are known from the totals. */
bool model_init(struct model *model, uint32_t nr_files)
{
	*model = (struct model){ .nr_files = nr_files, .nr_named = nr_files };
	pthread_mutex_init(&model->lock, NULL);
	for (unsigned i = 0; i < MODEL_PAGE_LOCKS; i++)
		pthread_mutex_init(&model->page_locks[i], NULL);
	for (uint32_t id = 0; id < nr_files; id += MODEL_FILE_CHUNK)
		if (id / MODEL_FILE_CHUNK >= MODEL_FILE_CHUNKS || !add_chunk(model, id / MODEL_FILE_CHUNK)) {
			model_destroy(model);
			return false;
		}
	return true;
}

/* NULL is allowed: not every id was used. */
static void destroy_file(struct model *model, struct model_file *file)
{
	if (!file)
		return;
	pagemap_destroy(&file->pages, &model->live);
	pthread_mutex_destroy(&file->lock);
	free(file);
}

/* Address spaces first: they own copies of files' pages. */
void model_destroy(struct model *model)
{
	while (model->mms)
		model_mm_destroy(model->mms);
	for (uint32_t chunk = 0; chunk < MODEL_FILE_CHUNKS; chunk++) {
		for (uint32_t i = 0; model->chunks[chunk] && i < MODEL_FILE_CHUNK; i++)
			destroy_file(model, model->chunks[chunk][i]);
		free(model->chunks[chunk]);
		model->chunks[chunk] = NULL;
	}
	for (unsigned i = 0; i < MODEL_PAGE_LOCKS; i++)
		pthread_mutex_destroy(&model->page_locks[i]);
	pthread_mutex_destroy(&model->lock);
}

struct model_file *model_file(const struct model *model, uint32_t id)
{
	return model->chunks[id / MODEL_FILE_CHUNK][id % MODEL_FILE_CHUNK];
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Only files on disk begin as something. The pattern ends where the host's copy becomes a hole. */
bool model_file_add(struct model *model, uint32_t id, enum qrec_file_kind kind, uint64_t size)
{
	struct model_file *file = calloc(1, sizeof(*file));

	if (!file)
		return false;
	file->kind = kind;
	file->size = size;
	file->pattern = kind == QREC_FILE_DISK ? least(size, MODEL_PATTERN_MAX) : 0;
	pthread_mutex_init(&file->lock, NULL);
	model->chunks[id / MODEL_FILE_CHUNK][id % MODEL_FILE_CHUNK] = file;
	return true;
}

/* Ids above all named ones. The lock is for two CPUs that map shared memory at once. */
uint32_t model_file_add_unnamed(struct model *model, uint64_t size)
{
	uint32_t id;
	bool ok;

	pthread_mutex_lock(&model->lock);
	id = model->nr_files;
	ok = id / MODEL_FILE_CHUNK < MODEL_FILE_CHUNKS && add_chunk(model, id / MODEL_FILE_CHUNK) &&
	     model_file_add(model, id, QREC_FILE_SHMEM, size);
	model->nr_files += ok;
	pthread_mutex_unlock(&model->lock);
	return ok ? id + 1 : 0;
}

/* Few locks for many pages: two pages that share one wait for each other now and then, no more. */
pthread_mutex_t *model_page_lock(struct model *model, uint32_t id, uint64_t page)
{
	return &model->page_locks[(page * 31 + id * UINT64_C(7919)) % MODEL_PAGE_LOCKS];
}

/* A page of which nothing was known: pattern as far as it reaches. */
static struct content *first_content(struct model *model, const struct model_file *file, uint32_t id, uint64_t page)
{
	struct content *content = content_create(&model->live);
	uint64_t at = page * CONTENT_PAGE;

	if (content && at < file->pattern) {
		content->base_file = id + 1;
		content->base_page = page;
		content->base_valid = (uint32_t)least(file->pattern - at, CONTENT_PAGE);
	}
	return content;
}

/* file->lock only protects the map; the content itself is protected by the page's lock. */
struct content *model_file_content(struct model *model, uint32_t id, uint64_t page)
{
	struct model_file *file = model_file(model, id);
	struct content **place, *content = NULL;

	pthread_mutex_lock(&file->lock);
	place = pagemap_place(&file->pages, page);
	if (place && !*place)
		*place = first_content(model, file, id, page);
	if (place)
		content = *place;
	pthread_mutex_unlock(&file->lock);
	return content;
}

/* ---------------------------------------------------------------------------------------- truncation and holes */

/*
 * Bytes [from, to) of the page become zeroes. A line that is cut through is no longer known, unless it shows the pattern
 * and the zeroes reach to the end of the page: then the pattern is shorter.
 */
static void zero_bytes(struct content *content, uint32_t from, uint32_t to)
{
	bool to_end = to == CONTENT_PAGE;

	if (to_end && from < content->base_valid)
		content->base_valid = from;
	for (unsigned line = from / CONTENT_LINE; line < CONTENT_LINES && line * CONTENT_LINE < to; line++) {
		bool described = content->mark[line] == MARK_BASE && (to_end || !content->base_file);

		if (line * CONTENT_LINE >= from && (line + 1) * CONTENT_LINE <= to)
			content->mark[line] = MARK_ZERO;
		else if (!described && content->mark[line] != MARK_ZERO)
			content->mark[line] = MARK_ANY;
	}
}

/* A part of one page: it gets a content if it had none, since a pattern cannot say that it has a hole. */
static bool zero_part(struct model *model, uint32_t id, uint64_t offset, uint64_t len)
{
	struct content *content = model_file_content(model, id, offset / CONTENT_PAGE);
	uint32_t from = (uint32_t)(offset % CONTENT_PAGE);

	if (!content)
		return false;
	zero_bytes(content, from, from + (uint32_t)len);
	return true;
}

/* Takes private copies of pages of the file from @page on out of one address space. */
static void drop_copies(struct model_mm *mm, uint32_t id, uint64_t page)
{
	for (size_t i = 0; i < mm->ranges.nr; i++) {
		const struct range *range = &mm->ranges.list[i];
		uint64_t first = range->offset / CONTENT_PAGE, start = range->start / CONTENT_PAGE;
		uint64_t skip = page > first ? page - first : 0;

		if (range->file == id + 1 && skip < range->end / CONTENT_PAGE - start)
			pagemap_drop(&mm->pages, start + skip, range->end / CONTENT_PAGE - start - skip,
				     &mm->model->live);
	}
}

/*
 * Growing adds nothing that could be seen: behind the old end everything reads as zeroes, and pattern never reaches
 * there again.
 */
bool model_file_resize(struct model *model, uint32_t id, uint64_t size)
{
	struct model_file *file = model_file(model, id);
	uint64_t end = (size + CONTENT_PAGE - 1) / CONTENT_PAGE, old = file->size;
	bool ok = true;

	file->size = size;
	if (size >= old)
		return true;
	if (size % CONTENT_PAGE)
		ok = zero_part(model, id, size, CONTENT_PAGE - size % CONTENT_PAGE);
	file->pattern = least(file->pattern, size);
	pagemap_drop(&file->pages, end, UINT64_MAX - end, &model->live);
	for (struct model_mm *mm = model->mms; mm; mm = mm->next)
		drop_copies(mm, id, end);
	return ok;
}

/* A whole page becomes zeroes. Pages that would read as zeroes anyway need no content to say so. */
static bool punch_page(struct model *model, struct model_file *file, uint64_t page)
{
	struct content **place;

	if (page * CONTENT_PAGE >= file->pattern)
		return true;
	place = pagemap_place(&file->pages, page);
	if (place)
		*place = content_create(&model->live);
	return place && *place;
}

/*
 * Whole pages are dropped, those at the ends zeroed in part. Private copies stay: a hole in a file is none in a copy.
 */
bool model_file_punch(struct model *model, uint32_t id, uint64_t offset, uint64_t len)
{
	struct model_file *file = model_file(model, id);
	uint64_t end = offset + len, first = (offset + CONTENT_PAGE - 1) / CONTENT_PAGE, last = end / CONTENT_PAGE;
	bool ok = true;

	if (first > last) /* within one page */
		return zero_part(model, id, offset, len);
	if (offset % CONTENT_PAGE)
		ok = zero_part(model, id, offset, CONTENT_PAGE - offset % CONTENT_PAGE);
	if (end % CONTENT_PAGE && end < file->size)
		ok = ok && zero_part(model, id, end - end % CONTENT_PAGE, end % CONTENT_PAGE);
	pagemap_drop(&file->pages, first, last - first, &model->live);
	for (uint64_t page = first; ok && page < last && page * CONTENT_PAGE < file->pattern; page++)
		ok = punch_page(model, file, page);
	return ok;
}
