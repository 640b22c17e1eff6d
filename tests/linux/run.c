/* SPDX-License-Identifier: MIT */
/* The worker process that runs sequences, and the watch over it. */
#define _GNU_SOURCE
#include "run.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "generate.h"
#include "random.h"

struct record *record_create(void)
{
	void *p = mmap(NULL, sizeof(struct record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void record_destroy(struct record *record)
{
	munmap(record, sizeof(*record));
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* -------------------------------------------------------------------------------------------- inside the worker */

/* The tester and its test processes take turns and never run together: one CPU spares the wake-ups across CPUs. */
static void stay_on_one_cpu(void)
{
	int cpu = sched_getcpu();
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static struct executor *create_subject(const struct run_options *o, struct executor *linux_side)
{
	struct quire_options q = { .anon_orders = o->orders,
				   .shmem_orders = o->orders,
				   .file_orders = o->orders,
				   .memory = 256u << 20,
				   .mmap_base = linux_mmap_base(linux_side),
				   .memlock_max = linux_memlock_max(linux_side) };

	if (o->subject == SUBJECT_LINUX)
		return linux_executor_create("linux again", o->dir);
	if (o->subject == SUBJECT_SABOTEUR)
		return saboteur_create(o->dir);
	return quire_executor_create(&q, o->dir);
}

/* Also what was set up only in part, or not at all. */
static void destroy_pair(struct pair *p)
{
	if (p && p->sub)
		p->sub->ops->destroy(p->sub);
	if (p && p->ref)
		p->ref->ops->destroy(p->ref);
	free(p);
}

static struct pair *create_pair(const struct run_options *o, struct record *record)
{
	struct pair *p = calloc(1, sizeof(*p));

	if (p) {
		p->depth = o->depth;
		p->ref = linux_executor_create("linux", o->dir);
		p->sub = p->ref ? create_subject(o, p->ref) : NULL;
	}
	if (p && p->sub)
		return p;
	destroy_pair(p);
	record->verdict.kind = VERDICT_HARNESS;
	snprintf(record->verdict.text, sizeof(record->verdict.text), "the executors cannot be set up");
	return NULL;
}

static void remember(struct record *record, const struct outcome *o)
{
	unsigned kind = record->ops[record->nr_ops - 1].kind;

	record->briefs[record->nr_ops - 1] = (struct brief){
		.skipped = o->skipped,
		.signo = o->signo,
		.code = o->code,
		.ret = o->ret,
		.fault_addr = o->fault_addr,
	};
	record->kind_done[kind]++;
	if (o->ret < 0 && o->ret > -4096)
		record->kind_failed[kind]++;
	__atomic_fetch_add(&record->ops_done, 1, __ATOMIC_RELAXED);
}

/* One operation: in the record before it is done, so that a crash can be told. */
static bool do_op(struct pair *p, struct record *record, const struct op *op)
{
	bool same;

	record->ops[record->nr_ops++] = *op;
	same = pair_step(p, op, record->nr_ops - 1);
	remember(record, &p->ref_out);
	return same;
}

static bool run_drawn(struct pair *p, const struct run_options *o, uint64_t number, struct record *record)
{
	struct generator g;
	struct op op;

	record->nr_ops = 0;
	if (!pair_begin(p))
		return false;
	generator_start(&g, rng_mix(o->seed ^ rng_mix(number)), o->kinds, p);
	for (unsigned i = 0; i < o->len && i < MAX_OPS && !p->finished; i++) {
		generator_next(&g, &op);
		if (!do_op(p, record, &op))
			return false;
	}
	return pair_end(p);
}

static bool run_given(struct pair *p, const struct op *ops, size_t nr, struct record *record)
{
	record->nr_ops = 0;
	if (!pair_begin(p))
		return false;
	for (size_t i = 0; i < nr && !p->finished; i++)
		if (!do_op(p, record, &ops[i]))
			return false;
	return pair_end(p);
}

static void worker_campaign(const struct run_options *o, const struct campaign *c, struct record *record)
{
	double end = c->seconds > 0 ? now() + c->seconds : 0;
	struct pair *p = create_pair(o, record);

	for (uint64_t n = c->first; p && n < c->last; n++) {
		record->sequence = n;
		if (!run_drawn(p, o, n, record)) {
			record->verdict = p->verdict;
			_exit(0); /* the processes end with us */
		}
		if (record->ops_done >= c->max_ops || (end > 0 && now() > end) ||
		    __atomic_load_n(&record->stop, __ATOMIC_RELAXED))
			break;
	}
	if (p)
		destroy_pair(p);
	_exit(0);
}

static void worker_given(const struct run_options *o, const struct op *ops, size_t nr, struct record *record)
{
	struct pair *p = create_pair(o, record);

	if (p && !run_given(p, ops, nr, record)) {
		record->verdict = p->verdict;
		_exit(0);
	}
	if (p)
		destroy_pair(p);
	_exit(0);
}

/* -------------------------------------------------------------------------------------------------- the watch */

static void set_verdict(struct record *record, enum verdict_kind kind, const char *what, int number)
{
	struct verdict *v = &record->verdict;

	v->kind = kind;
	v->op_index = record->nr_ops ? record->nr_ops - 1 : 0;
	v->op_kind = record->nr_ops ? record->ops[record->nr_ops - 1].kind : OP_KINDS;
	snprintf(v->text, sizeof(v->text), "%s %d", what, number);
}

/* Waits at most a second. True when the worker has ended. */
static bool wait_worker(pid_t pid, int *status)
{
	for (unsigned ms = 1, waited = 0; waited < 1000; waited += ms, ms = ms < 32 ? ms * 2 : 32) {
		const struct timespec pause = { .tv_nsec = (long)ms * 1000000 };

		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static void watch(pid_t pid, const struct run_options *o, void (*progress)(const struct record *),
		  struct record *record)
{
	uint64_t last = UINT64_MAX;
	unsigned idle = 0;
	int status = 0;

	while (!wait_worker(pid, &status)) {
		uint64_t done = __atomic_load_n(&record->ops_done, __ATOMIC_RELAXED);

		if (progress)
			progress(record);
		idle = done == last ? idle + 1 : 0;
		last = done;
		if (idle < o->hang_seconds)
			continue;
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		set_verdict(record, VERDICT_HANG, "seconds without an end:", (int)o->hang_seconds);
		return;
	}
	if (WIFSIGNALED(status))
		set_verdict(record, VERDICT_CRASH, "ended by signal", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		set_verdict(record, VERDICT_CRASH, "exit status", WEXITSTATUS(status));
}

static pid_t start_worker(struct record *record)
{
	pid_t parent = getpid(), pid;

	memset(&record->verdict, 0, sizeof(record->verdict));
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		stay_on_one_cpu();
	}
	return pid;
}

uint64_t run_campaign(const struct run_options *options, const struct campaign *campaign, struct record *record)
{
	pid_t pid = start_worker(record);

	if (pid == 0)
		worker_campaign(options, campaign, record);
	if (pid < 0)
		set_verdict(record, VERDICT_HARNESS, "fork: errno", errno);
	else
		watch(pid, options, campaign->progress, record);
	return record->sequence + 1;
}

void run_ops(const struct run_options *options, const struct op *ops, size_t nr, struct record *record)
{
	pid_t pid = start_worker(record);

	if (pid == 0)
		worker_given(options, ops, nr, record);
	if (pid < 0)
		set_verdict(record, VERDICT_HARNESS, "fork: errno", errno);
	else
		watch(pid, options, NULL, record);
}
