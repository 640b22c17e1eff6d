/* SPDX-License-Identifier: MIT */
/* Validation of files: the page cache, and the list of mappings. */
#include "mm/pagecache_tree.h"
#include "mm/validate.h"

/* One mapping in i_mmap: its VMA is attached and maps this file. False: it cannot be followed. */
static bool check_mapping(struct validate *v, const struct quire_file *file, const struct interval_node *node)
{
	const struct vma *vma = container_of(node, const struct vma, i_mmap_node);

	if (!is_object(v->q, CACHE_VMA, vma) || READ_ONCE(vma->refcnt) == 0 || vma->file != file) {
		violation(v, 51, "i_mmap of file %d lists %x, which is no live VMA of it", file->id,
			  (u64)(uintptr_t)vma, 0);
		return false;
	}
	return true;
}

static void check_i_mmap(struct validate *v, const struct quire_file *file)
{
	const struct interval_tree *tree = &file->mapping.i_mmap;
	u32 writable = 0;

	if (!interval_tree_is_valid(tree)) {
		violation(v, 18, "i_mmap of file %d is broken", file->id, 0, 0);
		return;
	}
	for (const struct interval_node *node = interval_tree_first(tree, 0, ~0ull); node;
	     node = interval_tree_next(node, 0, ~0ull)) {
		const struct vma *vma = container_of(node, const struct vma, i_mmap_node);

		if (!check_mapping(v, file, node))
			return;
		v->file_links++;
		writable += (vma->flags & VM_SHARED) && (vma->flags & VM_MAYWRITE);
	}
	if (file->mapping.i_mmap_writable != writable)
		violation(v, 18, "file %d counts %d writable shared mappings, found %d", file->id,
			  file->mapping.i_mmap_writable, writable);
}

/* Nodes of the page cache, without recursion: down by slots, up by parents. The tree is valid. */
static u64 count_nodes(const struct address_space *mapping)
{
	const struct pagecache_node *node = mapping->root;
	unsigned slot = 0;
	u64 nr = node ? 1 : 0;

	while (node) {
		if (slot == PAGECACHE_SLOTS) {
			slot = node->offset + 1u;
			node = node->parent;
		} else if (node->slots[slot] & PAGECACHE_NODE_TAG) {
			node = (const struct pagecache_node *)(uintptr_t)(node->slots[slot] & ~PAGECACHE_NODE_TAG);
			slot = 0;
			nr++;
		} else {
			slot++;
		}
	}
	return nr;
}

static void check_file_quiet(struct validate *v, struct quire_file *file)
{
	struct address_space *mapping = &file->mapping;

	if (READ_ONCE(file->refcount) == 0)
		violation(v, 91, "file %d is in the list without a reference", file->id, 0, 0);
	if (rwsem_is_locked(&file->inode_lock) || rwsem_is_locked(&mapping->invalidate_lock) ||
	    rwsem_is_locked(&mapping->i_mmap_rwsem) || spin_is_locked(&mapping->pages_lock))
		violation(v, 91, "a lock of file %d is held", file->id, 0, 0);
}

static void validate_file(struct validate *v, struct quire_file *file)
{
	unsigned before = v->violations;

	check_file_quiet(v, file);
	v->part = 81;
	pagecache_validate(&file->mapping, part_violation, v);
	if (v->violations == before)
		v->cache_nodes += count_nodes(&file->mapping);
	check_i_mmap(v, file);
	v->file_pages += file->mapping.nr_pages;
	v->files++;
}

void validate_files(struct validate *v)
{
	struct list_head *at;

	for (at = v->q->file_list.next; at != &v->q->file_list; at = at->next) {
		struct quire_file *file = list_entry(at, struct quire_file, file_list);

		if (!is_object(v->q, CACHE_FILE, file)) {
			violation(v, 91, "the list of files names %x, which is none", (u64)(uintptr_t)file, 0, 0);
			return;
		}
		validate_file(v, file);
	}
	/* Each VMA of a file stands in its i_mmap, and nothing else does. */
	if (v->file_links != v->file_vmas)
		violation(v, 18, "files list %d mappings, there are %d VMAs of files", v->file_links, v->file_vmas, 0);
}
