/* SPDX-License-Identifier: MIT */
/*
 * Folios: the one word of references and mappings, birth and death, look-ups by pfn that race with both, memory running out.
 */
#include "fixture.h"

#include <pthread.h>

#include "random.h"

static void start(struct fixture *f, u64 memory)
{
	struct quire_config config = { .memory = memory, .nr_cpus = 4 };

	fixture_start(f, &config);
}

/* ------------------------------------------------------------------------------------- birth */

static void assert_fresh(struct fixture *f, struct folio *folio, unsigned order, bool exclusive)
{
	assert_non_null(folio);
	assert_int_equal(folio->refs, 1);
	assert_int_equal(folio->flags, 0);
	assert_int_equal(folio->mapping, 0);
	assert_int_equal(folio->index, 0);
	assert_int_equal(folio->order, order);
	assert_int_equal(folio->mlock_count, 0);
	assert_int_equal(folio->swap, 0);
	assert_true(list_empty(&folio->lru));
	assert_int_equal(folio->pfn & (folio_nr_pages(folio) - 1), 0);
	for (u32 i = 0; i < folio_nr_pages(folio); i++) {
		assert_ptr_equal(pfn_folio(f->q, folio->pfn + i), folio);
		assert_int_equal(page_word_type(f->q->pages[folio->pfn + i].word), PAGE_FOLIO);
		assert_int_equal(page_anon_exclusive(f->q, folio->pfn + i), exclusive);
	}
}

static void every_order(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, 16u << 20);
	for (unsigned order = 0; order <= MAX_FOLIO_ORDER; order++) {
		struct folio *folio = folio_alloc(f.cpu, order, GFP_ZERO, order & 1);
		u8 *contents;
		u64 pfn;

		assert_fresh(&f, folio, order, order & 1);
		contents = folio_address(f.q, folio);
		pfn = folio->pfn;
		assert_int_equal(contents[0], 0);
		assert_memory_equal(contents, contents + 1, (PAGE_SIZE << order) - 1);
		memset(contents, 0x33, PAGE_SIZE << order);
		assert_int_equal(quire_event_sum(f.q, (enum vm_event)(FOLIO_ALLOC_0 + order)), 1);
		/* As use leaves it behind. */
		folio_set(folio, PG_dirty);
		folio_mark_uptodate(folio);
		folio->mapping = 0x1000 | FOLIO_MAPPING_ANON;
		folio->index = 77;
		folio_put(f.cpu, folio);
		assert_int_equal(page_word_type(f.q->pages[pfn].word) == PAGE_FOLIO, false);
		assert_fresh(&f, folio_alloc(f.cpu, order, 0, false), order, false);
		folio_put(f.cpu, pfn_folio(f.q, pfn));
	}
	fixture_stop(&f);
}

static void bulk(void **state)
{
	static struct folio *folios[1000];
	bool backwards = false;
	struct fixture f;

	(void)state;
	start(&f, 16u << 20);
	for (unsigned nr = 1; nr <= 1000; nr = nr * 3 + 1) {
		assert_int_equal(folio_alloc_bulk(f.cpu, nr, folios, GFP_ZERO, nr & 1), nr);
		for (unsigned i = 0; i < nr; i++) {
			assert_fresh(&f, folios[i], 0, nr & 1);
			assert_memory_equal(folio_address(f.q, folios[i]), folio_address(f.q, folios[i]) + 1,
					    PAGE_SIZE - 1);
			assert_int_equal(*folio_address(f.q, folios[i]), 0);
			memset(folio_address(f.q, folios[i]), 0x66, PAGE_SIZE);
		}
		fixture_validate(&f);
		/* Freed forwards they come back falling, backwards rising. */
		for (unsigned i = 0; i < nr; i++)
			folio_put(f.cpu, folios[backwards ? nr - 1 - i : i]);
		backwards = !backwards;
	}
	assert_int_equal(quire_event_sum(f.q, FOLIO_ALLOC_0), 1 + 4 + 13 + 40 + 121 + 364);
	assert_int_equal(quire_event_sum(f.q, PGFREE), quire_event_sum(f.q, PGALLOC) - quire_event_sum(f.q, NR_SLAB));
	fixture_stop(&f);
}

/* ------------------------------------------------------------------------------------- the word of references */

static void mappings_bring_references(void **state)
{
	struct fixture f;
	struct folio *folio;

	(void)state;
	start(&f, 4u << 20);
	folio = folio_alloc(f.cpu, 2, 0, false);
	folio_map_owned(folio, 1);
	assert_int_equal(folio_refcount(folio), 1);
	assert_int_equal(folio_mapcount(folio), 1);
	folio_map_many(folio, 3);
	assert_int_equal(folio_refcount(folio), 4);
	assert_int_equal(folio_mapcount(folio), 4);
	folio_get(folio);
	folio_get_many(folio, 2);
	assert_int_equal(folio_refcount(folio), 7);
	assert_false(folio_unmap_many(folio, 2));
	assert_int_equal(folio_refcount(folio), 5);
	assert_int_equal(folio_mapcount(folio), 2);
	/* As zap does: the mapcount falls now, the references after the flush. */
	folio_unmap_keep_refs(folio, 2);
	assert_int_equal(folio_refcount(folio), 5);
	assert_false(folio_mapped(folio));
	folio_put_many(f.cpu, folio, 4);
	folio_map_owned(folio, 1);
	assert_true(folio_unmap_many(folio, 1));
	folio_free(f.cpu, folio);
	fixture_stop(&f);
}

static void many_mappings_do_not_spill(void **state)
{
	struct fixture f;
	struct folio *folio;
	u32 nr = 3u << 20;

	(void)state;
	start(&f, 4u << 20);
	folio = folio_alloc(f.cpu, 0, 0, false);
	for (unsigned i = 0; i < 300; i++)
		folio_map_many(folio, nr);
	assert_int_equal(folio_mapcount(folio), 300u * nr);
	assert_int_equal(folio_refcount(folio), 300u * nr + 1);
	for (unsigned i = 0; i < 300; i++)
		assert_false(folio_unmap_many(folio, nr));
	assert_int_equal(folio->refs, 1);
	folio_put(f.cpu, folio);
	fixture_stop(&f);
}

static void freezing(void **state)
{
	struct fixture f;
	struct folio *folio;

	(void)state;
	start(&f, 4u << 20);
	folio = folio_alloc(f.cpu, 0, 0, false);
	folio_get(folio);
	assert_false(folio_freeze(folio, 1)); /* somebody else has one */
	assert_false(folio_freeze(folio, 3)); /* one of ours is not there */
	folio_map_many(folio, 1);
	assert_false(folio_freeze(folio, 3)); /* a mapping's reference is never ours to give */
	assert_false(folio_unmap_many(folio, 1));
	assert_true(folio_freeze(folio, 2));
	assert_int_equal(folio->refs, 0);
	assert_false(folio_try_get(folio));
	assert_null(folio_try_get_pfn(f.cpu, folio->pfn));
	assert_false(folio_freeze(folio, 1));
	folio_unfreeze(folio, 3);
	assert_true(folio_try_get(folio));
	folio_put_many(f.cpu, folio, 3);
	assert_true(folio_freeze(folio, 1));
	folio_free(f.cpu, folio); /* frozen is as good as the last reference dropped */
	fixture_stop(&f);
}

static void look_up_by_pfn(void **state)
{
	struct fixture f;
	struct folio *folio;
	u64 raw, pfn;

	(void)state;
	start(&f, 4u << 20);
	folio = folio_alloc(f.cpu, 2, 0, true);
	raw = frame_alloc(f.cpu, 0, 0);
	pfn = folio->pfn;
	rcu_read_lock(f.cpu);
	for (u32 i = 0; i < 4; i++) {
		assert_ptr_equal(folio_try_get_pfn(f.cpu, pfn + i), folio);
		assert_int_equal(folio_refcount(folio), 2);
		folio_put(f.cpu, folio);
	}
	assert_null(folio_try_get_pfn(f.cpu, raw));
	assert_null(folio_try_get_pfn(f.cpu, 0));
	assert_null(folio_try_get_pfn(f.cpu, f.q->zero_pfn));
	folio_put(f.cpu, folio);
	for (u32 i = 0; i < 4; i++)
		assert_null(folio_try_get_pfn(f.cpu, pfn + i));
	rcu_read_unlock(f.cpu);
	frame_free(f.cpu, raw, 0);
	fixture_stop(&f);
}

/* ------------------------------------------------------------------------------------- "bad page state" */

static void put_once_too_often(struct fixture *f)
{
	struct folio *folio = folio_alloc(f->cpu, 0, 0, false);

	folio_put(f->cpu, folio);
	folio_put(f->cpu, folio);
}

static void put_while_mapped(struct fixture *f)
{
	struct folio *folio = folio_alloc(f->cpu, 0, 0, false);

	folio_map_owned(folio, 1);
	folio_put(f->cpu, folio);
}

static void free_while_referenced(struct fixture *f)
{
	folio_free(f->cpu, folio_alloc(f->cpu, 0, 0, false));
}

static void put_with_flag(struct fixture *f, enum folio_flag flag)
{
	struct folio *folio = folio_alloc(f->cpu, 2, 0, false);

	folio_set(folio, flag);
	folio_put(f->cpu, folio);
}

static void put_locked(struct fixture *f)
{
	put_with_flag(f, PG_locked);
}

static void put_under_writeback(struct fixture *f)
{
	put_with_flag(f, PG_writeback);
}

static void put_mlocked(struct fixture *f)
{
	put_with_flag(f, PG_mlocked);
}

static void unlock_unlocked(struct fixture *f)
{
	folio_unlock(f->cpu, folio_alloc(f->cpu, 0, 0, false));
}

static void misuse_is_caught(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, 4u << 20);
	assert_bug(&f, put_once_too_often);
	assert_bug(&f, put_while_mapped);
	assert_bug(&f, free_while_referenced);
	assert_bug(&f, put_locked);
	assert_bug(&f, put_under_writeback);
	assert_bug(&f, put_mlocked);
	assert_bug(&f, unlock_unlocked);
	fixture_stop(&f);
}

/* ------------------------------------------------------------------------------------- memory runs out */

static void until_nothing_is_left(void **state)
{
	static struct folio *folios[4096];
	struct fixture f;
	unsigned nr = 0, got;

	(void)state;
	start(&f, 8u << 20);
	/* Larger ones first, then smaller ones fill what is left. */
	for (unsigned order = MAX_FOLIO_ORDER + 1; order-- > 1;) {
		struct folio *folio;

		for (unsigned i = 0; i < 2 && (folio = folio_alloc(f.cpu, order, GFP_NORETRY, false)); i++)
			folios[nr++] = folio;
	}
	while ((got = folio_alloc_bulk(f.cpu, 100, folios + nr, 0, false)) == 100)
		nr += got;
	nr += got;
	assert_null(folio_alloc(f.cpu, 0, 0, false));
	assert_null(folio_alloc(f.cpu, 3, GFP_NORETRY, false));
	assert_int_equal(folio_alloc_bulk(f.cpu, 10, folios + nr, 0, false), 0);
	assert_in_range(frame_nr_free(f.q), 0, 1);
	fixture_validate(&f);
	/* What one gives back another can have. */
	folio_put(f.cpu, folios[--nr]);
	folios[nr] = folio_alloc(f.cpu, 0, GFP_ZERO, true);
	assert_fresh(&f, folios[nr], 0, true);
	nr++;
	while (nr)
		folio_put(f.cpu, folios[--nr]);
	fixture_stop(&f);
}

/* ------------------------------------------------------------------------------------- look-ups against reuse */

#define NR_THREADS 4u

struct race {
	struct fixture f;
	u64 pfn[64]; /* atomic: frames in use a moment ago */
	u32 got;     /* atomic */
	u32 failed;  /* atomic */
	u32 stop;    /* atomic */
};

struct worker {
	struct race *race;
	struct quire_cpu *cpu;
	u64 random;
};

/* Allocates and frees, so that folios and frames come together anew all the time. index tells which frame it is. */
static void worker_churn(struct worker *w)
{
	struct folio *folio[8];

	for (unsigned i = 0; i < 8; i++) {
		folio[i] = folio_alloc(w->cpu, (unsigned)random_below(&w->random, 3), 0, false);
		WRITE_ONCE(folio[i]->index, folio[i]->pfn);
		WRITE_ONCE(w->race->pfn[random_below(&w->random, 64)], folio[i]->pfn);
	}
	for (unsigned i = 0; i < 8; i++)
		folio_put(w->cpu, folio[(i * 3) % 8]);
	/* Now and then folios or frames change CPUs. */
	if (random_below(&w->random, 16) == 0)
		cpu_shrink(w->cpu);
	else if (random_below(&w->random, 16) == 0)
		pcp_drain(w->cpu);
}

/* What is found by pfn is the folio of that frame, for as long as the reference is held. */
static void worker_look(struct worker *w)
{
	u64 pfn = READ_ONCE(w->race->pfn[random_below(&w->random, 64)]);
	struct folio *folio;

	if (!pfn)
		return;
	rcu_read_lock(w->cpu);
	folio = folio_try_get_pfn(w->cpu, pfn);
	rcu_read_unlock(w->cpu);
	if (!folio)
		return;
	__atomic_fetch_add(&w->race->got, 1, __ATOMIC_RELAXED);
	if (pfn - folio->pfn >= folio_nr_pages(folio) || pfn_folio(w->race->f.q, pfn) != folio)
		__atomic_fetch_add(&w->race->failed, 1, __ATOMIC_RELAXED);
	folio_put(w->cpu, folio);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < 20000; i++) {
		if (random_below(&w->random, 2))
			worker_churn(w);
		else
			worker_look(w);
	}
	return NULL;
}

static void look_ups_against_reuse(void **state)
{
	static struct race race;
	struct worker worker[NR_THREADS];
	pthread_t thread[NR_THREADS];

	(void)state;
	start(&race.f, 8u << 20);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		worker[i] = (struct worker){ .race = &race, .cpu = race.f.cpu, .random = i + 1 };
		if (i)
			assert_int_equal(quire_cpu_enter(race.f.q, i, &worker[i].cpu), 0);
		assert_int_equal(pthread_create(&thread[i], NULL, worker_run, &worker[i]), 0);
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(race.failed, 0);
	assert_true(race.got > 0);
	for (unsigned i = 1; i < NR_THREADS; i++)
		quire_cpu_leave(worker[i].cpu);
	fixture_stop(&race.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_order),
		cmocka_unit_test(bulk),
		cmocka_unit_test(mappings_bring_references),
		cmocka_unit_test(many_mappings_do_not_spill),
		cmocka_unit_test(freezing),
		cmocka_unit_test(look_up_by_pfn),
		cmocka_unit_test(misuse_is_caught),
		cmocka_unit_test(until_nothing_is_left),
		cmocka_unit_test(look_ups_against_reuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
