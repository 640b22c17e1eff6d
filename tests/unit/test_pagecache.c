/* SPDX-License-Identifier: MIT */
/* Property test of the page cache: folios of all orders in and out, split, marked and looked up, against flat arrays. */
#include "cmocka_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mm/file.h"
#include "random.h"

#define NR_OPS 60000u
#define REGION 2048u /* pages */

/* Far apart, so that the tree grows and shrinks by several levels, and ends where indices do. */
static const u64 region_base[] = { 0, 1ull << 18, (1ull << 36) + 512, (1ull << 51) - REGION };
#define NR_REGIONS ARRAY_SIZE(region_base)

struct model {
	struct quire *q;
	struct quire_cpu *cpu;
	struct quire_file host; /* as much of a host file as the cache needs */
	struct address_space *mapping;
	struct folio *page[NR_REGIONS][REGION]; /* what each page must be covered by; locked, and one reference ours */
	bool towrite[NR_REGIONS][REGION];
	u64 seed;
	unsigned done[16]; /* operations that had an effect */
};

static u64 below(struct model *m, u64 n)
{
	return random_below(&m->seed, n);
}

static void print_violation(void *arg, const char *what, u64 a, u64 b)
{
	(void)arg;
	printf("%s %llx %llx\n", what, (unsigned long long)a, (unsigned long long)b);
}

static int setup(void **state)
{
	const struct quire_config config = { .memory = 64ull << 20, .nr_cpus = 1 };
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	assert_int_equal(quire_create(&config, &m->q), 0);
	assert_int_equal(quire_cpu_enter(m->q, 0, &m->cpu), 0);
	m->host.q = m->q;
	m->mapping = &m->host.mapping;
	pagecache_init(m->mapping, &m->host);
	m->seed = 1;
	*state = m;
	return 0;
}

/* ---------------------------------------------------------------------------------------- the model */

/* The model's place of a page: true when it lies in a region. */
static bool place(u64 index, unsigned *region, u64 *at)
{
	*region = 0;
	*at = 0;
	for (unsigned r = 0; r < NR_REGIONS; r++) {
		if (index - region_base[r] >= REGION)
			continue;
		*region = r;
		*at = index - region_base[r];
		return true;
	}
	return false;
}

static struct folio *model_get(struct model *m, u64 index)
{
	unsigned region;
	u64 at;

	return place(index, &region, &at) ? m->page[region][at] : NULL;
}

static void model_set(struct model *m, u64 index, u64 nr, struct folio *folio)
{
	unsigned region;
	u64 at;

	assert_true(place(index, &region, &at));
	for (u64 i = at; i < at + nr; i++) {
		m->page[region][i] = folio;
		m->towrite[region][i] = false;
	}
}

static bool model_marked(struct model *m, u64 index, enum pagecache_mark mark)
{
	const struct folio *folio = model_get(m, index);
	unsigned region;
	u64 at;

	switch (mark) {
	case PAGECACHE_DIRTY:
		return folio && folio_test(folio, PG_dirty);
	case PAGECACHE_WRITEBACK:
		return folio && folio_test(folio, PG_writeback);
	case PAGECACHE_TOWRITE:
		return place(index, &region, &at) && m->towrite[region][at];
	default:
		return folio != NULL;
	}
}

/* The next page from @index on that carries the mark, by looking at all. ~0: none. */
static u64 model_next(struct model *m, u64 index, enum pagecache_mark mark)
{
	for (unsigned r = 0; r < NR_REGIONS; r++) {
		u64 from = index > region_base[r] ? index - region_base[r] : 0;

		for (u64 i = from; i < REGION; i++)
			if (model_marked(m, region_base[r] + i, mark))
				return region_base[r] + i;
	}
	return ~0ull;
}

static u64 random_index(struct model *m)
{
	return region_base[below(m, NR_REGIONS)] + below(m, REGION);
}

/* Some folio of the cache, or NULL after a few tries. */
static struct folio *random_folio(struct model *m)
{
	struct folio *folio = NULL;

	for (unsigned i = 0; i < 32 && !folio; i++)
		folio = model_get(m, random_index(m));
	return folio;
}

/* ---------------------------------------------------------------------------------------- changes */

static bool model_range_empty(struct model *m, u64 index, u64 nr)
{
	for (u64 i = index; i < index + nr; i++)
		if (model_get(m, i))
			return false;
	return true;
}

static bool op_add(struct model *m)
{
	unsigned order = (unsigned)below(m, 4) ? (unsigned)below(m, 4) : (unsigned)below(m, MAX_FOLIO_ORDER + 1);
	u64 index = random_index(m) & ~((1ull << order) - 1);
	struct folio *folio = folio_alloc(m->cpu, order, 0, false);
	bool empty = model_range_empty(m, index, 1ull << order);
	int ret;

	if (!folio)
		return false;
	assert_true(folio_trylock(folio));
	folio_mark_uptodate(folio);
	ret = filemap_add_folio(m->cpu, m->mapping, folio, index);
	assert_int_equal(ret, empty ? 0 : -EEXIST);
	if (empty) {
		assert_int_equal(folio_refcount(folio), folio_nr_pages(folio) + 1);
		model_set(m, index, folio_nr_pages(folio), folio);
		return true;
	}
	assert_int_equal(folio_refcount(folio), 1);
	file_unlock_put(m->cpu, folio);
	return false;
}

static bool op_remove(struct model *m)
{
	struct folio *folio = random_folio(m);

	if (!folio || folio_test(folio, PG_writeback))
		return false;
	model_set(m, folio->index, folio_nr_pages(folio), NULL);
	filemap_remove_folio(m->cpu, m->mapping, folio);
	assert_int_equal(folio_refcount(folio), 1);
	assert_null(folio_file_mapping(folio));
	file_unlock_put(m->cpu, folio);
	return true;
}

/* Which entries carry TOWRITE must survive, so the model's marks are put back after model_set has cleared them. */
static void model_split(struct model *m, u64 index, u32 nr)
{
	for (u64 i = index; i < index + nr; i++) {
		bool towrite = model_marked(m, i, PAGECACHE_TOWRITE);
		struct folio *piece = filemap_get_folio(m->cpu, m->mapping, i);
		unsigned region;
		u64 at;

		assert_non_null(piece);
		assert_int_equal(piece->index, i);
		assert_int_equal(piece->order, 0);
		assert_int_equal(folio_refcount(piece), 3); /* the cache's, the split's, and this lookup's */
		assert_true(folio_test(piece, PG_locked));
		assert_ptr_equal(pfn_folio(m->q, piece->pfn), piece);
		folio_put(m->cpu, piece);
		model_set(m, i, 1, piece);
		assert_true(place(i, &region, &at));
		m->towrite[region][at] = towrite;
	}
}

static bool op_split(struct model *m)
{
	struct folio *folio = random_folio(m);
	u32 nr;
	u64 index;

	if (!folio || !folio->order || folio_test(folio, PG_writeback))
		return false;
	nr = folio_nr_pages(folio);
	index = folio->index;
	folio_get(folio); /* somebody else's reference makes it fail, with nothing changed */
	assert_int_equal(filemap_split_folio(m->cpu, m->mapping, folio), -EAGAIN);
	assert_int_equal(folio_nr_pages(folio), nr);
	folio_put(m->cpu, folio);
	assert_int_equal(filemap_split_folio(m->cpu, m->mapping, folio), 0);
	model_split(m, index, nr);
	return true;
}

static bool op_dirty(struct model *m)
{
	struct folio *folio = random_folio(m);
	bool dirty;

	if (!folio)
		return false;
	dirty = folio_test(folio, PG_dirty);
	assert_int_equal(filemap_dirty_folio(m->cpu, folio), !dirty);
	return !dirty;
}

static bool op_start_writeback(struct model *m)
{
	struct folio *folio = random_folio(m);
	unsigned region;
	bool dirty;
	u64 at;

	if (!folio || folio_test(folio, PG_writeback))
		return false;
	dirty = folio_test(folio, PG_dirty);
	assert_int_equal(filemap_start_writeback(m->cpu, m->mapping, folio), dirty);
	assert_int_equal(folio_test(folio, PG_writeback), dirty);
	assert_true(place(folio->index, &region, &at));
	memset(&m->towrite[region][at], 0, folio_nr_pages(folio) * sizeof(bool));
	return dirty;
}

static bool op_end_writeback(struct model *m)
{
	u64 index = model_next(m, random_index(m), PAGECACHE_WRITEBACK);

	if (index == ~0ull)
		return false;
	filemap_end_writeback(m->cpu, m->mapping, model_get(m, index));
	return true;
}

static bool op_towrite(struct model *m)
{
	struct folio *folio = random_folio(m);
	bool set = below(m, 2);
	unsigned region;
	u64 at;

	if (!folio)
		return false;
	if (set)
		filemap_set_mark(m->mapping, folio, PAGECACHE_TOWRITE);
	else
		filemap_clear_mark(m->mapping, folio, PAGECACHE_TOWRITE);
	assert_true(place(folio->index, &region, &at));
	memset(&m->towrite[region][at], set, folio_nr_pages(folio) * sizeof(bool));
	return true;
}

/* Copies DIRTY to TOWRITE in a range, whole folios at a time. */
static bool op_mark_towrite(struct model *m)
{
	u64 first = random_index(m), last = first + below(m, REGION);

	filemap_mark_towrite(m->mapping, first, last);
	for (u64 i = model_next(m, first, PAGECACHE_DIRTY); i <= last; i = model_next(m, i, PAGECACHE_DIRTY)) {
		const struct folio *folio = model_get(m, i);
		unsigned region;
		u64 at;

		assert_true(place(folio->index, &region, &at));
		memset(&m->towrite[region][at], 1, folio_nr_pages(folio) * sizeof(bool));
		i = folio->index + folio_nr_pages(folio);
	}
	return true;
}

/* ---------------------------------------------------------------------------------------- looking */

static bool op_lookup(struct model *m)
{
	u64 index = below(m, 8) ? random_index(m) : random_next(&m->seed) >> below(m, 64);
	struct folio *folio = filemap_get_folio(m->cpu, m->mapping, index);

	assert_ptr_equal(folio, model_get(m, index));
	assert_int_equal(filemap_page_uptodate(m->cpu, m->mapping, index), folio != NULL);
	if (folio)
		folio_put(m->cpu, folio);
	return folio != NULL;
}

static bool op_next(struct model *m)
{
	u64 index = random_index(m) - below(m, 2);

	assert_true(filemap_next_cached(m->cpu, m->mapping, index) == model_next(m, index, PAGECACHE_PRESENT));
	return true;
}

/* A search returns what walking the model finds, in order, each folio once, and says where to go on. */
static bool op_find(struct model *m)
{
	enum pagecache_mark mark = (enum pagecache_mark)below(m, NR_PAGECACHE_MARKS);
	u64 index = random_index(m), last = below(m, 2) ? ~0ull : index + below(m, REGION);
	u64 expected = index;
	struct folio *found[16];
	unsigned max = 1 + (unsigned)below(m, 16);
	unsigned nr = filemap_get_folios_marked(m->cpu, m->mapping, &index, last, mark, max, found);

	for (unsigned i = 0; i < nr; i++) {
		expected = model_next(m, expected, mark);
		assert_ptr_equal(found[i], model_get(m, expected));
		expected = found[i]->index + folio_nr_pages(found[i]);
		folio_put(m->cpu, found[i]);
	}
	assert_true(index == expected);
	if (nr < max)
		assert_true(model_next(m, expected, mark) > last || model_next(m, expected, mark) == ~0ull);
	return nr > 0;
}

/* ---------------------------------------------------------------------------------------- the tests */

struct op {
	bool (*run)(struct model *m);
	unsigned weight;
};

static const struct op ops[] = {
	{ op_add, 24 },
	{ op_remove, 12 },
	{ op_split, 2 },
	{ op_dirty, 10 },
	{ op_start_writeback, 8 },
	{ op_end_writeback, 6 },
	{ op_towrite, 4 },
	{ op_mark_towrite, 1 },
	{ op_lookup, 20 },
	{ op_next, 4 },
	{ op_find, 8 },
};

static void run_op(struct model *m)
{
	u64 total = 0, pick;

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
		total += ops[i].weight;
	pick = below(m, total);
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		if (pick < ops[i].weight) {
			m->done[i] += ops[i].run(m);
			return;
		}
		pick -= ops[i].weight;
	}
}

static u64 model_count(struct model *m, bool dirty_only)
{
	u64 nr = 0;

	for (unsigned r = 0; r < NR_REGIONS; r++)
		for (u64 i = 0; i < REGION; i++)
			nr += m->page[r][i] && (!dirty_only || folio_test(m->page[r][i], PG_dirty));
	return nr;
}

static void check_all(struct model *m)
{
	assert_int_equal(pagecache_validate(m->mapping, print_violation, NULL), 0);
	assert_int_equal(m->mapping->nr_pages, model_count(m, false));
	assert_int_equal(quire_event_sum(m->q, NR_FILE_PAGES), model_count(m, false));
	assert_int_equal(quire_event_sum(m->q, NR_FILE_DIRTY), model_count(m, true));
	assert_int_equal(quire_event_sum(m->q, NR_SHMEM), 0);
}

/* Empties the cache in random order; then neither a node nor a folio nor a frame may be left. */
static int teardown(void **state)
{
	struct model *m = *state;

	for (u64 index; (index = model_next(m, 0, PAGECACHE_WRITEBACK)) != ~0ull;)
		filemap_end_writeback(m->cpu, m->mapping, model_get(m, index));
	for (u64 index; (index = model_next(m, 0, PAGECACHE_PRESENT)) != ~0ull;) {
		struct folio *folio = model_get(m, index);

		model_set(m, folio->index, folio_nr_pages(folio), NULL);
		filemap_remove_folio(m->cpu, m->mapping, folio);
		file_unlock_put(m->cpu, folio);
	}
	check_all(m);
	assert_null(m->mapping->root);
	quire_drain(m->cpu);
	assert_int_equal(kmem_cache_in_use(&m->q->cache[CACHE_PAGECACHE_NODE]), 0);
	assert_int_equal(kmem_cache_in_use(&m->q->cache[CACHE_FOLIO]), 0);
	quire_cpu_leave(m->cpu);
	assert_int_equal(quire_destroy(m->q), 0);
	free(m);
	return 0;
}

static void test_random_operations(void **state)
{
	struct model *m = *state;

	for (unsigned i = 0; i < NR_OPS; i++) {
		run_op(m);
		if (i % 512 == 0)
			check_all(m);
	}
	check_all(m);
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
		assert_true(m->done[i] > 50); /* else the test tests less than it says */
}

/* A large folio has no room where anything is, and nothing has room where it is. Every order, at the edges of nodes. */
static void test_orders_exclude_each_other(void **state)
{
	struct model *m = *state;

	for (unsigned order = 0; order <= MAX_FOLIO_ORDER; order++) {
		struct folio *large = folio_alloc(m->cpu, order, 0, false), *small = folio_alloc(m->cpu, 0, 0, false);
		u64 index = 1024, nr = 1ull << order;

		assert_true(large && small && folio_trylock(large) && folio_trylock(small));
		folio_mark_uptodate(large);
		folio_mark_uptodate(small);
		assert_int_equal(filemap_add_folio(m->cpu, m->mapping, small, index + nr - 1), 0);
		assert_int_equal(filemap_add_folio(m->cpu, m->mapping, large, index), -EEXIST);
		filemap_remove_folio(m->cpu, m->mapping, small);
		assert_int_equal(filemap_add_folio(m->cpu, m->mapping, large, index), 0);
		for (u64 i = index; i < index + nr; i++)
			assert_int_equal(filemap_add_folio(m->cpu, m->mapping, small, i), -EEXIST);
		assert_int_equal(filemap_add_folio(m->cpu, m->mapping, small, index - 1), 0);
		assert_int_equal(pagecache_validate(m->mapping, print_violation, NULL), 0);
		filemap_remove_folio(m->cpu, m->mapping, small);
		filemap_remove_folio(m->cpu, m->mapping, large);
		file_unlock_put(m->cpu, small);
		file_unlock_put(m->cpu, large);
	}
}

/* The validator notices what it is there for. */
static void test_validator_sees(void **state)
{
	struct model *m = *state;
	struct folio *folio = folio_alloc(m->cpu, 3, 0, false);
	struct pagecache_node *node;

	assert_true(folio && folio_trylock(folio));
	folio_mark_uptodate(folio);
	assert_int_equal(filemap_add_folio(m->cpu, m->mapping, folio, 8), 0);
	node = m->mapping->root;
	node->slots[9] = 0;
	assert_true(pagecache_validate(m->mapping, NULL, NULL) > 0);
	node->slots[9] = node->slots[8];
	node->marks[PAGECACHE_DIRTY] = 1ull << 8;
	assert_true(pagecache_validate(m->mapping, NULL, NULL) > 0);
	node->marks[PAGECACHE_DIRTY] = 0;
	folio->index++;
	assert_true(pagecache_validate(m->mapping, NULL, NULL) > 0);
	folio->index--;
	m->mapping->nr_pages++;
	assert_true(pagecache_validate(m->mapping, NULL, NULL) > 0);
	m->mapping->nr_pages--;
	assert_int_equal(pagecache_validate(m->mapping, print_violation, NULL), 0);
	filemap_remove_folio(m->cpu, m->mapping, folio);
	file_unlock_put(m->cpu, folio);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random_operations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_orders_exclude_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(test_validator_sees, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
