/* SPDX-License-Identifier: MIT */
/*
 * A program whose memory behaviour is known, to be recorded. It says on its standard output where things are, for the test
 * that compares: "name address". Each step stands in a function of its own so that it can be found again.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul

static void say(const char *name, const void *addr)
{
	printf("%s %lx\n", name, (unsigned long)addr);
	fflush(stdout);
}

static char *map(size_t pages, int flags, int fd)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static volatile char sink;

static void step_dontneed(void)
{
	char *p = map(4, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	say("dontneed", p);
	p[0] = 1;
	p[PAGE] = 1;
	madvise(p, PAGE, MADV_DONTNEED);
	sink = p[0];	/* again, and now a read: it was forgotten */
	sink = p[PAGE]; /* not touched by the call, and never read before */
}

static void step_mremap(void)
{
	char *p = map(4, MAP_PRIVATE | MAP_ANONYMOUS, -1), *q;

	say("mremap", p);
	p[PAGE] = 1;
	q = mremap(p, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
	say("moved", q);
	q[PAGE] = 2;
	munmap(q, 64 * PAGE);
}

static void step_brk(void)
{
	char *p = sbrk(64 * (long)PAGE);

	say("brk", p);
	p[32 * PAGE] = 1;
}

static void *thread(void *arg)
{
	char *p = arg;

	p[PAGE] = 1;
	return NULL;
}

static void step_thread(void)
{
	char *p = map(4, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pthread_t id;

	say("thread", p);
	p[0] = 1;
	pthread_create(&id, NULL, thread, p);
	pthread_join(id, NULL);
	p[2 * PAGE] = 1;
}

static pthread_barrier_t barrier;

/* Touches the same place each time the barrier lets it. */
static void *toucher(void *arg)
{
	char *volatile *place = arg;

	for (int i = 0; i < 20; i++) {
		pthread_barrier_wait(&barrier);
		sink = (*place)[i % 4 * (long)PAGE];
		(*place)[PAGE] = (char)i;
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/* Memory that another thread has just used goes away and comes back: its CPU must not remember it. */
static void step_shootdown(void)
{
	char *volatile place = NULL;
	pthread_t id;

	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&id, NULL, toucher, (void *)&place);
	for (int i = 0; i < 20; i++) {
		place = map(4, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		memset(place, 1, 4 * PAGE);
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		if (i == 0)
			say("shootdown", place);
		if (i % 2)
			madvise(place, 4 * PAGE, MADV_DONTNEED);
		place[PAGE] = 2;
		munmap(place, 4 * PAGE);
	}
	pthread_join(id, NULL);
}

static void step_fork(void)
{
	char *p = map(4, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pid_t child;

	say("fork", p);
	p[0] = 1;
	child = fork();
	if (!child) {
		p[0] = 2;
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	waitpid(child, NULL, 0);
	p[0] = 3; /* after the fork it counts as not touched yet */
}

static void step_file(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *p;

	if (fd < 0 || ftruncate(fd, 4 * (long)PAGE))
		exit(1);
	fd = dup(fd);
	p = map(4, MAP_SHARED, fd);
	close(fd);
	say("file", p);
	p[3 * PAGE] = 1;
	msync(p, PAGE, MS_SYNC);
	unlink(name);
}

static void step_memfd(void)
{
	int fd = memfd_create("test", 0);
	char *p;

	if (fd < 0 || ftruncate(fd, 4 * (long)PAGE))
		exit(1);
	p = map(4, MAP_SHARED, fd);
	say("memfd", p);
	p[0] = 1;
	if (ftruncate(fd, PAGE))
		exit(1);
	munmap(p, 4 * PAGE);
}

static void step_segment(void)
{
	int id = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
	char *p = shmat(id, NULL, 0);

	shmctl(id, IPC_RMID, NULL);
	say("segment", p);
	p[PAGE] = 1;
	shmdt(p);
}

static void step_buffer(void)
{
	char *p = map(8, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int fd = open("/dev/zero", O_RDONLY);

	say("buffer", p);
	if (read(fd, p + PAGE, 2 * PAGE) < 0)
		exit(1);
	close(fd);
}

static void step_failure(void)
{
	if (munmap((void *)1, 1) == 0)
		exit(1);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 1;
	step_dontneed();
	step_mremap();
	step_brk();
	step_thread();
	step_shootdown();
	step_fork();
	step_file(argv[1]);
	step_memfd();
	step_segment();
	step_buffer();
	step_failure();
	return 7;
}
