/* SPDX-License-Identifier: MIT */
/* Texts in a buffer, without a libc. See text.h. */
#include "mm/text.h"

void text_char(struct text *text, char c)
{
	if (text->len < text->size)
		text->buf[text->len++] = c;
}

void text_str(struct text *text, const char *str)
{
	while (*str)
		text_char(text, *str++);
}

void text_pad_to(struct text *text, size_t from, size_t len)
{
	while (text->len - from < len && text->len < text->size)
		text_char(text, ' ');
}

void text_label(struct text *text, const char *str, size_t width)
{
	size_t from = text->len;

	text_str(text, str);
	text_pad_to(text, from, width);
}

#define MAX_DIGITS 20u /* of a u64 in decimal */

static void text_number(struct text *text, u64 value, unsigned base, unsigned width, char fill)
{
	char digits[MAX_DIGITS];
	unsigned nr = 0;

	do {
		digits[nr++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	for (unsigned i = nr; i < width; i++)
		text_char(text, fill);
	while (nr > 0)
		text_char(text, digits[--nr]);
}

void text_dec(struct text *text, u64 value, unsigned width)
{
	text_number(text, value, 10, width, ' ');
}

void text_hex(struct text *text, u64 value, unsigned width)
{
	text_number(text, value, 16, width, '0');
}
