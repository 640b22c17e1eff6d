/* SPDX-License-Identifier: MIT */
/* Files that can be mapped: shmem (swap-backed, no store behind) and host files (read and written through the machine). */
#ifndef QUIRE_MM_FILE_H
#define QUIRE_MM_FILE_H

#include "mm/instance.h"
#include "mm/pagecache.h"

#define FILE_NAME_MAX 64u

/* Legend: S mapping.invalidate_lock for write to change, a to read; c constant. */
struct quire_file {
	struct quire *q;	       /* c */
	struct list_head file_list;    /* q->file_lock */
	u32 refcount;		       /* a */
	bool shmem;		       /* c */
	bool writable;		       /* c */
	u64 id;			       /* c: shown as inode */
	u64 size;		       /* S: bytes. Only pages below round_up(size) are in the cache, but for a fault or
					* read that is about to find out under the folio lock (rule: check size after lock) */
	struct rwsem inode_lock;       /* i_rwsem: write for write(), truncate, fallocate; outermost, before mmap_lock */
	struct machine_file *backing;  /* c: NULL for shmem */
	s32 writeback_error;	       /* a: errno of a failed write, reported once by fsync and msync */
	char name[FILE_NAME_MAX];      /* q->file_lock */
	struct address_space mapping;
};

static inline u64 file_size(const struct quire_file *file)
{
	return __atomic_load_n(&file->size, __ATOMIC_ACQUIRE);
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

/* Starts or does writeback of [first, last] (pages); _wait also waits and reports errors. Host files; 0 for shmem. */
int file_writeback_range(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last);
/* madvise(MADV_WILLNEED): reads pages in. */
void file_readahead(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last);
/* Is page @index in the cache and uptodate? For mincore. */
bool file_page_resident(struct quire_cpu *cpu, struct quire_file *file, u64 index);
/* fallocate(PUNCH_HOLE|KEEP_SIZE) in bytes, as MADV_REMOVE needs it. Takes inode_lock. No mmap lock held. */
int file_punch(struct quire_cpu *cpu, struct quire_file *file, u64 off, u64 len);

#endif
