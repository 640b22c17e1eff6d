/* SPDX-License-Identifier: MIT */
/*
 * What a CPU's thread does with a work item.
 */
#include "trace/perform.h"

#include <string.h>

/* Event numbers count up through an item: the reading thread begins a new one where they do not. */
static void perform_touches(struct replay_cpu *cpu, const struct work_item *item)
{
	struct replay_place place = item->place;

	perform_run(cpu, item->process->mm);
	for (uint32_t i = 0; i < item->nr; i++, place.event++)
		if (!perform_touch(cpu, item, &place, item->touch[i] >> 2, (enum qrec_op)(item->touch[i] & 3)))
			return;
}

/* A buffer of many pages, as one record. */
static void perform_run_of_pages(struct replay_cpu *cpu, const struct work_item *item)
{
	const struct qrec_event *event = &item->event;

	perform_run(cpu, item->process->mm);
	for (uint64_t i = 0; i < event->pages && !replay_stopped(cpu->replay); i++)
		if (!perform_touch(cpu, item, &item->place, event->page + i, event->op))
			return;
}

/* The heap has size 0 so far; brk records tell how it grows. */
static void perform_brk_start(struct replay_cpu *cpu, const struct work_item *item)
{
	int err = quire_mm_set_brk(cpu->cpu, item->process->mm, item->event.addr);

	if (err)
		replay_fail(cpu->replay, &item->place, "placing the heap at %#llx: %s",
			    (unsigned long long)item->event.addr, strerror(-err));
}

/* Records that need no CPU never get here: the reading thread keeps them. */
static void perform_event(struct replay_cpu *cpu, const struct work_item *item)
{
	switch (item->event.op) {
	case QREC_LOAD:
	case QREC_STORE:
	case QREC_FETCH:
		perform_run_of_pages(cpu, item);
		break;
	case QREC_PROCESS:
	case QREC_EXEC:
		perform_start(cpu, item);
		break;
	case QREC_FORK:
		perform_fork(cpu, item);
		break;
	case QREC_EXIT:
		perform_exit(cpu, item);
		break;
	case QREC_FILE:
	case QREC_FILE_SIZE:
	case QREC_FILE_PUNCH:
		perform_file(cpu, item);
		break;
	case QREC_BRK_START:
		perform_brk_start(cpu, item);
		break;
	case QREC_WAIT:
	case QREC_THREAD:
	case QREC_THREAD_END:
		/* They are here for their place in the order only. */
		break;
	default:
		perform_call(cpu, item);
	}
}

/* Items are not changed by being performed: their places in the ring are filled anew later. */
void perform(struct replay_cpu *cpu, struct work_item *item)
{
	switch (item->work) {
	case WORK_TOUCHES:
		perform_touches(cpu, item);
		break;
	case WORK_EVENT:
		perform_event(cpu, item);
		break;
	case WORK_LEAVE:
		if (cpu->running == item->process->mm)
			perform_run(cpu, NULL);
		break;
	case WORK_SAMPLE:
		perform_sample(cpu, item);
		break;
	}
}
