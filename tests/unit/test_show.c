/* SPDX-License-Identifier: MIT */
/*
 * The views in Linux's formats. Where the running kernel is the one whose formats we follow, the same is done to this process and
 * to an address space of quire, and one parser reads what both say about it.
 */
#define _GNU_SOURCE
#include "cmocka_setup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "quire/quire.h"

#define PAGE 4096ull
#define BASE 0x200000000000ull
#define GUARD_INSTALL 102 /* MADV_GUARD_INSTALL: newer than the C library's header */

struct machine_under_test {
	struct quire *q;
	struct quire_cpu *cpu;
	struct quire_mm *mm;
};

static int setup(void **state)
{
	const struct quire_config config = { .memory = 64ull << 20, .nr_cpus = 1 };
	struct machine_under_test *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	assert_int_equal(quire_create(&config, &t->q), 0);
	assert_int_equal(quire_cpu_enter(t->q, 0, &t->cpu), 0);
	assert_int_equal(quire_mm_create(t->cpu, NULL, &t->mm), 0);
	quire_cpu_run(t->cpu, t->mm);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct machine_under_test *t = *state;

	quire_cpu_run(t->cpu, NULL);
	quire_mm_put(t->cpu, t->mm);
	quire_cpu_leave(t->cpu);
	assert_int_equal(quire_destroy(t->q), 0);
	free(t);
	return 0;
}

/* ---------------------------------------------------------------------------------------- texts */

struct buffer {
	char *text; /* NUL-terminated */
	size_t len;
	unsigned pieces;
};

static int collect(void *arg, const char *data, size_t len)
{
	struct buffer *b = arg;

	b->text = realloc(b->text, b->len + len + 1);
	assert_non_null(b->text);
	memcpy(b->text + b->len, data, len);
	b->len += len;
	b->text[b->len] = '\0';
	b->pieces++;
	return 0;
}

static void read_file(struct buffer *b, const char *path)
{
	char chunk[4096];
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	while ((got = read(fd, chunk, sizeof(chunk))) > 0)
		collect(b, chunk, (size_t)got);
	close(fd);
}

/* The block of the VMA at @start, from its first line to before the next VMA's; freed by the caller. */
static char *smaps_block(const char *text, uint64_t start)
{
	char head[32];
	const char *at, *end;

	snprintf(head, sizeof(head), "%08" PRIx64 "-", start);
	at = strstr(text, head);
	assert_non_null(at);
	end = strstr(at, "VmFlags:");
	assert_non_null(end);
	end = strchr(end, '\n');
	assert_non_null(end);
	return strndup(at, (size_t)(end + 1 - at));
}

/* The flags of the block, without soft-dirty, which depends on the kernel's configuration. */
static void smaps_flags(const char *block, char *flags, size_t size)
{
	const char *at = strstr(block, "VmFlags: ") + strlen("VmFlags: ");
	size_t len = 0;

	for (; *at != '\n'; at += 3)
		if (strncmp(at, "sd ", 3) && len + 4 < size)
			len += (size_t)snprintf(flags + len, size - len, "%.3s", at);
	flags[len] = '\0';
}

static uint64_t smaps_number(const char *block, const char *label)
{
	char line[40];
	const char *at;

	snprintf(line, sizeof(line), "\n%s:", label);
	at = strstr(block, line);
	assert_non_null(at);
	return strtoull(at + strlen(line), NULL, 10);
}

static bool running_kernel_is(unsigned major, unsigned minor)
{
	struct utsname name;
	unsigned a = 0, b = 0;

	uname(&name);
	sscanf(name.release, "%u.%u", &a, &b);
	return a == major && b == minor;
}

/* ---------------------------------------------------------------------------------------- the same on both */

/* One address space or the other. */
struct side {
	struct machine_under_test *t; /* NULL: this process */
	struct quire_file *file;
	int fd;
	uint64_t base; /* of the areas: the same on both sides */
};

static void side_map(struct side *s, uint64_t addr, uint64_t pages, int prot, int flags)
{
	bool anon = flags & MAP_ANONYMOUS;

	if (s->t)
		assert_int_equal(
			quire_mmap(s->t->cpu, addr, pages * PAGE, prot, flags | MAP_FIXED, anon ? NULL : s->file, 0),
			addr);
	else
		assert_ptr_equal(mmap((void *)addr, pages * PAGE, prot, flags | MAP_FIXED, anon ? -1 : s->fd, 0),
				 (void *)addr);
	/* Huge pages are a matter of configuration. */
	if (s->t)
		quire_madvise(s->t->cpu, addr, pages * PAGE, MADV_NOHUGEPAGE);
	else
		madvise((void *)addr, pages * PAGE, MADV_NOHUGEPAGE);
}

static void side_write(struct side *s, uint64_t addr, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++) {
		if (s->t)
			assert_int_equal(quire_store(s->t->cpu, addr + i * PAGE, &i, sizeof(i)), 0);
		else
			*(volatile uint64_t *)(addr + i * PAGE) = i;
	}
}

static void side_read(struct side *s, uint64_t addr, uint64_t pages)
{
	uint64_t value;

	for (uint64_t i = 0; i < pages; i++) {
		if (s->t)
			assert_int_equal(quire_load(s->t->cpu, addr + i * PAGE, &value, sizeof(value)), 0);
		else
			value = *(volatile uint64_t *)(addr + i * PAGE);
	}
	(void)value;
}

static void side_advise(struct side *s, uint64_t addr, uint64_t pages, int advice)
{
	if (s->t)
		assert_int_equal(quire_madvise(s->t->cpu, addr, pages * PAGE, advice), 0);
	else
		assert_int_equal(madvise((void *)addr, pages * PAGE, advice), 0);
}

static void side_protect(struct side *s, uint64_t addr, uint64_t pages, int prot)
{
	if (s->t)
		assert_int_equal(quire_mprotect(s->t->cpu, addr, pages * PAGE, prot), 0);
	else
		assert_int_equal(mprotect((void *)addr, pages * PAGE, prot), 0);
}

static void side_lock(struct side *s, uint64_t addr, uint64_t pages)
{
	if (s->t)
		assert_int_equal(quire_mlock(s->t->cpu, addr, pages * PAGE), 0);
	else
		assert_int_equal(syscall(SYS_mlock, addr, pages * PAGE), 0); /* sanitizers make mlock() do nothing */
}

enum {
	ANON_AT,
	NONE_AT,
	LOCKED_AT,
	SHARED_AT,
	PRIVATE_AT,
	STACK_AT,
	ADVISED_AT,
	FREED_AT,
	NR_AREAS,
};
#define AREA_PAGES 16u
#define RW (PROT_READ | PROT_WRITE)

#define AREA_DISTANCE 0x1000000ull

static uint64_t area(const struct side *s, unsigned which)
{
	return s->base + which * AREA_DISTANCE + PAGE;
}

static void side_scenario(struct side *s)
{
	for (unsigned i = 0; i < NR_AREAS; i++)
		side_map(s, area(s, i), AREA_PAGES, RW,
			 i == SHARED_AT	   ? MAP_SHARED
			 : i == PRIVATE_AT ? MAP_PRIVATE
			 : i == STACK_AT   ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN
			 : i == ADVISED_AT ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
					   : MAP_PRIVATE | MAP_ANONYMOUS);
	side_write(s, area(s, ANON_AT), 5);
	side_read(s, area(s, ANON_AT), 8);
	side_advise(s, area(s, ANON_AT) + 10 * PAGE, 2, GUARD_INSTALL);
	side_write(s, area(s, NONE_AT), 3);
	side_protect(s, area(s, NONE_AT), AREA_PAGES, PROT_NONE);
	side_lock(s, area(s, LOCKED_AT), AREA_PAGES);
	side_write(s, area(s, SHARED_AT), 6);
	side_read(s, area(s, PRIVATE_AT), 4);
	side_write(s, area(s, PRIVATE_AT) + PAGE, 1);
	side_write(s, area(s, STACK_AT) + 8 * PAGE, 8);
	side_advise(s, area(s, ADVISED_AT), AREA_PAGES, MADV_DONTFORK);
	side_advise(s, area(s, ADVISED_AT), AREA_PAGES, MADV_SEQUENTIAL);
	side_advise(s, area(s, ADVISED_AT), AREA_PAGES, MADV_WIPEONFORK);
	side_advise(s, area(s, ADVISED_AT), AREA_PAGES, MADV_DONTDUMP);
	side_protect(s, area(s, ADVISED_AT), AREA_PAGES, PROT_READ | PROT_EXEC);
	side_write(s, area(s, FREED_AT), 4);
	side_advise(s, area(s, FREED_AT), 2, MADV_FREE);
}

static void side_begin(struct side *sides, struct machine_under_test *t)
{
	void *room;

	sides[0].t = t;
	assert_int_equal(quire_file_create_shmem(t->cpu, AREA_PAGES * PAGE, &sides[0].file), 0);
	sides[1].t = NULL;
	sides[1].fd = memfd_create("quire", MFD_CLOEXEC);
	assert_true(sides[1].fd >= 0);
	assert_int_equal(ftruncate(sides[1].fd, AREA_PAGES * PAGE), 0);
	/* Where this process has room: sanitizers have their own ideas of that. */
	room = mmap(NULL, NR_AREAS * AREA_DISTANCE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(room, MAP_FAILED);
	sides[0].base = sides[1].base = (uint64_t)room;
	side_scenario(&sides[0]);
	side_scenario(&sides[1]);
}

static void side_end(struct side *sides)
{
	munmap((void *)sides->base, NR_AREAS * AREA_DISTANCE);
	close(sides[1].fd);
	quire_file_put(sides[0].t->cpu, sides[0].file);
}

/* Every number of the two blocks, line by line: the same labels in the same columns, the same values. */
static void compare_blocks(const char *ours, const char *theirs)
{
	const char *a = strchr(ours, '\n') + 1, *b = strchr(theirs, '\n') + 1;
	char our_flags[128], their_flags[128];

	while (strncmp(a, "VmFlags", 7)) {
		size_t len = (size_t)(strchr(a, '\n') - a) + 1;
		/* Linux counts a page freed lazily when a per-CPU batch is flushed: not at a time that we know. */
		size_t compared = strncmp(a, "LazyFree", 8) ? len : 16;

		if (strncmp(a, b, compared))
			printf("ours:   %.*s\ntheirs: %.*s\n%s", (int)len, a, (int)len, b, ours);
		assert_int_equal(strncmp(a, b, compared), 0);
		a += len;
		b += len;
	}
	smaps_flags(ours, our_flags, sizeof(our_flags));
	smaps_flags(theirs, their_flags, sizeof(their_flags));
	assert_string_equal(our_flags, their_flags);
	/* The header, up to the permissions. */
	assert_int_equal(strncmp(ours, theirs, 30), 0);
}

static void test_smaps_as_linux(void **state)
{
	struct machine_under_test *t = *state;
	struct buffer ours = { .text = NULL }, theirs = { .text = NULL };
	struct side sides[2];

	if (!running_kernel_is(6, 18))
		skip();
	side_begin(sides, t);
	assert_int_equal(quire_show_smaps(t->cpu, t->mm, collect, &ours), 0);
	read_file(&theirs, "/proc/self/smaps");
	for (unsigned i = 0; i < NR_AREAS; i++) {
		char *a = smaps_block(ours.text, area(sides, i)), *b = smaps_block(theirs.text, area(sides, i));

		compare_blocks(a, b);
		free(a);
		free(b);
	}
	side_end(sides);
	free(ours.text);
	free(theirs.text);
}

#define PM_PFN ((1ull << 55) - 1)
#define PM_SOFT_DIRTY (1ull << 55)

static void test_pagemap_as_linux(void **state)
{
	struct machine_under_test *t = *state;
	struct side sides[2];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (!running_kernel_is(6, 18) || fd < 0)
		skip();
	side_begin(sides, t);
	for (unsigned i = 0; i < NR_AREAS; i++) {
		struct buffer b = { .text = NULL };
		uint64_t ours[AREA_PAGES + 2], theirs[AREA_PAGES + 2], start = area(sides, i) - PAGE;

		/* One page more on both sides: nothing is there. */
		assert_int_equal(quire_show_pagemap(t->cpu, t->mm, start, start + sizeof(ours) / 8 * PAGE, collect, &b),
				 0);
		assert_int_equal(b.len, sizeof(ours));
		memcpy(ours, b.text, sizeof(ours));
		assert_int_equal(pread(fd, theirs, sizeof(theirs), (off_t)(start / PAGE * 8)), sizeof(theirs));
		for (unsigned k = 0; k < AREA_PAGES + 2; k++)
			assert_int_equal(ours[k] & ~(PM_PFN | PM_SOFT_DIRTY), theirs[k] & ~(PM_PFN | PM_SOFT_DIRTY));
		free(b.text);
	}
	close(fd);
	side_end(sides);
}

/* ---------------------------------------------------------------------------------------- maps */

static void test_maps_lines(void **state)
{
	struct machine_under_test *t = *state;
	struct buffer b = { .text = NULL };
	struct quire_file *file;

	assert_int_equal(quire_file_create_shmem(t->cpu, 4 * PAGE, &file), 0);
	assert_int_equal(quire_file_set_name(file, "/a\nb (deleted)"), 0);
	assert_int_equal(quire_mm_set_brk(t->cpu, t->mm, 0x555555559000), 0);
	assert_int_equal(quire_brk(t->cpu, 0x55555557a000), 0x55555557a000);
	assert_int_equal(quire_mmap(t->cpu, 0x10000, PAGE, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0),
			 0x10000);
	assert_int_equal(quire_mmap(t->cpu, 0x7ffffffde000, 0x21000, RW,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, NULL, 0),
			 0x7ffffffde000);
	assert_int_equal(quire_mmap(t->cpu, BASE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 2 * PAGE), BASE);
	assert_int_equal(quire_show_maps(t->cpu, t->mm, collect, &b), 0);
	assert_non_null(strstr(b.text, "00010000-00011000 --xp 00000000 00:00 0 \n"));
	assert_non_null(
		strstr(b.text, "555555559000-55555557a000 rw-p 00000000 00:00 0                          [heap]\n"));
	assert_non_null(
		strstr(b.text, "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]\n"));
	assert_non_null(strstr(b.text, "200000000000-200000001000 r--s 00002000 00:01 "));
	assert_non_null(strstr(b.text, " /a\\012b (deleted)\n"));
	/* The name stands in column 73, as awk and eyes expect. */
	assert_int_equal(strstr(b.text, "/a\\012b") - strstr(b.text, "200000000000-"), 73);
	free(b.text);
	quire_file_put(t->cpu, file);
}

/* Anybody may take the mmap lock while a piece is handed out, and addresses rise whatever happens meanwhile. */
static int unmap_behind(void *arg, const char *data, size_t len)
{
	struct machine_under_test *t = arg;
	uint64_t start = strtoull(data, NULL, 16);

	(void)len;
	assert_int_equal(quire_munmap(t->cpu, start, PAGE), 0);
	return 0;
}

static int stop(void *arg, const char *data, size_t len)
{
	(void)arg, (void)data, (void)len;
	return 42;
}

static void test_maps_in_pieces(void **state)
{
	struct machine_under_test *t = *state;
	struct buffer b = { .text = NULL };
	unsigned lines = 0;

	for (uint64_t i = 0; i < 300; i++)
		assert_int_equal(quire_mmap(t->cpu, BASE + i * 2 * PAGE, PAGE, PROT_READ,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0),
				 BASE + i * 2 * PAGE);
	assert_int_equal(quire_show_maps(t->cpu, t->mm, collect, &b), 0);
	assert_non_null(b.text);
	for (const char *at = b.text; (at = strchr(at, '\n')) != NULL; at++)
		lines++;
	assert_int_equal(lines, 300);
	assert_true(b.pieces > 10);
	assert_int_equal(quire_show_maps(t->cpu, t->mm, unmap_behind, t), 0);
	assert_int_equal(quire_show_smaps(t->cpu, t->mm, unmap_behind, t), 0);
	assert_int_equal(quire_mmap(t->cpu, BASE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0),
			 BASE);
	assert_int_equal(quire_show_maps(t->cpu, t->mm, stop, NULL), 42);
	assert_int_equal(quire_show_smaps(t->cpu, t->mm, stop, NULL), 42);
	assert_int_equal(quire_show_vmstat(t->cpu, stop, NULL), 42);
	assert_int_equal(quire_show_meminfo(t->cpu, stop, NULL), 42);
	assert_int_equal(quire_show_pagemap(t->cpu, t->mm, 0, PAGE, stop, NULL), 42);
	free(b.text);
}

/* ---------------------------------------------------------------------------------------- vmstat, meminfo */

/* Every name that the kernel and we have in common comes in the kernel's order, and there are @least of them. */
static void compare_names(const char *ours, const char *theirs, unsigned least)
{
	const char *at = ours, *after = theirs;
	unsigned common = 0;

	if (!ours || !theirs) {
		fail_msg("a view is empty");
		return;
	}
	for (; *at; at = strchr(at, '\n') + 1) {
		char name[64] = "\n";
		size_t len = strcspn(at, " :");
		const char *found;

		memcpy(name + 1, at, len + 1); /* with the colon or blank behind it */
		found = strncmp(theirs, name + 1, len + 1) ? strstr(theirs, name) : theirs;
		if (!found)
			continue;
		if (found < after)
			printf("out of order: %s\n", name + 1);
		assert_true(found >= after);
		after = found;
		common++;
	}
	assert_true(common >= least);
}

static void test_names_as_linux(void **state)
{
	struct machine_under_test *t = *state;
	struct buffer vmstat = { .text = NULL }, meminfo = { .text = NULL };
	struct buffer linux_vmstat = { .text = NULL }, linux_meminfo = { .text = NULL };

	assert_int_equal(quire_show_vmstat(t->cpu, collect, &vmstat), 0);
	assert_int_equal(quire_show_meminfo(t->cpu, collect, &meminfo), 0);
	read_file(&linux_vmstat, "/proc/vmstat");
	read_file(&linux_meminfo, "/proc/meminfo");
	compare_names(vmstat.text, linux_vmstat.text, running_kernel_is(6, 18) ? 150 : 1);
	compare_names(meminfo.text, linux_meminfo.text, running_kernel_is(6, 18) ? 45 : 1);
	free(vmstat.text);
	free(meminfo.text);
	free(linux_vmstat.text);
	free(linux_meminfo.text);
}

static uint64_t number_after(const char *text, const char *label)
{
	const char *at = strstr(text, label);

	assert_non_null(at);
	return strtoull(at + strlen(label), NULL, 10);
}

static void test_meminfo_follows_use(void **state)
{
	struct machine_under_test *t = *state;
	struct buffer before = { .text = NULL }, after = { .text = NULL }, vmstat = { .text = NULL };
	const uint64_t pages = 256;

	assert_int_equal(quire_show_meminfo(t->cpu, collect, &before), 0);
	assert_int_equal(quire_mmap(t->cpu, BASE, pages * PAGE, RW,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, NULL, 0),
			 BASE);
	assert_int_equal(quire_show_meminfo(t->cpu, collect, &after), 0);
	assert_int_equal(quire_show_vmstat(t->cpu, collect, &vmstat), 0);
	assert_int_equal(number_after(after.text, "AnonPages:") - number_after(before.text, "AnonPages:"), pages * 4);
	assert_true(number_after(before.text, "MemFree:") - number_after(after.text, "MemFree:") >= pages * 4);
	assert_int_equal(number_after(after.text, "MemTotal:"), 64 << 10);
	assert_int_equal(number_after(vmstat.text, "nr_anon_pages "), pages);
	assert_non_null(strstr(after.text, "\nHugepagesize:       2048 kB\n"));
	assert_non_null(strstr(after.text, "\nHugePages_Total:       0\n"));
	free(before.text);
	free(after.text);
	free(vmstat.text);
}

/* Proportional shares of what two address spaces map. */
static void test_smaps_shares(void **state)
{
	struct machine_under_test *t = *state;
	struct buffer b = { .text = NULL };
	struct quire_mm *child;
	uint64_t value = 1;
	char *block;

	assert_int_equal(
		quire_mmap(t->cpu, BASE, 8 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, NULL, 0),
		BASE);
	assert_int_equal(quire_fork(t->cpu, &child), 0);
	assert_int_equal(quire_store(t->cpu, BASE, &value, sizeof(value)), 0);
	assert_int_equal(quire_show_smaps(t->cpu, t->mm, collect, &b), 0);
	block = smaps_block(b.text, BASE);
	assert_int_equal(smaps_number(block, "Rss"), 32);
	assert_int_equal(smaps_number(block, "Pss"), 4 + 28 / 2);
	assert_int_equal(smaps_number(block, "Shared_Dirty"), 28);
	assert_int_equal(smaps_number(block, "Private_Dirty"), 4);
	free(block);
	free(b.text);
	quire_mm_put(t->cpu, child);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_smaps_as_linux), TEST(test_pagemap_as_linux), TEST(test_maps_lines),
		TEST(test_maps_in_pieces), TEST(test_names_as_linux),	TEST(test_meminfo_follows_use),
		TEST(test_smaps_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
