/* SPDX-License-Identifier: MIT */
/*
 * A sequence as a list, and as a program that stands alone. The program's processes are made by fork and take turns by a
 * shared counter; all of them run the same text, in which each step belongs to one of them.
 */
#define _GNU_SOURCE
#include "print.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "abi.h"
#include "layout.h"

static void describe_brief(const struct brief *b, char *buf, size_t size)
{
	if (b->skipped)
		snprintf(buf, size, "(no such process)");
	else if (b->signo)
		snprintf(buf, size, "signal %d code %d at 0x%" PRIx64, b->signo, b->code, b->fault_addr);
	else if (b->ret < 0 && b->ret > -4096)
		snprintf(buf, size, "-%s", strerrorname_np((int)-b->ret));
	else
		snprintf(buf, size, "0x%" PRIx64, (uint64_t)b->ret);
}

void print_list(FILE *out, const struct op *ops, const struct brief *briefs, size_t nr)
{
	char line[512], result[128];

	for (size_t i = 0; i < nr; i++) {
		op_format(&ops[i], line, sizeof(line));
		describe_brief(&briefs[i], result, sizeof(result));
		fprintf(out, "%s\n", line);
		fprintf(out, "#\t= %s\n", result);
	}
}

/* ----------------------------------------------------------------------------------------------------- program */

/* What every program begins with. */
static const char prelude[] =
	"#define _GNU_SOURCE\n#pragma GCC diagnostic ignored \"-Wunused-function\"\n"
	"#include <errno.h>\n#include <fcntl.h>\n#include <sched.h>\n#include <setjmp.h>\n#include <signal.h>\n"
	"#include <stdint.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/mman.h>\n"
	"#include <sys/personality.h>\n#include <sys/prctl.h>\n#include <sys/resource.h>\n#include <sys/syscall.h>\n"
	"#include <sys/uio.h>\n#include <sys/wait.h>\n#include <unistd.h>\n"
	"\n"
	"static struct shared { volatile int step; volatile pid_t pid[8]; } *shared;\n"
	"static int me, files[5];\n"
	"static uint8_t buffer[65536];\n"
	"static sigjmp_buf back;\n"
	"static volatile int signo, code;\n"
	"static volatile uint64_t fault;\n"
	"\n"
	"static void on_signal(int s, siginfo_t *info, void *context)\n"
	"{\n"
	"	(void)context;\n"
	"	signo = s;\n"
	"	code = info->si_code;\n"
	"	fault = (uint64_t)info->si_addr;\n"
	"	siglongjmp(back, 1);\n"
	"}\n"
	"\n"
	"static int64_t result(long ret)\n"
	"{\n"
	"	return ret == -1 ? -errno : ret;\n"
	"}\n"
	"\n"
	"/* The kernel's own calls: glibc's brk() and mremap() differ. */\n"
	"#define CALL(name, ...) result(syscall(SYS_##name, __VA_ARGS__))\n"
	"\n"
	"static void expect(int step, int64_t got, int64_t want)\n"
	"{\n"
	"	if (got != want)\n"
	"		printf(\"step %d: 0x%llx, was 0x%llx\\n\", step, (long long)got, (long long)want);\n"
	"}\n"
	"\n"
	"static void expect_signal(int step, int s, int c, uint64_t addr)\n"
	"{\n"
	"	if (signo != s || (s && (code != c || fault != addr)))\n"
	"		printf(\"step %d: signal %d code %d at 0x%llx, was %d %d 0x%llx\\n\", step, signo, code,\n"
	"		       (long long)fault, s, c, (long long)addr);\n"
	"}\n"
	"\n"
	"/* Byte by byte: a signal comes at the first byte that cannot be had. */\n"
	"static void load(uint64_t addr, uint64_t len)\n"
	"{\n"
	"	signo = 0;\n"
	"	if (!sigsetjmp(back, 1))\n"
	"		for (uint64_t i = 0; i < len; i++)\n"
	"			buffer[i] = *(volatile uint8_t *)(addr + i);\n"
	"}\n"
	"\n"
	"static void store(uint64_t addr, uint64_t len, uint64_t seed)\n"
	"{\n"
	"	signo = 0;\n"
	"	if (!sigsetjmp(back, 1))\n"
	"		for (uint64_t i = 0; i < len; i++)\n"
	"			*(volatile uint8_t *)(addr + i) = (uint8_t)(0x50 + (seed + i) % 16);\n"
	"}\n"
	"\n"
	"static void exchange(uint64_t addr, uint64_t old, uint64_t new)\n"
	"{\n"
	"	signo = 0;\n"
	"	if (!sigsetjmp(back, 1))\n"
	"		__atomic_compare_exchange_n((uint64_t *)addr, &old, new, 0, 5, 5);\n"
	"}\n"
	"\n"
	"static long transfer(long nr, pid_t pid, uint64_t addr, uint64_t len)\n"
	"{\n"
	"	struct iovec local = { buffer, len }, remote = { (void *)addr, len };\n"
	"\n"
	"	return result(syscall(nr, pid, &local, 1, &remote, 1, 0));\n"
	"}\n"
	"\n"
	"static int begin(int step, int proc)\n"
	"{\n"
	"	if (proc != me)\n"
	"		return 0;\n"
	"	while (shared->step != step)\n"
	"		sched_yield();\n"
	"	return 1;\n"
	"}\n"
	"\n"
	"static void end(int step)\n"
	"{\n"
	"	__atomic_store_n(&shared->step, step + 1, __ATOMIC_SEQ_CST);\n"
	"}\n"
	"\n"
	"static void become(int proc)\n"
	"{\n"
	"	pid_t pid = fork();\n"
	"\n"
	"	if (pid)\n"
	"		shared->pid[proc] = pid;\n"
	"	else\n"
	"		me = proc;\n"
	"}\n"
	"\n"
	"/* Leaves only the windows of the test free, so that mappings are placed where they were. */\n"
	"static void fill_top(void)\n"
	"{\n"
	"	for (;;) {\n"
	"		uint64_t p = (uint64_t)mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);\n"
	"\n"
	"		if (p < HIGH_END) {\n"
	"			munmap((void *)p, 4096);\n"
	"			return;\n"
	"		}\n"
	"		while (p > HIGH_END && mmap((void *)(p - 4096), 4096, PROT_NONE,\n"
	"					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED) {\n"
	"			uint64_t span = 1ull << 40;\n"
	"\n"
	"			p -= 4096;\n"
	"			for (; span >= 4096; span /= 2)\n"
	"				while (p - span >= HIGH_END && p > span &&\n"
	"				       mmap((void *)(p - span), span, PROT_NONE,\n"
	"					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1,\n"
	"					    0) != MAP_FAILED)\n"
	"					p -= span;\n"
	"		}\n"
	"	}\n"
	"}\n"
	"\n"
	"static void show(void)\n"
	"{\n"
	"	static char text[1 << 20];\n"
	"	int fd = open(\"/proc/self/smaps\", O_RDONLY);\n"
	"	ssize_t n = 0, more;\n"
	"\n"
	"	while ((more = read(fd, text + n, sizeof(text) - 1 - (size_t)n)) > 0)\n"
	"		n += more;\n"
	"	close(fd);\n"
	"	printf(\"process %d\\n\", me);\n"
	"	for (char *line = strtok(text, \"\\n\"); line; line = strtok(NULL, \"\\n\")) {\n"
	"		static int shown;\n"
	"		unsigned long long start, stop;\n"
	"\n"
	"		if (sscanf(line, \"%llx-%llx\", &start, &stop) == 2)\n"
	"			shown = (stop > LOW_START && start < LOW_END) || (stop > HIGH_START && start < HIGH_END);\n"
	"		if (shown && (line[0] < 'A' || line[0] > 'Z' || !strncmp(line, \"Rss\", 3) ||\n"
	"			      !strncmp(line, \"Anonymous\", 9) || !strncmp(line, \"VmFlags\", 7)))\n"
	"			printf(\"%s\\n\", line);\n"
	"	}\n"
	"	fflush(stdout);\n"
	"}\n"
	"\n"
	"static void prepare(char **argv)\n"
	"{\n"
	"	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };\n"
	"	static uint8_t stack[65536], output[65536];\n"
	"	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };\n"
	"	char name[] = \"/var/tmp/diff-XXXXXX\";\n"
	"\n"
	"	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {\n"
	"		personality(ADDR_NO_RANDOMIZE);\n"
	"		execv(\"/proc/self/exe\", argv);\n"
	"	}\n"
	"	setvbuf(stdout, (char *)output, _IOLBF, sizeof(output)); /* the heap is part of the test */\n"
	"	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);\n"
	"	sigaltstack(&ss, NULL);\n"
	"	sigaction(SIGSEGV, &act, NULL);\n"
	"	sigaction(SIGBUS, &act, NULL);\n"
	"	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);\n"
	"	shared->pid[0] = getpid();\n"
	"	for (int i = 0; i < 3; i++)\n"
	"		files[i] = memfd_create(\"diff\", 0);\n"
	"	files[3] = mkstemp(name);\n"
	"	unlink(name);\n"
	"	strcpy(name, \"/var/tmp/diff-XXXXXX\");\n"
	"	close(mkstemp(name));\n"
	"	if (truncate(name, READONLY_SIZE))\n"
	"		perror(name);\n"
	"	files[4] = open(name, O_RDONLY);\n"
	"	unlink(name);\n"
	"	fill_top();\n"
	"}\n"
	"\n"
	"static void move_heap(void)\n"
	"{\n"
	"	if (prctl(PR_SET_MM, PR_SET_MM_START_BRK, BRK_START, 0, 0) || prctl(PR_SET_MM, PR_SET_MM_BRK, BRK_START, 0, 0))\n"
	"		printf(\"the heap cannot be moved (CAP_SYS_RESOURCE): brk will differ\\n\");\n"
	"}\n"
	"\n";

/*
 * In a program of its own the C library stands where our high window is, so everything up there moves down by a distance
 * that keeps its place in the page tables.
 */
#define MOVED_DOWN 0x80000000u

static uint64_t moved(uint64_t addr)
{
	return addr > HIGH_END - MOVED_DOWN && addr <= HIGH_END ? addr - MOVED_DOWN : addr;
}

static void print_arg(FILE *out, const struct op *op, unsigned i)
{
	enum arg_class class = op_descs[op->kind].arg[i];
	char text[512];

	if (class == ARG_FILE && (int64_t)op->arg[i] >= 0) {
		fprintf(out, "files[%d]", (int)op->arg[i]);
		return;
	}
	arg_format(class, class == ARG_ADDR ? moved(op->arg[i]) : op->arg[i], text, sizeof(text));
	fprintf(out, "%s%s", text, class == ARG_ADDR || class == ARG_LEN || class == ARG_OFFSET ? "ul" : "");
}

static void print_args(FILE *out, const struct op *op)
{
	for (unsigned i = 0; i < op_nr_args(op); i++) {
		fputs(i ? ", " : "", out);
		print_arg(out, op, i);
	}
}

static void print_expected(FILE *out, size_t step, const struct brief *b)
{
	char text[64];

	if (b->ret < 0 && b->ret > -4096)
		snprintf(text, sizeof(text), "-%s", strerrorname_np((int)-b->ret));
	else
		snprintf(text, sizeof(text), "0x%" PRIx64, moved((uint64_t)b->ret));
	fprintf(out, "\t\texpect(%zu, ret, %s);\n", step, text);
}

static void print_call(FILE *out, size_t step, const struct op *op, const struct brief *b)
{
	fprintf(out, "\t\tret = CALL(%s", op_descs[op->kind].name);
	for (unsigned i = 0; i < op_nr_args(op); i++) {
		fputs(", ", out);
		print_arg(out, op, i);
	}
	fputs(op->kind == OP_MINCORE ? ", buffer);\n" : ");\n", out);
	print_expected(out, step, b);
}

static void print_access(FILE *out, size_t step, const struct op *op, const struct brief *b)
{
	const char *name = op->kind == OP_STORE ? "store" : op->kind == OP_CMPXCHG ? "exchange" : "load";

	if (op->kind == OP_FETCH) {
		fprintf(out, "\t\t/* fetch of an instruction at 0x%" PRIx64 ": not tried here */\n", op->arg[0]);
		return;
	}
	fprintf(out, "\t\t%s(", name);
	print_args(out, op);
	fprintf(out, ");\n\t\texpect_signal(%zu, %d, %d, 0x%" PRIx64 "ul);\n", step, b->signo, b->code,
		moved(b->fault_addr));
}

static void print_transfer(FILE *out, size_t step, const struct op *op, const struct brief *b)
{
	fprintf(out, "\t\tret = transfer(SYS_process_%s, shared->pid[%d], 0x%" PRIx64 "ul, 0x%" PRIx64 "ul);\n",
		op_descs[op->kind].name, (int)op->arg[0], moved(op->arg[1]), op->arg[2]);
	print_expected(out, step, b);
}

static void print_file_op(FILE *out, size_t step, const struct op *op, const struct brief *b)
{
	if (op->kind == OP_PREAD || op->kind == OP_PWRITE)
		fprintf(out, "\t\tret = result(%s(files[%d], buffer, 0x%" PRIx64 "ul, 0x%" PRIx64 "l));\n",
			op_descs[op->kind].name, (int)op->arg[0], op->arg[2], op->arg[1]);
	else {
		fprintf(out, "\t\tret = result(%s(", op_descs[op->kind].name);
		print_args(out, op);
		fputs("));\n", out);
	}
	print_expected(out, step, b);
}

static void print_action(FILE *out, size_t step, const struct op *op, const struct brief *b)
{
	switch ((enum op_kind)op->kind) {
	case OP_LOAD:
	case OP_STORE:
	case OP_FETCH:
	case OP_CMPXCHG:
		print_access(out, step, op, b);
		break;
	case OP_FORK:
		fprintf(out, "\t\tbecome(%d);\n\t\tif (me != %u)\n\t\t\tgoto step_%zu;\n", (int)op->arg[0], op->proc,
			step + 1);
		break;
	case OP_EXIT:
		fprintf(out, "\t\tend(%zu);\n\t\t_exit(0);\n", step);
		break;
	case OP_VMREAD:
	case OP_VMWRITE:
		print_transfer(out, step, op, b);
		break;
	case OP_SETRLIMIT:
		fputs("\t\t{\n\t\t\tstruct rlimit lim = { ", out);
		print_arg(out, op, 1);
		fputs(", RLIM_INFINITY };\n\n\t\t\t/* meant for a process without the C library in it */\n\t\t\tsetrlimit(",
		      out);
		print_arg(out, op, 0);
		fputs(", &lim);\n\t\t}\n", out);
		break;
	default:
		if (op_descs[op->kind].file_op)
			print_file_op(out, step, op, b);
		else
			print_call(out, step, op, b);
	}
}

static void print_step(FILE *out, size_t step, const struct op *op, const struct brief *b)
{
	char line[512];

	op_format(op, line, sizeof(line));
	fprintf(out, "step_%zu: __attribute__((unused));\n\t/* %s */\n", step, line);
	if (b->skipped)
		return;
	fprintf(out, "\tif (begin(%zu, %u)) {\n", step, op->proc);
	print_action(out, step, op, b);
	fprintf(out, "\t\tend(%zu);\n\t}\n", step);
}

static bool uses_brk(const struct op *ops, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (ops[i].kind == OP_BRK)
			return true;
	return false;
}

/* Steps that nobody does must not stop the counter, so they are not counted. */
void print_program(FILE *out, const struct op *ops, const struct brief *briefs, size_t nr, const struct verdict *v)
{
	size_t step = 0;

	fprintf(out, "/*\n * Made by quire-linux-diff; difference (%s): %s\n */\n", verdict_names[v->kind], v->text);
	fprintf(out,
		"#define LOW_START 0x%lxul\n#define LOW_END 0x%lxul\n#define HIGH_START 0x%lxul\n#define HIGH_END 0x%lxul\n",
		LOW_START, LOW_END, moved(HIGH_START), moved(HIGH_END));
	fprintf(out, "#define BRK_START 0x%lxul\n#define READONLY_SIZE 0x%lx\n", BRK_START, READONLY_SIZE);
	fputs(prelude, out);
	fputs("int main(int argc, char **argv)\n{\n\tint64_t ret = 0;\n\n\t(void)argc;\n\t(void)ret;\n\tprepare(argv);\n",
	      out);
	if (uses_brk(ops, nr))
		fputs("\tmove_heap();\n", out);
	for (size_t i = 0; i < nr; i++)
		if (!briefs[i].skipped)
			print_step(out, step++, &ops[i], &briefs[i]);
	fprintf(out, "step_%zu: __attribute__((unused));\n\tshow();\n\twhile (wait(NULL) > 0)\n\t\t;\n\treturn 0;\n}\n",
		step);
}
