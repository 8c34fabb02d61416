#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "biomatch/clock.h"
#include "cli.h"

#define CONNECT_MS  10000
#define REPLY_LIMIT ((size_t)32 << 20)

struct biomatch_options cli_client_options(const struct options *o)
{
	return (struct biomatch_options){
		.target = o->target,
		.certificate = o->certificate,
		.private_key = o->private_key,
		.ca = o->ca,
		.server_name = o->server_name,
		.connect_ms = CONNECT_MS,
	};
}

int cli_open(struct cli *cli)
{
	const struct biomatch_options options = cli_client_options(&cli->options);
	char message[BIOMATCH_MESSAGE_MAX];
	int error;

	arena_init(&cli->arena, REPLY_LIMIT);
	error = biomatch_client_open(&options, &cli->client, message);
	if (!error)
		return EXIT_DONE;
	return cli_fail(cli, error == BM_EINVAL ? EXIT_USAGE : EXIT_LOCAL,
			&(struct failure){.reason = bm_error_reason(error), .message = message});
}

void cli_close(struct cli *cli)
{
	biomatch_client_close(cli->client);
	if (cli->client)
		arena_deinit(&cli->arena);
}

const char *connection_hint(int error)
{
	switch (error) {
	case BM_ENET:
		return "check --target and that biomatchd is running";
	case BM_ETLS:
		return "check --cert, --key, --ca and --server-name";
	case BM_EDEADLINE:
		return "try again, or allow more time with --timeout";
	default:
		return NULL;
	}
}

bool reason_is_finding(const char *reason)
{
	static const int findings[] = {BM_ENOFACE, BM_EMANYFACES, BM_EFACESMALL, BM_EFACECUT};

	for (size_t i = 0; i < sizeof(findings) / sizeof(findings[0]); i++) {
		if (!strcmp(reason, bm_error_reason(findings[i])))
			return true;
	}
	return false;
}

static void print_failure_json(const struct failure *f)
{
	json_t *root = json_pack("{s:{s:s*,s:s*,s:o,s:s*,s:s*}}", "error", "status", f->status,
				 "reason", f->reason, "message", text_json(f->message), "field",
				 f->field, "hint", f->hint);

	if (root)
		json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

static void print_failure_text(const struct failure *f)
{
	char message[1024], field[256];

	text_clean(f->message, message, sizeof(message));
	fprintf(stderr, "biomatch: %s", message);
	if (f->field) {
		text_clean(f->field, field, sizeof(field));
		fprintf(stderr, " [%s]", field);
	}
	if (f->status || f->reason)
		fprintf(stderr, " (%s%s%s)", f->status ? f->status : "",
			f->status && f->reason ? ", " : "", f->reason ? f->reason : "");
	if (f->hint)
		fprintf(stderr, "; %s", f->hint);
	fputc('\n', stderr);
}

int cli_fail(const struct cli *cli, enum exit_code code, const struct failure *failure)
{
	if (cli->options.json)
		print_failure_json(failure);
	else
		print_failure_text(failure);
	return code;
}

int cli_fail_file(const struct cli *cli, const char *what, int error)
{
	char message[256];
	bool system = error == BM_EIO || error == BM_EINVAL;
	const char *why = system ? strerror(errno) : bm_error_text(error);

	snprintf(message, sizeof(message), "cannot %s: %s", what, why);
	return cli_fail(cli, EXIT_LOCAL, &(struct failure){.message = message});
}

static const char *or_null(const char *text)
{
	return *text ? text : NULL;
}

static int fail_status(const struct cli *cli, const struct method *method,
		       const struct biomatch_status *status)
{
	const struct failure failure = {
		.status = grpc_status_name((int)status->code),
		.reason = or_null(status->reason),
		.message = *status->message ? status->message : "the service gave no reason",
		.field = or_null(status->field),
	};
	enum exit_code code = EXIT_SERVICE;

	if (method->missing_is_no && status->code == GRPC_NOT_FOUND)
		code = EXIT_NO;
	else if (reason_is_finding(status->reason))
		code = EXIT_REFER;
	return cli_fail(cli, code, &failure);
}

int cli_call(struct cli *cli, const struct method *method, const ProtobufCMessage *request,
	     ProtobufCMessage **reply)
{
	int64_t start = clock_monotonic_ns();
	struct biomatch_status status;
	int error = biomatch_client_call(cli->client, method->path, request, method->reply,
					 cli->options.timeout_ms, &cli->arena, reply, &status);

	cli->elapsed_us = (clock_monotonic_ns() - start) / CLOCK_NS_PER_US;
	if (error)
		return cli_fail(cli, EXIT_CONNECTION,
				&(struct failure){.reason = bm_error_reason(error),
						  .message = biomatch_client_error(cli->client),
						  .hint = connection_hint(error)});
	if (status.code != GRPC_OK)
		return fail_status(cli, method, &status);
	return EXIT_DONE;
}
