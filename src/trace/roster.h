/* SPDX-License-Identifier: MIT */
/*
 * Who and what exists at a place in a recording: processes, threads, files. The reader checks every record against it, so
 * that whoever uses a record can index tables with its ids and add up its addresses without looking again.
 */
#ifndef QUIRE_TRACE_ROSTER_H
#define QUIRE_TRACE_ROSTER_H

#include "trace/qrec.h"

struct roster_process {
	uint32_t nr_threads; /* ids given out so far */
	uint32_t nr_alive;   /* of them, not ended */
	uint32_t room;	     /* bytes at @alive */
	bool exited;
	uint8_t *alive; /* one byte per thread */
};

/* Empty when all zero. */
struct roster {
	struct roster_process *processes;
	uint32_t nr_processes, processes_room;
	uint32_t nr_files;
};

void roster_destroy(struct roster *roster);

/*
 * Checks one record and takes note of what it says. Returns NULL, or what is wrong with it: a constant, to be shown to a
 * person. event->process and event->thread are the current ones, or QREC_NOBODY; they need not have been checked.
 */
const char *roster_check(struct roster *roster, const struct qrec_event *event);

#define QREC_NOBODY 0xffffffffu

#endif
