/* SPDX-License-Identifier: MIT */
/*
 * The bytes of the recording format that writer and reader must agree on: which arguments a record has, byte order,
 * checksums, block headers, and what counts into the totals.
 */
#include "trace/qrec.h"

#define ARG(n) (1u << (n))
#define RANGE (ARG(0) | ARG(1))	      /* addr, len */
#define RANGE_RESULT (RANGE | ARG(2)) /* addr, len, result */

const struct qrec_layout qrec_layouts[QREC_NR_OPS] = {
	[QREC_LOAD] = { "load", RANGE, false },
	[QREC_STORE] = { "store", RANGE, false },
	[QREC_FETCH] = { "fetch", RANGE, false },
	[QREC_INFO] = { "info", 0, true },
	[QREC_SWITCH] = { "switch", ARG(0) | ARG(1), false },
	[QREC_TICK] = { "tick", ARG(0) | ARG(1), false },
	[QREC_UNSUPPORTED] = { "unsupported", ARG(0), false },
	[QREC_PROCESS] = { "process", ARG(0) | ARG(1), false },
	[QREC_FORK] = { "fork", ARG(0) | ARG(1) | ARG(2), false },
	[QREC_EXEC] = { "exec", 0, true },
	[QREC_EXIT] = { "exit", ARG(0), false },
	[QREC_WAIT] = { "wait", ARG(0), false },
	[QREC_THREAD] = { "thread", ARG(0), false },
	[QREC_THREAD_END] = { "thread end", 0, false },
	[QREC_FILE] = { "file", ARG(0) | ARG(1) | ARG(2), true },
	[QREC_FILE_SIZE] = { "file size", ARG(0) | ARG(2), false },
	[QREC_FILE_PUNCH] = { "file punch", ARG(0) | ARG(1) | ARG(2), false },
	[QREC_IMAGE] = { "image", RANGE | ARG(3) | ARG(4) | ARG(5) | ARG(6), false },
	[QREC_BRK_START] = { "brk start", ARG(0), false },
	[QREC_MMAP] = { "mmap", RANGE_RESULT | ARG(3) | ARG(4) | ARG(5) | ARG(6), false },
	[QREC_MUNMAP] = { "munmap", RANGE_RESULT, false },
	[QREC_MPROTECT] = { "mprotect", RANGE_RESULT | ARG(3), false },
	[QREC_MREMAP] = { "mremap", RANGE_RESULT | ARG(4) | ARG(5) | ARG(6), false },
	[QREC_BRK] = { "brk", RANGE_RESULT, false },
	[QREC_MADVISE] = { "madvise", RANGE_RESULT | ARG(4), false },
	[QREC_MLOCK] = { "mlock", RANGE_RESULT | ARG(4), false },
	[QREC_MUNLOCK] = { "munlock", RANGE_RESULT, false },
	[QREC_MLOCKALL] = { "mlockall", ARG(2) | ARG(4), false },
	[QREC_MUNLOCKALL] = { "munlockall", ARG(2), false },
	[QREC_MSYNC] = { "msync", RANGE_RESULT | ARG(4), false },
	[QREC_MINCORE] = { "mincore", RANGE_RESULT, false },
};

/* Counted by both sides from the same records: if a reader comes to other sums it has not read what was written. */
void qrec_totals_add(struct qrec_totals *totals, const struct qrec_event *event)
{
	totals->events++;
	totals->loads += event->op == QREC_LOAD ? event->pages : 0;
	totals->stores += event->op == QREC_STORE ? event->pages : 0;
	totals->fetches += event->op == QREC_FETCH ? event->pages : 0;
	totals->processes += event->op == QREC_PROCESS || event->op == QREC_FORK;
	/* A process comes with its first thread. */
	totals->threads += event->op == QREC_PROCESS || event->op == QREC_FORK || event->op == QREC_THREAD;
	totals->files += event->op == QREC_FILE;
	totals->calls += qrec_is_call(event->op);
	totals->failed += qrec_is_call(event->op) && event->result < 0;
	totals->unsupported += event->op == QREC_UNSUPPORTED;
	if (event->op == QREC_TICK) {
		totals->instructions += event->arg[QREC_INSTRUCTIONS];
		totals->accesses += event->arg[QREC_ACCESSES];
	}
}

uint32_t qrec_crc32(uint32_t crc, const void *data, size_t len)
{
	/* Four bits at a time: a table of 16 is read by people, and compressed blocks are small. */
	static const uint32_t table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	const uint8_t *p = data;

	crc = ~crc;
	while (len--) {
		crc ^= *p++;
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

/* Byte by byte: neither alignment nor the host's byte order matters. */
void qrec_put32(uint8_t *p, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(value >> 8 * i);
}

void qrec_put64(uint8_t *p, uint64_t value)
{
	qrec_put32(p, (uint32_t)value);
	qrec_put32(p + 4, (uint32_t)(value >> 32));
}

uint32_t qrec_get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t qrec_get64(const uint8_t *p)
{
	return qrec_get32(p) | (uint64_t)qrec_get32(p + 4) << 32;
}

#define CRC_AT 32u /* where the CRC stands in a block header; 4 bytes of zero follow it */

/* The payload as stored: damage is found before anything is uncompressed. */
uint32_t qrec_block_crc(const uint8_t header[QREC_BLOCK_HEADER_SIZE], const void *payload, size_t stored)
{
	return qrec_crc32(qrec_crc32(0, header, CRC_AT), payload, stored);
}

/* The CRC last: it covers what was packed before it. */
void qrec_pack_block_header(uint8_t out[QREC_BLOCK_HEADER_SIZE], const struct qrec_block_header *header,
			    const void *payload)
{
	qrec_put32(out, header->magic);
	qrec_put32(out + 4, header->stored);
	qrec_put32(out + 8, header->raw);
	qrec_put32(out + 12, header->events);
	qrec_put64(out + 16, header->raw_offset);
	qrec_put64(out + 24, header->first_event);
	qrec_put32(out + CRC_AT, qrec_block_crc(out, payload, header->stored));
	qrec_put32(out + CRC_AT + 4, 0);
}

void qrec_unpack_block_header(const uint8_t in[QREC_BLOCK_HEADER_SIZE], struct qrec_block_header *header)
{
	header->magic = qrec_get32(in);
	header->stored = qrec_get32(in + 4);
	header->raw = qrec_get32(in + 8);
	header->events = qrec_get32(in + 12);
	header->raw_offset = qrec_get64(in + 16);
	header->first_event = qrec_get64(in + 24);
	header->crc = qrec_get32(in + CRC_AT);
}
