/* SPDX-License-Identifier: MIT */
/*
 * A kernel with a bug, to test the tester: MADV_DONTNEED leaves the last of several pages alone. It must be found, in the
 * contents or in the residency of that page, and shrunk to a mapping, a store and the call.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "executor.h"

static const struct executor_ops *honest;

static int sabotage_apply(struct executor *x, const struct op *op, struct outcome *out)
{
	struct op other = *op;

	if (op->kind == OP_MADVISE && op->arg[2] == MADV_DONTNEED && op->arg[1] > PAGE && op->arg[0] % PAGE == 0)
		other.arg[1] = ((op->arg[1] + PAGE - 1) & ~(uint64_t)(PAGE - 1)) - PAGE;
	return honest->apply(x, &other, out);
}

struct executor *saboteur_create(const char *dir)
{
	static struct executor_ops ops;
	struct executor *x = linux_executor_create("saboteur", dir);

	if (!x)
		return NULL;
	honest = x->ops;
	ops = *honest;
	ops.apply = sabotage_apply;
	x->ops = &ops;
	return x;
}
