#include "frames.h"

#include "biomatch/score.h"

/*
 * Frames of one capture match one another at this false match rate, or they are
 * not of one face. It bounds what fusing can add to a stranger's score.
 */
#define FRAMES_FMR 0.001
/* A template tells no quality: it counts like a picture of middling quality. */
#define FRAMES_TEMPLATE_WEIGHT (QUALITY_MAX / 2)

static int prepare_frame(struct service_call *call, const Biomatch__V1__Frame *from,
			 struct probe *parent, size_t at, size_t *bytes)
{
	Biomatch__V1__Probe alone = BIOMATCH__V1__PROBE__INIT;
	struct probe *frame = &parent->frames[at];
	char path[64];
	const char *field;
	int error;

	snprintf(path, sizeof(path), "%s.frames.frames[%zu]", parent->field, at);
	field = arena_strndup(&call->arena, path, strlen(path));
	if (!field)
		return BM_ENOMEM;
	if (from->kind_case == BIOMATCH__V1__FRAME__KIND_IMAGE) {
		alone.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
		alone.image = from->image;
		frame->wanted = FACE_QUALITY;
	} else if (from->kind_case == BIOMATCH__V1__FRAME__KIND_TEMPLATE) {
		alone.kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
		alone.template_ = from->template_;
	}
	error = probe_prepare(call, &alone, field, parent->role, frame);
	*bytes += frame->picture.len;
	if (!error && *bytes > FACE_MAX_IMAGE_BYTES)
		error = call_failf(call, BM_EIMGSIZE, field,
				   "the frames have more than %u bytes together",
				   FACE_MAX_IMAGE_BYTES);
	return error;
}

int frames_prepare(struct service_call *call, const Biomatch__V1__Frames *from, struct probe *probe)
{
	size_t n = from->n_frames, bytes = 0;
	int error = 0;

	if (!n)
		return call_fail(call, BM_EMISSING, probe->field, "the probe has no frame");
	if (n > call->purpose->max_frames)
		return call_failf(call, BM_EFRAMECOUNT, probe->field,
				  "the purpose allows %u frames in a probe, this one has %zu",
				  call->purpose->max_frames, n);
	probe->frames = call_alloc(call, n * sizeof(*probe->frames));
	if (!probe->frames)
		return BM_ENOMEM;
	for (size_t i = 0; !error && i < n; i++)
		error = prepare_frame(call, from->frames[i], probe, i, &bytes);
	probe->n_frames = n;
	call->attempts *= (unsigned)n;
	return error;
}

/* What another frame of the same capture makes up for. Any other finding speaks of all. */
static bool is_passing(int finding)
{
	return finding == BM_ENOFACE || finding == BM_EFACESMALL || finding == BM_EFACECUT ||
	       finding == BM_ELOWQUALITY;
}

static unsigned weight_of(const struct probe *frame)
{
	uint8_t overall;

	if (!frame->report)
		return FRAMES_TEMPLATE_WEIGHT;
	overall = frame->report->quality.value[QUALITY_OVERALL];
	if (overall == QUALITY_UNKNOWN)
		return FRAMES_TEMPLATE_WEIGHT;
	return overall ? overall : 1;
}

static const struct probe *first_grave(const struct probe *probe)
{
	for (size_t i = 0; i < probe->n_frames; i++) {
		int finding = probe->frames[i].finding;

		if (finding && !is_passing(finding))
			return &probe->frames[i];
	}
	return NULL;
}

static const struct probe *heaviest(const struct probe *probe)
{
	const struct probe *best = NULL;

	for (size_t i = 0; i < probe->n_frames; i++) {
		const struct probe *frame = &probe->frames[i];

		if (!frame->finding && (!best || frame->weight > best->weight))
			best = frame;
	}
	return best;
}

/* The probe stands for its best frame, or for the first that says why there is none. */
static void choose(struct probe *probe)
{
	const struct probe *chosen = first_grave(probe);

	if (!chosen)
		chosen = heaviest(probe);
	if (!chosen)
		chosen = &probe->frames[0];
	probe->picture = chosen->picture;
	probe->report = chosen->report;
	probe->finding = chosen->finding;
}

static int check_alike(struct service_call *call, struct probe *probe)
{
	const struct pack *pack = call->service->options.pack;
	double smallest;
	float least;

	if (pack_threshold(pack, FRAMES_FMR, &least, &smallest))
		return call_failf(call, BM_ETARGET, probe->field,
				  "frames need a calibration that supports a false match rate of "
				  "%g",
				  FRAMES_FMR);
	for (size_t i = 0; i < probe->n_frames; i++) {
		const float *one = probe->frames[i].embedding;

		for (size_t j = 0; one && j < i; j++) {
			const float *other = probe->frames[j].embedding;

			if (other && score_dot(one, other, pack->dim) < least)
				probe->finding = BM_EFRAMES;
		}
	}
	return 0;
}

static int fuse(struct service_call *call, struct probe *probe)
{
	size_t dim = call->service->options.pack->dim;
	float *sum = call_alloc(call, dim * sizeof(*sum));
	int error;

	if (!sum)
		return BM_ENOMEM;
	for (size_t i = 0; i < probe->n_frames; i++) {
		const struct probe *frame = &probe->frames[i];

		for (size_t d = 0; frame->embedding && d < dim; d++)
			sum[d] += (float)frame->weight * frame->embedding[d];
	}
	/* Frames that are alike never cancel out. */
	error = score_normalise(sum, dim);
	probe->embedding = sum;
	return error;
}

int frames_run(struct service_call *call, struct faceworker *worker, struct probe *probe)
{
	int error;

	for (size_t i = 0; i < probe->n_frames; i++) {
		error = probe_run(call, worker, &probe->frames[i]);
		if (error)
			return error;
		if (!probe->frames[i].finding)
			probe->frames[i].weight = weight_of(&probe->frames[i]);
	}
	choose(probe);
	if (probe->finding)
		return 0;
	error = check_alike(call, probe);
	return error || probe->finding ? error : fuse(call, probe);
}

int frames_report(struct service_call *call, const struct probe *probe,
		  Biomatch__V1__ProbeReport *out)
{
	if (!probe->n_frames)
		return 0;
	out->frames = call_alloc(call, probe->n_frames * sizeof(*out->frames));
	if (!out->frames)
		return BM_ENOMEM;
	for (; out->n_frames < probe->n_frames; out->n_frames++) {
		const struct probe *frame = &probe->frames[out->n_frames];
		Biomatch__V1__FrameReport *told =
			call_message(call, &biomatch__v1__frame_report__descriptor);

		if (!told)
			return BM_ENOMEM;
		told->reason = reason_of(frame->finding);
		told->weight = frame->weight;
		out->frames[out->n_frames] = told;
	}
	return 0;
}
