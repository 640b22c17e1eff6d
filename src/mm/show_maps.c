/* SPDX-License-Identifier: MIT */
/*
 * /proc/pid/maps.
 *
 * The text is collected in pieces under the mmap lock and handed out without it, because the receiver may block. Between two
 * pieces the address space may change: as in Linux, each line was true at some time, and addresses only rise.
 */
#include "mm/show.h"

/* Column at which names begin; a longer line has one blank. */
#define NAME_COLUMN 72u

/* Device numbers: files have none here. Shmem is shown as on Linux's internal tmpfs mount, host files on another such. */
#define SHMEM_DEV_MINOR 1u
#define HOST_DEV_MINOR 2u

/* The heap's VMA, whatever brk() made of it: it touches the range between start_brk and brk. */
static bool vma_is_heap(const struct vma *vma)
{
	return vma->start < vma->mm->brk && vma->end > vma->mm->start_brk;
}

/* The main stack. Linux asks for the VMA with exec's stack pointer; ours is a growing VMA above where mmap places any. */
static bool vma_is_stack(const struct vma *vma)
{
	return (vma->flags & VM_GROWSDOWN) && vma->end > vma->mm->mmap_base;
}

/* A line of maps is a line: as in Linux, a newline in a name becomes \012. */
static void show_name(struct text *text, const char *name)
{
	for (; *name; name++) {
		if (*name == '\n')
			text_str(text, "\\012");
		else
			text_char(text, *name);
	}
}

static void show_file_name(struct text *text, struct quire_file *file)
{
	struct quire *q = file->q;

	spin_lock(&q->file_lock);
	show_name(text, file->name);
	spin_unlock(&q->file_lock);
}

static void show_numbers(struct text *text, const struct vma *vma)
{
	const struct quire_file *file = vma->file;

	text_hex(text, vma->start, 8);
	text_char(text, '-');
	text_hex(text, vma->end, 8);
	text_char(text, ' ');
	text_char(text, vma->flags & VM_READ ? 'r' : '-');
	text_char(text, vma->flags & VM_WRITE ? 'w' : '-');
	text_char(text, vma->flags & VM_EXEC ? 'x' : '-');
	text_char(text, vma->flags & VM_MAYSHARE ? 's' : 'p');
	text_char(text, ' ');
	text_hex(text, file ? vma->pgoff << PAGE_SHIFT : 0, 8);
	text_str(text, " 00:");
	text_hex(text, !file ? 0 : file->shmem ? SHMEM_DEV_MINOR : HOST_DEV_MINOR, 2);
	text_char(text, ' ');
	text_dec(text, file ? file->id : 0, 0);
	text_char(text, ' ');
}

void show_map_line(struct text *text, const struct vma *vma)
{
	const size_t from = text->len;
	const char *name = vma_is_heap(vma) ? "[heap]" : vma_is_stack(vma) ? "[stack]" : NULL;

	show_numbers(text, vma);
	if (vma->file || name) {
		text_pad_to(text, from, NAME_COLUMN);
		text_char(text, ' ');
	}
	if (vma->file)
		show_file_name(text, vma->file);
	else if (name)
		text_str(text, name);
	text_char(text, '\n');
}

/* As many lines as fit, of VMAs from *addr on; *addr becomes where the next piece begins. mmap lock held. */
static void collect_lines(struct text *text, struct quire_mm *mm, u64 *addr)
{
	struct vma *vma;

	vma_tree_for_each_range(vma, &mm->tree, *addr, TASK_SIZE) {
		if (text->size - text->len < MAPS_LINE_MAX)
			break;
		show_map_line(text, vma);
		*addr = vma->end;
	}
}

int quire_show_maps(struct quire_cpu *cpu, struct quire_mm *mm, quire_emit_fn emit, void *arg)
{
	char piece[1024];
	struct text text;
	u64 addr = 0;
	int ret = 0;

	(void)cpu;
	while (!ret) {
		text_init(&text, piece, sizeof(piece));
		mmap_read_lock(mm);
		collect_lines(&text, mm, &addr);
		mmap_read_unlock(mm);
		if (text.len == 0)
			break;
		ret = emit(arg, piece, text.len);
	}
	return ret;
}
