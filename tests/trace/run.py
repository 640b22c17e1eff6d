#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`quire run` as a user meets it: the report in both forms, every way to ask for the wrong thing, recordings that are
damaged, cut short, too old or too new, and too little memory.

Usage: run.py QUIRE SAMPLE RECORDING...: SAMPLE writes a recording of its own; the RECORDINGs are replayed. Prints TAP.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

QUIRE, SAMPLE, *RECORDINGS = sys.argv[1:]
count = failures = 0


def run(*arguments, stdout=subprocess.PIPE):
    return subprocess.run([QUIRE, "run", *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                          text=True, env={**os.environ, "LC_ALL": "C"}, timeout=600)


def report(name, right, why=""):
    global count, failures
    count += 1
    failures += not right
    print(f"{'ok' if right else 'not ok'} {count} - {name}", flush=True)
    if not right:
        print(f"# {str(why)[:1500]}", flush=True)


def check(name, done, status, out, err):
    """out and err are patterns that the whole stream must match; "" for silence."""
    right = (done.returncode == status and (done.stdout is None or re.fullmatch(out, done.stdout, re.DOTALL))
             and re.fullmatch(err, done.stderr, re.DOTALL))
    report(name, right, f"status {done.returncode}, output {done.stdout!r}, errors {done.stderr!r}")


RIGHT = r".*\nright: \d+ lines compared, no wrong byte, no leaked frame; .*"


def tables():
    done = run(sample)
    check("a table", done, 0, RIGHT, "")
    for part in ("faults", "anonymous, fresh folio", "copy-on-write, copied", "folios allocated", "order 0, 4 KiB",
                 "TLB misses", "page tables", "resident size over the recording", "time per operation, ns", "mmap",
                 "SIGSEGV", "SIGBUS"):
        report(f"the table has: {part}", part in done.stdout, done.stdout)
    check("more CPUs", run("--cpus", "4", sample), 0, RIGHT, "")
    check("64 CPUs", run("--cpus", "64", sample), 0, RIGHT, "")
    check("validation all along", run("--validate", "--cpus", "2", sample), 0, RIGHT, "")
    for folio in ("never", "64K", "2M", "always", "4K", "16K,64K,2M"):
        check(f"folios: {folio}", run("--folio", folio, sample), 0, RIGHT, "")


def json_report():
    done = run("--json", "--cpus", "2", "--folio", "64K", sample)
    facts = json.loads(done.stdout)
    report("JSON: the options", facts["cpus"] == 2 and facts["folio"] == "64K" and facts["memory"] == 1 << 30, facts)
    report("JSON: the recording", facts["recording"]["processes"] == 2 and facts["recording"]["threads"] == 3
           and facts["recording"]["command"] == "sample" and facts["recording"]["path"] == sample, facts["recording"])
    report("JSON: faults", facts["faults"]["fault_anon"] > 0 and facts["faults"]["fault_segv"] == 1
           and facts["faults"]["fault_bus"] == 1, facts["faults"])
    report("JSON: folios", len(facts["folios"]) == 10 and facts["folios"][4] > 0, facts["folios"])
    report("JSON: time", facts["time_ns"]["fork"]["count"] == 1
           and facts["time_ns"]["load"]["p50"] <= facts["time_ns"]["load"]["p99"], facts["time_ns"])
    events = [look["event"] for look in facts["samples"]]
    report("JSON: samples in order", len(events) > 10 and events == sorted(events), events)
    highest = max(look["rss"] for look in facts["samples"])
    report("JSON: the highest resident size", facts["peak_pages"]["rss"] == highest > 0, facts["peak_pages"])
    report("JSON: nothing is left at the end", facts["samples"][-1]["rss"] == 0 == facts["samples"][-1]["processes"],
           facts["samples"][-1])
    one, two = (json.loads(run("--json", sample).stdout) for _ in range(2))
    same = all(one[key] == two[key] for key in ("faults", "folios", "lines_compared"))
    # What is in use besides depends on when memory that is freed late is freed.
    same = same and [look["rss"] for look in one["samples"]] == [look["rss"] for look in two["samples"]]
    report("JSON: one CPU does the same every time", same, (one["faults"], two["faults"]))


def wrong_usage():
    usage = r"\nTry 'quire help run'\.\n"
    check("no recording", run(), 2, "", r"quire run: no recording named" + usage)
    check("two recordings", run(sample, sample), 2, "", r"quire run: more than one recording named" + usage)
    for size in ("8", "3M", "513G", "99999999999T", "18446744073709551616"):
        check(f"--memory {size}", run("--memory", size, sample), 2, "",
              rf"quire run: --memory: {size} is out of range \(4 MiB to 512 GiB\)" + usage)
    for size in ("lots", "-1M", "1.5G", ""):
        check(f"--memory '{size}'", run("--memory", size, sample), 2, "",
              rf"quire run: --memory: '{re.escape(size)}' is not a size .*" + usage)
    for cpus in ("0", "65", "1000000"):
        check(f"--cpus {cpus}", run("--cpus", cpus, sample), 2, "",
              rf"quire run: --cpus: {cpus} is out of range \(1 to 64\)" + usage)
    check("--cpus two", run("--cpus", "two", sample), 2, "", r"quire run: --cpus: 'two' is not a number" + usage)
    for folio in ("huge", "3K", "4M", "64K,", "", "64K,,2M", "x" * 300):
        check(f"--folio '{folio[:10]}'", run("--folio", folio, sample), 2, "", r"quire run: --folio: '.*' is not .*" + usage)
    check("--memory without value", run("--memory"), 2, "", r"quire run: option '--memory' needs a value" + usage)


def bad_recordings():
    with open(sample, "rb") as file:
        good = file.read()
    bad = f"{folder}/bad.qrec"

    def refused(name, data, pattern):
        with open(bad, "wb") as file:
            file.write(data)
        check(name, run(bad), 1, "", rf"quire run: {bad}: {pattern}\n")

    check("no such recording", run("/no/such/file"), 1, "", r"quire run: /no/such/file: No such file or directory\n")
    check("a directory", run(folder), 1, "", rf"quire run: {folder}: not a regular file\n")
    refused("empty", b"", r"byte 0: not a recording \(0 bytes\)")
    refused("not a recording", b"#!/bin/sh\necho this is not a recording\n" * 10, r"byte 0: not a recording .*")
    refused("newer", good[:8] + b"\2\0\0\0" + good[12:], r"byte 8: format version 2 is newer than this program .*")
    refused("older", good[:8] + b"\0\0\0\0" + good[12:], r"byte 8: format version 0 is older than what is still read .*")
    refused("cut in the header", good[:50], r"byte 50: the file ends here, .*")
    refused("cut in half", good[:len(good) // 2], r"byte \d+: truncated or damaged: no trailer .*")
    refused("its last byte is missing", good[:-1], r"byte \d+: truncated or damaged: no trailer .*")
    refused("damaged header", good[:20] + b"x" + good[21:], r"byte 0: damaged header .*")
    refused("damaged block", good[:200] + bytes([good[200] ^ 1]) + good[201:], r"byte 64: damaged block .*")
    refused("absurd size", good[:68] + b"\xff\xff\xff\x7f" + good[72:], r"byte 68: absurd block size .*")
    check("the good one is still good", run(sample), 0, RIGHT, "")


def memory():
    big = f"{folder}/big.qrec"
    subprocess.run([SAMPLE, big, "1000"], check=True)
    done = run("--memory", "4M", RECORDINGS[0] if RECORDINGS else big)
    match = re.fullmatch(r"quire run: \S+: event \d+ \(process \d+, pid \d+; block at byte \d+\): .*: out of memory; "
                         r"--memory was 4 MiB, it needs (\d+) MiB\n", done.stderr)
    report("too little memory says what is needed", done.returncode == 1 and done.stdout == "" and match, done)
    if match:
        check("and that is enough", run("--memory", f"{match[1]}M", RECORDINGS[0]), 0, RIGHT, "")


def real_recordings():
    for recording in RECORDINGS:
        name = os.path.basename(recording)
        for arguments in (["--cpus", "1"], ["--cpus", "2"], ["--cpus", "2", "--folio", "64K", "--validate"],
                          ["--cpus", "3", "--folio", "always"]):
            check(f"{name} {' '.join(arguments)}", run(*arguments, recording), 0, RIGHT, "")


with tempfile.TemporaryDirectory() as folder:
    sample = f"{folder}/sample.qrec"
    subprocess.run([SAMPLE, sample, "3000"], check=True)
    tables()
    json_report()
    wrong_usage()
    bad_recordings()
    memory()
    real_recordings()
    with open("/dev/full", "w", encoding="ascii") as full:
        check("a full disk is an error", run(sample, stdout=full), 1, "",
              r"quire run: cannot write the output: No space left on device\n")
print(f"1..{count}")
sys.exit(1 if failures else 0)
