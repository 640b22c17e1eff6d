/* SPDX-License-Identifier: MIT */
/*
 * Host files: reading pages in. A miss reads a window of pages with few submissions: for accesses in order the window
 * follows them and grows, for others it is the aligned 64 KiB around the page, which is what a fault maps at once.
 *
 * The folios of a window are added locked, filled, made uptodate, and unlocked, so whoever finds one meanwhile waits for its
 * lock. invalidate_lock is held for read from adding to uptodate: what truncate or punch has removed from the file cannot
 * come back into the cache with its old contents. A folio that could not be read leaves the cache before it is unlocked,
 * and the waiters try for themselves.
 */
#include "mm/file.h"

#define RA_AROUND 16u  /* pages, aligned, around a miss out of order */
#define RA_MAX 32u     /* pages: 128 KiB, as Linux's read_ahead_kb */
#define READ_PAGES 64u /* pages in one submission */

/* Folios being read, in the order of the file, all locked and referenced by this CPU. */
struct read_batch {
	unsigned nr;
	struct folio *folio[RA_MAX];
};

/* Neighbouring pages to be read with one submission. */
struct read_run {
	u64 index;
	unsigned nr;
	void *page[READ_PAGES];
};

/* -------------------------------------------------------------------------------------------- reading */

/* Zeroes from byte @from of the run on: what lies beyond the end of the file, or in a hole at its end. */
static void run_zero(const struct read_run *run, u64 from)
{
	for (u64 i = from >> PAGE_SHIFT; i < run->nr; i++, from = i << PAGE_SHIFT)
		memset((u8 *)run->page[i] + (from & ~PAGE_MASK), 0, PAGE_SIZE - (from & ~PAGE_MASK));
}

/* Reads the run and empties it. 0 or a negative errno. */
static int run_submit(struct quire_cpu *cpu, struct quire_file *file, struct read_run *run)
{
	u64 off = run->index << PAGE_SHIFT, size = file_size(file);
	s64 done = 0;

	if (!run->nr)
		return 0;
	if (off < size)
		done = machine_file_read(cpu, file->backing, off, run->page, run->nr);
	if (done >= 0) {
		run_zero(run, size - off < (u64)done ? size - off : (u64)done);
		count_event(cpu, FILE_READ_PAGES, run->nr);
	}
	run->nr = 0;
	return done < 0 ? (int)done : 0;
}

/* Adds a page to the run, submitting what was there when it does not fit. */
static int run_add(struct quire_cpu *cpu, struct quire_file *file, struct read_run *run, u64 index, void *page)
{
	int ret = 0;

	if (run->nr == READ_PAGES || (run->nr && run->index + run->nr != index))
		ret = run_submit(cpu, file, run);
	if (!run->nr)
		run->index = index;
	run->page[run->nr++] = page;
	return ret;
}

/* Reads all pages of @nr folios; the first error, or 0. */
static int read_folios(struct quire_cpu *cpu, struct quire_file *file, struct folio *const *folios, unsigned nr)
{
	struct read_run run = { .nr = 0 };
	int ret = 0, last;

	for (unsigned i = 0; i < nr && !ret; i++) {
		u8 *address = folio_address(cpu->q, folios[i]);

		for (u64 page = 0; page < folio_nr_pages(folios[i]) && !ret; page++)
			ret = run_add(cpu, file, &run, folios[i]->index + page, address + (page << PAGE_SHIFT));
	}
	last = run_submit(cpu, file, &run);
	return ret ? ret : last;
}

/* Fills the batch; a folio that stays not uptodate could not be read. One bad spot does not spoil its neighbours. */
static void read_batch(struct quire_cpu *cpu, struct quire_file *file, struct read_batch *batch)
{
	int ret = read_folios(cpu, file, batch->folio, batch->nr);

	for (unsigned i = 0; i < batch->nr; i++)
		if (!ret || !read_folios(cpu, file, &batch->folio[i], 1))
			folio_mark_uptodate(batch->folio[i]);
}

/* -------------------------------------------------------------------------------------------- windows */

/* The pages [*first, *end) to read for a miss at @index, and what the next miss in order would be. */
static void ra_window(struct quire_file *file, u64 index, u64 file_end, u64 *first, u64 *end)
{
	u32 pages = READ_ONCE(file->ra_pages);

	if (index == READ_ONCE(file->ra_next) && pages) {
		pages = pages * 2 < RA_MAX ? pages * 2 : RA_MAX;
		*first = index;
	} else {
		pages = RA_AROUND;
		*first = index & ~(RA_AROUND - 1ull);
	}
	*end = *first + pages < file_end ? *first + pages : file_end;
	WRITE_ONCE(file->ra_pages, pages);
	WRITE_ONCE(file->ra_next, *end);
}

/*
 * Adds folios for the pages [*index, end) that are not cached to the batch until it is full; *index moves on. Only page
 * @wanted is worth an effort to find memory. 0, or the error of page @wanted: -ENOMEM, or -EEXIST when it is cached now.
 */
static int batch_collect(struct quire_cpu *cpu, struct quire_file *file, u64 *index, u64 end, u64 wanted,
			 struct read_batch *batch)
{
	struct folio_want want = { .high = file_nr_pages(file) };

	while (*index < end && batch->nr < RA_MAX) {
		struct folio *folio;
		int ret;

		want.index = *index;
		want.gfp = *index == wanted ? GFP_KERNEL : GFP_NORETRY;
		ret = file_add_folio(cpu, file, &want, &folio);
		if (!ret) {
			batch->folio[batch->nr++] = folio;
			*index = folio->index + folio_nr_pages(folio);
		} else if (*index == wanted) {
			return ret;
		} else if (ret == -EEXIST) {
			++*index;
		} else { /* memory is short: go on with what is wanted, if that still lies ahead */
			*index = *index < wanted && wanted < end ? wanted : end;
		}
	}
	return 0;
}

/* Ends the batch: what could not be read leaves the cache. *out becomes the folio of page @wanted if it is there. */
static int batch_finish(struct quire_cpu *cpu, struct quire_file *file, struct read_batch *batch, u64 wanted,
			struct folio **out)
{
	int ret = 0;

	for (unsigned i = 0; i < batch->nr; i++) {
		struct folio *folio = batch->folio[i];
		bool is_wanted = wanted - folio->index < folio_nr_pages(folio);

		if (is_wanted && folio_test_uptodate(folio)) {
			*out = folio;
			continue;
		}
		if (!folio_test_uptodate(folio)) {
			filemap_remove_folio(cpu, &file->mapping, folio);
			ret = is_wanted ? -EIO : ret;
		}
		file_unlock_put(cpu, folio);
	}
	return ret;
}

int hostfile_add_page(struct quire_cpu *cpu, struct quire_file *file, u64 index, struct folio **out)
{
	struct read_batch batch = { .nr = 0 };
	u64 first, end, file_end;
	int ret = -EFAULT, finished;

	down_read(&file->mapping.invalidate_lock);
	file_end = file_nr_pages(file);
	if (index < file_end) {
		ra_window(file, index, file_end, &first, &end);
		ret = batch_collect(cpu, file, &first, end, index, &batch);
		read_batch(cpu, file, &batch);
		finished = batch_finish(cpu, file, &batch, index, out);
		ret = ret ? ret : finished;
		count_event(cpu, PGMAJFAULT, 1);
	}
	up_read(&file->mapping.invalidate_lock);
	return ret == -EEXIST ? 0 : ret;
}

void file_readahead(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last)
{
	struct folio *none;
	u64 end;

	if (file->shmem)
		return; /* what is not in the cache is a hole, and stays one */
	do {
		struct read_batch batch = { .nr = 0 };

		down_read(&file->mapping.invalidate_lock);
		end = file_nr_pages(file);
		end = last < end ? last + 1 : end;
		batch_collect(cpu, file, &first, end, ~0ull, &batch);
		read_batch(cpu, file, &batch);
		batch_finish(cpu, file, &batch, ~0ull, &none);
		up_read(&file->mapping.invalidate_lock);
	} while (first < end);
}
