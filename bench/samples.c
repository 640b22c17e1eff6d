/* SPDX-License-Identifier: MIT */
/* Collecting times and saying what they amount to. */
#include "bench.h"

#include <stdlib.h>
#include <time.h>

uint64_t bench_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void samples_add(struct samples *samples, double ns)
{
	if (samples->nr < MAX_SAMPLES)
		samples->ns[samples->nr++] = ns;
}

static int by_value(const void *left, const void *right)
{
	const double *a = left, *b = right;

	return (*a > *b) - (*a < *b);
}

struct summary samples_summary(struct samples *samples)
{
	struct summary summary = { .nr = samples->nr };

	if (!samples->nr)
		return summary;
	qsort(samples->ns, samples->nr, sizeof(samples->ns[0]), by_value);
	summary.min = samples->ns[0];
	summary.low = samples->ns[samples->nr / 4];
	summary.median = samples->ns[samples->nr / 2];
	summary.high = samples->ns[samples->nr - 1 - samples->nr / 4];
	return summary;
}
