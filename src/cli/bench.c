/* SPDX-License-Identifier: MIT */
/* `quire bench`: the options; the work is in bench/. */
#include "bench.h"
#include "cli/cli.h"

#include <getopt.h>
#include <string.h>

#define DEFAULT_RANGE (512ull << 20)
#define DEFAULT_REPEAT 9u
#define ALL_OPS ((1u << NR_BENCH_OPS) - 1)
#define ALL_SCALE ((1u << NR_SCALE_OPS) - 1)
#define ALL_FOLIOS ((1u << NR_BENCH_FOLIOS) - 1)

const char cmd_bench_help[] =
	"Measures quire and the running Linux kernel on the same work, taking turns, and prints for both the\n"
	"time per 4 KiB page, their ratio, the ratio to reach, and the limit set by the memory alone.\n"
	"\n"
	"  --only OP,...      only these operations: populate-write, populate-read, dontneed, munmap,\n"
	"                     mprotect, fork, exit, cow, shmem-populate, shmem-map, shmem-punch; and with\n"
	"                     two threads: scale-fault, scale-mprotect, scale-dontneed, scale-munmap\n"
	"  --folio SIZE       only folios of 4K, 64K or 2M\n"
	"  --repeat N         rounds that count (default 9)\n"
	"  --memory SIZE      memory that each operation works on, 32M to 64G (default 512M): should be larger\n"
	"                     than the last-level cache. About six times as much is needed in all\n"
	"  --alone            quire only, without Linux\n"
	"  --json             a JSON object instead of a table\n"
	"\n"
	"Run it as root: Linux is then told which folio sizes to use (its settings in /sys are put back at the\n"
	"end), and the measurement has its processor for itself (SCHED_FIFO).\n";

/* The bit of the row called @name in *bits; false: there is none. */
static bool find_row(const struct bench_row *rows, unsigned nr, const char *name, size_t len, unsigned *bits)
{
	for (unsigned i = 0; i < nr; i++) {
		if (strlen(rows[i].name) == len && !memcmp(rows[i].name, name, len)) {
			*bits |= 1u << i;
			return true;
		}
	}
	return false;
}

static bool parse_only(const char *list, struct bench_options *options)
{
	options->ops = options->scale = 0;
	for (;;) {
		size_t len = strcspn(list, ",");

		if (!find_row(bench_rows, NR_BENCH_OPS, list, len, &options->ops) &&
		    !find_row(scale_rows, NR_SCALE_OPS, list, len, &options->scale)) {
			cli_usage_error("--only: there is no operation '%.*s'", (int)len, list);
			return false;
		}
		if (!list[len])
			return true;
		list += len + 1;
	}
}

static bool parse_folio(const char *name, struct bench_options *options)
{
	for (unsigned i = 0; i < NR_BENCH_FOLIOS; i++) {
		if (!strcmp(name, bench_folio_names[i])) {
			options->folios = 1u << i;
			return true;
		}
	}
	cli_usage_error("--folio: '%s' is not one of 4K, 64K, 2M", name);
	return false;
}

static bool parse_repeat(const char *text, struct bench_options *options)
{
	uint64_t repeat;

	if (!cli_count_option("--repeat", text, 1, 1000, &repeat))
		return false;
	options->repeat = (unsigned)repeat;
	return true;
}

/* 0, or the status to end with. */
static int parse_options(int argc, char **argv, struct bench_options *options)
{
	static const struct option long_options[] = {
		{ "only", required_argument, NULL, 'o' },
		{ "folio", required_argument, NULL, 'f' },
		{ "repeat", required_argument, NULL, 'r' },
		{ "memory", required_argument, NULL, 'm' },
		{ "json", no_argument, NULL, 'j' },
		{ "alone", no_argument, NULL, 'a' },
		{ 0 },
	};
	int option;
	bool good = true;

	while (good && (option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		switch (option) {
		case 'o':
			good = parse_only(optarg, options);
			break;
		case 'f':
			good = parse_folio(optarg, options);
			break;
		case 'r':
			good = parse_repeat(optarg, options);
			break;
		case 'm':
			good = cli_size_option("--memory", optarg, 32ull << 20, 64ull << 30, &options->range);
			break;
		case 'a':
			options->alone = true;
			break;
		case 'j':
			options->json = true;
			break;
		default:
			return cli_bad_option(option, argv);
		}
	}
	if (good && optind < argc)
		return cli_usage_error("takes no argument such as '%s'", argv[optind]);
	return good ? CLI_OK : CLI_USAGE;
}

static void show_progress(void *arg, unsigned done)
{
	cli_progress_update(arg, done);
}

int cmd_bench(int argc, char **argv)
{
	static struct bench_report report;
	struct cli_progress progress;
	struct bench_options options = {
		.ops = ALL_OPS,
		.scale = ALL_SCALE,
		.folios = ALL_FOLIOS,
		.repeat = DEFAULT_REPEAT,
		.range = DEFAULT_RANGE,
		.progress = show_progress,
		.arg = &progress,
	};
	int status = parse_options(argc, argv, &options);
	bool done;

	if (status != CLI_OK)
		return status;
	cli_progress_begin(&progress, "measuring", bench_steps(&options));
	done = bench_run(&options, &report);
	cli_progress_end(&progress);
	if (!done) {
		cli_error("%s", report.error);
		return CLI_FAILURE;
	}
	if (options.json)
		bench_print_json(stdout, &options, &report);
	else
		bench_print_table(stdout, &options, &report);
	return CLI_OK;
}
