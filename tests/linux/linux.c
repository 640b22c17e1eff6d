/* SPDX-License-Identifier: MIT */
/*
 * The running kernel as an executor. Address-space operations are real system calls, loads and stores real instructions
 * in a test process; operations on files are done by the tester itself, which has the same files open.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "abi.h"
#include "process.h"

struct linux_executor {
	struct executor base;
	struct family family;
	struct usage idle; /* of a process that did nothing yet: the harness's own share */
};

static struct linux_executor *linux_of(struct executor *x)
{
	return (struct linux_executor *)x;
}

static struct process *live_process(struct executor *x, unsigned proc)
{
	struct process *p = &linux_of(x)->family.member[proc + 1];

	return proc < MAX_PROCS && p->pid ? p : NULL;
}

static bool linux_alive(struct executor *x, unsigned proc)
{
	return live_process(x, proc) != NULL;
}

/* ------------------------------------------------------------------------------------------------------- views */

/* The descriptor of a file in /proc/pid, opened once for each process. */
static int proc_fd(struct process *p, int *fd, const char *name)
{
	char path[64];

	if (*fd >= 0)
		return *fd;
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)p->pid, name);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? -errno : *fd;
}

static int read_all(int fd, struct text *out)
{
	char buf[16384];
	ssize_t n;

	if (fd < 0)
		return fd;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		text_append(out, buf, (size_t)n);
	return n < 0 ? -errno : 0;
}

static int linux_maps(struct executor *x, unsigned proc, struct text *out)
{
	struct process *p = live_process(x, proc);

	return p ? read_all(proc_fd(p, &p->maps_fd, "maps"), out) : -ENXIO;
}

static int linux_smaps(struct executor *x, unsigned proc, struct text *out)
{
	struct process *p = live_process(x, proc);

	return p ? read_all(proc_fd(p, &p->smaps_fd, "smaps"), out) : -ENXIO;
}

static int linux_pagemap(struct executor *x, unsigned proc, uint64_t addr, size_t nr, uint64_t *out)
{
	struct process *p = live_process(x, proc);
	ssize_t n;
	int fd;

	if (!p)
		return -ENXIO;
	fd = proc_fd(p, &p->pagemap_fd, "pagemap");
	if (fd < 0)
		return fd;
	n = pread(fd, out, nr * 8, (off_t)(addr / PAGE * 8));
	return n < 0 ? -errno : n == (ssize_t)(nr * 8) ? 0 : -EIO;
}

/*
 * By /proc/pid/mem: process_vm_readv pins what it reads, for which it makes a copy of anonymous memory that is shared
 * after a fork (D-vm-readv).
 */
static int64_t linux_peek(struct executor *x, unsigned proc, uint64_t addr, void *buf, size_t len)
{
	struct process *p = live_process(x, proc);
	ssize_t n;
	int fd;

	if (!p)
		return -ENXIO;
	fd = proc_fd(p, &p->mem_fd, "mem");
	if (fd < 0)
		return fd;
	n = pread(fd, buf, len, (off_t)addr);
	return n >= 0 ? n : errno == EIO ? -EFAULT : -errno;
}

static uint64_t slot_offset(unsigned proc, size_t field)
{
	return SLOTS_ADDR + (uint64_t)(proc + 1) * SLOT_BYTES + field;
}

static struct slot *slot_of(struct executor *x, unsigned proc)
{
	return &linux_of(x)->family.slots[proc + 1];
}

static int64_t call(struct executor *x, unsigned proc, long nr, const uint64_t arg[6])
{
	return member_syscall(&linux_of(x)->family, proc + 1, nr, arg);
}

static int linux_mincore(struct executor *x, unsigned proc, uint64_t addr, size_t nr, uint8_t *vec)
{
	int64_t ret;

	if (!live_process(x, proc) || nr > MAX_DATA)
		return -ENXIO;
	ret = call(x, proc, SYS_mincore,
		   (uint64_t[6]){ addr, nr * PAGE, slot_offset(proc, offsetof(struct slot, data)) });
	if (!ret)
		memcpy(vec, slot_of(x, proc)->data, nr);
	return (int)ret;
}

/* A line "Name:   123 kB" of status, in pages. */
static uint64_t status_pages(const char *status, const char *name)
{
	const char *line = strstr(status, name);

	return line ? strtoull(line + strlen(name), NULL, 10) * 1024 / PAGE : 0;
}

static int raw_usage(struct process *p, struct usage *out)
{
	struct text t = { 0 };
	int err = read_all(proc_fd(p, &p->status_fd, "status"), &t);

	if (!err && !t.data)
		err = -ESRCH; /* the process is gone */
	if (!err) {
		*out = (struct usage){
			.total_vm = status_pages(t.data, "\nVmSize:"),
			.locked_vm = status_pages(t.data, "\nVmLck:"),
			.data_vm = status_pages(t.data, "\nVmData:"),
			.stack_vm = status_pages(t.data, "\nVmStk:"),
			.rss_anon = status_pages(t.data, "\nRssAnon:"),
			.rss_file = status_pages(t.data, "\nRssFile:"),
			.rss_shmem = status_pages(t.data, "\nRssShmem:"),
		};
	}
	text_free(&t);
	return err;
}

/* Resident pages without the harness's own; the limits count all of total_vm, so that is not reduced. */
static int linux_usage(struct executor *x, unsigned proc, struct usage *out)
{
	struct process *p = live_process(x, proc);
	const struct usage *idle = &linux_of(x)->idle;
	int err;

	if (!p)
		return -ENXIO;
	err = raw_usage(p, out);
	if (err)
		return err;
	out->rss_anon -= idle->rss_anon;
	out->rss_file -= idle->rss_file;
	out->rss_shmem -= idle->rss_shmem;
	return 0;
}

/* ------------------------------------------------------------------------------------------------------- files */

static int file_fd(struct executor *x, unsigned file)
{
	return file < MAX_FILES ? linux_of(x)->family.fds[file] : -1;
}

static int64_t linux_file_size(struct executor *x, unsigned file)
{
	struct stat st;

	return fstat(file_fd(x, file), &st) < 0 ? -errno : st.st_size;
}

static int64_t linux_file_read(struct executor *x, unsigned file, uint64_t off, void *buf, size_t len)
{
	ssize_t n = pread(file_fd(x, file), buf, len, (off_t)off);

	return n < 0 ? -errno : n;
}

static int64_t linux_host_read(struct executor *x, void *buf, size_t len)
{
	return linux_file_read(x, FILE_HOST, 0, buf, len);
}

static uint64_t linux_file_inode(struct executor *x, unsigned file)
{
	struct stat st;

	return fstat(file_fd(x, file), &st) < 0 ? 0 : st.st_ino;
}

static int64_t result(int64_t ret)
{
	return ret < 0 ? -errno : ret;
}

/* Page by page, so that the page cache of the host file has no large folios (hostfile.c says why). */
static int64_t file_pwrite(int fd, const struct op *op)
{
	uint8_t buf[MAX_DATA];
	uint64_t len = op->arg[2] < MAX_DATA ? op->arg[2] : MAX_DATA, done = 0;

	pattern_fill(op->arg[3], buf, len);
	do {
		uint64_t off = op->arg[1] + done, room = PAGE - off % PAGE;
		int64_t n = result(pwrite(fd, buf + done, room < len - done ? room : len - done, (off_t)off));

		if (n <= 0)
			return done ? (int64_t)done : n;
		done += (uint64_t)n;
	} while (done < len);
	return (int64_t)done;
}

static void file_pread(int fd, const struct op *op, struct outcome *out)
{
	uint64_t len = op->arg[2] < MAX_DATA ? op->arg[2] : MAX_DATA;

	out->ret = result(pread(fd, out->data, len, (off_t)op->arg[1]));
	out->data_len = out->ret > 0 ? (uint32_t)out->ret : 0;
}

static void apply_file(struct executor *x, const struct op *op, struct outcome *out)
{
	int fd = file_fd(x, (unsigned)op->arg[0]);

	if (op->kind == OP_PREAD)
		file_pread(fd, op, out);
	else if (op->kind == OP_PWRITE)
		out->ret = file_pwrite(fd, op);
	else if (op->kind == OP_FTRUNCATE)
		out->ret = result(ftruncate(fd, (off_t)op->arg[1]));
	else if (op->kind == OP_FALLOCATE)
		out->ret = result(fallocate(fd, (int)op->arg[1], (off_t)op->arg[2], (off_t)op->arg[3]));
	else
		out->ret = result(fsync(fd));
}

/* -------------------------------------------------------------------------------------------- operations proper */

/* The system calls whose arguments are those of the operation. */
static long plain_syscall(enum op_kind kind)
{
	switch (kind) {
	case OP_MUNMAP:
		return SYS_munmap;
	case OP_MPROTECT:
		return SYS_mprotect;
	case OP_MREMAP:
		return SYS_mremap;
	case OP_BRK:
		return SYS_brk;
	case OP_MADVISE:
		return SYS_madvise;
	case OP_MSYNC:
		return SYS_msync;
	case OP_MLOCK:
		return SYS_mlock;
	case OP_MLOCK2:
		return SYS_mlock2;
	case OP_MUNLOCK:
		return SYS_munlock;
	case OP_MLOCKALL:
		return SYS_mlockall;
	case OP_MUNLOCKALL:
		return SYS_munlockall;
	case OP_MSEAL:
		return SYS_mseal;
	default:
		return -1;
	}
}

static void apply_mmap(struct executor *x, const struct op *op, struct outcome *out)
{
	int64_t file = (int64_t)op->arg[4];
	uint64_t arg[6];

	memcpy(arg, op->arg, sizeof(arg));
	if (file >= 0)
		arg[4] = (uint64_t)file_fd(x, (unsigned)file);
	out->ret = call(x, op->proc, SYS_mmap, arg);
}

static void apply_mincore(struct executor *x, const struct op *op, struct outcome *out)
{
	out->ret = call(x, op->proc, SYS_mincore,
			(uint64_t[6]){ op->arg[0], op->arg[1], slot_offset(op->proc, offsetof(struct slot, data)) });
	if (out->ret)
		return;
	out->data_len = (uint32_t)((op->arg[1] + PAGE - 1) / PAGE);
	memcpy(out->data, slot_of(x, op->proc)->data, out->data_len);
}

/* Loads, stores, fetches and exchanges end with a result or with a signal. */
static int apply_access(struct executor *x, const struct op *op, struct outcome *out)
{
	struct slot *slot = slot_of(x, op->proc);
	enum slot_request request = op->kind == OP_LOAD	     ? REQUEST_LOAD
				    : op->kind == OP_STORE   ? REQUEST_STORE
				    : op->kind == OP_CMPXCHG ? REQUEST_CMPXCHG
							     : REQUEST_FETCH;
	int err;

	memcpy(slot->arg, op->arg, sizeof(slot->arg));
	if (op->kind == OP_STORE)
		pattern_fill(op->arg[2], slot->data, op->arg[1]);
	if (op->kind == OP_CMPXCHG)
		pattern_fill(op->arg[2], (uint8_t *)&slot->arg[2], 8);
	err = member_request(&linux_of(x)->family, op->proc + 1u, request);
	if (err)
		return err;
	out->ret = slot->ret ? -EFAULT : 0;
	if (slot->ret) {
		out->signo = (int)slot->signo;
		out->code = slot->code;
		out->fault_addr = slot->fault_addr;
	} else if (op->kind == OP_LOAD) {
		out->data_len = (uint32_t)op->arg[1];
		memcpy(out->data, slot->data, out->data_len);
	} else if (op->kind == OP_CMPXCHG) {
		out->data_len = 8;
		memcpy(out->data, &slot->arg[1], 8);
	}
	return 0;
}

/* process_vm_readv and process_vm_writev, with one range on either side; ours is the slot's data. */
static void apply_vm(struct executor *x, const struct op *op, struct outcome *out)
{
	struct slot *slot = slot_of(x, op->proc);
	struct process *target = live_process(x, (unsigned)op->arg[0]);
	uint64_t iov = slot_offset(op->proc, offsetof(struct slot, more));
	uint64_t vec[4] = { slot_offset(op->proc, offsetof(struct slot, data)), op->arg[2], op->arg[1], op->arg[2] };

	if (op->kind == OP_VMWRITE)
		pattern_fill(op->arg[3], slot->data, op->arg[2]);
	memcpy(slot->more, vec, sizeof(vec));
	out->ret = call(x, op->proc, op->kind == OP_VMREAD ? SYS_process_vm_readv : SYS_process_vm_writev,
			(uint64_t[6]){ (uint64_t)target->pid, iov, 1, iov + 16, 1, 0 });
	if (op->kind == OP_VMREAD && out->ret > 0) {
		out->data_len = (uint32_t)out->ret;
		memcpy(out->data, slot->data, out->data_len);
	}
}

static void set_limit(struct process *p, int resource, uint64_t soft)
{
	struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };

	prlimit(p->pid, (enum __rlimit_resource)resource, NULL, &lim);
	lim.rlim_cur = soft < lim.rlim_max ? soft : lim.rlim_max;
	prlimit(p->pid, (enum __rlimit_resource)resource, &lim, NULL);
}

/* A new process has all of the harness's memory present from the start, so that its share stays the same. */
static int touch_own_memory(struct executor *x, unsigned proc)
{
	int64_t ret = call(x, proc, SYS_madvise, (uint64_t[6]){ CHILD_TEXT, CHILD_TEXT_BYTES, MADV_POPULATE_READ });

	if (!ret)
		ret = call(x, proc, SYS_madvise, (uint64_t[6]){ SLOTS_ADDR, SLOTS_BYTES, MADV_POPULATE_WRITE });
	return (int)ret;
}

static int64_t apply_fork(struct executor *x, const struct op *op)
{
	int64_t ret = member_fork(&linux_of(x)->family, op->proc + 1u, (unsigned)op->arg[0] + 1);

	return ret > 0 ? touch_own_memory(x, (unsigned)op->arg[0]) : ret;
}

/* The process that an operation names besides the one that does it is fit for it. */
static bool operand_lives(struct executor *x, const struct op *op)
{
	if (op->kind == OP_FORK)
		return op->arg[0] < MAX_PROCS && !live_process(x, (unsigned)op->arg[0]);
	if (op->kind == OP_VMREAD || op->kind == OP_VMWRITE)
		return op->arg[0] < MAX_PROCS && live_process(x, (unsigned)op->arg[0]);
	return true;
}

static int linux_apply(struct executor *x, const struct op *op, struct outcome *out)
{
	out->skipped = false;
	out->ret = 0;
	out->signo = out->code = 0;
	out->fault_addr = 0;
	out->data_len = 0;
	if (op_descs[op->kind].file_op) {
		apply_file(x, op, out);
		return 0;
	}
	if (!live_process(x, op->proc) || !operand_lives(x, op)) {
		out->skipped = true;
		return 0;
	}
	switch (op->kind) {
	case OP_MMAP:
		apply_mmap(x, op, out);
		break;
	case OP_MINCORE:
		apply_mincore(x, op, out);
		break;
	case OP_LOAD:
	case OP_STORE:
	case OP_FETCH:
	case OP_CMPXCHG:
		return apply_access(x, op, out);
	case OP_FORK:
		out->ret = apply_fork(x, op);
		break;
	case OP_EXIT:
		member_end(&linux_of(x)->family, op->proc + 1u);
		break;
	case OP_VMREAD:
	case OP_VMWRITE:
		apply_vm(x, op, out);
		break;
	case OP_SETRLIMIT:
		set_limit(live_process(x, op->proc), (int)op->arg[0], op->arg[1]);
		break;
	default:
		out->ret = call(x, op->proc, plain_syscall((enum op_kind)op->kind), op->arg);
	}
	return out->ret == -ESRCH ? -ESRCH : 0;
}

/* --------------------------------------------------------------------------------------------------- sequences */

static int empty_files(struct executor *x)
{
	for (unsigned i = 0; i < MAX_FILES; i++)
		if (i != FILE_READONLY && ftruncate(file_fd(x, i), 0) < 0)
			return -errno;
	return 0;
}

/* The kernel may have dropped pages of it since; its residency is compared. */
static int read_readonly_file(struct executor *x)
{
	static uint8_t buf[READONLY_SIZE];

	return linux_file_read(x, FILE_READONLY, 0, buf, sizeof(buf)) == (int64_t)sizeof(buf) ? 0 : -EIO;
}

static int linux_begin(struct executor *x)
{
	struct linux_executor *l = linux_of(x);
	int64_t ret = empty_files(x);

	if (!ret)
		ret = read_readonly_file(x);
	if (!ret)
		ret = member_fork(&l->family, 0, 1);
	if (ret < 0)
		return (int)ret;
	set_limit(live_process(x, 0), RLIMIT_AS, RLIM_INFINITY);
	set_limit(live_process(x, 0), RLIMIT_DATA, RLIM_INFINITY);
	set_limit(live_process(x, 0), RLIMIT_MEMLOCK, RLIM_INFINITY);
	set_limit(live_process(x, 0), RLIMIT_STACK, STACK_LIMIT);
	ret = touch_own_memory(x, 0);
	return ret ? (int)ret : raw_usage(live_process(x, 0), &l->idle);
}

static int linux_end(struct executor *x, struct text *say)
{
	(void)say;
	for (unsigned m = NR_SLOTS; m-- > 1;)
		member_end(&linux_of(x)->family, m);
	return 0;
}

static void linux_destroy(struct executor *x)
{
	family_destroy(&linux_of(x)->family);
	for (unsigned i = 0; i < MAX_FILES; i++)
		close(file_fd(x, i));
	free(x);
}

static const struct executor_ops linux_ops = {
	.name = "linux",
	.begin = linux_begin,
	.end = linux_end,
	.apply = linux_apply,
	.alive = linux_alive,
	.maps = linux_maps,
	.smaps = linux_smaps,
	.pagemap = linux_pagemap,
	.peek = linux_peek,
	.mincore = linux_mincore,
	.usage = linux_usage,
	.file_size = linux_file_size,
	.file_read = linux_file_read,
	.file_inode = linux_file_inode,
	.host_read = linux_host_read,
	.destroy = linux_destroy,
};

/* A second, read-only description of the same file; the processes inherit this one. */
static int reopen_readonly(int fd)
{
	char path[64];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY);
	close(fd);
	return ro;
}

static int create_files(struct family *f, const char *dir)
{
	int fd;

	for (unsigned i = 0; i < FILE_HOST; i++)
		f->fds[i] = memfd_create("quire", 0);
	f->fds[FILE_HOST] = host_file_create(dir);
	fcntl(f->fds[FILE_HOST], F_SETFD, 0);
	fd = host_file_create(dir);
	if (fd < 0 || host_file_fill_readonly(fd))
		return -1;
	f->fds[FILE_READONLY] = reopen_readonly(fd);
	for (unsigned i = 0; i < MAX_FILES; i++) {
		if (f->fds[i] < 0)
			return -1;
		posix_fadvise(f->fds[i], 0, 0, POSIX_FADV_RANDOM); /* no read-ahead, and so no large folios from it */
	}
	return 0;
}

/* Sequences set limits of their own; the hard one must not stand in their way. Fails unless privileged: then it does. */
static void raise_memlock(pid_t pid)
{
	const struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };

	prlimit(pid, RLIMIT_MEMLOCK, &lim, NULL);
}

struct executor *linux_executor_create(const char *label, const char *dir)
{
	struct linux_executor *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->base.ops = &linux_ops;
	l->base.label = label;
	if (create_files(&l->family, dir) || family_create(&l->family)) {
		free(l);
		return NULL;
	}
	raise_memlock(l->family.member[0].pid);
	return &l->base;
}

uint64_t linux_memlock_max(struct executor *x)
{
	struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };

	prlimit(linux_of(x)->family.member[0].pid, RLIMIT_MEMLOCK, NULL, &lim);
	return lim.rlim_max;
}

uint64_t linux_mmap_base(struct executor *x)
{
	return linux_of(x)->family.mmap_base;
}
