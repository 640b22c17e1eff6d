/* SPDX-License-Identifier: MIT */
/*
 * Making a file shorter, or a hole in it.
 *
 * Guarantee: afterwards no mapping, TLB or cache holds a page of what was cut off, nor can a fault bring one back; after
 * truncate that includes private copies, after a punch private copies are as they were (seed 5).
 *
 *   1 inode_lock for write: no write, truncate, fallocate of this file but ours
 *   2 truncate: publish the size. Faults that lock a folio from now on see it (B99)
 *   3 invalidate_lock for write: faults and reads that add folios wait, so the range stays empty once it is (B107)
 *   4 unmap the range in bulk, without folio locks
 *   5 each folio: lock, wait for writeback, unmap who faulted it in meanwhile (S5-R7), take it out of the cache
 *   6 truncate: unmap once more, for private copies that faults made from folios of step 5 before we had locked them
 *   7 the store
 *
 * Of a folio that is only partly inside, that part is zeroed; a large one is split before, so that whole pages of it can go.
 */
#include "mm/fault.h"

#define TRUNCATE_BATCH 16u
#define SPLIT_RETRIES 16u

/* -------------------------------------------------------------------------------------------- parts of folios */

static u64 folio_start(const struct folio *folio)
{
	return folio->index << PAGE_SHIFT;
}

static u64 folio_end(const struct folio *folio)
{
	return (folio->index + folio_nr_pages(folio)) << PAGE_SHIFT;
}

/*
 * Zeroes the bytes [start, end) as far as they are in this locked folio. Programs may be looking at them, or storing next to
 * them: so zeroes are copied there as a program would, out of the page of zeroes.
 */
static void folio_zero_range(struct quire *q, struct folio *folio, u64 start, u64 end)
{
	u64 from = start > folio_start(folio) ? start : folio_start(folio);
	u64 to = end < folio_end(folio) ? end : folio_end(folio);

	while (from < to) {
		u64 next = (from | ~PAGE_MASK) + 1;

		next = next < to ? next : to;
		copy_to_user(folio_address(q, folio) + (from - folio_start(folio)), pfn_to_virt(q, q->zero_pfn),
			     next - from);
		from = next;
	}
}

/* Does some page of the folio lie in [start, end) whole? */
static bool has_whole_page(const struct folio *folio, u64 start, u64 end)
{
	u64 from = start > folio_start(folio) ? start : folio_start(folio);
	u64 to = end < folio_end(folio) ? end : folio_end(folio);

	return ((from + PAGE_SIZE - 1) & PAGE_MASK) < (to & PAGE_MASK);
}

/*
 * Splits, insisting a little: another CPU's gather or a lookup may hold a reference for a moment. Fails when somebody
 * holds on to one, or for lack of memory; the folio then stays as it is.
 */
static bool truncate_split(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio)
{
	int ret = -EAGAIN;

	for (unsigned i = 0; i < SPLIT_RETRIES && ret == -EAGAIN; i++) {
		if (i)
			machine_yield();
		ret = filemap_split_folio(cpu, mapping, folio);
	}
	return ret == 0;
}

/* A piece, or a folio that cannot be made pieces of: drops it if it is inside [start, end), else zeroes what of it is. */
static void truncate_piece(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio, u64 start,
			   u64 end)
{
	if (folio_start(folio) >= start && folio_end(folio) <= end)
		filemap_remove_folio(cpu, mapping, folio);
	else
		folio_zero_range(cpu->q, folio, start, end);
}

/* After a split of @nr pages at @index: all pieces are locked, and each has a reference of ours. */
static void truncate_pieces(struct quire_cpu *cpu, struct address_space *mapping, u64 index, u32 nr, u64 start, u64 end)
{
	for (u64 at = index; at < index + nr; at++) {
		struct folio *piece = filemap_get_folio(cpu, mapping, at);

		truncate_piece(cpu, mapping, piece, start, end);
		folio_unlock(cpu, piece);
		folio_put_many(cpu, piece, 2); /* the lookup's and the split's */
	}
}

/*
 * A locked folio partly inside [start, end). Consumes lock and reference. Where whole pages go it is unmapped first, so that
 * nobody reads or writes what is zeroed or taken away; whoever faults waits for the lock.
 */
static void truncate_partial_folio(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio, u64 start,
				   u64 end)
{
	u64 index = folio->index;
	u32 nr = folio_nr_pages(folio);

	if (has_whole_page(folio, start, end)) {
		unmap_mapping_folio(cpu, folio);
		if (truncate_split(cpu, mapping, folio)) {
			truncate_pieces(cpu, mapping, index, nr, start, end);
			return;
		}
	}
	truncate_piece(cpu, mapping, folio, start, end);
	file_unlock_put(cpu, folio);
}

/* -------------------------------------------------------------------------------------------- ranges */

/* Step 5 for a batch of referenced folios. Locks them in the order of the file; nobody else holds several and waits. */
static void truncate_batch(struct quire_cpu *cpu, struct address_space *mapping, struct folio **folios, unsigned nr,
			   u64 start, u64 end)
{
	struct folio *whole[TRUNCATE_BATCH];
	unsigned nr_whole = 0;

	for (unsigned i = 0; i < nr; i++) {
		struct folio *folio = folios[i];

		folio_lock(cpu, folio);
		if (folio_file_mapping(folio) != mapping) {
			file_unlock_put(cpu, folio); /* dropped by somebody who needed memory */
			continue;
		}
		folio_wait_writeback(cpu, folio);
		if (folio_start(folio) < start || folio_end(folio) > end) {
			truncate_partial_folio(cpu, mapping, folio, start, end);
			continue;
		}
		unmap_mapping_folio(cpu, folio);
		whole[nr_whole++] = folio;
	}
	filemap_take_folios(cpu, mapping, whole, nr_whole);
	for (unsigned i = 0; i < nr_whole; i++) {
		folio_unlock(cpu, whole[i]);
		folio_put_many(cpu, whole[i], folio_nr_pages(whole[i]) + 1);
	}
}

void truncate_range(struct quire_cpu *cpu, struct quire_file *file, u64 start, u64 end)
{
	struct address_space *mapping = &file->mapping;
	struct folio *folios[TRUNCATE_BATCH];
	u64 index = start >> PAGE_SHIFT;
	unsigned nr;

	if (start >= end)
		return;
	while (index <= (end - 1) >> PAGE_SHIFT &&
	       (nr = filemap_get_folios(cpu, mapping, &index, (end - 1) >> PAGE_SHIFT, TRUNCATE_BATCH, folios)) != 0)
		truncate_batch(cpu, mapping, folios, nr, start, end);
}

void file_zero_beyond_end(struct quire_cpu *cpu, struct quire_file *file, u64 pos)
{
	u64 size = file_size(file), end = (size + PAGE_SIZE - 1) & PAGE_MASK;
	struct folio *folio;

	if (file->shmem || size == end)
		return;
	folio = file_lock_folio(cpu, file, size >> PAGE_SHIFT);
	if (!folio)
		return;
	folio_wait_writeback(cpu, folio);
	folio_zero_range(cpu->q, folio, size, pos < end ? pos : end);
	file_unlock_put(cpu, folio);
}

/* -------------------------------------------------------------------------------------------- truncate */

static int truncate_down(struct quire_cpu *cpu, struct quire_file *file, u64 size)
{
	struct address_space *mapping = &file->mapping;
	u64 first = (size + PAGE_SIZE - 1) >> PAGE_SHIFT;
	int ret = 0;

	smp_store_release(&file->size, size);
	down_write(&mapping->invalidate_lock);
	unmap_mapping_range(cpu, mapping, first, 0, true);
	truncate_range(cpu, file, size, ~0ull);
	unmap_mapping_range(cpu, mapping, first, 0, true);
	if (file->backing)
		ret = machine_file_truncate(file->backing, size);
	up_write(&mapping->invalidate_lock);
	return ret;
}

static int truncate_up(struct quire_cpu *cpu, struct quire_file *file, u64 size)
{
	int ret = 0;

	file_zero_beyond_end(cpu, file, size);
	if (file->backing)
		ret = machine_file_truncate(file->backing, size);
	if (!ret)
		smp_store_release(&file->size, size);
	return ret;
}

int quire_file_truncate(struct quire_cpu *cpu, struct quire_file *file, uint64_t size)
{
	int ret;

	if ((s64)size < 0 || !file->writable)
		return -EINVAL;
	down_write(&file->inode_lock);
	/* To the size that it has: zeroes the rest of the last page, and gives up what fallocate has reserved beyond. */
	if (size <= file_size(file))
		ret = truncate_down(cpu, file, size);
	else
		ret = truncate_up(cpu, file, size);
	up_write(&file->inode_lock);
	return ret;
}

/* -------------------------------------------------------------------------------------------- holes and space */

/*
 * The hole in the store, which first becomes as long as the file: otherwise writing the last page would have done that, and
 * now that page may go without having been written.
 */
static int punch_store(struct quire_file *file, u64 start, u64 end)
{
	s64 size = machine_file_size(file->backing);
	int ret = 0;

	if (size < 0)
		return (int)size;
	if ((u64)size < file_size(file))
		ret = machine_file_truncate(file->backing, file_size(file));
	return ret ? ret : machine_file_punch(file->backing, start, end - start);
}

/* Steps 3 to 7 for the bytes [start, end). inode_lock for write. */
static int punch_range(struct quire_cpu *cpu, struct quire_file *file, u64 start, u64 end)
{
	struct address_space *mapping = &file->mapping;
	u64 first = (start + PAGE_SIZE - 1) >> PAGE_SHIFT, last_excl = end >> PAGE_SHIFT;
	int ret = 0;

	down_write(&mapping->invalidate_lock);
	/* The store first, to learn whether it can; and last, for writeback that was in flight. */
	if (file->backing)
		ret = punch_store(file, start, end);
	if (!ret) {
		if (first < last_excl)
			unmap_mapping_range(cpu, mapping, first, last_excl - first, false);
		truncate_range(cpu, file, start, end);
		if (file->backing)
			ret = machine_file_punch(file->backing, start, end - start);
	}
	up_write(&mapping->invalidate_lock);
	return ret;
}

/* What fallocate checks before it looks at the mode. */
static int range_check(const struct quire_file *file, u64 off, u64 len)
{
	if (!file->writable)
		return -EBADF;
	return (s64)(off + len) < 0 ? -EFBIG : 0;
}

int file_punch(struct quire_cpu *cpu, struct quire_file *file, u64 off, u64 len)
{
	int ret;

	if ((s64)off < 0 || (s64)len <= 0)
		return -EINVAL;
	ret = range_check(file, off, len);
	if (ret)
		return ret;
	down_write(&file->inode_lock);
	/* A host file has nothing beyond its end; tmpfs zeroes there what mappings have left in the last page. */
	if (file->shmem || off < file_size(file))
		ret = punch_range(cpu, file, off, off + len);
	up_write(&file->inode_lock);
	return ret;
}

/* Makes space for [off, end), which may lie beyond the end of the file. inode_lock for write. */
static int allocate_range(struct quire_cpu *cpu, struct quire_file *file, int mode, u64 off, u64 end)
{
	if (file->backing)
		return machine_file_allocate(file->backing, mode, off, end - off);
	return shmem_allocate(cpu, file, off >> PAGE_SHIFT, (end + PAGE_SIZE - 1) >> PAGE_SHIFT);
}

static int file_allocate(struct quire_cpu *cpu, struct quire_file *file, int mode, u64 off, u64 end)
{
	int ret;

	down_write(&file->inode_lock);
	ret = allocate_range(cpu, file, mode, off, end);
	if (!ret && !(mode & FALLOC_FL_KEEP_SIZE) && end > file_size(file)) {
		file_zero_beyond_end(cpu, file, end);
		smp_store_release(&file->size, end);
	}
	up_write(&file->inode_lock);
	return ret;
}

/* Does Linux know this mode, on whatever file system? Then it looks at the range before it says that it cannot. */
static bool mode_known(int mode)
{
	bool keep_size = mode & FALLOC_FL_KEEP_SIZE;

	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_UNSHARE_RANGE:
		return true;
	case FALLOC_FL_PUNCH_HOLE:
		return keep_size;
	case FALLOC_FL_COLLAPSE_RANGE:
	case FALLOC_FL_INSERT_RANGE:
		return !keep_size;
	default:
		return false;
	}
}

int quire_file_fallocate(struct quire_cpu *cpu, struct quire_file *file, int mode, uint64_t off, uint64_t len)
{
	int ret;

	if ((s64)off < 0 || (s64)len <= 0)
		return -EINVAL;
	if (!mode_known(mode))
		return -EOPNOTSUPP;
	ret = range_check(file, off, len);
	if (ret)
		return ret;
	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
		return file_allocate(cpu, file, mode, off, off + len);
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
		return file_punch(cpu, file, off, len);
	default:
		return -EOPNOTSUPP;
	}
}
