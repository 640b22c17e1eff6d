/* SPDX-License-Identifier: MIT */
/*
 * The directed sequences: tests/linux/sequences has one for the documented cases of each call, above all its errors, and
 * tests/linux/sequences/found one for each bug that random sequences have found. What is right is what the running kernel
 * does.
 */
#define _GNU_SOURCE
#include "directed.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "print.h"

static int read_file(const char *path, struct text *out)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
	char buf[4096];
	size_t n;

	if (!f)
		return -errno;
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		text_append(out, buf, n);
	if (f != stdin)
		(void)fclose(f);
	return 0;
}

long read_sequence(const char *path, struct op *ops, size_t max)
{
	struct text t = { 0 };
	int err = read_file(path, &t);
	long nr = err ? 0 : ops_parse(t.data ? t.data : "", ops, max);

	text_free(&t);
	if (err)
		fprintf(stderr, "%s: %s\n", path, strerror(-err));
	else if (nr < 0)
		fprintf(stderr, "%s: line %ld is not an operation\n", path, -nr);
	return err || nr < 0 ? -1 : nr;
}

static int is_sequence(const struct dirent *d)
{
	size_t len = strlen(d->d_name);

	return len > 4 && strcmp(d->d_name + len - 4, ".seq") == 0;
}

/* One file. True if there was no difference. */
static bool run_one(const struct run_options *options, const char *path, struct record *record)
{
	static struct op ops[MAX_OPS];
	long nr = read_sequence(path, ops, MAX_OPS);

	if (nr < 0)
		return false;
	run_ops(options, ops, (size_t)nr, record);
	return record->verdict.kind == VERDICT_SAME;
}

static void print_verdict(const struct verdict *v)
{
	printf("# %s", verdict_names[v->kind]);
	if (v->op_kind < OP_KINDS)
		printf(" after operation %u (%s)", v->op_index, op_descs[v->op_kind].name);
	printf(": %s\n", v->text);
}

int run_directed(const struct run_options *options, const char *dir, bool verbose, struct record *record)
{
	struct dirent **names;
	int failed = 0, nr = scandir(dir, &names, is_sequence, alphasort);

	if (nr <= 0) {
		fprintf(stderr, "%s: %s\n", dir, nr ? strerror(errno) : "no sequences");
		return -1;
	}
	for (int i = 0; i < nr; i++) {
		char path[4096];
		bool same;

		snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		same = run_one(options, path, record);
		failed += !same;
		printf("%s - %s\n", same ? "ok" : "not ok", names[i]->d_name);
		if (!same)
			print_verdict(&record->verdict);
		if (!same || verbose)
			print_list(stdout, record->ops, record->briefs, record->nr_ops);
		free(names[i]);
	}
	free(names);
	return failed;
}
