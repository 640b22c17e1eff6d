/* SPDX-License-Identifier: MIT */
/* Named short sequences, kept as files, that are run on both sides. */
#ifndef TESTS_LINUX_DIRECTED_H
#define TESTS_LINUX_DIRECTED_H

#include "run.h"

/*
 * Runs every file *.seq of the folder @dir, in alphabetical order, and prints a line of TAP for each. Returns how many
 * failed; -1 with a message when the folder cannot be read or has none.
 */
int run_directed(const struct run_options *options, const char *dir, bool verbose, struct record *record);

/* Reads the operations of one file (- for standard input). How many, or -1 with a message on stderr. */
long read_sequence(const char *path, struct op *ops, size_t max);

#endif
