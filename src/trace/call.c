/* SPDX-License-Identifier: MIT */
/*
 * System calls of a recording: made again with the addresses that they returned, compared with their results, and told to
 * the model.
 */
#define _GNU_SOURCE
#include "trace/perform.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Flags that mean something here. Large pages, 32-bit addresses and the like only chose an address or a page size. */
#define MMAP_FLAGS                                                                                                     \
	(MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE |        \
	 MAP_NONBLOCK | MAP_STACK)

#define MINCORE_PAGES 65536u /* asked for at once */

/* ---------------------------------------------------------------------------------------------------- the calls */

/*
 * The file that a mapping names. Made in exclusive work before any record that names it, so it is there without a
 * lock.
 */
static struct quire_file *file_of(const struct replay_cpu *cpu, const struct qrec_event *event)
{
	return event->file ? cpu->replay->files[event->file - 1] : NULL;
}

/*
 * A mapping at the address that it had. It must be free, unless the program itself asked for this address: anything else
 * would be a difference that nobody notices.
 */
static int64_t make_mapping(struct replay_cpu *cpu, const struct qrec_event *event, uint64_t addr, bool replace)
{
	int flags = (int)event->flags & MMAP_FLAGS;

	if (!event->file)
		flags |= MAP_ANONYMOUS;
	if ((event->flags & MAP_TYPE) == MAP_SHARED_VALIDATE)
		flags = (flags & ~MAP_PRIVATE) | MAP_SHARED;
	flags |= replace ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	return quire_mmap(cpu->cpu, addr, event->len, (int)event->prot, flags, file_of(cpu, event), event->offset);
}

/*
 * The recorded result decides: a mapping that stayed must be able to stay here, too, one that moved moves to the same
 * address. The address space is laid out alike, so whatever was free then is free now.
 */
static int64_t make_mremap(struct replay_cpu *cpu, const struct qrec_event *event)
{
	int flags = 0;

	/* In place or to exactly where it went. */
	if ((uint64_t)event->result != event->addr)
		flags = MREMAP_MAYMOVE | MREMAP_FIXED | ((int)event->flags & MREMAP_DONTUNMAP);
	return quire_mremap(cpu->cpu, event->addr, event->len, event->new_len, flags, (uint64_t)event->result);
}

/* Which pages are resident depends on what else the host does; that the call succeeds is all that can be compared. */
static int64_t make_mincore(struct replay_cpu *cpu, const struct qrec_event *event)
{
	static const uint64_t most = (uint64_t)MINCORE_PAGES << QREC_PAGE_SHIFT;
	unsigned char *vec = malloc(MINCORE_PAGES);
	int err = vec ? 0 : -ENOMEM;

	for (uint64_t at = 0; at < event->len && !err; at += most)
		err = quire_mincore(cpu->cpu, event->addr + at, event->len - at < most ? event->len - at : most, vec);
	free(vec);
	return err;
}

/*
 * One call, on this CPU, in the address space that it runs. What is not named here was turned into something else by
 * the recorder, or has no effect that could be repeated.
 */
static int64_t make_call(struct replay_cpu *cpu, const struct qrec_event *event)
{
	switch (event->op) {
	case QREC_IMAGE:
		return make_mapping(cpu, event, event->addr, false);
	case QREC_MMAP:
		return make_mapping(cpu, event, (uint64_t)event->result, event->flags & MAP_FIXED);
	case QREC_MUNMAP:
		return quire_munmap(cpu->cpu, event->addr, event->len);
	case QREC_MPROTECT:
		return quire_mprotect(cpu->cpu, event->addr, event->len, (int)event->prot);
	case QREC_MREMAP:
		return make_mremap(cpu, event);
	case QREC_BRK:
		return (int64_t)quire_brk(cpu->cpu, event->addr);
	case QREC_MADVISE:
		return quire_madvise(cpu->cpu, event->addr, event->len, (int)event->flags);
	case QREC_MLOCK:
		return quire_mlock2(cpu->cpu, event->addr, event->len, (int)event->flags);
	case QREC_MUNLOCK:
		return quire_munlock(cpu->cpu, event->addr, event->len);
	case QREC_MLOCKALL:
		return quire_mlockall(cpu->cpu, (int)event->flags);
	case QREC_MUNLOCKALL:
		return quire_munlockall(cpu->cpu);
	case QREC_MSYNC:
		return quire_msync(cpu->cpu, event->addr, event->len, (int)event->flags);
	default:
		return make_mincore(cpu, event);
	}
}

/* Under which name the time of a call is shown: those that are rare are shown together. */
static enum replay_timed timed_as(enum qrec_op op)
{
	switch (op) {
	case QREC_IMAGE:
	case QREC_MMAP:
		return TIMED_MMAP;
	case QREC_MUNMAP:
		return TIMED_MUNMAP;
	case QREC_MPROTECT:
		return TIMED_MPROTECT;
	case QREC_MREMAP:
		return TIMED_MREMAP;
	case QREC_BRK:
		return TIMED_BRK;
	case QREC_MADVISE:
		return TIMED_MADVISE;
	case QREC_MSYNC:
		return TIMED_MSYNC;
	case QREC_MINCORE:
		return TIMED_MINCORE;
	default:
		return TIMED_MLOCK;
	}
}

/* -------------------------------------------------------------------------------------------------- comparing */

/* Advice that changes nothing a program could read: a memory manager may not know it. */
static bool is_hint(const struct qrec_event *event)
{
	switch (event->flags) {
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_REMOVE:
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
	case 102: /* MADV_GUARD_INSTALL and _REMOVE, which the headers of Debian 12 do not have */
	case 103:
		return false;
	default:
		return event->op == QREC_MADVISE;
	}
}

/* True if the result is the recorded one; says so otherwise. */
static bool compare(struct replay_cpu *cpu, const struct work_item *item, int64_t result)
{
	const struct qrec_event *event = &item->event;
	int64_t expected = event->op == QREC_IMAGE ? (int64_t)event->addr : event->result;
	const char *name = qrec_layouts[event->op].name;

	if (result == expected)
		return true;
	if (result == -EINVAL && is_hint(event)) {
		__atomic_fetch_add(&cpu->replay->nr_unsupported_advice, 1, __ATOMIC_RELAXED);
		return true;
	}
	if (result == -ENOMEM)
		replay_fail_memory(cpu->replay, &item->place, name);
	else
		replay_fail(cpu->replay, &item->place,
			    "%s(%#" PRIx64 ", %#" PRIx64 ", ...) returned %#" PRIx64 " (%" PRId64
			    ") instead of %#" PRIx64,
			    name, event->addr, event->len, (uint64_t)result, result, (uint64_t)expected);
	return false;
}

/* Calls that are not made: those that failed, and a break that was refused, which must not succeed here. */
static bool is_left_out(const struct qrec_event *event)
{
	if (event->op == QREC_IMAGE)
		return false;
	return event->result < 0 || (event->op == QREC_BRK && event->addr != (uint64_t)event->result);
}

void perform_call(struct replay_cpu *cpu, const struct work_item *item)
{
	const struct qrec_event *event = &item->event;
	uint64_t begin;
	int64_t result;

	if (is_left_out(event))
		return;
	perform_run(cpu, item->process->mm);
	begin = timing_now();
	result = make_call(cpu, event);
	perform_timed(cpu, timed_as(event->op), begin);
	if (compare(cpu, item, result) && !model_apply(item->process->model, event))
		replay_fail(cpu->replay, &item->place, "the host has no memory for the model");
}
