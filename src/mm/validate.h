/* SPDX-License-Identifier: MIT */
/*
 * Validation of a whole machine: private to the validate*.c files. docs/invariants.md says which invariant is checked where.
 *
 * The machine is quiescent: no other CPU is inside a call and all deferred frees are done. So nothing here takes a lock, and
 * counts that must be exact are. Nothing found is trusted: a pointer is followed only after the descriptor of its frame says
 * that an object of that kind is there.
 */
#ifndef QUIRE_MM_VALIDATE_H
#define QUIRE_MM_VALIDATE_H

#include "mm/file.h"
#include "mm/rmap.h"

/* What the walk of all page tables finds of one frame. */
struct frame_use {
	u32 entries; /* leaf entries that name it (a leaf PMD: its first frame only); of a page table: links to it */
	u32 mlocked : 31; /* of these, with _PAGE_MLOCKED */
	u32 leaf : 1;	  /* one of these is a leaf PMD */
};

#define FRAME_USE_PER_CHUNK (PAGE_SIZE / sizeof(struct frame_use))

struct validate {
	struct quire_cpu *cpu;
	struct quire *q;
	void (*report)(void *arg, const char *line);
	void *arg;
	unsigned violations;
	unsigned part; /* the invariant that a part's own validator stands for, see part_violation */

	struct frame_use **use; /* [nr_chunks]: scratch frames of the machine itself */
	u64 use_pfn, nr_chunks; /* the frames of the directory, and how many chunks it has */
	unsigned use_order;

	bool links_valid; /* VMAs, anon_vmas and i_mmaps are in order: reverse walks may follow them */

	/* Found in all address spaces, files and frames. */
	u64 mms, vmas, vma_nodes, tables, anon_vmas, files, cache_nodes, folios;
	u64 chain_links, tree_links; /* from VMAs to anon_vmas, and back */
	u64 file_vmas, file_links;   /* VMAs of files, and what i_mmaps list */
	u64 file_pages;		     /* as page caches count them */
	u64 rss[NR_MM_COUNTERS];
	u64 cached_pages, shmem_pages, dirty_pages, writeback_pages, mlocked_pages;
	u64 frames[PAGE_RAW + 1]; /* by type */
};

/*
 * Reports that @invariant is broken. In @format each %x (hexadecimal) and %d (decimal) is replaced by the next of @a, @b, @c. The
 * line is cut at 200 characters.
 */
void violation(struct validate *v, unsigned invariant, const char *format, u64 a, u64 b, u64 c);
/* A violation_fn for validators of single parts; arg is the struct validate, whose part is set. */
void part_violation(void *arg, const char *what, u64 a, u64 b);

/* The record of a frame; @pfn is below nr_frames. */
static inline struct frame_use *frame_use(struct validate *v, u64 pfn)
{
	return &v->use[pfn / FRAME_USE_PER_CHUNK][pfn % FRAME_USE_PER_CHUNK];
}

static inline bool pfn_managed(const struct quire *q, u64 pfn)
{
	return pfn >= q->first_frame && pfn < q->nr_frames;
}

/* Is @object the address of an object (free or not) of this cache? */
bool is_object(struct quire *q, enum cache_id id, const void *object);

/* validate_mm.c: each address space: locks, totals, VMAs with their links, and page tables. Fills v->use. */
void validate_mms(struct validate *v);
/* validate_tables.c: the page tables of one address space. */
void validate_page_tables(struct validate *v, struct quire_mm *mm);
/* validate_file.c: each file: page cache, i_mmap. */
void validate_files(struct validate *v);
/* validate_anon_vma.c: each anon_vma: counts, tree. */
void validate_anon_vmas(struct validate *v);
/* validate_folio.c: each frame by its descriptor, each folio's references, mappings and reverse mapping. After all of the above. */
void validate_frames(struct validate *v);
/* validate_tlb.c: what each CPU's TLB still holds. */
void validate_tlbs(struct validate *v);

#endif
