/* SPDX-License-Identifier: MIT */
/*
 * The work of the one-thread rows, the same for both sides. Every operation goes over the whole range chunk by chunk, so
 * that what it finds in the caches is what the other chunks left there; only the operation itself is timed.
 */
#include "bench.h"
#include "callgrind.h"

#include <linux/mman.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define BASE 0x100000000000ull /* 2 MiB aligned, and far from anything of a small process */
#define MAX_CHUNKS 4096u

/* One round on its way. */
struct round {
	struct side *side;
	const struct bench_setup *setup;
	struct bench_result *result;
	uint64_t chunks;
	bool keep;
};

/* A call for one chunk of mapping @which; @argument is its advice, protection or nothing. */
typedef int (*chunk_fn)(struct round *round, unsigned which, uint64_t index, int argument);

uint64_t chunk_address(const struct bench_setup *setup, unsigned which, uint64_t index)
{
	uint64_t chunks = setup->range / setup->chunk;

	return BASE + (which * chunks + index) * (setup->chunk + BENCH_HUGE);
}

bool bench_fail(struct bench_result *result, const struct side *side, const char *what, int err)
{
	snprintf(result->error, sizeof(result->error), "%s: %s: %s", side->name, what, strerror(-err));
	return false;
}

static void keep_sample(struct round *round, enum bench_op op, uint64_t ns, uint64_t bytes)
{
	uint64_t pages = bytes / BENCH_PAGE;

	if (round->keep)
		samples_add(&round->result->op[op], (double)ns / (double)pages);
}

/* ---------------------------------------------------------------------------------------- calls for a chunk */

static int map_anon(struct round *round, unsigned which, uint64_t index, int unused)
{
	uint64_t addr = chunk_address(round->setup, which, index);
	int advice = round->setup->folio == BENCH_4K ? MADV_NOHUGEPAGE : MADV_HUGEPAGE;
	int err = round->side->map(round->side, 0, addr, round->setup->chunk, false, 0);

	(void)unused;
	return err ? err : round->side->advise(round->side, 0, addr, round->setup->chunk, advice);
}

static int map_file(struct round *round, unsigned which, uint64_t index, int unused)
{
	(void)unused;
	return round->side->map(round->side, 0, chunk_address(round->setup, which, index), round->setup->chunk, true,
				index * round->setup->chunk);
}

static int unmap(struct round *round, unsigned which, uint64_t index, int unused)
{
	(void)unused;
	return round->side->unmap(round->side, 0, chunk_address(round->setup, which, index), round->setup->chunk);
}

static int advise(struct round *round, unsigned which, uint64_t index, int advice)
{
	return round->side->advise(round->side, 0, chunk_address(round->setup, which, index), round->setup->chunk,
				   advice);
}

static int protect(struct round *round, unsigned which, uint64_t index, int prot)
{
	return round->side->protect(round->side, 0, chunk_address(round->setup, which, index), round->setup->chunk,
				    prot);
}

static int punch(struct round *round, unsigned which, uint64_t index, int unused)
{
	(void)which;
	(void)unused;
	return round->side->file_punch(round->side, index * round->setup->chunk, round->setup->chunk);
}

/* ---------------------------------------------------------------------------------------- passes over the range */

/* Does @fn for every chunk and notes each one's time in @ns, if that is wanted. */
static bool pass(struct round *round, const char *what, chunk_fn fn, unsigned which, int argument, uint64_t *ns)
{
	for (uint64_t i = 0; i < round->chunks; i++) {
		uint64_t begun = bench_now();
		int err;

		toggle_counting(ns && round->keep);
		err = fn(round, which, i, argument);
		toggle_counting(ns && round->keep);
		if (ns)
			ns[i] = bench_now() - begun;
		if (err)
			return bench_fail(round->result, round->side, what, err);
	}
	return true;
}

/* The same, and the times are samples of @op. */
static bool timed(struct round *round, enum bench_op op, chunk_fn fn, unsigned which, int argument)
{
	uint64_t ns[MAX_CHUNKS];

	if (!pass(round, bench_rows[op].name, fn, which, argument, ns))
		return false;
	for (uint64_t i = 0; i < round->chunks; i++)
		keep_sample(round, op, ns[i], round->setup->chunk);
	dump_counts(round->keep, bench_rows[op].name);
	return true;
}

static bool map_range(struct round *round, unsigned which, bool file)
{
	return pass(round, "mmap", file ? map_file : map_anon, which, 0, NULL);
}

static bool unmap_range(struct round *round, unsigned which)
{
	return pass(round, "munmap", unmap, which, 0, NULL);
}

static bool populate_range(struct round *round)
{
	return pass(round, "populate", advise, 0, MADV_POPULATE_WRITE, NULL);
}

/* ---------------------------------------------------------------------------------------- the scenarios */

/* There and back again; a sample is the mean of the two ways of one chunk. */
static bool mprotect_both_ways(struct round *round)
{
	uint64_t down[MAX_CHUNKS], up[MAX_CHUNKS];

	if (!pass(round, "mprotect", protect, 0, PROT_READ, down) ||
	    !pass(round, "mprotect", protect, 0, PROT_READ | PROT_WRITE, up))
		return false;
	for (uint64_t i = 0; i < round->chunks; i++)
		keep_sample(round, OP_MPROTECT, (down[i] + up[i]) / 2, round->setup->chunk);
	dump_counts(round->keep, bench_rows[OP_MPROTECT].name);
	return true;
}

static bool anonymous(struct round *round)
{
	return map_range(round, 0, false) && timed(round, OP_POPULATE_WRITE, advise, 0, MADV_POPULATE_WRITE) &&
	       mprotect_both_ways(round) && timed(round, OP_DONTNEED, advise, 0, MADV_DONTNEED) &&
	       populate_range(round) && timed(round, OP_MUNMAP, unmap, 0, 0);
}

static bool zero_page(struct round *round)
{
	return map_range(round, 0, false) && timed(round, OP_POPULATE_READ, advise, 0, MADV_POPULATE_READ) &&
	       unmap_range(round, 0);
}

/* One child made and ended. */
static bool child(struct round *round, uint64_t *fork_ns, uint64_t *exit_ns)
{
	int err = round->side->fork(round->side, fork_ns);

	if (!err)
		err = round->side->reap(round->side, exit_ns);
	return err ? bench_fail(round->result, round->side, "fork", err) : true;
}

#define EMPTY_CHILDREN 5u

/* What a child costs when there is nothing to copy: the least of a few. */
static bool empty_child(struct round *round, uint64_t *fork_ns, uint64_t *exit_ns)
{
	uint64_t fork_once, exit_once;

	*fork_ns = *exit_ns = UINT64_MAX;
	for (unsigned i = 0; i < EMPTY_CHILDREN; i++) {
		if (!child(round, &fork_once, &exit_once))
			return false;
		*fork_ns = fork_once < *fork_ns ? fork_once : *fork_ns;
		*exit_ns = exit_once < *exit_ns ? exit_once : *exit_ns;
	}
	return true;
}

static uint64_t beyond(uint64_t ns, uint64_t empty)
{
	return ns > empty ? ns - empty : 0;
}

/* As child(), with the instructions counted. */
static bool counted_child(struct round *round, uint64_t *fork_ns, uint64_t *exit_ns)
{
	int err;

	toggle_counting(round->keep);
	err = round->side->fork(round->side, fork_ns);
	dump_counts(round->keep, bench_rows[OP_FORK].name);
	if (!err)
		err = round->side->reap(round->side, exit_ns);
	toggle_counting(round->keep);
	dump_counts(round->keep, bench_rows[OP_EXIT].name);
	return err ? bench_fail(round->result, round->side, "fork", err) : true;
}

/* Fork and exit have one sample a round: a fork copies all there is. */
static bool fork_and_exit(struct round *round, uint64_t empty_fork, uint64_t empty_exit)
{
	uint64_t fork_ns, exit_ns;

	if (!counted_child(round, &fork_ns, &exit_ns))
		return false;
	keep_sample(round, OP_FORK, beyond(fork_ns, empty_fork), round->setup->range);
	keep_sample(round, OP_EXIT, beyond(exit_ns, empty_exit), round->setup->range);
	return true;
}

/* The parent writes while a child has the pages, too. */
static bool copy_on_write(struct round *round)
{
	uint64_t ns;
	int err = round->side->fork(round->side, &ns);
	bool done;

	if (err)
		return bench_fail(round->result, round->side, "fork", err);
	done = timed(round, OP_COW, advise, 0, MADV_POPULATE_WRITE);
	err = round->side->reap(round->side, &ns);
	return err ? bench_fail(round->result, round->side, "exit", err) : done;
}

static bool forks(struct round *round, bool cow)
{
	uint64_t empty_fork, empty_exit;

	return empty_child(round, &empty_fork, &empty_exit) && map_range(round, 0, false) && populate_range(round) &&
	       fork_and_exit(round, empty_fork, empty_exit) && (!cow || copy_on_write(round)) && unmap_range(round, 0);
}

static bool shmem_mapped(struct round *round)
{
	return map_range(round, 0, true) && timed(round, OP_SHMEM_POPULATE, advise, 0, MADV_POPULATE_WRITE) &&
	       map_range(round, 1, true) && timed(round, OP_SHMEM_MAP, advise, 1, MADV_POPULATE_READ) &&
	       unmap_range(round, 1) && timed(round, OP_SHMEM_PUNCH, punch, 0, 0) && unmap_range(round, 0);
}

static bool shmem(struct round *round)
{
	int err = round->side->file_create(round->side, round->setup->range);
	bool done;

	if (err)
		return bench_fail(round->result, round->side, "memfd", err);
	done = shmem_mapped(round);
	round->side->file_close(round->side);
	return done;
}

#define OPS_ANON (1u << OP_POPULATE_WRITE | 1u << OP_MPROTECT | 1u << OP_DONTNEED | 1u << OP_MUNMAP)
#define OPS_FORK (1u << OP_FORK | 1u << OP_EXIT | 1u << OP_COW)
#define OPS_SHMEM (1u << OP_SHMEM_POPULATE | 1u << OP_SHMEM_MAP | 1u << OP_SHMEM_PUNCH)

bool scenario_round(struct side *side, const struct bench_setup *setup, unsigned ops, bool keep,
		    struct bench_result *result)
{
	struct round round = { side, setup, result, setup->range / setup->chunk, keep };
	int err = side->warm(side);

	if (err)
		return bench_fail(result, side, "warming up", err);
	if ((ops & OPS_ANON) && !anonymous(&round))
		return false;
	if ((ops & 1u << OP_POPULATE_READ) && !zero_page(&round))
		return false;
	if ((ops & OPS_FORK) && !forks(&round, ops & 1u << OP_COW))
		return false;
	return !(ops & OPS_SHMEM) || shmem(&round);
}
