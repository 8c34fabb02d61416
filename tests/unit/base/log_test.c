/* Log lines: one JSON object each, whatever a value holds, and only above the level. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/log.h"

/* Standard error goes into a pipe from here to captured(). */
struct capture {
	int kept, pipe;
	char text[65536];
};

static void capture_begin(struct capture *c)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	c->kept = dup(STDERR_FILENO);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	close(fds[1]);
	c->pipe = fds[0];
}

static const char *capture_end(struct capture *c)
{
	size_t len = 0;
	ssize_t n;

	assert_true(dup2(c->kept, STDERR_FILENO) >= 0);
	close(c->kept);
	while ((n = read(c->pipe, c->text + len, sizeof(c->text) - 1 - len)) > 0)
		len += (size_t)n;
	close(c->pipe);
	c->text[len] = '\0';
	return c->text;
}

/* What follows the time, which differs each run. */
static const char *after_time(const char *line)
{
	int year, month, day, hour, minute, second, ms, end = 0;

	assert_int_equal(sscanf(line, "{\"time\":\"%4d-%2d-%2dT%2d:%2d:%2d.%3dZ\",%n", &year,
				&month, &day, &hour, &minute, &second, &ms, &end),
			 7);
	assert_true(end > 0);
	assert_true(year >= 2024 && month >= 1 && month <= 12 && day <= 31 && hour < 24);
	return line + end;
}

static void test_fields(void **state)
{
	struct capture c;

	(void)state;
	capture_begin(&c);
	log_notice("call_denied", "code=%d peer=%s share=%.2f", -3, "biomatch://a/b", 0.5);
	assert_string_equal(after_time(capture_end(&c)),
			    "\"level\":\"notice\",\"event\":\"call_denied\",\"code\":\"-3\","
			    "\"peer\":\"biomatch://a/b\",\"share\":\"0.50\"}\n");
}

static void test_no_fields(void **state)
{
	struct capture c;

	(void)state;
	capture_begin(&c);
	log_error("ended", NULL);
	assert_string_equal(after_time(capture_end(&c)),
			    "\"level\":\"error\",\"event\":\"ended\"}\n");
}

/* Nothing that a client sends can end a string, a line or a field. */
static void test_hostile_values(void **state)
{
	struct capture c;

	(void)state;
	capture_begin(&c);
	log_info("seen", "a=%s b=%s", "x\"} {\"level\":\"error\"\n\t\\\x01\x7f\xc3\xa4 y=z", "end");
	assert_string_equal(after_time(capture_end(&c)),
			    "\"level\":\"info\",\"event\":\"seen\",\"a\":\"x\\\"} "
			    "{\\\"level\\\":\\\"error\\\"\\u000a\\u0009\\\\\\u0001\\u007f"
			    "\\u00c3\\u00a4 y=z\",\"b\":\"end\"}\n");
}

/* The bytes that part fields inside the formatter are bytes like others in a value. */
static void test_value_cannot_forge_a_field(void **state)
{
	struct capture c;

	(void)state;
	capture_begin(&c);
	log_info("seen", "a=%s b=%s",
		 "1\x1f"
		 "b=2\x1e"
		 "b=3",
		 "\x1f=");
	assert_string_equal(after_time(capture_end(&c)),
			    "\"level\":\"info\",\"event\":\"seen\","
			    "\"a\":\"1\\u001fb=2\\u001eb=3\",\"b\":\"\\u001f=\"}\n");
}

static void test_long_value_is_cut(void **state)
{
	char value[8000];
	struct capture c;
	const char *line;

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	capture_begin(&c);
	log_info("long", "a=%s", value);
	line = capture_end(&c);
	assert_true(strlen(line) < 4096);
	assert_string_equal(line + strlen(line) - 4, "v\"}\n");
}

static void test_level(void **state)
{
	struct capture c;
	enum log_level level;

	(void)state;
	capture_begin(&c);
	log_set_level(LOG_LEVEL_WARNING);
	log_notice("hidden", NULL);
	log_warning("shown", NULL);
	log_set_level(LOG_LEVEL_INFO);
	log_debug("hidden", NULL);
	assert_string_equal(after_time(capture_end(&c)),
			    "\"level\":\"warning\",\"event\":\"shown\"}\n");
	assert_int_equal(log_get_level(), LOG_LEVEL_INFO);
	assert_int_equal(log_level_parse("debug", &level), 0);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("Debug", &level), BM_EINVAL);
	assert_int_equal(log_level_parse("", &level), BM_EINVAL);
}

static void *log_much(void *arg)
{
	for (int i = 0; i < 50; i++)
		log_info("line", "thread=%s filler=%s", (const char *)arg,
			 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz");
	return NULL;
}

static void test_threads_do_not_mix_lines(void **state)
{
	static const char *const names[] = {"one", "two", "three"};
	pthread_t threads[3];
	struct capture c;
	int lines = 0;

	(void)state;
	capture_begin(&c);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, log_much, (void *)(uintptr_t)names[i]),
			0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	capture_end(&c);
	for (char *line = strtok(c.text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
		assert_memory_equal(line, "{\"time\":", 8);
		assert_string_equal(line + strlen(line) - 5, "xyz\"}");
	}
	assert_int_equal(lines, 150);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_no_fields),
		cmocka_unit_test(test_hostile_values),
		cmocka_unit_test(test_value_cannot_forge_a_field),
		cmocka_unit_test(test_long_value_is_cut),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_threads_do_not_mix_lines),
	};

	unsetenv("JOURNAL_STREAM");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
