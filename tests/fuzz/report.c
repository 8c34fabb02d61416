/* What a face worker answers and reports, from a process in which a hostile picture may have won.
 */
#include "../../src/faceworker/report.h"
#include "fuzz.h"

#define DIM 128

static void require_usable(const struct face_report *report)
{
	double norm = 0;

	REQUIRE(report->n_faces <= FACE_MAX_FACES);
	REQUIRE((uint64_t)report->width * report->height <= FACE_MAX_PIXELS);
	for (unsigned i = 0; i < QUALITY_COMPONENTS; i++)
		REQUIRE(report->quality.value[i] <= QUALITY_MAX ||
			report->quality.value[i] == QUALITY_UNKNOWN);
	REQUIRE(report->liveness >= 0 && report->liveness <= 1);
	if (report->finding)
		return;
	REQUIRE(report->n_faces > 0 && report->dim == DIM);
	for (unsigned i = 0; i < DIM; i++)
		norm += (double)report->embedding[i] * (double)report->embedding[i];
	REQUIRE(norm > 0.99 && norm < 1.01);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct face_report report;
	int32_t result;

	if (size < sizeof(result))
		return 0;
	memcpy(&result, data, sizeof(result));
	data += sizeof(result);
	size -= sizeof(result);
	if (report_result_valid(result))
		REQUIRE(bm_error_reason(result));
	memset(&report, 0, sizeof(report));
	memcpy(&report, data, size < sizeof(report) ? size : sizeof(report));
	if (report_valid(&report, DIM, 0))
		require_usable(&report);
	return 0;
}
