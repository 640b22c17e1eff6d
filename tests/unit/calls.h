/* SPDX-License-Identifier: MIT */
/*
 * For tests of the address-space calls: a machine with one address space, two shmem files (one of them read-only), and the
 * list of VMAs as a short text in page numbers counted from BASE:
 *
 *   "0-4 rw-p; 8-10 r--s@3"      pages 0..3, private, readable and writable; pages 8..9, shared, from page 3 of a file
 */
#ifndef QUIRE_TESTS_UNIT_CALLS_H
#define QUIRE_TESTS_UNIT_CALLS_H

#include "fixture.h"
#include "mm/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define P 4096ull
#define BASE 0x10000000
#define AT(page) (BASE + (page)*4096) /* an int, so that addresses compare with results of either sign */
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_ANONYMOUS | MAP_PRIVATE)
#define SHANON (MAP_ANONYMOUS | MAP_SHARED)
#define FILE_PAGES 32u

struct calls {
	struct fixture f;
	struct quire_cpu *cpu;
	struct quire_mm *mm;
	struct quire_file *file, *readonly;
	char text[8192];
};

/* setup and teardown functions of a cmocka program with one machine at a time. */
static struct calls calls_instance;

static inline void calls_start(struct calls *c, u64 memory)
{
	const struct quire_config config = { .memory = memory, .nr_cpus = 1 };

	memset(c, 0, sizeof(*c));
	fixture_start(&c->f, &config);
	c->cpu = c->f.cpu;
	assert_int_equal(quire_mm_create(c->cpu, NULL, &c->mm), 0);
	quire_cpu_run(c->cpu, c->mm);
	assert_int_equal(quire_file_create_shmem(c->cpu, FILE_PAGES * P, &c->file), 0);
	assert_int_equal(quire_file_create_shmem(c->cpu, FILE_PAGES * P, &c->readonly), 0);
	c->readonly->writable = false; /* as a descriptor that is open for reading only */
}

static inline int calls_setup(void **state)
{
	calls_start(&calls_instance, 32u << 20);
	*state = &calls_instance;
	return 0;
}

static inline void calls_violation(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "violation: %s\n", line);
}

static inline void calls_validate(struct calls *c)
{
	quire_drain(c->cpu);
	assert_int_equal(quire_validate(c->cpu, calls_violation, NULL), 0);
}

/* Everything is right, and nothing is left. */
static inline int calls_teardown(void **state)
{
	struct calls *c = *state;

	calls_validate(c);
	quire_cpu_run(c->cpu, NULL);
	quire_mm_put(c->cpu, c->mm);
	quire_file_put(c->cpu, c->file);
	quire_file_put(c->cpu, c->readonly);
	fixture_stop(&c->f);
	return 0;
}

#define CALLS_TEST(name) cmocka_unit_test_setup_teardown(name, calls_setup, calls_teardown)

static inline int calls_emit(void *arg, const char *data, size_t len)
{
	struct calls *c = arg;
	size_t used = strlen(c->text);

	assert_true(used + len < sizeof(c->text));
	memcpy(c->text + used, data, len);
	c->text[used + len] = 0;
	return 0;
}

/* The text of /proc/pid/maps. */
static inline const char *calls_maps(struct calls *c)
{
	c->text[0] = 0;
	assert_int_equal(quire_show_maps(c->cpu, c->mm, calls_emit, c), 0);
	return c->text;
}

static inline void calls_short_line(const char *line, char *out, size_t size)
{
	unsigned long long start, end, offset, inode;
	char perms[5];

	assert_int_equal(sscanf(line, "%llx-%llx %4s %llx %*x:%*x %llu", &start, &end, perms, &offset, &inode), 5);
	if (inode)
		snprintf(out, size, "%lld-%lld %s@%llu", (long long)(start - BASE) / 4096,
			 (long long)(end - BASE) / 4096, perms, offset / 4096);
	else
		snprintf(out, size, "%lld-%lld %s", (long long)(start - BASE) / 4096, (long long)(end - BASE) / 4096,
			 perms);
}

static inline void calls_assert_maps(struct calls *c, const char *expected, const char *where, int number)
{
	char seen[4096] = "", line[128];
	char *save = NULL;

	calls_maps(c);
	for (char *text = strtok_r(c->text, "\n", &save); text; text = strtok_r(NULL, "\n", &save)) {
		calls_short_line(text, line, sizeof(line));
		if (seen[0])
			strncat(seen, "; ", sizeof(seen) - strlen(seen) - 1);
		strncat(seen, line, sizeof(seen) - strlen(seen) - 1);
	}
	if (strcmp(seen, expected) != 0) {
		fprintf(stderr, "%s:%d: mapped is    %s\n%s:%d: and should be %s\n", where, number, seen, where, number,
			expected);
		fail();
	}
}
#define assert_maps(c, expected) calls_assert_maps(c, expected, __FILE__, __LINE__)

/* Anonymous private pages at a fixed place. */
static inline void map_anon(struct calls *c, unsigned page, unsigned nr, int prot)
{
	assert_int_equal(quire_mmap(c->cpu, AT(page), nr * P, prot, ANON | MAP_FIXED, NULL, 0), AT(page));
}

static inline void map_file(struct calls *c, unsigned page, unsigned nr, int prot, int type, unsigned pgoff)
{
	assert_int_equal(quire_mmap(c->cpu, AT(page), nr * P, prot, type | MAP_FIXED, c->file, pgoff * P), AT(page));
}

static inline void store_page(struct calls *c, unsigned page, unsigned char value)
{
	assert_int_equal(quire_store(c->cpu, AT(page), &value, 1), 0);
}

static inline int load_page(struct calls *c, unsigned page)
{
	unsigned char value = 0xee;
	int ret = quire_load(c->cpu, AT(page), &value, 1);

	return ret ? ret : value;
}

/* "0110": which pages are resident. */
static inline void assert_resident(struct calls *c, unsigned page, const char *expected)
{
	unsigned char vec[64];
	char seen[65] = "";
	unsigned nr = (unsigned)strlen(expected);

	assert_int_equal(quire_mincore(c->cpu, AT(page), nr * P, vec), 0);
	for (unsigned i = 0; i < nr; i++)
		seen[i] = vec[i] & 1 ? '1' : '0';
	assert_string_equal(seen, expected);
}

static inline u64 locked_pages(struct calls *c)
{
	struct quire_mm_stat stat;

	quire_mm_stat(c->cpu, c->mm, &stat);
	return stat.locked_vm;
}

static inline u64 total_pages(struct calls *c)
{
	struct quire_mm_stat stat;

	quire_mm_stat(c->cpu, c->mm, &stat);
	return stat.total_vm;
}

#endif
