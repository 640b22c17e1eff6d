/* SPDX-License-Identifier: MIT */
/* Threads of the host as CPUs of a machine: who is one, and what a thread needs before it can be. */
#define _GNU_SOURCE
#define _LGPL_SOURCE
#define rcu_head urcu_rcu_head
#include <urcu/urcu-memb.h>
#undef rcu_head
#undef rcu_dereference
#undef rcu_assign_pointer

#include "host.h"

/*
 * liburcu keeps its readers per thread. A thread is registered when it first acts as a CPU, and stays so until it ends,
 * which a key's destructor tells us. A program that uses the same flavour may have registered its threads itself: those
 * remain its own business.
 */
static pthread_key_t unregister_key;
static pthread_once_t unregister_key_once = PTHREAD_ONCE_INIT;

static _Thread_local struct quire_cpu *current_cpu;

static void unregister_thread(void *unused)
{
	(void)unused;
	urcu_memb_unregister_thread();
}

static void make_unregister_key(void)
{
	int error = pthread_key_create(&unregister_key, unregister_thread);

	BUG_ON2(error, error, 0);
}

static void register_thread(void)
{
	pthread_once(&unregister_key_once, make_unregister_key);
	urcu_memb_register_thread();
	pthread_setspecific(unregister_key, &unregister_key);
}

struct quire_cpu *host_current_cpu(void)
{
	return current_cpu;
}

void *host_thread(void)
{
	return &current_cpu;
}

void machine_cpu_enter(struct quire_cpu *cpu)
{
	if (!URCU_TLS(urcu_memb_reader).registered)
		register_thread();
	cpu->machine.thread = host_thread();
	current_cpu = cpu;
}

void machine_cpu_leave(struct quire_cpu *cpu)
{
	VM_BUG_ON2(cpu->machine.rcu_depth, cpu->id, cpu->machine.rcu_depth);
	cpu->machine.thread = NULL;
	if (current_cpu == cpu)
		current_cpu = NULL;
}
