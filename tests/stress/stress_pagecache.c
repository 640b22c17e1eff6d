/* SPDX-License-Identifier: MIT */
/*
 * Lookups of a page cache without locks, against threads that add, remove and split folios of all orders and make the
 * tree grow and shrink (races B55, B56, B59). Every page is stamped with its index before its folio is added, so a lookup that
 * returns a folio which does not hold that page, or no longer does, shows.
 */
#include "cmocka_setup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "mm/file.h"
#include "random.h"

#define NR_WRITERS 2u
#define NR_READERS 2u
#define WRITER_OPS 6000u
#define RANGE 2048ull	 /* pages that a writer changes, one range each */
#define FAR (1ull << 30) /* now and then something is cached here, which makes the tree five levels high */
#define STABLE 64ull	 /* the first pages of all, of which every third is always cached */
#define FIRST_RANGE 1024ull

struct shared {
	struct quire *q;
	struct quire_file host;
	u32 writers_left;
	u64 failures;
	u64 found, missed, splits, split_races;
};

struct worker {
	struct shared *shared;
	struct quire_cpu *cpu;
	unsigned id;
	u64 seed;
	pthread_t thread;
};

static struct address_space *mapping_of(struct worker *w)
{
	return &w->shared->host.mapping;
}

static void check(struct worker *w, bool ok)
{
	if (!ok)
		__atomic_fetch_add(&w->shared->failures, 1, __ATOMIC_RELAXED);
}

static void count(u64 *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static u64 *page_stamp(struct quire *q, const struct folio *folio, u64 index)
{
	return (u64 *)(void *)(folio_address(q, folio) + ((index - folio->index) << PAGE_SHIFT));
}

/* ---------------------------------------------------------------------------------------- writers */

static struct folio *make_folio(struct worker *w, u64 index, unsigned order)
{
	struct folio *folio = folio_alloc(w->cpu, order, 0, false);

	if (!folio)
		return NULL;
	folio_set(folio, PG_locked);
	folio->index = index;
	for (u64 i = index; i < index + folio_nr_pages(folio); i++)
		*page_stamp(w->shared->q, folio, i) = i;
	folio_mark_uptodate(folio);
	return folio;
}

static void writer_add(struct worker *w, u64 index)
{
	unsigned order = (unsigned)random_below(&w->seed, MAX_FOLIO_ORDER + 1);
	struct folio *folio;

	index &= ~((1ull << order) - 1);
	folio = make_folio(w, index, order);
	if (!folio)
		return;
	filemap_add_folio(w->cpu, mapping_of(w), folio, index); /* fails when something is there: fine */
	file_unlock_put(w->cpu, folio);
}

static void writer_split(struct worker *w, struct folio *folio)
{
	u64 index = folio->index;
	u32 nr = folio_nr_pages(folio);

	if (filemap_split_folio(w->cpu, mapping_of(w), folio)) {
		count(&w->shared->split_races);
		file_unlock_put(w->cpu, folio);
		return;
	}
	count(&w->shared->splits);
	for (u64 i = index; i < index + nr; i++) {
		struct folio *piece = filemap_get_folio(w->cpu, mapping_of(w), i);

		check(w, piece && piece->index == i && piece->order == 0);
		folio_unlock(w->cpu, piece);
		folio_put_many(w->cpu, piece, 2);
	}
}

/* Something is at @index: take it out, split it or dirty it. The reference is consumed. */
static void writer_change(struct worker *w, struct folio *folio)
{
	folio_lock(w->cpu, folio);
	if (folio_file_mapping(folio) != mapping_of(w)) {
		check(w, false); /* nobody but us removes in our range */
	} else if (folio->order && random_below(&w->seed, 2)) {
		writer_split(w, folio);
		return;
	} else if (random_below(&w->seed, 4)) {
		filemap_remove_folio(w->cpu, mapping_of(w), folio);
	} else {
		filemap_dirty_folio(w->cpu, folio);
	}
	file_unlock_put(w->cpu, folio);
}

static void *writer(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < WRITER_OPS; i++) {
		u64 index = FIRST_RANGE + w->id * RANGE + random_below(&w->seed, RANGE);
		struct folio *folio;

		if (random_below(&w->seed, 8) == 0)
			index = FAR * (w->id + 1) + random_below(&w->seed, 4) * 512;
		folio = filemap_get_folio(w->cpu, mapping_of(w), index);
		if (folio)
			writer_change(w, folio);
		else
			writer_add(w, index);
	}
	__atomic_fetch_sub(&w->shared->writers_left, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* ---------------------------------------------------------------------------------------- readers */

static void check_page(struct worker *w, const struct folio *folio, u64 index)
{
	check(w, index - folio->index < folio_nr_pages(folio));
	check(w, folio_test_uptodate(folio));
	check(w, *page_stamp(w->shared->q, folio, index) == index);
}

static void reader_lookup(struct worker *w)
{
	u64 index = FIRST_RANGE + random_below(&w->seed, NR_WRITERS * RANGE);
	struct folio *folio = filemap_get_folio(w->cpu, mapping_of(w), index);

	count(folio ? &w->shared->found : &w->shared->missed);
	if (!folio)
		return;
	check_page(w, folio, index);
	if (random_below(&w->seed, 8) == 0) {
		folio_lock(w->cpu, folio); /* locked and in the cache, it is what everybody finds */
		if (folio_file_mapping(folio)) {
			struct folio *again = filemap_get_folio(w->cpu, mapping_of(w), index);

			check(w, again == folio);
			if (again)
				folio_put(w->cpu, again);
		}
		folio_unlock(w->cpu, folio);
	}
	check_page(w, folio, index); /* our reference keeps it whole */
	folio_put(w->cpu, folio);
}

static void reader_range(struct worker *w)
{
	u64 index = FIRST_RANGE + random_below(&w->seed, NR_WRITERS * RANGE), after = index;
	struct folio *found[8];
	enum pagecache_mark mark = random_below(&w->seed, 2) ? PAGECACHE_PRESENT : PAGECACHE_DIRTY;
	unsigned nr = filemap_get_folios_marked(w->cpu, mapping_of(w), &index, ~0ull, mark, 8, found);

	for (unsigned i = 0; i < nr; i++) {
		u64 end = found[i]->index + folio_nr_pages(found[i]);

		check(w, end > after); /* in order, each page once */
		check_page(w, found[i], end - 1);
		after = end;
		folio_put(w->cpu, found[i]);
	}
}

/* What is always there is always found, whatever happens to the tree around it. */
static void reader_stable(struct worker *w)
{
	u64 index = random_below(&w->seed, STABLE / 3) * 3;
	struct folio *folio = filemap_get_folio(w->cpu, mapping_of(w), index);

	check(w, folio && folio->index == index);
	if (folio)
		folio_put(w->cpu, folio);
	check(w, filemap_next_cached(w->cpu, mapping_of(w), index) == index);
}

static void *reader(void *arg)
{
	struct worker *w = arg;

	while (__atomic_load_n(&w->shared->writers_left, __ATOMIC_ACQUIRE)) {
		reader_lookup(w);
		reader_stable(w);
		reader_range(w);
	}
	return NULL;
}

/* ---------------------------------------------------------------------------------------- the test */

static void print_violation(void *arg, const char *what, u64 a, u64 b)
{
	(void)arg;
	printf("%s %llx %llx\n", what, (unsigned long long)a, (unsigned long long)b);
}

static void add_stable(struct worker *w)
{
	for (u64 index = 0; index < STABLE; index += 3) {
		struct folio *folio = make_folio(w, index, 0);

		assert_non_null(folio);
		assert_int_equal(filemap_add_folio(w->cpu, mapping_of(w), folio, index), 0);
		file_unlock_put(w->cpu, folio);
	}
}

static void remove_all(struct worker *w)
{
	struct folio *folio;
	u64 index = 0;

	while (filemap_get_folios(w->cpu, mapping_of(w), &index, ~0ull, 1, &folio)) {
		folio_lock(w->cpu, folio);
		filemap_remove_folio(w->cpu, mapping_of(w), folio);
		file_unlock_put(w->cpu, folio);
	}
	assert_null(mapping_of(w)->root);
}

static void test_lookups_against_changes(void **state)
{
	const struct quire_config config = { .memory = 256ull << 20, .nr_cpus = NR_WRITERS + NR_READERS };
	struct shared shared = { .writers_left = NR_WRITERS };
	struct worker workers[NR_WRITERS + NR_READERS];

	(void)state;
	assert_int_equal(quire_create(&config, &shared.q), 0);
	shared.host.q = shared.q;
	pagecache_init(&shared.host.mapping, &shared.host);
	for (unsigned i = 0; i < ARRAY_SIZE(workers); i++) {
		workers[i] = (struct worker){ .shared = &shared, .id = i, .seed = i + 1 };
		assert_int_equal(quire_cpu_enter(shared.q, i, &workers[i].cpu), 0);
	}
	add_stable(&workers[0]);
	for (unsigned i = 0; i < ARRAY_SIZE(workers); i++)
		assert_int_equal(
			pthread_create(&workers[i].thread, NULL, i < NR_WRITERS ? writer : reader, &workers[i]), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(workers); i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	assert_int_equal(pagecache_validate(&shared.host.mapping, print_violation, NULL), 0);
	assert_int_equal(shared.failures, 0);
	assert_true(shared.found > 100 && shared.missed > 100 && shared.splits > 100);
	remove_all(&workers[0]);
	for (unsigned i = 0; i < ARRAY_SIZE(workers); i++)
		cpu_drain(workers[i].cpu);
	quire_drain(workers[0].cpu);
	assert_int_equal(kmem_cache_in_use(&shared.q->cache[CACHE_PAGECACHE_NODE]), 0);
	assert_int_equal(kmem_cache_in_use(&shared.q->cache[CACHE_FOLIO]), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(workers); i++)
		quire_cpu_leave(workers[i].cpu);
	assert_int_equal(quire_destroy(shared.q), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookups_against_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
