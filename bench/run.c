/* SPDX-License-Identifier: MIT */
/*
 * The course of a measurement: getting the processor, setting up both sides for one folio size after the other, letting them take
 * turns, and checking that Linux really used the folios that it was asked for.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (32ull << 20)
#define HUGE_CHUNK (64ull << 20) /* an mprotect of 32 MiB of 2 MiB folios takes microseconds only */
#define MIN_CHUNKS 4u
#define MAX_CHUNKS 1024u

/* One measurement on its way. */
struct run {
	const struct bench_options *options;
	struct bench_report *report;
	struct worker *worker;
	struct limit_arena *limits;
	struct bench_setup setup;
	unsigned cpus[SIDE_THREADS];
	unsigned nr_cpus; /* that we may use, at most SIDE_THREADS */
	cpu_set_t old_cpus;
	unsigned done; /* steps, for the progress bar */
};

/* Too big for a stack, and there is one measurement at a time. */
static struct bench_result quire_result;
static struct samples limit_samples[NR_LIMITS];

/* ---------------------------------------------------------------------------------------- the processor */

/* The last processors that we may use: the first one usually has the interrupts. */
static void find_cpus(struct run *run)
{
	CPU_ZERO(&run->old_cpus);
	if (sched_getaffinity(0, sizeof(run->old_cpus), &run->old_cpus))
		return;
	for (unsigned cpu = CPU_SETSIZE; cpu-- > 0 && run->nr_cpus < SIDE_THREADS;)
		if (CPU_ISSET(cpu, &run->old_cpus))
			run->cpus[run->nr_cpus++] = cpu;
}

static bool pin_to(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

/* For this process and the threads and processes that it makes from now on. */
static void take_processor(struct run *run)
{
	struct sched_param param = { .sched_priority = 1 };

	run->report->pinned = run->nr_cpus && pin_to(run->cpus[0]);
	run->report->fifo = !sched_setscheduler(0, SCHED_FIFO, &param);
}

static void unpin(const struct run *run)
{
	if (run->report->pinned)
		(void)sched_setaffinity(0, sizeof(run->old_cpus), &run->old_cpus);
}

static void give_processor_back(struct run *run)
{
	struct sched_param param = { 0 };

	if (run->report->fifo)
		(void)sched_setscheduler(0, SCHED_OTHER, &param);
	unpin(run);
}

/* ---------------------------------------------------------------------------------------- memory */

static uint64_t round_down(uint64_t value, uint64_t unit)
{
	return value - value % unit;
}

static void choose_setup(struct run *run, enum bench_folio folio)
{
	uint64_t range = run->options->range, chunk = folio == BENCH_2M ? HUGE_CHUNK : CHUNK;

	if (chunk > range / MIN_CHUNKS)
		chunk = range / MIN_CHUNKS;
	if (chunk < range / MAX_CHUNKS)
		chunk = range / MAX_CHUNKS;
	chunk = round_down(chunk, BENCH_HUGE);
	run->setup = (struct bench_setup){ .folio = folio, .range = round_down(range, chunk), .chunk = chunk };
}

static uint64_t memory_available(void)
{
	FILE *meminfo = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (meminfo && fgets(line, sizeof(line), meminfo))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (meminfo)
		fclose(meminfo);
	return kib << 10;
}

/* Twice the range on either side, and once for the limits; and what describes it. */
static bool enough_memory(struct run *run)
{
	uint64_t need = run->options->range * 5 + run->options->range / 2 + (128ull << 20), have = memory_available();

	if (!have || have >= need)
		return true;
	snprintf(run->report->error, sizeof(run->report->error),
		 "needs %llu MiB of memory and %llu MiB are available: choose a smaller --memory",
		 (unsigned long long)(need >> 20), (unsigned long long)(have >> 20));
	return false;
}

static bool start(struct run *run)
{
	find_cpus(run);
	take_processor(run);
	if (!enough_memory(run))
		return false;
	if (!run->options->alone) {
		/* Before this process has any memory to speak of. */
		run->worker = worker_start();
		if (!run->worker) {
			snprintf(run->report->error, sizeof(run->report->error), "cannot start a process: %s",
				 strerror(errno));
			return false;
		}
	}
	run->limits = limit_open(run->options->range);
	if (!run->limits)
		snprintf(run->report->error, sizeof(run->report->error), "memory: %s", strerror(errno));
	return run->limits != NULL;
}

static void finish(struct run *run)
{
	if (run->limits)
		limit_close(run->limits);
	if (run->worker)
		worker_stop(run->worker);
	thp_restore();
	give_processor_back(run);
}

/* ---------------------------------------------------------------------------------------- turns */

static void step(struct run *run)
{
	run->done++;
	if (run->options->progress)
		run->options->progress(run->options->arg, run->done);
}

static bool failed(struct run *run, const struct bench_result *result)
{
	memcpy(run->report->error, result->error, sizeof(result->error));
	return false;
}

/* Both sides, and the limits, one after the other. */
static bool one_round(struct run *run, unsigned ops, bool keep)
{
	if (!scenario_round(side_quire(), &run->setup, ops, keep, &quire_result))
		return failed(run, &quire_result);
	if (run->worker && !worker_scenario(run->worker, ops, keep))
		return failed(run, worker_result(run->worker));
	if (keep)
		limit_round(run->limits, run->setup.folio, limit_samples);
	step(run);
	return true;
}

static bool open_sides(struct run *run)
{
	int err;

	memset(&quire_result, 0, sizeof(quire_result));
	memset(limit_samples, 0, sizeof(limit_samples));
	/* The machine's own thread, too, is not to lose its processor while it holds a lock; but it needs not run on ours. */
	unpin(run);
	err = side_quire()->open(side_quire(), &run->setup);
	take_processor(run);
	if (err) {
		bench_fail(&quire_result, side_quire(), "memory", err);
		return failed(run, &quire_result);
	}
	if (!run->worker || worker_open(run->worker, &run->setup))
		return true;
	side_quire()->close(side_quire());
	return failed(run, worker_result(run->worker));
}

static void close_sides(struct run *run)
{
	side_quire()->close(side_quire());
	if (run->worker)
		worker_close(run->worker);
}

/* ---------------------------------------------------------------------------------------- one folio size */

#define OPS_SHMEM (1u << OP_SHMEM_POPULATE | 1u << OP_SHMEM_MAP | 1u << OP_SHMEM_PUNCH)
#define OPS_ZERO (1u << OP_POPULATE_READ) /* maps no folio, whatever its size */

/* The operations wanted that have a target for this size. */
static unsigned ops_for(const struct bench_options *options, enum bench_folio folio)
{
	unsigned ops = 0;

	for (unsigned op = 0; op < NR_BENCH_OPS; op++)
		if (bench_rows[op].target[folio] > 0)
			ops |= options->ops & 1u << op;
	return options->folios >> folio & 1 ? ops : 0;
}

/* Did the first round allocate at least nine tenths of one range in folios of the size? */
static bool used_folios(const struct run *run, bool shmem, uint64_t before)
{
	uint64_t expected = run->setup.range / folio_bytes(run->setup.folio);

	return run->setup.folio == BENCH_4K || thp_allocated(run->setup.folio, shmem) - before >= expected * 9 / 10;
}

/* Which operations can not be compared because Linux used other folios. */
static bool check_round(struct run *run, unsigned ops, unsigned *wrong)
{
	uint64_t anon = thp_allocated(run->setup.folio, false), shmem = thp_allocated(run->setup.folio, true);

	*wrong = 0;
	if (!one_round(run, ops, false))
		return false;
	if (!run->worker)
		return true;
	if (!used_folios(run, false, anon))
		*wrong |= ops & ~(OPS_SHMEM | OPS_ZERO);
	if ((ops & OPS_SHMEM) && !used_folios(run, true, shmem))
		*wrong |= OPS_SHMEM;
	return true;
}

static void say_why(struct run *run, bool selected)
{
	char *reason = run->report->reasons[run->setup.folio];

	if (!selected)
		snprintf(reason, sizeof(run->report->reasons[0]), "%s", thp_reason());
	else
		snprintf(reason, sizeof(run->report->reasons[0]), "Linux did not allocate %s folios when asked to",
			 bench_folio_names[run->setup.folio]);
}

static void keep_cells(struct run *run, unsigned ops, unsigned wrong)
{
	enum bench_folio folio = run->setup.folio;

	for (unsigned op = 0; op < NR_BENCH_OPS; op++) {
		struct bench_cell *cell = &run->report->cell[op][folio];

		if (!(ops >> op & 1))
			continue;
		cell->wanted = true;
		cell->quire = samples_summary(&quire_result.op[op]);
		if (run->worker)
			cell->linux_side = samples_summary(&worker_result(run->worker)->op[op]);
		cell->not_comparable = wrong >> op & 1 ? run->report->reasons[folio] : NULL;
	}
}

static bool measure(struct run *run, unsigned ops, bool selected)
{
	unsigned wrong;

	if (!check_round(run, ops, &wrong))
		return false;
	if (wrong)
		say_why(run, selected);
	for (unsigned i = 0; i < run->options->repeat; i++)
		if (!one_round(run, ops, true))
			return false;
	keep_cells(run, ops, wrong);
	for (unsigned limit = 0; limit < NR_LIMITS; limit++)
		run->report->limit[limit][run->setup.folio] = samples_summary(&limit_samples[limit]);
	return true;
}

static bool measure_folio(struct run *run, enum bench_folio folio)
{
	unsigned ops = ops_for(run->options, folio);
	bool selected, done;

	if (!ops)
		return true;
	selected = !run->worker || thp_select(folio);
	choose_setup(run, folio);
	if (!open_sides(run))
		return false;
	done = measure(run, ops, selected);
	close_sides(run);
	return done;
}

/* ---------------------------------------------------------------------------------------- two threads */

static double kept(struct samples scale[SIDE_THREADS])
{
	double alone = samples_summary(&scale[0]).median, both = samples_summary(&scale[1]).median;

	return both > 0 ? alone / both : 0;
}

static bool scaling_rounds(struct run *run)
{
	for (unsigned i = 0; i <= run->options->repeat; i++) {
		if (!scaling_round(side_quire(), &run->setup, run->cpus, i > 0, &quire_result))
			return failed(run, &quire_result);
		if (run->worker && !worker_scaling(run->worker, run->cpus, i > 0))
			return failed(run, worker_result(run->worker));
		step(run);
	}
	for (unsigned op = 0; op < NR_SCALE_OPS; op++) {
		run->report->scale[op][0] = kept(quire_result.scale[op]);
		if (run->worker)
			run->report->scale[op][1] = kept(worker_result(run->worker)->scale[op]);
	}
	run->report->scaling = true;
	return true;
}

static bool measure_scaling(struct run *run)
{
	bool done;

	if (!run->options->scale)
		return true;
	if (run->nr_cpus < SIDE_THREADS || !run->report->pinned) {
		run->report->scaling_missing = "two processors are needed, and may not be used here";
		return true;
	}
	if (run->worker)
		thp_select(BENCH_4K);
	choose_setup(run, BENCH_4K);
	if (!open_sides(run))
		return false;
	done = scaling_rounds(run);
	close_sides(run);
	return done;
}

unsigned bench_steps(const struct bench_options *options)
{
	unsigned parts = options->scale != 0;

	for (enum bench_folio folio = BENCH_4K; folio < NR_BENCH_FOLIOS; folio++)
		parts += ops_for(options, folio) != 0;
	return parts * (options->repeat + 1);
}

bool bench_run(const struct bench_options *options, struct bench_report *report)
{
	struct run run = { .options = options, .report = report };
	bool done;

	memset(report, 0, sizeof(*report));
	done = start(&run);
	for (enum bench_folio folio = BENCH_4K; done && folio < NR_BENCH_FOLIOS; folio++)
		done = measure_folio(&run, folio);
	done = done && measure_scaling(&run);
	finish(&run);
	return done;
}
