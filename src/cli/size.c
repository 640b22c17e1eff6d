/* SPDX-License-Identifier: MIT */
/*
 * Numbers and sizes on the command line. strtoull() is not used: it takes "-1", " 5" and "0x" and says so to nobody.
 */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Reads the digits at *text and moves it past them. -EINVAL: there are none; -ERANGE: more than 64 bits. */
static int parse_digits(const char **text, uint64_t *out)
{
	const char *p = *text;
	uint64_t value = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			return -ERANGE;
	}
	*text = p;
	*out = value;
	return 0;
}

/* How many bits a unit shifts by: "" 0, "K" or "KiB" 10, and so on; -EINVAL for anything else. */
static int unit_shift(const char *unit)
{
	static const char letters[] = "KMGT";
	const char *letter;

	if (!*unit)
		return 0;
	letter = strchr(letters, *unit >= 'a' ? *unit - 'a' + 'A' : *unit);
	if (!letter || (unit[1] && strcmp(unit + 1, "iB")))
		return -EINVAL;
	return 10 * (int)(letter - letters + 1);
}

int cli_parse_count(const char *text, uint64_t *out)
{
	uint64_t value;
	int err = parse_digits(&text, &value);

	if (err)
		return err;
	if (*text)
		return -EINVAL;
	*out = value;
	return 0;
}

int cli_parse_size(const char *text, uint64_t *out)
{
	uint64_t value;
	int err = parse_digits(&text, &value), shift;

	if (err)
		return err;
	shift = unit_shift(text);
	if (shift < 0)
		return shift;
	if (value > UINT64_MAX >> shift)
		return -ERANGE;
	*out = value << shift;
	return 0;
}

bool cli_size_option(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char low[CLI_SIZE_TEXT], high[CLI_SIZE_TEXT];
	uint64_t value;
	int err = cli_parse_size(text, &value);

	if (err == -EINVAL) {
		cli_usage_error("%s: '%s' is not a size (such as 512M, 64K, 2G)", option, text);
		return false;
	}
	if (err || value < min || value > max) {
		cli_usage_error("%s: %s is out of range (%s to %s)", option, text, cli_format_size(min, low),
				cli_format_size(max, high));
		return false;
	}
	*out = value;
	return true;
}

bool cli_count_option(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t value;
	int err = cli_parse_count(text, &value);

	if (err == -EINVAL) {
		cli_usage_error("%s: '%s' is not a number", option, text);
		return false;
	}
	if (err || value < min || value > max) {
		cli_usage_error("%s: %s is out of range (%" PRIu64 " to %" PRIu64 ")", option, text, min, max);
		return false;
	}
	*out = value;
	return true;
}

char *cli_format_size(uint64_t bytes, char text[CLI_SIZE_TEXT])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0, tenths = 0;

	/* The tenth is cut, not rounded: "1023.9 MiB", never "1024.0 MiB". */
	while (bytes >= 1024) {
		tenths = (unsigned)((bytes & 1023) * 10 / 1024);
		bytes >>= 10;
		unit++;
	}
	if (tenths)
		snprintf(text, CLI_SIZE_TEXT, "%" PRIu64 ".%u %s", bytes, tenths, units[unit]);
	else
		snprintf(text, CLI_SIZE_TEXT, "%" PRIu64 " %s", bytes, units[unit]);
	return text;
}
