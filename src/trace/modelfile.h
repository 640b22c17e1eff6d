/* SPDX-License-Identifier: MIT */
/*
 * Inside the model only: files, and flags of ranges.
 */
#ifndef QUIRE_TRACE_MODELFILE_H
#define QUIRE_TRACE_MODELFILE_H

#include "trace/model.h"

/* range->flags in the model. */
#define RANGE_SHARED 1u
#define RANGE_GROWSDOWN 2u
#define RANGE_DONTFORK 4u
#define RANGE_WIPEONFORK 8u

/* A file for anonymous shared memory. Returns its id + 1, 0: no memory. It lives as long as the model. */
uint32_t model_file_add_unnamed(struct model *model, uint64_t size);

/* The lock of a page of a file. */
pthread_mutex_t *model_page_lock(struct model *model, uint32_t id, uint64_t page);

/*
 * The content of a page of a file, made from its pattern if nothing was known of it so far. The page's lock must be held,
 * or the files be otherwise unused. NULL: no memory.
 */
struct content *model_file_content(struct model *model, uint32_t id, uint64_t page);

#endif
