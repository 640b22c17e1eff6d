/* SPDX-License-Identifier: MIT */
/* Drawing operations. */
#ifndef TESTS_LINUX_GENERATE_H
#define TESTS_LINUX_GENERATE_H

#include "compare.h"
#include "random.h"

/* Which kinds may be drawn: bit OP_x. */
#define ALL_KINDS ((1ull << OP_KINDS) - 1)

struct generator {
	struct rng rng;
	const struct pair *pair; /* what has become of the operations so far */
	unsigned weight[OP_KINDS];
	unsigned total_weight;
	uint64_t hot[2]; /* start of the areas that most addresses are drawn from */
	unsigned hot_pages;
	unsigned first_maps; /* mappings to begin with */
	unsigned setup;	     /* operations drawn so far of those that prepare the files */
};

/* Starts the drawing of sequence @seed. The same seed, kinds and kernel give the same sequence. */
void generator_start(struct generator *g, uint64_t seed, uint64_t kinds, const struct pair *pair);

/* Draws the next operation. */
void generator_next(struct generator *g, struct op *op);

#endif
