/* SPDX-License-Identifier: MIT */
/*
 * Values that name their origin, and pages made of marks. Every word is distinct from every word of any other line, event
 * or file, so bytes that end up in the wrong place cannot look right by chance.
 */
#include "trace/content.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The top byte says what kind of word it is; zero is neither. */
#define STORED_TAG 0x5eull
#define PATTERN_TAG 0xf1ull
#define TAG_SHIFT 56

/* Counted, so that a test can tell that every page that was made has gone again. */
struct content *content_create(uint64_t *live)
{
	struct content *content = calloc(1, sizeof(*content));

	if (!content)
		return NULL;
	content->refs = CONTENT_OWNER;
	__atomic_fetch_add(live, 1, __ATOMIC_RELAXED);
	return content;
}

/*
 * Marks, pattern and lazy lines: everything but who owns it. Nobody may be storing to the original, which is why it
 * has to be copied.
 */
struct content *content_copy(const struct content *content, uint64_t *live)
{
	struct content *copy = content_create(live);

	if (!copy)
		return NULL;
	memcpy(copy, content, sizeof(*copy));
	copy->refs = CONTENT_OWNER;
	return copy;
}

/* Relaxed: whoever takes a reference has one, or holds the lock under which the page was found. */
void content_get(struct content *content, uint64_t ref)
{
	__atomic_fetch_add(&content->refs, ref, __ATOMIC_RELAXED);
}

void content_put(struct content *content, uint64_t ref, uint64_t *live)
{
	if (!content)
		return;
	/* Acquire and release: whoever frees has seen what the others did with it. */
	if (__atomic_sub_fetch(&content->refs, ref, __ATOMIC_ACQ_REL))
		return;
	__atomic_fetch_sub(live, 1, __ATOMIC_RELAXED);
	free(content);
}

/* Pins do not count: a CPU that only looks takes nothing away from a store. */
bool content_is_exclusive(const struct content *content)
{
	return (uint32_t)__atomic_load_n(&content->refs, __ATOMIC_ACQUIRE) == CONTENT_OWNER;
}

/* One more than the number, since 0 says that nothing was stored. After 2^32 events marks come again, far apart. */
uint32_t content_mark(uint64_t number)
{
	uint32_t mark = (uint32_t)(number + 1);

	return mark == MARK_BASE || mark >= MARK_ANY ? 1 : mark;
}

/* Tag, mark and place: no two words of a replay are the same, unless 2^32 events lie between them. */
void content_stored(uint32_t mark, unsigned line, uint64_t words[CONTENT_WORDS])
{
	for (unsigned i = 0; i < CONTENT_WORDS; i++)
		words[i] = STORED_TAG << TAG_SHIFT | (uint64_t)mark << 16 | (line * CONTENT_WORDS + i);
}

/* The word at byte @at of the page, of which @valid bytes exist. */
static uint64_t pattern_word(uint32_t file, uint64_t page, uint32_t valid, unsigned at)
{
	uint64_t word = PATTERN_TAG << TAG_SHIFT | (uint64_t)(file & 0xffff) << 40 | (page & 0x7fffffff) << 9 | at / 8;

	if (at + 8 <= valid)
		return word;
	return at >= valid ? 0 : word & ((1ull << 8 * (valid - at)) - 1);
}

/* Word by word, the one that the end of the pattern cuts in part. */
void content_pattern(uint32_t file, uint64_t page, uint32_t valid, unsigned line, uint64_t words[CONTENT_WORDS])
{
	for (unsigned i = 0; i < CONTENT_WORDS; i++)
		words[i] = pattern_word(file, page, valid, line * CONTENT_LINE + 8 * i);
}

bool content_expected_if(const struct content *content, uint32_t mark, unsigned line, uint64_t words[CONTENT_WORDS])
{
	if (mark == MARK_ANY)
		return false;
	if (mark == MARK_BASE && content->base_file)
		content_pattern(content->base_file, content->base_page, content->base_valid, line, words);
	else if (mark == MARK_BASE || mark == MARK_ZERO)
		memset(words, 0, CONTENT_LINE);
	else
		content_stored(mark, line, words);
	return true;
}

bool content_expected(const struct content *content, unsigned line, uint64_t words[CONTENT_WORDS])
{
	return content_expected_if(content, content_mark_of(content, line), line, words);
}

/* The inverse of the above: what was read says who wrote it. */
void content_describe(uint64_t word, char *text, size_t len)
{
	if (!word)
		snprintf(text, len, "zero");
	else if (word >> TAG_SHIFT == STORED_TAG)
		snprintf(text, len, "word %u of a page, stored by event %" PRIu64, (unsigned)(word & 0x1ff),
			 (word >> 16 & 0xffffffff) - 1);
	else if (word >> TAG_SHIFT == PATTERN_TAG)
		snprintf(text, len, "word %u of page %" PRIu64 " of file %u", (unsigned)(word & 0x1ff),
			 word >> 9 & 0x7fffffff, (unsigned)(word >> 40 & 0xffff) - 1);
	else
		snprintf(text, len, "nothing that was ever written");
}
