#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "biomatch/audit.h"
#include "biomatch/changes.h"
#include "biomatch/clock.h"
#include "biomatch/log.h"
#include "biomatch/score.h"
#include "ops.h"

/* Galleries told one by one; those beyond are added up under "other". */
#define MAX_GALLERIES 256
#define PAGE          64

static void write_value(FILE *out, const char *name, const char *type, const char *help,
			double value)
{
	metrics_write_head(out, name, type, help);
	metrics_write_sample(out, name, NULL, value);
}

static void write_build(const struct ops *ops, FILE *out)
{
	const char *const labels[] = {
		"version", BIOMATCH_VERSION, "kernel",      score_kernel()->name,
		"model",   ops->pack->model, "calibration", ops->pack->calibration_id,
		NULL};

	metrics_write_head(out, "biomatch_build_info", "gauge",
			   "What runs here: version, scoring kernel, model, calibration.");
	metrics_write_sample(out, "biomatch_build_info", labels, 1);
	write_value(out, "process_start_time_seconds", "gauge", "Start of the process, Unix time.",
		    (double)ops->started_ms / 1000);
}

static void write_process(FILE *out)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		return;
	write_value(out, "process_cpu_seconds_total", "counter",
		    "Processor time of the daemon, without its face workers.",
		    (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
}

static void write_reloads(const struct ops *ops, FILE *out)
{
	static const char name[] = "biomatch_reload_refused";

	metrics_write_head(out, name, "gauge",
			   "1 while the file last read was refused and the one before is in use.");
	metrics_write_sample(out, name, (const char *[]){"what", "policy", NULL},
			     atomic_load(&ops->policy_refused));
	metrics_write_sample(out, name, (const char *[]){"what", "certificates", NULL},
			     atomic_load(&ops->certificates_refused));
	metrics_write_sample(out, name, (const char *[]){"what", "documents", NULL},
			     atomic_load(&ops->documents_refused));
}

static void write_parts(const struct ops *ops, FILE *out)
{
	struct ops_part parts[OPS_PARTS];

	ops_look(ops, parts);
	metrics_write_head(out, "biomatch_late_seconds", "gauge",
			   "By how much the slowest thread of a part is late; from 5 on it hangs.");
	for (size_t i = 0; i < OPS_PARTS; i++)
		metrics_write_sample(out, "biomatch_late_seconds",
				     (const char *[]){"part", parts[i].name, NULL},
				     parts[i].late_ms / 1000.0);
}

struct pool_row {
	const char *name;
	const struct batch_stat *stat;
};

static void write_pool_family(FILE *out, const struct pool_row pools[3], const char *name,
			      const char *help, double (*value)(const struct batch_stat *))
{
	metrics_write_head(out, name, "gauge", help);
	for (int i = 0; i < 3; i++)
		metrics_write_sample(out, name, (const char *[]){"pool", pools[i].name, NULL},
				     value(pools[i].stat));
}

static double waiting(const struct batch_stat *stat)
{
	return (double)stat->waiting;
}

static double threads(const struct batch_stat *stat)
{
	return stat->threads;
}

static double busy(const struct batch_stat *stat)
{
	return stat->busy;
}

static void write_service(const struct ops *ops, FILE *out)
{
	struct service_stat stat;
	const struct pool_row pools[3] = {
		{"face", &stat.face}, {"read", &stat.read}, {"scan", &stat.scan}};

	service_stat(ops->service, &stat);
	write_pool_family(out, pools, "biomatch_pool_waiting", "Calls waiting for a thread.",
			  waiting);
	write_pool_family(out, pools, "biomatch_pool_threads", "Threads of each pool.", threads);
	write_pool_family(out, pools, "biomatch_pool_busy", "Threads at work.", busy);
	write_value(out, "biomatch_face_workers_down", "gauge",
		    "Face threads whose worker process does not start.", stat.face.unready);
	write_value(out, "biomatch_calls_open", "gauge", "Calls under way.", stat.calls_open);
	write_value(out, "biomatch_draining", "gauge", "1 once the daemon is ending.",
		    stat.draining);
}

static void write_store(const struct ops *ops, FILE *out)
{
	struct writer_stat writer;
	struct db_stat db;

	writer_stat(ops->writer, &writer);
	write_value(out, "biomatch_writer_waiting", "gauge", "Writes waiting for the writer.",
		    writer.waiting);
	write_value(out, "biomatch_writer_jobs_total", "counter", "Writes tried.",
		    (double)writer.jobs);
	write_value(out, "biomatch_writer_commits_total", "counter", "Transactions committed.",
		    (double)writer.commits);
	write_value(out, "biomatch_writer_repeats_total", "counter",
		    "Writes answered from the memory of their request id.", (double)writer.repeats);
	write_value(out, "biomatch_store_read_only", "gauge",
		    "1 once a write failed: nothing is stored until a restart.",
		    writer.failed || db_is_read_only(ops->db));
	if (db_stat(ops->db, &db))
		return;
	write_value(out, "biomatch_store_map_bytes", "gauge",
		    "The most that the database may grow to.", (double)db.map_bytes);
	write_value(out, "biomatch_store_used_bytes", "gauge",
		    "Bytes of the database file that were ever in use.", (double)db.used_bytes);
	write_value(out, "biomatch_store_readers", "gauge", "Read transactions under way.",
		    db.readers);
	write_value(out, "biomatch_store_oldest_reader_commits", "gauge",
		    "Commits since the oldest read transaction began: pages it keeps from reuse.",
		    (double)db.oldest_reader);
}

/* The head of the audit log: it stands still when nothing is decided, or nothing can be. */
static void write_audit(const struct ops *ops, FILE *out)
{
	struct audit_receipt head;
	struct db_txn txn;

	if (db_begin_read(ops->db, &txn))
		return;
	if (!audit_head(&txn, &head))
		write_value(out, "biomatch_audit_entries_total", "counter",
			    "Entries of the audit log.", (double)head.sequence);
	db_abort(&txn);
}

static void write_changes(const struct ops *ops, FILE *out)
{
	struct changes_place head, base;
	struct db_txn txn;
	int error = db_begin_read(ops->db, &txn);

	if (error)
		return;
	error = changes_head(&txn, &head);
	if (!error)
		error = changes_base(&txn, &base);
	db_abort(&txn);
	if (error)
		return;
	write_value(out, "biomatch_changes_total", "counter", "Changes of the galleries, ever.",
		    (double)head.sequence);
	write_value(out, "biomatch_changes_kept", "gauge", "Changes that the change log holds.",
		    (double)(head.sequence - base.sequence));
	write_value(out, "biomatch_changes_epoch", "gauge",
		    "Grows by one when another daemon takes the lead.", (double)head.epoch);
}

static void write_standby(const struct ops *ops, FILE *out)
{
	static const char *const names[] = {"leader", "standby", "superseded"};
	struct service_stat service;
	struct standby_stat stat;

	standby_stat(ops->standby, &stat);
	service_stat(ops->service, &service);
	metrics_write_head(out, "biomatch_role", "gauge", "1 for the part that the daemon has.");
	for (int i = 0; i < 3; i++)
		metrics_write_sample(out, "biomatch_role", (const char *[]){"role", names[i], NULL},
				     (int)stat.role == i);
	write_value(out, "biomatch_followers", "gauge", "Streams of changes under way.",
		    service.followers);
	if (stat.role != STANDBY_FOLLOWS)
		return;
	write_value(out, "biomatch_standby_connected", "gauge",
		    "1 while the leader's changes come in.", stat.connected);
	write_value(out, "biomatch_standby_lag_changes", "gauge",
		    "Changes that the leader is known to have and the standby has not.",
		    (double)stat.lag_changes);
	write_value(out, "biomatch_standby_lag_seconds", "gauge",
		    "Time since the standby was last known to have all that the leader has.",
		    (double)stat.lag_ms / 1000);
}

static void write_expiry(FILE *out, const char *which, int64_t ms)
{
	if (ms)
		metrics_write_sample(out, "biomatch_certificate_expiry_seconds",
				     (const char *[]){"certificate", which, NULL},
				     (double)ms / 1000);
}

static void write_net(const struct ops *ops, FILE *out)
{
	struct net_stat net;

	net_server_stat(ops->net, &net);
	write_value(out, "biomatch_connections", "gauge",
		    "Connections, those in their handshake too.", net.connections);
	write_value(out, "biomatch_connections_handshaking", "gauge",
		    "Connections that have not shown a certificate yet.", net.handshaking);
	write_value(out, "biomatch_connections_accepted_total", "counter", "Connections accepted.",
		    (double)net.accepted);
	write_value(out, "biomatch_tls_handshakes_total", "counter", "TLS handshakes completed.",
		    (double)net.handshakes);
	write_value(out, "biomatch_tls_handshake_failures_total", "counter",
		    "TLS handshakes that failed, for want of a good certificate or otherwise.",
		    (double)net.handshake_failures);
	write_value(out, "biomatch_message_bytes_held", "gauge",
		    "Bytes of messages, queued or incomplete.", (double)net.bytes_held);
	metrics_write_head(out, "biomatch_certificate_expiry_seconds", "gauge",
			   "End of validity, Unix time; of several CAs the first to end.");
	write_expiry(out, "server", net.certificate_ends_ms);
	write_expiry(out, "client_ca", net.client_ca_ends_ms);
	write_value(out, "biomatch_connections_revoked_total", "counter",
		    "Connections closed because their certificate was no longer good.",
		    (double)net.revoked);
	write_value(out, "biomatch_connection_rests_total", "counter",
		    "Times that a connection had used up its share of a thread and had to wait.",
		    (double)net.rests);
	if (net.crl_ends_ms)
		write_value(out, "biomatch_crl_next_update_seconds", "gauge",
			    "When the first revocation list ought to be replaced, Unix time.",
			    (double)net.crl_ends_ms / 1000);
}

/* The facts of galleries, as far as they are told one by one. */
struct galleries {
	struct gallery_info list[MAX_GALLERIES + 1]; /* the last: all the others */
	size_t n, total;
	uint64_t old_rows; /* of all galleries, under a key that is to be left */
};

static void add_gallery(struct galleries *all, const struct gallery_info *info, uint64_t old_rows)
{
	struct gallery_info *other = &all->list[MAX_GALLERIES];

	all->total++;
	all->old_rows += old_rows;
	if (all->n < MAX_GALLERIES) {
		all->list[all->n++] = *info;
		return;
	}
	all->n = MAX_GALLERIES + 1;
	strcpy(other->name, "other");
	other->subjects += info->subjects;
	other->encounters += info->encounters;
	other->held += info->held;
	other->segments += info->segments;
	other->tail_rows += info->tail_rows;
}

static int list_galleries(const struct ops *ops, struct galleries *all)
{
	struct gallery_info page[PAGE];
	struct gallery_snapshot *snapshot;
	char after[GALLERY_NAME_MAX + 1] = "";
	uint64_t old_rows;
	size_t n = 0;
	int error = gallery_snapshot_open(ops->store, &snapshot);

	if (error)
		return error;
	do {
		error = gallery_list(snapshot, after, page, PAGE, &n);
		for (size_t i = 0; !error && i < n; i++) {
			error = gallery_rows_to_reencode(snapshot, &page[i], &old_rows);
			if (!error)
				add_gallery(all, &page[i], old_rows);
		}
		if (n)
			strcpy(after, page[n - 1].name);
	} while (!error && n == PAGE);
	gallery_snapshot_close(snapshot);
	return error;
}

static double subjects(const struct gallery_info *gallery)
{
	return (double)gallery->subjects;
}

static double held(const struct gallery_info *gallery)
{
	return (double)gallery->held;
}

static double references(const struct gallery_info *gallery)
{
	return (double)gallery->encounters;
}

static double segments(const struct gallery_info *gallery)
{
	return (double)gallery->segments;
}

static double tail_rows(const struct gallery_info *gallery)
{
	return (double)gallery->tail_rows;
}

static void write_gallery_families(const struct galleries *all, FILE *out)
{
	static const struct {
		const char *name, *help;
		double (*value)(const struct gallery_info *);
	} families[] = {
		{"biomatch_gallery_subjects", "Subjects of a gallery.", subjects},
		{"biomatch_gallery_held_subjects", "Subjects under legal hold.", held},
		{"biomatch_gallery_references", "References of a gallery.", references},
		{"biomatch_gallery_segments", "Sealed segments of a gallery.", segments},
		{"biomatch_gallery_tail_rows", "References not sealed yet.", tail_rows},
	};

	for (size_t f = 0; f < sizeof(families) / sizeof(families[0]); f++) {
		metrics_write_head(out, families[f].name, "gauge", families[f].help);
		for (size_t i = 0; i < all->n; i++) {
			const char *const labels[] = {"gallery", all->list[i].name, NULL};

			metrics_write_sample(out, families[f].name, labels,
					     families[f].value(&all->list[i]));
		}
	}
	write_value(out, "biomatch_galleries", "gauge", "Galleries.", (double)all->total);
	write_value(out, "biomatch_references_to_reencode", "gauge",
		    "References that are still to be moved to another key.", (double)all->old_rows);
}

static void write_galleries(const struct ops *ops, FILE *out)
{
	struct galleries *all = calloc(1, sizeof(*all));
	int error = all ? list_galleries(ops, all) : BM_ENOMEM;

	if (error)
		log_error("galleries_not_counted", "reason=%s", bm_error_reason(error));
	else
		write_gallery_families(all, out);
	free(all);
}

int ops_render_metrics(void *ctx, FILE *out)
{
	const struct ops *ops = ctx;

	write_build(ops, out);
	write_process(out);
	write_parts(ops, out);
	write_reloads(ops, out);
	write_service(ops, out);
	write_store(ops, out);
	write_audit(ops, out);
	write_changes(ops, out);
	write_standby(ops, out);
	write_net(ops, out);
	write_galleries(ops, out);
	metrics_write(ops->metrics, out);
	return 200;
}
