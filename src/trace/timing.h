/* SPDX-License-Identifier: MIT */
/*
 * How long operations take: a histogram per kind of operation and CPU, cheap enough to be fed with every single touch.
 */
#ifndef QUIRE_TRACE_TIMING_H
#define QUIRE_TRACE_TIMING_H

#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* 16 steps per power of two: a percentile is exact to 6 %. */
#define TIMING_STEP_BITS 4u
#define TIMING_BUCKETS (61u << TIMING_STEP_BITS)

/* In ticks of timing_now(). Used by one thread; added up when it has ended. */
struct timing {
	uint64_t count, sum, most;
	uint64_t buckets[TIMING_BUCKETS];
};

/* Now, in ticks of unknown length: see timing_clock. */
static inline uint64_t timing_now(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

/* Two readings of both clocks, as far apart as the run is long, tell how long a tick is. */
struct timing_clock {
	uint64_t ticks, ns;
};

struct timing_clock timing_clock_read(void);
/* Nanoseconds per tick between two readings. */
double timing_tick_ns(struct timing_clock begin, struct timing_clock end);

void timing_add(struct timing *timing, uint64_t ticks);
void timing_merge(struct timing *into, const struct timing *from);
/* The time, in ticks, that @share (0..1) of the operations did not exceed. 0 if there were none. */
uint64_t timing_percentile(const struct timing *timing, double share);

#endif
