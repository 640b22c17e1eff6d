/* SPDX-License-Identifier: MIT */
/*
 * Touches: a recorded access to a page becomes a real access to one or two lines of it, through the CPU's TLB and page
 * tables. What is read is compared, what is written can be told from everything else that is ever written.
 */
#include "trace/perform.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>

#define CHECK_LINES 4u /* read at once */

/* One touch on its way. */
struct touch {
	struct replay_cpu *cpu;
	const struct work_item *item;
	const struct replay_place *place;
	enum qrec_op kind;
	uint64_t addr; /* of the page */
	struct model_access access;
};

/* Lines of a page: first, first + step, ... below @end. */
struct lines {
	unsigned first, step, end;
};

/*
 * The lines that a CPU may store to. While other threads of the process may be storing to the same page, each CPU keeps to
 * its own lines: neither destroys what the other expects, yet both fault on the page at the same time. Pages of files are
 * locked, so all lines are anybody's.
 */
static struct lines my_lines(const struct touch *touch)
{
	struct lines lines = { 0, 1, touch->access.lines };

	/* A private copy of a file's page comes with a lock the first time only. */
	if (touch->item->threaded && touch->cpu->id < lines.end)
		lines = (struct lines){ touch->cpu->id, touch->cpu->replay->options.nr_cpus, lines.end };
	return lines;
}

/*
 * The line whose turn it is when @count others had theirs. Processes begin in different places: if fork has left parent
 * and child the same memory by mistake, neither must repair by chance what the other breaks.
 */
static unsigned line_at(const struct touch *touch, struct lines lines, uint32_t count)
{
	unsigned nr = (lines.end - lines.first + lines.step - 1) / lines.step;

	return lines.first + lines.step * ((count + touch->item->process->id * 23) % nr);
}

/* ------------------------------------------------------------------------------------------------------ errors */

/* Those that a memory access can raise. */
static const char *signal_name(int signo)
{
	return signo == SIGSEGV ? "SIGSEGV" : signo == SIGBUS ? "SIGBUS" : signo == SIGKILL ? "SIGKILL" : "a signal";
}

static const char *const kind_names[] = { [QREC_LOAD] = "load", [QREC_STORE] = "store", [QREC_FETCH] = "fetch" };

/* The access should have succeeded. */
static void fail_unexpected(const struct touch *touch, uint64_t addr, int err)
{
	struct quire_fault fault = { 0 };

	if (err == -ENOMEM) {
		replay_fail_memory(touch->cpu->replay, touch->place, kind_names[touch->kind]);
		return;
	}
	quire_cpu_fault(touch->cpu->cpu, &fault);
	replay_fail(touch->cpu->replay, touch->place,
		    "%s at %#" PRIx64 " gave %s (code %d, address %#" PRIx64 ") instead of succeeding",
		    kind_names[touch->kind], addr, signal_name(fault.signo), fault.code, fault.addr);
}

/* Names the first wrong byte. */
static void fail_wrong(const struct touch *touch, uint64_t addr, const uint64_t *expected, const uint64_t *actual)
{
	const uint8_t *want = (const uint8_t *)expected, *have = (const uint8_t *)actual;
	char wanted[96], found[96];
	unsigned at = 0;

	while (want[at] == have[at])
		at++;
	content_describe(expected[at / 8], wanted, sizeof(wanted));
	content_describe(actual[at / 8], found, sizeof(found));
	replay_fail_broken(touch->cpu->replay, touch->place,
			   "wrong byte at %#" PRIx64 ": expected %#04x (%016" PRIx64 ": %s), found %#04x (%016" PRIx64
			   ": %s)",
			   addr + at, want[at], expected[at / 8], wanted, have[at], actual[at / 8], found);
}

/* ---------------------------------------------------------------------------------------------------- accesses */

/* Through the CPU's TLB, faulting as the program would. */
static int access_line(struct replay_cpu *cpu, enum qrec_op kind, uint64_t addr, uint64_t *words, uint64_t len)
{
	switch (kind) {
	case QREC_STORE:
		return quire_store(cpu->cpu, addr, words, len);
	case QREC_FETCH:
		return quire_fetch(cpu->cpu, addr, words, len);
	default:
		return quire_load(cpu->cpu, addr, words, len);
	}
}

/* The same, timed; says what went wrong. */
static bool access_timed(const struct touch *touch, uint64_t addr, uint64_t *words, uint64_t len)
{
	uint64_t begin = timing_now();
	int err = access_line(touch->cpu, touch->kind, addr, words, len);

	perform_timed(touch->cpu, (enum replay_timed)(TIMED_LOAD + (unsigned)touch->kind), begin);
	if (err)
		fail_unexpected(touch, addr, err);
	return !err;
}

/*
 * A line is not what its mark, read before, said. That is right if another thread was just storing to it: it marks a line
 * as MARK_ANY before it stores, and with the new mark after, so that whoever sees the new bytes sees another mark, too; and
 * if it is the first to store to the page, it gives the page another content before.
 */
static bool was_changing(const struct touch *touch, unsigned line, uint32_t mark)
{
	if (!touch->item->threaded)
		return false;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return content_mark_of(touch->access.content, line) != mark ||
	       !model_is_current(touch->item->process->model, touch->addr >> QREC_PAGE_SHIFT, &touch->access);
}

/* MADV_FREE leaves two right answers until the line is stored to. */
static bool may_be_zero(const struct content *content, unsigned line)
{
	return content && __atomic_load_n(&content->lazy, __ATOMIC_RELAXED) >> line & 1;
}

/* Compares one line with what its @mark says. */
static bool compare_line(const struct touch *touch, unsigned line, uint32_t mark, const uint64_t *actual)
{
	static const uint64_t zeroes[CONTENT_WORDS];
	const struct content *content = touch->access.content;
	uint64_t expected[CONTENT_WORDS];

	if (!content_expected_if(content, mark, line, expected))
		return true;
	touch->cpu->checked++;
	if (!memcmp(actual, expected, CONTENT_LINE))
		return true;
	if (may_be_zero(content, line) && !memcmp(actual, zeroes, CONTENT_LINE))
		return true;
	if (was_changing(touch, line, mark))
		return true;
	fail_wrong(touch, touch->addr + (uint64_t)line * CONTENT_LINE, expected, actual);
	return false;
}

/* Reads @nr lines from @line on with one access, and compares them. */
static bool check_lines(const struct touch *touch, unsigned line, unsigned nr)
{
	uint64_t actual[CHECK_LINES * CONTENT_WORDS] = { 0 };
	uint32_t marks[CHECK_LINES];

	for (unsigned i = 0; i < nr; i++)
		marks[i] = content_mark_of(touch->access.content, line + i);
	if (!access_timed(touch, touch->addr + (uint64_t)line * CONTENT_LINE, actual, (uint64_t)nr * CONTENT_LINE))
		return false;
	for (unsigned i = 0; i < nr; i++)
		if (!compare_line(touch, line + i, marks[i], &actual[(size_t)i * CONTENT_WORDS]))
			return false;
	return true;
}

/* A load or fetch: lines that come round, and the one that was stored to last. */
static bool touch_read(const struct touch *touch)
{
	const struct lines all = { 0, 1, touch->access.lines };
	struct content *content = touch->access.content;
	uint32_t count =
		content ? __atomic_fetch_add(&content->checked, 1, __ATOMIC_RELAXED) : (uint32_t)touch->place->event;
	uint32_t last = content ? __atomic_load_n(&content->last, __ATOMIC_RELAXED) : 0;
	unsigned line = line_at(touch, all, count * CHECK_LINES), left = all.end - line;

	if (!check_lines(touch, line, left < CHECK_LINES ? left : CHECK_LINES))
		return false;
	/* The last line may be behind the end of the file by now. */
	return !last || last > all.end || check_lines(touch, last - 1, 1);
}

/* The model has given the page a content of its own already: only the marks are left to change. */
static bool touch_write(const struct touch *touch)
{
	struct content *content = touch->access.content;
	unsigned line = line_at(touch, my_lines(touch), __atomic_fetch_add(&content->next, 1, __ATOMIC_RELAXED));
	uint32_t mark = content_mark(touch->place->event);
	uint64_t words[CONTENT_WORDS];

	content_stored(mark, line, words);
	/* See was_changing. The fence pairs with its fence: nobody sees the bytes and not the mark. */
	__atomic_store_n(&content->mark[line], MARK_ANY, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (!access_timed(touch, touch->addr + (uint64_t)line * CONTENT_LINE, words, CONTENT_LINE))
		return false;
	/* Before the mark: a lazily freed line is one no more. */
	__atomic_fetch_and(&content->lazy, ~(1ull << line), __ATOMIC_RELAXED);
	__atomic_store_n(&content->mark[line], mark, __ATOMIC_RELEASE);
	__atomic_store_n(&content->last, line + 1, __ATOMIC_RELAXED);
	return true;
}

/* The file ends within the first line of this page: the access is made, what is there is not known. */
static bool touch_blindly(const struct touch *touch)
{
	uint64_t word = 0;

	if (touch->kind == QREC_STORE)
		touch->access.content->mark[0] = MARK_ANY;
	return access_timed(touch, touch->addr, &word, 1);
}

/* The model says that the program received a signal here. */
static bool touch_fault(const struct touch *touch, enum model_verdict verdict)
{
	int signo = verdict == MODEL_BUS ? SIGBUS : SIGSEGV, err;
	struct quire_fault fault = { 0 };
	uint64_t word = 0;

	err = access_line(touch->cpu, touch->kind, touch->addr, &word, sizeof(word));
	if (err == -ENOMEM) {
		replay_fail_memory(touch->cpu->replay, touch->place, kind_names[touch->kind]);
		return false;
	}
	if (err)
		quire_cpu_fault(touch->cpu->cpu, &fault);
	if (err == -EFAULT && fault.signo == signo && fault.addr == touch->addr)
		return true;
	replay_fail(touch->cpu->replay, touch->place, "%s at %#" PRIx64 " gave %s (address %#" PRIx64 ") instead of %s",
		    kind_names[touch->kind], touch->addr, err ? signal_name(fault.signo) : "no signal", fault.addr,
		    signal_name(signo));
	return false;
}

bool perform_touch(struct replay_cpu *cpu, const struct work_item *item, const struct replay_place *place,
		   uint64_t page, enum qrec_op kind)
{
	struct touch touch = { cpu, item, place, kind, page << QREC_PAGE_SHIFT, { 0 } };
	enum model_verdict verdict = model_begin(item->process->model, page, kind, &touch.access);
	bool ok;

	if (verdict == MODEL_NO_MEMORY) {
		replay_fail(cpu->replay, place, "the host has no memory for the model");
		return false;
	}
	if (verdict != MODEL_OK)
		return touch_fault(&touch, verdict);
	if (!touch.access.lines)
		ok = touch_blindly(&touch);
	else
		ok = kind == QREC_STORE ? touch_write(&touch) : touch_read(&touch);
	model_end(&touch.access);
	return ok;
}
