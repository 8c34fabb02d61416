/* Names of components, and what is asked of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <string.h>

#include "biomatch/quality.h"

static void test_names(void **state)
{
	static const char *const bad[] = {"",           "SHARPNESS", "sharp",
					  "sharpness2", "pose yaw",  "pose"};
	enum quality_component found;

	(void)state;
	for (int i = 0; i < QUALITY_COMPONENTS; i++) {
		const char *name = quality_component_name((enum quality_component)i);
		char lower[64] = "";

		for (size_t c = 0; name[c]; c++)
			lower[c] = (char)tolower((unsigned char)name[c]);
		assert_int_equal(quality_component_parse(lower, &found), 0);
		assert_int_equal(found, i);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(quality_component_parse(bad[i], &found), BM_EINVAL);
}

static void test_asked(void **state)
{
	struct quality asked = {{0}};

	(void)state;
	assert_false(quality_is_asked(&asked));
	assert_true(quality_is_asked(&quality_portrait));
	asked.value[QUALITY_COMPRESSION] = 1;
	assert_true(quality_is_asked(&asked));
}

static void test_shortfall(void **state)
{
	struct quality has, asked = {{0}};

	(void)state;
	memset(has.value, 60, sizeof(has.value));
	assert_false(quality_falls_short(&has, &asked));
	asked.value[QUALITY_SHARPNESS] = 60;
	assert_false(quality_falls_short(&has, &asked));
	asked.value[QUALITY_SHARPNESS] = 61;
	assert_true(quality_falls_short(&has, &asked));
	assert_int_equal(quality_shortfall(&has, &asked, QUALITY_SHARPNESS), 1);
	assert_int_equal(quality_shortfall(&has, &asked, QUALITY_POSE_YAW), -60);
}

/* A PNG has no compression to judge; a face of which nothing can be judged passes nothing. */
static void test_unknown(void **state)
{
	struct quality has, asked = {{[QUALITY_COMPRESSION] = 50, [QUALITY_SHARPNESS] = 50}};

	(void)state;
	memset(has.value, 60, sizeof(has.value));
	has.value[QUALITY_COMPRESSION] = QUALITY_UNKNOWN;
	assert_false(quality_falls_short(&has, &asked));
	memset(has.value, QUALITY_UNKNOWN, sizeof(has.value));
	assert_true(quality_falls_short(&has, &asked));
	assert_int_equal(quality_shortfall(&has, &asked, QUALITY_SHARPNESS), 50);
	assert_int_equal(quality_shortfall(&has, &asked, QUALITY_POSE_YAW), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_asked),
		cmocka_unit_test(test_shortfall),
		cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
