/* SPDX-License-Identifier: MIT */
/*
 * The reading side of the recording format (qrec.h). Everything that comes from the file is checked before it is used as a
 * size, an index or an address; sizes are bounded by constants, so no file can make the reader allocate without limit.
 */
#include "trace/reader.h"

#include "trace/roster.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

struct qrec_reader {
	FILE *file;
	char *path;
	uint64_t size; /* of the file */
	ZSTD_DCtx *zstd;
	struct roster roster;
	struct qrec_totals totals, seen; /* promised by the file; found so far */
	char error[QREC_ERROR_TEXT];

	uint64_t *index;	 /* file offset of each block, then of the end block */
	size_t nr_blocks, block; /* blocks; the next one to read */

	uint8_t *raw, *stored; /* the current block, uncompressed; room for it compressed */
	const uint8_t *next, *end;
	const uint8_t *begin; /* first byte of the record that was read last */
	uint64_t raw_offset;  /* of the current block, and the offset that the next one must have */
	uint64_t raw_next;
	uint64_t block_events; /* records that the current block still has to contain */

	uint32_t process, thread; /* delta state */
	uint64_t last_page[2];
	char text[QREC_TEXT_MAX + 1];
};

/* ------------------------------------------------------------------------------------------------------ errors */

/* Notes what is wrong with the byte at @offset of the file. Returns -1. */
__attribute__((format(printf, 3, 4))) static int bad(struct qrec_reader *reader, uint64_t offset, const char *fmt, ...)
{
	va_list args;
	int len = snprintf(reader->error, sizeof(reader->error), "%.256s: byte %" PRIu64 ": ", reader->path, offset);

	va_start(args, fmt);
	vsnprintf(reader->error + len, sizeof(reader->error) - (size_t)len, fmt, args);
	va_end(args);
	return -1;
}

/* The same for a record inside the current block: the file offset is that of the block. */
static int bad_record(struct qrec_reader *reader, const char *why)
{
	uint64_t offset = reader->index[reader->block - 1], in_block = (uint64_t)(reader->begin - reader->raw);

	return bad(reader, offset, "record %" PRIu64 " (%" PRIu64 " bytes into this block): %s", reader->seen.events,
		   in_block, why);
}

/* --------------------------------------------------------------------------------------------------- raw bytes */

/*
 * All of @len bytes or an error that says which part of the file is missing. Sizes were checked against constants
 * before.
 */
static int read_at(struct qrec_reader *reader, uint64_t offset, void *buf, size_t len, const char *what)
{
	if (offset > reader->size || len > reader->size - offset)
		return bad(reader, reader->size, "the file ends here, but %s needs %zu bytes at byte %" PRIu64, what,
			   len, offset);
	if (fseeko(reader->file, (off_t)offset, SEEK_SET) || fread(buf, 1, len, reader->file) != len)
		return bad(reader, offset, "cannot read %s: %s", what,
			   ferror(reader->file) ? strerror(errno) : "end of file");
	return 0;
}

/* Reads and uncompresses the block at @offset into reader->raw. */
static int read_block(struct qrec_reader *reader, uint64_t offset, uint32_t magic, struct qrec_block_header *header)
{
	uint8_t packed[QREC_BLOCK_HEADER_SIZE];
	size_t len;

	if (read_at(reader, offset, packed, sizeof(packed), "a block"))
		return -1;
	qrec_unpack_block_header(packed, header);
	if (header->magic != magic)
		return bad(reader, offset, "no block begins here (found %08" PRIx32 ")", header->magic);
	if (!header->stored || header->stored > QREC_BLOCK_STORED_MAX || !header->raw ||
	    header->raw > QREC_BLOCK_RAW_MAX)
		return bad(reader, offset + 4, "absurd block size (%" PRIu32 " bytes, %" PRIu32 " uncompressed)",
			   header->stored, header->raw);
	if (read_at(reader, offset + sizeof(packed), reader->stored, header->stored, "a block"))
		return -1;
	if (qrec_block_crc(packed, reader->stored, header->stored) != header->crc || qrec_get32(packed + 36))
		return bad(reader, offset, "damaged block (its checksum does not fit)");
	len = ZSTD_decompressDCtx(reader->zstd, reader->raw, header->raw, reader->stored, header->stored);
	if (ZSTD_isError(len))
		return bad(reader, offset + sizeof(packed), "cannot uncompress: %s", ZSTD_getErrorName(len));
	if (len != header->raw)
		return bad(reader, offset + 8, "%zu bytes uncompressed instead of %" PRIu32, len, header->raw);
	return 0;
}

/* ------------------------------------------------------------------------------------------ header and end block */

/* First what it is, then its version, then whether it is intact: a newer version may have another header. */
static int check_header(struct qrec_reader *reader)
{
	uint8_t header[QREC_HEADER_SIZE];
	uint32_t version;

	if (reader->size < 8)
		return bad(reader, 0, "not a recording (%" PRIu64 " bytes)", reader->size);
	if (read_at(reader, 0, header, 8, "the header"))
		return -1;
	if (memcmp(header, QREC_MAGIC, 8))
		return bad(reader, 0, "not a recording (no QREC at its beginning)");
	if (read_at(reader, 0, header, sizeof(header), "the header"))
		return -1;
	version = qrec_get32(header + 8);
	if (version > QREC_VERSION)
		return bad(reader, 8,
			   "format version %" PRIu32 " is newer than this program (%u); it takes a newer quire",
			   version, QREC_VERSION);
	if (version < QREC_VERSION_MIN)
		return bad(reader, 8,
			   "format version %" PRIu32 " is older than what is still read (%u); record it again", version,
			   QREC_VERSION_MIN);
	if (qrec_crc32(0, header, QREC_HEADER_SIZE - 4) != qrec_get32(header + QREC_HEADER_SIZE - 4))
		return bad(reader, 0, "damaged header (its checksum does not fit)");
	if (qrec_get32(header + 12) != QREC_HEADER_SIZE || qrec_get32(header + 16) != QREC_PAGE_SHIFT)
		return bad(reader, 12, "unknown header size or page size");
	return 0;
}

/* Finds the end block. A recording that was cut short, or is still being written, has no trailer. */
static int find_end(struct qrec_reader *reader, uint64_t *offset)
{
	uint8_t trailer[QREC_TRAILER_SIZE];
	uint64_t at;

	if (reader->size < QREC_HEADER_SIZE + QREC_BLOCK_HEADER_SIZE + QREC_TRAILER_SIZE)
		return bad(reader, reader->size, "truncated: the file ends here, inside its first block");
	at = reader->size - QREC_TRAILER_SIZE;
	if (read_at(reader, at, trailer, sizeof(trailer), "the trailer"))
		return -1;
	*offset = qrec_get64(trailer);
	if (qrec_get32(trailer + 12) != QREC_TRAILER_MAGIC || qrec_get32(trailer + 8) != qrec_crc32(0, trailer, 8))
		return bad(reader, at, "truncated or damaged: no trailer at the end of the file");
	if (*offset < QREC_HEADER_SIZE || *offset > at)
		return bad(reader, at, "the trailer names an end block at byte %" PRIu64, *offset);
	return 0;
}

/* Block offsets must rise, with room for a header between them; the end block stands behind the last. */
static int read_index(struct qrec_reader *reader, const uint8_t *p, uint64_t end)
{
	uint64_t least = QREC_HEADER_SIZE;

	reader->index = calloc(reader->nr_blocks + 1, sizeof(*reader->index));
	if (!reader->index)
		return bad(reader, end, "no memory for the index");
	for (size_t i = 0; i < reader->nr_blocks; i++, p += 8) {
		reader->index[i] = qrec_get64(p);
		if (reader->index[i] < least || reader->index[i] >= end)
			return bad(reader, end, "damaged index: block %zu at byte %" PRIu64, i, reader->index[i]);
		least = reader->index[i] + QREC_BLOCK_HEADER_SIZE;
	}
	reader->index[reader->nr_blocks] = end;
	return 0;
}

/* Totals and index. What they say is not believed: it bounds what is read, and is compared with it at the end. */
static int read_end(struct qrec_reader *reader)
{
	struct qrec_block_header header;
	const uint8_t *p = reader->raw;
	uint64_t offset = 0, nr_totals;

	if (find_end(reader, &offset) || read_block(reader, offset, QREC_END_MAGIC, &header))
		return -1;
	if (offset + QREC_BLOCK_HEADER_SIZE + header.stored + QREC_TRAILER_SIZE != reader->size)
		return bad(reader, offset, "the end block does not end where the trailer begins");
	nr_totals = header.raw >= 8 ? qrec_get64(p) : 0;
	/* Totals may be added in later versions; those we know come first. */
	if (nr_totals < QREC_NR_TOTALS || nr_totals > 1000 || header.raw < 16 + 8 * nr_totals)
		return bad(reader, offset, "damaged end block (%" PRIu64 " totals)", nr_totals);
	for (size_t i = 0; i < QREC_NR_TOTALS; i++)
		((uint64_t *)&reader->totals)[i] = qrec_get64(p + 8 + 8 * i);
	p += 8 + 8 * nr_totals;
	if (qrec_get64(p) > QREC_BLOCKS_MAX || header.raw != 16 + 8 * nr_totals + 8 * qrec_get64(p))
		return bad(reader, offset, "damaged end block (%" PRIu64 " blocks)", qrec_get64(p));
	reader->nr_blocks = (size_t)qrec_get64(p);
	return read_index(reader, p + 8, offset);
}

/* ------------------------------------------------------------------------------------------- opening and closing */

/* In any state of construction. */
void qrec_reader_close(struct qrec_reader *reader)
{
	if (!reader)
		return;
	if (reader->file)
		fclose(reader->file);
	ZSTD_freeDCtx(reader->zstd);
	roster_destroy(&reader->roster);
	free(reader->index);
	free(reader->raw);
	free(reader->stored);
	free(reader->path);
	free(reader);
}

/* Only regular files: the trailer is read first, which a pipe could not do. */
static int open_file(struct qrec_reader *reader)
{
	struct stat stat;

	reader->file = fopen(reader->path, "rbe");
	if (!reader->file || fstat(fileno(reader->file), &stat)) {
		snprintf(reader->error, sizeof(reader->error), "%.256s: %s", reader->path, strerror(errno));
		return -1;
	}
	if (!S_ISREG(stat.st_mode)) {
		snprintf(reader->error, sizeof(reader->error), "%.256s: not a regular file", reader->path);
		return -1;
	}
	reader->size = (uint64_t)stat.st_size;
	return 0;
}

/* Header, trailer and end block: a file that was cut short is refused before anything of it is used. */
struct qrec_reader *qrec_reader_open(const char *path, char error[QREC_ERROR_TEXT])
{
	struct qrec_reader *reader = calloc(1, sizeof(*reader));

	snprintf(error, QREC_ERROR_TEXT, "%.256s: out of memory", path);
	if (!reader)
		return NULL;
	reader->path = strdup(path);
	reader->raw = malloc(QREC_BLOCK_RAW_MAX);
	reader->stored = malloc(QREC_BLOCK_STORED_MAX);
	reader->zstd = ZSTD_createDCtx();
	if (!reader->path || !reader->raw || !reader->stored || !reader->zstd) {
		qrec_reader_close(reader);
		return NULL;
	}
	if (open_file(reader) || check_header(reader) || read_end(reader)) {
		memcpy(error, reader->error, sizeof(reader->error));
		qrec_reader_close(reader);
		return NULL;
	}
	reader->next = reader->end = reader->begin = reader->raw;
	return reader;
}

/* ----------------------------------------------------------------------------------------------------- records */

/* Makes the next block the current one. Returns 1, 0 at the end, -1. */
static int next_block(struct qrec_reader *reader)
{
	struct qrec_block_header header;
	uint64_t offset = reader->index[reader->block];

	if (reader->block_events)
		return bad(reader, reader->index[reader->block - 1], "%" PRIu64 " records are missing from this block",
			   reader->block_events);
	if (reader->block == reader->nr_blocks) {
		if (memcmp(&reader->seen, &reader->totals, sizeof(reader->seen)))
			return bad(reader, offset, "the totals do not fit the records (%" PRIu64 " of %" PRIu64 ")",
				   reader->seen.events, reader->totals.events);
		return 0;
	}
	if (read_block(reader, offset, QREC_BLOCK_MAGIC, &header))
		return -1;
	reader->block++;
	if (header.raw_offset != reader->raw_next || header.first_event != reader->seen.events || !header.events)
		return bad(reader, offset, "this block does not continue the one before it");
	if (offset + QREC_BLOCK_HEADER_SIZE + header.stored != reader->index[reader->block])
		return bad(reader, offset, "this block does not end where the next one begins");
	reader->raw_offset = header.raw_offset;
	reader->raw_next = header.raw_offset + header.raw;
	reader->block_events = header.events;
	reader->next = reader->begin = reader->raw;
	reader->end = reader->raw + header.raw;
	reader->process = reader->thread = QREC_NOBODY;
	reader->last_page[0] = reader->last_page[1] = 0;
	return 1;
}

/* A varint at reader->next: false if it is cut off by the end of the block or has more than 64 bits. */
static bool get_varint(struct qrec_reader *reader, uint64_t *out)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && reader->next < reader->end; shift += 7) {
		uint8_t byte = *reader->next++;

		if (shift == 63 && byte > 1)
			return false;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*out = value;
			return true;
		}
	}
	return false;
}

/*
 * The first byte holds the kind and mostly the distance. Page numbers are checked by the roster, so wrapping around
 * is harmless.
 */
static const char *decode_touch(struct qrec_reader *reader, uint8_t first, struct qrec_event *event)
{
	uint64_t *last = &reader->last_page[event->op == QREC_FETCH], delta = first >> 2;

	event->pages = 1;
	if (delta >= QREC_FAR) {
		if (!get_varint(reader, &delta))
			return "cut off";
		if (first >> 2 == QREC_RUN && !get_varint(reader, &event->pages))
			return "cut off";
	}
	event->page = *last + (uint64_t)qrec_unzigzag(delta);
	*last = event->page + event->pages - 1;
	return NULL;
}

/* Copied, to end it with a NUL and to let it outlive the block. */
static const char *decode_text(struct qrec_reader *reader, struct qrec_event *event)
{
	uint64_t len;

	if (!get_varint(reader, &len) || len > QREC_TEXT_MAX || len > (uint64_t)(reader->end - reader->next))
		return "text too long";
	memcpy(reader->text, reader->next, len);
	reader->text[len] = '\0';
	reader->next += len;
	event->text = reader->text;
	return NULL;
}

/* Arguments as their kind's layout says; those that are not stored are 0. */
static const char *decode_other(struct qrec_reader *reader, struct qrec_event *event)
{
	const struct qrec_layout *layout = &qrec_layouts[event->op];

	for (unsigned i = 0; i < QREC_MAX_ARGS; i++)
		if (layout->args & 1u << i && !get_varint(reader, &event->arg[i]))
			return "cut off";
	if (qrec_is_call(event->op))
		event->result = qrec_unzigzag(event->arg[2]);
	return layout->text ? decode_text(reader, event) : NULL;
}

/* Who the records after this one belong to. */
static void take_note(struct qrec_reader *reader, const struct qrec_event *event)
{
	if (event->op == QREC_SWITCH) {
		reader->process = (uint32_t)event->arg[0];
		reader->thread = (uint32_t)event->arg[1];
	}
	qrec_totals_add(&reader->seen, event);
	reader->block_events--;
}

/* One record at reader->next. Returns NULL or what is wrong with it. */
static const char *decode(struct qrec_reader *reader, struct qrec_event *event)
{
	uint8_t first = *reader->next++;
	const char *why;

	memset(event, 0, sizeof(*event));
	event->op = first & 3;
	event->process = reader->process;
	event->thread = reader->thread;
	event->number = reader->seen.events;
	if (event->op != QREC_OTHER) {
		why = decode_touch(reader, first, event);
	} else {
		event->op = first >> 2;
		if (event->op < QREC_INFO || event->op >= QREC_NR_OPS)
			return "unknown kind of record";
		why = decode_other(reader, event);
	}
	return why ? why : roster_check(&reader->roster, event);
}

/* Blocks are read as they are needed; one is in memory at a time. */
int qrec_read(struct qrec_reader *reader, struct qrec_event *event)
{
	const char *why;

	while (reader->next == reader->end) {
		int more = next_block(reader);

		if (more <= 0)
			return more;
	}
	reader->begin = reader->next;
	why = reader->block_events ? decode(reader, event) : "more bytes than records";
	if (why)
		return bad_record(reader, why);
	take_note(reader, event);
	return 1;
}

const char *qrec_reader_error(const struct qrec_reader *reader)
{
	return reader->error;
}

const struct qrec_totals *qrec_reader_totals(const struct qrec_reader *reader)
{
	return &reader->totals;
}

uint64_t qrec_reader_offset(const struct qrec_reader *reader)
{
	return reader->block ? reader->index[reader->block - 1] : QREC_HEADER_SIZE;
}

uint64_t qrec_reader_raw_offset(const struct qrec_reader *reader)
{
	return reader->raw_offset + (uint64_t)(reader->begin - reader->raw);
}

uint64_t qrec_reader_size(const struct qrec_reader *reader)
{
	return reader->size;
}
