/* SPDX-License-Identifier: MIT */
/*
 * Counting the instructions of what is timed, for bench/callgrind.sh. Requests to valgrind are a few instructions that do
 * nothing outside of it; where its header is not installed there are none.
 */
#ifndef QUIRE_BENCH_CALLGRIND_H
#define QUIRE_BENCH_CALLGRIND_H

#include <stdbool.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_TOGGLE_COLLECT ((void)0)
#define CALLGRIND_DUMP_STATS_AT(name) ((void)(name))
#endif

/* Begins or ends counting, if @wanted. */
static inline void toggle_counting(bool wanted)
{
	if (wanted)
		CALLGRIND_TOGGLE_COLLECT;
}

/* Writes down what was counted since the last time, under @name, if @wanted. */
static inline void dump_counts(bool wanted, const char *name)
{
	if (wanted)
		CALLGRIND_DUMP_STATS_AT(name);
}

#endif
