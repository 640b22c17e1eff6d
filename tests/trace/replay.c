/* SPDX-License-Identifier: MIT */
/*
 * The replay on a real machine: the sample recording at any number of CPUs, in too little memory, and recordings with
 * damaged records and fitting checksums, which may ask the memory manager for anything in any order. None of them may do
 * more than succeed or say what is wrong; nothing may be left over.
 */
#include "samples.h"

#include "trace/replay.h"
#include "trace/writer.h"

#include "cmocka_setup.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define DAMAGED 400
#define SAMPLE_RAW 8192

static char path[] = "/tmp/quire-replay-XXXXXX";
static struct replay replay;

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

static void ignore(void *arg, uint64_t events)
{
	(void)arg;
	(void)events;
}

/* Replays the file; replay.outcome says what came of it. False: it could not be opened. */
static bool replay_file(uint64_t memory, unsigned orders, unsigned nr_cpus, bool validate)
{
	char error[QREC_ERROR_TEXT];

	memset(&replay, 0, sizeof(replay));
	replay.options = (struct replay_options){ path, memory, orders, nr_cpus, validate };
	replay.reader = qrec_reader_open(path, error);
	if (!replay.reader)
		return false;
	replay_run(&replay, ignore, NULL);
	qrec_reader_close(replay.reader);
	replay_destroy(&replay);
	return true;
}

static void assert_right(uint64_t memory, unsigned orders, unsigned nr_cpus, bool validate)
{
	assert_true(replay_file(memory, orders, nr_cpus, validate));
	if (replay.outcome.failed)
		fail_msg("%u CPUs, orders %#x: %s", nr_cpus, orders, replay.outcome.error);
	assert_true(replay.nr_checked > 1000);
}

static void any_number_of_cpus(void **state)
{
	(void)state;
	sample_write(path, 2000);
	for (unsigned cpus = 1; cpus <= 8; cpus++)
		assert_right(16 << 20, QUIRE_ORDERS_4K, cpus, cpus < 4);
}

static void any_folios(void **state)
{
	static const unsigned orders[] = { QUIRE_ORDERS_64K, QUIRE_ORDERS_2M, QUIRE_ORDERS_ALL, 1u << 1 | 1 };

	(void)state;
	sample_write(path, 100);
	for (size_t i = 0; i < sizeof(orders) / sizeof(*orders); i++)
		assert_right(64 << 20, orders[i], 2, true);
}

/* Stores to more and more memory until there is none. */
static void write_hungry(uint64_t pages)
{
	int err;
	struct qrec_writer *writer = qrec_writer_create(path, &err);
	struct qrec_event process = { .op = QREC_PROCESS };
	struct qrec_event map = { .op = QREC_MMAP, .result = 0x10000000, .len = pages << 12, .prot = 3, .flags = 0x22 };
	struct qrec_event touch = { .op = QREC_STORE, .page = 0x10000, .pages = 1 };
	uint64_t bytes;

	assert_non_null(writer);
	qrec_write(writer, &process);
	qrec_write(writer, &map);
	for (uint64_t i = 0; i < pages; i++, touch.page++)
		qrec_write(writer, &touch);
	assert_int_equal(qrec_writer_finish(writer, &bytes), 0);
}

static void memory_runs_out(void **state)
{
	(void)state;
	write_hungry(4096);
	for (unsigned orders = 1; orders < QUIRE_ORDERS_ALL; orders = orders * 2 + 1) {
		assert_true(replay_file(8 << 20, orders, 1, false));
		/* Anything else found after that would stand in its place. */
		if (!replay.outcome.out_of_memory)
			fail_msg("orders %#x: %s", orders, replay.outcome.error);
	}
	assert_right(32 << 20, QUIRE_ORDERS_4K, 1, false);
}

/* ---------------------------------------------------------------------------------------------- damaged records */

static uint8_t *data, raw[SAMPLE_RAW + 64];
static size_t len;

static size_t unpack(size_t at, struct qrec_block_header *header, uint8_t *to)
{
	qrec_unpack_block_header(data + at, header);
	return ZSTD_decompress(to, SAMPLE_RAW, data + at + QREC_BLOCK_HEADER_SIZE, header->stored);
}

/* Puts a file together from the first block with @header and raw[], the old end block and a trailer. */
static void pack(struct qrec_block_header *header, size_t end_at, size_t end_len)
{
	static uint8_t file[4 * SAMPLE_RAW];
	uint8_t *p = memcpy(file, data, QREC_HEADER_SIZE), *payload;

	p += QREC_HEADER_SIZE;
	payload = p + QREC_BLOCK_HEADER_SIZE;
	header->stored = (uint32_t)ZSTD_compress(payload, sizeof(file) / 2, raw, header->raw, 1);
	qrec_pack_block_header(p, header, payload);
	p = payload + header->stored;
	memcpy(p, data + end_at, end_len);
	qrec_put64(p + end_len, (uint64_t)(p - file));
	qrec_put32(p + end_len + 8, qrec_crc32(0, p + end_len, 8));
	qrec_put32(p + end_len + 12, QREC_TRAILER_MAGIC);
	sample_store(path, file, (size_t)(p - file) + end_len + QREC_TRAILER_SIZE);
}

/*
 * One byte of the records becomes another, or one record another kind. Most recordings are then refused in the middle, when
 * a record is found impossible; until there, and if not, what it says is done.
 */
static void damaged_records(void **state)
{
	struct qrec_block_header header, damaged;
	uint64_t random = 4;
	unsigned ended = 0;
	size_t end_at;
	uint8_t was;

	(void)state;
	sample_write(path, 200);
	data = sample_read(path, &len);
	unpack(QREC_HEADER_SIZE, &header, raw);
	end_at = QREC_HEADER_SIZE + QREC_BLOCK_HEADER_SIZE + header.stored;
	for (unsigned i = 0; i < DAMAGED; i++) {
		size_t at = random_below(&random, header.raw ? header.raw : 1);

		was = raw[at];
		raw[at] = (uint8_t)random_next(&random);
		damaged = header;
		pack(&damaged, end_at, len - end_at - QREC_TRAILER_SIZE);
		raw[at] = was;
		if (!replay_file(16 << 20, i % 3 ? QUIRE_ORDERS_4K : QUIRE_ORDERS_ALL, 1 + i % 3, i % 4 == 0))
			continue;
		ended += !replay.outcome.failed;
		/* What is wrong must be wrong with the recording, or too much for it, not with the memory manager. */
		if (replay.outcome.broken || (replay.outcome.failed && strstr(replay.outcome.error, "; and then: ")))
			fail_msg("byte %zu: %s", at, replay.outcome.error);
	}
	free(data);
	print_message("%u of %u were replayed to their end\n", ended, DAMAGED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_number_of_cpus),
		cmocka_unit_test(any_folios),
		cmocka_unit_test(memory_runs_out),
		cmocka_unit_test(damaged_records),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
