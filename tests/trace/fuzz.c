/* SPDX-License-Identifier: MIT */
/*
 * Damaged recordings, read only (replay.c replays some). Two depths: bytes of the file are flipped or cut off, which
 * checksums must notice; records are damaged and the checksums made to fit, so that the decoder and the checks of ids,
 * ranges and sizes are reached. Run with the sanitizers.
 */
#include "samples.h"

#include "trace/reader.h"

#include "cmocka_setup.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define FLIPS 3000
#define CUTS 600
#define REWRITES 2500
#define SAMPLE_RAW 8192 /* more than the sample's records take uncompressed */

static char path[] = "/tmp/quire-fuzz-XXXXXX";
static uint8_t *data;
static size_t len;

static int make_sample(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	if (fd < 0 || close(fd))
		return -1;
	sample_write(path, 300);
	data = sample_read(path, &len);
	return len ? 0 : -1;
}

static int remove_sample(void **state)
{
	(void)state;
	free(data);
	return unlink(path);
}

/* Reads the file as far as it goes: true if nothing was wrong. An error must name the file and say something. */
static bool read_whole(void)
{
	char error[QREC_ERROR_TEXT] = "";
	struct qrec_reader *reader = qrec_reader_open(path, error);
	struct qrec_event event;
	int more;

	if (!reader) {
		assert_true(strstr(error, path) && strlen(error) > strlen(path) + 10);
		return false;
	}
	while ((more = qrec_read(reader, &event)) > 0)
		;
	if (more < 0)
		assert_true(strstr(qrec_reader_error(reader), path) && strstr(qrec_reader_error(reader), ": byte "));
	qrec_reader_close(reader);
	return !more;
}

static void any_flipped_bit_is_noticed(void **state)
{
	uint64_t random = 1;

	(void)state;
	assert_true(len > 0);
	for (unsigned i = 0; len && i < FLIPS; i++) {
		/* All bytes in turn, then at random. */
		size_t at = i < len ? i : random_below(&random, len);
		uint8_t bit = (uint8_t)(1u << random_below(&random, 8));

		data[at] ^= bit;
		sample_store(path, data, len);
		if (read_whole())
			fail_msg("bit %#x of byte %zu makes no difference", bit, at);
		data[at] ^= bit;
	}
}

static void any_cut_is_noticed(void **state)
{
	(void)state;
	for (size_t i = 0; i < CUTS; i++) {
		sample_store(path, data, i * len / CUTS);
		assert_false(read_whole());
	}
	sample_store(path, data, len);
	assert_true(read_whole());
}

static void bytes_behind_the_end_are_noticed(void **state)
{
	uint8_t *longer = malloc(len + 1);

	(void)state;
	memcpy(longer, data, len);
	longer[len] = 0;
	sample_store(path, longer, len + 1);
	assert_false(read_whole());
	free(longer);
}

/* ---------------------------------------------------------------------------------- damage with fitting checksums */

/* The recording is one block of records, an end block and a trailer. */
struct blocks {
	struct qrec_block_header records, end;
	uint8_t raw[SAMPLE_RAW], totals[SAMPLE_RAW];
};

static void take_block(size_t at, struct qrec_block_header *header, uint8_t *raw)
{
	qrec_unpack_block_header(data + at, header);
	assert_int_equal(ZSTD_decompress(raw, SAMPLE_RAW - 16, data + at + QREC_BLOCK_HEADER_SIZE, header->stored),
			 header->raw);
}

static void take_apart(struct blocks *blocks)
{
	take_block(QREC_HEADER_SIZE, &blocks->records, blocks->raw);
	take_block(QREC_HEADER_SIZE + QREC_BLOCK_HEADER_SIZE + blocks->records.stored, &blocks->end, blocks->totals);
}

static uint8_t *put_block(uint8_t *p, struct qrec_block_header *header, const uint8_t *raw)
{
	uint8_t *payload = p + QREC_BLOCK_HEADER_SIZE;

	header->stored = (uint32_t)ZSTD_compress(payload, QREC_BLOCK_STORED_MAX, raw, header->raw, 1);
	qrec_pack_block_header(p, header, payload);
	return payload + header->stored;
}

/* Writes them as a file whose checksums fit. */
static void put_together(const struct blocks *blocks, uint8_t *file)
{
	struct qrec_block_header records = blocks->records, end = blocks->end;
	uint8_t *p, *trailer;

	memcpy(file, data, QREC_HEADER_SIZE);
	p = put_block(file + QREC_HEADER_SIZE, &records, blocks->raw);
	trailer = put_block(p, &end, blocks->totals);
	qrec_put64(trailer, (uint64_t)(p - file));
	qrec_put32(trailer + 8, qrec_crc32(0, trailer, 8));
	qrec_put32(trailer + 12, QREC_TRAILER_MAGIC);
	sample_store(path, file, (size_t)(trailer + QREC_TRAILER_SIZE - file));
}

/* Up to four bytes of the records become others; some are taken out or put in. */
static void damage(struct blocks *blocks, uint64_t *random)
{
	for (uint64_t i = 0; i <= random_below(random, 4); i++) {
		size_t at = random_below(random, blocks->records.raw);

		switch (random_below(random, 5)) {
		case 0:
			memmove(blocks->raw + at, blocks->raw + at + 1, blocks->records.raw - at - 1);
			blocks->records.raw--;
			break;
		case 1:
			memmove(blocks->raw + at + 1, blocks->raw + at, blocks->records.raw - at);
			blocks->records.raw++;
			break;
		case 2:
			blocks->raw[at] = (uint8_t)(random_below(random, QREC_NR_OPS + 2) << 2 | QREC_OTHER);
			break;
		default:
			blocks->raw[at] = (uint8_t)random_below(random, 256);
		}
	}
}

static void damaged_records(void **state)
{
	struct blocks *original = malloc(sizeof(*original)), *blocks = malloc(sizeof(*blocks));
	uint8_t *file = malloc(4 << 20);
	uint64_t random = 2;
	unsigned refused = 0;

	(void)state;
	take_apart(original);
	put_together(original, file);
	assert_true(read_whole());
	for (unsigned i = 0; i < REWRITES; i++) {
		*blocks = *original;
		damage(blocks, &random);
		put_together(blocks, file);
		refused += !read_whole();
	}
	/* The totals alone make most of them impossible. */
	assert_in_range(refused, REWRITES / 2, REWRITES);
	free(original);
	free(blocks);
	free(file);
}

static void damaged_totals_and_index(void **state)
{
	struct blocks *original = malloc(sizeof(*original)), *blocks = malloc(sizeof(*blocks));
	uint8_t *file = malloc(4 << 20);
	uint64_t random = 3;

	(void)state;
	take_apart(original);
	for (unsigned i = 0; i < REWRITES; i++) {
		*blocks = *original;
		blocks->totals[random_below(&random, blocks->end.raw)] ^= (uint8_t)(1 + random_below(&random, 255));
		put_together(blocks, file);
		assert_false(read_whole());
	}
	free(original);
	free(blocks);
	free(file);
}

static void absurd_sizes(void **state)
{
	static const uint32_t sizes[] = { 0, QREC_BLOCK_RAW_MAX + 1, 0x7fffffff, 0xffffffff };
	size_t block = QREC_HEADER_SIZE;
	uint8_t *copy = malloc(len);

	(void)state;
	for (unsigned field = 4; field <= 8; field += 4)
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
			struct qrec_block_header header;

			memcpy(copy, data, len);
			qrec_put32(copy + block + field, sizes[i]);
			qrec_unpack_block_header(data + block, &header);
			qrec_put32(copy + block + 32,
				   qrec_block_crc(copy + block, data + block + QREC_BLOCK_HEADER_SIZE, header.stored));
			sample_store(path, copy, len);
			assert_false(read_whole());
		}
	free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_flipped_bit_is_noticed),	    cmocka_unit_test(any_cut_is_noticed),
		cmocka_unit_test(bytes_behind_the_end_are_noticed), cmocka_unit_test(damaged_records),
		cmocka_unit_test(damaged_totals_and_index),	    cmocka_unit_test(absurd_sizes),
	};

	return cmocka_run_group_tests(tests, make_sample, remove_sample);
}
