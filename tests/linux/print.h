/* SPDX-License-Identifier: MIT */
/* Showing a sequence to people. */
#ifndef TESTS_LINUX_PRINT_H
#define TESTS_LINUX_PRINT_H

#include <stdio.h>

#include "run.h"

/* One operation a line, with what Linux made of it. The list can be given back with --run. */
void print_list(FILE *out, const struct op *ops, const struct brief *briefs, size_t nr);

/*
 * A C program that does the same with real system calls and says where the kernel it runs on does otherwise than it
 * did here.
 */
void print_program(FILE *out, const struct op *ops, const struct brief *briefs, size_t nr, const struct verdict *v);

#endif
