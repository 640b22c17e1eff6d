/* SPDX-License-Identifier: MIT */
/*
 * Files against files: random reads, writes, truncates, fallocates and page accesses on a file of quire's, and the same by
 * system calls on a file of the running kernel's (a memfd for shmem, an unlinked temporary file for a host file).
 * Results, sizes and every byte must agree.
 */
#define _GNU_SOURCE /* memfd_create, fallocate */
#include "cmocka_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mm/file.h"
#include "random.h"

#define NR_OPS 2500u
#define SPAN (5ull << 20) /* bytes in which all happens: more than two of the largest folios */

struct pair {
	struct quire *q;
	struct quire_cpu *cpu;
	struct quire_file *file;
	int fd;	     /* the kernel's file */
	int backing; /* of quire's host file; -1: shmem */
	u8 *map;     /* the kernel's file, mapped shared: SPAN bytes */
	u64 seed;
	u8 mine[SPAN], theirs[SPAN];
};

static u64 below(struct pair *p, u64 n)
{
	return random_below(&p->seed, n);
}

static s64 result(s64 ret)
{
	return ret < 0 ? -errno : ret;
}

static int temporary_file(void)
{
	char name[] = "/tmp/quire-test-XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	assert_int_equal(unlink(name), 0);
	return fd;
}

static void pair_create(struct pair *p, bool shmem, unsigned orders)
{
	const struct quire_config config = {
		.memory = 64ull << 20, .nr_cpus = 1, .shmem_orders = orders, .file_orders = orders
	};

	assert_int_equal(quire_create(&config, &p->q), 0);
	assert_int_equal(quire_cpu_enter(p->q, 0, &p->cpu), 0);
	p->fd = shmem ? memfd_create("test", 0) : temporary_file();
	p->backing = shmem ? -1 : temporary_file();
	p->map = mmap(NULL, SPAN, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	assert_true(p->map != MAP_FAILED);
	if (shmem)
		assert_int_equal(quire_file_create_shmem(p->cpu, 0, &p->file), 0);
	else
		assert_int_equal(quire_file_open_host(p->cpu, p->backing, true, &p->file), 0);
}

static void pair_destroy(struct pair *p)
{
	quire_file_put(p->cpu, p->file);
	quire_drain(p->cpu);
	assert_int_equal(kmem_cache_in_use(&p->q->cache[CACHE_PAGECACHE_NODE]), 0);
	assert_int_equal(kmem_cache_in_use(&p->q->cache[CACHE_FOLIO]), 0);
	assert_int_equal(kmem_cache_in_use(&p->q->cache[CACHE_FILE]), 0);
	assert_int_equal(quire_event_sum(p->q, NR_FILE_PAGES), 0);
	assert_int_equal(quire_event_sum(p->q, NR_SHMEM), 0);
	assert_int_equal(quire_event_sum(p->q, NR_FILE_DIRTY), 0);
	assert_int_equal(quire_event_sum(p->q, NR_WRITEBACK), 0);
	quire_cpu_leave(p->cpu);
	assert_int_equal(quire_destroy(p->q), 0);
	munmap(p->map, SPAN);
	close(p->fd);
	if (p->backing >= 0)
		close(p->backing);
}

static void print_violation(void *arg, const char *what, u64 a, u64 b)
{
	(void)arg;
	printf("%s %llx %llx\n", what, (unsigned long long)a, (unsigned long long)b);
}

static u64 real_size(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (u64)st.st_size;
}

/* ---------------------------------------------------------------------------------------- where and how much */

/* Offsets at, just before and just after pages and large folios are where mistakes are. */
static u64 random_offset(struct pair *p)
{
	static const u64 units[] = { 1, 4096, 65536, 2097152 };
	u64 unit = units[below(p, 4)], off = below(p, SPAN / unit) * unit;

	if (below(p, 4) == 0)
		off += below(p, 3) - 1;
	return off < SPAN ? off : SPAN - 1;
}

static u64 random_length(struct pair *p, u64 off)
{
	u64 len = below(p, 8) ? below(p, 3 * PAGE_SIZE) : below(p, SPAN);

	return len < SPAN - off ? len : SPAN - off;
}

static void random_bytes(struct pair *p, u8 *buf, u64 len)
{
	for (u64 i = 0; i < len; i++)
		buf[i] = (u8)random_next(&p->seed);
}

/* ---------------------------------------------------------------------------------------- operations */

static void op_write(struct pair *p)
{
	u64 off = random_offset(p), len = random_length(p, off);

	random_bytes(p, p->mine, len < 64 ? len : 64);
	assert_int_equal(quire_file_write(p->cpu, p->file, off, p->mine, len),
			 result(pwrite(p->fd, p->mine, len, (off_t)off)));
}

static void op_read(struct pair *p)
{
	u64 off = random_offset(p), len = random_length(p, off);
	s64 ret = quire_file_read(p->cpu, p->file, off, p->mine, len);

	assert_int_equal(ret, result(pread(p->fd, p->theirs, len, (off_t)off)));
	if (ret > 0)
		assert_memory_equal(p->mine, p->theirs, (size_t)ret);
}

static void op_truncate(struct pair *p)
{
	u64 size = random_offset(p);

	assert_int_equal(quire_file_truncate(p->cpu, p->file, size), result(ftruncate(p->fd, (off_t)size)));
}

static void op_fallocate(struct pair *p)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE };
	u64 off = random_offset(p), len = random_length(p, off);
	int mode = modes[below(p, ARRAY_SIZE(modes))];

	assert_int_equal(quire_file_fallocate(p->cpu, p->file, mode, off, len),
			 result(fallocate(p->fd, mode, (off_t)off, (off_t)len)));
}

/* How much of a page lies below the end of the file. */
static u64 valid_bytes(struct pair *p, u64 index)
{
	u64 size = real_size(p->fd), start = index << PAGE_SHIFT;

	return size <= start ? 0 : size - start < PAGE_SIZE ? size - start : PAGE_SIZE;
}

/* A read fault, then a look at the page through each. */
static void op_load_page(struct pair *p)
{
	u64 index = random_offset(p) >> PAGE_SHIFT, bytes = valid_bytes(p, index);
	struct folio *folio;
	int ret = file_fault_folio(p->cpu, p->file, index, &folio);

	assert_int_equal(ret, bytes ? 0 : -EFAULT);
	if (ret)
		return;
	assert_true(folio_test(folio, PG_locked) && folio_test_uptodate(folio));
	assert_memory_equal(folio_address(p->q, folio) + ((index - folio->index) << PAGE_SHIFT),
			    p->map + (index << PAGE_SHIFT), bytes);
	file_unlock_put(p->cpu, folio);
}

/*
 * A write fault and a store. On shmem also beyond the end of the file in its last page: tmpfs brings such bytes to light
 * when the file grows, others do not, and what the host's file system does with them is its own affair.
 */
static void op_store_page(struct pair *p)
{
	u64 index = random_offset(p) >> PAGE_SHIFT, bytes = valid_bytes(p, index);
	struct folio *folio;
	u64 at;

	if (bytes == 0 || file_fault_folio(p->cpu, p->file, index, &folio))
		return;
	file_page_mkwrite(p->cpu, folio);
	at = (index << PAGE_SHIFT) + below(p, p->backing < 0 ? PAGE_SIZE : bytes);
	p->map[at] = (u8)random_next(&p->seed);
	folio_address(p->q, folio)[at - (folio->index << PAGE_SHIFT)] = p->map[at];
	file_unlock_put(p->cpu, folio);
}

static void op_fsync(struct pair *p)
{
	assert_int_equal(quire_file_fsync(p->cpu, p->file), 0);
	assert_false(filemap_marked(p->cpu, &p->file->mapping, PAGECACHE_DIRTY));
}

/* Clean pages may go any time; what is read later must not show it. */
static void op_shrink(struct pair *p)
{
	u64 before = p->file->mapping.nr_pages, freed = filecache_shrink(p->cpu, 1 + below(p, 2000));

	assert_int_equal(before - p->file->mapping.nr_pages, freed);
	if (p->file->shmem)
		assert_int_equal(freed, 0);
}

static void op_readahead(struct pair *p)
{
	u64 first = random_offset(p) >> PAGE_SHIFT;

	file_readahead(p->cpu, p->file, first, first + below(p, 700));
}

/* With folios of one page, shmem has the pages that tmpfs has: holes and what fallocate reserves do not count. */
static void op_resident(struct pair *p)
{
	u64 index = random_offset(p) >> PAGE_SHIFT;
	u8 resident = 0;

	if (p->backing >= 0 || p->q->config.shmem_orders != QUIRE_ORDERS_4K)
		return;
	assert_int_equal(mincore(p->map + (index << PAGE_SHIFT), PAGE_SIZE, &resident), 0);
	assert_int_equal(file_page_resident(p->cpu, p->file, index), resident & 1);
}

struct op {
	void (*run)(struct pair *p);
	unsigned weight;
};

static const struct op ops[] = {
	{ op_write, 20 },      { op_read, 15 }, { op_truncate, 8 }, { op_fallocate, 10 }, { op_load_page, 20 },
	{ op_store_page, 15 }, { op_fsync, 2 }, { op_shrink, 2 },   { op_readahead, 4 },  { op_resident, 20 },
};

static void run_op(struct pair *p)
{
	u64 total = 0, pick;

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
		total += ops[i].weight;
	pick = below(p, total);
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		if (pick < ops[i].weight) {
			ops[i].run(p);
			return;
		}
		pick -= ops[i].weight;
	}
}

/* ---------------------------------------------------------------------------------------- the tests */

/* Nothing is cached beyond the last page, and every byte is the same. */
static void check_all(struct pair *p)
{
	u64 size = quire_file_size(p->file);

	assert_int_equal(size, real_size(p->fd));
	assert_int_equal(pagecache_validate(&p->file->mapping, print_violation, NULL), 0);
	if (!p->file->shmem) /* shmem may have what fallocate has reserved */
		assert_true(filemap_next_cached(p->cpu, &p->file->mapping, file_nr_pages(p->file)) == ~0ull);
	assert_int_equal(quire_file_read(p->cpu, p->file, 0, p->mine, SPAN), size);
	assert_int_equal(pread(p->fd, p->theirs, SPAN, 0), size);
	assert_memory_equal(p->mine, p->theirs, size);
}

static void run_pair(bool shmem, unsigned orders, u64 seed)
{
	struct pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->seed = seed;
	pair_create(p, shmem, orders);
	for (unsigned i = 0; i < NR_OPS; i++) {
		run_op(p);
		assert_int_equal(quire_file_size(p->file), real_size(p->fd));
		if (i % 100 == 0)
			check_all(p);
	}
	check_all(p);
	if (!shmem) { /* the store holds the same once the file is let go of */
		u64 size = quire_file_size(p->file);

		quire_file_get(p->file);
		quire_file_put(p->cpu, p->file);
		assert_int_equal(quire_file_fsync(p->cpu, p->file), 0);
		assert_int_equal(real_size(p->backing), size);
		assert_int_equal(pread(p->backing, p->mine, SPAN, 0), size);
		assert_memory_equal(p->mine, p->theirs, size);
	}
	pair_destroy(p);
	free(p);
}

static void test_shmem_4k(void **state)
{
	(void)state;
	run_pair(true, QUIRE_ORDERS_4K, 1);
}

static void test_shmem_64k(void **state)
{
	(void)state;
	run_pair(true, QUIRE_ORDERS_64K, 2);
}

static void test_shmem_all(void **state)
{
	(void)state;
	run_pair(true, QUIRE_ORDERS_ALL, 3);
}

static void test_host_4k(void **state)
{
	(void)state;
	run_pair(false, QUIRE_ORDERS_4K, 4);
}

static void test_host_64k(void **state)
{
	(void)state;
	run_pair(false, QUIRE_ORDERS_64K, 5);
}

static void test_host_all(void **state)
{
	(void)state;
	run_pair(false, QUIRE_ORDERS_ALL, 6);
}

/* ---------------------------------------------------------------------------------------- errors */

struct bad_range {
	u64 off, len;
	int mode;
};

/* Numbers at the edges of the signed ones that Linux uses. */
static void test_argument_errors(void **state)
{
	static const u64 edge[] = { 0,	  1, 10, 4096, 1ull << 40, (u64)INT64_MAX - 4095, INT64_MAX, (u64)INT64_MAX + 1,
				    ~0ull };
	static const int modes[] = { 0, 1, 2, 3, 0x1000, 0x40, 0x41 };
	struct pair *p = calloc(1, sizeof(*p));
	u8 byte = 0;

	(void)state;
	pair_create(p, true, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(edge); i++) {
		s64 off = (s64)edge[i];

		if (off < 0)
			assert_int_equal(quire_file_truncate(p->cpu, p->file, edge[i]), result(ftruncate(p->fd, off)));
		if (off < 0 || off == INT64_MAX)
			assert_int_equal(quire_file_write(p->cpu, p->file, edge[i], &byte, 1),
					 result(pwrite(p->fd, &byte, 1, off)));
		assert_int_equal(quire_file_write(p->cpu, p->file, edge[i], &byte, 0),
				 result(pwrite(p->fd, &byte, 0, off)));
		assert_int_equal(quire_file_read(p->cpu, p->file, edge[i], &byte, 1),
				 result(pread(p->fd, &byte, 1, off)));
		for (unsigned k = 0; k < ARRAY_SIZE(edge); k++)
			for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
				s64 len = (s64)edge[k];

				if (len > 4096 && edge[i] + edge[k] <= INT64_MAX && modes[m] < 2)
					continue; /* would allocate all that */
				if (off > 4096 && modes[m] < 2)
					continue; /* would make the files differ in size for the next row */
				assert_int_equal(quire_file_fallocate(p->cpu, p->file, modes[m], edge[i], edge[k]),
						 result(fallocate(p->fd, modes[m], off, len)));
			}
		assert_int_equal(quire_file_size(p->file), real_size(p->fd));
	}
	pair_destroy(p);
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shmem_4k),	cmocka_unit_test(test_shmem_64k),
		cmocka_unit_test(test_shmem_all),	cmocka_unit_test(test_host_4k),
		cmocka_unit_test(test_host_64k),	cmocka_unit_test(test_host_all),
		cmocka_unit_test(test_argument_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
