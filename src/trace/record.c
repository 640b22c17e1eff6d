/* SPDX-License-Identifier: MIT */
/*
 * `quire record`: runs a program under valgrind's lackey, reads what it prints through one pipe per process, and writes a
 * recording. This file holds the loop over pipes and process events; what the text means is in traced.c and calls.c.
 *
 * Order: a process's text is in order by itself. Between processes, ptrace stops a process at fork, exec and exit; all of
 * its text so far is taken before the event is recorded. So what a parent did before a fork comes before the child, and
 * all that a child did comes before its parent learns of its end.
 */
#define _GNU_SOURCE /* F_SETPIPE_SZ, ppoll */
#include "cli/cli.h"
#include "trace/commands.h"
#include "trace/traced.h"
#include "trace/tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* While valgrind starts, the pipe must be too small for the program to get anywhere before its mappings are read. */
#define PIPE_BOOT 4096
#define PIPE_RUN (1 << 20)
#define CHUNK (256u << 10) /* text read at once */
#define PAUSE_NS 1000000   /* let text collect: being woken for every line would cost more than the lines */
#define DEFAULT_WINDOW (1u << 18)

struct session {
	struct recorder recorder;
	struct tracer tracer;
	const char *output;
	char directory[PATH_MAX]; /* of the pipes */
	char *buffer;		  /* CHUNK bytes */
	struct pollfd *polls;
	uint32_t polls_room;
	int status; /* of the program */
};

/* ------------------------------------------------------------------------------------------------------- pipes */

static void pipe_name(const struct session *session, pid_t pid, char name[PATH_MAX])
{
	/* The directory's name is short: TMPDIR was checked. */
	snprintf(name, PATH_MAX, "%.3000s/%d", session->directory, (int)pid);
}

/*
 * Makes the pipe that valgrind will open as its log file. It is held open for reading and writing, so that it does not end
 * when the process opens it anew, as it does at each exec.
 */
static int open_pipe(struct session *session, struct traced *traced)
{
	char name[PATH_MAX];

	pipe_name(session, traced->pid, name);
	if (mkfifo(name, 0600))
		return -errno;
	traced->fifo = open(name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (traced->fifo < 0 || fcntl(traced->fifo, F_SETPIPE_SZ, PIPE_BOOT) < 0)
		return -errno;
	return 0;
}

/* Takes what is in the pipe, at most one chunk. True if there was anything. */
static bool drain_some(struct session *session, struct traced *traced)
{
	bool booting = traced->state == TRACED_BOOTING;
	ssize_t len;

	if (traced->fifo < 0)
		return false;
	/* Small steps until the program begins: what is read here the program has already done. */
	len = read(traced->fifo, session->buffer, booting ? PIPE_BOOT : CHUNK);
	if (len <= 0)
		return false;
	traced_feed(traced, session->buffer, (size_t)len);
	if (booting && traced->state == TRACED_RUNNING)
		fcntl(traced->fifo, F_SETPIPE_SZ, PIPE_RUN);
	return true;
}

/* All that the process has printed so far. It is stopped or gone, so this ends. */
static void drain(struct session *session, struct traced *traced)
{
	while (drain_some(session, traced))
		;
}

/* ------------------------------------------------------------------------------------------------------- lives */

/* Both are stopped. The child's pipe must exist before it runs: it opens its log file anew as soon as it does. */
static void on_fork(struct session *session, const struct tracer_event *event)
{
	struct traced *parent = recorder_find(&session->recorder, event->pid), *child;

	if (!parent)
		return;
	drain(session, parent);
	child = traced_create(&session->recorder, parent, event->child);
	if (!child)
		return;
	if (!session->recorder.err)
		session->recorder.err = open_pipe(session, child);
	if (child->fifo >= 0)
		fcntl(child->fifo, F_SETPIPE_SZ, PIPE_RUN);
	traced_fork(parent, child);
}

/* True if the process has just become valgrind, or a script that starts it; false if it runs something by itself. */
static bool runs_valgrind(pid_t pid)
{
	char name[64], path[PATH_MAX];
	const char *base;
	ssize_t len;

	snprintf(name, sizeof(name), "/proc/%d/exe", (int)pid);
	len = readlink(name, path, sizeof(path) - 1);
	if (len <= 0)
		return true;
	path[len] = '\0';
	base = strrchr(path, '/');
	base = base ? base + 1 : path;
	return !strncmp(base, "valgrind", 8) || !strncmp(base, "lackey", 6);
}

/* Comes several times per program: a script that finds valgrind, its launcher and the tool follow each other. */
static void on_exec(struct session *session, const struct tracer_event *event)
{
	struct traced *traced = recorder_find(&session->recorder, event->pid);
	bool was_running;

	if (!traced || traced->state == TRACED_LOST || traced->state == TRACED_ENDED)
		return;
	drain(session, traced);
	was_running = traced->state == TRACED_RUNNING;
	traced_exec(traced);
	if (was_running && !runs_valgrind(event->pid)) {
		/* Set-user-id, or for another architecture: valgrind lets it go. */
		traced_exit(traced, 0);
		traced->state = TRACED_LOST;
		session->recorder.nr_lost++;
	} else if (fcntl(traced->fifo, F_SETPIPE_SZ, PIPE_BOOT) < 0) {
		session->recorder.err = -errno;
	}
}

/* All of its text is in the pipe: writing to a pipe is done before the process can end. */
static void on_exit_of(struct session *session, const struct tracer_event *event)
{
	struct traced *traced = recorder_find(&session->recorder, event->pid);
	char name[PATH_MAX];

	/* Threads that are not their process's first end here too. */
	if (!traced || traced->state == TRACED_ENDED)
		return;
	drain(session, traced);
	pipe_name(session, traced->pid, name);
	unlink(name);
	if (!traced->parent)
		session->status = event->status;
	if (traced->state == TRACED_LOST)
		traced->state = TRACED_ENDED;
	else
		traced_exit(traced, event->status);
}

static void handle(struct session *session, const struct tracer_event *event)
{
	switch (event->what) {
	case TRACER_FORK:
		on_fork(session, event);
		break;
	case TRACER_EXEC:
		on_exec(session, event);
		break;
	case TRACER_EXIT:
		on_exit_of(session, event);
		break;
	}
	tracer_resume(event);
}

/* -------------------------------------------------------------------------------------------------------- loop */

/* Sleeps until a process has printed something or changed its state. */
static void wait_for_something(struct session *session)
{
	const struct timespec limit = { .tv_nsec = 100000000 }, pause = { .tv_nsec = PAUSE_NS };
	struct recorder *recorder = &session->recorder;
	sigset_t none;
	nfds_t nr = 0;

	if (session->polls_room < recorder->nr) {
		struct pollfd *polls = reallocarray(session->polls, recorder->room, sizeof(*polls));

		if (!polls)
			return;
		session->polls = polls;
		session->polls_room = recorder->room;
	}
	for (uint32_t i = 0; i < recorder->nr; i++)
		if (recorder->list[i]->fifo >= 0)
			session->polls[nr++] = (struct pollfd){ .fd = recorder->list[i]->fifo, .events = POLLIN };
	sigemptyset(&none);
	/* SIGCHLD is blocked everywhere else, so it cannot come just before we sleep. */
	if (ppoll(session->polls, nr, &limit, &none) > 0)
		nanosleep(&pause, NULL);
}

/* One chunk of each, so that processes that run at the same time stay near each other in the recording. */
static bool drain_all(struct session *session)
{
	bool any = false;

	for (uint32_t i = 0; i < session->recorder.nr; i++)
		any |= drain_some(session, session->recorder.list[i]);
	return any;
}

/* Runs until the last process has ended. Returns 0 or a negative errno value. */
static int follow(struct session *session)
{
	struct tracer_event event;
	int more = 0;

	while (more != -ECHILD && !session->recorder.err) {
		bool any = drain_all(session);

		while ((more = tracer_next(&session->tracer, &event)) > 0) {
			handle(session, &event);
			any = true;
		}
		if (more < 0 && more != -ECHILD)
			return more;
		if (!any && more != -ECHILD)
			wait_for_something(session);
	}
	return session->recorder.err;
}

/* ------------------------------------------------------------------------------------------------ begin and end */

/* Does nothing: its coming ends ppoll. */
static void on_sigchld(int signal)
{
	(void)signal;
}

/* The interrupt key is for the program; what is recorded until it ends is kept. */
static void set_signals(void)
{
	struct sigaction wake = { .sa_handler = on_sigchld }, ignore = { .sa_handler = SIG_IGN };
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	sigaction(SIGCHLD, &wake, NULL);
	sigaction(SIGINT, &ignore, NULL);
	sigaction(SIGQUIT, &ignore, NULL);
}

/* What is longer than a text may be is cut. */
static void write_info(struct qrec_writer *writer, const char *key, const char *value)
{
	char text[QREC_TEXT_MAX];
	struct qrec_event event = { .op = QREC_INFO, .text = text };

	snprintf(text, sizeof(text), "%s=%s", key, value);
	qrec_write(writer, &event);
}

/* The command as typed, for the report; nothing that identifies the machine. */
static void write_infos(struct session *session, char **program)
{
	struct qrec_writer *writer = session->recorder.writer;
	char command[QREC_TEXT_MAX - 16], window[32];
	struct utsname host;
	size_t len = 0;

	command[0] = '\0';
	for (; *program && len < sizeof(command) - 1; program++)
		len += (size_t)snprintf(command + len, sizeof(command) - len, "%s%s", len ? " " : "", *program);
	write_info(writer, "command", command);
	if (!uname(&host))
		write_info(writer, "machine", host.machine);
	snprintf(window, sizeof(window), "%" PRIu64, session->recorder.window);
	write_info(writer, "window", window);
}

/* The command that runs @program under lackey: to be freed. */
static char **valgrind_command(const struct session *session, char **program)
{
	/* Its own options come from nowhere else; nothing of it listens to a debugger or writes to the terminal. */
	static char *const options[] = { "valgrind",	      "--command-line-only=yes", "--tool=lackey",
					 "--trace-mem=yes",   "--basic-counts=no",	 "--trace-syscalls=yes",
					 "--trace-sched=yes", "--trace-children=yes",	 "--vgdb=no",
					 "--fair-sched=try" };
	static char log[PATH_MAX + 32];
	size_t nr = sizeof(options) / sizeof(*options), nr_args = 0;
	char **argv;

	while (program[nr_args])
		nr_args++;
	argv = calloc(nr + nr_args + 3, sizeof(char *));
	if (!argv)
		return NULL;
	memcpy(argv, options, sizeof(options));
	snprintf(log, sizeof(log), "--log-file=%s/%%p", session->directory);
	argv[nr] = log;
	argv[nr + 1] = "--";
	memcpy(argv + nr + 2, program, nr_args * sizeof(char *));
	return argv;
}

/* Of the pipes, which only we may enter. */
static int make_directory(struct session *session)
{
	const char *base = getenv("TMPDIR");

	/* valgrind understands % in the name of its log file. */
	if (!base || !*base || strlen(base) > 1000 || strchr(base, '%'))
		base = "/tmp";
	snprintf(session->directory, sizeof(session->directory), "%.1000s/quire-record-XXXXXX", base);
	return mkdtemp(session->directory) ? 0 : -errno;
}

/* The first process stands before its first instruction, and is resumed by the loop. */
static int start(struct session *session, char **program)
{
	char **argv = valgrind_command(session, program);
	struct traced *first;
	pid_t pid;

	if (!argv)
		return -ENOMEM;
	pid = tracer_start(&session->tracer, argv);
	free(argv);
	if (pid < 0)
		return pid;
	first = traced_create(&session->recorder, NULL, pid);
	return first ? open_pipe(session, first) : -ENOMEM;
}

/* Kills what is left after a failure of our own, and removes the pipes. */
static void clean_up(struct session *session)
{
	struct recorder *recorder = &session->recorder;
	char name[PATH_MAX];

	for (uint32_t i = 0; i < recorder->nr; i++) {
		struct traced *traced = recorder->list[i];

		if (traced->state != TRACED_ENDED) {
			kill(traced->pid, SIGKILL);
			pipe_name(session, traced->pid, name);
			unlink(name);
		}
		traced_destroy(traced);
	}
	if (session->directory[0])
		rmdir(session->directory);
	free(recorder->list);
	hostfiles_destroy(&recorder->files);
	tracer_destroy(&session->tracer);
	free(session->polls);
	free(session->buffer);
}

/* On stderr: standard output belongs to the program. */
static void print_summary(const struct session *session, const struct qrec_totals *totals, uint64_t bytes)
{
	char size[CLI_SIZE_TEXT];

	fprintf(stderr,
		"recorded %" PRIu64 " instructions and %" PRIu64 " accesses of %" PRIu64 " processes, %" PRIu64
		" threads\n%s: %s, %" PRIu64 " records, %" PRIu64 " touches, %" PRIu64 " memory calls\n",
		totals->instructions, totals->accesses, totals->processes, totals->threads, session->output,
		cli_format_size(bytes, size), totals->events, totals->loads + totals->stores + totals->fetches,
		totals->calls);
	if (totals->unsupported)
		fprintf(stderr, "note: %" PRIu64 " memory calls of kinds that are not recorded\n", totals->unsupported);
	if (session->recorder.nr_lost)
		fprintf(stderr, "note: %" PRIu32 " processes left valgrind and were not recorded further\n",
			session->recorder.nr_lost);
	if (WIFSIGNALED(session->status))
		fprintf(stderr, "note: the program was killed by signal %d\n", WTERMSIG(session->status));
	else if (WEXITSTATUS(session->status))
		fprintf(stderr, "note: the program ended with status %d\n", WEXITSTATUS(session->status));
}

/* Ends the file if something was recorded. Returns the exit status. */
static int finish(struct session *session, const char *program, int err)
{
	struct qrec_writer *writer = session->recorder.writer;
	struct qrec_totals totals = *qrec_writer_totals(writer);
	uint64_t bytes;

	if (err == -ENOENT && !session->recorder.nr) {
		cli_error("valgrind is not installed; it does the recording (Debian: apt-get install valgrind)");
	} else if (err) {
		cli_error("recording %s failed: %s", program, strerror(-err));
	} else if (!totals.processes) {
		/* Valgrind has said why. */
		cli_error("valgrind did not run %s", program);
		err = -ENOEXEC;
	}
	if (err) {
		qrec_writer_abandon(writer);
		return CLI_FAILURE;
	}
	err = qrec_writer_finish(writer, &bytes);
	if (err) {
		cli_error("cannot write %s: %s", session->output, strerror(-err));
		return CLI_FAILURE;
	}
	print_summary(session, &totals, bytes);
	return CLI_OK;
}

static int record(struct session *session, char **program)
{
	int err, status;

	session->recorder.writer = qrec_writer_create(session->output, &err);
	if (!session->recorder.writer) {
		cli_error("cannot create %s: %s", session->output, strerror(-err));
		return CLI_FAILURE;
	}
	write_infos(session, program);
	session->buffer = malloc(CHUNK);
	err = session->buffer ? make_directory(session) : -ENOMEM;
	if (!err)
		err = start(session, program);
	/* Not before: the program must not inherit what we block and ignore. */
	set_signals();
	if (!err)
		err = follow(session);
	status = finish(session, program[0], err);
	clean_up(session);
	return status;
}

const char cmd_record_help[] =
	"Runs PROGRAM under valgrind's lackey tool and records what it and its children do to their memory: memory system\n"
	"calls with their results, loads, stores and instruction fetches by page, forks, threads, execs and exits. Expect it\n"
	"to run some hundred times slower. docs/recording.md says what is kept and what is not.\n"
	"\n"
	"  -o, --output FILE  the recording (required)\n"
	"      --window N     after N accesses of a process its touches are recorded afresh, so that its working set\n"
	"                     over time can be seen; default 262144\n"
	"\n"
	"  quire record -o sort.qrec -- sh -c 'sort /etc/services | uniq -c'\n";

int cmd_record(int argc, char **argv)
{
	static const struct option options[] = { { "output", required_argument, NULL, 'o' },
						 { "window", required_argument, NULL, 'w' },
						 { NULL, 0, NULL, 0 } };
	struct session session = { .recorder.window = DEFAULT_WINDOW };
	int option;

	while ((option = getopt_long(argc, argv, "+:o:", options, NULL)) != -1) {
		if (option == 'o')
			session.output = optarg;
		else if (option != 'w')
			return cli_bad_option(option, argv);
		else if (!cli_count_option("--window", optarg, 1000, INT64_MAX, &session.recorder.window))
			return CLI_USAGE;
	}
	if (!session.output || !*session.output)
		return cli_usage_error("where to? -o FILE is missing");
	if (optind == argc)
		return cli_usage_error("no program to record");
	return record(&session, argv + optind);
}
