/* SPDX-License-Identifier: MIT */
/*
 * Replays a recording over the memory manager and checks every byte that it reads. The recording is read by one thread,
 * which hands bundles of work (schedule.h) to one thread per CPU; each CPU does to its part of the machine what the
 * recorded program did, and asks the model what must come of it.
 */
#ifndef QUIRE_TRACE_REPLAY_H
#define QUIRE_TRACE_REPLAY_H

#include "trace/model.h"
#include "trace/qrec.h"
#include "trace/reader.h"
#include "trace/timing.h"

#include <pthread.h>
#include <quire/quire.h>

/* What is timed, each kind by itself. */
enum replay_timed {
	TIMED_LOAD,
	TIMED_STORE,
	TIMED_FETCH,
	TIMED_MMAP,
	TIMED_MUNMAP,
	TIMED_MPROTECT,
	TIMED_MREMAP,
	TIMED_BRK,
	TIMED_MADVISE,
	TIMED_MLOCK, /* and munlock, mlockall, munlockall */
	TIMED_MSYNC,
	TIMED_MINCORE,
	TIMED_FORK,
	TIMED_EXIT, /* of an address space: exit and exec */
	TIMED_FILE, /* making, resizing, punching */
	NR_TIMED,
};
extern const char *const replay_timed_names[NR_TIMED];

#define REPLAY_SAMPLES 256u /* how often the machine is looked at during a replay, about */

struct replay_sample {
	uint64_t event;
	uint64_t processes;		  /* alive */
	uint64_t rss, rss_anon, rss_file; /* pages, summed over address spaces; file: and shmem */
	uint64_t used, tables, slab;	  /* frames */
};

/* A process of the recording. Created by the reading thread; @mm and @model change in work items of the process only. */
struct replay_process {
	uint32_t id;
	uint64_t pid;
	struct quire_mm *mm; /* NULL: has none (yet, or any more) */
	struct model_mm *model;
	uint32_t nr_alive; /* threads; reading thread only */
	bool exited;	   /* reading thread only */
	uint64_t ran_on;   /* set of CPUs that may run its address space; reading thread only */
};

struct replay_options {
	const char *path;
	uint64_t memory;
	unsigned orders; /* QUIRE_ORDERS_* */
	unsigned nr_cpus;
	bool validate; /* check all structures at every sample, not only at the end */
};

/* What came of it, besides the time it took. */
struct replay_outcome {
	bool failed;	    /* something was wrong: @error says what */
	bool out_of_memory; /* it was the lack of memory, in event @at */
	bool broken;	    /* the memory manager did something wrong: better not to ask it for anything more */
	uint64_t at;
	char error[1024];
};

struct replay_cpu; /* schedule.h */

struct replay {
	struct replay_options options;
	struct qrec_reader *reader;
	struct qrec_totals totals;
	struct model model;
	struct quire *quire;
	struct replay_cpu *cpus;

	struct replay_process **processes; /* by id; reading thread only */
	uint32_t nr_processes, processes_room;
	struct quire_file **files; /* by id; changed in exclusive work only */
	int *file_fds;		   /* of files with a copy on the host; -1: none */

	pthread_mutex_t lock; /* of @outcome */
	struct replay_outcome outcome;
	bool stop; /* atomic: something failed, nothing more is to be done */

	/* Filled in as it goes, in exclusive work. */
	struct replay_sample samples[2 * REPLAY_SAMPLES];
	uint32_t nr_samples;
	uint64_t violations; /* found by quire_validate */

	struct quire_stat begin, end;	/* at rest, before the first and after the last record */
	uint64_t nr_unsupported_advice; /* atomic: madvise calls that only give a hint that quire does not take */
	uint64_t nr_checked;		/* atomic: lines that were compared */
	double seconds;
	double tick_ns;
	struct timing timed[NR_TIMED];
};

/* Where something is in a recording; for messages. */
struct replay_place {
	uint64_t event, block; /* number; byte of its block in the file */
	const struct replay_process *process;
};

/*
 * Replays all of replay->reader, which is at its beginning, as replay->options say. @progress is called now and then with
 * the number of events handed out. Returns true if everything was right; otherwise replay->outcome says why.
 */
bool replay_run(struct replay *replay, void (*progress)(void *arg, uint64_t events), void *arg);

/* Gives everything back, except a machine that did something wrong: it is left as it is. */
void replay_destroy(struct replay *replay);

/* Notes the first failure and stops everything; later ones are ignored. Any thread. */
void replay_fail(struct replay *replay, const struct replay_place *place, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same for a wrong byte or structure. */
void replay_fail_broken(struct replay *replay, const struct replay_place *place, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same for lack of memory. @what could not be done. */
void replay_fail_memory(struct replay *replay, const struct replay_place *place, const char *what);

static inline bool replay_stopped(const struct replay *replay)
{
	return __atomic_load_n(&replay->stop, __ATOMIC_RELAXED);
}

#endif
