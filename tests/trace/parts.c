/* SPDX-License-Identifier: MIT */
/*
 * The small parts that recording and replay stand on, each against the simplest thing that could be right: the folding set
 * against a list, ranges against an array of pages, histograms against sorted numbers.
 */
#include "trace/fold.h"
#include "trace/ranges.h"
#include "trace/timing.h"

#include "cmocka_setup.h"
#include "random.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------ folding */

#define THREADS 3u
#define PAGES 600u

static void folding_against_a_list(void **state)
{
	static bool seen[THREADS][PAGES][3];
	struct fold fold = { 0 };
	uint64_t random = 1;

	(void)state;
	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0; i < 300000; i++) {
		uint32_t thread = (uint32_t)random_below(&random, THREADS),
			 page = (uint32_t)random_below(&random, PAGES);
		unsigned kind = (unsigned)random_below(&random, 3);

		assert_int_equal(fold_touch(&fold, thread, page, (enum qrec_op)kind), !seen[thread][page][kind]);
		seen[thread][page][kind] = true;
		if (i % 500 == 0) {
			uint64_t len = 1 + random_below(&random, i % 1000 ? 5 : PAGES);

			fold_forget(&fold, page, len);
			for (unsigned t = 0; t < THREADS; t++)
				for (uint64_t p = page; p < page + len && p < PAGES; p++)
					memset(seen[t][p], 0, sizeof(seen[t][p]));
		}
		if (i % 20000 == 0) {
			fold_forget_all(&fold);
			memset(seen, 0, sizeof(seen));
		}
	}
	/* Forgetting leaves slots behind; they must not pile up. */
	assert_true(fold.room <= 65536);
	fold_destroy(&fold);
}

static void the_last_pages_fold_like_others(void **state)
{
	struct fold fold = { 0 };

	(void)state;
	assert_true(fold_touch(&fold, QREC_THREADS_MAX - 1, QREC_PAGES_MAX - 1, QREC_FETCH));
	assert_false(fold_touch(&fold, QREC_THREADS_MAX - 1, QREC_PAGES_MAX - 1, QREC_FETCH));
	assert_true(fold_touch(&fold, QREC_THREADS_MAX - 2, QREC_PAGES_MAX - 1, QREC_FETCH));
	assert_true(fold_touch(&fold, 0, 0, QREC_LOAD));
	assert_false(fold_touch(&fold, 0, 0, QREC_LOAD));
	fold_forget(&fold, QREC_PAGES_MAX - 1, 1);
	assert_true(fold_touch(&fold, QREC_THREADS_MAX - 1, QREC_PAGES_MAX - 1, QREC_FETCH));
	assert_false(fold_touch(&fold, 0, 0, QREC_LOAD));
	fold_destroy(&fold);
}

/* ------------------------------------------------------------------------------------------------------- ranges */

#define SPACE 64u /* pages */

/* What each page belongs to: the number of the range that was put there, and its offset. */
struct page {
	uint32_t file;
	uint64_t offset;
};

static void assert_ranges(const struct ranges *ranges, const struct page *pages)
{
	for (unsigned i = 0; i < SPACE; i++) {
		const struct range *range = ranges_find(ranges, i * 4096ull + 123);

		if (!range != !pages[i].file)
			fail_msg("page %u is %s", i, range ? "mapped" : "not mapped");
		if (!range)
			continue;
		assert_int_equal(range->file, pages[i].file);
		assert_int_equal(range->offset + i * 4096ull - range->start, pages[i].offset);
	}
	for (size_t i = 1; i < ranges->nr; i++)
		assert_true(ranges->list[i - 1].end <= ranges->list[i].start);
}

static void ranges_against_an_array(void **state)
{
	struct page pages[SPACE] = { { 0 } };
	struct ranges ranges = { 0 }, copy;
	uint64_t random = 2;

	(void)state;
	for (uint32_t i = 1; i <= 5000; i++) {
		unsigned start = (unsigned)random_below(&random, SPACE);
		unsigned end = start + 1 + (unsigned)random_below(&random, SPACE - start);
		struct range range = {
			.start = start * 4096ull, .end = end * 4096ull, .file = i, .offset = i * 65536ull
		};
		bool insert = random_below(&random, 3);

		assert_true(insert ? ranges_insert(&ranges, &range) : ranges_remove(&ranges, range.start, range.end));
		for (unsigned p = start; p < end; p++)
			pages[p] = (struct page){ insert ? i : 0, range.offset + (p - start) * 4096ull };
		assert_ranges(&ranges, pages);
	}
	assert_true(ranges_copy(&copy, &ranges));
	assert_true(ranges_remove(&ranges, 0, SPACE * 4096ull));
	assert_int_equal(ranges.nr, 0);
	assert_ranges(&copy, pages);
	ranges_destroy(&ranges);
	ranges_destroy(&copy);
}

static void isolated_ranges_lie_within(void **state)
{
	struct ranges ranges = { 0 };
	size_t first, last;

	(void)state;
	assert_true(ranges_insert(&ranges, &(struct range){ .start = 0x1000, .end = 0x5000 }));
	assert_true(ranges_insert(&ranges, &(struct range){ .start = 0x6000, .end = 0x9000 }));
	assert_true(ranges_isolate(&ranges, 0x2000, 0x8000, &first, &last));
	assert_int_equal(last - first, 2);
	assert_int_equal(ranges.list[first].start, 0x2000);
	assert_int_equal(ranges.list[last - 1].end, 0x8000);
	assert_int_equal(ranges.nr, 4);
	assert_true(ranges_isolate(&ranges, 0x5000, 0x6000, &first, &last));
	assert_int_equal(first, last);
	ranges_destroy(&ranges);
}

/* ------------------------------------------------------------------------------------------------------- timing */

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void percentiles_against_sorted_numbers(void **state)
{
	enum {
		NR = 20000
	};
	uint64_t *numbers = malloc(NR * sizeof(*numbers)), random = 3;
	struct timing *timing = calloc(2, sizeof(*timing));

	(void)state;
	assert_non_null(numbers);
	assert_non_null(timing);
	for (unsigned i = 0; i < NR; i++) {
		numbers[i] = random_next(&random) >> (20 + random_below(&random, 44));
		timing_add(&timing[i % 2], numbers[i]);
	}
	timing_merge(&timing[0], &timing[1]);
	assert_int_equal(timing->count, NR);
	qsort(numbers, NR, sizeof(*numbers), compare_numbers);
	assert_true(timing->most == numbers[NR - 1]);
	for (unsigned percent = 1; percent <= 100; percent++) {
		uint64_t exact = numbers[NR * percent / 100 - 1], found = timing_percentile(timing, percent / 100.0);
		uint64_t apart = found > exact ? found - exact : exact - found;

		/* A sixteenth, as far as the middle of a bucket may be. */
		if (apart > exact / 16 + 1)
			fail_msg("%u %%: %lu instead of %lu", percent, found, exact);
	}
	free(numbers);
	free(timing);
}

static void nothing_takes_no_time(void **state)
{
	struct timing *timing = calloc(1, sizeof(*timing));

	(void)state;
	assert_non_null(timing);
	assert_int_equal(timing_percentile(timing, 0.5), 0);
	timing_add(timing, UINT64_MAX);
	assert_true(timing_percentile(timing, 0.5) > UINT64_MAX / 2);
	free(timing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(folding_against_a_list),
		cmocka_unit_test(the_last_pages_fold_like_others),
		cmocka_unit_test(ranges_against_an_array),
		cmocka_unit_test(isolated_ranges_lie_within),
		cmocka_unit_test(percentiles_against_sorted_numbers),
		cmocka_unit_test(nothing_takes_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
