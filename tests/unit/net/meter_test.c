/* The price of frames: what costs, what gives, and that no cut of the bytes hides one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "../../../src/net/meter.h"
#include "biomatch/clock.h"

enum { DATA = 0, HEADERS = 1, PING = 6, WINDOW_UPDATE = 8, UNKNOWN = 0xbb };

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static struct net_meter begin(void)
{
	struct net_meter meter;

	net_meter_init(&meter, 5, 0);
	assert_true(net_meter_count(
		&meter, (struct bytes){(const uint8_t *)PREFACE, sizeof(PREFACE) - 1}, 0));
	assert_int_equal(meter.budget, METER_BURST);
	return meter;
}

static size_t put_frame(uint8_t *out, uint8_t type, uint32_t payload)
{
	memset(out, 0xff, 9 + payload);
	bytes_put_be32(out, payload << 8);
	out[3] = type;
	return 9 + payload;
}

/* What a frame costs. */
static int64_t cost(uint8_t type, uint32_t payload)
{
	static uint8_t frame[9 + 16384];
	struct net_meter meter = begin();

	assert_true(
		net_meter_count(&meter, (struct bytes){frame, put_frame(frame, type, payload)}, 0));
	return METER_BURST - meter.budget;
}

static void test_costs(void **state)
{
	(void)state;
	assert_int_equal(cost(PING, 8), 1);
	assert_int_equal(cost(UNKNOWN, 100), 1);
	assert_int_equal(cost(UNKNOWN, 0), 1);
	assert_int_equal(cost(DATA, 0), 1);
	assert_int_equal(cost(DATA, 1), 0);
	assert_int_equal(cost(DATA, 16384), 0);
	assert_int_equal(cost(HEADERS, 200), 1);
	assert_int_equal(cost(HEADERS, 16384), 17);
}

static void test_frames_are_found_in_any_pieces(void **state)
{
	uint8_t bytes[1000];
	size_t len = 0;

	(void)state;
	len += put_frame(bytes + len, PING, 8);
	len += put_frame(bytes + len, DATA, 300);
	len += put_frame(bytes + len, UNKNOWN, 0);
	len += put_frame(bytes + len, HEADERS, 20);
	for (size_t piece = 1; piece <= len; piece++) {
		struct net_meter meter = begin();

		for (size_t at = 0; at < len; at += piece) {
			size_t n = len - at < piece ? len - at : piece;

			assert_true(net_meter_count(&meter, (struct bytes){bytes + at, n}, 0));
		}
		assert_int_equal(meter.budget, METER_BURST - 3);
	}
}

static void test_a_flood_ends_and_time_pays(void **state)
{
	struct net_meter meter = begin();
	uint8_t frame[17];
	struct bytes ping = {frame, put_frame(frame, PING, 8)};

	(void)state;
	for (int i = 0; i < METER_BURST; i++)
		assert_true(net_meter_count(&meter, ping, 0));
	assert_false(net_meter_count(&meter, ping, 0));

	meter = begin();
	for (int i = 0; i < METER_BURST; i++)
		assert_true(net_meter_count(&meter, ping, 0));
	for (int i = 0; i < METER_PER_SECOND; i++)
		assert_true(net_meter_count(&meter, ping, CLOCK_NS_PER_SEC));
	assert_false(net_meter_count(&meter, ping, CLOCK_NS_PER_SEC));
}

static void test_savings_are_limited(void **state)
{
	struct net_meter meter = begin();

	(void)state;
	net_meter_give_call(&meter);
	assert_int_equal(meter.budget, METER_BURST);
	assert_true(net_meter_count(&meter, (struct bytes){NULL, 0}, 3600 * CLOCK_NS_PER_SEC));
	assert_int_equal(meter.budget, METER_BURST);
}

/* Who is late to read what was sent may answer all of it, however long that was ago. */
static void test_what_was_sent_may_be_answered(void **state)
{
	struct net_meter meter = begin();
	uint8_t frame[17];
	struct bytes update = {frame, put_frame(frame, WINDOW_UPDATE, 4)};
	uint8_t other[9];
	struct bytes unknown = {other, put_frame(other, UNKNOWN, 0)};

	(void)state;
	for (int i = 0; i < 2 * METER_BURST; i++)
		net_meter_give_sent(&meter);
	assert_true(net_meter_count(&meter, unknown, 0));
	assert_int_equal(meter.budget, METER_BURST - 1);
	for (int i = 0; i < 2 * METER_BURST * METER_PER_SENT; i++)
		assert_true(net_meter_count(&meter, update, 0));
	assert_int_equal(meter.budget, METER_BURST - 1);
	for (int i = 0; i < METER_BURST - 1; i++)
		assert_true(net_meter_count(&meter, update, 0));
	assert_false(net_meter_count(&meter, update, 0));
}

static void test_time_is_shared(void **state)
{
	struct net_meter meter;
	int64_t now = 0, used = 0, wait = 0;

	(void)state;
	net_meter_init(&meter, 5, 0);
	/* A burst goes through at once. */
	while (!wait) {
		wait = net_meter_spend(&meter, METER_TURN_NS, now);
		now += METER_TURN_NS;
		used += METER_TURN_NS;
	}
	assert_in_range(used, METER_TIME_FIRST, METER_TIME_FIRST * 100 / 70);
	/* Then who always wants more has a twentieth, whatever a turn takes. */
	for (used = 0; now < 100 * CLOCK_NS_PER_SEC;) {
		int64_t turn = METER_TURN_NS * (1 + now % 7);

		now += wait + turn;
		used += turn;
		wait = net_meter_spend(&meter, turn, now);
	}
	assert_in_range(used, now / 21, now / 19);
	/* Who was quiet has a burst again, and no more. */
	now += 3600 * CLOCK_NS_PER_SEC;
	assert_int_equal(net_meter_spend(&meter, METER_TIME_MAX - 1, now), 0);
	assert_true(net_meter_spend(&meter, 1, now) > 0);
}

static void test_all_of_the_time(void **state)
{
	struct net_meter meter;

	(void)state;
	net_meter_init(&meter, 100, 0);
	for (int64_t now = 0; now < CLOCK_NS_PER_SEC; now += METER_TURN_NS)
		assert_int_equal(net_meter_spend(&meter, METER_TURN_NS, now + METER_TURN_NS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_costs),
		cmocka_unit_test(test_frames_are_found_in_any_pieces),
		cmocka_unit_test(test_a_flood_ends_and_time_pays),
		cmocka_unit_test(test_savings_are_limited),
		cmocka_unit_test(test_what_was_sent_may_be_answered),
		cmocka_unit_test(test_time_is_shared),
		cmocka_unit_test(test_all_of_the_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
