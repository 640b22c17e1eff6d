/* SPDX-License-Identifier: MIT */
/*
 * One file, four CPUs in two address spaces: loads, stores and faults in shared and private mappings against read, write,
 * truncate, punch, fallocate, sync and a cache under pressure. Each 8-byte word of the file is only ever zero or its own
 * stamp, so a word of another page, file or time shows. At the end mapping, file and store must agree.
 */
#define _GNU_SOURCE /* memfd_create */
#include "cmocka_setup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mm/fault.h"
#include "random.h"

#define NR_THREADS 4u
#define NR_OPS 4000u
#define SPAN (3ull << 20)
#define CHUNK_WORDS 512u

struct shared {
	struct quire *q;
	struct quire_file *file;
	bool shmem;
	u64 failures;
	u64 faults_beyond_end, truncates;
};

struct worker {
	struct shared *shared;
	struct quire_cpu *cpu;
	struct quire_mm *mm;
	u64 map, private_map;
	u64 private_salt; /* one per address space */
	u64 seed;
	pthread_t thread;
	u64 buf[CHUNK_WORDS];
};

static u64 stamp(u64 off)
{
	return off * 0x9e3779b97f4a7c15ull | 1;
}

static void check(struct worker *w, bool ok)
{
	if (!ok)
		__atomic_fetch_add(&w->shared->failures, 1, __ATOMIC_RELAXED);
}

static void count(u64 *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* Word-aligned; often at or near the edges of pages and folios. */
static u64 random_offset(struct worker *w)
{
	static const u64 units[] = { 8, 4096, 65536 };
	u64 unit = units[random_below(&w->seed, 3)];

	return random_below(&w->seed, SPAN / unit) * unit;
}

static u64 random_length(struct worker *w, u64 off)
{
	u64 len = random_below(&w->seed, 4) ? random_below(&w->seed, CHUNK_WORDS) * 8
					    : random_below(&w->seed, SPAN) & ~7ull;

	return len < SPAN - off ? len : SPAN - off;
}

/* An access that failed must have been beyond the end, which may have been anywhere a moment ago. */
static bool access_done(struct worker *w, int ret)
{
	struct quire_fault fault;

	if (!ret)
		return true;
	quire_cpu_fault(w->cpu, &fault);
	check(w, ret == -EFAULT && fault.signo == SIGBUS);
	count(&w->shared->faults_beyond_end);
	return false;
}

/* ---------------------------------------------------------------------------------------- operations */

static void op_load(struct worker *w)
{
	u64 off = random_offset(w), word = 0;

	if (access_done(w, quire_load(w->cpu, w->map + off, &word, 8)))
		check(w, word == 0 || word == stamp(off));
}

static void op_store(struct worker *w)
{
	u64 off = random_offset(w), word = stamp(off);

	access_done(w, quire_store(w->cpu, w->map + off, &word, 8));
}

static void op_load_private(struct worker *w)
{
	u64 off = random_offset(w), word = 0;

	if (access_done(w, quire_load(w->cpu, w->private_map + off, &word, 8)))
		check(w, word == 0 || word == stamp(off) || word == (stamp(off) ^ w->private_salt));
}

static void op_store_private(struct worker *w)
{
	u64 off = random_offset(w), word = stamp(off) ^ w->private_salt;

	access_done(w, quire_store(w->cpu, w->private_map + off, &word, 8));
}

static void op_read(struct worker *w)
{
	u64 off = random_offset(w);
	s64 done = quire_file_read(w->cpu, w->shared->file, off, w->buf, sizeof(w->buf));

	check(w, done >= 0);
	for (s64 i = 0; i < done / 8; i++)
		check(w, w->buf[i] == 0 || w->buf[i] == stamp(off + (u64)i * 8));
}

static void op_write(struct worker *w)
{
	u64 off = random_offset(w), len = sizeof(w->buf) < SPAN - off ? sizeof(w->buf) : SPAN - off;

	for (u64 i = 0; i < len / 8; i++)
		w->buf[i] = stamp(off + i * 8);
	check(w, quire_file_write(w->cpu, w->shared->file, off, w->buf, len) == (s64)len);
}

static void op_truncate(struct worker *w)
{
	u64 size = random_below(&w->seed, 2) ? SPAN : random_offset(w);

	check(w, quire_file_truncate(w->cpu, w->shared->file, size) == 0);
	count(&w->shared->truncates);
}

static void op_punch(struct worker *w)
{
	u64 off = random_offset(w), len = random_length(w, off);
	int ret = quire_file_fallocate(w->cpu, w->shared->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);

	check(w, ret == (len ? 0 : -EINVAL));
}

static void op_fallocate(struct worker *w)
{
	u64 off = random_offset(w), len = 1 + random_below(&w->seed, SPAN - off);

	check(w, quire_file_fallocate(w->cpu, w->shared->file, FALLOC_FL_KEEP_SIZE, off, len) == 0);
}

static void op_sync(struct worker *w)
{
	if (random_below(&w->seed, 2))
		check(w, quire_msync(w->cpu, w->map, SPAN, MS_SYNC) == 0);
	else
		check(w, quire_file_fsync(w->cpu, w->shared->file) == 0);
}

static void op_shrink(struct worker *w)
{
	filecache_shrink(w->cpu, 1 + random_below(&w->seed, 256));
}

/* A mapping of one's own that comes and goes, so that unmapping the file meets VMAs on their way in and out. */
static void op_remap(struct worker *w)
{
	s64 at = quire_mmap(w->cpu, 0, SPAN, PROT_READ | PROT_WRITE, MAP_SHARED, w->shared->file, 0);
	u64 off = random_offset(w), word = stamp(off);

	check(w, at > 0);
	if (at <= 0)
		return;
	access_done(w, quire_store(w->cpu, (u64)at + off, &word, 8));
	check(w, quire_munmap(w->cpu, (u64)at, SPAN) == 0);
}

static void op_dontneed(struct worker *w)
{
	u64 off = random_offset(w) & PAGE_MASK;

	check(w, quire_madvise(w->cpu, w->map + off, random_length(w, off), MADV_DONTNEED) == 0);
}

struct op {
	void (*run)(struct worker *w);
	unsigned weight;
};

static const struct op ops[] = {
	{ op_load, 30 },  { op_store, 30 },   { op_load_private, 10 }, { op_store_private, 10 }, { op_read, 5 },
	{ op_write, 5 },  { op_truncate, 2 }, { op_punch, 4 },	       { op_fallocate, 1 },	 { op_sync, 1 },
	{ op_shrink, 1 }, { op_remap, 2 },    { op_dontneed, 3 },
};

static void run_op(struct worker *w)
{
	u64 total = 0, pick;

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
		total += ops[i].weight;
	pick = random_below(&w->seed, total);
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		if (pick < ops[i].weight) {
			ops[i].run(w);
			return;
		}
		pick -= ops[i].weight;
	}
}

static void *worker(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < NR_OPS; i++)
		run_op(w);
	return NULL;
}

/* ---------------------------------------------------------------------------------------- the test */

static void print_line(void *arg, const char *line)
{
	(void)arg;
	printf("%s\n", line);
}

static u64 map(struct worker *w, int flags)
{
	s64 at = quire_mmap(w->cpu, 0, SPAN, PROT_READ | PROT_WRITE, flags, w->shared->file, 0);

	assert_true(at > 0);
	return (u64)at;
}

/* Two threads share each address space and its two mappings. */
static void worker_start(struct worker *workers, unsigned i, struct shared *shared)
{
	struct worker *w = &workers[i];

	*w = (struct worker){ .shared = shared, .seed = i + 1, .private_salt = (i / 2 + 1ull) << 56 };
	assert_int_equal(quire_cpu_enter(shared->q, i, &w->cpu), 0);
	if (i % 2) {
		w->mm = workers[i - 1].mm;
		w->map = workers[i - 1].map;
		w->private_map = workers[i - 1].private_map;
		quire_cpu_run(w->cpu, w->mm);
		return;
	}
	assert_int_equal(quire_mm_create(w->cpu, NULL, &w->mm), 0);
	quire_cpu_run(w->cpu, w->mm);
	w->map = map(w, MAP_SHARED);
	w->private_map = map(w, MAP_PRIVATE);
}

/* Mapping, read() and the store show the same, and nothing but stamps and zeroes. */
static void check_contents(struct worker *w, int fd)
{
	static u64 words[SPAN / 8], stored[SPAN / 8];

	assert_int_equal(quire_file_truncate(w->cpu, w->shared->file, SPAN), 0);
	assert_int_equal(quire_file_read(w->cpu, w->shared->file, 0, words, SPAN), SPAN);
	for (u64 i = 0; i < SPAN / 8; i++)
		assert_true(words[i] == 0 || words[i] == stamp(i * 8));
	assert_int_equal(quire_load(w->cpu, w->map, stored, SPAN), 0);
	assert_memory_equal(words, stored, SPAN);
	if (fd < 0)
		return;
	assert_int_equal(quire_file_fsync(w->cpu, w->shared->file), 0);
	assert_int_equal(pread(fd, stored, SPAN, 0), SPAN);
	assert_memory_equal(words, stored, SPAN);
}

static void stop_all(struct worker *workers, struct shared *shared)
{
	for (unsigned i = 0; i < NR_THREADS; i++)
		quire_cpu_run(workers[i].cpu, NULL);
	for (unsigned i = 0; i < NR_THREADS; i += 2)
		quire_mm_put(workers[i].cpu, workers[i].mm);
	quire_file_put(workers[0].cpu, shared->file);
	for (unsigned i = 1; i < NR_THREADS; i++)
		quire_cpu_leave(workers[i].cpu);
	quire_drain(workers[0].cpu);
	assert_int_equal(quire_validate(workers[0].cpu, print_line, NULL), 0);
	assert_int_equal(kmem_cache_in_use(&shared->q->cache[CACHE_FOLIO]), 0);
	assert_int_equal(kmem_cache_in_use(&shared->q->cache[CACHE_PAGECACHE_NODE]), 0);
	quire_cpu_leave(workers[0].cpu);
	assert_int_equal(quire_destroy(shared->q), 0);
}

static void run(bool shmem, unsigned orders)
{
	const struct quire_config config = {
		.memory = 64 << 20, .nr_cpus = NR_THREADS, .shmem_orders = orders, .file_orders = orders
	};
	static struct worker workers[NR_THREADS];
	struct shared shared = { .shmem = shmem };
	struct quire_cpu *cpu;
	int fd = -1;

	assert_int_equal(quire_create(&config, &shared.q), 0);
	assert_int_equal(quire_cpu_enter(shared.q, 0, &cpu), 0);
	if (shmem) {
		assert_int_equal(quire_file_create_shmem(cpu, SPAN, &shared.file), 0);
	} else {
		fd = memfd_create("host", 0); /* a regular file to us, and fast to sync */
		assert_true(fd >= 0);
		assert_int_equal(quire_file_open_host(cpu, fd, true, &shared.file), 0);
		assert_int_equal(quire_file_truncate(cpu, shared.file, SPAN), 0);
	}
	quire_cpu_leave(cpu);
	for (unsigned i = 0; i < NR_THREADS; i++)
		worker_start(workers, i, &shared);
	for (unsigned i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, worker, &workers[i]), 0);
	for (unsigned i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	assert_int_equal(shared.failures, 0);
	assert_true(shared.faults_beyond_end > 0 && shared.truncates > 0);
	quire_drain(workers[0].cpu);
	assert_int_equal(quire_validate(workers[0].cpu, print_line, NULL), 0);
	check_contents(&workers[0], fd);
	stop_all(workers, &shared);
	if (fd >= 0)
		close(fd);
}

static void test_shmem_4k(void **state)
{
	(void)state;
	run(true, QUIRE_ORDERS_4K);
}

static void test_shmem_all(void **state)
{
	(void)state;
	run(true, QUIRE_ORDERS_ALL);
}

static void test_host_4k(void **state)
{
	(void)state;
	run(false, QUIRE_ORDERS_4K);
}

static void test_host_all(void **state)
{
	(void)state;
	run(false, QUIRE_ORDERS_ALL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shmem_4k),
		cmocka_unit_test(test_shmem_all),
		cmocka_unit_test(test_host_4k),
		cmocka_unit_test(test_host_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
