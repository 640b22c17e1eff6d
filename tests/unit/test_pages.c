/* SPDX-License-Identifier: MIT */
/* Moving bytes: pages of every size, and a program's bytes, of which no aligned word is ever seen in two halves. */
#include "cmocka_setup.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "machine/mmu.h"
#include "random.h"

#define ARENA (4u << 20)

static u8 *arena_alloc(void)
{
	u8 *arena = aligned_alloc(PAGE_SIZE, ARENA);

	assert_non_null(arena);
	return arena;
}

static bool all_bytes_are(const u8 *p, size_t size, u8 byte)
{
	for (size_t i = 0; i < size; i++)
		if (p[i] != byte)
			return false;
	return true;
}

/* ---------------------------------------------------------------------------------------- pages */

static const size_t page_sizes[] = { 4096, 8192, 32768, 65536, 131072, 1u << 20, 2u << 20 };

static void test_clear_pages(void **state)
{
	u8 *arena = arena_alloc();

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(page_sizes); i++) {
		memset(arena, 0xee, ARENA);
		clear_pages(arena + PAGE_SIZE, page_sizes[i]);
		assert_true(all_bytes_are(arena + PAGE_SIZE, page_sizes[i], 0));
		assert_true(all_bytes_are(arena, PAGE_SIZE, 0xee));
		assert_true(all_bytes_are(arena + PAGE_SIZE + page_sizes[i], PAGE_SIZE, 0xee));
	}
	free(arena);
}

/* Every second page, from the last to the first. */
static void scatter(u8 *arena, void **pages, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		pages[i] = arena + (u64)(nr - 1 - i) * 2 * PAGE_SIZE;
}

static void test_scattered_pages(void **state)
{
	u8 *from = arena_alloc(), *to = arena_alloc();
	void *src[64], *dst[64];

	(void)state;
	for (unsigned nr = 0; nr <= 64; nr = nr < 18 ? nr + 1 : nr + 23) {
		memset(to, 0xee, ARENA);
		for (unsigned i = 0; i < ARENA / PAGE_SIZE; i++)
			memset(from + i * PAGE_SIZE, (int)i & 0x7f, PAGE_SIZE);
		scatter(to, dst, nr);
		for (unsigned i = 0; i < nr; i++)
			src[i] = from + (u64)i * PAGE_SIZE;
		copy_pages_scattered(dst, src, nr);
		for (unsigned i = 0; i < nr; i++) {
			assert_true(all_bytes_are(dst[i], PAGE_SIZE, (u8)(i & 0x7f)));
			assert_true(all_bytes_are((u8 *)dst[i] + PAGE_SIZE, PAGE_SIZE, 0xee));
		}
		clear_pages_scattered(dst, nr);
		for (unsigned i = 0; i < nr; i++) {
			assert_true(all_bytes_are(dst[i], PAGE_SIZE, 0));
			assert_true(all_bytes_are((u8 *)dst[i] + PAGE_SIZE, PAGE_SIZE, 0xee));
		}
	}
	free(from);
	free(to);
}

static void test_copy_pages(void **state)
{
	u8 *from = arena_alloc(), *to = arena_alloc();
	u64 seed = 1;

	(void)state;
	for (u64 i = 0; i < ARENA / sizeof(u64); i++)
		((u64 *)(void *)from)[i] = random_next(&seed);
	for (unsigned i = 0; i < ARRAY_SIZE(page_sizes); i++) {
		memset(to, 0xee, ARENA);
		copy_pages(to + PAGE_SIZE, from + 2 * PAGE_SIZE, page_sizes[i]);
		assert_memory_equal(to + PAGE_SIZE, from + 2 * PAGE_SIZE, page_sizes[i]);
		assert_true(all_bytes_are(to, PAGE_SIZE, 0xee));
		assert_true(all_bytes_are(to + PAGE_SIZE + page_sizes[i], PAGE_SIZE, 0xee));
	}
	free(from);
	free(to);
}

/* ---------------------------------------------------------------------------------------- a program's bytes */

#define AREA 96u

/* Every size at every pair of alignments, against memcpy. */
static void test_user_copies_every_byte(void **state)
{
	u8 from[AREA], to[AREA], expected[AREA];

	(void)state;
	for (unsigned i = 0; i < AREA; i++)
		from[i] = (u8)(i + 1);
	for (unsigned at = 0; at < 16; at++) {
		for (unsigned src = 0; src < 16; src++) {
			for (unsigned size = 0; size <= 64; size++) {
				memset(expected, 0, sizeof(expected));
				memcpy(expected + at, from + src, size);
				memset(to, 0, sizeof(to));
				copy_to_user(to + at, from + src, size);
				assert_memory_equal(to, expected, sizeof(to));
				memset(to, 0, sizeof(to));
				copy_from_user(to + at, from + src, size);
				assert_memory_equal(to, expected, sizeof(to));
			}
		}
	}
}

struct race {
	u64 word[2][64] __attribute__((aligned(64)));
	u8 small[64] __attribute__((aligned(64)));
	u32 stop; /* atomic */
};

/* Stores words whose bytes are all the same: eight bytes wide, and narrower ones that are aligned to their size only. */
static void *store_words(void *arg)
{
	struct race *r = arg;
	u8 pattern[sizeof(r->word[0])];

	for (u64 n = 0; !smp_load_acquire(&r->stop); n++) {
		memset(pattern, (int)(n & 0xff), sizeof(pattern));
		copy_to_user(r->word[n % 2], pattern, sizeof(pattern));
		copy_to_user(&r->word[n % 2][n % 64], pattern, sizeof(u64));
		copy_to_user(r->small + 4, pattern, 4);
		copy_to_user(r->small + 10, pattern, 2);
		/* The middle of a longer copy at odd ends. */
		copy_to_user(r->small + 15, pattern, 18);
	}
	return NULL;
}

static u64 torn_words(const u8 *bytes, size_t size)
{
	return all_bytes_are(bytes, size, bytes[0]) ? 0 : 1;
}

static void test_words_are_never_torn(void **state)
{
	static struct race r;
	u8 buf[64 * 8 + 1];
	pthread_t thread;
	u64 torn = 0;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, store_words, &r), 0);
	for (unsigned n = 0; n < 10000; n++) {
		/* Into a buffer that is not aligned itself. */
		copy_from_user(buf + 1, r.word[n % 2], sizeof(r.word[0]));
		for (unsigned i = 0; i < 64; i++)
			torn += torn_words(buf + 1 + 8ul * i, 8);
		copy_from_user(buf + 1, r.small, sizeof(r.small));
		torn += torn_words(buf + 1 + 4, 4) + torn_words(buf + 1 + 10, 2) + torn_words(buf + 1 + 16, 8) +
			torn_words(buf + 1 + 24, 8);
		copy_from_user(buf + 1, r.small + 4, 4);
		torn += torn_words(buf + 1, 4);
	}
	smp_store_release(&r.stop, 1);
	pthread_join(thread, NULL);
	assert_int_equal(torn, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clear_pages),	     cmocka_unit_test(test_copy_pages),
		cmocka_unit_test(test_scattered_pages),	     cmocka_unit_test(test_user_copies_every_byte),
		cmocka_unit_test(test_words_are_never_torn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
