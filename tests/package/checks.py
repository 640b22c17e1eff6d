#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Do the checks find anything? Gives tools/check-freestanding and tools/check-symbols code that breaks each rule.

Usage: checks.py TOOLS COMPILER [ARGUMENT...]. Prints TAP.
"""
import pathlib
import subprocess
import sys
import tempfile

TOOLS = pathlib.Path(sys.argv[1])
COMPILER = sys.argv[2:]
MACHINE = "/* int only_in_a_comment(void); */\nint machine_call(int);\n"

# Name, source of a memory manager of one file, what the check must say ("" for nothing).
FREESTANDING = [
    ("uses the machine", "int machine_call(int); int f(void) { return machine_call(1); }", ""),
    ("copies memory", "void *memcpy(void *, const void *, unsigned long); void f(char *a, char *b) { memcpy(a, b, 99); }", ""),
    ("constant table", "static const int t[] = {1, 2}; int f(int i) { return t[i]; }", ""),
    ("table of pointers", "extern int g(void); int g(void) { return 1; } int (*const t[])(void) = {g};", ""),
    ("word in a comment or string", "/* volatile asm */ const char *f(void); const char *f(void) { return \"volatile\"; }", ""),
    ("calls malloc", "void *malloc(unsigned long); void *f(void) { return malloc(9); }", "needs 'malloc'"),
    ("name in a comment is no declaration", "int only_in_a_comment(void); int f(void) { return only_in_a_comment(); }",
     "needs 'only_in_a_comment'"),
    ("static variable", "static int n; int f(void) { return n++; }", "section .bss"),
    ("initialised variable", "int n = 3; int f(void) { return n++; }", "section .data"),
    ("thread-local variable", "_Thread_local int n; int f(void) { return n++; }", "'_Thread_local'"),
    ("thread-local section", "#define HERE _Thread##_local\nextern HERE int n; HERE int n;", "section .tbss"),
    ("volatile", "int f(volatile int *p) { return *p; }", "'volatile'"),
    ("assembly", "void f(void) { __asm__(\"nop\"); }", "'__asm__'"),
    ("constructor", "int machine_call(int); __attribute__((constructor)) void f(void) { machine_call(1); }", "section .init_array"),
]

HEADER = "#define QUIRE_API __attribute__((visibility(\"default\")))\nQUIRE_API int\nquire_a(void);\n"
SYMBOLS = [
    ("exactly the interface", "int quire_a(void) { return 1; } static int b(void); int b(void) { return 2; }", ""),
    ("one name too many", "int quire_a(void) { return 1; } int folio_lock; ", "defines 'folio_lock'"),
    ("a weak name too many", "int quire_a(void) { return 1; } __attribute__((weak)) int b(void) { return 1; }", "defines 'b'"),
    ("one name missing", "", "lacks 'quire_a'"),
]

count = failures = 0


def build(directory, source):
    """Compiles source into directory/x.c, x.o, libx.a and libx.so."""
    (directory / "x.c").write_text(source)
    subprocess.run([*COMPILER, "-O1", "-fPIC", "-ffreestanding", "-w", "-c", directory / "x.c", "-o", directory / "x.o"], check=True)
    subprocess.run(["ar", "rcs", directory / "libx.a", directory / "x.o"], check=True)
    subprocess.run([*COMPILER, "-shared", "-nostdlib", directory / "x.o", "-o", directory / "libx.so"], check=True)


def check(name, command, expected):
    global count, failures
    count += 1
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    right = done.returncode == 1 and expected in done.stdout if expected else done.returncode == 0 and not done.stdout
    failures += not right
    print(f"{'ok' if right else 'not ok'} {count} - {name}")
    if not right:
        print("# status", done.returncode, repr(done.stdout))


with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    (work / "machine").mkdir()
    (work / "machine/machine.h").write_text(MACHINE)
    for title, source, expected in FREESTANDING:
        build(work, source)
        check(title, [TOOLS / "check-freestanding", "--headers", work / "machine", "--sources", work / "x.c",
                      "--link", work / "libx.a", *COMPILER], expected)
    (work / "quire.h").write_text(HEADER)
    for title, source, expected in SYMBOLS:
        build(work, HEADER + source)
        check(title, [TOOLS / "check-symbols", work / "libx.so", work / "libx.a", work / "quire.h"], expected)

print(f"1..{count}")
sys.exit(1 if failures else 0)
