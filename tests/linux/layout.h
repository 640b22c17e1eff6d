/* SPDX-License-Identifier: MIT */
/*
 * Where things stand in a test process. Nothing is left in it but the child's code and its mailboxes, both at the very
 * bottom. Where the kernel begins to place mappings above the high window's end (without randomisation it begins just
 * there), a PROT_NONE mapping fills what is between. The other executor reproduces exactly this picture.
 */
#ifndef TESTS_LINUX_LAYOUT_H
#define TESTS_LINUX_LAYOUT_H

#include "op.h"

#define CHILD_TEXT 0x20000ul	  /* the child's code */
#define CHILD_TEXT_BYTES 0x2000ul /* at most */
#define SLOTS_ADDR 0x100000ul	  /* mailboxes, one for each process */
#define SLOT_BYTES 0x20000ul
#define NR_SLOTS (MAX_PROCS + 1) /* slot 0 is the ancestor that is forked for each sequence */
#define SLOTS_BYTES (NR_SLOTS * SLOT_BYTES)
#define CHILD_END 0x200000ul /* nothing of the child lies above; nothing that is tested below */

/* The low window holds the heap, the high one ends where Linux begins to place mappings. Both cross PMD boundaries. */
#define WINDOW_PAGES 1100ul
#define LOW_START 0x380000ul
#define LOW_END (LOW_START + WINDOW_PAGES * PAGE)
#define BRK_START 0x3c0000ul
#define HIGH_END 0x7ffff7fff000ul
#define HIGH_START (HIGH_END - WINDOW_PAGES * PAGE)

/* What the stack may grow to in every sequence, unless it sets another limit. */
#define STACK_LIMIT (8ul << 20)

#define TASK_SIZE 0x7ffffffff000ul

#endif
