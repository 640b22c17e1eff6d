/* SPDX-License-Identifier: MIT */
/*
 * Backing files of the host, read and written through io_uring. Each CPU has a ring of its own, made when it first
 * transfers something; where the host has no io_uring or forbids it, as containers often do, preadv and pwritev do the
 * same.
 */
#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define RING_ENTRIES 4u /* one transfer at a time, and what liburing wants */
#define MAX_VECTORS 256u

struct machine_file {
	int fd; /* const: our own */
};

/* A transfer between a file and scattered pages, of which @done bytes are over. */
struct transfer {
	int fd;
	bool write;
	void *const *pages;
	u64 off; /* of the whole */
	u64 bytes, done;
	struct iovec vector[MAX_VECTORS]; /* of what is tried now */
	unsigned nr_vectors;
};

/* ---------------------------------------------------------------------------------------- rings */

static struct io_uring no_ring; /* only its address counts: in cpu->machine.ring, "the host refused" */

static struct io_uring *ring_create(void)
{
	struct io_uring *ring = malloc(sizeof(*ring));

	if (!ring)
		return &no_ring;
	/* We wait in the kernel anyhow, so it need not interrupt us to tell; an older one does not know the flag. */
	if (io_uring_queue_init(RING_ENTRIES, ring, IORING_SETUP_COOP_TASKRUN) &&
	    io_uring_queue_init(RING_ENTRIES, ring, 0)) {
		free(ring);
		return &no_ring;
	}
	return ring;
}

/* The CPU's ring, or NULL. Only its owner gets here, so this needs no lock. */
static struct io_uring *cpu_ring(struct quire_cpu *cpu)
{
	if (!cpu->machine.ring)
		cpu->machine.ring = ring_create();
	return cpu->machine.ring == &no_ring ? NULL : cpu->machine.ring;
}

void io_close_ring(struct quire_cpu *cpu)
{
	struct io_uring *ring = cpu->machine.ring;

	if (ring && ring != &no_ring) {
		io_uring_queue_exit(ring);
		free(ring);
	}
	cpu->machine.ring = NULL;
}

/* ---------------------------------------------------------------------------------------- transfers */

/* Vectors for what is not done yet, or as much of it as fits; pages that are neighbours in memory share one. */
static void transfer_vectors(struct transfer *t)
{
	u64 at = t->done;

	t->nr_vectors = 0;
	while (at < t->bytes) {
		u64 offset = at & ~PAGE_MASK, size = PAGE_SIZE - offset;
		u8 *base = (u8 *)t->pages[at >> PAGE_SHIFT] + offset;
		struct iovec *last = t->nr_vectors ? &t->vector[t->nr_vectors - 1] : NULL;

		size = size < t->bytes - at ? size : t->bytes - at;
		if (last && (u8 *)last->iov_base + last->iov_len == base)
			last->iov_len += size;
		else if (t->nr_vectors < MAX_VECTORS)
			t->vector[t->nr_vectors++] = (struct iovec){ base, size };
		else
			break;
		at += size;
	}
}

/* Submits what was prepared and waits for it. The result of the transfer; *error when the ring itself failed. */
static s64 ring_submit(struct io_uring *ring, int *error)
{
	struct io_uring_cqe *cqe;
	s64 result;

	do {
		*error = io_uring_submit_and_wait(ring, 1);
	} while (*error == -EINTR || *error == -EAGAIN || *error == -EBUSY);
	if (*error < 0)
		return *error;
	do {
		*error = io_uring_wait_cqe(ring, &cqe);
	} while (*error == -EINTR);
	if (*error < 0)
		return *error;
	result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

static s64 transfer_by_ring(struct quire_cpu *cpu, struct io_uring *ring, const struct transfer *t, int *error)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	s64 result;

	BUG_ON(!sqe); /* the last transfer is over, so all entries are free */
	if (t->write)
		io_uring_prep_writev(sqe, t->fd, t->vector, t->nr_vectors, t->off + t->done);
	else
		io_uring_prep_readv(sqe, t->fd, t->vector, t->nr_vectors, t->off + t->done);
	result = ring_submit(ring, error);
	if (*error < 0) {
		/* Nothing may be left in it that points to @t. */
		io_close_ring(cpu);
		cpu->machine.ring = &no_ring;
	}
	return result;
}

static s64 transfer_by_call(const struct transfer *t)
{
	off_t off = (off_t)(t->off + t->done);
	ssize_t result = t->write ? pwritev(t->fd, t->vector, (int)t->nr_vectors, off)
				  : preadv(t->fd, t->vector, (int)t->nr_vectors, off);

	return result < 0 ? -errno : result;
}

/* Tries what is not done yet; bytes, or a negative errno. */
static s64 transfer_try(struct quire_cpu *cpu, const struct transfer *t)
{
	struct io_uring *ring = cpu_ring(cpu);
	int error = 0;
	s64 result;

	if (!ring)
		return transfer_by_call(t);
	result = transfer_by_ring(cpu, ring, t, &error);
	return error < 0 ? transfer_by_call(t) : result;
}

/* All of it, however many steps the host takes; short only at the end of the file, or at an error after something was done. */
static s64 transfer_run(struct quire_cpu *cpu, struct transfer *t)
{
	while (t->done < t->bytes) {
		s64 result;

		transfer_vectors(t);
		result = transfer_try(cpu, t);
		if (result == -EINTR || result == -EAGAIN)
			continue;
		if (result < 0 && !t->done)
			return result;
		if (result <= 0)
			break;
		t->done += (u64)result;
	}
	return (s64)t->done;
}

s64 machine_file_read(struct quire_cpu *cpu, struct machine_file *file, u64 off, void *const *pages, unsigned nr)
{
	struct transfer t = { .fd = file->fd, .pages = pages, .off = off, .bytes = (u64)nr << PAGE_SHIFT };

	return transfer_run(cpu, &t);
}

s64 machine_file_write(struct quire_cpu *cpu, struct machine_file *file, u64 off, void *const *pages, unsigned nr,
		       u64 bytes)
{
	struct transfer t = { .fd = file->fd, .write = true, .pages = pages, .off = off, .bytes = bytes };

	BUG_ON2(bytes > (u64)nr << PAGE_SHIFT, bytes, nr);
	return transfer_run(cpu, &t);
}

/* ---------------------------------------------------------------------------------------- files */

/* May @handle be used as backing? 0 or a negative errno. */
static int check_handle(int handle, bool writable, int *flags)
{
	struct stat st;

	*flags = fcntl(handle, F_GETFL);
	if (*flags < 0 || (*flags & O_PATH))
		return -EBADF;
	if (fstat(handle, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENODEV;
	if ((*flags & O_ACCMODE) == O_WRONLY || (writable && (*flags & O_ACCMODE) != O_RDWR))
		return -EACCES;
	return 0;
}

/*
 * The same file under a descriptor of ours. One that appends, or wants aligned buffers and sizes, cannot be used as it is,
 * and the flags belong to the open file that the program shares with us: then the file is opened again.
 */
static int own_descriptor(int handle, int flags, const char *link)
{
	int fd = flags & (O_APPEND | O_DIRECT) ? open(link, (flags & O_ACCMODE) | O_CLOEXEC)
					       : fcntl(handle, F_DUPFD_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static void read_name(const char *link, char *name, size_t size)
{
	ssize_t length = size ? readlink(link, name, size - 1) : 0;

	if (size)
		name[length > 0 ? length : 0] = '\0';
}

int machine_file_open(struct quire *q, int handle, bool writable, struct machine_file **out, char *name, size_t size)
{
	struct machine_file *file;
	char link[32];
	int flags, error = check_handle(handle, writable, &flags);

	(void)q;
	if (error)
		return error;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", handle);
	file = malloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->fd = own_descriptor(handle, flags, link);
	if (file->fd < 0) {
		error = file->fd;
		free(file);
		return error;
	}
	read_name(link, name, size);
	*out = file;
	return 0;
}

void machine_file_close(struct machine_file *file)
{
	close(file->fd);
	free(file);
}

s64 machine_file_size(struct machine_file *file)
{
	struct stat st;

	return fstat(file->fd, &st) ? -errno : st.st_size;
}

int machine_file_truncate(struct machine_file *file, u64 size)
{
	return ftruncate(file->fd, (off_t)size) ? -errno : 0;
}

int machine_file_sync(struct quire_cpu *cpu, struct machine_file *file)
{
	(void)cpu;
	return fsync(file->fd) ? -errno : 0;
}

int machine_file_allocate(struct machine_file *file, int mode, u64 off, u64 len)
{
	return fallocate(file->fd, mode, (off_t)off, (off_t)len) ? -errno : 0;
}

int machine_file_punch(struct machine_file *file, u64 off, u64 len)
{
	return machine_file_allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
}
