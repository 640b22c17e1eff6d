/* SPDX-License-Identifier: MIT */
/*
 * Drawing operations so that they meet. Most addresses come from two small hot areas, one of which lies across a PMD
 * boundary, and from the boundaries of VMAs that exist; lengths are a few pages, or just what reaches the next boundary.
 * So ranges overlap, abut, merge and split. A small share of every argument is wrong in some way, one way at a time.
 *
 * Each sequence plays with its own mix of kinds (some left out, some frequent): sequences that do few things do them
 * more deeply.
 */
#define _GNU_SOURCE
#include "generate.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "abi.h"
#include "layout.h"

static const unsigned base_weight[OP_KINDS] = {
	[OP_MMAP] = 160,     [OP_MUNMAP] = 50,	[OP_MPROTECT] = 60,  [OP_MREMAP] = 60, [OP_BRK] = 25,
	[OP_MADVISE] = 110,  [OP_MINCORE] = 15, [OP_MSYNC] = 15,     [OP_MLOCK] = 18,  [OP_MLOCK2] = 12,
	[OP_MUNLOCK] = 16,   [OP_MLOCKALL] = 5, [OP_MUNLOCKALL] = 4, [OP_MSEAL] = 4,   [OP_LOAD] = 110,
	[OP_STORE] = 160,    [OP_FETCH] = 25,	[OP_CMPXCHG] = 20,   [OP_FORK] = 30,   [OP_EXIT] = 20,
	[OP_VMREAD] = 12,    [OP_VMWRITE] = 16, [OP_PREAD] = 8,	     [OP_PWRITE] = 20, [OP_FTRUNCATE] = 20,
	[OP_FALLOCATE] = 18, [OP_FSYNC] = 1,	[OP_SETRLIMIT] = 6,
};

/* -------------------------------------------------------------------------------------------- choosing numbers */

static uint64_t below(struct generator *g, uint64_t n)
{
	return rng_below(&g->rng, n);
}

static bool chance(struct generator *g, unsigned percent)
{
	return rng_chance(&g->rng, percent);
}

static bool per_mille(struct generator *g, unsigned n)
{
	return rng_below(&g->rng, 1000) < n;
}

struct choice {
	unsigned weight;
	uint64_t value;
};

static uint64_t choose(struct generator *g, const struct choice *c, size_t n)
{
	unsigned total = 0, at;

	for (size_t i = 0; i < n; i++)
		total += c[i].weight;
	at = (unsigned)below(g, total);
	for (size_t i = 0; i < n; i++) {
		if (at < c[i].weight)
			return c[i].value;
		at -= c[i].weight;
	}
	return 0;
}

#define CHOOSE(g, table) choose(g, table, sizeof(table) / sizeof((table)[0]))

/* ------------------------------------------------------------------------------------------ addresses, lengths */

static const uint64_t odd_addresses[] = {
	0,
	1,
	PAGE,
	0x10000,
	TASK_SIZE - PAGE,
	TASK_SIZE,
	TASK_SIZE + 1,
	0x800000000000,
	0xffff800000000000,
	0xfffffffffffff000,
	0xffffffffffffffff,
};

static const struct vma_list *view_of(struct generator *g, unsigned proc)
{
	return &g->pair->view[proc];
}

/* The VMA that an address is to be taken from; NULL when there is none, or rather not. */
static const struct vma *some_vma(struct generator *g, unsigned proc)
{
	const struct vma_list *list = view_of(g, proc);
	const struct vma *v;

	if (!list->nr)
		return NULL;
	v = &list->vma[below(g, list->nr)];
	return v->start >= HIGH_END ? NULL : v;
}

static uint64_t hot_address(struct generator *g)
{
	return g->hot[chance(g, 30)] + below(g, g->hot_pages) * PAGE;
}

static uint64_t boundary_address(struct generator *g, unsigned proc)
{
	const struct vma *v = some_vma(g, proc);
	uint64_t at;

	if (!v)
		return hot_address(g);
	at = chance(g, 50) ? v->start : v->end;
	if (chance(g, 30))
		at = chance(g, 50) ? at - PAGE : at + PAGE;
	return at;
}

static uint64_t inside_address(struct generator *g, unsigned proc)
{
	const struct vma *v = some_vma(g, proc);
	uint64_t pages = v ? (v->end - v->start) / PAGE : 0;

	return pages ? v->start + below(g, pages) * PAGE : hot_address(g);
}

static uint64_t window_address(struct generator *g)
{
	uint64_t page = below(g, WINDOW_PAGES) * PAGE;

	return chance(g, 60) ? LOW_START + page : HIGH_START + page;
}

static uint64_t pmd_address(struct generator *g)
{
	uint64_t pmd = chance(g, 60) ? 0x400000 : 0x7ffff7e00000;

	return pmd + (below(g, 9) - 4) * PAGE;
}

/* A page's address, mostly where something is or may come to be. */
static uint64_t page_address(struct generator *g, unsigned proc)
{
	uint64_t dice = below(g, 100);

	if (dice < 40)
		return hot_address(g);
	if (dice < 62)
		return boundary_address(g, proc);
	if (dice < 85)
		return inside_address(g, proc);
	if (dice < 93)
		return pmd_address(g);
	return window_address(g);
}

/* The same, for what is in vain where nothing is mapped. */
static uint64_t mapped_address(struct generator *g, unsigned proc)
{
	uint64_t dice = below(g, 100);

	if (dice < 70)
		return inside_address(g, proc);
	return dice < 85 ? boundary_address(g, proc) : page_address(g, proc);
}

/* An address as a system call gets it: sometimes not on a page boundary, rarely absurd. */
static uint64_t call_address(struct generator *g, unsigned proc, bool mapped)
{
	uint64_t addr = mapped ? mapped_address(g, proc) : page_address(g, proc);

	if (per_mille(g, 8))
		return odd_addresses[below(g, sizeof(odd_addresses) / sizeof(odd_addresses[0]))];
	return chance(g, 2) ? addr + 1 + below(g, PAGE - 1) : addr;
}

static const uint64_t odd_lengths[] = { 0, 1ull << 47, 1ull << 63, 0xfffffffffffff000, 0xffffffffffffffff };

/* To the end of the VMA at @addr, or one page less or more. */
static uint64_t length_to_end(struct generator *g, unsigned proc, uint64_t addr)
{
	const struct vma *v = vma_list_find(view_of(g, proc), addr);

	if (!v || v->end - addr > WINDOW_PAGES * PAGE)
		return PAGE * (1 + below(g, 8));
	return v->end - addr + (chance(g, 20) ? PAGE : 0) - (chance(g, 20) && v->end - addr > PAGE ? PAGE : 0);
}

static uint64_t page_length(struct generator *g, unsigned proc, uint64_t addr)
{
	uint64_t dice = below(g, 100);

	if (dice < 55)
		return PAGE * (1 + below(g, 6));
	if (dice < 80)
		return length_to_end(g, proc, addr);
	if (dice < 97)
		return PAGE * (1 + below(g, 30));
	return dice == 97 ? PMD_BYTES : PAGE * (1 + below(g, 700));
}

/* A length as a system call gets it. @within: mostly not beyond what is mapped there. */
static uint64_t call_length(struct generator *g, unsigned proc, uint64_t addr, bool within)
{
	uint64_t len = page_length(g, proc, addr);
	const struct vma *v = within && chance(g, 65) ? vma_list_find(view_of(g, proc), addr) : NULL;

	if (v && len > v->end - addr)
		len = v->end - addr;

	if (per_mille(g, 12))
		return odd_lengths[below(g, sizeof(odd_lengths) / sizeof(odd_lengths[0]))];
	return chance(g, 4) ? len - 1 - below(g, PAGE - 1) : len;
}

/* Whether a call that succeeds for this range would change the harness's own memory. */
static bool touches_harness(uint64_t addr, uint64_t len)
{
	uint64_t start = addr & ~(uint64_t)(PAGE - 1);

	return start < CHILD_END && len && (start + len < start || start + len + PAGE > CHILD_TEXT);
}

/* ------------------------------------------------------------------------------------------- address-space calls */

static uint64_t draw_prot(struct generator *g)
{
	static const struct choice prots[] = {
		{ 60, PROT_READ | PROT_WRITE },
		{ 14, PROT_READ },
		{ 9, PROT_NONE },
		{ 8, PROT_READ | PROT_WRITE | PROT_EXEC },
		{ 6, PROT_READ | PROT_EXEC },
		{ 2, PROT_WRITE },
		{ 2, PROT_EXEC },
	};

	return CHOOSE(g, prots);
}

static uint64_t draw_file_offset(struct generator *g)
{
	static const uint64_t odd[] = { 1, PAGE + 7, 1ull << 62, 0x7ffffffffffff000, 0xfffffffffffff000 };

	if (per_mille(g, 15))
		return odd[below(g, 5)];
	return chance(g, 40) ? 0 : below(g, 14) * PAGE;
}

static uint64_t draw_map_type(struct generator *g)
{
	static const struct choice types[] = {
		{ 632, MAP_PRIVATE }, { 310, MAP_SHARED }, { 40, MAP_SHARED_VALIDATE }, { 10, 0 }, { 8, MAP_DROPPABLE },
	};

	return CHOOSE(g, types);
}

static uint64_t draw_map_extras(struct generator *g, bool anon)
{
	static const struct {
		unsigned percent;
		uint64_t flag;
	} extras[] = {
		{ 12, MAP_POPULATE }, { 7, MAP_NORESERVE }, { 4, MAP_LOCKED },	   { 4, MAP_STACK },
		{ 2, MAP_NONBLOCK },  { 1, MAP_DENYWRITE }, { 1, MAP_EXECUTABLE }, { 1, MAP_32BIT },
	};
	uint64_t flags = 0;

	for (unsigned i = 0; i < sizeof(extras) / sizeof(extras[0]); i++)
		if (chance(g, extras[i].percent))
			flags |= extras[i].flag;
	if (anon ? chance(g, 8) : per_mille(g, 8))
		flags |= MAP_GROWSDOWN;
	return flags;
}

static void draw_mmap(struct generator *g, struct op *op)
{
	static const struct choice placements[] = { { 62, MAP_FIXED }, { 12, MAP_FIXED_NOREPLACE }, { 26, 0 } };
	bool anon = chance(g, 60);
	uint64_t type = draw_map_type(g), place = CHOOSE(g, placements);

	op->arg[0] = !place && chance(g, 55) ? 0 : call_address(g, op->proc, false);
	op->arg[1] = call_length(g, op->proc, op->arg[0], false);
	op->arg[2] = draw_prot(g);
	op->arg[3] = type | place | draw_map_extras(g, anon) | (anon ? MAP_ANONYMOUS : 0);
	op->arg[4] = anon ? (uint64_t)-1 : below(g, MAX_FILES);
	op->arg[5] = anon && chance(g, 95) ? 0 : draw_file_offset(g);
}

static void draw_range(struct generator *g, struct op *op)
{
	bool mapped = op->kind != OP_MUNMAP || chance(g, 50);

	op->arg[0] = call_address(g, op->proc, mapped);
	op->arg[1] = call_length(g, op->proc, op->arg[0], mapped);
}

static void draw_mprotect(struct generator *g, struct op *op)
{
	static const struct choice odd[] = {
		{ 4, PROT_GROWSDOWN }, { 1, PROT_GROWSUP }, { 1, PROT_GROWSDOWN | PROT_GROWSUP },
		{ 1, 0x08 },	       { 1, 0x40 },
	};

	draw_range(g, op);
	op->arg[2] = draw_prot(g);
	if (chance(g, 3))
		op->arg[2] |= CHOOSE(g, odd);
}

static uint64_t draw_new_length(struct generator *g, uint64_t old_len)
{
	uint64_t dice = below(g, 100);

	if (dice < 35)
		return old_len;
	if (dice < 65)
		return old_len + PAGE * (1 + below(g, 12));
	if (dice < 85 && old_len > PAGE)
		return PAGE * (1 + below(g, old_len / PAGE < 2000 ? old_len / PAGE : 4));
	return PAGE * (1 + below(g, 40));
}

static void draw_mremap(struct generator *g, struct op *op)
{
	static const struct choice flags[] = {
		{ 20, 0 },
		{ 35, MREMAP_MAYMOVE },
		{ 25, MREMAP_MAYMOVE | MREMAP_FIXED },
		{ 10, MREMAP_MAYMOVE | MREMAP_DONTUNMAP },
		{ 7, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED },
		{ 1, MREMAP_FIXED },
		{ 1, MREMAP_DONTUNMAP },
		{ 1, 8 | MREMAP_MAYMOVE },
	};

	op->arg[0] = chance(g, 80) ? inside_address(g, op->proc) : call_address(g, op->proc, true);
	op->arg[1] = chance(g, 4) ? 0 : call_length(g, op->proc, op->arg[0], true);
	op->arg[2] = per_mille(g, 15) ? odd_lengths[below(g, 5)] : draw_new_length(g, op->arg[1]);
	op->arg[3] = CHOOSE(g, flags);
	op->arg[4] =
		op->arg[3] & (MREMAP_FIXED | MREMAP_DONTUNMAP) || chance(g, 10) ? call_address(g, op->proc, false) : 0;
}

static void draw_brk(struct generator *g, struct op *op)
{
	uint64_t dice = below(g, 100);

	if (dice < 80)
		op->arg[0] = BRK_START + below(g, 90) * PAGE;
	else if (dice < 90)
		op->arg[0] = BRK_START + below(g, 100 * PAGE);
	else
		op->arg[0] = dice < 95 ? 0 : LOW_START + below(g, WINDOW_PAGES) * PAGE;
}

static void draw_madvise(struct generator *g, struct op *op)
{
	static const struct choice advices[] = {
		{ 22, MADV_DONTNEED },
		{ 10, MADV_FREE },
		{ 8, MADV_REMOVE },
		{ 5, MADV_DONTFORK },
		{ 4, MADV_DOFORK },
		{ 5, MADV_WIPEONFORK },
		{ 3, MADV_KEEPONFORK },
		{ 5, MADV_COLD },
		{ 4, MADV_WILLNEED },
		{ 10, MADV_POPULATE_READ },
		{ 12, MADV_POPULATE_WRITE },
		{ 10, MADV_GUARD_INSTALL },
		{ 7, MADV_GUARD_REMOVE },
		{ 3, MADV_RANDOM },
		{ 2, MADV_SEQUENTIAL },
		{ 3, MADV_NORMAL },
		{ 4, MADV_DONTNEED_LOCKED },
		{ 1, 5 },
		{ 1, 1000 },
		{ 2, MADV_HUGEPAGE },
		{ 2, MADV_NOHUGEPAGE },
		{ 1, MADV_DONTDUMP },
		{ 1, MADV_DODUMP },
		{ 1, MADV_MERGEABLE },
		{ 1, MADV_UNMERGEABLE },
		{ 1, 0xffffffff },
	};

	draw_range(g, op);
	op->arg[2] = CHOOSE(g, advices);
}

static void draw_mincore(struct generator *g, struct op *op)
{
	draw_range(g, op);
	if (op->arg[1] < 1ull << 40 && op->arg[1] > MAX_DATA / 2 * (uint64_t)PAGE)
		op->arg[1] = PAGE;
}

static void draw_msync(struct generator *g, struct op *op)
{
	static const struct choice flags[] = {
		{ 50, MS_ASYNC }, { 20, MS_SYNC }, { 10, MS_INVALIDATE },     { 10, MS_ASYNC | MS_INVALIDATE },
		{ 5, 0 },	  { 3, 8 },	   { 3, MS_ASYNC | MS_SYNC },
	};

	draw_range(g, op);
	op->arg[2] = CHOOSE(g, flags);
}

static void draw_mlock2(struct generator *g, struct op *op)
{
	draw_range(g, op);
	op->arg[2] = chance(g, 70) ? 1 : chance(g, 80) ? 0 : 2;
}

static void draw_mlockall(struct generator *g, struct op *op)
{
	static const struct choice flags[] = {
		{ 30, MCL_CURRENT },
		{ 25, MCL_FUTURE },
		{ 20, MCL_CURRENT | MCL_FUTURE },
		{ 10, MCL_CURRENT | MCL_ONFAULT },
		{ 10, MCL_FUTURE | MCL_ONFAULT },
		{ 3, 0 },
		{ 3, MCL_ONFAULT },
		{ 3, 8 },
	};

	op->arg[0] = CHOOSE(g, flags);
}

static void draw_mseal(struct generator *g, struct op *op)
{
	draw_range(g, op);
	op->arg[2] = chance(g, 95) ? 0 : 1;
}

/* ----------------------------------------------------------------------------------------------------- accesses */

/* Bytes anywhere in a page, most often few, sometimes across a boundary. */
static void draw_access(struct generator *g, struct op *op, unsigned addr_arg)
{
	uint64_t page = mapped_address(g, op->proc), dice = below(g, 100);

	op->arg[addr_arg] = page + (chance(g, 30) ? 0 : below(g, PAGE));
	op->arg[addr_arg + 1] = 1 + below(g, 64);
	if (dice < 15) {
		op->arg[addr_arg] = page + PAGE - 1 - below(g, 16);
		op->arg[addr_arg + 1] = 17 + below(g, 32);
	} else if (dice < 35) {
		op->arg[addr_arg + 1] = 1 + below(g, 5 * PAGE);
	}
	if (per_mille(g, 5))
		op->arg[addr_arg] = odd_addresses[below(g, 6)];
}

static void draw_store(struct generator *g, struct op *op)
{
	draw_access(g, op, 0);
	op->arg[2] = rng_next(&g->rng) >> 40;
}

static void draw_fetch(struct generator *g, struct op *op)
{
	op->arg[0] = mapped_address(g, op->proc) + (chance(g, 50) ? 0 : below(g, PAGE - 16));
}

static void draw_cmpxchg(struct generator *g, struct op *op)
{
	op->arg[0] = mapped_address(g, op->proc) + below(g, PAGE / 8) * 8;
	op->arg[1] = 0;
	op->arg[2] = rng_next(&g->rng) >> 40;
}

/* Below a mapping that grows down, if there is one: from right under it to beyond the guard gap. */
static bool draw_stack_access(struct generator *g, struct op *op)
{
	const struct vma *v = some_vma(g, op->proc);

	if (!v || v->start < LOW_START || !chance(g, 6))
		return false;
	op->kind = chance(g, 50) ? OP_LOAD : OP_STORE;
	op->arg[0] = v->start - 1 - below(g, chance(g, 70) ? 4 * PAGE : 300 * PAGE);
	op->arg[1] = 1 + below(g, 16);
	op->arg[2] = 1;
	return op->arg[0] >= CHILD_END;
}

/* ---------------------------------------------------------------------------------------- processes, files, limits */

static unsigned nr_live(struct generator *g)
{
	unsigned n = 0;

	for (unsigned p = 0; p < MAX_PROCS; p++)
		n += g->pair->ref->ops->alive(g->pair->ref, p);
	return n;
}

static unsigned some_proc(struct generator *g, bool alive)
{
	for (;;) {
		unsigned p = (unsigned)below(g, MAX_PROCS);

		if (g->pair->ref->ops->alive(g->pair->ref, p) == alive)
			return p;
	}
}

static bool draw_fork(struct generator *g, struct op *op)
{
	if (nr_live(g) >= MAX_LIVE)
		return false;
	op->arg[0] = some_proc(g, false);
	return true;
}

static bool draw_exit(struct generator *g, struct op *op)
{
	(void)op;
	return nr_live(g) > 1;
}

static void draw_vm(struct generator *g, struct op *op)
{
	op->arg[0] = some_proc(g, true);
	draw_access(g, op, 1);
	op->arg[3] = rng_next(&g->rng) >> 40;
}

static uint64_t draw_position(struct generator *g, unsigned file)
{
	uint64_t size = g->pair->file_size[file];

	if (chance(g, 25) && size)
		return chance(g, 50) ? size : below(g, size);
	return below(g, 16) * PAGE + (chance(g, 50) ? 0 : below(g, PAGE));
}

static void draw_file_transfer(struct generator *g, struct op *op)
{
	op->arg[0] = below(g, MAX_FILES);
	op->arg[1] = draw_position(g, (unsigned)op->arg[0]);
	op->arg[2] = 1 + (chance(g, 50) ? below(g, 200) : below(g, 4 * PAGE));
	if (op->kind == OP_PWRITE)
		op->arg[3] = rng_next(&g->rng) >> 40;
}

static void draw_ftruncate(struct generator *g, struct op *op)
{
	op->arg[0] = below(g, MAX_FILES);
	op->arg[1] = chance(g, 97) ? draw_position(g, (unsigned)op->arg[0]) : (uint64_t)-1;
}

static void draw_fallocate(struct generator *g, struct op *op)
{
	static const struct choice modes[] = { { 70, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
					       { 15, 0 },
					       { 10, FALLOC_FL_KEEP_SIZE },
					       { 5, FALLOC_FL_PUNCH_HOLE } };

	op->arg[0] = below(g, MAX_FILES);
	op->arg[1] = CHOOSE(g, modes);
	op->arg[2] = draw_position(g, (unsigned)op->arg[0]);
	op->arg[3] = per_mille(g, 20) ? 0 : 1 + below(g, chance(g, 40) ? PAGE : 6 * PAGE);
}

static void draw_setrlimit(struct generator *g, struct op *op)
{
	static const struct choice resources[] = {
		{ 3, RLIMIT_AS },
		{ 3, RLIMIT_DATA },
		{ 2, RLIMIT_STACK },
		{ 4, RLIMIT_MEMLOCK },
	};
	uint64_t pages = 0;

	op->arg[0] = CHOOSE(g, resources);
	if (chance(g, 30)) {
		op->arg[1] = UINT64_MAX;
		return;
	}
	for (size_t i = 0; i < view_of(g, op->proc)->nr; i++)
		pages += (view_of(g, op->proc)->vma[i].end - view_of(g, op->proc)->vma[i].start) / PAGE;
	if (op->arg[0] == RLIMIT_AS || (op->arg[0] == RLIMIT_MEMLOCK && chance(g, 20)))
		pages += (SLOTS_BYTES + CHILD_TEXT_BYTES) / PAGE;
	op->arg[1] = (pages + below(g, 40)) * PAGE;
	if (op->arg[0] == RLIMIT_STACK || (op->arg[0] == RLIMIT_MEMLOCK && chance(g, 60)))
		op->arg[1] = below(g, 60) * PAGE;
	if (chance(g, 20))
		op->arg[1] += below(g, PAGE);
}

/* ---------------------------------------------------------------------------------------------------------- all */

static bool draw_args(struct generator *g, struct op *op)
{
	switch ((enum op_kind)op->kind) {
	case OP_MMAP:
		draw_mmap(g, op);
		return true;
	case OP_MUNMAP:
	case OP_MLOCK:
	case OP_MUNLOCK:
		draw_range(g, op);
		return true;
	case OP_MPROTECT:
		draw_mprotect(g, op);
		return true;
	case OP_MREMAP:
		draw_mremap(g, op);
		return true;
	case OP_BRK:
		draw_brk(g, op);
		return true;
	case OP_MADVISE:
		draw_madvise(g, op);
		return true;
	case OP_MINCORE:
		draw_mincore(g, op);
		return true;
	case OP_MSYNC:
		draw_msync(g, op);
		return true;
	case OP_MLOCK2:
		draw_mlock2(g, op);
		return true;
	case OP_MLOCKALL:
		draw_mlockall(g, op);
		return true;
	case OP_MSEAL:
		draw_mseal(g, op);
		return true;
	case OP_LOAD:
		draw_access(g, op, 0);
		return true;
	case OP_STORE:
		draw_store(g, op);
		return true;
	case OP_FETCH:
		draw_fetch(g, op);
		return true;
	case OP_CMPXCHG:
		draw_cmpxchg(g, op);
		return true;
	case OP_FORK:
		return draw_fork(g, op);
	case OP_EXIT:
		return draw_exit(g, op);
	case OP_VMREAD:
	case OP_VMWRITE:
		draw_vm(g, op);
		return true;
	case OP_PREAD:
	case OP_PWRITE:
		draw_file_transfer(g, op);
		return true;
	case OP_FTRUNCATE:
		draw_ftruncate(g, op);
		return true;
	case OP_FALLOCATE:
		draw_fallocate(g, op);
		return true;
	case OP_FSYNC:
		op->arg[0] = below(g, MAX_FILES);
		return true;
	case OP_SETRLIMIT:
		draw_setrlimit(g, op);
		return true;
	case OP_MUNLOCKALL:
	case OP_KINDS:
		break;
	}
	return true;
}

/* Operations that would hit the harness itself are drawn again. */
static bool is_safe(const struct op *op)
{
	switch ((enum op_kind)op->kind) {
	case OP_MMAP:
	case OP_MUNMAP:
	case OP_MPROTECT:
	case OP_MADVISE:
	case OP_MSYNC:
	case OP_MINCORE:
	case OP_MLOCK:
	case OP_MLOCK2:
	case OP_MUNLOCK:
	case OP_MSEAL:
	case OP_LOAD:
	case OP_STORE:
		return !touches_harness(op->arg[0], op->arg[1]);
	case OP_MREMAP:
		return !touches_harness(op->arg[0], op->arg[1]) && !touches_harness(op->arg[0], op->arg[2]) &&
		       !touches_harness(op->arg[4], op->arg[2]);
	case OP_VMREAD:
	case OP_VMWRITE:
		return !touches_harness(op->arg[1], op->arg[2]);
	default:
		return true;
	}
}

/* Something to begin with: a mapping of a good part of a hot area. */
static bool draw_first_map(struct generator *g, struct op *op)
{
	g->setup++;
	op->kind = OP_MMAP;
	do {
		draw_mmap(g, op);
		op->arg[0] = g->hot[below(g, 2)] + below(g, g->hot_pages) * PAGE;
		op->arg[1] = PAGE * (1 + below(g, g->hot_pages));
		op->arg[3] = (op->arg[3] | MAP_FIXED) & ~(uint64_t)MAP_FIXED_NOREPLACE;
	} while (!is_safe(op));
	return true;
}

/* Every sequence begins with files that have something in them, and a few mappings. */
static bool draw_setup(struct generator *g, struct op *op)
{
	unsigned file = g->setup / 2;

	if (file > FILE_HOST)
		return g->setup < 2 * FILE_HOST + 2 + g->first_maps && draw_first_map(g, op);
	op->arg[0] = file;
	if (g->setup++ % 2 == 0) {
		op->kind = OP_FTRUNCATE;
		op->arg[1] = below(g, 14 * PAGE);
		if (chance(g, 50))
			op->arg[1] &= ~(uint64_t)(PAGE - 1);
		return true;
	}
	op->kind = OP_PWRITE;
	op->arg[1] = below(g, 3) * PAGE;
	op->arg[2] = 1 + below(g, 6 * PAGE);
	op->arg[3] = rng_next(&g->rng) >> 40;
	return true;
}

static enum op_kind draw_kind(struct generator *g)
{
	unsigned at = (unsigned)below(g, g->total_weight);

	for (int k = 0; k < OP_KINDS; k++) {
		if (at < g->weight[k])
			return (enum op_kind)k;
		at -= g->weight[k];
	}
	return OP_MMAP;
}

static void clear_op(struct op *op)
{
	*op = (struct op){ 0 };
}

/* One attempt; false when the operation cannot be had now or is not safe. */
static bool draw_op(struct generator *g, struct op *op)
{
	clear_op(op);
	op->kind = (uint8_t)draw_kind(g);
	if (!op_descs[op->kind].file_op)
		op->proc = (uint8_t)some_proc(g, true);
	if ((op->kind == OP_LOAD || op->kind == OP_STORE) && draw_stack_access(g, op))
		return true;
	return draw_args(g, op) && is_safe(op);
}

void generator_next(struct generator *g, struct op *op)
{
	clear_op(op);
	if (draw_setup(g, op))
		return;
	while (!draw_op(g, op))
		;
}

/* The mix of this sequence: a fifth of the kinds left out, a fifth three times as frequent. */
static void draw_weights(struct generator *g, uint64_t kinds)
{
	static const unsigned factors[] = { 0, 2, 2, 2, 6 };

	g->total_weight = 0;
	for (int k = 0; k < OP_KINDS; k++) {
		unsigned factor = factors[below(g, 5)];

		if (k == OP_MMAP || k == OP_STORE || k == OP_LOAD)
			factor = factor ? factor : 2;
		g->weight[k] = kinds >> k & 1 ? base_weight[k] * factor : 0;
		g->total_weight += g->weight[k];
	}
	if (!g->total_weight) {
		g->weight[OP_MMAP] = 1;
		g->total_weight = 1;
	}
}

void generator_start(struct generator *g, uint64_t seed, uint64_t kinds, const struct pair *pair)
{
	*g = (struct generator){ .pair = pair };
	rng_seed(&g->rng, seed);
	draw_weights(g, kinds);
	g->first_maps = (unsigned)below(g, 7);
	g->hot_pages = 8 + (unsigned)below(g, 40);
	g->hot[0] = chance(g, 50) ? 0x400000 - below(g, g->hot_pages) * PAGE
				  : LOW_START + below(g, WINDOW_PAGES - g->hot_pages) * PAGE;
	g->hot[1] = chance(g, 50) ? HIGH_END - g->hot_pages * PAGE
				  : HIGH_START + below(g, WINDOW_PAGES - g->hot_pages) * PAGE;
	if (chance(g, 40))
		g->hot[0] = BRK_START + below(g, 60) * PAGE;
}
