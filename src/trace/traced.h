/* SPDX-License-Identifier: MIT */
/*
 * The recorder's view of one process that is being recorded: its threads, its mappings, its descriptors, and which touches
 * are already in the recording. Everything runs in the recorder's one thread.
 */
#ifndef QUIRE_TRACE_TRACED_H
#define QUIRE_TRACE_TRACED_H

#include "trace/fold.h"
#include "trace/hostfile.h"
#include "trace/lackey.h"
#include "trace/ranges.h"
#include "trace/writer.h"

#include <sys/types.h>

struct traced;

/* One run of `quire record`. */
struct recorder {
	struct qrec_writer *writer;
	struct hostfiles files;
	struct traced **list; /* every process there ever was, in the order of its id in the recording */
	uint32_t nr, room;
	uint64_t window;  /* accesses after which a process's touches are recorded afresh */
	uint32_t nr_ids;  /* processes in the recording so far */
	uint32_t nr_lost; /* processes that left valgrind (set-user-id, another architecture) */
	int err;	  /* the first failure of our own, negative errno; recording stops */
};

enum traced_state {
	TRACED_BOOTING, /* valgrind is starting; nothing of the program has run */
	TRACED_RUNNING,
	TRACED_LOST, /* runs something that is not recorded */
	TRACED_ENDED,
};

struct traced {
	struct recorder *recorder;
	struct traced *parent; /* NULL: the first one */
	pid_t pid;
	uint32_t id; /* in the recording; QREC_UNKNOWN before its first record */
	enum traced_state state;
	char *program; /* what the exec that is under way runs; NULL: not known */
	bool waited;   /* its parent knows of its end */
	int fifo;      /* where its text comes from, non-blocking; -1 when it has ended */
	struct lackey lackey;

	/* Threads. Numbers in the recording are given out at clone; valgrind's are bound to them when they first run. */
	uint32_t nr_threads, nr_bound;
	uint32_t thread;	     /* who runs */
	uint32_t of[LACKEY_THREADS]; /* by valgrind's number */

	struct ranges ranges; /* their files are indices of hostfiles, plus one */
	struct descriptors descriptors;
	struct fold fold;
	uint64_t own_start, own_end;	 /* valgrind's own program: the program runs pieces of it at times */
	uint64_t brk;			 /* the current break; 0: no call of brk yet */
	uint64_t instructions, accesses; /* since the last tick */
};

#define QREC_UNKNOWN 0xffffffffu

/* Adds a process. @parent NULL: the first one. NULL: no memory (recorder->err is set). */
struct traced *traced_create(struct recorder *recorder, struct traced *parent, pid_t pid);

/* Frees everything that only a living process needs. */
void traced_close(struct traced *traced);
void traced_destroy(struct traced *traced);

struct traced *recorder_find(const struct recorder *recorder, pid_t pid);

/* Makes @child what fork makes it, and records that. Not recorded if the parent itself is not. */
void traced_fork(struct traced *parent, struct traced *child);

/* The process is about to run another program: what it was doing is over. */
void traced_exec(struct traced *traced);

/* It has ended, with @status as of wait(2). All its text must have been fed. */
void traced_exit(struct traced *traced, int status);

/* The text of lackey that was read from the process. */
void traced_feed(struct traced *traced, const char *text, size_t len);

/* Writes a record about the process and the thread that runs; sets event->process and event->thread. */
void traced_emit(struct traced *traced, struct qrec_event *event);

/* Touches as they come from buffers of system calls: not counted as accesses. Any length. */
void traced_touch(struct traced *traced, enum qrec_op kind, uint64_t addr, uint64_t len);

/* What mapping @file (an index of hostfiles) is called in the recording, plus one; 0 if it cannot be mapped. */
uint32_t traced_file(struct traced *traced, uint32_t file);

/* The file's size is now @size: recorded if the file is. All processes touch its pages afresh if it has shrunk. */
void recorder_resize(struct recorder *recorder, uint32_t file, uint64_t size);

/* image.c: records the mappings that exec made. Called while at most a few instructions of the program have run. */
void traced_record_image(struct traced *traced);

/* calls.c: a system call of the process. */
void traced_call(struct traced *traced, const struct lackey_call *call);

#endif
