/* SPDX-License-Identifier: MIT */
/*
 * Which CPU does what, and what must have happened before. The reading thread puts work items into a queue per CPU; a CPU
 * takes its items in order and waits, before each, for the items on other CPUs that it depends on. Items that do not depend
 * on each other really run at the same time.
 *
 * An item is a run of touches by one thread of a process, or one call. Two items conflict, and keep the order of the
 * recording, if
 *
 *   - they are of the same process, one of them is a call, and the call is about memory that the other one touches or is
 *     about (regions of 2 MiB, hashed into a set: conflicts may be seen that are none, never the other way round);
 *   - one is the fork, the other belongs to the child;
 *   - one is a wait, the other the exit that it waited for;
 *   - one of them is exclusive: it creates, cuts or punches a file, or looks at the whole machine.
 *
 * Touches by two threads of one process never conflict, even of the same page: the CPUs then use different lines of it
 * (model.h). Which CPU a thread uses is fixed: process number plus thread number, modulo the number of CPUs.
 */
#ifndef QUIRE_TRACE_SCHEDULE_H
#define QUIRE_TRACE_SCHEDULE_H

#include "trace/replay.h"

#define SCHEDULE_DEPTH 64u    /* items waiting per CPU */
#define SCHEDULE_TOUCHES 512u /* touches per item */
#define REGION_SHIFT (21u - QREC_PAGE_SHIFT)

/* A set of hashed 2 MiB regions. */
struct regions {
	uint64_t bits[4];
};

enum work {
	WORK_TOUCHES, /* @touch[0..nr) */
	WORK_EVENT,   /* @event */
	WORK_LEAVE,   /* the CPU stops running the process's address space */
	WORK_SAMPLE,  /* look at the machine */
};

struct work_item {
	enum work work;
	struct replay_place place;	/* of its first event */
	struct replay_process *process; /* NULL: about no process */
	struct replay_process *other;	/* the child of a fork, or who was waited for */
	bool exclusive;
	bool threaded;	      /* other threads of the process may be touching memory at the same time */
	struct regions about; /* what it touches or changes */
	struct qrec_event event;
	uint32_t nr;
	uint64_t touch[SCHEDULE_TOUCHES]; /* page << 2 | kind; event numbers count up from the first */
	uint64_t after[QUIRE_MAX_CPUS];	  /* how many items of each CPU must be done before this one */
};

struct replay_cpu {
	struct replay *replay;
	unsigned id;
	pthread_t thread;
	struct quire_cpu *cpu;
	struct quire_mm *running; /* what it runs, to avoid needless switches */
	struct work_item *ring;	  /* SCHEDULE_DEPTH; item n is at n % SCHEDULE_DEPTH */
	uint64_t published;	  /* items put in; written by the reading thread. Atomic */
	uint64_t done;		  /* items completed; written by the CPU's thread. Atomic */
	bool finish;		  /* no more will come. Atomic */

	/* Sleeping and waking: whoever waits for @published or @done to change. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t waiters; /* atomic */

	uint64_t checked;     /* lines compared */
	struct timing *timed; /* NR_TIMED */
};

/* Creates and starts the CPUs' threads. False: replay->outcome says why. */
bool schedule_start(struct replay *replay);
/* Waits until everything is done, ends the threads and adds up what they measured. */
void schedule_stop(struct replay *replay);

/* An empty item for @cpu, to be filled in and given back with schedule_commit; waits until there is room. */
struct work_item *schedule_begin(struct replay *replay, unsigned cpu);
void schedule_commit(struct replay *replay, unsigned cpu);

/* Waits until all that was given to @cpu is done. */
void schedule_wait(struct replay *replay, unsigned cpu);

void regions_add(struct regions *regions, uint64_t addr, uint64_t len);
void regions_add_page(struct regions *regions, uint64_t page);
void regions_add_all(struct regions *regions);

/* perform.c: does what an item says, on its CPU's thread. */
void perform(struct replay_cpu *cpu, struct work_item *item);

#endif
