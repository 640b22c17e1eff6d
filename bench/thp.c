/* SPDX-License-Identifier: MIT */
/*
 * Which folio sizes Linux may use, set through /sys for the time of the measurement. The old settings are written back by
 * whichever comes first: thp_restore(), the end of the program, or a signal that ends it. Hence no stdio here: the handler
 * may only open, write and close.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THP "/sys/kernel/mm/transparent_hugepage"
#define MAX_SETTINGS 64u
#define MAX_PATH 128u
#define MAX_WORD 16u

/* One file of /sys and the word in it that was [chosen]. */
struct setting {
	char path[MAX_PATH];
	char old[MAX_WORD];
	size_t old_len;
};

/* Settings that we have changed; of this process only. A handler sees the first nr_settings complete. */
static struct setting settings[MAX_SETTINGS];
static volatile sig_atomic_t nr_settings;
static pid_t owner; /* a forked child must not restore anything when it ends */
static char reason[160];

static const unsigned kilobytes[NR_BENCH_FOLIOS] = { 4, 64, 2048 };

const char *thp_reason(void)
{
	return reason;
}

static bool write_word(const char *path, const char *word, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, word, len) == (ssize_t)len;
	close(fd);
	return done;
}

static ssize_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return -1;
	len = read(fd, text, size - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return len;
}

void thp_restore(void)
{
	if (getpid() != owner)
		return;
	while (nr_settings) {
		const struct setting *setting = &settings[nr_settings - 1];

		write_word(setting->path, setting->old, setting->old_len);
		nr_settings--;
	}
}

/* A signal often comes twice, to the process and to its group, and the second one may interrupt another thread: that one must
 * not end the program before the first has restored everything. */
static void restore_and_die(int signo)
{
	static int dying;
	struct sigaction action = { .sa_handler = SIG_DFL };

	if (__atomic_exchange_n(&dying, 1, __ATOMIC_ACQ_REL))
		return;
	thp_restore();
	sigaction(signo, &action, NULL);
	raise(signo); /* pending until we return */
}

/* Once: from now on the settings come back whatever ends the program, short of SIGKILL. */
static void restore_at_end(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
	struct sigaction action = { .sa_handler = restore_and_die };

	if (owner == getpid())
		return;
	owner = getpid();
	(void)atexit(thp_restore);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction old;

		/* nohup and the like stay in force. */
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	}
}

/* The word in brackets. */
static bool chosen(const char *text, char word[MAX_WORD])
{
	const char *open_bracket = strchr(text, '['), *close_bracket = open_bracket ? strchr(open_bracket, ']') : NULL;
	size_t len = close_bracket ? (size_t)(close_bracket - open_bracket) - 1 : 0;

	if (!len || len >= MAX_WORD)
		return false;
	memcpy(word, open_bracket + 1, len);
	word[len] = '\0';
	return true;
}

/* Makes the file say @word, remembering what it said. False: it cannot be done. */
static bool choose(const char *path, const char *word)
{
	struct setting *setting = &settings[nr_settings];
	char text[256];

	if (nr_settings == MAX_SETTINGS || read_text(path, text, sizeof(text)) <= 0 || !chosen(text, setting->old))
		return false;
	if (!strcmp(setting->old, word))
		return true;
	setting->old_len = strlen(setting->old);
	snprintf(setting->path, sizeof(setting->path), "%s", path);
	nr_settings++; /* before the change: restoring too much is harmless */
	if (write_word(path, word, strlen(word)))
		return true;
	nr_settings--;
	return false;
}

/* The setting of every large folio size: @on for the wanted one, never for the others. False: the wanted one failed. */
static bool choose_sizes(enum bench_folio folio, const char *file, const char *on)
{
	DIR *dir = opendir(THP);
	bool done = folio == BENCH_4K;
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL) {
		unsigned size;
		char path[MAX_PATH], tail[8];
		bool wanted;

		if (sscanf(entry->d_name, "hugepages-%u%7s", &size, tail) != 2 || strcmp(tail, "kB") != 0)
			continue;
		wanted = size == kilobytes[folio];
		snprintf(path, sizeof(path), THP "/hugepages-%ukB/%s", size, file);
		done |= choose(path, wanted ? on : "never") && wanted;
	}
	if (dir)
		closedir(dir);
	return done;
}

bool thp_select(enum bench_folio folio)
{
	restore_at_end();
	thp_restore();
	if (!choose_sizes(folio, "enabled", "madvise")) {
		snprintf(reason, sizeof(reason), "Linux cannot be told to use %s folios: %s", bench_folio_names[folio],
			 access(THP, F_OK) ? "it has no transparent huge pages"
			 : geteuid()	   ? "run as root"
					   : "it does not know the size or /sys is read-only");
		return false;
	}
	/* Shared memory as within_size, so that what does not fit is no reason to fall back; older kernels lack it. */
	choose_sizes(folio, "shmem_enabled", "always");
	return true;
}

static uint64_t read_number(const char *path)
{
	char text[32];

	return read_text(path, text, sizeof(text)) > 0 ? strtoull(text, NULL, 10) : 0;
}

uint64_t thp_allocated(enum bench_folio folio, bool shmem)
{
	char path[MAX_PATH];

	snprintf(path, sizeof(path), THP "/hugepages-%ukB/stats/%s", kilobytes[folio],
		 shmem ? "shmem_alloc" : "anon_fault_alloc");
	return read_number(path);
}
