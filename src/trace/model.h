/* SPDX-License-Identifier: MIT */
/*
 * The flat model: what every address space must contain, worked out from the recorded calls alone. It knows nothing of the
 * memory manager that is being replayed on, has no page tables, no reclaim and no sharing that could go wrong: ranges, and
 * a mark for every line that was stored to.
 *
 * Who may call what at the same time. Calls about one address space that touch the same pages are ordered by the caller
 * (schedule.h); so are all calls about the size of files, against everything. Accesses of several CPUs to one address
 * space run at the same time. Two of them may be to the same page: then, if the page is private memory, each CPU stores
 * to lines of its own; if it is a file's, model_begin holds the page's lock until model_end.
 */
#ifndef QUIRE_TRACE_MODEL_H
#define QUIRE_TRACE_MODEL_H

#include "trace/pagemap.h"
#include "trace/qrec.h"
#include "trace/ranges.h"

#include <pthread.h>

#define MODEL_PATTERN_MAX (256ull << 20) /* bytes of a file that begin as a pattern; zeroes follow */
#define MODEL_PAGE_LOCKS 256u
#define MODEL_FILE_CHUNK 1024u
#define MODEL_FILE_CHUNKS 4096u

struct model_file {
	enum qrec_file_kind kind;
	uint64_t size;
	uint64_t pattern;     /* bytes that still begin as the pattern, unless stored to or punched */
	pthread_mutex_t lock; /* of @pages; taken after a page lock and mm->lock, held for a moment */
	struct pagemap pages;
};

/* Everything there is. */
struct model {
	struct model_file **chunks[MODEL_FILE_CHUNKS]; /* by id; read without a lock */
	uint32_t nr_files;
	uint32_t nr_named;    /* files of the recording; ids from here on are of anonymous shared memory */
	pthread_mutex_t lock; /* of the file table and of the list of address spaces */
	struct model_mm *mms; /* list of all */
	pthread_mutex_t page_locks[MODEL_PAGE_LOCKS]; /* of files' pages, hashed; taken before everything else */
	uint64_t live;				      /* pages with contents: what must be in memory, roughly. Atomic */
};

struct model_mm {
	struct model *model;
	struct model_mm *next, *previous;
	pthread_mutex_t lock; /* of what follows; held for a moment */
	struct ranges ranges;
	struct pagemap pages; /* of private mappings */
};

/* @nr_files: how many ids the recording uses; they are added one by one. False: no memory. */
bool model_init(struct model *model, uint32_t nr_files);
void model_destroy(struct model *model);

/* ------------------------------------------------------------------------------------------------------- files */

/* The file called @id comes into being. */
bool model_file_add(struct model *model, uint32_t id, enum qrec_file_kind kind, uint64_t size);
struct model_file *model_file(const struct model *model, uint32_t id);
/* Also takes private copies of pages behind the new end out of all address spaces, as truncate does. */
bool model_file_resize(struct model *model, uint32_t id, uint64_t size);
bool model_file_punch(struct model *model, uint32_t id, uint64_t offset, uint64_t len);

/* ---------------------------------------------------------------------------------------------- address spaces */

struct model_mm *model_mm_create(struct model *model);
struct model_mm *model_mm_fork(struct model_mm *parent);
void model_mm_destroy(struct model_mm *mm);

/* The calls, after they have succeeded. Lengths are rounded up to pages. False: no memory; the model is then useless. */
bool model_map(struct model_mm *mm, uint64_t addr, uint64_t len, uint32_t prot, uint32_t flags, uint32_t file,
	       uint64_t offset);
bool model_unmap(struct model_mm *mm, uint64_t addr, uint64_t len);
bool model_protect(struct model_mm *mm, uint64_t addr, uint64_t len, uint32_t prot);
bool model_remap(struct model_mm *mm, uint64_t addr, uint64_t len, uint64_t new_addr, uint64_t new_len,
		 bool dont_unmap);
bool model_brk(struct model_mm *mm, uint64_t old, uint64_t brk);
bool model_advise(struct model_mm *mm, uint64_t addr, uint64_t len, int advice);

/* apply.c: a record of a call or of an initial mapping, with a result >= 0, as one of the above. */
bool model_apply(struct model_mm *mm, const struct qrec_event *event);

/* ---------------------------------------------------------------------------------------------------- accesses */

enum model_verdict {
	MODEL_OK,
	MODEL_MAPERR, /* SIGSEGV: nothing is mapped there */
	MODEL_ACCERR, /* SIGSEGV: not allowed */
	MODEL_BUS,    /* SIGBUS: behind the end of the file */
	MODEL_NO_MEMORY,
};

/* One access that is being made. */
struct model_access {
	struct model *model;
	struct content *content; /* NULL: zeroes */
	pthread_mutex_t *lock;	 /* of a file's page, held; NULL: none */
	unsigned lines;		 /* how many lines, from the first, lie within the file; CONTENT_LINES mostly */
};

/*
 * What must happen if @mm accesses @page in this way. On MODEL_OK the access must be made and then ended with model_end;
 * for a store, access->content may be given new marks, in lines that the caller owns.
 */
enum model_verdict model_begin(struct model_mm *mm, uint64_t page, enum qrec_op kind, struct model_access *access);
void model_end(struct model_access *access);

/*
 * True if @page of @mm still has the contents that @access found: nobody has stored to it for the first time meanwhile, and
 * so given the address space a content of its own.
 */
bool model_is_current(struct model_mm *mm, uint64_t page, const struct model_access *access);

#endif
