/* The arena: limits, alignment, zeroed memory, and the wipe at its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "biomatch/arena.h"

static void test_aligned_and_zeroed(void **state)
{
	static const size_t sizes[] = {1, 63, 64, 65, 1000, 20000, 3, 1 << 20};
	struct arena a;

	(void)state;
	arena_init(&a, 8 << 20);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			uint8_t *p = arena_alloc(&a, sizes[i]);

			assert_non_null(p);
			assert_int_equal((uintptr_t)p % 64, 0);
			for (size_t j = 0; j < sizes[i]; j++)
				assert_int_equal(p[j], 0);
			memset(p, 0xa5, sizes[i]);
		}
		/* The same blocks may come back from the allocator: zeroed all the same. */
		arena_reset(&a);
		assert_int_equal(a.used, 0);
	}
	arena_deinit(&a);
}

static void test_pieces_do_not_overlap(void **state)
{
	enum { PIECES = 300 };
	uint8_t *pieces[PIECES];
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 20);
	for (int i = 0; i < PIECES; i++) {
		pieces[i] = arena_alloc(&a, 100);
		assert_non_null(pieces[i]);
		memset(pieces[i], i & 0xff, 100);
	}
	for (int i = 0; i < PIECES; i++) {
		for (int j = 0; j < 100; j++)
			assert_int_equal(pieces[i][j], i & 0xff);
	}
	arena_deinit(&a);
}

static void test_limit(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, 1024);
	assert_null(arena_alloc(&a, 1025));
	assert_int_equal(a.used, 0);
	assert_non_null(arena_alloc(&a, 1));
	assert_non_null(arena_alloc(&a, 960));
	assert_null(arena_alloc(&a, 1));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 63));
	arena_reset(&a);
	assert_non_null(arena_alloc(&a, 1024));
	arena_deinit(&a);
	arena_init(&a, 0);
	assert_null(arena_alloc(&a, 1));
	arena_deinit(&a);
}

static void test_strndup(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, 1024);
	assert_string_equal(arena_strndup(&a, "hello", 3), "hel");
	assert_string_equal(arena_strndup(&a, NULL, 0), "");
	assert_null(arena_strndup(&a, "x", SIZE_MAX));
	assert_null(arena_strndup(&a, "x", 4096));
	arena_deinit(&a);
}

/*
 * The heap is asked for the very block that was freed: without a wipe the secret
 * would still stand in it.
 */
static void test_wiped(void **state)
{
	static const char secret[] = "the embedding of a traveller";
	const volatile uint8_t *freed;
	struct arena a, b;
	uint8_t *p, *q;

	(void)state;
	arena_init(&a, 1 << 20);
	p = arena_alloc(&a, 12000);
	assert_non_null(p);
	for (size_t at = 0; at + sizeof(secret) <= 12000; at += sizeof(secret))
		memcpy(p + at, secret, sizeof(secret));
	freed = p;
	arena_deinit(&a);
	arena_init(&b, 1 << 20);
	/* A small piece of a block of the same size: the rest is as the allocator gave it. */
	q = arena_alloc(&b, 64);
	assert_non_null(q);
	if (q == freed)
		for (size_t at = 64; at < 12000; at++)
			assert_int_equal(freed[at], 0);
	arena_deinit(&b);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aligned_and_zeroed),
		cmocka_unit_test(test_pieces_do_not_overlap),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_strndup),
		cmocka_unit_test(test_wiped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
