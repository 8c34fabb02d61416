#include "changes.h"

#include <stdlib.h>

#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "biomatch/pulse.h"
#include "trail.h"

/* Streams at one time; each holds one message of MESSAGE_BYTES at most. */
#define MAX_STREAMS 16
/* A message ends behind the change that reaches this, far below what clients take at once. */
#define MESSAGE_BYTES   ((size_t)1 << 20)
#define MESSAGE_CHANGES 1000
#define MESSAGE_MEMORY  (4 * MESSAGE_BYTES)
/* After so long without a message whoever follows hears that there is nothing. */
#define HEARTBEAT_NS (CLOCK_NS_PER_SEC / 2)

/* A stream in its call's memory; found by the call as long as it is in the list. */
struct stream {
	struct stream *next;
	struct service_call *call;
	struct changes_place after; /* what the caller has */
	uint64_t next_sequence;     /* what it gets next */
	int refused;                /* why it does not begin; 0 for none */
	bool pending;               /* its audit entry is not on disk yet */
	bool busy;                  /* the thread is feeding it */
	bool cancelled;
	bool taken; /* the caller has all that was sent */
	bool behind;
	uint64_t commits; /* seen by it */
	int64_t told_ns;
};

struct feeder {
	struct service *service;
	pthread_t thread;
	struct arena arena; /* the thread's */
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct stream *streams;
	unsigned n;
	uint64_t commits;
	bool draining, closing;
	struct pulse pulse;
};

bool place_to_wire(struct arena *arena, const struct changes_place *from,
		   Biomatch__V1__ChangePlace **out)
{
	Biomatch__V1__ChangePlace *to = arena_alloc(arena, sizeof(*to));
	char *hash = arena_strndup(arena, (const char *)from->hash, CHANGES_HASH_LEN);

	if (!to || !hash)
		return false;
	biomatch__v1__change_place__init(to);
	to->sequence = from->sequence;
	to->epoch = from->epoch;
	to->hash = (ProtobufCBinaryData){CHANGES_HASH_LEN, (uint8_t *)hash};
	*out = to;
	return true;
}

/* Borrows the sealed body from the transaction. */
static Biomatch__V1__Change *change_to_wire(struct arena *arena, const struct changes_entry *from)
{
	Biomatch__V1__Change *to = arena_alloc(arena, sizeof(*to));
	Google__Protobuf__Timestamp *time = arena_alloc(arena, sizeof(*time));

	if (!to || !time)
		return NULL;
	biomatch__v1__change__init(to);
	google__protobuf__timestamp__init(time);
	time->seconds = from->time_ms / 1000;
	time->nanos = (int32_t)(from->time_ms % 1000) * 1000000;
	to->time = time;
	to->sealed =
		(ProtobufCBinaryData){from->sealed.len, (uint8_t *)(uintptr_t)from->sealed.data};
	return place_to_wire(arena, &from->place, &to->place) ? to : NULL;
}

static int read_changes(struct feeder *feeder, struct db_txn *txn, uint64_t next, uint64_t last,
			Biomatch__V1__StreamChangesResponse *out)
{
	size_t bytes = 0;

	out->changes = arena_alloc(&feeder->arena, MESSAGE_CHANGES * sizeof(*out->changes));
	if (!out->changes)
		return BM_ENOMEM;
	for (; next <= last && out->n_changes < MESSAGE_CHANGES && bytes < MESSAGE_BYTES; next++) {
		struct changes_entry entry;
		int error = changes_get(txn, next, &entry);

		if (error)
			return error;
		out->changes[out->n_changes] = change_to_wire(&feeder->arena, &entry);
		if (!out->changes[out->n_changes++])
			return BM_ENOMEM;
		bytes += entry.sealed.len;
	}
	return 0;
}

/* Sends what comes next, or word that there is nothing. */
static int send_changes(struct feeder *feeder, struct stream *stream, struct db_txn *txn,
			bool heartbeat)
{
	Biomatch__V1__StreamChangesResponse out = BIOMATCH__V1__STREAM_CHANGES_RESPONSE__INIT;
	struct changes_place head;
	int error = changes_head(txn, &head);

	if (!error)
		error = read_changes(feeder, txn, stream->next_sequence, head.sequence, &out);
	if (error)
		return error;
	if (!place_to_wire(&feeder->arena, &head, &out.head))
		return BM_ENOMEM;
	stream->next_sequence += out.n_changes;
	stream->behind = stream->next_sequence <= head.sequence;
	if (!out.n_changes && !heartbeat)
		return 0;
	pthread_mutex_lock(&feeder->lock);
	stream->taken = false;
	pthread_mutex_unlock(&feeder->lock);
	stream->told_ns = clock_monotonic_ns();
	call_send(stream->call, &out.base);
	return 0;
}

static int feed(struct feeder *feeder, struct stream *stream, bool heartbeat)
{
	struct db_txn txn;
	int error = db_begin_read(feeder->service->options.db, &txn);

	if (error)
		return error;
	error = send_changes(feeder, stream, &txn, heartbeat);
	db_abort(&txn);
	arena_reset(&feeder->arena);
	return error;
}

static void unlink_stream(struct feeder *feeder, struct stream *stream)
{
	for (struct stream **at = &feeder->streams; *at; at = &(*at)->next) {
		if (*at == stream) {
			*at = stream->next;
			feeder->n--;
			return;
		}
	}
}

static bool heartbeat_is_due(const struct stream *stream)
{
	return clock_monotonic_ns() - stream->told_ns >= HEARTBEAT_NS;
}

/* A stream with something to do; under the lock. */
static struct stream *pick(struct feeder *feeder)
{
	struct stream *stream = feeder->streams;

	for (; stream; stream = stream->next) {
		if (stream->pending)
			continue;
		if (feeder->closing || stream->cancelled)
			break;
		if (stream->taken &&
		    (feeder->draining || stream->behind || stream->commits != feeder->commits ||
		     heartbeat_is_due(stream)))
			break;
	}
	return stream;
}

/* Feeds a stream, or ends it; under the lock, which is let go meanwhile. */
static void serve_stream(struct feeder *feeder, struct stream *stream)
{
	bool draining = feeder->draining;
	int error = stream->cancelled ? BM_ECANCELLED : feeder->closing ? BM_EDRAIN : 0;

	if (standby_role(feeder->service->options.standby) == STANDBY_SUPERSEDED)
		error = BM_ESUPERSEDED;
	if (!error) {
		stream->commits = feeder->commits;
		stream->busy = true;
		pulse_expect(&feeder->pulse, clock_monotonic_ns());
		pthread_mutex_unlock(&feeder->lock);
		error = feed(feeder, stream, heartbeat_is_due(stream));
		pthread_mutex_lock(&feeder->lock);
		stream->busy = false;
		/* In step: what is left to do is said. */
		if (!error && draining && !stream->behind)
			error = BM_EDRAIN;
	}
	if (!error)
		return;
	unlink_stream(feeder, stream);
	pthread_mutex_unlock(&feeder->lock);
	call_finish(stream->call, error);
	pthread_mutex_lock(&feeder->lock);
}

static void wait_for_work(struct feeder *feeder)
{
	int64_t end = clock_monotonic_ns() + HEARTBEAT_NS;
	struct timespec until = {end / CLOCK_NS_PER_SEC, end % CLOCK_NS_PER_SEC};

	pulse_expect(&feeder->pulse, end);
	(void)pthread_cond_clockwait(&feeder->work, &feeder->lock, CLOCK_MONOTONIC, &until);
}

static void *feeder_run(void *arg)
{
	struct feeder *feeder = arg;
	struct stream *stream;

	pthread_setname_np(pthread_self(), "changes");
	pthread_mutex_lock(&feeder->lock);
	while (!feeder->closing || feeder->streams) {
		stream = pick(feeder);
		if (stream) {
			serve_stream(feeder, stream);
			continue;
		}
		wait_for_work(feeder);
	}
	pthread_mutex_unlock(&feeder->lock);
	pulse_end(&feeder->pulse);
	return NULL;
}

/* On the writer's thread. */
static void committed(void *ctx)
{
	struct feeder *feeder = ctx;

	standby_committed(feeder->service->options.standby);
	pthread_mutex_lock(&feeder->lock);
	feeder->commits++;
	pthread_mutex_unlock(&feeder->lock);
	pthread_cond_signal(&feeder->work);
}

int feeder_open(struct service *service, struct feeder **out)
{
	struct feeder *feeder = calloc(1, sizeof(*feeder));

	if (!feeder)
		return BM_ENOMEM;
	feeder->service = service;
	pulse_init(&feeder->pulse);
	arena_init(&feeder->arena, MESSAGE_MEMORY);
	pthread_mutex_init(&feeder->lock, NULL);
	pthread_cond_init(&feeder->work, NULL);
	if (pthread_create(&feeder->thread, NULL, feeder_run, feeder)) {
		pthread_cond_destroy(&feeder->work);
		pthread_mutex_destroy(&feeder->lock);
		free(feeder);
		return BM_ENOMEM;
	}
	writer_listen(service->options.writer, committed, feeder);
	*out = feeder;
	return 0;
}

void feeder_drain(struct feeder *feeder)
{
	pthread_mutex_lock(&feeder->lock);
	feeder->draining = true;
	pthread_cond_signal(&feeder->work);
	pthread_mutex_unlock(&feeder->lock);
}

void feeder_close(struct feeder *feeder)
{
	writer_listen(feeder->service->options.writer, NULL, NULL);
	pthread_mutex_lock(&feeder->lock);
	feeder->closing = true;
	pthread_cond_signal(&feeder->work);
	pthread_mutex_unlock(&feeder->lock);
	pthread_join(feeder->thread, NULL);
	arena_deinit(&feeder->arena);
	pthread_cond_destroy(&feeder->work);
	pthread_mutex_destroy(&feeder->lock);
	free(feeder);
}

uint32_t feeder_late_ms(const struct feeder *feeder)
{
	return pulse_late_ms(&feeder->pulse, clock_monotonic_ns());
}

unsigned feeder_streams(struct feeder *feeder)
{
	unsigned n;

	pthread_mutex_lock(&feeder->lock);
	n = feeder->n;
	pthread_mutex_unlock(&feeder->lock);
	return n;
}

/* Where the caller is: at its own place, or before the first change that it wants. */
static int find_start(struct db_txn *txn, const Biomatch__V1__StreamChangesRequest *request,
		      struct stream *stream)
{
	struct changes_place base, head;
	int error = changes_base(txn, &base);

	if (request->after) {
		stream->next_sequence = stream->after.sequence + 1;
		return error ? error : changes_find(txn, &stream->after);
	}
	if (!error)
		error = changes_head(txn, &head);
	if (error)
		return error;
	stream->next_sequence = request->first ? request->first : base.sequence + 1;
	if (stream->next_sequence <= base.sequence)
		return BM_EPRUNED;
	return stream->next_sequence > head.sequence + 1 ? BM_EDIVERGED : 0;
}

/* Whoever has a later epoch than this log was told by the daemon that leads in it. */
static int check_epoch(struct service_call *call, struct db_txn *txn, const struct stream *stream)
{
	struct changes_place head;
	int error = changes_head(txn, &head);

	if (error || stream->after.epoch <= head.epoch)
		return error;
	error = standby_supersede(call->service->options.standby, txn);
	log_error("superseded", "by=%s epoch=%llu", call->uri,
		  (unsigned long long)stream->after.epoch);
	return error ? error : BM_ESUPERSEDED;
}

/* The entry, and what is refused with it: a refusal must not undo that the lead is lost. */
static int begin(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	struct service_call *call = call_of_job(job);
	struct stream *stream = call->state;
	int error = check_epoch(call, txn, stream);

	(void)store;
	/* What it has behind the end of its epoch is of no history. */
	if (!error && standby_role(call->service->options.standby) == STANDBY_SUPERSEDED)
		error = BM_ESUPERSEDED;
	if (!error)
		error = find_start(txn, (const void *)call->request, stream);
	if (error != BM_ESUPERSEDED && error != BM_EPRUNED && error != BM_EDIVERGED && error)
		return error;
	stream->refused = error;
	if (error)
		trail_outcome(call, "REFUSED", error);
	return trail_append(call, txn);
}

static void begun(struct writer_job *job, int error)
{
	struct service_call *call = call_of_job(job);
	struct feeder *feeder = call->service->feeder;
	struct stream *stream = call->state;

	error = error ? error : stream->refused;
	pthread_mutex_lock(&feeder->lock);
	stream->pending = false;
	if (error)
		unlink_stream(feeder, stream);
	pthread_cond_signal(&feeder->work);
	pthread_mutex_unlock(&feeder->lock);
	if (error)
		call_finish(call, error);
}

/* From here on the stream is the list's, and is ended by whoever takes it out. */
static int enlist(struct feeder *feeder, struct stream *stream)
{
	int error = 0;

	pthread_mutex_lock(&feeder->lock);
	if (feeder->draining)
		error = BM_EDRAIN;
	else if (feeder->n == MAX_STREAMS)
		error = BM_EBUSY;
	if (!error) {
		stream->next = feeder->streams;
		feeder->streams = stream;
		feeder->n++;
	}
	pthread_mutex_unlock(&feeder->lock);
	return error;
}

static int take_place(struct service_call *call, const Biomatch__V1__ChangePlace *from,
		      struct changes_place *out)
{
	if (!from)
		return 0;
	if (from->hash.len != CHANGES_HASH_LEN)
		return call_fail(call, BM_EINVAL, "after.hash", NULL);
	out->sequence = from->sequence;
	out->epoch = from->epoch;
	memcpy(out->hash, from->hash.data, CHANGES_HASH_LEN);
	return 0;
}

static int open_stream(struct service_call *call)
{
	const Biomatch__V1__StreamChangesRequest *request = (const void *)call->request;
	struct feeder *feeder = call->service->feeder;
	struct stream *stream = call->state;
	int error = call_allow(call, request->purpose, NULL);

	if (!error)
		error = take_place(call, request->after, &stream->after);
	if (error)
		return error;
	stream->call = call;
	stream->taken = stream->behind = stream->pending = true;
	error = enlist(feeder, stream);
	if (error)
		return error;
	call->job.apply = begin;
	call->job.done = begun;
	call->job.deadline_ns = CLOCK_FOREVER;
	error = writer_submit(call->service->options.writer, &call->job);
	if (error) {
		pthread_mutex_lock(&feeder->lock);
		unlink_stream(feeder, stream);
		pthread_mutex_unlock(&feeder->lock);
	}
	return error;
}

static struct stream *find_stream(struct feeder *feeder, const struct service_call *call)
{
	struct stream *stream = feeder->streams;

	while (stream && stream->call != call)
		stream = stream->next;
	return stream;
}

static void stream_sent(struct service_call *call)
{
	struct feeder *feeder = call->service->feeder;
	struct stream *stream;

	pthread_mutex_lock(&feeder->lock);
	stream = find_stream(feeder, call);
	if (stream) {
		stream->taken = true;
		pthread_cond_signal(&feeder->work);
	}
	pthread_mutex_unlock(&feeder->lock);
}

/* The thread ends it; one that is not in the list any more was ended. */
static void leave_stream(struct service_call *call)
{
	struct feeder *feeder = call->service->feeder;
	struct stream *stream;

	pthread_mutex_lock(&feeder->lock);
	stream = find_stream(feeder, call);
	if (stream) {
		stream->cancelled = true;
		pthread_cond_signal(&feeder->work);
	}
	pthread_mutex_unlock(&feeder->lock);
}

const struct rpc stream_changes_rpc = {
	.path = "/biomatch.v1.AdminService/StreamChanges",
	.operation = POLICY_FOLLOW,
	.request = &biomatch__v1__stream_changes_request__descriptor,
	.response = &biomatch__v1__stream_changes_response__descriptor,
	.state_size = sizeof(struct stream),
	.message = open_stream,
	.stays_open = true,
	.sent = stream_sent,
	.cancel = leave_stream,
};
