/* SPDX-License-Identifier: MIT */
/*
 * `quire bench`: the same work done by quire and by the running Linux kernel, side by side.
 *
 * What is measured is written once (scenario.c, scaling.c) against `struct side`, which both implement: calls of the
 * library in this process (side_quire.c), system calls in a small process of their own (side_linux.c, worker.c), so that
 * Linux's fork does not copy what belongs to quire. The two take turns on one CPU, A B A B; each piece of work is cut into
 * chunks that are timed one by one, and what is compared is the median over all chunks of all rounds: a chunk during
 * which somebody else had the processor does not move it.
 */
#ifndef QUIRE_BENCH_H
#define QUIRE_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BENCH_PAGE 4096u
#define BENCH_HUGE (2u << 20)

/* ---------------------------------------------------------------------------------------- what there is to measure */

enum bench_folio {
	BENCH_4K,
	BENCH_64K,
	BENCH_2M,
	NR_BENCH_FOLIOS
};

enum bench_op {
	OP_POPULATE_WRITE,
	OP_POPULATE_READ,
	OP_DONTNEED,
	OP_MUNMAP,
	OP_MPROTECT,
	OP_FORK,
	OP_EXIT,
	OP_COW,
	OP_SHMEM_POPULATE,
	OP_SHMEM_MAP,
	OP_SHMEM_PUNCH,
	NR_BENCH_OPS,
};

/* What two threads do in separate mappings of one address space. */
enum scale_op {
	SCALE_FAULT,
	SCALE_MPROTECT,
	SCALE_DONTNEED,
	SCALE_MUNMAP,
	NR_SCALE_OPS
};

/* Cold memory work alone: no time below these is possible. */
enum limit_op {
	LIMIT_ZERO,
	LIMIT_COPY,
	NR_LIMITS,
	NO_LIMIT = NR_LIMITS
};

/* One line of the table. */
struct bench_row {
	const char *name;  /* for --only and JSON: "populate-write" */
	const char *title; /* for people */
	enum limit_op limit;
	/* Wall time quire / Linux to reach, by folio size; 0: not measured with this size. */
	double target[NR_BENCH_FOLIOS];
};

extern const struct bench_row bench_rows[NR_BENCH_OPS];
extern const struct bench_row scale_rows[NR_SCALE_OPS]; /* target[BENCH_4K]: of perfect scaling, at least */
extern const char *const bench_folio_names[NR_BENCH_FOLIOS];

/* Bytes of a folio. */
static inline uint64_t folio_bytes(enum bench_folio folio)
{
	static const uint64_t bytes[NR_BENCH_FOLIOS] = { BENCH_PAGE, 64 << 10, BENCH_HUGE };

	return bytes[folio];
}

/* ---------------------------------------------------------------------------------------- samples */

#define MAX_SAMPLES 4096u

/* Nanoseconds per 4 KiB page, one per timed chunk. More than MAX_SAMPLES are dropped: the median has settled long before. */
struct samples {
	uint32_t nr;
	double ns[MAX_SAMPLES];
};

struct summary {
	uint32_t nr;		       /* 0: nothing was measured, and the rest is 0 */
	double min, low, median, high; /* low and high: first and third quartile */
};

void samples_add(struct samples *samples, double ns);
/* Sorts the samples. */
struct summary samples_summary(struct samples *samples);

/* Nanoseconds of a clock that nobody adjusts. */
uint64_t bench_now(void);

/* ---------------------------------------------------------------------------------------- a machine to measure */

/* What one side is set up for. */
struct bench_setup {
	enum bench_folio folio;
	uint64_t range; /* bytes that every operation works on: a multiple of chunk */
	uint64_t chunk; /* bytes timed at once: a multiple of 2 MiB */
};

#define SIDE_THREADS 2u /* actors that a side has: for scaling */

/*
 * quire or Linux. @who is the thread that acts, 0 or 1. Functions return 0 or a negative errno; addresses and lengths are in
 * bytes, addresses are the same on both sides. Constants are Linux's.
 */
struct side {
	const char *name;
	/* Prepares for @setup and touches as much memory as will be needed, so that it is the host's first touch of none. */
	int (*open)(struct side *side, const struct bench_setup *setup);
	void (*close)(struct side *side);
	/* Touches it once more: Linux may have given free memory back to the hypervisor meanwhile. */
	int (*warm)(struct side *side);
	/* Maps [addr, +len) readable and writable: anonymous and private, or shared from the file at @offset if @file. */
	int (*map)(struct side *side, unsigned who, uint64_t addr, uint64_t len, bool file, uint64_t offset);
	int (*unmap)(struct side *side, unsigned who, uint64_t addr, uint64_t len);
	int (*advise)(struct side *side, unsigned who, uint64_t addr, uint64_t len, int advice);
	int (*protect)(struct side *side, unsigned who, uint64_t addr, uint64_t len, int prot);
	/* Stores one byte to every page. */
	int (*touch)(struct side *side, unsigned who, uint64_t addr, uint64_t len);
	/* Makes a child, of which there is one at a time, and ends it; the time that each took. */
	int (*fork)(struct side *side, uint64_t *ns);
	int (*reap)(struct side *side, uint64_t *ns);
	/* The shared memory file, of which there is one at a time. */
	int (*file_create)(struct side *side, uint64_t size);
	int (*file_punch)(struct side *side, uint64_t offset, uint64_t len);
	void (*file_close)(struct side *side);
	/* Begin and end of the work of thread 1. */
	int (*thread_begin)(struct side *side, unsigned who);
	void (*thread_end)(struct side *side, unsigned who);
};

struct side *side_quire(void);
struct side *side_linux(void);

/* ---------------------------------------------------------------------------------------- work */

/* Operations that are wanted, as bits 1 << enum bench_op, and what they took. */
struct bench_result {
	struct samples op[NR_BENCH_OPS];
	struct samples scale[NR_SCALE_OPS]
			    [SIDE_THREADS]; /* [..][n]: ns per page of each thread when n + 1 work at once */
	char error[160];		    /* empty: all went well */
};

/*
 * One round of every wanted operation. False, with result->error, when the side refused something. @keep: the samples count (a
 * first round only warms up).
 */
bool scenario_round(struct side *side, const struct bench_setup *setup, unsigned ops, bool keep,
		    struct bench_result *result);
/* One round of the scaling rows, on @cpus[0] and @cpus[1]. */
bool scaling_round(struct side *side, const struct bench_setup *setup, const unsigned cpus[SIDE_THREADS], bool keep,
		   struct bench_result *result);

/* Where chunk @index of mapping @which (0 or 1) lies; chunks are apart from each other, so that none is merged. */
uint64_t chunk_address(const struct bench_setup *setup, unsigned which, uint64_t index);
/* Fills result->error; returns false. */
bool bench_fail(struct bench_result *result, const struct side *side, const char *what, int err);

/*
 * Cold zeroing and copying of an arena of @bytes made as quire's is, with the routine that quire uses, one folio at a time: ns
 * per page.
 */
struct limit_arena;
struct limit_arena *limit_open(uint64_t bytes);
void limit_round(struct limit_arena *arena, enum bench_folio folio, struct samples limits[NR_LIMITS]);
void limit_close(struct limit_arena *arena);

/* ---------------------------------------------------------------------------------------- the process for Linux's side */

struct worker;

/* Forks it. Must come before this process has much memory. NULL with errno. */
struct worker *worker_start(void);
/* As the functions above, over there. False with the error in worker_result()->error. */
bool worker_open(struct worker *worker, const struct bench_setup *setup);
bool worker_scenario(struct worker *worker, unsigned ops, bool keep);
bool worker_scaling(struct worker *worker, const unsigned cpus[SIDE_THREADS], bool keep);
void worker_close(struct worker *worker);
/* Shared with the worker: what it has measured since worker_open. */
struct bench_result *worker_result(struct worker *worker);
void worker_stop(struct worker *worker);

/* ---------------------------------------------------------------------------------------- Linux's large folios */

/*
 * Tells Linux which folio sizes to use for anonymous and shared memory, while we run. What was set before comes back
 * with thp_restore(), which also runs at exit and when a signal ends the program. False: not permitted, or this kernel
 * does not know the size; thp_reason() says so.
 */
bool thp_select(enum bench_folio folio);
const char *thp_reason(void);
void thp_restore(void);
/* Folios of that size that Linux has allocated since boot; 0 when it does not say. */
uint64_t thp_allocated(enum bench_folio folio, bool shmem);

/* ---------------------------------------------------------------------------------------- all of it */

struct bench_options {
	bool json;
	bool alone;				    /* quire only: nothing is compared */
	unsigned ops;				    /* bits 1 << enum bench_op */
	unsigned scale;				    /* whether the scaling rows are wanted */
	unsigned folios;			    /* bits 1 << enum bench_folio */
	unsigned repeat;			    /* rounds that count */
	uint64_t range;				    /* bytes */
	void (*progress)(void *arg, unsigned done); /* may be NULL */
	void *arg;
};

/* One row as measured. */
struct bench_cell {
	bool wanted;
	const char *not_comparable; /* why there is no ratio; NULL: there is one */
	struct summary quire, linux_side;
};

struct bench_report {
	struct bench_cell cell[NR_BENCH_OPS][NR_BENCH_FOLIOS];
	struct summary limit[NR_LIMITS][NR_BENCH_FOLIOS]; /* whatever the folio, copy-on-write copies pages */
	bool scaling;
	const char *scaling_missing;   /* why there are no scaling rows, or NULL */
	double scale[NR_SCALE_OPS][2]; /* quire's, Linux's: throughput of two threads / (2 * one thread) */
	bool fifo, pinned;	       /* did we get the processor for ourselves? */
	char reasons[NR_BENCH_FOLIOS][160];
	char error[160];
};

/* Steps that bench_run will report to options->progress. */
unsigned bench_steps(const struct bench_options *options);
/* Measures. False: it could not be done, and report->error says why. */
bool bench_run(const struct bench_options *options, struct bench_report *report);
void bench_print_table(FILE *out, const struct bench_options *options, const struct bench_report *report);
void bench_print_json(FILE *out, const struct bench_options *options, const struct bench_report *report);

#endif
