/* SPDX-License-Identifier: MIT */
/* What the views share. */
#ifndef QUIRE_MM_SHOW_H
#define QUIRE_MM_SHOW_H

#include "mm/file.h"
#include "mm/text.h"

/* The longest line of maps: its numbers, which may overflow their columns by a little, and a name of which every byte is
 * escaped. */
#define MAPS_LINE_MAX (112u + 4 * FILE_NAME_MAX)

/* Adds the line of @vma as in /proc/pid/maps, newline included. mmap lock held (read). */
void show_map_line(struct text *text, const struct vma *vma);

/* A gauge for showing: CPUs count up and down apart, so a racy sum may be a little below zero. */
static inline u64 quire_gauge(struct quire *q, enum vm_event event)
{
	u64 sum = quire_event_sum(q, event);

	return (s64)sum < 0 ? 0 : sum;
}

#endif
