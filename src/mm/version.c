/* SPDX-License-Identifier: MIT */
/*
 * The library's version, so that a program can tell which quire it runs on and not only which one it was built with. The
 * build passes QUIRE_VERSION; it stands in one place only, the top meson.build.
 */
#include <quire/quire.h>

const char *quire_version(void)
{
	return QUIRE_VERSION;
}
