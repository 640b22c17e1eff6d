/* SPDX-License-Identifier: MIT */
/*
 * The reading thread of a replay: turns records into work items for the CPUs, keeps track of which processes and threads
 * exist, and looks at the machine before, during and after.
 */
#include "trace/replay.h"

#include "trace/perform.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

const char *const replay_timed_names[NR_TIMED] = {
	[TIMED_LOAD] = "load",	   [TIMED_STORE] = "store",   [TIMED_FETCH] = "fetch",
	[TIMED_MMAP] = "mmap",	   [TIMED_MUNMAP] = "munmap", [TIMED_MPROTECT] = "mprotect",
	[TIMED_MREMAP] = "mremap", [TIMED_BRK] = "brk",	      [TIMED_MADVISE] = "madvise",
	[TIMED_MLOCK] = "mlock",   [TIMED_MSYNC] = "msync",   [TIMED_MINCORE] = "mincore",
	[TIMED_FORK] = "fork",	   [TIMED_EXIT] = "exit",     [TIMED_FILE] = "file",
};

/* The reading thread's state. */
struct reading {
	struct replay *replay;
	struct replay_process *process; /* of the current record */
	uint32_t thread;
	struct work_item *touches; /* being collected, on @touches_cpu; NULL: none */
	unsigned touches_cpu;
	uint64_t next_sample, sample_step;
};

/* ------------------------------------------------------------------------------------------------------ errors */

/* File, event, process, block: enough to find the record again. */
static void describe_place(const struct replay *replay, const struct replay_place *place, char *text, size_t len)
{
	if (!place)
		snprintf(text, len, "%s", replay->options.path);
	else if (!place->process)
		snprintf(text, len, "%s: event %" PRIu64 " (block at byte %" PRIu64 ")", replay->options.path,
			 place->event, place->block);
	else
		snprintf(text, len, "%s: event %" PRIu64 " (process %u, pid %" PRIu64 "; block at byte %" PRIu64 ")",
			 replay->options.path, place->event, place->process->id, place->process->pid, place->block);
}

/* The first failure is the interesting one. Others follow from it, or from stopping. */
static void fail(struct replay *replay, const struct replay_place *place, bool memory, bool broken, const char *fmt,
		 va_list args)
{
	struct replay_outcome *outcome = &replay->outcome;
	char where[400];
	int len;

	pthread_mutex_lock(&replay->lock);
	outcome->broken |= broken;
	if (!outcome->failed) {
		describe_place(replay, place, where, sizeof(where));
		len = snprintf(outcome->error, sizeof(outcome->error), "%s: ", where);
		vsnprintf(outcome->error + len, sizeof(outcome->error) - (size_t)len, fmt, args);
		outcome->failed = true;
		outcome->out_of_memory = memory;
		outcome->at = place ? place->event : 0;
	}
	pthread_mutex_unlock(&replay->lock);
	__atomic_store_n(&replay->stop, true, __ATOMIC_RELEASE);
}

/* For what is different, without anything being broken: a result, or the host's lack of something. */
void replay_fail(struct replay *replay, const struct replay_place *place, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fail(replay, place, false, false, fmt, args);
	va_end(args);
}

/* For what must never be: a wrong byte, a wrong structure. */
void replay_fail_broken(struct replay *replay, const struct replay_place *place, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fail(replay, place, false, true, fmt, args);
	va_end(args);
}

/* A va_list must come from somewhere. */
__attribute__((format(printf, 3, 4))) static void fail_memory(struct replay *replay, const struct replay_place *place,
							      const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fail(replay, place, true, false, fmt, args);
	va_end(args);
}

/* Told apart from all others, because there is something that the user can do about it. */
void replay_fail_memory(struct replay *replay, const struct replay_place *place, const char *what)
{
	fail_memory(replay, place, "%s: out of memory", what);
}

/* ------------------------------------------------------------------------------------------------------- items */

/* Where the current record stands. */
static struct replay_place here(const struct reading *reading, const struct qrec_event *event)
{
	return (struct replay_place){ event->number, qrec_reader_offset(reading->replay->reader), reading->process };
}

/* Threads are spread over the CPUs, and so are processes. */
static unsigned cpu_of(const struct reading *reading)
{
	assert(reading->process); /* the reader lets only living threads have records of their own */
	return (reading->process->id + reading->thread) % reading->replay->options.nr_cpus;
}

/* An item about the current process, for the CPU of its current thread. */
static struct work_item *begin_item(struct reading *reading, const struct qrec_event *event, unsigned *cpu)
{
	struct work_item *item;

	*cpu = cpu_of(reading);
	item = schedule_begin(reading->replay, *cpu);
	item->place = here(reading, event);
	item->process = reading->process;
	item->threaded = reading->process->nr_alive > 1;
	reading->process->ran_on |= 1ull << *cpu;
	return item;
}

/* The run of touches ends: another process or thread is next, or a call that must come after them. */
static void flush_touches(struct reading *reading)
{
	if (!reading->touches)
		return;
	reading->touches = NULL;
	schedule_commit(reading->replay, reading->touches_cpu);
}

/* Collected into an item until something else comes: an item costs more than a touch. */
static void on_touch(struct reading *reading, const struct qrec_event *event)
{
	struct work_item *item = reading->touches;

	if (!item) {
		item = reading->touches = begin_item(reading, event, &reading->touches_cpu);
		item->work = WORK_TOUCHES;
	}
	item->touch[item->nr++] = event->page << 2 | event->op;
	regions_add_page(&item->about, event->page);
	if (item->nr == SCHEDULE_TOUCHES)
		flush_touches(reading);
}

/* What a call changes. Everything, if that is not known before it is made. */
static void add_regions(struct work_item *item)
{
	const struct qrec_event *event = &item->event;

	switch (event->op) {
	case QREC_LOAD:
	case QREC_STORE:
	case QREC_FETCH:
		regions_add(&item->about, event->page << QREC_PAGE_SHIFT, event->pages << QREC_PAGE_SHIFT);
		break;
	case QREC_MMAP:
		regions_add(&item->about, (uint64_t)event->result, event->len);
		break;
	case QREC_MREMAP:
		regions_add(&item->about, (uint64_t)event->result, event->new_len);
		regions_add(&item->about, event->addr, event->len);
		break;
	case QREC_BRK:
		regions_add(&item->about, event->len < event->addr ? event->len : event->addr,
			    event->len < event->addr ? event->addr - event->len : event->len - event->addr);
		break;
	case QREC_MUNMAP:
	case QREC_MPROTECT:
	case QREC_MADVISE:
	case QREC_MLOCK:
	case QREC_MUNLOCK:
	case QREC_MSYNC:
	case QREC_MINCORE:
		regions_add(&item->about, event->addr, event->len);
		break;
	default:
		regions_add_all(&item->about);
	}
}

/* What concerns address spaces that this record does not name. */
static bool is_exclusive(const struct qrec_event *event)
{
	if (event->op == QREC_MADVISE)
		return event->flags == 9; /* MADV_REMOVE punches a file that others may have mapped, too */
	return event->op == QREC_FILE || event->op == QREC_FILE_SIZE || event->op == QREC_FILE_PUNCH;
}

/* One record as an item of its own; about the current process, unless it is about none. */
static void on_event(struct reading *reading, const struct qrec_event *event, struct replay_process *other)
{
	struct work_item *item;
	unsigned cpu = 0;

	if (reading->process) {
		item = begin_item(reading, event, &cpu);
	} else {
		item = schedule_begin(reading->replay, 0);
		item->place = here(reading, event);
	}
	item->work = WORK_EVENT;
	item->event = *event;
	item->event.text = NULL; /* belongs to the reader; nobody needs it any more */
	item->other = other;
	item->exclusive = is_exclusive(event);
	add_regions(item);
	schedule_commit(reading->replay, cpu);
}

/* Before an address space ends, CPUs that ran other threads of it must stop doing so. */
static void leave_other_cpus(struct reading *reading, const struct qrec_event *event)
{
	struct replay_process *process = reading->process;
	unsigned own = cpu_of(reading);

	for (unsigned cpu = 0; cpu < reading->replay->options.nr_cpus; cpu++) {
		struct work_item *item;

		if (cpu == own || !(process->ran_on >> cpu & 1))
			continue;
		item = schedule_begin(reading->replay, cpu);
		item->work = WORK_LEAVE;
		item->place = here(reading, event);
		item->process = process;
		regions_add_all(&item->about);
		schedule_commit(reading->replay, cpu);
	}
	process->ran_on = 0;
}

/* ----------------------------------------------------------------------------------------------------- samples */

/* The reading thread waits: while nothing else is under way, all processes can be looked at. */
static void take_sample(struct reading *reading, uint64_t event)
{
	struct work_item *item = schedule_begin(reading->replay, 0);

	item->work = WORK_SAMPLE;
	item->place = (struct replay_place){ event, qrec_reader_offset(reading->replay->reader), NULL };
	item->exclusive = true;
	schedule_commit(reading->replay, 0);
	schedule_wait(reading->replay, 0);
	reading->next_sample = event + reading->sample_step;
}

/* ------------------------------------------------------------------------------------------------------- lives */

/* Kept until the end, also when it has exited: items that mention it may still be under way. */
static struct replay_process *add_process(struct replay *replay, const struct qrec_event *event)
{
	struct replay_process *process = calloc(1, sizeof(*process));

	if (replay->nr_processes == replay->processes_room) {
		uint32_t room = replay->processes_room ? 2 * replay->processes_room : 64;
		struct replay_process **list = reallocarray(replay->processes, room, sizeof(struct replay_process *));

		if (list) {
			replay->processes = list;
			replay->processes_room = room;
		}
	}
	if (!process || replay->nr_processes == replay->processes_room) {
		free(process);
		replay_fail(replay, NULL, "the host has no memory for the table of processes");
		return NULL;
	}
	process->id = (uint32_t)event->id;
	process->pid = event->arg[QREC_PID];
	process->nr_alive = 1;
	replay->processes[replay->nr_processes++] = process;
	return process;
}

/* A process that nobody forks; from here on it is the current one. */
static void on_process(struct reading *reading, const struct qrec_event *event)
{
	struct replay_process *process = add_process(reading->replay, event);

	if (!process)
		return;
	reading->process = process;
	reading->thread = 0;
	on_event(reading, event, NULL);
}

/* Threads are counted where they stand in the recording; items made later know how many there are. */
static void on_life(struct reading *reading, const struct qrec_event *event)
{
	struct replay *replay = reading->replay;
	struct replay_process *process = reading->process, *other = NULL;

	assert(process); /* see cpu_of */
	switch (event->op) {
	case QREC_FORK:
		other = add_process(replay, event);
		if (!other)
			return;
		break;
	case QREC_WAIT:
		other = replay->processes[event->id];
		break;
	case QREC_THREAD:
		process->nr_alive++;
		break;
	case QREC_EXEC:
	case QREC_EXIT:
		/* Memory is at its highest just before something ends. */
		if (replay->nr_samples < REPLAY_SAMPLES - 2 + event->number / reading->sample_step)
			take_sample(reading, event->number);
		leave_other_cpus(reading, event);
		break;
	default:
		break;
	}
	on_event(reading, event, other);
	if (event->op == QREC_EXEC)
		process->nr_alive = 1;
	if (event->op == QREC_THREAD_END)
		process->nr_alive--;
	if (event->op == QREC_EXIT)
		process->exited = true;
}

/* What is about no process is done by CPU 0. */
static void on_file(struct reading *reading, const struct qrec_event *event)
{
	struct replay_process *process = reading->process;

	if (event->id >= reading->replay->totals.files) {
		replay_fail(reading->replay, NULL, "event %" PRIu64 ": more files than the totals say", event->number);
		return;
	}
	reading->process = NULL;
	on_event(reading, event, NULL);
	reading->process = process;
}

/* Touches are most of all records: they are taken first. */
static void on_record(struct reading *reading, const struct qrec_event *event)
{
	if (qrec_is_touch(event->op) && event->pages == 1) {
		on_touch(reading, event);
		return;
	}
	flush_touches(reading);
	switch (event->op) {
	case QREC_INFO:
	case QREC_TICK:
	case QREC_UNSUPPORTED:
		return;
	case QREC_SWITCH:
		reading->process = reading->replay->processes[event->arg[0]];
		reading->thread = (uint32_t)event->arg[1];
		return;
	case QREC_PROCESS:
		on_process(reading, event);
		return;
	case QREC_FORK:
	case QREC_EXEC:
	case QREC_EXIT:
	case QREC_WAIT:
	case QREC_THREAD:
	case QREC_THREAD_END:
		on_life(reading, event);
		return;
	case QREC_FILE:
	case QREC_FILE_SIZE:
	case QREC_FILE_PUNCH:
		on_file(reading, event);
		return;
	default:
		on_event(reading, event, NULL);
	}
}

/* A recording that was ended from outside may leave processes behind. */
static void end_all(struct reading *reading)
{
	struct replay *replay = reading->replay;
	struct qrec_event event = { .op = QREC_EXIT, .number = replay->totals.events };

	for (uint32_t i = 0; i < replay->nr_processes; i++) {
		if (replay->processes[i]->exited)
			continue;
		reading->process = replay->processes[i];
		reading->thread = 0;
		on_life(reading, &event);
	}
}

/* The end of the recording, a failure somewhere, or a record that cannot be read: whichever comes first. */
static void read_all(struct replay *replay, void (*progress)(void *arg, uint64_t events), void *arg)
{
	struct reading reading = { .replay = replay, .sample_step = replay->totals.events / REPLAY_SAMPLES + 1 };
	struct qrec_event event;
	int more = 1;

	while (!replay_stopped(replay) && (more = qrec_read(replay->reader, &event)) > 0) {
		on_record(&reading, &event);
		if (event.number < reading.next_sample)
			continue;
		flush_touches(&reading);
		take_sample(&reading, event.number);
		progress(arg, event.number);
	}
	flush_touches(&reading);
	if (more < 0) {
		/* The reader names the file itself. */
		pthread_mutex_lock(&replay->lock);
		if (!replay->outcome.failed)
			snprintf(replay->outcome.error, sizeof(replay->outcome.error), "%s",
				 qrec_reader_error(replay->reader));
		replay->outcome.failed = true;
		pthread_mutex_unlock(&replay->lock);
		__atomic_store_n(&replay->stop, true, __ATOMIC_RELEASE);
	}
	if (!replay_stopped(replay))
		end_all(&reading);
	take_sample(&reading, replay->totals.events);
}

/* ----------------------------------------------------------------------------------------------- begin and end */

/* Each file on disk takes two descriptors. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* The totals promise how many files there will be; a recording with more is refused when it gets there. */
static bool create_tables(struct replay *replay)
{
	uint64_t nr = replay->totals.files;

	if (nr > QREC_PROCESSES_MAX || !model_init(&replay->model, (uint32_t)nr)) {
		replay_fail(replay, NULL, "no memory for %" PRIu64 " files", nr);
		return false;
	}
	replay->files = calloc(nr + 1, sizeof(struct quire_file *));
	replay->file_fds = malloc((nr + 1) * sizeof(int));
	if (!replay->files || !replay->file_fds) {
		replay_fail(replay, NULL, "no memory for %" PRIu64 " files", nr);
		return false;
	}
	for (uint64_t i = 0; i <= nr; i++)
		replay->file_fds[i] = -1;
	return true;
}

/* All kinds of memory get the same folio sizes: a comparison of policies should not compare mixtures. */
static bool create_machine(struct replay *replay)
{
	const struct quire_config config = {
		.memory = replay->options.memory,
		.nr_cpus = replay->options.nr_cpus,
		.anon_orders = replay->options.orders,
		.shmem_orders = replay->options.orders,
		.file_orders = replay->options.orders,
	};
	int err = quire_create(&config, &replay->quire);

	if (!err)
		return true;
	replay->quire = NULL;
	replay_fail(replay, NULL, "cannot create a machine with %" PRIu64 " bytes of memory: %s", config.memory,
		    strerror(-err));
	return false;
}

/* Each is a failure; the first is shown. */
static void report_violation(void *arg, const char *line)
{
	replay_fail_broken(arg, NULL, "a structure of the memory manager is wrong: %s", line);
}

/* With all address spaces gone: nothing may be left. The only CPU that is in use is this one. */
static void check_rest(struct replay *replay, struct quire_cpu *cpu)
{
	const struct quire_stat *begin = &replay->begin, *end = &replay->end;
	/* Slabs keep frames for the next object: those are counted as slab, not lost. */
	uint64_t before = begin->frames_free + begin->frames_slab, after;

	filestore_close(replay, cpu);
	quire_drain(cpu);
	quire_stat(cpu, &replay->end);
	if (replay_stopped(replay))
		return;
	replay->violations += quire_validate(cpu, report_violation, replay);
	after = end->frames_free + end->frames_slab;
	if (after != before)
		replay_fail(replay, NULL,
			    "%" PRId64 " frames leaked (%" PRIu64 " free and slab at first, %" PRIu64 " at last)",
			    (int64_t)(before - after), before, after);
	else if (end->frames_table != begin->frames_table)
		replay_fail(replay, NULL, "%" PRId64 " page tables leaked",
			    (int64_t)(end->frames_table - begin->frames_table));
}

/* Does @what on CPU 0 with no other CPU in use. */
static bool alone(struct replay *replay, void (*what)(struct replay *replay, struct quire_cpu *cpu))
{
	struct quire_cpu *cpu;
	int err = quire_cpu_enter(replay->quire, 0, &cpu);

	if (err) {
		replay_fail(replay, NULL, "cannot take CPU 0: %s", strerror(-err));
		return false;
	}
	what(replay, cpu);
	quire_cpu_leave(cpu);
	return true;
}

/* What a machine without programs takes: it must be the same at the end. */
static void look_at_beginning(struct replay *replay, struct quire_cpu *cpu)
{
	quire_drain(cpu);
	quire_stat(cpu, &replay->begin);
}

/* Ends the address spaces that are left when a recording could not be replayed to its end. */
static void end_address_spaces(struct replay *replay, struct quire_cpu *cpu)
{
	for (uint32_t i = 0; i < replay->nr_processes; i++) {
		struct replay_process *process = replay->processes[i];

		if (process->mm)
			quire_mm_put(cpu, process->mm);
		process->mm = NULL;
	}
	check_rest(replay, cpu);
}

/*
 * The recording could not be replayed to its end, for want of memory or because something else was different: no reason to
 * leave anything behind. What is found wrong now is reported, too.
 */
static void check_after_stop(struct replay *replay)
{
	struct replay_outcome outcome = replay->outcome;
	char found[sizeof(outcome.error)];

	replay->outcome.failed = false;
	__atomic_store_n(&replay->stop, false, __ATOMIC_RELEASE);
	alone(replay, end_address_spaces);
	if (replay->outcome.failed) {
		memcpy(found, replay->outcome.error, sizeof(found));
		snprintf(replay->outcome.error, sizeof(found), "%.500s; and then: %.500s", outcome.error, found);
		return;
	}
	replay->outcome = outcome;
	__atomic_store_n(&replay->stop, true, __ATOMIC_RELEASE);
}

/* Reading, doing, and looking whether all is as it was. Times are of the reading and doing only. */
bool replay_run(struct replay *replay, void (*progress)(void *arg, uint64_t events), void *arg)
{
	struct timing_clock begin, end;

	pthread_mutex_init(&replay->lock, NULL);
	replay->totals = *qrec_reader_totals(replay->reader);
	raise_descriptor_limit();
	if (!create_tables(replay) || !create_machine(replay) || !alone(replay, look_at_beginning) ||
	    !schedule_start(replay))
		return false;
	begin = timing_clock_read();
	read_all(replay, progress, arg);
	schedule_stop(replay);
	end = timing_clock_read();
	replay->seconds = (double)(end.ns - begin.ns) / 1e9;
	replay->tick_ns = timing_tick_ns(begin, end);
	if (!replay_stopped(replay))
		alone(replay, check_rest);
	else if (!replay->outcome.broken)
		check_after_stop(replay);
	return !replay->outcome.failed;
}

/* The model goes first: it holds nothing of the machine. */
void replay_destroy(struct replay *replay)
{
	if (replay->files)
		model_destroy(&replay->model);
	/* After a failure the machine may not be empty; its memory is given back when we end. */
	if (replay->quire && quire_destroy(replay->quire) && !replay->outcome.failed)
		replay_fail(replay, NULL, "the machine cannot be taken down: something is still in use");
	for (uint32_t i = 0; i < replay->nr_processes; i++)
		free(replay->processes[i]);
	free(replay->processes);
	free(replay->files);
	free(replay->file_fds);
	pthread_mutex_destroy(&replay->lock);
}
