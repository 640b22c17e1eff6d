/* SPDX-License-Identifier: MIT */
/*
 * The writing side of the recording format (qrec.h). Records are encoded into a buffer; when that is full it is compressed
 * and goes out as one block. Nothing here knows what the records mean, except who they belong to.
 */
#include "trace/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define ZSTD_LEVEL 12		/* recording waits for valgrind, not for zstd */
#define RECORD_MAX 128u		/* bytes of one record without its text */
#define NOBODY 0xffffffffu	/* process of the delta state at the start of a block */
#define BLOCK_GOAL (256u << 10) /* a block is ended when it holds this much: small enough to name a place by it */

struct qrec_writer {
	FILE *file;
	char *path;
	bool regular;	/* a regular file, which may be removed when it is no good; not /dev/null */
	int err;	/* the first error of the file system, negative; nothing is written after it */
	uint64_t bytes; /* written to the file */
	ZSTD_CCtx *zstd;
	struct qrec_totals totals;

	/* The block that is being filled. */
	uint8_t *raw, *next, *stored; /* start, end so far; room for it compressed */
	uint64_t raw_offset, first_event;

	/* Delta state, reset with each block. */
	uint32_t process, thread;
	uint64_t last_page[2]; /* of data and of instructions */

	uint64_t *index; /* file offset of each block */
	size_t nr_blocks, index_room;
};

/* After the first error nothing more is written, and what was counted does not matter any more. */
static void put_bytes(struct qrec_writer *writer, const void *data, size_t len)
{
	if (!writer->err && fwrite(data, 1, len, writer->file) != len)
		writer->err = errno ? -errno : -EIO;
	writer->bytes += len;
}

/* The same 64 bytes in every recording of a version. */
static void put_header(struct qrec_writer *writer)
{
	uint8_t header[QREC_HEADER_SIZE] = QREC_MAGIC;

	qrec_put32(header + 8, QREC_VERSION);
	qrec_put32(header + 12, QREC_HEADER_SIZE);
	qrec_put32(header + 16, QREC_PAGE_SHIFT);
	qrec_put32(header + QREC_HEADER_SIZE - 4, qrec_crc32(0, header, QREC_HEADER_SIZE - 4));
	put_bytes(writer, header, sizeof(header));
}

/* Each block can be decoded without the ones before it. */
static void reset_delta(struct qrec_writer *writer)
{
	writer->process = writer->thread = NOBODY;
	writer->last_page[0] = writer->last_page[1] = 0;
}

/* In any state of construction. */
static void free_writer(struct qrec_writer *writer)
{
	if (!writer)
		return;
	if (writer->file)
		fclose(writer->file);
	ZSTD_freeCCtx(writer->zstd);
	free(writer->raw);
	free(writer->stored);
	free(writer->index);
	free(writer->path);
	free(writer);
}

/* Everything is allocated here: while it records, only the index grows. */
struct qrec_writer *qrec_writer_create(const char *path, int *err)
{
	struct qrec_writer *writer = calloc(1, sizeof(*writer));
	struct stat stat;

	*err = -ENOMEM;
	if (!writer)
		return NULL;
	writer->path = strdup(path);
	writer->raw = writer->next = malloc(QREC_BLOCK_RAW_MAX);
	writer->stored = malloc(QREC_BLOCK_STORED_MAX);
	writer->zstd = ZSTD_createCCtx();
	if (!writer->path || !writer->raw || !writer->stored || !writer->zstd) {
		free_writer(writer);
		return NULL;
	}
	writer->file = fopen(path, "wbe");
	if (!writer->file || fstat(fileno(writer->file), &stat)) {
		*err = -errno;
		free_writer(writer);
		return NULL;
	}
	writer->regular = S_ISREG(stat.st_mode);
	reset_delta(writer);
	put_header(writer);
	return writer;
}

/* Remembers where the next block will stand. */
static void add_to_index(struct qrec_writer *writer)
{
	if (writer->nr_blocks == QREC_BLOCKS_MAX)
		writer->err = writer->err ? writer->err : -EFBIG;
	if (writer->err)
		return;
	if (writer->nr_blocks == writer->index_room) {
		size_t room = writer->index_room ? 2 * writer->index_room : 256;
		uint64_t *index = reallocarray(writer->index, room, sizeof(*index));

		if (!index) {
			writer->err = -ENOMEM;
			return;
		}
		writer->index = index;
		writer->index_room = room;
	}
	writer->index[writer->nr_blocks++] = writer->bytes;
}

/* Compresses @len bytes at writer->raw and writes them as one block. */
static void put_block(struct qrec_writer *writer, uint32_t magic, size_t len, uint64_t events)
{
	uint8_t packed[QREC_BLOCK_HEADER_SIZE];
	size_t stored =
		ZSTD_compressCCtx(writer->zstd, writer->stored, QREC_BLOCK_STORED_MAX, writer->raw, len, ZSTD_LEVEL);
	struct qrec_block_header header = {
		.magic = magic,
		.raw = (uint32_t)len,
		.events = (uint32_t)events,
		.raw_offset = writer->raw_offset,
		.first_event = writer->first_event,
	};

	if (ZSTD_isError(stored)) {
		writer->err = writer->err ? writer->err : -EIO;
		return;
	}
	header.stored = (uint32_t)stored;
	qrec_pack_block_header(packed, &header, writer->stored);
	put_bytes(writer, packed, sizeof(packed));
	put_bytes(writer, writer->stored, stored);
}

/* What was collected becomes a block; the next one begins with nothing assumed. */
static void flush_block(struct qrec_writer *writer)
{
	size_t len = (size_t)(writer->next - writer->raw);

	if (!len)
		return;
	add_to_index(writer);
	put_block(writer, QREC_BLOCK_MAGIC, len, writer->totals.events - writer->first_event);
	writer->raw_offset += len;
	writer->first_event = writer->totals.events;
	writer->next = writer->raw;
	reset_delta(writer);
}

/* A touch: mostly one byte. */
static void encode_touch(struct qrec_writer *writer, const struct qrec_event *event)
{
	uint64_t *last = &writer->last_page[event->op == QREC_FETCH];
	uint64_t delta = qrec_zigzag((int64_t)(event->page - *last));
	uint8_t *p = writer->next;

	if (event->pages > 1) {
		*p++ = (uint8_t)(QREC_RUN << 2 | event->op);
		p = qrec_put_varint(p, delta);
		p = qrec_put_varint(p, event->pages);
	} else if (delta < QREC_FAR) {
		*p++ = (uint8_t)(delta << 2 | event->op);
	} else {
		*p++ = (uint8_t)(QREC_FAR << 2 | event->op);
		p = qrec_put_varint(p, delta);
	}
	*last = event->page + event->pages - 1;
	writer->next = p;
}

/* The kind, the arguments that this kind has, and its text if it has one. */
static void encode_other(struct qrec_writer *writer, const struct qrec_event *event)
{
	const struct qrec_layout *layout = &qrec_layouts[event->op];
	uint8_t *p = writer->next;

	*p++ = (uint8_t)(event->op << 2 | QREC_OTHER);
	for (unsigned i = 0; i < QREC_MAX_ARGS; i++) {
		if (!(layout->args & 1u << i))
			continue;
		/* Results are the only numbers that may be negative. */
		p = qrec_put_varint(p, i == 2 && qrec_is_call(event->op) ? qrec_zigzag(event->result) : event->arg[i]);
	}
	if (layout->text) {
		size_t len = strnlen(event->text ? event->text : "", QREC_TEXT_MAX);

		p = qrec_put_varint(p, len);
		memcpy(p, event->text ? event->text : "", len);
		p += len;
	}
	writer->next = p;
}

/* Into the buffer, which has room: qrec_write saw to that. */
static void encode(struct qrec_writer *writer, const struct qrec_event *event)
{
	if (qrec_is_touch(event->op))
		encode_touch(writer, event);
	else
		encode_other(writer, event);
	qrec_totals_add(&writer->totals, event);
}

/* Records that stand outside of any process. QREC_PROCESS names itself, and begins a process that is then current. */
static bool is_impersonal(enum qrec_op op)
{
	return op == QREC_INFO || op == QREC_PROCESS || (op >= QREC_FILE && op <= QREC_FILE_PUNCH);
}

/* Who the records from here on are about. Counts as a record, on both sides. */
static void switch_to(struct qrec_writer *writer, uint32_t process, uint32_t thread)
{
	struct qrec_event event = { .op = QREC_SWITCH, .arg = { process, thread } };

	writer->process = process;
	writer->thread = thread;
	encode(writer, &event);
}

/* A block is ended before the record that would make it too long, so none is cut. */
void qrec_write(struct qrec_writer *writer, const struct qrec_event *event)
{
	if ((size_t)(writer->next - writer->raw) >= BLOCK_GOAL)
		flush_block(writer);
	/* The buffer has room for a switch and the longest record beyond the goal: see the static assertion. */
	_Static_assert(BLOCK_GOAL + 2 * RECORD_MAX + QREC_TEXT_MAX <= QREC_BLOCK_RAW_MAX, "block buffer too small");
	if (!is_impersonal(event->op) && (event->process != writer->process || event->thread != writer->thread))
		switch_to(writer, event->process, event->thread);
	encode(writer, event);
}

/* The end block: how many totals, the totals, how many blocks, and where each stands. */
static void put_end(struct qrec_writer *writer)
{
	const uint64_t *totals = (const uint64_t *)&writer->totals;
	size_t len = 16 + sizeof(writer->totals) + 8 * writer->nr_blocks;
	uint8_t *p = writer->raw;

	_Static_assert(16 + sizeof(writer->totals) + 8ull * QREC_BLOCKS_MAX <= QREC_BLOCK_RAW_MAX, "index too long");
	qrec_put64(p, QREC_NR_TOTALS);
	for (size_t i = 0; i < QREC_NR_TOTALS; i++)
		qrec_put64(p += 8, totals[i]);
	qrec_put64(p += 8, writer->nr_blocks);
	for (size_t i = 0; i < writer->nr_blocks; i++)
		qrec_put64(p += 8, writer->index[i]);
	put_block(writer, QREC_END_MAGIC, len, 0);
}

/* The trailer is the last thing written: a file that has one is whole. */
int qrec_writer_finish(struct qrec_writer *writer, uint64_t *bytes)
{
	uint8_t trailer[QREC_TRAILER_SIZE];
	int err;

	flush_block(writer);
	qrec_put64(trailer, writer->bytes);
	qrec_put32(trailer + 8, qrec_crc32(0, trailer, 8));
	qrec_put32(trailer + 12, QREC_TRAILER_MAGIC);
	put_end(writer);
	put_bytes(writer, trailer, sizeof(trailer));
	if (fclose(writer->file) && !writer->err)
		writer->err = -errno;
	writer->file = NULL;
	err = writer->err;
	*bytes = writer->bytes;
	if (err && writer->regular)
		unlink(writer->path);
	free_writer(writer);
	return err;
}

void qrec_writer_abandon(struct qrec_writer *writer)
{
	if (writer && writer->regular)
		unlink(writer->path);
	free_writer(writer);
}

const struct qrec_totals *qrec_writer_totals(const struct qrec_writer *writer)
{
	return &writer->totals;
}
