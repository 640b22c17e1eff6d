/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of a call fails once. Each case is run again and again on a fresh address space, with the first, second,
 * third ... allocation of the call failing, until it gets through. After each failure every structure must be right, every page
 * must have its contents, and the address space must be as before; splits of a VMA in two may stay, as they do in Linux.
 *
 * The allocators are wrapped by the linker (--wrap): see meson.build.
 */
#include "calls.h"

#define VIEW_PAGES 64u
#define STACK_PAGE 2000

static int fail_at = -1; /* allocations until one fails; below 0: none does */
static unsigned failures;

static bool fail_now(void)
{
	if (fail_at < 0 || fail_at-- != 0)
		return false;
	failures++;
	return true;
}

void *__wrap_kmem_cache_alloc(struct quire_cpu *cpu, struct kmem_cache *cache);
void *__real_kmem_cache_alloc(struct quire_cpu *cpu, struct kmem_cache *cache);
void *__wrap_kmem_cache_alloc(struct quire_cpu *cpu, struct kmem_cache *cache)
{
	return fail_now() ? NULL : __real_kmem_cache_alloc(cpu, cache);
}

bool __wrap_kmem_cache_alloc_bulk(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned nr, void **objects);
bool __real_kmem_cache_alloc_bulk(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned nr, void **objects);
bool __wrap_kmem_cache_alloc_bulk(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned nr, void **objects)
{
	return !fail_now() && __real_kmem_cache_alloc_bulk(cpu, cache, nr, objects);
}

u64 __wrap_frame_alloc(struct quire_cpu *cpu, unsigned order, unsigned gfp);
u64 __real_frame_alloc(struct quire_cpu *cpu, unsigned order, unsigned gfp);
u64 __wrap_frame_alloc(struct quire_cpu *cpu, unsigned order, unsigned gfp)
{
	return fail_now() ? 0 : __real_frame_alloc(cpu, order, gfp);
}

/* ---------------------------------------------------------------------------------------- what can be seen */

/* One character a page: which permissions, or a hole; and the contents of what can be read. */
struct view {
	char perms[VIEW_PAGES + 1];
	int value[VIEW_PAGES];
	u64 total, locked;
};

static void look_at_perms(struct calls *c, struct view *view)
{
	char *save = NULL;

	memset(view->perms, '.', VIEW_PAGES);
	view->perms[VIEW_PAGES] = 0;
	calls_maps(c);
	for (char *line = strtok_r(c->text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long start, end;
		char perms[5];

		assert_int_equal(sscanf(line, "%llx-%llx %4s", &start, &end, perms), 3);
		for (u64 addr = start; addr < end; addr += P)
			if (addr >= BASE && addr < AT(VIEW_PAGES))
				view->perms[(addr - BASE) / P] =
					(char)('0' + (perms[0] == 'r') + 2 * (perms[1] == 'w') + 4 * (perms[3] == 's'));
	}
}

static void look(struct calls *c, struct view *view)
{
	look_at_perms(c, view);
	for (unsigned i = 0; i < VIEW_PAGES; i++)
		view->value[i] = view->perms[i] & 1 && view->perms[i] != '.' ? load_page(c, i) : -1;
	view->total = total_pages(c);
	view->locked = locked_pages(c);
}

/* ---------------------------------------------------------------------------------------- the cases */

struct unwind_case {
	const char *name;
	void (*prepare)(struct calls *c);
	s64 (*call)(struct calls *c);
	bool empties; /* what a failed call may leave: holes where the destination was, as Linux does */
};

/* rw 0..8 touched, r 8..16 with a touched page below, rw 16..24 touched, shared file 24..32. */
static void prepare_mixed(struct calls *c)
{
	map_anon(c, 0, 8, RW);
	map_anon(c, 8, 8, RW);
	map_anon(c, 16, 8, RW);
	map_file(c, 24, 8, RW, MAP_SHARED, 0);
	for (unsigned i = 0; i < 32; i += 3)
		store_page(c, i, (unsigned char)(i + 1));
	assert_int_equal(quire_mprotect(c->cpu, AT(8), 8 * P, PROT_READ), 0);
}

/* Two mappings with a hole of four pages; the upper one is touched, the lower is not. */
static void prepare_gap(struct calls *c)
{
	map_anon(c, 0, 8, RW);
	map_anon(c, 12, 8, RW);
	store_page(c, 13, 5);
}

static void prepare_untouched_below(struct calls *c)
{
	map_anon(c, 0, 4, RW);
	map_anon(c, 4, 8, PROT_READ | PROT_WRITE | PROT_EXEC);
	store_page(c, 5, 6);
}

static void prepare_heap(struct calls *c)
{
	assert_int_equal(quire_mm_set_brk(c->cpu, c->mm, AT(0)), 0);
	assert_int_equal(quire_brk(c->cpu, AT(8)), AT(8));
	store_page(c, 2, 3);
	assert_int_equal(quire_mprotect(c->cpu, AT(6), 2 * P, PROT_READ), 0);
}

static void prepare_stack(struct calls *c)
{
	assert_int_equal(quire_mmap(c->cpu, AT(40), P, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, NULL, 0), AT(40));
}

static s64 call_mmap_over(struct calls *c)
{
	return quire_mmap(c->cpu, AT(4), 24 * P, PROT_READ, ANON | MAP_FIXED, NULL, 0);
}

static s64 call_mmap_between(struct calls *c)
{
	return quire_mmap(c->cpu, AT(8), 4 * P, RW, ANON | MAP_FIXED, NULL, 0);
}

static s64 call_mmap_shared(struct calls *c)
{
	return quire_mmap(c->cpu, AT(4), 4 * P, RW, SHANON | MAP_FIXED, NULL, 0);
}

static s64 call_munmap(struct calls *c)
{
	return quire_munmap(c->cpu, AT(2), 28 * P);
}

static s64 call_mprotect_inside(struct calls *c)
{
	return quire_mprotect(c->cpu, AT(2), 2 * P, PROT_READ);
}

static s64 call_mprotect_joins(struct calls *c)
{
	return quire_mprotect(c->cpu, AT(8), 8 * P, RW);
}

static s64 call_mprotect_boundary(struct calls *c)
{
	return quire_mprotect(c->cpu, AT(4), 4 * P, RW);
}

static s64 call_mremap_move(struct calls *c)
{
	return quire_mremap(c->cpu, AT(2), 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, AT(3000));
}

static s64 call_mremap_over(struct calls *c)
{
	return quire_mremap(c->cpu, AT(2), 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, AT(18));
}

static s64 call_mremap_grow(struct calls *c)
{
	return quire_mremap(c->cpu, AT(0), 8 * P, 12 * P, 0, 0);
}

static s64 call_mremap_grow_away(struct calls *c)
{
	return quire_mremap(c->cpu, AT(16), 8 * P, 700 * P, MREMAP_MAYMOVE, 0);
}

static s64 call_brk_up(struct calls *c)
{
	return quire_brk(c->cpu, AT(12)) == AT(12) ? 0 : -ENOMEM;
}

static s64 call_brk_down(struct calls *c)
{
	return quire_brk(c->cpu, AT(1)) == AT(1) ? 0 : -ENOMEM;
}

static s64 call_mlock(struct calls *c)
{
	return quire_mlock2(c->cpu, AT(1), 2 * P, 1);
}

static s64 call_madvise(struct calls *c)
{
	return quire_madvise(c->cpu, AT(1), 2 * P, MADV_DONTFORK);
}

static s64 call_mseal(struct calls *c)
{
	return quire_mseal(c->cpu, AT(1), 2 * P, 0);
}

static s64 call_guard(struct calls *c)
{
	return quire_madvise(c->cpu, AT(1), P, 102);
}

static s64 call_fork(struct calls *c)
{
	struct quire_mm *child;
	int error = quire_fork(c->cpu, &child);

	if (!error)
		quire_mm_put(c->cpu, child);
	return error;
}

/* What cannot grow is SIGSEGV; what cannot be filled then is memory run out. */
static s64 call_stack(struct calls *c)
{
	u8 byte = 1;
	int error = quire_store(c->cpu, AT(33), &byte, 1);

	return error ? -ENOMEM : 0;
}

static const struct unwind_case cases[] = {
	{ "mmap over several", prepare_mixed, call_mmap_over, false },
	{ "mmap between", prepare_gap, call_mmap_between, false },
	{ "mmap shared anonymous", prepare_mixed, call_mmap_shared, false },
	{ "munmap", prepare_mixed, call_munmap, false },
	{ "mprotect inside", prepare_mixed, call_mprotect_inside, false },
	{ "mprotect joins", prepare_mixed, call_mprotect_joins, false },
	{ "mprotect moves a boundary", prepare_untouched_below, call_mprotect_boundary, false },
	{ "mremap to a new table", prepare_mixed, call_mremap_move, false },
	{ "mremap over others", prepare_mixed, call_mremap_over, true },
	{ "mremap in place", prepare_gap, call_mremap_grow, false },
	{ "mremap grown elsewhere", prepare_mixed, call_mremap_grow_away, false },
	{ "brk up", prepare_heap, call_brk_up, false },
	{ "brk down", prepare_heap, call_brk_down, false },
	{ "mlock2", prepare_mixed, call_mlock, false },
	{ "madvise", prepare_mixed, call_madvise, false },
	{ "mseal", prepare_mixed, call_mseal, false },
	{ "guard", prepare_gap, call_guard, false },
	{ "fork", prepare_mixed, call_fork, false },
	{ "stack", prepare_stack, call_stack, true },
};

/* ---------------------------------------------------------------------------------------- the runs */

/* Nothing but holes may be new, and those only where the case allows it. */
static void compare(const struct unwind_case *test, int nth, const struct view *before, const struct view *after)
{
	for (unsigned i = 0; i < VIEW_PAGES; i++) {
		if (test->empties && (after->perms[i] == '.' || before->perms[i] == '.'))
			continue;
		if (before->perms[i] != after->perms[i] || before->value[i] != after->value[i])
			fail_msg("%s, allocation %d failed: page %u was %c%d and is %c%d", test->name, nth, i,
				 before->perms[i], before->value[i], after->perms[i], after->value[i]);
	}
	if (!test->empties && (before->total != after->total || before->locked != after->locked))
		fail_msg("%s, allocation %d failed: %llu pages of %llu, %llu locked of %llu", test->name, nth,
			 (unsigned long long)after->total, (unsigned long long)before->total,
			 (unsigned long long)after->locked, (unsigned long long)before->locked);
}

/* On an address space of its own. True when the call got through. */
static bool run_once(struct calls *c, const struct unwind_case *test, int nth)
{
	struct view before, after;
	unsigned failed = failures;
	struct quire_mm *outer = c->mm;
	s64 ret;

	assert_int_equal(quire_mm_create(c->cpu, NULL, &c->mm), 0);
	quire_cpu_run(c->cpu, c->mm);
	test->prepare(c);
	look(c, &before);
	fail_at = nth;
	ret = test->call(c);
	fail_at = -1;
	if (ret < 0) {
		if (ret != -ENOMEM && ret != -EAGAIN)
			fail_msg("%s, allocation %d failed: returned %lld", test->name, nth, (long long)ret);
		look(c, &after);
		compare(test, nth, &before, &after);
	}
	calls_validate(c);
	quire_cpu_run(c->cpu, outer);
	quire_mm_put(c->cpu, c->mm);
	c->mm = outer;
	assert_true(ret >= 0 || failures > failed);
	return ret >= 0 && failures == failed;
}

static void test_unwind(void **state)
{
	struct calls *c = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int nth = 0;

		/* Some failures are got over: another way is found, or what was tried was not needed. */
		while (!run_once(c, &cases[i], nth))
			assert_true(++nth < 200);
	}
	assert_true(failures >
		    2 * ARRAY_SIZE(cases)); /* a call that finds spare nodes in the tree may allocate nothing */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALLS_TEST(test_unwind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
