/* SPDX-License-Identifier: MIT */
/*
 * One operation of a sequence: what every executor can do and the generator can draw. Operations are concrete (numbers,
 * not references to earlier results), so a sequence means the same to every executor, and any subset of it is again a
 * sequence: that is what makes shrinking simple. One table describes them; printing, parsing, simplifying and the
 * generated C program all read it.
 */
#ifndef TESTS_LINUX_OP_H
#define TESTS_LINUX_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PAGE 4096ul
#define PMD_BYTES (512 * PAGE)

#define MAX_PROCS 6 /* process numbers; at most MAX_LIVE of them live at once */
#define MAX_LIVE 4
#define MAX_FILES 5
#define MAX_DATA 65536ul /* bytes one load, store, read or mincore vector may have */
#define MAX_OPS 4096	 /* of one sequence */

/* Files 0..2 are shmem, 3 is a host file open for reading and writing, 4 one open for reading only. */
#define FILE_HOST 3
#define FILE_READONLY 4
#define READONLY_SIZE (5 * PAGE + 100) /* its size, the same in every sequence */

enum op_kind {
	OP_MMAP,
	OP_MUNMAP,
	OP_MPROTECT,
	OP_MREMAP,
	OP_BRK,
	OP_MADVISE,
	OP_MINCORE,
	OP_MSYNC,
	OP_MLOCK,
	OP_MLOCK2,
	OP_MUNLOCK,
	OP_MLOCKALL,
	OP_MUNLOCKALL,
	OP_MSEAL,
	OP_LOAD,
	OP_STORE,
	OP_FETCH,
	OP_CMPXCHG,
	OP_FORK,
	OP_EXIT,
	OP_VMREAD,
	OP_VMWRITE,
	OP_PREAD,
	OP_PWRITE,
	OP_FTRUNCATE,
	OP_FALLOCATE,
	OP_FSYNC,
	OP_SETRLIMIT,
	OP_KINDS,
};

/* What an argument is: decides how it is printed, parsed and simplified. */
enum arg_class {
	ARG_NONE,
	ARG_ADDR,
	ARG_LEN,
	ARG_OFFSET,
	ARG_PROT,
	ARG_MAP,
	ARG_MREMAP,
	ARG_ADVICE,
	ARG_MS,
	ARG_MCL,
	ARG_MLOCK2,
	ARG_FALLOC,
	ARG_RESOURCE,
	ARG_FILE, /* file number, or -1 */
	ARG_PROC, /* process number */
	ARG_DATA, /* seed of the bytes written */
	ARG_WORD, /* any other number */
};

#define OP_ARGS 6

struct op {
	uint8_t kind; /* enum op_kind */
	uint8_t proc; /* which process does it; file operations belong to none (0) */
	uint64_t arg[OP_ARGS];
};

struct op_desc {
	const char *name;
	enum arg_class arg[OP_ARGS];
	bool file_op;	/* done by the tester on a file, not by a process */
	bool mm_change; /* may change the list of VMAs */
};

extern const struct op_desc op_descs[OP_KINDS];

unsigned op_nr_args(const struct op *op);

/* Writes "p0 mmap(0x400000, 0x1000, PROT_READ|PROT_WRITE, ...)" without a newline. Returns the bytes written. */
size_t op_format(const struct op *op, char *buf, size_t size);

/* Writes one argument of class @class as C source (numbers in hex, flags by name). Returns the bytes written. */
size_t arg_format(enum arg_class class, uint64_t value, char *buf, size_t size);

/*
 * Reads one operation as op_format() writes it. Returns 1; 0 for a blank line or a comment (#); -1 on a syntax error.
 */
int op_parse(const char *line, struct op *op);

/* Reads operations, one a line, from a text. Returns how many, or -1 - (line number) at a syntax error. */
long ops_parse(const char *text, struct op *ops, size_t max);

/*
 * The bytes that operation @seed writes: @len of them. They are drawn from an alphabet of bytes that are harmless
 * one-byte x86 instructions (push and pop), so that a fetch from anywhere can be tried on the real CPU.
 */
void pattern_fill(uint64_t seed, uint8_t *buf, size_t len);

/* Kind by name, or -1. */
int op_kind_by_name(const char *name, size_t len);

#endif
