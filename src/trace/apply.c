/* SPDX-License-Identifier: MIT */
/*
 * What a recorded call that succeeded means to the model. Used by the replay, and without a machine to find out how much
 * memory a recording needs.
 */
#define _GNU_SOURCE
#include "trace/model.h"

#include <sys/mman.h>

/* mremap says in its result where the mapping is now; everything else follows from old and new length. */
static bool apply_remap(struct model_mm *mm, const struct qrec_event *event)
{
	return model_remap(mm, event->addr, event->len, (uint64_t)event->result, event->new_len,
			   event->flags & MREMAP_DONTUNMAP);
}

bool model_apply(struct model_mm *mm, const struct qrec_event *event)
{
	switch (event->op) {
	case QREC_IMAGE:
	case QREC_MMAP:
		return model_map(mm, event->op == QREC_IMAGE ? event->addr : (uint64_t)event->result, event->len,
				 (uint32_t)event->prot, (uint32_t)event->flags, (uint32_t)event->file, event->offset);
	case QREC_MUNMAP:
		return model_unmap(mm, event->addr, event->len);
	case QREC_MPROTECT:
		return model_protect(mm, event->addr, event->len, (uint32_t)event->prot);
	case QREC_MREMAP:
		return apply_remap(mm, event);
	case QREC_BRK:
		return model_brk(mm, event->len, (uint64_t)event->result);
	case QREC_MADVISE:
		return model_advise(mm, event->addr, event->len, (int)event->flags);
	default:
		return true;
	}
}
