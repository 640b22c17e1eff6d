/* SPDX-License-Identifier: MIT */
/*
 * RCU on liburcu's memb flavour: a reader pays no barrier, whoever waits for readers pays with membarrier(2).
 *
 * Callbacks. Each CPU queues its own on a list of its own, so that queueing shares no line with other CPUs. One worker thread
 * per machine is its service CPU: it takes all lists, waits for one grace period, and runs the callbacks as that CPU, so they
 * may free into per-CPU caches. (liburcu's own callback thread cannot be a CPU of ours: it has no end of a batch at which
 * we could drain, and one barrier for the whole process.)
 *
 *   IDLE ──call_rcu──> AWAKE ──RCU_DELAY, or HURRY──> a batch ──nothing more queued──> drain the service CPU, IDLE
 *
 * The delay makes few grace periods of many callbacks. Somebody who waits (rcu_barrier), and many queued callbacks, cut it
 * short. The service CPU allocates nothing, so what it got back goes to the shared pools before it idles and before
 * a barrier returns: after that the worker touches nothing of the machine but the lists' heads.
 *
 * The thread sanitizer does not see what membarrier orders. Here alone it is told: the end of a read section releases its
 * CPU's token, the end of a grace period acquires all of them.
 */
#define _GNU_SOURCE
#include "sanitizer.h"

/* liburcu's inline read sections, each less than ten lines. Not where the thread sanitizer would look into them. */
#ifndef THREAD_SANITIZER
#define _LGPL_SOURCE
#endif
#define rcu_head urcu_rcu_head
#include <urcu/urcu-memb.h>
#undef rcu_head
#undef rcu_dereference
#undef rcu_assign_pointer

#include "host.h"

#include <signal.h>

#define RCU_DELAY_NS 1000000u /* from the first callback to its batch */
#define RCU_HURRY_AFTER 512u  /* callbacks of one CPU that do not wait for the delay */

/* machine->rcu_state */
#define RCU_IDLE 0u  /* the worker sleeps, or looks at all lists once more before it does */
#define RCU_AWAKE 1u /* it will look at the lists */
#define RCU_HURRY 2u /* and not wait first */

#ifdef THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#define order_release(token) __tsan_release(token)
#define order_acquire(token) __tsan_acquire(token)
#else
#define order_release(token) ((void)(token))
#define order_acquire(token) ((void)(token))
#endif

/* ---------------------------------------------------------------------------------------- readers */

void rcu_read_lock(struct quire_cpu *cpu)
{
	/* A program may hand a CPU to another thread than the one that entered it. */
	if (unlikely(cpu->machine.thread != host_thread()))
		machine_cpu_enter(cpu);
	cpu->machine.rcu_depth++;
	urcu_memb_read_lock();
}

void rcu_read_unlock(struct quire_cpu *cpu)
{
	VM_BUG_ON(cpu->machine.rcu_depth == 0);
	cpu->machine.rcu_depth--;
	order_release(&cpu->machine.rcu_depth);
	urcu_memb_read_unlock();
}

/* Every read section of @q that has begun is over. */
static void wait_for_readers(struct quire *q)
{
	urcu_memb_synchronize_rcu();
	for (u32 id = 0; id <= q->nr_cpus; id++)
		order_acquire(&q->cpus[id]->machine.rcu_depth);
}

void synchronize_rcu(struct quire_cpu *cpu)
{
	BUG_ON2(cpu->machine.rcu_depth, cpu->id, cpu->machine.rcu_depth);
	wait_for_readers(cpu->q);
}

/* ---------------------------------------------------------------------------------------- queueing */

/* Makes the worker's state at least @state. */
static void worker_wake(struct machine *machine, u32 state)
{
	u32 old = __atomic_load_n(&machine->rcu_state, __ATOMIC_SEQ_CST);

	while (old < state) {
		if (!__atomic_compare_exchange_n(&machine->rcu_state, &old, state, true, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			continue;
		unpark(&machine->rcu_state, 1);
		break;
	}
}

/*
 * Sequentially consistent, and so is the load of the state after it: either the worker that is about to sleep finds the list not
 * empty, or we find it IDLE.
 */
void call_rcu(struct quire_cpu *cpu, struct rcu_head *head, void (*func)(struct quire_cpu *, struct rcu_head *))
{
	struct machine_cpu *own = &cpu->machine;
	struct rcu_head *first = READ_ONCE(own->rcu_queue);

	head->func = func;
	do {
		head->next = first;
	} while (!__atomic_compare_exchange_n(&own->rcu_queue, &first, head, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	own->rcu_pending++;
	worker_wake(cpu->q->machine, own->rcu_pending % RCU_HURRY_AFTER ? RCU_AWAKE : RCU_HURRY);
}

static bool queues_are_empty(const struct quire *q)
{
	for (u32 id = 0; id <= q->nr_cpus; id++)
		if (__atomic_load_n(&q->cpus[id]->machine.rcu_queue, __ATOMIC_SEQ_CST))
			return false;
	return true;
}

/*
 * Has the worker run all that was queued, and gone to sleep? In this order: what was queued before and is gone from the lists
 * has been taken, by a worker that was not IDLE then; so if it is now, it has done it.
 */
static bool nothing_is_pending(const struct machine *machine)
{
	return queues_are_empty(machine->q) && __atomic_load_n(&machine->rcu_state, __ATOMIC_SEQ_CST) == RCU_IDLE;
}

/* The worker counts a barrier as done if it saw it before it took the lists: then it took all that was queued before. */
void rcu_barrier(struct quire_cpu *cpu)
{
	struct machine *machine = cpu->q->machine;
	u32 ticket, done;

	BUG_ON2(cpu->machine.rcu_depth, cpu->id, cpu->machine.rcu_depth);
	if (nothing_is_pending(machine))
		return;
	ticket = __atomic_add_fetch(&machine->barriers_wanted, 1, __ATOMIC_SEQ_CST);
	worker_wake(machine, RCU_HURRY);
	while ((s32)((done = smp_load_acquire(&machine->barriers_done)) - ticket) < 0)
		park(&machine->barriers_done, done);
}

/* ---------------------------------------------------------------------------------------- the worker */

static struct quire_cpu *service_cpu(const struct machine *machine)
{
	return machine->q->cpus[machine->q->nr_cpus];
}

/* Is there a callback, a barrier or a request to stop? Ordered after the state became IDLE: see call_rcu. */
static bool work_to_do(const struct machine *machine)
{
	return __atomic_load_n(&machine->barriers_wanted, __ATOMIC_SEQ_CST) != machine->barriers_done ||
	       __atomic_load_n(&machine->rcu_stop, __ATOMIC_SEQ_CST) || !queues_are_empty(machine->q);
}

/* Takes every CPU's list into machine->batch. False: all were empty. */
static bool take_batch(struct machine *machine)
{
	const struct quire *q = machine->q;
	bool any = false;

	for (u32 id = 0; id <= q->nr_cpus; id++) {
		struct rcu_head **queue = &q->cpus[id]->machine.rcu_queue;

		machine->batch[id] = READ_ONCE(*queue) ? __atomic_exchange_n(queue, NULL, __ATOMIC_ACQUIRE) : NULL;
		any |= machine->batch[id] != NULL;
	}
	return any;
}

static void run_callbacks(struct quire_cpu *service, struct rcu_head *head)
{
	while (head) {
		struct rcu_head *next = head->next; /* it frees itself */

		head->func(service, head);
		head = next;
	}
}

static void run_batch(struct machine *machine)
{
	wait_for_readers(machine->q);
	for (u32 id = 0; id <= machine->q->nr_cpus; id++)
		run_callbacks(service_cpu(machine), machine->batch[id]);
	machine->service_dirty = true;
}

static void drain_service_cpu(struct machine *machine)
{
	if (machine->service_dirty)
		cpu_drain(service_cpu(machine));
	machine->service_dirty = false;
}

/* All that was queued so far. */
static void worker_round(struct machine *machine)
{
	u32 wanted = __atomic_load_n(&machine->barriers_wanted, __ATOMIC_SEQ_CST);

	if (take_batch(machine))
		run_batch(machine);
	if (wanted == machine->barriers_done)
		return;
	drain_service_cpu(machine);
	smp_store_release(&machine->barriers_done, wanted);
	unpark(&machine->barriers_done, -1);
}

/* Lets callbacks gather, unless somebody is in a hurry. */
static void worker_delay(struct machine *machine)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += RCU_DELAY_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	futex_wait(&machine->rcu_state, RCU_AWAKE, FUTEX_BITSET_MATCH_ANY, &until);
}

/* Sleeps while there is nothing to do. */
static void worker_idle(struct machine *machine)
{
	__atomic_store_n(&machine->rcu_state, RCU_IDLE, __ATOMIC_SEQ_CST);
	if (work_to_do(machine)) {
		__atomic_store_n(&machine->rcu_state, RCU_AWAKE, __ATOMIC_SEQ_CST);
		return;
	}
	park(&machine->rcu_state, RCU_IDLE);
}

static void *worker(void *arg)
{
	struct machine *machine = arg;

	machine_cpu_enter(service_cpu(machine));
	while (!READ_ONCE(machine->rcu_stop)) {
		if (__atomic_load_n(&machine->rcu_state, __ATOMIC_SEQ_CST) == RCU_AWAKE)
			worker_delay(machine);
		/* A hurry until here is served by this round, a later one by the next. */
		__atomic_store_n(&machine->rcu_state, RCU_AWAKE, __ATOMIC_SEQ_CST);
		worker_round(machine);
		if (work_to_do(machine))
			continue;
		drain_service_cpu(machine);
		worker_idle(machine);
	}
	machine_cpu_leave(service_cpu(machine));
	return NULL;
}

/* ---------------------------------------------------------------------------------------- life */

/* No signal of the program is delivered to a thread that the program does not know of. */
int rcu_start(struct machine *machine)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&machine->rcu_worker, NULL, worker, machine);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!error)
		pthread_setname_np(machine->rcu_worker, "quire-rcu");
	return -error;
}

/* What is still queued only gives memory back to a machine that ends: it need not run. */
void rcu_stop(struct machine *machine)
{
	__atomic_store_n(&machine->rcu_stop, 1, __ATOMIC_SEQ_CST);
	worker_wake(machine, RCU_HURRY);
	pthread_join(machine->rcu_worker, NULL);
}
