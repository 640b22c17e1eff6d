/* SPDX-License-Identifier: MIT */
/*
 * The report of a replay: one list of counters feeds both the table and the JSON, so neither can show what the other
 * lacks.
 */
#include "trace/report.h"

#include "cli/cli.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------------- counters */

/* A counter of quire_stat: what it counts during the replay. */
struct counter {
	const char *key;  /* in JSON */
	const char *text; /* in the table */
	size_t offset;
};

#define COUNTER(key, text)                                                                                             \
	{                                                                                                              \
#key, text, offsetof(struct quire_stat, key)                                                           \
	}

static const struct counter faults[] = {
	COUNTER(fault_anon, "anonymous, fresh folio"),
	COUNTER(fault_anon_zero, "anonymous, zero page"),
	COUNTER(fault_file, "file"),
	COUNTER(fault_file_around, "  entries mapped around them"),
	COUNTER(fault_cow_copy, "copy-on-write, copied"),
	COUNTER(fault_cow_reuse, "copy-on-write, reused"),
	COUNTER(fault_cow_file, "copy-on-write of a file page"),
	COUNTER(fault_spurious, "spurious"),
	COUNTER(fault_retry, "retried"),
	COUNTER(fault_mmap_lock, "took the mmap lock"),
	COUNTER(fault_segv, "SIGSEGV"),
	COUNTER(fault_bus, "SIGBUS"),
};

static const struct counter others[] = {
	COUNTER(fork_pages_shared, "pages shared by fork"),
	COUNTER(fork_pages_copied, "pages copied by fork"),
	COUNTER(tlb_hit, "TLB hits"),
	COUNTER(tlb_miss, "TLB misses"),
	COUNTER(tlb_dirty_assist, "TLB walks to set the dirty bit"),
	COUNTER(tlb_flush_local, "local TLB flushes"),
	COUNTER(tlb_shootdown, "TLB shootdowns"),
	COUNTER(tlb_ipi, "interprocessor interrupts"),
	COUNTER(pgalloc, "frames allocated"),
	COUNTER(pgfree, "frames freed"),
	COUNTER(file_read_pages, "file pages read"),
	COUNTER(file_written_pages, "file pages written back"),
};

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))

/* How far a counter went up. */
static uint64_t counted(const struct replay *replay, const struct counter *counter)
{
	uint64_t begin, end;

	memcpy(&begin, (const char *)&replay->begin + counter->offset, sizeof(begin));
	memcpy(&end, (const char *)&replay->end + counter->offset, sizeof(end));
	return end - begin;
}

/* Allocated during the replay, whatever became of them. */
static uint64_t folios(const struct replay *replay, unsigned order)
{
	return replay->end.folios[order] - replay->begin.folios[order];
}

/* The largest value of one member over all samples. */
static uint64_t peak(const struct replay *replay, size_t offset)
{
	uint64_t most = 0, value;

	for (uint32_t i = 0; i < replay->nr_samples; i++) {
		memcpy(&value, (const char *)&replay->samples[i] + offset, sizeof(value));
		most = value > most ? value : most;
	}
	return most;
}

#define PEAK(replay, member) peak(replay, offsetof(struct replay_sample, member))

/* ------------------------------------------------------------------------------------------------------- table */

/* Bold, where somebody looks. */
static void heading(FILE *out, const char *text)
{
	fprintf(out, "\n%s%s%s\n", cli_style(out, CLI_BOLD), text, cli_style(out, CLI_PLAIN));
}

static void line(FILE *out, const char *text, uint64_t value)
{
	fprintf(out, "  %-34s %12" PRIu64 "\n", text, value);
}

/* Sizes for people; JSON has pages. */
static void size_line(FILE *out, const char *text, uint64_t bytes)
{
	char size[CLI_SIZE_TEXT];

	fprintf(out, "  %-34s %12s\n", text, cli_format_size(bytes, size));
}

/* Counters that stayed at zero say nothing. */
static void counter_lines(FILE *out, const struct replay *replay, const struct counter *counters, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (counted(replay, &counters[i]))
			line(out, counters[i].text, counted(replay, &counters[i]));
}

/* Orders that were not used are left out. */
static void folio_lines(FILE *out, const struct replay *replay)
{
	char size[CLI_SIZE_TEXT], text[64];

	heading(out, "folios allocated");
	for (unsigned order = 0; order < 10; order++)
		if (folios(replay, order)) {
			snprintf(text, sizeof(text), "order %u, %s", order,
				 cli_format_size((uint64_t)CONTENT_PAGE << order, size));
			line(out, text, folios(replay, order));
		}
}

/* The highest of each, which need not have been at the same time. */
static void memory_lines(FILE *out, const struct replay *replay)
{
	heading(out, "memory, at its highest");
	size_line(out, "resident (sum over processes)", PEAK(replay, rss) * CONTENT_PAGE);
	size_line(out, "  anonymous", PEAK(replay, rss_anon) * CONTENT_PAGE);
	size_line(out, "  files and shmem", PEAK(replay, rss_file) * CONTENT_PAGE);
	size_line(out, "frames in use", PEAK(replay, used) * CONTENT_PAGE);
	size_line(out, "page tables", PEAK(replay, tables) * CONTENT_PAGE);
	size_line(out, "folio and other descriptors", PEAK(replay, slab) * CONTENT_PAGE);
	size_line(out, "page descriptors (fixed)", replay->end.frames_meta * CONTENT_PAGE);
}

#define CHART_ROWS 6u
#define CHART_COLUMNS 72u

/* The largest resident size in a column's share of the samples. */
static uint64_t column_value(const struct replay *replay, unsigned column, unsigned columns)
{
	uint32_t first = (uint32_t)((uint64_t)replay->nr_samples * column / columns);
	uint32_t last = (uint32_t)((uint64_t)replay->nr_samples * (column + 1) / columns);
	uint64_t most = 0;

	for (uint32_t i = first; i < last || i == first; i++)
		most = replay->samples[i].rss > most ? replay->samples[i].rss : most;
	return most;
}

/* One row of the chart, @row counting from the bottom: eighths of a block. */
static void chart_row(FILE *out, const struct replay *replay, unsigned row, uint64_t most, unsigned columns)
{
	static const char *const blocks[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	char size[CLI_SIZE_TEXT];

	fprintf(out, "  %10s %s",
		row == CHART_ROWS - 1 ? cli_format_size(most * CONTENT_PAGE, size)
		: row		      ? ""
				      : "0 B",
		row ? "│" : "┤");
	fputs(cli_style(out, CLI_BLUE), out);
	for (unsigned column = 0; column < columns; column++) {
		uint64_t eighths = column_value(replay, column, columns) * CHART_ROWS * 8 / most;
		uint64_t below = (uint64_t)row * 8;

		fputs(blocks[eighths <= below ? 0 : eighths - below >= 8 ? 8 : eighths - below], out);
	}
	fprintf(out, "%s\n", cli_style(out, CLI_PLAIN));
}

/* Over events, not time: a recording has none. A small one has a column per sample. */
static void chart(FILE *out, const struct replay *replay)
{
	uint64_t most = PEAK(replay, rss);
	unsigned columns = replay->nr_samples < CHART_COLUMNS ? replay->nr_samples : CHART_COLUMNS;

	if (!most)
		return;
	heading(out, "resident size over the recording");
	for (unsigned row = CHART_ROWS; row-- > 0;)
		chart_row(out, replay, row, most, columns);
}

/* Nanoseconds of a number of ticks, spread over @count operations. */
static double ns(const struct replay *replay, uint64_t ticks, uint64_t count)
{
	return (double)ticks * replay->tick_ns / (double)(count ? count : 1);
}

/* Of the calls themselves, without what the replay does around them. */
static void timing_lines(FILE *out, const struct replay *replay)
{
	heading(out, "time per operation, ns");
	fprintf(out, "  %-14s %12s %10s %10s %10s %10s\n", "", "count", "mean", "p50", "p99", "most");
	for (unsigned i = 0; i < NR_TIMED; i++) {
		const struct timing *timing = &replay->timed[i];

		if (timing->count)
			fprintf(out, "  %-14s %12" PRIu64 " %10.0f %10.0f %10.0f %10.0f\n", replay_timed_names[i],
				timing->count, ns(replay, timing->sum, timing->count),
				ns(replay, timing_percentile(timing, 0.5), 1),
				ns(replay, timing_percentile(timing, 0.99), 1), ns(replay, timing->most, 1));
	}
}

/* What a careful reader wants to know last: that it was right, and what was not repeated. */
static void verdict(FILE *out, const struct replay *replay)
{
	const struct qrec_totals *totals = &replay->totals;

	fprintf(out, "\n%sright%s: %" PRIu64 " lines compared, no wrong byte, no leaked frame; %.3f s\n",
		cli_style(out, CLI_GREEN), cli_style(out, CLI_PLAIN), replay->nr_checked, replay->seconds);
	if (totals->failed)
		fprintf(out, "note: %" PRIu64 " calls that had failed were left out\n", totals->failed);
	if (totals->unsupported)
		fprintf(out, "note: %" PRIu64 " calls of kinds that are not recorded\n", totals->unsupported);
	if (replay->nr_unsupported_advice)
		fprintf(out, "note: %" PRIu64 " madvise hints that quire does not take\n",
			replay->nr_unsupported_advice);
}

/* From what the user asked for to what came of it; the verdict is last, where the eye is when the output stops. */
void report_table(FILE *out, const struct replay *replay, const struct report_facts *facts)
{
	const struct qrec_totals *totals = &replay->totals;
	char memory[CLI_SIZE_TEXT];

	fprintf(out, "%s%s%s\n", cli_style(out, CLI_BOLD), facts->command[0] ? facts->command : replay->options.path,
		cli_style(out, CLI_PLAIN));
	fprintf(out,
		"  %" PRIu64 " processes, %" PRIu64 " threads, %" PRIu64 " files, %" PRIu64 " memory calls\n  %" PRIu64
		" touches for %" PRIu64 " accesses by %" PRIu64 " instructions\n  on %u CPU%s with %s, folios: %s\n",
		totals->processes, totals->threads, totals->files, totals->calls,
		totals->loads + totals->stores + totals->fetches, totals->accesses, totals->instructions,
		replay->options.nr_cpus, replay->options.nr_cpus > 1 ? "s" : "",
		cli_format_size(replay->options.memory, memory), facts->folio);
	heading(out, "faults");
	counter_lines(out, replay, faults, LENGTH(faults));
	folio_lines(out, replay);
	heading(out, "work");
	counter_lines(out, replay, others, LENGTH(others));
	memory_lines(out, replay);
	chart(out, replay);
	timing_lines(out, replay);
	verdict(out, replay);
}

/* -------------------------------------------------------------------------------------------------------- JSON */

/* Names come from the file system and may contain any byte but 0. */
static void json_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f) /* bytes of names need not be UTF-8: each stands for itself */
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void json_counters(FILE *out, const struct replay *replay, const char *name, const struct counter *counters,
			  size_t nr)
{
	fprintf(out, "  \"%s\": {", name);
	for (size_t i = 0; i < nr; i++)
		fprintf(out, "%s\"%s\": %" PRIu64, i ? ", " : "", counters[i].key, counted(replay, &counters[i]));
	fprintf(out, "},\n");
}

/* By order, all ten. */
static void json_folios(FILE *out, const struct replay *replay)
{
	fprintf(out, "  \"folios\": [");
	for (unsigned order = 0; order < 10; order++)
		fprintf(out, "%s%" PRIu64, order ? ", " : "", folios(replay, order));
	fprintf(out, "],\n");
}

/* What the recording says about itself. */
static void json_recording(FILE *out, const struct replay *replay, const struct report_facts *facts)
{
	const struct qrec_totals *totals = &replay->totals;

	fprintf(out, "  \"recording\": {\"path\": ");
	json_string(out, replay->options.path);
	fprintf(out, ", \"command\": ");
	json_string(out, facts->command);
	fprintf(out,
		", \"events\": %" PRIu64 ", \"processes\": %" PRIu64 ", \"threads\": %" PRIu64 ", \"files\": %" PRIu64
		", \"loads\": %" PRIu64 ", \"stores\": %" PRIu64 ", \"fetches\": %" PRIu64
		", \"instructions\": %" PRIu64 ", \"accesses\": %" PRIu64 ", \"calls\": %" PRIu64
		", \"failed_calls\": %" PRIu64 ", \"unsupported_calls\": %" PRIu64 "},\n",
		totals->events, totals->processes, totals->threads, totals->files, totals->loads, totals->stores,
		totals->fetches, totals->instructions, totals->accesses, totals->calls, totals->failed,
		totals->unsupported);
}

/* In pages, with every sample, so that others can draw their own chart. */
static void json_memory(FILE *out, const struct replay *replay)
{
	fprintf(out,
		"  \"peak_pages\": {\"rss\": %" PRIu64 ", \"rss_anon\": %" PRIu64 ", \"rss_file\": %" PRIu64
		", \"used\": %" PRIu64 ", \"page_tables\": %" PRIu64 ", \"descriptors\": %" PRIu64
		", \"page_descriptors\": %" PRIu64 "},\n",
		PEAK(replay, rss), PEAK(replay, rss_anon), PEAK(replay, rss_file), PEAK(replay, used),
		PEAK(replay, tables), PEAK(replay, slab), replay->end.frames_meta);
	fprintf(out, "  \"samples\": [");
	for (uint32_t i = 0; i < replay->nr_samples; i++)
		fprintf(out,
			"%s\n    {\"event\": %" PRIu64 ", \"processes\": %" PRIu64 ", \"rss\": %" PRIu64
			", \"used\": %" PRIu64 ", \"page_tables\": %" PRIu64 "}",
			i ? "," : "", replay->samples[i].event, replay->samples[i].processes, replay->samples[i].rss,
			replay->samples[i].used, replay->samples[i].tables);
	fprintf(out, "\n  ],\n");
}

/* Percentiles are exact to a few percent: see timing.h. */
static void json_timing(FILE *out, const struct replay *replay)
{
	bool first = true;

	fprintf(out, "  \"time_ns\": {");
	for (unsigned i = 0; i < NR_TIMED; i++) {
		const struct timing *timing = &replay->timed[i];

		if (!timing->count)
			continue;
		fprintf(out,
			"%s\n    \"%s\": {\"count\": %" PRIu64
			", \"mean\": %.1f, \"p50\": %.1f, \"p99\": %.1f, \"most\": %.1f}",
			first ? "" : ",", replay_timed_names[i], timing->count, ns(replay, timing->sum, timing->count),
			ns(replay, timing_percentile(timing, 0.5), 1), ns(replay, timing_percentile(timing, 0.99), 1),
			ns(replay, timing->most, 1));
		first = false;
	}
	fprintf(out, "\n  },\n");
}

/* The same facts in the same order, under the names that quire.h gives them. */
void report_json(FILE *out, const struct replay *replay, const struct report_facts *facts)
{
	fprintf(out, "{\n  \"quire\": \"%s\",\n", quire_version());
	json_recording(out, replay, facts);
	fprintf(out, "  \"cpus\": %u,\n  \"memory\": %" PRIu64 ",\n  \"folio\": ", replay->options.nr_cpus,
		replay->options.memory);
	json_string(out, facts->folio);
	fprintf(out, ",\n");
	json_counters(out, replay, "faults", faults, LENGTH(faults));
	json_folios(out, replay);
	json_counters(out, replay, "work", others, LENGTH(others));
	json_memory(out, replay);
	json_timing(out, replay);
	fprintf(out,
		"  \"lines_compared\": %" PRIu64 ",\n  \"unsupported_advice\": %" PRIu64 ",\n  \"seconds\": %.6f\n}\n",
		replay->nr_checked, replay->nr_unsupported_advice, replay->seconds);
}
