/* SPDX-License-Identifier: MIT */
/* Moving bytes: whole pages, zeroed and copied, and a program's own bytes. */
#include "machine/mmu.h"

void clear_pages(void *dst, size_t bytes)
{
	memset(dst, 0, bytes);
}

void copy_pages(void *dst, const void *src, size_t bytes)
{
	memcpy(dst, src, bytes);
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

HIDDEN void copy_from_user(void *dst, const void *frame, size_t size)
{
	const u8 *from = frame;
	u8 *to = dst;

	for (size_t n; size; from += n, to += n, size -= n) {
		n = piece(from, size);
		load_piece(to, from, n);
	}
}

HIDDEN void copy_to_user(void *frame, const void *src, size_t size)
{
	const u8 *from = src;
	u8 *to = frame;

	for (size_t n; size; from += n, to += n, size -= n) {
		n = piece(to, size);
		store_piece(to, from, n);
	}
}
