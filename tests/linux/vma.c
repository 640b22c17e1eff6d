/* SPDX-License-Identifier: MIT */
/* Reading maps and smaps. */
#define _GNU_SOURCE
#include "vma.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"

/* "00400000-00404000 rw-p 00000000 00:00 0 name". */
static bool parse_header(const char *line, struct vma *v)
{
	unsigned major, minor;
	int n = sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &v->start, &v->end, v->perms,
		       &v->offset, &major, &minor, &v->inode);

	return n == 7;
}

static bool is_field(const char *line, const char *name, uint64_t *kb)
{
	size_t len = strlen(name);

	if (strncmp(line, name, len) != 0)
		return false;
	*kb = strtoull(line + len, NULL, 10);
	return true;
}

static void copy_flags(struct vma *v, const char *text)
{
	size_t len = strcspn(text, "\n");

	while (len && text[len - 1] == ' ')
		len--;
	snprintf(v->flags, sizeof(v->flags), "%.*s", (int)len, text);
}

/* A line of smaps below the header: "Name:  number kB" or "VmFlags: rd wr". */
static bool parse_detail(const char *line, struct vma *v)
{
	const char *colon = strpbrk(line, ":\n");

	if (!isupper((unsigned char)line[0]) || !colon || *colon != ':')
		return false;
	if (strncmp(line, "VmFlags: ", 9) == 0) {
		copy_flags(v, line + 9);
		return true;
	}
	(void)(is_field(line, "Rss:", &v->rss) || is_field(line, "Anonymous:", &v->anon) ||
	       is_field(line, "Locked:", &v->locked));
	return true;
}

static bool is_tested(const struct vma *v)
{
	return v->end > CHILD_END && v->start < TASK_SIZE;
}

int vma_list_parse(const char *text, struct vma_list *list, const char **bad)
{
	struct vma ignored, *last = NULL;

	list->nr = 0;
	for (; *text; text += strcspn(text, "\n"), text += *text == '\n') {
		struct vma v = { 0 };

		*bad = text;
		if (last && parse_detail(text, last))
			continue;
		if (!parse_header(text, &v) || list->nr == MAX_VMAS)
			return -EINVAL;
		last = is_tested(&v) ? &list->vma[list->nr++] : &ignored;
		*last = v;
	}
	return 0;
}

const struct vma *vma_list_find(const struct vma_list *list, uint64_t addr)
{
	for (size_t i = 0; i < list->nr; i++)
		if (addr >= list->vma[i].start && addr < list->vma[i].end)
			return &list->vma[i];
	return NULL;
}
