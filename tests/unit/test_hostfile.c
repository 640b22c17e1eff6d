/* SPDX-License-Identifier: MIT */
/* Host files: reading in, writing back, errors, and living with little memory. Contents at random are test_file.c's. */
#define _GNU_SOURCE /* memfd_create, F_ADD_SEALS */
#include "cmocka_setup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mm/file.h"

#define PAGES(n) ((u64)(n) << PAGE_SHIFT)

struct fixture {
	struct quire *q;
	struct quire_cpu *cpu;
	int fd;
	struct quire_file *file;
};

static u8 expected_byte(u64 pos)
{
	return (u8)(pos * 2654435761u >> 16);
}

static int temporary_file(u64 size)
{
	char name[] = "/tmp/quire-test-XXXXXX";
	int fd = mkstemp(name);
	u8 page[4096];

	assert_true(fd >= 0);
	assert_int_equal(unlink(name), 0);
	for (u64 at = 0; at < size; at += sizeof(page)) {
		u64 len = size - at < sizeof(page) ? size - at : sizeof(page);

		for (u64 i = 0; i < len; i++)
			page[i] = expected_byte(at + i);
		assert_int_equal(pwrite(fd, page, len, (off_t)at), len);
	}
	return fd;
}

static void start_machine(struct fixture *f, u64 memory, unsigned orders)
{
	const struct quire_config config = { .memory = memory, .nr_cpus = 1, .file_orders = orders };

	assert_int_equal(quire_create(&config, &f->q), 0);
	assert_int_equal(quire_cpu_enter(f->q, 0, &f->cpu), 0);
}

static void start(struct fixture *f, u64 memory, unsigned orders, u64 size)
{
	start_machine(f, memory, orders);
	f->fd = temporary_file(size);
	assert_int_equal(quire_file_open_host(f->cpu, f->fd, true, &f->file), 0);
}

static void stop_machine(struct fixture *f)
{
	quire_drain(f->cpu);
	assert_int_equal(quire_event_sum(f->q, NR_FILE_PAGES), 0);
	assert_int_equal(quire_event_sum(f->q, NR_FILE_DIRTY), 0);
	assert_int_equal(kmem_cache_in_use(&f->q->cache[CACHE_FOLIO]), 0);
	assert_int_equal(kmem_cache_in_use(&f->q->cache[CACHE_PAGECACHE_NODE]), 0);
	quire_cpu_leave(f->cpu);
	assert_int_equal(quire_destroy(f->q), 0);
}

static void finish(struct fixture *f)
{
	quire_file_put(f->cpu, f->file);
	close(f->fd);
	stop_machine(f);
}

static u64 majfaults(struct fixture *f)
{
	return quire_event_sum(f->q, PGMAJFAULT);
}

/* Faults a page in, checks its bytes below @size, and zeroes above. Returns the folio's order. */
static unsigned check_page(struct fixture *f, u64 index, u64 size)
{
	struct folio *folio;
	unsigned order;
	const u8 *page;

	assert_int_equal(file_fault_folio(f->cpu, f->file, index, &folio), 0);
	page = folio_address(f->q, folio) + PAGES(index - folio->index);
	for (u64 i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(page[i], PAGES(index) + i < size ? expected_byte(PAGES(index) + i) : 0);
	order = folio->order;
	file_unlock_put(f->cpu, folio);
	return order;
}

/* ---------------------------------------------------------------------------------------- reading */

static void test_contents_and_tail(void **state)
{
	struct folio *folio;
	struct fixture f;

	(void)state;
	start(&f, 16 << 20, 0, PAGES(20) + 904);
	for (u64 index = 0; index <= 20; index++)
		assert_int_equal(check_page(&f, index, PAGES(20) + 904), 0);
	assert_int_equal(file_fault_folio(f.cpu, f.file, 21, &folio), -EFAULT);
	assert_int_equal(f.file->mapping.nr_pages, 21);
	finish(&f);
}

/* In order: windows that grow, so misses get rare. Out of order: the aligned 16 pages around. */
static void test_read_ahead(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, 16 << 20, 0, PAGES(512));
	for (u64 index = 0; index < 128; index++)
		check_page(&f, index, PAGES(512));
	assert_int_equal(majfaults(&f), 5); /* 16, and then 32 at a time */
	check_page(&f, 300, PAGES(512));
	assert_int_equal(majfaults(&f), 6);
	for (u64 index = 288; index < 304; index++)
		assert_true(file_page_resident(f.cpu, f.file, index));
	assert_false(file_page_resident(f.cpu, f.file, 287));
	assert_false(file_page_resident(f.cpu, f.file, 304));
	/* What is asked for is read in, around what is there already. */
	file_readahead(f.cpu, f.file, 280, 330);
	for (u64 index = 280; index <= 330; index++)
		assert_true(file_page_resident(f.cpu, f.file, index));
	assert_int_equal(majfaults(&f), 6);
	file_readahead(f.cpu, f.file, 500, 100000);
	assert_true(file_page_resident(f.cpu, f.file, 511));
	check_page(&f, 511, PAGES(512));
	finish(&f);
}

static void test_large_folios(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, 32 << 20, QUIRE_ORDERS_ALL, PAGES(1024 + 21) + 17);
	assert_int_equal(check_page(&f, 800, PAGES(1024 + 21) + 17), 9);
	assert_int_equal(majfaults(&f), 1);
	for (u64 index = 512; index < 1024; index++)
		assert_int_equal(check_page(&f, index, PAGES(1024 + 21) + 17), 9);
	assert_int_equal(majfaults(&f), 1);
	assert_int_equal(check_page(&f, 1045, PAGES(1024 + 21) + 17), 1); /* 1044 and 1045, the last */
	finish(&f);
}

/* A file four times the size of memory, read twice, and written whole: caches make room, and writers write. */
static void test_file_larger_than_memory(void **state)
{
	u64 size = PAGES(4096) - 300;
	struct fixture f;
	u8 byte;

	(void)state;
	start(&f, 4 << 20, QUIRE_ORDERS_64K, size);
	for (unsigned round = 0; round < 2; round++)
		for (u64 index = 0; index < 4096; index++)
			check_page(&f, index, size);
	for (u64 at = 0; at < size; at += 1000) {
		byte = (u8)~expected_byte(at);
		assert_int_equal(quire_file_write(f.cpu, f.file, at, &byte, 1), 1);
	}
	assert_int_equal(quire_file_fsync(f.cpu, f.file), 0);
	for (u64 at = 0; at < size; at++) {
		u8 expected = at % 1000 ? expected_byte(at) : (u8)~expected_byte(at);

		if (at % 1000 < 3) { /* the bytes written and their neighbours */
			assert_int_equal(pread(f.fd, &byte, 1, (off_t)at), 1);
			assert_int_equal(byte, expected);
		}
	}
	finish(&f);
}

/* ---------------------------------------------------------------------------------------- writing back */

static void test_writeback_below_end_only(void **state)
{
	struct fixture f;
	u8 buf[5000], back[6000];

	(void)state;
	start(&f, 16 << 20, 0, 0);
	memset(buf, 'w', sizeof(buf));
	assert_int_equal(quire_file_write(f.cpu, f.file, 0, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(quire_event_sum(f.q, NR_FILE_DIRTY), 2);
	assert_int_equal(lseek(f.fd, 0, SEEK_END), 0); /* nothing is written before it has to be */
	assert_int_equal(file_writeback_range(f.cpu, f.file, 0, 0), 0);
	assert_int_equal(lseek(f.fd, 0, SEEK_END), 4096);
	assert_int_equal(quire_event_sum(f.q, NR_FILE_DIRTY), 1);
	quire_file_get(f.file);
	quire_file_put(f.cpu, f.file);
	assert_int_equal(quire_event_sum(f.q, NR_FILE_DIRTY), 1);
	finish(&(struct fixture){ .q = f.q, .cpu = f.cpu, .fd = dup(f.fd), .file = f.file }); /* writes the rest */
	assert_int_equal(pread(f.fd, back, sizeof(back), 0), sizeof(buf));
	assert_memory_equal(back, buf, sizeof(buf));
	close(f.fd);
}

/* Dirty pages above the limit are written by whoever makes more, without being asked. */
static void test_background_writeback(void **state)
{
	static u8 buf[1 << 20];
	struct fixture f;
	u64 limit;

	(void)state;
	start(&f, 16 << 20, 0, 0);
	limit = f.q->nr_frames / 5;
	for (u64 i = 0; i < 12; i++)
		assert_int_equal(quire_file_write(f.cpu, f.file, i << 20, buf, sizeof(buf)), sizeof(buf));
	assert_true(quire_event_sum(f.q, NR_FILE_DIRTY) <= limit + 256);
	assert_true(quire_event_sum(f.q, FILE_WRITTEN_PAGES) > 0);
	finish(&f);
}

/* ---------------------------------------------------------------------------------------- errors */

static void test_open_errors(void **state)
{
	int directory = open("/tmp", O_RDONLY), fd = temporary_file(0), read_only;
	struct quire_file *file;
	char name[64];
	struct fixture f;
	u8 byte = 0;

	(void)state;
	start_machine(&f, 16 << 20, 0);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	read_only = open(name, O_RDONLY);
	assert_true(directory >= 0 && read_only >= 0);
	assert_int_equal(quire_file_open_host(f.cpu, -1, false, &file), -EBADF);
	assert_int_equal(quire_file_open_host(f.cpu, directory, false, &file), -ENODEV);
	assert_int_equal(quire_file_open_host(f.cpu, read_only, true, &file), -EACCES);
	assert_int_equal(quire_file_open_host(f.cpu, read_only, false, &file), 0);
	assert_int_equal(quire_file_write(f.cpu, file, 0, &byte, 1), -EBADF);
	assert_int_equal(quire_file_truncate(f.cpu, file, 1), -EINVAL);
	assert_int_equal(quire_file_fallocate(f.cpu, file, 0, 0, 1), -EBADF);
	assert_int_equal(quire_file_fallocate(f.cpu, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1), -EBADF);
	assert_int_equal(quire_file_fsync(f.cpu, file), 0);
	quire_file_put(f.cpu, file);
	close(read_only);
	close(directory);
	close(fd);
	stop_machine(&f);
}

/* The error of a write is told once, by the next fsync, and the file goes on. */
static void test_write_error(void **state)
{
	int fd = memfd_create("host", MFD_ALLOW_SEALING);
	struct fixture f;

	(void)state;
	start_machine(&f, 16 << 20, 0);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(quire_file_open_host(f.cpu, fd, true, &f.file), 0);
	assert_int_equal(quire_file_write(f.cpu, f.file, 0, "abc", 3), 3);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(quire_file_fsync(f.cpu, f.file), -EPERM);
	assert_int_equal(quire_file_fsync(f.cpu, f.file), 0);
	f.fd = fd;
	finish(&f);
}

/*
 * A page that cannot be read is an error for whoever wants it, and leaves nothing in the cache. The file is this process's
 * memory, whose first pages are never mapped; truncating it does nothing but tell quire how large it is.
 */
static void test_read_error(void **state)
{
	struct folio *folio;
	struct fixture f;
	u8 byte;

	(void)state;
	start_machine(&f, 16 << 20, 0);
	f.fd = open("/proc/self/mem", O_RDWR);
	assert_true(f.fd >= 0);
	assert_int_equal(quire_file_open_host(f.cpu, f.fd, true, &f.file), 0);
	assert_int_equal(quire_file_truncate(f.cpu, f.file, PAGES(4)), 0);
	assert_int_equal(file_fault_folio(f.cpu, f.file, 1, &folio), -EIO);
	assert_int_equal(quire_file_read(f.cpu, f.file, 0, &byte, 1), -EIO);
	assert_int_equal(quire_file_write(f.cpu, f.file, 10, "x", 1), -EIO); /* needs the rest of the page */
	file_readahead(f.cpu, f.file, 0, 3);
	assert_int_equal(f.file->mapping.nr_pages, 0);
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contents_and_tail),
		cmocka_unit_test(test_read_ahead),
		cmocka_unit_test(test_large_folios),
		cmocka_unit_test(test_file_larger_than_memory),
		cmocka_unit_test(test_writeback_below_end_only),
		cmocka_unit_test(test_background_writeback),
		cmocka_unit_test(test_open_errors),
		cmocka_unit_test(test_write_error),
		cmocka_unit_test(test_read_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
