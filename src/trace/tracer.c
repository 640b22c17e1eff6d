/* SPDX-License-Identifier: MIT */
/*
 * ptrace, in its PTRACE_SEIZE form: no signals are made up, and job control of the traced programs goes on working. System
 * calls are not traced, so the programs run at full speed between forks and execs.
 */
#define _GNU_SOURCE
#include "trace/tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS                                                                                                        \
	(PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)

/* Runs in the child: waits until we are traced, then becomes the program. */
static void become(int ready, int failed, char *const argv[])
{
	char byte;
	int err;

	if (read(ready, &byte, 1) == 1) {
		execvp(argv[0], argv);
		err = errno;
		if (write(failed, &err, sizeof(err)) < 0)
			_exit(126);
	}
	_exit(127);
}

/* What exec in the child said: 0 if it succeeded, else a negative errno value. Lets the child run. */
static int finish_start(pid_t pid, int ready, int failed)
{
	int err = 0;

	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)OPTIONS))
		return -errno;
	if (write(ready, "", 1) != 1)
		return -errno;
	/* A successful exec closes the pipe, and then stops: that event comes out of tracer_next. */
	return read(failed, &err, sizeof(err)) == sizeof(err) ? -err : 0;
}

/* Two pipes: one holds the child until it is traced, the other brings back why exec failed. */
pid_t tracer_start(struct tracer *tracer, char *const argv[])
{
	int ready[2], failed[2], err;
	pid_t pid;

	*tracer = (struct tracer){ 0 };
	if (pipe2(ready, O_CLOEXEC) || pipe2(failed, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		become(ready[0], failed[1], argv);
	close(ready[0]);
	close(failed[1]);
	err = finish_start(pid, ready[1], failed[0]);
	close(ready[1]);
	close(failed[0]);
	if (!err)
		return pid;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return err;
}

/* -------------------------------------------------------------------------------------------------- stops */

/* A thread that is not its process's first. */
static bool is_thread(pid_t pid)
{
	char name[64], line[128];
	long leader = pid;
	FILE *status;

	snprintf(name, sizeof(name), "/proc/%d/status", (int)pid);
	status = fopen(name, "re");
	if (!status)
		return false;
	while (fgets(line, sizeof(line), status))
		if (!strncmp(line, "Tgid:", 5))
			leader = strtol(line + 5, NULL, 10);
	fclose(status);
	return leader != pid;
}

/* Out of a stop, with the signal that stopped it, if one did. */
static void go_on(pid_t pid, int signal)
{
	/* It may have been killed meanwhile; then its exit is what comes next. */
	ptrace(PTRACE_CONT, pid, NULL, (void *)(long)signal);
}

/* A child may stop before its parent's fork is reported: the order of two processes' reports is not defined. */
static void add_unborn(struct tracer *tracer, pid_t pid)
{
	if (tracer->nr_unborn == tracer->room) {
		size_t room = tracer->room ? 2 * tracer->room : 16;
		pid_t *unborn = reallocarray(tracer->unborn, room, sizeof(*unborn));

		if (!unborn)
			return; /* it stays stopped, and is killed with us */
		tracer->unborn = unborn;
		tracer->room = room;
	}
	tracer->unborn[tracer->nr_unborn++] = pid;
}

/* True if it has stopped already. */
static bool take_unborn(struct tracer *tracer, pid_t pid)
{
	for (size_t i = 0; i < tracer->nr_unborn; i++)
		if (tracer->unborn[i] == pid) {
			tracer->unborn[i] = tracer->unborn[--tracer->nr_unborn];
			return true;
		}
	return false;
}

/*
 * @pid is in the middle of fork, vfork or clone. A child that is a process is waited for, so that both are stopped when
 * the event is handled. Returns false if it was a thread: nothing to tell.
 */
static bool handle_birth(struct tracer *tracer, pid_t pid, struct tracer_event *event)
{
	unsigned long child = 0;
	int status;

	if (ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child) || is_thread((pid_t)child)) {
		go_on(pid, 0);
		return false;
	}
	if (!take_unborn(tracer, (pid_t)child) && waitpid((pid_t)child, &status, __WALL) == (pid_t)child &&
	    !WIFSTOPPED(status)) {
		/* Killed before it drew a breath. */
		go_on(pid, 0);
		return false;
	}
	*event = (struct tracer_event){ .what = TRACER_FORK, .pid = pid, .child = (pid_t)child };
	return true;
}

/* PTRACE_EVENT_STOP: a new task stands before its first instruction, or job control has stopped an old one. */
static void handle_stop(struct tracer *tracer, pid_t pid, int signal)
{
	if (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)
		ptrace(PTRACE_LISTEN, pid, NULL, NULL);
	else if (is_thread(pid))
		go_on(pid, 0);
	else
		add_unborn(tracer, pid);
}

/* True if there is something to tell; otherwise the task goes on already. */
static bool handle_status(struct tracer *tracer, pid_t pid, int status, struct tracer_event *event)
{
	if (!WIFSTOPPED(status)) {
		*event = (struct tracer_event){ .what = TRACER_EXIT, .pid = pid, .status = status };
		return true;
	}
	switch (status >> 16) {
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
	case PTRACE_EVENT_CLONE:
		return handle_birth(tracer, pid, event);
	case PTRACE_EVENT_EXEC:
		*event = (struct tracer_event){ .what = TRACER_EXEC, .pid = pid };
		return true;
	case PTRACE_EVENT_STOP:
		handle_stop(tracer, pid, WSTOPSIG(status));
		return false;
	default:
		go_on(pid, WSTOPSIG(status));
		return false;
	}
}

/* Never blocks: the caller has pipes to look at. */
int tracer_next(struct tracer *tracer, struct tracer_event *event)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
		if (handle_status(tracer, pid, status, event))
			return 1;
	return pid < 0 && errno != EINTR ? -errno : 0;
}

void tracer_resume(const struct tracer_event *event)
{
	if (event->what == TRACER_FORK)
		go_on(event->child, 0);
	if (event->what != TRACER_EXIT)
		go_on(event->pid, 0);
}

void tracer_destroy(struct tracer *tracer)
{
	free(tracer->unborn);
	*tracer = (struct tracer){ 0 };
}
