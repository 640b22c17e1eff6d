/* SPDX-License-Identifier: MIT */
/*
 * Slabs. A CPU allocates from and frees to its own stack of objects; only when that is empty or full it visits the
 * cache, for half a stack at a time. The rules for users stand in slab.h.
 *
 *   on a CPU's stack  <──take──  free in a slab: a set bit   ──release──>  frames
 *   or in use         ──put───>  (cache lock)                  (slab empty; type-safe: after a grace period)
 */
#include "mm/percpu.h"

#define SLAB_MAX_ORDER 3u
#define SLAB_CPU_BYTES (32u << 10) /* of free objects that a CPU's stack holds at most */

/* ------------------------------------------------------------------------------------- layout of a slab */

static u32 bitmap_words(u32 nr)
{
	return (nr + 63) / 64;
}

/* Bytes before the first object. */
static u32 slab_offset(u32 nr, u32 align)
{
	u32 header = (u32)sizeof(struct slab) + bitmap_words(nr) * (u32)sizeof(u64);

	return (header + align - 1) & ~(align - 1);
}

/* How many objects fit into a slab of 2^order frames. */
static u32 slab_capacity(u32 size, u32 align, u32 order)
{
	u32 bytes = (u32)PAGE_SIZE << order;
	u32 nr = bytes / size;

	while (nr && slab_offset(nr, align) + nr * size > bytes)
		nr--;
	return nr;
}

void *kmem_cache_object(const struct kmem_cache *cache, struct slab *slab, u32 index)
{
	return (char *)slab + slab_offset(slab->nr, cache->align) + (size_t)index * cache->size;
}

u32 kmem_cache_index(const struct kmem_cache *cache, const struct slab *slab, const void *address)
{
	u32 offset = (u32)((const char *)address - (const char *)slab) - slab_offset(slab->nr, cache->align);

	return (u32)((u64)offset * cache->reciprocal >> 32);
}

/* The @n low bits, n up to 64. */
static inline u64 low_bits(u32 n)
{
	return n < 64 ? (1ull << n) - 1 : ~0ull;
}

/* The slab that an address is in. The descriptor does not change while any object of the slab is in use. */
static struct slab *address_slab(struct quire *q, const void *address)
{
	u64 word = smp_load_acquire(&q->pages[virt_to_pfn(q, address)].word);

	BUG_ON2(page_word_type(word) != PAGE_SLAB, address, word);
	return page_word_ptr(word);
}

/* ------------------------------------------------------------------------------------- debugging
 * Objects that nobody may look at once they are free are full of a pattern meanwhile. Off in release builds.
 */
#ifdef QUIRE_DEBUG
#define OBJECT_POISON 0x6b

static bool object_poisoned(const struct kmem_cache *cache)
{
	return !(cache->flags & SLAB_TYPESAFE_BY_RCU) && !cache->ctor;
}

static void object_poison(const struct kmem_cache *cache, void *object)
{
	if (object_poisoned(cache))
		memset(object, OBJECT_POISON, cache->size);
}

static void object_check(const struct kmem_cache *cache, const void *object)
{
	const u8 *byte = object;

	if (!object_poisoned(cache))
		return;
	for (u32 i = 0; i < cache->size; i++)
		BUG_ON2(byte[i] != OBJECT_POISON /* free object written to: address, offset */, object, i);
}

/* An object being freed is not on our stack already. (Free in its slab: slab_put finds that.) */
static void object_check_free(const struct kmem_cache *cache, const struct kmem_cache_cpu *stack, const void *object)
{
	BUG_ON2(address_slab(cache->q, object)->cache != cache, object, cache);
	for (u32 i = 0; i < stack->count; i++)
		BUG_ON2(stack->object[i] == object /* freed twice */, object, cache);
}
#else
#define object_poison(cache, object) ((void)(cache), (void)(object))
#define object_check(cache, object) ((void)(cache), (void)(object))
#define object_check_free(cache, stack, object) ((void)(cache), (void)(stack), (void)(object))
#endif

/* ------------------------------------------------------------------------------------- slabs from and to frames */

static void slab_construct(struct kmem_cache *cache, struct slab *slab)
{
	char *object = kmem_cache_object(cache, slab, 0);

	for (u32 i = 0; i < slab->nr; i++, object += cache->size) {
		if (cache->ctor)
			cache->ctor(object);
		else if (cache->flags & SLAB_TYPESAFE_BY_RCU)
			memset(object, 0, cache->size);
		object_poison(cache, object);
	}
	for (u32 i = 0; i < slab->nr; i += 64)
		slab->free[i / 64] = low_bits(slab->nr - i);
}

/* A slab on no list, all its objects free. NULL: no memory. May sleep unless GFP_NORETRY. Caller: holds no lock. */
static struct slab *slab_create(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned gfp)
{
	u32 order = cache->order;
	u64 pfn = frame_alloc_untyped(cpu, order, order > cache->min_order ? GFP_NORETRY : gfp);
	struct slab *slab;

	if (!pfn && order > cache->min_order) {
		order = cache->min_order;
		pfn = frame_alloc_untyped(cpu, order, gfp);
	}
	if (!pfn)
		return NULL;
	slab = (struct slab *)(void *)pfn_to_virt(cache->q, pfn);
	slab->cache = cache;
	slab->order = order;
	slab->nr = (u16)slab_capacity(cache->size, cache->align, order);
	slab->nr_free = slab->nr;
	slab_construct(cache, slab);
	page_set_slab(cache->q, pfn, order, slab);
	count_event(cpu, NR_SLAB, 1ull << order);
	return slab;
}

static void slab_destroy(struct quire_cpu *cpu, struct slab *slab)
{
	u32 order = slab->order;

	count_event(cpu, NR_SLAB, 0 - (1ull << order));
	frame_free(cpu, virt_to_pfn(cpu->q, slab), order);
}

static void slab_destroy_callback(struct quire_cpu *cpu, struct rcu_head *head)
{
	slab_destroy(cpu, container_of(head, struct slab, rcu));
}

/* Frees a list of empty slabs that are the caller's alone. No cache lock held. */
static void slabs_release(struct quire_cpu *cpu, struct kmem_cache *cache, struct list_head *slabs)
{
	struct slab *slab, *next;

	list_for_each_entry_safe(slab, next, slabs, list) {
		if (cache->flags & SLAB_TYPESAFE_BY_RCU)
			call_rcu(cpu, &slab->rcu, slab_destroy_callback);
		else
			slab_destroy(cpu, slab);
	}
}

/* ------------------------------------------------------------------------------------- objects from and to slabs */

static void slab_move(struct slab *slab, struct list_head *list)
{
	list_del_init(&slab->list);
	list_add_tail(&slab->list, list);
}

/* How many low bits of @bits are set in a row: at least 1, at most @max. */
static u32 bit_run(u64 bits, u32 max)
{
	u32 run = bits == ~0ull ? 64 : (u32)__builtin_ctzll(~bits);

	return run < max ? run : max;
}

/* Up to @nr objects of one slab, in rising order; how many. Cache lock held. */
static u32 slab_take(struct kmem_cache *cache, struct slab *slab, void **objects, u32 nr)
{
	char *base = kmem_cache_object(cache, slab, 0);
	u32 size = cache->size;
	u32 got = 0;

	nr = nr < slab->nr_free ? nr : slab->nr_free;
	for (u32 word = 0; got < nr; word++, base += 64 * (u64)size) {
		while (slab->free[word] && got < nr) {
			u32 first = (u32)__builtin_ctzll(slab->free[word]);
			u32 run = bit_run(slab->free[word] >> first, nr - got);
			char *object = base + (u64)first * size;

			slab->free[word] &= ~(low_bits(run) << first);
			for (; run; run--, object += size)
				objects[got++] = object;
		}
	}
	slab->nr_free = (u16)(slab->nr_free - got);
	return got;
}

/* Up to @nr objects from slabs that have some. Cache lock held. */
static u32 cache_take(struct kmem_cache *cache, void **objects, u32 nr)
{
	u32 got = 0;

	while (got < nr) {
		bool empty = list_empty(&cache->partial);
		struct list_head *list = empty ? &cache->empty : &cache->partial;
		struct slab *slab;

		if (list_empty(list))
			break;
		slab = list_first_entry(list, struct slab, list);
		got += slab_take(cache, slab, objects + got, nr - got);
		cache->nr_empty -= empty;
		list_del_init(&slab->list);
		/* What is left is taken next. */
		list_add(&slab->list, slab->nr_free ? &cache->partial : &cache->full);
	}
	WRITE_ONCE(cache->nr_active, cache->nr_active + got);
	return got;
}

/* The same, making a slab when there is none: 0 means no memory. May sleep unless GFP_NORETRY. */
static u32 cache_take_or_grow(struct quire_cpu *cpu, struct kmem_cache *cache, void **objects, u32 nr, unsigned gfp)
{
	struct slab *slab;
	u32 got;

	spin_lock(&cache->lock);
	got = cache_take(cache, objects, nr);
	spin_unlock(&cache->lock);
	if (got)
		return got;
	slab = slab_create(cpu, cache, gfp);
	spin_lock(&cache->lock);
	if (slab) {
		list_add(&slab->list, &cache->empty);
		cache->nr_empty++;
		cache->nr_slabs++;
	}
	/* Even without: others may have freed some meanwhile. */
	got = cache_take(cache, objects, nr);
	spin_unlock(&cache->lock);
	return got;
}

/* @nr objects of a slab have become free: moves it to its list, or to @released when it is one empty slab too many. Cache lock
 * held. */
static void slab_freed(struct kmem_cache *cache, struct slab *slab, u32 nr, struct list_head *released)
{
	bool was_full = slab->nr_free == 0;

	slab->nr_free = (u16)(slab->nr_free + nr);
	if (slab->nr_free < slab->nr) {
		if (was_full)
			slab_move(slab, &cache->partial);
	} else if (cache->nr_empty < cache->max_empty) {
		slab_move(slab, &cache->empty);
		cache->nr_empty++;
	} else {
		slab_move(slab, released);
		cache->nr_slabs--;
	}
}

/* Objects [first, first + nr) of a slab are free, and were not. Cache lock held. */
static void slab_set_free(struct slab *slab, u32 first, u32 nr)
{
	while (nr) {
		u32 n = 64 - first % 64 < nr ? 64 - first % 64 : nr;
		u64 bits = low_bits(n) << first % 64;

		BUG_ON2(slab->free[first / 64] & bits /* freed twice: cache, first object */, slab->cache, first);
		slab->free[first / 64] |= bits;
		first += n;
		nr -= n;
	}
}

/* How many of @objects are adjacent, rising or falling, and the lowest: what was used in order is freed in order. */
static u32 object_run(void **objects, u32 nr, u32 size, char **start)
{
	char *first = objects[0];
	u32 n = 1;

	*start = first;
	while (n < nr && (char *)objects[n] == first + (u64)n * size)
		n++;
	if (n > 1)
		return n;
	while (n < nr && (char *)objects[n] == first - (u64)n * size)
		n++;
	*start = objects[n - 1];
	return n;
}

/* Returns those of @objects that are of the same slab as the first, in a row; how many. Cache lock held. */
static u32 slab_put(struct kmem_cache *cache, void **objects, u32 nr, struct list_head *released)
{
	struct slab *slab = address_slab(cache->q, objects[0]);
	const char *base = kmem_cache_object(cache, slab, 0);
	u64 bytes = (u64)slab->nr * cache->size;
	u32 done = 0;

	/* Adjacent objects are of one slab: its header lies before the first. */
	while (done < nr && (u64)((const char *)objects[done] - base) < bytes) {
		char *start;
		u32 run = object_run(objects + done, nr - done, cache->size, &start);

		VM_BUG_ON2(kmem_cache_object(cache, slab, kmem_cache_index(cache, slab, start)) != start, start, cache);
		slab_set_free(slab, kmem_cache_index(cache, slab, start), run);
		done += run;
	}
	BUG_ON2(!done /* an address in the slab's header */, objects[0], cache);
	slab_freed(cache, slab, done, released);
	return done;
}

/* ------------------------------------------------------------------------------------- a CPU's stack */

/* Returns the @nr oldest objects of the stack to their slabs. */
static void stack_flush(struct quire_cpu *cpu, struct kmem_cache *cache, struct kmem_cache_cpu *stack, u32 nr)
{
	struct list_head released;

	INIT_LIST_HEAD(&released);
	spin_lock(&cache->lock);
	for (u32 done = 0; done < nr;)
		done += slab_put(cache, stack->object + done, nr - done, &released);
	WRITE_ONCE(cache->nr_active, cache->nr_active - nr);
	spin_unlock(&cache->lock);
	memmove(stack->object, stack->object + nr, (stack->count - nr) * sizeof(*stack->object));
	WRITE_ONCE(stack->count, stack->count - nr);
	/* Last: this may run callbacks that free to the stack. */
	slabs_release(cpu, cache, &released);
}

noinline void slab_stack_trim(struct quire_cpu *cpu, struct kmem_cache *cache, struct kmem_cache_cpu *stack)
{
	stack_flush(cpu, cache, stack, stack->full / 2);
}

/* The objects go through an array because making a slab may wait, and what we wait for may free to our stack. */
noinline bool slab_stack_refill(struct quire_cpu *cpu, struct kmem_cache *cache, struct kmem_cache_cpu *stack,
				unsigned gfp)
{
	void *objects[SLAB_CPU_MAX / 2];
	u32 got = cache_take_or_grow(cpu, cache, objects, stack->full / 2, gfp);

	if (unlikely(stack->count + got >= stack->full))
		slab_stack_trim(cpu, cache, stack);
	while (got)
		slab_stack_push(stack, objects[--got]);
	return stack->count != 0;
}

/* ------------------------------------------------------------------------------------- the interface */

static inline void *object_prepare(struct kmem_cache *cache, void *object)
{
	object_check(cache, object);
	if (cache->flags & SLAB_ZERO)
		memset(object, 0, cache->size);
	return object;
}

void *kmem_cache_alloc_gfp(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned gfp)
{
	struct kmem_cache_cpu *stack = slab_stack(cpu, cache);

	if (unlikely(!stack->count) && !slab_stack_refill(cpu, cache, stack, gfp))
		return NULL;
	return object_prepare(cache, slab_stack_pop(stack));
}

void *kmem_cache_alloc(struct quire_cpu *cpu, struct kmem_cache *cache)
{
	return kmem_cache_alloc_gfp(cpu, cache, GFP_KERNEL);
}

bool kmem_cache_alloc_bulk_gfp(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned nr, void **objects,
			       unsigned gfp)
{
	struct kmem_cache_cpu *stack = slab_stack(cpu, cache);
	u32 got = 0;

	while (got < nr) {
		u32 more;

		while (got < nr && stack->count)
			objects[got++] = object_prepare(cache, slab_stack_pop(stack));
		if (got == nr)
			break;
		/* A small rest is worth refilling the stack for; a large one comes from the cache directly. */
		if (nr - got < stack->full / 2 && slab_stack_refill(cpu, cache, stack, gfp))
			continue;
		more = cache_take_or_grow(cpu, cache, objects + got, nr - got, gfp);
		if (!more) {
			while (got--)
				kmem_cache_free(cpu, cache, objects[got]);
			return false;
		}
		while (more--)
			object_prepare(cache, objects[got++]);
	}
	return true;
}

bool kmem_cache_alloc_bulk(struct quire_cpu *cpu, struct kmem_cache *cache, unsigned nr, void **objects)
{
	return kmem_cache_alloc_bulk_gfp(cpu, cache, nr, objects, GFP_KERNEL);
}

void kmem_cache_free(struct quire_cpu *cpu, struct kmem_cache *cache, void *object)
{
	struct kmem_cache_cpu *stack = slab_stack(cpu, cache);

	object_check_free(cache, stack, object);
	object_poison(cache, object);
	if (slab_stack_push(stack, object))
		slab_stack_trim(cpu, cache, stack);
}

/* Finds the cache and the object from where the rcu_head lies. */
static void kmem_cache_free_callback(struct quire_cpu *cpu, struct rcu_head *head)
{
	struct slab *slab = address_slab(cpu->q, head);
	struct kmem_cache *cache = slab->cache;

	kmem_cache_free(cpu, cache, kmem_cache_object(cache, slab, kmem_cache_index(cache, slab, head)));
}

void kmem_cache_free_rcu(struct quire_cpu *cpu, struct kmem_cache *cache, void *object, struct rcu_head *head)
{
	VM_BUG_ON2((char *)head < (char *)object || (char *)(head + 1) > (char *)object + cache->size, object, head);
	VM_BUG_ON2(address_slab(cpu->q, object)->cache != cache, object, cache);
	(void)cache;
	(void)object;
	call_rcu(cpu, head, kmem_cache_free_callback);
}

void kmem_cache_drain(struct quire_cpu *cpu, struct kmem_cache *cache)
{
	struct kmem_cache_cpu *stack = slab_stack(cpu, cache);

	if (stack->count)
		stack_flush(cpu, cache, stack, stack->count);
}

void kmem_cache_shrink(struct quire_cpu *cpu, struct kmem_cache *cache)
{
	struct list_head released;

	INIT_LIST_HEAD(&released);
	spin_lock(&cache->lock);
	while (!list_empty(&cache->empty))
		slab_move(list_first_entry(&cache->empty, struct slab, list), &released);
	cache->nr_slabs -= cache->nr_empty;
	cache->nr_empty = 0;
	spin_unlock(&cache->lock);
	slabs_release(cpu, cache, &released);
}

/* ------------------------------------------------------------------------------------- boot and checks */

/* Frames per slab: the fewest with which at most 1/16 is lost and there are some objects to share the header. */
static u32 cache_order(u32 size, u32 align)
{
	for (u32 order = 0; order < SLAB_MAX_ORDER; order++) {
		u32 bytes = (u32)PAGE_SIZE << order;
		u32 nr = slab_capacity(size, align, order);

		if (nr >= 4 && (bytes - nr * size) * 16 <= bytes)
			return order;
	}
	return SLAB_MAX_ORDER;
}

/* Objects of @size that a CPU's stack may hold. All CPUs together keep no more than 1/256 of the memory from each other. */
static u32 stack_capacity(const struct quire *q, u32 size)
{
	u64 bytes = q->nr_frames * PAGE_SIZE / 256 / q->nr_cpus;
	u64 nr = (bytes < SLAB_CPU_BYTES ? bytes : SLAB_CPU_BYTES) / size & ~1ull;

	nr = nr < SLAB_CPU_MAX ? nr : SLAB_CPU_MAX;
	return nr > SLAB_CPU_MIN ? (u32)nr : SLAB_CPU_MIN;
}

void kmem_cache_init(struct kmem_cache *cache, struct quire *q, const char *name, u32 size, u32 align, u32 flags,
		     void (*ctor)(void *), struct kmem_cache_cpu *per_cpu)
{
	size = (size + align - 1) & ~(align - 1);
	BUG_ON2(!slab_capacity(size, align, SLAB_MAX_ORDER), size, align);
	cache->q = q;
	cache->name = name;
	cache->size = size;
	cache->align = align;
	cache->flags = flags;
	cache->order = cache_order(size, align);
	while (!slab_capacity(size, align, cache->min_order))
		cache->min_order++;
	cache->reciprocal = (u32)(((1ull << 32) + size - 1) / size);
	cache->max_empty = 4 + (u32)(q->nr_frames / 128 >> cache->order);
	cache->ctor = ctor;
	cache->cpus = per_cpu;
	for (u32 id = 0; id <= q->nr_cpus; id++)
		per_cpu[id].full = stack_capacity(q, size);
	INIT_LIST_HEAD(&cache->partial);
	INIT_LIST_HEAD(&cache->full);
	INIT_LIST_HEAD(&cache->empty);
}

u64 kmem_cache_in_use(struct kmem_cache *cache)
{
	u64 nr = READ_ONCE(cache->nr_active);

	for (u32 id = 0; id <= cache->q->nr_cpus; id++)
		nr -= READ_ONCE(cache->cpus[id].count);
	return nr;
}
