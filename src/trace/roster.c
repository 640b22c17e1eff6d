/* SPDX-License-Identifier: MIT */
/*
 * What a record may say, given the records before it. A recording comes from a file that anybody may have written: ids
 * must have been given out, ranges must lie in a program's half of the address space, sizes must be sizes.
 */
#include "trace/roster.h"

#include <stdlib.h>

#define PAGE_MASK ((1ull << QREC_PAGE_SHIFT) - 1)
#define SIZE_LIMIT (1ull << 63) /* of files: off_t is signed */

static const char no_memory[] = "out of memory";

void roster_destroy(struct roster *roster)
{
	for (uint32_t i = 0; i < roster->nr_processes; i++)
		free(roster->processes[i].alive);
	free(roster->processes);
	*roster = (struct roster){ 0 };
}

/* Ids of any size are allowed: they may come straight from a file. */
static bool thread_is_alive(const struct roster *roster, uint64_t process, uint64_t thread)
{
	const struct roster_process *p;

	if (process >= roster->nr_processes)
		return false;
	p = &roster->processes[process];
	return !p->exited && thread < p->nr_threads && p->alive[thread];
}

/* ------------------------------------------------------------------------------------------------------ lives */

/* Memory grows with the number of records that make threads, never with the ids that they claim. */
static const char *add_thread(struct roster_process *process)
{
	if (process->nr_threads == process->room) {
		uint32_t room = process->room ? 2 * process->room : 1;
		uint8_t *alive = realloc(process->alive, room);

		if (!alive)
			return no_memory;
		process->alive = alive;
		process->room = room;
	}
	process->alive[process->nr_threads++] = 1;
	process->nr_alive++;
	return NULL;
}

/* The same for processes. Each comes with its first thread. */
static const char *add_process(struct roster *roster, uint64_t id)
{
	if (id != roster->nr_processes)
		return "process numbers are not in order";
	if (id >= QREC_PROCESSES_MAX)
		return "too many processes";
	if (roster->nr_processes == roster->processes_room) {
		uint32_t room = roster->processes_room ? 2 * roster->processes_room : 16;
		struct roster_process *processes = reallocarray(roster->processes, room, sizeof(*processes));

		if (!processes)
			return no_memory;
		roster->processes = processes;
		roster->processes_room = room;
	}
	roster->processes[id] = (struct roster_process){ 0 };
	roster->nr_processes++;
	return add_thread(&roster->processes[id]);
}

/* Of the current process. */
static const char *check_new_thread(struct roster_process *process, uint64_t id)
{
	if (id != process->nr_threads)
		return "thread numbers are not in order";
	if (id >= QREC_THREADS_MAX)
		return "too many threads";
	return add_thread(process);
}

static const char *check_thread_end(struct roster_process *process, uint32_t thread)
{
	process->alive[thread] = 0;
	/* The last thread may end before its process: then only the exit is left to come. */
	process->nr_alive--;
	return NULL;
}

/* exec ends all threads but the one that called it. */
static const char *check_exec(struct roster_process *process, uint32_t thread)
{
	for (uint32_t i = 0; i < process->nr_threads; i++)
		process->alive[i] = i == thread;
	process->nr_alive = 1;
	return NULL;
}

/* Only for a process that has ended: the edge would otherwise point into the future. */
static const char *check_wait(const struct roster *roster, uint64_t id)
{
	if (id >= roster->nr_processes)
		return "waits for a process that does not exist";
	return roster->processes[id].exited ? NULL : "waits for a process that has not ended";
}

/* ------------------------------------------------------------------------------------------------------ files */

/* Before any record that maps it. */
static const char *check_new_file(struct roster *roster, const struct qrec_event *event)
{
	if (event->id != roster->nr_files)
		return "file numbers are not in order";
	if (event->id >= QREC_PROCESSES_MAX)
		return "too many files";
	if (event->kind >= QREC_NR_FILE_KINDS)
		return "unknown kind of file";
	if (event->size >= SIZE_LIMIT)
		return "absurd file size";
	roster->nr_files++;
	return NULL;
}

static const char *check_file_size(const struct roster *roster, const struct qrec_event *event)
{
	if (event->id >= roster->nr_files)
		return "names a file that does not exist";
	return event->size < SIZE_LIMIT ? NULL : "absurd file size";
}

/* Neither end may pass what a signed offset can say. */
static const char *check_punch(const struct roster *roster, const struct qrec_event *event)
{
	uint64_t offset = event->arg[QREC_PUNCH_OFFSET], len = event->arg[QREC_PUNCH_LEN];

	if (event->id >= roster->nr_files)
		return "names a file that does not exist";
	return offset < SIZE_LIMIT && len && len < SIZE_LIMIT - offset ? NULL : "absurd hole";
}

/* ----------------------------------------------------------------------------------------------------- ranges */

static const char *check_touch(const struct qrec_event *event)
{
	if (!event->pages || event->page >= QREC_PAGES_MAX || event->pages > QREC_PAGES_MAX - event->page)
		return "touches pages outside of the address space";
	return event->pages <= QREC_RUN_MAX ? NULL : "touches too many pages at once";
}

/* A range that a successful call may have worked on. Nothing larger than the address space fits into it. */
static bool range_is_sane(uint64_t addr, uint64_t len)
{
	return !(addr & PAGE_MASK) && addr <= QREC_ADDR_MAX && len <= QREC_ADDR_MAX - addr;
}

/* A mapping of @len bytes at @addr. */
static const char *check_mapping(const struct roster *roster, const struct qrec_event *event, uint64_t addr)
{
	if (!event->len || !range_is_sane(addr, event->len))
		return "maps a range outside of the address space";
	if (event->prot > 7)
		return "unknown protection bits";
	if (event->flags > INT32_MAX)
		return "absurd mapping flags";
	if (event->file > roster->nr_files)
		return "maps a file that does not exist";
	if (event->offset & PAGE_MASK || event->offset >= SIZE_LIMIT - QREC_ADDR_MAX)
		return "absurd file offset";
	return NULL;
}

/* The result is where it is now, with the new length; the old length may be 0. */
static const char *check_mremap(const struct qrec_event *event)
{
	if (!event->new_len || !range_is_sane((uint64_t)event->result, event->new_len))
		return "moves to a range outside of the address space";
	return range_is_sane(event->addr, event->len) ? NULL : "moves a range outside of the address space";
}

/* All three: the one asked for is passed on, the other two are ranges to the model. */
static const char *check_brk(const struct qrec_event *event)
{
	if ((uint64_t)event->result > QREC_ADDR_MAX || event->len > QREC_ADDR_MAX || event->addr > QREC_ADDR_MAX)
		return "puts the break outside of the address space";
	return NULL;
}

/*
 * Only what would be used as an address, a length or an id; whether the call makes sense is found out by making it.
 */
static const char *check_call(const struct roster *roster, const struct qrec_event *event)
{
	/* Failed calls are shown and counted, never made: their arguments may be anything. */
	if (event->result < 0)
		return event->result >= -4095 ? NULL : "not a result of a system call";
	if (event->flags > INT32_MAX || event->prot > INT32_MAX)
		return "absurd flags";
	switch (event->op) {
	case QREC_MMAP:
		return check_mapping(roster, event, (uint64_t)event->result);
	case QREC_MREMAP:
		return check_mremap(event);
	case QREC_BRK:
		return check_brk(event);
	case QREC_MLOCKALL:
	case QREC_MUNLOCKALL:
		return NULL;
	case QREC_MLOCK:
	case QREC_MUNLOCK:
		/* These take any address; the pages it lies in are meant. */
		return range_is_sane(event->addr & ~PAGE_MASK, event->len) ? NULL
									   : "a range outside of the address space";
	default:
		return range_is_sane(event->addr, event->len) ? NULL : "a range outside of the address space";
	}
}

/* ------------------------------------------------------------------------------------------------------ records */

/* Records that are not about the current process. */
static const char *check_impersonal(struct roster *roster, const struct qrec_event *event)
{
	switch (event->op) {
	case QREC_SWITCH:
		return thread_is_alive(roster, event->arg[0], event->arg[1]) ? NULL
									     : "names a thread that does not exist";
	case QREC_PROCESS:
		return roster->nr_processes ? "a second first process" : add_process(roster, event->id);
	case QREC_FILE:
		return check_new_file(roster, event);
	case QREC_FILE_SIZE:
		return check_file_size(roster, event);
	case QREC_FILE_PUNCH:
		return check_punch(roster, event);
	default:
		return NULL;
	}
}

/* About the current process and thread, which are alive. */
static const char *check_personal(struct roster *roster, struct roster_process *process, const struct qrec_event *event)
{
	switch (event->op) {
	case QREC_FORK:
		return add_process(roster, event->id);
	case QREC_EXEC:
		return check_exec(process, event->thread);
	case QREC_EXIT:
		process->exited = true;
		return NULL;
	case QREC_WAIT:
		return check_wait(roster, event->id);
	case QREC_THREAD:
		return check_new_thread(process, event->id);
	case QREC_THREAD_END:
		return check_thread_end(process, event->thread);
	case QREC_IMAGE:
		return check_mapping(roster, event, event->addr);
	case QREC_BRK_START:
		return event->addr < QREC_ADDR_MAX ? NULL : "puts the heap outside of the address space";
	default:
		return qrec_is_call(event->op) ? check_call(roster, event) : NULL;
	}
}

/* May stand before the first process, and between those of any. */
static bool is_impersonal(enum qrec_op op)
{
	return op == QREC_INFO || op == QREC_SWITCH || op == QREC_PROCESS || (op >= QREC_FILE && op <= QREC_FILE_PUNCH);
}

/* What is about nobody first; then it must belong to somebody who lives. */
const char *roster_check(struct roster *roster, const struct qrec_event *event)
{
	if (is_impersonal(event->op))
		return check_impersonal(roster, event);
	if (!thread_is_alive(roster, event->process, event->thread))
		return "belongs to no living thread";
	if (qrec_is_touch(event->op))
		return check_touch(event);
	return check_personal(roster, &roster->processes[event->process], event);
}
