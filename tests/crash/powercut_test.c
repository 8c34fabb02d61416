/*
 * Power cuts: a driver runs the real writer under the shim, and every image that
 * a power cut could have left is opened with the real code.
 *
 *   CRASH_IMAGES=N   checks at least N different images [3000]
 */
#include <signal.h>
#include <sys/wait.h>

#include "disk.h"
#include "driver.h"

#define WAVES 260
/* Images drawn at each point in one pass over the log. */
#define DRAWS 6
/* Every so many images are written to, too, after they were checked. */
#define CONTINUED 16
#define SEEN_MAX  (1u << 22)

static char log_path[96], log_dir[64];

struct search {
	struct test_store place; /* where images are opened */
	struct disk disk;
	struct history history;
	uint64_t random;
	uint64_t *seen; /* checksums, open addressing */
	uint32_t images, refused, continued;
	uint32_t applied; /* operations in the image that were still under way */
	uint32_t written; /* changes made to the image itself */
	char fault[256];
};

static bool fault(struct search *s, const char *what)
{
	snprintf(s->fault, sizeof(s->fault), "after %u operations: %s", s->history.ops, what);
	return false;
}

static bool same_encounters(const struct gallery_subject *found,
			    const struct history_subject *expected)
{
	char subject[16], encounter[16];

	if (found->n != expected->n)
		return false;
	for (uint32_t i = 0; i < expected->n; i++) {
		driver_names(0, expected->ops[i], subject, encounter);
		if (strcmp(found->encounters[i].id, encounter))
			return false;
	}
	return true;
}

static bool request_is_remembered(struct search *s, uint32_t op)
{
	uint8_t request[KEYS_PSEUDONYM_LEN];
	struct bytes value;
	struct db_txn txn;
	bool found;

	if (db_begin_read(s->place.db, &txn))
		return false;
	driver_request(op, request);
	found = db_get(&txn, DB_REQUESTS, (struct bytes){request, sizeof(request)}, &value);
	db_abort(&txn);
	return found;
}

/* The encounter's own template still verifies the subject. */
static bool verifies(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		     const char *subject, uint32_t op)
{
	struct gallery_candidate best;
	float probe[STORE_DIM];
	uint64_t compared;

	driver_vector(op, probe);
	return !gallery_verify(snapshot, gallery, subject, &any_reference, probe, STORE_DIM, 0,
			       &best, &compared) &&
	       best.score > 0.9999f;
}

static bool check_subject(struct search *s, struct gallery_snapshot *snapshot,
			  const struct gallery_info *gallery, uint32_t number, struct arena *arena)
{
	const struct history_subject *must = &s->history.subjects[number];
	struct history_subject may = *must;
	struct gallery_subject found = {0};
	char subject[16], encounter[16];
	bool acked;
	int error;

	driver_names(number, 0, subject, encounter);
	error = gallery_subject(snapshot, gallery, subject, arena, &found);
	if (error && error != BM_ENOREFERENCE)
		return fault(s, bm_error_text(error));
	acked = same_encounters(&found, must);
	if (must->busy)
		history_apply(&may, &must->flying);
	if (!acked && !(must->busy && same_encounters(&found, &may)))
		return fault(s, "an acknowledged write or deletion is undone");
	if (must->busy && request_is_remembered(s, must->flying.op) == acked)
		return fault(s, "a change and its remembered reply do not agree");
	s->applied += !acked;
	must = acked ? must : &may;
	return !must->n || verifies(snapshot, gallery, subject, must->ops[must->n - 1])
		       ? true
		       : fault(s, "a template does not verify its subject");
}

/* One chain, an entry for every operation that the image has, and every receipt in it. */
static bool follow_chain(struct search *s, struct db_txn *txn, struct arena *arena)
{
	static const struct audit_trust nobody;
	const struct audit_receipt *told = &s->history.receipt;
	struct audit_chain chain = {.trust = &nobody, .next = 1};
	const Biomatch__V1__AuditEntry *entry;
	struct audit_receipt head;
	struct bytes packed;

	while (audit_get(txn, chain.next, &packed)) {
		arena_reset(arena);
		if (audit_chain_take(&chain, packed, arena, &entry))
			return fault(s, chain.fault);
		if (chain.head.sequence == told->sequence &&
		    memcmp(chain.head.hash, told->hash, AUDIT_HASH_LEN))
			return fault(s, "a receipt that was told is not in the chain");
	}
	if (audit_head(txn, &head) || head.sequence != chain.head.sequence ||
	    (head.sequence && memcmp(head.hash, chain.head.hash, AUDIT_HASH_LEN)))
		return fault(s, "the chain does not lead to its head");
	if (head.sequence < told->sequence)
		return fault(s, "the chain ends before a receipt that was told");
	return head.sequence == s->history.acks + s->applied
		       ? true
		       : fault(s, "entries and operations do not agree");
}

/* A change for each audit entry, the one that made the gallery, and our own; none damaged. */
static bool check_changes(struct search *s, struct db_txn *txn)
{
	uint64_t entries = 0, faults = 0;
	struct audit_receipt head;
	struct changes_place end;

	if (changes_check(txn, s->place.keys, &entries, &faults) || faults)
		return fault(s, "the change log is damaged");
	if (changes_head(txn, &end) || audit_head(txn, &head) ||
	    end.sequence != head.sequence + 1 + s->written)
		return fault(s, "changes and audit entries do not agree");
	return true;
}

static bool check_chain(struct search *s)
{
	struct arena arena;
	struct db_txn txn;
	bool good;

	if (db_begin_read(s->place.db, &txn))
		return fault(s, "no transaction");
	arena_init(&arena, 1 << 20);
	good = follow_chain(s, &txn, &arena) && check_changes(s, &txn);
	arena_deinit(&arena);
	db_abort(&txn);
	return good;
}

static bool check_records(struct search *s, struct gallery_snapshot *snapshot)
{
	struct gallery_info gallery;
	struct arena arena;
	uint64_t faults = 0;
	bool good = true;

	if (gallery_check(snapshot, test_report, NULL, &faults) || faults)
		return fault(s, "a checksum or a count is wrong");
	if (gallery_find(snapshot, "g", &gallery))
		return fault(s, "the gallery is gone");
	arena_init(&arena, 1 << 20);
	s->applied = 0;
	for (uint32_t i = 0; good && i < HISTORY_SUBJECTS; i++)
		good = check_subject(s, snapshot, &gallery, i, &arena);
	arena_deinit(&arena);
	for (uint32_t op = 0; good && op < s->history.ops; op++) {
		if (s->history.acked[op] && !request_is_remembered(s, op))
			good = fault(s, "the reply to an acknowledged write is forgotten");
	}
	return good && check_chain(s);
}

/* The store can be written again: what is free is free, what is used is used. */
static bool check_writing(struct search *s)
{
	struct gallery_change change = {.kind = GALLERY_PUT,
					.gallery = "g",
					.subject = "after",
					.dim = STORE_DIM,
					.encounter = {.expires_ms = GALLERY_NEVER}};
	struct gallery_snapshot *snapshot;
	struct gallery_outcome outcome;
	float vector[STORE_DIM];
	bool good;

	driver_vector(HISTORY_OPS, vector);
	change.embedding = vector;
	for (; s->written < 4; s->written++) {
		if (test_apply(&s->place, &change, &outcome))
			return fault(s, "the store cannot be written again");
	}
	if (gallery_snapshot_open(s->place.store, &snapshot))
		return fault(s, "the store cannot be read again");
	s->continued++;
	good = check_records(s, snapshot);
	gallery_snapshot_close(snapshot);
	return good;
}

static bool check_open_store(struct search *s)
{
	struct gallery_snapshot *snapshot;
	bool good;

	if (!s->history.ready)
		return true;
	s->written = 0;
	if (gallery_snapshot_open(s->place.store, &snapshot))
		return fault(s, "no snapshot");
	good = check_records(s, snapshot);
	gallery_snapshot_close(snapshot);
	return good && (s->images % CONTINUED || check_writing(s));
}

/* Before the store was made nothing is lost by saying that it cannot be opened. */
static bool check_image(struct search *s, const uint8_t *image, size_t len)
{
	char path[128], message[256] = "";
	bool good;

	test_store_path(&s->place, "store/data.mdb", path);
	unlink(path);
	if (file_write_new(path, image, len, 0600))
		return fault(s, "the image cannot be written");
	test_store_path(&s->place, "store", path);
	if (db_open(path, 64 << 20, 16, &s->place.db, message)) {
		s->refused++;
		return s->history.ready ? fault(s, message) : true;
	}
	if (gallery_store_open(s->place.db, s->place.keys, &s->place.pack, &s->place.store)) {
		s->refused++;
		db_close(s->place.db);
		return s->history.ready ? fault(s, "the store does not open") : true;
	}
	good = check_open_store(s);
	test_store_close(&s->place);
	return good;
}

/* The same bytes at the same point of history prove nothing twice. */
static bool is_new(struct search *s, const uint8_t *image, size_t len)
{
	uint64_t sum = bytes_checksum(image, len) ^
		       bytes_checksum((const uint8_t *)&s->history, sizeof(s->history));
	size_t at = sum % SEEN_MAX;

	while (s->seen[at] && s->seen[at] != sum)
		at = (at + 1) % SEEN_MAX;
	if (s->seen[at])
		return false;
	s->seen[at] = sum;
	return true;
}

static bool cut_here(struct search *s)
{
	bool good = true;

	for (unsigned i = 0; good && i < DRAWS; i++) {
		size_t len;
		uint8_t *image = disk_image(&s->disk, &s->random, &len);

		if (image && is_new(s, image, len)) {
			s->images++;
			good = check_image(s, image, len);
		}
		free(image);
	}
	return good;
}

/* Walks the log once and cuts the power at every one-in-so-many-th operation. */
static bool pass_over_log(struct search *s, enum disk_lie lie, uint32_t one_in)
{
	struct shim_record record;
	const uint8_t *data;
	struct note note;
	bool good = true;

	if (!disk_open(&s->disk, log_path, lie))
		return fault(s, "the log cannot be read");
	s->history = (struct history){0};
	while (good && disk_begin(&s->disk, &record, &data)) {
		if (record.kind == SHIM_NOTE) {
			memcpy(&note, data, sizeof(note));
			history_take(&s->history, &note);
		} else if (test_random(&s->random) % one_in == 0) {
			good = cut_here(s);
		}
		disk_finish(&s->disk, &record);
	}
	/* All was synced at the end, and here nothing but the end is possible. */
	if (good && one_in == 1)
		good = cut_here(s);
	disk_close(&s->disk);
	return good;
}

static uint32_t count_operations(void)
{
	struct shim_record record;
	const uint8_t *data;
	struct disk disk;
	uint32_t n = 0;

	assert_true(disk_open(&disk, log_path, DISK_HONEST));
	while (disk_begin(&disk, &record, &data)) {
		n += record.kind != SHIM_NOTE;
		disk_finish(&disk, &record);
	}
	disk_close(&disk);
	return n;
}

/* In a child, for what a lying disk leaves may end the process: 0 where all is good. */
static int search_images(const struct test_store *place, enum disk_lie lie, uint32_t wanted)
{
	struct search s = {.place = *place, .random = 1, .seen = calloc(SEEN_MAX, sizeof(*s.seen))};
	uint32_t operations = count_operations(), one_in = operations * DRAWS / wanted;
	bool good = s.seen != NULL;

	log_set_level(LOG_LEVEL_ERROR - 1);
	while (good && s.images < wanted)
		good = pass_over_log(&s, lie, one_in ? one_in : 1);
	printf("%u different images of %u operations: %u written to again, %u refused before "
	       "anything was acknowledged%s%s\n",
	       s.images, operations, s.continued, s.refused, good ? "" : "; FAULT ", s.fault);
	fflush(stdout);
	free(s.seen);
	return good ? 0 : 1;
}

static int run_search(enum disk_lie lie, uint32_t wanted)
{
	static const int fatal[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
	struct test_store place;
	int status;
	pid_t pid;

	test_store_init(&place, 64 << 20);
	test_store_close(&place);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		/* Without cmocka's handlers, which would go on in the child. */
		for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
			signal(fatal[i], SIG_DFL);
		_exit(search_images(&place, lie, wanted));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	test_store_remove(&place);
	if (WIFSIGNALED(status))
		printf("an image ended the process: %s\n", strsignal(WTERMSIG(status)));
	return status;
}

static uint32_t wanted_images(void)
{
	const char *text = getenv("CRASH_IMAGES");

	return text ? (uint32_t)strtoul(text, NULL, 10) : 3000;
}

static void test_nothing_acknowledged_is_lost(void **state)
{
	(void)state;
	assert_int_equal(run_search(DISK_HONEST, wanted_images()), 0);
}

/* The controls: a disk that forgets a sync must be caught, or the test sees nothing. */
static void test_dropped_data_sync_is_noticed(void **state)
{
	(void)state;
	assert_int_not_equal(run_search(DISK_DROPS_SYNC, 3000), 0);
}

static void test_dropped_meta_sync_is_noticed(void **state)
{
	(void)state;
	assert_int_not_equal(run_search(DISK_DROPS_DSYNC, 3000), 0);
}

/* Runs this program again under the shim. */
static int record(void **state)
{
	static char preload[] = "LD_PRELOAD=" BUILD_DIR "/tests/crash/shim.so";
	static char order[] = "ASAN_OPTIONS=verify_asan_link_order=0";
	char log[128], notes[96];
	char *const environment[] = {preload, log, order, NULL};
	char *const arguments[] = {(char *)"powercut_test", (char *)"record", notes, NULL};
	int status;
	pid_t pid;

	(void)state;
	strcpy(log_dir, "/dev/shm/biomatch-crash-XXXXXX");
	if (!mkdtemp(log_dir))
		return -1;
	snprintf(log_path, sizeof(log_path), "%s/log", log_dir);
	snprintf(log, sizeof(log), "SHIM_LOG=%s", log_path);
	snprintf(notes, sizeof(notes), "%s/notes", log_dir);
	pid = fork();
	if (!pid) {
		execve("/proc/self/exe", arguments, environment);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static int forget(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", log_dir);
	return system(command);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_acknowledged_is_lost),
		cmocka_unit_test(test_dropped_data_sync_is_noticed),
		cmocka_unit_test(test_dropped_meta_sync_is_noticed),
	};

	if (score_init(NULL))
		return 1;
	if (argc == 3 && !strcmp(argv[1], "record")) {
		driver_run(WAVES, argv[2]);
		return 0;
	}
	return cmocka_run_group_tests_name("powercut", tests, record, forget);
}
