/* SPDX-License-Identifier: MIT */
/* The list of VMAs as read from maps or smaps; both executors write Linux's format. */
#ifndef TESTS_LINUX_VMA_H
#define TESTS_LINUX_VMA_H

#include "executor.h"

#define MAX_VMAS 1024

struct vma {
	uint64_t start, end, offset, inode;
	char perms[5];
	char flags[96];		    /* VmFlags, when read from smaps */
	uint64_t rss, anon, locked; /* kB, when read from smaps */
};

struct vma_list {
	size_t nr;
	struct vma vma[MAX_VMAS];
};

/*
 * Reads maps or smaps. VMAs of the harness (below CHILD_END) and of the kernel are left out. 0, or -EINVAL with @bad set
 * to the line that is not in Linux's format.
 */
int vma_list_parse(const char *text, struct vma_list *list, const char **bad);

/* The VMA that contains @addr, or NULL. */
const struct vma *vma_list_find(const struct vma_list *list, uint64_t addr);

#endif
