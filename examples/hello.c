/* SPDX-License-Identifier: MIT */
/*
 * The smallest whole program: one machine with one CPU, a page of memory, a fork, and the copy that a store of the child
 * makes. Shows the life of each object from creation to the end.
 */
#include <quire/quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* All calls return a negative errno when they fail; this program has no better idea than to stop. */
static int64_t check(const char *what, int64_t result)
{
	if (result < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror((int)-result));
		exit(1);
	}
	return result;
}

static void print_page(struct quire_cpu *cpu, const char *who, uint64_t addr)
{
	char text[16];

	check("load", quire_load(cpu, addr, text, sizeof(text)));
	printf("%s reads: %s\n", who, text);
}

int main(void)
{
	const struct quire_config config = { .memory = 64u << 20, .nr_cpus = 1 };
	const struct quire_layout layout = { 0 };
	struct quire *machine;
	struct quire_cpu *cpu;
	struct quire_mm *parent, *child;
	struct quire_stat stat;
	uint64_t addr;

	check("create", quire_create(&config, &machine));
	check("enter", quire_cpu_enter(machine, 0, &cpu));

	/* An address space with one page of memory. The store takes a page fault, as it would on hardware. */
	check("address space", quire_mm_create(cpu, &layout, &parent));
	quire_cpu_run(cpu, parent);
	addr = (uint64_t)check("mmap", quire_mmap(cpu, 0, QUIRE_PAGE_SIZE, PROT_READ | PROT_WRITE,
						  MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0));
	check("store", quire_store(cpu, addr, "hello", sizeof("hello")));

	/* The child shares the page until one of the two writes to it. */
	check("fork", quire_fork(cpu, &child));
	quire_cpu_run(cpu, child);
	print_page(cpu, "child", addr);
	check("store", quire_store(cpu, addr, "goodbye", sizeof("goodbye")));
	print_page(cpu, "child", addr);
	quire_cpu_run(cpu, parent);
	print_page(cpu, "parent", addr);
	quire_stat(cpu, &stat);
	printf("pages copied on write: %llu\n", (unsigned long long)stat.fault_cow_copy);

	/* No CPU may run an address space that goes away. */
	quire_cpu_run(cpu, NULL);
	quire_mm_put(cpu, child);
	quire_mm_put(cpu, parent);
	quire_cpu_leave(cpu);
	check("destroy", quire_destroy(machine));
	return 0;
}
