/* SPDX-License-Identifier: MIT */
/*
 * What "the same" means. Results, signals and bytes read are compared after every operation, and so is the list of VMAs
 * of the process that did it; everything else (all processes, residency, contents, counters, files) after every few
 * operations and at the end. Nothing here may change what it looks at: memory is read only where both sides say it is
 * present, until the final pass, which reads all of it.
 *
 * The few differences that are tolerated are named by their number in docs/differences.md.
 */
#define _GNU_SOURCE
#include "compare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "layout.h"

const char *const verdict_names[VERDICT_KINDS] = {
	[VERDICT_SAME] = "same",       [VERDICT_RESULT] = "result",	  [VERDICT_DATA] = "data",
	[VERDICT_MAPS] = "maps",       [VERDICT_FLAGS] = "vmflags",	  [VERDICT_RESIDENCY] = "residency",
	[VERDICT_CONTENT] = "content", [VERDICT_MINCORE] = "mincore",	  [VERDICT_USAGE] = "usage",
	[VERDICT_FILE] = "file",       [VERDICT_INVARIANT] = "invariant", [VERDICT_CRASH] = "crash",
	[VERDICT_HANG] = "hang",       [VERDICT_HARNESS] = "harness",
};

/* Residency is compared for this many pages of each VMA; the filler above the high window is much longer. */
#define RESIDENCY_PAGES 2200u

/* ----------------------------------------------------------------------------------------------------- verdicts */

__attribute__((format(printf, 3, 4))) static bool differ(struct pair *p, enum verdict_kind kind, const char *format,
							 ...)
{
	va_list ap;

	p->verdict.kind = kind;
	p->verdict.sign[0] = '\0';
	va_start(ap, format);
	vsnprintf(p->verdict.text, sizeof(p->verdict.text), format, ap);
	va_end(ap);
	return false;
}

/* For the verdict just made: what @was and @is say. */
static bool sign(struct pair *p, const char *was, const char *is)
{
	snprintf(p->verdict.sign, sizeof(p->verdict.sign), "%s|%s", was, is);
	return false;
}

static bool harness_failed(struct pair *p, const struct executor *x, const char *what, int64_t err)
{
	return differ(p, VERDICT_HARNESS, "%s: %s: %s", x->label, what, strerror((int)-err));
}

/* ------------------------------------------------------------------------------------------------------ outcomes */

static void describe_outcome(const struct outcome *o, char *buf, size_t size)
{
	if (o->skipped)
		snprintf(buf, size, "not done: no such process");
	else if (o->signo)
		snprintf(buf, size, "signal %d code %d at 0x%" PRIx64, o->signo, o->code, o->fault_addr);
	else if (o->ret < 0 && o->ret > -4096)
		snprintf(buf, size, "%s", strerrorname_np((int)-o->ret));
	else
		snprintf(buf, size, "0x%" PRIx64, (uint64_t)o->ret);
}

/* The same without addresses. */
static const char *outcome_sign(const struct outcome *o)
{
	if (o->signo)
		return o->signo == 7 ? "SIGBUS" : o->code == 1 ? "SIGSEGV, not mapped" : "SIGSEGV, not allowed";
	return o->ret < 0 && o->ret > -4096 ? strerrorname_np((int)-o->ret) : "success";
}

static bool same_outcome(const struct outcome *a, const struct outcome *b)
{
	return a->skipped == b->skipped && a->ret == b->ret && a->signo == b->signo && a->code == b->code &&
	       a->fault_addr == b->fault_addr;
}

static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t len)
{
	size_t i = 0;

	while (i < len && a[i] == b[i])
		i++;
	return i;
}

/* ------------------------------------------------------------------------------------------------------ tolerance */

/* The number of the file that the VMA maps, or MAX_FILES: none of ours. */
static unsigned file_of(const struct pair *p, const struct vma *v)
{
	unsigned file = 0;

	while (file < MAX_FILES && (!v || v->inode != p->file_inode[file]))
		file++;
	return file;
}

static bool is_host_file(unsigned file)
{
	return file == FILE_HOST || file == FILE_READONLY;
}

/* D-around-host: what Linux maps around a fault in a file of a real file system is not always all there is. */
static bool may_be_unmapped(const struct pair *p, unsigned file)
{
	return (file < MAX_FILES && p->overpunched[file]) || is_host_file(file);
}

/* D-punch-first-page: tmpfs unmaps the whole file from the second page on when a hole ends in the first. */
static void note_fallocate(struct pair *p, const struct op *op)
{
	if (op->kind == OP_FALLOCATE && (op->arg[1] & FALLOC_FL_PUNCH_HOLE) && op->arg[0] < FILE_HOST &&
	    op->arg[2] + op->arg[3] < PAGE)
		p->overpunched[op->arg[0]] = true;
}

static size_t data_difference(struct pair *p, const struct op *op)
{
	const struct outcome *a = &p->ref_out, *b = &p->sub_out;

	if (op->kind == OP_MINCORE && p->depth.results_only) /* D-large-folio */
		return a->data_len;
	return first_difference(a->data, b->data, a->data_len);
}

static bool compare_outcomes(struct pair *p, const struct op *op)
{
	const struct outcome *a = &p->ref_out, *b = &p->sub_out;
	char was[128], is[128];
	size_t at;

	if (!same_outcome(a, b)) {
		describe_outcome(a, was, sizeof(was));
		describe_outcome(b, is, sizeof(is));
		differ(p, VERDICT_RESULT, "%s: %s; %s: %s", p->ref->label, was, p->sub->label, is);
		return sign(p, outcome_sign(a), outcome_sign(b));
	}
	if (a->data_len != b->data_len)
		return differ(p, VERDICT_DATA, "%s read %u bytes, %s %u", p->ref->label, a->data_len, p->sub->label,
			      b->data_len);
	at = data_difference(p, op);
	if (at == a->data_len)
		return true;
	return differ(p, op->kind == OP_MINCORE ? VERDICT_MINCORE : VERDICT_DATA,
		      "byte %zu of %u read: %s 0x%02x, %s 0x%02x", at, a->data_len, p->ref->label, a->data[at],
		      p->sub->label, b->data[at]);
}

/* ---------------------------------------------------------------------------------------------------------- VMAs */

/* Files are the same when the correspondence of their numbers is one to one. */
static bool same_inode(struct pair *p, uint64_t ref, uint64_t sub)
{
	for (size_t i = 0; i < p->nr_inodes; i++)
		if (p->ref_inode[i] == ref || p->sub_inode[i] == sub)
			return p->ref_inode[i] == ref && p->sub_inode[i] == sub;
	if (p->nr_inodes < MAX_INODES) {
		p->ref_inode[p->nr_inodes] = ref;
		p->sub_inode[p->nr_inodes++] = sub;
	}
	return true;
}

static bool same_vma(struct pair *p, const struct vma *a, const struct vma *b)
{
	return a->start == b->start && a->end == b->end && strcmp(a->perms, b->perms) == 0 && a->offset == b->offset &&
	       same_inode(p, a->inode, b->inode);
}

static void describe_vma(const struct vma_list *list, size_t i, char *buf, size_t size)
{
	const struct vma *v = &list->vma[i];

	if (i >= list->nr)
		snprintf(buf, size, "nothing");
	else
		snprintf(buf, size, "%" PRIx64 "-%" PRIx64 " %s offset %" PRIx64 " inode %" PRIu64, v->start, v->end,
			 v->perms, v->offset, v->inode);
}

static bool compare_lists(struct pair *p, unsigned proc)
{
	const struct vma_list *a = &p->view[proc], *b = &p->sub_view;
	char was[160], is[160], before[160] = "";
	size_t i = 0;

	while (i < a->nr && i < b->nr && same_vma(p, &a->vma[i], &b->vma[i]))
		i++;
	if (i == a->nr && i == b->nr)
		return true;
	describe_vma(a, i, was, sizeof(was));
	describe_vma(b, i, is, sizeof(is));
	if (i)
		describe_vma(a, i - 1, before, sizeof(before));
	return differ(p, VERDICT_MAPS, "VMA %zu of process %u: %s: %s; %s: %s%s%s", i, proc, p->ref->label, was,
		      p->sub->label, is, i ? "; the one before: " : "", before);
}

static bool read_list(struct pair *p, struct executor *x, unsigned proc, bool details, struct vma_list *list)
{
	struct text t = { 0 };
	const char *bad = "";
	int err = details ? x->ops->smaps(x, proc, &t) : x->ops->maps(x, proc, &t);
	bool ok = true;

	if (err)
		ok = harness_failed(p, x, "maps", err);
	else if (vma_list_parse(t.data ? t.data : "", list, &bad))
		ok = differ(p, VERDICT_MAPS, "%s: %s: not in Linux's format: %.*s", x->label,
			    details ? "smaps" : "maps", (int)strcspn(bad, "\n"), bad);
	text_free(&t);
	return ok;
}

static bool compare_maps(struct pair *p, unsigned proc)
{
	return read_list(p, p->ref, proc, false, &p->view[proc]) && read_list(p, p->sub, proc, false, &p->sub_view) &&
	       compare_lists(p, proc);
}

/*
 * The flags that are compared. Those left out say what the kernel was built with or are no property of the mapping here
 * (D-vmflags).
 */
static uint64_t flag_bit(const char *flag)
{
	static const char counted[] = "rd wr ex sh mr mw me ms gd lo lf ac nr sr rr dc wf sl hg nh dd mg dp ";
	unsigned bit = 0;

	for (const char *name = counted; *name; name += 3, bit++)
		if (name[0] == flag[0] && name[1] == flag[1])
			return 1ull << bit;
	return 0;
}

static uint64_t flag_set(const char *text)
{
	uint64_t set = 0;

	for (; text[0] && text[1]; text += text[2] ? 3 : 2)
		set |= flag_bit(text);
	return set;
}

static bool is_tolerated(const struct pair *p, const struct vma *v)
{
	unsigned file = file_of(p, v);

	return file < MAX_FILES && p->tolerated[file];
}

/* Also the resident pages of each VMA, by which the sums of compare_usage are told apart. */
static bool compare_details(struct pair *p, unsigned proc)
{
	static struct vma_list ref;

	if (!read_list(p, p->ref, proc, true, &ref) || !read_list(p, p->sub, proc, true, &p->sub_view))
		return false;
	for (size_t i = 0; i < ref.nr && i < p->sub_view.nr; i++) {
		const struct vma *a = &ref.vma[i], *b = &p->sub_view.vma[i];

		if (flag_set(a->flags) != flag_set(b->flags))
			return differ(p, VERDICT_FLAGS, "%" PRIx64 "-%" PRIx64 " of process %u: %s: %s; %s: %s",
				      a->start, a->end, proc, p->ref->label, a->flags, p->sub->label, b->flags);
		if (p->depth.results_only || is_tolerated(p, a))
			continue;
		if (a->rss != b->rss || a->anon != b->anon || (a->locked != b->locked && !p->pinned))
			return differ(p, VERDICT_USAGE,
				      "%" PRIx64 "-%" PRIx64 " of process %u, kB: %s: Rss %" PRIu64
				      " Anonymous %" PRIu64 " Locked %" PRIu64 "; %s: %" PRIu64 " %" PRIu64 " %" PRIu64,
				      a->start, a->end, proc, p->ref->label, a->rss, a->anon, a->locked, p->sub->label,
				      b->rss, b->anon, b->locked);
	}
	return true;
}

/* ----------------------------------------------------------------------------------------- residency and contents */

#define PM_PRESENT (1ull << 63)
#define PM_SWAP (1ull << 62)
#define PM_FILE (1ull << 61)
#define PM_GUARD (1ull << 58)
#define PM_EXCLUSIVE (1ull << 56)
#define PM_COMPARED (PM_PRESENT | PM_SWAP | PM_FILE | PM_GUARD)

struct residency {
	uint64_t ref[RESIDENCY_PAGES], sub[RESIDENCY_PAGES];
	uint8_t ref_bytes[RESIDENCY_PAGES * PAGE], sub_bytes[RESIDENCY_PAGES * PAGE];
};

static struct residency *residency; /* of the VMA in question; allocated once */

static size_t vma_pages(const struct vma *v)
{
	size_t n = (size_t)((v->end - v->start) / PAGE);

	return n < RESIDENCY_PAGES ? n : RESIDENCY_PAGES;
}

static bool read_residency(struct pair *p, unsigned proc, const struct vma *v)
{
	size_t n = vma_pages(v);
	int err = p->ref->ops->pagemap(p->ref, proc, v->start, n, residency->ref);

	if (err)
		return harness_failed(p, p->ref, "pagemap", err);
	err = p->sub->ops->pagemap(p->sub, proc, v->start, n, residency->sub);
	return err ? harness_failed(p, p->sub, "pagemap", err) : true;
}

static void describe_entry(uint64_t e, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s%s%s", e & PM_PRESENT ? "present" : "absent", e & PM_SWAP ? " swap" : "",
		 e & PM_FILE ? " file" : "", e & PM_GUARD ? " guard" : "", e & PM_EXCLUSIVE ? " exclusive" : "");
}

static bool compare_residency(struct pair *p, unsigned proc, const struct vma *v)
{
	unsigned file = file_of(p, v);
	uint64_t compared = PM_COMPARED | (p->pinned || is_host_file(file) ? 0 : PM_EXCLUSIVE); /* D-vm-readv */
	char was[64], is[64];

	if (p->depth.results_only || is_tolerated(p, v)) /* D-large-folio */
		return true;
	for (size_t i = 0; i < vma_pages(v); i++) {
		if (!((residency->ref[i] ^ residency->sub[i]) & compared))
			continue;
		if (!(residency->ref[i] & PM_PRESENT) && may_be_unmapped(p, file)) {
			p->tolerated[file] = true; /* and with it all that follows from it in mappings of this file */
			return true;
		}
		describe_entry(residency->ref[i], was, sizeof(was));
		describe_entry(residency->sub[i], is, sizeof(is));
		differ(p, VERDICT_RESIDENCY, "page 0x%" PRIx64 " of process %u (%s): %s: %s; %s: %s",
		       v->start + i * PAGE, proc, v->perms, p->ref->label, was, p->sub->label, is);
		return sign(p, was, is);
	}
	return true;
}

/* Compares @n pages from page @first of the VMA; all of them must be readable without a fault. */
static bool compare_bytes(struct pair *p, unsigned proc, const struct vma *v, size_t first, size_t n)
{
	uint64_t addr = v->start + first * PAGE;
	int64_t a = p->ref->ops->peek(p->ref, proc, addr, residency->ref_bytes, n * PAGE);
	int64_t b = p->sub->ops->peek(p->sub, proc, addr, residency->sub_bytes, n * PAGE);
	size_t at;

	if (a != b)
		return differ(p, VERDICT_CONTENT,
			      "reading process %u at 0x%" PRIx64 " for %zu: %s: %" PRId64 "; %s: %" PRId64, proc, addr,
			      n * PAGE, p->ref->label, a, p->sub->label, b);
	if (a <= 0 || memcmp(residency->ref_bytes, residency->sub_bytes, (size_t)a) == 0)
		return true;
	at = first_difference(residency->ref_bytes, residency->sub_bytes, (size_t)a);
	return differ(p, VERDICT_CONTENT, "byte at 0x%" PRIx64 " of process %u: %s: 0x%02x; %s: 0x%02x", addr + at,
		      proc, p->ref->label, residency->ref_bytes[at], p->sub->label, residency->sub_bytes[at]);
}

static bool both_present(size_t i)
{
	return (residency->ref[i] & residency->sub[i] & PM_PRESENT) != 0;
}

static bool compare_present(struct pair *p, unsigned proc, const struct vma *v)
{
	size_t n = vma_pages(v);

	if (v->perms[0] != 'r')
		return true;
	for (size_t i = 0; i < n; i++) {
		size_t first = i;

		while (i < n && both_present(i))
			i++;
		if (i > first && !compare_bytes(p, proc, v, first, i - first))
			return false;
	}
	return true;
}

/* The final pass: pages that are not there are read too, one by one, because each may end in an error of its own. */
static bool compare_absent(struct pair *p, unsigned proc, const struct vma *v)
{
	size_t n = vma_pages(v);

	for (size_t i = 0; v->perms[0] == 'r' && i < n; i++)
		if (!both_present(i) && !compare_bytes(p, proc, v, i, 1))
			return false;
	return true;
}

static bool compare_memory(struct pair *p, unsigned proc, bool all)
{
	if (!residency)
		residency = malloc(sizeof(*residency));
	for (size_t i = 0; i < p->view[proc].nr; i++) {
		const struct vma *v = &p->view[proc].vma[i];

		if (!read_residency(p, proc, v) || !compare_residency(p, proc, v) || !compare_present(p, proc, v))
			return false;
		if (all &&
		    (!compare_absent(p, proc, v) || !read_residency(p, proc, v) || !compare_residency(p, proc, v)))
			return false;
	}
	return true;
}

static bool compare_mincore(struct pair *p, unsigned proc)
{
	static uint8_t ref[RESIDENCY_PAGES], sub[RESIDENCY_PAGES];

	for (size_t i = 0; !p->depth.results_only && i < p->view[proc].nr; i++) {
		const struct vma *v = &p->view[proc].vma[i];
		size_t n = vma_pages(v);
		int a = p->ref->ops->mincore(p->ref, proc, v->start, n, ref);
		int b = p->sub->ops->mincore(p->sub, proc, v->start, n, sub);
		size_t at = a ? n : first_difference(ref, sub, n);

		if (a != b)
			return differ(p, VERDICT_MINCORE, "mincore of 0x%" PRIx64 ", %zu pages: %s: %d; %s: %d",
				      v->start, n, p->ref->label, a, p->sub->label, b);
		if (at < n)
			return differ(p, VERDICT_MINCORE, "mincore of page 0x%" PRIx64 " of process %u: %s: %u; %s: %u",
				      v->start + at * PAGE, proc, p->ref->label, ref[at], p->sub->label, sub[at]);
	}
	return true;
}

static bool same_usage(const struct pair *p, const struct usage *a, const struct usage *b)
{
	if (a->total_vm != b->total_vm || (a->locked_vm != b->locked_vm && !p->finished) || a->data_vm != b->data_vm ||
	    a->stack_vm != b->stack_vm)
		return false;
	if (p->depth.results_only) /* D-large-folio */
		return true;
	if (a->rss_anon != b->rss_anon)
		return false;
	for (unsigned file = 0; file < MAX_FILES; file++)
		if (p->tolerated[file])
			return true;
	return a->rss_file == b->rss_file && a->rss_shmem == b->rss_shmem;
}

static void describe_usage(const struct usage *u, char *buf, size_t size)
{
	snprintf(buf, size,
		 "total %" PRIu64 " locked %" PRIu64 " data %" PRIu64 " stack %" PRIu64 " anon %" PRIu64
		 " file %" PRIu64 " shmem %" PRIu64,
		 u->total_vm, u->locked_vm, u->data_vm, u->stack_vm, u->rss_anon, u->rss_file, u->rss_shmem);
}

static bool compare_usage(struct pair *p, unsigned proc)
{
	struct usage a, b;
	char was[200], is[200];
	int err = p->ref->ops->usage(p->ref, proc, &a);

	if (err)
		return harness_failed(p, p->ref, "usage", err);
	err = p->sub->ops->usage(p->sub, proc, &b);
	if (err)
		return harness_failed(p, p->sub, "usage", err);
	if (same_usage(p, &a, &b))
		return true;
	describe_usage(&a, was, sizeof(was));
	describe_usage(&b, is, sizeof(is));
	return differ(p, VERDICT_USAGE, "pages of process %u: %s: %s; %s: %s", proc, p->ref->label, was, p->sub->label,
		      is);
}

/*
 * D-dontunmap-locked: Linux counts pages as locked from now on that are not, which decides about limits; so this is the
 * last operation of the sequence.
 */
static void note_dontunmap(struct pair *p, const struct op *op)
{
	struct usage a, b;

	if (op->kind != OP_MREMAP || !(op->arg[3] & MREMAP_DONTUNMAP) || p->ref_out.ret < 0 || p->ref_out.skipped)
		return;
	if (!p->ref->ops->usage(p->ref, op->proc, &a) && !p->sub->ops->usage(p->sub, op->proc, &b))
		p->finished = a.locked_vm > b.locked_vm;
}

/* --------------------------------------------------------------------------------------------------------- files */

static bool compare_file(struct pair *p, unsigned file)
{
	static uint8_t ref[MAX_DATA], sub[MAX_DATA];
	int64_t size = p->ref->ops->file_size(p->ref, file), other = p->sub->ops->file_size(p->sub, file);

	if (size != other)
		return differ(p, VERDICT_FILE, "size of file %u: %s: %" PRId64 "; %s: %" PRId64, file, p->ref->label,
			      size, p->sub->label, other);
	p->file_size[file] = (uint64_t)size;
	for (uint64_t off = 0; off < (uint64_t)size && off < 4 * MAX_DATA; off += MAX_DATA) {
		int64_t a = p->ref->ops->file_read(p->ref, file, off, ref, MAX_DATA);
		int64_t b = p->sub->ops->file_read(p->sub, file, off, sub, MAX_DATA);
		size_t at = a <= 0 || a != b ? 0 : first_difference(ref, sub, (size_t)a);

		if (a != b)
			return differ(p, VERDICT_FILE,
				      "reading file %u at 0x%" PRIx64 ": %s: %" PRId64 "; %s: %" PRId64, file, off,
				      p->ref->label, a, p->sub->label, b);
		if (a > 0 && at < (size_t)a)
			return differ(p, VERDICT_FILE, "byte 0x%" PRIx64 " of file %u: %s: 0x%02x; %s: 0x%02x",
				      off + at, file, p->ref->label, ref[at], p->sub->label, sub[at]);
	}
	return true;
}

/* What a crash of the machine would leave of the host file: after fsync, and after the last reference is gone. */
static bool compare_host_file(struct pair *p, const char *when)
{
	static uint8_t ref[4 * MAX_DATA], sub[4 * MAX_DATA];
	int64_t a = p->ref->ops->host_read(p->ref, ref, sizeof(ref)),
		b = p->sub->ops->host_read(p->sub, sub, sizeof(sub));
	size_t at = a <= 0 || a != b ? 0 : first_difference(ref, sub, (size_t)a);

	if (a != b)
		return differ(p, VERDICT_FILE, "bytes in the host file itself, %s: %s: %" PRId64 "; %s: %" PRId64, when,
			      p->ref->label, a, p->sub->label, b);
	if (a > 0 && at < (size_t)a)
		return differ(p, VERDICT_FILE, "byte 0x%zx in the host file itself, %s: %s: 0x%02x; %s: 0x%02x", at,
			      when, p->ref->label, ref[at], p->sub->label, sub[at]);
	return true;
}

/* ----------------------------------------------------------------------------------------------------- sequences */

static bool compare_process(struct pair *p, unsigned proc, bool all)
{
	if (p->ref->ops->alive(p->ref, proc) != p->sub->ops->alive(p->sub, proc))
		return differ(p, VERDICT_RESULT, "process %u lives with one only", proc);
	if (!p->ref->ops->alive(p->ref, proc)) {
		p->view[proc].nr = 0;
		return true;
	}
	return compare_maps(p, proc) && compare_mincore(p, proc) && compare_memory(p, proc, all) &&
	       compare_details(p, proc) && compare_usage(p, proc);
}

static bool compare_everything(struct pair *p, bool all)
{
	for (unsigned file = 0; file < MAX_FILES; file++)
		if (!compare_file(p, file))
			return false;
	for (unsigned proc = 0; proc < MAX_PROCS; proc++)
		if (!compare_process(p, proc, all))
			return false;
	return true;
}

bool pair_begin(struct pair *p)
{
	int err;

	p->nr_inodes = 0;
	p->pinned = p->finished = false;
	memset(p->overpunched, 0, sizeof(p->overpunched));
	memset(p->tolerated, 0, sizeof(p->tolerated));
	memset(&p->verdict, 0, sizeof(p->verdict));
	for (unsigned proc = 0; proc < MAX_PROCS; proc++)
		p->view[proc].nr = 0;
	err = p->ref->ops->begin(p->ref);
	if (err)
		return harness_failed(p, p->ref, "begin", err);
	err = p->sub->ops->begin(p->sub);
	if (err)
		return harness_failed(p, p->sub, "begin", err);
	same_inode(p, 0, 0);
	for (unsigned file = 0; file < MAX_FILES; file++) {
		p->file_inode[file] = p->ref->ops->file_inode(p->ref, file);
		same_inode(p, p->file_inode[file], p->sub->ops->file_inode(p->sub, file));
	}
	p->verdict.op_kind = OP_KINDS;
	return compare_everything(p, false);
}

/* After an operation on a file its size is what the generator wants to know. */
static bool compare_actor(struct pair *p, const struct op *op)
{
	if (op_descs[op->kind].file_op)
		return op->arg[0] >= MAX_FILES || compare_file(p, (unsigned)op->arg[0]);
	if (!p->ref->ops->alive(p->ref, op->proc) || !op_descs[op->kind].mm_change)
		return true;
	if (op->kind == OP_FORK && p->ref_out.ret == 0 && !p->ref_out.skipped && !compare_maps(p, (unsigned)op->arg[0]))
		return false;
	return compare_maps(p, op->proc);
}

bool pair_step(struct pair *p, const struct op *op, unsigned index)
{
	int err;

	p->verdict.op_index = index;
	p->verdict.op_kind = op->kind;
	p->pinned |= op->kind == OP_VMREAD;
	note_fallocate(p, op);
	err = p->ref->ops->apply(p->ref, op, &p->ref_out);
	if (err)
		return harness_failed(p, p->ref, op_descs[op->kind].name, err);
	err = p->sub->ops->apply(p->sub, op, &p->sub_out);
	if (err)
		return harness_failed(p, p->sub, op_descs[op->kind].name, err);
	if (!compare_outcomes(p, op) || !compare_actor(p, op))
		return false;
	note_dontunmap(p, op);
	if (op->kind == OP_FSYNC && op->arg[0] == FILE_HOST && !compare_host_file(p, "after fsync"))
		return false;
	if (!p->depth.every || (index + 1) % p->depth.every)
		return true;
	return compare_everything(p, false);
}

bool pair_end(struct pair *p)
{
	struct text say = { 0 };
	bool same;

	p->verdict.op_kind = OP_KINDS;
	same = compare_everything(p, true);
	if (!same) {
		pair_abandon(p);
		return false;
	}
	p->ref->ops->end(p->ref, &say);
	if (p->sub->ops->end(p->sub, &say))
		same = differ(p, VERDICT_INVARIANT, "%s: %s", p->sub->label, say.data ? say.data : "");
	else
		same = compare_host_file(p, "after the last close");
	text_free(&say);
	return same;
}

void pair_abandon(struct pair *p)
{
	struct text say = { 0 };

	p->ref->ops->end(p->ref, &say);
	p->sub->ops->end(p->sub, &say);
	text_free(&say);
}
