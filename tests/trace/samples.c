/* SPDX-License-Identifier: MIT */
/*
 * Recordings for the tests of writer, reader and replay.
 */
#define _GNU_SOURCE
#include "samples.h"

#include "trace/writer.h"

#include "cmocka_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HEAP 0x4000000u
#define AREA 0x5000000u
#define STACK 0x1ffefff000u

#define BY(p, t) .process = (p), .thread = (t)

const struct qrec_event *sample_events(size_t *nr)
{
	static const struct qrec_event events[] = {
		{ .op = QREC_INFO, .text = "command=sample" },
		{ .op = QREC_PROCESS, .arg = { 0, 1234 } },
		{ .op = QREC_FILE, .id = 0, .kind = QREC_FILE_DISK, .size = 20000, .text = "/bin/sample" },
		{ .op = QREC_FILE, .id = 1, .kind = QREC_FILE_SHMEM, .size = 40960, .text = "/memfd:sample" },
		{ .op = QREC_IMAGE,
		  BY(0, 0),
		  .addr = 0x400000,
		  .len = 0x5000,
		  .prot = 5,
		  .flags = MAP_PRIVATE,
		  .file = 1 },
		{ .op = QREC_IMAGE,
		  BY(0, 0),
		  .addr = STACK,
		  .len = 0x2000,
		  .prot = 3,
		  .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN },
		{ .op = QREC_FETCH, BY(0, 0), .page = 0x400, .pages = 1 },
		{ .op = QREC_STORE, BY(0, 0), .page = STACK >> 12, .pages = 1 },
		{ .op = QREC_BRK_START, BY(0, 0), .addr = HEAP },
		{ .op = QREC_BRK, BY(0, 0), .addr = HEAP + 0x3000, .len = HEAP, .result = HEAP + 0x3000 },
		{ .op = QREC_STORE, BY(0, 0), .page = HEAP >> 12, .pages = 3 },
		{ .op = QREC_MMAP,
		  BY(0, 0),
		  .len = 0x10000,
		  .result = AREA,
		  .prot = 3,
		  .flags = MAP_PRIVATE | MAP_ANONYMOUS },
		{ .op = QREC_MMAP,
		  BY(0, 0),
		  .len = 0xa000,
		  .result = AREA + 0x100000,
		  .prot = 3,
		  .flags = MAP_SHARED,
		  .file = 2 },
		{ .op = QREC_STORE, BY(0, 0), .page = AREA >> 12, .pages = 16 },
		{ .op = QREC_STORE, BY(0, 0), .page = (AREA + 0x100000) >> 12, .pages = 10 },
		{ .op = QREC_THREAD, BY(0, 0), .id = 1 },
		{ .op = QREC_LOAD, BY(0, 1), .page = AREA >> 12, .pages = 1 },
		{ .op = QREC_MADVISE, BY(0, 1), .addr = AREA, .len = 0x1000, .flags = MADV_DONTNEED },
		{ .op = QREC_LOAD, BY(0, 1), .page = AREA >> 12, .pages = 1 },
		{ .op = QREC_THREAD_END, BY(0, 1) },
		{ .op = QREC_MPROTECT, BY(0, 0), .addr = AREA + 0x4000, .len = 0x2000, .prot = 1 },
		{ .op = QREC_STORE, BY(0, 0), .page = (AREA + 0x4000) >> 12, .pages = 1 }, /* SIGSEGV */
		{ .op = QREC_MPROTECT, BY(0, 0), .addr = 0x123456, .len = 1, .result = -22, .prot = 77 },
		/* addr, len, result, nothing, flags, new_len, new_addr */
		{ .op = QREC_MREMAP, BY(0, 0), .arg = { AREA + 0x8000, 0x4000, AREA + 0x200000, 0, 1, 0x8000, 0 } },
		{ .op = QREC_LOAD, BY(0, 0), .page = (AREA + 0x200000) >> 12, .pages = 8 },
		{ .op = QREC_MLOCK, BY(0, 0), .addr = AREA, .len = 0x1000 },
		{ .op = QREC_MUNLOCK, BY(0, 0), .addr = AREA, .len = 0x1000 },
		{ .op = QREC_MLOCKALL, BY(0, 0), .flags = 2 },
		{ .op = QREC_MUNLOCKALL, BY(0, 0) },
		{ .op = QREC_MSYNC, BY(0, 0), .addr = AREA + 0x100000, .len = 0x1000, .flags = 4 },
		{ .op = QREC_MINCORE, BY(0, 0), .addr = AREA, .len = 0x1000 },
		{ .op = QREC_FORK, BY(0, 0), .arg = { 1, 1235, 0 } },
		{ .op = QREC_STORE, BY(1, 0), .page = AREA >> 12, .pages = 4 },
		{ .op = QREC_STORE, BY(0, 0), .page = AREA >> 12, .pages = 4 },
		{ .op = QREC_STORE, BY(1, 0), .page = (AREA + 0x100000) >> 12, .pages = 2 },
		{ .op = QREC_LOAD, BY(0, 0), .page = (AREA + 0x100000) >> 12, .pages = 2 },
		{ .op = QREC_FILE_PUNCH, .arg = { 1, 4096, 8192 } },
		{ .op = QREC_FILE_SIZE, .id = 1, .size = 36000 },
		{ .op = QREC_LOAD, BY(1, 0), .page = (AREA + 0x100000) >> 12, .pages = 10 }, /* ends in SIGBUS */
		{ .op = QREC_UNSUPPORTED, BY(1, 0), .arg = { 323 } },
		{ .op = QREC_TICK, BY(1, 0), .arg = { 1000, 2000 } },
		{ .op = QREC_EXEC, BY(1, 0), .text = "/bin/other" },
		{ .op = QREC_IMAGE,
		  BY(1, 0),
		  .addr = 0x400000,
		  .len = 0x1000,
		  .prot = 5,
		  .flags = MAP_PRIVATE,
		  .file = 1 },
		{ .op = QREC_FETCH, BY(1, 0), .page = 0x400, .pages = 1 },
		{ .op = QREC_EXIT, BY(1, 0), .arg = { 0x100 } },
		{ .op = QREC_WAIT, BY(0, 0), .id = 1 },
		{ .op = QREC_MUNMAP, BY(0, 0), .addr = AREA, .len = 0x8000 },
	};

	*nr = sizeof(events) / sizeof(*events);
	return events;
}

void sample_write(const char *path, uint64_t touches)
{
	size_t nr;
	const struct qrec_event *events = sample_events(&nr);
	struct qrec_event touch = { .op = QREC_STORE, .pages = 1 };
	int err;
	struct qrec_writer *writer = qrec_writer_create(path, &err);
	uint64_t bytes;

	assert_non_null(writer);
	for (size_t i = 0; i < nr; i++)
		qrec_write(writer, &events[i]);
	for (uint64_t i = 0; i < touches; i++) {
		touch.op = i % 3 == 0 ? QREC_STORE : QREC_LOAD;
		touch.page = ((AREA + 0x100000) >> 12) + i * i % 8;
		qrec_write(writer, &touch);
	}
	assert_int_equal(qrec_writer_finish(writer, &bytes), 0);
}

uint8_t *sample_read(const char *path, size_t *len)
{
	FILE *file = fopen(path, "rbe");
	uint8_t *data = malloc(1 << 24);

	assert_non_null(file);
	assert_non_null(data);
	*len = fread(data, 1, 1 << 24, file);
	fclose(file);
	return data;
}

void sample_store(const char *path, const uint8_t *data, size_t len)
{
	FILE *file = fopen(path, "wbe");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}
