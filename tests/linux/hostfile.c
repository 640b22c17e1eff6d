/* SPDX-License-Identifier: MIT */
/* Real files for the host-file part of the test. Each executor has its own, with the same contents. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor.h"

int host_file_create(const char *dir)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/quire-linux-diff-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "cannot create a file in %s: %s\n", dir, strerror(errno));
		return -1;
	}
	unlink(path);
	return fd;
}

/*
 * Written page by page, so that the kernel's page cache holds it in single pages: the residency of what is punched or
 * mapped around a fault is then defined page by page.
 */
int host_file_fill_readonly(int fd)
{
	uint8_t page[PAGE];

	if (ftruncate(fd, 0) < 0)
		return -errno;
	for (uint64_t off = 0; off < READONLY_SIZE; off += PAGE) {
		size_t len = READONLY_SIZE - off < PAGE ? READONLY_SIZE - off : PAGE;

		pattern_fill(0xf11e + off, page, len);
		if (pwrite(fd, page, len, (off_t)off) != (ssize_t)len)
			return -EIO;
	}
	return 0;
}
