/* SPDX-License-Identifier: MIT */
/*
 * Identities of the files that a recorded program maps. The program runs on while we read what it did a moment ago, so a
 * file may be gone by the time we look: then its path alone, or nothing, must do.
 */
#include "trace/hostfile.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MOST_DESCRIPTORS (1u << 20)

void hostfiles_destroy(struct hostfiles *files)
{
	for (uint32_t i = 0; i < files->nr; i++)
		free(files->list[i].path);
	free(files->list);
	*files = (struct hostfiles){ 0 };
}

/* Copies the path. Entries are never taken out: their index is their name in the rest of the recorder. */
static uint32_t add(struct hostfiles *files, const struct hostfile *file)
{
	if (files->nr == files->room) {
		uint32_t room = files->room ? 2 * files->room : 64;
		struct hostfile *list = reallocarray(files->list, room, sizeof(*list));

		if (!list)
			return HOSTFILE_NONE;
		files->list = list;
		files->room = room;
	}
	files->list[files->nr] = *file;
	files->list[files->nr].path = strdup(file->path);
	files->list[files->nr].recorded = HOSTFILE_NONE;
	return files->list[files->nr].path ? files->nr++ : HOSTFILE_NONE;
}

/* Linear: programs map tens of files, and look one up when it is opened. */
static uint32_t find_inode(const struct hostfiles *files, dev_t device, ino_t inode)
{
	for (uint32_t i = 0; i < files->nr; i++)
		if (files->list[i].inode == inode && files->list[i].device == device && inode)
			return i;
	return HOSTFILE_NONE;
}

/* The file that @stat describes; @path is a name for it. */
static uint32_t by_stat(struct hostfiles *files, const struct stat *stat, const char *path)
{
	uint32_t found;

	if (S_ISCHR(stat->st_mode) && stat->st_rdev == makedev(1, 5))
		return HOSTFILE_ZERO;
	if (!S_ISREG(stat->st_mode))
		return HOSTFILE_NONE;
	found = find_inode(files, stat->st_dev, stat->st_ino);
	if (found != HOSTFILE_NONE)
		return found;
	return add(files, &(struct hostfile){ .device = stat->st_dev,
					      .inode = stat->st_ino,
					      .path = (char *)path,
					      .kind = QREC_FILE_DISK,
					      .size = (uint64_t)stat->st_size });
}

/* Through /proc: the process may have another working directory, and another root, than we. */
uint32_t hostfiles_by_path(struct hostfiles *files, pid_t pid, int dirfd, const char *path)
{
	char base[64], whole[PATH_MAX + 64], real[PATH_MAX];
	struct stat stat_;

	if (dirfd == AT_FDCWD)
		snprintf(base, sizeof(base), "/proc/%d/cwd", (int)pid);
	else
		snprintf(base, sizeof(base), "/proc/%d/fd/%d", (int)pid, dirfd);
	if (path[0] == '/')
		snprintf(whole, sizeof(whole), "%.*s", PATH_MAX, path);
	else
		snprintf(whole, sizeof(whole), "%s/%.*s", base, PATH_MAX - 80, path);
	if (stat(whole, &stat_))
		return HOSTFILE_NONE;
	/* The name without links, as maps shows it. */
	return by_stat(files, &stat_, realpath(whole, real) ? real : path);
}

/* For descriptors that we did not see opened: inherited ones, or received through a socket. */
uint32_t hostfiles_by_descriptor(struct hostfiles *files, pid_t pid, int fd)
{
	char link[64], path[PATH_MAX];
	struct stat stat_;
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len <= 0 || stat(link, &stat_))
		return HOSTFILE_NONE;
	path[len] = '\0';
	return by_stat(files, &stat_, path);
}

/* maps has device and inode already, but no size. */
uint32_t hostfiles_by_inode(struct hostfiles *files, dev_t device, ino_t inode, const char *path)
{
	uint32_t found = find_inode(files, device, inode);
	struct stat stat_;

	if (found != HOSTFILE_NONE)
		return found;
	if (stat(path, &stat_) || stat_.st_ino != inode || !S_ISREG(stat_.st_mode))
		/* Not there any more: touches will show how long it is at least. */
		stat_ = (struct stat){ .st_dev = device, .st_ino = inode, .st_mode = S_IFREG };
	return by_stat(files, &stat_, path);
}

/* Each is a file of its own: there is nothing by which two could be the same. */
uint32_t hostfiles_add_memory(struct hostfiles *files, const char *name, uint64_t size)
{
	return add(files, &(struct hostfile){ .path = (char *)name, .kind = QREC_FILE_SHMEM, .size = size });
}

uint32_t hostfiles_by_segment(const struct hostfiles *files, uint64_t id)
{
	/* The newest first: ids are used again. */
	for (uint32_t i = files->nr; i-- > 0;)
		if (files->list[i].shm_id == id + 1)
			return i;
	return HOSTFILE_NONE;
}

/*
 * By its path: the descriptor is the program's. Another file may have taken its place by now, with another inode.
 */
bool hostfile_has_grown(struct hostfile *file)
{
	struct stat stat_;

	if (file->kind != QREC_FILE_DISK || stat(file->path, &stat_) || stat_.st_ino != file->inode ||
	    (uint64_t)stat_.st_size <= file->size)
		return false;
	file->size = (uint64_t)stat_.st_size;
	return true;
}

/* ------------------------------------------------------------------------------------------------- descriptors */

/* As fork does it: the same files under the same numbers, changing independently from then on. */
bool descriptors_copy(struct descriptors *copy, const struct descriptors *descriptors)
{
	*copy = (struct descriptors){ 0 };
	if (!descriptors->room)
		return true;
	copy->file = malloc(descriptors->room * sizeof(*copy->file));
	if (!copy->file)
		return false;
	memcpy(copy->file, descriptors->file, descriptors->room * sizeof(*copy->file));
	copy->room = descriptors->room;
	return true;
}

uint32_t descriptors_get(const struct descriptors *descriptors, uint64_t fd)
{
	return fd < descriptors->room ? descriptors->file[fd] : HOSTFILE_NONE;
}

/* Doubles until @fd fits; new places stand for nothing. */
static bool make_room(struct descriptors *descriptors, uint64_t fd)
{
	uint32_t room = descriptors->room ? descriptors->room : 64;
	uint32_t *file;

	while (room <= fd)
		room *= 2;
	file = reallocarray(descriptors->file, room, sizeof(*file));
	if (!file)
		return false;
	for (uint32_t i = descriptors->room; i < room; i++)
		file[i] = HOSTFILE_NONE;
	descriptors->file = file;
	descriptors->room = room;
	return true;
}

/* Also HOSTFILE_NONE, for what is no file, or is closed. */
void descriptors_set(struct descriptors *descriptors, uint64_t fd, uint32_t file)
{
	if (fd >= MOST_DESCRIPTORS || (fd >= descriptors->room && !make_room(descriptors, fd)))
		return;
	descriptors->file[fd] = file;
}
