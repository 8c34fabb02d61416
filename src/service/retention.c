/*
 * Retention: what has expired is erased through the writer, some encounters at a
 * time, each with its entry in the audit log. A batch that was full is followed by the
 * next, behind the jobs that have come meanwhile.
 */
#include "retention.h"

#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "trail.h"

/* A template in a segment takes a rewrite of its codes, a megabyte or so. */
#define ERASED_AT_ONCE 8
/* After a batch that failed. */
#define REST_MS 60000

static struct service *service_of(struct writer_job *job)
{
	return (void *)((char *)job - offsetof(struct service, retention.job));
}

/* The erasure's entry names what a deletion's would, but nobody asked for it. */
static int leave_entry(struct service *service, struct db_txn *txn,
		       const struct gallery_expired *expired, int64_t now_ms)
{
	uint8_t subject[KEYS_PSEUDONYM_LEN], encounter[KEYS_PSEUDONYM_LEN];
	Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Biomatch__V1__AuditEntry entry = BIOMATCH__V1__AUDIT_ENTRY__INIT;
	char *gallery = (char *)(uintptr_t)expired->gallery;
	char *reason = (char *)(uintptr_t)bm_error_reason(BM_EEXPIRED);
	struct audit_receipt receipt;
	int error = trail_pseudonym(service->options.keys, expired->gallery, expired->subject, NULL,
				    subject);

	if (!error)
		error = trail_pseudonym(service->options.keys, expired->gallery, expired->subject,
					expired->encounter, encounter);
	if (error)
		return error;
	time.seconds = now_ms / 1000;
	time.nanos = (int32_t)(now_ms % 1000 * CLOCK_NS_PER_MS);
	entry.time = &time;
	entry.operation = (char *)(uintptr_t) "retention";
	entry.outcome = (char *)(uintptr_t) "DONE";
	entry.galleries = &gallery;
	entry.reasons = &reason;
	entry.n_galleries = entry.n_reasons = 1;
	entry.subject = (ProtobufCBinaryData){sizeof(subject), subject};
	entry.encounter = (ProtobufCBinaryData){sizeof(encounter), encounter};
	entry.erased = 1;
	return audit_append(txn, &entry, &receipt);
}

static int erase(struct service *service, struct db_txn *txn, const struct gallery_expired *expired,
		 int64_t now_ms)
{
	struct gallery_change change = {
		.kind = GALLERY_EXPIRE,
		.gallery = expired->gallery,
		.subject = expired->subject,
		.now_ms = now_ms,
	};
	struct gallery_outcome outcome;
	int error;

	strcpy(change.encounter.id, expired->encounter);
	error = gallery_apply(service->options.store, txn, &change, &outcome);
	return error ? error : leave_entry(service, txn, expired, now_ms);
}

static int apply(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	struct service *service = service_of(job);
	int64_t now_ms = clock_wall_ms();
	struct gallery_expired expired;
	int error = 0;

	service->retention.erased = 0;
	while (!error && service->retention.erased < ERASED_AT_ONCE) {
		error = gallery_next_expired(store, txn, now_ms, &expired);
		if (!error)
			error = erase(service, txn, &expired, now_ms);
		service->retention.erased += !error;
	}
	bytes_wipe(&expired, sizeof(expired));
	return error == BM_ENOREFERENCE ? 0 : error;
}

static void end(struct service *service)
{
	pthread_mutex_lock(&service->lock);
	service->retention.under_way = false;
	pthread_cond_signal(&service->idle);
	pthread_mutex_unlock(&service->lock);
}

static void submit(struct service *service)
{
	/* A full or ending writer has it next time. */
	if (writer_submit(service->options.writer, &service->retention.job))
		end(service);
}

/* Full batches follow one another until the daemon drains; the rest is for its next start. */
static bool goes_on(struct service *service)
{
	bool on;

	pthread_mutex_lock(&service->lock);
	on = service->retention.erased == ERASED_AT_ONCE && !service->draining;
	pthread_mutex_unlock(&service->lock);
	return on;
}

static void done(struct writer_job *job, int error)
{
	struct service *service = service_of(job);

	if (error) {
		log_error("retention_failed", "reason=%s", bm_error_reason(error));
		atomic_store(&service->retention.rest_until_ns,
			     clock_monotonic_ns() + REST_MS * CLOCK_NS_PER_MS);
	} else if (service->retention.erased) {
		log_notice("retention", "erased=%u", service->retention.erased);
	}
	if (!error && goes_on(service))
		submit(service);
	else
		end(service);
}

/* A look, so that a store in which nothing has expired is not written for it. */
static bool is_wanted(struct service *service)
{
	struct gallery_snapshot *snapshot;
	bool wanted;

	if (gallery_snapshot_open(service->options.store, &snapshot))
		return false;
	wanted = gallery_has_expired(snapshot, clock_wall_ms());
	gallery_snapshot_close(snapshot);
	return wanted;
}

void retention_tick(struct service *service)
{
	bool begins;

	if (clock_monotonic_ns() < atomic_load(&service->retention.rest_until_ns) ||
	    !is_wanted(service))
		return;
	pthread_mutex_lock(&service->lock);
	begins = !service->retention.under_way && !service->draining;
	service->retention.under_way |= begins;
	pthread_mutex_unlock(&service->lock);
	if (!begins)
		return;
	service->retention.job =
		(struct writer_job){.apply = apply, .done = done, .deadline_ns = CLOCK_FOREVER};
	submit(service);
}

void retention_wait(struct service *service)
{
	pthread_mutex_lock(&service->lock);
	while (service->retention.under_way)
		pthread_cond_wait(&service->idle, &service->lock);
	pthread_mutex_unlock(&service->lock);
}
