/* What a run may do beyond its own item: take others along, and let idle threads join. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "biomatch/batch.h"
#include "biomatch/clock.h"

#define ITEMS 8

struct job {
	struct batch_item item; /* first */
	int id;
	bool cancelled;
};

struct bench {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct batch_pool *pool;
	bool held, open; /* the first run, and its gate */
	int ids[2 * ITEMS], n, drops;
	int inside, left, shares;
};

static void note(struct bench *b, int id)
{
	b->ids[b->n++] = id;
}

static void wait_until(struct bench *b, const int *count, int n)
{
	pthread_mutex_lock(&b->lock);
	while (*count < n)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static bool same_parity(const struct batch_item *leader, const struct batch_item *item)
{
	return ((const struct job *)leader)->id % 2 == ((const struct job *)item)->id % 2;
}

static void hold(struct bench *b)
{
	pthread_mutex_lock(&b->lock);
	b->held = true;
	pthread_cond_broadcast(&b->changed);
	while (!b->open)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

/* Each run notes its item and the two at most that it took along, and a bar behind them. */
static void run_taking(void *ctx, void *state, struct batch_item *item)
{
	struct bench *b = ctx;
	struct batch_item *more[2];
	size_t n;

	(void)state;
	if (!b->held) {
		hold(b);
		return;
	}
	n = batch_pool_take(b->pool, item, same_parity, more, 2);
	note(b, ((struct job *)item)->id);
	for (size_t i = 0; i < n; i++)
		note(b, ((struct job *)more[i])->id);
	note(b, -1);
}

static void drop(void *ctx, struct batch_item *item, int error)
{
	struct bench *b = ctx;

	(void)item;
	assert_int_equal(error, BM_ECANCELLED);
	b->drops++;
}

static bool cancelled(void *ctx, const struct batch_item *item)
{
	(void)ctx;
	return ((const struct job *)item)->cancelled;
}

static void open_pool(struct bench *b, unsigned threads,
		      void (*run)(void *ctx, void *state, struct batch_item *item))
{
	struct batch_pool_options options = {
		.name = "test",
		.threads = threads,
		.capacity = ITEMS,
		.wait_ms = 600000,
		.ctx = b,
		.run = run,
		.drop = drop,
		.cancelled = cancelled,
	};

	memset(b, 0, sizeof(*b));
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	assert_int_equal(batch_pool_open(&options, &b->pool), 0);
}

static void submit(struct bench *b, struct job *job, int id, enum batch_priority priority)
{
	*job = (struct job){.item = {.priority = priority, .deadline_ns = CLOCK_FOREVER}, .id = id};
	assert_int_equal(batch_pool_submit(b->pool, &job->item), 0);
}

/* Only of its own class, only what is alike, in order, no more than asked, nothing given up. */
static void test_takes_what_is_alike(void **state)
{
	static const int expected[] = {6, -1, 0, 4, 8, -1, 1, 3, 7, -1, 10, -1};
	static const int ids[ITEMS] = {0, 1, 2, 3, 4, 8, 7, 10};
	struct job first, lane, jobs[ITEMS];
	struct bench b;

	(void)state;
	open_pool(&b, 1, run_taking);
	submit(&b, &first, 100, BATCH_LANE);
	pthread_mutex_lock(&b.lock);
	while (!b.held)
		pthread_cond_wait(&b.changed, &b.lock);
	pthread_mutex_unlock(&b.lock);
	for (int i = 0; i < ITEMS; i++)
		submit(&b, &jobs[i], ids[i], BATCH_KIOSK);
	jobs[2].cancelled = true;
	submit(&b, &lane, 6, BATCH_LANE);
	pthread_mutex_lock(&b.lock);
	b.open = true;
	pthread_cond_broadcast(&b.changed);
	pthread_mutex_unlock(&b.lock);
	batch_pool_close(b.pool);
	assert_int_equal(b.n, sizeof(expected) / sizeof(expected[0]));
	assert_memory_equal(b.ids, expected, sizeof(expected));
	assert_int_equal(b.drops, 1);
}

/* Nobody leaves before three threads are inside. */
static void part(void *arg)
{
	struct bench *b = arg;

	pthread_mutex_lock(&b->lock);
	b->inside++;
	pthread_cond_broadcast(&b->changed);
	while (b->inside < 3)
		pthread_cond_wait(&b->changed, &b->lock);
	b->left++;
	pthread_mutex_unlock(&b->lock);
}

static void run_sharing(void *ctx, void *state, struct batch_item *item)
{
	struct bench *b = ctx;

	(void)state;
	(void)item;
	batch_pool_share(b->pool, part, b);
	pthread_mutex_lock(&b->lock);
	assert_int_equal(b->inside, b->left);
	b->shares++;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static void test_idle_threads_join(void **state)
{
	struct job job;
	struct bench b;

	(void)state;
	open_pool(&b, 3, run_sharing);
	submit(&b, &job, 1, BATCH_BULK);
	wait_until(&b, &b.shares, 1);
	assert_int_equal(b.inside, 3);
	batch_pool_close(b.pool);
}

static void count_part(void *arg)
{
	struct bench *b = arg;

	pthread_mutex_lock(&b->lock);
	b->inside++;
	pthread_mutex_unlock(&b->lock);
}

static void run_alone(void *ctx, void *state, struct batch_item *item)
{
	struct bench *b = ctx;

	(void)state;
	(void)item;
	batch_pool_share(b->pool, count_part, b);
	b->shares++;
}

/* A pool of one has nobody to join. */
static void test_one_thread_works_alone(void **state)
{
	struct job jobs[2];
	struct bench b;

	(void)state;
	open_pool(&b, 1, run_alone);
	submit(&b, &jobs[0], 1, BATCH_LANE);
	submit(&b, &jobs[1], 2, BATCH_LANE);
	batch_pool_close(b.pool);
	assert_int_equal(b.shares, 2);
	assert_int_equal(b.inside, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_takes_what_is_alike),
		cmocka_unit_test(test_idle_threads_join),
		cmocka_unit_test(test_one_thread_works_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
