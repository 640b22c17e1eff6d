/* SPDX-License-Identifier: MIT */
/*
 * Reads a recording, block by block, believing nothing: whatever a file contains, the answer is records that fit together
 * (roster.h) or one line of text that says what is wrong with which byte.
 */
#ifndef QUIRE_TRACE_READER_H
#define QUIRE_TRACE_READER_H

#include "trace/qrec.h"

struct qrec_reader;

#define QREC_ERROR_TEXT 512 /* bytes that an error may take */

/*
 * Opens a recording and reads its totals. NULL: @error says why, beginning with the file's name. Memory: less than 4 MiB,
 * and what the processes and threads of the recording need.
 */
struct qrec_reader *qrec_reader_open(const char *path, char error[QREC_ERROR_TEXT]);
void qrec_reader_close(struct qrec_reader *reader);

/*
 * The next record: 1, with *event filled in; 0 at the end; -1 on an error, see qrec_reader_error. event->text stays
 * valid until the next call. QREC_SWITCH records are returned like all others; event->process and event->thread
 * already take them into account.
 */
int qrec_read(struct qrec_reader *reader, struct qrec_event *event);

/* Why qrec_read returned -1. */
const char *qrec_reader_error(const struct qrec_reader *reader);

/* What the recording says about itself at its end; checked against what was read when the end is reached. */
const struct qrec_totals *qrec_reader_totals(const struct qrec_reader *reader);

/* Where the record that was read last stands: byte of its block in the file, and byte in the uncompressed stream. */
uint64_t qrec_reader_offset(const struct qrec_reader *reader);
uint64_t qrec_reader_raw_offset(const struct qrec_reader *reader);

/* Size of the file in bytes. */
uint64_t qrec_reader_size(const struct qrec_reader *reader);

#endif
