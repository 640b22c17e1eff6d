/* SPDX-License-Identifier: MIT */
/* CPUs: taking and leaving them, and that an address space outlives the CPUs that run it. */
#include "cmocka_setup.h"

#include <errno.h>
#include <sys/mman.h>

#include "quire/quire.h"

static void a_cpu_has_one_owner(void **state)
{
	struct quire_config config = { .memory = 16 << 20, .nr_cpus = 2 };
	struct quire_cpu *cpu, *again;
	struct quire *q;

	(void)state;
	assert_int_equal(quire_create(&config, &q), 0);
	assert_int_equal(quire_cpu_enter(q, 2, &cpu), -EINVAL);
	assert_int_equal(quire_cpu_enter(q, 1, &cpu), 0);
	assert_int_equal(quire_cpu_enter(q, 1, &again), -EBUSY);
	assert_int_equal(quire_destroy(q), -EBUSY);
	quire_cpu_leave(cpu);
	assert_int_equal(quire_destroy(q), 0);
}

/* The owner puts its reference while the CPU still runs the address space: it stays whole until the CPU lets go. */
static void a_running_address_space_is_not_torn_down(void **state)
{
	struct quire_config config = { .memory = 16 << 20, .nr_cpus = 1 };
	uint64_t word = 42, found = 0;
	struct quire_stat before, after;
	struct quire_cpu *cpu;
	struct quire_mm *mm;
	struct quire *q;
	int64_t at;

	(void)state;
	assert_int_equal(quire_create(&config, &q), 0);
	assert_int_equal(quire_cpu_enter(q, 0, &cpu), 0);
	quire_drain(cpu);
	quire_stat(cpu, &before);
	assert_int_equal(quire_mm_create(cpu, NULL, &mm), 0);
	quire_cpu_run(cpu, mm);
	at = quire_mmap(cpu, 0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0);
	assert_true(at > 0);
	quire_mm_put(cpu, mm);
	assert_int_equal(quire_store(cpu, (uint64_t)at, &word, 8), 0);
	assert_int_equal(quire_load(cpu, (uint64_t)at, &found, 8), 0);
	assert_int_equal(found, 42);
	quire_cpu_run(cpu, NULL);
	quire_drain(cpu);
	quire_stat(cpu, &after);
	assert_int_equal(after.frames_table, 0);
	assert_int_equal(after.frames_free + after.frames_slab, before.frames_free + before.frames_slab);
	quire_cpu_leave(cpu);
	assert_int_equal(quire_destroy(q), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cpu_has_one_owner),
		cmocka_unit_test(a_running_address_space_is_not_torn_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
