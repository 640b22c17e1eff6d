/* SPDX-License-Identifier: MIT */
/*
 * quire-linux-diff: runs random sequences of memory operations on quire and on the running kernel, and shows the smallest
 * sequence in which the two differ. See docs/testing-against-linux.md.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <quire/quire.h>

#include "directed.h"
#include "generate.h"
#include "print.h"
#include "shrink.h"

struct command {
	struct run_options run;
	uint64_t ops;
	double seconds;
	uint64_t first, last; /* sequences */
	bool forever, verbose, keep_going, no_shrink, expect_difference;
	const char *run_file, *directed_dir, *save_dir;
};

static struct record *the_record; /* for the signal handler */

/* The worker may not have got the signal; it looks at the record between two sequences. */
static void on_stop(int signo)
{
	(void)signo;
	__atomic_store_n(&the_record->stop, 1, __ATOMIC_RELAXED);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* ---------------------------------------------------------------------------------------------------- reporting */

static void print_failure(FILE *out, const struct command *c, const struct record *r)
{
	const struct verdict *v = &r->verdict;

	fprintf(out, "# difference: %s", verdict_names[v->kind]);
	if (v->op_kind < OP_KINDS)
		fprintf(out, ", after operation %u (%s)", v->op_index, op_descs[v->op_kind].name);
	fprintf(out, "\n# %s\n", v->text);
	if (!c->run_file)
		fprintf(out, "# replay: --replay %" PRIu64 ":%" PRIu64 " --len %u\n", c->run.seed, r->sequence,
			c->run.len);
}

static void save_failure(const struct command *c, const struct record *r, const char *name)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.txt", c->save_dir, name);
	f = fopen(path, "w");
	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return;
	}
	print_failure(f, c, r);
	print_list(f, r->ops, r->briefs, r->nr_ops);
	fclose(f);
	snprintf(path, sizeof(path), "%s/%s.c", c->save_dir, name);
	f = fopen(path, "w");
	if (!f)
		return;
	print_program(f, r->ops, r->briefs, r->nr_ops, &r->verdict);
	fclose(f);
}

/* ------------------------------------------------------------------------------------------- is it a difference? */

/* So many sequences run in one process, on one machine of quire's; what one leaves behind may show in a later one. */
#define WORKER_SEQUENCES 256

enum repeats {
	REPEATS_NOT,
	REPEATS_ALONE,
	REPEATS_AFTER_OTHERS, /* only when the sequences before it have run in the same process */
};

static bool fails_alone(const struct command *c, struct record *r)
{
	struct op *ops = malloc(sizeof(r->ops));
	size_t nr = r->nr_ops;

	memcpy(ops, r->ops, nr * sizeof(*ops));
	run_ops(&c->run, ops, nr, r);
	free(ops);
	return r->verdict.kind != VERDICT_SAME;
}

/*
 * The kernel has other things to do besides: it may take a page of a file away when memory is short, or move one. What
 * does not happen again is not a difference; quire itself does the same each time. A crash is one in any case.
 */
static enum repeats how_it_repeats(const struct command *c, uint64_t first, struct record *r)
{
	struct campaign campaign = { .first = first, .last = r->sequence + 1, .max_ops = UINT64_MAX };
	struct record *before = record_create();
	enum repeats how;

	*before = *r;
	if (fails_alone(c, r))
		how = REPEATS_ALONE;
	else if (run_campaign(&c->run, &campaign, r) && r->verdict.kind != VERDICT_SAME)
		how = REPEATS_AFTER_OTHERS;
	else
		how = before->verdict.kind >= VERDICT_INVARIANT ? REPEATS_AFTER_OTHERS : REPEATS_NOT;
	*r = *before;
	record_destroy(before);
	return how;
}

/* Shrinks what is in the record, prints and saves it. */
static void report_failure(const struct command *c, enum repeats how, struct record *r)
{
	struct op *ops = malloc(sizeof(r->ops));
	size_t nr = r->nr_ops;
	char name[64];

	memcpy(ops, r->ops, nr * sizeof(*ops));
	print_failure(stdout, c, r);
	printf("# %zu operations before shrinking\n", nr);
	fflush(stdout);
	snprintf(name, sizeof(name), "%s-%" PRIu64 "-%" PRIu64, verdict_names[r->verdict.kind], c->run.seed,
		 r->sequence);
	if (!c->no_shrink && how == REPEATS_ALONE && r->verdict.kind != VERDICT_HARNESS) {
		nr = shrink(&c->run, ops, nr, r);
		printf("# %zu operations after shrinking\n", nr);
		print_failure(stdout, c, r);
	}
	print_list(stdout, r->ops, r->briefs, r->nr_ops);
	if (c->save_dir)
		save_failure(c, r, name);
	else if (!c->keep_going && !c->expect_difference) {
		printf("\n# the same as a program:\n");
		print_program(stdout, r->ops, r->briefs, r->nr_ops, &r->verdict);
	}
	fflush(stdout);
	free(ops);
}

static void show_progress(const struct record *r)
{
	static double start, last;
	double t = now();

	if (start == 0)
		start = last = t;
	if (t - last < 10)
		return;
	last = t;
	fprintf(stderr, "%" PRIu64 " operations, sequence %" PRIu64 ", %.0f per second\n", r->ops_done, r->sequence,
		(double)r->ops_done / (t - start));
}

static void print_counts(const struct record *r)
{
	printf("      done  in error  operation\n");
	for (int k = 0; k < OP_KINDS; k++)
		printf("%10" PRIu64 "%10" PRIu64 "  %s\n", r->kind_done[k], r->kind_failed[k], op_descs[k].name);
}

/* ------------------------------------------------------------------------------------------------------ running */

/* What a worker ended with. True: a difference was shown. */
static bool judge(const struct command *c, uint64_t first, unsigned *unrepeated, struct record *r)
{
	enum repeats how;

	if (r->verdict.kind == VERDICT_SAME)
		return false;
	how = how_it_repeats(c, first, r);
	if (how == REPEATS_NOT) {
		printf("# not seen again, sequence %" PRIu64 ": %s\n", r->sequence, r->verdict.text);
		++*unrepeated;
		return false;
	}
	if (how == REPEATS_AFTER_OTHERS)
		printf("# only after the sequences before it: --replay %" PRIu64 ":%" PRIu64 "-%" PRIu64 "\n",
		       c->run.seed, first, r->sequence);
	report_failure(c, how, r);
	return true;
}

static int run_random(struct command *c, struct record *r)
{
	double start = now();
	struct campaign campaign = { .first = c->first,
				     .max_ops = c->forever ? UINT64_MAX : c->ops,
				     .progress = c->verbose || c->forever ? show_progress : NULL };
	unsigned failures = 0, unrepeated = 0;

	while (!r->stop && campaign.first < c->last && r->ops_done < campaign.max_ops && (!failures || c->keep_going)) {
		uint64_t first = campaign.first;

		campaign.last = first + WORKER_SEQUENCES < c->last ? first + WORKER_SEQUENCES : c->last;
		campaign.seconds = c->seconds > 0 ? c->seconds - (now() - start) : 0;
		if (c->seconds > 0 && campaign.seconds <= 0)
			break;
		campaign.first = run_campaign(&c->run, &campaign, r);
		failures += judge(c, first, &unrepeated, r);
	}
	failures += unrepeated > 3 + r->ops_done / 200000;
	if (c->expect_difference) /* and shrunk: a mapping, something in it, and the culprit */
		failures = failures == 1 && r->nr_ops <= 3 ? 0 : 1;
	printf("%s - %" PRIu64 " operations in %.1f s, %u differences, %u not seen again\n", failures ? "not ok" : "ok",
	       r->ops_done, now() - start, failures, unrepeated);
	if (c->verbose)
		print_counts(r);
	return failures ? 1 : 0;
}

static int run_file(struct command *c, struct record *r)
{
	static struct op ops[MAX_OPS];
	long nr = read_sequence(c->run_file, ops, MAX_OPS);

	if (nr < 0)
		return 2;
	run_ops(&c->run, ops, (size_t)nr, r);
	if (r->verdict.kind == VERDICT_SAME) {
		print_list(stdout, r->ops, r->briefs, r->nr_ops);
		printf("# no difference\n");
		return 0;
	}
	report_failure(c, REPEATS_ALONE, r);
	return 1;
}

/* ----------------------------------------------------------------------------------------------------- arguments */

static const char usage_text[] =
	"quire-linux-diff [options]: holds quire against the running kernel\n"
	"  --ops N            stop after N operations (default 20000)\n"
	"  --time SECONDS     stop after so long\n"
	"  --forever          until told to stop\n"
	"  --seed N           of the random sequences (default 1; from the clock with --forever)\n"
	"  --len N            operations of each sequence (default 60)\n"
	"  --every N          compare everything after each N operations (default 8)\n"
	"  --orders 4K|64K|2M|all   folio sizes quire may use (default 4K)\n"
	"  --only KIND,...    draw these operations only; --without KIND,...\n"
	"  --replay SEED:SEQ  run this sequence only, everything compared after each operation; SEED:FIRST-LAST: these\n"
	"  --run FILE         run the operations listed in FILE (- for standard input)\n"
	"  --directed DIR     run the sequences *.seq in DIR instead of random ones\n"
	"  --subject linux    hold Linux against itself; saboteur: against itself with a bug. Tests the tester\n"
	"  --keep-going       go on after a difference; --no-shrink: show it as it was found\n"
	"  --expect-difference  fail unless one is found and shrunk well\n"
	"  --save DIR         write differences there, each as a list and as a program\n"
	"  --dir DIR          where host files are made (default /var/tmp)\n"
	"  --verbose          progress and counts\n";

static bool parse_kinds(const char *list, uint64_t *kinds)
{
	*kinds = 0;
	while (*list) {
		size_t len = strcspn(list, ",");
		int kind = op_kind_by_name(list, len);

		if (kind < 0) {
			fprintf(stderr, "no operation is called %.*s\n", (int)len, list);
			return false;
		}
		*kinds |= 1ull << kind;
		list += len + (list[len] == ',');
	}
	return true;
}

static bool parse_orders(const char *text, struct command *c)
{
	static const struct {
		const char *name;
		unsigned orders;
	} names[] = { { "4K", QUIRE_ORDERS_4K },
		      { "64K", QUIRE_ORDERS_64K },
		      { "2M", QUIRE_ORDERS_2M },
		      { "all", QUIRE_ORDERS_ALL } };

	for (unsigned i = 0; i < 4; i++)
		if (strcmp(text, names[i].name) == 0) {
			c->run.orders = names[i].orders;
			c->run.depth.results_only = i > 0; /* D-large-folio */
			return true;
		}
	fprintf(stderr, "--orders takes 4K, 64K, 2M or all\n");
	return false;
}

static bool parse_subject(const char *text, struct command *c)
{
	static const char *const names[] = {
		[SUBJECT_QUIRE] = "quire", [SUBJECT_LINUX] = "linux", [SUBJECT_SABOTEUR] = "saboteur"
	};

	for (unsigned i = 0; i < 3; i++)
		if (strcmp(text, names[i]) == 0) {
			c->run.subject = (enum subject)i;
			return true;
		}
	fprintf(stderr, "--subject takes quire, linux or saboteur\n");
	return false;
}

static bool parse_replay(const char *text, struct command *c)
{
	char *end;

	c->run.seed = strtoull(text, &end, 10);
	if (*end != ':')
		return false;
	c->first = strtoull(end + 1, &end, 10);
	c->last = c->first + 1;
	c->ops = UINT64_MAX;
	if (*end == '-')
		c->last = strtoull(end + 1, &end, 10) + 1;
	else
		c->run.depth.every = 1;
	return *end == '\0';
}

enum {
	OPT_OPS = 256,
	OPT_TIME,
	OPT_FOREVER,
	OPT_SEED,
	OPT_LEN,
	OPT_EVERY,
	OPT_ORDERS,
	OPT_ONLY,
	OPT_WITHOUT,
	OPT_REPLAY,
	OPT_RUN,
	OPT_DIRECTED,
	OPT_SUBJECT,
	OPT_KEEP_GOING,
	OPT_NO_SHRINK,
	OPT_EXPECT,
	OPT_SAVE,
	OPT_DIR,
	OPT_VERBOSE,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "ops", 1, NULL, OPT_OPS },
	{ "time", 1, NULL, OPT_TIME },
	{ "forever", 0, NULL, OPT_FOREVER },
	{ "seed", 1, NULL, OPT_SEED },
	{ "len", 1, NULL, OPT_LEN },
	{ "every", 1, NULL, OPT_EVERY },
	{ "orders", 1, NULL, OPT_ORDERS },
	{ "only", 1, NULL, OPT_ONLY },
	{ "without", 1, NULL, OPT_WITHOUT },
	{ "replay", 1, NULL, OPT_REPLAY },
	{ "run", 1, NULL, OPT_RUN },
	{ "directed", 1, NULL, OPT_DIRECTED },
	{ "subject", 1, NULL, OPT_SUBJECT },
	{ "keep-going", 0, NULL, OPT_KEEP_GOING },
	{ "no-shrink", 0, NULL, OPT_NO_SHRINK },
	{ "expect-difference", 0, NULL, OPT_EXPECT },
	{ "save", 1, NULL, OPT_SAVE },
	{ "dir", 1, NULL, OPT_DIR },
	{ "verbose", 0, NULL, OPT_VERBOSE },
	{ "help", 0, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static bool parse_option(int opt, struct command *c)
{
	uint64_t kinds;

	switch (opt) {
	case OPT_OPS:
		c->ops = strtoull(optarg, NULL, 0);
		return true;
	case OPT_TIME:
		c->seconds = strtod(optarg, NULL);
		c->ops = UINT64_MAX;
		return true;
	case OPT_FOREVER:
		c->forever = true;
		c->run.seed = (uint64_t)time(NULL);
		printf("# --seed %" PRIu64 "\n", c->run.seed);
		return true;
	case OPT_SEED:
		c->run.seed = strtoull(optarg, NULL, 0);
		return true;
	case OPT_LEN:
		c->run.len = (unsigned)strtoul(optarg, NULL, 0);
		return c->run.len > 0 && c->run.len <= MAX_OPS;
	case OPT_EVERY:
		c->run.depth.every = (unsigned)strtoul(optarg, NULL, 0);
		return true;
	case OPT_ORDERS:
		return parse_orders(optarg, c);
	case OPT_ONLY:
		return parse_kinds(optarg, &c->run.kinds);
	case OPT_WITHOUT:
		if (!parse_kinds(optarg, &kinds))
			return false;
		c->run.kinds &= ~kinds;
		return true;
	case OPT_REPLAY:
		return parse_replay(optarg, c);
	case OPT_RUN:
		c->run_file = optarg;
		c->run.depth.every = 1;
		return true;
	case OPT_DIRECTED:
		c->directed_dir = optarg;
		c->run.depth.every = 1;
		return true;
	case OPT_SUBJECT:
		return parse_subject(optarg, c);
	case OPT_KEEP_GOING:
		c->keep_going = true;
		return true;
	case OPT_NO_SHRINK:
		c->no_shrink = true;
		return true;
	case OPT_EXPECT:
		c->expect_difference = true;
		return true;
	case OPT_SAVE:
		c->save_dir = optarg;
		return true;
	case OPT_DIR:
		c->run.dir = optarg;
		return true;
	case OPT_VERBOSE:
		c->verbose = true;
		return true;
	default:
		return false;
	}
}

static bool parse_arguments(int argc, char **argv, struct command *c)
{
	int opt;

	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (opt == OPT_HELP) {
			fputs(usage_text, stdout);
			exit(0);
		}
		if (!parse_option(opt, c))
			return false;
	}
	return optind == argc;
}

int main(int argc, char **argv)
{
	struct command c = {
		.run = { .orders = QUIRE_ORDERS_4K,
			 .depth = { .every = 8 },
			 .dir = "/var/tmp",
			 .kinds = ALL_KINDS,
			 .len = 60,
			 .seed = 1,
			 .hang_seconds = 30 },
		.ops = 20000,
		.last = UINT64_MAX,
	};
	struct record *record = record_create();

	if (!parse_arguments(argc, argv, &c) || !record) {
		fputs(usage_text, stderr);
		return 2;
	}
	the_record = record;
	signal(SIGINT, on_stop);
	signal(SIGTERM, on_stop);
	if (c.run_file)
		return run_file(&c, record);
	if (c.directed_dir)
		return run_directed(&c.run, c.directed_dir, c.verbose, record) ? 1 : 0;
	return run_random(&c, record);
}
