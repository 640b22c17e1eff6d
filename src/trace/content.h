/* SPDX-License-Identifier: MIT */
/*
 * What a replayed program's memory contains. A recording has no data, so the replay makes it up: each store writes a value
 * that says which event wrote it and where in its page; each file begins with a pattern that says which byte of which
 * file it is. A wrong byte found later then tells where it came from.
 *
 * Contents are kept as marks, not bytes: per page, for each line of 64 bytes, the event that stored to it last.
 */
#ifndef QUIRE_TRACE_CONTENT_H
#define QUIRE_TRACE_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_PAGE 4096u
#define CONTENT_LINE 64u			    /* bytes that one store writes */
#define CONTENT_LINES (CONTENT_PAGE / CONTENT_LINE) /* 64, so that a set of lines is one word */
#define CONTENT_WORDS (CONTENT_LINE / 8)

/* Marks that are not the number of a store. Numbers are cut to 32 bits and never 0 or one of these. */
#define MARK_BASE 0u	      /* nothing was stored: what the page began with */
#define MARK_ZERO 0xffffffffu /* zeroes: what truncation leaves */
#define MARK_ANY 0xfffffffeu  /* not known: partly stored, partly truncated */

/*
 * The contents of one page. Shared by all address spaces that have the same page, as fork leaves it; copied before one of
 * them stores. Lock letters: [a] atomic, [o] written only by the CPU that owns the line, or by whoever has the page to
 * himself (model.h); others may look (touch.c says how).
 */
struct content {
	uint64_t refs;		      /* [a] owners, and CPUs that look at it (CONTENT_PIN) */
	uint32_t base_file;	      /* file id + 1 whose pattern the page began with; 0: zeroes */
	uint32_t base_valid;	      /* bytes of the pattern; zeroes follow */
	uint64_t base_page;	      /* page of that file */
	uint64_t lazy;		      /* [a] lines that may also read as zeroes: MADV_FREE, and not stored to since */
	uint32_t next;		      /* [a] counts stores, so that they go round the page */
	uint32_t last;		      /* [a] the line that was stored to last, plus one; 0: none */
	uint32_t checked;	      /* [a] counts checks, likewise */
	uint32_t mark[CONTENT_LINES]; /* [o] */
};

#define CONTENT_OWNER 1u	 /* one address space or file that has the page */
#define CONTENT_PIN (1ull << 32) /* one CPU that is looking at it */

/* A page of zeroes with one owner; NULL: no memory. *@live counts pages that exist. */
struct content *content_create(uint64_t *live);
/* A copy with one owner, to be stored to. */
struct content *content_copy(const struct content *content, uint64_t *live);

void content_get(struct content *content, uint64_t ref);
/* Drops a reference; the last one frees. NULL is allowed. */
void content_put(struct content *content, uint64_t ref, uint64_t *live);
/* True if nobody but the caller owns it. */
bool content_is_exclusive(const struct content *content);

/* The mark of the store that event @number makes. */
uint32_t content_mark(uint64_t number);

/* What a store with @mark writes to @line. */
void content_stored(uint32_t mark, unsigned line, uint64_t words[CONTENT_WORDS]);

/* The pattern of a line of a file: @valid bytes of this page are pattern, the rest zeroes. @file is id + 1. */
void content_pattern(uint32_t file, uint64_t page, uint32_t valid, unsigned line, uint64_t words[CONTENT_WORDS]);

/* The mark of a line, which another CPU may be changing. @content NULL: a page of zeroes. */
static inline uint32_t content_mark_of(const struct content *content, unsigned line)
{
	return content ? __atomic_load_n(&content->mark[line], __ATOMIC_ACQUIRE) : MARK_ZERO;
}

/* What @line must contain if its mark is @mark. False: anything is right. */
bool content_expected_if(const struct content *content, uint32_t mark, unsigned line, uint64_t words[CONTENT_WORDS]);

/* The same with the mark that it has. */
bool content_expected(const struct content *content, unsigned line, uint64_t words[CONTENT_WORDS]);

/* Says for a person what a wrong word looks like: "word 5 of a line stored by event 17". */
void content_describe(uint64_t word, char *text, size_t len);

#endif
