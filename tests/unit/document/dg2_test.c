/* Face data groups by hand: what is found, what is refused, and what hurts nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "biomatch/document.h"
#include "dg2.h"

#define MUTATIONS 200000

static const uint8_t face[] = {0xff, 0xd8, 0xff, 'f', 'a', 'c', 'e'};
static const struct bytes picture = {face, sizeof(face)};

/* Looks through a copy that ends where the bytes end, so that ASan sees a step too far. */
static int find(const uint8_t *data, size_t len, size_t *at, size_t *found_len)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct bytes found = {0};
	int error;

	assert_non_null(copy);
	memcpy(copy, data, len);
	error = document_find_picture((struct bytes){copy, len}, &found);
	if (!error) {
		assert_true(found.data > copy && found.len > 0);
		*at = (size_t)(found.data - copy);
		*found_len = found.len;
		assert_true(*at + *found_len <= len);
	}
	free(copy);
	return error;
}

static void assert_found(struct dg2 file)
{
	size_t at, len;

	assert_true(document_is_dg2((struct bytes){file.data, file.len}));
	assert_int_equal(find(file.data, file.len, &at, &len), 0);
	assert_int_equal(len, sizeof(face));
	assert_memory_equal(file.data + at, face, sizeof(face));
	free(file.data);
}

static void assert_refused(struct dg2 file)
{
	size_t at, len;

	assert_int_equal(find(file.data, file.len, &at, &len), BM_EDG2);
	free(file.data);
}

static void test_both_formats(void **state)
{
	struct dg2 file = {0};

	(void)state;
	assert_found(dg2_of_record(picture, 0));
	assert_found(dg2_of_record(picture, 3));
	assert_found(dg2_of_block(picture));
	dg2_add_record(&file, picture, 0);
	dg2_finish(&file, 0x7f2e);
	assert_found(file);
}

/* Written out byte by byte, with the shortest lengths. */
static void test_literal(void **state)
{
	static const uint8_t record[] = {
		0x75, 0x49, 0x7f, 0x61, 0x46, 0x02, 0x01, 0x01, 0x7f, 0x60, 0x40, 0xa1, 0x0a,
		0x81, 0x01, 0x02, 0x87, 0x02, 0x01, 0x01, 0x88, 0x01, 0x08, 0x5f, 0x2e, 0x31,
		'F',  'A',  'C',  0,    '0',  '1',  '0',  0,    0,    0,    0,    0x31, 0,
		1,    0,    0,    0,    0x23, 0,    0,    0,    0,    0,    0,    0,    0,
		0,    0,    0,    0,    0,    0,    0,    0,    1,    0,    0,    1,    0,
		1,    1,    2,    0,    0,    0,    0,    0xff, 0xd8, 0xff,
	};
	static const uint8_t block[] = {
		0x75, 0x2c, 0x7f, 0x61, 0x29, 0x02, 0x01, 0x01, 0x7f, 0x60, 0x23, 0xa1,
		0x03, 0x81, 0x01, 0x02, 0x7f, 0x2e, 0x1b, 0xa1, 0x19, 0x65, 0x17, 0xa0,
		0x04, 0x80, 0x02, 0x07, 0xe3, 0xa1, 0x0f, 0x30, 0x0d, 0x80, 0x01, 0x00,
		0xa1, 0x08, 0xa0, 0x06, 0xa0, 0x04, 0x80, 0x02, 0xff, 0xd8,
	};
	size_t at, len;

	(void)state;
	assert_int_equal(find(record, sizeof(record), &at, &len), 0);
	assert_int_equal(at, sizeof(record) - 3);
	assert_int_equal(len, 3);
	assert_int_equal(find(block, sizeof(block), &at, &len), 0);
	assert_int_equal(at, sizeof(block) - 2);
	assert_int_equal(len, 2);
}

/* The second face's picture is another; the first is taken. */
static void test_first_of_two(void **state)
{
	static const uint8_t other[] = {0xff, 0xd8, 0xff, 'o'}, count[] = {0x02, 1, 2};
	struct dg2 file = {0}, second = {0};

	(void)state;
	dg2_add_record(&file, picture, 0);
	dg2_enclose(&file, 0, 0x5f2e);
	dg2_enclose(&file, 0, 0x7f60);
	dg2_add_block(&second, (struct bytes){other, sizeof(other)});
	dg2_enclose(&second, 0, 0x7f2e);
	dg2_enclose(&second, 0, 0x7f60);
	dg2_put(&file, file.len, second.data, second.len);
	dg2_put(&file, 0, count, sizeof(count));
	dg2_enclose(&file, 0, 0x7f61);
	dg2_enclose(&file, 0, 0x75);
	free(second.data);
	assert_found(file);
}

static void test_cut_and_longer(void **state)
{
	struct dg2 files[] = {dg2_of_record(picture, 1), dg2_of_block(picture)};
	size_t at, len;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		for (size_t cut = 0; cut < files[i].len; cut++)
			assert_int_equal(find(files[i].data, cut, &at, &len), BM_EDG2);
		dg2_put(&files[i], files[i].len, "", 1);
		assert_refused(files[i]);
	}
	assert_false(document_is_dg2((struct bytes){NULL, 0}));
}

/* A record with some bytes replaced. */
static void assert_record_refused(size_t at, const void *bytes, size_t len)
{
	struct dg2 file = {0};

	dg2_add_record(&file, picture, 0);
	memcpy(file.data + at, bytes, len);
	dg2_finish(&file, 0x5f2e);
	assert_refused(file);
}

static void test_records_that_lie(void **state)
{
	(void)state;
	assert_record_refused(0, "FIR", 3);
	assert_record_refused(4, "030", 3);
	assert_record_refused(8, "\0\0\0\x10", 4);                       /* record too short */
	assert_record_refused(8, "\xff\xff\xff\xff", 4);                 /* too long */
	assert_record_refused(DG2_RECORD_HEADER, "\xff\xff\xff\xff", 4); /* face too long */
	assert_record_refused(DG2_RECORD_HEADER, "\0\0\0\x20", 4);       /* nothing left */
	assert_record_refused(DG2_RECORD_HEADER, "\0\0\0\0", 4);         /* no face */
	assert_record_refused(DG2_RECORD_HEADER + 4, "\xff\xff", 2);     /* points */
	assert_record_refused(DG2_RECORD_HEADER + 4, "\0\x01", 2);
}

/* Elements that BER allows and a chip does not have, and lengths that lie. */
static void test_elements(void **state)
{
	static const struct bytes bad[] = {
		{(const uint8_t *)"\x75\x80\0\0", 4},       /* indefinite */
		{(const uint8_t *)"\x75\x85\0\0\0\0\0", 7}, /* five bytes of length */
		{(const uint8_t *)"\x75\x84\xff\xff\xff\xff", 6},
		{(const uint8_t *)"\x75\x02\x7f\xe1", 4}, /* a tag that goes on */
		{(const uint8_t *)"\x75\x01\x7f", 3},
		{(const uint8_t *)"\x75\x00", 2},
		{(const uint8_t *)"\x61\x00", 2},
		{(const uint8_t *)"\x75\x06\x7f\x61\x03\x02\x01\x00", 8}, /* no face */
		{(const uint8_t *)"\x75\x06\x7f\x61\x03\x02\x01\x01", 8}, /* none after all */
		{(const uint8_t *)"\x75\x09\x7f\x61\x06\x02\x01\x01\x7f\x60\0", 11},
	};
	struct dg2 empty = dg2_of_block((struct bytes){face, 0});
	size_t at, len;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(find(bad[i].data, bad[i].len, &at, &len), BM_EDG2);
	assert_refused(empty);
}

/* xorshift64: the same mutations on every machine. */
static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void test_mutations(void **state)
{
	struct dg2 files[] = {dg2_of_record(picture, 2), dg2_of_block(picture)};
	uint64_t seed = 0x9303;
	unsigned taken = 0;

	(void)state;
	for (unsigned i = 0; i < MUTATIONS; i++) {
		struct dg2 *from = &files[i & 1];
		uint8_t copy[256];
		size_t at, len;

		assert_true(from->len <= sizeof(copy));
		memcpy(copy, from->data, from->len);
		for (uint64_t n = 1 + next(&seed) % 4; n; n--)
			copy[next(&seed) % from->len] = (uint8_t)next(&seed);
		if (!find(copy, from->len - next(&seed) % 2, &at, &len))
			taken++;
	}
	/* Some hit a byte that matters, some do not. */
	assert_in_range(taken, 1, MUTATIONS - 1);
	free(files[0].data);
	free(files[1].data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_formats),     cmocka_unit_test(test_literal),
		cmocka_unit_test(test_first_of_two),     cmocka_unit_test(test_cut_and_longer),
		cmocka_unit_test(test_records_that_lie), cmocka_unit_test(test_elements),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
