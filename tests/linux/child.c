/* SPDX-License-Identifier: MIT */
/*
 * What runs inside a test process. This code is copied, as an ELF file of its own, to a fixed address, and must live
 * without anything else: no libc, no data, no string, no table, nothing outside of its section. It is compiled position
 * independent, without sanitizers and with general registers only.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>

#include "slot.h"

#define CHILD __attribute__((section("child_text"), used))
#define TRAP_FLAG 0x100

/* How long a process waits for its tester before it takes it for dead, in seconds. */
#define ORPHAN_SECONDS 20

CHILD static int64_t child_syscall(uint64_t nr, const uint64_t *arg)
{
	/* cppcheck takes the names of registers for the declarations themselves. */
	/* cppcheck-suppress constStatement */
	register uint64_t r10 __asm__("r10") = arg[3];
	/* cppcheck-suppress constStatement */
	register uint64_t r8 __asm__("r8") = arg[4];
	/* cppcheck-suppress constStatement */
	register uint64_t r9 __asm__("r9") = arg[5];
	int64_t ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(arg[0]), "S"(arg[1]), "d"(arg[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

CHILD static int64_t child_syscall4(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t arg[6];

	arg[0] = a;
	arg[1] = b;
	arg[2] = c;
	arg[3] = d;
	arg[4] = 0;
	arg[5] = 0;
	return child_syscall(nr, arg);
}

CHILD static void child_exit(int status)
{
	child_syscall4(SYS_exit_group, (uint64_t)status, 0, 0, 0);
}

/*
 * Entered by exec with nothing mapped but this code and what the kernel puts into every process. Maps the slots and
 * goes on, on the stack of slot 0, in child_main.
 */
__asm__(".pushsection child_text,\"ax\",@progbits\n"
	".globl child_entry\n.hidden child_entry\n.type child_entry,@function\n"
	"child_entry:\n"
	"	mov $9, %eax\n"	       /* mmap */
	"	mov $0x100000, %edi\n" /* SLOTS_ADDR */
	"	mov $0xe0000, %esi\n"  /* SLOTS_BYTES */
	"	mov $3, %edx\n"	       /* PROT_READ|PROT_WRITE */
	"	mov $0x11, %r10d\n"    /* MAP_SHARED|MAP_FIXED */
	"	mov $100, %r8d\n"      /* CHILD_SLOT_FD */
	"	xor %r9d, %r9d\n"
	"	syscall\n"
	"	mov $0x120000, %esp\n" /* the end of slot 0 */
	"	mov $0x100000, %edi\n"
	"	call child_main\n"
	"	hlt\n"
	".globl child_restorer\n.hidden child_restorer\n.type child_restorer,@function\n"
	"child_restorer:\n"
	"	mov $15, %eax\n" /* rt_sigreturn */
	"	syscall\n"
	"	hlt\n"
	/* child_clone(flags, stack, slot): as clone(2); the new process starts in child_main(slot) on the new stack. */
	".type child_clone,@function\n"
	"child_clone:\n"
	"	push %rbx\n"
	"	mov %rdx, %rbx\n"
	"	mov $56, %eax\n"
	"	xor %edx, %edx\n"
	"	xor %r10d, %r10d\n"
	"	xor %r8d, %r8d\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jz 1f\n"
	"	pop %rbx\n"
	"	ret\n"
	"1:	mov %rbx, %rdi\n"
	"	call child_main\n"
	"	hlt\n"
	".popsection\n");
_Static_assert(SLOTS_ADDR == 0x100000 && SLOTS_BYTES == 0xe0000 && SLOT_BYTES == 0x20000 && CHILD_SLOT_FD == 100,
	       "as written in child_entry");

int64_t child_clone(uint64_t flags, uint64_t stack, struct slot *slot) __attribute__((visibility("hidden")));
void child_main(struct slot *slot) __attribute__((visibility("hidden")));

/* ------------------------------------------------------------------------------------------------------ signals */

/* Goes on behind the access, as if it were a longjmp. */
CHILD static void child_recover(struct slot *slot, ucontext_t *uc)
{
	if (!slot->recover_ip)
		child_exit(99);
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)slot->recover_ip;
	uc->uc_mcontext.gregs[REG_RSP] = (greg_t)slot->recover_sp;
	uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

CHILD __attribute__((visibility("hidden"))) void child_handle(int signo, siginfo_t *info, ucontext_t *uc)
{
	uint64_t here = (uint64_t)__builtin_frame_address(0);
	struct slot *slot = (struct slot *)(here & ~(uint64_t)(SLOT_BYTES - 1));

	if (signo == SIGTRAP && slot->stepping) { /* the jump to the tested instruction; let that run too */
		slot->stepping = 0;
		return;
	}
	if (signo != SIGTRAP) {
		slot->signo = (uint32_t)signo;
		slot->code = info->si_code;
		slot->fault_addr = (uint64_t)info->si_addr;
	}
	child_recover(slot, uc);
}

/* The kernel enters here with the stack that a call would leave. */
__asm__(".pushsection child_text,\"ax\",@progbits\n"
	".globl child_signal\n.hidden child_signal\n.type child_signal,@function\n"
	"child_signal:\n"
	"	jmp child_handle\n"
	".popsection\n");

/* ----------------------------------------------------------------------------------------------------- accesses */

/*
 * Copies within one page of the tested side. Its first byte is touched alone, so that the address in the signal is
 * that byte and not one which the processor's block copy happened to try first.
 */
CHILD static void copy_in_page(struct slot *slot, uint64_t dst, uint64_t src, uint64_t len)
{
	__asm__ volatile("lea 1f(%%rip), %%rax\n\t"
			 "mov %%rax, %[ip]\n\t"
			 "mov %%rsp, %[sp]\n\t"
			 "movb (%%rsi), %%al\n\t"
			 "movb %%al, (%%rdi)\n\t"
			 "rep movsb\n"
			 "1:"
			 : "+D"(dst), "+S"(src), "+c"(len), [ip] "=m"(slot->recover_ip), [sp] "=m"(slot->recover_sp)
			 :
			 : "rax", "memory", "cc");
	slot->recover_ip = 0;
}

/* A load or a store, page by page, ended by the first signal. */
CHILD static void child_access(struct slot *slot, int store)
{
	uint64_t addr = slot->arg[0], left = slot->arg[1], data = (uint64_t)slot->data;

	while (left && !slot->signo) {
		uint64_t len = PAGE - (addr & (PAGE - 1));

		if (len > left)
			len = left;
		if (store)
			copy_in_page(slot, addr, data, len);
		else
			copy_in_page(slot, data, addr, len);
		addr += len;
		data += len;
		left -= len;
	}
	slot->ret = slot->signo ? -1 : 0;
}

CHILD static void child_cmpxchg(struct slot *slot)
{
	uint64_t old = slot->arg[1];

	__asm__ volatile("lea 1f(%%rip), %%r11\n\t"
			 "mov %%r11, %[ip]\n\t"
			 "mov %%rsp, %[sp]\n\t"
			 "lock cmpxchgq %[new], (%[addr])\n"
			 "1:"
			 : "+a"(old), [ip] "=m"(slot->recover_ip), [sp] "=m"(slot->recover_sp)
			 : [addr] "r"(slot->arg[0]), [new] "r"(slot->arg[2])
			 : "r11", "memory", "cc");
	slot->recover_ip = 0;
	slot->arg[1] = old;
	slot->ret = slot->signo ? -1 : 0;
}

/* Where a register that the tested instruction may use points to. */
#define SCRATCH_MIDDLE "0x12800"
_Static_assert(offsetof(struct slot, scratch) + 2048 == 0x12800, "as written in SCRATCH_MIDDLE");

/*
 * Executes the instruction at arg[0] with the trap flag set: it runs, or it faults, and either signal leads back. All
 * registers but rsp point into the scratch page, where the instructions that our bytes and zeros make do no harm.
 */
CHILD static void child_fetch(struct slot *slot)
{
	slot->stepping = 1;
	__asm__ volatile("push %%rbx\n\tpush %%rbp\n\tpush %%r12\n\tpush %%r13\n\tpush %%r14\n\tpush %%r15\n\t"
			 "lea 1f(%%rip), %%rax\n\t"
			 "mov %%rax, %c[ip](%%rdi)\n\t"
			 "mov %%rsp, %c[sp](%%rdi)\n\t"
			 "mov %%rsi, %%r11\n\t"
			 "lea " SCRATCH_MIDDLE "(%%rdi), %%rax\n\t"
			 "mov %%rax, %%rbx\n\tmov %%rax, %%rcx\n\tmov %%rax, %%rdx\n\tmov %%rax, %%rsi\n\t"
			 "mov %%rax, %%rdi\n\tmov %%rax, %%rbp\n\t"
			 "pushfq\n\t"
			 "orq $0x100, (%%rsp)\n\t"
			 "popfq\n\t"
			 "jmp *%%r11\n"
			 "1:\n\t"
			 "pop %%r15\n\tpop %%r14\n\tpop %%r13\n\tpop %%r12\n\tpop %%rbp\n\tpop %%rbx"
			 : "+D"(slot)
			 : "S"(slot->arg[0]), [ip] "i"(offsetof(struct slot, recover_ip)),
			   [sp] "i"(offsetof(struct slot, recover_sp))
			 : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
}

/* ---------------------------------------------------------------------------------------------------- main loop */

CHILD static void child_wait(struct slot *slot)
{
	struct {
		int64_t sec, nsec;
	} timeout;

	while (__atomic_load_n(&slot->turn, __ATOMIC_ACQUIRE) != SLOT_REQUEST) {
		timeout.sec = ORPHAN_SECONDS;
		timeout.nsec = 0;
		if (child_syscall4(SYS_futex, (uint64_t)&slot->turn, FUTEX_WAIT, SLOT_IDLE, (uint64_t)&timeout) == -110)
			child_exit(98);
	}
}

CHILD static void child_done(struct slot *slot)
{
	__atomic_store_n(&slot->turn, SLOT_IDLE, __ATOMIC_RELEASE);
	child_syscall4(SYS_futex, (uint64_t)&slot->turn, FUTEX_WAKE, 1, 0);
}

CHILD static int64_t child_fork(uint64_t nr)
{
	struct slot *slot = (struct slot *)(SLOTS_ADDR + nr * SLOT_BYTES);

	return child_clone(SIGCHLD, (uint64_t)slot + SLOT_BYTES, slot);
}

/* Each process has its signal stack in its own slot; the inherited one would be its parent's. */
CHILD static void child_set_signal_stack(struct slot *slot)
{
	struct {
		void *sp;
		uint64_t flags, size;
	} ss;

	ss.sp = slot->signal_stack;
	ss.flags = 0;
	ss.size = sizeof(slot->signal_stack);
	child_syscall4(SYS_sigaltstack, (uint64_t)&ss, 0, 0, 0);
}

CHILD static void child_serve(struct slot *slot)
{
	slot->signo = 0;
	if (slot->request == REQUEST_SYSCALL)
		slot->ret = child_syscall(slot->nr, slot->arg);
	else if (slot->request == REQUEST_LOAD)
		child_access(slot, 0);
	else if (slot->request == REQUEST_STORE)
		child_access(slot, 1);
	else if (slot->request == REQUEST_CMPXCHG)
		child_cmpxchg(slot);
	else if (slot->request == REQUEST_FORK)
		slot->ret = child_fork(slot->arg[0]);
	else if (slot->request == REQUEST_EXIT)
		child_exit(0);
	else {
		child_fetch(slot);
		slot->recover_ip = 0;
		slot->ret = slot->signo ? -1 : 0;
	}
}

CHILD void child_main(struct slot *slot)
{
	child_set_signal_stack(slot);
	slot->recover_ip = 0;
	for (;;) {
		child_done(slot);
		child_wait(slot);
		child_serve(slot);
	}
}
