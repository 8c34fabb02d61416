/* verify, compare, verify-document, identify, analyse, extract. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "biomatch/file.h"
#include "biomatch/wire.h"
#include "cli.h"

static const struct method verify_method = {"/biomatch.v1.MatchingService/Verify",
					    &biomatch__v1__verify_response__descriptor, false};
static const struct method compare_method = {"/biomatch.v1.MatchingService/Compare",
					     &biomatch__v1__compare_response__descriptor, false};
static const struct method verify_document_method = {
	"/biomatch.v1.MatchingService/VerifyDocument",
	&biomatch__v1__verify_document_response__descriptor, false};
static const struct method identify_method = {"/biomatch.v1.MatchingService/Identify",
					      &biomatch__v1__identify_response__descriptor, false};
static const struct method analyse_method = {"/biomatch.v1.AnalysisService/Analyse",
					     &biomatch__v1__analyse_response__descriptor, false};
static const struct method extract_method = {"/biomatch.v1.AnalysisService/Extract",
					     &biomatch__v1__extract_response__descriptor, false};

/* What a script branches on. An answer that is none of these decided nothing. */
static int decision_exit(Biomatch__V1__Decision decision)
{
	switch (decision) {
	case BIOMATCH__V1__DECISION__DECISION_MATCH:
		return EXIT_DONE;
	case BIOMATCH__V1__DECISION__DECISION_NO_MATCH:
		return EXIT_NO;
	default:
		return EXIT_REFER;
	}
}

static void print_decision(Biomatch__V1__Decision decision)
{
	print_fact("decision", "%s",
		   enum_text(&biomatch__v1__decision__descriptor, (int)decision, "DECISION_"));
}

static void print_band(Biomatch__V1__ScoreBand band)
{
	if (band != BIOMATCH__V1__SCORE_BAND__SCORE_BAND_UNSPECIFIED)
		print_fact(
			"band", "%s",
			enum_text(&biomatch__v1__score_band__descriptor, (int)band, "SCORE_BAND_"));
}

static void print_verified(const Biomatch__V1__VerifyResponse *r, int64_t elapsed_us)
{
	print_decision(r->decision);
	print_reason("reason", r->reason);
	print_band(r->band);
	if (*r->encounter_id)
		print_fact("encounter", "%s", r->encounter_id);
	print_raw(r->raw);
	print_basis(r->basis, "FMR");
	print_report("probe", r->probe);
	print_times(r->times, elapsed_us);
	print_receipt(r->receipt);
}

int run_verify(struct cli *cli)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	const Biomatch__V1__VerifyResponse *response;
	ProtobufCMessage *reply;
	struct capture capture;
	int result = capture_read(&cli->options, cli->options.args[2], &capture);

	if (result)
		return cli_fail_file(cli, "read the picture", result);
	request.purpose = (char *)cli->options.purpose;
	request.gallery = cli->options.args[0];
	request.subject_id = cli->options.args[1];
	request.probe = &capture.message;
	result = cli_call(cli, &verify_method, &request.base, &reply);
	capture_free(&capture);
	if (result)
		return result;
	response = (const Biomatch__V1__VerifyResponse *)reply;
	result = decision_exit(response->decision);
	if (!cli->options.json)
		print_verified(response, cli->elapsed_us);
	else if (print_json(reply))
		result = EXIT_LOCAL;
	return result;
}

static void print_compared(const Biomatch__V1__CompareResponse *r, int64_t elapsed_us)
{
	print_decision(r->decision);
	print_reason(r->reason_is_reference ? "second file" : "first file", r->reason);
	print_band(r->band);
	print_raw(r->raw);
	print_basis(r->basis, "FMR");
	print_report("first file", r->probe);
	print_report("second file", r->reference);
	print_times(r->times, elapsed_us);
	print_receipt(r->receipt);
}

int run_compare(struct cli *cli)
{
	Biomatch__V1__CompareRequest request = BIOMATCH__V1__COMPARE_REQUEST__INIT;
	const Biomatch__V1__CompareResponse *response;
	ProtobufCMessage *reply;
	struct probe probe, reference;
	int result = probe_read(cli->options.args[0], &probe);

	if (result)
		return cli_fail_file(cli, "read the first file", result);
	result = probe_read(cli->options.args[1], &reference);
	if (result) {
		probe_free(&probe);
		return cli_fail_file(cli, "read the second file", result);
	}
	request.purpose = (char *)cli->options.purpose;
	request.probe = &probe.message;
	request.reference = &reference.message;
	result = cli_call(cli, &compare_method, &request.base, &reply);
	probe_free(&probe);
	probe_free(&reference);
	if (result)
		return result;
	response = (const Biomatch__V1__CompareResponse *)reply;
	result = decision_exit(response->decision);
	if (!cli->options.json)
		print_compared(response, cli->elapsed_us);
	else if (print_json(reply))
		result = EXIT_LOCAL;
	return result;
}

static void print_document(const Biomatch__V1__DocumentVerdict *document)
{
	print_fact("document", "%s%s%s",
		   document->authentic ? "AUTHENTIC"
				       : enum_text(&biomatch__v1__document_finding__descriptor,
						   (int)document->finding, "DOCUMENT_FINDING_"),
		   *document->country ? ", " : "", document->country);
}

static int print_verified_document(const struct cli *cli, const ProtobufCMessage *reply)
{
	const Biomatch__V1__VerifyDocumentResponse *r = (const void *)reply;

	if (!r->document || !r->face)
		return EXIT_REFER;
	if (cli->options.json) {
		if (print_json(reply))
			return EXIT_LOCAL;
	} else {
		print_document(r->document);
		print_compared(r->face, cli->elapsed_us);
		print_receipt(r->receipt);
	}
	/* Both verdicts must hold. */
	return r->document->authentic ? decision_exit(r->face->decision) : EXIT_NO;
}

int run_verify_document(struct cli *cli)
{
	Biomatch__V1__VerifyDocumentRequest request = BIOMATCH__V1__VERIFY_DOCUMENT_REQUEST__INIT;
	char *const *files = cli->options.args;
	ProtobufCMessage *reply;
	struct probe probe;
	int error, result;

	error = file_read(files[0], CLI_MAX_PICTURE, &request.dg2.data, &request.dg2.len);
	if (error)
		return cli_fail_file(cli, "read the DG2", error);
	error = file_read(files[1], CLI_MAX_PICTURE, &request.sod.data, &request.sod.len);
	if (error) {
		result = cli_fail_file(cli, "read the SOD", error);
		goto out;
	}
	error = probe_read(files[2], &probe);
	if (error) {
		result = cli_fail_file(cli, "read the picture", error);
		goto out;
	}
	request.purpose = (char *)cli->options.purpose;
	request.probe = &probe.message;
	result = cli_call(cli, &verify_document_method, &request.base, &reply);
	probe_free(&probe);
	if (!result)
		result = print_verified_document(cli, reply);
out:
	free(request.dg2.data);
	free(request.sod.data);
	return result;
}

static void print_identified(const Biomatch__V1__IdentifyResponse *r, int64_t elapsed_us)
{
	print_decision(r->decision);
	print_reason("reason", r->reason);
	print_basis(r->basis, "FPIR");
	print_report("probe", r->probe);
	print_times(r->times, elapsed_us);
	print_receipt(r->receipt);
	if (r->n_candidates)
		putchar('\n');
	print_candidates(r->candidates, r->n_candidates);
}

/* The filter that the options ask for; borrows them. */
struct filter {
	Biomatch__V1__IdentifyFilter message;
	Google__Protobuf__Timestamp from, before;
};

static void filter_init(struct filter *f, struct options *o)
{
	*f = (struct filter){BIOMATCH__V1__IDENTIFY_FILTER__INIT, GOOGLE__PROTOBUF__TIMESTAMP__INIT,
			     GOOGLE__PROTOBUF__TIMESTAMP__INIT};
	f->message.n_encounter_types = o->types.n;
	f->message.encounter_types = o->types.items;
	f->message.n_sites = o->sites.n;
	f->message.sites = o->sites.items;
	f->message.n_subject_ids = o->subjects.n;
	f->message.subject_ids = o->subjects.items;
	f->from.seconds = o->from_s;
	f->before.seconds = o->before_s;
	f->message.captured_from = o->from_s ? &f->from : NULL;
	f->message.captured_before = o->before_s ? &f->before : NULL;
}

int run_identify(struct cli *cli)
{
	Biomatch__V1__IdentifyRequest request = BIOMATCH__V1__IDENTIFY_REQUEST__INIT;
	struct options *o = &cli->options;
	const Biomatch__V1__IdentifyResponse *response;
	ProtobufCMessage *reply;
	struct filter filter;
	struct capture capture;
	int result = capture_read(o, o->args[o->n_args - 1], &capture);

	if (result)
		return cli_fail_file(cli, "read the picture", result);
	filter_init(&filter, o);
	request.purpose = (char *)o->purpose;
	request.n_galleries = o->n_args - 1;
	request.galleries = o->args;
	request.probe = &capture.message;
	request.max_candidates = o->max_candidates;
	request.filter = &filter.message;
	result = cli_call(cli, &identify_method, &request.base, &reply);
	capture_free(&capture);
	if (result)
		return result;
	response = (const Biomatch__V1__IdentifyResponse *)reply;
	result = decision_exit(response->decision);
	if (!o->json)
		print_identified(response, cli->elapsed_us);
	else if (print_json(reply))
		result = EXIT_LOCAL;
	return result;
}

static void print_faces(const Biomatch__V1__ProbeReport *report)
{
	struct table *table = table_new(5);

	table_add(table, "face", "left, top", "size", "confidence", "eye distance", NULL);
	for (size_t i = 0; i < report->n_faces; i++) {
		const Biomatch__V1__Face *face = report->faces[i];
		char number[24], at[48] = "", size[48] = "", confidence[24], eyes[24];

		snprintf(number, sizeof(number), "%zu", i + 1);
		if (face->box) {
			snprintf(at, sizeof(at), "%.0f, %.0f", (double)face->box->x,
				 (double)face->box->y);
			snprintf(size, sizeof(size), "%.0f x %.0f", (double)face->box->width,
				 (double)face->box->height);
		}
		snprintf(confidence, sizeof(confidence), "%.3f", (double)face->confidence);
		snprintf(eyes, sizeof(eyes), "%.0f", (double)face->inter_eye_distance);
		table_add(table, number, at, size, confidence, eyes, NULL);
	}
	if (report->n_faces) {
		putchar('\n');
		table_print(table);
	}
	table_free(table);
}

/* Reads the only picture of a request; gives the exit code of a failure. */
static int picture_read(const struct cli *cli, struct probe *probe)
{
	int error = probe_read(cli->options.args[0], probe);

	if (error)
		return cli_fail_file(cli, "read the picture", error);
	if (probe->message.kind_case == BIOMATCH__V1__PROBE__KIND_IMAGE)
		return EXIT_DONE;
	probe_free(probe);
	return cli_fail(cli, EXIT_LOCAL,
			&(struct failure){.message = "the file is a template; give a picture"});
}

static void print_quality(const Biomatch__V1__AnalyseResponse *response)
{
	if (response->pose)
		print_fact("pose", "yaw %.0f, roll %.0f degrees", (double)response->pose->yaw,
			   (double)response->pose->roll);
	for (size_t i = 0; i < response->n_quality; i++)
		print_fact(i ? "" : "quality", "%3u %s", response->quality[i]->value,
			   enum_text(&biomatch__v1__quality_component__descriptor,
				     (int)response->quality[i]->component, "QUALITY_COMPONENT_"));
}

int run_analyse(struct cli *cli)
{
	Biomatch__V1__AnalyseRequest request = BIOMATCH__V1__ANALYSE_REQUEST__INIT;
	const Biomatch__V1__AnalyseResponse *response;
	ProtobufCMessage *reply;
	struct probe probe;
	int result = picture_read(cli, &probe);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	request.image = &probe.image;
	result = cli_call(cli, &analyse_method, &request.base, &reply);
	probe_free(&probe);
	if (result)
		return result;
	response = (const Biomatch__V1__AnalyseResponse *)reply;
	result = response->usable ? EXIT_DONE : EXIT_REFER;
	if (cli->options.json)
		return print_json(reply) ? EXIT_LOCAL : result;
	print_fact("usable", "%s", response->usable ? "yes" : "no");
	print_reason("reason", response->reason);
	print_report("picture", response->report);
	print_times(response->times, cli->elapsed_us);
	if (response->report)
		print_faces(response->report);
	print_quality(response);
	return result;
}

static int write_template(const struct cli *cli, const Biomatch__V1__Template *template_)
{
	size_t magic = strlen(TEMPLATE_MAGIC), len = 0;
	uint8_t *packed = NULL, *file = NULL;
	int error = wire_pack(&template_->base, &packed, &len);

	if (!error) {
		file = malloc(magic + len);
		error = file ? 0 : BM_ENOMEM;
	}
	if (!error) {
		memcpy(file, TEMPLATE_MAGIC, magic);
		memcpy(file + magic, packed, len);
		error = file_write_new(cli->options.args[1], file, magic + len, 0600);
		bytes_wipe(file, magic + len);
	}
	if (packed)
		bytes_wipe(packed, len);
	free(packed);
	free(file);
	return error ? cli_fail_file(cli, "write the template", error) : EXIT_DONE;
}

int run_extract(struct cli *cli)
{
	Biomatch__V1__ExtractRequest request = BIOMATCH__V1__EXTRACT_REQUEST__INIT;
	const Biomatch__V1__ExtractResponse *response;
	ProtobufCMessage *reply;
	struct probe probe;
	int result = picture_read(cli, &probe);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	request.image = &probe.image;
	result = cli_call(cli, &extract_method, &request.base, &reply);
	probe_free(&probe);
	if (result)
		return result;
	response = (const Biomatch__V1__ExtractResponse *)reply;
	if (!response->template_)
		return cli_fail(cli, EXIT_SERVICE,
				&(struct failure){.message = "the reply holds no template"});
	result = write_template(cli, response->template_);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	print_fact("template", "%zu bytes, model %s", response->template_->data.len,
		   response->template_->model);
	print_report("picture", response->report);
	print_times(response->times, cli->elapsed_us);
	return EXIT_DONE;
}
