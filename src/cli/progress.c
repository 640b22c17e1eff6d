/* SPDX-License-Identifier: MIT */
/*
 * The progress bar: label, bar, percentage and the time that is left, on one line of stderr that is redrawn in place.
 */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REDRAW_NS 100000000u /* at most ten times a second: a terminal over ssh must not slow the work down */
#define BAR_MAX 60u	     /* a longer bar says no more */

/* The bar that stands on the terminal's last line; NULL: the line is clean. Used by the owner thread and by cli_error. */
static struct cli_progress *drawn;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Seconds until the end if it goes on as it did so far. */
static uint64_t seconds_left(const struct cli_progress *progress, uint64_t done, uint64_t now)
{
	double elapsed = (double)(now - progress->begun_ns) / 1e9;

	return (uint64_t)(elapsed * (double)(progress->total - done) / (double)done + 0.5);
}

static void draw_bar(const struct cli_progress *progress, uint64_t done, uint64_t now)
{
	char bar[BAR_MAX + 1];
	/* What stands beside the bar: label, brackets, "100 %", "00:00 left", blanks. */
	size_t beside = strlen(progress->label) + 26, columns = cli_columns(stderr);
	size_t width = columns > beside + 4 ? columns - beside : 4, filled;
	uint64_t left = done ? seconds_left(progress, done, now) : 0;

	if (width > BAR_MAX)
		width = BAR_MAX;
	filled = (size_t)((double)done / (double)progress->total * (double)width);
	memset(bar, '#', filled);
	memset(bar + filled, '.', width - filled);
	bar[width] = '\0';
	fprintf(stderr, "\r%s [%s] %3.0f %%", progress->label, bar, 100.0 * (double)done / (double)progress->total);
	if (done)
		fprintf(stderr, " %02" PRIu64 ":%02" PRIu64 " left", left / 60, left % 60);
}

static void draw(struct cli_progress *progress, uint64_t done, uint64_t now)
{
	if (!progress->total)
		fprintf(stderr, "\r%s %" PRIu64, progress->label, done);
	else
		draw_bar(progress, done < progress->total ? done : progress->total, now);
	fputs("\033[K", stderr);
	fflush(stderr);
	drawn = progress;
	progress->drawn_ns = now;
}

void cli_progress_begin(struct cli_progress *progress, const char *label, uint64_t total)
{
	*progress = (struct cli_progress){
		.label = label,
		.total = total,
		.begun_ns = now_ns(),
		.on_terminal = isatty(STDERR_FILENO),
	};
	/* Work that is done before the first redraw is due never shows a bar at all. */
	progress->drawn_ns = progress->begun_ns;
}

void cli_progress_update(struct cli_progress *progress, uint64_t done)
{
	uint64_t now;

	if (!progress->on_terminal)
		return;
	now = now_ns();
	if (now - progress->drawn_ns >= REDRAW_NS)
		draw(progress, done, now);
}

void cli_progress_end(struct cli_progress *progress)
{
	if (drawn == progress)
		cli_progress_hide();
	progress->on_terminal = false;
}

void cli_progress_hide(void)
{
	if (!drawn)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	drawn = NULL;
}
