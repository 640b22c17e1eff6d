/* SPDX-License-Identifier: MIT */
/*
 * How much memory a recording needs: asked when a replay has run out of it. The model alone is taken through the recording,
 * counting pages that have contents, and the page tables that it takes to map them.
 */
#include "trace/replay.h"

#include <stdlib.h>

#define LOOK_EVERY 256u /* records between looks; exact enough, and counting tables takes time */

struct need {
	struct model model;
	struct model_mm **mms; /* by process; NULL: has none */
	uint32_t nr, room;
	uint64_t most; /* bytes */
	uint64_t file_bytes;
};

/* Ids are given out in order, so the next place is the right one. False also if @mm could not be made. */
static bool add_process(struct need *need, struct model_mm *mm)
{
	if (need->nr == need->room) {
		uint32_t room = need->room ? 2 * need->room : 64;
		struct model_mm **mms = reallocarray(need->mms, room, sizeof(struct model_mm *));

		if (!mms)
			return false;
		need->mms = mms;
		need->room = room;
	}
	need->mms[need->nr++] = mm;
	return mm;
}

/* Bytes in use now: pages, a descriptor for each, and per address space its tables and VMAs. */
static uint64_t in_use(const struct need *need)
{
	uint64_t bytes = __atomic_load_n(&need->model.live, __ATOMIC_RELAXED) * (CONTENT_PAGE + 256);

	for (const struct model_mm *mm = need->model.mms; mm; mm = mm->next) {
		/* A file's pages are mapped without being in mm->pages: a table per range at least, and those above. */
		bytes += (mm->pages.nr + mm->ranges.nr + 4) * CONTENT_PAGE + mm->ranges.nr * 512;
	}
	return bytes;
}

/* The worst moment so far. */
static void look(struct need *need)
{
	uint64_t now = in_use(need);

	if (now > need->most)
		need->most = now;
}

/* Signals need no memory. Loads of anonymous memory that nobody stored to do not either: they see the zero page. */
static bool touch(struct need *need, const struct qrec_event *event)
{
	struct model_access access;

	for (uint64_t i = 0; i < event->pages; i++) {
		enum model_verdict verdict =
			model_begin(need->mms[event->process], event->page + i, event->op, &access);

		if (verdict == MODEL_OK)
			model_end(&access);
		if (verdict == MODEL_NO_MEMORY)
			return false;
	}
	return true;
}

/* Memory is at its highest just before it is given back. */
static bool end_process(struct need *need, uint32_t id)
{
	look(need);
	if (need->mms[id])
		model_mm_destroy(need->mms[id]);
	need->mms[id] = NULL;
	return true;
}

/* Everything but touches; only what changes an address space or a file matters here. */
static bool walk_other(struct need *need, const struct qrec_event *event)
{
	switch (event->op) {
	case QREC_PROCESS:
		return add_process(need, model_mm_create(&need->model));
	case QREC_FORK:
		return add_process(need, model_mm_fork(need->mms[event->process]));
	case QREC_EXEC:
		end_process(need, event->process);
		need->mms[event->process] = model_mm_create(&need->model);
		return need->mms[event->process];
	case QREC_EXIT:
		return end_process(need, event->process);
	case QREC_FILE:
		return event->id < need->model.nr_named &&
		       model_file_add(&need->model, (uint32_t)event->id, (enum qrec_file_kind)event->kind, event->size);
	case QREC_FILE_SIZE:
		return model_file_resize(&need->model, (uint32_t)event->id, event->size);
	case QREC_FILE_PUNCH:
		return model_file_punch(&need->model, (uint32_t)event->id, event->arg[QREC_PUNCH_OFFSET],
					event->arg[QREC_PUNCH_LEN]);
	default:
		if (event->op != QREC_IMAGE && (!qrec_is_call(event->op) || event->result < 0))
			return true;
		return model_apply(need->mms[event->process], event);
	}
}

/*
 * Stops where the recording cannot be read on: what was seen until there is still a lower bound, but not an answer.
 */
static bool walk(struct need *need, struct qrec_reader *reader)
{
	struct qrec_event event;
	int more;

	while ((more = qrec_read(reader, &event)) > 0) {
		if (!(qrec_is_touch(event.op) ? touch(need, &event) : walk_other(need, &event)))
			return false;
		if (event.number % LOOK_EVERY == 0)
			look(need);
	}
	look(need);
	return !more;
}

uint64_t replay_need(const char *path)
{
	char error[QREC_ERROR_TEXT];
	struct qrec_reader *reader = qrec_reader_open(path, error);
	struct need need = { 0 };
	uint64_t files;
	bool ok = false;

	if (!reader)
		return 0;
	files = qrec_reader_totals(reader)->files;
	if (files <= QREC_PROCESSES_MAX && model_init(&need.model, (uint32_t)files)) {
		ok = walk(&need, reader);
		model_destroy(&need.model);
	}
	free(need.mms);
	qrec_reader_close(reader);
	return ok ? need.most : 0;
}
