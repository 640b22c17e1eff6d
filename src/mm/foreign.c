/* SPDX-License-Identifier: MIT */
/*
 * process_vm_readv and process_vm_writev: copying to and from an address space that need not be running. Not through a TLB: each
 * page is found under the locks, a reference keeps its frame while it is copied, and the mmap lock keeps fork away.
 */
#include "mm/fault.h"

/* Up to the end of one page. Bytes done, or a negative errno. */
static s64 copy_one_page(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr, u8 *buf, u64 len, bool write)
{
	u64 offset = addr & ~PAGE_MASK, size = PAGE_SIZE - offset, pfn;
	struct folio *folio;
	u8 *frame;
	int error;

	folio = get_user_page(cpu, mm, addr, write, &pfn, &error);
	if (error)
		return error;
	size = size < len ? size : len;
	frame = pfn_to_virt(cpu->q, pfn) + offset;
	if (write)
		copy_to_user(frame, buf, size);
	else
		copy_from_user(buf, frame, size);
	mmap_read_unlock(mm);
	/* A store that did not go through an entry: no dirty bit speaks for it. */
	if (write && !folio_anon(folio))
		filemap_dirty_folio(cpu, folio);
	if (folio)
		folio_put(cpu, folio);
	return (s64)size;
}

/* Linux reports what was done before an error, and the error only when nothing was. */
static s64 copy_range(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr, u8 *buf, u64 len, bool write)
{
	u64 done = 0;

	while (done < len) {
		s64 ret = copy_one_page(cpu, mm, addr + done, buf + done, len - done, write);

		if (ret < 0)
			return done ? (s64)done : ret;
		done += (u64)ret;
	}
	return (s64)done;
}

int64_t quire_mm_read(struct quire_cpu *cpu, struct quire_mm *mm, uint64_t addr, void *buf, uint64_t len)
{
	return copy_range(cpu, mm, addr, buf, len, false);
}

int64_t quire_mm_write(struct quire_cpu *cpu, struct quire_mm *mm, uint64_t addr, const void *buf, uint64_t len)
{
	return copy_range(cpu, mm, addr, (u8 *)(uintptr_t)buf, len, true);
}
