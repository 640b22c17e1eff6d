/* SPDX-License-Identifier: MIT */
/*
 * Delta debugging: whatever can be left out is left out, whatever can be simpler is made simpler, and each candidate is
 * run on both sides again. A candidate counts only if it fails in the same view and, for results, at the same kind of
 * operation; otherwise one bug would turn into another along the way.
 */
#define _GNU_SOURCE
#include "shrink.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct shrinker {
	const struct run_options *options;
	struct record *record; /* of the candidate last tried */
	enum verdict_kind kind;
	uint32_t op_kind;
	char sign[128];
	struct op *best;
	size_t nr;
	unsigned tries_left;
};

static bool fails_the_same(struct shrinker *s, const struct op *ops, size_t nr)
{
	const struct verdict *v = &s->record->verdict;

	if (!s->tries_left)
		return false;
	s->tries_left--;
	run_ops(s->options, ops, nr, s->record);
	if (v->kind != s->kind || strcmp(v->sign, s->sign) != 0)
		return false;
	return (v->kind != VERDICT_RESULT && v->kind != VERDICT_CRASH) || v->op_kind == s->op_kind;
}

/* Takes the candidate if it fails; what follows the failing operation is cut off at once. */
static bool try_candidate(struct shrinker *s, const struct op *ops, size_t nr)
{
	if (!fails_the_same(s, ops, nr))
		return false;
	if (s->record->verdict.op_kind != OP_KINDS && s->record->verdict.op_index + 1 < nr)
		nr = s->record->verdict.op_index + 1;
	memmove(s->best, ops, nr * sizeof(*ops));
	s->nr = nr;
	return true;
}

/* Tries to leave out @count operations from @at. */
static bool try_without(struct shrinker *s, size_t at, size_t count)
{
	struct op *ops = malloc((s->nr + 1) * sizeof(*ops));
	bool taken;

	if (at + count > s->nr)
		count = s->nr - at;
	memcpy(ops, s->best, at * sizeof(*ops));
	memcpy(ops + at, s->best + at + count, (s->nr - at - count) * sizeof(*ops));
	taken = try_candidate(s, ops, s->nr - count);
	free(ops);
	return taken;
}

/* From the end backwards: what comes late is more often idle. */
static bool remove_chunks(struct shrinker *s, size_t count)
{
	bool any = false;

	for (size_t at = s->nr; at > 0;) {
		at = at > count ? at - count : 0;
		if (at < s->nr && try_without(s, at, count))
			any = true;
		if (at > s->nr)
			at = s->nr;
	}
	return any;
}

static void remove_ops(struct shrinker *s)
{
	for (size_t count = s->nr / 2; count > 1; count /= 2)
		remove_chunks(s, count);
	while (remove_chunks(s, 1))
		;
}

static bool try_arg(struct shrinker *s, size_t i, unsigned arg, uint64_t value)
{
	struct op *ops;
	bool taken;

	if (s->best[i].arg[arg] == value)
		return false;
	ops = malloc(s->nr * sizeof(*ops));
	memcpy(ops, s->best, s->nr * sizeof(*ops));
	ops[i].arg[arg] = value;
	taken = try_candidate(s, ops, s->nr);
	free(ops);
	return taken;
}

static bool simplify_bits(struct shrinker *s, size_t i, unsigned arg)
{
	bool any = false;

	for (unsigned bit = 0; bit < 32 && i < s->nr; bit++)
		if (s->best[i].arg[arg] >> bit & 1)
			any |= try_arg(s, i, arg, s->best[i].arg[arg] & ~(1ull << bit));
	return any;
}

/* Lengths: one page, else halves of what it is, else whole pages. */
static bool simplify_length(struct shrinker *s, size_t i, unsigned arg)
{
	uint64_t value = s->best[i].arg[arg], pages = (value + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	bool is_access = s->best[i].kind == OP_LOAD || s->best[i].kind == OP_STORE || s->best[i].kind == OP_VMREAD ||
			 s->best[i].kind == OP_VMWRITE || s->best[i].kind == OP_PWRITE || s->best[i].kind == OP_PREAD;

	if (value <= 1 || (!is_access && value <= PAGE))
		return false;
	if (try_arg(s, i, arg, is_access ? 1 : PAGE))
		return true;
	if (value > 2 * PAGE && try_arg(s, i, arg, (value / 2 + PAGE - 1) & ~(uint64_t)(PAGE - 1)))
		return true;
	if (!is_access && value > PAGE && value < 1ull << 40 && try_arg(s, i, arg, pages - PAGE))
		return true;
	return !is_access && try_arg(s, i, arg, pages);
}

static bool simplify_arg(struct shrinker *s, size_t i, unsigned arg)
{
	uint64_t value = s->best[i].arg[arg];

	switch (op_descs[s->best[i].kind].arg[arg]) {
	case ARG_ADDR:
		return value % PAGE && try_arg(s, i, arg, value & ~(uint64_t)(PAGE - 1));
	case ARG_LEN:
		return simplify_length(s, i, arg);
	case ARG_OFFSET:
		return value &&
		       (try_arg(s, i, arg, 0) || (value % PAGE && try_arg(s, i, arg, value & ~(uint64_t)(PAGE - 1))));
	case ARG_PROT:
		return value != (PROT_READ | PROT_WRITE) &&
		       (try_arg(s, i, arg, PROT_READ | PROT_WRITE) || simplify_bits(s, i, arg));
	case ARG_MAP:
	case ARG_MREMAP:
	case ARG_MCL:
	case ARG_MS:
	case ARG_FALLOC:
		return simplify_bits(s, i, arg);
	case ARG_DATA:
		return value != 1 && try_arg(s, i, arg, 1);
	case ARG_FILE:
		return (int64_t)value > 0 && try_arg(s, i, arg, 0);
	default:
		return false;
	}
}

static bool simplify_proc(struct shrinker *s, size_t i)
{
	struct op *ops = malloc(s->nr * sizeof(*ops));
	bool taken = false;

	memcpy(ops, s->best, s->nr * sizeof(*ops));
	if (ops[i].proc) {
		ops[i].proc = 0;
		taken = try_candidate(s, ops, s->nr);
	}
	free(ops);
	return taken;
}

static bool simplify_ops(struct shrinker *s)
{
	bool any = false;

	for (size_t i = 0; i < s->nr; i++) {
		any |= simplify_proc(s, i);
		for (unsigned arg = 0; i < s->nr && arg < op_nr_args(&s->best[i]); arg++)
			while (i < s->nr && simplify_arg(s, i, arg))
				any = true;
	}
	return any;
}

size_t shrink(const struct run_options *options, struct op *ops, size_t nr, struct record *record)
{
	struct run_options close_look = *options;
	struct shrinker s = { .options = &close_look,
			      .record = record,
			      .kind = record->verdict.kind,
			      .op_kind = record->verdict.op_kind,
			      .best = ops,
			      .nr = nr,
			      .tries_left = 3000 };

	memcpy(s.sign, record->verdict.sign, sizeof(s.sign));
	close_look.hang_seconds = 4;
	close_look.depth.every = 1; /* finds the culprit where it acts; what shows up is what we shrink */
	run_ops(&close_look, ops, nr, record);
	if (record->verdict.kind != VERDICT_SAME) {
		s.kind = record->verdict.kind;
		s.op_kind = record->verdict.op_kind;
		memcpy(s.sign, record->verdict.sign, sizeof(s.sign));
	} else {
		close_look.depth = options->depth;
	}
	try_candidate(&s, ops, nr);
	do
		remove_ops(&s);
	while (simplify_ops(&s) && s.tries_left);
	s.tries_left++;
	fails_the_same(&s, s.best, s.nr);
	return s.nr;
}
