/* SPDX-License-Identifier: MIT */
/*
 * What the commands of `quire` share: the table of commands, how errors are said, how sizes are read, and what may be
 * drawn on a terminal. Every command must feel like the same program; this header is why it does.
 *
 * To add a command `foo`: write `int cmd_foo(int argc, char **argv)` and `const char cmd_foo_help[]` in a file of their
 * own, declare both where it says so below, and add one entry to the table in commands.c.
 */
#ifndef QUIRE_CLI_CLI_H
#define QUIRE_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Exit statuses, the same for all commands. */
enum cli_status {
	CLI_OK = 0,
	CLI_FAILURE = 1, /* the work could not be done: a damaged file, too little memory, a check that failed */
	CLI_USAGE = 2,	 /* the command line makes no sense; nothing was done */
};

struct cli_command {
	const char *name;     /* "run" */
	const char *synopsis; /* "[OPTION]... FILE": what follows the name in the usage line */
	const char *summary;  /* one line for `quire help`, lower case, no full stop */
	const char *help;     /* further lines for `quire help NAME`: options and examples; each ends in a newline */

	/*
	 * Does the work. argv[0] is the command's name, so getopt_long() works as in main(); it must be told not to
	 * print errors itself (a leading ':' in its option string). Returns an enum cli_status. Standard output is
	 * flushed and checked by the caller. --help and -h never get here.
	 */
	int (*run)(int argc, char **argv);
};

/* The commands: `int cmd_NAME(int argc, char **argv)` and `extern const char cmd_NAME_help[]`, alphabetical. */
int cmd_bench(int argc, char **argv);
extern const char cmd_bench_help[];

/* All commands, ended by an entry without a name. */
extern const struct cli_command cli_commands[];

/* The command of that name, or NULL. */
const struct cli_command *cli_command_find(const char *name);

/* ---------------------------------------------------------------------------------------------------- messages */

/* Makes cli_error() begin its lines with "quire NAME: "; NULL: "quire: ". @name is kept, not copied. */
void cli_set_command(const char *name);

/*
 * Prints one line on stderr: "quire COMMAND: MESSAGE". No full stop and no newline in @fmt. Takes a progress bar off the
 * line first. Name what was wrong and where: the file, the offset, the value.
 */
void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* As cli_error, followed by a hint at the command's help. Returns CLI_USAGE, so that `return cli_usage_error(...)` reads well. */
int cli_usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * Says what getopt_long() found wrong: @option is its return value, ':' or '?', and @argv what it was working on. Returns
 * CLI_USAGE.
 */
int cli_bad_option(int option, char **argv);

/* -------------------------------------------------------------------------------------------- numbers and sizes */

/*
 * Reads a size in bytes: a decimal number, then nothing or K, M, G or T (powers of 1024, either case, "KiB" is understood
 * too). Returns 0, -EINVAL (not a size) or -ERANGE (does not fit in 64 bits); *out is then unchanged.
 */
int cli_parse_size(const char *text, uint64_t *out);

/* Reads a plain decimal number with the same results. */
int cli_parse_count(const char *text, uint64_t *out);

/*
 * The same for the value of an option, within [min, max]: false after having told the user what is wrong with it.
 * @option is the option's name as the user writes it, "--memory".
 */
bool cli_size_option(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out);
bool cli_count_option(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out);

#define CLI_SIZE_TEXT 24 /* bytes that cli_format_size() needs */

/* Writes @bytes for a person: "512 B", "64 KiB", "1.5 GiB" (one digit after the point, unless it is zero). Returns @text. */
char *cli_format_size(uint64_t bytes, char text[CLI_SIZE_TEXT]);

/* ---------------------------------------------------------------------------------------------------- terminals */

enum cli_style {
	CLI_PLAIN, /* back to normal */
	CLI_BOLD,
	CLI_DIM,
	CLI_RED,
	CLI_GREEN,
	CLI_YELLOW,
	CLI_BLUE,
};

/* The escape sequence for @style; "" unless @stream is a terminal that takes it (NO_COLOR unset, TERM not "dumb"). */
const char *cli_style(FILE *stream, enum cli_style style);

/* Columns of the terminal behind @stream; 80 when it is none or does not say. */
unsigned cli_columns(FILE *stream);

/*
 * A progress bar on stderr, drawn only if that is a terminal. There is one at a time; it belongs to the thread that began
 * it. Updating is cheap enough to be done every few microseconds: it is drawn at most ten times a second.
 */
struct cli_progress {
	const char *label; /* what is being done, "replaying"; kept, not copied */
	uint64_t total;	   /* what counts as complete, in any unit; 0: unknown */
	uint64_t begun_ns; /* CLOCK_MONOTONIC at the beginning */
	uint64_t drawn_ns; /* and when the bar was drawn last */
	bool on_terminal;  /* false: nothing is ever drawn */
};

void cli_progress_begin(struct cli_progress *progress, const char *label, uint64_t total);
void cli_progress_update(struct cli_progress *progress, uint64_t done);
/* Takes the bar away; must be called before @progress goes out of scope. */
void cli_progress_end(struct cli_progress *progress);
/* Clears the line of the current bar, if one is drawn, so that something else can be printed; it comes back by itself. */
void cli_progress_hide(void);

#endif
