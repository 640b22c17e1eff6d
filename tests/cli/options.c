/* SPDX-License-Identifier: MIT */
/*
 * What a user is told about an option that getopt_long() did not like, in each of the ways in which it can dislike one.
 */
#define _GNU_SOURCE /* getopt_long starts afresh when optind is 0 */
#include "cli/cli.h"
#include "cmocka_setup.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORDS 8

/* Parses a command line as a command with -v, --verbose, -m SIZE, --memory SIZE does, and gives what was said on stderr. */
static char *complaint(const char *words)
{
	static const struct option options[] = {
		{ "memory", required_argument, NULL, 'm' },
		{ "verbose", no_argument, NULL, 'v' },
		{ 0 },
	};
	char *copy = strdup(words), *argv[MAX_WORDS + 1] = { 0 }, *stream_text = NULL, *rest = copy, *text;
	FILE *saved = stderr;
	size_t length;
	int argc = 0, option, status = 0;

	while (argc < MAX_WORDS && (argv[argc] = strsep(&rest, " ")))
		argc++;
	stderr = open_memstream(&stream_text, &length);
	assert_non_null(stderr);
	optind = 0;
	while ((option = getopt_long(argc, argv, ":m:v", options, NULL)) != -1) {
		if (option == ':' || option == '?') {
			status = cli_bad_option(option, argv);
			break;
		}
	}
	fclose(stderr);
	stderr = saved;
	text = strdup(stream_text);
	free(stream_text);
	free(copy);
	assert_non_null(text);
	assert_int_equal(status, text[0] ? CLI_USAGE : 0);
	return text;
}

static void assert_complaint(const char *words, const char *expected)
{
	char *text = complaint(words), *line_end = strchr(text, '\n');

	if (line_end)
		*line_end = '\0';
	assert_string_equal(text, expected);
	free(text);
}

static void good_options(void **state)
{
	(void)state;
	assert_complaint("x -v --verbose -m 1 --memory 2 --memory=3 -vm4 file", "");
}

static void unknown_options(void **state)
{
	(void)state;
	assert_complaint("x --fly", "quire: unknown option '--fly'");
	assert_complaint("x --fly=3", "quire: unknown option '--fly=3'");
	assert_complaint("x -f", "quire: unknown option '-f'");
	assert_complaint("x -vf", "quire: unknown option '-f'");
	assert_complaint("x --verbose -fv", "quire: unknown option '-f'");
	assert_complaint("x --memory=1 -fv", "quire: unknown option '-f'");
	assert_complaint("x file -f", "quire: unknown option '-f'");
}

static void values_too_few_or_too_many(void **state)
{
	(void)state;
	assert_complaint("x -v --memory", "quire: option '--memory' needs a value");
	assert_complaint("x -m", "quire: option '-m' needs a value");
	assert_complaint("x -vm", "quire: option '-m' needs a value");
	assert_complaint("x --verbose=3", "quire: option '--verbose' takes no value");
	assert_complaint("x --verbose=3 -v", "quire: option '--verbose' takes no value");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_options),
		cmocka_unit_test(unknown_options),
		cmocka_unit_test(values_too_few_or_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
