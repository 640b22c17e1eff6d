/* SPDX-License-Identifier: MIT */
/*
 * What a stream can show. Escape sequences in a log file or a pipe are a nuisance, so nothing is coloured that is not
 * certainly looked at by a person.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* See https://no-color.org: any non-empty value counts. */
static bool takes_colour(FILE *stream)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	if (no_color && *no_color)
		return false;
	return isatty(fileno(stream)) && term && strcmp(term, "dumb");
}

const char *cli_style(FILE *stream, enum cli_style style)
{
	static const char *const sequences[] = {
		[CLI_PLAIN] = "\033[0m",  [CLI_BOLD] = "\033[1m",    [CLI_DIM] = "\033[2m",   [CLI_RED] = "\033[31m",
		[CLI_GREEN] = "\033[32m", [CLI_YELLOW] = "\033[33m", [CLI_BLUE] = "\033[34m",
	};

	return takes_colour(stream) ? sequences[style] : "";
}

unsigned cli_columns(FILE *stream)
{
	struct winsize size;

	if (ioctl(fileno(stream), TIOCGWINSZ, &size) || !size.ws_col)
		return 80;
	return size.ws_col;
}
