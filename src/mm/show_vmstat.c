/* SPDX-License-Identifier: MIT */
/*
 * /proc/vmstat: Linux 6.18's names in its order, as a kernel with NUMA, huge pages, swap and balloon shows them. What quire
 * does not count, mostly because it cannot happen yet, is 0.
 */
#include "mm/show.h"

/* Where a value comes from: an enum vm_event, or one of these. */
enum {
	NONE = NR_VM_EVENTS,
	FREE_PAGES,
	FREE_BLOCKS,
	MEMMAP_PAGES,
	READ_KB,
	WRITTEN_KB,
};

#define NAME_MAX 32u
#define LINE_MAX (NAME_MAX + 24u)

static const struct {
	char name[NAME_MAX];
	u16 source;
} rows[] = {
	/* clang-format off */
	{ "nr_free_pages", FREE_PAGES },
	{ "nr_free_pages_blocks", FREE_BLOCKS },
	{ "nr_zone_inactive_anon", NONE },
	{ "nr_zone_active_anon", NONE },
	{ "nr_zone_inactive_file", NONE },
	{ "nr_zone_active_file", NONE },
	{ "nr_zone_unevictable", NONE },
	{ "nr_zone_write_pending", NONE },
	{ "nr_mlock", NR_MLOCK },
	{ "nr_zspages", NONE },
	{ "nr_free_cma", NONE },
	{ "numa_hit", NONE },
	{ "numa_miss", NONE },
	{ "numa_foreign", NONE },
	{ "numa_interleave", NONE },
	{ "numa_local", NONE },
	{ "numa_other", NONE },
	{ "nr_inactive_anon", NONE },
	{ "nr_active_anon", NONE },
	{ "nr_inactive_file", NONE },
	{ "nr_active_file", NONE },
	{ "nr_unevictable", NONE },
	{ "nr_slab_reclaimable", NONE },
	{ "nr_slab_unreclaimable", NR_SLAB },
	{ "nr_isolated_anon", NONE },
	{ "nr_isolated_file", NONE },
	{ "workingset_nodes", NONE },
	{ "workingset_refault_anon", NONE },
	{ "workingset_refault_file", NONE },
	{ "workingset_activate_anon", NONE },
	{ "workingset_activate_file", NONE },
	{ "workingset_restore_anon", NONE },
	{ "workingset_restore_file", NONE },
	{ "workingset_nodereclaim", NONE },
	{ "nr_anon_pages", NR_ANON_MAPPED },
	{ "nr_mapped", NR_FILE_MAPPED },
	{ "nr_file_pages", NR_FILE_PAGES },
	{ "nr_dirty", NR_FILE_DIRTY },
	{ "nr_writeback", NR_WRITEBACK },
	{ "nr_shmem", NR_SHMEM },
	{ "nr_shmem_hugepages", NONE },
	{ "nr_shmem_pmdmapped", NONE },
	{ "nr_file_hugepages", NONE },
	{ "nr_file_pmdmapped", NONE },
	{ "nr_anon_transparent_hugepages", NONE },
	{ "nr_vmscan_write", NONE },
	{ "nr_vmscan_immediate_reclaim", NONE },
	{ "nr_dirtied", NONE },
	{ "nr_written", FILE_WRITTEN_PAGES },
	{ "nr_throttled_written", NONE },
	{ "nr_kernel_misc_reclaimable", NONE },
	{ "nr_foll_pin_acquired", NONE },
	{ "nr_foll_pin_released", NONE },
	{ "nr_kernel_stack", NONE },
	{ "nr_page_table_pages", NR_PAGETABLE },
	{ "nr_sec_page_table_pages", NONE },
	{ "nr_iommu_pages", NONE },
	{ "nr_swapcached", NONE },
	{ "pgpromote_success", NONE },
	{ "pgpromote_candidate", NONE },
	{ "pgpromote_candidate_nrl", NONE },
	{ "pgdemote_kswapd", NONE },
	{ "pgdemote_direct", NONE },
	{ "pgdemote_khugepaged", NONE },
	{ "pgdemote_proactive", NONE },
	{ "nr_hugetlb", NONE },
	{ "nr_balloon_pages", NONE },
	{ "nr_kernel_file_pages", NONE },
	{ "nr_dirty_threshold", NONE },
	{ "nr_dirty_background_threshold", NONE },
	{ "nr_memmap_pages", NONE },
	{ "nr_memmap_boot_pages", MEMMAP_PAGES },
	{ "pgpgin", READ_KB },
	{ "pgpgout", WRITTEN_KB },
	{ "pswpin", NONE },
	{ "pswpout", NONE },
	{ "pgalloc_dma", NONE },
	{ "pgalloc_dma32", NONE },
	{ "pgalloc_normal", PGALLOC },
	{ "pgalloc_movable", NONE },
	{ "pgalloc_device", NONE },
	{ "allocstall_dma", NONE },
	{ "allocstall_dma32", NONE },
	{ "allocstall_normal", NONE },
	{ "allocstall_movable", NONE },
	{ "allocstall_device", NONE },
	{ "pgskip_dma", NONE },
	{ "pgskip_dma32", NONE },
	{ "pgskip_normal", NONE },
	{ "pgskip_movable", NONE },
	{ "pgskip_device", NONE },
	{ "pgfree", PGFREE },
	{ "pgactivate", NONE },
	{ "pgdeactivate", NONE },
	{ "pglazyfree", NONE },
	{ "pgfault", PGFAULT },
	{ "pgmajfault", PGMAJFAULT },
	{ "pglazyfreed", NONE },
	{ "pgrefill", NONE },
	{ "pgreuse", FAULT_COW_REUSE },
	{ "pgsteal_kswapd", NONE },
	{ "pgsteal_direct", NONE },
	{ "pgsteal_khugepaged", NONE },
	{ "pgsteal_proactive", NONE },
	{ "pgscan_kswapd", NONE },
	{ "pgscan_direct", NONE },
	{ "pgscan_khugepaged", NONE },
	{ "pgscan_proactive", NONE },
	{ "pgscan_direct_throttle", NONE },
	{ "pgscan_anon", NONE },
	{ "pgscan_file", NONE },
	{ "pgsteal_anon", NONE },
	{ "pgsteal_file", NONE },
	{ "zone_reclaim_success", NONE },
	{ "zone_reclaim_failed", NONE },
	{ "pginodesteal", NONE },
	{ "slabs_scanned", NONE },
	{ "kswapd_inodesteal", NONE },
	{ "kswapd_low_wmark_hit_quickly", NONE },
	{ "kswapd_high_wmark_hit_quickly", NONE },
	{ "pageoutrun", NONE },
	{ "pgrotated", NONE },
	{ "drop_pagecache", NONE },
	{ "drop_slab", NONE },
	{ "oom_kill", NONE },
	{ "numa_pte_updates", NONE },
	{ "numa_huge_pte_updates", NONE },
	{ "numa_hint_faults", NONE },
	{ "numa_hint_faults_local", NONE },
	{ "numa_pages_migrated", NONE },
	{ "pgmigrate_success", NONE },
	{ "pgmigrate_fail", NONE },
	{ "thp_migration_success", NONE },
	{ "thp_migration_fail", NONE },
	{ "thp_migration_split", NONE },
	{ "compact_migrate_scanned", NONE },
	{ "compact_free_scanned", NONE },
	{ "compact_isolated", NONE },
	{ "compact_stall", NONE },
	{ "compact_fail", NONE },
	{ "compact_success", NONE },
	{ "compact_daemon_wake", NONE },
	{ "compact_daemon_migrate_scanned", NONE },
	{ "compact_daemon_free_scanned", NONE },
	{ "htlb_buddy_alloc_success", NONE },
	{ "htlb_buddy_alloc_fail", NONE },
	{ "unevictable_pgs_culled", NONE },
	{ "unevictable_pgs_scanned", NONE },
	{ "unevictable_pgs_rescued", NONE },
	{ "unevictable_pgs_mlocked", NONE },
	{ "unevictable_pgs_munlocked", NONE },
	{ "unevictable_pgs_cleared", NONE },
	{ "unevictable_pgs_stranded", NONE },
	{ "thp_fault_alloc", NONE },
	{ "thp_fault_fallback", NONE },
	{ "thp_fault_fallback_charge", NONE },
	{ "thp_collapse_alloc", NONE },
	{ "thp_collapse_alloc_failed", NONE },
	{ "thp_file_alloc", NONE },
	{ "thp_file_fallback", NONE },
	{ "thp_file_fallback_charge", NONE },
	{ "thp_file_mapped", NONE },
	{ "thp_split_page", NONE },
	{ "thp_split_page_failed", NONE },
	{ "thp_deferred_split_page", NONE },
	{ "thp_underused_split_page", NONE },
	{ "thp_split_pmd", NONE },
	{ "thp_scan_exceed_none_pte", NONE },
	{ "thp_scan_exceed_swap_pte", NONE },
	{ "thp_scan_exceed_share_pte", NONE },
	{ "thp_split_pud", NONE },
	{ "thp_zero_page_alloc", NONE },
	{ "thp_zero_page_alloc_failed", NONE },
	{ "thp_swpout", NONE },
	{ "thp_swpout_fallback", NONE },
	{ "balloon_inflate", NONE },
	{ "balloon_deflate", NONE },
	{ "balloon_migrate", NONE },
	{ "swap_ra", NONE },
	{ "swap_ra_hit", NONE },
	{ "swpin_zero", NONE },
	{ "swpout_zero", NONE },
	{ "ksm_swpin_copy", NONE },
	{ "cow_ksm", NONE },
	{ "zswpin", NONE },
	{ "zswpout", NONE },
	{ "zswpwb", NONE },
	{ "direct_map_level2_splits", NONE },
	{ "direct_map_level3_splits", NONE },
	{ "direct_map_level2_collapses", NONE },
	{ "direct_map_level3_collapses", NONE },
	{ "nr_unstable", NONE },
	/* clang-format on */
};

/* Frames in free blocks of at least a page block, which is a PMD's worth. A racy sum. */
static u64 free_block_pages(const struct quire *q)
{
	u64 pages = 0;

	for (u32 node = 0; node < q->nr_nodes; node++)
		for (unsigned order = MAX_FOLIO_ORDER; order < NR_ORDERS; order++)
			pages += READ_ONCE(q->nodes[node].nr_free_blocks[order]) << order;
	return pages;
}

static u64 value_of(struct quire *q, unsigned source)
{
	switch (source) {
	case NONE:
		return 0;
	case FREE_PAGES:
		return frame_nr_free(q);
	case FREE_BLOCKS:
		return free_block_pages(q);
	case MEMMAP_PAGES:
		return (q->nr_frames * sizeof(struct page) + PAGE_SIZE - 1) >> PAGE_SHIFT;
	case READ_KB:
		return quire_event_sum(q, FILE_READ_PAGES) << (PAGE_SHIFT - 10);
	case WRITTEN_KB:
		return quire_event_sum(q, FILE_WRITTEN_PAGES) << (PAGE_SHIFT - 10);
	default:
		return quire_gauge(q, (enum vm_event)source);
	}
}

int quire_show_vmstat(struct quire_cpu *cpu, quire_emit_fn emit, void *arg)
{
	char piece[1024];
	struct text text;
	int ret = 0;

	text_init(&text, piece, sizeof(piece));
	for (unsigned i = 0; i < ARRAY_SIZE(rows) && !ret; i++) {
		text_str(&text, rows[i].name);
		text_char(&text, ' ');
		text_dec(&text, value_of(cpu->q, rows[i].source), 0);
		text_char(&text, '\n');
		if (text.size - text.len >= LINE_MAX && i + 1 < ARRAY_SIZE(rows))
			continue;
		ret = emit(arg, piece, text.len);
		text.len = 0;
	}
	return ret;
}
