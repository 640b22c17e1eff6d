/* SPDX-License-Identifier: MIT */
/* The end of a machine whose invariants are broken: says what and where, and stops the process. */
#define _GNU_SOURCE
#include "host.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_FRAMES 32

/* One write for the line, so that two CPUs that fail together stay readable. */
_Noreturn void machine_bug(const char *file, int line, const char *what, u64 a, u64 b)
{
	const struct quire_cpu *cpu = host_current_cpu();
	void *frames[MAX_FRAMES];

	dprintf(STDERR_FILENO, "quire: broken invariant at %s:%d: %s (%#llx, %#llx) on CPU %d\n", file, line, what,
		(unsigned long long)a, (unsigned long long)b, cpu ? (int)cpu->id : -1);
	backtrace_symbols_fd(frames, backtrace(frames, MAX_FRAMES), STDERR_FILENO);
	abort();
}
