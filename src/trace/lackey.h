/* SPDX-License-Identifier: MIT */
/*
 * Understands the text that valgrind's lackey tool prints with --trace-mem, --trace-syscalls and --trace-sched: one line
 * per load, store and instruction, system calls with their results, and which thread runs. The text is huge (some twenty
 * bytes per access), so it is parsed as it comes and never stored.
 */
#ifndef QUIRE_TRACE_LACKEY_H
#define QUIRE_TRACE_LACKEY_H

#include "trace/qrec.h"

#define LACKEY_ARGS 6u
#define LACKEY_THREADS 512u /* valgrind's own limit is 500 */
#define LACKEY_LINE 8192u   /* longer lines are cut: only a path can make one long */

/* A system call that has returned. */
struct lackey_call {
	unsigned thread; /* valgrind's number, from 1; reused when a thread has ended */
	unsigned number; /* Linux's, for x86-64 */
	unsigned nr_args;
	uint64_t arg[LACKEY_ARGS];
	const char *text; /* the path among the arguments, NULL if there is none */
	int64_t result;	  /* negative: minus the errno value */
	bool lost;	  /* a signal came while it blocked, and valgrind did not print the result; @result is 0 */
};

/* Who is told. All are called from lackey_feed, with the @arg of lackey_init. */
struct lackey_handler {
	/* @kind: QREC_LOAD, QREC_STORE (also for read-modify-write) or QREC_FETCH; by the thread that runs. */
	void (*access)(void *arg, enum qrec_op kind, uint64_t addr, uint64_t size);
	void (*call)(void *arg, const struct lackey_call *call);
	/* @thread runs from here on, until the next such call. @first: it has just begun. */
	void (*runs)(void *arg, unsigned thread, bool first);
};

struct lackey {
	const struct lackey_handler *handler;
	void *arg;
	unsigned thread;	   /* who runs */
	unsigned caller;	   /* who made the call whose result may follow on a line of its own */
	size_t kept;		   /* bytes of an unfinished line at @line */
	struct lackey_call *calls; /* the call that each thread is in; number is NO_CALL if in none */
	char **texts;		   /* and its path */
	char line[LACKEY_LINE];
};

/* Returns 0 or -ENOMEM. */
int lackey_init(struct lackey *lackey, const struct lackey_handler *handler, void *arg);
void lackey_destroy(struct lackey *lackey);

/* Forgets an unfinished line and calls that were not finished: the program was replaced by another. */
void lackey_reset(struct lackey *lackey);

/*
 * The call that was begun last and has not returned: its result may never come (exec), or come after what it did (fork).
 * NULL: there is none.
 */
const struct lackey_call *lackey_pending(struct lackey *lackey);

/* The next @len bytes of text. */
void lackey_feed(struct lackey *lackey, const char *text, size_t len);

#endif
