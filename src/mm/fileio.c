/* SPDX-License-Identifier: MIT */
/*
 * read() and write() of files, through the page cache. A write holds inode_lock for write and a read for read, so each is
 * atomic against the other and against truncate, as on XFS. Stores through mappings see and are seen by both at once:
 * there is one copy of a page.
 */
#include "mm/file.h"

#define MAX_RW_COUNT 0x7ffff000ull /* what one call of Linux moves at most */

static u64 min_u64(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* rw_verify_area: positions and lengths are signed to Linux. */
static bool area_valid(u64 off, u64 len)
{
	return (s64)off >= 0 && (s64)len >= 0 && (s64)(off + len) >= 0;
}

static u8 *folio_byte(struct quire *q, const struct folio *folio, u64 pos)
{
	return folio_address(q, folio) + (pos - (folio->index << PAGE_SHIFT));
}

static u64 folio_end(const struct folio *folio)
{
	return (folio->index + folio_nr_pages(folio)) << PAGE_SHIFT;
}

/* -------------------------------------------------------------------------------------------- reading */

/* The same for a page of a host file that is not cached and uptodate. @folio: what there is of it; consumed. */
static int read_fill_folio(struct quire_cpu *cpu, struct quire_file *file, u64 index, struct folio *folio,
			   struct folio **out)
{
	int ret = 0;

	*out = NULL;
	if (folio)
		folio_put_wait_locked(cpu, folio); /* being filled, or about to leave because that failed */
	else
		ret = hostfile_add_page(cpu, file, index, out);
	if (*out)
		folio_unlock(cpu, *out);
	return ret;
}

/* The uptodate folio of a page, referenced; NULL and 0: a hole of shmem. inode_lock held, the page is below the end. */
static int read_get_folio(struct quire_cpu *cpu, struct quire_file *file, u64 index, struct folio **out)
{
	for (;;) {
		struct folio *folio = filemap_get_folio(cpu, &file->mapping, index);
		int ret;

		*out = folio;
		if (folio && folio_test_uptodate(folio))
			return 0;
		if (file->shmem) { /* reserved at most: no write is under way, and a fault would make it zeroes */
			if (folio)
				folio_put(cpu, folio);
			*out = NULL;
			return 0;
		}
		ret = read_fill_folio(cpu, file, index, folio, out);
		if (ret || *out)
			return ret;
	}
}

/* Copies up to @len bytes at @pos, all from one folio or one page of a hole. Bytes, or a negative errno. */
static s64 read_chunk(struct quire_cpu *cpu, struct quire_file *file, u64 pos, u8 *buf, u64 len)
{
	struct folio *folio;
	int ret = read_get_folio(cpu, file, pos >> PAGE_SHIFT, &folio);

	if (ret)
		return ret;
	if (!folio) {
		len = min_u64(len, PAGE_SIZE - (pos & ~PAGE_MASK));
		memset(buf, 0, len);
		return (s64)len;
	}
	len = min_u64(len, folio_end(folio) - pos);
	copy_from_user(buf, folio_byte(cpu->q, folio, pos), len);
	folio_put(cpu, folio);
	return (s64)len;
}

int64_t quire_file_read(struct quire_cpu *cpu, struct quire_file *file, uint64_t off, void *buf, uint64_t len)
{
	u64 done = 0, size;
	s64 ret = 0;

	if (!area_valid(off, len))
		return -EINVAL;
	down_read(&file->inode_lock);
	size = file_size(file);
	len = off < size ? min_u64(min_u64(len, MAX_RW_COUNT), size - off) : 0;
	while (done < len) {
		ret = read_chunk(cpu, file, off + done, (u8 *)buf + done, len - done);
		if (ret < 0)
			break;
		done += (u64)ret;
	}
	up_read(&file->inode_lock);
	return done || ret >= 0 ? (s64)done : ret;
}

/* -------------------------------------------------------------------------------------------- writing */

/*
 * A new folio for a write of [pos, end) that does not need what the file holds there: zeroed, unless the write covers it
 * whole. Not uptodate yet.
 */
static int write_add_folio(struct quire_cpu *cpu, struct quire_file *file, u64 pos, u64 end, struct folio **out)
{
	struct folio_want want = { .index = pos >> PAGE_SHIFT };
	u64 file_end = file_nr_pages(file), write_end = (end + PAGE_SIZE - 1) >> PAGE_SHIFT;

	if ((pos & ~PAGE_MASK) == 0 && end - pos >= PAGE_SIZE) {
		want.low = want.index;
		want.high = end >> PAGE_SHIFT;
	} else {
		want.gfp = GFP_ZERO;
		want.low = file->shmem ? 0 : want.index;
		want.high = file->shmem ? (write_end > file_end ? write_end : file_end) : want.index + 1;
	}
	return file_add_folio(cpu, file, &want, out);
}

/* The locked folio to copy [pos, ...) into; valid outside [pos, end). 0, -EIO, -ENOMEM. inode_lock for write. */
static int write_begin(struct quire_cpu *cpu, struct quire_file *file, u64 pos, u64 end, struct folio **out)
{
	bool whole = (pos & ~PAGE_MASK) == 0 && end - pos >= PAGE_SIZE;
	int ret;

	for (;;) {
		*out = file_lock_folio(cpu, file, pos >> PAGE_SHIFT);
		if (*out)
			return 0;
		if (whole || file->shmem || (pos & PAGE_MASK) >= file_size(file))
			ret = write_add_folio(cpu, file, pos, end, out);
		else
			ret = hostfile_add_page(cpu, file, pos >> PAGE_SHIFT, out);
		if (*out || (ret && ret != -EEXIST))
			return ret;
	}
}

/* Copies up to @len bytes to @pos, all into one folio. Bytes, or a negative errno. */
static s64 write_chunk(struct quire_cpu *cpu, struct quire_file *file, u64 pos, const u8 *buf, u64 len)
{
	struct folio *folio = NULL;
	int ret = write_begin(cpu, file, pos, pos + len, &folio);

	if (ret)
		return ret;
	folio_wait_writeback(cpu, folio);
	len = min_u64(len, folio_end(folio) - pos);
	copy_to_user(folio_byte(cpu->q, folio, pos), buf, len);
	folio_mark_uptodate(folio);
	filemap_dirty_folio(cpu, folio);
	/* Under the folio lock, so that a writer-back who finds the folio finds the size that goes with it. */
	if (pos + len > file_size(file))
		smp_store_release(&file->size, pos + len);
	file_unlock_put(cpu, folio);
	return (s64)len;
}

int64_t quire_file_write(struct quire_cpu *cpu, struct quire_file *file, uint64_t off, const void *buf, uint64_t len)
{
	u64 done = 0;
	s64 ret = 0;

	if (!file->writable)
		return -EBADF;
	if (!area_valid(off, len))
		return -EINVAL;
	len = min_u64(len, MAX_RW_COUNT);
	down_write(&file->inode_lock);
	if (len && off > file_size(file))
		file_zero_beyond_end(cpu, file, off);
	while (done < len) {
		ret = write_chunk(cpu, file, off + done, (const u8 *)buf + done, len - done);
		if (ret < 0)
			break;
		done += (u64)ret;
	}
	up_write(&file->inode_lock);
	balance_dirty(cpu, file);
	return done || ret >= 0 ? (s64)done : ret;
}
