/* SPDX-License-Identifier: MIT */
/*
 * Host files: what is read and written is what pread and pwrite of the host say, for scattered pages, at the end of a file, in
 * holes; with io_uring, and by plain system calls where the host forbids that.
 */
#define _GNU_SOURCE
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "random.h"

#define NR_PAGES 600u /* more than one submission takes */
#define NR_CPUS 3u

struct world {
	struct fixture f;
	int fd; /* an unlinked temporary file */
	char path[32];
	struct machine_file *file;
	u8 *memory;	      /* NR_PAGES pages */
	void *page[NR_PAGES]; /* pages of it, in the order of the test's choice */
};

static void world_start(struct world *w)
{
	const struct quire_config config = { .memory = 8u << 20, .nr_cpus = NR_CPUS };
	char name[256];

	memset(w, 0, sizeof(*w));
	fixture_start(&w->f, &config);
	strcpy(w->path, "quire-test-io-XXXXXX");
	w->fd = mkstemp(w->path);
	assert_true(w->fd >= 0);
	assert_int_equal(machine_file_open(w->f.q, w->fd, true, &w->file, name, sizeof(name)), 0);
	assert_string_equal(strrchr(name, '/') + 1, w->path);
	w->memory = aligned_alloc(PAGE_SIZE, NR_PAGES * PAGE_SIZE);
	assert_non_null(w->memory);
	for (unsigned i = 0; i < NR_PAGES; i++)
		w->page[i] = w->memory + i * PAGE_SIZE;
}

static void world_stop(struct world *w)
{
	free(w->memory);
	machine_file_close(w->file);
	close(w->fd);
	unlink(w->path);
	fixture_stop(&w->f);
}

static void shuffle_pages(struct world *w, u64 seed)
{
	for (u64 i = NR_PAGES - 1; i; i--) {
		u64 other = random_below(&seed, i + 1);
		void *page = w->page[i];

		w->page[i] = w->page[other];
		w->page[other] = page;
	}
}

/* The word at byte @off of the file, as the tests write it. */
static u64 word_at(u64 off, u64 seed)
{
	u64 state = off ^ seed << 48;

	return random_next(&state);
}

static void fill_pages(struct world *w, u64 off, u64 bytes, u64 seed)
{
	for (u64 at = 0; at < bytes; at += sizeof(u64))
		*(u64 *)(void *)((u8 *)w->page[at / PAGE_SIZE] + at % PAGE_SIZE) = word_at(off + at, seed);
}

static void check_pages(struct world *w, u64 off, u64 bytes, u64 seed)
{
	for (u64 at = 0; at < bytes; at += sizeof(u64)) {
		const u64 *word = (const u64 *)(const void *)((u8 *)w->page[at / PAGE_SIZE] + at % PAGE_SIZE);

		if (*word != word_at(off + at, seed))
			fail_msg("at %llu", (unsigned long long)at);
	}
}

static void check_file(struct world *w, u64 off, u64 bytes, u64 seed)
{
	u64 *buf = malloc(bytes);

	assert_non_null(buf);
	assert_int_equal(pread(w->fd, buf, bytes, (off_t)off), bytes);
	for (u64 at = 0; at < bytes; at += sizeof(u64))
		if (buf[at / sizeof(u64)] != word_at(off + at, seed))
			fail_msg("at %llu", (unsigned long long)at);
	free(buf);
}

/* ---------------------------------------------------------------------------------------- transfers */

/* Of every length, in neighbouring and in scattered pages; at offsets that need not be multiples of a page. */
static void round_trips(struct world *w)
{
	const unsigned counts[] = { 1, 2, 16, 255, 256, 257, NR_PAGES };
	u64 seed = 1;

	for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
		u64 bytes = counts[i] * PAGE_SIZE, off = i % 2 ? PAGE_SIZE * i : 512ull * i;

		fill_pages(w, off, bytes, ++seed);
		assert_int_equal(machine_file_write(w->f.cpu, w->file, off, w->page, counts[i], bytes), bytes);
		check_file(w, off, bytes, seed);
		memset(w->memory, 0xcc, NR_PAGES * PAGE_SIZE);
		assert_int_equal(machine_file_read(w->f.cpu, w->file, off, w->page, counts[i]), bytes);
		check_pages(w, off, bytes, seed);
	}
}

static void short_at_end_of_file(struct world *w)
{
	u64 size = 3 * PAGE_SIZE + 1000;

	assert_int_equal(ftruncate(w->fd, 0), 0);
	fill_pages(w, 0, size, 77);
	/* A last page that is written in part: the file ends there. */
	assert_int_equal(machine_file_write(w->f.cpu, w->file, 0, w->page, 4, size), size);
	assert_int_equal(machine_file_size(w->file), size);
	check_file(w, 0, size, 77);
	memset(w->memory, 0xcc, NR_PAGES * PAGE_SIZE);
	assert_int_equal(machine_file_read(w->f.cpu, w->file, 0, w->page, 10), size);
	check_pages(w, 0, size, 77);
	/* Beyond the end nothing is touched. */
	assert_int_equal(((u8 *)w->page[3])[1000], 0xcc);
	assert_int_equal(((u8 *)w->page[4])[0], 0xcc);
	assert_int_equal(machine_file_read(w->f.cpu, w->file, 2 * PAGE_SIZE, w->page, 10), size - 2 * PAGE_SIZE);
	assert_int_equal(machine_file_read(w->f.cpu, w->file, 4 * PAGE_SIZE, w->page, 1), 0);
	assert_int_equal(machine_file_read(w->f.cpu, w->file, 1ull << 40, w->page, 1), 0);
}

static void errors_come_back(struct world *w)
{
	struct machine_file *readonly;
	char link[32], name[8];
	int fd;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", w->fd);
	fd = open(link, O_RDONLY);
	assert_int_equal(machine_file_open(w->f.q, fd, false, &readonly, name, sizeof(name)), 0);
	assert_int_equal(strlen(name), sizeof(name) - 1);
	assert_int_equal(machine_file_write(w->f.cpu, readonly, 0, w->page, 1, 100), -EBADF);
	assert_int_equal(machine_file_read(w->f.cpu, readonly, 0, w->page, 1), PAGE_SIZE);
	/* Ours stays when theirs goes. */
	close(fd);
	assert_int_equal(machine_file_read(w->f.cpu, readonly, 0, w->page, 1), PAGE_SIZE);
	machine_file_close(readonly);
	/* No memory to transfer to. */
	w->page[1] = (void *)(uintptr_t)PAGE_SIZE;
	assert_int_equal(machine_file_read(w->f.cpu, w->file, PAGE_SIZE, w->page + 1, 1), -EFAULT);
}

static void all_transfers(void)
{
	struct world w;

	world_start(&w);
	round_trips(&w);
	shuffle_pages(&w, 5);
	round_trips(&w);
	short_at_end_of_file(&w);
	errors_come_back(&w);
	world_stop(&w);
}

static void test_transfers(void **state)
{
	(void)state;
	all_transfers();
}

/* ---------------------------------------------------------------------------------------- many CPUs */

struct worker {
	struct world *w;
	unsigned id;
	pthread_t thread;
	u32 failed;
};

/* Writes and reads its own part of the file. */
static void *transfer_own_part(void *arg)
{
	struct worker *worker = arg;
	struct world *w = worker->w;
	u64 part = NR_PAGES / NR_CPUS, off = worker->id * part * PAGE_SIZE;
	void **page = w->page + worker->id * part;
	struct quire_cpu *cpu = w->f.cpu;

	if (worker->id && quire_cpu_enter(w->f.q, worker->id, &cpu))
		return NULL;
	for (unsigned round = 0; round < 20; round++) {
		for (u64 i = 0; i < part; i++)
			*(u64 *)page[i] = word_at(off + i, round);
		if (machine_file_write(cpu, w->file, off, page, (unsigned)part, part * PAGE_SIZE) !=
		    (s64)(part * PAGE_SIZE))
			worker->failed++;
		for (u64 i = 0; i < part; i++)
			*(u64 *)page[i] = 0;
		if (machine_file_read(cpu, w->file, off, page, (unsigned)part) != (s64)(part * PAGE_SIZE))
			worker->failed++;
		for (u64 i = 0; i < part; i++)
			worker->failed += *(u64 *)page[i] != word_at(off + i, round);
	}
	if (worker->id)
		quire_cpu_leave(cpu);
	return NULL;
}

static void test_all_cpus_at_once(void **state)
{
	struct worker worker[NR_CPUS];
	struct world w;

	(void)state;
	world_start(&w);
	shuffle_pages(&w, 9);
	for (unsigned i = 0; i < NR_CPUS; i++)
		worker[i] = (struct worker){ .w = &w, .id = i };
	for (unsigned i = 1; i < NR_CPUS; i++)
		assert_int_equal(pthread_create(&worker[i].thread, NULL, transfer_own_part, &worker[i]), 0);
	transfer_own_part(&worker[0]);
	for (unsigned i = 1; i < NR_CPUS; i++)
		pthread_join(worker[i].thread, NULL);
	for (unsigned i = 0; i < NR_CPUS; i++)
		assert_int_equal(worker[i].failed, 0);
	world_stop(&w);
}

/* ---------------------------------------------------------------------------------------- the file itself */

static void test_size_truncate_punch_allocate(void **state)
{
	struct world w;
	struct stat st;

	(void)state;
	world_start(&w);
	assert_int_equal(machine_file_size(w.file), 0);
	fill_pages(&w, 0, 16 * PAGE_SIZE, 3);
	assert_int_equal(machine_file_write(w.f.cpu, w.file, 0, w.page, 16, 16 * PAGE_SIZE), 16 * PAGE_SIZE);
	assert_int_equal(machine_file_sync(w.f.cpu, w.file), 0);
	assert_int_equal(machine_file_punch(w.file, 4 * PAGE_SIZE, 4 * PAGE_SIZE), 0);
	assert_int_equal(machine_file_size(w.file), 16 * PAGE_SIZE);
	assert_int_equal(machine_file_read(w.f.cpu, w.file, 0, w.page, 16), 16 * PAGE_SIZE);
	check_pages(&w, 0, 4 * PAGE_SIZE, 3);
	for (unsigned i = 4; i < 8; i++)
		assert_true(((u64 *)w.page[i])[0] == 0 && ((u64 *)w.page[i])[511] == 0);
	assert_int_equal(machine_file_truncate(w.file, 5000), 0);
	assert_int_equal(machine_file_size(w.file), 5000);
	assert_int_equal(machine_file_truncate(w.file, ~0ull), -EINVAL);
	assert_int_equal(machine_file_allocate(w.file, 0, 0, 64 * PAGE_SIZE), 0);
	assert_int_equal(machine_file_size(w.file), 64 * PAGE_SIZE);
	assert_int_equal(machine_file_allocate(w.file, FALLOC_FL_KEEP_SIZE, 64 * PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(machine_file_size(w.file), 64 * PAGE_SIZE);
	assert_int_equal(fstat(w.fd, &st), 0);
	assert_true(st.st_blocks * 512 >= (blkcnt_t)(65 * PAGE_SIZE));
	assert_int_equal(machine_file_allocate(w.file, 0, 0, 0), -EINVAL);
	world_stop(&w);
}

static void test_open_refuses(void **state)
{
	struct world w;
	struct machine_file *file;
	char link[32], name[64];
	int pipe_fd[2], fd;

	(void)state;
	world_start(&w);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", w.fd);
	assert_int_equal(machine_file_open(w.f.q, -1, false, &file, name, sizeof(name)), -EBADF);
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(machine_file_open(w.f.q, pipe_fd[0], false, &file, name, sizeof(name)), -ENODEV);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	fd = open(".", O_RDONLY | O_DIRECTORY);
	assert_int_equal(machine_file_open(w.f.q, fd, false, &file, name, sizeof(name)), -ENODEV);
	close(fd);
	fd = open(link, O_WRONLY);
	assert_int_equal(machine_file_open(w.f.q, fd, true, &file, name, sizeof(name)), -EACCES);
	assert_int_equal(machine_file_open(w.f.q, fd, false, &file, name, sizeof(name)), -EACCES);
	close(fd);
	fd = open(link, O_RDONLY);
	assert_int_equal(machine_file_open(w.f.q, fd, true, &file, name, sizeof(name)), -EACCES);
	close(fd);
	fd = open(link, O_PATH);
	assert_int_equal(machine_file_open(w.f.q, fd, false, &file, name, sizeof(name)), -EBADF);
	close(fd);
	world_stop(&w);
}

/* Writing through a descriptor that appends would put everything at the end. */
static void test_appending_descriptor(void **state)
{
	struct world w;
	struct machine_file *file;
	char link[32], name[64];
	int fd;

	(void)state;
	world_start(&w);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", w.fd);
	fd = open(link, O_RDWR | O_APPEND);
	assert_int_equal(machine_file_open(w.f.q, fd, true, &file, name, sizeof(name)), 0);
	for (u64 seed = 0; seed < 2; seed++) {
		fill_pages(&w, 0, 4 * PAGE_SIZE, seed);
		assert_int_equal(machine_file_write(w.f.cpu, file, 0, w.page, 4, 4 * PAGE_SIZE), 4 * PAGE_SIZE);
		check_file(&w, 0, 4 * PAGE_SIZE, seed);
		assert_int_equal(machine_file_size(file), 4 * PAGE_SIZE);
	}
	machine_file_close(file);
	close(fd);
	world_stop(&w);
}

/* ---------------------------------------------------------------------------------------- without io_uring */

/* From here on, for the rest of the process, io_uring_setup fails with EPERM, as in many containers. */
static void forbid_io_uring(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(filter), .filter = filter };

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	assert_int_equal(syscall(SYS_io_uring_setup, 1, NULL), -1);
	assert_int_equal(errno, EPERM);
}

static void test_transfers_without_io_uring(void **state)
{
	(void)state;
	forbid_io_uring();
	all_transfers();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transfers),
		cmocka_unit_test(test_all_cpus_at_once),
		cmocka_unit_test(test_size_truncate_punch_allocate),
		cmocka_unit_test(test_open_refuses),
		cmocka_unit_test(test_appending_descriptor),
		cmocka_unit_test(test_transfers_without_io_uring), /* last: it cannot be taken back */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
