/* SPDX-License-Identifier: MIT */
/* Pseudo-random numbers for tests: the same on every machine, so that a seed names one run. */
#ifndef QUIRE_TESTS_RANDOM_H
#define QUIRE_TESTS_RANDOM_H

#include <stdint.h>

/* splitmix64: the next number of the sequence that *seed stands in. */
static inline uint64_t random_next(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* 0 .. n-1; n > 0. The bias is below 2^-32 for the sizes that tests use. */
static inline uint64_t random_below(uint64_t *seed, uint64_t n)
{
	return random_next(seed) % n;
}

#endif
