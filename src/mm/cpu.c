/* SPDX-License-Identifier: MIT */
/* Taking a CPU, giving it back, and what it runs. */
#include "mm/instance.h"

int quire_cpu_enter(struct quire *q, unsigned id, struct quire_cpu **out)
{
	struct quire_cpu *cpu;

	if (id >= q->nr_cpus)
		return -EINVAL;
	cpu = q->cpus[id];
	/* Acquire: what the last owner left in the CPU's own data is ours now. */
	if (__atomic_exchange_n(&cpu->owned, 1, __ATOMIC_ACQUIRE))
		return -EBUSY;
	machine_cpu_enter(cpu);
	*out = cpu;
	return 0;
}

void quire_cpu_leave(struct quire_cpu *cpu)
{
	quire_cpu_run(cpu, NULL);
	cpu_drain(cpu);
	machine_cpu_leave(cpu);
	__atomic_store_n(&cpu->owned, 0, __ATOMIC_RELEASE);
}

/* A CPU is a user of what it runs, so that the last quire_mm_put elsewhere does not tear it down under the CPU. */
void quire_cpu_run(struct quire_cpu *cpu, struct quire_mm *mm)
{
	struct quire_mm *old = cpu->mm;

	if (old == mm)
		return;
	if (mm)
		quire_mm_get(mm);
	tlb_switch_mm(cpu, mm);
	if (old)
		quire_mm_put(cpu, old);
}

void quire_cpu_fault(const struct quire_cpu *cpu, struct quire_fault *out)
{
	*out = cpu->fault;
}
