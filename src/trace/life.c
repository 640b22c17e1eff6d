/* SPDX-License-Identifier: MIT */
/*
 * Beginnings and ends of address spaces, and the looks that are taken at the machine in between.
 */
#include "trace/perform.h"

#include <errno.h>
#include <sys/resource.h>

/* A switch costs a TLB: not for every item. */
void perform_run(struct replay_cpu *cpu, struct quire_mm *mm)
{
	if (cpu->running == mm)
		return;
	quire_cpu_run(cpu->cpu, mm);
	cpu->running = mm;
}

/* Tears the address space down. Other CPUs have left it: the reading thread saw to that. */
static void end_address_space(struct replay_cpu *cpu, const struct work_item *item)
{
	struct replay_process *process = item->process;
	uint64_t begin;

	if (!process->mm)
		return;
	perform_sweep(cpu, item);
	perform_run(cpu, NULL);
	begin = timing_now();
	quire_mm_put(cpu->cpu, process->mm);
	perform_timed(cpu, TIMED_EXIT, begin);
	process->mm = NULL;
	model_mm_destroy(process->model);
	process->model = NULL;
}

/* The recorded program was within its limits; ours must not be narrower. */
static void lift_limits(struct quire_mm *mm)
{
	static const int limits[] = { RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_MEMLOCK };

	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
		quire_mm_set_limit(mm, limits[i], UINT64_MAX);
}

/*
 * The first address space of a process, or the one that exec puts in the place of the last. Both begin empty: image
 * records follow.
 */
void perform_start(struct replay_cpu *cpu, const struct work_item *item)
{
	const struct quire_layout layout = { 0 };
	struct replay_process *process = item->process;
	int err;

	end_address_space(cpu, item);
	err = quire_mm_create(cpu->cpu, &layout, &process->mm);
	if (err) {
		process->mm = NULL;
		replay_fail_memory(cpu->replay, &item->place, "making an address space");
		return;
	}
	lift_limits(process->mm);
	process->model = model_mm_create(&cpu->replay->model);
	if (!process->model)
		replay_fail(cpu->replay, &item->place, "the host has no memory for the model");
}

/* The child's CPU may be another: its first item waits for this one. */
void perform_fork(struct replay_cpu *cpu, const struct work_item *item)
{
	struct replay_process *parent = item->process, *child = item->other;
	uint64_t begin;
	int err;

	perform_run(cpu, parent->mm);
	begin = timing_now();
	err = quire_fork(cpu->cpu, &child->mm);
	perform_timed(cpu, TIMED_FORK, begin);
	if (err) {
		child->mm = NULL;
		if (err == -ENOMEM)
			replay_fail_memory(cpu->replay, &item->place, "fork");
		else
			replay_fail(cpu->replay, &item->place, "fork returned %d", err);
		return;
	}
	lift_limits(child->mm);
	child->model = model_mm_fork(parent->model);
	if (!child->model)
		replay_fail(cpu->replay, &item->place, "the host has no memory for the model");
}

/* The CPU's own reference to the address space has gone with perform_run. */
void perform_exit(struct replay_cpu *cpu, const struct work_item *item)
{
	end_address_space(cpu, item);
}

/* ----------------------------------------------------------------------------------------------------- samples */

/* Who reads a violation: the machine was looked at while the replay stood at this place. */
struct witness {
	struct replay *replay;
	const struct replay_place *place;
};

static void add_violation(void *arg, const char *line)
{
	const struct witness *witness = arg;

	replay_fail_broken(witness->replay, witness->place, "a structure of the memory manager is wrong: %s", line);
}

/* One address space's share of a sample. A page that several have counts in each, as in Linux. */
static void add_process(struct replay_cpu *cpu, const struct replay_process *process, struct replay_sample *sample)
{
	struct quire_mm_stat mm;

	quire_mm_stat(cpu->cpu, process->mm, &mm);
	sample->processes++;
	sample->rss += mm.rss_anon + mm.rss_file + mm.rss_shmem;
	sample->rss_anon += mm.rss_anon;
	sample->rss_file += mm.rss_file + mm.rss_shmem;
}

/* Exclusive work: nobody is inside a call, so all structures are at rest and may be validated. */
void perform_sample(struct replay_cpu *cpu, const struct work_item *item)
{
	struct replay *replay = cpu->replay;
	struct replay_sample *sample = &replay->samples[replay->nr_samples];
	struct witness witness = { replay, &item->place };
	struct quire_stat stat;

	if (replay->nr_samples == sizeof(replay->samples) / sizeof(*replay->samples))
		return;
	*sample = (struct replay_sample){ .event = item->place.event };
	/* The reading thread waits for samples: the table does not change. */
	for (uint32_t i = 0; i < replay->nr_processes; i++)
		if (replay->processes[i]->mm)
			add_process(cpu, replay->processes[i], sample);
	quire_stat(cpu->cpu, &stat);
	sample->used = stat.frames_total - stat.frames_free;
	sample->tables = stat.frames_table;
	sample->slab = stat.frames_slab;
	replay->nr_samples++;
	if (replay->options.validate)
		replay->violations += quire_validate(cpu->cpu, add_violation, &witness);
}
