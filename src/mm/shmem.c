/* SPDX-License-Identifier: MIT */
/*
 * Shmem: files whose only home is memory (and later swap). A page that was never written is a hole: reads of it see zeroes
 * without allocating, faults allocate. Folios are made uptodate at once, are never written back, and stay until they are
 * truncated, punched, or the last reference on the file goes.
 *
 * A folio that is neither dirty nor mapped is therefore all zeroes: stores leave a dirty entry, and a dirty entry that goes
 * leaves a dirty folio.
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

/* Takes folios of [first, end) out again that nobody has used: they are zeroes, as the hole that they leave. */
static void shmem_drop_unused(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 end)
{
	struct folio *folio;

	while (first < end && filemap_get_folios(cpu, &file->mapping, &first, end - 1, 1, &folio)) {
		folio_lock(cpu, folio);
		if (folio_file_mapping(folio) == &file->mapping && !folio_test(folio, PG_dirty) && !folio_mapped(folio))
			filemap_remove_folio(cpu, &file->mapping, folio);
		file_unlock_put(cpu, folio);
	}
}

int shmem_allocate(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 end)
{
	struct folio_want want = { .index = first, .low = first, .high = end, .gfp = GFP_ZERO };
	struct folio *folio;

	if (end - first > cpu->q->nr_frames)
		return -ENOSPC; /* can never be; do not fill all memory to find out */
	while (want.index < end) {
		int ret = -EEXIST;

		if (!file_page_resident(cpu, file, want.index))
			ret = file_add_folio(cpu, file, &want, &folio);
		if (ret == -ENOMEM) {
			shmem_drop_unused(cpu, file, first, want.index);
			return ret;
		}
		if (ret == -EEXIST) {
			want.index++;
			continue;
		}
		want.index = folio->index + folio_nr_pages(folio);
		file_unlock_put(cpu, folio);
	}
	return 0;
}
