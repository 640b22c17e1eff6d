/* SPDX-License-Identifier: MIT */
/*
 * What no memory manager can beat: zeroing or copying cold memory. The routines are quire's own, compiled in from the
 * machine's source, and the arena is made the way quire's is.
 */
#include "bench.h"
#include "machine/machine.h"

#include <stdlib.h>
#include <sys/mman.h>

#define LIMIT_CHUNK (16ull << 20)

struct limit_arena {
	uint8_t *memory; /* 2 MiB aligned */
	uint64_t bytes;	 /* of which the second half is copied to the first */
	void *mapping;
	uint64_t mapping_bytes;
};

struct limit_arena *limit_open(uint64_t bytes)
{
	struct limit_arena *arena = calloc(1, sizeof(*arena));

	if (!arena)
		return NULL;
	arena->bytes = bytes;
	arena->mapping_bytes = bytes + BENCH_HUGE;
	arena->mapping = mmap(NULL, arena->mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena->mapping == MAP_FAILED) {
		free(arena);
		return NULL;
	}
	arena->memory = (uint8_t *)(((uintptr_t)arena->mapping + BENCH_HUGE - 1) & ~(uintptr_t)(BENCH_HUGE - 1));
	(void)madvise(arena->memory, bytes, MADV_HUGEPAGE);
	(void)madvise(arena->memory, bytes, MADV_POPULATE_WRITE);
	return arena;
}

/* A folio at a time, as a memory manager does it. */
static void zero_chunk(const struct limit_arena *arena, uint64_t offset, uint64_t folio)
{
	for (uint64_t at = offset; at < offset + LIMIT_CHUNK; at += folio)
		clear_pages(arena->memory + at, folio);
}

static void copy_chunk(const struct limit_arena *arena, uint64_t offset, uint64_t folio)
{
	for (uint64_t at = offset; at < offset + LIMIT_CHUNK; at += folio)
		copy_pages(arena->memory + at, arena->memory + arena->bytes / 2 + at, folio);
}

typedef void (*limit_fn)(const struct limit_arena *arena, uint64_t offset, uint64_t folio);

static void limit_pass(const struct limit_arena *arena, uint64_t bytes, limit_fn fn, uint64_t folio,
		       struct samples *samples)
{
	const uint64_t pages = LIMIT_CHUNK / BENCH_PAGE;

	for (uint64_t at = 0; at + LIMIT_CHUNK <= bytes; at += LIMIT_CHUNK) {
		uint64_t begun = bench_now();

		fn(arena, at, folio);
		samples_add(samples, (double)(bench_now() - begun) / (double)pages);
	}
}

void limit_round(struct limit_arena *arena, enum bench_folio folio, struct samples limits[NR_LIMITS])
{
	limit_pass(arena, arena->bytes, zero_chunk, folio_bytes(folio), &limits[LIMIT_ZERO]);
	limit_pass(arena, arena->bytes / 2, copy_chunk, folio_bytes(folio), &limits[LIMIT_COPY]);
}

void limit_close(struct limit_arena *arena)
{
	munmap(arena->mapping, arena->mapping_bytes);
	free(arena);
}
