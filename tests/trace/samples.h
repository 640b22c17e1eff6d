/* SPDX-License-Identifier: MIT */
/*
 * Recordings made by the tests themselves: with one record of every kind, and with many touches.
 */
#ifndef QUIRE_TESTS_TRACE_SAMPLES_H
#define QUIRE_TESTS_TRACE_SAMPLES_H

#include "trace/qrec.h"

#include <stddef.h>

/*
 * A valid recording that has every kind of record: two processes, threads, files, all calls. *nr: how many. Without the
 * QREC_SWITCH records that the writer puts in. The array lives as long as the program.
 */
const struct qrec_event *sample_events(size_t *nr);

/* Writes them to @path, followed by @touches touches that go here and there. Fails the test if it cannot. */
void sample_write(const char *path, uint64_t touches);

/* The whole file: to be freed. Fails the test if it cannot be read. */
uint8_t *sample_read(const char *path, size_t *len);
void sample_store(const char *path, const uint8_t *data, size_t len);

#endif
