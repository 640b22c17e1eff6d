/* SPDX-License-Identifier: MIT */
/*
 * Mapped files made shorter and full of holes, as mmap(2), truncate(2) and fallocate(2) have it: who gets SIGBUS, who zeroes,
 * whose private copies stay; and that stores through mappings reach the file's store, also those after a sync.
 */
#include "cmocka_setup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mm/fault.h"

#define P 4096ull
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

struct fixture {
	struct quire *q;
	struct quire_cpu *cpu;
	struct quire_mm *mm;
	struct quire_file *file;
	int fd; /* of a host file */
};

static void start(struct fixture *f, unsigned orders, u64 size)
{
	const struct quire_config config = {
		.memory = 64 << 20, .nr_cpus = 1, .shmem_orders = orders, .file_orders = orders
	};

	assert_int_equal(quire_create(&config, &f->q), 0);
	assert_int_equal(quire_cpu_enter(f->q, 0, &f->cpu), 0);
	assert_int_equal(quire_mm_create(f->cpu, NULL, &f->mm), 0);
	quire_cpu_run(f->cpu, f->mm);
	f->fd = -1;
	if (size)
		assert_int_equal(quire_file_create_shmem(f->cpu, size, &f->file), 0);
}

static void start_host(struct fixture *f, unsigned orders, u64 size)
{
	char name[] = "/tmp/quire-test-XXXXXX";

	start(f, orders, 0);
	f->fd = mkstemp(name);
	assert_true(f->fd >= 0);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(ftruncate(f->fd, (off_t)size), 0);
	assert_int_equal(quire_file_open_host(f->cpu, f->fd, true, &f->file), 0);
}

static void print_line(void *arg, const char *line)
{
	(void)arg;
	printf("%s\n", line);
}

static void validate(struct fixture *f)
{
	quire_drain(f->cpu);
	assert_int_equal(quire_validate(f->cpu, print_line, NULL), 0);
}

static void finish(struct fixture *f)
{
	validate(f);
	quire_cpu_run(f->cpu, NULL);
	quire_mm_put(f->cpu, f->mm);
	quire_file_put(f->cpu, f->file);
	if (f->fd >= 0)
		close(f->fd);
	quire_drain(f->cpu);
	assert_int_equal(kmem_cache_in_use(&f->q->cache[CACHE_FOLIO]), 0);
	assert_int_equal(kmem_cache_in_use(&f->q->cache[CACHE_PAGECACHE_NODE]), 0);
	quire_cpu_leave(f->cpu);
	assert_int_equal(quire_destroy(f->q), 0);
}

static u64 map(struct fixture *f, u64 len, int flags)
{
	s64 addr = quire_mmap(f->cpu, 0, len, PROT_READ | PROT_WRITE, flags, f->file, 0);

	assert_true(addr > 0);
	return (u64)addr;
}

static void store(struct fixture *f, u64 addr, u8 value)
{
	assert_int_equal(quire_store(f->cpu, addr, &value, 1), 0);
}

static u8 load(struct fixture *f, u64 addr)
{
	u8 value = 0xee;

	assert_int_equal(quire_load(f->cpu, addr, &value, 1), 0);
	return value;
}

static void expect_bus(struct fixture *f, u64 addr)
{
	struct quire_fault fault;
	u8 value;

	assert_int_equal(quire_load(f->cpu, addr, &value, 1), -EFAULT);
	quire_cpu_fault(f->cpu, &fault);
	assert_int_equal(fault.signo, SIGBUS);
	assert_int_equal(fault.code, BUS_ADRERR);
	assert_true(fault.addr == addr);
}

static u64 rss(struct fixture *f, bool anon)
{
	struct quire_mm_stat stat;

	quire_mm_stat(f->cpu, f->mm, &stat);
	return anon ? stat.rss_anon : stat.rss_shmem + stat.rss_file;
}

static void truncate_to(struct fixture *f, u64 size)
{
	assert_int_equal(quire_file_truncate(f->cpu, f->file, size), 0);
}

/* ---------------------------------------------------------------------------------------- truncate */

static void test_shared_mapping_loses_pages(void **state)
{
	struct fixture f;
	u64 m;

	(void)state;
	start(&f, QUIRE_ORDERS_4K, 4 * P);
	m = map(&f, 6 * P, MAP_SHARED);
	for (u64 page = 0; page < 4; page++) {
		store(&f, m + page * P + 99, 1);
		store(&f, m + page * P + 100, 2);
	}
	expect_bus(&f, m + 4 * P);
	assert_int_equal(rss(&f, false), 4);
	truncate_to(&f, P + 100);
	assert_int_equal(rss(&f, false), 2);
	assert_int_equal(load(&f, m + P + 99), 1);
	assert_int_equal(load(&f, m + P + 100), 0); /* the rest of the last page is zeroes */
	expect_bus(&f, m + 2 * P + 99);
	validate(&f);
	truncate_to(&f, 6 * P);
	assert_int_equal(load(&f, m + 99), 1);
	for (u64 page = 2; page < 6; page++)
		assert_int_equal(load(&f, m + page * P + 99), 0);
	finish(&f);
}

/* Private copies beyond the end are gone for good (S5-R3), those below stay. */
static void test_truncate_takes_private_copies(void **state)
{
	struct fixture f;
	u64 m;

	(void)state;
	start(&f, QUIRE_ORDERS_4K, 4 * P);
	m = map(&f, 4 * P, MAP_PRIVATE);
	for (u64 page = 0; page < 4; page++)
		store(&f, m + page * P, 7);
	assert_int_equal(rss(&f, true), 4);
	truncate_to(&f, P + 1);
	assert_int_equal(rss(&f, true), 2);
	expect_bus(&f, m + 2 * P);
	truncate_to(&f, 4 * P);
	assert_int_equal(load(&f, m), 7);
	assert_int_equal(load(&f, m + P), 7);
	assert_int_equal(load(&f, m + 2 * P), 0);
	assert_int_equal(load(&f, m + 3 * P), 0);
	finish(&f);
}

/* A hole is zeroes for who shares, and nothing happens to private copies (S5-R4). */
static void test_punch_keeps_private_copies(void **state)
{
	u64 shared, private;
	struct fixture f;

	(void)state;
	start(&f, QUIRE_ORDERS_4K, 4 * P);
	shared = map(&f, 4 * P, MAP_SHARED);
	private = map(&f, 4 * P, MAP_PRIVATE);
	for (u64 page = 0; page < 4; page++)
		store(&f, shared + page * P, 3);
	store(&f, private + P, 8);
	assert_int_equal(load(&f, private + 2 * P), 3);
	assert_int_equal(quire_file_fallocate(f.cpu, f.file, PUNCH, P, 2 * P), 0);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 2);
	assert_int_equal(rss(&f, true), 1);
	assert_int_equal(load(&f, private + P), 8);
	assert_int_equal(load(&f, private + 2 * P), 0); /* not copied: sees the file */
	assert_int_equal(load(&f, shared + P), 0);
	assert_int_equal(load(&f, shared), 3);
	assert_int_equal(load(&f, shared + 3 * P), 3);
	finish(&f);
}

/* A mapped folio of 2 MiB cut in the middle of a page: what is below stays, byte by byte; what is above is freed. */
static void cut_large_folio(bool punch, unsigned order)
{
	u64 size = P << order, cut = size / 2 + 100, end = punch ? cut + 3 * P : size;
	struct fixture f;
	u64 m;

	start(&f, 1u << order | 1, size);
	m = map(&f, size, MAP_SHARED);
	for (u64 at = 0; at < size; at += P / 2)
		store(&f, m + at, (u8)(1 + at / P % 250));
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 1u << order);
	if (punch)
		assert_int_equal(quire_file_fallocate(f.cpu, f.file, PUNCH, cut, end - cut), 0);
	else
		truncate_to(&f, cut);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), punch ? (1u << order) - 2 : (1u << order) / 2 + 1);
	validate(&f);
	if (!punch)
		truncate_to(&f, size);
	for (u64 at = 0; at < size; at += P / 2)
		assert_int_equal(load(&f, m + at), at >= cut && at < end ? 0 : 1 + at / P % 250);
	finish(&f);
}

static void test_cut_large_folios(void **state)
{
	(void)state;
	for (unsigned order = 2; order <= MAX_FOLIO_ORDER; order++) {
		cut_large_folio(false, order);
		if (order > 2)
			cut_large_folio(true, order);
	}
}

/* Somebody holds on to the folio: it cannot be split, but is cut all the same. */
static void test_cut_pinned_folio(void **state)
{
	u64 size = 16 * P, m;
	struct folio *folio;
	struct fixture f;

	(void)state;
	start(&f, QUIRE_ORDERS_64K, size);
	m = map(&f, size, MAP_SHARED);
	for (u64 at = 0; at < size; at += P)
		store(&f, m + at, 5);
	folio = filemap_get_folio(f.cpu, &f.file->mapping, 3);
	assert_int_equal(folio->order, 4);
	truncate_to(&f, 4 * P + 1);
	assert_int_equal(folio->order, 4);
	assert_int_equal(load(&f, m + 4 * P), 5);
	assert_int_equal(load(&f, m + 4 * P + 1), 0);
	expect_bus(&f, m + 5 * P);
	folio_put(f.cpu, folio);
	truncate_to(&f, size);
	for (u64 at = 0; at < size; at += P)
		assert_int_equal(load(&f, m + at), at <= 4 * P ? 5 : 0);
	finish(&f);
}

/* MADV_REMOVE is a punch through a mapping. */
static void test_madvise_remove(void **state)
{
	struct fixture f;
	u64 m;

	(void)state;
	start(&f, QUIRE_ORDERS_4K, 4 * P);
	m = map(&f, 4 * P, MAP_SHARED);
	for (u64 page = 0; page < 4; page++)
		store(&f, m + page * P, 3);
	assert_int_equal(quire_madvise(f.cpu, m + P, P, MADV_REMOVE), 0);
	assert_int_equal(quire_event_sum(f.q, NR_SHMEM), 3);
	assert_int_equal(load(&f, m + P), 0);
	assert_int_equal(load(&f, m + 2 * P), 3);
	finish(&f);
}

/* ---------------------------------------------------------------------------------------- the store */

static u8 stored(struct fixture *f, u64 pos)
{
	u8 value = 0xee;

	assert_int_equal(pread(f->fd, &value, 1, (off_t)pos), 1);
	return value;
}

/* Each sync writes what was stored since the last: the entry must have become read-only and clean (invariants 40, 83). */
static void sync_again(unsigned orders)
{
	struct fixture f;
	u64 m;

	start_host(&f, orders, 32 * P);
	m = map(&f, 32 * P, MAP_SHARED);
	for (u8 round = 1; round < 20; round++) {
		u64 at = round * 1777ull % (32 * P);

		store(&f, m + at, round);
		if (round % 3 == 0)
			assert_int_equal(quire_msync(f.cpu, m, 32 * P, MS_SYNC), 0);
		else
			assert_int_equal(quire_file_fsync(f.cpu, f.file), 0);
		assert_int_equal(stored(&f, at), round);
		store(&f, m + at, (u8)(round + 100)); /* once more, with the page mapped as the sync left it */
		assert_int_equal(quire_file_fsync(f.cpu, f.file), 0);
		assert_int_equal(stored(&f, at), round + 100);
		assert_int_equal(quire_event_sum(f.q, NR_FILE_DIRTY), 0);
	}
	finish(&f);
}

static void test_sync_again(void **state)
{
	(void)state;
	sync_again(QUIRE_ORDERS_4K);
	sync_again(QUIRE_ORDERS_64K);
}

/* A store that is only in an entry when the mapping goes is the file's; the file writes it when its last user leaves. */
static void test_store_then_unmap(void **state)
{
	struct fixture f;
	u64 m;
	int fd;

	(void)state;
	start_host(&f, QUIRE_ORDERS_4K, 4 * P);
	fd = dup(f.fd);
	m = map(&f, 4 * P, MAP_SHARED);
	store(&f, m + 2 * P + 5, 77);
	assert_int_equal(quire_munmap(f.cpu, m, 4 * P), 0);
	m = map(&f, 4 * P, MAP_PRIVATE);
	assert_int_equal(load(&f, m + 2 * P + 5), 77);
	store(&f, m + 3 * P, 66); /* private: never reaches the file */
	finish(&f);
	f.fd = fd;
	assert_int_equal(stored(&f, 2 * P + 5), 77);
	assert_int_equal(stored(&f, 3 * P), 0);
	close(fd);
}

/* Cut, stored and grown, the host's file is what the mapping shows. */
static void test_truncate_host(void **state)
{
	struct fixture f;
	u64 m;

	(void)state;
	start_host(&f, QUIRE_ORDERS_64K, 32 * P);
	m = map(&f, 32 * P, MAP_SHARED);
	for (u64 page = 0; page < 32; page++)
		store(&f, m + page * P + 10, 4);
	truncate_to(&f, 20 * P + 10);
	assert_int_equal(lseek(f.fd, 0, SEEK_END), 20 * P + 10);
	expect_bus(&f, m + 21 * P);
	truncate_to(&f, 32 * P);
	assert_int_equal(quire_file_fallocate(f.cpu, f.file, PUNCH, 3 * P + 1, 2 * P), 0);
	assert_int_equal(quire_file_fsync(f.cpu, f.file), 0);
	for (u64 page = 0; page < 32; page++) {
		u8 expected = page < 20 && page != 3 && page != 4 ? 4 : 0;

		assert_int_equal(load(&f, m + page * P + 10), expected);
		assert_int_equal(stored(&f, page * P + 10), expected);
	}
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_mapping_loses_pages),
		cmocka_unit_test(test_truncate_takes_private_copies),
		cmocka_unit_test(test_punch_keeps_private_copies),
		cmocka_unit_test(test_cut_large_folios),
		cmocka_unit_test(test_cut_pinned_folio),
		cmocka_unit_test(test_madvise_remove),
		cmocka_unit_test(test_sync_again),
		cmocka_unit_test(test_store_then_unmap),
		cmocka_unit_test(test_truncate_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
