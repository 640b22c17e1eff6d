/* SPDX-License-Identifier: MIT */
/*
 * Follows the lives of the processes below `quire record`: who forks, who runs another program, who ends. lackey's text
 * says so too, but each process writes to its own pipe; ptrace stops a process at these moments, which gives an order
 * between the pipes and the time to make a pipe for a child before it has run.
 */
#ifndef QUIRE_TRACE_TRACER_H
#define QUIRE_TRACE_TRACER_H

#include <stddef.h>
#include <sys/types.h>

enum tracer_what {
	TRACER_FORK, /* @pid has made @child; both are stopped */
	TRACER_EXEC, /* @pid has become another program; stopped before its first instruction */
	TRACER_EXIT, /* @pid is gone, with @status as of wait(2) */
};

struct tracer_event {
	enum tracer_what what;
	pid_t pid, child;
	int status;
};

struct tracer {
	/* Processes that stopped at birth before we were told whose children they are. */
	pid_t *unborn;
	size_t nr_unborn, room;
};

/*
 * Starts @argv (argv[0] is looked up in PATH) as a traced child, stopped before it has run. It is killed if we die. Returns
 * its process id or a negative errno value.
 */
pid_t tracer_start(struct tracer *tracer, char *const argv[]);

/*
 * The next event: 1 with *event filled in, 0 if there is none now, a negative errno value. -ECHILD: nobody is left. After
 * a fork or exec the processes stay stopped until tracer_resume.
 */
int tracer_next(struct tracer *tracer, struct tracer_event *event);

/* Lets those go on that the event stopped. */
void tracer_resume(const struct tracer_event *event);

void tracer_destroy(struct tracer *tracer);

#endif
