/* SPDX-License-Identifier: MIT */
/*
 * Parses lackey's text. Lines look like this (the numbers of accesses are hexadecimal address, decimal size):
 *
 *	I  04001234,3
 *	 L 1fff000340,8
 *	 S 1fff000340,8
 *	 M 0484d2a0,4
 *	--1234--   SCHED[2]:  acquired lock (VG_(client_syscall)[async])
 *	SYSCALL[1234,1](9) sys_mmap ( 0x0, 8192, 3, 34, 4294967295, 0 ) --> [pre-success] Success(0x4835000)
 *	SYSCALL[1234,1](10) sys_mprotect ( 0x4a16000, 16384, 1 )[sync] --> Success(0x0)
 *	SYSCALL[1234,1](257) sys_openat ( 4294967196, 0x4(/etc/passwd), 524288 ) --> [async] ...
 *	SYSCALL[1234,1](257) ... [async] --> Success(0x4)
 *	SYSCALL[1234,1](56) sys_clone ( 1200011, ... )   clone(fork): process 1234 created child 1235
 *	 --> [pre-success] Success(0x4d3)
 *
 * A call that blocks is printed twice, with lines of other threads between. Anything else is valgrind talking and skipped.
 */
#include "trace/lackey.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define NO_CALL 0xffffffffu

int lackey_init(struct lackey *lackey, const struct lackey_handler *handler, void *arg)
{
	*lackey = (struct lackey){ .handler = handler, .arg = arg, .thread = 1, .caller = 1 };
	lackey->calls = calloc(LACKEY_THREADS, sizeof(*lackey->calls));
	lackey->texts = calloc(LACKEY_THREADS, sizeof(*lackey->texts));
	if (!lackey->calls || !lackey->texts) {
		lackey_destroy(lackey);
		return -ENOMEM;
	}
	lackey_reset(lackey);
	return 0;
}

void lackey_destroy(struct lackey *lackey)
{
	for (unsigned i = 0; lackey->texts && i < LACKEY_THREADS; i++)
		free(lackey->texts[i]);
	free(lackey->calls);
	free(lackey->texts);
	lackey->calls = NULL;
	lackey->texts = NULL;
}

void lackey_reset(struct lackey *lackey)
{
	lackey->kept = 0;
	lackey->thread = lackey->caller = 1;
	for (unsigned i = 0; i < LACKEY_THREADS; i++)
		lackey->calls[i].number = NO_CALL;
}

/* --------------------------------------------------------------------------------------------------- numbers */

/* Also for decimal numbers, whose digits are among them; -1 ends any number. */
static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Reads digits at *p in @base and moves it past them; stops at the first that is none. */
static uint64_t number(const char **p, unsigned base)
{
	uint64_t value = 0;

	for (int digit; (digit = hex_digit(**p)) >= 0 && (unsigned)digit < base; (*p)++)
		value = value * base + (unsigned)digit;
	return value;
}

/* A number as C writes it, or bare digits in @base. */
static uint64_t any_number(const char **p, unsigned base)
{
	if ((*p)[0] == '0' && (*p)[1] == 'x') {
		*p += 2;
		base = 16;
	}
	return number(p, base);
}

/* ----------------------------------------------------------------------------------------------- system calls */

/*
 * Where the text that began at @p ends: it may contain anything, so look from the right, past what follows it: more
 * numbers, and the bracket that closes the list.
 */
static const char *text_end(const char *p, const char *list_end)
{
	while (list_end > p && strchr("0123456789abcdefx, ", list_end[-1]))
		list_end--;
	return list_end > p && list_end[-1] == ')' ? list_end - 1 : NULL;
}

/* One text per call is enough: no call of interest has two paths. */
static void keep_text(struct lackey *lackey, unsigned thread, const char *p, const char *end)
{
	free(lackey->texts[thread]);
	lackey->texts[thread] = strndup(p, (size_t)(end - p));
	lackey->calls[thread].text = lackey->texts[thread];
}

/* Some wrappers print flags as bare hexadecimal digits. */
static unsigned base_of(unsigned call)
{
	return call == SYS_clone || call == SYS_mlockall ? 16 : 10;
}

/* The bracket that closes the argument list: before the result, or at the end of the line. */
static const char *list_end(const char *p)
{
	const char *arrow = NULL, *end;

	for (const char *next = strstr(p, "--> "); next; next = strstr(next + 1, "--> "))
		arrow = next;
	end = arrow ? arrow : p + strlen(p);
	while (end > p && end[-1] != ')')
		end--;
	return end > p ? end - 1 : p;
}

/* The arguments, from @p, just behind the opening bracket. */
static void parse_args(struct lackey *lackey, unsigned thread, const char *p)
{
	struct lackey_call *call = &lackey->calls[thread];
	const char *end = list_end(p);

	for (p += strspn(p, " ,"); p < end && call->nr_args < LACKEY_ARGS; p += strspn(p, " ,")) {
		const char *begin = p;

		call->arg[call->nr_args] = any_number(&p, base_of(call->number));
		if (*p == '(') {
			const char *stop = text_end(p + 1, end);

			if (!stop)
				break;
			keep_text(lackey, thread, p + 1, stop);
			p = stop + 1;
		}
		if (p == begin)
			break;
		call->nr_args++;
	}
}

/* The result behind the last arrow of @p, if there is one: hands the call on. */
static void parse_result(struct lackey *lackey, unsigned thread, const char *p)
{
	struct lackey_call *call = &lackey->calls[thread];
	const char *success = strstr(p, "Success(0x"), *failure = strstr(p, "Failure(0x");
	uint64_t value;

	if ((!success && !failure) || call->number == NO_CALL)
		return;
	p = (success ? success : failure) + strlen("Success(0x");
	value = number(&p, 16);
	call->result = success ? (int64_t)value : -(int64_t)value;
	lackey->handler->call(lackey->arg, call);
	call->number = NO_CALL;
}

/* The thread makes another call and we have not seen the result of the one before. */
static void give_up_call(struct lackey *lackey, struct lackey_call *call)
{
	if (call->number == NO_CALL)
		return;
	call->lost = true;
	call->result = 0;
	lackey->handler->call(lackey->arg, call);
}

/* "SYSCALL[pid,thread](number) ..." */
static void parse_call(struct lackey *lackey, const char *line)
{
	const char *p = strchr(line, ','), *arrow;
	struct lackey_call *call;
	unsigned thread, nr;

	if (!p)
		return;
	p++;
	thread = (unsigned)number(&p, 10);
	if (thread >= LACKEY_THREADS || strncmp(p, "](", 2))
		return;
	p += 2;
	nr = (unsigned)number(&p, 10);
	lackey->caller = thread;
	call = &lackey->calls[thread];
	if (strncmp(p, ") ... ", 6)) {
		give_up_call(lackey, call);
		*call = (struct lackey_call){ .thread = thread, .number = nr };
		p = strchr(p + 1, '(');
		if (p)
			parse_args(lackey, thread, p + 1);
	}
	/* A path could look like a result; what counts is behind the last arrow, which valgrind prints. */
	arrow = p ? strstr(list_end(p + 1), "--> ") : NULL;
	if (arrow)
		parse_result(lackey, thread, arrow);
}

/* "--pid--   SCHED[thread]: what"; only who runs is of interest. */
static void parse_sched(struct lackey *lackey, const char *line)
{
	const char *p = strstr(line, "SCHED[");
	unsigned thread;
	bool first;

	if (!p)
		return;
	p += strlen("SCHED[");
	thread = (unsigned)number(&p, 10);
	first = strstr(p, "entering VG_(scheduler)");
	if (thread >= LACKEY_THREADS || (!first && !strstr(p, " acquired lock")))
		return;
	lackey->thread = thread;
	lackey->handler->runs(lackey->arg, thread, first);
}

/* ----------------------------------------------------------------------------------------------------- lines */

/* Any line but an access; @line ends with a NUL. */
static void parse_line(struct lackey *lackey, const char *line)
{
	if (!strncmp(line, "SYSCALL[", 8))
		parse_call(lackey, line);
	else if (line[0] == '-' && line[1] == '-')
		parse_sched(lackey, line);
	else if (!strncmp(line, " --> ", 5))
		parse_result(lackey, lackey->caller, line);
}

const struct lackey_call *lackey_pending(struct lackey *lackey)
{
	/* The rest of the line, with the result, is understood on its own. */
	if (lackey->kept)
		parse_line(lackey, lackey->line);
	lackey->kept = 0;
	if (lackey->calls[lackey->caller].number == NO_CALL)
		return NULL;
	return &lackey->calls[lackey->caller];
}

/* "I  " fetch, " L " load, " S " store, " M " modify; -1: another line. */
static int access_kind(const char *line)
{
	if (line[2] != ' ')
		return -1;
	if (line[0] == 'I' && line[1] == ' ')
		return QREC_FETCH;
	if (line[0] != ' ')
		return -1;
	if (line[1] == 'L')
		return QREC_LOAD;
	return line[1] == 'S' || line[1] == 'M' ? QREC_STORE : -1;
}

/* @line ends with a newline. */
static void parse_access(struct lackey *lackey, int kind, const char *line)
{
	uint64_t addr, size;

	line += 3;
	addr = number(&line, 16);
	if (*line != ',')
		return;
	line++;
	size = number(&line, 10);
	lackey->handler->access(lackey->arg, (enum qrec_op)kind, addr, size);
}

/* Collects a line that is needed as a string: one that came in pieces, or that is not an access. */
static void keep(struct lackey *lackey, const char *text, size_t len)
{
	size_t room = LACKEY_LINE - 1 - lackey->kept;

	if (len > room)
		len = room;
	memcpy(lackey->line + lackey->kept, text, len);
	lackey->kept += len;
	lackey->line[lackey->kept] = '\0';
}

/* A line that came in pieces may still be an access; now it is whole. */
static void finish_kept_line(struct lackey *lackey)
{
	int kind = lackey->kept > 3 ? access_kind(lackey->line) : -1;

	if (kind >= 0)
		parse_access(lackey, kind, lackey->line);
	else
		parse_line(lackey, lackey->line);
	lackey->kept = 0;
}

void lackey_feed(struct lackey *lackey, const char *text, size_t len)
{
	const char *end = text + len;

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		int kind;

		if (!newline) {
			keep(lackey, text, (size_t)(end - text));
			return;
		}
		kind = !lackey->kept && newline - text > 3 ? access_kind(text) : -1;
		if (kind >= 0) {
			parse_access(lackey, kind, text);
		} else {
			keep(lackey, text, (size_t)(newline - text));
			finish_kept_line(lackey);
		}
		text = newline + 1;
	}
}
