/* SPDX-License-Identifier: MIT */
/*
 * The recording format: what is written comes back, in one block or many, and files that are not recordings, or not of
 * this version, are told apart.
 */
#include "samples.h"

#include "trace/reader.h"
#include "trace/roster.h"
#include "trace/writer.h"

#include "cmocka_setup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/quire-format-XXXXXX";

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static struct qrec_reader *open_sample(void)
{
	char error[QREC_ERROR_TEXT];
	struct qrec_reader *reader = qrec_reader_open(path, error);

	if (!reader)
		fail_msg("%s", error);
	return reader;
}

/* The next record that the test wrote. */
static int read_own(struct qrec_reader *reader, struct qrec_event *event)
{
	int more;

	do
		more = qrec_read(reader, event);
	while (more > 0 && event->op == QREC_SWITCH);
	if (more < 0)
		fail_msg("%s", qrec_reader_error(reader));
	return more;
}

static bool is_impersonal(enum qrec_op op)
{
	return op == QREC_INFO || op == QREC_PROCESS || (op >= QREC_FILE && op <= QREC_FILE_PUNCH);
}

static void assert_same(const struct qrec_event *wrote, const struct qrec_event *read)
{
	const struct qrec_layout *layout = &qrec_layouts[wrote->op];

	assert_int_equal(wrote->op, read->op);
	for (unsigned i = 0; i < QREC_MAX_ARGS; i++)
		if (layout->args >> i & 1)
			assert_true(wrote->arg[i] == read->arg[i]);
	if (layout->text)
		assert_string_equal(wrote->text, read->text);
	if (!is_impersonal(wrote->op)) {
		assert_int_equal(wrote->process, read->process);
		assert_int_equal(wrote->thread, read->thread);
	}
}

static void every_kind_of_record_comes_back(void **state)
{
	size_t nr;
	const struct qrec_event *events = sample_events(&nr);
	bool seen[QREC_NR_OPS] = { [QREC_SWITCH] = true };
	struct qrec_reader *reader;
	struct qrec_event event;

	(void)state;
	sample_write(path, 0);
	reader = open_sample();
	for (size_t i = 0; i < nr; i++) {
		assert_int_equal(read_own(reader, &event), 1);
		assert_same(&events[i], &event);
		seen[event.op] = true;
	}
	assert_int_equal(read_own(reader, &event), 0);
	qrec_reader_close(reader);
	/* The sample must not be forgotten when a kind is added. */
	for (unsigned op = 0; op < QREC_NR_OPS; op++)
		if (!seen[op])
			fail_msg("no record of kind %u in the sample", op);
}

static void many_blocks(void **state)
{
	const uint64_t touches = 2000000;
	struct qrec_reader *reader;
	struct qrec_event event;
	uint64_t offset = 0, nr = 0, number = 0;
	unsigned blocks = 0;
	size_t others;

	(void)state;
	sample_events(&others);
	sample_write(path, touches);
	reader = open_sample();
	while (qrec_read(reader, &event) > 0) {
		assert_true(event.number == number++);
		blocks += qrec_reader_offset(reader) != offset;
		offset = qrec_reader_offset(reader);
		nr += event.op != QREC_SWITCH;
	}
	assert_int_equal(nr, others + touches);
	assert_in_range(blocks, 5, 1000);
	assert_int_equal(qrec_reader_totals(reader)->events, number);
	qrec_reader_close(reader);
}

static void far_and_near_pages(void **state)
{
	static const uint64_t pages[] = { 0, 30, 61, 62, 0, QREC_PAGES_MAX - 1, 0, 31, 1, QREC_PAGES_MAX / 2 };
	struct qrec_event start = { .op = QREC_PROCESS }, touch = { .op = QREC_FETCH, .pages = 1 }, event;
	struct qrec_reader *reader;
	struct qrec_writer *writer;
	uint64_t bytes;
	int err;

	(void)state;
	writer = qrec_writer_create(path, &err);
	qrec_write(writer, &start);
	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
		touch.page = pages[i];
		touch.op = i % 3; /* distances are kept apart for instructions and data */
		qrec_write(writer, &touch);
	}
	assert_int_equal(qrec_writer_finish(writer, &bytes), 0);
	reader = open_sample();
	assert_int_equal(read_own(reader, &event), 1);
	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
		assert_int_equal(read_own(reader, &event), 1);
		assert_true(event.page == pages[i]);
		assert_int_equal(event.op, i % 3);
	}
	qrec_reader_close(reader);
}

/* ------------------------------------------------------------------------------------------- files that are refused */

static void assert_refused(const uint8_t *data, size_t len, const char *why)
{
	char error[QREC_ERROR_TEXT] = "";
	struct qrec_reader *reader;

	sample_store(path, data, len);
	reader = qrec_reader_open(path, error);
	if (reader)
		fail_msg("opened instead of saying '%s'", why);
	if (!strstr(error, why) || !strstr(error, path))
		fail_msg("'%s' does not say '%s'", error, why);
}

static void other_versions(void **state)
{
	size_t len;
	uint8_t *data;

	(void)state;
	sample_write(path, 0);
	data = sample_read(path, &len);
	qrec_put32(data + 8, QREC_VERSION + 1);
	assert_refused(data, len, "byte 8: format version 2 is newer than this program (1)");
	qrec_put32(data + 8, 0);
	assert_refused(data, len, "byte 8: format version 0 is older than what is still read (1)");
	free(data);
}

static void no_recordings(void **state)
{
	size_t len;
	uint8_t *data;

	(void)state;
	assert_refused((const uint8_t *)"", 0, "not a recording (0 bytes)");
	assert_refused((const uint8_t *)"ELF, or something else", 22, "not a recording");
	sample_write(path, 0);
	data = sample_read(path, &len);
	data[4] = '\n'; /* a transfer in text mode took the carriage return away */
	assert_refused(data, len, "not a recording");
	free(data);
}

static void cut_short(void **state)
{
	size_t len;
	uint8_t *data;

	(void)state;
	sample_write(path, 100000);
	data = sample_read(path, &len);
	assert_refused(data, 40, "the file ends here, but the header needs 64 bytes");
	assert_refused(data, 70, "truncated");
	assert_refused(data, len / 2, "truncated or damaged: no trailer at the end of the file");
	assert_refused(data, len - 1, "truncated or damaged: no trailer at the end of the file");
	free(data);
}

static void damage_names_the_block(void **state)
{
	struct qrec_event event;
	struct qrec_reader *reader;
	size_t len;
	uint8_t *data;
	int more;

	(void)state;
	sample_write(path, 100000);
	data = sample_read(path, &len);
	data[QREC_HEADER_SIZE + QREC_BLOCK_HEADER_SIZE + 10] ^= 4;
	sample_store(path, data, len);
	free(data);
	reader = open_sample();
	while ((more = qrec_read(reader, &event)) > 0)
		;
	assert_int_equal(more, -1);
	assert_non_null(strstr(qrec_reader_error(reader), "byte 64: damaged block"));
	qrec_reader_close(reader);
}

static void no_such_file(void **state)
{
	char error[QREC_ERROR_TEXT];

	(void)state;
	assert_null(qrec_reader_open("/no/such/file", error));
	assert_string_equal(error, "/no/such/file: No such file or directory");
	assert_null(qrec_reader_open("/tmp", error));
	assert_string_equal(error, "/tmp: not a regular file");
}

/* ------------------------------------------------------------------------------------------------- the writer */

static void a_full_disk_is_an_error(void **state)
{
	struct qrec_event event = { .op = QREC_INFO, .text = "key=value" };
	struct qrec_writer *writer;
	uint64_t bytes;
	int err;

	(void)state;
	writer = qrec_writer_create("/dev/full", &err);
	assert_non_null(writer);
	qrec_write(writer, &event);
	assert_int_equal(qrec_writer_finish(writer, &bytes), -ENOSPC);
	/* What is no regular file is not removed. */
	assert_int_equal(access("/dev/full", F_OK), 0);
	assert_null(qrec_writer_create("/no/such/directory/file", &err));
	assert_int_equal(err, -ENOENT);
}

static void an_abandoned_file_is_removed(void **state)
{
	int err;

	(void)state;
	qrec_writer_abandon(qrec_writer_create(path, &err));
	assert_int_equal(access(path, F_OK), -1);
	sample_store(path, (const uint8_t *)"", 0); /* for the next test */
}

/* ------------------------------------------------------------------------------------------------- the roster */

/* One record too much after the sample, and what is said about it. */
static void assert_wrong(const struct qrec_event *event, const char *why)
{
	size_t nr;
	const struct qrec_event *events = sample_events(&nr);
	struct roster roster = { 0 };
	const char *said;

	for (size_t i = 0; i < nr; i++)
		assert_null(roster_check(&roster, &events[i]));
	said = roster_check(&roster, event);
	roster_destroy(&roster);
	if (!said)
		fail_msg("accepted instead of '%s'", why);
	assert_string_equal(said, why);
}

static void impossible_records(void **state)
{
	(void)state;
	assert_wrong(&(struct qrec_event){ .op = QREC_PROCESS }, "a second first process");
	assert_wrong(&(struct qrec_event){ .op = QREC_FORK, .id = 3 }, "process numbers are not in order");
	assert_wrong(&(struct qrec_event){ .op = QREC_LOAD, .process = 1, .pages = 1 }, "belongs to no living thread");
	assert_wrong(&(struct qrec_event){ .op = QREC_LOAD, .thread = 1, .pages = 1 }, "belongs to no living thread");
	assert_wrong(&(struct qrec_event){ .op = QREC_LOAD, .process = QREC_NOBODY, .thread = QREC_NOBODY, .pages = 1 },
		     "belongs to no living thread");
	assert_wrong(&(struct qrec_event){ .op = QREC_WAIT, .id = 0 }, "waits for a process that has not ended");
	assert_wrong(&(struct qrec_event){ .op = QREC_WAIT, .id = 9 }, "waits for a process that does not exist");
	assert_wrong(&(struct qrec_event){ .op = QREC_THREAD, .id = 1 }, "thread numbers are not in order");
	assert_wrong(&(struct qrec_event){ .op = QREC_LOAD, .page = QREC_PAGES_MAX - 1, .pages = 2 },
		     "touches pages outside of the address space");
	assert_wrong(&(struct qrec_event){ .op = QREC_LOAD, .page = 1, .pages = 0 },
		     "touches pages outside of the address space");
	assert_wrong(&(struct qrec_event){ .op = QREC_LOAD, .page = 1, .pages = QREC_RUN_MAX + 1 },
		     "touches too many pages at once");
	assert_wrong(&(struct qrec_event){ .op = QREC_FILE, .id = 2, .size = 1ull << 63 }, "absurd file size");
	assert_wrong(&(struct qrec_event){ .op = QREC_FILE, .id = 2, .kind = 9 }, "unknown kind of file");
	assert_wrong(&(struct qrec_event){ .op = QREC_FILE_SIZE, .id = 2 }, "names a file that does not exist");
	assert_wrong(&(struct qrec_event){ .op = QREC_FILE_PUNCH, .arg = { 0, 1, 0 } }, "absurd hole");
	assert_wrong(&(struct qrec_event){ .op = QREC_MMAP, .len = 4096, .file = 3 },
		     "maps a file that does not exist");
	assert_wrong(&(struct qrec_event){ .op = QREC_MMAP, .len = 4096, .result = 123 },
		     "maps a range outside of the address space");
	assert_wrong(&(struct qrec_event){ .op = QREC_MMAP, .len = QREC_ADDR_MAX, .result = 4096 },
		     "maps a range outside of the address space");
	assert_wrong(&(struct qrec_event){ .op = QREC_MUNMAP, .addr = 4096, .len = UINT64_MAX },
		     "a range outside of the address space");
	assert_wrong(&(struct qrec_event){ .op = QREC_MUNMAP, .result = -5000 }, "not a result of a system call");
	assert_wrong(&(struct qrec_event){ .op = QREC_BRK, .result = INT64_MAX },
		     "puts the break outside of the address space");
	assert_wrong(&(struct qrec_event){ .op = QREC_SWITCH, .arg = { 0, 1 } }, "names a thread that does not exist");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_record_comes_back),
		cmocka_unit_test(many_blocks),
		cmocka_unit_test(far_and_near_pages),
		cmocka_unit_test(other_versions),
		cmocka_unit_test(no_recordings),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(damage_names_the_block),
		cmocka_unit_test(no_such_file),
		cmocka_unit_test(a_full_disk_is_an_error),
		cmocka_unit_test(an_abandoned_file_is_removed),
		cmocka_unit_test(impossible_records),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
