/* SPDX-License-Identifier: MIT */
/* The rows of the table: names, and the ratios that quire is to reach. The targets are the project's; see docs/performance.md. */
#include "bench.h"

const char *const bench_folio_names[NR_BENCH_FOLIOS] = { "4K", "64K", "2M" };

const struct bench_row bench_rows[NR_BENCH_OPS] = {
	[OP_POPULATE_WRITE] = { "populate-write", "populate for writing", LIMIT_ZERO, { 0.70, 0.85, 1.05 } },
	[OP_POPULATE_READ] = { "populate-read", "populate for reading", NO_LIMIT, { 0.4, 0.4, 0 } },
	[OP_DONTNEED] = { "dontneed", "MADV_DONTNEED", NO_LIMIT, { 0.6, 0.7, 1.0 } },
	[OP_MUNMAP] = { "munmap", "munmap", NO_LIMIT, { 0.6, 0.7, 1.0 } },
	[OP_MPROTECT] = { "mprotect", "mprotect", NO_LIMIT, { 0.5, 0.6, 1.0 } },
	[OP_FORK] = { "fork", "fork", NO_LIMIT, { 0.5, 0.6, 1.0 } },
	[OP_EXIT] = { "exit", "exit of the child", NO_LIMIT, { 0.5, 0.6, 1.0 } },
	[OP_COW] = { "cow", "copy-on-write", LIMIT_COPY, { 0.5, 0.5, 0.5 } },
	[OP_SHMEM_POPULATE] = { "shmem-populate", "shmem: populate", LIMIT_ZERO, { 0.6, 0.9, 0 } },
	[OP_SHMEM_MAP] = { "shmem-map", "shmem: map cached", NO_LIMIT, { 0.5, 0.6, 0 } },
	[OP_SHMEM_PUNCH] = { "shmem-punch", "shmem: punch a hole", NO_LIMIT, { 0.5, 0.7, 0 } },
};

const struct bench_row scale_rows[NR_SCALE_OPS] = {
	[SCALE_FAULT] = { "scale-fault", "faults", NO_LIMIT, { 0.9, 0, 0 } },
	[SCALE_MPROTECT] = { "scale-mprotect", "mprotect", NO_LIMIT, { 0.9, 0, 0 } },
	[SCALE_DONTNEED] = { "scale-dontneed", "MADV_DONTNEED", NO_LIMIT, { 0.9, 0, 0 } },
	[SCALE_MUNMAP] = { "scale-munmap", "munmap", NO_LIMIT, { 0.9, 0, 0 } },
};
