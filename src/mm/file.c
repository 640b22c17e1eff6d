/* SPDX-License-Identifier: MIT */
/*
 * Files: their life, and how a fault gets a page of one. What differs between shmem and host files is in shmem.c and
 * hostfile.c: how a page that is not cached comes to be.
 */
#include "mm/file.h"
#include "mm/pagecache_tree.h"

/* -------------------------------------------------------------------------------------------- life */

static void file_set_name(struct quire_file *file, const char *name, size_t len)
{
	spin_lock(&file->q->file_lock);
	memcpy(file->name, name, len);
	memset(file->name + len, 0, FILE_NAME_MAX - len);
	spin_unlock(&file->q->file_lock);
}

/* A file with one reference that nobody can find yet. NULL: no memory. */
static struct quire_file *file_alloc(struct quire_cpu *cpu)
{
	struct quire_file *file = cache_alloc(cpu, CACHE_FILE);

	if (!file)
		return NULL;
	memset(file, 0, sizeof(*file));
	file->q = cpu->q;
	file->refcount = 1;
	file->id = __atomic_add_fetch(&cpu->q->next_id, 1, __ATOMIC_RELAXED);
	pagecache_init(&file->mapping, file);
	return file;
}

/* Others may find it from now on. */
static void file_publish(struct quire_file *file)
{
	spin_lock(&file->q->file_lock);
	list_add_tail(&file->file_list, &file->q->file_list);
	spin_unlock(&file->q->file_lock);
}

int quire_file_create_shmem(struct quire_cpu *cpu, uint64_t size, struct quire_file **out)
{
	static const char name[] = "/memfd:quire";
	struct quire_file *file;

	if ((s64)size < 0)
		return -EINVAL;
	file = file_alloc(cpu);
	if (!file)
		return -ENOMEM;
	file->shmem = true;
	file->writable = true;
	file->size = size;
	file_set_name(file, name, sizeof(name) - 1);
	file_publish(file);
	*out = file;
	return 0;
}

int quire_file_open_host(struct quire_cpu *cpu, int fd, bool writable, struct quire_file **out)
{
	struct quire_file *file = file_alloc(cpu);
	s64 ret;

	if (!file)
		return -ENOMEM;
	file->writable = writable;
	ret = machine_file_open(cpu->q, fd, writable, &file->backing, file->name, FILE_NAME_MAX);
	if (!ret) {
		ret = machine_file_size(file->backing);
		if (ret >= 0) {
			file->size = (u64)ret;
			file_publish(file);
			*out = file;
			return 0;
		}
		machine_file_close(file->backing);
	}
	cache_free(cpu, CACHE_FILE, file);
	return (int)ret;
}

void quire_file_get(struct quire_file *file)
{
	u32 old = __atomic_fetch_add(&file->refcount, 1, __ATOMIC_RELAXED);

	BUG_ON2(old == 0, file->id, old);
}

bool file_try_get(struct quire_file *file)
{
	u32 old = READ_ONCE(file->refcount);

	while (old)
		if (__atomic_compare_exchange_n(&file->refcount, &old, old + 1, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return true;
	return false;
}

/* Nobody maps it, nobody has it: only who walks file_list may still see it, and cannot get a reference. */
static void file_release(struct quire_cpu *cpu, struct quire_file *file)
{
	spin_lock(&file->q->file_lock);
	list_del_init(&file->file_list);
	spin_unlock(&file->q->file_lock);
	if (file->backing)
		file_writeback_range(cpu, file, 0, ~0ull); /* an error has nobody left to be told to, as with close() */
	truncate_range(cpu, file, 0, ~0ull);
	BUG_ON2(file->mapping.nr_pages, file->id, file->mapping.nr_pages);
	if (file->backing)
		machine_file_close(file->backing);
	cache_free(cpu, CACHE_FILE, file);
}

void quire_file_put(struct quire_cpu *cpu, struct quire_file *file)
{
	u32 old = __atomic_fetch_sub(&file->refcount, 1, __ATOMIC_ACQ_REL);

	BUG_ON2(old == 0, file->id, old);
	if (old == 1)
		file_release(cpu, file);
}

uint64_t quire_file_size(struct quire_file *file)
{
	return file_size(file);
}

uint64_t quire_file_id(struct quire_file *file)
{
	return file->id;
}

int quire_file_set_name(struct quire_file *file, const char *name)
{
	size_t len = 0;

	while (name[len] != '\0')
		if (++len == FILE_NAME_MAX)
			return -EINVAL;
	file_set_name(file, name, len);
	return 0;
}

/* -------------------------------------------------------------------------------------------- adding folios */

static u32 file_orders(const struct quire_file *file)
{
	const struct quire_config *config = &file->q->config;

	return (file->shmem ? READ_ONCE(config->shmem_orders) : READ_ONCE(config->file_orders)) | 1;
}

/* The largest order below @below that is allowed and keeps the folio of want->index inside its range. 0 always is. */
static unsigned want_order(const struct folio_want *want, u32 orders, unsigned below)
{
	unsigned order;

	for (order = below - 1; order; order--) {
		u64 first = want->index & ~((1ull << order) - 1);

		if (orders >> order & 1 && first >= want->low && first + (1ull << order) <= want->high)
			break;
	}
	return order;
}

/* Flags of a fresh folio. Zeroes are all that a page of shmem needs to be valid. */
static u64 fresh_flags(const struct quire_file *file, const struct folio_want *want)
{
	u64 flags = 1ull << PG_locked;

	if (file->shmem)
		flags |= 1ull << PG_swapbacked | (u64) !!(want->gfp & GFP_ZERO) << PG_uptodate;
	return flags;
}

/* Is there likely to be something in the way? Asked before the work of making a folio that may have no place. */
static bool likely_taken(struct quire_cpu *cpu, struct quire_file *file, const struct folio_want *want, unsigned order)
{
	u64 first = want->index & ~((1ull << order) - 1);

	if (!order && !(want->gfp & GFP_NORETRY))
		return false; /* the caller has just looked */
	return filemap_next_cached(cpu, &file->mapping, first) < first + (1ull << order);
}

/* One attempt with one order. */
static int add_order(struct quire_cpu *cpu, struct quire_file *file, const struct folio_want *want, unsigned order,
		     struct folio **out)
{
	struct folio *folio;
	int ret;

	if (likely_taken(cpu, file, want, order))
		return -EEXIST;
	folio = folio_alloc(cpu, order, want->gfp | (order ? (unsigned)GFP_NORETRY : 0), false);
	if (!folio)
		return -ENOMEM;
	WRITE_ONCE(folio->flags, fresh_flags(file, want)); /* nobody else knows it yet */
	ret = filemap_add_folio(cpu, &file->mapping, folio, want->index & ~((1ull << order) - 1));
	if (ret)
		file_unlock_put(cpu, folio);
	else
		*out = folio;
	return ret;
}

#define SHRINK_PAGES 64u /* what one failed allocation asks of the other caches */

int file_add_folio(struct quire_cpu *cpu, struct quire_file *file, const struct folio_want *want, struct folio **out)
{
	u32 orders = file_orders(file);
	unsigned order = MAX_FOLIO_ORDER + 1;
	int ret;

	do {
		order = want_order(want, orders, order);
		ret = add_order(cpu, file, want, order, out);
	} while (ret && order);
	/* Shmem is memory, and the lack of it the caller's; the cache of a host file can make room for itself. */
	while (ret == -ENOMEM && !file->shmem && !(want->gfp & GFP_NORETRY) && filecache_shrink(cpu, SHRINK_PAGES))
		ret = add_order(cpu, file, want, 0, out);
	return ret;
}

/* -------------------------------------------------------------------------------------------- for faults */

#define LOCK_SPINS                                                                                                     \
	64 /* looks at a locked folio before sleeping: most hold the lock for no longer than it takes to map a page */

/* Takes the lock, or gives up the reference and sleeps until whoever has it lets go: then everything is to be looked at anew. */
static bool lock_or_wait(struct quire_cpu *cpu, struct folio *folio)
{
	for (unsigned i = 0; i < LOCK_SPINS; i++) {
		if (likely(folio_trylock(folio)))
			return true;
		cpu_relax();
	}
	/* A reference of ours would keep truncate from splitting the folio for which we wait (as in race S1-R4). */
	folio_put_wait_locked(cpu, folio);
	return false;
}

struct folio *file_lock_folio(struct quire_cpu *cpu, struct quire_file *file, u64 index)
{
	struct folio *folio;

	while ((folio = filemap_get_folio(cpu, &file->mapping, index)) != NULL) {
		if (!lock_or_wait(cpu, folio))
			continue;
		if (likely(folio_file_mapping(folio) == &file->mapping))
			break;
		file_unlock_put(cpu, folio); /* truncated while we waited: look again */
	}
	if (folio && unlikely(!folio_test_uptodate(folio))) {
		BUG_ON2(!file->shmem, index, folio->flags);
		shmem_clear_folio(cpu, folio);
	}
	return folio;
}

int file_fault_folio(struct quire_cpu *cpu, struct quire_file *file, u64 index, struct folio **out)
{
	int ret = 0;

	balance_dirty(cpu, file); /* stores through mappings make pages dirty too, and end up here when they fault */
	for (;;) {
		if (index >= file_nr_pages(file))
			return -EFAULT;
		*out = file_lock_folio(cpu, file, index);
		if (!*out)
			ret = file->shmem ? shmem_add_page(cpu, file, index, out)
					  : hostfile_add_page(cpu, file, index, out);
		if (*out || ret)
			break;
	}
	if (ret)
		return ret;
	/* Truncate publishes the size before it takes this lock: either we see that, or it finds what we map (B99). */
	if (index >= file_nr_pages(file)) {
		file_unlock_put(cpu, *out);
		return -EFAULT;
	}
	return 0;
}

/* Locked, in the cache and below the end, or unlocked again and NULL. Consumes the reference in that case. */
static struct folio *try_lock_around(struct quire_cpu *cpu, struct quire_file *file, struct folio *folio)
{
	if (!folio_test_uptodate(folio) || !folio_trylock(folio)) {
		folio_put(cpu, folio);
		return NULL;
	}
	if (folio_file_mapping(folio) == &file->mapping && folio->index < file_nr_pages(file))
		return folio;
	file_unlock_put(cpu, folio);
	return NULL;
}

struct folio *file_next_around(struct quire_cpu *cpu, struct quire_file *file, u64 *index, u64 last)
{
	struct folio *folio = NULL, *found;

	while (!folio && filemap_get_folios(cpu, &file->mapping, index, last, 1, &found))
		folio = try_lock_around(cpu, file, found);
	return folio;
}

void file_page_mkwrite(struct quire_cpu *cpu, struct folio *folio)
{
	VM_BUG_ON2(!folio_test(folio, PG_locked), folio->pfn, folio->flags);
	folio_wait_writeback(cpu, folio); /* what is being written must not change under the device */
	filemap_dirty_folio(cpu, folio);
}

bool file_page_resident(struct quire_cpu *cpu, struct quire_file *file, u64 index)
{
	return filemap_page_uptodate(cpu, &file->mapping, index);
}
