/* SPDX-License-Identifier: MIT */
/*
 * quire: Linux's memory manager as a library. The public interface.
 *
 * A `struct quire` is one machine: memory, CPUs, caches. Two instances never touch each other. All work is done *by a
 * CPU*: a thread takes a CPU with quire_cpu_enter(), acts through it, and gives it back with quire_cpu_leave(). A CPU
 * has exactly one owner thread at a time, so a thread blocked in a call blocks its CPU, as on real hardware without a
 * scheduler. Address-space calls act on the address space that the CPU runs (quire_cpu_run), as system calls act on
 * `current`.
 *
 * Errors are Linux's: 0 or a positive result on success, a negative errno value on failure. Constants (PROT_*, MAP_*,
 * MADV_*, MREMAP_*, MS_*, MCL_*, RLIMIT_*, FALLOC_FL_*) have the numbers of Linux on x86-64, as in <sys/mman.h>. Unless
 * a comment says otherwise a call may sleep, and undoes everything when it fails with -ENOMEM.
 */
#ifndef QUIRE_QUIRE_H
#define QUIRE_QUIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QUIRE_API __attribute__((visibility("default")))
#else
#define QUIRE_API
#endif

struct quire;	   /* one machine */
struct quire_cpu;  /* one of its CPUs, with its TLB */
struct quire_mm;   /* an address space */
struct quire_file; /* something that can be mapped: shmem, or a host file */

#define QUIRE_PAGE_SIZE 4096u
#define QUIRE_MAX_CPUS 64u
#define QUIRE_MAX_NODES 8u

/* ------------------------------------------------------------------------------------------------ the machine */

/* Which folio orders a fault or a cache may allocate: bit n allows order n (4 KiB << n). Bit 0 is always implied. */
#define QUIRE_ORDERS_4K (1u << 0)
#define QUIRE_ORDERS_64K (1u << 4 | 1u << 0)
#define QUIRE_ORDERS_2M (1u << 9 | 1u << 0)
#define QUIRE_ORDERS_ALL ((1u << 10) - 1) /* 4K, every mTHP size, PMD */

struct quire_config {
	uint64_t memory;       /* bytes of managed memory; 4 MiB to 512 GiB, rounded down to 2 MiB */
	unsigned nr_cpus;      /* 1..QUIRE_MAX_CPUS */
	unsigned nr_nodes;     /* 1..QUIRE_MAX_NODES; memory is divided evenly. 0 means 1 */
	unsigned anon_orders;  /* QUIRE_ORDERS_* for anonymous memory; 0 means 4K only */
	unsigned shmem_orders; /* the same for shmem files */
	unsigned file_orders;  /* the same for the page cache of host files */
	bool poison;	       /* fill frames with a pattern when freed and check it when allocated (debugging) */
};

/* Creates a machine. -EINVAL: a field out of range; -ENOMEM: the host refuses the memory. */
QUIRE_API int quire_create(const struct quire_config *config, struct quire **out);

/* Destroys it. Every CPU must have been left, every address space and file put; returns -EBUSY otherwise. */
QUIRE_API int quire_destroy(struct quire *q);

/* Version of the library, for instance "0.1.0". */
QUIRE_API const char *quire_version(void);

/*
 * Takes CPU @id (0..nr_cpus-1) for the calling thread. -EBUSY: another thread has it; -EINVAL: no such CPU. A thread may
 * hold several CPUs of one or several machines, and use them one at a time.
 */
QUIRE_API int quire_cpu_enter(struct quire *q, unsigned id, struct quire_cpu **out);

/* Gives the CPU back; it stops running any address space and flushes its per-CPU caches to the shared pools. */
QUIRE_API void quire_cpu_leave(struct quire_cpu *cpu);

/*
 * Makes the CPU run @mm (NULL: none). While it runs it the CPU is a user of @mm, too: if everybody else has put it, it is torn
 * down when the CPU runs something else.
 */
QUIRE_API void quire_cpu_run(struct quire_cpu *cpu, struct quire_mm *mm);

/* Waits until all deferred frees (RCU callbacks, per-CPU batches of the calling CPU) are done. For tests and reports. */
QUIRE_API void quire_drain(struct quire_cpu *cpu);

/*
 * Checks every structure of the machine: reference counts against owners, mapcounts against entries, VMA trees, reverse
 * mappings, counters, free lists (docs/invariants.md lists them). Only valid while no other CPU is inside a call. Returns
 * the number of violations; each is passed to @report (may be NULL) as one line of text.
 */
QUIRE_API unsigned quire_validate(struct quire_cpu *cpu, void (*report)(void *arg, const char *line), void *arg);

/* --------------------------------------------------------------------------------------------- address spaces */

/* Where things stand in a new address space. Zero fields take Linux's defaults for x86-64 without randomisation. */
struct quire_layout {
	uint64_t mmap_base;	/* mappings are placed below this address, top down */
	uint64_t mmap_min_addr; /* lowest address that may be mapped; default 64 KiB */
	uint64_t start_brk;	/* start of the heap; 0: brk() fails until quire_mm_set_brk() */
};

/* Creates an empty address space with one user reference. -ENOMEM; -EINVAL: an impossible layout. */
QUIRE_API int quire_mm_create(struct quire_cpu *cpu, const struct quire_layout *layout, struct quire_mm **out);

/* One more user (a thread, say). The caller already holds a reference. Never sleeps. */
QUIRE_API void quire_mm_get(struct quire_mm *mm);

/* Drops a user reference; the last one, those of CPUs that run it included, tears the address space down (exit). */
QUIRE_API void quire_mm_put(struct quire_cpu *cpu, struct quire_mm *mm);

/* Places the heap at @start (page-aligned up), of size 0, as exec does. -EINVAL if a heap exists already. */
QUIRE_API int quire_mm_set_brk(struct quire_cpu *cpu, struct quire_mm *mm, uint64_t start);

/* Limits: resource is RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK or RLIMIT_MEMLOCK; @value in bytes, UINT64_MAX none. */
QUIRE_API int quire_mm_set_limit(struct quire_mm *mm, int resource, uint64_t value);

/* fork(): a copy-on-write copy of the running address space. -ENOMEM leaves the parent as it was. */
QUIRE_API int quire_fork(struct quire_cpu *cpu, struct quire_mm **child);

QUIRE_API int64_t quire_mmap(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int prot, int flags,
			     struct quire_file *file, uint64_t offset);
QUIRE_API int quire_munmap(struct quire_cpu *cpu, uint64_t addr, uint64_t len);
QUIRE_API int quire_mprotect(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int prot);
QUIRE_API int64_t quire_mremap(struct quire_cpu *cpu, uint64_t addr, uint64_t old_len, uint64_t new_len, int flags,
			       uint64_t new_addr);
/* The kernel's brk: returns the new break, or the current one when it could not be moved. */
QUIRE_API uint64_t quire_brk(struct quire_cpu *cpu, uint64_t brk);
QUIRE_API int quire_madvise(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int advice);
QUIRE_API int quire_mincore(struct quire_cpu *cpu, uint64_t addr, uint64_t len, unsigned char *vec);
QUIRE_API int quire_msync(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int flags);
QUIRE_API int quire_mlock(struct quire_cpu *cpu, uint64_t addr, uint64_t len);
QUIRE_API int quire_mlock2(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int flags);
QUIRE_API int quire_munlock(struct quire_cpu *cpu, uint64_t addr, uint64_t len);
QUIRE_API int quire_mlockall(struct quire_cpu *cpu, int flags);
QUIRE_API int quire_munlockall(struct quire_cpu *cpu);
QUIRE_API int quire_mseal(struct quire_cpu *cpu, uint64_t addr, uint64_t len, uint64_t flags);

/*
 * process_vm_readv/writev with one local and one remote range: copies between a buffer of the caller and @mm, which need
 * not be running anywhere. Returns the bytes copied, which may be fewer, or -EFAULT when not even the first.
 */
QUIRE_API int64_t quire_mm_read(struct quire_cpu *cpu, struct quire_mm *mm, uint64_t addr, void *buf, uint64_t len);
QUIRE_API int64_t quire_mm_write(struct quire_cpu *cpu, struct quire_mm *mm, uint64_t addr, const void *buf,
				 uint64_t len);

/* ------------------------------------------------------------------------- a program's own loads and stores */

/* Why an access failed: the signal a Linux process would have received. */
struct quire_fault {
	int signo; /* SIGSEGV (11) or SIGBUS (7); SIGKILL (9) when memory ran out */
	int code;  /* SEGV_MAPERR 1, SEGV_ACCERR 2, BUS_ADRERR 2; SI_KERNEL 128: no canonical address; 0 with SIGKILL */
	uint64_t addr; /* the faulting address, exact to the byte where the access began in that page */
};

/*
 * Loads or stores through the CPU's TLB and the page tables of the address space it runs, taking page faults as needed.
 * An access that crosses pages is done page by page in rising order, as a string instruction would. Returns 0, or -EFAULT
 * (signal: see quire_cpu_fault), or -ENOMEM (memory ran out; Linux would kill).
 */
QUIRE_API int quire_load(struct quire_cpu *cpu, uint64_t addr, void *buf, uint64_t len);
QUIRE_API int quire_store(struct quire_cpu *cpu, uint64_t addr, const void *buf, uint64_t len);
/* As a load, but of an instruction: needs PROT_EXEC. */
QUIRE_API int quire_fetch(struct quire_cpu *cpu, uint64_t addr, void *buf, uint64_t len);
/* Atomic compare-and-swap of an aligned 8-byte word; *old is the value found. */
QUIRE_API int quire_cmpxchg(struct quire_cpu *cpu, uint64_t addr, uint64_t *old, uint64_t new_value);

/* What the last failed access of this CPU ran into. */
QUIRE_API void quire_cpu_fault(const struct quire_cpu *cpu, struct quire_fault *out);

/* ------------------------------------------------------------------------------------------------------- files */

/* A shmem (memfd) file of @size bytes with one reference. -ENOMEM, -EINVAL (size above 2^63-1). */
QUIRE_API int quire_file_create_shmem(struct quire_cpu *cpu, uint64_t size, struct quire_file **out);

/*
 * A real file of the host, read and written back through the host's file descriptor @fd, which is duplicated. @writable:
 * shared writable mappings and quire_file_write are allowed (the descriptor must be open for writing: -EACCES).
 */
QUIRE_API int quire_file_open_host(struct quire_cpu *cpu, int fd, bool writable, struct quire_file **out);

QUIRE_API void quire_file_get(struct quire_file *file);
/* The last reference writes dirty pages back (host files) and frees the cache. */
QUIRE_API void quire_file_put(struct quire_cpu *cpu, struct quire_file *file);

QUIRE_API uint64_t quire_file_size(struct quire_file *file);
/* pread/pwrite through the page cache: bytes done (short at end of file), or -errno. */
QUIRE_API int64_t quire_file_read(struct quire_cpu *cpu, struct quire_file *file, uint64_t off, void *buf,
				  uint64_t len);
QUIRE_API int64_t quire_file_write(struct quire_cpu *cpu, struct quire_file *file, uint64_t off, const void *buf,
				   uint64_t len);
QUIRE_API int quire_file_truncate(struct quire_cpu *cpu, struct quire_file *file, uint64_t size);
/* fallocate with mode 0, KEEP_SIZE, or PUNCH_HOLE|KEEP_SIZE; others -EOPNOTSUPP. */
QUIRE_API int quire_file_fallocate(struct quire_cpu *cpu, struct quire_file *file, int mode, uint64_t off,
				   uint64_t len);
QUIRE_API int quire_file_fsync(struct quire_cpu *cpu, struct quire_file *file);
/* Name shown in maps, at most 63 bytes; the default is "/memfd:quire" or the host file's path. */
QUIRE_API int quire_file_set_name(struct quire_file *file, const char *name);
/* Identity of a file, unique in its machine: shown as inode in maps. */
QUIRE_API uint64_t quire_file_id(struct quire_file *file);

/* ------------------------------------------------------------------------------------------ counters and views */

struct quire_mm_stat { /* pages of 4 KiB */
	uint64_t rss_anon, rss_file, rss_shmem, swap_entries;
	uint64_t total_vm, locked_vm, stack_vm, data_vm, exec_vm;
	uint64_t pgtable_bytes;
	uint64_t map_count; /* VMAs */
};
QUIRE_API void quire_mm_stat(struct quire_cpu *cpu, struct quire_mm *mm, struct quire_mm_stat *out);

/* Counters of the whole machine since its creation, summed over CPUs; gauges are marked (g). */
struct quire_stat {
	uint64_t frames_total, frames_free;	/* (g) */
	uint64_t frames_table, frames_slab;	/* (g) page tables; descriptors and other small objects */
	uint64_t frames_meta;			/* (g) page descriptors and the machine itself */
	uint64_t folios[10];			/* folios allocated, by order */
	uint64_t fault_anon_zero, fault_anon;	/* zero page mapped; fresh folio mapped */
	uint64_t fault_file, fault_file_around; /* file faults; further entries mapped around them */
	uint64_t fault_cow_copy, fault_cow_reuse, fault_cow_file; /* copy of anon; reuse; copy of a file page */
	uint64_t fault_spurious, fault_retry;			  /* nothing left to do; started again */
	uint64_t fault_mmap_lock; /* took the mmap lock because the per-VMA lock did not do */
	uint64_t fault_segv, fault_bus, fault_oom;
	uint64_t fork_pages_shared, fork_pages_copied;
	uint64_t tlb_hit, tlb_miss, tlb_dirty_assist;	  /* software TLB; entries re-walked to set the dirty bit */
	uint64_t tlb_flush_local, tlb_shootdown, tlb_ipi; /* local flushes; shootdowns begun; CPUs interrupted */
	uint64_t pgalloc, pgfree;			  /* frames through the allocator */
	uint64_t file_read_pages, file_written_pages;
};
QUIRE_API void quire_stat(struct quire_cpu *cpu, struct quire_stat *out);

/*
 * Texts in Linux's own formats, written through @emit in pieces (not NUL-terminated). emit returns 0 to go on; anything
 * else stops and is returned. quire_show_pagemap emits the 8-byte entries of /proc/pid/pagemap for [start, end).
 */
typedef int (*quire_emit_fn)(void *arg, const char *data, size_t len);
QUIRE_API int quire_show_maps(struct quire_cpu *cpu, struct quire_mm *mm, quire_emit_fn emit, void *arg);
QUIRE_API int quire_show_smaps(struct quire_cpu *cpu, struct quire_mm *mm, quire_emit_fn emit, void *arg);
QUIRE_API int quire_show_pagemap(struct quire_cpu *cpu, struct quire_mm *mm, uint64_t start, uint64_t end,
				 quire_emit_fn emit, void *arg);
QUIRE_API int quire_show_vmstat(struct quire_cpu *cpu, quire_emit_fn emit, void *arg);
QUIRE_API int quire_show_meminfo(struct quire_cpu *cpu, quire_emit_fn emit, void *arg);

#ifdef __cplusplus
}
#endif
#endif
