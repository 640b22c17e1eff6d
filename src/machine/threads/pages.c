/* SPDX-License-Identifier: MIT */
/* Moving bytes: whole pages, zeroed and copied, and a program's own bytes. */
#include <emmintrin.h>

#include "machine/mmu.h"
#include "sanitizer.h"

/* ---------------------------------------------------------------------------------------- whole pages
 *
 * From STREAM_MIN on, stores go past the caches: the host need not read each line before it is overwritten, which halves the
 * traffic. The price is that the program then finds the page in memory and not in the caches. Measured in ns per 4 KiB, frames in
 * random order in 1 GiB, then one word of each page touched / all lines read (Xeon with AVX-512, 2.5 GHz, virtual):
 *
 *              clear: memset  streamed        copy: memcpy  streamed
 *      4 KiB      440 / 420   410 / 1000         720 / 620   620 / 1300
 *     16 KiB      370 / 370   220 /  480         690 / 650   450 /  730
 *     64 KiB      410 / 415   185 /  440         560 / 620   420 /  680
 *      2 MiB      430 / 440   170 /  430         560 / 730   400 /  670
 *
 * So a single page, which its program is about to use, stays in the caches; large folios are more than what it uses soon, and
 * so are many single pages at once. What makes streaming a single page slow is the fence: with one fence for 32 pages
 * anywhere in memory, zeroing one takes 185 ns, as if they were adjacent.
 * (`rep stosb` is what memset does at these sizes; streaming with 32 or 64 bytes at a time is no faster than with 16.)
 */
#ifdef THREAD_SANITIZER
#define STREAM_MIN SIZE_MAX /* it watches memset and memcpy, but does not see these stores */
#else
#define STREAM_MIN (64u << 10)
#endif

static void stream_zeroes(__m128i *dst, size_t bytes)
{
	const __m128i *end = dst + bytes / sizeof(*dst);
	const __m128i zero = _mm_setzero_si128();

	for (; dst < end; dst += 4) {
		_mm_stream_si128(dst, zero);
		_mm_stream_si128(dst + 1, zero);
		_mm_stream_si128(dst + 2, zero);
		_mm_stream_si128(dst + 3, zero);
	}
}

static void stream_copy(__m128i *dst, const __m128i *src, size_t bytes)
{
	const __m128i *end = dst + bytes / sizeof(*dst);

	for (; dst < end; dst += 4, src += 4) {
		__m128i a = _mm_load_si128(src), b = _mm_load_si128(src + 1);
		__m128i c = _mm_load_si128(src + 2), d = _mm_load_si128(src + 3);

		_mm_stream_si128(dst, a);
		_mm_stream_si128(dst + 1, b);
		_mm_stream_si128(dst + 2, c);
		_mm_stream_si128(dst + 3, d);
	}
}

/* Streaming stores are not ordered with others; whoever publishes the pages relies on a release alone. */
static void stream_end(void)
{
	_mm_sfence();
}

void clear_pages(void *dst, size_t bytes)
{
	if (bytes < STREAM_MIN) {
		memset(dst, 0, bytes);
		return;
	}
	stream_zeroes(dst, bytes);
	stream_end();
}

void copy_pages(void *dst, const void *src, size_t bytes)
{
	if (bytes < STREAM_MIN) {
		memcpy(dst, src, bytes);
		return;
	}
	stream_copy(dst, src, bytes);
	stream_end();
}

void clear_pages_scattered(void *const *pages, unsigned nr)
{
	bool stream = nr * PAGE_SIZE >= STREAM_MIN;

	for (unsigned i = 0; i < nr; i++) {
		if (stream)
			stream_zeroes(pages[i], PAGE_SIZE);
		else
			memset(pages[i], 0, PAGE_SIZE);
	}
	stream_end();
}

void copy_pages_scattered(void *const *dst, void *const *src, unsigned nr)
{
	bool stream = nr * PAGE_SIZE >= STREAM_MIN;

	for (unsigned i = 0; i < nr; i++) {
		if (stream)
			stream_copy(dst[i], src[i], PAGE_SIZE);
		else
			memcpy(dst[i], src[i], PAGE_SIZE);
	}
	stream_end();
}

/* ---------------------------------------------------------------------------------------- a program's bytes
 *
 * Loads and stores of a program that race with each other are the program's affair, and legal here: each is done in pieces
 * of 8, 4, 2 and 1 bytes, every piece aligned and one relaxed access, so that no aligned word of the program is ever torn.
 * These functions are hidden from the thread sanitizer, and call nothing that it would intercept.
 */
#define HIDDEN __attribute__((no_sanitize("thread")))

/* What a caller's buffer may be: anything, anywhere. */
struct any64 {
	u64 value;
} __attribute__((packed, may_alias));
struct any32 {
	u32 value;
} __attribute__((packed, may_alias));
struct any16 {
	u16 value;
} __attribute__((packed, may_alias));

/* The largest piece that is aligned in the frame at @frame and fits into @size, which is not 0. */
HIDDEN static inline size_t piece(const u8 *frame, size_t size)
{
	size_t bits = (size_t)(uintptr_t)frame | 8, aligned = bits & -bits;

	while (aligned > size)
		aligned >>= 1;
	return aligned;
}

HIDDEN static inline void load_piece(void *to, const void *frame, size_t n)
{
	switch (n) {
	case 8:
		((struct any64 *)to)->value = READ_ONCE(*(const u64 *)frame);
		break;
	case 4:
		((struct any32 *)to)->value = READ_ONCE(*(const u32 *)frame);
		break;
	case 2:
		((struct any16 *)to)->value = READ_ONCE(*(const u16 *)frame);
		break;
	default:
		*(u8 *)to = READ_ONCE(*(const u8 *)frame);
	}
}

HIDDEN static inline void store_piece(void *frame, const void *from, size_t n)
{
	switch (n) {
	case 8:
		WRITE_ONCE(*(u64 *)frame, ((const struct any64 *)from)->value);
		break;
	case 4:
		WRITE_ONCE(*(u32 *)frame, ((const struct any32 *)from)->value);
		break;
	case 2:
		WRITE_ONCE(*(u16 *)frame, ((const struct any16 *)from)->value);
		break;
	default:
		WRITE_ONCE(*(u8 *)frame, *(const u8 *)from);
	}
}

HIDDEN static inline bool word_aligned(const u8 *frame)
{
	return !((uintptr_t)frame & 7);
}

HIDDEN void copy_from_user(void *dst, const void *frame, size_t size)
{
	const u8 *from = frame;
	u8 *to = dst;

	for (;;) {
		size_t n;

		for (; size >= 8 && word_aligned(from); from += 8, to += 8, size -= 8)
			load_piece(to, from, 8);
		if (!size)
			return;
		n = piece(from, size);
		load_piece(to, from, n);
		from += n;
		to += n;
		size -= n;
	}
}

HIDDEN void copy_to_user(void *frame, const void *src, size_t size)
{
	const u8 *from = src;
	u8 *to = frame;

	for (;;) {
		size_t n;

		for (; size >= 8 && word_aligned(to); from += 8, to += 8, size -= 8)
			store_piece(to, from, 8);
		if (!size)
			return;
		n = piece(to, size);
		store_piece(to, from, n);
		from += n;
		to += n;
		size -= n;
	}
}
