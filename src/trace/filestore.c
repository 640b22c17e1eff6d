/* SPDX-License-Identifier: MIT */
/*
 * The files of a recording. Their contents were not recorded, so the replay makes them: a memfd becomes a shmem file, and a
 * file on disk a real file of the host (in memory) whose every word says where in which file it is. At the end what the
 * memory manager has written back to it is compared, too.
 */
#define _GNU_SOURCE
#include "trace/perform.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUFFER_PAGES 64u

/* Writes the pattern of one piece of a file: pages from @page on. */
static int write_pages(int fd, uint32_t id, uint64_t page, uint64_t end, uint64_t *buffer)
{
	uint64_t at = page * CONTENT_PAGE, len = (uint64_t)BUFFER_PAGES * CONTENT_PAGE;

	for (unsigned i = 0; i < BUFFER_PAGES * CONTENT_LINES; i++)
		content_pattern(id + 1, page + i / CONTENT_LINES, CONTENT_PAGE, i % CONTENT_LINES,
				buffer + (size_t)i * CONTENT_WORDS);
	len = end - at < len ? end - at : len;
	return pwrite(fd, buffer, len, (off_t)at) == (ssize_t)len ? 0 : -EIO;
}

/* Real bytes, not holes: a page that is read from the wrong place must look wrong. */
static int write_pattern(int fd, uint32_t id, uint64_t size)
{
	uint64_t *buffer = malloc((size_t)BUFFER_PAGES * CONTENT_PAGE);
	int err = buffer ? 0 : -ENOMEM;

	for (uint64_t page = 0; page * CONTENT_PAGE < size && !err; page += BUFFER_PAGES)
		err = write_pages(fd, id, page, size, buffer);
	free(buffer);
	return err;
}

/* Makes the host's copy of a file on disk. Returns a descriptor or a negative errno value. */
static int make_host_file(uint32_t id, uint64_t size)
{
	int fd = memfd_create("quire-run", MFD_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = ftruncate(fd, (off_t)size) ? -errno : 0;
	if (!err)
		err = write_pattern(fd, id, size < MODEL_PATTERN_MAX ? size : MODEL_PATTERN_MAX);
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* The descriptor is kept for the comparison at the end; the memory manager has its own duplicate. */
static int open_file(struct replay_cpu *cpu, const struct qrec_event *event)
{
	struct replay *replay = cpu->replay;
	int fd, err;

	if (event->kind == QREC_FILE_SHMEM)
		return quire_file_create_shmem(cpu->cpu, event->size, &replay->files[event->id]);
	fd = make_host_file((uint32_t)event->id, event->size);
	if (fd < 0)
		return fd;
	err = quire_file_open_host(cpu->cpu, fd, true, &replay->files[event->id]);
	if (err)
		close(fd);
	else
		replay->file_fds[event->id] = fd;
	return err;
}

/* In exclusive work, so that whoever maps the file later finds both the file and its model. */
static void add_file(struct replay_cpu *cpu, const struct work_item *item)
{
	const struct qrec_event *event = &item->event;
	int err = open_file(cpu, event);

	if (err == -ENOMEM) {
		replay_fail_memory(cpu->replay, &item->place, "opening a file");
	} else if (err) {
		replay_fail(cpu->replay, &item->place, "cannot make file %" PRIu64 " (%" PRIu64 " bytes): %s",
			    event->id, event->size, strerror(-err));
	} else if (!model_file_add(&cpu->replay->model, (uint32_t)event->id, (enum qrec_file_kind)event->kind,
				   event->size)) {
		replay_fail(cpu->replay, &item->place, "the host has no memory for the model");
	}
}

/* Truncation and holes unmap pages from all address spaces: exclusive, as the model drops them everywhere, too. */
static int change_file(struct replay_cpu *cpu, const struct qrec_event *event)
{
	struct quire_file *file = cpu->replay->files[event->id];

	if (event->op == QREC_FILE_SIZE)
		return quire_file_truncate(cpu->cpu, file, event->size);
	return quire_file_fallocate(cpu->cpu, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    event->arg[QREC_PUNCH_OFFSET], event->arg[QREC_PUNCH_LEN]);
}

/* After the memory manager has done it: if that fails the model still says what is. */
static bool change_model(struct replay *replay, const struct qrec_event *event)
{
	if (event->op == QREC_FILE_SIZE)
		return model_file_resize(&replay->model, (uint32_t)event->id, event->size);
	return model_file_punch(&replay->model, (uint32_t)event->id, event->arg[QREC_PUNCH_OFFSET],
				event->arg[QREC_PUNCH_LEN]);
}

/* Exclusive: no other CPU is in the middle of anything. */
void perform_file(struct replay_cpu *cpu, const struct work_item *item)
{
	uint64_t begin = timing_now();
	int err;

	if (item->event.op == QREC_FILE) {
		add_file(cpu, item);
		perform_timed(cpu, TIMED_FILE, begin);
		return;
	}
	err = change_file(cpu, &item->event);
	perform_timed(cpu, TIMED_FILE, begin);
	if (err == -ENOMEM)
		replay_fail_memory(cpu->replay, &item->place, "changing a file");
	else if (err)
		replay_fail(cpu->replay, &item->place, "%s of file %" PRIu64 " returned %d",
			    qrec_layouts[item->event.op].name, item->event.id, err);
	else if (!change_model(cpu->replay, &item->event))
		replay_fail(cpu->replay, &item->place, "the host has no memory for the model");
}

/* --------------------------------------------------------------------------------------------------- the end */

struct check {
	struct replay *replay;
	uint32_t id;
	uint64_t size;
	int fd;
};

/* Compares what the host's copy holds with the marks of one page, up to the end of the file. */
static void check_page(void *arg, uint64_t page, struct content **place)
{
	const struct check *check = arg;
	uint64_t actual[CONTENT_LINES * CONTENT_WORDS] = { 0 }, expected[CONTENT_WORDS];
	uint64_t at = page * CONTENT_PAGE, left = check->size > at ? check->size - at : 0;
	size_t len = left < CONTENT_PAGE ? (size_t)left : CONTENT_PAGE;

	if (pread(check->fd, actual, len, (off_t)at) != (ssize_t)len) {
		replay_fail(check->replay, NULL, "file %u: page %" PRIu64 " cannot be read back", check->id, page);
		return;
	}
	for (unsigned line = 0; line < len / CONTENT_LINE; line++) {
		const uint64_t *found = &actual[(size_t)line * CONTENT_WORDS];

		if (!content_expected(*place, line, expected))
			continue;
		check->replay->nr_checked++;
		if (memcmp(expected, found, CONTENT_LINE))
			replay_fail_broken(check->replay, NULL,
					   "file %u: byte %" PRIu64 " was not written back right (%016" PRIx64
					   ", expected %016" PRIx64 " at the beginning of its line)",
					   check->id, at + (uint64_t)line * CONTENT_LINE, found[0], expected[0]);
	}
}

/* The last reference writes dirty pages back; only then does the host's copy have to be right. */
static void close_file(struct replay *replay, struct quire_cpu *cpu, uint32_t id)
{
	struct model_file *file = replay->files[id] ? model_file(&replay->model, id) : NULL;
	struct check check = { .replay = replay, .id = id, .fd = replay->file_fds[id] };

	if (replay->files[id])
		quire_file_put(cpu, replay->files[id]);
	replay->files[id] = NULL;
	if (file && check.fd >= 0 && !replay_stopped(replay)) {
		check.size = file->size;
		pagemap_for_each(&file->pages, 0, UINT64_MAX, check_page, &check);
	}
	if (check.fd >= 0)
		close(check.fd);
	replay->file_fds[id] = -1;
}

/* All address spaces are gone: each file's last reference is ours. */
void filestore_close(struct replay *replay, struct quire_cpu *cpu)
{
	for (uint32_t id = 0; id < replay->totals.files; id++)
		close_file(replay, cpu, id);
}
