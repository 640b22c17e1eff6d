/* SPDX-License-Identifier: MIT */
/*
 * The `quire` command: finds the sub-command and runs it. Help, version and the check that the output really was written
 * are done here, once for all of them.
 */
#include "cli/cli.h"

#include <errno.h>
#include <quire/quire.h>
#include <string.h>

static void print_overview(FILE *stream)
{
	fputs("Usage: quire COMMAND [ARGUMENT]...\n"
	      "       quire help [COMMAND]\n"
	      "       quire --version\n"
	      "\n"
	      "Linux's memory manager as a library, and the programs around it.\n"
	      "\n"
	      "Commands:\n",
	      stream);
	for (const struct cli_command *command = cli_commands; command->name; command++)
		fprintf(stream, "  %-8s %s\n", command->name, command->summary);
	fprintf(stream, "  %-8s %s\n", "help", "show this, or the help of a command");
}

static void print_help(const struct cli_command *command)
{
	printf("Usage: quire %s %s\n\n%s", command->name, command->synopsis, command->help);
}

/* `quire help [COMMAND]`, with argv[0] being "help". */
static int help(int argc, char **argv)
{
	const struct cli_command *command;

	if (argc > 2)
		return cli_usage_error("help takes one command, not %d", argc - 1);
	if (argc < 2) {
		print_overview(stdout);
		return CLI_OK;
	}
	command = cli_command_find(argv[1]);
	if (!command)
		return cli_usage_error("there is no command '%s'", argv[1]);
	print_help(command);
	return CLI_OK;
}

/* Is help asked for among the arguments? What follows "--" belongs to somebody else. */
static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	return false;
}

static int run(int argc, char **argv)
{
	const struct cli_command *command = cli_command_find(argv[0]);

	if (!command)
		return cli_usage_error("there is no command '%s'", argv[0]);
	cli_set_command(command->name);
	if (wants_help(argc, argv)) {
		print_help(command);
		return CLI_OK;
	}
	return command->run(argc, argv);
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		print_overview(stderr);
		return CLI_USAGE;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("quire %s\n", quire_version());
		return CLI_OK;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return help(argc - 1, argv + 1);
	if (argv[1][0] == '-')
		return cli_usage_error("unknown option '%s'", argv[1]);
	return run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	int status = dispatch(argc, argv);

	/* A full disk must not look like success: a report that was cut short is worse than none. */
	if (fflush(stdout) || ferror(stdout)) {
		cli_error("cannot write the output: %s", strerror(errno));
		return status == CLI_OK ? CLI_FAILURE : status;
	}
	return status;
}
