/* SPDX-License-Identifier: MIT */
/*
 * Running sequences in a process of their own, so that a crash or an endless loop of what is tested is a verdict like any
 * other and does not end the tester.
 */
#ifndef TESTS_LINUX_RUN_H
#define TESTS_LINUX_RUN_H

#include "compare.h"

enum subject {
	SUBJECT_QUIRE,
	SUBJECT_LINUX,
	SUBJECT_SABOTEUR
};

struct run_options {
	enum subject subject; /* what is compared with the kernel; the last two test the tester */
	unsigned orders;      /* QUIRE_ORDERS_* for everything */
	struct depth depth;
	const char *dir; /* where host files are made */
	uint64_t kinds;	 /* that may be drawn */
	unsigned len;	 /* operations of a drawn sequence */
	uint64_t seed;
	unsigned hang_seconds; /* no progress for so long is VERDICT_HANG */
};

/* What the reference made of one operation, kept for printing. */
struct brief {
	bool skipped;
	int signo, code;
	int64_t ret;
	uint64_t fault_addr;
};

/* Shared between the tester and its worker. */
struct record {
	uint32_t nr_ops; /* of the current sequence, the one being done included */
	struct op ops[MAX_OPS];
	struct brief briefs[MAX_OPS];
	struct verdict verdict;
	uint32_t stop;	   /* set by anybody: to end after the current sequence; atomic */
	uint64_t sequence; /* number of the current one */
	uint64_t ops_done; /* of all sequences of this record's life; atomic */
	uint64_t kind_done[OP_KINDS];
	uint64_t kind_failed[OP_KINDS]; /* of these: ended in an error or a signal, on both sides */
};

struct record *record_create(void);
void record_destroy(struct record *record);

/*
 * Draws and runs sequences @first, @first + 1, ... in a new process until @last (exclusive), @max_ops operations in this
 * record's life, record->stop, @seconds, or the first difference, which is then in @record. Returns the number of the sequence to
 * go on with.
 */
struct campaign {
	uint64_t first, last, max_ops;
	double seconds;
	void (*progress)(const struct record *record); /* about once a second; may be NULL */
};
uint64_t run_campaign(const struct run_options *options, const struct campaign *campaign, struct record *record);

/* Runs these operations in a new process and sets record->verdict. */
void run_ops(const struct run_options *options, const struct op *ops, size_t nr, struct record *record);

#endif
