/* SPDX-License-Identifier: MIT */
/*
 * How the command speaks when something is wrong: one line on stderr that begins with the name of the command, as people
 * and scripts expect of a Unix program.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <stdarg.h>
#include <string.h>

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

/* Did getopt stop inside a word of several short options? Then it stands at that word, not behind it. */
static bool inside_short_options(const char *word)
{
	const char *letter;

	if (!word || word[0] != '-' || word[1] == '-')
		return false;
	letter = strchr(word + 1, optopt);
	return letter && letter[1];
}

int cli_bad_option(int option, char **argv)
{
	const char *word = argv[optind - 1];
	bool is_long = !inside_short_options(argv[optind]) && word[0] == '-' && word[1] == '-';

	if (option == ':' && is_long)
		return cli_usage_error("option '%s' needs a value", word);
	if (option == ':')
		return cli_usage_error("option '-%c' needs a value", optopt);
	if (!is_long)
		return cli_usage_error("unknown option '-%c'", optopt);
	/* getopt knows the option if it sets optopt: then the "=VALUE" is what is wrong. */
	if (optopt)
		return cli_usage_error("option '%.*s' takes no value", (int)strcspn(word, "="), word);
	return cli_usage_error("unknown option '%s'", word);
}
