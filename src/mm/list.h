/* SPDX-License-Identifier: MIT */
/* Intrusive doubly linked circular lists, in the shape that every kernel programmer expects. No locking of their own. */
#ifndef QUIRE_MM_LIST_H
#define QUIRE_MM_LIST_H

#include "machine/machine.h"

struct list_head {
	struct list_head *next, *prev;
};

static inline void INIT_LIST_HEAD(struct list_head *head)
{
	head->next = head;
	head->prev = head;
}

static inline bool list_empty(const struct list_head *head)
{
	return head->next == head;
}

static inline void list_insert(struct list_head *node, struct list_head *prev, struct list_head *next)
{
	next->prev = node;
	node->next = next;
	node->prev = prev;
	prev->next = node;
}

static inline void list_add(struct list_head *node, struct list_head *head)
{
	list_insert(node, head, head->next);
}

static inline void list_add_tail(struct list_head *node, struct list_head *head)
{
	list_insert(node, head->prev, head);
}

/* Leaves the node pointing to itself, so that deleting twice or testing it with list_empty is safe. */
static inline void list_del_init(struct list_head *node)
{
	node->next->prev = node->prev;
	node->prev->next = node->next;
	INIT_LIST_HEAD(node);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
/* The walks turn list heads into entries only where there is one: the head itself may be less aligned than entries are. */
#define list_for_each_entry(pos, head, member)                                                                         \
	for (struct list_head *pos##_at = (head)->next;                                                                \
	     pos##_at != (head) && ((pos) = list_entry(pos##_at, __typeof__(*(pos)), member), true);                   \
	     pos##_at = pos##_at->next)
/* The same; the body may take the entry out. @n is a second cursor of the caller's, for the walk's own use. */
#define list_for_each_entry_safe(pos, n, head, member)                                                                 \
	for (struct list_head *pos##_at = (head)->next, *pos##_next = pos##_at->next;                                  \
	     pos##_at != (head) && ((n) = (pos) = list_entry(pos##_at, __typeof__(*(pos)), member), (void)(n), true);  \
	     pos##_at = pos##_next, pos##_next = pos##_at->next)

#endif
