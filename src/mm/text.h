/* SPDX-License-Identifier: MIT */
/* Building short texts in a buffer: what the views of /proc and the reports of validation need, and no more. */
#ifndef QUIRE_MM_TEXT_H
#define QUIRE_MM_TEXT_H

#include "machine/machine.h"

/* A text being built. What does not fit is dropped: callers size their buffers. The caller's own. */
struct text {
	char *buf;
	size_t size; /* of buf */
	size_t len;  /* written so far; not NUL-terminated */
};

static inline void text_init(struct text *text, char *buf, size_t size)
{
	text->buf = buf;
	text->size = size;
	text->len = 0;
}

void text_char(struct text *text, char c);
void text_str(struct text *text, const char *str);
/* The same, padded with blanks on the right to @width characters. */
void text_label(struct text *text, const char *str, size_t width);
/* Blanks, until the text is @len characters longer than it was at @from. */
void text_pad_to(struct text *text, size_t from, size_t len);
/* Decimal, right-justified with blanks to at least @width. */
void text_dec(struct text *text, u64 value, unsigned width);
/* Lower-case hexadecimal without prefix, zero-padded to at least @width. */
void text_hex(struct text *text, u64 value, unsigned width);

#endif
