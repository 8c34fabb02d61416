/*
 * What the commands of `biomatch` share: the options, the connection, and the
 * ways to print. A command is a row of the table in main.c and a function that
 * gives the exit code.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "biomatch/client.h"
#include "biomatch/v1/admin_service.pb-c.h"
#include "biomatch/v1/analysis_service.pb-c.h"
#include "biomatch/v1/audit.pb-c.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "biomatch/v1/matching_service.pb-c.h"

/* Documented in biomatch(1): scripts rely on them. */
enum exit_code {
	EXIT_DONE = 0,       /* done; a match; a usable picture */
	EXIT_NO = 1,         /* no match; not found */
	EXIT_USAGE = 2,      /* the command line is wrong */
	EXIT_REFER = 3,      /* nothing decided or stored; a person must look */
	EXIT_SERVICE = 4,    /* the service refused or failed the call */
	EXIT_CONNECTION = 5, /* the service could not be reached in time */
	EXIT_LOCAL = 6,      /* a file here cannot be read or written */
};

#define CLI_MAX_ARGS 32
#define CLI_MAX_LIST 64
/* The service takes no larger picture. */
#define CLI_MAX_PICTURE ((size_t)10 << 20)
#define REQUEST_ID_LEN  32

/* An option that may be given several times. */
struct list {
	char *items[CLI_MAX_LIST];
	size_t n;
};

/* What the command line and the environment say; NULL and 0 where they do not. */
struct options {
	const char *target, *certificate, *private_key, *ca, *server_name, *purpose;
	uint32_t timeout_ms;
	bool json;
	char *args[CLI_MAX_ARGS];
	size_t n_args;

	char *request_id, *encounter, *report, *output;
	struct list types, sites, subjects, images;
	int64_t captured_s, expires_s, from_s, before_s; /* Unix time; 0 for none */
	bool refuse_duplicates, ed25519;
	struct list public_keys;
	uint64_t first;
	unsigned max_candidates, jobs, days;
};

/* A run of one command. client is NULL where the command makes no call. */
struct cli {
	struct options options;
	struct biomatch_client *client;
	struct arena arena; /* the replies */
	int64_t elapsed_us; /* of the last call, as seen from here */
};

/* connect.c */
int cli_open(struct cli *cli) BM_MUST_CHECK;
void cli_close(struct cli *cli);
struct biomatch_options cli_client_options(const struct options *options);

/* A method of the service. */
struct method {
	const char *path;
	const ProtobufCMessageDescriptor *reply;
	bool missing_is_no; /* NOT_FOUND is an answer: EXIT_NO */
};
/* Calls; on failure prints why and gives its exit code, else EXIT_DONE. */
int cli_call(struct cli *cli, const struct method *method, const ProtobufCMessage *request,
	     ProtobufCMessage **reply) BM_MUST_CHECK;

/* Prints what failed, as text on standard error or as JSON. Never holds personal data. */
struct failure {
	const char *status, *reason, *message, *field, *hint; /* NULL for none */
};
int cli_fail(const struct cli *cli, enum exit_code code, const struct failure *failure);
/*
 * The same for a file: "cannot read the second file: No such file or directory".
 * errno must tell more of BM_EIO and BM_EINVAL.
 */
int cli_fail_file(const struct cli *cli, const char *what, int error);
/* What to do about a failure of the connection; NULL for nothing. */
const char *connection_hint(int error);
/* True for a reason that speaks of the face in the picture. */
bool reason_is_finding(const char *reason);

/* request.c */
/* A picture or a template, as a probe. */
struct probe {
	Biomatch__V1__Probe message;
	Biomatch__V1__Image image;
	Biomatch__V1__Template template_;
	struct arena arena;
	uint8_t *data;
	size_t len;
};
/* The first line of a template file; a packed biomatch.v1.Template follows. */
#define TEMPLATE_MAGIC "biomatch template 1\n"
/* BM_EIO, BM_EINVAL (too large), BM_ETEMPLATE, BM_ENOMEM. */
int probe_read(const char *path, struct probe *out) BM_MUST_CHECK;
void probe_free(struct probe *probe);
/* A probe of a file and of the further frames of its capture that the options name. */
struct capture {
	Biomatch__V1__Probe message;
	Biomatch__V1__Frames frames;
	Biomatch__V1__Frame frame[1 + CLI_MAX_LIST], *list[1 + CLI_MAX_LIST];
	struct probe probes[1 + CLI_MAX_LIST];
	size_t n;
};
/* Errors as probe_read; nothing is left to free after one. */
int capture_read(const struct options *options, const char *path,
		 struct capture *out) BM_MUST_CHECK;
void capture_free(struct capture *capture);
/* The request id that the options name, or a random one in room. Gives an exit code. */
int cli_request_id(const struct cli *cli, char room[REQUEST_ID_LEN + 1], char **out) BM_MUST_CHECK;
/* The same request and name give the same id, so that a repetition stores nothing twice. */
int request_id_of(const ProtobufCMessage *request, const char *name,
		  char out[REQUEST_ID_LEN + 1]) BM_MUST_CHECK;
/* "2024-05-31" or "2024-05-31T13:45:00Z" as Unix time above 0. BM_EINVAL. */
int time_parse(const char *text, int64_t *out) BM_MUST_CHECK;
void time_format(const Google__Protobuf__Timestamp *t, char out[32]);

/* json.c */
/* Prints a reply as protobuf's JSON, with the names of the .proto. */
int print_json(const ProtobufCMessage *message) BM_MUST_CHECK;
/* The same as a value; NULL where there is no memory. */
json_t *message_json(const ProtobufCMessage *message);
/* A string for text that nothing has checked to be UTF-8. */
json_t *text_json(const char *text);

/* print.c */
struct table;
struct table *table_new(size_t columns);
void table_free(struct table *table);
/* Takes one string a column; NULL is an empty cell. */
void table_add(struct table *table, ...) __attribute__((sentinel));
void table_print(struct table *table);
/* "name  value", aligned with its neighbours; value is a printf format. */
void print_fact(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* An enum value without its prefix: "NO_MATCH". */
const char *enum_text(const ProtobufCEnumDescriptor *type, int value, const char *prefix);
void print_basis(const Biomatch__V1__MatchBasis *basis, const char *rate_name);
void print_raw(const Biomatch__V1__RawScore *raw);
void print_report(const char *name, const Biomatch__V1__ProbeReport *report);
void print_times(const Biomatch__V1__StageTimes *times, int64_t elapsed_us);
/* Where the call stands in the audit log, as SEQUENCE:HASH. */
void print_receipt(const Biomatch__V1__Receipt *receipt);
void print_candidates(Biomatch__V1__Candidate *const *candidates, size_t n);
/* The reason of a referral and what to do. */
void print_reason(const char *name, Biomatch__V1__Reason reason);
/* Copies text with control characters replaced: nobody's strings may drive a terminal. */
void text_clean(const char *text, char *out, size_t room);

/* The commands. Each gives an exit code. */
int run_verify(struct cli *cli);
int run_compare(struct cli *cli);
int run_verify_document(struct cli *cli);
int run_identify(struct cli *cli);
int run_analyse(struct cli *cli);
int run_extract(struct cli *cli);
int run_enrol(struct cli *cli);
int run_enrol_tree(struct cli *cli);
int run_subject_show(struct cli *cli);
int run_subject_image(struct cli *cli);
int run_subject_approve(struct cli *cli);
int run_subject_export(struct cli *cli);
int run_subject_read(struct cli *cli);
int run_subject_delete(struct cli *cli);
int run_subject_delete_encounter(struct cli *cli);
int run_reload(struct cli *cli);
int run_subject_hold(struct cli *cli);
int run_subject_release(struct cli *cli);
int run_subject_holds(struct cli *cli);
int run_standby_promote(struct cli *cli);
int run_gallery_create(struct cli *cli);
int run_gallery_list(struct cli *cli);
int run_gallery_show(struct cli *cli);
int run_gallery_delete(struct cli *cli);
int run_key_rotate(struct cli *cli);
int run_key_add(struct cli *cli);
int run_cert_ca(struct cli *cli);
int run_cert_server(struct cli *cli);
int run_cert_endpoint(struct cli *cli);
int run_cert_key(struct cli *cli);
int run_cert_audit(struct cli *cli);
int run_audit_export(struct cli *cli);
int run_audit_verify(struct cli *cli);
int run_audit_show(struct cli *cli);
int run_audit_prove(struct cli *cli);
int run_audit_prune(struct cli *cli);
int run_health(struct cli *cli);
int run_top(struct cli *cli);
int run_version(struct cli *cli);

/* enrol.c, shared with the tree. */
struct enrolment {
	Biomatch__V1__EnrolRequest message;
	Biomatch__V1__Encounter encounter;
	Google__Protobuf__Timestamp captured, expires;
	char request_id[REQUEST_ID_LEN + 1];
};
/* Fills in everything but the request id; borrows all. */
void enrolment_init(struct enrolment *e, const struct options *options, const char *subject,
		    struct probe *probe);
extern const struct method enrol_method;

#endif
