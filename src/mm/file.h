/* SPDX-License-Identifier: MIT */
/* Files that can be mapped: shmem (swap-backed, no store behind) and host files (read and written through the machine). */
#ifndef QUIRE_MM_FILE_H
#define QUIRE_MM_FILE_H

#include "mm/instance.h"
#include "mm/pagecache.h"

#define FILE_NAME_MAX 64u

/*
 * Legend: S inode_lock for write to change, read at any time with acquire; N q->file_lock; a atomic; c constant.
 *
 * Size and cache. Only pages below round_up(size) are in the cache, but for what a write that is about to raise the size has
 * added, what a truncate that has just lowered it is about to take out, and what fallocate has reserved in shmem. So whoever hands out a page
 * checks the size after locking its folio (race B99). Folios are added under invalidate_lock for read; truncate and punch hold
 * it for write, so what they have taken out stays out until they are done, however many faults want it (B107).
 *
 * A folio in the cache is uptodate, or locked by whoever fills it, or (shmem) reserved by fallocate and not used yet.
 */
struct quire_file {
	struct quire *q;	      /* c */
	struct list_head file_list;   /* N */
	u32 refcount;		      /* a: holders; 0 only on the way out, when nobody can find it but by file_list */
	bool shmem;		      /* c */
	bool writable;		      /* c */
	u64 id;			      /* c: shown as inode */
	u64 size;		      /* S: bytes */
	struct rwsem inode_lock;      /* i_rwsem: write for write(), truncate, fallocate; read for read(); outermost */
	struct machine_file *backing; /* c: NULL for shmem */
	s32 writeback_error;	      /* a: errno of a failed write, reported once by fsync and msync */
	u32 ra_pages;		      /* a, a hint: pages of the last read-ahead window */
	u64 ra_next;		      /* a, a hint: the page after that window */
	char name[FILE_NAME_MAX];     /* N */
	struct address_space mapping;
};

static inline u64 file_size(const struct quire_file *file)
{
	return __atomic_load_n(&file->size, __ATOMIC_ACQUIRE);
}

/* Pages that hold some byte of the file. */
static inline u64 file_nr_pages(const struct quire_file *file)
{
	return (file_size(file) + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

/*
 * For a fault: the folio that holds page @index, uptodate, referenced and LOCKED, read in or allocated as needed (order by
 * policy). Re-checks mapping and size after locking (race B99). 0 and *out; -EFAULT: beyond the end of the file, SIGBUS;
 * -EIO: read error, SIGBUS; -ENOMEM. Takes invalidate_lock for read itself. May sleep; VMA or mmap lock held.
 */
int file_fault_folio(struct quire_cpu *cpu, struct quire_file *file, u64 index, struct folio **out);

/*
 * Cached, uptodate, unlocked-or-lockable folios around a fault, for mapping without I/O: the first folio at or after *index
 * and <= last, LOCKED and referenced, still in the cache and below EOF; skips those that cannot be locked at once. NULL:
 * none. *index becomes the page after it.
 */
struct folio *file_next_around(struct quire_cpu *cpu, struct quire_file *file, u64 *index, u64 last);

/* About to map a locked folio writable and shared: waits for writeback, marks it dirty. */
void file_page_mkwrite(struct quire_cpu *cpu, struct folio *folio);

/*
 * Writes what is dirty in [first, last] (pages) now, and waits for writes of it that others have begun. 0, or the error of
 * a write since the last report, once. Shmem: 0. Takes folio locks; may sleep.
 */
int file_writeback_range(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last);
/* The same, and then the device has it: what fsync and msync(MS_SYNC) promise. */
int file_sync_range(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last);
/* madvise(MADV_WILLNEED): reads pages in. Errors are left to the later access. May sleep. */
void file_readahead(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last);
/* Is page @index in the cache and uptodate? For mincore; a hint. */
bool file_page_resident(struct quire_cpu *cpu, struct quire_file *file, u64 index);
/* fallocate(PUNCH_HOLE|KEEP_SIZE) in bytes, as MADV_REMOVE needs it. Takes inode_lock. No mmap lock held. */
int file_punch(struct quire_cpu *cpu, struct quire_file *file, u64 off, u64 len);

/*
 * Frees about @nr pages of the machine by dropping clean, unmapped folios of host files; returns how many. For whoever
 * found no memory; folio locks are only tried, so any sleeping lock may be held. May sleep.
 */
u64 filecache_shrink(struct quire_cpu *cpu, u64 nr);

/* -------------------------------------------------------------------------------- between the sources of files */

/* file.c: another reference unless the last is gone. q->file_lock held. */
bool file_try_get(struct quire_file *file);

/* The folio of page @index, LOCKED, referenced, in the cache and uptodate; NULL when the page is not cached. May sleep. */
struct folio *file_lock_folio(struct quire_cpu *cpu, struct quire_file *file, u64 index);

static inline void file_unlock_put(struct quire_cpu *cpu, struct folio *folio)
{
	folio_unlock(cpu, folio);
	folio_put(cpu, folio);
}

/* A folio wanted for page @index that lies inside pages [low, high). */
struct folio_want {
	u64 index, low, high;
	unsigned gfp; /* GFP_ZERO: zeroed. GFP_NORETRY: only read-ahead, no effort to find memory */
};
/*
 * Allocates a folio for a page that is not cached, of the largest order that the file's policy, the range and the cache's
 * other folios allow, and adds it: LOCKED, referenced, uptodate only if it is a zeroed one of shmem. 0; -EEXIST: somebody
 * else has; -ENOMEM. invalidate_lock held for read (or inode_lock for write). May sleep.
 */
int file_add_folio(struct quire_cpu *cpu, struct quire_file *file, const struct folio_want *want, struct folio **out);

/*
 * shmem.c, hostfile.c: makes page @index of the file, which is not cached, and returns it as file_fault_folio does; *out NULL
 * and 0 when somebody else was faster. -EFAULT beyond the end, -EIO, -ENOMEM. Takes invalidate_lock for read.
 */
int shmem_add_page(struct quire_cpu *cpu, struct quire_file *file, u64 index, struct folio **out);
int hostfile_add_page(struct quire_cpu *cpu, struct quire_file *file, u64 index, struct folio **out);
/* A locked folio that fallocate reserved is used for the first time: zeroes it and makes it uptodate. */
void shmem_clear_folio(struct quire_cpu *cpu, struct folio *folio);
/*
 * Reserves folios for the pages [first, end), which may lie beyond the end of the file. -ENOMEM, -ENOSPC (more than there is
 * in all): what was not there before is not there afterwards. inode_lock for write.
 */
int shmem_allocate(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 end);

/*
 * truncate.c: takes the bytes [start, end) out of the cache: whole folios are removed and unmapped, parts of folios zeroed.
 * inode_lock and invalidate_lock for write, or the last reference.
 */
void truncate_range(struct quire_cpu *cpu, struct quire_file *file, u64 start, u64 end);
/*
 * The size of a host file is about to rise from its present one, up to @pos at least: what a mapping has stored beyond the
 * end, in the last page, must not come to light. As ext4 does; tmpfs does not. inode_lock for write.
 */
void file_zero_beyond_end(struct quire_cpu *cpu, struct quire_file *file, u64 pos);

/* writeback.c: lets the caller, who has dirtied pages of @file, write some back when too much is dirty. No folio lock held. */
void balance_dirty(struct quire_cpu *cpu, struct quire_file *file);

#endif
