/* SPDX-License-Identifier: MIT */
/*
 * The process in which Linux's side runs. It is forked before there is anything to copy, does one command at a time, and leaves
 * what it measured in memory that both processes share.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum command {
	COMMAND_OPEN,
	COMMAND_SCENARIO,
	COMMAND_SCALING,
	COMMAND_CLOSE
};

/* In shared memory. Written by whoever's turn it is; the pipes hand the turn over. */
struct worker_shared {
	enum command command;
	struct bench_setup setup;
	unsigned ops;
	unsigned cpus[SIDE_THREADS];
	bool keep;
	bool done; /* the command's outcome */
	struct bench_result result;
};

struct worker {
	pid_t pid;
	int to, from; /* a byte begins a command, a byte says that it is over */
	struct worker_shared *shared;
};

/* ---------------------------------------------------------------------------------------- the worker's end */

static bool open_side(struct side *side, struct worker_shared *shared)
{
	int err;

	memset(&shared->result, 0, sizeof(shared->result));
	err = side->open(side, &shared->setup);
	return err ? bench_fail(&shared->result, side, "memory", err) : true;
}

static bool execute(struct side *side, struct worker_shared *shared)
{
	switch (shared->command) {
	case COMMAND_OPEN:
		return open_side(side, shared);
	case COMMAND_SCENARIO:
		return scenario_round(side, &shared->setup, shared->ops, shared->keep, &shared->result);
	case COMMAND_SCALING:
		return scaling_round(side, &shared->setup, shared->cpus, shared->keep, &shared->result);
	case COMMAND_CLOSE:
		side->close(side);
		return true;
	}
	return false;
}

/* Until the other end is closed, which also happens when the other process dies. */
static _Noreturn void worker_main(struct worker_shared *shared, int from, int to)
{
	struct side *side = side_linux();
	char byte = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(from, &byte, 1) == 1) {
		shared->done = execute(side, shared);
		if (write(to, &byte, 1) != 1)
			break;
	}
	_exit(0);
}

/* ---------------------------------------------------------------------------------------- this end */

static bool turn(struct worker *worker, enum command command)
{
	char byte = 0;
	ssize_t got;

	worker->shared->command = command;
	if (write(worker->to, &byte, 1) != 1)
		return bench_fail(&worker->shared->result, side_linux(), "worker process", -errno);
	while ((got = read(worker->from, &byte, 1)) < 0 && errno == EINTR)
		;
	if (got != 1)
		return bench_fail(&worker->shared->result, side_linux(), "worker process ended", -EPIPE);
	return worker->shared->done;
}

static bool make_pipes(int command[2], int reply[2])
{
	if (pipe2(command, O_CLOEXEC))
		return false;
	if (!pipe2(reply, O_CLOEXEC))
		return true;
	close(command[0]);
	close(command[1]);
	return false;
}

/* Forks the worker; the ends of the pipes are then each process's own. */
static bool fork_worker(struct worker *worker)
{
	int command[2], reply[2];

	if (!make_pipes(command, reply))
		return false;
	worker->pid = fork();
	if (worker->pid == 0) {
		close(command[1]);
		close(reply[0]);
		worker_main(worker->shared, command[0], reply[1]);
	}
	close(command[0]);
	close(reply[1]);
	worker->to = command[1];
	worker->from = reply[0];
	if (worker->pid > 0)
		return true;
	close(worker->to);
	close(worker->from);
	return false;
}

struct worker *worker_start(void)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	void *shared = mmap(NULL, sizeof(*worker->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (worker && shared != MAP_FAILED) {
		worker->shared = shared;
		/* A worker that died is reported by turn(), not by a signal. */
		(void)signal(SIGPIPE, SIG_IGN);
		if (fork_worker(worker))
			return worker;
	}
	if (shared != MAP_FAILED)
		munmap(shared, sizeof(*worker->shared));
	free(worker);
	return NULL;
}

bool worker_open(struct worker *worker, const struct bench_setup *setup)
{
	worker->shared->setup = *setup;
	return turn(worker, COMMAND_OPEN);
}

bool worker_scenario(struct worker *worker, unsigned ops, bool keep)
{
	worker->shared->ops = ops;
	worker->shared->keep = keep;
	return turn(worker, COMMAND_SCENARIO);
}

bool worker_scaling(struct worker *worker, const unsigned cpus[SIDE_THREADS], bool keep)
{
	memcpy(worker->shared->cpus, cpus, sizeof(worker->shared->cpus));
	worker->shared->keep = keep;
	return turn(worker, COMMAND_SCALING);
}

void worker_close(struct worker *worker)
{
	turn(worker, COMMAND_CLOSE);
}

struct bench_result *worker_result(struct worker *worker)
{
	return &worker->shared->result;
}

void worker_stop(struct worker *worker)
{
	close(worker->to);
	close(worker->from);
	while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR)
		;
	munmap(worker->shared, sizeof(*worker->shared));
	free(worker);
}
