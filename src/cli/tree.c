/*
 * enrol of a folder that holds a folder of pictures for each subject. Several
 * threads, each with its own connection, take file after file; the request id
 * of a file follows from what is asked, so that a run that is repeated stores
 * nothing twice, with or without its report.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "cli.h"
#include "report.h"

#define TRIES          6
#define FIRST_WAIT_MS  200
#define LONGEST_WAIT_S 30
#define REFRESH_NS     (200 * CLOCK_NS_PER_MS)
#define BAR_WIDTH      30

/* A picture: its path is folder/subject/file. */
struct item {
	char *subject, *file;
};

struct import {
	const struct cli *cli;
	const char *folder;
	struct item *items;
	size_t n, room;
	struct report report;
	char report_path[4096];
	int64_t start_ns;

	pthread_mutex_t lock; /* guards what follows, and the report */
	pthread_cond_t changed;
	size_t next, skipped, counts[OUTCOMES];
	unsigned running;
	int stop; /* the exit code that ends the run early; EXIT_DONE to go on */
};

static int add_item(struct import *import, const char *subject, const char *file)
{
	struct item item;

	if (import->n == import->room) {
		size_t room = import->room ? 2 * import->room : 256;
		void *larger = realloc(import->items, room * sizeof(*import->items));

		if (!larger)
			return BM_ENOMEM;
		import->items = larger;
		import->room = room;
	}
	item.subject = strdup(subject);
	item.file = strdup(file);
	if (!item.subject || !item.file) {
		free(item.subject);
		free(item.file);
		return BM_ENOMEM;
	}
	import->items[import->n++] = item;
	return 0;
}

static int visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Calls visit for every visible entry of this type, in order of name. */
static int walk(struct import *import, const char *path, mode_t type, const char *subject,
		int (*visit)(struct import *import, const char *subject, const char *name))
{
	struct dirent **entries;
	int n = scandir(path, &entries, visible, alphasort), error = n < 0 ? BM_EIO : 0;

	for (int i = 0; i < n; i++) {
		char full[4096];
		struct stat st;
		int len = snprintf(full, sizeof(full), "%s/%s", path, entries[i]->d_name);

		if (!error && len >= (int)sizeof(full)) {
			errno = ENAMETOOLONG;
			error = BM_EIO;
		}
		if (!error && stat(full, &st))
			error = BM_EIO;
		if (!error && (st.st_mode & S_IFMT) == type)
			error = visit(import, subject, entries[i]->d_name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return error;
}

static int visit_subject(struct import *import, const char *unused, const char *name)
{
	char path[4096];

	(void)unused;
	if (snprintf(path, sizeof(path), "%s/%s", import->folder, name) >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return BM_EIO;
	}
	return walk(import, path, S_IFREG, name, add_item);
}

static void free_items(struct import *import)
{
	for (size_t i = 0; i < import->n; i++) {
		free(import->items[i].subject);
		free(import->items[i].file);
	}
	free(import->items);
}

/* Ends the run; the first failure is the one that is told. */
static void stop_import(struct import *import, enum exit_code code, const struct failure *failure)
{
	pthread_mutex_lock(&import->lock);
	if (import->stop == EXIT_DONE)
		import->stop = cli_fail(import->cli, code, failure);
	pthread_mutex_unlock(&import->lock);
}

static const struct item *take_item(struct import *import)
{
	const struct item *item = NULL;

	pthread_mutex_lock(&import->lock);
	if (import->stop == EXIT_DONE && import->next < import->n)
		item = &import->items[import->next++];
	pthread_mutex_unlock(&import->lock);
	return item;
}

static void skip_item(struct import *import)
{
	pthread_mutex_lock(&import->lock);
	import->skipped++;
	pthread_cond_signal(&import->changed);
	pthread_mutex_unlock(&import->lock);
}

static void record(struct import *import, const char *name, const char *request_id,
		   enum outcome outcome, const char *reason)
{
	int error;

	pthread_mutex_lock(&import->lock);
	import->counts[outcome]++;
	error = report_add(&import->report, name, request_id, outcome, reason);
	if (error && import->stop == EXIT_DONE)
		import->stop = cli_fail_file(import->cli, "write the report", error);
	pthread_cond_signal(&import->changed);
	pthread_mutex_unlock(&import->lock);
}

/* A thread and its connection. */
struct worker {
	struct import *import;
	struct biomatch_client *client;
	struct arena arena;
	pthread_t thread;
};

/* What the service said in the end. error is BM_E* where it said nothing. */
struct answer {
	int error;
	struct biomatch_status status;
	const Biomatch__V1__EnrolResponse *response;
};

static bool worth_a_retry(const struct answer *a)
{
	if (a->error)
		return a->error == BM_ENET || a->error == BM_EDEADLINE;
	return a->status.retry_ms || a->status.code == GRPC_UNAVAILABLE;
}

/* Waits as long as the service asks, and longer each time. */
static void wait_before_retry(const struct answer *a, unsigned tries)
{
	uint64_t ms = (uint64_t)FIRST_WAIT_MS << tries;

	if (!a->error && a->status.retry_ms > ms)
		ms = a->status.retry_ms;
	if (ms > LONGEST_WAIT_S * 1000)
		ms = LONGEST_WAIT_S * 1000;
	nanosleep(&(struct timespec){(time_t)(ms / 1000), (long)(ms % 1000) * 1000000}, NULL);
}

static struct answer ask(struct worker *w, const struct enrolment *e)
{
	struct answer a = {.error = BM_EINTERNAL};

	for (unsigned tries = 0; tries < TRIES; tries++) {
		ProtobufCMessage *reply;

		arena_reset(&w->arena);
		a.error = biomatch_client_call(
			w->client, enrol_method.path, &e->message.base, enrol_method.reply,
			w->import->cli->options.timeout_ms, &w->arena, &reply, &a.status);
		a.response = (const Biomatch__V1__EnrolResponse *)reply;
		if (!worth_a_retry(&a))
			break;
		wait_before_retry(&a, tries);
	}
	return a;
}

/* True for what every other file would meet too. */
static bool hopeless(const struct biomatch_status *status)
{
	switch (status->code) {
	case GRPC_PERMISSION_DENIED:
	case GRPC_UNAUTHENTICATED:
	case GRPC_NOT_FOUND:
	case GRPC_UNIMPLEMENTED:
	case GRPC_RESOURCE_EXHAUSTED:
	case GRPC_UNAVAILABLE:
		return true;
	default:
		return false;
	}
}

static void record_response(struct import *import, const char *name, const char *request_id,
			    const Biomatch__V1__EnrolResponse *response)
{
	const char *reason =
		enum_text(&biomatch__v1__reason__descriptor, (int)response->reason, "REASON_");

	switch (response->outcome) {
	case BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_CREATED:
		record(import, name, request_id, OUTCOME_CREATED, "");
		break;
	case BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_DUPLICATE:
		record(import, name, request_id, OUTCOME_DUPLICATE, "");
		break;
	default:
		record(import, name, request_id, OUTCOME_REFER, reason);
	}
}

static void record_answer(struct worker *w, const char *name, const char *request_id,
			  const struct answer *a)
{
	struct import *import = w->import;

	if (a->error)
		stop_import(import, EXIT_CONNECTION,
			    &(struct failure){.reason = bm_error_reason(a->error),
					      .message = biomatch_client_error(w->client),
					      .hint = connection_hint(a->error)});
	else if (a->status.code == GRPC_OK)
		record_response(import, name, request_id, a->response);
	else if (a->status.code == GRPC_ALREADY_EXISTS)
		record(import, name, request_id, OUTCOME_EXISTS, "");
	else if (hopeless(&a->status))
		stop_import(import, EXIT_SERVICE,
			    &(struct failure){.status = grpc_status_name((int)a->status.code),
					      .reason = a->status.reason,
					      .message = a->status.message});
	else
		record(import, name, request_id, OUTCOME_ERROR,
		       *a->status.reason ? a->status.reason
					 : grpc_status_name((int)a->status.code));
}

static void enrol_item(struct worker *w, const struct item *item)
{
	struct import *import = w->import;
	char path[4096], *name = path + strlen(import->folder) + 1;
	struct enrolment e;
	struct answer answer;
	struct probe probe;
	int error;

	snprintf(path, sizeof(path), "%s/%s/%s", import->folder, item->subject, item->file);
	error = probe_read(path, &probe);
	if (error) {
		record(import, name, "", OUTCOME_ERROR, bm_error_reason(error));
		return;
	}
	enrolment_init(&e, &import->cli->options, item->subject, &probe);
	if (request_id_of(&e.message.base, item->file, e.request_id)) {
		stop_import(import, EXIT_LOCAL, &(struct failure){.message = "out of memory"});
	} else if (report_done(&import->report, e.request_id)) {
		skip_item(import);
	} else {
		/* The encounter's name outlives the day that a request id is remembered. */
		e.message.request_id = e.encounter.encounter_id = e.request_id;
		answer = ask(w, &e);
		record_answer(w, name, e.request_id, &answer);
	}
	probe_free(&probe);
}

static void *run_worker(void *data)
{
	struct worker *w = data;
	struct import *import = w->import;
	const struct biomatch_options options = cli_client_options(&import->cli->options);
	char message[BIOMATCH_MESSAGE_MAX];
	const struct item *item;

	if (biomatch_client_open(&options, &w->client, message))
		stop_import(import, EXIT_LOCAL, &(struct failure){.message = message});
	while ((item = take_item(import)))
		enrol_item(w, item);
	biomatch_client_close(w->client);
	arena_deinit(&w->arena);
	pthread_mutex_lock(&import->lock);
	import->running--;
	pthread_cond_signal(&import->changed);
	pthread_mutex_unlock(&import->lock);
	return NULL;
}

static size_t files_done(const struct import *import)
{
	size_t n = import->skipped;

	for (int i = 0; i < OUTCOMES; i++)
		n += import->counts[i];
	return n;
}

static void draw_progress(const struct import *import)
{
	size_t done = files_done(import), fresh = done - import->skipped;
	double seconds = (double)(clock_monotonic_ns() - import->start_ns) / CLOCK_NS_PER_SEC;
	double rate = seconds > 0 ? (double)fresh / seconds : 0;
	int filled = import->n ? (int)(done * BAR_WIDTH / import->n) : BAR_WIDTH;

	fprintf(stderr, "\r[%.*s%*s] %zu/%zu  %.1f/s", filled, "##############################",
		BAR_WIDTH - filled, "", done, import->n, rate);
	if (rate > 0)
		fprintf(stderr, "  %.0f s left", (double)(import->n - done) / rate);
	fprintf(stderr, "  %zu referred  %zu failed\033[K", import->counts[OUTCOME_REFER],
		import->counts[OUTCOME_ERROR]);
}

/* Follows the workers until the last has ended. */
static void watch(struct import *import)
{
	bool draw = isatty(STDERR_FILENO) && !import->cli->options.json;
	int64_t drawn_ns = 0;

	pthread_mutex_lock(&import->lock);
	while (import->running) {
		pthread_cond_wait(&import->changed, &import->lock);
		if (draw && clock_monotonic_ns() - drawn_ns >= REFRESH_NS) {
			draw_progress(import);
			drawn_ns = clock_monotonic_ns();
		}
	}
	if (draw) {
		draw_progress(import);
		fputc('\n', stderr);
	}
	pthread_mutex_unlock(&import->lock);
}

static int run_workers(struct import *import)
{
	unsigned jobs = import->cli->options.jobs, started = 0;
	struct worker *workers = calloc(jobs, sizeof(*workers));

	if (!workers)
		return cli_fail_file(import->cli, "start", BM_ENOMEM);
	pthread_mutex_lock(&import->lock);
	for (; started < jobs; started++) {
		workers[started].import = import;
		arena_init(&workers[started].arena, (size_t)4 << 20);
		if (pthread_create(&workers[started].thread, NULL, run_worker, &workers[started]))
			break;
	}
	import->running = started;
	pthread_mutex_unlock(&import->lock);
	watch(import);
	for (unsigned i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	free(workers);
	return started ? import->stop : cli_fail_file(import->cli, "start a thread", BM_ENOMEM);
}

static void print_summary(const struct import *import)
{
	double seconds = (double)(clock_monotonic_ns() - import->start_ns) / CLOCK_NS_PER_SEC;
	const size_t *counts = import->counts;

	if (import->cli->options.json) {
		json_t *root =
			json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:s}", "files",
				  (json_int_t)import->n, "skipped", (json_int_t)import->skipped,
				  "created", (json_int_t)counts[OUTCOME_CREATED], "exists",
				  (json_int_t)counts[OUTCOME_EXISTS], "duplicate",
				  (json_int_t)counts[OUTCOME_DUPLICATE], "refer",
				  (json_int_t)counts[OUTCOME_REFER], "error",
				  (json_int_t)counts[OUTCOME_ERROR], "seconds", seconds, "report",
				  import->report_path);

		if (root)
			json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
		putchar('\n');
		json_decref(root);
		return;
	}
	print_fact("files", "%zu in %.1f s", import->n, seconds);
	print_fact("created", "%zu", counts[OUTCOME_CREATED]);
	print_fact("done before", "%zu", import->skipped + counts[OUTCOME_EXISTS]);
	print_fact("duplicate", "%zu", counts[OUTCOME_DUPLICATE]);
	print_fact("referred", "%zu", counts[OUTCOME_REFER]);
	print_fact("failed", "%zu%s", counts[OUTCOME_ERROR],
		   counts[OUTCOME_ERROR] ? ", run again to retry" : "");
	print_fact("report", "%s", import->report_path);
}

/* DIR.enrol.jsonl beside the folder, unless another place was named. */
static int name_report(struct import *import)
{
	const char *asked = import->cli->options.report;
	size_t len = strlen(import->folder);
	int written;

	while (len > 1 && import->folder[len - 1] == '/')
		len--;
	if (asked)
		written = snprintf(import->report_path, sizeof(import->report_path), "%s", asked);
	else
		written = snprintf(import->report_path, sizeof(import->report_path),
				   "%.*s.enrol.jsonl", (int)len, import->folder);
	if (written < (int)sizeof(import->report_path))
		return 0;
	errno = ENAMETOOLONG;
	return BM_EIO;
}

static int import_exit(const struct import *import)
{
	if (import->counts[OUTCOME_ERROR])
		return EXIT_SERVICE;
	return import->counts[OUTCOME_DUPLICATE] || import->counts[OUTCOME_REFER] ? EXIT_REFER
										  : EXIT_DONE;
}

int run_enrol_tree(struct cli *cli)
{
	struct import import = {.cli = cli,
				.folder = cli->options.args[1],
				.start_ns = clock_monotonic_ns(),
				.lock = PTHREAD_MUTEX_INITIALIZER,
				.changed = PTHREAD_COND_INITIALIZER};
	int result, error = walk(&import, import.folder, S_IFDIR, NULL, visit_subject);

	if (error) {
		result = cli_fail_file(cli, "read the folder", error);
		goto out;
	}
	error = name_report(&import);
	if (!error)
		error = report_open(&import.report, import.report_path);
	if (error) {
		result = cli_fail_file(cli, "open the report", error);
		goto out;
	}
	result = run_workers(&import);
	report_close(&import.report);
	if (result == EXIT_DONE) {
		print_summary(&import);
		result = import_exit(&import);
	}
out:
	free_items(&import);
	return result;
}
