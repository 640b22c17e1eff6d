/* SPDX-License-Identifier: MIT */
/*
 * The commands of `quire` that this folder holds, for the table in cli/commands.c.
 */
#ifndef QUIRE_TRACE_COMMANDS_H
#define QUIRE_TRACE_COMMANDS_H

/* argv[0] is the command's name. They return an enum cli_status and have told the user what was wrong. */
int cmd_record(int argc, char **argv);
int cmd_run(int argc, char **argv);

extern const char cmd_record_help[];
extern const char cmd_run_help[];

#endif
