/*
 * Hill climbing: whoever may send templates and sees a score finds the enrolled
 * face with as many calls as a template has elements, as the first test shows. With
 * bands and a limit on attempts the same caller gets nowhere.
 */
#include "loopback.h"

#include <math.h>

#include "biomatch/v1/admin_service.pb-c.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "biomatch/v1/matching_service.pb-c.h"

/* Of the purpose "limited". */
#define LIMIT 5

/* A template that was never a picture's, under the service's own seal. */
struct forged {
	Biomatch__V1__Template template;
	Biomatch__V1__Probe probe;
	uint8_t sealed[PACK_MAX_DIM * sizeof(float) + KEYS_SEAL_OVERHEAD];
};

static void forge(const struct loopback *l, struct forged *f, const float *embedding)
{
	struct bytes plain = {(const uint8_t *)embedding, l->pack->dim * sizeof(float)};
	struct bytes context = {l->pack->digest, PACK_SHA256_LEN};

	f->template = (Biomatch__V1__Template)BIOMATCH__V1__TEMPLATE__INIT;
	f->probe = (Biomatch__V1__Probe)BIOMATCH__V1__PROBE__INIT;
	assert_int_equal(keys_seal(l->keys, KEYS_TEMPLATE, context, plain, f->sealed), 0);
	f->template.model = (char *)(uintptr_t)l->pack->model;
	f->template.data = (ProtobufCBinaryData){plain.len + KEYS_SEAL_OVERHEAD, f->sealed};
	f->probe.kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
	f->probe.template_ = &f->template;
}

static void draw(float *out, size_t dim, uint64_t *seed)
{
	for (size_t i = 0; i < dim; i++) {
		double sum = -2;

		for (int j = 0; j < 4; j++) {
			*seed = *seed * UINT64_C(6364136223846793005) +
				UINT64_C(1442695040888963407);
			sum += (double)(*seed >> 33) / (double)(1u << 31);
		}
		out[i] = (float)sum;
	}
	assert_int_equal(score_normalise(out, dim), 0);
}

static void enrol(struct loopback *l, const float *embedding)
{
	Biomatch__V1__CreateGalleryRequest create = BIOMATCH__V1__CREATE_GALLERY_REQUEST__INIT;
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;
	struct forged f;
	struct exchange x;

	create.purpose = (char *)"office";
	create.request_id = create.name = (char *)"people";
	exchange_call(l, &x, "/biomatch.v1.AdminService/CreateGallery", LOOPBACK_ADMIN,
		      &create.base, &biomatch__v1__create_gallery_response__descriptor);
	assert_int_equal(x.status, GRPC_OK);
	exchange_close(&x);
	forge(l, &f, embedding);
	request.purpose = (char *)"gate";
	request.gallery = (char *)"people";
	request.request_id = request.subject_id = (char *)"victim";
	request.reference = &f.probe;
	exchange_call(l, &x, "/biomatch.v1.EnrolmentService/Enrol", LOOPBACK_LANE, &request.base,
		      &biomatch__v1__enrol_response__descriptor);
	assert_int_equal(x.status, GRPC_OK);
	exchange_close(&x);
}

/* The reply stands until the exchange is closed. */
static const Biomatch__V1__VerifyResponse *try(struct loopback *l, struct exchange *x,
					       const char *purpose, const char *peer,
					       const float *embedding)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	const Biomatch__V1__VerifyResponse *reply;
	struct forged f;

	forge(l, &f, embedding);
	request.purpose = (char *)(uintptr_t)purpose;
	request.gallery = (char *)"people";
	request.subject_id = (char *)"victim";
	request.probe = &f.probe;
	reply = exchange_call(l, x, "/biomatch.v1.MatchingService/Verify", peer, &request.base,
			      &biomatch__v1__verify_response__descriptor);
	assert_non_null(reply);
	return reply;
}

static void test_scores_are_climbed(void **state)
{
	struct loopback *l = *state;
	size_t dim = l->pack->dim;
	float victim[PACK_MAX_DIM], found[PACK_MAX_DIM];
	const Biomatch__V1__VerifyResponse *reply;
	uint64_t seed = 1;
	struct exchange x;

	draw(victim, dim, &seed);
	enrol(l, victim);
	for (size_t i = 0; i < dim; i++) {
		float step[PACK_MAX_DIM] = {0};

		step[i] = 1;
		reply = try(l, &x, "gate", LOOPBACK_LANE, step);
		found[i] = reply->raw->score;
		exchange_close(&x);
	}
	assert_int_equal(score_normalise(found, dim), 0);
	reply = try(l, &x, "gate", LOOPBACK_LANE, found);
	assert_int_equal(reply->decision, BIOMATCH__V1__DECISION__DECISION_MATCH);
	assert_true(reply->raw->score > 0.99f);
	exchange_close(&x);
}

/*
 * The best that bands allow: keep what is told to be more alike. Returns how many of
 * the calls were answered with a band.
 */
static unsigned climb(struct loopback *l, const char *purpose, float *best, unsigned calls)
{
	size_t dim = l->pack->dim;
	unsigned told = 0, band = 0;
	uint64_t seed = 2;
	struct exchange x;

	draw(best, dim, &seed);
	for (unsigned i = 0; i < calls; i++) {
		const Biomatch__V1__VerifyResponse *reply;
		float next[PACK_MAX_DIM], step[PACK_MAX_DIM];

		draw(step, dim, &seed);
		for (size_t d = 0; d < dim; d++)
			next[d] = best[d] + step[d] / 2;
		assert_int_equal(score_normalise(next, dim), 0);
		reply = try(l, &x, purpose, LOOPBACK_LANE, next);
		assert_null(reply->raw);
		told += reply->band != 0;
		if (reply->band > band) {
			band = reply->band;
			memcpy(best, next, dim * sizeof(*best));
		}
		if (i >= LIMIT) {
			assert_int_equal(reply->decision, BIOMATCH__V1__DECISION__DECISION_REFER);
			assert_int_equal(reply->reason,
					 BIOMATCH__V1__REASON__REASON_ATTEMPTS_EXCEEDED);
			assert_true(reply->retry_after_ms > 0 && reply->retry_after_ms <= 3600000);
			assert_true(reply->basis->compared == 0);
			assert_true(reply->receipt->sequence > 0);
		}
		exchange_close(&x);
	}
	return told;
}

static void test_bands_and_limits_hold(void **state)
{
	struct loopback *l = *state;
	size_t dim = l->pack->dim;
	float victim[PACK_MAX_DIM], best[PACK_MAX_DIM], threshold;
	const Biomatch__V1__VerifyResponse *reply;
	uint64_t seed = 1;
	double smallest;
	struct exchange x;

	draw(victim, dim, &seed);
	enrol(l, victim);
	assert_int_equal(climb(l, "limited", best, (unsigned)dim), LIMIT);
	assert_int_equal(pack_threshold(l->pack, 0.001, &threshold, &smallest), 0);
	assert_true(score_dot(best, victim, dim) < threshold);
	/* The subject is referred there as well, and passes at another lane. */
	reply = try(l, &x, "limited", LOOPBACK_LANE, victim);
	assert_int_equal(reply->reason, BIOMATCH__V1__REASON__REASON_ATTEMPTS_EXCEEDED);
	exchange_close(&x);
	reply = try(l, &x, "limited", "biomatch://test/gate-hall/lane/2", victim);
	assert_int_equal(reply->decision, BIOMATCH__V1__DECISION__DECISION_MATCH);
	exchange_close(&x);
}

/* A unit vector with this cosine to v. */
static void lean(const float *v, size_t dim, float cosine, float *out)
{
	uint64_t seed = 3;
	float other[PACK_MAX_DIM], along;

	draw(other, dim, &seed);
	along = score_dot(other, v, dim);
	for (size_t i = 0; i < dim; i++)
		other[i] -= along * v[i];
	assert_int_equal(score_normalise(other, dim), 0);
	for (size_t i = 0; i < dim; i++)
		out[i] = cosine * v[i] + sqrtf(1 - cosine * cosine) * other[i];
}

static void test_zone_is_referred(void **state)
{
	struct loopback *l = *state;
	const size_t dim = l->pack->dim;
	float victim[PACK_MAX_DIM], probe[PACK_MAX_DIM], match, refer;
	const Biomatch__V1__VerifyResponse *reply;
	uint64_t seed = 1;
	double smallest;
	struct exchange x;

	assert_int_equal(pack_threshold(l->pack, 0.0001, &match, &smallest), 0);
	assert_int_equal(pack_threshold(l->pack, 0.01, &refer, &smallest), 0);
	draw(victim, dim, &seed);
	enrol(l, victim);
	const struct {
		float score;
		int decision, reason;
	} cases[] = {
		{refer - 0.001f, BIOMATCH__V1__DECISION__DECISION_NO_MATCH, 0},
		{refer + 0.001f, BIOMATCH__V1__DECISION__DECISION_REFER,
		 BIOMATCH__V1__REASON__REASON_UNCERTAIN},
		{match - 0.001f, BIOMATCH__V1__DECISION__DECISION_REFER,
		 BIOMATCH__V1__REASON__REASON_UNCERTAIN},
		{match + 0.001f, BIOMATCH__V1__DECISION__DECISION_MATCH, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		lean(victim, dim, cases[i].score, probe);
		reply = try(l, &x, "attended", LOOPBACK_LANE, probe);
		assert_int_equal(reply->decision, cases[i].decision);
		assert_int_equal(reply->reason, cases[i].reason);
		assert_float_equal(reply->raw->score, cases[i].score, 1e-5);
		assert_float_equal(reply->raw->threshold, match, 0);
		assert_float_equal(reply->raw->fmr, pack_fmr(l->pack, reply->raw->score), 0);
		assert_float_equal(reply->basis->target_rate, 0.0001, 0);
		assert_float_equal(reply->basis->refer_rate, 0.01, 0);
		exchange_close(&x);
	}
	/* What is referred so is an attempt: it tells how near the probe came. */
	lean(victim, dim, refer + 0.001f, probe);
	for (unsigned i = 0; i <= LIMIT; i++) {
		reply = try(l, &x, "attended", LOOPBACK_LANE, probe);
		assert_int_equal(reply->reason,
				 i < LIMIT ? BIOMATCH__V1__REASON__REASON_UNCERTAIN
					   : BIOMATCH__V1__REASON__REASON_ATTEMPTS_EXCEEDED);
		exchange_close(&x);
	}
}

/* Who is at last recognised has all attempts again. */
static void test_match_ends_the_count(void **state)
{
	struct loopback *l = *state;
	float victim[PACK_MAX_DIM], stranger[PACK_MAX_DIM];
	const Biomatch__V1__VerifyResponse *reply;
	uint64_t seed = 1;
	struct exchange x;

	draw(victim, l->pack->dim, &seed);
	draw(stranger, l->pack->dim, &seed);
	enrol(l, victim);
	for (unsigned i = 0; i < 2 * LIMIT; i++) {
		bool is_match = i % LIMIT == LIMIT - 1;

		reply = try(l, &x, "limited", LOOPBACK_LANE, is_match ? victim : stranger);
		assert_int_equal(reply->decision,
				 is_match ? BIOMATCH__V1__DECISION__DECISION_MATCH
					  : BIOMATCH__V1__DECISION__DECISION_NO_MATCH);
		exchange_close(&x);
	}
}

#define LOOPBACK_TEST(f) cmocka_unit_test_setup_teardown(f, loopback_setup, loopback_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOPBACK_TEST(test_scores_are_climbed),
		LOOPBACK_TEST(test_bands_and_limits_hold),
		LOOPBACK_TEST(test_match_ends_the_count),
		LOOPBACK_TEST(test_zone_is_referred),
	};

	if (score_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("climb", tests, NULL, NULL);
}
