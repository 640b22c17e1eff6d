/* SPDX-License-Identifier: MIT */
/*
 * The page cache of a file: folios in and out of the tree, with their references, marks and counters.
 *
 * Guarantee: a lookup of page i returns the folio that held page i at some instant of the lookup, with a reference that
 * keeps it whole; never a folio that was split, removed or reused before that instant. Mechanism: read the slot, take a
 * reference unless the count is zero, read the slot again. A folio leaves its slots before the cache's references are
 * dropped, and is split only while its count is frozen at zero, so a slot that still says the same proves that the reference
 * was taken on the folio meant (races B55, B56, B59).
 *
 * State of a folio here; each arrow holds the folio lock:
 *
 *      fresh ──add──> in cache ──mark_uptodate──> readable ──dirty──> dirty ──start_writeback──> under writeback
 *                        │                          ^  └────remove────> out      (clean, lock may be dropped)
 *                        └────remove (read error)   └──────────end_writeback (no lock)─────────────────┘
 */
#include "mm/file.h"
#include "mm/pagecache_tree.h"

void pagecache_init(struct address_space *mapping, struct quire_file *host)
{
	memset(mapping, 0, sizeof(*mapping));
	mapping->host = host;
}

static u64 folio_mapping_word(struct address_space *mapping)
{
	return (u64)(uintptr_t)mapping;
}

/* -------------------------------------------------------------------------------------------- looking up */

/*
 * A reference on the folio that @slot held as @entry, if it still does afterwards: the second read is ordered after the
 * count by folio_try_get. NULL: look again. RCU section.
 */
static struct folio *slot_get_folio(struct quire_cpu *cpu, const u64 *slot, u64 entry)
{
	struct folio *folio = entry_folio(entry);

	if (!folio_try_get(folio)) {
		cpu_relax(); /* frozen for a moment, or on its way out */
		return NULL;
	}
	if (likely(READ_ONCE(*slot) == entry))
		return folio;
	folio_put(cpu, folio);
	return NULL;
}

struct folio *filemap_get_folio(struct quire_cpu *cpu, struct address_space *mapping, u64 index)
{
	struct folio *folio = NULL;

	rcu_read_lock(cpu);
	while (!folio) {
		u64 entry, *slot = pagecache_slot(mapping, index, &entry);

		if (!slot || !entry)
			break;
		folio = slot_get_folio(cpu, slot, entry);
	}
	rcu_read_unlock(cpu);
	VM_BUG_ON2(folio && index - folio->index >= folio_nr_pages(folio), index, folio ? folio->index : 0);
	return folio;
}

unsigned filemap_get_folios_marked(struct quire_cpu *cpu, struct address_space *mapping, u64 *start, u64 last,
				   enum pagecache_mark mark, unsigned max, struct folio **folios)
{
	struct pagecache_cursor cursor = { 0 };
	u64 index = *start;
	unsigned nr = 0;

	rcu_read_lock(cpu);
	while (nr < max && index <= last) {
		u64 entry, *slot = pagecache_find(mapping, &cursor, &index, last, mark, &entry);
		struct folio *folio;

		if (!slot)
			break;
		folio = slot_get_folio(cpu, slot, entry);
		if (!folio)
			continue; /* from the same page on */
		folios[nr++] = folio;
		index = *start = folio->index + folio_nr_pages(folio);
	}
	rcu_read_unlock(cpu);
	return nr;
}

unsigned filemap_get_folios(struct quire_cpu *cpu, struct address_space *mapping, u64 *start, u64 last, unsigned max,
			    struct folio **folios)
{
	return filemap_get_folios_marked(cpu, mapping, start, last, PAGECACHE_PRESENT, max, folios);
}

u64 filemap_next_cached(struct quire_cpu *cpu, struct address_space *mapping, u64 index)
{
	struct pagecache_cursor cursor = { 0 };
	u64 entry, *slot;

	rcu_read_lock(cpu);
	slot = pagecache_find(mapping, &cursor, &index, ~0ull, PAGECACHE_PRESENT, &entry);
	rcu_read_unlock(cpu);
	return slot ? index : ~0ull;
}

bool filemap_page_uptodate(struct quire_cpu *cpu, struct address_space *mapping, u64 index)
{
	u64 entry, *slot;
	bool uptodate;

	/* No reference: in the RCU section the slot's folio stays some folio, which is enough for a hint. */
	rcu_read_lock(cpu);
	slot = pagecache_slot(mapping, index, &entry);
	uptodate = slot && entry && folio_test_uptodate(entry_folio(entry));
	rcu_read_unlock(cpu);
	return uptodate;
}

/* -------------------------------------------------------------------------------------------- in and out */

static void count_cached(struct quire_cpu *cpu, const struct address_space *mapping, s64 pages)
{
	count_event(cpu, NR_FILE_PAGES, (u64)pages);
	if (mapping->host->shmem)
		count_event(cpu, NR_SHMEM, (u64)pages);
}

/* Under pages_lock: puts the folio in if the pool has the nodes. 0, -EEXIST, or how many nodes the pool must have. */
static int try_add(struct address_space *mapping, struct folio *folio, u64 index, struct pagecache_pool *pool)
{
	int nodes = pagecache_missing(mapping, index, folio->order);

	if (nodes < 0 || (u32)nodes > pool->nr)
		return nodes;
	/* Identity before visibility: the slots' release publishes these. */
	WRITE_ONCE(folio->index, index);
	WRITE_ONCE(folio->mapping, folio_mapping_word(mapping));
	pagecache_insert(mapping, index, folio->order, (u64)(uintptr_t)folio, pool);
	mapping->nr_pages += folio_nr_pages(folio);
	return 0;
}

int filemap_add_folio(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio, u64 index)
{
	struct pagecache_pool pool = { 0 };
	int ret;

	VM_BUG_ON2(!folio_test(folio, PG_locked), folio->pfn, folio->flags);
	VM_BUG_ON2(index & (folio_nr_pages(folio) - 1), index, folio->order);
	folio_get_many(folio, folio_nr_pages(folio)); /* the cache's, before anybody can find it */
	for (;;) {
		spin_lock(&mapping->pages_lock);
		ret = try_add(mapping, folio, index, &pool);
		spin_unlock(&mapping->pages_lock);
		if (ret <= 0)
			break;
		if (!pagecache_pool_fill(cpu, &pool, (u32)ret)) {
			ret = -ENOMEM;
			break;
		}
	}
	pagecache_pool_free(cpu, &pool);
	if (ret)
		folio_put_many(cpu, folio, folio_nr_pages(folio));
	else
		count_cached(cpu, mapping, folio_nr_pages(folio));
	return ret;
}

/* What a batch of removals adds up. */
struct removal {
	struct pagecache_cursor cursor;
	struct pagecache_pool freed;
	u64 pages, dirty_pages;
};

/* Under pages_lock. */
static void erase_folio(struct address_space *mapping, struct folio *folio, struct removal *removal)
{
	VM_BUG_ON2(!folio_test(folio, PG_locked), folio->pfn, folio->flags);
	BUG_ON2(folio_mapped(folio) || folio_test(folio, PG_writeback), folio->pfn, folio->refs);
	if (folio_test(folio, PG_dirty)) { /* with a mark it changes under pages_lock only */
		folio_clear(folio, PG_dirty);
		removal->dirty_pages += mapping->host->shmem ? 0 : folio_nr_pages(folio);
	}
	pagecache_erase(mapping, &removal->cursor, folio->index, folio->order, &removal->freed);
	WRITE_ONCE(folio->mapping, 0);
	removal->pages += folio_nr_pages(folio);
}

void filemap_take_folios(struct quire_cpu *cpu, struct address_space *mapping, struct folio **folios, unsigned nr)
{
	struct removal removal = { .pages = 0 };

	if (!nr)
		return;
	spin_lock(&mapping->pages_lock);
	for (unsigned i = 0; i < nr; i++)
		erase_folio(mapping, folios[i], &removal);
	mapping->nr_pages -= removal.pages;
	spin_unlock(&mapping->pages_lock);
	pagecache_pool_free_rcu(cpu, &removal.freed);
	count_cached(cpu, mapping, -(s64)removal.pages);
	if (removal.dirty_pages)
		count_event(cpu, NR_FILE_DIRTY, 0 - removal.dirty_pages);
}

void filemap_remove_folio(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio)
{
	filemap_take_folios(cpu, mapping, &folio, 1);
	folio_put_many(cpu, folio, folio_nr_pages(folio));
}

/* -------------------------------------------------------------------------------------------- splitting */

/* What the pieces of a split folio inherit. Not PG_waiters: who waits, waits for the folio that stays the first piece. */
#define SPLIT_FLAGS                                                                                                    \
	(1ull << PG_locked | 1ull << PG_uptodate | 1ull << PG_dirty | 1ull << PG_referenced | 1ull << PG_active |      \
	 1ull << PG_swapbacked)

static void split_free_tails(struct quire_cpu *cpu, struct list_head *tails)
{
	while (!list_empty(tails)) {
		struct folio *tail = list_first_entry(tails, struct folio, lru);

		list_del_init(&tail->lru);
		cache_free(cpu, CACHE_FOLIO, tail);
	}
}

/* Bare folios, count zero: nobody can take a reference on them before they are unfrozen. */
static bool split_alloc_tails(struct quire_cpu *cpu, struct list_head *tails, u32 nr)
{
	while (nr--) {
		struct folio *tail = cache_alloc(cpu, CACHE_FOLIO);

		if (!tail) {
			split_free_tails(cpu, tails);
			return false;
		}
		list_add(&tail->lru, tails);
	}
	return true;
}

/* Makes @tail the folio of page @i of the frozen @folio, and its frame say so. */
static void split_init_tail(struct quire *q, struct folio *folio, struct folio *tail, u32 i)
{
	WRITE_ONCE(tail->flags, READ_ONCE(folio->flags) & SPLIT_FLAGS);
	WRITE_ONCE(tail->mapping, folio->mapping);
	WRITE_ONCE(tail->index, folio->index + i);
	WRITE_ONCE(tail->mlock_count, 0);
	tail->pfn = folio->pfn + i;
	tail->order = 0;
	tail->node = folio->node;
	tail->swap = 0;
	page_set_folio(q, tail->pfn, 0, tail, false);
}

/*
 * The switch. pages_lock held, the folio frozen: whoever finds it, or a piece, by a slot or a frame's descriptor fails to
 * get a reference until the end, when every slot and descriptor names its piece. Then each piece has two references:
 * the cache's and the caller's.
 */
static void split_frozen(struct quire *q, struct address_space *mapping, struct folio *folio, struct list_head *tails,
			 struct pagecache_pool *pool)
{
	unsigned order = folio->order;
	struct folio *tail;
	u32 i = 1;

	list_for_each_entry(tail, tails, lru)
		split_init_tail(q, folio, tail, i++);
	folio->order = 0;
	pagecache_split(mapping, folio, order, tails, pool);
	while (!list_empty(tails)) {
		tail = list_first_entry(tails, struct folio, lru);
		list_del_init(&tail->lru);
		folio_unfreeze(tail, 2);
	}
	folio_unfreeze(folio, 2);
}

int filemap_split_folio(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio)
{
	struct pagecache_pool pool = { 0 };
	u32 nr = folio_nr_pages(folio);
	struct list_head tails;
	int ret = -ENOMEM;

	VM_BUG_ON2(!folio_test(folio, PG_locked) || folio_test(folio, PG_writeback), folio->pfn, folio->flags);
	INIT_LIST_HEAD(&tails);
	if (split_alloc_tails(cpu, &tails, nr - 1) &&
	    pagecache_pool_fill(cpu, &pool, pagecache_split_nodes(folio->order))) {
		spin_lock(&mapping->pages_lock);
		ret = folio_freeze(folio, nr + 1) ? 0 : -EAGAIN;
		if (!ret)
			split_frozen(cpu->q, mapping, folio, &tails, &pool);
		spin_unlock(&mapping->pages_lock);
	}
	split_free_tails(cpu, &tails);
	pagecache_pool_free(cpu, &pool);
	return ret;
}

/* -------------------------------------------------------------------------------------------- marks */

void filemap_set_mark(struct address_space *mapping, struct folio *folio, enum pagecache_mark mark)
{
	spin_lock(&mapping->pages_lock);
	if (folio_file_mapping(folio) == mapping)
		pagecache_set_mark(mapping, folio->index, folio->order, mark);
	spin_unlock(&mapping->pages_lock);
}

void filemap_clear_mark(struct address_space *mapping, struct folio *folio, enum pagecache_mark mark)
{
	spin_lock(&mapping->pages_lock);
	if (folio_file_mapping(folio) == mapping)
		pagecache_clear_mark(mapping, folio->index, folio->order, mark);
	spin_unlock(&mapping->pages_lock);
}

bool filemap_marked(struct quire_cpu *cpu, struct address_space *mapping, enum pagecache_mark mark)
{
	struct pagecache_node *root;
	bool marked;

	rcu_read_lock(cpu);
	root = rcu_dereference(mapping->root);
	marked = root && READ_ONCE(root->marks[mark]);
	rcu_read_unlock(cpu);
	return marked;
}

#define TOWRITE_BATCH 256u

/* Under pages_lock: copies the dirty mark to up to TOWRITE_BATCH entries; false when the range is done. */
static bool mark_towrite_batch(struct address_space *mapping, u64 *index, u64 last)
{
	struct pagecache_cursor cursor = { 0 };

	for (unsigned i = 0; i < TOWRITE_BATCH; i++) {
		struct folio *folio;
		u64 entry;

		if (*index > last || !pagecache_find(mapping, &cursor, index, last, PAGECACHE_DIRTY, &entry))
			return false;
		folio = entry_folio(entry);
		pagecache_set_mark(mapping, folio->index, folio->order, PAGECACHE_TOWRITE);
		*index = folio->index + folio_nr_pages(folio);
	}
	return true;
}

void filemap_mark_towrite(struct address_space *mapping, u64 first, u64 last)
{
	bool more = true;

	while (more) {
		spin_lock(&mapping->pages_lock);
		more = mark_towrite_batch(mapping, &first, last);
		spin_unlock(&mapping->pages_lock);
	}
}

/* -------------------------------------------------------------------------------------------- dirty and writeback */

bool filemap_dirty_folio(struct quire_cpu *cpu, struct folio *folio)
{
	struct address_space *mapping = folio_file_mapping(folio);
	bool dirtied = false;

	if (!mapping)
		return false;
	if (mapping->host->shmem)
		return !folio_test_and_set(folio, PG_dirty); /* no store behind it: neither mark nor count */
	/*
	 * Already dirty? Asked by a read-modify-write that changes nothing: it orders the caller's store before the flag,
	 * so that a writer-back who clears the flag after we saw it set reads that store (invariant 83). A load would not.
	 */
	if (__atomic_fetch_or(&folio->flags, 0, __ATOMIC_ACQ_REL) >> PG_dirty & 1)
		return false;
	/* The flag changes under the lock, so that it and the mark agree. */
	spin_lock(&mapping->pages_lock);
	if (folio_file_mapping(folio) == mapping && !folio_test_and_set(folio, PG_dirty)) {
		pagecache_set_mark(mapping, folio->index, folio->order, PAGECACHE_DIRTY);
		dirtied = true;
	}
	spin_unlock(&mapping->pages_lock);
	if (dirtied)
		count_event(cpu, NR_FILE_DIRTY, folio_nr_pages(folio));
	return dirtied;
}

bool filemap_start_writeback(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio)
{
	u32 nr = folio_nr_pages(folio);
	bool dirty;

	VM_BUG_ON2(!folio_test(folio, PG_locked) || folio_test(folio, PG_writeback), folio->pfn, folio->flags);
	spin_lock(&mapping->pages_lock);
	pagecache_clear_mark(mapping, folio->index, folio->order, PAGECACHE_TOWRITE);
	dirty = folio_test_and_clear(folio, PG_dirty);
	if (dirty) {
		pagecache_clear_mark(mapping, folio->index, folio->order, PAGECACHE_DIRTY);
		pagecache_set_mark(mapping, folio->index, folio->order, PAGECACHE_WRITEBACK);
		folio_set(folio, PG_writeback);
		folio_get(folio); /* until the waiters are woken (invariant 88) */
	}
	spin_unlock(&mapping->pages_lock);
	if (dirty) {
		count_event(cpu, NR_FILE_DIRTY, 0 - (u64)nr);
		count_event(cpu, NR_WRITEBACK, nr);
	}
	return dirty;
}

void filemap_end_writeback(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio)
{
	count_event(cpu, NR_WRITEBACK, 0 - (u64)folio_nr_pages(folio));
	count_event(cpu, FILE_WRITTEN_PAGES, folio_nr_pages(folio));
	filemap_clear_mark(mapping, folio,
			   PAGECACHE_WRITEBACK); /* before the flag: the next writeback waits for that */
	folio_end_writeback(cpu, folio);
}

/* -------------------------------------------------------------------------------------------- validation */

struct cache_check {
	struct address_space *mapping;
	violation_fn report;
	void *arg;
	unsigned violations;
};

static void cache_violation(struct cache_check *check, const char *what, u64 a, u64 b)
{
	check->violations++;
	if (check->report)
		check->report(check->arg, what, a, b);
}

/* Every slot that the folio should stand in, and nothing but it, names it. */
static void validate_slots(struct cache_check *check, const struct folio *folio)
{
	for (u32 i = 0; i < folio_nr_pages(folio); i++) {
		u64 entry = 0, *slot = pagecache_slot(check->mapping, folio->index + i, &entry);

		if (!slot || entry_folio(entry) != folio)
			cache_violation(check, "page cache: a slot of the folio names something else", folio->index + i,
					entry);
	}
}

static void validate_marks(struct cache_check *check, const struct folio *folio)
{
	bool shmem = check->mapping->host->shmem;

	if (pagecache_test_mark(check->mapping, folio->index, PAGECACHE_DIRTY) !=
	    (!shmem && folio_test(folio, PG_dirty)))
		cache_violation(check, "page cache: dirty mark and flag differ", folio->index, folio->flags);
	if (pagecache_test_mark(check->mapping, folio->index, PAGECACHE_WRITEBACK) != folio_test(folio, PG_writeback))
		cache_violation(check, "page cache: writeback mark and flag differ", folio->index, folio->flags);
	if (folio_test(folio, PG_swapbacked) != shmem)
		cache_violation(check, "page cache: swapbacked folio of a host file, or not of shmem", folio->index,
				folio->flags);
}

static void validate_folio(struct cache_check *check, const struct folio *folio, u64 index)
{
	const bool shmem = check->mapping->host->shmem;

	if (folio_file_mapping(folio) != check->mapping || folio->index != index)
		cache_violation(check, "page cache: folio does not say that it is here", index, folio->index);
	if (index & (folio_nr_pages(folio) - 1))
		cache_violation(check, "page cache: folio not aligned to its size", index, folio->order);
	if (folio_refcount(folio) < folio_nr_pages(folio) + folio_mapcount(folio))
		cache_violation(check, "page cache: fewer references than pages and mappings", index, folio->refs);
	if (!folio_test_uptodate(folio) && (shmem ? folio_mapped(folio) : !folio_test(folio, PG_locked)))
		cache_violation(check, "page cache: folio in use that is not uptodate", index, folio->flags);
	validate_slots(check, folio);
	validate_marks(check, folio);
}

unsigned pagecache_validate(struct address_space *mapping, violation_fn report, void *arg)
{
	struct cache_check check = { .mapping = mapping, .report = report, .arg = arg };
	struct pagecache_cursor cursor = { 0 };
	u64 entry, index = 0, pages = 0;

	check.violations = pagecache_tree_validate(mapping, report, arg);
	while (pagecache_find(mapping, &cursor, &index, ~0ull, PAGECACHE_PRESENT, &entry)) {
		const struct folio *folio = entry_folio(entry);

		validate_folio(&check, folio, index);
		pages += folio_nr_pages(folio);
		index += folio_nr_pages(folio);
	}
	if (pages != mapping->nr_pages)
		cache_violation(&check, "page cache: nr_pages is not the number of pages", pages, mapping->nr_pages);
	return check.violations;
}
