/* SPDX-License-Identifier: MIT */
/*
 * mmap: what a new mapping is, where it goes, and how it takes the place of what is there.
 *
 *   numbers (no lock) -> place -> limits on locking -> file and type -> room in the address space -> the mapping
 *
 * Every step can refuse, in this order, which is Linux's: programs see which of two errors comes first. Nothing of
 * the old mappings has been touched until the last step begins, but for boundaries cut by a step that failed later.
 */
#include "mm/map.h"

/* MAP_SHARED ignores flags that it does not know; MAP_SHARED_VALIDATE refuses all but these. */
#define LEGACY_MAP_MASK                                                                                                \
	(MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_32BIT | MAP_ABOVE4G | MAP_GROWSDOWN |              \
	 MAP_DENYWRITE | MAP_EXECUTABLE | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK |       \
	 MAP_HUGETLB | LEGACY_HUGE_SIZE)
#define HUGE_SIZE_SHIFT 26
#define LEGACY_HUGE_SIZE (0x1fu << HUGE_SIZE_SHIFT) /* bit 31 would be the sign; Linux does not accept it either */
#define HUGE_2M 21u
#define HUGE_1G 30u
#define MAX_FILE_SIZE 0x7fffffffffffffffull /* as 64-bit Linux: the largest file offset */

/* One call on its way. */
struct mmap_request {
	u64 addr, len; /* page-aligned once do_mmap has begun */
	u64 prot, flags, pgoff;
	struct quire_file *file; /* NULL: anonymous */
	u64 vm_flags;
};

/* ---------------------------------------------------------------------------------------- checks */

/*
 * A shared mapping of a file that is open for reading only can never become writable, and is then treated as a
 * private one that is not written to: VM_SHARED stands for "stores reach the file", VM_MAYSHARE for what was asked
 * for.
 */
static int check_shared_file(struct mmap_request *req)
{
	if ((req->prot & PROT_WRITE) && !req->file->writable)
		return -EACCES;
	req->vm_flags |= VM_SHARED | VM_MAYSHARE;
	if (!req->file->writable)
		req->vm_flags &= ~(VM_MAYWRITE | VM_SHARED);
	return 0;
}

/* Can the file have pages [pgoff, pgoff + len)? Its size has no say: accesses beyond it are SIGBUS. */
static bool file_range_ok(const struct mmap_request *req)
{
	return req->len <= MAX_FILE_SIZE && req->pgoff <= (MAX_FILE_SIZE - req->len) >> PAGE_SHIFT;
}

/* A file grows no stack, and MAP_SYNC is for files in persistent memory, which none of ours is. */
static int check_file(struct mmap_request *req)
{
	int error = 0;

	if (!file_range_ok(req))
		return -EOVERFLOW;
	switch (req->flags & MAP_TYPE) {
	case MAP_SHARED:
		error = check_shared_file(req);
		break;
	case MAP_SHARED_VALIDATE:
		error = req->flags & ~(u64)LEGACY_MAP_MASK ? -EOPNOTSUPP : check_shared_file(req);
		break;
	case MAP_PRIVATE:
		break;
	default:
		return -EINVAL;
	}
	if (error)
		return error;
	if (req->flags & MAP_GROWSDOWN)
		return -EINVAL;
	return req->flags & MAP_SYNC ? -EOPNOTSUPP : 0;
}

/*
 * Page offsets: private memory counts from address 0, so that neighbours run on and can be merged; shared memory is
 * an object of its own and counts from its start. Unlike for files, SHARED_VALIDATE is no type here.
 */
static int check_anonymous(struct mmap_request *req)
{
	switch (req->flags & MAP_TYPE) {
	case MAP_SHARED:
		req->vm_flags |= VM_SHARED | VM_MAYSHARE;
		req->pgoff = 0;
		return req->flags & MAP_GROWSDOWN ? -EINVAL : 0;
	case MAP_DROPPABLE:
		if (req->flags & MAP_LOCKED)
			return -EINVAL;
		req->vm_flags |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP;
		req->pgoff = req->addr >> PAGE_SHIFT;
		return req->flags & MAP_GROWSDOWN ? -EINVAL : 0;
	case MAP_PRIVATE:
		req->pgoff = req->addr >> PAGE_SHIFT;
		return 0;
	default:
		return -EINVAL;
	}
}

/* All that the flags and permissions say. What the file takes away again comes later. */
static u64 mmap_vm_flags(const struct quire_mm *mm, const struct mmap_request *req)
{
	u64 flags = (req->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;

	flags |= req->flags & MAP_GROWSDOWN ? VM_GROWSDOWN : 0;
	flags |= req->flags & MAP_LOCKED ? VM_LOCKED : 0;
	flags |= req->flags & MAP_SYNC ? VM_SYNC : 0;
	flags |= req->flags & MAP_STACK ? VM_NOHUGEPAGE : 0; /* one large folio for a small stack would be waste */
	return flags | mm->def_flags;
}

/* ---------------------------------------------------------------------------------------- making it */

/* Memory that must be there when it is written to, which Linux accounts for. We only note it: see accounted_flags. */
static bool is_accountable(u64 flags)
{
	return (flags & (VM_NORESERVE | VM_SHARED | VM_WRITE)) == VM_WRITE;
}

/* The VMA of a mapping that no neighbour can take. Shared
 * anonymous memory is a shmem file of its own. NULL: no memory. */
static struct vma *mmap_new_vma(struct quire_cpu *cpu, const struct mmap_request *req)
{
	struct vma *vma = vma_alloc(cpu, cpu->mm, req->addr, req->addr + req->len, req->vm_flags);

	if (!vma)
		return NULL;
	vma->pgoff = req->pgoff;
	vma->file = req->file;
	if (vma->file) {
		quire_file_get(vma->file);
	} else if (req->vm_flags & VM_SHARED) {
		if (quire_file_create_shmem(cpu, req->len, &vma->file)) {
			vma_free(cpu, vma);
			return NULL;
		}
		quire_file_set_name(vma->file, "/dev/zero (deleted)");
	}
	return vma;
}

/* A neighbour that can take the new range, ready to do so; or a new VMA in *@vma. */
static int mmap_prepare(struct quire_cpu *cpu, const struct mmap_request *req, struct vma_merge *merge,
			struct vma **vma)
{
	*merge = (struct vma_merge){
		.mm = cpu->mm,
		.prev = vma_tree_find_below(&cpu->mm->tree, req->addr),
		.next = vma_tree_find(&cpu->mm->tree, req->addr + req->len),
		.start = req->addr,
		.end = req->addr + req->len,
		.pgoff = req->pgoff,
		.flags = req->vm_flags,
		.file = req->file,
	};
	*vma = NULL;
	if (vma_merge_plan(merge))
		return vma_merge_prepare(cpu, merge);
	*vma = mmap_new_vma(cpu, req);
	return *vma ? 0 : -ENOMEM;
}

/* Undoes mmap_prepare. */
static void mmap_abort(struct quire_cpu *cpu, struct vma_merge *merge, struct vma *vma)
{
	if (vma)
		vma_free(cpu, vma);
	else
		vma_merge_abort(cpu, merge);
}

/*
 * Puts the mapping in place of whatever @unmap holds, which goes. All that can fail has its memory before anything is
 * taken away. A fault meanwhile finds a hole or a write-locked VMA, and waits for the mmap lock: it never sees the
 * range half changed.
 */
static int mmap_replace(struct quire_cpu *cpu, const struct mmap_request *req, struct vma_unmap *unmap)
{
	struct vma_merge merge;
	struct vma_txn txn;
	struct vma *vma;

	if (mmap_prepare(cpu, req, &merge, &vma))
		return -ENOMEM;
	if (vma_txn_begin(&txn, cpu, &cpu->mm->tree, 1 + VMA_MERGE_CHANGES)) {
		mmap_abort(cpu, &merge, vma);
		return -ENOMEM;
	}
	unmap_detach(cpu, unmap, &txn);
	unmap_pages(cpu, unmap);
	if (vma)
		vma_link(cpu, &txn, vma);
	else
		vma_merge_commit(cpu, &merge, &txn);
	vma_txn_end(&txn);
	mm_account(cpu->mm, req->vm_flags, (s64)(req->len >> PAGE_SHIFT));
	return 0;
}

/* The old mappings in the range count as gone already in the decision whether there is room. On an error they stay. */
static int mmap_region(struct quire_cpu *cpu, struct mmap_request *req, struct vma_unmap *unmap)
{
	struct quire_mm *mm = cpu->mm;
	int error = unmap_gather(cpu, mm, req->addr, req->addr + req->len, unmap);

	if (error)
		return error;
	if (!may_expand_vm(mm, req->vm_flags, (req->len >> PAGE_SHIFT) - unmap->pages))
		return unmap_cancel(unmap, -ENOMEM);
	if (is_accountable(req->vm_flags))
		req->vm_flags |= VM_ACCOUNT;
	if (req->vm_flags & VM_DROPPABLE)
		req->vm_flags &= ~VM_LOCKED_MASK;
	error = mmap_replace(cpu, req, unmap);
	return error ? unmap_cancel(unmap, error) : 0;
}

/* Address and flags, then the mapping. The mmap lock is held for write. The order of the checks is Linux's. */
static s64 do_mmap(struct quire_cpu *cpu, struct mmap_request *req, struct vma_unmap *unmap)
{
	struct quire_mm *mm = cpu->mm;
	s64 addr;
	int error;

	if (mm->tree.count > DEFAULT_MAX_MAP_COUNT)
		return -ENOMEM;
	req->vm_flags = mmap_vm_flags(mm, req);
	addr = get_unmapped_area(mm, req->file, req->addr, req->len, req->pgoff, req->flags);
	if (addr < 0)
		return addr;
	req->addr = (u64)addr;
	if (req->flags & MAP_FIXED_NOREPLACE) {
		const struct vma *vma = vma_tree_find(&mm->tree, req->addr);

		if (vma && vma->start < req->addr + req->len)
			return -EEXIST;
	}
	if ((req->flags & MAP_LOCKED) && !can_do_mlock(mm))
		return -EPERM;
	if (!mlock_future_ok(mm, req->vm_flags, req->len))
		return -EAGAIN;
	error = req->file ? check_file(req) : check_anonymous(req);
	if (error)
		return error;
	if (req->flags & MAP_NORESERVE)
		req->vm_flags |= VM_NORESERVE;
	error = mmap_region(cpu, req, unmap);
	return error ? error : (s64)req->addr;
}

/* ---------------------------------------------------------------------------------------- the call */

/* Huge pages set aside for hugetlb: there are none, as on a Linux where nobody configured any. */
static int hugetlb_error(const struct mmap_request *req)
{
	u64 shift = req->flags >> HUGE_SIZE_SHIFT & 0x3f;
	u64 size = 1ull << (shift ? shift : HUGE_2M);

	if (req->file || (req->flags & MAP_TYPE) == MAP_DROPPABLE || (shift && shift != HUGE_2M && shift != HUGE_1G) ||
	    !req->len)
		return -EINVAL;
	return (req->flags & MAP_FIXED) && (req->addr & (size - 1)) ? -EINVAL : -ENOMEM;
}

/* What is wrong with the numbers themselves; rounds them. A hint below the lowest address allowed is moved up to it. */
static int mmap_check_numbers(const struct quire_mm *mm, struct mmap_request *req)
{
	if (!req->len)
		return -EINVAL;
	if (req->flags & MAP_FIXED_NOREPLACE)
		req->flags |= MAP_FIXED;
	if (!(req->flags & MAP_FIXED)) {
		req->addr &= PAGE_MASK;
		if (req->addr && req->addr < lowest_place(mm))
			req->addr = lowest_place(mm);
	}
	req->len = page_align(req->len);
	if (!req->len)
		return -ENOMEM;
	return req->pgoff + (req->len >> PAGE_SHIFT) < req->pgoff ? -EOVERFLOW : 0;
}

/* MAP_NONBLOCK makes MAP_POPULATE do nothing since Linux 2.6.23. */
static bool wants_populate(const struct mmap_request *req)
{
	return (req->vm_flags & VM_LOCKED) || (req->flags & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE;
}

/* Old VMAs are freed, and pages faulted in, when the lock is not held any more. */
static s64 mmap_locked(struct quire_cpu *cpu, struct mmap_request *req)
{
	struct quire_mm *mm = cpu->mm;
	struct vma_unmap unmap;
	s64 addr;

	INIT_LIST_HEAD(&unmap.vmas);
	mmap_write_lock(mm);
	addr = do_mmap(cpu, req, &unmap);
	mmap_write_unlock(mm);
	vmas_free(cpu, &unmap.vmas);
	if (addr >= 0 && wants_populate(req))
		mm_populate(cpu, mm, (u64)addr, req->len); /* what cannot be populated now is faulted in later */
	return addr;
}

int64_t quire_mmap(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int prot, int flags, struct quire_file *file,
		   uint64_t offset)
{
	struct mmap_request req = {
		.addr = addr,
		.len = len,
		.prot = (u32)prot,
		.flags = (u32)flags,
		.pgoff = offset >> PAGE_SHIFT,
		.file = flags & MAP_ANONYMOUS ? NULL : file,
	};
	int error;

	if (!page_aligned(offset))
		return -EINVAL;
	if (!(flags & MAP_ANONYMOUS) && !file)
		return -EBADF;
	if (!cpu->mm)
		return -EINVAL;
	if (flags & MAP_HUGETLB)
		return hugetlb_error(&req);
	error = mmap_check_numbers(cpu->mm, &req);
	return error ? error : mmap_locked(cpu, &req);
}
