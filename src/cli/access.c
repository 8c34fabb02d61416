/* subject approve-export, export, read-export: what is held of a subject, for the subject. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/envelope.h"
#include "biomatch/file.h"
#include "cli.h"

#include "biomatch/v1/audit.pb-c.h"
#include "biomatch/wire.h"

#define KEY_MAX  1024
#define PATH_LEN 4096
/* An export with all its entries in memory. */
#define EXPORT_MEMORY ((size_t)64 << 20)

static const struct method approve_method = {
	"/biomatch.v1.AdminService/ApproveSubjectExport",
	&biomatch__v1__approve_subject_export_response__descriptor, true};
static const struct method export_method = {"/biomatch.v1.AdminService/ExportSubject",
					    &biomatch__v1__export_subject_response__descriptor,
					    true};

/* The recipient's key as it is in its file; both requests must have the same bytes. */
static int read_key(const struct cli *cli, const char *path, ProtobufCBinaryData *out)
{
	int error = file_read(path, KEY_MAX, &out->data, &out->len);

	return error ? cli_fail_file(cli, "read the recipient's public key", error) : EXIT_DONE;
}

int run_subject_approve(struct cli *cli)
{
	Biomatch__V1__ApproveSubjectExportRequest request =
		BIOMATCH__V1__APPROVE_SUBJECT_EXPORT_REQUEST__INIT;
	const Biomatch__V1__ApproveSubjectExportResponse *response;
	char id[REQUEST_ID_LEN + 1], until[32];
	ProtobufCMessage *reply;
	int result = cli_request_id(cli, id, &request.request_id);

	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	if (!result)
		result = read_key(cli, cli->options.args[2], &request.recipient_key);
	if (!result)
		result = cli_call(cli, &approve_method, &request.base, &reply);
	free(request.recipient_key.data);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	response = (const Biomatch__V1__ApproveSubjectExportResponse *)reply;
	time_format(response->expires_at, until);
	print_fact("approved", "until %s, for another endpoint to export", until);
	print_receipt(response->receipt);
	return EXIT_DONE;
}

/* The first part has the name asked for, later ones their number behind it. */
static int write_part(const struct cli *cli, const char *name, unsigned part,
		      const Biomatch__V1__ExportSubjectResponse *response)
{
	char path[PATH_LEN];
	int error, len = part == 1 ? snprintf(path, sizeof(path), "%s", name)
				   : snprintf(path, sizeof(path), "%s.%u", name, part);

	if (len >= PATH_LEN)
		return cli_fail_file(cli, "write the export", BM_ENOMEM);
	error = file_write_new(path, response->sealed.data, response->sealed.len, 0600);
	if (error)
		return cli_fail_file(cli, "write the export", error);
	if (!cli->options.json) {
		print_fact("wrote", "%s", path);
		print_receipt(response->receipt);
	}
	return EXIT_DONE;
}

int run_subject_export(struct cli *cli)
{
	Biomatch__V1__ExportSubjectRequest request = BIOMATCH__V1__EXPORT_SUBJECT_REQUEST__INIT;
	const Biomatch__V1__ExportSubjectResponse *response;
	ProtobufCMessage *reply;
	unsigned part = 0;
	int result = read_key(cli, cli->options.args[2], &request.recipient_key);

	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	while (!result && (!part || request.first_entry || *request.first_image)) {
		result = cli_call(cli, &export_method, &request.base, &reply);
		if (result)
			break;
		response = (const Biomatch__V1__ExportSubjectResponse *)reply;
		result = write_part(cli, cli->options.args[3], ++part, response);
		request.first_entry = response->next_entry;
		request.first_image = response->next_image;
	}
	free(request.recipient_key.data);
	if (!result && cli->options.json)
		printf("{\n  \"written\": %u\n}\n", part);
	return result;
}

/* Opens a sealed file into memory that no disk sees. */
static int open_sealed(const char *path, const char *private_key, uint8_t **data, size_t *len)
{
	int error = BM_EIO, in = -1, out = memfd_create("export", MFD_CLOEXEC);
	struct stat st;
	FILE *file;

	file = fopen(path, "re");
	if (!file || out < 0)
		goto out;
	in = fileno(file);
	error = envelope_open(in, out, private_key);
	if (!error && (fstat(out, &st) || lseek(out, 0, SEEK_SET)))
		error = BM_EIO;
	if (error)
		goto out;
	*len = (size_t)st.st_size;
	*data = malloc(*len + 1);
	error = *data ? file_read_full(out, *data, *len) : BM_ENOMEM;
	if (error)
		free(*data);
out:
	if (file)
		fclose(file);
	if (out >= 0)
		close(out);
	return error;
}

/* The entries as what they say, in place of their bytes. */
static int add_entries(json_t *root, const Biomatch__V1__SubjectExport *export, struct arena *arena)
{
	json_t *list = json_array();
	int error = list ? 0 : BM_ENOMEM;

	for (size_t i = 0; !error && i < export->n_audit_entries; i++) {
		const ProtobufCBinaryData *packed = &export->audit_entries[i];
		ProtobufCMessage *entry;

		error = wire_unpack(&biomatch__v1__audit_entry__descriptor, arena,
				    (struct bytes){packed->data, packed->len}, &entry);
		if (!error && json_array_append_new(list, message_json(entry)))
			error = BM_ENOMEM;
	}
	if (!error && json_object_set(root, "audit_entries", list))
		error = BM_ENOMEM;
	json_decref(list);
	return error;
}

static int print_export(struct bytes packed)
{
	ProtobufCMessage *message;
	json_t *root = NULL;
	struct arena arena;
	int error;

	arena_init(&arena, EXPORT_MEMORY);
	error = wire_unpack(&biomatch__v1__subject_export__descriptor, &arena, packed, &message);
	if (!error)
		error = (root = message_json(message)) ? 0 : BM_ENOMEM;
	if (!error)
		error = add_entries(root, (const Biomatch__V1__SubjectExport *)message, &arena);
	if (!error && json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)))
		error = BM_EIO;
	if (!error)
		putchar('\n');
	json_decref(root);
	arena_deinit(&arena);
	return error;
}

int run_subject_read(struct cli *cli)
{
	uint8_t *data;
	size_t len;
	int error = open_sealed(cli->options.args[0], cli->options.args[1], &data, &len);

	if (!error) {
		error = print_export((struct bytes){data, len});
		bytes_wipe(data, len);
		free(data);
	}
	return error ? cli_fail_file(cli, "read the export", error) : EXIT_DONE;
}
