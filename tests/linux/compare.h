/* SPDX-License-Identifier: MIT */
/* Two executors side by side: doing operations on both and telling the first difference. */
#ifndef TESTS_LINUX_COMPARE_H
#define TESTS_LINUX_COMPARE_H

#include "executor.h"
#include "vma.h"

enum verdict_kind {
	VERDICT_SAME,
	VERDICT_RESULT,	   /* result, errno or signal of an operation */
	VERDICT_DATA,	   /* bytes it read */
	VERDICT_MAPS,	   /* the list of VMAs */
	VERDICT_FLAGS,	   /* their VmFlags */
	VERDICT_RESIDENCY, /* pagemap */
	VERDICT_CONTENT,   /* bytes of memory */
	VERDICT_MINCORE,
	VERDICT_USAGE,	   /* rss by kind, totals */
	VERDICT_FILE,	   /* size or bytes of a file */
	VERDICT_INVARIANT, /* the executor's own validation */
	VERDICT_CRASH,
	VERDICT_HANG,
	VERDICT_HARNESS, /* the tester itself failed */
	VERDICT_KINDS,
};

extern const char *const verdict_names[VERDICT_KINDS];

struct verdict {
	enum verdict_kind kind;
	uint32_t op_index; /* after which operation it showed */
	uint32_t op_kind;  /* what that was; OP_KINDS: at the end of the sequence */
	char sign[128];	   /* what differs without where: two differences with the same sign are taken for one */
	char text[4096];   /* what differs, for people */
};

/* How much is compared when. */
struct depth {
	unsigned every;	   /* everything after each so many operations; 0: only at the end */
	bool results_only; /* results and final contents only (large folios) */
};

#define MAX_INODES 1024

struct pair {
	struct executor *ref, *sub;
	struct depth depth;
	struct outcome ref_out, sub_out;
	struct vma_list view[MAX_PROCS]; /* the reference's VMAs, as of the last comparison */
	struct vma_list sub_view;
	uint64_t ref_inode[MAX_INODES], sub_inode[MAX_INODES]; /* which number stands for which */
	size_t nr_inodes;
	uint64_t file_size[MAX_FILES];	/* the reference's */
	uint64_t file_inode[MAX_FILES]; /* as the reference's maps show it */
	bool pinned;			/* memory was read by process_vm_readv: D-vm-readv */
	bool overpunched[MAX_FILES];	/* D-punch-first-page */
	bool tolerated[MAX_FILES];	/* residency of its mappings has differed in a way that is tolerated */
	bool finished;			/* the sequence is to end here: D-dontunmap-locked */
	struct verdict verdict;
};

/* Starts a sequence on both. False: see verdict. */
bool pair_begin(struct pair *p);
/* Does one operation on both and compares. @index: its place in the sequence. False at the first difference. */
bool pair_step(struct pair *p, const struct op *op, unsigned index);
/* Final comparison of everything, then the end of all processes. False at a difference. */
bool pair_end(struct pair *p);
/* Ends the sequence without comparing, after a difference. */
void pair_abandon(struct pair *p);

#endif
