/* SPDX-License-Identifier: MIT */
/*
 * The address space that a program starts with. Valgrind loads the program and its dynamic linker itself, without system
 * calls that could be recorded, into its own address space; /proc/PID/maps then shows both. This file tells them apart.
 *
 * Valgrind's address space, on x86-64: the program and everything that it maps from low addresses upward, below 64 GiB;
 * the tool itself at 0x58000000; valgrind's own memory from 64 GiB upward; the program's stack ends near 128 GiB. What
 * the kernel gave the tool (its stack, vdso) is above all that.
 */
#define _GNU_SOURCE /* MAP_GROWSDOWN and friends */
#include "trace/traced.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define OWN_MEMORY 0x1000000000u /* valgrind's, from here on */
#define TOP 0x2000000000u	 /* nothing of the program is above */

/* One line of /proc/PID/maps. */
struct mapping {
	uint64_t start, end, offset;
	char perms[5];
	dev_t device;
	ino_t inode;
	char path[PATH_MAX];
};

/* address range, permissions, offset, device, inode, and the path, which may contain blanks and be missing. */
static bool parse_mapping(const char *line, struct mapping *mapping)
{
	unsigned major_, minor_;
	unsigned long inode;
	int at = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %lu %n", &mapping->start, &mapping->end,
		   mapping->perms, &mapping->offset, &major_, &minor_, &inode, &at) < 7)
		return false;
	mapping->device = makedev(major_, minor_);
	mapping->inode = inode;
	snprintf(mapping->path, sizeof(mapping->path), "%s", at ? line + at : "");
	mapping->path[strcspn(mapping->path, "\n")] = '\0';
	return true;
}

/* As the loader mapped it: what relocation makes read-only later comes as mprotect. */
static uint32_t prot_of(const struct mapping *mapping)
{
	return (mapping->perms[0] == 'r' ? PROT_READ : 0u) | (mapping->perms[1] == 'w' ? PROT_WRITE : 0u) |
	       (mapping->perms[2] == 'x' ? PROT_EXEC : 0u);
}

/* The tool's program and the zeroed memory that follows it. */
static bool is_tool(struct traced *traced, const struct mapping *mapping, const char *tool)
{
	if (!strcmp(mapping->path, tool)) {
		if (!traced->own_start)
			traced->own_start = mapping->start;
		traced->own_end = mapping->end;
		return true;
	}
	if (mapping->inode || mapping->start != traced->own_end)
		return false;
	traced->own_end = mapping->end;
	return true;
}

/*
 * Valgrind gives the heap one page before the program asks for any. It is the only memory of a program that may be
 * written and executed; brk will say where the heap begins.
 */
static bool is_heap_stub(const struct mapping *mapping)
{
	return !mapping->inode && !strcmp(mapping->perms, "rwxp") && mapping->end - mapping->start == 4096;
}

/* As one record, with MAP_FIXED: at the start of a program everything stands where it stands. */
static void emit_mapping(struct traced *traced, const struct mapping *mapping, uint32_t flags)
{
	uint32_t file = HOSTFILE_NONE;
	struct qrec_event event = { .op = QREC_IMAGE, .addr = mapping->start, .len = mapping->end - mapping->start };
	struct range range = { .start = mapping->start, .end = mapping->end };

	if (mapping->inode)
		file = hostfiles_by_inode(&traced->recorder->files, mapping->device, mapping->inode, mapping->path);
	event.file = traced_file(traced, file);
	event.prot = prot_of(mapping);
	event.flags = flags | MAP_FIXED | (mapping->perms[3] == 's' ? (unsigned)MAP_SHARED : (unsigned)MAP_PRIVATE) |
		      (event.file ? 0u : (unsigned)MAP_ANONYMOUS);
	event.offset = event.file ? mapping->offset : 0;
	traced_emit(traced, &event);
	range.file = event.file ? file + 1 : 0;
	range.offset = event.offset;
	if (!ranges_insert(&traced->ranges, &range))
		traced->recorder->err = -ENOMEM;
}

/* Reads the list and records what is the program's. The stack is the highest mapping below the top. */
static void record_mappings(struct traced *traced, FILE *maps, const char *tool)
{
	struct mapping mapping, stack = { 0 };
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, maps) > 0) {
		if (!parse_mapping(line, &mapping) || mapping.start >= TOP)
			continue;
		if (mapping.start >= OWN_MEMORY)
			stack = mapping;
		else if (!is_tool(traced, &mapping, tool) && !is_heap_stub(&mapping))
			emit_mapping(traced, &mapping, 0);
	}
	free(line);
	if (stack.end)
		emit_mapping(traced, &stack, MAP_GROWSDOWN | MAP_STACK);
}

void traced_record_image(struct traced *traced)
{
	char name[64], tool[PATH_MAX] = "";
	FILE *maps;

	traced->own_start = traced->own_end = 0;
	snprintf(name, sizeof(name), "/proc/%d/exe", (int)traced->pid);
	if (readlink(name, tool, sizeof(tool) - 1) < 0)
		tool[0] = '\0';
	snprintf(name, sizeof(name), "/proc/%d/maps", (int)traced->pid);
	maps = fopen(name, "re");
	if (!maps) {
		traced->recorder->err = -errno;
		return;
	}
	record_mappings(traced, maps, tool);
	fclose(maps);
}
