/* SPDX-License-Identifier: MIT */
/*
 * Parsing of lackey's text: each form of line, threads that take turns in the middle of calls, names that look like
 * syntax, and that it does not matter how the text is cut into pieces.
 */
#include "trace/lackey.h"

#include "cmocka_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

static char told[65536]; /* what the handler was told, as text */

__attribute__((format(printf, 1, 2))) static void tell(const char *fmt, ...)
{
	size_t len = strlen(told);
	va_list args;

	va_start(args, fmt);
	vsnprintf(told + len, sizeof(told) - len, fmt, args);
	va_end(args);
}

static void on_access(void *arg, enum qrec_op kind, uint64_t addr, uint64_t size)
{
	(void)arg;
	tell("%c %lx %lu\n", "LSF"[kind], addr, size);
}

static void on_call(void *arg, const struct lackey_call *call)
{
	(void)arg;
	tell("call %u by %u:", call->number, call->thread);
	for (unsigned i = 0; i < call->nr_args; i++)
		tell(" %lx", call->arg[i]);
	if (call->text)
		tell(" '%s'", call->text);
	tell(call->lost ? " lost\n" : " = %ld\n", call->result);
}

static void on_runs(void *arg, unsigned thread, bool first)
{
	(void)arg;
	tell("runs %u%s\n", thread, first ? " first" : "");
}

static const struct lackey_handler handler = { .access = on_access, .call = on_call, .runs = on_runs };

static struct lackey *parse(const char *text, size_t piece)
{
	struct lackey *lackey = malloc(sizeof(*lackey));

	told[0] = '\0';
	assert_non_null(lackey);
	assert_int_equal(lackey_init(lackey, &handler, NULL), 0);
	for (size_t at = 0, len = strlen(text); at < len; at += piece)
		lackey_feed(lackey, text + at, piece < len - at ? piece : len - at);
	return lackey;
}

static void finish(struct lackey *lackey)
{
	lackey_destroy(lackey);
	free(lackey);
}

/* However it is cut, @text means @expected. */
static void assert_means(const char *text, const char *expected)
{
	for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
		finish(parse(text, piece));
		if (strcmp(told, expected))
			fail_msg("in pieces of %zu:\n%s\ninstead of\n%s", piece, told, expected);
	}
}

static void accesses(void **state)
{
	(void)state;
	assert_means("I  04001234,3\n"
		     " L 1fff000340,8\n"
		     " S 1fff00033f,16\n"
		     " M 00108000,4\n",
		     "F 4001234 3\nL 1fff000340 8\nS 1fff00033f 16\nS 108000 4\n");
}

static void calls(void **state)
{
	(void)state;
	assert_means(
		"SYSCALL[1234,1](9) sys_mmap ( 0x0, 8192, 3, 34, 4294967295, 0 ) --> [pre-success] Success(0x4835000) \n"
		"SYSCALL[1234,1](10) sys_mprotect ( 0x4a16000, 16384, 1 )[sync] --> Success(0x0) \n"
		"SYSCALL[1234,1](152) sys_munlockall ( )[sync] --> Success(0x0) \n"
		"SYSCALL[1234,3](25) sys_mremap ( 0x4a3c000, 4096, 4096, 0x5 ) --> [pre-fail] Failure(0x16) \n",
		"call 9 by 1: 0 2000 3 22 ffffffff 0 = 75714560\n"
		"call 10 by 1: 4a16000 4000 1 = 0\n"
		"call 152 by 1: = 0\n"
		"call 25 by 3: 4a3c000 1000 1000 5 = -22\n");
}

/* These are printed without 0x. */
static void hexadecimal_flags(void **state)
{
	(void)state;
	assert_means(
		"SYSCALL[1,1](151) sys_mlockall ( 12 )[sync] --> Success(0x0) \n"
		"SYSCALL[1,1](56) sys_clone ( 3d0f00, 0x526bf70 ) --> [pre-success] Success(0xe63) --1--   SCHED[1]: "
		"releasing lock (VG_(vg_yield)) -> VgTs_Yielding\n",
		"call 151 by 1: 12 = 0\ncall 56 by 1: 3d0f00 526bf70 = 3683\n");
}

static void a_call_that_blocks(void **state)
{
	(void)state;
	assert_means("SYSCALL[7,1](257) sys_openat ( 4294967196, 0x4(/etc/passwd), 524288 ) --> [async] ... \n"
		     "--7--   SCHED[1]: releasing lock (VG_(client_syscall)[async]) -> VgTs_WaitSys\n"
		     "--7--   SCHED[2]:  acquired lock (thread_wrapper(starting new thread))\n"
		     "--7--   SCHED[2]: entering VG_(scheduler)\n"
		     "SYSCALL[7,2](28) sys_madvise ( 0x1000, 4096, 4 ) --> [async] ... \n"
		     "--7--   SCHED[1]:  acquired lock (VG_(client_syscall)[async])\n"
		     "SYSCALL[7,1](257) ... [async] --> Success(0x4) \n"
		     " L 00001000,8\n"
		     "SYSCALL[7,2](28) ... [async] --> Failure(0x4) \n",
		     "runs 2\nruns 2 first\nruns 1\n"
		     "call 257 by 1: ffffff9c 4 80000 '/etc/passwd' = 4\n"
		     "L 1000 8\n"
		     "call 28 by 2: 1000 1000 4 = -4\n");
}

static void names_that_look_like_syntax(void **state)
{
	(void)state;
	assert_means(
		"SYSCALL[7,1](257) sys_openat ( 4294967196, 0x10(/tmp/nl)x, 5), 66, 384 )[sync] --> Success(0x6) \n"
		"SYSCALL[7,1](2) sys_open ( 0x10(a --> Success(0x9), 0x0 )[sync] --> Success(0x7) \n"
		"SYSCALL[7,1](2) sys_open ( 0x10(), 0x0 )[sync] --> Failure(0x2) \n",
		"call 257 by 1: ffffff9c 10 42 180 '/tmp/nl)x, 5' = 6\n"
		"call 2 by 1: 10 0 'a --> Success(0x9' = 7\n"
		"call 2 by 1: 10 0 '' = -2\n");
}

/* A signal handler ran while the call blocked: valgrind does not say what it returned. */
static void a_result_that_is_lost(void **state)
{
	(void)state;
	assert_means("SYSCALL[7,1](61) sys_wait4 ( 4294967295, 0x1fff0002cc, 0, 0x0 ) --> [async] ... \n"
		     "I  00001000,3\n"
		     "SYSCALL[7,1](15) sys_rt_sigreturn ( ) --> [pre-success] NoWriteResult \n"
		     "SYSCALL[7,1](11) sys_munmap ( 0x1000, 4096 )[sync] --> Success(0x0) \n",
		     "F 1000 3\n"
		     "call 61 by 1: ffffffff 1fff0002cc 0 0 lost\n"
		     "call 15 by 1: lost\n"
		     "call 11 by 1: 1000 1000 = 0\n");
}

static void noise(void **state)
{
	(void)state;
	assert_means("==7== Lackey, an example Valgrind tool\n"
		     "==7== Command: ./a (0x1) --> [sync] Success(0x5)\n"
		     "\n"
		     "--7-- WARNING: unhandled amd64-linux syscall: 325\n"
		     "SYSCALL[7,1](334) unimplemented (by the kernel) syscall: 334! (ni_syscall)\n"
		     " --> [pre-fail] Failure(0x26) \n"
		     "SYSCALL[7\n"
		     "SYSCALL[7,9999](9) sys_mmap ( 0x0 )[sync] --> Success(0x0) \n"
		     " L \n"
		     "I  \n"
		     " --> [pre-success] Success(0x77) \n",
		     "call 334 by 1: = -38\n");
}

/* A fork is reported by ptrace while its line is not complete; the result comes later, on a line of its own. */
static void a_call_that_is_looked_at_halfway(void **state)
{
	struct lackey *lackey =
		parse(" L 00001000,8\nSYSCALL[7,1](56) sys_clone ( 1200011, 0x0, 0x0, 0x99, 0x0 )", 1000);
	const struct lackey_call *call = lackey_pending(lackey);
	const char *rest = "   clone(fork): process 7 created child 8\n --> [pre-success] Success(0x8) \n";

	(void)state;
	assert_non_null(call);
	assert_int_equal(call->number, SYS_clone);
	assert_int_equal(call->arg[0], 0x1200011);
	lackey_feed(lackey, rest, strlen(rest));
	assert_string_equal(told, "L 1000 8\ncall 56 by 1: 1200011 0 0 99 0 = 8\n");
	assert_null(lackey_pending(lackey));
	finish(lackey);
}

/* exec does not return; what follows is another program. */
static void a_call_that_never_returns(void **state)
{
	struct lackey *lackey = parse("SYSCALL[7,1](59) sys_execve ( 0x10(/bin/true), 0x1, 0x2 )", 1000);
	const struct lackey_call *call = lackey_pending(lackey);

	(void)state;
	assert_non_null(call);
	assert_string_equal(call->text, "/bin/true");
	lackey_reset(lackey);
	assert_null(lackey_pending(lackey));
	lackey_feed(lackey, "I  04001234,3\n", 14);
	assert_string_equal(told, "F 4001234 3\n");
	finish(lackey);
}

static void a_line_without_end(void **state)
{
	char *text = malloc(100001);

	(void)state;
	assert_non_null(text);
	memset(text, 'x', 100000);
	memcpy(text + 99980, "\nI  00001000,4\n", 15);
	text[99995] = '\0';
	finish(parse(text, 4096));
	assert_string_equal(told, "F 1000 4\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accesses),
		cmocka_unit_test(calls),
		cmocka_unit_test(hexadecimal_flags),
		cmocka_unit_test(a_call_that_blocks),
		cmocka_unit_test(names_that_look_like_syntax),
		cmocka_unit_test(a_result_that_is_lost),
		cmocka_unit_test(noise),
		cmocka_unit_test(a_call_that_is_looked_at_halfway),
		cmocka_unit_test(a_call_that_never_returns),
		cmocka_unit_test(a_line_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
