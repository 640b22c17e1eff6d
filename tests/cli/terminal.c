/* SPDX-License-Identifier: MIT */
/*
 * What the command draws, seen from the other end of a pseudo-terminal or a pipe: bars and colours where a person looks,
 * plain lines elsewhere.
 */
#define _GNU_SOURCE /* posix_openpt and its kin */
#include "cli/cli.h"
#include "cmocka_setup.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define END_MARK '\001'

/* Where standard error went before a test took it away, and the end that the test reads from. */
static int saved_stderr, reading_end;

static void take_stderr(int writing_end)
{
	fflush(stderr);
	saved_stderr = dup(STDERR_FILENO);
	assert_true(saved_stderr >= 0);
	assert_int_equal(dup2(writing_end, STDERR_FILENO), STDERR_FILENO);
	close(writing_end);
}

static void stderr_to_terminal(unsigned short columns)
{
	struct winsize size = { .ws_row = 24, .ws_col = columns };
	int terminal;

	reading_end = posix_openpt(O_RDWR | O_NOCTTY);
	if (reading_end < 0)
		skip(); /* a bare chroot has no /dev/pts */
	assert_int_equal(grantpt(reading_end), 0);
	assert_int_equal(unlockpt(reading_end), 0);
	terminal = open(ptsname(reading_end), O_RDWR | O_NOCTTY);
	assert_true(terminal >= 0);
	assert_int_equal(ioctl(terminal, TIOCSWINSZ, &size), 0);
	take_stderr(terminal);
}

static void stderr_to_pipe(void)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	reading_end = ends[0];
	take_stderr(ends[1]);
}

/* Everything that was written since standard error was taken; gives it back. */
static const char *written(void)
{
	static char text[4096];
	size_t length = 0;

	/* A terminal hands over what was written at its leisure: a mark at the end tells when all has come. */
	fputc(END_MARK, stderr);
	fflush(stderr);
	do {
		ssize_t got = read(reading_end, text + length, sizeof(text) - length);

		assert_true(got > 0);
		length += (size_t)got;
	} while (text[length - 1] != END_MARK);
	text[length - 1] = '\0';
	assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
	close(saved_stderr);
	close(reading_end);
	return text;
}

/* Longer than the bar waits between two drawings. */
static void wait_for_redraw(void)
{
	const struct timespec pause = { .tv_nsec = 120000000 };

	nanosleep(&pause, NULL);
}

static void assert_contains(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no '%s' in '%s'", part, text);
}

static void bar_on_a_terminal(void **state)
{
	struct cli_progress progress;
	const char *text;

	(void)state;
	stderr_to_terminal(80);
	cli_progress_begin(&progress, "replaying", 1000);
	wait_for_redraw();
	cli_progress_update(&progress, 500);
	/* This one comes too early to be drawn. */
	cli_progress_update(&progress, 750);
	cli_progress_end(&progress);
	text = written();
	assert_contains(text, "replaying [");
	assert_contains(text, "#.");
	assert_contains(text, " 50 % 00:00 left");
	assert_null(strstr(text, "75 %"));
	/* The end leaves a clean line. */
	assert_string_equal(text + strlen(text) - 4, "\r\033[K");
}

static void bar_fits_a_narrow_terminal(void **state)
{
	struct cli_progress progress;
	const char *text, *end;

	(void)state;
	stderr_to_terminal(50);
	cli_progress_begin(&progress, "replaying", 1000);
	wait_for_redraw();
	cli_progress_update(&progress, 1000);
	text = written();
	end = strstr(text, "\033[K");
	assert_non_null(end);
	/* The first byte is the carriage return. */
	assert_in_range(end - text - 1, 30, 49);
	cli_progress_hide();
}

static void count_without_a_total(void **state)
{
	struct cli_progress progress;

	(void)state;
	stderr_to_terminal(80);
	cli_progress_begin(&progress, "recording", 0);
	wait_for_redraw();
	cli_progress_update(&progress, 12345);
	cli_progress_end(&progress);
	assert_contains(written(), "\rrecording 12345");
}

static void nothing_is_drawn_into_a_pipe(void **state)
{
	struct cli_progress progress;

	(void)state;
	stderr_to_pipe();
	cli_progress_begin(&progress, "replaying", 1000);
	wait_for_redraw();
	cli_progress_update(&progress, 500);
	cli_progress_end(&progress);
	assert_string_equal(written(), "");
}

static void error_takes_the_bar_away(void **state)
{
	struct cli_progress progress;
	const char *text;

	(void)state;
	setenv("NO_COLOR", "1", 1);
	stderr_to_terminal(80);
	cli_progress_begin(&progress, "replaying", 1000);
	wait_for_redraw();
	cli_progress_update(&progress, 500);
	cli_error("%s: damaged at offset %d", "x.qrec", 12);
	cli_progress_end(&progress);
	text = written();
	assert_contains(text, "left\033[K\r\033[Kquire: x.qrec: damaged at offset 12\r\n");
	unsetenv("NO_COLOR");
}

static void errors_name_the_command(void **state)
{
	int status;

	(void)state;
	stderr_to_pipe();
	cli_set_command("run");
	status = cli_usage_error("no %s given", "file");
	cli_set_command(NULL);
	assert_string_equal(written(), "quire run: no file given\nTry 'quire help run'.\n");
	assert_int_equal(status, CLI_USAGE);
}

static void colours_on_terminals_only(void **state)
{
	const char *on_terminal, *refused, *dumb, *in_pipe;

	(void)state;
	unsetenv("NO_COLOR");
	setenv("TERM", "xterm", 1);
	stderr_to_terminal(80);
	on_terminal = cli_style(stderr, CLI_RED);
	setenv("NO_COLOR", "1", 1);
	refused = cli_style(stderr, CLI_RED);
	unsetenv("NO_COLOR");
	setenv("TERM", "dumb", 1);
	dumb = cli_style(stderr, CLI_RED);
	setenv("TERM", "xterm", 1);
	written();
	stderr_to_pipe();
	in_pipe = cli_style(stderr, CLI_RED);
	written();
	assert_string_equal(on_terminal, "\033[31m");
	assert_string_equal(refused, "");
	assert_string_equal(dumb, "");
	assert_string_equal(in_pipe, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bar_on_a_terminal),	     cmocka_unit_test(bar_fits_a_narrow_terminal),
		cmocka_unit_test(count_without_a_total),     cmocka_unit_test(nothing_is_drawn_into_a_pipe),
		cmocka_unit_test(error_takes_the_bar_away),  cmocka_unit_test(errors_name_the_command),
		cmocka_unit_test(colours_on_terminals_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
