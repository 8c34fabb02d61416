/* The pool: order, limits, what is dropped and why, and how it begins and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/batch.h"
#include "biomatch/clock.h"
#include "biomatch/log.h"

#define MAX_EVENTS 4096

/* One item's fate. */
struct job {
	struct batch_item item; /* first */
	int id;
	bool blocks; /* holds its thread until bench.open_gate */
	int64_t takes_ns;
	atomic_bool cancelled;
	int error; /* 1 not yet, 0 run, BM_E* dropped */
};

/* A pool under test and what it did. */
struct bench {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int order[MAX_EVENTS]; /* ids as they ran */
	int runs, drops, starts, stops, readies;
	bool gate_open;
	int blocked;      /* threads held at the gate */
	int fail_start;   /* index whose start fails, -1 for none */
	bool not_ready;   /* ready fails */
	char name[16];    /* of the thread that ran last */
	bool state_wrong; /* a state came to a thread it was not made for */
	struct batch_pool *pool;
};

static void bench_init(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	b->fail_start = -1;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
}

static int on_start(void *ctx, unsigned index, void **state)
{
	struct bench *b = ctx;
	pthread_t *self = malloc(sizeof(*self));
	bool fails;

	pthread_mutex_lock(&b->lock);
	b->starts++;
	fails = b->fail_start == (int)index;
	pthread_mutex_unlock(&b->lock);
	if (!self)
		return BM_ENOMEM;
	if (fails) {
		free(self);
		return BM_EPACK;
	}
	*self = pthread_self();
	*state = self;
	return 0;
}

static void on_stop(void *ctx, void *state)
{
	struct bench *b = ctx;

	pthread_mutex_lock(&b->lock);
	b->stops++;
	pthread_mutex_unlock(&b->lock);
	free(state);
}

static int on_ready(void *ctx, void *state)
{
	struct bench *b = ctx;
	int error;

	(void)state;
	pthread_mutex_lock(&b->lock);
	b->readies++;
	error = b->not_ready ? BM_EWORKER : 0;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	return error;
}

static void on_run(void *ctx, void *state, struct batch_item *item)
{
	struct bench *b = ctx;
	struct job *job = (struct job *)item;
	int64_t until = clock_monotonic_ns() + job->takes_ns;

	while (clock_monotonic_ns() < until)
		;
	pthread_mutex_lock(&b->lock);
	if (job->blocks) {
		b->blocked++;
		pthread_cond_broadcast(&b->changed);
		while (!b->gate_open)
			pthread_cond_wait(&b->changed, &b->lock);
	}
	if (b->starts && !pthread_equal(*(pthread_t *)state, pthread_self()))
		b->state_wrong = true;
	pthread_getname_np(pthread_self(), b->name, sizeof(b->name));
	if (b->runs < MAX_EVENTS)
		b->order[b->runs] = job->id;
	b->runs++;
	job->error = 0;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static void on_drop(void *ctx, struct batch_item *item, int error)
{
	struct bench *b = ctx;

	pthread_mutex_lock(&b->lock);
	((struct job *)item)->error = error;
	b->drops++;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static bool on_cancelled(void *ctx, const struct batch_item *item)
{
	(void)ctx;
	return atomic_load(&((const struct job *)item)->cancelled);
}

static struct batch_pool_options options_of(struct bench *b, unsigned threads, size_t capacity)
{
	return (struct batch_pool_options){
		.name = "test",
		.threads = threads,
		.capacity = capacity,
		.item_ms = 60000,
		.wait_ms = 600000,
		.ctx = b,
		.run = on_run,
		.drop = on_drop,
		.cancelled = on_cancelled,
	};
}

static struct job job_of(int id, enum batch_priority priority)
{
	return (struct job){
		.item = {.priority = priority, .deadline_ns = CLOCK_FOREVER},
		.id = id,
		.error = 1,
	};
}

/* Waits until so many items ran or were dropped. */
static void wait_for_ends(struct bench *b, int ends)
{
	pthread_mutex_lock(&b->lock);
	while (b->runs + b->drops < ends)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static void wait_until_blocked(struct bench *b, int threads)
{
	pthread_mutex_lock(&b->lock);
	while (b->blocked < threads)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static void wait_for_readies(struct bench *b, int calls)
{
	pthread_mutex_lock(&b->lock);
	while (b->readies < calls)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static void open_gate(struct bench *b)
{
	pthread_mutex_lock(&b->lock);
	b->gate_open = true;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

/* One thread, held by a first item until open_gate. */
static void open_held(struct bench *b, struct job *plug, size_t capacity)
{
	struct batch_pool_options options = options_of(b, 1, capacity);

	assert_int_equal(batch_pool_open(&options, &b->pool), 0);
	*plug = job_of(-1, BATCH_LANE);
	plug->blocks = true;
	assert_int_equal(batch_pool_submit(b->pool, &plug->item), 0);
	wait_until_blocked(b, 1);
}

static void test_runs_by_priority_then_age(void **state)
{
	static const enum batch_priority classes[] = {BATCH_BULK, BATCH_KIOSK, BATCH_LANE,
						      BATCH_BULK, BATCH_LANE,  BATCH_KIOSK};
	static const int expected[] = {-1, 2, 4, 1, 5, 0, 3};
	struct job plug, jobs[6];
	struct batch_stat stat;
	struct bench b;

	(void)state;
	bench_init(&b);
	open_held(&b, &plug, 8);
	for (int i = 0; i < 6; i++) {
		jobs[i] = job_of(i, classes[i]);
		assert_int_equal(batch_pool_submit(b.pool, &jobs[i].item), 0);
	}
	batch_pool_stat(b.pool, &stat);
	assert_int_equal(stat.waiting, 6);
	assert_int_equal(stat.busy, 1);
	assert_int_equal(stat.threads, 1);
	assert_int_equal(stat.unready, 0);
	open_gate(&b);
	batch_pool_close(b.pool);
	assert_int_equal(b.runs, 7);
	assert_int_equal(b.drops, 0);
	assert_memory_equal(b.order, expected, sizeof(expected));
}

/* Who asks for much at once waits for themselves. */
static void test_owners_take_turns(void **state)
{
	static const uint64_t owners[] = {1, 1, 1, 2, 0, 2, 3};
	static const int expected[] = {-1, 0, 3, 4, 6, 1, 5, 2};
	struct job plug, jobs[7];
	struct bench b;

	(void)state;
	bench_init(&b);
	open_held(&b, &plug, 16);
	for (int i = 0; i < 7; i++) {
		jobs[i] = job_of(i, BATCH_KIOSK);
		jobs[i].item.owner = owners[i];
		assert_int_equal(batch_pool_submit(b.pool, &jobs[i].item), 0);
	}
	open_gate(&b);
	batch_pool_close(b.pool);
	assert_memory_equal(b.order, expected, sizeof(expected));
}

static void test_no_owner_takes_all_places(void **state)
{
	struct job plug, greedy[11], bulk[11], other = job_of(99, BATCH_LANE);
	struct bench b;

	(void)state;
	bench_init(&b);
	open_held(&b, &plug, 40);
	for (int i = 0; i < 11; i++) {
		greedy[i] = job_of(i, BATCH_LANE);
		greedy[i].item.owner = 1;
		assert_int_equal(batch_pool_submit(b.pool, &greedy[i].item), i < 10 ? 0 : BM_EBUSY);
	}
	other.item.owner = 2;
	assert_int_equal(batch_pool_submit(b.pool, &other.item), 0);
	/* Bulk work comes from few. */
	for (int i = 0; i < 11; i++) {
		bulk[i] = job_of(i, BATCH_BULK);
		bulk[i].item.owner = 1;
		assert_int_equal(batch_pool_submit(b.pool, &bulk[i].item), 0);
	}
	open_gate(&b);
	batch_pool_close(b.pool);
	assert_int_equal(b.runs, 23);
}

/* Of few places an owner may have all. */
static void test_few_places_are_not_divided(void **state)
{
	struct job plug, jobs[BATCH_OWNER_LEAST + 1];
	struct bench b;

	(void)state;
	bench_init(&b);
	open_held(&b, &plug, BATCH_OWNER_LEAST);
	for (int i = 0; i <= BATCH_OWNER_LEAST; i++) {
		jobs[i] = job_of(i, BATCH_LANE);
		jobs[i].item.owner = 1;
		assert_int_equal(batch_pool_submit(b.pool, &jobs[i].item),
				 i < BATCH_OWNER_LEAST ? 0 : BM_EBUSY);
	}
	open_gate(&b);
	batch_pool_close(b.pool);
}

static void test_full_class_refuses_that_class_alone(void **state)
{
	struct job plug, bulk[3], lane = job_of(9, BATCH_LANE);
	struct bench b;

	(void)state;
	bench_init(&b);
	open_held(&b, &plug, 2);
	for (int i = 0; i < 3; i++)
		bulk[i] = job_of(i, BATCH_BULK);
	assert_int_equal(batch_pool_submit(b.pool, &bulk[0].item), 0);
	assert_int_equal(batch_pool_submit(b.pool, &bulk[1].item), 0);
	assert_int_equal(batch_pool_submit(b.pool, &bulk[2].item), BM_EBUSY);
	assert_int_equal(batch_pool_submit(b.pool, &lane.item), 0);
	open_gate(&b);
	batch_pool_close(b.pool);
	assert_int_equal(b.runs, 4);
	assert_int_equal(b.order[1], 9);
	assert_int_equal(bulk[2].error, 1);
}

/* Items that take 4 ms at least, nobody to wait longer than 100 ms: 25 of them at most. */
static void test_turns_away_who_would_wait_too_long(void **state)
{
	enum { PAST = 40, ASKING = 64 };
	struct batch_pool_options options;
	struct job past[PAST], plug = job_of(-1, BATCH_LANE), lanes[ASKING], bulk[ASKING];
	int error = 0, n = 0;
	struct bench b;

	(void)state;
	bench_init(&b);
	options = options_of(&b, 1, ASKING);
	options.wait_ms = 100;
	assert_int_equal(batch_pool_open(&options, &b.pool), 0);
	for (int i = 0; i < PAST; i++) {
		past[i] = job_of(0, BATCH_LANE);
		past[i].takes_ns = 4 * CLOCK_NS_PER_MS;
		assert_int_equal(batch_pool_submit(b.pool, &past[i].item), 0);
		wait_for_ends(&b, i + 1);
	}
	plug.blocks = true;
	assert_int_equal(batch_pool_submit(b.pool, &plug.item), 0);
	wait_until_blocked(&b, 1);
	for (int i = 0; i < ASKING; i++) {
		bulk[i] = job_of(1, BATCH_BULK);
		assert_int_equal(batch_pool_submit(b.pool, &bulk[i].item), 0);
	}
	/* The bulk work is behind them. */
	for (; n < ASKING && !error; n += !error) {
		lanes[n] = job_of(2, BATCH_LANE);
		error = batch_pool_submit(b.pool, &lanes[n].item);
	}
	assert_int_equal(error, BM_EBUSY);
	assert_in_range(n, 1, 26);
	open_gate(&b);
	batch_pool_close(b.pool);
	assert_int_equal(b.runs, PAST + 1 + ASKING + n);
}

static void test_turns_away_who_was_overtaken_too_long(void **state)
{
	struct job plug = job_of(-1, BATCH_LANE), kiosk = job_of(1, BATCH_KIOSK),
		   bulk = job_of(2, BATCH_BULK), lane = job_of(3, BATCH_LANE);
	struct batch_pool_options options;
	int64_t until;
	struct bench b;

	(void)state;
	bench_init(&b);
	options = options_of(&b, 1, 8);
	options.wait_ms = 1;
	assert_int_equal(batch_pool_open(&options, &b.pool), 0);
	plug.blocks = true;
	assert_int_equal(batch_pool_submit(b.pool, &plug.item), 0);
	wait_until_blocked(&b, 1);
	assert_int_equal(batch_pool_submit(b.pool, &bulk.item), 0);
	assert_int_equal(batch_pool_submit(b.pool, &kiosk.item), 0);
	assert_int_equal(batch_pool_submit(b.pool, &lane.item), 0);
	for (until = clock_monotonic_ns() + 2 * CLOCK_NS_PER_MS; clock_monotonic_ns() < until;)
		;
	open_gate(&b);
	batch_pool_close(b.pool);
	assert_int_equal(kiosk.error, BM_EBUSY);
	assert_int_equal(lane.error, 0);
	assert_int_equal(bulk.error, 0);
}

static void test_late_and_cancelled_never_run(void **state)
{
	struct job plug, late = job_of(1, BATCH_LANE), gone = job_of(2, BATCH_LANE),
			 good = job_of(3, BATCH_LANE);
	struct bench b;

	(void)state;
	bench_init(&b);
	open_held(&b, &plug, 8);
	late.item.deadline_ns = clock_monotonic_ns() + CLOCK_NS_PER_SEC / 1000;
	assert_int_equal(batch_pool_submit(b.pool, &late.item), 0);
	assert_int_equal(batch_pool_submit(b.pool, &gone.item), 0);
	assert_int_equal(batch_pool_submit(b.pool, &good.item), 0);
	atomic_store(&gone.cancelled, true);
	while (clock_monotonic_ns() < late.item.deadline_ns)
		;
	open_gate(&b);
	batch_pool_close(b.pool);
	assert_int_equal(late.error, BM_EDEADLINE);
	assert_int_equal(gone.error, BM_ECANCELLED);
	assert_int_equal(good.error, 0);
	assert_int_equal(b.runs, 2);
	assert_int_equal(b.drops, 2);
}

static void test_each_thread_has_its_own_state_and_name(void **state)
{
	struct job plugs[3];
	struct batch_pool_options options;
	struct bench b;

	(void)state;
	bench_init(&b);
	options = options_of(&b, 3, 8);
	options.name = "a-long-name-for-a-thread";
	options.start = on_start;
	options.stop = on_stop;
	assert_int_equal(batch_pool_open(&options, &b.pool), 0);
	assert_int_equal(b.starts, 3);
	for (int i = 0; i < 3; i++) {
		plugs[i] = job_of(i, BATCH_KIOSK);
		plugs[i].blocks = true;
		assert_int_equal(batch_pool_submit(b.pool, &plugs[i].item), 0);
	}
	wait_until_blocked(&b, 3);
	open_gate(&b);
	batch_pool_close(b.pool);
	assert_int_equal(b.stops, 3);
	assert_false(b.state_wrong);
	assert_memory_equal(b.name, "a-long-name-", 12);
	assert_int_equal(b.name[12], '-');
	assert_in_range(b.name[13], '0', '2');
}

static void test_failed_start_fails_open(void **state)
{
	struct batch_pool_options options;
	struct bench b;

	(void)state;
	bench_init(&b);
	b.fail_start = 1;
	options = options_of(&b, 3, 8);
	options.start = on_start;
	options.stop = on_stop;
	assert_int_equal(batch_pool_open(&options, &b.pool), BM_EPACK);
	assert_int_equal(b.starts, 3);
	assert_int_equal(b.stops, 2);
}

static void open_unready(struct bench *b, unsigned threads)
{
	struct batch_pool_options options = options_of(b, threads, 8);

	bench_init(b);
	b->not_ready = true;
	options.ready = on_ready;
	assert_int_equal(batch_pool_open(&options, &b->pool), 0);
	wait_for_readies(b, (int)threads);
}

static void test_waits_until_ready(void **state)
{
	struct job job = job_of(1, BATCH_LANE);
	struct batch_stat stat;
	struct bench b;

	(void)state;
	open_unready(&b, 2);
	assert_int_equal(batch_pool_submit(b.pool, &job.item), 0);
	wait_for_readies(&b, 4);
	batch_pool_stat(b.pool, &stat);
	assert_int_equal(stat.unready, 2);
	assert_int_equal(stat.waiting, 1);
	assert_int_equal(stat.busy, 0);
	pthread_mutex_lock(&b.lock);
	b.not_ready = false;
	pthread_mutex_unlock(&b.lock);
	wait_for_ends(&b, 1);
	assert_int_equal(job.error, 0);
	batch_pool_close(b.pool);
}

static void test_unready_pool_still_ends_late_items(void **state)
{
	struct job late = job_of(1, BATCH_LANE), gone = job_of(2, BATCH_BULK),
		   stays = job_of(3, BATCH_BULK);
	struct bench b;

	(void)state;
	open_unready(&b, 1);
	late.item.deadline_ns = clock_monotonic_ns() + CLOCK_NS_PER_MS;
	assert_int_equal(batch_pool_submit(b.pool, &late.item), 0);
	assert_int_equal(batch_pool_submit(b.pool, &gone.item), 0);
	atomic_store(&gone.cancelled, true);
	assert_int_equal(batch_pool_submit(b.pool, &stays.item), 0);
	wait_for_ends(&b, 2);
	assert_int_equal(late.error, BM_EDEADLINE);
	assert_int_equal(gone.error, BM_ECANCELLED);
	batch_pool_close(b.pool);
	assert_int_equal(stays.error, BM_EDRAIN);
	assert_int_equal(b.runs, 0);
}

/* A thread that is not ready must not keep the wake-up it took from one that is. */
static int ready_but_for_first(void *ctx, void *state)
{
	int error = on_ready(ctx, state);

	return *(bool *)state ? error : 0;
}

static int tell_first(void *ctx, unsigned index, void **state)
{
	bool *first = malloc(sizeof(*first));

	(void)ctx;
	if (!first)
		return BM_ENOMEM;
	*first = index == 0;
	*state = first;
	return 0;
}

static void test_ready_thread_serves_for_the_other(void **state)
{
	struct batch_pool_options options;
	struct job jobs[16];
	struct bench b;

	(void)state;
	bench_init(&b);
	options = options_of(&b, 2, 16);
	options.start = tell_first;
	options.stop = on_stop;
	options.ready = ready_but_for_first;
	assert_int_equal(batch_pool_open(&options, &b.pool), 0);
	pthread_mutex_lock(&b.lock);
	b.not_ready = true;
	pthread_mutex_unlock(&b.lock);
	for (int i = 0; i < 16; i++) {
		jobs[i] = job_of(i, BATCH_LANE);
		assert_int_equal(batch_pool_submit(b.pool, &jobs[i].item), 0);
		wait_for_ends(&b, i + 1);
	}
	assert_int_equal(b.runs, 16);
	batch_pool_close(b.pool);
}

struct submitter {
	struct bench *bench;
	struct job jobs[500];
	int refused;
};

static void *submit_many(void *arg)
{
	struct submitter *s = arg;

	for (int i = 0; i < 500; i++) {
		s->jobs[i] = job_of(i, (enum batch_priority)(i % BATCH_PRIORITIES));
		if (i % 7 == 0)
			s->jobs[i].item.deadline_ns = 1;
		if (batch_pool_submit(s->bench->pool, &s->jobs[i].item)) {
			s->jobs[i].error = BM_EBUSY;
			s->refused++;
		}
	}
	return NULL;
}

static void test_every_item_ends_once_under_load(void **state)
{
	static struct submitter submitters[4];
	pthread_t threads[4];
	struct batch_pool_options options;
	struct bench b;
	int refused = 0;

	(void)state;
	bench_init(&b);
	options = options_of(&b, 4, 64);
	assert_int_equal(batch_pool_open(&options, &b.pool), 0);
	for (int i = 0; i < 4; i++) {
		submitters[i].bench = &b;
		assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &submitters[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		refused += submitters[i].refused;
	}
	batch_pool_close(b.pool);
	assert_int_equal(b.runs + b.drops + refused, 4 * 500);
	for (int i = 0; i < 4 * 500; i++) {
		const struct job *job = &submitters[i / 500].jobs[i % 500];

		if (job->error == BM_EBUSY)
			continue;
		assert_int_equal(job->error, i % 500 % 7 == 0 ? BM_EDEADLINE : 0);
	}
}

/* A running item may submit another to its own pool, until the pool closes. */
static void resubmit(void *ctx, void *state, struct batch_item *item)
{
	struct bench *b = ctx;
	struct job *job = (struct job *)item;

	if (job->id > 0) {
		job->id--;
		if (!batch_pool_submit(b->pool, item))
			return;
	}
	on_run(ctx, state, item);
}

static void test_items_may_come_back(void **state)
{
	struct job job = job_of(100, BATCH_KIOSK);
	struct batch_pool_options options;
	struct bench b;

	(void)state;
	bench_init(&b);
	options = options_of(&b, 2, 1);
	options.run = resubmit;
	assert_int_equal(batch_pool_open(&options, &b.pool), 0);
	assert_int_equal(batch_pool_submit(b.pool, &job.item), 0);
	wait_for_ends(&b, 1);
	batch_pool_close(b.pool);
	assert_int_equal(b.order[0], 0);
}

static void *close_pool(void *arg)
{
	batch_pool_close(arg);
	return NULL;
}

static void test_closing_refuses_what_comes_later(void **state)
{
	struct job plug = job_of(1, BATCH_LANE), probe = job_of(2, BATCH_BULK);
	struct batch_pool_options options;
	pthread_t closer;
	struct bench b;
	int error;

	(void)state;
	bench_init(&b);
	options = options_of(&b, 1, 1);
	assert_int_equal(batch_pool_open(&options, &b.pool), 0);
	plug.blocks = true;
	assert_int_equal(batch_pool_submit(b.pool, &plug.item), 0);
	wait_until_blocked(&b, 1);
	assert_int_equal(batch_pool_submit(b.pool, &probe.item), 0);
	assert_int_equal(pthread_create(&closer, NULL, close_pool, b.pool), 0);
	/* Full until the close is seen, then draining. */
	do {
		struct job extra = job_of(3, BATCH_BULK);

		error = batch_pool_submit(b.pool, &extra.item);
	} while (error == BM_EBUSY);
	assert_int_equal(error, BM_EDRAIN);
	open_gate(&b);
	pthread_join(closer, NULL);
	assert_int_equal(probe.error, 0);
}

static uint32_t late_ms(struct bench *b)
{
	struct batch_stat stat;

	batch_pool_stat(b->pool, &stat);
	return stat.late_ms;
}

static void test_tells_a_thread_that_is_past_its_deadline(void **state)
{
	struct job job = job_of(1, BATCH_LANE);
	struct batch_pool_options options;
	struct bench b;

	(void)state;
	bench_init(&b);
	options = options_of(&b, 2, 8);
	assert_int_equal(batch_pool_open(&options, &b.pool), 0);
	job.blocks = true;
	job.item.deadline_ns = clock_monotonic_ns() + CLOCK_NS_PER_SEC / 2;
	assert_int_equal(batch_pool_submit(b.pool, &job.item), 0);
	wait_until_blocked(&b, 1);
	while (clock_monotonic_ns() < job.item.deadline_ns + 2 * CLOCK_NS_PER_MS)
		sched_yield();
	assert_true(late_ms(&b) > 0);
	open_gate(&b);
	wait_for_ends(&b, 1);
	while (late_ms(&b))
		sched_yield();
	batch_pool_close(b.pool);
}

static void test_tells_a_thread_that_is_too_long_at_an_item(void **state)
{
	struct job job = job_of(1, BATCH_LANE);
	struct batch_pool_options options;
	struct bench b;

	(void)state;
	bench_init(&b);
	options = options_of(&b, 1, 8);
	options.item_ms = 1;
	assert_int_equal(batch_pool_open(&options, &b.pool), 0);
	assert_int_equal(late_ms(&b), 0);
	job.blocks = true;
	assert_int_equal(batch_pool_submit(b.pool, &job.item), 0);
	while (!late_ms(&b))
		sched_yield();
	open_gate(&b);
	batch_pool_close(b.pool);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tells_a_thread_that_is_past_its_deadline),
		cmocka_unit_test(test_tells_a_thread_that_is_too_long_at_an_item),
		cmocka_unit_test(test_runs_by_priority_then_age),
		cmocka_unit_test(test_owners_take_turns),
		cmocka_unit_test(test_no_owner_takes_all_places),
		cmocka_unit_test(test_few_places_are_not_divided),
		cmocka_unit_test(test_full_class_refuses_that_class_alone),
		cmocka_unit_test(test_turns_away_who_would_wait_too_long),
		cmocka_unit_test(test_turns_away_who_was_overtaken_too_long),
		cmocka_unit_test(test_late_and_cancelled_never_run),
		cmocka_unit_test(test_each_thread_has_its_own_state_and_name),
		cmocka_unit_test(test_failed_start_fails_open),
		cmocka_unit_test(test_waits_until_ready),
		cmocka_unit_test(test_unready_pool_still_ends_late_items),
		cmocka_unit_test(test_ready_thread_serves_for_the_other),
		cmocka_unit_test(test_every_item_ends_once_under_load),
		cmocka_unit_test(test_items_may_come_back),
		cmocka_unit_test(test_closing_refuses_what_comes_later),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
