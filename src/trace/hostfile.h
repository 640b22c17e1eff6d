/* SPDX-License-Identifier: MIT */
/*
 * Which file a mapping shows. lackey prints a file descriptor; the recorder follows what descriptors stand for, well enough
 * to give each mapped file one identity (device and inode where there is one), a name and a size.
 */
#ifndef QUIRE_TRACE_HOSTFILE_H
#define QUIRE_TRACE_HOSTFILE_H

#include "trace/qrec.h"

#include <sys/types.h>

#define HOSTFILE_NONE 0xffffffffu
#define HOSTFILE_ZERO 0xfffffffeu /* /dev/zero: a mapping of it is anonymous */

struct hostfile {
	dev_t device; /* 0 with inode 0: not on disk */
	ino_t inode;
	char *path; /* where it was found, absolute; or a made-up name */
	enum qrec_file_kind kind;
	uint64_t size;	   /* as far as we know */
	uint32_t recorded; /* its id in the recording, HOSTFILE_NONE before it is mapped */
	uint64_t shm_id;   /* of a System V segment, plus one; 0: is none */
};

/* All files seen so far, of all processes; an index into it is what descriptors hold. Empty when all zero. */
struct hostfiles {
	struct hostfile *list;
	uint32_t nr, room, nr_recorded;
};

void hostfiles_destroy(struct hostfiles *files);

/*
 * The file that @path, as process @pid sees it, names: an index, HOSTFILE_ZERO, or HOSTFILE_NONE (no such file, not
 * something that can be mapped, or no memory). @dirfd is where a relative path begins, AT_FDCWD for the working directory.
 */
uint32_t hostfiles_by_path(struct hostfiles *files, pid_t pid, int dirfd, const char *path);

/* The file behind an open descriptor of @pid, which may have closed it by now: HOSTFILE_NONE. */
uint32_t hostfiles_by_descriptor(struct hostfiles *files, pid_t pid, int fd);

/* A file as /proc/PID/maps names it. */
uint32_t hostfiles_by_inode(struct hostfiles *files, dev_t device, ino_t inode, const char *path);

/* A new file that exists in memory only. HOSTFILE_NONE: no memory. */
uint32_t hostfiles_add_memory(struct hostfiles *files, const char *name, uint64_t size);

/* The segment that shmget returned as @id, or HOSTFILE_NONE. */
uint32_t hostfiles_by_segment(const struct hostfiles *files, uint64_t id);

/* Asks the host for the size of a file on disk again. True if it has grown. Shrinking is known from system calls only. */
bool hostfile_has_grown(struct hostfile *file);

/* What the descriptors of one process stand for. */
struct descriptors {
	uint32_t *file; /* index into hostfiles, or HOSTFILE_NONE */
	uint32_t room;
};

bool descriptors_copy(struct descriptors *copy, const struct descriptors *descriptors);
uint32_t descriptors_get(const struct descriptors *descriptors, uint64_t fd);
/* Nonsensical descriptors, and lack of memory, are ignored: the file is then found by other means or has no name. */
void descriptors_set(struct descriptors *descriptors, uint64_t fd, uint32_t file);

#endif
