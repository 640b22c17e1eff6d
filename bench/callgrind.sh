#!/bin/sh
# SPDX-License-Identifier: MIT
# Instructions per 4 KiB page that quire executes in each operation of `quire bench`: the same on a busy machine as on an idle
# one, which times are not.
#
# Usage: bench/callgrind.sh QUIRE [FOLIO [FOLDER]]: the command to examine; 4K (default), 64K or 2M; where the profiles go,
# for callgrind_annotate (default: a temporary folder, removed at the end).
set -eu

quire=${1:?Usage: callgrind.sh QUIRE [FOLIO [FOLDER]]}
folio=${2:-4K}
mebibytes=64
if [ $# -ge 3 ]; then
	folder=$3
	mkdir -p "$folder"
	rm -f "$folder"/callgrind.out*
else
	folder=$(mktemp -d)
	trap 'rm -rf "$folder"' EXIT
fi

only=populate-write,populate-read,dontneed,munmap,mprotect,fork,exit,cow,shmem-populate,shmem-map,shmem-punch
valgrind --tool=callgrind --collect-atstart=no --dump-instr=yes --callgrind-out-file="$folder/callgrind.out" \
	"$quire" bench --alone --only "$only" --folio "$folio" --memory "${mebibytes}M" --repeat 1 \
	>"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }

printf '%-16s %s\n' operation 'instructions per page'
for dump in $(ls -v "$folder"/callgrind.out.*); do
	name=$(sed -n 's/^desc: Trigger: Client Request: //p' "$dump")
	[ -n "$name" ] || continue
	count=$(sed -n 's/^\(summary\|totals\): //p' "$dump" | head -n 1)
	pages=$((mebibytes * 256))
	[ "$name" != mprotect ] || pages=$((pages * 2))
	awk -v name="$name" -v count="${count:-0}" -v pages="$pages" 'BEGIN { printf "%-16s %.1f\n", name, count / pages }'
done
