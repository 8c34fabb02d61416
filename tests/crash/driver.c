#include "driver.h"

#include <fcntl.h>
#include <semaphore.h>

#include "biomatch/clock.h"
#include "biomatch/writer.h"

/* Operations of one wave, each on a subject of its own. */
#define WAVE_MAX 8

struct drive {
	struct test_store store;
	struct writer *writer;
	struct history history; /* by which the next operation is chosen */
	uint64_t random;
	int notes;
	sem_t done;
};

struct op {
	struct writer_job job;
	struct drive *drive;
	struct note note;
	char subject[16], encounter[16];
	float vector[STORE_DIM];
	int error;
};

void driver_vector(uint32_t op, float out[STORE_DIM])
{
	uint64_t seed = op + 1;

	test_vector(&seed, out, STORE_DIM);
}

void driver_request(uint32_t op, uint8_t out[KEYS_PSEUDONYM_LEN])
{
	memset(out, 0xa5, KEYS_PSEUDONYM_LEN);
	bytes_put_be32(out, op);
}

void driver_names(uint32_t subject, uint32_t op, char subject_id[16], char encounter[16])
{
	snprintf(subject_id, 16, "subject-%u", subject);
	snprintf(encounter, 16, "op-%u", op);
}

static void write_note(struct drive *drive, const struct note *note)
{
	if (write(drive->notes, note, sizeof(*note)) != (ssize_t)sizeof(*note))
		abort();
}

static int apply(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	static const enum gallery_change_kind kinds[] = {GALLERY_PUT, GALLERY_DELETE_ENCOUNTER,
							 GALLERY_DELETE_SUBJECT};
	struct op *op = (struct op *)job;
	struct gallery_change change = {.kind = kinds[op->note.kind],
					.gallery = "g",
					.subject = op->subject,
					.embedding = op->vector,
					.dim = STORE_DIM,
					.encounter = {.expires_ms = GALLERY_NEVER}};
	Biomatch__V1__AuditEntry entry = BIOMATCH__V1__AUDIT_ENTRY__INIT;
	struct gallery_outcome outcome;
	int error;

	strcpy(change.encounter.id, op->encounter);
	job->reply = (struct bytes){(const uint8_t *)"done", 4};
	error = gallery_apply(store, txn, &change, &outcome);
	entry.outcome = op->encounter;
	return error ? error : audit_append(txn, &entry, &op->note.receipt);
}

/* Runs where a reply would leave: whatever is noted here, somebody was told. */
static void done(struct writer_job *job, int error)
{
	struct op *op = (struct op *)job;

	op->error = error;
	op->note.what = NOTE_ACKED;
	if (!error)
		write_note(op->drive, &op->note);
	sem_post(&op->drive->done);
}

static void choose(struct drive *drive, struct op *op, uint32_t subject)
{
	const struct history_subject *has = &drive->history.subjects[subject];
	uint64_t draw = test_random(&drive->random) % 100;
	uint32_t made_by = drive->history.ops;

	op->note = (struct note){
		.what = NOTE_BEGUN, .kind = OP_PUT, .subject = subject, .op = made_by};
	if (has->n == HISTORY_ENCOUNTERS || (has->n && draw < 20)) {
		op->note.kind = OP_DELETE_ENCOUNTER;
		op->note.target = made_by = has->ops[test_random(&drive->random) % has->n];
	} else if (has->n > 2 && draw < 28) {
		op->note.kind = OP_DELETE_SUBJECT;
	}
	driver_names(subject, made_by, op->subject, op->encounter);
	driver_vector(op->note.op, op->vector);
	driver_request(op->note.op, op->job.id.request);
}

static void begin(struct drive *drive, struct op *op, uint32_t subject)
{
	*op = (struct op){.drive = drive,
			  .job = {.apply = apply,
				  .done = done,
				  .deadline_ns = CLOCK_FOREVER,
				  .has_request = true}};
	choose(drive, op, subject);
	history_take(&drive->history, &op->note);
	write_note(drive, &op->note);
	if (writer_submit(drive->writer, &op->job))
		abort();
}

static void run_wave(struct drive *drive)
{
	uint32_t n = 1 + (uint32_t)(test_random(&drive->random) % WAVE_MAX);
	uint32_t first = (uint32_t)(test_random(&drive->random) % HISTORY_SUBJECTS);
	struct op ops[WAVE_MAX];

	for (uint32_t i = 0; i < n; i++)
		begin(drive, &ops[i], (first + i) % HISTORY_SUBJECTS);
	for (uint32_t i = 0; i < n; i++)
		sem_wait(&drive->done);
	for (uint32_t i = 0; i < n; i++) {
		if (ops[i].error)
			fail_msg("operation %u: %s", ops[i].note.op, bm_error_text(ops[i].error));
		history_take(&drive->history, &ops[i].note);
	}
}

void driver_run(uint32_t waves, const char *notes)
{
	static const struct writer_options options = {
		.capacity = 64,
		.max_group = 32,
		.changes = {.age_ms = INT64_MAX, .entries = 64},
	};
	static const struct note ready = {.what = NOTE_READY};
	struct drive drive = {.random = 1};

	drive.notes = open(notes, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (drive.notes < 0 || sem_init(&drive.done, 0, 0))
		abort();
	test_store_init(&drive.store, 64 << 20);
	test_create_gallery(&drive.store, "g");
	write_note(&drive, &ready);
	if (writer_open(drive.store.db, drive.store.store, drive.store.keys, &options,
			&drive.writer))
		abort();
	for (uint32_t i = 0; i < waves && drive.history.ops + WAVE_MAX < HISTORY_OPS; i++)
		run_wave(&drive);
	writer_close(drive.writer);
	test_store_deinit(&drive.store);
	close(drive.notes);
}
