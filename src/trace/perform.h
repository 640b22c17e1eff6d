/* SPDX-License-Identifier: MIT */
/*
 * Inside the replay only: the pieces that do what a work item says. All run on a CPU's thread.
 */
#ifndef QUIRE_TRACE_PERFORM_H
#define QUIRE_TRACE_PERFORM_H

#include "trace/schedule.h"

/* The CPU runs the process's address space, if it does not yet. NULL: none. */
void perform_run(struct replay_cpu *cpu, struct quire_mm *mm);

/* touch.c: one touch of a page by item->process, as event @place->event. False: it failed, and said so. */
bool perform_touch(struct replay_cpu *cpu, const struct work_item *item, const struct replay_place *place,
		   uint64_t page, enum qrec_op kind);

/* call.c: a system call of the recording, made and compared. Failed ones are left out. */
void perform_call(struct replay_cpu *cpu, const struct work_item *item);

/* life.c */
void perform_start(struct replay_cpu *cpu, const struct work_item *item); /* the first process, or exec */
void perform_fork(struct replay_cpu *cpu, const struct work_item *item);
void perform_exit(struct replay_cpu *cpu, const struct work_item *item);
void perform_sample(struct replay_cpu *cpu, const struct work_item *item);

/* sweep.c: compares all that the process's address space has to itself. */
void perform_sweep(struct replay_cpu *cpu, const struct work_item *item);

/* filestore.c: QREC_FILE, QREC_FILE_SIZE, QREC_FILE_PUNCH. */
void perform_file(struct replay_cpu *cpu, const struct work_item *item);
/* Checks what was written back to the files' copies on the host, and gives all files up. At the end, alone. */
void filestore_close(struct replay *replay, struct quire_cpu *cpu);

/* Notes how long an operation took that began at @begin. */
static inline void perform_timed(struct replay_cpu *cpu, enum replay_timed timed, uint64_t begin)
{
	timing_add(&cpu->timed[timed], timing_now() - begin);
}

#endif
