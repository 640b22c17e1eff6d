/* SPDX-License-Identifier: MIT */
/*
 * Object caches: layout for every size, no object handed out twice, reuse, frees from another CPU, objects that stay what they
 * are while a reader may look, and memory running out.
 */
#include "fixture.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

#define NR_OBJECTS 3000u

/* A cache of our own in a machine: its stacks are not in the arena, which makes no difference to it. */
struct test_cache {
	struct fixture f;
	struct kmem_cache cache;
	struct kmem_cache_cpu *stacks;
	void *object[NR_OBJECTS];
	u32 nr;
};

static void cache_start(struct test_cache *t, u32 size, u32 align, u32 flags, void (*ctor)(void *))
{
	struct quire_config config = { .memory = 8u << 20, .nr_cpus = 4 };

	memset(t, 0, sizeof(*t));
	fixture_start(&t->f, &config);
	t->stacks = aligned_alloc(CACHE_LINE, 5 * sizeof(*t->stacks));
	assert_non_null(t->stacks);
	memset(t->stacks, 0, 5 * sizeof(*t->stacks));
	kmem_cache_init(&t->cache, t->f.q, "test", size, align, flags, ctor, t->stacks);
}

static void cache_check(struct test_cache *t)
{
	fixture_validate(&t->f);
	assert_int_equal(kmem_cache_validate(&t->cache, fixture_violation, NULL), 0);
}

static void cache_stop(struct test_cache *t)
{
	kmem_cache_drain(t->f.cpu, &t->cache);
	kmem_cache_shrink(t->f.cpu, &t->cache);
	cache_check(t);
	assert_int_equal(kmem_cache_in_use(&t->cache), 0);
	assert_int_equal(t->cache.nr_slabs, 0);
	fixture_stop(&t->f);
	free(t->stacks);
}

/* Fills an object with what only it contains. */
static void object_stamp(struct test_cache *t, void *object, u32 stamp)
{
	for (u32 i = 0; i + 4 <= t->cache.size; i += 4)
		memcpy((char *)object + i, &stamp, 4);
}

static void object_assert_stamp(struct test_cache *t, const void *object, u32 stamp)
{
	for (u32 i = 0; i + 4 <= t->cache.size; i += 4)
		assert_memory_equal((const char *)object + i, &stamp, 4);
}

static u32 stamp_of(const void *object)
{
	return (u32)(uintptr_t)object * 2654435761u;
}

static void take(struct test_cache *t, void *object)
{
	assert_int_equal((uintptr_t)object & (t->cache.align - 1), 0);
	object_stamp(t, object, stamp_of(object));
	t->object[t->nr++] = object;
}

static void give(struct test_cache *t, u32 index)
{
	void *object = t->object[index];

	object_assert_stamp(t, object, stamp_of(object));
	t->object[index] = t->object[--t->nr];
	kmem_cache_free(t->f.cpu, &t->cache, object);
}

/* ------------------------------------------------------------------------------------- sizes */

static void any_size_and_alignment(void **state)
{
	static const u32 sizes[] = { 8, 24, 64, 88, 192, 400, 584, 1000, 2000, 3000, 4096, 5000, 9000, 32000 };
	struct test_cache t;
	u64 random = 3;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		u32 max = 2u << 20 > sizes[i] * NR_OBJECTS ? NR_OBJECTS : (2u << 20) / sizes[i];

		cache_start(&t, sizes[i], sizes[i] % 64 ? 8 : 64, 0, NULL);
		for (unsigned step = 0; step < 4 * max; step++) {
			if (t.nr && (t.nr == max || random_below(&random, 5) < 2))
				give(&t, (u32)random_below(&random, t.nr));
			else
				take(&t, kmem_cache_alloc(t.f.cpu, &t.cache));
		}
		assert_int_equal(kmem_cache_in_use(&t.cache), t.nr);
		cache_check(&t);
		while (t.nr)
			give(&t, (u32)random_below(&random, t.nr));
		/* In order, as whole slabs: forwards, then backwards. */
		while (t.nr < max)
			take(&t, kmem_cache_alloc(t.f.cpu, &t.cache));
		for (u32 k = 0; k < max; k++)
			kmem_cache_free(t.f.cpu, &t.cache, t.object[k]);
		t.nr = 0;
		cache_check(&t);
		while (t.nr < max)
			take(&t, kmem_cache_alloc(t.f.cpu, &t.cache));
		while (t.nr)
			give(&t, t.nr - 1);
		cache_check(&t);
		cache_stop(&t);
	}
}

/* 63 of 64 lines of a frame are objects, and they come in rising order: what is filled in order is in memory in order. */
static void cache_line_objects_are_dense_and_rise(void **state)
{
	struct test_cache t;
	u32 breaks = 0;

	(void)state;
	cache_start(&t, 64, 64, SLAB_TYPESAFE_BY_RCU, NULL);
	for (u32 i = 0; i < 63 * 16; i++) {
		take(&t, kmem_cache_alloc(t.f.cpu, &t.cache));
		breaks += i && (char *)t.object[i] - (char *)t.object[i - 1] != 64;
	}
	assert_int_equal(t.cache.nr_slabs, 16);
	assert_in_range(breaks, 15, 15);
	while (t.nr)
		give(&t, t.nr - 1);
	assert_true(kmem_cache_alloc_bulk(t.f.cpu, &t.cache, 1000, t.object));
	breaks = 0;
	for (u32 i = 1; i < 1000; i++)
		breaks += (char *)t.object[i] - (char *)t.object[i - 1] != 64;
	/* What was on the stack, and the slabs' headers. */
	assert_in_range(breaks, 1, 20);
	for (u32 i = 0; i < 1000; i++)
		take(&t, t.object[i]);
	assert_int_equal(t.nr, 1000);
	while (t.nr)
		give(&t, 0);
	cache_stop(&t);
}

static void zeroed_objects(void **state)
{
	static const char zeroes[200];
	struct test_cache t;

	(void)state;
	cache_start(&t, 200, 8, SLAB_ZERO, NULL);
	for (unsigned i = 0; i < 2000; i++) {
		void *object = kmem_cache_alloc(t.f.cpu, &t.cache);

		assert_memory_equal(object, zeroes, 200);
		take(&t, object);
		if (i % 3 == 0)
			give(&t, t.nr / 2);
	}
	while (t.nr)
		give(&t, 0);
	cache_stop(&t);
}

/* ------------------------------------------------------------------------------------- reuse and memory */

/* Empty slabs are kept, but only a few; a drain keeps none. */
static void empty_slabs_go_back(void **state)
{
	struct test_cache t;

	(void)state;
	cache_start(&t, 512, 64, 0, NULL);
	for (u32 i = 0; i < NR_OBJECTS; i++)
		take(&t, kmem_cache_alloc(t.f.cpu, &t.cache));
	assert_true(t.cache.nr_slabs >= NR_OBJECTS / 8 / (1u << t.cache.order) / 2);
	while (t.nr)
		give(&t, t.nr - 1);
	assert_in_range(t.cache.nr_slabs, 1, t.cache.max_empty + SLAB_CPU_MAX);
	assert_in_range(t.cache.nr_empty, 1, t.cache.max_empty);
	cache_check(&t);
	cache_stop(&t);
}

static void memory_runs_out_and_comes_back(void **state)
{
	struct test_cache t;
	u64 nr_free;
	void *bulk[200];

	(void)state;
	cache_start(&t, 8000, 64, SLAB_TYPESAFE_BY_RCU, NULL);
	while (t.nr < NR_OBJECTS) {
		void *object = kmem_cache_alloc(t.f.cpu, &t.cache);

		if (!object)
			break;
		take(&t, object);
	}
	/* 8 MiB hold some 1000 such objects, 4 in each 32 KiB. */
	assert_in_range(t.nr, 980, 1048);
	assert_null(kmem_cache_alloc_gfp(t.f.cpu, &t.cache, GFP_NORETRY));
	give(&t, 3);
	/* All or none: one is there, 200 are not. */
	nr_free = kmem_cache_in_use(&t.cache);
	assert_false(kmem_cache_alloc_bulk(t.f.cpu, &t.cache, 200, bulk));
	assert_int_equal(kmem_cache_in_use(&t.cache), nr_free);
	take(&t, kmem_cache_alloc(t.f.cpu, &t.cache));
	cache_check(&t);
	while (t.nr)
		give(&t, 0);
	cache_stop(&t);
}

/* Slabs of several frames when memory is so broken up that only single frames are left. */
static void large_slabs_fall_back_to_small_ones(void **state)
{
	struct test_cache t;
	static u64 pfns[4096];
	u32 nr = 0;

	(void)state;
	cache_start(&t, 1500, 64, 0, NULL);
	assert_true(t.cache.order > 0);
	while ((pfns[nr] = frame_alloc(t.f.cpu, 0, GFP_KERNEL)))
		nr++;
	for (u32 i = 0; i < nr; i++) {
		if (pfns[i] & 1)
			frame_free(t.f.cpu, pfns[i], 0);
	}
	for (u32 i = 0; i < 100; i++) {
		void *object = kmem_cache_alloc(t.f.cpu, &t.cache);

		assert_non_null(object);
		take(&t, object);
	}
	cache_check(&t);
	while (t.nr)
		give(&t, 0);
	for (u32 i = 0; i < nr; i++) {
		if (!(pfns[i] & 1))
			frame_free(t.f.cpu, pfns[i], 0);
	}
	cache_stop(&t);
}

/* ------------------------------------------------------------------------------------- type-safe under RCU */

#define MAGIC 0x7175697265ull

/* As a folio or a VMA: found by a stale pointer, it must still be a counted object. */
struct counted {
	u64 magic;	/* const from the constructor on */
	u32 count;	/* 0 while free */
	u32 generation; /* of its use */
	u64 pad[6];
};

static void counted_ctor(void *object)
{
	struct counted *counted = object;

	__atomic_store_n(&counted->magic, MAGIC, __ATOMIC_RELAXED);
	__atomic_store_n(&counted->count, 0, __ATOMIC_RELAXED);
}

/* What is free is not written to by the allocator: neither when freed nor while free. */
static void free_typesafe_objects_are_left_alone(void **state)
{
	struct test_cache t;
	struct counted *counted;

	(void)state;
	cache_start(&t, sizeof(*counted), 64, SLAB_TYPESAFE_BY_RCU, counted_ctor);
	counted = kmem_cache_alloc(t.f.cpu, &t.cache);
	assert_int_equal(counted->magic, MAGIC);
	assert_int_equal(counted->count, 0);
	memset(counted->pad, 0x77, sizeof(counted->pad));
	counted->generation = 12;
	kmem_cache_free(t.f.cpu, &t.cache, counted);
	assert_int_equal(counted->magic, MAGIC);
	assert_int_equal(counted->generation, 12);
	assert_ptr_equal(kmem_cache_alloc(t.f.cpu, &t.cache), counted);
	assert_int_equal(counted->pad[5], 0x7777777777777777);
	kmem_cache_free(t.f.cpu, &t.cache, counted);
	cache_stop(&t);
}

/* The frames of an empty slab are not had by others while a reader is inside. */
static void slabs_outlive_readers(void **state)
{
	struct test_cache t;
	struct counted *counted;
	u64 word;

	(void)state;
	cache_start(&t, sizeof(*counted), 64, SLAB_TYPESAFE_BY_RCU, counted_ctor);
	counted = kmem_cache_alloc(t.f.cpu, &t.cache);
	rcu_read_lock(t.f.cpu);
	kmem_cache_free(t.f.cpu, &t.cache, counted);
	kmem_cache_drain(t.f.cpu, &t.cache);
	kmem_cache_shrink(t.f.cpu, &t.cache);
	assert_int_equal(t.cache.nr_slabs, 0);
	for (unsigned i = 0; i < 100; i++) {
		u64 pfn = frame_alloc(t.f.cpu, 0, GFP_NORETRY);

		memset(pfn_to_virt(t.f.q, pfn), 0x11, PAGE_SIZE);
		frame_free(t.f.cpu, pfn, 0);
	}
	word = READ_ONCE(t.f.q->pages[virt_to_pfn(t.f.q, counted)].word);
	assert_int_equal(page_word_type(word), PAGE_SLAB);
	assert_int_equal(counted->magic, MAGIC);
	rcu_read_unlock(t.f.cpu);
	cache_stop(&t);
}

struct deferred {
	u64 pad[3];
	struct rcu_head rcu;
	u64 value;
};

/* The rcu_head may lie anywhere in the object; until readers are gone the object is as it was. */
static void freed_after_a_grace_period(void **state)
{
	struct test_cache t;
	struct deferred *objects[500];

	(void)state;
	cache_start(&t, sizeof(struct deferred), 8, 0, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
		objects[i] = kmem_cache_alloc(t.f.cpu, &t.cache);
		objects[i]->value = i;
	}
	rcu_read_lock(t.f.cpu);
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++)
		kmem_cache_free_rcu(t.f.cpu, &t.cache, objects[i], &objects[i]->rcu);
	for (unsigned i = 0; i < 100; i++)
		take(&t, kmem_cache_alloc(t.f.cpu, &t.cache));
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++)
		assert_int_equal(objects[i]->value, i);
	rcu_read_unlock(t.f.cpu);
	rcu_barrier(t.f.cpu);
	assert_int_equal(kmem_cache_in_use(&t.cache), 100);
	while (t.nr)
		give(&t, 0);
	/* What the callbacks freed lies on the service CPU's stack, which nobody else may drain. */
	kmem_cache_drain(t.f.q->cpus[t.f.q->nr_cpus], &t.cache);
	cache_stop(&t);
}

/* ------------------------------------------------------------------------------------- several CPUs */

#define NR_THREADS 4u
#define NR_SLOTS 512u

struct shared {
	struct test_cache *t;
	struct counted *slot[NR_SLOTS]; /* atomic: objects in use, passed from thread to thread */
	u32 stale;			/* atomic: references refused or given back */
	u32 failed;			/* atomic */
};

struct worker {
	struct shared *s;
	struct quire_cpu *cpu;
	u64 random;
};

static bool counted_try_get(struct counted *counted)
{
	u32 count = READ_ONCE(counted->count);

	do {
		if (!count)
			return false;
	} while (!__atomic_compare_exchange_n(&counted->count, &count, count + 1, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_RELAXED));
	return true;
}

static void counted_put(struct worker *w, struct counted *counted)
{
	u32 old = __atomic_fetch_sub(&counted->count, 1, __ATOMIC_ACQ_REL);

	if (!old)
		__atomic_fetch_add(&w->s->failed, 1, __ATOMIC_RELAXED);
	if (old == 1)
		kmem_cache_free(w->cpu, &w->s->t->cache, counted);
}

/* Replaces what is in a slot: frees what another thread has allocated, most of the time. */
static void worker_replace(struct worker *w, u64 i)
{
	struct counted *counted = kmem_cache_alloc(w->cpu, &w->s->t->cache);

	WRITE_ONCE(counted->generation, READ_ONCE(counted->generation) + 1);
	smp_store_release(&counted->count, 1);
	counted = __atomic_exchange_n(&w->s->slot[i], counted, __ATOMIC_ACQ_REL);
	if (counted)
		counted_put(w, counted);
}

/* Finds an object, loses sight of it, and looks whether it is one still. */
static void worker_look(struct worker *w, u64 i)
{
	struct counted *counted;

	rcu_read_lock(w->cpu);
	counted = rcu_dereference(w->s->slot[i]);
	if (random_below(&w->random, 8) == 0)
		machine_yield();
	if (counted) {
		if (READ_ONCE(counted->magic) != MAGIC)
			__atomic_fetch_add(&w->s->failed, 1, __ATOMIC_RELAXED);
		if (!counted_try_get(counted)) {
			__atomic_fetch_add(&w->s->stale, 1, __ATOMIC_RELAXED);
		} else {
			if (READ_ONCE(w->s->slot[i]) != counted)
				__atomic_fetch_add(&w->s->stale, 1, __ATOMIC_RELAXED);
			counted_put(w, counted);
		}
	}
	rcu_read_unlock(w->cpu);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < 40000; i++) {
		u64 slot = random_below(&w->random, NR_SLOTS);

		if (random_below(&w->random, 3))
			worker_replace(w, slot);
		else
			worker_look(w, slot);
		/* Slabs really go: their frames are used for other things meanwhile. */
		if (i % 2500 == 0) {
			kmem_cache_drain(w->cpu, &w->s->t->cache);
			kmem_cache_shrink(w->cpu, &w->s->t->cache);
		}
	}
	return NULL;
}

static void objects_travel_between_cpus(void **state)
{
	struct test_cache t;
	struct shared s = { .t = &t };
	struct worker worker[NR_THREADS];
	pthread_t thread[NR_THREADS];

	(void)state;
	cache_start(&t, sizeof(struct counted), 64, SLAB_TYPESAFE_BY_RCU, counted_ctor);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		worker[i] = (struct worker){ .s = &s, .cpu = t.f.cpu, .random = i + 1 };
		if (i)
			assert_int_equal(quire_cpu_enter(t.f.q, i, &worker[i].cpu), 0);
		assert_int_equal(pthread_create(&thread[i], NULL, worker_run, &worker[i]), 0);
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(s.failed, 0);
	for (unsigned i = 0; i < NR_SLOTS; i++) {
		if (s.slot[i])
			counted_put(&worker[i % NR_THREADS], s.slot[i]);
	}
	cache_check(&t);
	for (unsigned i = 1; i < NR_THREADS; i++) {
		kmem_cache_drain(worker[i].cpu, &t.cache);
		quire_cpu_leave(worker[i].cpu);
	}
	cache_stop(&t);
}

/* ------------------------------------------------------------------------------------- misuse, and the validation itself */

static void free_twice(struct fixture *f)
{
	struct kmem_cache *cache = &f->q->cache[CACHE_AVC];
	void *object = kmem_cache_alloc(f->cpu, cache);

	kmem_cache_free(f->cpu, cache, object);
	kmem_cache_free(f->cpu, cache, object);
	kmem_cache_drain(f->cpu, cache);
}

static void free_what_is_no_object(struct fixture *f)
{
	struct kmem_cache *cache = &f->q->cache[CACHE_AVC];

	kmem_cache_free(f->cpu, cache, pfn_to_virt(f->q, frame_alloc(f->cpu, 0, GFP_KERNEL)));
	kmem_cache_drain(f->cpu, cache);
}

static void misuse_is_caught(void **state)
{
	struct test_cache t;

	(void)state;
	cache_start(&t, 64, 64, 0, NULL);
	assert_bug(&t.f, free_twice);
	assert_bug(&t.f, free_what_is_no_object);
	cache_stop(&t);
}

static void damage_is_reported(void **state)
{
	struct test_cache t;
	struct slab *slab;
	struct kmem_cache_cpu *stack;

	(void)state;
	cache_start(&t, 64, 64, SLAB_TYPESAFE_BY_RCU, NULL);
	stack = &t.stacks[0];
	take(&t, kmem_cache_alloc(t.f.cpu, &t.cache));
	slab = page_word_ptr(t.f.q->pages[virt_to_pfn(t.f.q, t.object[0])].word);

	/* On the stack twice; free in the slab and on the stack; free and in use. */
	stack->object[0] = stack->object[1];
	assert_true(kmem_cache_validate(&t.cache, NULL, NULL) > 0);
	stack->object[0] = (char *)stack->object[1] + 64;
	assert_int_equal(kmem_cache_validate(&t.cache, NULL, NULL), 0);
	slab->free[0] |= 1;
	assert_true(kmem_cache_validate(&t.cache, NULL, NULL) > 0);
	slab->free[0] &= ~1ull;
	t.cache.nr_active--;
	assert_int_equal(kmem_cache_validate(&t.cache, NULL, NULL), 1);
	t.cache.nr_active++;
	give(&t, 0);
	cache_stop(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_size_and_alignment),
		cmocka_unit_test(cache_line_objects_are_dense_and_rise),
		cmocka_unit_test(zeroed_objects),
		cmocka_unit_test(empty_slabs_go_back),
		cmocka_unit_test(memory_runs_out_and_comes_back),
		cmocka_unit_test(large_slabs_fall_back_to_small_ones),
		cmocka_unit_test(free_typesafe_objects_are_left_alone),
		cmocka_unit_test(slabs_outlive_readers),
		cmocka_unit_test(freed_after_a_grace_period),
		cmocka_unit_test(objects_travel_between_cpus),
		cmocka_unit_test(misuse_is_caught),
		cmocka_unit_test(damage_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
