/* subject show, image, delete, delete-encounter, hold, release, holds. */
#include <stdio.h>

#include "biomatch/file.h"
#include "cli.h"

static const struct method show_method = {"/biomatch.v1.EnrolmentService/GetSubject",
					  &biomatch__v1__get_subject_response__descriptor, true};
static const struct method image_method = {"/biomatch.v1.EnrolmentService/GetImage",
					   &biomatch__v1__get_image_response__descriptor, true};
static const struct method delete_method = {"/biomatch.v1.EnrolmentService/DeleteSubject",
					    &biomatch__v1__delete_subject_response__descriptor,
					    true};
static const struct method delete_encounter_method = {
	"/biomatch.v1.EnrolmentService/DeleteEncounter",
	&biomatch__v1__delete_encounter_response__descriptor, true};

static const struct method hold_method = {"/biomatch.v1.AdminService/PlaceLegalHold",
					  &biomatch__v1__place_legal_hold_response__descriptor,
					  true};
static const struct method release_method = {"/biomatch.v1.AdminService/ReleaseLegalHold",
					     &biomatch__v1__release_legal_hold_response__descriptor,
					     true};
static const struct method holds_method = {"/biomatch.v1.AdminService/ListLegalHolds",
					   &biomatch__v1__list_legal_holds_response__descriptor,
					   true};

static void print_encounters(const Biomatch__V1__GetSubjectResponse *r)
{
	struct table *table = table_new(8);

	table_add(table, "encounter", "type", "site", "captured", "expires", "enrolled", "model",
		  "picture", NULL);
	for (size_t i = 0; i < r->n_encounters; i++) {
		const Biomatch__V1__Encounter *e = r->encounters[i];
		char captured[32], expires[32], enrolled[32];

		time_format(e->captured_at, captured);
		time_format(e->expires_at, expires);
		time_format(e->enrolled_at, enrolled);
		table_add(table, e->encounter_id, e->encounter_type, e->site, captured,
			  e->expires_at ? expires : "never", enrolled, e->model,
			  e->has_image ? "kept" : "", NULL);
	}
	table_print(table);
	table_free(table);
}

int run_subject_show(struct cli *cli)
{
	Biomatch__V1__GetSubjectRequest request = BIOMATCH__V1__GET_SUBJECT_REQUEST__INIT;
	ProtobufCMessage *reply;
	int result;

	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	result = cli_call(cli, &show_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	print_encounters((const Biomatch__V1__GetSubjectResponse *)reply);
	if (((const Biomatch__V1__GetSubjectResponse *)reply)->legal_hold)
		print_fact("legal hold", "stands: nothing of the subject is erased");
	return EXIT_DONE;
}

int run_subject_image(struct cli *cli)
{
	Biomatch__V1__GetImageRequest request = BIOMATCH__V1__GET_IMAGE_REQUEST__INIT;
	const Biomatch__V1__GetImageResponse *response;
	ProtobufCMessage *reply;
	int result, error;

	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	request.encounter_id = cli->options.args[2];
	result = cli_call(cli, &image_method, &request.base, &reply);
	if (result)
		return result;
	response = (const Biomatch__V1__GetImageResponse *)reply;
	error = file_write_new(cli->options.args[3], response->data.data, response->data.len, 0600);
	if (error)
		return cli_fail_file(cli, "write the picture", error);
	if (cli->options.json) {
		printf("{\n  \"written\": %zu\n}\n", response->data.len);
		return EXIT_DONE;
	}
	print_fact("wrote", "%s", cli->options.args[3]);
	print_receipt(response->receipt);
	return EXIT_DONE;
}

int run_subject_delete(struct cli *cli)
{
	Biomatch__V1__DeleteSubjectRequest request = BIOMATCH__V1__DELETE_SUBJECT_REQUEST__INIT;
	const Biomatch__V1__DeleteSubjectResponse *response;
	char id[REQUEST_ID_LEN + 1];
	ProtobufCMessage *reply;
	int result = cli_request_id(cli, id, &request.request_id);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	result = cli_call(cli, &delete_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	response = (const Biomatch__V1__DeleteSubjectResponse *)reply;
	print_fact("deleted", "the subject and %u encounters", response->encounters_deleted);
	print_receipt(response->receipt);
	return EXIT_DONE;
}

int run_subject_delete_encounter(struct cli *cli)
{
	Biomatch__V1__DeleteEncounterRequest request = BIOMATCH__V1__DELETE_ENCOUNTER_REQUEST__INIT;
	char id[REQUEST_ID_LEN + 1];
	ProtobufCMessage *reply;
	const Biomatch__V1__DeleteEncounterResponse *response;
	int result = cli_request_id(cli, id, &request.request_id);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	request.encounter_id = cli->options.args[2];
	result = cli_call(cli, &delete_encounter_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	response = (const Biomatch__V1__DeleteEncounterResponse *)reply;
	print_fact("deleted", "the encounter");
	print_fact("left", "%u%s", response->encounters_left,
		   response->encounters_left ? "" : ", the subject is gone");
	print_receipt(response->receipt);
	return EXIT_DONE;
}

int run_subject_hold(struct cli *cli)
{
	Biomatch__V1__PlaceLegalHoldRequest request = BIOMATCH__V1__PLACE_LEGAL_HOLD_REQUEST__INIT;
	const Biomatch__V1__PlaceLegalHoldResponse *response;
	char id[REQUEST_ID_LEN + 1];
	ProtobufCMessage *reply;
	int result = cli_request_id(cli, id, &request.request_id);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	request.matter = cli->options.args[2];
	result = cli_call(cli, &hold_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	response = (const Biomatch__V1__PlaceLegalHoldResponse *)reply;
	print_fact("held", "for %u matter%s", response->holds, response->holds == 1 ? "" : "s");
	print_receipt(response->receipt);
	return EXIT_DONE;
}

int run_subject_release(struct cli *cli)
{
	Biomatch__V1__ReleaseLegalHoldRequest request =
		BIOMATCH__V1__RELEASE_LEGAL_HOLD_REQUEST__INIT;
	const Biomatch__V1__ReleaseLegalHoldResponse *response;
	char id[REQUEST_ID_LEN + 1];
	ProtobufCMessage *reply;
	int result = cli_request_id(cli, id, &request.request_id);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	request.matter = cli->options.args[2];
	result = cli_call(cli, &release_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	response = (const Biomatch__V1__ReleaseLegalHoldResponse *)reply;
	print_fact("released", "%u hold%s left", response->holds, response->holds == 1 ? "" : "s");
	print_receipt(response->receipt);
	return EXIT_DONE;
}

static void print_holds(const Biomatch__V1__ListLegalHoldsResponse *r)
{
	struct table *table = table_new(2);

	table_add(table, "placed", "matter", NULL);
	for (size_t i = 0; i < r->n_holds; i++) {
		char placed[32];

		time_format(r->holds[i]->placed_at, placed);
		table_add(table, placed, r->holds[i]->matter, NULL);
	}
	table_print(table);
	table_free(table);
}

int run_subject_holds(struct cli *cli)
{
	Biomatch__V1__ListLegalHoldsRequest request = BIOMATCH__V1__LIST_LEGAL_HOLDS_REQUEST__INIT;
	ProtobufCMessage *reply;
	int result;

	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	result = cli_call(cli, &holds_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	print_holds((const Biomatch__V1__ListLegalHoldsResponse *)reply);
	return EXIT_DONE;
}
