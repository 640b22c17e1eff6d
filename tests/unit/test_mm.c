/* SPDX-License-Identifier: MIT */
/* Address spaces: life, layout, limits and figures. */
#include "cmocka_setup.h"

#include <stdio.h>
#include <stdlib.h>

#include "mm/instance.h"
#include "mm/linux.h"

#define BASE 0x40000000ull
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

struct machine_under_test {
	struct quire *q;
	struct quire_cpu *cpu;
};

static void print_line(void *arg, const char *line)
{
	(void)arg;
	printf("%s\n", line);
}

static int setup(void **state)
{
	const struct quire_config config = { .memory = 64ull << 20, .nr_cpus = 2 };
	struct machine_under_test *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	assert_int_equal(quire_create(&config, &t->q), 0);
	assert_int_equal(quire_cpu_enter(t->q, 0, &t->cpu), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct machine_under_test *t = *state;

	quire_cpu_run(t->cpu, NULL); /* the last user of what the test has made */
	assert_int_equal(kmem_cache_in_use(&t->q->cache[CACHE_MM]), 0);
	assert_int_equal(quire_validate(t->cpu, print_line, NULL), 0);
	quire_cpu_leave(t->cpu);
	assert_int_equal(quire_destroy(t->q), 0);
	free(t);
	return 0;
}

/* As Linux without address randomisation: the well-known 0x7ffff7fff000, and nothing below 64 KiB. */
static void test_default_layout(void **state)
{
	struct machine_under_test *t = *state;
	struct quire_mm *mm;

	assert_int_equal(quire_mm_create(t->cpu, NULL, &mm), 0);
	assert_int_equal(mm->mmap_base, 0x7ffff7fff000);
	assert_int_equal(mm->mmap_min_addr, 0x10000);
	quire_cpu_run(t->cpu, mm);
	assert_int_equal(quire_mmap(t->cpu, 0, PAGE_SIZE, RW, ANON, NULL, 0), 0x7ffff7ffe000);
	assert_int_equal(quire_mmap(t->cpu, 0xf000, PAGE_SIZE, RW, ANON | MAP_FIXED, NULL, 0), -EPERM);
	assert_int_equal(quire_brk(t->cpu, BASE), 0); /* no heap was placed */
	quire_mm_put(t->cpu, mm);
}

static void test_given_layout(void **state)
{
	struct machine_under_test *t = *state;
	const struct quire_layout layout = { .mmap_base = 0x700000000123,
					     .mmap_min_addr = 0x20001,
					     .start_brk = BASE + 1 };
	struct quire_mm *mm;

	assert_int_equal(quire_mm_create(t->cpu, &layout, &mm), 0);
	assert_int_equal(mm->mmap_base, 0x700000000000);
	assert_int_equal(mm->mmap_min_addr, 0x21000);
	quire_cpu_run(t->cpu, mm);
	assert_int_equal(quire_brk(t->cpu, 0), BASE + PAGE_SIZE);
	assert_int_equal(quire_brk(t->cpu, BASE + 3 * PAGE_SIZE), BASE + 3 * PAGE_SIZE);
	assert_int_equal(quire_mm_set_brk(t->cpu, mm, BASE), -EINVAL); /* there is a heap already */
	quire_mm_put(t->cpu, mm);
}

static void test_impossible_layouts(void **state)
{
	struct machine_under_test *t = *state;
	const struct quire_layout layouts[] = {
		{ .mmap_base = TASK_SIZE + PAGE_SIZE }, { .mmap_base = 0x8000 },    { .mmap_min_addr = ~0ull },
		{ .mmap_min_addr = TASK_SIZE },		{ .start_brk = TASK_SIZE }, { .start_brk = ~0ull },
	};
	struct quire_mm *mm = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(layouts); i++)
		assert_int_equal(quire_mm_create(t->cpu, &layouts[i], &mm), -EINVAL);
	assert_null(mm);
}

static void test_set_brk(void **state)
{
	struct machine_under_test *t = *state;
	struct quire_mm *mm;

	assert_int_equal(quire_mm_create(t->cpu, NULL, &mm), 0);
	assert_int_equal(quire_mm_set_brk(t->cpu, mm, TASK_SIZE), -EINVAL);
	assert_int_equal(quire_mm_set_brk(t->cpu, mm, 0), -EINVAL);
	assert_int_equal(quire_mm_set_brk(t->cpu, mm, BASE - 1), 0);
	assert_int_equal(mm->brk, BASE);
	quire_mm_put(t->cpu, mm);
}

static void test_limits(void **state)
{
	struct machine_under_test *t = *state;
	struct quire_mm *mm;

	assert_int_equal(quire_mm_create(t->cpu, NULL, &mm), 0);
	quire_cpu_run(t->cpu, mm);
	assert_int_equal(quire_mm_set_limit(mm, 0, 1), -EINVAL);
	assert_int_equal(quire_mm_set_limit(mm, RLIMIT_STACK, 1 << 20), 0);
	assert_int_equal(mm->limits.stack, 1 << 20);
	assert_int_equal(quire_mm_set_limit(mm, RLIMIT_AS, 4 * PAGE_SIZE), 0);
	assert_int_equal(quire_mmap(t->cpu, BASE, 5 * PAGE_SIZE, RW, ANON | MAP_FIXED, NULL, 0), -ENOMEM);
	assert_int_equal(quire_mmap(t->cpu, BASE, 4 * PAGE_SIZE, RW, ANON | MAP_FIXED, NULL, 0), BASE);
	assert_int_equal(quire_mm_set_limit(mm, RLIMIT_AS, UINT64_MAX), 0);
	assert_int_equal(quire_mm_set_limit(mm, RLIMIT_DATA, 4 * PAGE_SIZE), 0);
	assert_int_equal(quire_mmap(t->cpu, BASE + PAGE_SIZE * 8, PAGE_SIZE, RW, ANON | MAP_FIXED, NULL, 0), -ENOMEM);
	assert_int_equal(quire_mm_set_limit(mm, RLIMIT_MEMLOCK, PAGE_SIZE), 0);
	assert_int_equal(quire_mlock(t->cpu, BASE, 2 * PAGE_SIZE), -ENOMEM);
	quire_mm_put(t->cpu, mm);
}

static void test_figures(void **state)
{
	struct machine_under_test *t = *state;
	struct quire_mm_stat stat;
	struct quire_mm *mm;
	u64 value = 0;

	assert_int_equal(quire_mm_create(t->cpu, NULL, &mm), 0);
	quire_cpu_run(t->cpu, mm);
	quire_mm_stat(t->cpu, mm, &stat);
	assert_int_equal(stat.map_count, 0);
	assert_int_equal(stat.pgtable_bytes, PAGE_SIZE);
	assert_int_equal(quire_mmap(t->cpu, BASE, 8 * PAGE_SIZE, RW, ANON | MAP_FIXED, NULL, 0), BASE);
	assert_int_equal(quire_mmap(t->cpu, BASE * 2, 2 * PAGE_SIZE, PROT_READ | PROT_EXEC, ANON | MAP_FIXED, NULL, 0),
			 BASE * 2);
	assert_int_equal(quire_store(t->cpu, BASE, &value, sizeof(value)), 0);
	assert_int_equal(quire_mlock(t->cpu, BASE * 2, PAGE_SIZE), 0);
	quire_mm_stat(t->cpu, mm, &stat);
	assert_int_equal(stat.total_vm, 10);
	assert_int_equal(stat.data_vm, 8);
	assert_int_equal(stat.exec_vm, 2);
	assert_int_equal(stat.locked_vm, 1);
	assert_int_equal(stat.rss_anon, 1); /* locking what cannot be written maps the zero page */
	assert_int_equal(stat.map_count, 3);
	assert_int_equal(stat.pgtable_bytes, 6 * PAGE_SIZE); /* root, PUD table, two PMD tables, two PTE tables */
	quire_mm_put(t->cpu, mm);
}

/* The last user tears it down, and a fork does the same for its own. */
static void test_users(void **state)
{
	struct machine_under_test *t = *state;
	struct quire_mm *mm, *child;
	u64 value = 5;

	assert_int_equal(quire_mm_create(t->cpu, NULL, &mm), 0);
	quire_mm_get(mm);
	quire_cpu_run(t->cpu, mm);
	assert_int_equal(quire_mmap(t->cpu, BASE, PAGE_SIZE, RW, ANON | MAP_FIXED, NULL, 0), BASE);
	quire_mm_put(t->cpu, mm);
	assert_int_equal(quire_store(t->cpu, BASE, &value, sizeof(value)), 0);
	assert_int_equal(quire_fork(t->cpu, &child), 0);
	assert_int_not_equal(child->tlb.id, mm->tlb.id);
	quire_mm_put(t->cpu, mm); /* the CPU that runs it is a user */
	assert_int_equal(quire_load(t->cpu, BASE, &value, sizeof(value)), 0);
	quire_cpu_run(t->cpu, child);
	assert_int_equal(kmem_cache_in_use(&t->q->cache[CACHE_MM]), 1);
	value = 0;
	assert_int_equal(quire_load(t->cpu, BASE, &value, sizeof(value)), 0);
	assert_int_equal(value, 5);
	quire_mm_put(t->cpu, child);
}

/* Without memory an address space cannot be made, and nothing is left of the attempt. */
static void test_no_memory(void **state)
{
	struct machine_under_test *t = *state;
	u64 pfn, *kept = NULL;
	struct quire_mm *made[64], *mm;
	unsigned nr = 0;

	while ((pfn = frame_alloc(t->cpu, 0, 0)) != 0) {
		u64 *frame = (u64 *)(void *)pfn_to_virt(t->q, pfn);

		*frame = (u64)(uintptr_t)kept;
		kept = frame;
	}
	/* Each needs a frame for its root. */
	while (nr < ARRAY_SIZE(made) && quire_mm_create(t->cpu, NULL, &made[nr]) == 0)
		nr++;
	assert_true(nr < ARRAY_SIZE(made));
	assert_int_equal(quire_mm_create(t->cpu, NULL, &mm), -ENOMEM);
	while (kept) {
		u64 *next = (u64 *)(uintptr_t)*kept;

		frame_free(t->cpu, virt_to_pfn(t->q, kept), 0);
		kept = next;
	}
	assert_int_equal(quire_mm_create(t->cpu, NULL, &mm), 0);
	quire_mm_put(t->cpu, mm);
	while (nr > 0)
		quire_mm_put(t->cpu, made[--nr]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_default_layout), TEST(test_given_layout), TEST(test_impossible_layouts),
		TEST(test_set_brk),	   TEST(test_limits),	    TEST(test_figures),
		TEST(test_users),	   TEST(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
