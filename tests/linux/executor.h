/* SPDX-License-Identifier: MIT */
/*
 * What the tester needs from something that can execute operations: quire, or the running kernel. Two executors get the
 * same operations and must show the same in every view below. All functions return 0 or the wanted number, or a negative
 * errno where the view is not to be had; -ENXIO when the process does not live.
 */
#ifndef TESTS_LINUX_EXECUTOR_H
#define TESTS_LINUX_EXECUTOR_H

#include "op.h"

/* What an operation came to. */
struct outcome {
	bool skipped; /* the process, or the one it names, does not live: nothing was done */
	int64_t ret;  /* result, or a negative errno; -EFAULT when a signal came */
	int signo, code;
	uint64_t fault_addr;
	uint32_t data_len; /* bytes that were read */
	uint8_t data[MAX_DATA];
};

/* Pages of one process, without what the harness itself has in it. */
struct usage {
	uint64_t total_vm, locked_vm, data_vm, stack_vm;
	uint64_t rss_anon, rss_file, rss_shmem;
};

/* A growing text. */
struct text {
	char *data;
	size_t len, size;
};

struct executor;

struct executor_ops {
	const char *name;
	/* Starts a sequence: one empty process (0), empty files. */
	int (*begin)(struct executor *x);
	/* Ends it: every process gone. Returns the number of complaints the executor has about itself, told to @say. */
	int (*end)(struct executor *x, struct text *say);
	int (*apply)(struct executor *x, const struct op *op, struct outcome *out);
	bool (*alive)(struct executor *x, unsigned proc);
	int (*maps)(struct executor *x, unsigned proc, struct text *out);
	int (*smaps)(struct executor *x, unsigned proc, struct text *out);
	/* @nr entries of pagemap from the page of @addr. */
	int (*pagemap)(struct executor *x, unsigned proc, uint64_t addr, size_t nr, uint64_t *out);
	/* Reads memory as process_vm_readv does: bytes read. */
	int64_t (*peek)(struct executor *x, unsigned proc, uint64_t addr, void *buf, size_t len);
	int (*mincore)(struct executor *x, unsigned proc, uint64_t addr, size_t nr, uint8_t *vec);
	int (*usage)(struct executor *x, unsigned proc, struct usage *out);
	/* Size and contents of a file as a reader sees them, and its number in maps. */
	int64_t (*file_size)(struct executor *x, unsigned file);
	int64_t (*file_read)(struct executor *x, unsigned file, uint64_t off, void *buf, size_t len);
	uint64_t (*file_inode)(struct executor *x, unsigned file);
	/* The writable host file as the file system has it, past any cache of the executor's own: bytes read from 0. */
	int64_t (*host_read)(struct executor *x, void *buf, size_t len);
	/* Gives up everything. */
	void (*destroy)(struct executor *x);
};

struct executor {
	const struct executor_ops *ops;
	const char *label;
};

/*
 * The running kernel. -1 with a message on stderr when the processes cannot be set up; @dir: where its host files are
 * made. The caller must not use CHILD_SLOT_FD.
 */
struct executor *linux_executor_create(const char *label, const char *dir);

/* sabotage.c: the kernel with one bug, to test the tester. */
struct executor *saboteur_create(const char *dir);

struct quire_options {
	unsigned anon_orders, shmem_orders, file_orders; /* QUIRE_ORDERS_* */
	uint64_t memory;
	uint64_t mmap_base;   /* where the kernel begins to place mappings */
	uint64_t memlock_max; /* RLIMIT_MEMLOCK can be raised to this (unlimited when the tester is root) */
};
struct executor *quire_executor_create(const struct quire_options *options, const char *dir);

/* Where the kernel's processes place the first mapping (its end), which the other executor must imitate. */
uint64_t linux_mmap_base(struct executor *x);
/* The hard limit for locked memory that its processes have. */
uint64_t linux_memlock_max(struct executor *x);

/* text.c */
int text_append(struct text *t, const char *data, size_t len);
int text_printf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_free(struct text *t);

/* hostfile.c: an unlinked file in @dir; the descriptor, or -1 with a message. */
int host_file_create(const char *dir);
/* Fills the file with the contents that the read-only file has in every sequence. */
int host_file_fill_readonly(int fd);

#endif
