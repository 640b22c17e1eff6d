/* SPDX-License-Identifier: MIT */
/* A growing text: what maps and smaps are read into and what a failure's description is written into. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "executor.h"

static int text_reserve(struct text *t, size_t more)
{
	size_t size = t->size ? t->size : 4096;
	char *data;

	if (t->len + more + 1 <= t->size)
		return 0;
	while (size < t->len + more + 1)
		size *= 2;
	data = realloc(t->data, size);
	if (!data)
		return -ENOMEM;
	t->data = data;
	t->size = size;
	return 0;
}

int text_append(struct text *t, const char *data, size_t len)
{
	int err = text_reserve(t, len);

	if (err)
		return err;
	memcpy(t->data + t->len, data, len);
	t->len += len;
	t->data[t->len] = '\0';
	return 0;
}

int text_printf(struct text *t, const char *format, ...)
{
	char line[2048];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	return text_append(t, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

void text_free(struct text *t)
{
	free(t->data);
	memset(t, 0, sizeof(*t));
}
