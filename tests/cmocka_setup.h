/* SPDX-License-Identifier: MIT */
/* <cmocka.h> with the headers that it wants to see before it, in the order it wants. Include this and not cmocka.h. */
#ifndef QUIRE_TESTS_CMOCKA_SETUP_H
#define QUIRE_TESTS_CMOCKA_SETUP_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#endif
