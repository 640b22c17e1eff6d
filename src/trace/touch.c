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

/* The lines of a page that a CPU may use: first, first + step, ... below @end. */
struct lines {
	unsigned first, step, end;
};

/*
 * While other threads of the process may be accessing the same page, each CPU keeps to its own lines: neither disturbs what
 * the other expects, yet both fault on the page at the same time.
 */
static struct lines my_lines(const struct replay_cpu *cpu, const struct work_item *item, unsigned end)
{
	struct lines lines = { 0, 1, end };
	unsigned step = cpu->replay->options.nr_cpus;

	/* Behind the beginning of a short page at the end of a file, which is locked anyway, one line must do. */
	if (item->threaded && cpu->id < end)
		lines = (struct lines){ cpu->id, step, end };
	return lines;
}

/*
 * The line whose turn it is when @count others had theirs. Processes begin in different places: if fork has left parent
 * and child the same memory by mistake, neither must repair by chance what the other breaks.
 */
static unsigned line_at(const struct work_item *item, struct lines lines, uint32_t count)
{
	unsigned nr = (lines.end - lines.first + lines.step - 1) / lines.step;

	return lines.first + lines.step * ((count + item->process->id * 23) % nr);
}

/* ------------------------------------------------------------------------------------------------------ errors */

static const char *signal_name(int signo)
{
	return signo == SIGSEGV ? "SIGSEGV" : signo == SIGBUS ? "SIGBUS" : signo == SIGKILL ? "SIGKILL" : "a signal";
}

static const char *const kind_names[] = { [QREC_LOAD] = "load", [QREC_STORE] = "store", [QREC_FETCH] = "fetch" };

/* The access should have succeeded. */
static void fail_unexpected(struct replay_cpu *cpu, const struct replay_place *place, enum qrec_op kind, uint64_t addr,
			    int err)
{
	struct quire_fault fault = { 0 };

	if (err == -ENOMEM) {
		replay_fail_memory(cpu->replay, place, kind_names[kind]);
		return;
	}
	quire_cpu_fault(cpu->cpu, &fault);
	replay_fail(cpu->replay, place,
		    "%s at %#" PRIx64 " gave %s (code %d, address %#" PRIx64 ") instead of succeeding",
		    kind_names[kind], addr, signal_name(fault.signo), fault.code, fault.addr);
}

/* Names the first wrong byte. */
static void fail_wrong(struct replay_cpu *cpu, const struct replay_place *place, uint64_t addr,
		       const uint64_t *expected, const uint64_t *actual)
{
	const uint8_t *want = (const uint8_t *)expected, *have = (const uint8_t *)actual;
	char wanted[96], found[96];
	unsigned at = 0;

	while (want[at] == have[at])
		at++;
	content_describe(expected[at / 8], wanted, sizeof(wanted));
	content_describe(actual[at / 8], found, sizeof(found));
	replay_fail(cpu->replay, place,
		    "wrong byte at %#" PRIx64 ": expected %#04x (%016" PRIx64 ": %s), found %#04x (%016" PRIx64 ": %s)",
		    addr + at, want[at], expected[at / 8], wanted, have[at], actual[at / 8], found);
}

/* ---------------------------------------------------------------------------------------------------- accesses */

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
static bool access_timed(struct replay_cpu *cpu, const struct replay_place *place, enum qrec_op kind, uint64_t addr,
			 uint64_t *words, uint64_t len)
{
	uint64_t begin = timing_now();
	int err = access_line(cpu, kind, addr, words, len);

	perform_timed(cpu, (enum replay_timed)(TIMED_LOAD + (unsigned)kind), begin);
	if (err)
		fail_unexpected(cpu, place, kind, addr, err);
	return !err;
}

/* Compares one line. MADV_FREE leaves two right answers until the line is stored to. */
static bool compare_line(struct replay_cpu *cpu, const struct replay_place *place, uint64_t addr,
			 const struct content *content, unsigned line, const uint64_t *actual)
{
	static const uint64_t zeroes[CONTENT_WORDS];
	uint64_t expected[CONTENT_WORDS];

	if (!content_expected(content, line, expected))
		return true;
	cpu->checked++;
	if (!memcmp(actual, expected, CONTENT_LINE))
		return true;
	if (content && __atomic_load_n(&content->lazy, __ATOMIC_RELAXED) >> line & 1 &&
	    !memcmp(actual, zeroes, CONTENT_LINE))
		return true;
	fail_wrong(cpu, place, addr + line * CONTENT_LINE, expected, actual);
	return false;
}

/* Reads @nr lines from @line on with one access, and compares them. */
static bool check_lines(struct replay_cpu *cpu, const struct replay_place *place, enum qrec_op kind, uint64_t addr,
			const struct content *content, unsigned line, unsigned nr)
{
	uint64_t actual[CHECK_LINES * CONTENT_WORDS];

	if (!access_timed(cpu, place, kind, addr + line * CONTENT_LINE, actual, nr * CONTENT_LINE))
		return false;
	for (unsigned i = 0; i < nr; i++)
		if (!compare_line(cpu, place, addr, content, line + i, &actual[i * CONTENT_WORDS]))
			return false;
	return true;
}

/* Some lines whose turn it is: one, or several that follow each other if all are ours. */
static bool check_some(struct replay_cpu *cpu, const struct work_item *item, const struct replay_place *place,
		       enum qrec_op kind, uint64_t addr, const struct content *content, uint32_t count,
		       struct lines lines)
{
	unsigned line = line_at(item, lines, lines.step > 1 ? count : count * CHECK_LINES), nr = 1;

	if (lines.step == 1)
		nr = lines.end - line < CHECK_LINES ? lines.end - line : CHECK_LINES;
	return check_lines(cpu, place, kind, addr, content, line, nr);
}

/* A load or fetch: lines that come round, and the one that was stored to last. */
static bool touch_read(struct replay_cpu *cpu, const struct work_item *item, const struct replay_place *place,
		       enum qrec_op kind, uint64_t addr, const struct model_access *access, struct lines lines)
{
	struct content *content = access->content;
	uint32_t count, last;

	if (!content)
		return check_some(cpu, item, place, kind, addr, NULL, (uint32_t)place->event, lines);
	count = __atomic_fetch_add(&content->checked, 1, __ATOMIC_RELAXED);
	last = __atomic_load_n(&content->last, __ATOMIC_RELAXED);
	if (!check_some(cpu, item, place, kind, addr, content, count, lines))
		return false;
	/* Not if it is another CPU's, which may be storing to it right now, or behind the end of a file. */
	if (!last || last > lines.end || (last - 1) % lines.step != lines.first % lines.step)
		return true;
	return check_lines(cpu, place, kind, addr, content, last - 1, 1);
}

static bool touch_write(struct replay_cpu *cpu, const struct work_item *item, const struct replay_place *place,
			uint64_t addr, const struct model_access *access, struct lines lines)
{
	struct content *content = access->content;
	unsigned line = line_at(item, lines, __atomic_fetch_add(&content->next, 1, __ATOMIC_RELAXED));
	uint32_t mark = content_mark(place->event);
	uint64_t words[CONTENT_WORDS];

	content_stored(mark, line, words);
	if (!access_timed(cpu, place, QREC_STORE, addr + line * CONTENT_LINE, words, CONTENT_LINE))
		return false;
	content->mark[line] = mark;
	__atomic_store_n(&content->last, line + 1, __ATOMIC_RELAXED);
	__atomic_fetch_and(&content->lazy, ~(1ull << line), __ATOMIC_RELAXED);
	return true;
}

/* The file ends within the first line of this page: the access is made, what is there is not known. */
static bool touch_blindly(struct replay_cpu *cpu, const struct replay_place *place, enum qrec_op kind, uint64_t addr,
			  const struct model_access *access)
{
	uint64_t word = 0;

	if (kind == QREC_STORE)
		access->content->mark[0] = MARK_ANY;
	return access_timed(cpu, place, kind, addr, &word, 1);
}

/* The model says that the program received a signal here. */
static bool touch_fault(struct replay_cpu *cpu, const struct replay_place *place, enum qrec_op kind, uint64_t addr,
			enum model_verdict verdict)
{
	int signo = verdict == MODEL_BUS ? SIGBUS : SIGSEGV, err;
	struct quire_fault fault = { 0 };
	uint64_t word = 0;

	err = access_line(cpu, kind, addr, &word, sizeof(word));
	if (err == -ENOMEM) {
		replay_fail_memory(cpu->replay, place, kind_names[kind]);
		return false;
	}
	if (err)
		quire_cpu_fault(cpu->cpu, &fault);
	if (err == -EFAULT && fault.signo == signo && fault.addr == addr)
		return true;
	replay_fail(cpu->replay, place, "%s at %#" PRIx64 " gave %s (address %#" PRIx64 ") instead of %s",
		    kind_names[kind], addr, err ? signal_name(fault.signo) : "no signal", fault.addr,
		    signal_name(signo));
	return false;
}

static bool touch_memory(struct replay_cpu *cpu, const struct work_item *item, const struct replay_place *place,
			 enum qrec_op kind, uint64_t addr, const struct model_access *access)
{
	struct lines lines = my_lines(cpu, item, access->lines);

	if (!access->lines)
		return touch_blindly(cpu, place, kind, addr, access);
	if (kind == QREC_STORE)
		return touch_write(cpu, item, place, addr, access, lines);
	return touch_read(cpu, item, place, kind, addr, access, lines);
}

bool perform_touch(struct replay_cpu *cpu, const struct work_item *item, const struct replay_place *place,
		   uint64_t page, enum qrec_op kind)
{
	uint64_t addr = page << QREC_PAGE_SHIFT;
	struct model_access access;
	enum model_verdict verdict = model_begin(item->process->model, page, kind, &access);
	bool ok;

	if (verdict == MODEL_NO_MEMORY) {
		replay_fail(cpu->replay, place, "the host has no memory for the model");
		return false;
	}
	if (verdict != MODEL_OK)
		return touch_fault(cpu, place, kind, addr, verdict);
	ok = touch_memory(cpu, item, place, kind, addr, &access);
	model_end(&access);
	return ok;
}
