/* SPDX-License-Identifier: MIT */
/*
 * The mailbox between the tester and one test process: a piece of a memfd that both map shared. The tester writes a
 * request, sets turn to SLOT_REQUEST and wakes; the process does it, sets turn to SLOT_IDLE and wakes. Exactly one of the
 * two owns all other fields at any time, by turn. The process has its stacks in its slot too, so that it needs no
 * private memory at all and fork copies nothing of ours.
 */
#ifndef TESTS_LINUX_SLOT_H
#define TESTS_LINUX_SLOT_H

#include <stddef.h>

#include "layout.h"

enum slot_turn {
	SLOT_IDLE,
	SLOT_REQUEST
};

enum slot_request {
	REQUEST_SYSCALL, /* nr, arg -> ret */
	REQUEST_FORK,	 /* arg[0]: slot of the new process -> ret: its pid */
	REQUEST_LOAD,	 /* arg[0..1]: address, length -> data; ret 0 or -1 with signo, code, fault_addr */
	REQUEST_STORE,	 /* the same, from data */
	REQUEST_FETCH,	 /* arg[0]: address; executes one instruction there and comes back */
	REQUEST_CMPXCHG, /* arg[0..2]: address, expected, new -> arg[1]: found */
	REQUEST_EXIT,
};

struct slot {
	uint32_t turn; /* futex; atomic */
	uint32_t request;
	uint64_t nr;
	uint64_t arg[6];
	int64_t ret;
	uint32_t signo;
	int32_t code;
	uint64_t fault_addr;
	uint64_t recover_ip; /* where the signal handler goes on; 0: nowhere, an unexpected signal ends the process */
	uint64_t recover_sp;
	uint64_t stepping; /* the trap before the tested instruction is still to come */
	uint8_t data[MAX_DATA] __attribute__((aligned(4096)));
	uint8_t more[4096];    /* structures that a system call wants besides data */
	uint8_t scratch[4096]; /* where registers point to during a fetch */
	uint8_t signal_stack[32768];
	uint8_t stack[SLOT_BYTES - 4096 - MAX_DATA - 8192 - 32768];
};

_Static_assert(offsetof(struct slot, data) == 4096, "the header fills one page");
_Static_assert(sizeof(struct slot) == SLOT_BYTES, "a slot is found by aligning the stack pointer down");

/* The child's code, in a section of its own so that it can be copied whole (child.c). */
extern const uint8_t __start_child_text[], __stop_child_text[];
void child_entry(void);	   /* first instruction after exec */
void child_signal(void);   /* the handler for SIGSEGV, SIGBUS, SIGTRAP */
void child_restorer(void); /* returns from it */

#define CHILD_SLOT_FD 100 /* the memfd of the slots, as child_entry expects it */

#endif
