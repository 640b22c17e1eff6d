/* SPDX-License-Identifier: MIT */
/* Test processes of the running kernel: how they are made and how one talks to them. */
#ifndef TESTS_LINUX_PROCESS_H
#define TESTS_LINUX_PROCESS_H

#include <sys/types.h>

#include "executor.h"
#include "slot.h"

struct process {
	pid_t pid;						     /* 0: does not live */
	int pidfd, maps_fd, smaps_fd, pagemap_fd, status_fd, mem_fd; /* -1: not opened yet */
};

/* The ancestor and everything shared with its descendants. */
struct family {
	struct slot *slots;		 /* the tester's view of them */
	struct process member[NR_SLOTS]; /* 0 is the ancestor; process p of a sequence is member p + 1 */
	int fds[MAX_FILES];		 /* every file, open as the processes may use it; the same numbers in them */
	uint64_t mmap_base;
};

/* Starts the ancestor. fds must be filled in. 0, or -1 with a message on stderr. */
int family_create(struct family *f);
/* Ends every process of it. */
void family_destroy(struct family *f);

/* Has member @m do the request that the caller has written into its slot. 0, or -ESRCH when it died instead. */
int member_request(struct family *f, unsigned m, enum slot_request request);
/* A system call in member @m: its result. -ESRCH also when it died. */
int64_t member_syscall(struct family *f, unsigned m, long nr, const uint64_t arg[6]);
/* Member @m forks; the child becomes member @child. Its pid, or a negative errno. */
int64_t member_fork(struct family *f, unsigned m, unsigned child);
/* Ends the member and waits until its memory is gone. */
void member_end(struct family *f, unsigned m);

#endif
