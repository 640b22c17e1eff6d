/* SPDX-License-Identifier: MIT */
/*
 * What an address space may map and lock: its sums by kind of mapping, and the limits on them (getrlimit(2)).
 *
 * The sums change together with the VMAs, under the mmap lock for write, so that under the lock they are always the
 * sums over the VMAs (invariant 49). The limits are read once per decision and may be changed by anybody at any time;
 * as in Linux a lower limit takes nothing away, it only refuses what comes next.
 */
#include "mm/map.h"

/* The kinds are Linux's: a stack grows down; data is private and writable; code is executable and not writable. */
static bool is_stack_mapping(u64 flags)
{
	return flags & VM_GROWSDOWN;
}

static bool is_data_mapping(u64 flags)
{
	return (flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN)) == VM_WRITE;
}

static bool is_exec_mapping(u64 flags)
{
	return (flags & (VM_EXEC | VM_WRITE | VM_GROWSDOWN)) == VM_EXEC;
}

/* Sums wrap around with negative pages, as unsigned numbers do, and come out right. */
static void account_kind(struct quire_mm *mm, u64 flags, s64 pages)
{
	mm->total_vm += (u64)pages;
	if (is_exec_mapping(flags))
		mm->exec_vm += (u64)pages;
	else if (is_stack_mapping(flags))
		mm->stack_vm += (u64)pages;
	else if (is_data_mapping(flags))
		mm->data_vm += (u64)pages;
}

void mm_account(struct quire_mm *mm, u64 flags, s64 pages)
{
	mmap_assert_write_locked(mm);
	account_kind(mm, flags, pages);
	if (flags & VM_LOCKED)
		mm->locked_vm += (u64)pages;
}

void mm_account_change(struct quire_mm *mm, u64 from, u64 to, s64 pages)
{
	mm_account(mm, from, -pages);
	mm_account(mm, to, pages);
}

/* Both limits are in bytes and need not be whole pages: what is left over of a page does not count. */
bool may_expand_vm(const struct quire_mm *mm, u64 flags, u64 pages)
{
	if (mm->total_vm + pages > READ_ONCE(mm->limits.as) >> PAGE_SHIFT)
		return false;
	return !is_data_mapping(flags) || mm->data_vm + pages <= READ_ONCE(mm->limits.data) >> PAGE_SHIFT;
}

/* No limit is 2^52 - 1 pages: more than any address space has, so it needs no case of its own. */
u64 memlock_limit(const struct quire_mm *mm)
{
	return READ_ONCE(mm->limits.memlock) >> PAGE_SHIFT;
}

/* A limit of less than a page, but not zero, passes here and fails on the first page, as in Linux. */
bool can_do_mlock(const struct quire_mm *mm)
{
	return READ_ONCE(mm->limits.memlock) != 0;
}

/* For mappings that will be locked from the start: by MAP_LOCKED,
 * by mlockall(MCL_FUTURE), or by growing a locked one. */
bool mlock_future_ok(const struct quire_mm *mm, u64 flags, u64 bytes)
{
	return !(flags & VM_LOCKED) || mm->locked_vm + (bytes >> PAGE_SHIFT) <= memlock_limit(mm);
}
