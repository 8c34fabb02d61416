/*
 * Erasure: of a subject that was deleted through the writer, the data file holds
 * nothing any more, wherever in the store it has been.
 */
#include "store.h"

#include <semaphore.h>

#include "biomatch/clock.h"
#include "biomatch/writer.h"

#define VICTIMS    3
#define OTHERS     150
#define EXPIRES_MS 1000
/* Of a subject record: what stands before the sealed id (gallery/record.h). */
#define SEALED_AT   16
#define TEMPLATE_AT 48
/* Of a kept picture: what stands before it sealed. It spans pages, as pictures do. */
#define IMAGE_AT  16
#define IMAGE_LEN 20000
/* Of a remembered request: what stands before its answer. */
#define REPLY_AT 48
#define TRACE    32
/* Of a change: what stands before the sealed body (changes/record.h), with the owner in it. */
#define BODY_AT  96
#define OWNER_AT 56

static const struct writer_options options = {
	.capacity = 256, .max_group = 4, .changes = {.age_ms = INT64_MAX, .entries = 1000000}};

struct change_job {
	struct writer_job job;
	struct gallery_change change;
	char subject[32];
	float vector[STORE_DIM];
	uint8_t image[IMAGE_LEN];
	struct requests_owner owner;
	int error;
	sem_t *done;
};

/* Bytes that only a victim's data have; of each two changes. */
struct traces {
	uint8_t pseudonym[VICTIMS][TRACE], sealed[VICTIMS][TRACE], template[VICTIMS][TRACE];
	uint8_t image[VICTIMS][TRACE], image_end[VICTIMS][TRACE];
	uint8_t reply[VICTIMS][TRACE];
	uint8_t change[2 * VICTIMS][TRACE], change_end[2 * VICTIMS][TRACE];
};

static int apply(struct writer_job *job, struct gallery_store *store, struct db_txn *txn)
{
	struct change_job *made = (struct change_job *)job;
	struct gallery_outcome outcome;
	int error = gallery_apply(store, txn, &made->change, &outcome);

	if (!error && job->has_request)
		error = gallery_owner(store, txn, "g", made->subject, made->owner.key);
	strcpy(made->owner.tag, "e");
	job->reply = (struct bytes){(const uint8_t *)made->subject, sizeof(made->subject)};
	job->owners = &made->owner;
	job->n_owners = 1;
	return error;
}

static void done(struct writer_job *job, int error)
{
	struct change_job *change = (struct change_job *)job;

	change->error = error;
	sem_post(change->done);
}

static void run(struct writer *writer, enum gallery_change_kind kind, const char *name, unsigned n)
{
	struct change_job job = {
		.job = {.apply = apply, .done = done, .deadline_ns = CLOCK_FOREVER},
		.change = {.kind = kind,
			   .gallery = "g",
			   .dim = STORE_DIM,
			   .now_ms = EXPIRES_MS,
			   .encounter = {.id = "e", .expires_ms = EXPIRES_MS}}};
	uint64_t seed = n + (kind == GALLERY_PUT ? 1u : 0u);
	sem_t finished;

	assert_int_equal(sem_init(&finished, 0, 0), 0);
	snprintf(job.subject, sizeof(job.subject), "%s-%u", name, n);
	test_vector(&seed, job.vector, STORE_DIM);
	job.change.subject = job.subject;
	job.job.has_request = kind == GALLERY_PUT && !strcmp(name, "victim");
	memset(job.job.id.request, (int)n + 1, sizeof(job.job.id.request));
	job.change.embedding = job.vector;
	memset(job.image, (int)n, sizeof(job.image));
	job.change.image = (struct bytes){job.image, sizeof(job.image)};
	job.done = &finished;
	assert_int_equal(writer_submit(writer, &job.job), 0);
	sem_wait(&finished);
	assert_int_equal(job.error, 0);
	sem_destroy(&finished);
}

static void enrol(struct writer *writer, unsigned n)
{
	run(writer, GALLERY_PUT, "victim", n);
	run(writer, GALLERY_KEEP_IMAGE, "victim", n);
}

/* The values of a table in which there are only victims. */
static void read_traces(struct db_txn *txn, enum db_table table, size_t at, uint8_t (*out)[TRACE],
			uint8_t (*keys)[TRACE])
{
	static const uint8_t first[1];
	struct bytes key, value;
	struct db_cursor cursor;
	unsigned n = 0;
	bool more;

	db_cursor_open(txn, table, &cursor);
	more = db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &key, &value);
	for (; more; more = db_cursor_next(&cursor, &key, &value), n++) {
		assert_true(n < VICTIMS && value.len >= at + TRACE);
		memcpy(out[n], value.data + at, TRACE);
		if (keys)
			memcpy(keys[n], key.data + 4, TRACE);
	}
	db_cursor_close(&cursor);
	assert_int_equal(n, VICTIMS);
}

/* What the change log holds of the victims, whose changes are those with an owner. */
static void read_changes(struct db_txn *txn, struct traces *out)
{
	static const uint8_t first[1], nobody[TRACE];
	struct bytes key, value;
	struct db_cursor cursor;
	unsigned n = 0;
	bool more;

	db_cursor_open(txn, DB_CHANGES, &cursor);
	more = db_cursor_seek(&cursor, (struct bytes){first, sizeof(first)}, &key, &value);
	for (; more; more = db_cursor_next(&cursor, &key, &value)) {
		if (value.len < BODY_AT || !memcmp(value.data + OWNER_AT, nobody, TRACE))
			continue;
		assert_true(n < 2 * VICTIMS && value.len >= BODY_AT + TRACE);
		memcpy(out->change[n], value.data + BODY_AT, TRACE);
		memcpy(out->change_end[n++], value.data + value.len - TRACE, TRACE);
	}
	db_cursor_close(&cursor);
	assert_int_equal(n, 2 * VICTIMS);
}

static void take_traces(struct test_store *s, struct traces *traces)
{
	struct db_txn txn;

	assert_int_equal(db_begin_read(s->db, &txn), 0);
	read_traces(&txn, DB_SUBJECTS, SEALED_AT, traces->sealed, traces->pseudonym);
	read_traces(&txn, DB_TAIL, TEMPLATE_AT, traces->template, NULL);
	read_traces(&txn, DB_REQUESTS, REPLY_AT, traces->reply, NULL);
	read_traces(&txn, DB_IMAGES, IMAGE_AT, traces->image, NULL);
	read_traces(&txn, DB_IMAGES, IMAGE_AT + IMAGE_LEN - TRACE, traces->image_end, NULL);
	read_changes(&txn, traces);
	db_abort(&txn);
}

/* How many of the traces are anywhere in the raw file. */
static unsigned count_traces(const struct test_store *s, const struct traces *traces)
{
	const uint8_t *trace = (const uint8_t *)traces;
	unsigned found = 0;
	uint8_t *data;
	char path[128];
	size_t len;

	test_store_path(s, "store/data.mdb", path);
	assert_int_equal(file_read(path, 64 << 20, &data, &len), 0);
	for (size_t i = 0; i < sizeof(*traces) / TRACE; i++)
		found += memmem(data, len, trace + i * TRACE, TRACE) != NULL;
	free(data);
	return found;
}

static void erase(enum gallery_change_kind how, unsigned others, unsigned left)
{
	struct writer *writer;
	struct traces traces;
	struct test_store s;

	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	for (unsigned i = 0; i < VICTIMS; i++)
		enrol(writer, i);
	take_traces(&s, &traces);
	for (unsigned i = 0; i < others; i++)
		run(writer, GALLERY_PUT, "other", 1000 + i);
	assert_int_equal(count_traces(&s, &traces), sizeof(traces) / TRACE);
	for (unsigned i = 0; i < VICTIMS; i++)
		run(writer, how, "victim", i);
	writer_close(writer);
	assert_false(db_wants_scrub(s.db));
	assert_int_equal(count_traces(&s, &traces), left);
	test_check(&s, 0);
	test_store_deinit(&s);
}

static void test_erased_from_the_tail(void **state)
{
	(void)state;
	erase(GALLERY_DELETE_SUBJECT, 0, 0);
	erase(GALLERY_DELETE_SUBJECT, 20, 0);
	erase(GALLERY_DELETE_ENCOUNTER, 20, 0);
}

static void test_erased_from_a_segment(void **state)
{
	(void)state;
	erase(GALLERY_DELETE_SUBJECT, OTHERS, 0);
}

/* What has expired goes like what is deleted, but for the pseudonym: that marks who was there. */
static void test_erased_when_expired(void **state)
{
	(void)state;
	erase(GALLERY_EXPIRE, 0, VICTIMS);
	erase(GALLERY_EXPIRE, OTHERS, VICTIMS);
}

/* The control: a deletion alone leaves what it deleted in the file. */
static void test_deletion_alone_is_not_enough(void **state)
{
	struct gallery_change change = {.kind = GALLERY_DELETE_SUBJECT, .gallery = "g"};
	struct gallery_outcome outcome;
	struct writer *writer;
	struct traces traces;
	struct test_store s;
	char name[32];
	bool more;

	(void)state;
	test_store_init(&s, 64 << 20);
	test_create_gallery(&s, "g");
	assert_int_equal(writer_open(s.db, s.store, s.keys, &options, &writer), 0);
	for (unsigned i = 0; i < VICTIMS; i++)
		enrol(writer, i);
	writer_close(writer);
	take_traces(&s, &traces);
	for (unsigned i = 0; i < VICTIMS; i++) {
		snprintf(name, sizeof(name), "victim-%u", i);
		change.subject = name;
		assert_int_equal(test_apply(&s, &change, &outcome), 0);
	}
	assert_true(count_traces(&s, &traces) > 0);
	assert_true(db_wants_scrub(s.db));
	while (db_wants_scrub(s.db))
		assert_int_equal(db_scrub(s.db, &more), 0);
	assert_int_equal(count_traces(&s, &traces), 0);
	test_check(&s, 0);
	test_store_deinit(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_erased_from_the_tail),
		cmocka_unit_test(test_erased_from_a_segment),
		cmocka_unit_test(test_erased_when_expired),
		cmocka_unit_test(test_deletion_alone_is_not_enough),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("erasure", tests, NULL, NULL);
}
