/* SPDX-License-Identifier: MIT */
/* Named short sequences that are run on both sides: see directed.c. */
#ifndef TESTS_LINUX_DIRECTED_H
#define TESTS_LINUX_DIRECTED_H

struct directed {
	const char *name;
	const char *text; /* operations, one a line */
};

extern const struct directed directed_tests[]; /* ended by a name of NULL */

#endif
