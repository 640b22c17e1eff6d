/* SPDX-License-Identifier: MIT */
/* Machines come and go: the arena, the worker of RCU, and the checks of what the caller wants. */
#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MIN_MEMORY (4ull << 20)
#define MAX_MEMORY (512ull << 30)

static bool config_is_valid(const struct quire_config *config)
{
	return config->memory >= MIN_MEMORY && config->memory <= MAX_MEMORY && config->nr_cpus >= 1 &&
	       config->nr_cpus <= QUIRE_MAX_CPUS && config->nr_nodes <= QUIRE_MAX_NODES &&
	       !((config->anon_orders | config->shmem_orders | config->file_orders) & ~QUIRE_ORDERS_ALL);
}

/* What quire.h promises of zero fields and rounding. */
static void config_normalise(struct quire_config *config)
{
	config->memory &= PMD_MASK;
	config->nr_nodes = config->nr_nodes ? config->nr_nodes : 1;
	config->anon_orders |= QUIRE_ORDERS_4K;
	config->shmem_orders |= QUIRE_ORDERS_4K;
	config->file_orders |= QUIRE_ORDERS_4K;
}

/*
 * Zeroed memory for the arena, at a multiple of 2 MiB so that the host can back it, descriptors and frames alike, with huge
 * pages: a miss in the host's TLB on top of each cache miss would double the price of touching a descriptor. The host
 * reserves nothing, as a machine seldom touches all its memory. NULL: refused.
 */
static void *arena_map(u64 size)
{
	u64 mapped = size + PMD_SIZE, skip;
	u8 *map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	skip = -(u64)(uintptr_t)map & ~PMD_MASK;
	if (skip)
		munmap(map, skip);
	munmap(map + skip + size, PMD_SIZE - skip);
	/* A host without huge pages does with small ones. */
	madvise(map + skip, size, MADV_HUGEPAGE);
	return map + skip;
}

static void machine_free(struct machine *machine)
{
	if (machine->arena)
		munmap(machine->arena, machine->arena_size);
	free(machine);
}

/* Boots in the arena and starts the worker. 0 or a negative errno; the caller frees. */
static int machine_boot(struct machine *machine, const struct quire_config *config)
{
	machine->arena_size = config->memory + quire_boot_overhead(config);
	machine->arena = arena_map(machine->arena_size);
	if (!machine->arena)
		return -ENOMEM;
	machine->q = quire_boot(machine->arena, machine->arena_size, config, machine);
	if (!machine->q)
		return -EINVAL;
	return rcu_start(machine);
}

int quire_create(const struct quire_config *config, struct quire **out)
{
	struct quire_config wanted;
	struct machine *machine;
	int error;

	if (!config || !out || !config_is_valid(config))
		return -EINVAL;
	wanted = *config;
	config_normalise(&wanted);
	machine = aligned_alloc(CACHE_LINE, sizeof(*machine));
	if (!machine)
		return -ENOMEM;
	memset(machine, 0, sizeof(*machine));
	error = machine_boot(machine, &wanted);
	if (error) {
		machine_free(machine);
		return error == -EAGAIN ? -ENOMEM : error; /* no thread to be had is no memory to the caller */
	}
	*out = machine->q;
	return 0;
}

int quire_destroy(struct quire *q)
{
	struct machine *machine = q->machine;

	if (quire_in_use(q))
		return -EBUSY;
	rcu_stop(machine);
	for (u32 id = 0; id <= q->nr_cpus; id++)
		io_close_ring(q->cpus[id]);
	machine_free(machine);
	return 0;
}
