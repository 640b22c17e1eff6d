/* SPDX-License-Identifier: MIT */
/* quire's side: calls of the library's public interface, in one machine made for the folio size at hand. */
#include "bench.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/mman.h>
#include <quire/quire.h>
#include <string.h>
#include <sys/mman.h>

struct quire_side {
	struct side side;
	struct bench_setup setup;
	struct quire *machine;
	struct quire_mm *mm, *child;
	struct quire_cpu *cpu[SIDE_THREADS]; /* cpu[0] while open, cpu[1] between thread_begin and thread_end */
	struct quire_file *file;
};

static struct quire_side *to_quire(struct side *side)
{
	return (struct quire_side *)(void *)side;
}

static int q_map(struct side *side, unsigned who, uint64_t addr, uint64_t len, bool file, uint64_t offset)
{
	struct quire_side *q = to_quire(side);
	int flags = MAP_FIXED_NOREPLACE | (file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	int64_t ret = quire_mmap(q->cpu[who], addr, len, PROT_READ | PROT_WRITE, flags, file ? q->file : NULL, offset);

	return ret < 0 ? (int)ret : 0;
}

static int q_unmap(struct side *side, unsigned who, uint64_t addr, uint64_t len)
{
	return quire_munmap(to_quire(side)->cpu[who], addr, len);
}

/* Folio sizes are the machine's configuration, so the advice about them is for Linux only. */
static int q_advise(struct side *side, unsigned who, uint64_t addr, uint64_t len, int advice)
{
	if (advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE)
		return 0;
	return quire_madvise(to_quire(side)->cpu[who], addr, len, advice);
}

static int q_protect(struct side *side, unsigned who, uint64_t addr, uint64_t len, int prot)
{
	return quire_mprotect(to_quire(side)->cpu[who], addr, len, prot);
}

static int q_touch(struct side *side, unsigned who, uint64_t addr, uint64_t len)
{
	struct quire_cpu *cpu = to_quire(side)->cpu[who];
	const char byte = 1;

	for (uint64_t at = addr; at < addr + len; at += BENCH_PAGE) {
		int err = quire_store(cpu, at, &byte, 1);

		if (err)
			return err;
	}
	return 0;
}

static int q_fork(struct side *side, uint64_t *ns)
{
	struct quire_side *q = to_quire(side);
	uint64_t begun = bench_now();
	int err = quire_fork(q->cpu[0], &q->child);

	*ns = bench_now() - begun;
	return err;
}

static int q_reap(struct side *side, uint64_t *ns)
{
	struct quire_side *q = to_quire(side);
	uint64_t begun = bench_now();

	if (q->child)
		quire_mm_put(q->cpu[0], q->child);
	*ns = bench_now() - begun;
	q->child = NULL;
	return 0;
}

static int q_file_create(struct side *side, uint64_t size)
{
	struct quire_side *q = to_quire(side);

	return quire_file_create_shmem(q->cpu[0], size, &q->file);
}

static int q_file_punch(struct side *side, uint64_t offset, uint64_t len)
{
	struct quire_side *q = to_quire(side);

	return quire_file_fallocate(q->cpu[0], q->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
}

static void q_file_close(struct side *side)
{
	struct quire_side *q = to_quire(side);

	quire_file_put(q->cpu[0], q->file);
	q->file = NULL;
}

/* ---------------------------------------------------------------------------------------- life */

static int q_thread_begin(struct side *side, unsigned who)
{
	struct quire_side *q = to_quire(side);
	int err = 0;

	if (who) {
		err = quire_cpu_enter(q->machine, who, &q->cpu[who]);
		if (!err)
			quire_cpu_run(q->cpu[who], q->mm);
	}
	return err;
}

static void q_thread_end(struct side *side, unsigned who)
{
	struct quire_side *q = to_quire(side);

	if (!who)
		return;
	quire_cpu_leave(q->cpu[who]);
	q->cpu[who] = NULL;
}

/* Twice the range, which copy-on-write needs at its peak: populated, and given back. */
static int q_warm(struct side *side)
{
	struct quire_side *q = to_quire(side);
	uint64_t bytes = q->setup.range * 2;
	int64_t at = quire_mmap(q->cpu[0], 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0);
	int err;

	if (at < 0)
		return (int)at;
	err = quire_madvise(q->cpu[0], (uint64_t)at, bytes, MADV_POPULATE_WRITE);
	quire_munmap(q->cpu[0], (uint64_t)at, bytes);
	return err;
}

static void q_close(struct side *side)
{
	struct quire_side *q = to_quire(side);

	if (q->file)
		q_file_close(side);
	if (q->child)
		quire_mm_put(q->cpu[0], q->child);
	if (q->cpu[0]) {
		quire_cpu_run(q->cpu[0], NULL);
		if (q->mm)
			quire_mm_put(q->cpu[0], q->mm);
		quire_drain(q->cpu[0]);
		quire_cpu_leave(q->cpu[0]);
	}
	if (q->machine)
		quire_destroy(q->machine);
	q->machine = NULL;
	q->mm = q->child = NULL;
	q->cpu[0] = NULL;
}

/* Twice the range, page tables, descriptors, and some more for the folio objects: an eighth. */
static struct quire_config machine_for(const struct bench_setup *setup)
{
	static const unsigned orders[NR_BENCH_FOLIOS] = { QUIRE_ORDERS_4K, QUIRE_ORDERS_64K, QUIRE_ORDERS_2M };
	uint64_t range = setup->range;

	return (struct quire_config){
		.memory = 2 * range + range / 4 + (64 << 20),
		.nr_cpus = SIDE_THREADS,
		.anon_orders = orders[setup->folio],
		.shmem_orders = orders[setup->folio],
	};
}

static int q_open(struct side *side, const struct bench_setup *setup)
{
	struct quire_side *q = to_quire(side);
	struct quire_config config = machine_for(setup);
	int err = quire_create(&config, &q->machine);

	q->setup = *setup;
	if (!err)
		err = quire_cpu_enter(q->machine, 0, &q->cpu[0]);
	if (!err)
		err = quire_mm_create(q->cpu[0], NULL, &q->mm);
	if (!err) {
		quire_cpu_run(q->cpu[0], q->mm);
		err = q_warm(side);
	}
	if (err)
		q_close(side);
	return err;
}

struct side *side_quire(void)
{
	static struct quire_side quire_side = {
		.side = {
			.name = "quire",
			.open = q_open,
			.close = q_close,
			.warm = q_warm,
			.map = q_map,
			.unmap = q_unmap,
			.advise = q_advise,
			.protect = q_protect,
			.touch = q_touch,
			.fork = q_fork,
			.reap = q_reap,
			.file_create = q_file_create,
			.file_punch = q_file_punch,
			.file_close = q_file_close,
			.thread_begin = q_thread_begin,
			.thread_end = q_thread_end,
		},
	};

	return &quire_side.side;
}
