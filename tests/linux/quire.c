/* SPDX-License-Identifier: MIT */
/*
 * quire as an executor. One machine with two CPUs serves all sequences of a worker, so that what one sequence leaves
 * behind (a leaked frame, a stale TLB entry, a broken list) shows in the next. Which CPU does an operation depends on the
 * operation alone, so that a subset of a sequence is done by the same CPUs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <quire/quire.h>

#include "executor.h"
#include "layout.h"
#include "random.h"

#define NR_CPUS 2

struct quire_executor {
	struct executor base;
	struct quire *q;
	struct quire_cpu *cpu[NR_CPUS];
	struct quire_options options;
	uint64_t mmap_min_addr;
	struct quire_mm *mm[MAX_PROCS];
	struct quire_file *file[MAX_FILES];
	int host_fd, readonly_fd;
	uint64_t idle_shmem; /* resident pages of a process that did nothing yet: the harness's share */
};

static struct quire_executor *quire_of(struct executor *x)
{
	return (struct quire_executor *)x;
}

static bool quire_alive(struct executor *x, unsigned proc)
{
	return proc < MAX_PROCS && quire_of(x)->mm[proc];
}

/* The CPU that does this operation, running the operation's process. */
static struct quire_cpu *cpu_for(struct quire_executor *q, const struct op *op)
{
	struct quire_cpu *cpu = q->cpu[rng_mix(op->kind ^ op->arg[0] ^ op->arg[1] << 7) % NR_CPUS];

	quire_cpu_run(cpu, q->mm[op->proc]);
	return cpu;
}

/* ------------------------------------------------------------------------------------------------------- views */

static int emit_text(void *arg, const char *data, size_t len)
{
	return text_append(arg, data, len);
}

static int quire_maps(struct executor *x, unsigned proc, struct text *out)
{
	struct quire_executor *q = quire_of(x);

	return quire_alive(x, proc) ? quire_show_maps(q->cpu[0], q->mm[proc], emit_text, out) : -ENXIO;
}

static int quire_smaps(struct executor *x, unsigned proc, struct text *out)
{
	struct quire_executor *q = quire_of(x);

	return quire_alive(x, proc) ? quire_show_smaps(q->cpu[0], q->mm[proc], emit_text, out) : -ENXIO;
}

static int quire_pagemap(struct executor *x, unsigned proc, uint64_t addr, size_t nr, uint64_t *out)
{
	struct quire_executor *q = quire_of(x);
	struct text t = { 0 };
	int err;

	if (!quire_alive(x, proc))
		return -ENXIO;
	err = quire_show_pagemap(q->cpu[0], q->mm[proc], addr, addr + nr * PAGE, emit_text, &t);
	if (!err && t.len != nr * 8)
		err = -EIO;
	if (!err)
		memcpy(out, t.data, t.len);
	text_free(&t);
	return err;
}

/* What is present can be loaded without a fault; what is not may end in one, as the other's read does in an error. */
static int64_t quire_peek(struct executor *x, unsigned proc, uint64_t addr, void *buf, size_t len)
{
	struct quire_executor *q = quire_of(x);
	int err;

	if (!quire_alive(x, proc))
		return -ENXIO;
	quire_cpu_run(q->cpu[0], q->mm[proc]);
	err = quire_load(q->cpu[0], addr, buf, len);
	return err ? err : (int64_t)len;
}

static int quire_view_mincore(struct executor *x, unsigned proc, uint64_t addr, size_t nr, uint8_t *vec)
{
	struct quire_executor *q = quire_of(x);

	if (!quire_alive(x, proc))
		return -ENXIO;
	quire_cpu_run(q->cpu[0], q->mm[proc]);
	return quire_mincore(q->cpu[0], addr, nr * PAGE, vec);
}

static int quire_usage(struct executor *x, unsigned proc, struct usage *out)
{
	struct quire_executor *q = quire_of(x);
	struct quire_mm_stat stat;

	if (!quire_alive(x, proc))
		return -ENXIO;
	quire_mm_stat(q->cpu[0], q->mm[proc], &stat);
	*out = (struct usage){ .total_vm = stat.total_vm,
			       .locked_vm = stat.locked_vm,
			       .data_vm = stat.data_vm,
			       .stack_vm = stat.stack_vm,
			       .rss_anon = stat.rss_anon,
			       .rss_file = stat.rss_file,
			       .rss_shmem = stat.rss_shmem - q->idle_shmem };
	return 0;
}

static int64_t quire_view_file_size(struct executor *x, unsigned file)
{
	return (int64_t)quire_file_size(quire_of(x)->file[file]);
}

static int64_t quire_view_file_read(struct executor *x, unsigned file, uint64_t off, void *buf, size_t len)
{
	return quire_file_read(quire_of(x)->cpu[0], quire_of(x)->file[file], off, buf, len);
}

static int64_t quire_host_read(struct executor *x, void *buf, size_t len)
{
	ssize_t n = pread(quire_of(x)->host_fd, buf, len, 0);

	return n < 0 ? -errno : n;
}

static uint64_t quire_file_inode(struct executor *x, unsigned file)
{
	return quire_file_id(quire_of(x)->file[file]);
}

/* ------------------------------------------------------------------------------------------- the harness's share */

/*
 * What the kernel's processes have mapped besides what is tested: so that totals, placement and the distance that stacks
 * keep are the same.
 */
static int occupy(struct quire_executor *q, uint64_t start, uint64_t end, int prot, int flags)
{
	int64_t ret;

	if (start >= end)
		return 0;
	ret = quire_mmap(q->cpu[0], start, end - start, prot, flags | MAP_ANONYMOUS | MAP_FIXED, NULL, 0);
	return ret < 0 ? (int)ret : 0;
}

static int occupy_all(struct quire_executor *q)
{
	int err = occupy(q, CHILD_TEXT, CHILD_TEXT + CHILD_TEXT_BYTES, PROT_READ, MAP_PRIVATE);

	if (!err)
		err = occupy(q, SLOTS_ADDR, SLOTS_ADDR + SLOTS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED);
	if (!err)
		err = occupy(q, HIGH_END, q->options.mmap_base, PROT_NONE, MAP_PRIVATE);
	return err;
}

/* As in the kernel's processes: present from the start, so that the share stays the same. */
static int touch_own_memory(struct quire_executor *q, unsigned proc)
{
	quire_cpu_run(q->cpu[0], q->mm[proc]);
	return quire_madvise(q->cpu[0], SLOTS_ADDR, SLOTS_BYTES, MADV_POPULATE_WRITE);
}

/* --------------------------------------------------------------------------------------------------- operations */

static uint64_t bounded(uint64_t len)
{
	return len < MAX_DATA ? len : MAX_DATA;
}

static void apply_pread(struct quire_executor *q, struct quire_cpu *cpu, const struct op *op, struct outcome *out)
{
	out->ret = quire_file_read(cpu, q->file[op->arg[0]], op->arg[1], out->data, bounded(op->arg[2]));
	out->data_len = out->ret > 0 ? (uint32_t)out->ret : 0;
}

static int64_t apply_pwrite(struct quire_executor *q, struct quire_cpu *cpu, const struct op *op)
{
	uint8_t buf[MAX_DATA];

	pattern_fill(op->arg[3], buf, bounded(op->arg[2]));
	return quire_file_write(cpu, q->file[op->arg[0]], op->arg[1], buf, bounded(op->arg[2]));
}

static void apply_file(struct quire_executor *q, const struct op *op, struct outcome *out)
{
	struct quire_cpu *cpu = cpu_for(q, op);
	struct quire_file *file = q->file[op->arg[0]];

	if (op->kind == OP_PREAD)
		apply_pread(q, cpu, op, out);
	else if (op->kind == OP_PWRITE)
		out->ret = apply_pwrite(q, cpu, op);
	else if (op->kind == OP_FTRUNCATE)
		out->ret = quire_file_truncate(cpu, file, op->arg[1]);
	else if (op->kind == OP_FALLOCATE)
		out->ret = quire_file_fallocate(cpu, file, (int)op->arg[1], op->arg[2], op->arg[3]);
	else
		out->ret = quire_file_fsync(cpu, file);
}

/* A failed access as the process would have learned of it. */
static void report_fault(struct quire_cpu *cpu, int64_t err, struct outcome *out)
{
	struct quire_fault fault;

	if (!err)
		return;
	quire_cpu_fault(cpu, &fault);
	out->ret = -EFAULT;
	out->signo = fault.signo;
	out->code = fault.code;
	out->fault_addr = fault.addr;
}

static void apply_access(struct quire_cpu *cpu, const struct op *op, struct outcome *out)
{
	uint8_t buf[MAX_DATA];

	if (op->kind == OP_LOAD) {
		report_fault(cpu, quire_load(cpu, op->arg[0], out->data, op->arg[1]), out);
		out->data_len = out->ret ? 0 : (uint32_t)op->arg[1];
	} else if (op->kind == OP_STORE) {
		pattern_fill(op->arg[2], buf, op->arg[1]);
		report_fault(cpu, quire_store(cpu, op->arg[0], buf, op->arg[1]), out);
	} else if (op->kind == OP_FETCH) {
		report_fault(cpu, quire_fetch(cpu, op->arg[0], buf, 1), out);
	} else {
		uint64_t old = op->arg[1], new_value;

		pattern_fill(op->arg[2], (uint8_t *)&new_value, 8);
		report_fault(cpu, quire_cmpxchg(cpu, op->arg[0], &old, new_value), out);
		memcpy(out->data, &old, 8);
		out->data_len = out->ret ? 0 : 8;
	}
}

static void apply_vm(struct quire_executor *q, struct quire_cpu *cpu, const struct op *op, struct outcome *out)
{
	struct quire_mm *mm = q->mm[op->arg[0]];
	uint8_t buf[MAX_DATA];

	if (op->kind == OP_VMREAD) {
		out->ret = quire_mm_read(cpu, mm, op->arg[1], out->data, op->arg[2]);
		out->data_len = out->ret > 0 ? (uint32_t)out->ret : 0;
	} else {
		pattern_fill(op->arg[3], buf, op->arg[2]);
		out->ret = quire_mm_write(cpu, mm, op->arg[1], buf, op->arg[2]);
	}
}

static void apply_mincore(struct quire_cpu *cpu, const struct op *op, struct outcome *out)
{
	out->ret = quire_mincore(cpu, op->arg[0], op->arg[1], out->data);
	out->data_len = out->ret ? 0 : (uint32_t)((op->arg[1] + PAGE - 1) / PAGE);
}

static void forget_mm(struct quire_executor *q, unsigned proc)
{
	for (int i = 0; i < NR_CPUS; i++)
		quire_cpu_run(q->cpu[i], NULL);
	quire_mm_put(q->cpu[0], q->mm[proc]);
	q->mm[proc] = NULL;
}

static int set_limit(struct quire_executor *q, unsigned proc, uint64_t resource, uint64_t value)
{
	if (resource == RLIMIT_MEMLOCK && value > q->options.memlock_max)
		value = q->options.memlock_max;
	return quire_mm_set_limit(q->mm[proc], (int)resource, value);
}

static int apply_fork(struct quire_executor *q, struct quire_cpu *cpu, unsigned child)
{
	int err = quire_fork(cpu, &q->mm[child]);

	return err ? err : touch_own_memory(q, child);
}

static int64_t apply_call(struct quire_executor *q, struct quire_cpu *cpu, const struct op *op)
{
	const uint64_t *a = op->arg;

	switch ((enum op_kind)op->kind) {
	case OP_MMAP:
		return quire_mmap(cpu, a[0], a[1], (int)a[2], (int)a[3], (int64_t)a[4] >= 0 ? q->file[a[4]] : NULL,
				  a[5]);
	case OP_MUNMAP:
		return quire_munmap(cpu, a[0], a[1]);
	case OP_MPROTECT:
		return quire_mprotect(cpu, a[0], a[1], (int)a[2]);
	case OP_MREMAP:
		return quire_mremap(cpu, a[0], a[1], a[2], (int)a[3], a[4]);
	case OP_BRK:
		return (int64_t)quire_brk(cpu, a[0]);
	case OP_MADVISE:
		return quire_madvise(cpu, a[0], a[1], (int)a[2]);
	case OP_MSYNC:
		return quire_msync(cpu, a[0], a[1], (int)a[2]);
	case OP_MLOCK:
		return quire_mlock(cpu, a[0], a[1]);
	case OP_MLOCK2:
		return quire_mlock2(cpu, a[0], a[1], (int)a[2]);
	case OP_MUNLOCK:
		return quire_munlock(cpu, a[0], a[1]);
	case OP_MLOCKALL:
		return quire_mlockall(cpu, (int)a[0]);
	case OP_MUNLOCKALL:
		return quire_munlockall(cpu);
	case OP_MSEAL:
		return quire_mseal(cpu, a[0], a[1], a[2]);
	case OP_FORK:
		return apply_fork(q, cpu, (unsigned)a[0]);
	case OP_SETRLIMIT:
		return set_limit(q, op->proc, a[0], a[1]);
	default:
		return -ENOSYS;
	}
}

static bool operand_lives(struct executor *x, const struct op *op)
{
	if (op->kind == OP_FORK)
		return op->arg[0] < MAX_PROCS && !quire_alive(x, (unsigned)op->arg[0]);
	if (op->kind == OP_VMREAD || op->kind == OP_VMWRITE)
		return quire_alive(x, (unsigned)op->arg[0]);
	return true;
}

static void apply_process(struct executor *x, const struct op *op, struct outcome *out)
{
	struct quire_executor *q = quire_of(x);
	struct quire_cpu *cpu;

	out->skipped = !quire_alive(x, op->proc) || !operand_lives(x, op);
	if (out->skipped)
		return;
	cpu = cpu_for(q, op);
	if (op->kind == OP_LOAD || op->kind == OP_STORE || op->kind == OP_FETCH || op->kind == OP_CMPXCHG)
		apply_access(cpu, op, out);
	else if (op->kind == OP_VMREAD || op->kind == OP_VMWRITE)
		apply_vm(q, cpu, op, out);
	else if (op->kind == OP_MINCORE)
		apply_mincore(cpu, op, out);
	else if (op->kind == OP_EXIT)
		forget_mm(q, op->proc);
	else
		out->ret = apply_call(q, cpu, op);
}

static int quire_apply(struct executor *x, const struct op *op, struct outcome *out)
{
	out->skipped = false;
	out->ret = 0;
	out->signo = out->code = 0;
	out->fault_addr = 0;
	out->data_len = 0;
	if (op_descs[op->kind].file_op)
		apply_file(quire_of(x), op, out);
	else
		apply_process(x, op, out);
	return 0;
}

/* --------------------------------------------------------------------------------------------------- sequences */

static int begin_process(struct quire_executor *q)
{
	const struct quire_layout layout = { .mmap_base = q->options.mmap_base,
					     .mmap_min_addr = q->mmap_min_addr,
					     .start_brk = BRK_START };
	int err = quire_mm_create(q->cpu[0], &layout, &q->mm[0]);

	if (err)
		return err;
	quire_cpu_run(q->cpu[0], q->mm[0]);
	err = occupy_all(q);
	if (!err)
		err = touch_own_memory(q, 0);
	if (!err)
		err = quire_mm_set_limit(q->mm[0], RLIMIT_STACK, STACK_LIMIT);
	if (!err)
		err = set_limit(q, 0, RLIMIT_MEMLOCK, UINT64_MAX);
	return err;
}

/* The kernel has the read-only file in its page cache; so must we, for the same residency. */
static int read_through(struct quire_executor *q, struct quire_file *file)
{
	static uint8_t buf[READONLY_SIZE];
	int64_t n = quire_file_read(q->cpu[0], file, 0, buf, sizeof(buf));

	return n == (int64_t)sizeof(buf) ? 0 : n < 0 ? (int)n : -EIO;
}

static int begin_files(struct quire_executor *q)
{
	int err = ftruncate(q->host_fd, 0) < 0 ? -errno : 0;

	for (unsigned i = 0; !err && i < FILE_HOST; i++)
		err = quire_file_create_shmem(q->cpu[0], 0, &q->file[i]);
	if (!err)
		err = quire_file_open_host(q->cpu[0], q->host_fd, true, &q->file[FILE_HOST]);
	if (!err)
		err = quire_file_open_host(q->cpu[0], q->readonly_fd, false, &q->file[FILE_READONLY]);
	return err ? err : read_through(q, q->file[FILE_READONLY]);
}

static int quire_begin(struct executor *x)
{
	int err = begin_files(quire_of(x));

	return err ? err : begin_process(quire_of(x));
}

static void end_everything(struct quire_executor *q)
{
	for (unsigned proc = 0; proc < MAX_PROCS; proc++)
		if (q->mm[proc])
			forget_mm(q, proc);
	for (unsigned i = 0; i < MAX_FILES; i++) {
		if (q->file[i])
			quire_file_put(q->cpu[0], q->file[i]);
		q->file[i] = NULL;
	}
	for (int i = 0; i < NR_CPUS; i++)
		quire_drain(q->cpu[i]);
}

static void say_line(void *arg, const char *line)
{
	text_printf(arg, "%s\n", line);
}

/* Nothing is mapped, no file is open: every frame that is not free must be a slab's. */
static int find_leaks(struct quire_executor *q, struct text *say)
{
	struct quire_stat stat;

	quire_stat(q->cpu[0], &stat);
	if (stat.frames_table)
		text_printf(say, "%llu page tables are left\n", (unsigned long long)stat.frames_table);
	if (stat.frames_free + stat.frames_slab + stat.frames_meta != stat.frames_total)
		text_printf(say, "%llu frames, of them %llu free, %llu in slabs, %llu of the machine itself\n",
			    (unsigned long long)stat.frames_total, (unsigned long long)stat.frames_free,
			    (unsigned long long)stat.frames_slab, (unsigned long long)stat.frames_meta);
	return say->len ? 1 : 0;
}

static int quire_end(struct executor *x, struct text *say)
{
	struct quire_executor *q = quire_of(x);
	int broken = (int)quire_validate(q->cpu[0], say_line, say);

	end_everything(q);
	return broken + (int)quire_validate(q->cpu[0], say_line, say) + find_leaks(q, say);
}

static void quire_executor_destroy(struct executor *x)
{
	struct quire_executor *q = quire_of(x);

	end_everything(q);
	for (int i = 0; i < NR_CPUS; i++)
		quire_cpu_leave(q->cpu[i]);
	quire_destroy(q->q);
	close(q->host_fd);
	close(q->readonly_fd);
	free(q);
}

static const struct executor_ops quire_ops = {
	.name = "quire",
	.begin = quire_begin,
	.end = quire_end,
	.apply = quire_apply,
	.alive = quire_alive,
	.maps = quire_maps,
	.smaps = quire_smaps,
	.pagemap = quire_pagemap,
	.peek = quire_peek,
	.mincore = quire_view_mincore,
	.usage = quire_usage,
	.file_size = quire_view_file_size,
	.file_read = quire_view_file_read,
	.file_inode = quire_file_inode,
	.host_read = quire_host_read,
	.destroy = quire_executor_destroy,
};

static uint64_t read_mmap_min_addr(void)
{
	FILE *f = fopen("/proc/sys/vm/mmap_min_addr", "r");
	unsigned long value = 65536;

	if (f) {
		if (fscanf(f, "%lu", &value) != 1)
			value = 65536;
		fclose(f);
	}
	return value;
}

static int open_host_files(struct quire_executor *q, const char *dir)
{
	int fd = host_file_create(dir);
	char path[64];

	q->host_fd = host_file_create(dir);
	if (fd < 0 || q->host_fd < 0 || host_file_fill_readonly(fd))
		return -EIO;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	q->readonly_fd = open(path, O_RDONLY | O_CLOEXEC);
	close(fd);
	return q->readonly_fd < 0 ? -errno : 0;
}

static int create_machine(struct quire_executor *q)
{
	const struct quire_config config = { .memory = q->options.memory,
					     .nr_cpus = NR_CPUS,
					     .nr_nodes = 1,
					     .anon_orders = q->options.anon_orders,
					     .shmem_orders = q->options.shmem_orders,
					     .file_orders = q->options.file_orders,
					     .poison = true };
	int err = quire_create(&config, &q->q);

	for (unsigned i = 0; !err && i < NR_CPUS; i++)
		err = quire_cpu_enter(q->q, i, &q->cpu[i]);
	return err;
}

struct executor *quire_executor_create(const struct quire_options *options, const char *dir)
{
	struct quire_executor *q = calloc(1, sizeof(*q));
	int err;

	if (!q)
		return NULL;
	q->base.ops = &quire_ops;
	q->base.label = "quire";
	q->options = *options;
	q->mmap_min_addr = read_mmap_min_addr();
	q->idle_shmem = SLOTS_BYTES / PAGE;
	err = create_machine(q);
	if (!err)
		err = open_host_files(q, dir);
	if (!err)
		return &q->base;
	fprintf(stderr, "quire cannot be set up: %s\n", strerror(-err));
	free(q);
	return NULL;
}
