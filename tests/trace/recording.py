#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `quire record` makes of programs: the records of one whose behaviour is known, in their order; programs that do not
exist or crash; and that recordings of real programs replay without a wrong byte.

Usage: recording.py QUIRE DUMP BEHAVIOUR. Prints TAP.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

QUIRE, DUMP, BEHAVIOUR = sys.argv[1:4]
count = failures = 0


def report(name, right, why=""):
    global count, failures
    count += 1
    failures += not right
    print(f"{'ok' if right else 'not ok'} {count} - {name}", flush=True)
    if not right:
        print(f"# {str(why)[:1500]}", flush=True)


def run(*command, cwd=None, timeout=300):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "LC_ALL": "C"}, cwd=cwd, timeout=timeout)


def record(name, *command, **options):
    """Records a program and reports whether that worked; its output, and the path of the recording."""
    path = f"{folder}/{name}.qrec"
    done = run(QUIRE, "record", "-o", path, *options.pop("options", ()), "--", *command, **options)
    right = done.returncode == 0 and "recorded " in done.stderr
    report(f"{name}: is recorded", right, f"status {done.returncode}: {done.stderr}")
    return done, path


def replays(name, path):
    for arguments in (["--cpus", "1"], ["--cpus", "2"], ["--cpus", "3", "--folio", "64K"], ["--folio", "always"]):
        done = run(QUIRE, "run", *arguments, path)
        right = done.returncode == 0 and "no wrong byte, no leaked frame" in done.stdout
        report(f"{name}: replays with {' '.join(arguments)}", right, f"status {done.returncode}: {done.stderr}")


class Records:
    """The text of a recording, searched from the front: each step must come after the one before."""

    def __init__(self, text):
        self.lines = text.splitlines()
        self.at = 0

    def find(self, name, pattern):
        for i in range(self.at, len(self.lines)):
            match = re.search(pattern, self.lines[i])
            if match:
                self.at = i + 1
                report(name, True)
                return match
        report(name, False, f"no {pattern!r} after line {self.at}")
        return None

    def absent(self, name, pattern, until):
        """No record before the next one like @until is like @pattern."""
        for line in self.lines[self.at:]:
            if re.search(until, line):
                break
            if re.search(pattern, line):
                report(name, False, line)
                return
        report(name, True)


def page(address, number=0):
    return f"page={(int(address, 16) >> 12) + number:x} pages=1$"


def shifted(address, pages):
    return f"{int(address, 16) + pages * 4096:x}"


def known_behaviour():
    done, path = record("behaviour", BEHAVIOUR, f"{folder}/mapped")
    report("behaviour: its exit status is told", "note: the program ended with status 7" in done.stderr, done.stderr)
    where = dict(line.split() for line in done.stdout.splitlines())
    records = Records(run(DUMP, path).stdout)

    records.find("info comes first", r"^0 .* info \"command=\S*behaviour ")
    records.find("the process begins", r" process a=0 ")
    records.find("the program is mapped before anything happens", r" file id=\w+ kind=0 size=\w+ \"\S*behaviour\"")
    records.find("with its code", r"0\.0 image .* prot=5 flags=12 file=1 ")
    records.find("and a stack that grows", r"0\.0 image .* prot=3 flags=20132 file=0 ")
    records.find("instructions are fetched", r"0\.0 fetch ")
    records.find("the heap begins", r"0\.0 brk start ")
    records.find("the C library is mapped", r" file id=\w+ kind=0 size=\w+ \"\S*libc\.so\.6\"")

    at = where["dontneed"]
    records.find("dontneed: mapped", rf"0\.0 mmap addr=0 len=4000 result={at} prot=3 flags=22 file=0 offset=0")
    records.find("dontneed: first store", rf"0\.0 store {page(at)}")
    records.find("dontneed: second store", rf"0\.0 store {page(at, 1)}")
    records.find("dontneed: the call", rf"0\.0 madvise addr={at} len=1000 result=0 flags=4")
    records.find("dontneed: touched again", rf"0\.0 load {page(at)}")

    at, to = where["mremap"], where["moved"]
    records.find("mremap: first store", rf"0\.0 store {page(at, 1)}")
    records.find("mremap: the call", rf"0\.0 mremap addr={at} len=4000 result={to} flags=1 new_len=40000 new_addr=0")
    records.find("mremap: touched at its new place", rf"0\.0 store {page(to, 1)}")
    records.find("munmap", rf"0\.0 munmap addr={to} len=40000 result=0")

    at = where["brk"]
    records.find("brk", rf"0\.0 brk addr={shifted(at, 64)} len={at} result={shifted(at, 64)}")
    records.find("brk: touched", rf"0\.0 store {page(at, 32)}")

    at = where["thread"]
    records.find("thread: touched before", rf"0\.0 store {page(at)}")
    records.find("thread: begins", r"0\.0 thread a=1")
    records.find("thread: its own touch", rf"0\.1 store {page(at, 1)}")
    records.find("thread: ends", r"0\.1 thread end")
    records.find("thread: touched after", rf"0\.0 store {page(at, 2)}")

    at = where["shootdown"]
    records.find("a thread that touches: begins", r"0\.0 thread a=2")
    records.find("what it touches is mapped", rf"0\.0 mmap addr=0 len=4000 result={at} ")
    records.find("it touches it", rf"0\.2 load {page(at)}")
    records.find("it is unmapped", rf"0\.0 munmap addr={at} len=4000 result=0")
    records.find("and mapped again", r"0\.0 mmap addr=0 len=4000 ")
    records.find("and touched again", r"0\.2 load ")
    records.find("the thread ends", r"0\.2 thread end")

    at = where["fork"]
    records.find("fork: touched before", rf"0\.0 store {page(at)}")
    records.find("fork", r"0\.0 fork a=1 ")
    records.find("fork: the child copies", rf"1\.0 store {page(at)}")
    records.find("exec", r"1\.0 exec \"/bin/true\"")
    records.find("exec: a new image", r"1\.0 image ")
    records.absent("the parent waits", rf"0\.0 store {page(at)}", r"1\.0 exit")
    records.find("exit of the child", r"1\.0 exit a=0")
    records.find("the parent knows", r"0\.0 wait a=1")
    records.find("fork: the parent stores again", rf"0\.0 store {page(at)}")

    at = where["file"]
    mapped = records.find("file: its name and size", rf" file id=(\w+) kind=0 size=4000 \"{folder}/mapped\"")
    file = int(mapped[1], 16) + 1 if mapped else 0
    records.find("file: mapped", rf"0\.0 mmap addr=0 len=4000 result={at} prot=3 flags=1 file={file:x} offset=0")
    records.find("file: touched", rf"0\.0 store {page(at, 3)}")
    records.find("msync", rf"0\.0 msync addr={at} len=1000 result=0 flags=4")

    at = where["memfd"]
    mapped = records.find("memfd: its kind and size", r" file id=(\w+) kind=1 size=4000 \"/memfd:\"")
    file = int(mapped[1], 16) if mapped else 0
    records.find("memfd: touched", rf"0\.0 store {page(at)}")
    records.find("memfd: truncated", rf" file size id={file:x} size=1000")
    records.find("memfd: unmapped", rf"0\.0 munmap addr={at} len=4000 result=0")

    at = where["segment"]
    records.find("segment: attached", rf"0\.0 mmap addr=0 len=3000 result={at} prot=3 flags=1 ")
    records.find("segment: touched", rf"0\.0 store {page(at, 1)}")
    records.find("segment: detached", rf"0\.0 munmap addr={at} len=3000 result=0")

    at = where["buffer"]
    records.find("a buffer that the kernel filled", rf"0\.0 store {page(at, 1)}")
    records.find("all of it", rf"0\.0 store {page(at, 2)}")
    records.find("a call that failed", r"0\.0 munmap addr=1 len=1 result=ffffffffffffffea")
    records.find("a tick at the end", r"0\.0 tick ")
    records.find("the end", r"0\.0 exit a=700")
    report("nothing comes after it", records.at == len(records.lines), records.lines[records.at:])
    replays("behaviour", path)


def refused():
    path = f"{folder}/refused.qrec"
    done = run(QUIRE, "record", "-o", path, "--", "/no/such/program")
    report("a program that does not exist", done.returncode == 1 and "valgrind did not run /no/such/program" in done.stderr
           and not os.path.exists(path), done)
    done = run(QUIRE, "record", "-o", "/no/such/folder/x.qrec", "--", "true")
    report("a file that cannot be created", done.returncode == 1 and "cannot create /no/such/folder/x.qrec" in done.stderr,
           done)
    done = run(QUIRE, "record", "-o", "/dev/full", "--", "true")
    report("a full disk", done.returncode == 1 and "No space left on device" in done.stderr, done)
    done = run(QUIRE, "record", "--", "true")
    report("no output named", done.returncode == 2 and "-o FILE is missing" in done.stderr, done)
    done = run(QUIRE, "record", "-o", path)
    report("no program named", done.returncode == 2 and "no program" in done.stderr, done)
    done = run(QUIRE, "record", "-o", path, "--window", "7", "--", "true")
    report("an absurd window", done.returncode == 2 and "--window" in done.stderr, done)
    done = run("env", "PATH=/no/such/folder", QUIRE, "record", "-o", path, "--", "true")
    report("no valgrind", done.returncode == 1 and "valgrind is not installed" in done.stderr
           and not os.path.exists(path), done)
    left = [name for name in os.listdir(folder) if name.startswith("quire-record")]
    report("no pipes are left behind", not left, left)


def killed():
    done, path = record("killed", "sh", "-c", "kill -SEGV $$")
    report("killed: is told", "note: the program was killed by signal 11" in done.stderr, done.stderr)
    replays("killed", path)


def pipeline():
    """Processes that live at the same time."""
    done, path = record("pipeline", "sh", "-c", "seq 3 | sort -r | tail -1", options=("--window", "20000"))
    report("pipeline: does what it always does", done.stdout == "1\n", done.stdout)
    replays("pipeline", path)


if not shutil.which("valgrind"):
    print("1..0 # SKIP valgrind is not installed")
    sys.exit(0)
with tempfile.TemporaryDirectory() as folder:
    os.environ["TMPDIR"] = folder
    known_behaviour()
    refused()
    killed()
    pipeline()
print(f"1..{count}")
sys.exit(1 if failures else 0)
