/* SPDX-License-Identifier: MIT */
/*
 * The documented cases of each system call, above all its errors, in the order of the manual pages. What is right is what
 * the running kernel does; a comment in a sequence says what the manual leads to expect. Regression tests for bugs that the
 * random sequences found stand in regressions.c.
 */
#include "directed.h"

#include <stddef.h>

/* Shorthands: a private anonymous readable and writable mapping at a fixed address, and other frequent things. */
#define ANON(addr, len) "p0 mmap(" addr ", " len ", PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
#define SHARED_ANON(addr, len)                                                                                         \
	"p0 mmap(" addr ", " len ", PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
#define FILE_SHARED(addr, len, file, off)                                                                              \
	"p0 mmap(" addr ", " len ", PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, " file ", " off ")\n"
#define FILE_PRIVATE(addr, len, file, off)                                                                             \
	"p0 mmap(" addr ", " len ", PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, " file ", " off ")\n"
#define FILL(file, len) "pwrite(" file ", 0, " len ", 7)\n"

static const char mmap_errors[] =
	"# no type, both types, an unknown type\n"
	"p0 mmap(0, 0x1000, PROT_READ, MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0, 0x1000, PROT_READ, MAP_SHARED|MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0, 0x1000, PROT_READ, 0x24, -1, 0)\n"
	"# nothing, too much, around the end\n"
	"p0 mmap(0, 0, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0x400000, 0, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
	"p0 mmap(0, 0xffffffffffffffff, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0, 0x800000000000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0x400000, 0x7ffffffff000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
	"p0 mmap(0x7ffffffff000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
	"p0 mmap(0x7fffffffe000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
	"p0 mmap(0xfffffffffffff000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
	"p0 mmap(0xfffffffffffff000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
	"# address and offset not on a page\n"
	"p0 mmap(0x400001, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
	"p0 mmap(0x400001, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE, -1, 0)\n"
	"p0 mmap(0x400801, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0x410000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 1)\n"
	"p0 mmap(0x410000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_FIXED, 0, 0x800)\n"
	"# offset beyond what a file can have\n"
	"p0 mmap(0x410000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_FIXED, 0, 0xfffffffffffff000)\n"
	"p0 mmap(0x410000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_FIXED, 0, 0x7ffffffffffff000)\n"
	"p0 mmap(0x410000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_FIXED, 3, 0x7fffffffff000)\n"
	"p0 mmap(0x410000, 0x2000, PROT_READ, MAP_SHARED|MAP_FIXED, 3, 0x7fffffffffffe000)\n"
	"# below what may be mapped\n"
	"p0 mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
	"# a file open for reading only\n"
	"p0 mmap(0, 0x1000, PROT_READ|PROT_WRITE, MAP_SHARED, 4, 0)\n"
	"p0 mmap(0, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE, 4, 0)\n"
	"p0 mmap(0, 0x1000, PROT_READ, MAP_SHARED, 4, 0)\n"
	"# growing down is for private anonymous memory\n"
	"p0 mmap(0x420000, 0x1000, PROT_READ, MAP_SHARED|MAP_ANONYMOUS|MAP_GROWSDOWN|MAP_FIXED, -1, 0)\n"
	"p0 mmap(0x420000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_GROWSDOWN|MAP_FIXED, 0, 0)\n"
	"# flags that SHARED_VALIDATE does not know\n"
	"p0 mmap(0, 0x1000, PROT_READ, MAP_SHARED_VALIDATE|0x4000000, 0, 0)\n"
	"p0 mmap(0, 0x1000, PROT_READ, MAP_SHARED_VALIDATE|MAP_SYNC, 0, 0)\n"
	"p0 mmap(0, 0x1000, PROT_READ, MAP_SHARED_VALIDATE|MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0, 0x1000, PROT_READ, MAP_SHARED_VALIDATE, 0, 0)\n"
	"# unknown bits otherwise\n"
	"p0 mmap(0, 0x1000, PROT_READ|0x40, MAP_PRIVATE|MAP_ANONYMOUS|0x4000000, -1, 0)\n";

static const char mmap_noreplace[] = ANON(
	"0x400000",
	"0x3000") "p0 mmap(0x401000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE, -1, 0)\n"
		  "p0 mmap(0x3ff000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE, -1, 0)\n"
		  "p0 mmap(0x403000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE, -1, 0)\n"
		  "p0 mmap(0x401000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_FIXED_NOREPLACE, -1, 0)\n"
		  "p0 mmap(0x401000, 0, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE, -1, 0)\n";

static const char mmap_placement[] = "# from the top down, into the first gap that is large enough\n"
				     "p0 mmap(0, 0x3000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0, 0x3000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0, 0x3000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 munmap(0x7ffff7ff9000, 0x3000)\n"
				     "p0 mmap(0, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0, 0x3000, PROT_READ|PROT_EXEC, MAP_SHARED|MAP_ANONYMOUS, -1, 0)\n"
				     "# hints: free, taken, taken in part, not on a page, too low\n"
				     "p0 mmap(0x400000, 0x3000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0x400000, 0x3000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0x3ff000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0x3ff000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0x500123, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0x1, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0x7fffffffe000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0x7fffffffe000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0x800000000000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "# of 2 MiB or more, and multiples of it\n"
				     "p0 mmap(0, 0x200000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0, 0x201000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0, 0x200000, PROT_READ, MAP_SHARED|MAP_ANONYMOUS, -1, 0)\n"
				     "p0 mmap(0, 0x200000, PROT_READ, MAP_SHARED, 0, 0)\n"
				     "p0 mmap(0, 0x200000, PROT_READ, MAP_PRIVATE, 3, 0)\n";

static const char mmap_guard_gap[] =
	"# a mapping keeps its distance from what may grow down\n"
	"p0 mmap(0x7ffff7f00000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_GROWSDOWN|MAP_FIXED, -1, 0)\n"
	"p0 mmap(0x7ffff7f02000, 0xfd000, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
	"p0 mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0x7ffff7eff000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0x7ffff7e00000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
	"p0 mmap(0x7ffff7eff000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE, -1, 0)\n"
	"p0 mmap(0x7ffff7efe000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n";

static const char mmap_merge[] = "# next to each other, in front, between, with another protection, with other offsets\n" ANON(
	"0x400000", "0x2000") ANON("0x402000", "0x2000") ANON("0x3fe000", "0x2000") ANON("0x406000", "0x2000")
	ANON("0x404000",
	     "0x2000") "p0 mmap(0x401000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
		       "p0 mprotect(0x401000, 0x1000, PROT_READ|PROT_WRITE)\n"
		       "p0 mmap(0x403000, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_NORESERVE, -1, 0)\n" FILE_SHARED(
			       "0x410000", "0x2000", "0", "0") FILE_SHARED("0x412000", "0x2000", "0", "0x2000")
			       FILE_SHARED("0x414000", "0x2000", "0", "0x5000")
				       FILE_SHARED("0x40e000", "0x2000", "1", "0")
					       FILE_PRIVATE("0x420000", "0x2000", "0", "0x1000")
						       FILE_PRIVATE("0x422000", "0x2000", "0", "0x3000")
							       SHARED_ANON("0x430000", "0x2000")
								       SHARED_ANON("0x432000", "0x2000");

static const char mmap_populate[] = FILL(
	"0",
	"0x3100") "p0 mmap(0x400000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_POPULATE, -1, 0)\n"
		  "p0 mmap(0x404000, 0x4000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_POPULATE, -1, 0)\n"
		  "p0 mmap(0x408000, 0x4000, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_POPULATE, -1, 0)\n"
		  "p0 mmap(0x40c000, 0x4000, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED|MAP_POPULATE, 0, 0)\n"
		  "p0 mmap(0x410000, 0x6000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_POPULATE, 0, 0)\n"
		  "p0 mmap(0x418000, 0x4000, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED|MAP_POPULATE, -1, 0)\n"
		  "p0 mmap(0x420000, 0x4000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_POPULATE|MAP_NONBLOCK, -1, 0)\n"
		  "p0 mmap(0x424000, 0x4000, PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_POPULATE, -1, 0)\n"
		  "p0 mmap(0x428000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_LOCKED, -1, 0)\n";

static const char munmap_errors[] =
	ANON("0x400000", "0x4000") "p0 munmap(0x400000, 0)\n"
				   "p0 munmap(0x400001, 0x1000)\n"
				   "p0 munmap(0x400000, 0xffffffffffffffff)\n"
				   "p0 munmap(0x400000, 0x800000000000)\n"
				   "p0 munmap(0xfffffffffffff000, 0x1000)\n"
				   "p0 munmap(0x7ffffffff000, 0x1000)\n"
				   "# nothing there is no error; part of a page takes the page\n"
				   "p0 munmap(0x500000, 0x1000)\n"
				   "p0 munmap(0x401000, 1)\n"
				   "p0 munmap(0x3f0000, 0x20000)\n";

static const char mprotect_errors[] = ANON("0x400000", "0x2000")
	ANON("0x404000", "0x2000") "p0 mprotect(0x400001, 0x1000, PROT_READ)\n"
				   "p0 mprotect(0x400000, 0, PROT_READ)\n"
				   "p0 mprotect(0x400000, 0x800, PROT_READ)\n"
				   "p0 mprotect(0x400000, 0xffffffffffffffff, PROT_READ)\n"
				   "p0 mprotect(0x400000, 0xffffffffffffe000, PROT_READ)\n"
				   "p0 mprotect(0x402000, 0x1000, PROT_READ)\n"
				   "# a hole: what lies before it is changed\n"
				   "p0 mprotect(0x400000, 0x6000, PROT_READ)\n"
				   "p0 mprotect(0x400000, 0x1000, 0x40)\n"
				   "p0 mprotect(0x400000, 0x1000, PROT_READ|0x08)\n"
				   "p0 mprotect(0x404000, 0x1000, PROT_READ|PROT_GROWSDOWN)\n"
				   "p0 mprotect(0x404000, 0x1000, PROT_READ|PROT_GROWSUP)\n"
				   "p0 mprotect(0x404000, 0x1000, PROT_READ|PROT_GROWSUP|PROT_GROWSDOWN)\n"
				   "# a shared mapping of a file open for reading\n"
				   "p0 mmap(0x410000, 0x1000, PROT_READ, MAP_SHARED|MAP_FIXED, 4, 0)\n"
				   "p0 mprotect(0x410000, 0x1000, PROT_READ|PROT_WRITE)\n"
				   "p0 mprotect(0x410000, 0x1000, PROT_READ|PROT_EXEC)\n"
				   "p0 mmap(0x411000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_FIXED, 4, 0)\n"
				   "p0 mprotect(0x410000, 0x2000, PROT_READ|PROT_WRITE)\n"
				   "p0 mprotect(0x411000, 0x1000, PROT_READ|PROT_WRITE)\n";

static const char mprotect_growsdown[] =
	"p0 mmap(0x500000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_GROWSDOWN|MAP_FIXED, -1, 0)\n"
	"p0 mprotect(0x502000, 0x1000, PROT_READ|PROT_GROWSDOWN)\n"
	"p0 mprotect(0x501000, 0x1000, PROT_READ|PROT_WRITE)\n"
	"p0 mprotect(0x502000, 0x1000, PROT_READ|PROT_WRITE|PROT_GROWSDOWN)\n";

static const char mprotect_data[] = ANON("0x400000", "0x4000") "p0 store(0x400ff0, 0x1020, 3)\n"
							       "p0 mprotect(0x401000, 0x1000, PROT_READ)\n"
							       "p0 store(0x400ffc, 8, 4)\n"
							       "p0 load(0x400ff0, 0x40)\n"
							       "p0 mprotect(0x400000, 0x2000, PROT_NONE)\n"
							       "p0 load(0x400ff0, 1)\n"
							       "p0 mprotect(0x400000, 0x4000, PROT_READ|PROT_WRITE)\n"
							       "p0 load(0x400ff0, 0x40)\n"
							       "p0 store(0x400ff0, 0x20, 5)\n"
							       "p0 mprotect(0x400000, 0x4000, PROT_EXEC)\n"
							       "p0 load(0x400ff0, 0x40)\n"
							       "p0 fetch(0x400ff0)\n"
							       "p0 mprotect(0x400000, 0x4000, PROT_WRITE)\n"
							       "p0 load(0x400ff0, 0x40)\n"
							       "p0 fetch(0x400ff0)\n";

static const char mremap_errors[] = ANON("0x400000", "0x4000")
	ANON("0x404000", "0x1000") "p0 mremap(0x400001, 0x1000, 0x1000, MREMAP_MAYMOVE, 0)\n"
				   "p0 mremap(0x400000, 0x1000, 0, MREMAP_MAYMOVE, 0)\n"
				   "p0 mremap(0x400000, 0x1000, 0x1000, 8, 0)\n"
				   "p0 mremap(0x400000, 0x1000, 0x1000, MREMAP_FIXED, 0x500000)\n"
				   "p0 mremap(0x400000, 0x1000, 0x1000, MREMAP_DONTUNMAP, 0)\n"
				   "p0 mremap(0x400000, 0x1000, 0x2000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, 0)\n"
				   "p0 mremap(0x400000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x500001)\n"
				   "p0 mremap(0x400000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x401000)\n"
				   "p0 mremap(0x400000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x3ff000)\n"
				   "p0 mremap(0x400000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x400000)\n"
				   "p0 mremap(0x400000, 0x2000, 0xffffffffffffffff, MREMAP_MAYMOVE, 0)\n"
				   "p0 mremap(0x400000, 0x2000, 0x800000000000, MREMAP_MAYMOVE, 0)\n"
				   "p0 mremap(0x400000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x7ffffffff000)\n"
				   "p0 mremap(0x400000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x7fffffffe000)\n"
				   "p0 mremap(0x400000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0)\n"
				   "# nothing there; beyond the end of the mapping\n"
				   "p0 mremap(0x500000, 0x1000, 0x2000, MREMAP_MAYMOVE, 0)\n"
				   "p0 mremap(0x403000, 0x3000, 0x4000, MREMAP_MAYMOVE, 0)\n"
				   "p0 mremap(0x404000, 0x2000, 0x1000, MREMAP_MAYMOVE, 0)\n"
				   "# no room to grow, and may not move\n" ANON(
					   "0x408000", "0x1000") "p0 mremap(0x404000, 0x1000, 0x5000, 0, 0)\n"
								 "p0 mremap(0x400000, 0x1000, 0x2000, 0, 0)\n"
								 "# a duplicate of private memory\n"
								 "p0 mremap(0x400000, 0, 0x1000, MREMAP_MAYMOVE, 0)\n"
								 "p0 mremap(0x400000, 0, 0x1000, 0, 0)\n";

static const char mremap_moves[] = ANON(
	"0x400000",
	"0x4000") "p0 store(0x400000, 0x4000, 9)\n"
		  "# grow in place, shrink in place, part of it\n"
		  "p0 mremap(0x400000, 0x4000, 0x6000, 0, 0)\n"
		  "p0 mremap(0x400000, 0x6000, 0x3000, 0, 0)\n"
		  "p0 mremap(0x400000, 0x3000, 0x3000, 0, 0)\n"
		  "p0 mremap(0x401000, 0x2000, 0x8000, MREMAP_MAYMOVE, 0)\n"
		  "# move because it cannot grow\n" ANON(
			  "0x40a000",
			  "0x1000") "p0 mremap(0x400000, 0x9000, 0x10000, MREMAP_MAYMOVE, 0)\n"
				    "p0 load(0x7ffff7fef000, 0x3000)\n"
				    "p0 load(0x400000, 1)\n"
				    "# fixed, over something, growing and shrinking on the way\n"
				    "p0 mremap(0x7ffff7fef000, 0x10000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x408000)\n"
				    "p0 mremap(0x408000, 0x2000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x3ff000)\n"
				    "p0 load(0x3ff000, 0x4000)\n"
				    "# across the boundary of a page table, back and forth\n"
				    "p0 mremap(0x3ff000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x5fe000)\n"
				    "p0 load(0x5fe000, 0x4000)\n"
				    "p0 mremap(0x5fe000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x600000)\n"
				    "p0 load(0x600000, 0x3000)\n"
				    "p0 load(0x5fe000, 1)\n";

static const char mremap_dontunmap[] = FILL("0", "0x4000") ANON(
	"0x400000",
	"0x4000") "p0 store(0x400000, 0x4000, 9)\n"
		  "p0 mremap(0x401000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, 0)\n"
		  "p0 load(0x400000, 0x4000)\n"
		  "p0 mremap(0x400000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP|MREMAP_FIXED, 0x410000)\n"
		  "p0 load(0x410000, 0x4000)\n"
		  "p0 load(0x400000, 0x4000)\n"
		  "p0 mremap(0x400000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, 0x420000)\n"
		  "# of a shared mapping, of a file\n" SHARED_ANON(
			  "0x430000",
			  "0x2000") "p0 store(0x430000, 0x10, 3)\n"
				    "p0 mremap(0x430000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, 0)\n"
				    "p0 load(0x430000, 0x10)\n" FILE_PRIVATE(
					    "0x440000", "0x4000", "0",
					    "0") "p0 store(0x441000, 0x10, 3)\n"
						 "p0 mremap(0x440000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, 0)\n"
						 "p0 load(0x440000, 0x4000)\n"
						 "# locked memory does not stay locked at its old place\n" ANON(
							 "0x450000",
							 "0x2000") "p0 mlock(0x450000, 0x2000)\n"
								   "p0 mremap(0x450000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, 0)\n";

static const char mremap_duplicate[] =
	SHARED_ANON("0x400000", "0x3000") "p0 store(0x400000, 0x3000, 5)\n"
					  "p0 mremap(0x400000, 0, 0x3000, MREMAP_MAYMOVE, 0)\n"
					  "p0 mremap(0x401000, 0, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x410000)\n"
					  "p0 load(0x410000, 0x1000)\n"
					  "p0 store(0x410000, 8, 6)\n"
					  "p0 load(0x401000, 8)\n"
					  "p0 mremap(0x400000, 0, 0x3000, 0, 0)\n";

static const char mremap_several[] =
	"# several mappings at once can move, if nothing but their place changes\n" ANON("0x400000", "0x2000") "p0 mmap(0x402000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n" ANON(
		"0x406000",
		"0x1000") "p0 store(0x400000, 0x2000, 1)\n"
			  "p0 mremap(0x400000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x410000)\n"
			  "p0 mremap(0x410000, 0x4000, 0x5000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x420000)\n"
			  "p0 mremap(0x410000, 0x4000, 0x3000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x420000)\n"
			  "p0 mremap(0x410000, 0x4000, 0x4000, MREMAP_MAYMOVE, 0)\n"
			  "p0 mremap(0x410000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, 0)\n"
			  "# a hole between them, before them, behind them\n" ANON("0x430000", "0x1000") ANON(
				  "0x432000",
				  "0x1000") "p0 mremap(0x430000, 0x3000, 0x3000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x440000)\n"
					    "p0 mremap(0x43f000, 0x3000, 0x3000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x450000)\n"
					    "p0 mremap(0x442000, 0x3000, 0x3000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x450000)\n";

static const char brk_cases[] =
	"p0 brk(0)\n"
	"p0 brk(0x3c2000)\n"
	"p0 store(0x3c0000, 0x2000, 4)\n"
	"p0 store(0x3c2000, 1, 4)\n"
	"# not on a page: the page counts, the number is kept\n"
	"p0 brk(0x3c2801)\n"
	"p0 store(0x3c2ffe, 2, 4)\n"
	"p0 brk(0)\n"
	"p0 brk(0x3c2fff)\n"
	"# down, below the start, far up, into something\n"
	"p0 brk(0x3c1000)\n"
	"p0 load(0x3c1000, 1)\n"
	"p0 brk(0x3bf000)\n"
	"p0 brk(0x3c3000)\n"
	"p0 load(0x3c1000, 0x2000)\n"
	"p0 brk(0x800000000000)\n"
	"p0 brk(0xffffffffffffffff)\n" ANON("0x3c8000", "0x1000") "p0 brk(0x3c7000)\n"
								  "p0 brk(0x3c8000)\n"
								  "p0 brk(0x3c9000)\n"
								  "p0 munmap(0x3c2000, 0x2000)\n"
								  "p0 brk(0x3c6000)\n"
								  "p0 brk(0x3c0000)\n"
								  "p0 brk(0x3c1000)\n"
								  "p0 mlockall(MCL_FUTURE)\n"
								  "p0 brk(0x3c4000)\n"
								  "p0 mprotect(0x3c1000, 0x1000, PROT_READ)\n"
								  "p0 brk(0x3c5000)\n"
								  "p0 brk(0x3c0800)\n";

static const char brk_limit[] = "p0 setrlimit(RLIMIT_DATA, 0x3000)\n"
				"p0 brk(0x3c3000)\n"
				"p0 brk(0x3c4000)\n"
				"p0 mmap(0, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				"p0 mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				"p0 mprotect(0x7ffff7ffe000, 0x1000, PROT_READ|PROT_WRITE)\n"
				"p0 mmap(0, 0x1000, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1, 0)\n"
				"p0 brk(0x3c2000)\n"
				"p0 mmap(0, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				"p0 setrlimit(RLIMIT_AS, 0x200000)\n"
				"p0 mmap(0, 0x300000, PROT_READ, MAP_SHARED|MAP_ANONYMOUS, -1, 0)\n"
				"p0 mremap(0x7ffff7ffc000, 0x1000, 0x300000, MREMAP_MAYMOVE, 0)\n"
				"p0 brk(0x5c0000)\n";

static const char madvise_errors[] = ANON("0x400000", "0x2000")
	ANON("0x404000", "0x2000") "p0 madvise(0x400001, 0x1000, MADV_DONTNEED)\n"
				   "p0 madvise(0x400000, 0, MADV_DONTNEED)\n"
				   "p0 madvise(0x500000, 0, MADV_DONTNEED)\n"
				   "p0 madvise(0x400000, 0, 1000)\n"
				   "p0 madvise(0x400000, 0x1000, 1000)\n"
				   "p0 madvise(0x400000, 0x1000, 5)\n"
				   "p0 madvise(0x400000, 0x1000, 0xffffffff)\n"
				   "p0 madvise(0x400000, 0xffffffffffffffff, MADV_DONTNEED)\n"
				   "p0 madvise(0x400000, 0xffffffffffffe000, MADV_DONTNEED)\n"
				   "p0 madvise(0x400000, 1, MADV_DONTNEED)\n"
				   "# holes: done where something is, and ENOMEM\n"
				   "p0 store(0x400000, 0x2000, 1)\n"
				   "p0 store(0x404000, 0x2000, 1)\n"
				   "p0 madvise(0x400000, 0x6000, MADV_DONTNEED)\n"
				   "p0 madvise(0x3fe000, 0x4000, MADV_DONTNEED)\n"
				   "p0 madvise(0x500000, 0x1000, MADV_DONTNEED)\n"
				   "p0 madvise(0x400000, 0x6000, MADV_WILLNEED)\n"
				   "p0 madvise(0x400000, 0x6000, MADV_DONTFORK)\n"
				   "p0 madvise(0x400000, 0x6000, MADV_POPULATE_WRITE)\n"
				   "p0 madvise(0x400000, 0x6000, MADV_GUARD_INSTALL)\n"
				   "# locked memory\n"
				   "p0 mlock(0x404000, 0x1000)\n"
				   "p0 madvise(0x404000, 0x1000, MADV_DONTNEED)\n"
				   "p0 madvise(0x404000, 0x1000, MADV_FREE)\n"
				   "p0 madvise(0x404000, 0x1000, MADV_REMOVE)\n"
				   "p0 madvise(0x404000, 0x1000, MADV_COLD)\n"
				   "p0 madvise(0x404000, 0x1000, MADV_GUARD_INSTALL)\n"
				   "p0 madvise(0x404000, 0x1000, MADV_DONTNEED_LOCKED)\n"
				   "p0 madvise(0x404000, 0x2000, MADV_DONTNEED)\n";

static const char madvise_kinds[] =
	FILL("0", "0x4000") SHARED_ANON("0x400000", "0x4000") FILE_SHARED("0x410000", "0x4000", "0", "0") FILE_PRIVATE(
		"0x420000", "0x4000", "0", "0") "p0 mmap(0x430000, 0x4000, PROT_READ, MAP_SHARED|MAP_FIXED, 4, 0)\n"
						"p0 store(0x400000, 0x4000, 1)\n"
						"p0 store(0x410000, 0x2000, 2)\n"
						"p0 store(0x420000, 0x2000, 3)\n"
						"# free: private anonymous only\n"
						"p0 madvise(0x400000, 0x1000, MADV_FREE)\n"
						"p0 madvise(0x410000, 0x1000, MADV_FREE)\n"
						"p0 madvise(0x420000, 0x1000, MADV_FREE)\n"
						"# dontneed: private pages go, file pages stay in the file\n"
						"p0 madvise(0x400000, 0x1000, MADV_DONTNEED)\n"
						"p0 madvise(0x410000, 0x1000, MADV_DONTNEED)\n"
						"p0 madvise(0x420000, 0x1000, MADV_DONTNEED)\n"
						"p0 load(0x400000, 0x10)\n"
						"p0 load(0x410000, 0x10)\n"
						"p0 load(0x420000, 0x2000)\n"
						"# remove: shared, writable\n"
						"p0 madvise(0x400000, 0x1000, MADV_REMOVE)\n"
						"p0 madvise(0x411000, 0x1000, MADV_REMOVE)\n"
						"p0 madvise(0x421000, 0x1000, MADV_REMOVE)\n"
						"p0 madvise(0x430000, 0x1000, MADV_REMOVE)\n"
						"p0 load(0x400000, 0x10)\n"
						"p0 load(0x411000, 0x10)\n"
						"p0 load(0x421000, 0x10)\n"
						"# wipe on fork: private anonymous only\n"
						"p0 madvise(0x400000, 0x1000, MADV_WIPEONFORK)\n"
						"p0 madvise(0x420000, 0x1000, MADV_WIPEONFORK)\n"
						"p0 madvise(0x400000, 0x1000, MADV_KEEPONFORK)\n"
						"# populate: needs the permission\n"
						"p0 madvise(0x430000, 0x4000, MADV_POPULATE_READ)\n"
						"p0 madvise(0x430000, 0x4000, MADV_POPULATE_WRITE)\n"
						"p0 madvise(0x430000, 0x4000, MADV_GUARD_INSTALL)\n"
						"p0 load(0x430000, 1)\n";

static const char madvise_populate[] = FILL("0", "0x2800") FILE_SHARED("0x400000", "0x4000", "0", "0")
	ANON("0x404000", "0x2000") "# beyond the end of the file\n"
				   "p0 madvise(0x400000, 0x6000, MADV_POPULATE_READ)\n"
				   "p0 madvise(0x404000, 0x2000, MADV_POPULATE_READ)\n"
				   "p0 madvise(0x404000, 0x1000, MADV_POPULATE_WRITE)\n"
				   "p0 mprotect(0x404000, 0x1000, PROT_NONE)\n"
				   "p0 madvise(0x404000, 0x2000, MADV_POPULATE_READ)\n"
				   "p0 madvise(0x404000, 0x2000, MADV_POPULATE_WRITE)\n"
				   "p0 madvise(0x405000, 0x2000, MADV_POPULATE_WRITE)\n"
				   "p0 madvise(0x405000, 0x1000, MADV_GUARD_INSTALL)\n"
				   "p0 madvise(0x405000, 0x1000, MADV_POPULATE_WRITE)\n"
				   "p0 madvise(0x405000, 0x1000, MADV_POPULATE_READ)\n";

static const char madvise_fork[] = ANON("0x400000", "0x4000") "p0 store(0x400000, 0x4000, 1)\n"
							      "p0 madvise(0x401000, 0x1000, MADV_DONTFORK)\n"
							      "p0 madvise(0x402000, 0x1000, MADV_WIPEONFORK)\n"
							      "p0 fork(1)\n"
							      "p1 load(0x400000, 0x1000)\n"
							      "p1 load(0x401000, 1)\n"
							      "p1 load(0x402000, 0x2000)\n"
							      "p0 load(0x400000, 0x4000)\n"
							      "p1 store(0x403000, 1, 2)\n"
							      "p1 fork(2)\n"
							      "p2 load(0x402000, 0x2000)\n"
							      "p0 madvise(0x400000, 0x4000, MADV_DOFORK)\n"
							      "p0 madvise(0x400000, 0x4000, MADV_KEEPONFORK)\n"
							      "p0 fork(3)\n"
							      "p3 load(0x400000, 0x4000)\n";

static const char madvise_guard[] = FILL("0", "0x4000")
	ANON("0x400000", "0x6000") "p0 store(0x400000, 0x6000, 1)\n"
				   "p0 madvise(0x401000, 0x2000, MADV_GUARD_INSTALL)\n"
				   "p0 load(0x400fff, 2)\n"
				   "p0 store(0x402fff, 2, 1)\n"
				   "p0 vm_readv(0, 0x400000, 0x6000)\n"
				   "p0 mincore(0x400000, 0x6000)\n"
				   "p0 madvise(0x400000, 0x6000, MADV_DONTNEED)\n"
				   "p0 load(0x401000, 1)\n"
				   "p0 mprotect(0x400000, 0x6000, PROT_READ)\n"
				   "p0 mprotect(0x400000, 0x6000, PROT_READ|PROT_WRITE)\n"
				   "p0 load(0x401000, 1)\n"
				   "p0 fork(1)\n"
				   "p1 load(0x402000, 1)\n"
				   "p1 madvise(0x401000, 0x2000, MADV_GUARD_REMOVE)\n"
				   "p1 load(0x401000, 0x2000)\n"
				   "p0 mremap(0x400000, 0x6000, 0x6000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x5fe000)\n"
				   "p0 load(0x5ff000, 1)\n"
				   "p0 load(0x601000, 1)\n"
				   "p0 madvise(0x5fe000, 0x6000, MADV_GUARD_REMOVE)\n"
				   "p0 load(0x5fe000, 0x6000)\n"
				   "p0 madvise(0x5fe000, 0x2000, MADV_GUARD_INSTALL)\n"
				   "p0 mmap(0x5fe000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
				   "p0 load(0x5fe000, 1)\n"
				   "p0 load(0x5ff000, 1)\n"
				   "# in mappings of files too\n" FILE_SHARED("0x410000", "0x4000", "0", "0")
					   FILE_PRIVATE("0x420000", "0x4000", "0",
							"0") "p0 store(0x421000, 8, 1)\n"
							     "p0 madvise(0x411000, 0x1000, MADV_GUARD_INSTALL)\n"
							     "p0 madvise(0x421000, 0x1000, MADV_GUARD_INSTALL)\n"
							     "p0 load(0x410000, 0x2000)\n"
							     "p0 load(0x420000, 0x2000)\n"
							     "ftruncate(0, 0x1000)\n"
							     "p0 load(0x411000, 1)\n"
							     "p0 load(0x421000, 1)\n"
							     "ftruncate(0, 0x4000)\n"
							     "p0 madvise(0x411000, 0x1000, MADV_GUARD_REMOVE)\n"
							     "p0 madvise(0x421000, 0x1000, MADV_GUARD_REMOVE)\n"
							     "p0 load(0x410000, 0x2000)\n"
							     "p0 load(0x420000, 0x2000)\n";

static const char mincore_cases[] = FILL("0", "0x2800") ANON("0x400000", "0x4000") FILE_SHARED(
	"0x404000", "0x4000", "0", "0") "p0 mincore(0x400001, 0x1000)\n"
					"p0 mincore(0x400000, 0)\n"
					"p0 mincore(0x500000, 0x1000)\n"
					"p0 mincore(0x3ff000, 0x2000)\n"
					"p0 mincore(0x407000, 0x2000)\n"
					"p0 mincore(0x400000, 0xffffffffffffffff)\n"
					"p0 mincore(0xfffffffffffff000, 0x1000)\n"
					"p0 mincore(0x7ffffffff000, 0x1000)\n"
					"p0 mincore(0x400000, 1)\n"
					"p0 store(0x401000, 1, 1)\n"
					"p0 load(0x403000, 1)\n"
					"p0 mincore(0x400000, 0x8000)\n"
					"p0 madvise(0x401000, 0x1000, MADV_DONTNEED)\n"
					"p0 mincore(0x400000, 0x8000)\n"
					"fallocate(0, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x1000, 0x1000)\n"
					"p0 mincore(0x400000, 0x8000)\n"
					"ftruncate(0, 0x5000)\n"
					"p0 mincore(0x404000, 0x4000)\n"
					"p0 mmap(0x410000, 0x2000, PROT_NONE, MAP_PRIVATE|MAP_FIXED, 0, 0)\n"
					"p0 mincore(0x410000, 0x2000)\n";

static const char msync_cases[] =
	FILL("3", "0x2000") ANON("0x400000", "0x1000") FILE_SHARED("0x402000", "0x2000", "3", "0")
		FILE_PRIVATE("0x404000", "0x1000", "3", "0") "p0 msync(0x402001, 0x1000, MS_SYNC)\n"
							     "p0 msync(0x402000, 0x1000, MS_SYNC|MS_ASYNC)\n"
							     "p0 msync(0x402000, 0x1000, 8)\n"
							     "p0 msync(0x402000, 0, MS_SYNC)\n"
							     "p0 msync(0x402000, 0x1000, 0)\n"
							     "p0 msync(0x402000, 0xffffffffffffffff, MS_SYNC)\n"
							     "p0 msync(0x402000, 0xfffffffffffe0000, MS_ASYNC)\n"
							     "p0 store(0x402000, 0x1800, 5)\n"
							     "p0 msync(0x402000, 0x2000, MS_SYNC)\n"
							     "p0 msync(0x402000, 0x2000, MS_ASYNC|MS_INVALIDATE)\n"
							     "p0 msync(0x400000, 0x5000, MS_SYNC)\n"
							     "p0 msync(0x401000, 0x1000, MS_ASYNC)\n"
							     "p0 msync(0x401000, 0x2000, MS_ASYNC)\n"
							     "p0 msync(0x404000, 0x2000, MS_ASYNC)\n"
							     "p0 mlock(0x403000, 0x1000)\n"
							     "p0 msync(0x402000, 0x2000, MS_INVALIDATE)\n"
							     "p0 msync(0x402000, 0x1000, MS_INVALIDATE)\n";

static const char mlock_cases[] = FILL("0", "0x1800") ANON("0x400000", "0x3000") ANON(
	"0x404000",
	"0x1000") "p0 mlock(0x400800, 0x1000)\n"
		  "p0 munlock(0x400000, 1)\n"
		  "p0 mlock(0x400000, 0)\n"
		  "p0 mlock(0x500000, 0)\n"
		  "p0 mlock(0x400000, 0xffffffffffffffff)\n"
		  "p0 mlock(0x400000, 0xffffffffffffe000)\n"
		  "p0 mlock(0x500000, 0x1000)\n"
		  "# a hole: what lies before it is locked\n"
		  "p0 mlock(0x402000, 0x3000)\n"
		  "p0 munlock(0x400000, 0x5000)\n"
		  "p0 mlock2(0x400000, 0x3000, MLOCK_ONFAULT)\n"
		  "p0 load(0x401000, 1)\n"
		  "p0 mlock2(0x400000, 0x1000, 0)\n"
		  "p0 mlock2(0x400000, 0x1000, 2)\n"
		  "# memory that cannot be populated\n"
		  "p0 mmap(0x410000, 0x2000, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
		  "p0 mlock(0x410000, 0x2000)\n" FILE_SHARED(
			  "0x420000", "0x4000", "0",
			  "0") "p0 mlock(0x420000, 0x4000)\n"
			       "p0 munlock(0x500000, 0x1000)\n"
			       "p0 munlock(0x400000, 0xffffffffffffffff)\n"
			       "# what is locked stays so when it is split, moved and grown; a child has nothing locked\n"
			       "p0 mlock(0x400000, 0x3000)\n"
			       "p0 mprotect(0x401000, 0x1000, PROT_READ)\n"
			       "p0 mremap(0x402000, 0x1000, 0x3000, MREMAP_MAYMOVE, 0)\n"
			       "p0 fork(1)\n"
			       "p1 store(0x400000, 1, 1)\n"
			       "p0 store(0x400000, 1, 2)\n"
			       "p0 munlockall()\n";

static const char mlock_limit[] =
	ANON("0x400000", "0x8000") "p0 setrlimit(RLIMIT_MEMLOCK, 0x3000)\n"
				   "p0 mlock(0x400000, 0x3000)\n"
				   "p0 mlock(0x403000, 0x1000)\n"
				   "p0 mlock(0x400000, 0x1000)\n"
				   "p0 mlock(0x400000, 0x4000)\n"
				   "p0 munlock(0x400000, 0x2000)\n"
				   "p0 mlock(0x402000, 0x2000)\n"
				   "p0 mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_LOCKED, -1, 0)\n"
				   "p0 mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_LOCKED, -1, 0)\n"
				   "p0 mremap(0x402000, 0x2000, 0x3000, MREMAP_MAYMOVE, 0)\n"
				   "p0 mlockall(MCL_CURRENT)\n"
				   "p0 mlockall(MCL_FUTURE)\n"
				   "p0 mmap(0, 0x4000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
				   "p0 brk(0x3c4000)\n"
				   "p0 setrlimit(RLIMIT_MEMLOCK, 0)\n"
				   "p0 mlock(0x400000, 0x1000)\n"
				   "p0 mlock(0x400000, 0)\n"
				   "p0 mlockall(MCL_FUTURE)\n"
				   "p0 mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_LOCKED, -1, 0)\n"
				   "p0 munlockall()\n";

static const char mlockall_cases[] =
	ANON("0x400000",
	     "0x2000") "p0 mlockall(0)\n"
		       "p0 mlockall(MCL_ONFAULT)\n"
		       "p0 mlockall(8|MCL_CURRENT)\n"
		       "p0 mlockall(MCL_CURRENT)\n"
		       "p0 mmap(0x410000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
		       "p0 mlockall(MCL_FUTURE)\n"
		       "p0 mmap(0x420000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
		       "p0 mmap(0x422000, 0x2000, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
		       "p0 mprotect(0x422000, 0x1000, PROT_READ|PROT_WRITE)\n"
		       "p0 mlockall(MCL_FUTURE|MCL_ONFAULT)\n"
		       "p0 mmap(0x430000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
		       "p0 mlockall(MCL_CURRENT|MCL_ONFAULT)\n"
		       "p0 fork(1)\n"
		       "p1 mmap(0x440000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
		       "p0 munlockall()\n"
		       "p0 mmap(0x440000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n";

static const char mseal_cases[] = ANON("0x400000", "0x6000")
	ANON("0x408000", "0x1000") "p0 mseal(0x400001, 0x1000, 0)\n"
				   "p0 mseal(0x400000, 0x1000, 1)\n"
				   "p0 mseal(0x400000, 0, 0)\n"
				   "p0 mseal(0x500000, 0, 0)\n"
				   "p0 mseal(0x400000, 0xffffffffffffffff, 0)\n"
				   "p0 mseal(0x400000, 0xffffffffffffe000, 0)\n"
				   "p0 mseal(0x404000, 0x5000, 0)\n"
				   "p0 mseal(0x500000, 0x1000, 0)\n"
				   "p0 mseal(0x401000, 0x2000, 0)\n"
				   "p0 mseal(0x402000, 0x1000, 0)\n"
				   "p0 munmap(0x400000, 0x6000)\n"
				   "p0 munmap(0x400000, 0x1000)\n"
				   "p0 mprotect(0x401000, 0x1000, PROT_READ)\n"
				   "p0 mprotect(0x402000, 0x2000, PROT_READ)\n"
				   "p0 mremap(0x401000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x410000)\n"
				   "p0 mremap(0x401000, 0x2000, 0x1000, 0, 0)\n"
				   "p0 mremap(0x401000, 0x2000, 0x3000, MREMAP_MAYMOVE, 0)\n"
				   "p0 mremap(0x404000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x401000)\n"
				   "p0 mmap(0x401000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
				   "p0 store(0x401000, 0x2000, 1)\n"
				   "p0 madvise(0x401000, 0x1000, MADV_DONTNEED)\n"
				   "p0 madvise(0x401000, 0x1000, MADV_FREE)\n"
				   "p0 madvise(0x401000, 0x1000, MADV_DONTFORK)\n"
				   "p0 madvise(0x401000, 0x1000, MADV_COLD)\n"
				   "p0 madvise(0x401000, 0x1000, MADV_GUARD_INSTALL)\n"
				   "p0 mlock(0x401000, 0x2000)\n"
				   "p0 munlock(0x401000, 0x2000)\n"
				   "# read-only sealed memory\n"
				   "p0 mmap(0x420000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
				   "p0 load(0x420000, 0x2000)\n"
				   "p0 mseal(0x420000, 0x2000, 0)\n"
				   "p0 madvise(0x420000, 0x1000, MADV_DONTNEED)\n"
				   "p0 madvise(0x420000, 0x1000, MADV_DONTFORK)\n"
				   "p0 madvise(0x420000, 0x1000, MADV_WIPEONFORK)\n"
				   "p0 madvise(0x420000, 0x1000, MADV_GUARD_INSTALL)\n"
				   "p0 fork(1)\n"
				   "p1 munmap(0x420000, 0x1000)\n"
				   "p1 mprotect(0x401000, 0x1000, PROT_READ)\n";

static const char fallocate_cases[] = FILL("0", "0x4800") FILL("3", "0x4800")
	FILE_SHARED("0x400000", "0x6000", "0", "0") FILE_PRIVATE("0x410000", "0x6000", "0", "0")
		FILE_SHARED("0x420000", "0x6000", "3",
			    "0") "p0 load(0x400000, 0x4000)\n"
				 "p0 store(0x411000, 8, 1)\n"
				 "p0 load(0x412000, 8)\n"
				 "fallocate(0, FALLOC_FL_PUNCH_HOLE, 0, 0x1000)\n"
				 "fallocate(0, FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE, 0, 0)\n"
				 "fallocate(0, 0, 0, 0)\n"
				 "fallocate(0, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0xffffffffffffffff, 0x1000)\n"
				 "fallocate(0, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0, 0xffffffffffffffff)\n"
				 "fallocate(0, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x7fffffffffffffff, 0x1000)\n"
				 "fallocate(4, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0, 0x1000)\n"
				 "# whole pages, parts of pages, a copy made before\n"
				 "fallocate(0, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x1000, 0x2000)\n"
				 "p0 load(0x400ff0, 0x3000)\n"
				 "p0 load(0x410ff0, 0x3000)\n"
				 "fallocate(0, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x3100, 0x200)\n"
				 "fallocate(0, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x800, 0x3000)\n"
				 "p0 load(0x400000, 0x4000)\n"
				 "fallocate(3, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x800, 0x1900)\n"
				 "p0 load(0x420000, 0x4000)\n"
				 "# beyond the end; growing the file or not\n"
				 "fallocate(0, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x4000, 0x8000)\n"
				 "fallocate(0, FALLOC_FL_KEEP_SIZE, 0x5000, 0x1000)\n"
				 "p0 load(0x405000, 1)\n"
				 "fallocate(0, 0, 0x4900, 0x1000)\n"
				 "p0 load(0x404000, 0x2000)\n"
				 "fallocate(3, 0, 0x4900, 0x1000)\n"
				 "p0 load(0x424000, 0x2000)\n";

static const char truncate_cases[] = FILL("0", "0x4800") FILL("3", "0x4800") FILE_SHARED("0x400000", "0x6000", "0", "0")
	FILE_PRIVATE("0x410000", "0x6000", "0", "0") FILE_SHARED("0x420000", "0x6000", "3", "0")
		FILE_PRIVATE("0x430000", "0x6000", "3", "0") "p0 store(0x404900, 8, 1)\n"
							     "p0 store(0x405000, 1, 1)\n"
							     "p0 store(0x413000, 8, 1)\n"
							     "p0 store(0x414000, 8, 1)\n"
							     "p0 store(0x434000, 8, 1)\n"
							     "p0 fork(1)\n"
							     "ftruncate(0, 0x3800)\n"
							     "ftruncate(3, 0x3800)\n"
							     "p0 load(0x403700, 0x800)\n"
							     "p1 load(0x413000, 0x1000)\n"
							     "p0 load(0x404000, 1)\n"
							     "p0 load(0x414000, 1)\n"
							     "p1 store(0x424000, 1, 2)\n"
							     "p1 load(0x434000, 1)\n"
							     "ftruncate(0, 0x6000)\n"
							     "ftruncate(3, 0x6000)\n"
							     "p0 load(0x403700, 0x2800)\n"
							     "p1 load(0x413000, 0x3000)\n"
							     "p0 load(0x423700, 0x2800)\n"
							     "p1 load(0x433000, 0x3000)\n"
							     "ftruncate(0, 0xffffffffffffffff)\n"
							     "ftruncate(4, 0)\n"
							     "ftruncate(0, 0)\n"
							     "p0 load(0x400000, 1)\n"
							     "p0 load(0x410000, 1)\n";

static const char file_transfer[] = FILL("0", "0x1800") FILL("3", "0x1800") FILE_SHARED("0x400000", "0x4000", "0", "0")
	FILE_SHARED("0x410000", "0x4000", "3", "0") "p0 store(0x400100, 0x20, 1)\n"
						    "pread(0, 0xf0, 0x80)\n"
						    "pwrite(0, 0x110, 4, 2)\n"
						    "p0 load(0x400100, 0x20)\n"
						    "p0 store(0x410100, 0x20, 1)\n"
						    "pread(3, 0xf0, 0x80)\n"
						    "pwrite(3, 0x110, 4, 2)\n"
						    "p0 load(0x410100, 0x20)\n"
						    "pwrite(0, 0x3000, 0x100, 3)\n"
						    "p0 load(0x401700, 0x2000)\n"
						    "pread(0, 0x3000, 0x1000)\n"
						    "pread(0, 0x5000, 0x1000)\n"
						    "pread(3, 0x1700, 0x1000)\n"
						    "pread(0, 0xffffffffffffffff, 0x1000)\n"
						    "pwrite(4, 0, 0x10, 1)\n"
						    "pread(4, 0x4ff0, 0x1000)\n"
						    "fsync(3)\n"
						    "fsync(0)\n";

static const char vm_transfer[] =
	ANON("0x400000", "0x4000") "p0 mmap(0x404000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
				   "p0 mmap(0x405000, 0x1000, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
				   "p0 store(0x400000, 0x1000, 1)\n"
				   "p0 fork(1)\n"
				   "p1 vm_readv(0, 0x400ff0, 0x20)\n"
				   "p1 vm_writev(0, 0x400ff0, 0x20, 2)\n"
				   "p0 load(0x400ff0, 0x20)\n"
				   "p1 load(0x400ff0, 0x20)\n"
				   "# until something cannot be read or written\n"
				   "p1 vm_readv(0, 0x403ff0, 0x2000)\n"
				   "p1 vm_readv(0, 0x403000, 0x4000)\n"
				   "p1 vm_writev(0, 0x403ff0, 0x2000, 3)\n"
				   "p1 vm_writev(0, 0x404000, 0x10, 3)\n"
				   "p1 vm_readv(0, 0x405000, 0x10)\n"
				   "p1 vm_readv(0, 0x500000, 0x10)\n"
				   "p1 vm_readv(0, 0x400000, 0)\n"
				   "p1 vm_readv(0, 0xfffffffffffffff0, 8)\n"
				   "p1 vm_readv(0, 0x800000000000, 8)\n"
				   "p0 mprotect(0x401000, 0x1000, PROT_WRITE)\n"
				   "p0 mprotect(0x402000, 0x1000, PROT_EXEC)\n"
				   "p1 vm_readv(0, 0x401000, 8)\n"
				   "p1 vm_writev(0, 0x401000, 8, 4)\n"
				   "p1 vm_readv(0, 0x402000, 8)\n"
				   "p1 vm_writev(0, 0x402000, 8, 4)\n"
				   "p0 vm_readv(0, 0x400000, 0x10)\n";

static const char stack_growth[] =
	"p0 mmap(0x600000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_GROWSDOWN|MAP_FIXED, -1, 0)\n"
	"p0 store(0x5fffff, 1, 1)\n"
	"p0 store(0x5fcffc, 8, 1)\n"
	"p0 load(0x5f0000, 1)\n"
	"p0 vm_readv(0, 0x5ef000, 8)\n"
	"p0 vm_writev(0, 0x5ef000, 8, 1)\n"
	"# the distance that is kept to what lies below\n" ANON("0x4e0000",
								"0x1000") "p0 load(0x5e1000, 1)\n"
									  "p0 load(0x5e0fff, 1)\n"
									  "p0 mprotect(0x4e0000, 0x1000, PROT_NONE)\n"
									  "p0 load(0x5e0fff, 1)\n"
									  "p0 load(0x5df000, 1)\n"
									  "p0 munmap(0x4e0000, 0x1000)\n"
									  "# as far as the limit\n"
									  "p0 setrlimit(RLIMIT_STACK, 0x30000)\n"
									  "p0 load(0x5d4000, 1)\n"
									  "p0 load(0x5d3fff, 1)\n"
									  "p0 munmap(0x5d8000, 0x2000)\n"
									  "p0 load(0x5d9000, 1)\n"
									  "p0 mlock(0x5da000, 0x1000)\n"
									  "p0 store(0x5d8000, 1, 1)\n"
									  "p0 fork(1)\n"
									  "p1 store(0x5d3fff, 1, 1)\n";

static const char stack_growth_other[] =
	"# read-only, locked, limited, split, with a mapping right below\n"
	"p0 mmap(0x600000, 0x2000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_GROWSDOWN|MAP_FIXED, -1, 0)\n"
	"p0 store(0x5fffff, 1, 1)\n"
	"p0 load(0x5fffff, 1)\n"
	"p0 mprotect(0x5ff000, 0x1000, PROT_NONE)\n"
	"p0 load(0x5fe000, 1)\n"
	"p0 mmap(0x700000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_GROWSDOWN|MAP_FIXED, -1, 0)\n"
	"p0 mprotect(0x700000, 0x1000, PROT_READ)\n"
	"p0 store(0x6fffff, 1, 1)\n"
	"p0 load(0x6fffff, 1)\n"
	"p0 setrlimit(RLIMIT_MEMLOCK, 0x4000)\n"
	"p0 mlock(0x6ff000, 0x3000)\n"
	"p0 load(0x6fe000, 1)\n"
	"p0 load(0x6fd000, 1)\n"
	"p0 setrlimit(RLIMIT_AS, 0xf8000)\n"
	"p0 munlockall()\n"
	"p0 load(0x6f0000, 1)\n"
	"p0 load(0x6fd000, 1)\n";

static const char fork_cow[] =
	ANON("0x3ff000", "0x3000") SHARED_ANON("0x402000", "0x1000") "p0 store(0x3ff000, 0x4000, 1)\n"
								     "p0 fork(1)\n"
								     "p1 fork(2)\n"
								     "p1 store(0x3fff00, 0x200, 2)\n"
								     "p0 load(0x3ff000, 0x4000)\n"
								     "p1 load(0x3ff000, 0x4000)\n"
								     "p2 load(0x3ff000, 0x4000)\n"
								     "p2 store(0x402000, 8, 3)\n"
								     "p0 load(0x402000, 8)\n"
								     "p0 exit()\n"
								     "p1 store(0x400000, 8, 4)\n"
								     "p2 store(0x400000, 8, 5)\n"
								     "p1 load(0x400000, 8)\n"
								     "p2 load(0x400000, 8)\n"
								     "p1 exit()\n"
								     "p2 store(0x401000, 8, 6)\n"
								     "p2 load(0x3ff000, 0x4000)\n"
								     "p2 cmpxchg(0x401010, 0, 6)\n";

static const char accesses[] =
	"p0 load(0, 1)\n"
	"p0 store(0x400000, 1, 1)\n" ANON("0x400000", "0x1000") "p0 load(0x3ffffc, 8)\n"
								"p0 load(0x400ffc, 8)\n"
								"p0 store(0x400ffc, 8, 1)\n"
								"p0 load(0x400ff8, 8)\n"
								"p0 fetch(0x400000)\n"
								"p0 fetch(0x500000)\n"
								"p0 cmpxchg(0x400010, 0, 2)\n"
								"p0 cmpxchg(0x400010, 0, 3)\n"
								"p0 mprotect(0x400000, 0x1000, PROT_READ)\n"
								"p0 cmpxchg(0x400010, 0, 3)\n"
								"p0 cmpxchg(0x500000, 0, 3)\n"
								"p0 load(0x7fffffffeff0, 8)\n"
								"p0 load(0x7ffffffff000, 8)\n";

static const char addresses_beyond[] = "# not canonical: the processor tells no address\n"
				       "p0 load(0x800000000000, 8)\n"
				       "p0 store(0xffff7fffffffffff, 1, 1)\n"
				       "# the kernel's half\n"
				       "p0 load(0xffff800000000000, 8)\n"
				       "p0 store(0xfffffffffffff000, 1, 1)\n"
				       "p0 fetch(0xfffffffffffff000)\n";

#define TEST(name)                                                                                                     \
	{                                                                                                              \
#name, name                                                                                            \
	}

const struct directed directed_tests[] = {
	TEST(mmap_errors),	  TEST(mmap_noreplace),	    TEST(mmap_placement), TEST(mmap_guard_gap),
	TEST(mmap_merge),	  TEST(mmap_populate),	    TEST(munmap_errors),  TEST(mprotect_errors),
	TEST(mprotect_growsdown), TEST(mprotect_data),	    TEST(mremap_errors),  TEST(mremap_moves),
	TEST(mremap_dontunmap),	  TEST(mremap_duplicate),   TEST(mremap_several), TEST(brk_cases),
	TEST(brk_limit),	  TEST(madvise_errors),	    TEST(madvise_kinds),  TEST(madvise_populate),
	TEST(madvise_fork),	  TEST(madvise_guard),	    TEST(mincore_cases),  TEST(msync_cases),
	TEST(mlock_cases),	  TEST(mlock_limit),	    TEST(mlockall_cases), TEST(mseal_cases),
	TEST(fallocate_cases),	  TEST(truncate_cases),	    TEST(file_transfer),  TEST(vm_transfer),
	TEST(stack_growth),	  TEST(stack_growth_other), TEST(fork_cow),	  TEST(accesses),
	TEST(addresses_beyond),	  { NULL, NULL },
};
