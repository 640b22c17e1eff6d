/* SPDX-License-Identifier: MIT */
/*
 * The table of commands: the one place that knows which there are. Their order is the order in which `quire help` lists
 * them.
 */
#include "cli/cli.h"

#include "trace/commands.h"

#include <string.h>

const struct cli_command cli_commands[] = {
	{
		.name = "run",
		.synopsis = "[OPTION]... RECORDING",
		.summary = "replay a recording over the memory manager and check every byte",
		.help = cmd_run_help,
		.run = cmd_run,
	},
	{
		.name = "record",
		.synopsis = "-o FILE [--window N] -- PROGRAM [ARGUMENT]...",
		.summary = "record what a program does to its memory",
		.help = cmd_record_help,
		.run = cmd_record,
	},
	{
		.name = "bench",
		.synopsis = "[OPTION]...",
		.summary = "measure quire and the running Linux kernel side by side",
		.help = cmd_bench_help,
		.run = cmd_bench,
	},
	{ .name = NULL },
};

const struct cli_command *cli_command_find(const char *name)
{
	for (const struct cli_command *command = cli_commands; command->name; command++)
		if (!strcmp(command->name, name))
			return command;
	return NULL;
}
