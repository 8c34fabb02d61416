#include "probe.h"

#include "biomatch/clock.h"
#include "demand.h"
#include "frames.h"
#include "trail.h"

Biomatch__V1__Reason reason_of(int finding)
{
	switch (finding) {
	case BM_ENOFACE:
		return BIOMATCH__V1__REASON__REASON_NO_FACE;
	case BM_EMANYFACES:
		return BIOMATCH__V1__REASON__REASON_SEVERAL_FACES;
	case BM_EFACESMALL:
		return BIOMATCH__V1__REASON__REASON_FACE_TOO_SMALL;
	case BM_EFACECUT:
		return BIOMATCH__V1__REASON__REASON_FACE_INCOMPLETE;
	case BM_EATTACK:
		return BIOMATCH__V1__REASON__REASON_PRESENTATION_ATTACK;
	case BM_EFRAMES:
		return BIOMATCH__V1__REASON__REASON_FRAMES_DIFFER;
	case BM_EATTEMPTS:
		return BIOMATCH__V1__REASON__REASON_ATTEMPTS_EXCEEDED;
	case BM_ELOWQUALITY:
		return BIOMATCH__V1__REASON__REASON_LOW_QUALITY;
	case BM_ENOPORTRAIT:
		return BIOMATCH__V1__REASON__REASON_NOT_A_PORTRAIT;
	case BM_EUNCERTAIN:
		return BIOMATCH__V1__REASON__REASON_UNCERTAIN;
	case BM_ENOREFERENCE:
		return BIOMATCH__V1__REASON__REASON_NO_REFERENCE;
	case BM_EEXPIRED:
		return BIOMATCH__V1__REASON__REASON_REFERENCE_EXPIRED;
	default:
		return BIOMATCH__V1__REASON__REASON_UNSPECIFIED;
	}
}

/* Whether the picture stays behind. */
static bool is_kept(const struct service_call *call, const struct probe *probe)
{
	return call->purpose->keep_image && call->rpc->operation == POLICY_ENROL &&
	       probe->role == PROBE_CAPTURE;
}

static int prepare_image(struct service_call *call, const Biomatch__V1__Image *from,
			 const char *field, struct probe *probe)
{
	if (!from || !from->data.len)
		return call_fail(call, BM_EMISSING, field, NULL);
	if (from->data.len > FACE_MAX_IMAGE_BYTES)
		return call_fail(call, BM_EIMGSIZE, field, NULL);
	if (is_kept(call, probe) && from->data.len > GALLERY_IMAGE_MAX)
		return call_failf(call, BM_EIMGSIZE, field,
				  "the purpose keeps the picture, of %zu bytes at most",
				  GALLERY_IMAGE_MAX);
	probe->picture = (struct bytes){from->data.data, from->data.len};
	probe->wanted |= demand_wanted(call, probe);
	call->has_picture = true;
	return 0;
}

int probe_prepare_image(struct service_call *call, const Biomatch__V1__Image *from,
			const char *field, struct probe *probe)
{
	probe->field = field;
	probe->role = PROBE_CAPTURE;
	return prepare_image(call, from, field, probe);
}

static size_t sealed_len(const struct pack *pack)
{
	return KEYS_SEAL_OVERHEAD + pack->dim * sizeof(float);
}

int probe_prepare(struct service_call *call, const Biomatch__V1__Probe *from, const char *field,
		  enum probe_role role, struct probe *probe)
{
	const struct pack *pack = call->service->options.pack;

	probe->field = field;
	probe->role = role;
	if (!from)
		return call_fail(call, BM_EMISSING, field, NULL);
	if (from->kind_case == BIOMATCH__V1__PROBE__KIND_IMAGE)
		return prepare_image(call, from->image, field, probe);
	if (from->kind_case == BIOMATCH__V1__PROBE__KIND_FRAMES)
		return frames_prepare(call, from->frames, probe);
	if (from->kind_case != BIOMATCH__V1__PROBE__KIND_TEMPLATE)
		return call_fail(call, BM_EMISSING, field,
				 "the probe is neither image nor frames nor template");
	if (demand_wanted(call, probe))
		return call_fail(
			call, BM_EDENIED, field,
			"the purpose judges what a template cannot show; send the picture");
	if (is_kept(call, probe))
		return call_fail(call, BM_EDENIED, field, "the purpose keeps the picture; send it");
	if (strcmp(from->template_->model, pack->model))
		return call_failf(call, BM_EMODEL, field,
				  "the template was made by model %.64s, the service runs %s; "
				  "extract it again",
				  from->template_->model, pack->model);
	if (from->template_->data.len != sealed_len(pack))
		return call_fail(call, BM_ETEMPLATE, field, NULL);
	probe->sealed = (struct bytes){from->template_->data.data, from->template_->data.len};
	return 0;
}

static int run_picture(struct service_call *call, struct faceworker *worker, struct probe *probe)
{
	struct face_report *report = call_alloc(call, sizeof(*report));
	int error;

	if (!report)
		return BM_ENOMEM;
	error = faceworker_run(worker, probe->picture.data, probe->picture.len, probe->wanted,
			       call->deadline_ns, report);
	if (error)
		return call_fail(
			call, error,
			bm_error_grpc(error) == GRPC_INVALID_ARGUMENT ? probe->field : NULL, NULL);
	call->times.decode_us += report->decode_us;
	call->times.detect_us += report->detect_us;
	call->times.align_us += report->align_us;
	call->times.embed_us += report->embed_us;
	call->times.quality_us += report->quality_us;
	call->times.liveness_us += report->liveness_us;
	probe->report = report;
	probe->finding = report->finding;
	error = demand_check(call, probe);
	if (!probe->finding)
		probe->embedding = report->embedding;
	return error;
}

/* A template is bound to the models that made it by the pack's digest. */
static struct bytes seal_context(const struct service_call *call)
{
	return (struct bytes){call->service->options.pack->digest, PACK_SHA256_LEN};
}

int probe_run(struct service_call *call, struct faceworker *worker, struct probe *probe)
{
	float *embedding;
	int error;

	if (probe->n_frames)
		return frames_run(call, worker, probe);
	trail_input(call, probe->picture.data ? probe->picture : probe->sealed);
	call->trail->model = (char *)(uintptr_t)call->service->options.pack->model;
	if (probe->picture.data)
		return run_picture(call, worker, probe);
	embedding = call_alloc(call, call->service->options.pack->dim * sizeof(float));
	if (!embedding)
		return BM_ENOMEM;
	error = keys_unseal(call->service->options.keys, KEYS_TEMPLATE, seal_context(call),
			    probe->sealed, (uint8_t *)embedding);
	if (error)
		return call_fail(call, error, probe->field, NULL);
	probe->embedding = embedding;
	return 0;
}

int probe_seal(struct service_call *call, const float *embedding, Biomatch__V1__Template **out)
{
	const struct pack *pack = call->service->options.pack;
	struct bytes plain = {(const uint8_t *)embedding, pack->dim * sizeof(float)};
	Biomatch__V1__Template *sealed = call_message(call, &biomatch__v1__template__descriptor);
	int error;

	if (!sealed)
		return BM_ENOMEM;
	sealed->data.len = sealed_len(pack);
	sealed->data.data = call_alloc(call, sealed->data.len);
	sealed->model = (char *)(uintptr_t)pack->model;
	if (!sealed->data.data)
		return BM_ENOMEM;
	error = keys_seal(call->service->options.keys, KEYS_TEMPLATE, seal_context(call), plain,
			  sealed->data.data);
	*out = sealed;
	return error;
}

static int fill_face(struct service_call *call, const struct face_found *from,
		     Biomatch__V1__Face *face)
{
	Biomatch__V1__Box *box = call_message(call, &biomatch__v1__box__descriptor);
	Biomatch__V1__Point **points = call_alloc(call, 5 * sizeof(*points));

	if (!box || !points)
		return BM_ENOMEM;
	box->x = from->x;
	box->y = from->y;
	box->width = from->width;
	box->height = from->height;
	face->box = box;
	face->confidence = from->confidence;
	face->inter_eye_distance = from->eye_distance;
	face->landmarks = points;
	for (; face->n_landmarks < 5; face->n_landmarks++) {
		Biomatch__V1__Point *point = call_message(call, &biomatch__v1__point__descriptor);

		if (!point)
			return BM_ENOMEM;
		point->x = from->landmarks[face->n_landmarks].x;
		point->y = from->landmarks[face->n_landmarks].y;
		points[face->n_landmarks] = point;
	}
	return 0;
}

Biomatch__V1__ProbeReport *probe_report(struct service_call *call, const struct probe *probe)
{
	Biomatch__V1__ProbeReport *out =
		call_message(call, &biomatch__v1__probe_report__descriptor);
	const struct face_report *report = probe->report;

	if (out && frames_report(call, probe, out))
		return NULL;
	if (!out || !report)
		return out;
	out->width = report->width;
	out->height = report->height;
	if (!report->n_faces)
		return out;
	if (demand_report(call, probe, out))
		return NULL;
	out->faces = call_alloc(call, report->n_faces * sizeof(*out->faces));
	if (!out->faces)
		return NULL;
	for (; out->n_faces < report->n_faces; out->n_faces++) {
		Biomatch__V1__Face *face = call_message(call, &biomatch__v1__face__descriptor);

		if (!face || fill_face(call, &report->faces[out->n_faces], face))
			return NULL;
		out->faces[out->n_faces] = face;
	}
	return out;
}

static uint32_t microseconds(int64_t ns)
{
	int64_t us = ns / CLOCK_NS_PER_US;

	return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

Biomatch__V1__StageTimes *stage_times(struct service_call *call)
{
	Biomatch__V1__StageTimes *out = call_message(call, &biomatch__v1__stage_times__descriptor);

	if (!out)
		return NULL;
	out->queue_us = microseconds(call->times.queue_ns);
	out->decode_us = call->times.decode_us;
	out->detect_us = call->times.detect_us;
	out->align_us = call->times.align_us;
	out->embed_us = call->times.embed_us;
	out->quality_us = call->times.quality_us;
	out->liveness_us = call->times.liveness_us;
	out->match_us = microseconds(call->times.match_ns);
	return out;
}
