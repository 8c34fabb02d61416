#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those above. */
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/clock.h"
#include "biomatch/metrics.h"

#define THREADS 4
#define COUNTS  20000

static const char *const verify_ok[] = {"Verify", "OK", "lane"};

/* The text of all that was counted; the caller frees it. */
static char *written(struct metrics *metrics)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	metrics_write(metrics, out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void assert_line(const char *text, const char *line)
{
	const char *at = strstr(text, line);

	if (!at || (at != text && at[-1] != '\n') || at[strlen(line)] != '\n')
		fail_msg("no line \"%s\" in:\n%s", line, text);
}

static struct metrics *opened(void)
{
	struct metrics *metrics;

	assert_int_equal(metrics_open(&metrics), 0);
	return metrics;
}

static void *count(void *metrics)
{
	for (int i = 0; i < COUNTS; i++)
		metrics_add(metrics, METRICS_RPCS, verify_ok, 1);
	return NULL;
}

/* Counts of threads that have ended stay, and none is lost while another reads. */
static void test_threads_add_up(void **state)
{
	struct metrics *metrics = opened();
	pthread_t threads[THREADS];
	char *text;

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, metrics), 0);
	free(written(metrics));
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	text = written(metrics);
	assert_line(text, "# TYPE biomatch_rpcs_total counter");
	assert_line(text,
		    "biomatch_rpcs_total{method=\"Verify\",status=\"OK\",class=\"lane\"} 80000");
	free(text);
	metrics_close(metrics);
}

static void test_histogram(void **state)
{
	static const char *const scan[] = {"scan"};
	struct metrics *metrics = opened();
	char *text;

	(void)state;
	metrics_observe(metrics, METRICS_STAGE_TIME, scan, 50 * CLOCK_NS_PER_US);
	metrics_observe(metrics, METRICS_STAGE_TIME, scan, 50 * CLOCK_NS_PER_US + 1);
	metrics_observe(metrics, METRICS_STAGE_TIME, scan, 60 * CLOCK_NS_PER_SEC);
	text = written(metrics);
	assert_line(text, "# TYPE biomatch_stage_seconds histogram");
	assert_line(text, "biomatch_stage_seconds_bucket{stage=\"scan\",le=\"5e-05\"} 1");
	assert_line(text, "biomatch_stage_seconds_bucket{stage=\"scan\",le=\"0.0001\"} 2");
	assert_line(text, "biomatch_stage_seconds_bucket{stage=\"scan\",le=\"10\"} 2");
	assert_line(text, "biomatch_stage_seconds_bucket{stage=\"scan\",le=\"+Inf\"} 3");
	assert_line(text, "biomatch_stage_seconds_count{stage=\"scan\"} 3");
	assert_line(text, "biomatch_stage_seconds_sum{stage=\"scan\"} 60.000100001");
	free(text);
	metrics_close(metrics);
}

static void *leave(void *metrics)
{
	metrics_move(metrics, METRICS_ESTATE_CONNECTIONS, (const char *[]){"hall", "lane"}, -3);
	return NULL;
}

/* What one thread adds another takes away. */
static void test_level(void **state)
{
	static const char *const hall[] = {"hall", "lane"};
	struct metrics *metrics = opened();
	pthread_t thread;
	char *text;

	(void)state;
	metrics_move(metrics, METRICS_ESTATE_CONNECTIONS, hall, 5);
	assert_int_equal(pthread_create(&thread, NULL, leave, metrics), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	text = written(metrics);
	assert_line(text, "# TYPE biomatch_estate_connections gauge");
	assert_line(text, "biomatch_estate_connections{site=\"hall\",class=\"lane\"} 2");
	free(text);
	metrics_close(metrics);
}

static void *note(void *metrics)
{
	metrics_note_time(metrics, METRICS_ESTATE_LAST_CALL, (const char *[]){"hall", "lane"});
	return NULL;
}

/* The latest of the threads' times is told. */
static void test_time(void **state)
{
	static const char name[] =
		"biomatch_estate_last_call_seconds{site=\"hall\",class=\"lane\"} ";
	struct metrics *metrics = opened();
	int64_t before;
	pthread_t thread;
	double told;
	char *text, *at;

	(void)state;
	note(metrics);
	before = clock_wall_ms();
	assert_int_equal(pthread_create(&thread, NULL, note, metrics), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	text = written(metrics);
	at = strstr(text, name);
	assert_non_null(at);
	told = strtod(at + strlen(name), NULL) * 1000;
	assert_true(told > (double)before - 0.5 && told < (double)clock_wall_ms() + 0.5);
	free(text);
	metrics_close(metrics);
}

static void test_proportion(void **state)
{
	static const char *const hall[] = {"lane", "hall"};
	struct metrics *metrics = opened();
	char *text;

	(void)state;
	for (int i = 0; i < 100; i++)
		metrics_add_trials(metrics, METRICS_LIVE_FMR, hall, 8, 0, 1e-4);
	text = written(metrics);
	assert_line(text, "# TYPE biomatch_live_fmr_trials_total counter");
	assert_line(text, "biomatch_live_fmr_trials_total{class=\"lane\",site=\"hall\"} 800");
	assert_line(text, "biomatch_live_fmr_hits_total{class=\"lane\",site=\"hall\"} 0");
	assert_line(text, "biomatch_live_fmr_expected_total{class=\"lane\",site=\"hall\"} 0.08");
	assert_line(text, "# TYPE biomatch_live_fmr gauge");
	assert_line(text, "biomatch_live_fmr{class=\"lane\",site=\"hall\",bound=\"lower\"} 0");
	/* 3.8415 / (800 + 3.8415) */
	assert_line(text, "biomatch_live_fmr{class=\"lane\",site=\"hall\",bound=\"upper\"} "
			  "0.00477887628");
	free(text);
	/* Wilson's interval of 8 in 800: 0.005077 to 0.019602. */
	metrics_add_trials(metrics, METRICS_LIVE_FMR, hall, 0, 8, 1e-4);
	text = written(metrics);
	assert_line(text,
		    "biomatch_live_fmr{class=\"lane\",site=\"hall\",bound=\"estimate\"} 0.01");
	assert_non_null(strstr(text, "bound=\"lower\"} 0.00507"));
	assert_non_null(strstr(text, "bound=\"upper\"} 0.0196"));
	free(text);
	metrics_close(metrics);
}

/* What a certificate says becomes a label: it may neither break the text nor go on for ever. */
static void test_labels_are_escaped_and_cut(void **state)
{
	struct metrics *metrics = opened();
	char value[METRICS_LABEL_MAX + 10], cut[METRICS_LABEL_MAX + 80];
	char *text;

	(void)state;
	metrics_add(metrics, METRICS_ERRORS, (const char *[]){"a\"b\\c\nd"}, 1);
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	metrics_add(metrics, METRICS_ERRORS, (const char *[]){value}, 2);
	text = written(metrics);
	assert_line(text, "biomatch_errors_total{reason=\"a\\\"b\\\\c\\nd\"} 1");
	snprintf(cut, sizeof(cut), "biomatch_errors_total{reason=\"%.*s\"} 2", METRICS_LABEL_MAX,
		 value);
	assert_line(text, cut);
	free(text);
	metrics_close(metrics);
}

/* Series beyond a family's bound are counted together, and nothing is lost. */
static void test_series_are_bounded(void **state)
{
	struct metrics *metrics = opened();
	unsigned lines = 0, sum = 0, n;
	char *text, name[32];

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 1000; i++) {
			snprintf(name, sizeof(name), "reason-%d", i);
			metrics_add(metrics, METRICS_ERRORS, (const char *[]){name}, 1);
		}
	}
	text = written(metrics);
	for (char *at = text; (at = strstr(at, "biomatch_errors_total{")); lines++) {
		at = strchr(at, '}') + 1;
		assert_int_equal(sscanf(at, "%u", &n), 1);
		sum += n;
	}
	assert_int_equal(sum, 2000);
	assert_true(lines > 100 && lines < 200);
	assert_non_null(strstr(text, "biomatch_errors_total{reason=\"other\"} "));
	free(text);
	metrics_close(metrics);
}

static void test_samples(void **state)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(out);
	metrics_write_head(out, "a", "gauge", "What a is.");
	metrics_write_sample(out, "a", NULL, 1.5);
	metrics_write_sample(out, "a", (const char *[]){"x", "1\"", "y", "2", NULL}, 12345678901.0);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(text, "# HELP a What a is.\n# TYPE a gauge\na 1.5\n"
				  "a{x=\"1\\\"\",y=\"2\"} 12345678901\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_add_up),
		cmocka_unit_test(test_histogram),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_proportion),
		cmocka_unit_test(test_labels_are_escaped_and_cut),
		cmocka_unit_test(test_series_are_bounded),
		cmocka_unit_test(test_samples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
