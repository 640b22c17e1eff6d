/* SPDX-License-Identifier: MIT */
/* Is this a build for the thread sanitizer? Compilers say it in different ways. */
#ifndef QUIRE_MACHINE_SANITIZER_H
#define QUIRE_MACHINE_SANITIZER_H

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif

#endif
