/* SPDX-License-Identifier: MIT */
/*
 * Prints a recording as text, one record per line, for tests that look for certain records in a certain order:
 *
 *	dump FILE
 *	17 0.0 mmap addr=0 len=8192 result=5000000 prot=3 flags=22 file=0 offset=0
 *
 * Event number, process.thread, what, arguments (all in hexadecimal), text in quotes.
 */
#include "trace/reader.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const call_args[] = { "addr", "len", "result", "prot", "flags", "file", "offset" };
static const char *const remap_args[] = { "addr", "len", "result", "prot", "flags", "new_len", "new_addr" };
static const char *const file_args[] = { "id", "kind", "size" };

static const char *arg_name(enum qrec_op op, unsigned i)
{
	if (op == QREC_MREMAP)
		return remap_args[i];
	if (op == QREC_IMAGE || op == QREC_BRK_START || qrec_is_call(op))
		return call_args[i];
	if (op == QREC_FILE || op == QREC_FILE_SIZE)
		return file_args[i];
	return i == 0 ? "a" : i == 1 ? "b" : "c";
}

static void print_event(const struct qrec_event *event)
{
	const struct qrec_layout *layout = &qrec_layouts[event->op];

	printf("%" PRIu64 " %d.%d %s", event->number, (int)event->process, (int)event->thread, layout->name);
	if (qrec_is_touch(event->op))
		printf(" page=%" PRIx64 " pages=%" PRIx64, event->page, event->pages);
	for (unsigned i = 0; i < QREC_MAX_ARGS && !qrec_is_touch(event->op); i++)
		if (layout->args >> i & 1)
			printf(" %s=%" PRIx64, arg_name(event->op, i), event->arg[i]);
	if (layout->text)
		printf(" \"%s\"", event->text);
	putchar('\n');
}

int main(int argc, char **argv)
{
	char error[QREC_ERROR_TEXT];
	struct qrec_reader *reader = argc == 2 ? qrec_reader_open(argv[1], error) : NULL;
	struct qrec_event event;
	int more;

	if (!reader) {
		fprintf(stderr, "%s\n", argc == 2 ? error : "usage: dump FILE");
		return 1;
	}
	while ((more = qrec_read(reader, &event)) > 0)
		print_event(&event);
	if (more)
		fprintf(stderr, "%s\n", qrec_reader_error(reader));
	qrec_reader_close(reader);
	return more != 0;
}
