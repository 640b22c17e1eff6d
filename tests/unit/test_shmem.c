/* SPDX-License-Identifier: MIT */
/* Shmem files: holes, folio orders, running out of memory, and a file's life. Contents are test_file.c's. */
#include "cmocka_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mm/file.h"

#define PAGES(n) ((u64)(n) << PAGE_SHIFT)

struct fixture {
	struct quire *q;
	struct quire_cpu *cpu;
	struct quire_file *file;
};

static void start(struct fixture *f, u64 memory, unsigned orders, u64 size)
{
	const struct quire_config config = { .memory = memory, .nr_cpus = 1, .shmem_orders = orders };

	assert_int_equal(quire_create(&config, &f->q), 0);
	assert_int_equal(quire_cpu_enter(f->q, 0, &f->cpu), 0);
	assert_int_equal(quire_file_create_shmem(f->cpu, size, &f->file), 0);
}

static void print_violation(void *arg, const char *what, u64 a, u64 b)
{
	(void)arg;
	printf("%s %llx %llx\n", what, (unsigned long long)a, (unsigned long long)b);
}

static void finish(struct fixture *f)
{
	assert_int_equal(pagecache_validate(&f->file->mapping, print_violation, NULL), 0);
	quire_file_put(f->cpu, f->file);
	quire_drain(f->cpu);
	assert_int_equal(quire_event_sum(f->q, NR_SHMEM), 0);
	assert_int_equal(kmem_cache_in_use(&f->q->cache[CACHE_FOLIO]), 0);
	assert_int_equal(kmem_cache_in_use(&f->q->cache[CACHE_PAGECACHE_NODE]), 0);
	quire_cpu_leave(f->cpu);
	assert_int_equal(quire_destroy(f->q), 0);
}

/* Faults a page in and says what folio it is part of: -1 for an error. */
static int fault_order(struct fixture *f, u64 index, u64 *first)
{
	struct folio *folio;
	int order;

	if (file_fault_folio(f->cpu, f->file, index, &folio))
		return -1;
	order = folio->order;
	*first = folio->index;
	file_unlock_put(f->cpu, folio);
	return order;
}

static void expect_folio(struct fixture *f, u64 index, int order, u64 first)
{
	u64 is = 0;

	assert_int_equal(fault_order(f, index, &is), order);
	assert_int_equal(is, first);
}

/* Reading a hole allocates nothing and gives zeroes; a fault allocates; so does a write, just its page. */
static void test_holes(void **state)
{
	struct fixture f;
	u8 buf[3 * 4096];
	u64 first;

	(void)state;
	start(&f, 16 << 20, QUIRE_ORDERS_4K, PAGES(64));
	memset(buf, 1, sizeof(buf));
	assert_int_equal(quire_file_read(f.cpu, f.file, PAGES(3) + 5, buf, sizeof(buf)), sizeof(buf));
	for (unsigned i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 0);
	assert_false(file_page_resident(f.cpu, f.file, 3));
	assert_int_equal(fault_order(&f, 3, &first), 0);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 1);
	assert_true(file_page_resident(f.cpu, f.file, 3));
	assert_int_equal(quire_file_write(f.cpu, f.file, PAGES(9) + 1, "x", 1), 1);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 2);
	file_readahead(f.cpu, f.file, 0, 63);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 2); /* nothing to read in: holes stay holes */
	assert_int_equal(fault_order(&f, 64, &first), -1);
	finish(&f);
}

/* As large as the policy says and the file's end and the neighbours let it be. */
static void test_orders(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, 64 << 20, QUIRE_ORDERS_ALL, PAGES(1024 + 40) - 100);
	expect_folio(&f, 700, 9, 512);
	expect_folio(&f, 1030, 5, 1024); /* 1024..1055 lie inside, order 6 would not */
	expect_folio(&f, 1057, 3, 1056);
	assert_int_equal(quire_file_write(f.cpu, f.file, PAGES(258), "x", 1), 1);
	/* A write makes a folio by the same policy: nothing was in the first 2 MiB. */
	expect_folio(&f, 258, 9, 0);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 1024 + 32 + 8);
	finish(&f);

	start(&f, 64 << 20, QUIRE_ORDERS_64K, PAGES(40));
	expect_folio(&f, 20, 4, 16);
	expect_folio(&f, 33, 0, 33); /* 32..47 goes beyond the end */
	finish(&f);

	start(&f, 64 << 20, QUIRE_ORDERS_ALL, PAGES(3));
	expect_folio(&f, 2, 0, 2);
	assert_int_equal(quire_file_truncate(f.cpu, f.file, PAGES(1024)), 0);
	expect_folio(&f, 0, 1, 0); /* page 2 is taken */
	expect_folio(&f, 3, 0, 3);
	expect_folio(&f, 4, 2, 4);
	expect_folio(&f, 700, 9, 512);
	finish(&f);
}

/* A machine that has no large block left falls back to smaller ones, and then says so and is as before. */
static void test_out_of_memory(void **state)
{
	struct fixture f;
	u64 index = 0, first, pages;

	(void)state;
	start(&f, 4 << 20, QUIRE_ORDERS_ALL, PAGES(4096));
	while (fault_order(&f, index, &first) >= 0)
		index++;
	pages = quire_event_sum(f.q, NR_SHMEM);
	assert_true(pages > 512 && pages < 1024);
	assert_int_equal(f.file->mapping.nr_pages, pages);
	assert_int_equal(quire_file_write(f.cpu, f.file, PAGES(4000), "x", 1), -ENOMEM);
	assert_int_equal(quire_file_truncate(f.cpu, f.file, 0), 0);
	assert_int_equal(quire_file_truncate(f.cpu, f.file, PAGES(16)), 0);
	expect_folio(&f, 0, 4, 0);
	finish(&f);
}

/* fallocate: all or nothing, what was there stays, and the size is only then raised. */
static void test_allocate_all_or_nothing(void **state)
{
	struct fixture f;
	char byte = 0;

	(void)state;
	start(&f, 4 << 20, QUIRE_ORDERS_ALL, PAGES(8));
	assert_int_equal(quire_file_write(f.cpu, f.file, PAGES(2), "y", 1), 1);
	assert_int_equal(quire_file_truncate(f.cpu, f.file, PAGES(3)), 0);
	assert_int_equal(quire_file_fallocate(f.cpu, f.file, 0, 0, PAGES(1 << 20)), -ENOSPC);
	assert_int_equal(quire_file_fallocate(f.cpu, f.file, 0, 0, PAGES(1024)), -ENOMEM);
	assert_int_equal(quire_file_size(f.file), PAGES(3));
	assert_true(filemap_next_cached(f.cpu, &f.file->mapping, 3) == ~0ull);
	assert_int_equal(quire_file_read(f.cpu, f.file, PAGES(2), &byte, 1), 1);
	assert_int_equal(byte, 'y');
	assert_int_equal(f.file->mapping.nr_pages, 3); /* the write made 8 pages, the truncate left 3 */
	finish(&f);
}

/* What is reserved takes memory and shows nowhere else until it is used; beyond the end of the file too. */
static void test_reserved_pages(void **state)
{
	struct fixture f;
	char byte = 1;
	u64 first;

	(void)state;
	start(&f, 4 << 20, QUIRE_ORDERS_4K, PAGES(3));
	assert_int_equal(quire_file_fallocate(f.cpu, f.file, FALLOC_FL_KEEP_SIZE, PAGES(1), PAGES(15)), 0);
	assert_int_equal(quire_file_size(f.file), PAGES(3));
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 15);
	assert_int_equal(quire_file_read(f.cpu, f.file, PAGES(1), &byte, 1), 1);
	assert_int_equal(byte, 0);
	assert_false(file_page_resident(f.cpu, f.file, 1));
	assert_int_equal(fault_order(&f, 3, &first), -1); /* beyond the end all the same */
	assert_int_equal(fault_order(&f, 1, &first), 0);
	assert_true(file_page_resident(f.cpu, f.file, 1));
	/* Growing uncovers what is reserved there, and a second fallocate counts as use. */
	assert_int_equal(quire_file_fallocate(f.cpu, f.file, 0, PAGES(3), PAGES(2) - 5), 0);
	assert_int_equal(quire_file_size(f.file), PAGES(5) - 5);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 15);
	assert_true(file_page_resident(f.cpu, f.file, 3));
	assert_false(file_page_resident(f.cpu, f.file, 5));
	/* Truncating to the size that the file has gives up the rest. */
	assert_int_equal(quire_file_truncate(f.cpu, f.file, PAGES(5) - 5), 0);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 4);
	finish(&f);
}

static void test_names_and_life(void **state)
{
	char long_name[FILE_NAME_MAX + 1];
	struct quire_file *other;
	struct fixture f;
	char byte = 0;

	(void)state;
	start(&f, 4 << 20, 0, 0);
	assert_string_equal(f.file->name, "/memfd:quire");
	memset(long_name, 'n', FILE_NAME_MAX);
	long_name[FILE_NAME_MAX] = '\0';
	assert_int_equal(quire_file_set_name(f.file, long_name), -EINVAL);
	assert_string_equal(f.file->name, "/memfd:quire");
	long_name[FILE_NAME_MAX - 1] = '\0';
	assert_int_equal(quire_file_set_name(f.file, long_name), 0);
	assert_string_equal(f.file->name, long_name);

	assert_int_equal(quire_file_create_shmem(f.cpu, 1ull << 63, &other), -EINVAL);
	assert_int_equal(quire_file_create_shmem(f.cpu, INT64_MAX, &other), 0);
	assert_int_not_equal(quire_file_id(other), quire_file_id(f.file));
	/* The contents live as long as anybody holds the file. */
	assert_int_equal(quire_file_write(f.cpu, other, INT64_MAX - 1, "z", 1), 1);
	quire_file_get(other);
	quire_file_put(f.cpu, other);
	assert_int_equal(quire_file_read(f.cpu, other, INT64_MAX - 1, &byte, 1), 1);
	assert_int_equal(byte, 'z');
	assert_int_equal(quire_file_fsync(f.cpu, other), 0);
	quire_file_put(f.cpu, other);
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holes),	       cmocka_unit_test(test_orders),
		cmocka_unit_test(test_out_of_memory),  cmocka_unit_test(test_allocate_all_or_nothing),
		cmocka_unit_test(test_reserved_pages), cmocka_unit_test(test_names_and_life),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
