/* SPDX-License-Identifier: MIT */
/*
 * Per-VMA locks: readers that take nothing wider, against writers that change, detach, free and recycle VMAs. A freed VMA comes
 * back at once in another address space, which then dies, so that readers with stale pointers meet it there (race B74).
 *
 * A VMA's pgoff and page_prot are each other's complement whenever no writer is at work on it.
 */
#include "cmocka_setup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "mm/instance.h"
#include "random.h"

#define NR_READERS 2u
#define NR_WRITERS 2u
#define NR_SLOTS 24u
#define NR_SECTIONS 20000u /* write sections of each writer */

struct stress {
	struct quire *q;
	struct quire_mm *mm; /* the one that readers read */
	u32 stop;	     /* atomic */
};

struct thread {
	struct stress *stress;
	pthread_t thread;
	unsigned id; /* its CPU */
	struct quire_cpu *cpu;
	u64 seed;
	u64 wrong;
	u64 by_vma_lock, by_mmap_lock; /* how readers got in */
};

static u64 slot_addr(u64 slot)
{
	return (1 + slot * 4) << PAGE_SHIFT;
}

/* ---------------------------------------------------------------------------------------- readers */

/* All that a read lock promises, looked at twice. */
static u64 check_vma(const struct vma *vma, const struct quire_mm *mm, u64 addr)
{
	u64 pgoff = vma->pgoff, wrong = 0;

	wrong += vma->mm != mm;
	wrong += addr < vma->start || addr >= vma->end;
	wrong += vma->page_prot != ~pgoff;
	cpu_relax();
	return wrong + (vma->pgoff != pgoff) + (vma->page_prot != ~pgoff);
}

/* As a fault does when its VMA is being changed. */
static void read_by_mmap_lock(struct thread *t, u64 addr)
{
	struct quire_mm *mm = t->stress->mm;
	struct vma *vma;

	mmap_read_lock(mm);
	vma = vma_tree_find(&mm->tree, addr);
	if (!vma || vma->start > addr) {
		mmap_read_unlock(mm);
		return;
	}
	vma_start_read_locked(vma);
	mmap_read_unlock(mm);
	t->wrong += check_vma(vma, mm, addr);
	vma_end_read(t->cpu, vma);
	t->by_mmap_lock++;
}

static void *run_reader(void *arg)
{
	struct thread *t = arg;
	struct stress *s = t->stress;

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		u64 addr = slot_addr(random_below(&t->seed, NR_SLOTS)) + random_below(&t->seed, PAGE_SIZE);
		struct vma *vma = lock_vma_under_rcu(t->cpu, s->mm, addr);

		if (!vma) {
			read_by_mmap_lock(t, addr);
			continue;
		}
		t->wrong += check_vma(vma, s->mm, addr);
		vma_end_read(t->cpu, vma);
		t->by_vma_lock++;
	}
	return NULL;
}

/* ---------------------------------------------------------------------------------------- writers: mmap lock held */

static void change_vma(struct thread *t, struct vma *vma)
{
	u64 value = random_next(&t->seed) >> 8;

	vma_start_write(t->cpu, vma);
	vma->pgoff = value;
	cpu_relax();
	vma->page_prot = ~value;
}

static void add_vma(struct thread *t, struct quire_mm *mm, u64 slot)
{
	struct vma_txn txn;
	struct vma *vma = vma_alloc(t->cpu, mm, slot_addr(slot), slot_addr(slot) + PAGE_SIZE, VM_READ);

	if (!vma || vma_txn_begin(&txn, t->cpu, &mm->tree, 1)) {
		t->wrong++;
		return;
	}
	vma_start_write(t->cpu, vma);
	vma_mark_attached(vma);
	vma_tree_insert(&txn, vma);
	vma_txn_end(&txn);
	change_vma(t, vma); /* only now finished; nobody has seen it so far (B71) */
}

static void remove_vma(struct thread *t, struct quire_mm *mm, struct vma *vma)
{
	struct vma_txn txn;

	if (vma_txn_begin(&txn, t->cpu, &mm->tree, 1)) {
		t->wrong++;
		return;
	}
	vma_start_write(t->cpu, vma);
	vma_tree_erase(&txn, vma);
	vma_txn_end(&txn);
	vma_mark_detached(t->cpu, vma);
	vma->page_prot = 0; /* what a reader must not see */
	vma_free(t->cpu, vma);
}

/* The VMA of a slot changes, comes or goes. */
static void change_slot(struct thread *t, struct quire_mm *mm)
{
	u64 slot = random_below(&t->seed, NR_SLOTS);
	struct vma *vma = vma_tree_find(&mm->tree, slot_addr(slot));

	if (!vma || vma->start != slot_addr(slot))
		add_vma(t, mm, slot);
	else if (random_below(&t->seed, 2))
		change_vma(t, vma);
	else
		remove_vma(t, mm, vma);
}

static void write_section(struct thread *t, struct quire_mm *mm)
{
	mmap_write_lock(mm);
	for (u64 i = random_below(&t->seed, 4); i < 4; i++)
		change_slot(t, mm);
	if (random_below(&t->seed, 4)) {
		mmap_write_unlock(mm);
	} else {
		mmap_write_downgrade(mm);
		mmap_read_unlock(mm);
	}
}

static void remove_all(struct thread *t, struct quire_mm *mm)
{
	struct vma *vma;

	mmap_write_lock(mm);
	while ((vma = vma_tree_find(&mm->tree, 0)) != NULL)
		remove_vma(t, mm, vma);
	mmap_write_unlock(mm);
}

/* An address space of the writer's own takes what the shared one has freed, and dies with it. */
static void recycle(struct thread *t)
{
	struct quire_mm *own;

	if (quire_mm_create(t->cpu, NULL, &own)) {
		t->wrong++;
		return;
	}
	for (unsigned i = 0; i < 8; i++)
		write_section(t, own);
	remove_all(t, own);
	quire_mm_put(t->cpu, own);
}

static void *run_writer(void *arg)
{
	struct thread *t = arg;

	for (unsigned i = 0; i < NR_SECTIONS; i++) {
		write_section(t, t->stress->mm);
		if (i % 8 == 0)
			recycle(t);
	}
	return NULL;
}

/* ---------------------------------------------------------------------------------------- */

static void print_line(void *arg, const char *line)
{
	(void)arg;
	printf("%s\n", line);
}

static void start(struct thread *t, struct stress *s, unsigned id, void *(*run)(void *))
{
	*t = (struct thread){ .stress = s, .id = id, .seed = id + 1 };
	assert_int_equal(quire_cpu_enter(s->q, id, &t->cpu), 0);
	assert_int_equal(pthread_create(&t->thread, NULL, run, t), 0);
}

static void finish(struct thread *t)
{
	pthread_join(t->thread, NULL);
	assert_int_equal(t->wrong, 0);
	quire_cpu_leave(t->cpu);
}

static void test_readers_against_writers(void **state)
{
	const struct quire_config config = { .memory = 64ull << 20, .nr_cpus = NR_READERS + NR_WRITERS + 1 };
	struct thread reader[NR_READERS], writer[NR_WRITERS];
	struct thread self = { .id = NR_READERS + NR_WRITERS };
	struct stress s = { .stop = 0 };

	(void)state;
	assert_int_equal(quire_create(&config, &s.q), 0);
	assert_int_equal(quire_cpu_enter(s.q, self.id, &self.cpu), 0);
	assert_int_equal(quire_mm_create(self.cpu, NULL, &s.mm), 0);
	for (unsigned i = 0; i < NR_READERS; i++)
		start(&reader[i], &s, i, run_reader);
	for (unsigned i = 0; i < NR_WRITERS; i++)
		start(&writer[i], &s, NR_READERS + i, run_writer);
	for (unsigned i = 0; i < NR_WRITERS; i++)
		finish(&writer[i]);
	__atomic_store_n(&s.stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < NR_READERS; i++) {
		finish(&reader[i]);
		assert_int_not_equal(reader[i].by_vma_lock, 0);
		assert_int_not_equal(reader[i].by_mmap_lock, 0);
	}
	remove_all(&self, s.mm);
	assert_int_equal(quire_validate(self.cpu, print_line, NULL), 0);
	quire_mm_put(self.cpu, s.mm);
	quire_cpu_leave(self.cpu);
	assert_int_equal(quire_destroy(s.q), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers_against_writers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
