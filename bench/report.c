/* SPDX-License-Identifier: MIT */
/* What was measured, as a table for people and as JSON for programs. */
#include "bench.h"

#include <quire/quire.h>
#include <sys/utsname.h>

static double ratio(const struct bench_cell *cell)
{
	return cell->linux_side.median > 0 ? cell->quire.median / cell->linux_side.median : 0;
}

/* The row's limit relative to Linux, so that it can be held against the ratio; 0: it has none. */
static double limit_ratio(const struct bench_report *report, unsigned op, enum bench_folio folio)
{
	const struct bench_cell *cell = &report->cell[op][folio];
	enum limit_op limit = bench_rows[op].limit;

	if (limit == NO_LIMIT || cell->linux_side.median <= 0)
		return 0;
	return report->limit[limit][folio].median / cell->linux_side.median;
}

/* ---------------------------------------------------------------------------------------- the table */

/* "991 ±2": the median, and half the distance of the quartiles in percent of it. */
static void print_summary(FILE *out, const struct summary *summary)
{
	double spread = summary->median > 0 ? (summary->high - summary->low) / 2 / summary->median * 100 : 0;

	if (!summary->nr)
		fprintf(out, "  %13s", "-");
	else
		fprintf(out, "  %8.*f ±%2.0f%%", summary->median < 100 ? 1 : 0, summary->median, spread);
}

static void print_cell(FILE *out, const struct bench_report *report, unsigned op, enum bench_folio folio)
{
	const struct bench_cell *cell = &report->cell[op][folio];
	double target = bench_rows[op].target[folio], limit = limit_ratio(report, op, folio);

	fprintf(out, "%-22s %5s", bench_rows[op].title, bench_folio_names[folio]);
	print_summary(out, &cell->quire);
	print_summary(out, &cell->linux_side);
	if (cell->not_comparable) {
		fprintf(out, "  not comparable: %s\n", cell->not_comparable);
		return;
	}
	if (!cell->linux_side.nr) {
		fputc('\n', out);
		return;
	}
	fprintf(out, "  %5.2f  %6.2f  %-7s", ratio(cell), target, ratio(cell) <= target ? "reached" : "missed");
	if (limit > 0)
		fprintf(out, "  %5.2f", limit);
	fputc('\n', out);
}

static void print_scaling(FILE *out, const struct bench_options *options, const struct bench_report *report)
{
	fputs("\nTwo threads in separate mappings of one address space, of perfect scaling\n", out);
	if (!report->scaling) {
		fprintf(out, "not measured: %s\n", report->scaling_missing);
		return;
	}
	fprintf(out, "%-22s %8s %8s %8s\n", "", "quire", "Linux", "target");
	for (unsigned op = 0; op < NR_SCALE_OPS; op++) {
		double target = scale_rows[op].target[BENCH_4K], got = report->scale[op][0];

		if (options->scale >> op & 1)
			fprintf(out, "%-22s %8.2f %8.2f %8.2f  %s\n", scale_rows[op].title, got, report->scale[op][1],
				target, got >= target ? "reached" : "missed");
	}
}

static void print_limits(FILE *out, const struct bench_report *report)
{
	fputs("\nLimits, cold memory with quire's own routines, a folio at a time:\n", out);
	for (enum bench_folio folio = BENCH_4K; folio < NR_BENCH_FOLIOS; folio++)
		if (report->limit[LIMIT_ZERO][folio].nr)
			fprintf(out, "  %-3s zeroing %.0f, copying %.0f ns per page\n", bench_folio_names[folio],
				report->limit[LIMIT_ZERO][folio].median, report->limit[LIMIT_COPY][folio].median);
}

static const char *processor(const struct bench_report *report)
{
	if (report->fifo)
		return report->pinned ? "SCHED_FIFO on one processor" : "SCHED_FIFO";
	return report->pinned ? "on one processor, not SCHED_FIFO: not permitted" : "neither pinned nor SCHED_FIFO";
}

void bench_print_table(FILE *out, const struct bench_options *options, const struct bench_report *report)
{
	struct utsname host;

	uname(&host);
	fprintf(out,
		"Nanoseconds per 4 KiB page: median ± half the distance of the quartiles, %u rounds over %llu MiB.\n"
		"quire %s and Linux %s take turns, %s.\n",
		options->repeat, (unsigned long long)(options->range >> 20), quire_version(), host.release,
		processor(report));
	if (options->ops) {
		fprintf(out, "\n%-22s %5s  %13s  %13s  %5s  %6s  %-7s  %5s\n", "", "folio", "quire", "Linux", "ratio",
			"target", "", "limit");
		for (unsigned op = 0; op < NR_BENCH_OPS; op++)
			for (enum bench_folio folio = BENCH_4K; folio < NR_BENCH_FOLIOS; folio++)
				if (report->cell[op][folio].wanted)
					print_cell(out, report, op, folio);
		print_limits(out, report);
	}
	if (options->scale)
		print_scaling(out, options, report);
}

/* ---------------------------------------------------------------------------------------- JSON */

static void json_summary(FILE *out, const char *name, const struct summary *summary)
{
	fprintf(out, "\"%s\": {\"median\": %.3f, \"min\": %.3f, \"low\": %.3f, \"high\": %.3f, \"samples\": %u}", name,
		summary->median, summary->min, summary->low, summary->high, summary->nr);
}

static void json_number(FILE *out, const char *name, double value)
{
	if (value > 0)
		fprintf(out, ", \"%s\": %.4f", name, value);
	else
		fprintf(out, ", \"%s\": null", name);
}

/* Reasons are our own texts: no quotes, no control characters. */
static void json_reason(FILE *out, const char *reason)
{
	if (reason)
		fprintf(out, ", \"not_comparable\": \"%s\"", reason);
	else
		fputs(", \"not_comparable\": null", out);
}

static void json_cell(FILE *out, const struct bench_report *report, unsigned op, enum bench_folio folio)
{
	const struct bench_cell *cell = &report->cell[op][folio];

	fprintf(out, "{\"operation\": \"%s\", \"folio\": \"%s\", ", bench_rows[op].name, bench_folio_names[folio]);
	json_summary(out, "quire", &cell->quire);
	fputs(", ", out);
	json_summary(out, "linux", &cell->linux_side);
	json_number(out, "ratio", cell->not_comparable ? 0 : ratio(cell));
	json_number(out, "target", bench_rows[op].target[folio]);
	json_number(out, "limit", limit_ratio(report, op, folio));
	json_reason(out, cell->not_comparable);
	fputc('}', out);
}

static void json_limits(FILE *out, const struct bench_report *report)
{
	const char *separator = "\n    ";

	fputs("  \"limits\": [", out);
	for (enum bench_folio folio = BENCH_4K; folio < NR_BENCH_FOLIOS; folio++) {
		if (!report->limit[LIMIT_ZERO][folio].nr)
			continue;
		fprintf(out, "%s{\"folio\": \"%s\", ", separator, bench_folio_names[folio]);
		json_summary(out, "zero", &report->limit[LIMIT_ZERO][folio]);
		fputs(", ", out);
		json_summary(out, "copy", &report->limit[LIMIT_COPY][folio]);
		fputc('}', out);
		separator = ",\n    ";
	}
	fputs("],\n", out);
}

static void json_cells(FILE *out, const struct bench_report *report)
{
	const char *separator = "\n    ";

	fputs("  \"rows\": [", out);
	for (unsigned op = 0; op < NR_BENCH_OPS; op++) {
		for (enum bench_folio folio = BENCH_4K; folio < NR_BENCH_FOLIOS; folio++) {
			if (!report->cell[op][folio].wanted)
				continue;
			fputs(separator, out);
			json_cell(out, report, op, folio);
			separator = ",\n    ";
		}
	}
	fputs("],\n", out);
}

static void json_scaling(FILE *out, const struct bench_options *options, const struct bench_report *report)
{
	const char *separator = "\n    ";

	fputs("  \"scaling\": [", out);
	for (unsigned op = 0; report->scaling && op < NR_SCALE_OPS; op++) {
		if (!(options->scale >> op & 1))
			continue;
		fprintf(out, "%s{\"operation\": \"%s\", \"quire\": %.4f, \"linux\": %.4f, \"target\": %.2f}", separator,
			scale_rows[op].name, report->scale[op][0], report->scale[op][1],
			scale_rows[op].target[BENCH_4K]);
		separator = ",\n    ";
	}
	fputs("]\n", out);
}

void bench_print_json(FILE *out, const struct bench_options *options, const struct bench_report *report)
{
	struct utsname host;

	uname(&host);
	fprintf(out,
		"{\n  \"quire\": \"%s\", \"linux\": \"%s\", \"unit\": \"ns per 4 KiB page\",\n"
		"  \"rounds\": %u, \"range\": %llu, \"pinned\": %s, \"fifo\": %s,\n",
		quire_version(), host.release, options->repeat, (unsigned long long)options->range,
		report->pinned ? "true" : "false", report->fifo ? "true" : "false");
	json_limits(out, report);
	json_cells(out, report);
	json_scaling(out, options, report);
	fputs("}\n", out);
}
