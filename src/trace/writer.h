/* SPDX-License-Identifier: MIT */
/*
 * Writes a recording: records go in one by one, compressed blocks come out. A file that was not finished has no trailer,
 * so whoever reads it later sees that something is missing.
 */
#ifndef QUIRE_TRACE_WRITER_H
#define QUIRE_TRACE_WRITER_H

#include "trace/qrec.h"

#include <stdio.h>

struct qrec_writer;

/*
 * Creates the file. NULL on failure, with *err set to a negative errno value. The file is written to @path itself:
 * whoever gives up calls qrec_writer_abandon, which removes it.
 */
struct qrec_writer *qrec_writer_create(const char *path, int *err);

/*
 * Appends one record; @event->number is ignored. The writer puts in QREC_SWITCH records itself whenever event->process or
 * event->thread is another than before, except before records that are about no process (QREC_INFO, QREC_FILE*).
 * Errors of the file system are kept and come out of qrec_writer_finish.
 */
void qrec_write(struct qrec_writer *writer, const struct qrec_event *event);

/*
 * Ends the file: last block, totals, index, trailer; *bytes is then its size. Returns 0 or a negative errno value, and the
 * file is removed. @writer is gone either way.
 */
int qrec_writer_finish(struct qrec_writer *writer, uint64_t *bytes);

/* Closes and removes the file. */
void qrec_writer_abandon(struct qrec_writer *writer);

/* What was written so far. */
const struct qrec_totals *qrec_writer_totals(const struct qrec_writer *writer);

#endif
