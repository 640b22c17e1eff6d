/* SPDX-License-Identifier: MIT */
/*
 * Writes the tests' own recording (samples.h) for those tests that run the command: sample FILE TOUCHES.
 */
#include "samples.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	if (argc != 3) {
		fputs("usage: sample FILE TOUCHES\n", stderr);
		return 2;
	}
	sample_write(argv[1], strtoull(argv[2], NULL, 10));
	return 0;
}
