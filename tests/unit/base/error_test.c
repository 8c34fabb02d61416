/* The error table: what clients rely on must be there for every code, and differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "biomatch/error.h"

static const int codes[] = {
#define CODE(symbol, reason, grpc, text) BM_##symbol,
	BM_ERRORS(CODE)
#undef CODE
};

static const char *const reasons[] = {
#define REASON(symbol, reason, grpc, text) reason,
	BM_ERRORS(REASON)
#undef REASON
};

#define CODES (sizeof(codes) / sizeof(codes[0]))

static void test_every_code_is_negative_and_its_own(void **state)
{
	(void)state;
	for (size_t i = 0; i < CODES; i++) {
		assert_true(codes[i] < 0);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(codes[i], codes[j]);
	}
}

static void test_reasons(void **state)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

	(void)state;
	for (size_t i = 0; i < CODES; i++) {
		const char *reason = bm_error_reason(codes[i]);

		assert_string_equal(reason, reasons[i]);
		/* google.rpc.ErrorInfo: [A-Z][A-Z0-9_]+[A-Z0-9], at most 63. */
		assert_in_range(strlen(reason), 2, 63);
		assert_int_equal(strspn(reason, allowed), strlen(reason));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(reason, bm_error_reason(codes[j]));
	}
}

static void test_texts_and_statuses(void **state)
{
	(void)state;
	for (size_t i = 0; i < CODES; i++) {
		const char *text = bm_error_text(codes[i]);

		assert_true(strlen(text) > 10);
		assert_true(text[strlen(text) - 1] != '.');
		assert_in_range(bm_error_grpc(codes[i]), GRPC_CANCELLED, GRPC_UNAUTHENTICATED);
		assert_int_not_equal(bm_error_grpc(codes[i]), GRPC_UNKNOWN);
	}
	assert_int_equal(bm_error_grpc(0), GRPC_OK);
	assert_string_equal(bm_error_reason(0), "OK");
	assert_int_equal(bm_error_grpc(BM_EBUSY), GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(bm_error_grpc(BM_EDENIED), GRPC_PERMISSION_DENIED);
	assert_int_equal(bm_error_grpc(BM_EPEER), GRPC_UNAUTHENTICATED);
}

static void test_numbers_that_are_none(void **state)
{
	(void)state;
	assert_string_equal(bm_error_reason(1), "INTERNAL");
	assert_string_equal(bm_error_reason(-1000000), "INTERNAL");
	assert_int_equal(bm_error_grpc(12345), GRPC_INTERNAL);
	assert_string_equal(bm_error_text(INT32_MAX), bm_error_text(BM_EINTERNAL));
	assert_string_equal(grpc_status_name(-1), "UNKNOWN");
	assert_string_equal(grpc_status_name(17), "UNKNOWN");
	assert_string_equal(grpc_status_name(GRPC_OK), "OK");
	assert_string_equal(grpc_status_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_code_is_negative_and_its_own),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_texts_and_statuses),
		cmocka_unit_test(test_numbers_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
