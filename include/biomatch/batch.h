/*
 * Pools of threads behind bounded priority queues. An item past its deadline,
 * or cancelled, is dropped when it is taken out, never started.
 *
 * Order is strict: an item waits while a class before its own has items. Within a
 * class owners take turns, and of one turn first come is first served: who asks for
 * much at once waits for themselves, not others for them. Each class has a capacity of its
 * own, so that bulk work can never turn a lane away, and where a person waits one owner
 * may take a quarter of it, or BATCH_OWNER_LEAST places. Where a person waits, an
 * item that would wait too long, by what those before it take, is turned away at
 * once, and one that others overtook until it had waited so long: under overload
 * those that are served are served about as fast as ever.
 * Bulk work waits as long as its capacity and its deadlines let it.
 *
 * Thread: submit and stat from any; run, drop and ready on the pool's threads;
 * take and share only from inside run.
 * Errors: BM_EBUSY when the item's class or its owner's share is full or its wait too long,
 * BM_EDRAIN once closing.
 * Owns: an item belongs to the pool from submit until run or drop is called.
 */
#ifndef BIOMATCH_BATCH_H
#define BIOMATCH_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/error.h"

/* Lanes with a person in them come before kiosks, kiosks before bulk work. */
enum batch_priority { BATCH_LANE, BATCH_KIOSK, BATCH_BULK, BATCH_PRIORITIES };

/* Places that an owner may take however few there are. */
#define BATCH_OWNER_LEAST 8

struct batch_thread;

struct batch_item {
	struct batch_item *next;     /* the pool's */
	struct batch_thread *thread; /* the pool's: who runs it */
	enum batch_priority priority;
	uint64_t owner;      /* whose it is; 0 for somebody of whom there is no other item */
	uint64_t turn;       /* the pool's */
	int64_t deadline_ns; /* monotonic, CLOCK_FOREVER for none */
	int64_t queued_ns;   /* set by submit */
};

struct batch_pool;

struct batch_pool_options {
	const char *name; /* thread names; at most 12 bytes */
	unsigned threads;
	size_t capacity; /* items waiting, of each priority */
	/* The longest that items but for bulk work may be expected to wait; one for each thread may
	 * always. */
	uint32_t wait_ms;
	/* A thread that is longer at an item, or at getting ready, is late; see batch_stat. */
	uint32_t item_ms, ready_ms;
	bool prompt; /* items are short; see priority.h */
	void *ctx;
	/* Makes and ends one thread's own state; may be NULL. */
	int (*start)(void *ctx, unsigned index, void **state);
	void (*stop)(void *ctx, void *state);
	/*
	 * Called before an item is taken, and again after each wait for one, which is a second
	 * at most; a failure
	 * is retried after a pause, while others take the items. May be NULL.
	 */
	int (*ready)(void *ctx, void *state);
	void (*run)(void *ctx, void *state, struct batch_item *item);
	/* An item that will not run: BM_EDEADLINE, BM_ECANCELLED, BM_EBUSY or BM_EDRAIN. */
	void (*drop)(void *ctx, struct batch_item *item, int error);
	/* True when nobody waits for the item any more; may be NULL. Must not call the pool. */
	bool (*cancelled)(void *ctx, const struct batch_item *item);
};

/* Starts the threads; returns when each has run start. */
int batch_pool_open(const struct batch_pool_options *options,
		    struct batch_pool **out) BM_MUST_CHECK;
/*
 * Runs what was submitted, then ends the threads. Only where no thread is ready
 * is what still waits dropped with BM_EDRAIN.
 */
void batch_pool_close(struct batch_pool *pool);

int batch_pool_submit(struct batch_pool *pool, struct batch_item *item) BM_MUST_CHECK;

/*
 * Takes up to max more items of the leader's class that are like it, for a run that
 * serves several at once; those past their deadline stay, to be dropped in their
 * turn. Returns how many.
 */
size_t batch_pool_take(struct batch_pool *pool, const struct batch_item *leader,
		       bool (*alike)(const struct batch_item *leader,
				     const struct batch_item *item),
		       struct batch_item **items, size_t max);
/*
 * Runs part(arg) on this thread and at the same time on those of the pool that have
 * nothing else to do, also those that come free meanwhile; returns when all have
 * returned. How they divide the work is theirs.
 */
void batch_pool_share(struct batch_pool *pool, void (*part)(void *arg), void *arg);

struct batch_stat {
	size_t waiting;
	unsigned threads, busy, unready; /* unready: threads whose ready call fails */
	/*
	 * By how much the slowest thread is past the deadline of its item or past item_ms,
	 * or past the moment when, idle, it ought to have looked round; 0 where none is.
	 */
	uint32_t late_ms;
};
void batch_pool_stat(struct batch_pool *pool, struct batch_stat *out);

#endif
