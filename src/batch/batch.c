#include "biomatch/batch.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "biomatch/priority.h"
#include "biomatch/pulse.h"

/* Between tries of a thread that is not ready: doubled each time, from the first to the last. */
#define PAUSE_FIRST_NS (100 * CLOCK_NS_PER_MS)
#define PAUSE_LAST_NS  (5 * CLOCK_NS_PER_SEC)

/* First in, first out, or by turns. */
struct queue {
	struct batch_item *head, **tail;
	size_t n;
	uint64_t turn; /* of the last that was taken by turns */
};

struct batch_thread {
	struct batch_pool *pool;
	unsigned index;
	pthread_t id;
	void *state;
	int64_t pause_ns; /* 0 while ready */
	struct pulse pulse;
	int64_t limit_ns; /* for the item under way */
	size_t taken;     /* items that it serves beside its own; under the lock */
};

/* Work that one thread lets the idle ones join; on that thread's stack. */
struct shared {
	void (*work)(void *arg);
	void *arg;
	unsigned joined; /* threads inside, but for the first */
	bool open;       /* for more to join */
	struct shared *next;
};

struct batch_pool {
	struct batch_pool_options options;
	pthread_mutex_t lock; /* all below, but for the threads' own fields */
	pthread_cond_t work;  /* an item came, or the end */
	pthread_cond_t pause; /* the end, for threads that are not ready */
	pthread_cond_t begun; /* a thread has run start */
	pthread_cond_t alone; /* the last thread that joined shared work left it */
	struct shared *shared;
	struct queue queues[BATCH_PRIORITIES];
	unsigned starting, running, busy, unready;
	int64_t cost_ns;   /* of a thread for one item, of late */
	int64_t joined_ns; /* that threads gave to others' items since the last one ended */
	int start_error;   /* the first */
	bool closing;
	unsigned n_threads; /* created */
	struct batch_thread threads[];
};

static void queue_init(struct queue *q)
{
	*q = (struct queue){.tail = &q->head};
}

static void queue_insert(struct queue *q, struct batch_item **at, struct batch_item *item)
{
	item->next = *at;
	*at = item;
	if (!item->next)
		q->tail = &item->next;
	q->n++;
}

static void queue_push(struct queue *q, struct batch_item *item)
{
	queue_insert(q, q->tail, item);
}

/* The first turn that is later than those of the items that the owner has there; *own counts them.
 */
static uint64_t next_turn(const struct queue *q, uint64_t owner, size_t *own)
{
	uint64_t turn = q->turn;

	*own = 0;
	for (const struct batch_item *i = q->head; owner && i; i = i->next) {
		if (i->owner != owner)
			continue;
		turn = i->turn + 1;
		++*own;
	}
	return turn;
}

/* Where an item of this turn stands: behind those of the same and of earlier ones, n in number. */
static struct batch_item **place(struct queue *q, uint64_t turn, size_t *n)
{
	struct batch_item **at = &q->head;

	for (*n = 0; *at && (*at)->turn <= turn; ++*n)
		at = &(*at)->next;
	return at;
}

/* Takes out the item that *link points to. */
static struct batch_item *queue_take(struct queue *q, struct batch_item **link)
{
	struct batch_item *item = *link;

	*link = item->next;
	if (!item->next)
		q->tail = link;
	q->n--;
	return item;
}

/* Under the lock: the first that was overtaken for so long that somebody has waited enough. */
static struct queue *overtaken(struct batch_pool *pool, int by)
{
	int64_t latest = clock_monotonic_ns() - pool->options.wait_ms * CLOCK_NS_PER_MS;

	for (int i = by + 1; i < BATCH_BULK; i++) {
		if (pool->queues[i].head && pool->queues[i].head->queued_ns < latest)
			return &pool->queues[i];
	}
	return NULL;
}

/* Under the lock: the next item, NULL when none waits, and BM_EBUSY where it is to be turned away.
 */
static struct batch_item *take_next(struct batch_pool *pool, int *error)
{
	for (int i = 0; i < BATCH_PRIORITIES; i++) {
		struct queue *q = &pool->queues[i], *enough;

		if (!q->head)
			continue;
		enough = overtaken(pool, i);
		*error = enough ? BM_EBUSY : 0;
		q = enough ? enough : q;
		q->turn = q->head->turn;
		return queue_take(q, &q->head);
	}
	return NULL;
}

/* Under the lock. */
static size_t items_waiting(const struct batch_pool *pool)
{
	size_t n = 0;

	for (int i = 0; i < BATCH_PRIORITIES; i++)
		n += pool->queues[i].n;
	return n;
}

/* 0, or why the item must not run. */
static int given_up(const struct batch_pool *pool, const struct batch_item *item)
{
	if (clock_monotonic_ns() >= item->deadline_ns)
		return BM_EDEADLINE;
	if (pool->options.cancelled && pool->options.cancelled(pool->options.ctx, item))
		return BM_ECANCELLED;
	return 0;
}

/* Under the lock: whether the wait would be too long behind so many of the class. */
static bool waits_too_long(const struct batch_pool *pool, enum batch_priority priority,
			   size_t ahead)
{
	unsigned ready = pool->running - pool->unready;

	if (priority == BATCH_BULK || !ready)
		return false;
	for (int i = 0; i < (int)priority; i++)
		ahead += pool->queues[i].n;
	return ahead >= ready &&
	       (int64_t)ahead * pool->cost_ns / ready > pool->options.wait_ms * CLOCK_NS_PER_MS;
}

/* Under the lock: an item that took so long, with those taken along, is over. An eighth of what is
 * known gives way to it. */
static void learn_cost(struct batch_pool *pool, const struct batch_thread *thread, int64_t ns)
{
	int64_t each = (ns + pool->joined_ns) / (int64_t)(1 + thread->taken);

	pool->joined_ns = 0;
	pool->cost_ns += (each - pool->cost_ns) / 8;
}

/* When a thread that runs the item ought to be back at the latest. */
static int64_t due(const struct batch_thread *thread, const struct batch_item *item)
{
	return item->deadline_ns < thread->limit_ns ? item->deadline_ns : thread->limit_ns;
}

/* Under the lock, let go of meanwhile. */
static void run_or_drop(struct batch_thread *thread, struct batch_item *item, int error)
{
	struct batch_pool *pool = thread->pool;
	const struct batch_pool_options *options = &pool->options;
	int64_t began = clock_monotonic_ns();

	item->thread = thread;
	thread->taken = 0;
	pool->busy++;
	pthread_mutex_unlock(&pool->lock);
	if (!error)
		error = given_up(pool, item);
	thread->limit_ns = clock_monotonic_ns() + options->item_ms * CLOCK_NS_PER_MS;
	pulse_expect(&thread->pulse, error ? clock_monotonic_ns() : due(thread, item));
	if (error)
		options->drop(options->ctx, item, error);
	else
		options->run(options->ctx, thread->state, item);
	pthread_mutex_lock(&pool->lock);
	pool->busy--;
	if (!error)
		learn_cost(pool, thread, clock_monotonic_ns() - began);
}

static void drop_all(struct batch_pool *pool, struct queue *items, int error)
{
	while (items->head)
		pool->options.drop(pool->options.ctx, queue_take(items, &items->head), error);
}

/*
 * While no thread takes items out, somebody must still notice that they are past
 * their deadlines. Called and returns under the lock, let go of to drop them.
 */
static void sweep(struct batch_pool *pool)
{
	struct queue late, cancelled;

	queue_init(&late);
	queue_init(&cancelled);
	for (int i = 0; i < BATCH_PRIORITIES; i++) {
		struct queue *q = &pool->queues[i];

		for (struct batch_item **link = &q->head; *link;) {
			int error = given_up(pool, *link);

			if (error)
				queue_push(error == BM_EDEADLINE ? &late : &cancelled,
					   queue_take(q, link));
			else
				link = &(*link)->next;
		}
	}
	if (!late.n && !cancelled.n)
		return;
	pthread_mutex_unlock(&pool->lock);
	drop_all(pool, &late, BM_EDEADLINE);
	drop_all(pool, &cancelled, BM_ECANCELLED);
	pthread_mutex_lock(&pool->lock);
}

/* Under the lock, held again on return. */
static void pause_thread(struct batch_thread *thread)
{
	struct batch_pool *pool = thread->pool;
	int64_t until = clock_monotonic_ns() + thread->pause_ns;
	struct timespec ts = {until / CLOCK_NS_PER_SEC, until % CLOCK_NS_PER_SEC};

	pulse_expect(&thread->pulse, until);
	sweep(pool);
	while (!pool->closing && clock_monotonic_ns() < until)
		pthread_cond_timedwait(&pool->pause, &pool->lock, &ts);
}

/* Under the lock, let go of for the call. False after a failure and its pause. */
static bool make_ready(struct batch_thread *thread)
{
	struct batch_pool *pool = thread->pool;
	int error;

	if (!pool->options.ready)
		return true;
	/* Getting ready may take long, and the wake-up for an item may have come here. */
	if (items_waiting(pool))
		pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	pulse_expect(&thread->pulse,
		     clock_monotonic_ns() + pool->options.ready_ms * CLOCK_NS_PER_MS);
	error = pool->options.ready(pool->options.ctx, thread->state);
	pthread_mutex_lock(&pool->lock);
	if (!error) {
		pool->unready -= thread->pause_ns ? 1 : 0;
		thread->pause_ns = 0;
		return true;
	}
	if (thread->pause_ns) {
		if (thread->pause_ns < PAUSE_LAST_NS)
			thread->pause_ns *= 2;
	} else {
		thread->pause_ns = PAUSE_FIRST_NS;
		pool->unready++;
		log_warning("pool_thread_unready", "pool=%s thread=%u reason=%s",
			    pool->options.name, thread->index, bm_error_reason(error));
	}
	pause_thread(thread);
	return false;
}

/* Under the lock, let go of during the work. */
static void join(struct batch_thread *thread, struct shared *shared)
{
	struct batch_pool *pool = thread->pool;
	int64_t began = clock_monotonic_ns();

	pulse_expect(&thread->pulse, began + pool->options.item_ms * CLOCK_NS_PER_MS);
	shared->joined++;
	pool->busy++;
	pthread_mutex_unlock(&pool->lock);
	shared->work(shared->arg);
	pthread_mutex_lock(&pool->lock);
	pool->busy--;
	pool->joined_ns += clock_monotonic_ns() - began;
	/* What is over is over for all: nobody need join any more. */
	shared->open = false;
	if (!--shared->joined)
		pthread_cond_broadcast(&pool->alone);
}

/* Under the lock: until there may be something to do, or it is time for a sign of life. */
static void wait_for_work(struct batch_thread *thread)
{
	int64_t until = clock_monotonic_ns() + PULSE_IDLE_NS;
	struct timespec ts = {until / CLOCK_NS_PER_SEC, until % CLOCK_NS_PER_SEC};

	pulse_expect(&thread->pulse, until);
	(void)pthread_cond_clockwait(&thread->pool->work, &thread->pool->lock, CLOCK_MONOTONIC,
				     &ts);
}

static struct shared *next_shared(const struct batch_pool *pool)
{
	struct shared *shared = pool->shared;

	while (shared && !shared->open)
		shared = shared->next;
	return shared;
}

/* Under the lock, let go of while an item runs. */
static void work(struct batch_thread *thread)
{
	struct batch_pool *pool = thread->pool;

	for (;;) {
		struct batch_item *item;
		struct shared *shared;
		int error;

		if (!make_ready(thread)) {
			if (pool->closing)
				return;
			continue;
		}
		item = take_next(pool, &error);
		shared = item ? NULL : next_shared(pool);
		if (shared) {
			join(thread, shared);
			continue;
		}
		if (!item) {
			if (pool->closing)
				return;
			wait_for_work(thread);
			continue;
		}
		run_or_drop(thread, item, error);
	}
}

/* Under the lock: the last thread to leave answers for what it leaves behind. */
static void leave(struct batch_pool *pool)
{
	if (--pool->running)
		return;
	for (int i = 0; i < BATCH_PRIORITIES; i++) {
		struct queue left;

		queue_init(&left);
		while (pool->queues[i].head)
			queue_push(&left, queue_take(&pool->queues[i], &pool->queues[i].head));
		pthread_mutex_unlock(&pool->lock);
		drop_all(pool, &left, BM_EDRAIN);
		pthread_mutex_lock(&pool->lock);
	}
}

static void *thread_main(void *arg)
{
	struct batch_thread *thread = arg;
	struct batch_pool *pool = thread->pool;
	const struct batch_pool_options *options = &pool->options;
	char name[16];
	int error = 0;

	snprintf(name, sizeof(name), "%.12s-%u", options->name, thread->index % 100);
	pthread_setname_np(pthread_self(), name);
	if (options->prompt)
		priority_prompt();
	if (options->start)
		error = options->start(options->ctx, thread->index, &thread->state);
	pthread_mutex_lock(&pool->lock);
	if (error && !pool->start_error)
		pool->start_error = error;
	pool->starting--;
	pool->running++;
	pthread_cond_signal(&pool->begun);
	if (!error)
		work(thread);
	pulse_end(&thread->pulse);
	leave(pool);
	pthread_mutex_unlock(&pool->lock);
	if (!error && options->stop)
		options->stop(options->ctx, thread->state);
	return NULL;
}

static void pool_free(struct batch_pool *pool)
{
	pthread_cond_destroy(&pool->alone);
	pthread_cond_destroy(&pool->begun);
	pthread_cond_destroy(&pool->pause);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static struct batch_pool *pool_new(const struct batch_pool_options *options)
{
	struct batch_pool *pool =
		calloc(1, sizeof(*pool) + options->threads * sizeof(pool->threads[0]));
	pthread_condattr_t monotonic;

	if (!pool)
		return NULL;
	pool->options = *options;
	for (int i = 0; i < BATCH_PRIORITIES; i++)
		queue_init(&pool->queues[i]);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->begun, NULL);
	pthread_cond_init(&pool->alone, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->pause, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return pool;
}

int batch_pool_open(const struct batch_pool_options *options, struct batch_pool **out)
{
	struct batch_pool *pool;
	int error;

	assert(options->threads && options->capacity && options->run && options->drop);
	pool = pool_new(options);
	if (!pool)
		return BM_ENOMEM;
	pthread_mutex_lock(&pool->lock);
	for (; pool->n_threads < options->threads; pool->n_threads++) {
		struct batch_thread *thread = &pool->threads[pool->n_threads];

		thread->pool = pool;
		thread->index = pool->n_threads;
		pulse_init(&thread->pulse);
		if (pthread_create(&thread->id, NULL, thread_main, thread)) {
			pool->start_error = BM_ENOMEM;
			break;
		}
		pool->starting++;
	}
	while (pool->starting)
		pthread_cond_wait(&pool->begun, &pool->lock);
	error = pool->start_error;
	pthread_mutex_unlock(&pool->lock);
	if (error)
		batch_pool_close(pool);
	else
		*out = pool;
	return error;
}

void batch_pool_close(struct batch_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->closing = true;
	pthread_cond_broadcast(&pool->work);
	pthread_cond_broadcast(&pool->pause);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->n_threads; i++)
		pthread_join(pool->threads[i].id, NULL);
	pool_free(pool);
}

/* Places that one owner may take. */
static size_t owner_share(size_t capacity)
{
	return capacity / 4 < BATCH_OWNER_LEAST ? BATCH_OWNER_LEAST : capacity / 4;
}

int batch_pool_submit(struct batch_pool *pool, struct batch_item *item)
{
	struct queue *q = &pool->queues[item->priority];
	size_t capacity = pool->options.capacity, own, ahead;
	struct batch_item **at;
	int error = 0;

	assert(item->priority < BATCH_PRIORITIES);
	item->queued_ns = clock_monotonic_ns();
	pthread_mutex_lock(&pool->lock);
	item->turn = next_turn(q, item->owner, &own);
	at = place(q, item->turn, &ahead);
	if (pool->closing)
		error = BM_EDRAIN;
	else if (q->n >= capacity || waits_too_long(pool, item->priority, ahead) ||
		 (item->priority != BATCH_BULK && own >= owner_share(capacity)))
		error = BM_EBUSY;
	else
		queue_insert(q, at, item);
	pthread_mutex_unlock(&pool->lock);
	/* Under the lock, who wakes would run into it. */
	if (!error)
		pthread_cond_signal(&pool->work);
	return error;
}

size_t batch_pool_take(struct batch_pool *pool, const struct batch_item *leader,
		       bool (*alike)(const struct batch_item *leader,
				     const struct batch_item *item),
		       struct batch_item **items, size_t max)
{
	struct queue *q = &pool->queues[leader->priority];
	size_t n = 0;

	pthread_mutex_lock(&pool->lock);
	for (struct batch_item **link = &q->head; n < max && *link;) {
		if (!given_up(pool, *link) && alike(leader, *link)) {
			items[n] = queue_take(q, link);
			pulse_extend(&leader->thread->pulse, due(leader->thread, items[n++]));
		} else {
			link = &(*link)->next;
		}
	}
	leader->thread->taken += n;
	pthread_mutex_unlock(&pool->lock);
	return n;
}

void batch_pool_share(struct batch_pool *pool, void (*part)(void *arg), void *arg)
{
	struct shared shared = {.work = part, .arg = arg, .open = true}, **link;

	pthread_mutex_lock(&pool->lock);
	shared.next = pool->shared;
	pool->shared = &shared;
	if (pool->busy < pool->running)
		pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	part(arg);
	pthread_mutex_lock(&pool->lock);
	for (link = &pool->shared; *link != &shared;)
		link = &(*link)->next;
	*link = shared.next;
	while (shared.joined)
		pthread_cond_wait(&pool->alone, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}

static uint32_t late_ms(const struct batch_pool *pool)
{
	int64_t now = clock_monotonic_ns();
	uint32_t most = 0;

	for (unsigned i = 0; i < pool->n_threads; i++) {
		uint32_t late = pulse_late_ms(&pool->threads[i].pulse, now);

		most = late > most ? late : most;
	}
	return most;
}

void batch_pool_stat(struct batch_pool *pool, struct batch_stat *out)
{
	pthread_mutex_lock(&pool->lock);
	*out = (struct batch_stat){
		.waiting = items_waiting(pool),
		.threads = pool->n_threads,
		.busy = pool->busy,
		.unready = pool->unready,
		.late_ms = late_ms(pool),
	};
	pthread_mutex_unlock(&pool->lock);
}
