/* SPDX-License-Identifier: MIT */
/*
 * Histograms of durations with buckets that grow with the duration.
 */
#include "trace/timing.h"

#define STEPS (1u << TIMING_STEP_BITS)

/* One after the other: the error is nothing against the length of a replay. */
struct timing_clock timing_clock_read(void)
{
	struct timespec now;
	uint64_t ticks = timing_now();

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (struct timing_clock){ ticks, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec };
}

/* Measured, not asked: what the processor says about its own frequency is not to be trusted. */
double timing_tick_ns(struct timing_clock begin, struct timing_clock end)
{
	return end.ticks > begin.ticks ? (double)(end.ns - begin.ns) / (double)(end.ticks - begin.ticks) : 1.0;
}

/* The first STEPS buckets hold one value each; from there on each power of two is divided into STEPS. */
static unsigned bucket_of(uint64_t ticks)
{
	unsigned power;

	if (ticks < STEPS)
		return (unsigned)ticks;
	power = 63u - (unsigned)__builtin_clzll(ticks) - TIMING_STEP_BITS;
	return (power + 1) * STEPS + (unsigned)(ticks >> power) % STEPS;
}

/* The middle of a bucket. */
static uint64_t value_of(unsigned bucket)
{
	unsigned power;

	if (bucket < STEPS)
		return bucket;
	power = bucket / STEPS - 1;
	return ((uint64_t)(STEPS + bucket % STEPS) << power) + ((1ull << power) >> 1);
}

/* Two additions and a bucket: some ten nanoseconds, outside of what is measured. */
void timing_add(struct timing *timing, uint64_t ticks)
{
	unsigned bucket = bucket_of(ticks);

	timing->count++;
	timing->sum += ticks;
	if (ticks > timing->most)
		timing->most = ticks;
	timing->buckets[bucket]++;
}

void timing_merge(struct timing *into, const struct timing *from)
{
	into->count += from->count;
	into->sum += from->sum;
	if (from->most > into->most)
		into->most = from->most;
	for (unsigned i = 0; i < TIMING_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
}

/* The middle of the bucket where the share is reached, never more than the longest that was seen. */
uint64_t timing_percentile(const struct timing *timing, double share)
{
	uint64_t seen = 0, wanted = (uint64_t)(share * (double)timing->count + 0.5);

	for (unsigned i = 0; i < TIMING_BUCKETS; i++) {
		seen += timing->buckets[i];
		if (seen && seen >= wanted)
			return value_of(i) < timing->most ? value_of(i) : timing->most;
	}
	return 0;
}
