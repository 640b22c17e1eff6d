/* SPDX-License-Identifier: MIT */
/*
 * Making test processes. The ancestor is an ELF file written here, with nothing but the child's code in it, executed
 * without address randomisation; it then throws away everything else it was given (stack, vdso). Each sequence starts
 * with a fork of it, which costs a tenth of a millisecond and gives an address space that is known to the byte.
 */
#define _GNU_SOURCE
#include "process.h"

#include <elf.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"

#define TEXT_OFFSET 0x200u /* of the code in the file; headers before it */

/* ------------------------------------------------------------------------------------------------ the ELF file */

static uint64_t code_address(const void *function)
{
	return CHILD_TEXT + TEXT_OFFSET + (uint64_t)((const uint8_t *)function - __start_child_text);
}

/*
 * One segment of code, and one of zeros right below BRK_START, because the heap begins behind the last segment. The
 * latter is empty in the file, so that end_data - start_data, which the kernel counts against RLIMIT_DATA, is 0.
 */
static void fill_headers(uint8_t *image)
{
	Elf64_Ehdr *eh = (Elf64_Ehdr *)image;
	Elf64_Phdr *ph = (Elf64_Phdr *)(image + sizeof(*eh));

	memcpy(eh->e_ident, ELFMAG, SELFMAG);
	eh->e_ident[EI_CLASS] = ELFCLASS64;
	eh->e_ident[EI_DATA] = ELFDATA2LSB;
	eh->e_ident[EI_VERSION] = EV_CURRENT;
	eh->e_type = ET_EXEC;
	eh->e_machine = EM_X86_64;
	eh->e_version = EV_CURRENT;
	eh->e_entry = code_address((const void *)(uintptr_t)child_entry);
	eh->e_phoff = sizeof(*eh);
	eh->e_ehsize = sizeof(*eh);
	eh->e_phentsize = sizeof(*ph);
	eh->e_phnum = 3;
	ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD,
			      .p_flags = PF_R | PF_X,
			      .p_vaddr = CHILD_TEXT,
			      .p_align = PAGE,
			      .p_filesz = CHILD_TEXT_BYTES,
			      .p_memsz = CHILD_TEXT_BYTES };
	ph[1] = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_vaddr = BRK_START - PAGE, .p_align = PAGE, .p_memsz = PAGE
	};
	ph[2] = (Elf64_Phdr){ .p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W, .p_align = 16 };
}

static int write_image(void)
{
	size_t text_bytes = (uintptr_t)__stop_child_text - (uintptr_t)__start_child_text;
	uint8_t image[CHILD_TEXT_BYTES] = { 0 };
	int fd;

	if (TEXT_OFFSET + text_bytes > sizeof(image))
		return -E2BIG;
	fill_headers(image);
	memcpy(image + TEXT_OFFSET, __start_child_text, text_bytes);
	fd = memfd_create("child", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, image, sizeof(image)) != (ssize_t)sizeof(image)) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/* ------------------------------------------------------------------------------------------------- the mailbox */

static int futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	return (int)syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

static bool has_ended(const struct process *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };

	return p->pidfd >= 0 && poll(&pfd, 1, 0) > 0;
}

/* Until the process gives the slot back. -ESRCH: it never will. */
static int wait_idle(struct family *f, unsigned m)
{
	struct slot *slot = &f->slots[m];
	const struct timespec patience = { .tv_sec = 1 };

	while (__atomic_load_n(&slot->turn, __ATOMIC_ACQUIRE) != SLOT_IDLE) {
		if (futex(&slot->turn, FUTEX_WAIT, SLOT_REQUEST, &patience) < 0 && errno == ETIMEDOUT &&
		    has_ended(&f->member[m]))
			return -ESRCH;
	}
	return 0;
}

int member_request(struct family *f, unsigned m, enum slot_request request)
{
	struct slot *slot = &f->slots[m];

	slot->request = request;
	__atomic_store_n(&slot->turn, SLOT_REQUEST, __ATOMIC_RELEASE);
	futex(&slot->turn, FUTEX_WAKE, 1, NULL);
	return wait_idle(f, m);
}

int64_t member_syscall(struct family *f, unsigned m, long nr, const uint64_t arg[6])
{
	struct slot *slot = &f->slots[m];
	int err;

	slot->nr = (uint64_t)nr;
	memcpy(slot->arg, arg, sizeof(slot->arg));
	err = member_request(f, m, REQUEST_SYSCALL);
	return err ? err : slot->ret;
}

/* ----------------------------------------------------------------------------------------------------- members */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void process_forget(struct process *p)
{
	close_fd(&p->pidfd);
	close_fd(&p->maps_fd);
	close_fd(&p->smaps_fd);
	close_fd(&p->pagemap_fd);
	close_fd(&p->status_fd);
	close_fd(&p->mem_fd);
	p->pid = 0;
}

static int process_remember(struct process *p, pid_t pid)
{
	p->pid = pid;
	p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return p->pidfd < 0 ? -errno : 0;
}

int64_t member_fork(struct family *f, unsigned m, unsigned child)
{
	struct slot *slot = &f->slots[m];
	int err;

	__atomic_store_n(&f->slots[child].turn, SLOT_REQUEST, __ATOMIC_RELEASE); /* until it runs */
	slot->arg[0] = child;
	err = member_request(f, m, REQUEST_FORK);
	if (err || slot->ret < 0)
		return err ? err : slot->ret;
	err = process_remember(&f->member[child], (pid_t)slot->ret);
	if (!err)
		err = wait_idle(f, child);
	return err ? err : slot->ret;
}

/* A process is announced as ended only after its address space is gone. */
void member_end(struct family *f, unsigned m)
{
	struct process *p = &f->member[m];
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };

	if (!p->pid)
		return;
	kill(p->pid, SIGKILL);
	while (poll(&pfd, 1, -1) < 0 && errno == EINTR)
		;
	process_forget(p);
}

/* ------------------------------------------------------------------------------------------------ the ancestor */

/* Between fork and exec: nothing that may allocate or lock. The parent's death ends the ancestor. */
static void become_ancestor(int image_fd, pid_t parent)
{
	char *argv[] = { (char *)(uintptr_t) "child", NULL }, *envp[] = { NULL };

	struct rlimit stack;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	getrlimit(RLIMIT_STACK, &stack); /* decides where the kernel begins to place mappings */
	stack.rlim_cur = STACK_LIMIT;
	setrlimit(RLIMIT_STACK, &stack);
	setpgid(0, 0); /* signals from a terminal are for the tester */
	personality(ADDR_NO_RANDOMIZE);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	syscall(SYS_execveat, image_fd, "", argv, envp, 0x1000 /* AT_EMPTY_PATH */);
	_exit(127);
}

static int set_handler(struct family *f, int signo)
{
	struct {
		uint64_t handler, flags, restorer, mask;
	} *act = (void *)f->slots[0].more;

	act->handler = code_address((const void *)(uintptr_t)child_signal);
	act->flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | 0x04000000 /* SA_RESTORER */;
	act->restorer = code_address((const void *)(uintptr_t)child_restorer);
	act->mask = 0;
	if (signo == SIGCHLD) { /* its descendants are reaped by the kernel */
		act->handler = (uint64_t)SIG_IGN;
		act->flags = 0;
	}
	return (int)member_syscall(f, 0, SYS_rt_sigaction,
				   (uint64_t[6]){ (uint64_t)signo, SLOTS_ADDR + offsetof(struct slot, more), 0, 8 });
}

/* Without privileges, so that RLIMIT_MEMLOCK holds for it as for everybody. */
static int drop_capabilities(struct family *f)
{
	struct __user_cap_header_struct *header = (void *)f->slots[0].more;
	uint64_t at = SLOTS_ADDR + offsetof(struct slot, more);

	header->version = _LINUX_CAPABILITY_VERSION_3;
	header->pid = 0;
	memset(f->slots[0].more + 64, 0, 64);
	return (int)member_syscall(f, 0, SYS_capset, (uint64_t[6]){ at, at + 64 });
}

/* Everything the kernel mapped but our code and the slots goes; then the top is filled (layout.h). */
static int clear_address_space(struct family *f)
{
	int64_t ret;

	ret = member_syscall(f, 0, SYS_munmap, (uint64_t[6]){ CHILD_END, TASK_SIZE - CHILD_END });
	if (ret)
		return (int)ret;
	ret = member_syscall(f, 0, SYS_mmap,
			     (uint64_t[6]){ 0, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0 });
	if (ret < 0)
		return (int)ret;
	f->mmap_base = (uint64_t)ret + PAGE;
	member_syscall(f, 0, SYS_munmap, (uint64_t[6]){ (uint64_t)ret, PAGE });
	if (f->mmap_base <= HIGH_END)
		return f->mmap_base == HIGH_END ? 0 : -ERANGE;
	ret = member_syscall(f, 0, SYS_mmap,
			     (uint64_t[6]){ HIGH_END, f->mmap_base - HIGH_END, PROT_NONE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, (uint64_t)-1, 0 });
	return ret < 0 ? (int)ret : 0;
}

static int prepare_ancestor(struct family *f)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGTRAP, SIGCHLD };
	int err = wait_idle(f, 0);

	for (unsigned i = 0; !err && i < sizeof(signals) / sizeof(signals[0]); i++)
		err = set_handler(f, signals[i]);
	if (!err)
		err = clear_address_space(f);
	if (!err)
		err = drop_capabilities(f);
	if (!err && member_syscall(f, 0, SYS_brk, (uint64_t[6]){ 0 }) != BRK_START)
		err = -ERANGE;
	return err;
}

static int map_slots(struct family *f)
{
	int fd = memfd_create("slots", MFD_CLOEXEC);
	void *p;

	if (fd < 0 || ftruncate(fd, SLOTS_BYTES) < 0)
		return -errno;
	p = mmap(NULL, SLOTS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	f->slots = p;
	return fd;
}

static int start_ancestor(struct family *f, int slots_fd, int image_fd)
{
	pid_t parent = getpid(), pid;

	__atomic_store_n(&f->slots[0].turn, SLOT_REQUEST, __ATOMIC_RELEASE);
	pid = fork();
	if (pid == 0) {
		dup2(slots_fd, CHILD_SLOT_FD); /* without close-on-exec */
		become_ancestor(image_fd, parent);
	}
	if (pid < 0)
		return -errno;
	return process_remember(&f->member[0], pid);
}

int family_create(struct family *f)
{
	int slots_fd, image_fd, err;

	for (unsigned m = 0; m < NR_SLOTS; m++)
		f->member[m] = (struct process){ 0, -1, -1, -1, -1, -1, -1 };
	slots_fd = map_slots(f);
	image_fd = write_image();
	err = slots_fd < 0 ? slots_fd : image_fd < 0 ? image_fd : start_ancestor(f, slots_fd, image_fd);
	if (!err)
		err = prepare_ancestor(f);
	close_fd(&slots_fd);
	close_fd(&image_fd);
	if (err)
		fprintf(stderr, "cannot prepare a test process: %s\n", strerror(-err));
	return err ? -1 : 0;
}

void family_destroy(struct family *f)
{
	for (unsigned m = NR_SLOTS; m-- > 1;)
		member_end(f, m);
	if (f->member[0].pid) {
		pid_t pid = f->member[0].pid;

		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		process_forget(&f->member[0]);
	}
	munmap(f->slots, SLOTS_BYTES);
}
