/* SPDX-License-Identifier: MIT */
/*
 * Per-VMA locks and the mmap lock.
 *
 * Guarantee. While a VMA is read-locked it stays attached to the mm that the locker asked for, and no field that the VMA
 * lock protects changes. A writer needs the mmap lock for write; its VMA write locks end all at once when that ends.
 *
 * Mechanism. Two words of the VMA and one of the mm:
 *
 *   vma->refcnt    0 detached; 1 attached; +1 per reader; VMA_WRITER while a writer waits for readers to leave
 *   vma->lock_seq  the write section of the mm in which the VMA was last write-locked
 *   mm->lock_seq   the number of the current write section; unlock and downgrade move on to the next
 *
 *   reader                                     writer (mmap lock held for write, section s = mm->lock_seq)
 *   r1 refcnt + 1 unless 0 or VMA_WRITER (acq)  w1 refcnt + VMA_WRITER, unless 0          (acquire)
 *   r2 vma->mm is mine?                         w2 wait until refcnt == VMA_WRITER + 1    (acquire)
 *   r3 vma->lock_seq == mm->lock_seq (acq)?     w3 vma->lock_seq = s
 *      then it is write-locked: r6, give up     w4 refcnt - VMA_WRITER                    (release)
 *   r4 start <= addr < end?                     w5 change fields, the tree, detach, ...
 *   r5 use the VMA                              w6 mm->lock_seq = s + 1                   (release)
 *   r6 refcnt - 1 (release); the last of those
 *      a writer waits for unparks it
 *
 * Why a reader never overlaps a writer:
 * - r1 before w1: the writer waits in w2 for r6. r6's release and w2's acquire order all that the reader did before w5.
 * - r1 between w1 and w4: r1 sees VMA_WRITER and fails.
 * - r1 after w4: every change of refcnt is a read-modify-write, so r1 reads from the release sequence that w4 heads, and r3
 *   sees vma->lock_seq == s. It fails unless mm->lock_seq has moved on; and if r3 reads s + 1, its acquire pairs with w6 and r5
 *   sees every change of w5 (race B73: with a plain increment the reader could have the new number and the old fields).
 *   mm->lock_seq only grows, in 64 bits, and an attached VMA's number was taken from it: so "equal" never means an equal
 *   number of a former round. (A reader would merely give up, but a writer would skip its wait.) A detached VMA may bring
 *   any number from a former life; if that is equal by chance, it counts as write-locked, which is what it is about to be.
 * - A VMA is write-locked before it is attached (vma_mark_attached asserts it), so a reader that finds it in the tree
 *   fails at r3 until the section is over, however much of it is still being set up (race B71).
 *
 * Recycled VMAs (race B74). The cache is type-safe under RCU: what a stale tree node names is a struct vma, but perhaps a
 * free one or one of another mm. r1 fails on a free one (0) without writing to it. If r1 succeeds, the VMA is
 * attached to some mm and stays so; r2 reads vma->mm, which r1's acquire orders after vma_mark_attached's release. Of a
 * foreign mm nothing but its address is looked at, neither in r3, which reads the mm that the caller holds, nor in r6:
 * the writer waits on vma->refcnt itself, not on a word in the mm. So a foreign mm may be freed at any moment.
 * After r6 the VMA is not touched either. unpark takes the word's address and does not read it; should the VMA have
 * been freed and its memory be another thing's park word by then, that thing's owner wakes for nothing, as park allows.
 *
 * What a fault may rely on: fields that it checks after the lock (anon_vma: race B72) hold until vma_end_read, because
 * whoever changes them write-locks the VMA first; fork does so to every VMA that it copies (race B70).
 */
#include "mm/instance.h"

/* -------------------------------------------------------------------------------------------- the mmap lock */

void mmap_read_lock(struct quire_mm *mm)
{
	down_read(&mm->mmap_lock);
}

bool mmap_read_trylock(struct quire_mm *mm)
{
	return down_read_trylock(&mm->mmap_lock);
}

void mmap_read_unlock(struct quire_mm *mm)
{
	up_read(&mm->mmap_lock);
}

void mmap_write_lock_unmapping(struct quire_mm *mm)
{
	down_write(&mm->mmap_lock);
}

void mmap_write_lock(struct quire_mm *mm)
{
	mmap_write_lock_unmapping(mm);
	if (unlikely(smp_load_acquire(&mm->unmapping))) /* as in mmap_wait_unmapped */
		mmap_wait_unmapped(mm);
}

/* Step w6. Release: pairs with the acquire in write_locked(); all changes of this section come before it. */
static void end_write_section(struct quire_mm *mm)
{
	mmap_assert_write_locked(mm);
	smp_store_release(&mm->lock_seq, READ_ONCE(mm->lock_seq) + 1);
}

void mmap_write_unlock(struct quire_mm *mm)
{
	end_write_section(mm);
	up_write(&mm->mmap_lock);
}

void mmap_write_downgrade(struct quire_mm *mm)
{
	end_write_section(mm);
	downgrade_write(&mm->mmap_lock);
}

void mmap_assert_locked(struct quire_mm *mm)
{
	VM_BUG_ON(!rwsem_is_locked(&mm->mmap_lock));
	(void)mm;
}

void mmap_assert_write_locked(struct quire_mm *mm)
{
	VM_BUG_ON(!rwsem_is_write_locked(&mm->mmap_lock));
	(void)mm;
}

/* -------------------------------------------------------------------------------------------- ranges being emptied */

/* Acquire: what the last of them did to the tables comes before what the caller will do there. */
void mmap_wait_unmapped(struct quire_mm *mm)
{
	u32 now = smp_load_acquire(&mm->unmapping);

	while (now & ~MM_UNMAP_WAITER) {
		u32 waiting = now | MM_UNMAP_WAITER;

		if (now == waiting || __atomic_compare_exchange_n(&mm->unmapping, &now, waiting, false,
								  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			park(&mm->unmapping, waiting);
		now = smp_load_acquire(&mm->unmapping);
	}
}

bool mmap_unmapping(const struct quire_mm *mm, u64 start, u64 end)
{
	if (!smp_load_acquire(&mm->unmapping))
		return false;
	for (unsigned i = 0; i < MM_UNMAPS; i++)
		if (start < smp_load_acquire(&mm->unmaps[i].end) && mm->unmaps[i].start < end)
			return true;
	return false;
}

struct mm_unmap *mmap_unmap_begin(struct quire_mm *mm, u64 start, u64 end)
{
	mmap_assert_write_locked(mm);
	for (unsigned i = 0; i < MM_UNMAPS; i++) {
		struct mm_unmap *unmap = &mm->unmaps[i];

		if (smp_load_acquire(&unmap->end))
			continue;
		unmap->start = start;
		WRITE_ONCE(unmap->end, end);
		__atomic_fetch_add(&mm->unmapping, 1, __ATOMIC_RELAXED);
		return unmap;
	}
	return NULL;
}

/* The caller runs the address space, so it is there still when the sleeper is woken. */
void mmap_unmap_end(struct quire_mm *mm, struct mm_unmap *unmap)
{
	u32 old;

	smp_store_release(&unmap->end, 0);
	old = __atomic_fetch_sub(&mm->unmapping, 1, __ATOMIC_RELEASE);
	if (unlikely(old & MM_UNMAP_WAITER)) {
		__atomic_fetch_and(&mm->unmapping, ~MM_UNMAP_WAITER, __ATOMIC_RELAXED);
		unpark(&mm->unmapping, -1);
	}
}

/* -------------------------------------------------------------------------------------------- readers */

/* Step r1. Writes nothing when it fails, so that a free VMA stays untouched and a writer's wait is not prolonged. */
static bool refcnt_inc_attached(struct vma *vma)
{
	u32 old = READ_ONCE(vma->refcnt);

	do {
		/* VMA_WRITER - 1 readers are more than there are CPUs by far; the limit makes overflow impossible. */
		if (old == 0 || old >= VMA_WRITER - 1)
			return false;
	} while (!__atomic_compare_exchange_n(&vma->refcnt, &old, old + 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
	return true;
}

/* Step r6. The VMA may be gone as soon as the count has dropped: only its address is used then. */
static void refcnt_dec(struct vma *vma)
{
	u32 old = __atomic_fetch_sub(&vma->refcnt, 1, __ATOMIC_RELEASE);

	VM_BUG_ON2((old & ~VMA_WRITER) < 2, old, (uintptr_t)vma);
	if (old == VMA_WRITER + 2)
		unpark(&vma->refcnt, -1);
}

/* Step r3. The VMA's number first: any mm->lock_seq read later that differs is a later one. */
static bool write_locked(const struct vma *vma, const struct quire_mm *mm)
{
	u64 seq = READ_ONCE(vma->lock_seq);

	return seq == smp_load_acquire(&mm->lock_seq);
}

/* Steps r1 to r4. RCU section. */
static bool vma_start_read(struct vma *vma, struct quire_mm *mm, u64 addr)
{
	if (!refcnt_inc_attached(vma))
		return false;
	if (READ_ONCE(vma->mm) == mm && !write_locked(vma, mm) && vma->start <= addr && addr < vma->end)
		return true;
	refcnt_dec(vma);
	return false;
}

struct vma *lock_vma_under_rcu(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr)
{
	struct vma *vma;

	rcu_read_lock(cpu);
	vma = vma_tree_find(&mm->tree, addr);
	if (vma && !vma_start_read(vma, mm, addr))
		vma = NULL;
	rcu_read_unlock(cpu);
	return vma;
}

void vma_start_read_locked(struct vma *vma)
{
	u32 old;

	mmap_assert_locked(vma->mm);
	old = __atomic_fetch_add(&vma->refcnt, 1, __ATOMIC_ACQUIRE);
	VM_BUG_ON2(old == 0 || old >= VMA_WRITER - 1, old, vma->start);
	(void)old;
}

void vma_end_read(struct quire_cpu *cpu, struct vma *vma)
{
	(void)cpu;
	refcnt_dec(vma);
}

/* -------------------------------------------------------------------------------------------- writers */

/* Steps w1 and w2 of an attached VMA. No reader is left, and none gets in before VMA_WRITER goes. May sleep. */
static void exclude_readers(struct vma *vma)
{
	u32 now = __atomic_add_fetch(&vma->refcnt, VMA_WRITER, __ATOMIC_ACQUIRE);

	VM_BUG_ON2(now < VMA_WRITER + 1 || now >= 2 * VMA_WRITER, now, vma->start);
	while (now != VMA_WRITER + 1) {
		/* A reader that leaves in between changes the word, and park returns at once. */
		park(&vma->refcnt, now);
		now = smp_load_acquire(&vma->refcnt);
	}
}

void vma_start_write(struct quire_cpu *cpu, struct vma *vma)
{
	struct quire_mm *mm = vma->mm;
	u64 seq = READ_ONCE(mm->lock_seq); /* ours to change: the mmap lock is held for write */

	(void)cpu;
	mmap_assert_write_locked(mm);
	if (READ_ONCE(vma->lock_seq) == seq)
		return;
	/* Detached: nobody can become a reader, and only we could attach it. */
	if (READ_ONCE(vma->refcnt) == 0) {
		WRITE_ONCE(vma->lock_seq, seq);
		return;
	}
	exclude_readers(vma);
	WRITE_ONCE(vma->lock_seq, seq);
	/* Release: whoever gets in from now on sees lock_seq. */
	__atomic_fetch_sub(&vma->refcnt, VMA_WRITER, __ATOMIC_RELEASE);
}

void vma_assert_write_locked(const struct vma *vma)
{
	mmap_assert_write_locked(vma->mm);
	VM_BUG_ON2(READ_ONCE(vma->lock_seq) != READ_ONCE(vma->mm->lock_seq), vma->start, vma->end);
	(void)vma;
}

/* Release: a stale reader that gets in from now on sees vma->mm and lock_seq of this life of the object. */
void vma_mark_attached(struct vma *vma)
{
	vma_assert_write_locked(vma);
	VM_BUG_ON2(READ_ONCE(vma->refcnt) != 0, vma->refcnt, vma->start);
	smp_store_release(&vma->refcnt, 1);
}

/*
 * Readers that found the VMA before it left the tree may be between r1 and r6 even though it is write-locked; they fail,
 * but until then they touch it. With VMA_WRITER set no more of them come, so the wait ends.
 */
void vma_mark_detached(struct quire_cpu *cpu, struct vma *vma)
{
	u32 expected = 1;

	(void)cpu;
	vma_assert_write_locked(vma);
	if (__atomic_compare_exchange_n(&vma->refcnt, &expected, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return;
	exclude_readers(vma);
	smp_store_release(&vma->refcnt, 0);
}
