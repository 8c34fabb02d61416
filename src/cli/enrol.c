/* enrol: one file here, a folder in tree.c. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

const struct method enrol_method = {"/biomatch.v1.EnrolmentService/Enrol",
				    &biomatch__v1__enrol_response__descriptor, false};

void enrolment_init(struct enrolment *e, const struct options *o, const char *subject,
		    struct probe *probe)
{
	*e = (struct enrolment){BIOMATCH__V1__ENROL_REQUEST__INIT, BIOMATCH__V1__ENCOUNTER__INIT,
				GOOGLE__PROTOBUF__TIMESTAMP__INIT,
				GOOGLE__PROTOBUF__TIMESTAMP__INIT, ""};
	if (o->types.n)
		e->encounter.encounter_type = o->types.items[0];
	if (o->sites.n)
		e->encounter.site = o->sites.items[0];
	e->captured.seconds = o->captured_s;
	e->expires.seconds = o->expires_s;
	e->encounter.captured_at = o->captured_s ? &e->captured : NULL;
	e->encounter.expires_at = o->expires_s ? &e->expires : NULL;
	e->message.purpose = (char *)o->purpose;
	e->message.gallery = o->args[0];
	e->message.subject_id = (char *)subject;
	e->message.encounter = &e->encounter;
	e->message.reference = &probe->message;
	e->message.refuse_duplicates = o->refuse_duplicates;
}

static void print_enrolled(const Biomatch__V1__EnrolResponse *r, int64_t elapsed_us)
{
	print_fact("outcome", "%s",
		   enum_text(&biomatch__v1__enrol_outcome__descriptor, (int)r->outcome,
			     "ENROL_OUTCOME_"));
	print_reason("reason", r->reason);
	if (*r->encounter_id)
		print_fact("encounter", "%s", r->encounter_id);
	if (r->image_kept)
		print_fact("picture", "kept");
	if (r->superseded)
		print_fact("superseded", "%u", r->superseded);
	print_basis(r->basis, "FPIR");
	print_report("picture", r->probe);
	print_times(r->times, elapsed_us);
	print_receipt(r->receipt);
	if (r->n_candidates)
		putchar('\n');
	print_candidates(r->candidates, r->n_candidates);
}

static int enrol_file(struct cli *cli)
{
	struct options *o = &cli->options;
	const Biomatch__V1__EnrolResponse *response;
	ProtobufCMessage *reply;
	struct enrolment e;
	struct probe probe;
	int result = probe_read(o->args[2], &probe);

	if (result)
		return cli_fail_file(cli, "read the picture", result);
	enrolment_init(&e, o, o->args[1], &probe);
	if (o->encounter)
		e.encounter.encounter_id = o->encounter;
	result = o->request_id ? 0 : request_id_of(&e.message.base, "", e.request_id);
	e.message.request_id = o->request_id ? o->request_id : e.request_id;
	if (result) {
		probe_free(&probe);
		return cli_fail_file(cli, "pack the request", result);
	}
	result = cli_call(cli, &enrol_method, &e.message.base, &reply);
	probe_free(&probe);
	if (result)
		return result;
	response = (const Biomatch__V1__EnrolResponse *)reply;
	result = response->outcome == BIOMATCH__V1__ENROL_OUTCOME__ENROL_OUTCOME_CREATED
			 ? EXIT_DONE
			 : EXIT_REFER;
	if (cli->options.json)
		return print_json(reply) ? EXIT_LOCAL : result;
	print_enrolled(response, cli->elapsed_us);
	return result;
}

int run_enrol(struct cli *cli)
{
	struct options *o = &cli->options;
	const char *wrong = NULL;

	if (o->types.n > 1 || o->sites.n > 1)
		wrong = "an encounter has one --type and one --site";
	else if (o->n_args == 2 && (o->encounter || o->request_id))
		wrong = "--encounter and --request-id are for one file";
	if (wrong)
		return cli_fail(cli, EXIT_USAGE, &(struct failure){.message = wrong});
	return o->n_args == 2 ? run_enrol_tree(cli) : enrol_file(cli);
}
