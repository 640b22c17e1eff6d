/* SPDX-License-Identifier: MIT */
/*
 * Shmem: files whose only home is memory (and later swap). A page that was never written is a hole: reads of it see zeroes
 * without allocating, faults allocate. Folios are never written back, and stay until they are truncated, punched, or the
 * last reference on the file goes.
 *
 * What fallocate reserves is a hole with a folio: it is in the cache but not uptodate, reads see zeroes and mincore nothing, as
 * on tmpfs. Whoever uses it first (a fault, a write) zeroes it.
 */
#include "mm/file.h"

int shmem_add_page(struct quire_cpu *cpu, struct quire_file *file, u64 index, struct folio **out)
{
	struct address_space *mapping = &file->mapping;
	struct folio_want want = { .index = index, .gfp = GFP_ZERO };
	int ret = -EFAULT;

	down_read(&mapping->invalidate_lock);
	/* Like Linux's huge=within_size: as large as fits below the end of the file, whatever the mapping's shape. */
	want.high = file_nr_pages(file);
	if (index < want.high)
		ret = file_add_folio(cpu, file, &want, out);
	up_read(&mapping->invalidate_lock);
	return ret == -EEXIST ? 0 : ret;
}

void shmem_clear_folio(struct quire_cpu *cpu, struct folio *folio)
{
	VM_BUG_ON2(!folio_test(folio, PG_locked) || folio_mapped(folio), folio->pfn, folio->flags);
	clear_pages(folio_address(cpu->q, folio), (size_t)folio_nr_pages(folio) << PAGE_SHIFT);
	folio_mark_uptodate(folio);
}

/* -------------------------------------------------------------------------------------------- fallocate */

/* Takes reserved folios of [first, end) that nobody has used out again. */
static void shmem_unreserve(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 end)
{
	struct folio *folio;

	while (first < end && filemap_get_folios(cpu, &file->mapping, &first, end - 1, 1, &folio)) {
		folio_lock(cpu, folio);
		if (folio_file_mapping(folio) == &file->mapping && !folio_test_uptodate(folio))
			filemap_remove_folio(cpu, &file->mapping, folio);
		file_unlock_put(cpu, folio);
	}
}

/* Reserves a folio for a page that has none; *index moves past it. */
static int shmem_reserve(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 end, u64 *index)
{
	struct folio_want want = { .index = *index, .low = first, .high = end };
	struct folio *folio;
	int ret = file_add_folio(cpu, file, &want, &folio);

	if (!ret) {
		*index = folio->index + folio_nr_pages(folio);
		file_unlock_put(cpu, folio);
	}
	return ret;
}

int shmem_allocate(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 end)
{
	u64 index = first;

	if (end - first > cpu->q->nr_frames)
		return -ENOSPC; /* can never be; do not fill all memory to find out */
	while (index < end) {
		/* What an earlier fallocate reserved becomes used, lest our giving up take it back. */
		struct folio *folio = file_lock_folio(cpu, file, index);

		if (folio) {
			index = folio->index + folio_nr_pages(folio);
			file_unlock_put(cpu, folio);
		} else if (shmem_reserve(cpu, file, first, end, &index) == -ENOMEM) {
			shmem_unreserve(cpu, file, first, index);
			return -ENOMEM;
		}
	}
	return 0;
}
