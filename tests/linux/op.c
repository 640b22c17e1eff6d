/* SPDX-License-Identifier: MIT */
/* The table of operations, and the text form in which people read and write them. */
#define _GNU_SOURCE
#include "op.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "abi.h"
#include "random.h"

const struct op_desc op_descs[OP_KINDS] = {
	[OP_MMAP] = { "mmap", { ARG_ADDR, ARG_LEN, ARG_PROT, ARG_MAP, ARG_FILE, ARG_OFFSET }, false, true },
	[OP_MUNMAP] = { "munmap", { ARG_ADDR, ARG_LEN }, false, true },
	[OP_MPROTECT] = { "mprotect", { ARG_ADDR, ARG_LEN, ARG_PROT }, false, true },
	[OP_MREMAP] = { "mremap", { ARG_ADDR, ARG_LEN, ARG_LEN, ARG_MREMAP, ARG_ADDR }, false, true },
	[OP_BRK] = { "brk", { ARG_ADDR }, false, true },
	[OP_MADVISE] = { "madvise", { ARG_ADDR, ARG_LEN, ARG_ADVICE }, false, true },
	[OP_MINCORE] = { "mincore", { ARG_ADDR, ARG_LEN }, false, false },
	[OP_MSYNC] = { "msync", { ARG_ADDR, ARG_LEN, ARG_MS }, false, false },
	[OP_MLOCK] = { "mlock", { ARG_ADDR, ARG_LEN }, false, true },
	[OP_MLOCK2] = { "mlock2", { ARG_ADDR, ARG_LEN, ARG_MLOCK2 }, false, true },
	[OP_MUNLOCK] = { "munlock", { ARG_ADDR, ARG_LEN }, false, true },
	[OP_MLOCKALL] = { "mlockall", { ARG_MCL }, false, true },
	[OP_MUNLOCKALL] = { "munlockall", { ARG_NONE }, false, true },
	[OP_MSEAL] = { "mseal", { ARG_ADDR, ARG_LEN, ARG_WORD }, false, true },
	[OP_LOAD] = { "load", { ARG_ADDR, ARG_LEN }, false, true },
	[OP_STORE] = { "store", { ARG_ADDR, ARG_LEN, ARG_DATA }, false, true },
	[OP_FETCH] = { "fetch", { ARG_ADDR }, false, true },
	[OP_CMPXCHG] = { "cmpxchg", { ARG_ADDR, ARG_WORD, ARG_DATA }, false, true },
	[OP_FORK] = { "fork", { ARG_PROC }, false, true },
	[OP_EXIT] = { "exit", { ARG_NONE }, false, false },
	[OP_VMREAD] = { "vm_readv", { ARG_PROC, ARG_ADDR, ARG_LEN }, false, false },
	[OP_VMWRITE] = { "vm_writev", { ARG_PROC, ARG_ADDR, ARG_LEN, ARG_DATA }, false, false },
	[OP_PREAD] = { "pread", { ARG_FILE, ARG_OFFSET, ARG_LEN }, true, false },
	[OP_PWRITE] = { "pwrite", { ARG_FILE, ARG_OFFSET, ARG_LEN, ARG_DATA }, true, false },
	[OP_FTRUNCATE] = { "ftruncate", { ARG_FILE, ARG_OFFSET }, true, false },
	[OP_FALLOCATE] = { "fallocate", { ARG_FILE, ARG_FALLOC, ARG_OFFSET, ARG_OFFSET }, true, false },
	[OP_FSYNC] = { "fsync", { ARG_FILE }, true, false },
	[OP_SETRLIMIT] = { "setrlimit", { ARG_RESOURCE, ARG_WORD }, false, false },
};

/* ------------------------------------------------------------------------------------------- names of numbers */

struct name {
	uint64_t value;
	const char *text;
};

#define N(x)                                                                                                           \
	{                                                                                                              \
		(uint64_t)(x), #x                                                                                      \
	}
#define END                                                                                                            \
	{                                                                                                              \
		0, NULL                                                                                                \
	}

static const struct name prot_names[] = { N(PROT_NONE),	   N(PROT_READ), N(PROT_WRITE), N(PROT_EXEC), N(PROT_GROWSDOWN),
					  N(PROT_GROWSUP), END };
static const struct name map_names[] = {
	N(MAP_SHARED_VALIDATE),
	N(MAP_DROPPABLE),
	N(MAP_SHARED),
	N(MAP_PRIVATE),
	N(MAP_FIXED),
	N(MAP_ANONYMOUS),
	N(MAP_32BIT),
	N(MAP_GROWSDOWN),
	N(MAP_DENYWRITE),
	N(MAP_EXECUTABLE),
	N(MAP_LOCKED),
	N(MAP_NORESERVE),
	N(MAP_POPULATE),
	N(MAP_NONBLOCK),
	N(MAP_STACK),
	N(MAP_HUGETLB),
	N(MAP_SYNC),
	N(MAP_FIXED_NOREPLACE),
	END,
};
static const struct name mremap_names[] = { N(MREMAP_MAYMOVE), N(MREMAP_FIXED), N(MREMAP_DONTUNMAP), END };
static const struct name ms_names[] = { N(MS_ASYNC), N(MS_INVALIDATE), N(MS_SYNC), END };
static const struct name mcl_names[] = { N(MCL_CURRENT), N(MCL_FUTURE), N(MCL_ONFAULT), END };
static const struct name mlock2_names[] = { N(MLOCK_ONFAULT), END };
static const struct name falloc_names[] = { N(FALLOC_FL_KEEP_SIZE), N(FALLOC_FL_PUNCH_HOLE), END };
static const struct name advice_names[] = {
	N(MADV_NORMAL),		N(MADV_RANDOM),
	N(MADV_SEQUENTIAL),	N(MADV_WILLNEED),
	N(MADV_DONTNEED),	N(MADV_FREE),
	N(MADV_REMOVE),		N(MADV_DONTFORK),
	N(MADV_DOFORK),		N(MADV_MERGEABLE),
	N(MADV_UNMERGEABLE),	N(MADV_HUGEPAGE),
	N(MADV_NOHUGEPAGE),	N(MADV_DONTDUMP),
	N(MADV_DODUMP),		N(MADV_WIPEONFORK),
	N(MADV_KEEPONFORK),	N(MADV_COLD),
	N(MADV_PAGEOUT),	N(MADV_POPULATE_READ),
	N(MADV_POPULATE_WRITE), N(MADV_DONTNEED_LOCKED),
	N(MADV_COLLAPSE),	N(MADV_GUARD_INSTALL),
	N(MADV_GUARD_REMOVE),	END,
};
static const struct name resource_names[] = { N(RLIMIT_AS), N(RLIMIT_DATA), N(RLIMIT_STACK), N(RLIMIT_MEMLOCK), END };

static const struct name *names_of(enum arg_class class)
{
	switch (class) {
	case ARG_PROT:
		return prot_names;
	case ARG_MAP:
		return map_names;
	case ARG_MREMAP:
		return mremap_names;
	case ARG_MS:
		return ms_names;
	case ARG_MCL:
		return mcl_names;
	case ARG_MLOCK2:
		return mlock2_names;
	case ARG_FALLOC:
		return falloc_names;
	case ARG_ADVICE:
		return advice_names;
	case ARG_RESOURCE:
		return resource_names;
	default:
		return NULL;
	}
}

/* Of these the number is one name or none; of the others it is a set of bits. */
static bool is_enumeration(enum arg_class class)
{
	return class == ARG_ADVICE || class == ARG_RESOURCE;
}

/* ------------------------------------------------------------------------------------------------------ writing */

static size_t append(char *buf, size_t size, size_t at, const char *text)
{
	int n = snprintf(buf + at, size - at, "%s", text);

	return n < 0 || at + (size_t)n >= size ? size - 1 : at + (size_t)n;
}

static size_t append_hex(char *buf, size_t size, size_t at, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), value < 10 ? "%" PRIu64 : "0x%" PRIx64, value);
	return append(buf, size, at, text);
}

static size_t format_enumeration(const struct name *names, uint64_t value, char *buf, size_t size)
{
	for (const struct name *n = names; n->text; n++)
		if (n->value == value)
			return append(buf, size, 0, n->text);
	return append_hex(buf, size, 0, value);
}

static size_t format_bits(const struct name *names, uint64_t value, char *buf, size_t size)
{
	size_t at = 0;
	uint64_t rest = value;

	for (const struct name *n = names; n->text; n++) {
		if (n->value ? (rest & n->value) != n->value : value != 0)
			continue;
		at = append(buf, size, at, at ? "|" : "");
		at = append(buf, size, at, n->text);
		rest &= ~n->value;
	}
	if (!rest && at) /* all of it named */
		return at;
	at = append(buf, size, at, at ? "|" : "");
	return append_hex(buf, size, at, rest);
}

size_t arg_format(enum arg_class class, uint64_t value, char *buf, size_t size)
{
	const struct name *names = names_of(class);

	if (!size)
		return 0;
	buf[0] = '\0';
	if (class == ARG_FILE && (int64_t)value < 0)
		return append(buf, size, 0, "-1");
	if (!names)
		return append_hex(buf, size, 0, value);
	if (is_enumeration(class))
		return format_enumeration(names, value, buf, size);
	return format_bits(names, value, buf, size);
}

unsigned op_nr_args(const struct op *op)
{
	unsigned n = 0;

	while (n < OP_ARGS && op_descs[op->kind].arg[n] != ARG_NONE)
		n++;
	return n;
}

size_t op_format(const struct op *op, char *buf, size_t size)
{
	const struct op_desc *d = &op_descs[op->kind];
	size_t at = 0;

	if (!d->file_op) {
		int n = snprintf(buf, size, "p%u ", op->proc);

		at = (size_t)n;
	}
	at = append(buf, size, at, d->name);
	at = append(buf, size, at, "(");
	for (unsigned i = 0; i < op_nr_args(op); i++) {
		at = append(buf, size, at, i ? ", " : "");
		at += arg_format(d->arg[i], op->arg[i], buf + at, size - at);
	}
	return append(buf, size, at, ")");
}

/* ------------------------------------------------------------------------------------------------------ reading */

static const char *skip_space(const char *s)
{
	while (*s && isspace((unsigned char)*s))
		s++;
	return s;
}

static size_t word_length(const char *s)
{
	size_t n = 0;

	while (isalnum((unsigned char)s[n]) || s[n] == '_')
		n++;
	return n;
}

static bool find_name(const struct name *names, const char *word, size_t len, uint64_t *value)
{
	for (const struct name *n = names; n && n->text; n++) {
		if (strlen(n->text) != len || strncmp(n->text, word, len) != 0)
			continue;
		*value = n->value;
		return true;
	}
	return false;
}

/* One number or name; returns behind it, or NULL. */
static const char *parse_term(const struct name *names, const char *s, uint64_t *value)
{
	size_t len = word_length(s);
	char *end;

	if (*s == '-' || isdigit((unsigned char)*s)) {
		*value = *s == '-' ? (uint64_t)strtoll(s, &end, 0) : strtoull(s, &end, 0);
		return end;
	}
	return len && find_name(names, s, len, value) ? s + len : NULL;
}

/* Terms joined by '|'; returns behind them, or NULL. */
static const char *parse_value(enum arg_class class, const char *s, uint64_t *value)
{
	*value = 0;
	for (;;) {
		uint64_t term = 0;

		s = parse_term(names_of(class), skip_space(s), &term);
		if (!s)
			return NULL;
		*value |= term;
		s = skip_space(s);
		if (*s != '|')
			return s;
		s++;
	}
}

int op_kind_by_name(const char *name, size_t len)
{
	for (int k = 0; k < OP_KINDS; k++)
		if (strlen(op_descs[k].name) == len && strncmp(op_descs[k].name, name, len) == 0)
			return k;
	return -1;
}

static const char *parse_args(const char *s, struct op *op)
{
	for (unsigned i = 0; i < op_nr_args(op); i++) {
		s = parse_value(op_descs[op->kind].arg[i], s, &op->arg[i]);
		if (!s || (i + 1 < op_nr_args(op) && *s++ != ','))
			return NULL;
	}
	return s;
}

int op_parse(const char *line, struct op *op)
{
	const char *s = skip_space(line);
	size_t len;
	int kind;

	memset(op, 0, sizeof(*op));
	if (!*s || *s == '#')
		return 0;
	if (s[0] == 'p' && s[1] >= '0' && s[1] < '0' + MAX_PROCS && isspace((unsigned char)s[2])) {
		op->proc = (uint8_t)(s[1] - '0');
		s = skip_space(s + 2);
	}
	len = word_length(s);
	kind = op_kind_by_name(s, len);
	if (kind < 0)
		return -1;
	op->kind = (uint8_t)kind;
	s = skip_space(s + len);
	if (*s++ != '(')
		return -1;
	s = parse_args(s, op);
	return s && *skip_space(s) == ')' ? 1 : -1;
}

long ops_parse(const char *text, struct op *ops, size_t max)
{
	size_t n = 0;
	long line_nr = 0;

	while (*text && n < max) {
		size_t len = strcspn(text, "\n");
		char line[512];
		int r;

		snprintf(line, sizeof(line), "%.*s", (int)len, text);
		r = op_parse(line, &ops[n]);
		if (r < 0)
			return -1 - line_nr;
		n += (size_t)r;
		line_nr++;
		text += len + (text[len] == '\n');
	}
	return (long)n;
}

/* ------------------------------------------------------------------------------------------------------- bytes */

/*
 * push and pop of every register but rsp. 0x54 and 0x5c are left out also because, as the second byte of the
 * instruction 00 5x that stands where zeros end, they would name a memory operand by two registers.
 */
static const uint8_t alphabet[16] = { 0x50, 0x51, 0x52, 0x53, 0x55, 0x56, 0x57, 0x58,
				      0x59, 0x5a, 0x5b, 0x5d, 0x5e, 0x5f, 0x50, 0x57 };

void pattern_fill(uint64_t seed, uint8_t *buf, size_t len)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < len; i++) {
		if (i % 16 == 0)
			bits = rng_mix(seed + i);
		buf[i] = alphabet[bits & 15];
		bits >>= 4;
	}
}
