/* SPDX-License-Identifier: MIT */
/* Linux's side: system calls. Runs in the worker process, which has nothing else in its address space. */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/mman.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct linux_side {
	struct side side;
	struct bench_setup setup;
	int fd;		      /* the memfd, or -1 */
	pid_t child;	      /* 0: none */
	int end_child;	      /* closing it ends the child */
	uint64_t *exit_begun; /* shared with the child: when it called _exit */
};

static struct linux_side *to_linux(struct side *side)
{
	return (struct linux_side *)(void *)side;
}

static int result_of(int ret)
{
	return ret < 0 ? -errno : 0;
}

static int linux_map(struct side *side, unsigned who, uint64_t addr, uint64_t len, bool file, uint64_t offset)
{
	int flags = MAP_FIXED_NOREPLACE | (file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	void *at = mmap((void *)(uintptr_t)addr, len, PROT_READ | PROT_WRITE, flags, file ? to_linux(side)->fd : -1,
			(off_t)offset);

	(void)who;
	return at == MAP_FAILED ? -errno : 0;
}

static int linux_unmap(struct side *side, unsigned who, uint64_t addr, uint64_t len)
{
	(void)side;
	(void)who;
	return result_of(munmap((void *)(uintptr_t)addr, len));
}

static int linux_advise(struct side *side, unsigned who, uint64_t addr, uint64_t len, int advice)
{
	int err = result_of(madvise((void *)(uintptr_t)addr, len, advice));

	(void)side;
	(void)who;
	/* A kernel without transparent huge pages has small ones only: what NOHUGEPAGE asks for. */
	return err == -EINVAL && advice == MADV_NOHUGEPAGE ? 0 : err;
}

static int linux_protect(struct side *side, unsigned who, uint64_t addr, uint64_t len, int prot)
{
	(void)side;
	(void)who;
	return result_of(mprotect((void *)(uintptr_t)addr, len, prot));
}

static int linux_touch(struct side *side, unsigned who, uint64_t addr, uint64_t len)
{
	(void)side;
	(void)who;
	for (uint64_t at = addr; at < addr + len; at += BENCH_PAGE)
		__atomic_store_n((char *)(uintptr_t)at, 1, __ATOMIC_RELAXED);
	return 0;
}

/* ---------------------------------------------------------------------------------------- children */

/* The child: waits until it is to end, notes the time and ends. */
static _Noreturn void child_main(struct linux_side *linux_side, const int pipe_fd[2])
{
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(pipe_fd[1]);
	while (read(pipe_fd[0], &byte, 1) < 0 && errno == EINTR)
		;
	__atomic_store_n(linux_side->exit_begun, bench_now(), __ATOMIC_RELEASE);
	_exit(0);
}

static int linux_fork(struct side *side, uint64_t *ns)
{
	struct linux_side *linux_side = to_linux(side);
	int pipe_fd[2];
	uint64_t begun;
	pid_t pid;

	if (pipe2(pipe_fd, O_CLOEXEC))
		return -errno;
	begun = bench_now();
	pid = fork();
	if (pid == 0)
		child_main(linux_side, pipe_fd);
	*ns = bench_now() - begun;
	close(pipe_fd[0]);
	if (pid < 0) {
		close(pipe_fd[1]);
		return -errno;
	}
	linux_side->child = pid;
	linux_side->end_child = pipe_fd[1];
	return 0;
}

static int linux_reap(struct side *side, uint64_t *ns)
{
	struct linux_side *linux_side = to_linux(side);
	int status;

	if (!linux_side->child)
		return 0;
	close(linux_side->end_child);
	while (waitpid(linux_side->child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	*ns = bench_now() - __atomic_load_n(linux_side->exit_begun, __ATOMIC_ACQUIRE);
	linux_side->child = 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

/* ---------------------------------------------------------------------------------------- the file */

static int linux_file_create(struct side *side, uint64_t size)
{
	struct linux_side *linux_side = to_linux(side);

	linux_side->fd = memfd_create("quire-bench", MFD_CLOEXEC);
	if (linux_side->fd < 0)
		return -errno;
	return result_of(ftruncate(linux_side->fd, (off_t)size));
}

static int linux_file_punch(struct side *side, uint64_t offset, uint64_t len)
{
	return result_of(
		fallocate(to_linux(side)->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len));
}

static void linux_file_close(struct side *side)
{
	close(to_linux(side)->fd);
	to_linux(side)->fd = -1;
}

/* ---------------------------------------------------------------------------------------- life */

/* Touches twice the range, which is what copy-on-write needs at its peak, and gives it back. */
static int linux_warm(struct side *side)
{
	uint64_t bytes = to_linux(side)->setup.range * 2;
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	if (at == MAP_FAILED)
		return -errno;
	err = result_of(madvise(at, bytes, MADV_POPULATE_WRITE));
	munmap(at, bytes);
	return err;
}

static int linux_open(struct side *side, const struct bench_setup *setup)
{
	struct linux_side *linux_side = to_linux(side);

	linux_side->setup = *setup;
	if (!linux_side->exit_begun) {
		void *page = mmap(NULL, BENCH_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (page == MAP_FAILED)
			return -errno;
		linux_side->exit_begun = page;
	}
	return linux_warm(side);
}

static void linux_close(struct side *side)
{
	(void)side;
}

static int linux_thread_begin(struct side *side, unsigned who)
{
	(void)side;
	(void)who;
	return 0;
}

static void linux_thread_end(struct side *side, unsigned who)
{
	(void)side;
	(void)who;
}

struct side *side_linux(void)
{
	static struct linux_side linux_side = {
		.side = {
			.name = "Linux",
			.open = linux_open,
			.close = linux_close,
			.warm = linux_warm,
			.map = linux_map,
			.unmap = linux_unmap,
			.advise = linux_advise,
			.protect = linux_protect,
			.touch = linux_touch,
			.fork = linux_fork,
			.reap = linux_reap,
			.file_create = linux_file_create,
			.file_punch = linux_file_punch,
			.file_close = linux_file_close,
			.thread_begin = linux_thread_begin,
			.thread_end = linux_thread_end,
		},
		.fd = -1,
	};

	return &linux_side.side;
}
