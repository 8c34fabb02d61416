/* VerifyDocument: passive authentication of a passport's chip, and the face on it. */
#include "biomatch/clock.h"
#include "biomatch/passive.h"
#include "compare.h"
#include "trail.h"

struct verify_document {
	struct compare compare;
	struct passive_verdict verdict;
};

static const struct {
	Biomatch__V1__DocumentFinding wire;
	const char *name; /* as the audit log calls it */
} findings[] = {
	[PASSIVE_AUTHENTIC] = {BIOMATCH__V1__DOCUMENT_FINDING__DOCUMENT_FINDING_UNSPECIFIED,
			       "AUTHENTIC"},
	[PASSIVE_MALFORMED] = {BIOMATCH__V1__DOCUMENT_FINDING__DOCUMENT_FINDING_MALFORMED,
			       "MALFORMED"},
	[PASSIVE_ALGORITHM] = {BIOMATCH__V1__DOCUMENT_FINDING__DOCUMENT_FINDING_ALGORITHM,
			       "ALGORITHM"},
	[PASSIVE_SIGNER_UNKNOWN] = {BIOMATCH__V1__DOCUMENT_FINDING__DOCUMENT_FINDING_SIGNER_UNKNOWN,
				    "SIGNER_UNKNOWN"},
	[PASSIVE_SIGNER_EXPIRED] = {BIOMATCH__V1__DOCUMENT_FINDING__DOCUMENT_FINDING_SIGNER_EXPIRED,
				    "SIGNER_EXPIRED"},
	[PASSIVE_SIGNER_REVOKED] = {BIOMATCH__V1__DOCUMENT_FINDING__DOCUMENT_FINDING_SIGNER_REVOKED,
				    "SIGNER_REVOKED"},
	[PASSIVE_REVOCATION_UNKNOWN] =
		{BIOMATCH__V1__DOCUMENT_FINDING__DOCUMENT_FINDING_REVOCATION_UNKNOWN,
		 "REVOCATION_UNKNOWN"},
	[PASSIVE_SIGNATURE] = {BIOMATCH__V1__DOCUMENT_FINDING__DOCUMENT_FINDING_SIGNATURE,
			       "SIGNATURE"},
	[PASSIVE_DIGEST] = {BIOMATCH__V1__DOCUMENT_FINDING__DOCUMENT_FINDING_DIGEST, "DIGEST"},
};

static int prepare(struct service_call *call)
{
	const Biomatch__V1__VerifyDocumentRequest *request = (const void *)call->request;
	struct verify_document *document = call->state;
	Biomatch__V1__Image dg2 = BIOMATCH__V1__IMAGE__INIT;
	Biomatch__V1__Probe reference = BIOMATCH__V1__PROBE__INIT;
	int error = call_allow(call, request->purpose, NULL);

	if (!error)
		error = probe_prepare(call, request->probe, "probe", PROBE_CAPTURE,
				      &document->compare.probe);
	if (!error && !request->sod.len)
		error = call_fail(call, BM_EMISSING, "sod", NULL);
	if (!error && request->sod.len > PASSIVE_MAX_SOD)
		error = call_fail(call, BM_ETOOBIG, "sod", NULL);
	dg2.data = request->dg2;
	reference.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	reference.image = &dg2;
	if (!error)
		error = probe_prepare(call, &reference, "dg2", PROBE_GIVEN,
				      &document->compare.reference);
	return error;
}

static struct passive_trust *take_trust(struct service *service)
{
	struct passive_trust *trust;

	pthread_mutex_lock(&service->lock);
	trust = passive_ref(service->trust);
	pthread_mutex_unlock(&service->lock);
	return trust;
}

/* Before the face, which takes far longer; both verdicts are given whatever the other one is. */
static int run(struct service_call *call, struct faceworker *worker)
{
	const Biomatch__V1__VerifyDocumentRequest *request = (const void *)call->request;
	struct verify_document *document = call->state;
	struct passive_trust *trust = take_trust(call->service);
	const struct bytes sod = {request->sod.data, request->sod.len};
	const struct bytes dg2 = {request->dg2.data, request->dg2.len};
	int error = trust ? passive_check(trust, sod, dg2, clock_wall_ms(), &document->verdict)
			  : call_fail(call, BM_ECSCA, NULL, NULL);

	passive_close(trust);
	trail_input(call, sod);
	return error ? error : compare_run(call, worker, &document->compare);
}

static int decide(struct service_call *call, struct faceworker *worker)
{
	struct verify_document *document = call->state;
	const struct passive_verdict *verdict = &document->verdict;
	Biomatch__V1__VerifyDocumentResponse *out =
		call_message(call, &biomatch__v1__verify_document_response__descriptor);
	int error;

	(void)worker;
	if (!out)
		return BM_ENOMEM;
	out->document = call_message(call, &biomatch__v1__document_verdict__descriptor);
	if (!out->document)
		return BM_ENOMEM;
	out->document->authentic = verdict->finding == PASSIVE_AUTHENTIC;
	out->document->finding = findings[verdict->finding].wire;
	out->document->country = document->verdict.country;
	error = compare_decide(call, &document->compare, &out->face);
	trail_document(call, findings[verdict->finding].name);
	call->response = &out->base;
	return error;
}

const struct rpc verify_document_rpc = {
	.path = "/biomatch.v1.MatchingService/VerifyDocument",
	.operation = POLICY_VERIFY_DOCUMENT,
	.request = &biomatch__v1__verify_document_request__descriptor,
	.response = &biomatch__v1__verify_document_response__descriptor,
	.receipt = offsetof(Biomatch__V1__VerifyDocumentResponse, receipt),
	.state_size = sizeof(struct verify_document),
	.prepare = prepare,
	.steps =
		{
			{CALL_FACE, run},
			{CALL_HERE, decide},
		},
};
