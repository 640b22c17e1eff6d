/* SPDX-License-Identifier: MIT */
/*
 * The flat model by itself: what must be read where, after each kind of call. Everything else that the replay says stands
 * on this.
 */
#define _GNU_SOURCE
#include "trace/model.h"

#include "cmocka_setup.h"

#include <string.h>
#include <sys/mman.h>

#define AREA 0x10000000ull
#define PAGE(n) (AREA / 4096 + (n))
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)

static struct model model;

static int begin(void **state)
{
	(void)state;
	return model_init(&model, 2) ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	model_destroy(&model);
	/* Every page that was ever made is gone. */
	return model.live ? -1 : 0;
}

/* Event @number stores to @page: all lines get its mark. */
static void store(struct model_mm *mm, uint64_t page, uint64_t number)
{
	struct model_access access;

	assert_int_equal(model_begin(mm, page, QREC_STORE, &access), MODEL_OK);
	for (unsigned line = 0; line < access.lines; line++)
		access.content->mark[line] = content_mark(number);
	access.content->lazy = 0;
	model_end(&access);
}

static enum model_verdict verdict(struct model_mm *mm, uint64_t page, enum qrec_op kind)
{
	struct model_access access;
	enum model_verdict verdict = model_begin(mm, page, kind, &access);

	if (verdict == MODEL_OK)
		model_end(&access);
	return verdict;
}

/* The first word of @line of @page. */
static uint64_t word(struct model_mm *mm, uint64_t page, unsigned line)
{
	uint64_t words[CONTENT_WORDS];
	struct model_access access;

	assert_int_equal(model_begin(mm, page, QREC_LOAD, &access), MODEL_OK);
	assert_true(content_expected(access.content, line, words));
	model_end(&access);
	return words[0];
}

static uint64_t stored(uint64_t number, unsigned line)
{
	uint64_t words[CONTENT_WORDS];

	content_stored(content_mark(number), line, words);
	return words[0];
}

static uint64_t pattern(uint32_t file, uint64_t page, unsigned line)
{
	uint64_t words[CONTENT_WORDS];

	content_pattern(file + 1, page, CONTENT_PAGE, line, words);
	return words[0];
}

static struct model_mm *mm_with(uint64_t pages)
{
	struct model_mm *mm = model_mm_create(&model);

	assert_non_null(mm);
	assert_true(model_map(mm, AREA, pages * 4096, PROT_READ | PROT_WRITE, PRIVATE, 0, 0));
	return mm;
}

static void memory_begins_as_zeroes(void **state)
{
	struct model_mm *mm = mm_with(4);

	(void)state;
	assert_int_equal(word(mm, PAGE(0), 0), 0);
	store(mm, PAGE(1), 7);
	assert_true(word(mm, PAGE(1), 3) == stored(7, 3));
	assert_int_equal(word(mm, PAGE(2), 3), 0);
	store(mm, PAGE(1), 8);
	assert_true(word(mm, PAGE(1), 3) == stored(8, 3));
	model_mm_destroy(mm);
}

static void what_may_be_accessed(void **state)
{
	struct model_mm *mm = mm_with(4);

	(void)state;
	assert_int_equal(verdict(mm, PAGE(4), QREC_LOAD), MODEL_MAPERR);
	assert_int_equal(verdict(mm, PAGE(0) - 1, QREC_LOAD), MODEL_MAPERR);
	assert_int_equal(verdict(mm, PAGE(0), QREC_FETCH), MODEL_ACCERR);
	assert_true(model_protect(mm, AREA + 4096, 4096, PROT_READ));
	assert_int_equal(verdict(mm, PAGE(1), QREC_LOAD), MODEL_OK);
	assert_int_equal(verdict(mm, PAGE(1), QREC_STORE), MODEL_ACCERR);
	assert_int_equal(verdict(mm, PAGE(0), QREC_STORE), MODEL_OK);
	assert_int_equal(verdict(mm, PAGE(2), QREC_STORE), MODEL_OK);
	assert_true(model_protect(mm, AREA, 8192, PROT_NONE));
	assert_int_equal(verdict(mm, PAGE(1), QREC_LOAD), MODEL_ACCERR);
	assert_true(model_unmap(mm, AREA, 8192));
	assert_int_equal(verdict(mm, PAGE(1), QREC_LOAD), MODEL_MAPERR);
	model_mm_destroy(mm);
}

static void what_is_mapped_anew_is_empty(void **state)
{
	struct model_mm *mm = mm_with(4);

	(void)state;
	for (uint64_t i = 0; i < 4; i++)
		store(mm, PAGE(i), i);
	assert_true(model_map(mm, AREA + 4096, 4096, PROT_READ, PRIVATE, 0, 0));
	assert_int_equal(word(mm, PAGE(1), 0), 0);
	assert_true(word(mm, PAGE(2), 0) == stored(2, 0));
	assert_true(model_advise(mm, AREA + 8192, 4096, MADV_DONTNEED));
	assert_int_equal(word(mm, PAGE(2), 0), 0);
	assert_true(word(mm, PAGE(3), 0) == stored(3, 0));
	model_mm_destroy(mm);
}

static void fork_copies(void **state)
{
	struct model_mm *parent = mm_with(2), *child;

	(void)state;
	store(parent, PAGE(0), 1);
	store(parent, PAGE(1), 2);
	child = model_mm_fork(parent);
	assert_non_null(child);
	store(parent, PAGE(0), 3);
	store(child, PAGE(1), 4);
	assert_true(word(parent, PAGE(0), 9) == stored(3, 9));
	assert_true(word(child, PAGE(0), 9) == stored(1, 9));
	assert_true(word(parent, PAGE(1), 9) == stored(2, 9));
	assert_true(word(child, PAGE(1), 9) == stored(4, 9));
	model_mm_destroy(parent);
	assert_true(word(child, PAGE(0), 9) == stored(1, 9));
	model_mm_destroy(child);
}

static void fork_leaves_out_what_it_was_told_to(void **state)
{
	struct model_mm *parent = mm_with(4), *child;

	(void)state;
	for (uint64_t i = 0; i < 4; i++)
		store(parent, PAGE(i), i);
	assert_true(model_advise(parent, AREA, 8192, MADV_DONTFORK));
	assert_true(model_advise(parent, AREA, 4096, MADV_DOFORK));
	assert_true(model_advise(parent, AREA + 8192, 4096, MADV_WIPEONFORK));
	child = model_mm_fork(parent);
	assert_true(word(child, PAGE(0), 0) == stored(0, 0));
	assert_int_equal(verdict(child, PAGE(1), QREC_LOAD), MODEL_MAPERR);
	assert_int_equal(word(child, PAGE(2), 0), 0);
	assert_true(word(child, PAGE(3), 0) == stored(3, 0));
	assert_true(word(parent, PAGE(2), 0) == stored(2, 0));
	model_mm_destroy(parent);
	model_mm_destroy(child);
}

static void mremap_moves_contents(void **state)
{
	struct model_mm *mm = mm_with(8);

	(void)state;
	for (uint64_t i = 0; i < 8; i++)
		store(mm, PAGE(i), i);
	/* Pages 2 and 3 go away and grow; 4 to 7 shrink in place. */
	assert_true(model_remap(mm, AREA + 8192, 8192, AREA + 0x100000, 16384, false));
	assert_int_equal(verdict(mm, PAGE(2), QREC_LOAD), MODEL_MAPERR);
	assert_true(word(mm, PAGE(0x100), 0) == stored(2, 0));
	assert_true(word(mm, PAGE(0x101), 0) == stored(3, 0));
	assert_int_equal(word(mm, PAGE(0x103), 0), 0);
	assert_true(model_remap(mm, AREA + 16384, 16384, AREA + 16384, 4096, false));
	assert_true(word(mm, PAGE(4), 0) == stored(4, 0));
	assert_int_equal(verdict(mm, PAGE(5), QREC_LOAD), MODEL_MAPERR);
	/* Grown in place. */
	assert_true(model_remap(mm, AREA + 16384, 4096, AREA + 16384, 8192, false));
	assert_int_equal(word(mm, PAGE(5), 0), 0);
	/* MREMAP_DONTUNMAP leaves an empty mapping behind; what was at the new place is gone. */
	assert_true(model_remap(mm, AREA, 4096, AREA + 0x101000, 4096, true));
	assert_int_equal(word(mm, PAGE(0), 0), 0);
	assert_true(word(mm, PAGE(0x101), 0) == stored(0, 0));
	model_mm_destroy(mm);
}

static void the_heap(void **state)
{
	struct model_mm *mm = model_mm_create(&model);

	(void)state;
	assert_true(model_brk(mm, AREA, AREA + 5000));
	store(mm, PAGE(1), 1);
	assert_int_equal(verdict(mm, PAGE(2), QREC_LOAD), MODEL_MAPERR);
	assert_true(model_brk(mm, AREA + 5000, AREA + 6000));
	assert_true(word(mm, PAGE(1), 0) == stored(1, 0));
	assert_true(model_brk(mm, AREA + 6000, AREA + 4000));
	assert_int_equal(verdict(mm, PAGE(1), QREC_LOAD), MODEL_MAPERR);
	assert_true(model_brk(mm, AREA + 4000, AREA + 8192));
	assert_int_equal(word(mm, PAGE(1), 0), 0);
	model_mm_destroy(mm);
}

static void stacks_grow(void **state)
{
	struct model_mm *mm = model_mm_create(&model);
	uint64_t stack = AREA + 0x1000000;

	(void)state;
	assert_true(model_map(mm, stack, 8192, PROT_READ | PROT_WRITE, PRIVATE | MAP_GROWSDOWN, 0, 0));
	assert_true(model_map(mm, AREA, 4096, PROT_READ, PRIVATE, 0, 0));
	assert_int_equal(verdict(mm, stack / 4096 - 100, QREC_STORE), MODEL_OK);
	assert_int_equal(verdict(mm, stack / 4096 - 50, QREC_LOAD), MODEL_OK);
	/* Up to 256 pages from the next mapping, no nearer. */
	assert_int_equal(verdict(mm, PAGE(256), QREC_LOAD), MODEL_MAPERR);
	assert_int_equal(verdict(mm, PAGE(257), QREC_LOAD), MODEL_OK);
	assert_int_equal(verdict(mm, stack / 4096 + 2, QREC_LOAD), MODEL_MAPERR);
	model_mm_destroy(mm);
}

static void freed_lazily(void **state)
{
	struct model_mm *mm = mm_with(1);
	struct model_access access;

	(void)state;
	store(mm, PAGE(0), 1);
	assert_true(model_advise(mm, AREA, 4096, MADV_FREE));
	assert_int_equal(model_begin(mm, PAGE(0), QREC_LOAD, &access), MODEL_OK);
	assert_true(access.content->lazy == UINT64_MAX);
	model_end(&access);
	assert_true(word(mm, PAGE(0), 5) == stored(1, 5));
	model_mm_destroy(mm);
}

static void guards(void **state)
{
	struct model_mm *mm = mm_with(4), *child;

	(void)state;
	store(mm, PAGE(1), 1);
	assert_true(model_advise(mm, AREA + 4096, 4096, 102));
	assert_int_equal(verdict(mm, PAGE(1), QREC_LOAD), MODEL_MAPERR);
	assert_int_equal(verdict(mm, PAGE(2), QREC_LOAD), MODEL_OK);
	assert_true(model_advise(mm, AREA, 16384, MADV_DONTNEED));
	assert_int_equal(verdict(mm, PAGE(1), QREC_STORE), MODEL_MAPERR);
	child = model_mm_fork(mm);
	assert_int_equal(verdict(child, PAGE(1), QREC_STORE), MODEL_MAPERR);
	model_mm_destroy(child);
	assert_true(model_advise(mm, AREA, 16384, 103));
	assert_int_equal(word(mm, PAGE(1), 0), 0);
	model_mm_destroy(mm);
}

/* ------------------------------------------------------------------------------------------------------- files */

static struct model_mm *mm_with_file(uint32_t file, int flags)
{
	struct model_mm *mm = model_mm_create(&model);

	assert_non_null(mm);
	assert_true(model_map(mm, AREA, 0x10000, PROT_READ | PROT_WRITE, (uint32_t)flags, file + 1, 4096));
	return mm;
}

static void private_mappings_see_the_file_until_they_store(void **state)
{
	struct model_mm *private, *shared;

	(void)state;
	assert_true(model_file_add(&model, 0, QREC_FILE_DISK, 0x9000));
	private = mm_with_file(0, MAP_PRIVATE);
	shared = mm_with_file(0, MAP_SHARED);
	assert_true(word(private, PAGE(1), 7) == pattern(0, 2, 7));
	store(private, PAGE(0), 1);
	store(shared, PAGE(0), 2);
	store(shared, PAGE(1), 3);
	assert_true(word(private, PAGE(0), 7) == stored(1, 7));
	assert_true(word(private, PAGE(1), 7) == stored(3, 7));
	/* Back to what the file contains now. */
	assert_true(model_advise(private, AREA, 4096, MADV_DONTNEED));
	assert_true(word(private, PAGE(0), 7) == stored(2, 7));
	/* Behind the end. */
	assert_int_equal(verdict(shared, PAGE(7), QREC_LOAD), MODEL_OK);
	assert_int_equal(verdict(shared, PAGE(8), QREC_LOAD), MODEL_BUS);
	assert_int_equal(verdict(private, PAGE(8), QREC_STORE), MODEL_BUS);
	model_mm_destroy(private);
	model_mm_destroy(shared);
}

static void truncation(void **state)
{
	struct model_mm *private, *shared;
	struct model_access access;

	(void)state;
	assert_true(model_file_add(&model, 0, QREC_FILE_DISK, 0x9000));
	private = mm_with_file(0, MAP_PRIVATE);
	shared = mm_with_file(0, MAP_SHARED);
	store(private, PAGE(3), 1);
	store(private, PAGE(0), 2);
	store(shared, PAGE(1), 3);
	/* In the middle of the second mapped page, and of its line 2. */
	assert_true(model_file_resize(&model, 0, 8192 + 150));
	assert_int_equal(verdict(private, PAGE(3), QREC_LOAD), MODEL_BUS);
	assert_true(word(private, PAGE(0), 0) == stored(2, 0));
	assert_int_equal(model_begin(shared, PAGE(1), QREC_LOAD, &access), MODEL_OK);
	assert_int_equal(access.lines, 2);
	assert_int_equal(access.content->mark[1], content_mark(3));
	assert_int_equal(access.content->mark[2], MARK_ANY);
	assert_int_equal(access.content->mark[3], MARK_ZERO);
	model_end(&access);
	/* What comes back is empty, also for those who had a copy. */
	assert_true(model_file_resize(&model, 0, 0x9000));
	assert_int_equal(word(private, PAGE(3), 0), 0);
	assert_int_equal(word(shared, PAGE(1), 3), 0);
	assert_int_equal(word(shared, PAGE(4), 0), 0);
	model_mm_destroy(private);
	model_mm_destroy(shared);
}

static void truncation_of_a_page_that_nobody_stored_to(void **state)
{
	struct model_mm *shared;
	uint64_t words[CONTENT_WORDS];
	struct model_access access;

	(void)state;
	assert_true(model_file_add(&model, 0, QREC_FILE_DISK, 0x9000));
	shared = mm_with_file(0, MAP_SHARED);
	assert_true(model_file_resize(&model, 0, 8192 + 150));
	assert_true(model_file_resize(&model, 0, 0x9000));
	assert_int_equal(model_begin(shared, PAGE(1), QREC_LOAD, &access), MODEL_OK);
	assert_true(content_expected(access.content, 2, words));
	model_end(&access);
	/* 150 = 2 * 64 + 22: two words and six bytes of the third are left. */
	assert_true(words[1] && words[2] && !(words[2] >> 48));
	assert_int_equal(words[3], 0);
	assert_true(word(shared, PAGE(0), 0) == pattern(0, 1, 0));
	model_mm_destroy(shared);
}

static void holes(void **state)
{
	struct model_mm *private, *shared;

	(void)state;
	assert_true(model_file_add(&model, 0, QREC_FILE_DISK, 0x9000));
	private = mm_with_file(0, MAP_PRIVATE);
	shared = mm_with_file(0, MAP_SHARED);
	store(private, PAGE(1), 1);
	store(shared, PAGE(2), 2);
	assert_true(model_file_punch(&model, 0, 4096 + 64, 12288));
	assert_true(word(shared, PAGE(0), 0) == pattern(0, 1, 0));
	assert_int_equal(word(shared, PAGE(0), 1), 0);
	assert_int_equal(word(shared, PAGE(1), 0), 0);
	assert_int_equal(word(shared, PAGE(2), 63), 0);
	assert_int_equal(word(shared, PAGE(3), 0), 0);
	assert_true(word(shared, PAGE(3), 1) == pattern(0, 4, 1));
	/* Copies are not the file. */
	assert_true(word(private, PAGE(1), 0) == stored(1, 0));
	/* Through a mapping. */
	assert_true(model_advise(shared, AREA + 0x4000, 4096, MADV_REMOVE));
	assert_int_equal(word(private, PAGE(4), 0), 0);
	model_mm_destroy(private);
	model_mm_destroy(shared);
}

static void shared_memory_without_a_name(void **state)
{
	struct model_mm *parent = model_mm_create(&model), *child;

	(void)state;
	assert_true(model_map(parent, AREA, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, 0, 0));
	assert_true(model_map(parent, AREA + 8192, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, 0, 0));
	child = model_mm_fork(parent);
	store(child, PAGE(0), 5);
	assert_true(word(parent, PAGE(0), 1) == stored(5, 1));
	assert_int_equal(word(parent, PAGE(2), 1), 0);
	model_mm_destroy(parent);
	model_mm_destroy(child);
}

static void words_tell_where_they_are_from(void **state)
{
	uint64_t words[CONTENT_WORDS];
	char text[100];

	(void)state;
	content_stored(content_mark(123456), 2, words);
	content_describe(words[3], text, sizeof(text));
	assert_string_equal(text, "word 19 of a page, stored by event 123456");
	content_pattern(8, 99, 4096, 1, words);
	content_describe(words[0], text, sizeof(text));
	assert_string_equal(text, "word 8 of page 99 of file 7");
	content_describe(0, text, sizeof(text));
	assert_string_equal(text, "zero");
	content_describe(0x1234, text, sizeof(text));
	assert_string_equal(text, "nothing that was ever written");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_begins_as_zeroes),
		TEST(what_may_be_accessed),
		TEST(what_is_mapped_anew_is_empty),
		TEST(fork_copies),
		TEST(fork_leaves_out_what_it_was_told_to),
		TEST(mremap_moves_contents),
		TEST(the_heap),
		TEST(stacks_grow),
		TEST(freed_lazily),
		TEST(guards),
		TEST(private_mappings_see_the_file_until_they_store),
		TEST(truncation),
		TEST(truncation_of_a_page_that_nobody_stored_to),
		TEST(holes),
		TEST(shared_memory_without_a_name),
		TEST(words_tell_where_they_are_from),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
