/* SPDX-License-Identifier: MIT */
/*
 * Turns what one recorded process does, as lackey tells it, into records: touches are folded, threads get their numbers,
 * and the beginning and end of programs and processes are put in their place among them.
 */
#define _GNU_SOURCE /* CLONE_VFORK */
#include "trace/traced.h"

#include "trace/roster.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_SIZE (1ull << QREC_PAGE_SHIFT)

/* The writer puts in a switch record if the thread is another than before. */
void traced_emit(struct traced *traced, struct qrec_event *event)
{
	event->process = traced->id;
	event->thread = traced->thread;
	qrec_write(traced->recorder->writer, event);
}

/* ----------------------------------------------------------------------------------------------------- touches */

/* A touch of a file's page that succeeded shows that the file reaches there, whatever we thought. */
static void learn_size(struct traced *traced, uint64_t page)
{
	const struct range *range = ranges_find(&traced->ranges, page << QREC_PAGE_SHIFT);
	struct hostfile *file;
	uint64_t offset;

	if (!range || !range->file)
		return;
	file = &traced->recorder->files.list[range->file - 1];
	offset = range->offset + (page << QREC_PAGE_SHIFT) - range->start;
	if (offset < file->size)
		return;
	if (!hostfile_has_grown(file) || offset >= file->size)
		file->size = offset + PAGE_SIZE;
	recorder_resize(traced->recorder, range->file - 1, file->size);
}

/* Before the touch comes what it tells about its file. */
static void emit_touch(struct traced *traced, enum qrec_op kind, uint64_t page)
{
	struct qrec_event event = { .op = kind, .page = page, .pages = 1 };

	learn_size(traced, page);
	traced_emit(traced, &event);
}

/* At most two pages for an access; buffers of system calls may be long. */
void traced_touch(struct traced *traced, enum qrec_op kind, uint64_t addr, uint64_t len)
{
	uint64_t page = addr >> QREC_PAGE_SHIFT, last = (addr + len - 1) >> QREC_PAGE_SHIFT;

	if (!len || addr >= QREC_ADDR_MAX || len > QREC_ADDR_MAX - addr)
		return;
	for (; page <= last; page++)
		if (fold_touch(&traced->fold, traced->thread, page, kind))
			emit_touch(traced, kind, page);
}

/* Says how far the process has come since it was last said. */
static void emit_tick(struct traced *traced)
{
	struct qrec_event event = { .op = QREC_TICK };

	if (!traced->accesses)
		return;
	event.arg[QREC_INSTRUCTIONS] = traced->instructions;
	event.arg[QREC_ACCESSES] = traced->accesses;
	traced_emit(traced, &event);
	traced->instructions = traced->accesses = 0;
}

/* The hot path: some hundred million times per recording, nearly always a repetition. */
static void on_access(void *arg, enum qrec_op kind, uint64_t addr, uint64_t size)
{
	struct traced *traced = arg;

	if (traced->state != TRACED_RUNNING || addr - traced->own_start < traced->own_end - traced->own_start)
		return;
	traced->instructions += kind == QREC_FETCH;
	if (++traced->accesses >= traced->recorder->window) {
		emit_tick(traced);
		fold_forget_all(&traced->fold);
	}
	traced_touch(traced, kind, addr, size);
}

/* ------------------------------------------------------------------------------------------------------- calls */

/* While valgrind starts nothing is the program's. */
static void on_call(void *arg, const struct lackey_call *call)
{
	struct traced *traced = arg;

	if (traced->state == TRACED_RUNNING)
		traced_call(traced, call);
}

/* ----------------------------------------------------------------------------------------------------- threads */

/* The program's first instruction is next: its address space stands. */
static void start_program(struct traced *traced)
{
	struct qrec_event event = { .op = QREC_EXEC, .text = traced->program ? traced->program : "" };

	if (traced->id == QREC_UNKNOWN) {
		/* Only the first process begins without a fork. */
		event = (struct qrec_event){ .op = QREC_PROCESS, .id = 0 };
		event.arg[QREC_PID] = (uint64_t)traced->pid;
		traced->id = traced->recorder->nr_ids++;
		traced->nr_threads = traced->nr_bound = 1;
	}
	traced_emit(traced, &event);
	traced->of[1] = traced->thread;
	traced->state = TRACED_RUNNING;
	traced_record_image(traced);
	free(traced->program);
	traced->program = NULL;
}

/* A thread of valgrind runs for the first time: it belongs to the clone that has waited longest for one. */
static void bind_thread(struct traced *traced, unsigned number)
{
	if (traced->nr_bound < traced->nr_threads)
		traced->of[number] = traced->nr_bound++;
}

/* Says which thread the accesses belong to. The first of all says that the program begins. */
static void on_runs(void *arg, unsigned number, bool first)
{
	struct traced *traced = arg;

	if (traced->state == TRACED_BOOTING && first)
		start_program(traced);
	else if (traced->state == TRACED_RUNNING && first)
		bind_thread(traced, number);
	if (traced->state == TRACED_RUNNING && traced->of[number] != QREC_UNKNOWN)
		traced->thread = traced->of[number];
}

static const struct lackey_handler handler = { .access = on_access, .call = on_call, .runs = on_runs };

/* What a process prints that is not recorded any more is thrown away, but read, or it would block. */
void traced_feed(struct traced *traced, const char *text, size_t len)
{
	if (traced->state != TRACED_LOST)
		lackey_feed(&traced->lackey, text, len);
}

/* ------------------------------------------------------------------------------------------------------- lives */

static bool add_to_list(struct recorder *recorder, struct traced *traced)
{
	if (recorder->nr == recorder->room) {
		uint32_t room = recorder->room ? 2 * recorder->room : 16;
		struct traced **list = reallocarray(recorder->list, room, sizeof(struct traced *));

		if (!list)
			return false;
		recorder->list = list;
		recorder->room = room;
	}
	recorder->list[recorder->nr++] = traced;
	return true;
}

/* Its id in the recording comes with its first record: valgrind may fail to start it. */
struct traced *traced_create(struct recorder *recorder, struct traced *parent, pid_t pid)
{
	struct traced *traced = calloc(1, sizeof(*traced));

	recorder->err = -ENOMEM;
	if (!traced)
		return NULL;
	*traced = (struct traced){ .recorder = recorder, .parent = parent, .pid = pid, .id = QREC_UNKNOWN, .fifo = -1 };
	memset(traced->of, 0xff, sizeof(traced->of));
	if (lackey_init(&traced->lackey, &handler, traced) || !add_to_list(recorder, traced)) {
		traced_destroy(traced);
		return NULL;
	}
	recorder->err = 0;
	return traced;
}

/* Threads are asked for as well, and not found: only processes are in the list. */
struct traced *recorder_find(const struct recorder *recorder, pid_t pid)
{
	/* The newest first: pids are used again. */
	for (uint32_t i = recorder->nr; i-- > 0;)
		if (recorder->list[i]->pid == pid)
			return recorder->list[i];
	return NULL;
}

/* The struct itself stays: its parent may still wait for it. */
void traced_close(struct traced *traced)
{
	if (traced->fifo >= 0)
		close(traced->fifo);
	traced->fifo = -1;
	lackey_destroy(&traced->lackey);
	fold_destroy(&traced->fold);
	ranges_destroy(&traced->ranges);
	free(traced->program);
	traced->program = NULL;
	free(traced->descriptors.file);
	traced->descriptors = (struct descriptors){ 0 };
}

void traced_destroy(struct traced *traced)
{
	traced_close(traced);
	free(traced);
}

/* The call in which a process is that has just forked. Valgrind makes real forks of all of them. */
static bool is_vfork(const struct lackey_call *call)
{
	return call && (call->number == SYS_vfork || (call->number == SYS_clone && call->arg[0] & CLONE_VFORK));
}

/* Text that the parent printed so far was fed, so its state is that of the moment of the fork. */
void traced_fork(struct traced *parent, struct traced *child)
{
	struct qrec_event event = { .op = QREC_FORK };

	child->state = parent->state;
	if (parent->state != TRACED_RUNNING)
		return;
	child->id = parent->recorder->nr_ids++;
	event.id = child->id;
	event.arg[QREC_PID] = (uint64_t)child->pid;
	event.arg[QREC_FORK_FLAGS] = is_vfork(lackey_pending(&parent->lackey)) ? QREC_VFORK : 0;
	traced_emit(parent, &event);
	/* The one thread that lives on in the child keeps its number at valgrind. */
	child->nr_threads = child->nr_bound = 1;
	child->thread = 0;
	child->lackey.thread = child->lackey.caller = parent->lackey.thread;
	child->of[parent->lackey.thread] = 0;
	child->own_start = parent->own_start;
	child->own_end = parent->own_end;
	child->brk = parent->brk;
	if (!ranges_copy(&child->ranges, &parent->ranges) ||
	    !descriptors_copy(&child->descriptors, &parent->descriptors))
		parent->recorder->err = -ENOMEM;
	/* What either writes from here on is copied first. */
	fold_forget_all(&parent->fold);
}

/*
 * Nothing of the old program can be touched any more. What the new one has is read from its mappings when it begins.
 */
void traced_exec(struct traced *traced)
{
	const struct lackey_call *call = lackey_pending(&traced->lackey);

	if (traced->state == TRACED_RUNNING)
		emit_tick(traced);
	/* What it is to run was printed by the call that is not going to return. The launcher and the tool follow it. */
	if (call && call->number == SYS_execve && call->text && !traced->program)
		traced->program = strdup(call->text);
	traced->state = TRACED_BOOTING;
	lackey_reset(&traced->lackey);
	fold_forget_all(&traced->fold);
	ranges_destroy(&traced->ranges);
	memset(traced->of, 0xff, sizeof(traced->of));
	traced->brk = 0;
}

/* The status is that of wait(2): exits and signals alike. */
void traced_exit(struct traced *traced, int status)
{
	struct qrec_event event = { .op = QREC_EXIT };

	if (traced->id != QREC_UNKNOWN) {
		emit_tick(traced);
		event.arg[QREC_STATUS] = (uint32_t)status;
		traced_emit(traced, &event);
	}
	traced->state = TRACED_ENDED;
	traced_close(traced);
}

/* ------------------------------------------------------------------------------------------------------- files */

/* Recorded when it is mapped for the first time: most files that a program opens never are. */
uint32_t traced_file(struct traced *traced, uint32_t index)
{
	struct hostfiles *files = &traced->recorder->files;
	struct hostfile *file;
	struct qrec_event event = { .op = QREC_FILE };

	if (index >= files->nr)
		return 0;
	file = &files->list[index];
	if (file->recorded != HOSTFILE_NONE) {
		if (hostfile_has_grown(file))
			recorder_resize(traced->recorder, index, file->size);
		return file->recorded + 1;
	}
	hostfile_has_grown(file);
	event.id = file->recorded = files->nr_recorded++;
	event.kind = file->kind;
	event.size = file->size;
	event.text = file->path;
	qrec_write(traced->recorder->writer, &event);
	return file->recorded + 1;
}

/* Of a file that is not in the recording only we take note. */
void recorder_resize(struct recorder *recorder, uint32_t index, uint64_t size)
{
	struct hostfile *file = &recorder->files.list[index];
	struct qrec_event event = { .op = QREC_FILE_SIZE, .id = file->recorded, .size = size };
	bool shrunk = size < file->size;

	file->size = size;
	if (file->recorded == HOSTFILE_NONE)
		return;
	event.size = size;
	qrec_write(recorder->writer, &event);
	for (uint32_t i = 0; shrunk && i < recorder->nr; i++)
		fold_forget_all(&recorder->list[i]->fold);
}
