/* SPDX-License-Identifier: MIT */
/*
 * `quire run`: the command line of a replay, and its report.
 */
#include "cli/cli.h"
#include "trace/commands.h"
#include "trace/report.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_MEMORY (1ull << 30)
#define LEAST_MEMORY (4ull << 20)
#define MOST_MEMORY (512ull << 30)

const char cmd_run_help[] =
	"Replays a recording over the memory manager: every address space, mapping, touch, fork and exit, at the addresses\n"
	"and in the order recorded. Every store writes a value that says where it comes from, every load is compared with\n"
	"what that address space must contain. Ends with a report, and status 0 if everything was right.\n"
	"\n"
	"      --memory SIZE  memory of the machine (default 1G; 4M to 512G)\n"
	"      --folio LIST   folio sizes for anonymous memory and files: never (4K only, the default), always (every\n"
	"                     size up to 2M), or sizes such as 64K or 16K,64K,2M\n"
	"      --cpus N       CPUs, each a thread of its own (default 1; at most 64)\n"
	"      --validate     check every structure some 250 times during the replay, not only at the end; slow\n"
	"      --json         the report as JSON\n"
	"\n"
	"  quire run --memory 64M --folio 64K --cpus 2 sqlite.qrec\n";

struct run_options {
	struct replay_options replay;
	const char *folio;
	bool json;
};

/* ------------------------------------------------------------------------------------------------------ options */

/* One size of a list; false if it is none that folios have. */
static bool add_order(const char *text, unsigned *orders)
{
	uint64_t size;

	if (cli_parse_size(text, &size))
		return false;
	for (unsigned order = 0; order < 10; order++)
		if (size == (uint64_t)QUIRE_PAGE_SIZE << order) {
			*orders |= 1u << order;
			return true;
		}
	return false;
}

/* A comma-separated list, or one of two words. 4 KiB is always among them. */
static bool folio_option(const char *text, unsigned *orders)
{
	char copy[256], *rest = copy;
	const char *word;

	*orders = QUIRE_ORDERS_4K;
	if (!strcmp(text, "never"))
		return true;
	if (!strcmp(text, "always")) {
		*orders = QUIRE_ORDERS_ALL;
		return true;
	}
	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy) || !*text)
		*copy = '?';
	while ((word = strsep(&rest, ",")))
		if (!add_order(word, orders)) {
			cli_usage_error("--folio: '%s' is not never, always, or folio sizes from 4K to 2M", text);
			return false;
		}
	return true;
}

/* Returns CLI_OK, or what to exit with. */
static int parse_options(int argc, char **argv, struct run_options *options)
{
	static const struct option long_options[] = {
		{ "memory", required_argument, NULL, 'm' }, { "folio", required_argument, NULL, 'f' },
		{ "cpus", required_argument, NULL, 'c' },   { "validate", no_argument, NULL, 'v' },
		{ "json", no_argument, NULL, 'j' },	    { NULL, 0, NULL, 0 },
	};
	uint64_t cpus = 1;
	bool ok = true;
	int option;

	while (ok && (option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		switch (option) {
		case 'm':
			ok = cli_size_option("--memory", optarg, LEAST_MEMORY, MOST_MEMORY, &options->replay.memory);
			break;
		case 'f':
			options->folio = optarg;
			ok = folio_option(optarg, &options->replay.orders);
			break;
		case 'c':
			ok = cli_count_option("--cpus", optarg, 1, QUIRE_MAX_CPUS, &cpus);
			break;
		case 'v':
			options->replay.validate = true;
			break;
		case 'j':
			options->json = true;
			break;
		default:
			return cli_bad_option(option, argv);
		}
	}
	if (!ok)
		return CLI_USAGE;
	options->replay.nr_cpus = (unsigned)cpus;
	if (argc - optind != 1)
		return cli_usage_error(optind == argc ? "no recording named" : "more than one recording named");
	options->replay.path = argv[optind];
	return CLI_OK;
}

/* ------------------------------------------------------------------------------------------------------- replay */

/* What the recording says about itself at its beginning. */
static void read_facts(const char *path, struct report_facts *facts)
{
	char error[QREC_ERROR_TEXT];
	struct qrec_reader *reader = qrec_reader_open(path, error);
	struct qrec_event event;

	facts->command[0] = '\0';
	while (reader && qrec_read(reader, &event) > 0 && event.op == QREC_INFO)
		if (!strncmp(event.text, "command=", 8))
			snprintf(facts->command, sizeof(facts->command), "%s", event.text + 8);
	qrec_reader_close(reader);
}

/* In events handed out: the CPUs are at most a few thousand behind. */
static void show_progress(void *progress, uint64_t events)
{
	cli_progress_update(progress, events);
}

/* Trials are shown by nothing: the bar stands where the replay stopped. */
static void ignore_progress(void *arg, uint64_t events)
{
	(void)arg;
	(void)events;
}

/* What a replay that succeeded needed at its worst moment, with room for what happens between two looks at it. */
static uint64_t used(const struct replay *replay, uint64_t memory)
{
	uint64_t pages = 0, fixed = replay->end.frames_meta, step = replay->totals.events / REPLAY_SAMPLES + 1;

	for (uint32_t i = 0; i < replay->nr_samples; i++)
		pages = replay->samples[i].used > pages ? replay->samples[i].used : pages;
	pages -= pages < fixed ? pages : fixed;
	pages += step < pages / 16 ? step : pages / 16;
	/* Page descriptors grow with the memory; that of the trial was larger. */
	return (pages + 64) * QUIRE_PAGE_SIZE * 65 / 64 + fixed * QUIRE_PAGE_SIZE / (memory >> 20) * (pages >> 8);
}

/* As much as may be tried without driving the host into swap. */
static uint64_t most_tried(void)
{
	uint64_t pages = (uint64_t)sysconf(_SC_AVPHYS_PAGES), bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE) / 2;

	return bytes < MOST_MEMORY ? bytes : MOST_MEMORY;
}

/* One replay with @memory bytes: what it needed, or 0 if it did not succeed; *hopeless if more memory is no help. */
static uint64_t try_memory(const struct replay_options *options, uint64_t memory, bool *hopeless)
{
	static struct replay trial; /* large */
	char error[QREC_ERROR_TEXT];
	uint64_t need = 0;

	memset(&trial, 0, sizeof(trial));
	trial.options = *options;
	trial.options.memory = memory;
	trial.options.validate = false;
	trial.reader = qrec_reader_open(options->path, error);
	*hopeless = !trial.reader;
	if (!trial.reader)
		return 0;
	if (replay_run(&trial, ignore_progress, NULL))
		need = used(&trial, memory);
	*hopeless = !need && !trial.outcome.out_of_memory;
	replay_destroy(&trial);
	qrec_reader_close(trial.reader);
	return need;
}

/*
 * How much memory the recording needs with these folios and CPUs: found out by replaying it with more and more, since
 * neither readahead nor larger folios can be foreseen. 0: it cannot be found out.
 */
static uint64_t measure_need(const struct replay_options *options)
{
	uint64_t most = most_tried(), need = 0;
	bool hopeless = false;

	for (uint64_t memory = 8 * options->memory; !need && !hopeless && memory <= most; memory *= 4)
		need = try_memory(options, memory, &hopeless);
	return need;
}

/* Says what is missing: first what happened, then what would do. The machine's memory comes in pieces of 2 MiB. */
static void explain_memory(const struct replay *replay)
{
	uint64_t need = (measure_need(&replay->options) + (2u << 20) - 1) & ~((2ull << 20) - 1);
	char given[CLI_SIZE_TEXT], needed[CLI_SIZE_TEXT];

	cli_format_size(replay->options.memory, given);
	cli_format_size(need, needed);
	if (!need)
		cli_error("%s; --memory was %s", replay->outcome.error, given);
	else if (need > replay->options.memory)
		cli_error("%s; --memory was %s, it needs %s", replay->outcome.error, given, needed);
	else /* a close thing: the samples have missed the worst moment, or large folios did not fit between others */
		cli_error("%s; --memory was %s, of more it uses %s", replay->outcome.error, given, needed);
}

/* One of: what is wrong, or the report in either form. */
static int finish(struct replay *replay, const struct run_options *options, struct report_facts *facts)
{
	if (replay->outcome.out_of_memory)
		explain_memory(replay);
	else if (replay->outcome.failed)
		cli_error("%s", replay->outcome.error);
	else if (options->json)
		report_json(stdout, replay, facts);
	else
		report_table(stdout, replay, facts);
	return replay->outcome.failed ? CLI_FAILURE : CLI_OK;
}

/* The recording is opened before anything is drawn, so that a wrong name is told at once. */
int cmd_run(int argc, char **argv)
{
	struct run_options options = { .replay = { .memory = DEFAULT_MEMORY, .orders = QUIRE_ORDERS_4K },
				       .folio = "never" };
	static struct replay replay; /* large */
	static struct report_facts facts;
	struct cli_progress progress;
	char error[QREC_ERROR_TEXT];
	int status = parse_options(argc, argv, &options);

	if (status != CLI_OK)
		return status;
	replay.options = options.replay;
	replay.reader = qrec_reader_open(options.replay.path, error);
	if (!replay.reader) {
		cli_error("%s", error);
		return CLI_FAILURE;
	}
	facts.folio = options.folio;
	read_facts(options.replay.path, &facts);
	cli_progress_begin(&progress, "replaying", qrec_reader_totals(replay.reader)->events);
	replay_run(&replay, show_progress, &progress);
	cli_progress_end(&progress);
	status = finish(&replay, &options, &facts);
	replay_destroy(&replay);
	qrec_reader_close(replay.reader);
	return status;
}
