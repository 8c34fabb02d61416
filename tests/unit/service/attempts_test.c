/* Counting attempts: the limit, the window, what is given back, and more names than there is room
 * for. */
#include "../../../src/service/attempts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "biomatch/clock.h"

#define LIMIT     3
#define WINDOW_MS 60000
#define SECOND    CLOCK_NS_PER_SEC

/* Any time will do; 1 is soon after a machine has started. */
#define BEGIN INT64_C(1)

static int setup(void **state)
{
	return attempts_open((struct attempts **)state);
}

static int teardown(void **state)
{
	attempts_close(*state);
	return 0;
}

/* Names that compete for the same places. */
static const uint8_t *name_of(unsigned n)
{
	static uint8_t name[KEYS_PSEUDONYM_LEN];

	memset(name, 0xa5, sizeof(name));
	memcpy(name + 4, &n, sizeof(n));
	return name;
}

static uint32_t take(struct attempts *attempts, unsigned n, int64_t now_ns)
{
	return attempts_take(attempts, name_of(n), LIMIT, WINDOW_MS, now_ns);
}

static void take_all(struct attempts *attempts, unsigned n, int64_t now_ns)
{
	for (int i = 0; i < LIMIT; i++)
		assert_int_equal(take(attempts, n, now_ns), 0);
}

static void test_limit_and_window(void **state)
{
	struct attempts *attempts = *state;

	take_all(attempts, 1, BEGIN);
	assert_int_equal(take(attempts, 1, BEGIN), WINDOW_MS);
	assert_int_equal(take(attempts, 2, BEGIN), 0);
	assert_int_equal(take(attempts, 1, BEGIN + 59 * SECOND), 1000);
	assert_int_equal(take(attempts, 1, BEGIN + 60 * SECOND - 1), 1);
	take_all(attempts, 1, BEGIN + 60 * SECOND);
	assert_int_equal(take(attempts, 1, BEGIN + 61 * SECOND), 59000);
}

static void test_given_back_and_cleared(void **state)
{
	struct attempts *attempts = *state;

	take_all(attempts, 1, BEGIN);
	attempts_return(attempts, name_of(1));
	attempts_return(attempts, name_of(2)); /* nobody's */
	assert_int_equal(take(attempts, 1, BEGIN), 0);
	assert_true(take(attempts, 1, BEGIN) > 0);
	attempts_clear(attempts, name_of(1));
	attempts_return(attempts, name_of(1));
	take_all(attempts, 1, BEGIN);
	assert_true(take(attempts, 1, BEGIN) > 0);
}

/* No flood of other names brings attempts back, nor do matches among them. */
static void test_never_too_low(void **state)
{
	struct attempts *attempts = *state;

	for (unsigned n = 1; n <= 8; n++)
		take_all(attempts, n, BEGIN);
	for (unsigned n = 9; n < 1000; n++) {
		assert_true(take(attempts, n, BEGIN + SECOND) > 0);
		attempts_return(attempts, name_of(n));
		attempts_clear(attempts, name_of(n));
	}
	for (unsigned n = 1; n <= 8; n++)
		assert_true(take(attempts, n, BEGIN + 2 * SECOND) > 0);
	/* Whoever took a place over waits no longer than a window of its own. */
	take_all(attempts, 2000, BEGIN + 62 * SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limit_and_window, setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_back_and_cleared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_too_low, setup, teardown),
	};

	return cmocka_run_group_tests_name("attempts", tests, NULL, NULL);
}
