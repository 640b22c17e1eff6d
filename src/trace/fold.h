/* SPDX-License-Identifier: MIT */
/*
 * Folding: which of a program's hundred million accesses are worth a record. A touch (thread, page, kind) is recorded when
 * it is not in the set of those already recorded. What makes it leave the set again decides what a recording preserves;
 * docs/recording.md lists it.
 */
#ifndef QUIRE_TRACE_FOLD_H
#define QUIRE_TRACE_FOLD_H

#include "trace/qrec.h"

struct fold_slot {
	uint64_t key; /* 0: never used */
	uint64_t epoch;
};

/* One per process. Empty when all zero. */
struct fold {
	struct fold_slot *slots;
	size_t room, used; /* a power of two; slots with a key, also forgotten ones */
	uint64_t epoch;	   /* slots of earlier epochs are not in the set */
	uint64_t last[3];  /* key that was seen last, of each kind; 0: none. Answers most accesses without a look-up */
	uint32_t nr_threads; /* highest thread that was seen, plus one */
};

void fold_destroy(struct fold *fold);

/* True if the touch is new: it is now in the set, and must be recorded. False also if there is no memory for the set. */
bool fold_touch(struct fold *fold, uint32_t thread, uint64_t page, enum qrec_op kind);

/* The pages [page, page + pages) leave the set, of all threads and kinds. */
void fold_forget(struct fold *fold, uint64_t page, uint64_t pages);

/* All pages leave the set. */
void fold_forget_all(struct fold *fold);

#endif
