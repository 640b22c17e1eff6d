/* SPDX-License-Identifier: MIT */
/*
 * The recording format: what stands in a .qrec file and what one record means. Writer, reader, recorder and replay all
 * include this and nothing of each other. docs/recording.md describes the same for people who write their own tools.
 *
 * A file is a header, blocks of records, an end block with totals and an index, and a trailer that says where the end
 * block is. A block is compressed on its own and begins with a clean delta state, so it can be decoded knowing nothing
 * but itself; each carries a CRC and its place in the uncompressed stream.
 */
#ifndef QUIRE_TRACE_QREC_H
#define QUIRE_TRACE_QREC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QREC_VERSION 1u	    /* what we write */
#define QREC_VERSION_MIN 1u /* the oldest that we read */

#define QREC_MAGIC "QREC\r\n\x1a\n" /* 8 bytes; the line ends notice a transfer in text mode */
#define QREC_HEADER_SIZE 64u
#define QREC_BLOCK_MAGIC 0x4b4c4251u   /* "QBLK" */
#define QREC_END_MAGIC 0x444e4551u     /* "QEND" */
#define QREC_TRAILER_MAGIC 0x4e494651u /* "QFIN" */
#define QREC_BLOCK_HEADER_SIZE 40u
#define QREC_TRAILER_SIZE 16u

/* Limits that both sides keep: a reader never allocates more than these allow, whatever a file claims. */
#define QREC_BLOCK_RAW_MAX (1u << 20)	 /* uncompressed bytes of one block of records */
#define QREC_BLOCK_STORED_MAX (9u << 17) /* compressed; a little more than raw for what does not compress */
#define QREC_BLOCKS_MAX 131000u		 /* blocks in one file; their index fits in one block */
#define QREC_TEXT_MAX 4096u		 /* bytes of a name */
#define QREC_PROCESSES_MAX (1u << 20)	 /* processes, and files, in one recording */
#define QREC_THREADS_MAX (1u << 16)	 /* threads of one process */
#define QREC_RUN_MAX (1u << 16)		 /* pages touched by one record */
#define QREC_PAGE_SHIFT 12u
#define QREC_PAGES_MAX (1ull << (47 - QREC_PAGE_SHIFT)) /* a program's half of the address space */
#define QREC_ADDR_MAX (QREC_PAGES_MAX << QREC_PAGE_SHIFT)

/*
 * What a record says. The numbers are in the files: never change one, only add. Unless it says otherwise a record is about
 * the process and thread that the last QREC_SWITCH named.
 */
enum qrec_op {
	/* Touches: page, pages. Folded: docs/recording.md says which repetitions are left out. */
	QREC_LOAD = 0,
	QREC_STORE = 1,
	QREC_FETCH = 2, /* an instruction was fetched */

	/* About the recording. */
	QREC_INFO = 3,	      /* text "key=value"; stands before everything else */
	QREC_SWITCH = 4,      /* process, thread: who the records from here on belong to */
	QREC_TICK = 5,	      /* instructions, accesses: what the current process did since its last tick */
	QREC_UNSUPPORTED = 6, /* number: a memory system call that is not recorded was made */

	/* Lives. Ids are given out in order, from 0; threads per process. */
	QREC_PROCESS = 7,     /* id, pid: the first process, with thread 0 and an empty address space */
	QREC_FORK = 8,	      /* id, pid, flags (enum qrec_fork_flags): a copy of the current process, with thread 0 */
	QREC_EXEC = 9,	      /* text program: the address space is replaced by an empty one, other threads end */
	QREC_EXIT = 10,	      /* status as of wait(2): the process and its address space end */
	QREC_WAIT = 11,	      /* id: the end of process id is known to this thread from here on */
	QREC_THREAD = 12,     /* id: a thread of this process begins */
	QREC_THREAD_END = 13, /* this thread ends */

	/* Files that are mapped at some time. Their contents are not recorded. */
	QREC_FILE = 14,	      /* id, kind (enum qrec_file_kind), size, text name */
	QREC_FILE_SIZE = 15,  /* id, size: it has become longer or shorter */
	QREC_FILE_PUNCH = 16, /* id, offset, length: a hole, size unchanged */

	/* The address space at the start of a program, as exec made it: addr, len, prot, flags, file, offset. */
	QREC_IMAGE = 17,
	QREC_BRK_START = 18, /* addr: the heap begins here, with size 0 */

	/* System calls with their results. Only calls with a result >= 0 have changed anything. */
	QREC_MMAP = 19,	      /* addr, len, result, prot, flags, file, offset */
	QREC_MUNMAP = 20,     /* addr, len, result */
	QREC_MPROTECT = 21,   /* addr, len, result, prot */
	QREC_MREMAP = 22,     /* addr, len, result, flags, new_len, new_addr */
	QREC_BRK = 23,	      /* addr (asked for), len (the break before), result (the break after) */
	QREC_MADVISE = 24,    /* addr, len, result, flags (advice) */
	QREC_MLOCK = 25,      /* addr, len, result, flags (those of mlock2) */
	QREC_MUNLOCK = 26,    /* addr, len, result */
	QREC_MLOCKALL = 27,   /* result, flags */
	QREC_MUNLOCKALL = 28, /* result */
	QREC_MSYNC = 29,      /* addr, len, result, flags */
	QREC_MINCORE = 30,    /* addr, len, result */
	QREC_NR_OPS = 31,
};

enum qrec_fork_flags {
	QREC_VFORK = 1
}; /* the program called vfork or posix_spawn; recorded like any fork */

enum qrec_file_kind {
	QREC_FILE_DISK = 0,  /* a file with a name */
	QREC_FILE_SHMEM = 1, /* a memfd or System V segment: begins as zeroes */
	QREC_NR_FILE_KINDS = 2,
};

#define QREC_MAX_ARGS 7u

/* One record, decoded. The names of arguments in the list above are the members here. */
struct qrec_event {
	enum qrec_op op;
	uint32_t process, thread; /* whom it is about */
	uint64_t number;	  /* its place in the recording, from 0 */
	union {
		uint64_t arg[QREC_MAX_ARGS];
		struct {
			uint64_t page, pages;
		}; /* touches; page is an address shifted right by QREC_PAGE_SHIFT */
		struct {
			uint64_t addr, len;
			int64_t result;			    /* negative: minus the errno value */
			uint64_t prot, flags, file, offset; /* file: id + 1, 0 for none */
		};					    /* calls and images */
		struct {
			uint64_t unused_[5], new_len, new_addr;
		}; /* mremap, besides the above */
		struct {
			uint64_t id, kind, size;
		}; /* lives and files */
	};
	const char *text; /* NUL-terminated, owned by whoever made the event; NULL: none */
};

/* Positions in arg[], for records whose arguments have other names than the members above. */
#define QREC_PID 1u	     /* QREC_PROCESS, QREC_FORK */
#define QREC_FORK_FLAGS 2u   /* QREC_FORK */
#define QREC_STATUS 0u	     /* QREC_EXIT */
#define QREC_INSTRUCTIONS 0u /* QREC_TICK */
#define QREC_ACCESSES 1u     /* QREC_TICK */
#define QREC_SYSCALL 0u	     /* QREC_UNSUPPORTED */
#define QREC_PUNCH_OFFSET 1u /* QREC_FILE_PUNCH */
#define QREC_PUNCH_LEN 2u

/* How each kind of record is laid out: bit n of @args is set if arg[n] is stored. All of them are varints. */
struct qrec_layout {
	const char *name;
	uint8_t args;
	bool text;
};
extern const struct qrec_layout qrec_layouts[QREC_NR_OPS];

/* The sums in the end block, in the order in which they are stored. */
struct qrec_totals {
	uint64_t events, processes, threads, files;
	uint64_t loads, stores, fetches;     /* touches, in pages */
	uint64_t instructions, accesses;     /* what really happened, before folding */
	uint64_t calls, failed, unsupported; /* memory system calls; those that failed; those that are not recorded */
};
#define QREC_NR_TOTALS (sizeof(struct qrec_totals) / sizeof(uint64_t))

static inline bool qrec_is_touch(enum qrec_op op)
{
	return op <= QREC_FETCH;
}

/* A memory system call, with addr, len and result. */
static inline bool qrec_is_call(enum qrec_op op)
{
	return op >= QREC_MMAP;
}

/* Adds one record to the sums; the writer and the reader must come to the same. */
void qrec_totals_add(struct qrec_totals *totals, const struct qrec_event *event);

/* ------------------------------------------------------------------------------------- bytes: layout.c */

/* CRC-32 (IEEE 802.3) of @len bytes, continuing @crc; 0 to begin. */
uint32_t qrec_crc32(uint32_t crc, const void *data, size_t len);

void qrec_put32(uint8_t *p, uint32_t value);
void qrec_put64(uint8_t *p, uint64_t value);
uint32_t qrec_get32(const uint8_t *p);
uint64_t qrec_get64(const uint8_t *p);

/* What stands before the payload of a block. Offsets and counts are those of the records before compression. */
struct qrec_block_header {
	uint32_t magic, stored, raw, events;
	uint64_t raw_offset, first_event;
	uint32_t crc; /* of the header up to here and the payload as stored */
};

/* Packs @header with the CRC that belongs to it and @payload (header->stored bytes). */
void qrec_pack_block_header(uint8_t out[QREC_BLOCK_HEADER_SIZE], const struct qrec_block_header *header,
			    const void *payload);
void qrec_unpack_block_header(const uint8_t in[QREC_BLOCK_HEADER_SIZE], struct qrec_block_header *header);
/* The CRC that a block with these bytes must carry. */
uint32_t qrec_block_crc(const uint8_t header[QREC_BLOCK_HEADER_SIZE], const void *payload, size_t stored);

/* Signed numbers as small unsigned ones: 0, -1, 1, -2, ... become 0, 1, 2, 3, ... */
static inline uint64_t qrec_zigzag(int64_t value)
{
	return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

static inline int64_t qrec_unzigzag(uint64_t value)
{
	return (int64_t)(value >> 1 ^ (0 - (value & 1)));
}

#define QREC_VARINT_MAX 10u /* bytes */

/* Seven bits per byte, lowest first, the top bit says that more follow. Returns the byte after. */
static inline uint8_t *qrec_put_varint(uint8_t *p, uint64_t value)
{
	while (value >= 0x80) {
		*p++ = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	*p++ = (uint8_t)value;
	return p;
}

/*
 * The first byte of a record. Its low two bits are the kind of a touch (0, 1, 2), or 3 for everything else. Of a touch the
 * upper six bits hold the zigzag distance to the last page of the same class (data or instruction) when it is less than
 * QREC_FAR; QREC_FAR: a varint with it follows; QREC_RUN: a varint with it and a varint with the number of pages follow.
 * Of everything else the upper six bits are the qrec_op, and its arguments follow.
 */
#define QREC_OTHER 3u
#define QREC_FAR 62u
#define QREC_RUN 63u

#endif
