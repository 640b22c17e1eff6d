/* SPDX-License-Identifier: MIT */
/* Making a failing sequence as small as it gets. */
#ifndef TESTS_LINUX_SHRINK_H
#define TESTS_LINUX_SHRINK_H

#include "run.h"

/*
 * Shrinks @ops (in place) to a sequence that still fails in the same way: fewer operations first, simpler arguments
 * then. Returns how many are left; record describes the last failing run of exactly these operations.
 */
size_t shrink(const struct run_options *options, struct op *ops, size_t nr, struct record *record);

#endif
