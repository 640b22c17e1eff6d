#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command line of quire as a user meets it: exit statuses, where messages go, and that every command has help.

Usage: arguments.py QUIRE. Prints TAP.
"""
import os
import re
import subprocess
import sys

QUIRE = sys.argv[1]
count = failures = 0


def run(*arguments, stdout=subprocess.PIPE):
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run([QUIRE, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True,
                          env=environment, timeout=60)


def check(name, done, status, out, err):
    """out and err are patterns that the whole stream must match; "" for silence."""
    global count, failures
    count += 1
    right = (done.returncode == status and (done.stdout is None or re.fullmatch(out, done.stdout, re.DOTALL))
             and re.fullmatch(err, done.stderr, re.DOTALL))
    failures += not right
    print(f"{'ok' if right else 'not ok'} {count} - {name}")
    if not right:
        print(f"# status {done.returncode}, output {done.stdout!r}, errors {done.stderr!r}")


overview = r"Usage: quire COMMAND .*\nCommands:\n.*  help +[^\n]+\n"
check("no command shows what there is", run(), 2, "", overview)
check("help", run("help"), 0, overview, "")
check("--help", run("--help"), 0, overview, "")
check("-h", run("-h"), 0, overview, "")
check("--version", run("--version"), 0, r"quire \d+\.\d+\.\d+\n", "")
check("an unknown command", run("fly"), 2, "", r"quire: there is no command 'fly'\nTry 'quire help'\.\n")
check("an empty command", run(""), 2, "", r"quire: there is no command ''\nTry 'quire help'\.\n")
check("an unknown option", run("--fly"), 2, "", r"quire: unknown option '--fly'\nTry 'quire help'\.\n")
check("help for an unknown command", run("help", "fly"), 2, "", r"quire: there is no command 'fly'\n.*")
check("help for two commands", run("help", "a", "b"), 2, "", r"quire: help takes one command, not 2\n.*")
with open("/dev/full", "w", encoding="ascii") as full:
    check("a full disk is an error", run("help", stdout=full), 1, "",
          r"quire: cannot write the output: No space left on device\n")

# The same promises for every command there is.
commands = re.findall(r"^  (\w+) ", run("help").stdout, re.MULTILINE)
for command in commands:
    if command == "help":
        continue
    usage = rf"Usage: quire {command} .*\n"
    check(f"{command}: has help", run("help", command), 0, usage, "")
    check(f"{command}: --help", run(command, "--help"), 0, usage, "")
    check(f"{command}: unknown long option", run(command, "--no-such-option"), 2, "",
          rf"quire {command}: unknown option '--no-such-option'\nTry 'quire help {command}'\.\n")
    check(f"{command}: unknown short option", run(command, "-?"), 2, "",
          rf"quire {command}: unknown option '-\?'\nTry 'quire help {command}'\.\n")

print(f"1..{count}")
sys.exit(1 if failures else 0)
