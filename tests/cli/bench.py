#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`quire bench`: its options, and that a tiny run ends with a complete and well-formed report. Times are never judged.

Usage: bench.py QUIRE. Prints TAP.
"""
import json
import os
import re
import signal
import subprocess
import sys
import time

QUIRE = sys.argv[1]
SETTINGS = "/sys/kernel/mm/transparent_hugepage"
count = failures = 0


def run(*arguments):
    return subprocess.run([QUIRE, "bench", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}, timeout=120)


def ok(name, right, *details):
    global count, failures
    count += 1
    failures += not right
    print(f"{'ok' if right else 'not ok'} {count} - {name}", flush=True)
    if not right:
        for detail in details:
            print(f"# {detail!r}")


def refused(name, pattern, *arguments):
    done = run(*arguments)
    ok(name, done.returncode == 2 and not done.stdout and re.match(rf"quire bench: {pattern}\n", done.stderr), done)


refused("an operation that there is not", r"--only: there is no operation 'fly'", "--only", "fork,fly")
refused("an empty operation", r"--only: there is no operation ''", "--only", "fork,")
refused("a folio size that there is not", r"--folio: '8K' is not one of 4K, 64K, 2M", "--folio", "8K")
refused("no rounds", r"--repeat: 0 is out of range .*", "--repeat", "0")
refused("too little memory", r"--memory: 1M is out of range .*", "--memory", "1M")
refused("a size that is none", r"--memory: 'much' is not a size .*", "--memory", "much")
refused("an argument", r"takes no argument such as 'now'", "now")
refused("a value that is missing", r"option '--repeat' needs a value", "--repeat")
done = run("--memory", "32G", "--repeat", "1", "--only", "fork")
with open("/proc/meminfo", encoding="ascii") as meminfo:
    available = int(re.search(r"MemAvailable: +(\d+)", meminfo.read())[1]) << 10
if available < 5 * 32 << 30:
    ok("more memory than there is", done.returncode == 1 and re.match(r"quire bench: needs \d+ MiB ", done.stderr), done)

# What the table of the project asks for: operation -> folio sizes.
EXPECTED = {name: {"4K", "64K", "2M"} for name in
            ("populate-write", "dontneed", "munmap", "mprotect", "fork", "exit", "cow")}
EXPECTED |= {name: {"4K", "64K"} for name in ("populate-read", "shmem-populate", "shmem-map", "shmem-punch")}
SCALING = {"scale-fault", "scale-mprotect", "scale-dontneed", "scale-munmap"}


def settings():
    """Every setting of large folios, as it stands."""
    found = {}
    for folder, _, files in os.walk(SETTINGS):
        for file in files:
            if file in ("enabled", "shmem_enabled"):
                with open(os.path.join(folder, file), encoding="ascii") as text:
                    found[os.path.join(folder, file)] = text.read()
    return found


before = settings()
done = run("--memory", "64M", "--repeat", "1", "--json")
ok("a tiny run", done.returncode == 0 and not done.stderr, done.returncode, done.stderr)
report = json.loads(done.stdout or "{}")
rows = report.get("rows", [])
got = {}
for row in rows:
    got.setdefault(row["operation"], set()).add(row["folio"])
ok("every row is there", got == EXPECTED and len(rows) == sum(map(len, EXPECTED.values())), got)
ok("both sides measured every row", all(row[side]["samples"] > 0 for row in rows for side in ("quire", "linux")), rows)
# An empty child's exit may take longer than that of one with a few large folios: then nothing is left to divide by.
ok("a ratio, or why there is none", all(row["ratio"] or row["not_comparable"] or not row["linux"]["median"] or
                                        not row["quire"]["median"] for row in rows), rows)
ok("4K can always be compared", all(row["ratio"] for row in rows if row["folio"] == "4K"), rows)
ok("every row has its target", all(row["target"] > 0 for row in rows), rows)
ok("quartiles are in order", all(row[side]["min"] <= row[side]["low"] <= row[side]["median"] <= row[side]["high"]
                                 for row in rows for side in ("quire", "linux")), rows)
ok("limits of every size", {limit["folio"] for limit in report.get("limits", [])} == {"4K", "64K", "2M"}, report.get("limits"))
if len(os.sched_getaffinity(0)) > 1:
    ok("every scaling row", {row["operation"] for row in report["scaling"]} == SCALING and
       all(row["quire"] > 0 and row["linux"] > 0 for row in report["scaling"]), report["scaling"])
ok("Linux's settings are as before", settings() == before, settings(), before)

done = run("--memory", "32M", "--repeat", "1", "--json", "--alone", "--only", "mprotect,fork", "--folio", "64K")
rows = json.loads(done.stdout or "{}").get("rows", [])
ok("--only, --folio and --alone", [(row["operation"], row["folio"]) for row in rows] == [("mprotect", "64K"), ("fork", "64K")]
   and all(row["quire"]["samples"] > 0 and row["linux"]["samples"] == 0 for row in rows), done)
done = run("--memory", "32M", "--repeat", "1", "--only", "dontneed", "--folio", "4K")
ok("the table", done.returncode == 0 and re.search(r"^MADV_DONTNEED +4K( +[\d.]+ ± *\d+%){2} +[\d.]+ +0\.60 +(reached|missed)",
                                                   done.stdout, re.MULTILINE), done)

# Interrupted in the middle, it still puts the settings back, and dies of the signal.
process = subprocess.Popen([QUIRE, "bench", "--memory", "64M", "--repeat", "1000"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, start_new_session=True)
time.sleep(1)
os.killpg(process.pid, signal.SIGTERM)
ok("a signal ends it", process.wait(60) == -signal.SIGTERM, process.returncode)
ok("and the settings are as before", settings() == before, settings(), before)

print(f"1..{count}")
sys.exit(1 if failures else 0)
