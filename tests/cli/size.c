/* SPDX-License-Identifier: MIT */
/*
 * Numbers and sizes as users write them: what is understood, and that nonsense is refused instead of read as some number.
 */
#include "cli/cli.h"
#include "cmocka_setup.h"

#include <errno.h>

static uint64_t size_of(const char *text)
{
	uint64_t size = 0;

	if (cli_parse_size(text, &size))
		fail_msg("'%s' was refused", text);
	return size;
}

static void assert_refused(int (*parse)(const char *, uint64_t *), const char *text, int err)
{
	uint64_t untouched = 42;

	if (parse(text, &untouched) != err)
		fail_msg("'%s' gave %d", text, parse(text, &untouched));
	assert_int_equal(untouched, 42);
}

static void sizes_with_and_without_unit(void **state)
{
	(void)state;
	assert_int_equal(size_of("0"), 0);
	assert_int_equal(size_of("4096"), 4096);
	assert_int_equal(size_of("64K"), 65536);
	assert_int_equal(size_of("64k"), 65536);
	assert_int_equal(size_of("512M"), 512ull << 20);
	assert_int_equal(size_of("3G"), 3ull << 30);
	assert_int_equal(size_of("1t"), 1ull << 40);
	assert_int_equal(size_of("2MiB"), 2ull << 20);
}

static void sizes_at_the_limit(void **state)
{
	(void)state;
	assert_true(size_of("18446744073709551615") == UINT64_MAX);
	assert_true(size_of("16777215T") == 16777215ull << 40);
	assert_refused(cli_parse_size, "18446744073709551616", -ERANGE);
	assert_refused(cli_parse_size, "99999999999999999999999999", -ERANGE);
	assert_refused(cli_parse_size, "16777216T", -ERANGE);
}

static void nonsense_sizes(void **state)
{
	static const char *const texts[] = { "",     "K",   "-1",   "+1",  " 1",  "1 ",	    "1.5G", "0x10",
					     "64KB", "64Q", "64KK", "M64", "6 4", "64KiBs", "1e9",  "64Ki" };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		assert_refused(cli_parse_size, texts[i], -EINVAL);
}

static void counts_take_no_unit(void **state)
{
	uint64_t count;

	(void)state;
	assert_int_equal(cli_parse_count("12", &count), 0);
	assert_int_equal(count, 12);
	assert_refused(cli_parse_count, "12K", -EINVAL);
	assert_refused(cli_parse_count, "", -EINVAL);
	assert_refused(cli_parse_count, "-3", -EINVAL);
	assert_refused(cli_parse_count, "18446744073709551616", -ERANGE);
}

static void options_are_held_to_their_range(void **state)
{
	uint64_t value = 42;

	(void)state;
	assert_true(cli_size_option("--memory", "4M", 4u << 20, 8u << 20, &value));
	assert_int_equal(value, 4u << 20);
	assert_true(cli_size_option("--memory", "8M", 4u << 20, 8u << 20, &value));
	assert_int_equal(value, 8u << 20);
	assert_false(cli_size_option("--memory", "4194303", 4u << 20, 8u << 20, &value));
	assert_false(cli_size_option("--memory", "8388609", 4u << 20, 8u << 20, &value));
	assert_false(cli_size_option("--memory", "lots", 0, UINT64_MAX, &value));
	assert_int_equal(value, 8u << 20);
	assert_true(cli_count_option("--cpus", "2", 1, 64, &value));
	assert_int_equal(value, 2);
	assert_false(cli_count_option("--cpus", "0", 1, 64, &value));
	assert_false(cli_count_option("--cpus", "65", 1, 64, &value));
	assert_false(cli_count_option("--cpus", "two", 1, 64, &value));
	assert_int_equal(value, 2);
}

static void sizes_for_people(void **state)
{
	char text[CLI_SIZE_TEXT];

	(void)state;
	assert_string_equal(cli_format_size(0, text), "0 B");
	assert_string_equal(cli_format_size(1023, text), "1023 B");
	assert_string_equal(cli_format_size(1024, text), "1 KiB");
	assert_string_equal(cli_format_size(1536, text), "1.5 KiB");
	assert_string_equal(cli_format_size(512ull << 20, text), "512 MiB");
	assert_string_equal(cli_format_size((1ull << 30) - 1, text), "1023.9 MiB");
	assert_string_equal(cli_format_size(UINT64_MAX, text), "15.9 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_with_and_without_unit),
		cmocka_unit_test(sizes_at_the_limit),
		cmocka_unit_test(nonsense_sizes),
		cmocka_unit_test(counts_take_no_unit),
		cmocka_unit_test(options_are_held_to_their_range),
		cmocka_unit_test(sizes_for_people),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
