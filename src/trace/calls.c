/* SPDX-License-Identifier: MIT */
/*
 * What each system call of a recorded program means for its memory: the memory calls become records, some others tell
 * which file a descriptor stands for, how long a file is, who has ended, or that the kernel read or wrote a buffer.
 */
#define _GNU_SOURCE
#include "trace/traced.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE_SIZE (1ull << QREC_PAGE_SHIFT)

/* Lengths are bytes; what calls affect are whole pages. */
static uint64_t page_up(uint64_t value)
{
	return (value + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
}

/* The next touches of the range are recorded even if there were some before. */
static void forget(struct traced *traced, uint64_t addr, uint64_t len)
{
	if (addr < QREC_ADDR_MAX && len <= QREC_ADDR_MAX - addr)
		fold_forget(&traced->fold, addr >> QREC_PAGE_SHIFT, page_up(len) >> QREC_PAGE_SHIFT);
}

/* Ranges could not be changed: what follows would be attributed to the wrong files, so recording stops. */
static void check_memory(struct traced *traced, bool ok)
{
	if (!ok)
		traced->recorder->err = -ENOMEM;
}

/* @file is an index of hostfiles plus one, so that touches find what to learn about. */
static void add_range(struct traced *traced, uint64_t addr, uint64_t len, uint32_t file, uint64_t offset)
{
	struct range range = { .start = addr, .end = addr + page_up(len), .file = file, .offset = offset };

	check_memory(traced, ranges_insert(&traced->ranges, &range));
}

/* Whatever part of the range was mapped is not any more. */
static void remove_range(struct traced *traced, uint64_t addr, uint64_t len)
{
	check_memory(traced, ranges_remove(&traced->ranges, addr, addr + page_up(len)));
}

/* ------------------------------------------------------------------------------------------------ memory calls */

/* Most of them: addr, len, and one more number that is the record's flags. */
static void emit_call(struct traced *traced, enum qrec_op op, const struct lackey_call *call)
{
	struct qrec_event event = { .op = op, .addr = call->arg[0], .len = call->arg[1], .result = call->result };

	if (op == QREC_MPROTECT)
		event.prot = call->arg[2];
	else
		event.flags = call->arg[2];
	traced_emit(traced, &event);
	if (call->result >= 0)
		forget(traced, call->arg[0], call->arg[1]);
}

/* A page that is made accessible again may fault again: it is touched afresh. */
static void on_mprotect(struct traced *traced, const struct lackey_call *call)
{
	emit_call(traced, QREC_MPROTECT, call);
}

/* Any advice may drop, share or move pages: what is touched afterwards is told again. */
static void on_madvise(struct traced *traced, const struct lackey_call *call)
{
	emit_call(traced, QREC_MADVISE, call);
}

/* Locking faults pages in; what the program touches after that finds them present, which is worth seeing. */
static void on_mlock(struct traced *traced, const struct lackey_call *call)
{
	emit_call(traced, QREC_MLOCK, call);
}

static void on_munlock(struct traced *traced, const struct lackey_call *call)
{
	emit_call(traced, QREC_MUNLOCK, call);
}

/* Written pages are clean again: the next store is one that Linux must notice. */
static void on_msync(struct traced *traced, const struct lackey_call *call)
{
	emit_call(traced, QREC_MSYNC, call);
}

/* Looks only. Which pages were resident is the host's affair and not recorded. */
static void on_mincore(struct traced *traced, const struct lackey_call *call)
{
	struct qrec_event event = {
		.op = QREC_MINCORE, .addr = call->arg[0], .len = call->arg[1], .result = call->result
	};

	traced_emit(traced, &event);
}

/* About the whole address space, present and future; no touches are forgotten, as none of them changes. */
static void on_mlockall(struct traced *traced, const struct lackey_call *call)
{
	struct qrec_event event = { .op = QREC_MLOCKALL, .flags = call->arg[0], .result = call->result };

	traced_emit(traced, &event);
}

static void on_munlockall(struct traced *traced, const struct lackey_call *call)
{
	struct qrec_event event = { .op = QREC_MUNLOCKALL, .result = call->result };

	traced_emit(traced, &event);
}

/* The file, if any, stays known: other mappings may show it, and it may be mapped again. */
static void on_munmap(struct traced *traced, const struct lackey_call *call)
{
	emit_call(traced, QREC_MUNMAP, call);
	if (call->result >= 0)
		remove_range(traced, call->arg[0], call->arg[1]);
}

/* Index of the file behind a descriptor; one without a name if we never saw where it came from. */
static uint32_t file_of(struct traced *traced, uint64_t fd, uint64_t least_size)
{
	struct hostfiles *files = &traced->recorder->files;
	uint32_t file = descriptors_get(&traced->descriptors, fd);

	if (file == HOSTFILE_NONE)
		file = hostfiles_by_descriptor(files, traced->pid, (int)fd);
	if (file == HOSTFILE_NONE)
		file = hostfiles_add_memory(files, "(unknown file)", least_size);
	descriptors_set(&traced->descriptors, fd, file);
	return file;
}

/*
 * The result is where it is, whatever address was asked for. A file's name and size are recorded before its first
 * mapping.
 */
static void on_mmap(struct traced *traced, const struct lackey_call *call)
{
	struct qrec_event event = {
		.op = QREC_MMAP, .addr = call->arg[0], .len = call->arg[1], .prot = call->arg[2] & 7
	};
	uint32_t file = HOSTFILE_ZERO;

	event.result = call->result;
	/* MAP_UNINITIALIZED and unknown bits: what counts is what the kernel made of them. */
	event.flags = call->arg[3] & INT32_MAX;
	if (call->result >= 0 && !(event.flags & MAP_ANONYMOUS))
		file = file_of(traced, (uint32_t)call->arg[4], call->arg[5] + page_up(call->arg[1]));
	if (file == HOSTFILE_ZERO) {
		event.flags |= MAP_ANONYMOUS;
	} else {
		event.file = traced_file(traced, file);
		event.offset = call->arg[5];
	}
	traced_emit(traced, &event);
	if (call->result < 0)
		return;
	forget(traced, (uint64_t)call->result, call->arg[1]);
	add_range(traced, (uint64_t)call->result, call->arg[1], event.file ? file + 1 : 0, event.offset);
}

/*
 * The file and offset go along. Valgrind places the mapping itself, but says what the program asked for, and what it
 * got.
 */
static void on_mremap(struct traced *traced, const struct lackey_call *call)
{
	struct qrec_event event = {
		.op = QREC_MREMAP, .addr = call->arg[0], .len = call->arg[1], .flags = call->arg[3]
	};
	const struct range *from;
	struct range old = { 0 };

	event.result = call->result;
	event.new_len = call->arg[2];
	event.new_addr = call->nr_args > 4 ? call->arg[4] : 0;
	traced_emit(traced, &event);
	if (call->result < 0)
		return;
	from = ranges_find(&traced->ranges, call->arg[0]);
	if (from)
		old = *from;
	forget(traced, call->arg[0], call->arg[1]);
	forget(traced, (uint64_t)call->result, call->arg[2]);
	if (!(call->arg[3] & MREMAP_DONTUNMAP))
		remove_range(traced, call->arg[0], call->arg[1]);
	add_range(traced, (uint64_t)call->result, call->arg[2], old.file, old.offset + call->arg[0] - old.start);
}

/* The first call of a program asks where its heap begins. */
static void begin_heap(struct traced *traced, uint64_t start)
{
	struct qrec_event event = { .op = QREC_BRK_START, .addr = start };

	traced_emit(traced, &event);
	traced->brk = start;
}

/* The kernel's brk returns the break, moved or not; -errno does not exist. Both are recorded: before and after. */
static void on_brk(struct traced *traced, const struct lackey_call *call)
{
	struct qrec_event event = { .op = QREC_BRK, .addr = call->arg[0], .result = call->result };
	uint64_t old = traced->brk, brk = (uint64_t)call->result;

	if (call->result < 0)
		return;
	if (!old) {
		begin_heap(traced, brk);
		return;
	}
	event.len = old;
	traced_emit(traced, &event);
	traced->brk = brk;
	if (brk < old)
		forget(traced, brk, old - brk);
}

/* -------------------------------------------------------------------------------------------- System V segments */

/* A segment is a file in memory that is known by its id. Asking for one that exists says nothing new. */
static void on_shmget(struct traced *traced, const struct lackey_call *call)
{
	struct hostfiles *files = &traced->recorder->files;
	uint32_t file;

	if (call->result < 0 || hostfiles_by_segment(files, (uint64_t)call->result) != HOSTFILE_NONE)
		return;
	file = hostfiles_add_memory(files, "/SYSV00000000", page_up(call->arg[1]));
	if (file != HOSTFILE_NONE)
		files->list[file].shm_id = (uint64_t)call->result + 1;
}

/* Somebody should know that the recording is not the whole story. */
static void emit_unsupported(struct traced *traced, unsigned number)
{
	struct qrec_event event = { .op = QREC_UNSUPPORTED };

	event.arg[QREC_SYSCALL] = number;
	traced_emit(traced, &event);
}

/* Recorded as a shared mapping of the segment's file. */
static void on_shmat(struct traced *traced, const struct lackey_call *call)
{
	struct hostfiles *files = &traced->recorder->files;
	uint32_t file = hostfiles_by_segment(files, call->arg[0]);
	struct qrec_event event = { .op = QREC_MMAP, .prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED };

	if (call->result < 0)
		return;
	if (file == HOSTFILE_NONE || !files->list[file].size) {
		/* Made by somebody else: its size is not known. */
		emit_unsupported(traced, call->number);
		return;
	}
	event.file = traced_file(traced, file);
	event.len = files->list[file].size;
	event.result = call->result;
	traced_emit(traced, &event);
	forget(traced, (uint64_t)call->result, event.len);
	add_range(traced, (uint64_t)call->result, event.len, file + 1, 0);
}

/* Takes an address only; how much that is follows from what was attached there. */
static void on_shmdt(struct traced *traced, const struct lackey_call *call)
{
	const struct range *range = ranges_find(&traced->ranges, call->arg[0]);
	struct qrec_event event = { .op = QREC_MUNMAP, .addr = call->arg[0], .result = call->result };

	if (call->result < 0 || !range)
		return;
	event.len = range->end - call->arg[0];
	traced_emit(traced, &event);
	forget(traced, event.addr, event.len);
	remove_range(traced, event.addr, event.len);
}

/* --------------------------------------------------------------------------------------------- files and names */

/* Whatever was opened, if it can be mapped it may be mapped later, when its descriptor is closed again. */
static void on_open(struct traced *traced, const struct lackey_call *call)
{
	bool at = call->number == SYS_openat;
	uint64_t flags = call->number == SYS_creat ? O_TRUNC : call->arg[at ? 2 : 1];
	struct hostfiles *files = &traced->recorder->files;
	uint32_t file = HOSTFILE_NONE;

	if (call->result < 0)
		return;
	if (call->text)
		file = hostfiles_by_path(files, traced->pid, at ? (int)call->arg[0] : AT_FDCWD, call->text);
	descriptors_set(&traced->descriptors, (uint64_t)call->result, file);
	if (flags & O_TRUNC && file < files->nr)
		recorder_resize(traced->recorder, file, 0);
}

/*
 * Valgrind prints the address of the name and not the name. Its size comes with ftruncate, or with its first touches.
 */
static void on_memfd(struct traced *traced, const struct lackey_call *call)
{
	if (call->result >= 0)
		descriptors_set(&traced->descriptors, (uint64_t)call->result,
				hostfiles_add_memory(&traced->recorder->files, "/memfd:", 0));
}

/* dup, dup2, dup3, and the fcntl commands that duplicate; the result is the new descriptor. */
static void on_dup(struct traced *traced, const struct lackey_call *call)
{
	bool duplicates = call->number != SYS_fcntl || call->arg[1] == F_DUPFD || call->arg[1] == F_DUPFD_CLOEXEC;

	if (call->result >= 0 && duplicates)
		descriptors_set(&traced->descriptors, (uint64_t)call->result,
				descriptors_get(&traced->descriptors, call->arg[0]));
}

/* A descriptor that we do not follow (a pipe, a socket) must not stand for the file that it was before. */
static void on_close(struct traced *traced, const struct lackey_call *call)
{
	if (call->result >= 0)
		descriptors_set(&traced->descriptors, call->arg[0], HOSTFILE_NONE);
}

/* Of files that are mapped somewhere, now or later; those that never are cost nothing but the bookkeeping. */
static void on_ftruncate(struct traced *traced, const struct lackey_call *call)
{
	uint32_t file = descriptors_get(&traced->descriptors, call->arg[0]);

	if (call->result >= 0 && file < traced->recorder->files.nr)
		recorder_resize(traced->recorder, file, call->arg[1]);
}

/* The same by name. */
static void on_truncate(struct traced *traced, const struct lackey_call *call)
{
	struct hostfiles *files = &traced->recorder->files;
	uint32_t file;

	if (call->result < 0 || !call->text)
		return;
	file = hostfiles_by_path(files, traced->pid, AT_FDCWD, call->text);
	if (file < files->nr)
		recorder_resize(traced->recorder, file, call->arg[1]);
}

/* Pages of the hole are gone from all mappings: every process touches its pages afresh. */
static void punch(struct recorder *recorder, uint32_t file, uint64_t offset, uint64_t len)
{
	struct qrec_event event = { .op = QREC_FILE_PUNCH, .id = recorder->files.list[file].recorded };

	if (recorder->files.list[file].recorded == HOSTFILE_NONE)
		return;
	event.arg[QREC_PUNCH_OFFSET] = offset;
	event.arg[QREC_PUNCH_LEN] = len;
	qrec_write(recorder->writer, &event);
	for (uint32_t i = 0; i < recorder->nr; i++)
		fold_forget_all(&recorder->list[i]->fold);
}

/* Punching and plain growth; other modes move data around inside a file, which changes no mapping's layout. */
static void on_fallocate(struct traced *traced, const struct lackey_call *call)
{
	struct hostfiles *files = &traced->recorder->files;
	uint32_t file = descriptors_get(&traced->descriptors, call->arg[0]);
	uint64_t end = call->arg[2] + call->arg[3];

	if (call->result < 0 || file >= files->nr)
		return;
	if (call->arg[1] == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		punch(traced->recorder, file, call->arg[2], call->arg[3]);
	else if (!call->arg[1] && end > files->list[file].size)
		recorder_resize(traced->recorder, file, end);
}

/* ----------------------------------------------------------------------------------------------- lives and ends */

/* A thread gets its number here, where its maker stands in the order; it may not run for a long time. */
static void on_clone(struct traced *traced, const struct lackey_call *call)
{
	struct qrec_event event = { .op = QREC_THREAD, .id = traced->nr_threads };

	/* Anything else is a fork, which the tracer reports. */
	if (call->result <= 0 || !(call->arg[0] & CLONE_THREAD))
		return;
	traced->nr_threads++;
	traced_emit(traced, &event);
}

/* Another thread that lives, or QREC_UNKNOWN. One that was cloned but has not run yet has no number at valgrind. */
static uint32_t other_thread(const struct traced *traced)
{
	for (unsigned i = 0; i < LACKEY_THREADS; i++)
		if (traced->of[i] != QREC_UNKNOWN)
			return traced->of[i];
	return traced->nr_bound < traced->nr_threads ? traced->nr_bound : QREC_UNKNOWN;
}

/* The last thread's end is the end of its process, which the tracer reports. */
static void on_thread_exit(struct traced *traced, const struct lackey_call *call)
{
	struct qrec_event event = { .op = QREC_THREAD_END };
	uint32_t other;

	traced->of[call->thread] = QREC_UNKNOWN;
	other = other_thread(traced);
	if (other == QREC_UNKNOWN)
		return;
	traced_emit(traced, &event);
	traced->thread = other;
}

/* Once per child, by its parent: ptrace has reported the end before the parent could learn of it. */
static void emit_wait(struct traced *traced, struct traced *child)
{
	struct qrec_event event = { .op = QREC_WAIT, .id = child->id };

	if (child->parent != traced || child->state != TRACED_ENDED || child->waited || child->id == QREC_UNKNOWN)
		return;
	child->waited = true;
	traced_emit(traced, &event);
}

/* waitid does not say who it was, nor does a lost result: then all children that have ended are known to have. */
static void on_wait(struct traced *traced, const struct lackey_call *call)
{
	const struct recorder *recorder = traced->recorder;
	struct traced *child;

	if (call->result < 0)
		return;
	child = call->result ? recorder_find(recorder, (pid_t)call->result) : NULL;
	if (child)
		emit_wait(traced, child);
	else if (call->number == SYS_waitid || call->lost)
		for (uint32_t i = 0; i < recorder->nr; i++)
			emit_wait(traced, recorder->list[i]);
}

/* ---------------------------------------------------------------------------------------------------- buffers */

/* The kernel wrote the result's number of bytes to the buffer in the second argument. */
static void on_read(struct traced *traced, const struct lackey_call *call)
{
	if (call->result > 0)
		traced_touch(traced, QREC_STORE, call->arg[1], (uint64_t)call->result);
}

/* The same with the buffer in the first argument. */
static void on_fill(struct traced *traced, const struct lackey_call *call)
{
	if (call->result > 0)
		traced_touch(traced, QREC_STORE, call->arg[0], (uint64_t)call->result);
}

/* The kernel read the buffer: as much of it as the result says. */
static void on_write(struct traced *traced, const struct lackey_call *call)
{
	if (call->result > 0)
		traced_touch(traced, QREC_LOAD, call->arg[1], (uint64_t)call->result);
}

/* A call that failed changed nothing, so nothing is missing. */
static void on_unsupported(struct traced *traced, const struct lackey_call *call)
{
	if (call->result >= 0)
		emit_unsupported(traced, call->number);
}

/* -------------------------------------------------------------------------------------------------- the table */

#ifndef SYS_mseal
#define SYS_mseal 462 /* newer than the headers of Debian 12 */
#endif

static const struct {
	unsigned number;
	void (*handle)(struct traced *traced, const struct lackey_call *call);
	bool if_lost; /* it has most probably succeeded when a signal hid its result */
} handlers[] = {
	{ SYS_mmap, on_mmap, false },
	{ SYS_munmap, on_munmap, false },
	{ SYS_mprotect, on_mprotect, false },
	{ SYS_mremap, on_mremap, false },
	{ SYS_brk, on_brk, false },
	{ SYS_madvise, on_madvise, true },
	{ SYS_mlock, on_mlock, true },
	{ SYS_mlock2, on_mlock, false },
	{ SYS_munlock, on_munlock, true },
	{ SYS_mlockall, on_mlockall, true },
	{ SYS_munlockall, on_munlockall, true },
	{ SYS_msync, on_msync, true },
	{ SYS_mincore, on_mincore, false },
	{ SYS_shmget, on_shmget, false },
	{ SYS_shmat, on_shmat, false },
	{ SYS_shmdt, on_shmdt, false },

	{ SYS_open, on_open, false },
	{ SYS_openat, on_open, false },
	{ SYS_creat, on_open, false },
	{ SYS_memfd_create, on_memfd, false },
	{ SYS_dup, on_dup, false },
	{ SYS_dup2, on_dup, false },
	{ SYS_dup3, on_dup, false },
	{ SYS_fcntl, on_dup, false },
	{ SYS_close, on_close, false },
	{ SYS_ftruncate, on_ftruncate, true },
	{ SYS_truncate, on_truncate, true },
	{ SYS_fallocate, on_fallocate, true },

	{ SYS_clone, on_clone, false },
	{ SYS_exit, on_thread_exit, false },
	{ SYS_wait4, on_wait, true },
	{ SYS_waitid, on_wait, true },

	{ SYS_read, on_read, false },
	{ SYS_pread64, on_read, false },
	{ SYS_recvfrom, on_read, false },
	{ SYS_getdents64, on_read, false },
	{ SYS_readlink, on_read, false },
	{ SYS_getrandom, on_fill, false },
	{ SYS_getcwd, on_fill, false },
	{ SYS_write, on_write, false },
	{ SYS_pwrite64, on_write, false },
	{ SYS_sendto, on_write, false },

	{ SYS_remap_file_pages, on_unsupported, false },
	{ SYS_process_vm_readv, on_unsupported, false },
	{ SYS_process_vm_writev, on_unsupported, false },
	{ SYS_process_madvise, on_unsupported, false },
	{ SYS_userfaultfd, on_unsupported, false },
	{ SYS_pkey_mprotect, on_unsupported, false },
	{ SYS_mbind, on_unsupported, false },
	{ SYS_migrate_pages, on_unsupported, false },
	{ SYS_move_pages, on_unsupported, false },
	{ SYS_io_uring_setup, on_unsupported, false },
	{ SYS_mseal, on_unsupported, false },
};

void traced_call(struct traced *traced, const struct lackey_call *call)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(*handlers); i++)
		if (handlers[i].number == call->number) {
			if (!call->lost || handlers[i].if_lost)
				handlers[i].handle(traced, call);
			return;
		}
}
