/* SPDX-License-Identifier: MIT */
/*
 * How the command speaks when something is wrong: one line on stderr that begins with the name of the command, as people
 * and scripts expect of a Unix program.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <stdarg.h>

/* The running command, for the beginning of each line. Set once by main, before any thread exists. */
static const char *command_name;

void cli_set_command(const char *name)
{
	command_name = name;
}

static void print_message(const char *fmt, va_list args)
{
	cli_progress_hide();
	/* What was printed so far comes before the error, also when both go to one file. */
	fflush(stdout);
	flockfile(stderr);
	fputs(cli_style(stderr, CLI_RED), stderr);
	fputs("quire", stderr);
	if (command_name)
		fprintf(stderr, " %s", command_name);
	fprintf(stderr, ":%s ", cli_style(stderr, CLI_PLAIN));
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	funlockfile(stderr);
}

void cli_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_message(fmt, args);
	va_end(args);
}

int cli_usage_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_message(fmt, args);
	va_end(args);
	if (command_name)
		fprintf(stderr, "Try 'quire help %s'.\n", command_name);
	else
		fputs("Try 'quire help'.\n", stderr);
	return CLI_USAGE;
}

int cli_bad_option(int option, char **argv)
{
	const char *word = argv[optind - 1];

	if (option == ':')
		return cli_usage_error("option '%s' needs a value", word);
	/* A bad short option may stand inside a word that getopt has not finished; a long one is the word it just left. */
	if (optopt && word[0] == '-' && word[1] == '-')
		return cli_usage_error("option '%s' takes no value", word);
	if (optopt)
		return cli_usage_error("unknown option '-%c'", optopt);
	return cli_usage_error("unknown option '%s'", word);
}
