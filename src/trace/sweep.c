/* SPDX-License-Identifier: MIT */
/*
 * The last look at an address space: before it ends, all of the memory that it has to itself is compared, not only what the
 * program came back to. Read as one process reads another's memory, so that neither TLBs nor fault counters notice.
 */
#include "trace/perform.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

struct sweep {
	struct replay_cpu *cpu;
	const struct work_item *item;
};

static void fail_wrong(const struct sweep *sweep, uint64_t addr, uint64_t expected, uint64_t actual)
{
	char wanted[96], found[96];

	content_describe(expected, wanted, sizeof(wanted));
	content_describe(actual, found, sizeof(found));
	replay_fail_broken(sweep->cpu->replay, &sweep->item->place,
			   "at the end of the address space: wrong byte at %#" PRIx64 ": expected %016" PRIx64
			   " (%s), found %016" PRIx64 " (%s)",
			   addr, expected, wanted, actual, found);
}

/* All lines of one page. False: one is wrong, and that was said. */
static bool compare_page(const struct sweep *sweep, uint64_t addr, const struct content *content,
			 const uint64_t *actual)
{
	static const uint64_t zeroes[CONTENT_WORDS];
	uint64_t expected[CONTENT_WORDS];

	for (unsigned line = 0; line < CONTENT_LINES; line++, actual += CONTENT_WORDS, addr += CONTENT_LINE) {
		unsigned at = 0;

		if (!content_expected(content, line, expected))
			continue;
		sweep->cpu->checked++;
		if (!memcmp(expected, actual, CONTENT_LINE) ||
		    (content->lazy >> line & 1 && !memcmp(actual, zeroes, CONTENT_LINE)))
			continue;
		while (expected[at] == actual[at])
			at++;
		fail_wrong(sweep, addr + (uint64_t)at * 8, expected[at], actual[at]);
		return false;
	}
	return true;
}

/* Private copies of file pages too; what the process only shares is compared when the files are closed. */
static void sweep_page(void *arg, uint64_t page, struct content **place)
{
	const struct sweep *sweep = arg;
	const struct replay_process *process = sweep->item->process;
	uint64_t addr = page * CONTENT_PAGE, words[CONTENT_LINES * CONTENT_WORDS];
	const struct range *range = ranges_find(&process->model->ranges, addr);
	int64_t got;

	/* What the program could not read itself nobody reads in its place. */
	if (*place == &pagemap_guard || !range || !(range->prot & PROT_READ) || replay_stopped(sweep->cpu->replay))
		return;
	got = quire_mm_read(sweep->cpu->cpu, process->mm, addr, words, sizeof(words));
	if (got != (int64_t)sizeof(words))
		replay_fail(sweep->cpu->replay, &sweep->item->place,
			    "at the end of the address space: reading the page at %#" PRIx64 " gave %" PRId64, addr,
			    got);
	else
		compare_page(sweep, addr, *place, words);
}

void perform_sweep(struct replay_cpu *cpu, const struct work_item *item)
{
	struct sweep sweep = { cpu, item };

	pagemap_for_each(&item->process->model->pages, 0, UINT64_MAX, sweep_page, &sweep);
}
