/* SPDX-License-Identifier: MIT */
/* Machines come and go: what a configuration may say, who has which CPU, and when a machine can be destroyed. */
#include "fixture.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

static void test_configurations(void **state)
{
	const struct {
		struct quire_config config;
		int result;
	} cases[] = {
		{ { .memory = 4u << 20, .nr_cpus = 1 }, 0 },
		{ { .memory = (6u << 20) - 1, .nr_cpus = 64, .nr_nodes = 1 }, 0 },
		{ { .memory = 32u << 20, .nr_cpus = 3, .nr_nodes = 8, .anon_orders = QUIRE_ORDERS_ALL }, 0 },
		{ { .memory = 16ull << 30, .nr_cpus = 2 }, 0 }, /* the host gives what is touched */
		{ { .memory = (4u << 20) - 1, .nr_cpus = 1 }, -EINVAL },
		{ { .memory = (512ull << 30) + 1, .nr_cpus = 1 }, -EINVAL },
		{ { .memory = ~0ull, .nr_cpus = 1 }, -EINVAL },
		{ { .memory = 4u << 20, .nr_cpus = 0 }, -EINVAL },
		{ { .memory = 4u << 20, .nr_cpus = 65 }, -EINVAL },
		{ { .memory = 4u << 20, .nr_cpus = 1, .nr_nodes = 9 }, -EINVAL },
		{ { .memory = 4u << 20, .nr_cpus = 1, .anon_orders = 1u << 10 }, -EINVAL },
		{ { .memory = 4u << 20, .nr_cpus = 1, .shmem_orders = 1u << 31 }, -EINVAL },
		{ { .memory = 4u << 20, .nr_cpus = 1, .file_orders = 1u << 10 }, -EINVAL },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct quire *q = NULL;

		assert_int_equal(quire_create(&cases[i].config, &q), cases[i].result);
		if (cases[i].result)
			assert_null(q);
		else
			assert_int_equal(quire_destroy(q), 0);
	}
	assert_int_equal(quire_create(NULL, NULL), -EINVAL);
}

static void test_memory_is_what_was_asked_for(void **state)
{
	const struct quire_config config = { .memory = (17u << 20) + 4096, .nr_cpus = 2 };
	struct quire_stat stat;
	struct fixture f;

	(void)state;
	fixture_start(&f, &config);
	quire_stat(f.cpu, &stat);
	/* Rounded down to 2 MiB, all of it free, the machine's own frames come on top. */
	assert_int_equal(stat.frames_free, (16u << 20) / PAGE_SIZE);
	assert_int_equal(stat.frames_total - stat.frames_meta, (16u << 20) / PAGE_SIZE);
	/* The arena stands at a multiple of 2 MiB, so that the host can back it with huge pages. */
	assert_int_equal((u64)(uintptr_t)f.q->frames & ~PMD_MASK, 0);
	/* Bit 0 of the orders is implied. */
	assert_int_equal(f.q->config.anon_orders & f.q->config.shmem_orders & f.q->config.file_orders, QUIRE_ORDERS_4K);
	fixture_stop(&f);
}

static void test_cpus_have_one_owner(void **state)
{
	const struct quire_config config = { .memory = 4u << 20, .nr_cpus = 2 };
	struct quire_cpu *cpu;
	struct fixture f;

	(void)state;
	fixture_start(&f, &config);
	assert_int_equal(quire_cpu_enter(f.q, 0, &cpu), -EBUSY);
	assert_int_equal(quire_cpu_enter(f.q, 2, &cpu), -EINVAL);
	assert_int_equal(quire_cpu_enter(f.q, ~0u, &cpu), -EINVAL);
	assert_int_equal(quire_cpu_enter(f.q, 1, &cpu), 0);
	assert_ptr_not_equal(cpu, f.cpu);
	quire_cpu_leave(cpu);
	assert_int_equal(quire_cpu_enter(f.q, 1, &cpu), 0);
	quire_cpu_leave(cpu);
	fixture_stop(&f);
}

static void test_destroy_refuses_what_is_in_use(void **state)
{
	const struct quire_config config = { .memory = 4u << 20, .nr_cpus = 2 };
	struct quire_cpu *cpu;
	struct quire_file *file;
	struct quire_mm *mm;
	struct quire *q;

	(void)state;
	assert_int_equal(quire_create(&config, &q), 0);
	assert_int_equal(quire_cpu_enter(q, 1, &cpu), 0);
	assert_int_equal(quire_destroy(q), -EBUSY);
	assert_int_equal(quire_mm_create(cpu, NULL, &mm), 0);
	quire_cpu_leave(cpu);
	assert_int_equal(quire_destroy(q), -EBUSY);
	assert_int_equal(quire_cpu_enter(q, 0, &cpu), 0);
	assert_int_equal(quire_file_create_shmem(cpu, 4096, &file), 0);
	quire_mm_put(cpu, mm);
	quire_cpu_leave(cpu);
	assert_int_equal(quire_destroy(q), -EBUSY);
	assert_int_equal(quire_cpu_enter(q, 0, &cpu), 0);
	quire_file_put(cpu, file);
	quire_cpu_leave(cpu);
	assert_int_equal(quire_destroy(q), 0);
}

/* A thread comes, works on CPUs of two machines, and goes: nothing of it stays behind. */
static void *visit_both(void *arg)
{
	struct quire **q = arg;

	for (unsigned round = 0; round < 10; round++) {
		struct quire_cpu *cpu[2];
		struct quire_mm *mm[2];

		for (unsigned i = 0; i < 2; i++) {
			if (quire_cpu_enter(q[i], 0, &cpu[i]) || quire_mm_create(cpu[i], NULL, &mm[i]))
				return q;
			quire_cpu_run(cpu[i], mm[i]);
		}
		for (unsigned i = 0; i < 2; i++) {
			quire_cpu_run(cpu[i], NULL);
			quire_mm_put(cpu[i], mm[i]);
			quire_cpu_leave(cpu[i]);
		}
	}
	return NULL;
}

static void test_two_machines(void **state)
{
	const struct quire_config config = { .memory = 4u << 20, .nr_cpus = 1 };
	struct quire *q[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(quire_create(&config, &q[i]), 0);
	for (unsigned i = 0; i < 5; i++) {
		void *failed = q;
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, visit_both, q), 0);
		assert_int_equal(pthread_join(thread, &failed), 0);
		assert_null(failed);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(quire_destroy(q[i]), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_configurations),	    cmocka_unit_test(test_memory_is_what_was_asked_for),
		cmocka_unit_test(test_cpus_have_one_owner), cmocka_unit_test(test_destroy_refuses_what_is_in_use),
		cmocka_unit_test(test_two_machines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
