/* SPDX-License-Identifier: MIT */
/*
 * quire_validate: checks every structure of a quiescent machine against every other that speaks of the same thing.
 *
 * The page tables of all address spaces are walked once, counting per frame how many entries name it. The counts stand in
 * scratch memory from the machine's own frames (8 bytes a frame); all else is compared with them: one pass over page tables,
 * VMAs, files and frames, plus one look into the reverse mapping of each mapped folio.
 */
#include "mm/validate.h"
#include "mm/text.h"

#define LINE_MAX 200u

/* -------------------------------------------------------------------------------------------- reports */

static void format_line(struct text *text, const char *format, const u64 *value)
{
	for (; *format; format++) {
		if (*format != '%') {
			text_char(text, *format);
		} else if (*++format == 'x') {
			text_str(text, "0x");
			text_hex(text, *value++, 0);
		} else {
			text_dec(text, *value++, 0);
		}
	}
}

void violation(struct validate *v, unsigned invariant, const char *format, u64 a, u64 b, u64 c)
{
	const u64 value[] = { a, b, c };
	char line[LINE_MAX + 1];
	struct text text;

	v->violations++;
	if (!v->report)
		return;
	text_init(&text, line, LINE_MAX);
	text_str(&text, "invariant ");
	text_dec(&text, invariant, 0);
	text_str(&text, ": ");
	format_line(&text, format, value);
	line[text.len] = '\0';
	v->report(v->arg, line);
}

void part_violation(void *arg, const char *what, u64 a, u64 b)
{
	struct validate *v = arg;
	char format[LINE_MAX];
	struct text text;

	text_init(&text, format, sizeof(format) - 1);
	text_str(&text, what);
	text_str(&text, ": %x, %x");
	format[text.len] = '\0';
	violation(v, v->part, format, a, b, 0);
}

/* -------------------------------------------------------------------------------------------- scratch memory */

static void free_scratch(struct validate *v, u64 nr_chunks)
{
	for (u64 i = 0; i < nr_chunks; i++)
		frame_free(v->cpu, virt_to_pfn(v->q, v->use[i]), 0);
	frame_free(v->cpu, v->use_pfn, v->use_order);
}

/* One directory, and under it one record per frame. False: not enough free memory. */
static bool alloc_scratch(struct validate *v)
{
	v->nr_chunks = (v->q->nr_frames + FRAME_USE_PER_CHUNK - 1) / FRAME_USE_PER_CHUNK;
	while (PAGE_SIZE << v->use_order < v->nr_chunks * sizeof(struct frame_use *))
		v->use_order++;
	v->use_pfn = v->use_order <= MAX_ORDER ? frame_alloc(v->cpu, v->use_order, 0) : 0;
	if (!v->use_pfn)
		return false;
	v->use = (struct frame_use **)(void *)pfn_to_virt(v->q, v->use_pfn);
	for (u64 i = 0; i < v->nr_chunks; i++) {
		u64 pfn = frame_alloc(v->cpu, 0, GFP_ZERO);

		if (!pfn) {
			free_scratch(v, i);
			return false;
		}
		v->use[i] = (struct frame_use *)(void *)pfn_to_virt(v->q, pfn);
	}
	return true;
}

/* -------------------------------------------------------------------------------------------- parts and sums */

bool is_object(struct quire *q, enum cache_id id, const void *object)
{
	u64 pfn = virt_to_pfn(q, object), word;
	struct kmem_cache *cache = &q->cache[id];
	struct slab *slab;
	u32 index;

	if ((const u8 *)object < q->frames || !pfn_managed(q, pfn))
		return false;
	word = READ_ONCE(q->pages[pfn].word);
	slab = page_word_ptr(word);
	if (page_word_type(word) != PAGE_SLAB || slab->cache != cache)
		return false;
	index = kmem_cache_index(cache, slab, object);
	return index < slab->nr && kmem_cache_object(cache, slab, index) == object;
}

static void validate_allocators(struct validate *v)
{
	v->part = 10;
	frame_validate(v->q, part_violation, v);
	for (unsigned id = 0; id < NR_CACHES; id++)
		kmem_cache_validate(&v->q->cache[id], part_violation, v);
}

/* A gauge of the machine against what was found. */
static void check_gauge(struct validate *v, unsigned invariant, enum vm_event event, u64 found)
{
	u64 counted = quire_event_sum(v->q, event);

	if (counted != found)
		violation(v, invariant, "gauge %d of the machine counts %d, found %d", (u64)event, counted, found);
}

static void check_gauges(struct validate *v)
{
	check_gauge(v, 63, NR_ANON_MAPPED, v->rss[MM_ANONPAGES]);
	check_gauge(v, 63, NR_FILE_MAPPED, v->rss[MM_FILEPAGES] + v->rss[MM_SHMEMPAGES]);
	check_gauge(v, 81, NR_FILE_PAGES, v->cached_pages);
	check_gauge(v, 81, NR_SHMEM, v->shmem_pages);
	check_gauge(v, 81, NR_FILE_DIRTY, v->dirty_pages);
	check_gauge(v, 81, NR_WRITEBACK, v->writeback_pages);
	check_gauge(v, 61, NR_MLOCK, v->mlocked_pages);
	check_gauge(v, 10, NR_PAGETABLE, v->frames[PAGE_TABLE]);
	check_gauge(v, 10, NR_SLAB, v->frames[PAGE_SLAB]);
}

/* Objects allocated and found: fewer found is a leak, more is one freed too early. */
static void check_objects(struct validate *v, enum cache_id id, u64 found)
{
	struct kmem_cache *cache = &v->q->cache[id];
	u64 in_use = kmem_cache_in_use(cache);

	if (in_use != found)
		violation(v, 10, "objects of cache %d: %d allocated, %d found", (u64)id, in_use, found);
}

static void check_caches(struct validate *v)
{
	check_objects(v, CACHE_FOLIO, v->folios);
	check_objects(v, CACHE_PTDESC, v->tables);
	check_objects(v, CACHE_VMA, v->vmas);
	check_objects(v, CACHE_VMA_NODE, v->vma_nodes);
	check_objects(v, CACHE_ANON_VMA, v->anon_vmas);
	check_objects(v, CACHE_AVC, v->chain_links);
	check_objects(v, CACHE_MM, v->mms);
	check_objects(v, CACHE_MM_COUNTERS, v->mms);
	check_objects(v, CACHE_FILE, v->files);
	check_objects(v, CACHE_PAGECACHE_NODE, v->cache_nodes);
}

/* Nobody is in the middle of anything. */
static void check_quiet(struct validate *v)
{
	for (u32 id = 0; id <= v->q->nr_cpus; id++) {
		const struct quire_cpu *cpu = v->q->cpus[id];

		if (cpu->gather.mm)
			violation(v, 91, "CPU %d has an open gather of mm %d", id, cpu->gather.mm->tlb.id, 0);
		if (READ_ONCE(cpu->tlb.user_seq) & 1)
			violation(v, 91, "CPU %d is in user mode: sequence %d", id, cpu->tlb.user_seq, 0);
	}
	for (unsigned i = 0; i < WAIT_BUCKETS; i++)
		if (!list_empty(&v->q->wait[i].waiters) || spin_is_locked(&v->q->wait[i].lock))
			violation(v, 87, "wait bucket %d has waiters or is locked", i, 0, 0);
	if (spin_is_locked(&v->q->mm_lock) || spin_is_locked(&v->q->file_lock))
		violation(v, 91, "a list lock of the machine is held", 0, 0, 0);
}

unsigned quire_validate(struct quire_cpu *cpu, void (*report)(void *arg, const char *line), void *arg)
{
	struct validate v = { .cpu = cpu, .q = cpu->q, .report = report, .arg = arg };
	unsigned before;

	quire_drain(cpu);
	check_quiet(&v);
	validate_allocators(&v);
	if (!alloc_scratch(&v)) {
		violation(&v, 10, "not checked: no memory for %d scratch frames", v.nr_chunks, 0, 0);
		return v.violations;
	}
	before = v.violations;
	validate_mms(&v);
	validate_files(&v);
	validate_anon_vmas(&v);
	v.links_valid = v.violations == before;
	validate_frames(&v);
	validate_tlbs(&v);
	check_gauges(&v);
	check_caches(&v);
	free_scratch(&v, v.nr_chunks);
	return v.violations;
}
