#include "report.h"

#include <math.h>

static bool all_finite(const float *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!isfinite(v[i]))
			return false;
	}
	return true;
}

static bool face_valid(const struct face_found *face)
{
	const float numbers[] = {face->x,      face->y,          face->width,
				 face->height, face->confidence, face->eye_distance};

	for (int i = 0; i < 5; i++) {
		if (!isfinite(face->landmarks[i].x) || !isfinite(face->landmarks[i].y))
			return false;
	}
	return all_finite(numbers, sizeof(numbers) / sizeof(numbers[0]));
}

static bool embedding_valid(const struct face_report *report, uint32_t dim)
{
	double norm = 0;

	if (!report->n_faces || report->dim != dim || !all_finite(report->embedding, dim))
		return false;
	for (uint32_t i = 0; i < dim; i++)
		norm += (double)report->embedding[i] * (double)report->embedding[i];
	return fabs(norm - 1.0) < 1e-3;
}

static bool measures_valid(const struct face_report *report)
{
	const float numbers[] = {report->pose.yaw, report->pose.roll, report->liveness};

	for (int i = 0; i < QUALITY_COMPONENTS; i++) {
		uint8_t value = report->quality.value[i];

		if (value > QUALITY_MAX && value != QUALITY_UNKNOWN)
			return false;
	}
	return all_finite(numbers, 3) && report->liveness >= 0 && report->liveness <= 1;
}

bool report_valid(const struct face_report *report, uint32_t dim, unsigned wanted)
{
	if (report->n_faces > FACE_MAX_FACES ||
	    (uint64_t)report->width * report->height > FACE_MAX_PIXELS || !measures_valid(report))
		return false;
	/* What was asked for is not left out. */
	if (report->n_faces && (wanted & ~report->measured))
		return false;
	for (uint32_t i = 0; i < report->n_faces; i++) {
		if (!face_valid(&report->faces[i]))
			return false;
	}
	switch (report->finding) {
	case 0:
		return embedding_valid(report, dim);
	case BM_ENOFACE:
	case BM_EMANYFACES:
	case BM_EFACESMALL:
	case BM_EFACECUT:
		return true;
	default:
		return false;
	}
}

bool report_result_valid(int result)
{
	switch (result) {
	case 0:
	case BM_EIMGFORMAT:
	case BM_EDG2:
	case BM_EIMGTRUNC:
	case BM_EIMGCORRUPT:
	case BM_EIMGSIZE:
	case BM_EIMGSMALL:
	case BM_ENOMEM:
	case BM_EINTERNAL:
		return true;
	default:
		return false;
	}
}
