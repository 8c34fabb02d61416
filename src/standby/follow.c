#include <poll.h>
#include <stdio.h>

#include "biomatch/clock.h"
#include "biomatch/gallery.h"
#include "biomatch/log.h"
#include "biomatch/v1/admin_service.pb-c.h"
#include "standby.h"

#define METHOD "/biomatch.v1.AdminService/StreamChanges"
/* A message of changes, unpacked. */
#define MESSAGE_MEMORY ((size_t)16 << 20)

/* The changes of one message, in one job of the writer. */
struct batch {
	struct writer_job job;
	const Biomatch__V1__StreamChangesResponse *message;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool done;
	int error;
};

static int place_from_wire(const Biomatch__V1__ChangePlace *from, struct changes_place *out)
{
	if (!from || from->hash.len != CHANGES_HASH_LEN)
		return BM_EPROTO;
	*out = (struct changes_place){.sequence = from->sequence, .epoch = from->epoch};
	memcpy(out->hash, from->hash.data, CHANGES_HASH_LEN);
	return 0;
}

static int apply_change(struct gallery_store *store, struct db_txn *txn,
			const Biomatch__V1__Change *from)
{
	struct changes_entry entry = {.sealed = {from->sealed.data, from->sealed.len}};
	int error = place_from_wire(from->place, &entry.place);

	if (error || !from->time)
		return BM_EPROTO;
	entry.time_ms = from->time->seconds * 1000 + from->time->nanos / 1000000;
	return gallery_follow(store, txn, &entry);
}

static int apply(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	const Biomatch__V1__StreamChangesResponse *message = ((struct batch *)job)->message;
	int error = 0;

	for (size_t i = 0; !error && i < message->n_changes; i++)
		error = apply_change(store, txn, message->changes[i]);
	return error;
}

static void done(struct writer_job *job, int error)
{
	struct batch *batch = (struct batch *)job;

	pthread_mutex_lock(&batch->lock);
	batch->error = error;
	batch->done = true;
	pthread_cond_signal(&batch->ended);
	pthread_mutex_unlock(&batch->lock);
}

/* Waits until the changes are on disk: meanwhile the leader is held back by the network. */
static int write_batch(struct standby *standby, struct batch *batch)
{
	int error;

	pthread_mutex_init(&batch->lock, NULL);
	pthread_cond_init(&batch->ended, NULL);
	error = writer_submit(standby->options.writer, &batch->job);
	pthread_mutex_lock(&batch->lock);
	while (!error && !batch->done)
		pthread_cond_wait(&batch->ended, &batch->lock);
	pthread_mutex_unlock(&batch->lock);
	pthread_cond_destroy(&batch->ended);
	pthread_mutex_destroy(&batch->lock);
	return error ? error : batch->error;
}

/* How far the leader is ahead, as it was when it sent this. */
static int note_lag(struct standby *standby, const struct changes_place *head)
{
	struct changes_place here;
	int error = place_read(standby, &here);

	if (error)
		return error;
	atomic_store(&standby->lag_changes,
		     head->sequence > here.sequence ? head->sequence - here.sequence : 0);
	if (here.sequence >= head->sequence)
		atomic_store(&standby->synced_ns, clock_monotonic_ns());
	return 0;
}

static int take(void *ctx, const ProtobufCMessage *message)
{
	struct standby *standby = ctx;
	struct batch batch = {
		.job = {.apply = apply, .done = done, .deadline_ns = CLOCK_FOREVER},
		.message = (const Biomatch__V1__StreamChangesResponse *)message,
	};
	struct changes_place head;
	int error = place_from_wire(batch.message->head, &head);

	/* Promoted meanwhile: the old leader has nothing to say any more. */
	if (standby_role(standby) != STANDBY_FOLLOWS)
		return BM_ECANCELLED;
	if (!error && batch.message->n_changes)
		error = write_batch(standby, &batch);
	if (!error)
		error = note_lag(standby, &head);
	if (!error && !atomic_exchange(&standby->connected, true))
		log_notice("standby_connected", "leader=%s", standby_leader(standby));
	return error;
}

/* The code behind a status of the leader, as far as it matters here. */
static int error_of(const struct biomatch_status *status)
{
	static const int known[] = {BM_EPRUNED,  BM_EDIVERGED, BM_ESUPERSEDED, BM_EDENIED,
				    BM_EPURPOSE, BM_EPEER,     BM_EDRAIN};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!strcmp(status->reason, bm_error_reason(known[i])))
			return known[i];
	}
	return BM_ENET;
}

/* How a stream ended, and why in words. */
struct end {
	int error;
	char message[BIOMATCH_MESSAGE_MAX];
};

static void ask(struct standby *standby, struct biomatch_client *client, struct arena *arena,
		const struct changes_place *here, struct end *end)
{
	Biomatch__V1__StreamChangesRequest request = BIOMATCH__V1__STREAM_CHANGES_REQUEST__INIT;
	Biomatch__V1__ChangePlace after = BIOMATCH__V1__CHANGE_PLACE__INIT;
	const struct biomatch_stream stream = {
		.take = take, .ctx = standby, .idle_ms = IDLE_MS, .wake_fd = standby->wake_fd};
	struct biomatch_status status = {0};

	after.sequence = here->sequence;
	after.epoch = here->epoch;
	after.hash = (ProtobufCBinaryData){CHANGES_HASH_LEN, (uint8_t *)(uintptr_t)here->hash};
	request.purpose = (char *)(uintptr_t)standby->options.purpose;
	request.after = &after;
	end->error = biomatch_client_stream(client, METHOD, &request.base,
					    &biomatch__v1__stream_changes_response__descriptor,
					    &stream, arena, &status);
	snprintf(end->message, sizeof(end->message), "%s",
		 end->error ? biomatch_client_error(client) : status.message);
	if (!end->error)
		end->error = error_of(&status);
}

/*
 * One stream, from where this log ends until something ends it. Its certificates are
 * read again each time, so that new ones are taken.
 */
static void stream_once(struct standby *standby, struct arena *arena, struct end *end)
{
	struct biomatch_client *client;
	struct changes_place here;

	end->error = place_read(standby, &here);
	if (end->error) {
		snprintf(end->message, sizeof(end->message), "%s", bm_error_text(end->error));
		return;
	}
	end->error = biomatch_client_open(&standby->options.leader, &client, end->message);
	if (end->error)
		return;
	ask(standby, client, arena, &here, end);
	biomatch_client_close(client);
}

/* One that cannot mend itself is told every time, any other once. */
static void note_end(struct standby *standby, const struct end *end, bool was_connected)
{
	bool changed = end->error != atomic_exchange(&standby->error, end->error);

	if (standby_role(standby) != STANDBY_FOLLOWS)
		return;
	if (was_connected || changed || end->error == BM_EPRUNED || end->error == BM_EDIVERGED)
		log_error("standby_disconnected", "leader=%s reason=%s message=%s",
			  standby_leader(standby), bm_error_reason(end->error), end->message);
}

static void wait_ms(const struct standby *standby, uint32_t ms)
{
	struct pollfd p = {.fd = standby->wake_fd, .events = POLLIN};

	if (!atomic_load(&standby->closing))
		(void)poll(&p, 1, (int)ms);
}

static uint32_t pause_after(const struct standby *standby, int error, bool was_connected,
			    uint32_t before)
{
	if (was_connected)
		return RETRY_MIN_MS;
	if (standby_role(standby) != STANDBY_FOLLOWS)
		return error == BM_ESUPERSEDED || error == BM_ECANCELLED ? FENCED_MS : FENCE_MS;
	if (error == BM_EPRUNED || error == BM_EDIVERGED)
		return RETRY_MAX_MS;
	return before * 2 < RETRY_MAX_MS ? before * 2 : RETRY_MAX_MS;
}

void *follow_run(void *arg)
{
	struct standby *standby = arg;
	uint32_t pause = RETRY_MIN_MS;
	struct arena arena;

	pthread_setname_np(pthread_self(), "standby");
	arena_init(&arena, MESSAGE_MEMORY);
	while (!atomic_load(&standby->closing)) {
		/* One that leads asks for the same: its epoch ends that of the old leader. */
		struct end end;
		bool was_connected;

		stream_once(standby, &arena, &end);
		was_connected = atomic_exchange(&standby->connected, false);

		if (atomic_load(&standby->closing))
			break;
		note_end(standby, &end, was_connected);
		pause = pause_after(standby, end.error, was_connected, pause);
		wait_ms(standby, pause);
		arena_reset(&arena);
	}
	arena_deinit(&arena);
	return NULL;
}
