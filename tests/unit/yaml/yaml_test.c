/* The tree a file becomes, and the line of each thing that is wrong with one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "biomatch/file.h"
#include "biomatch/yaml.h"

struct place {
	char dir[64], path[96];
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	strcpy(place->dir, "/tmp/biomatch-yaml-XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->path, sizeof(place->path), "%s/f.yaml", place->dir);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;

	unlink(place->path);
	assert_int_equal(rmdir(place->dir), 0);
	free(place);
	return 0;
}

static int open_bytes(const struct place *place, const char *data, size_t len,
		      struct yaml_tree **tree, char *message)
{
	unlink(place->path);
	assert_int_equal(file_write_new(place->path, data, len, 0600), 0);
	return yaml_tree_open(place->path, tree, message);
}

static void test_tree(void **state)
{
	static const char text[] = "# a comment\n"
				   "first: 1\n"
				   "list:\n"
				   "  - a\n"
				   "  - {x: 'y z', empty: }\n"
				   "map:\n"
				   "  inner: \"020\"\n";
	char message[YAML_MESSAGE_LEN];
	const struct yaml_value *v;
	struct yaml_tree *tree;

	assert_int_equal(open_bytes(*state, text, sizeof(text) - 1, &tree, message), 0);
	v = yaml_tree_root(tree);
	assert_int_equal(v->kind, YAML_MAP);
	assert_null(v->key);
	v = v->first;
	assert_string_equal(v->key, "first");
	assert_string_equal(v->text, "1");
	assert_int_equal(v->kind, YAML_SCALAR);
	assert_int_equal(v->line, 2);
	assert_null(v->first);
	v = v->next;
	assert_string_equal(v->key, "list");
	assert_int_equal(v->kind, YAML_LIST);
	assert_int_equal(v->line, 3);
	assert_null(v->text);
	assert_null(v->first->key);
	assert_string_equal(v->first->text, "a");
	assert_int_equal(v->first->line, 4);
	assert_int_equal(v->first->next->kind, YAML_MAP);
	assert_string_equal(v->first->next->first->text, "y z");
	assert_string_equal(v->first->next->first->next->text, "");
	assert_null(v->first->next->next);
	v = v->next;
	assert_string_equal(v->first->text, "020");
	assert_int_equal(v->first->line, 7);
	assert_null(v->next);
	yaml_tree_close(tree);
}

static void test_fail_names_file_and_line(void **state)
{
	const struct place *place = *state;
	char message[YAML_MESSAGE_LEN], expected[YAML_MESSAGE_LEN];
	struct yaml_tree *tree;

	assert_int_equal(open_bytes(place, "\n\na: b\n", 7, &tree, message), 0);
	assert_int_equal(yaml_fail(tree, yaml_tree_root(tree)->first, message, "not %d", 5),
			 BM_ECONF);
	snprintf(expected, sizeof(expected), "%s:3: not 5", place->path);
	assert_string_equal(message, expected);
	yaml_tree_close(tree);
}

#define CASE(line, reason, text)                                                                   \
	{                                                                                          \
		line, reason, text, sizeof(text) - 1                                               \
	}

static const struct {
	unsigned line;
	const char *reason; /* part of it */
	const char *text;
	size_t len;
} refused[] = {
	CASE(1, "the file is empty", ""),
	CASE(1, "the file is empty", "# nothing\n\n"),
	CASE(2, "must begin with a name", "\njust text\n"),
	CASE(1, "must begin with a name", "- a\n"),
	CASE(3, "second document", "a: 1\n---\nb: 2\n"),
	CASE(2, "stands already in line 1", "a: 1\na: 2\n"),
	CASE(3, "stands already in line 2", "m:\n  k: 1\n  k: 2\n"),
	CASE(2, "aliases", "a: 1\nb: *a\n"),
	CASE(1, "anchors", "a: &x 1\n"),
	CASE(1, "anchors", "a: &x [1]\n"),
	CASE(1, "anchors", "a: !!int 1\n"),
	CASE(1, "anchors", "a: !x {b: c}\n"),
	CASE(1, "key must be", "[a, b]: 1\n"),
	CASE(1, "nested too deeply", "a: [[[[[[[[[[x]]]]]]]]]]\n"),
	CASE(1, "NUL", "a: \"x\\0y\"\n"),
	CASE(2, "", "a: 1\nb: [1, 2\n"),
	CASE(2, "", "a: 1\n\tb: 2\n"),
	CASE(1, "", "a: \xff\xfe\n"),
	CASE(1, "", "a: \x01\n"),
};

static void test_refused(void **state)
{
	const struct place *place = *state;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		char message[YAML_MESSAGE_LEN] = "";
		struct yaml_tree *tree;
		unsigned line = 0;
		int error = open_bytes(place, refused[i].text, refused[i].len, &tree, message);

		if (error != BM_ECONF)
			fail_msg("case %zu: %d %s", i, error, message);
		assert_memory_equal(message, place->path, strlen(place->path));
		assert_int_equal(sscanf(message + strlen(place->path), ":%u: ", &line), 1);
		if (!strstr(message, refused[i].reason) ||
		    (*refused[i].reason && line != refused[i].line))
			fail_msg("case %zu: %s", i, message);
	}
}

static void test_unreadable(void **state)
{
	const struct place *place = *state;
	char message[YAML_MESSAGE_LEN];
	struct yaml_tree *tree;
	char *large = malloc((1u << 20) + 1);

	assert_int_equal(yaml_tree_open("/nonexistent/f.yaml", &tree, message), BM_ECONF);
	assert_string_equal(message,
			    "/nonexistent/f.yaml: cannot be read: No such file or directory");
	assert_int_equal(yaml_tree_open(place->dir, &tree, message), BM_ECONF);
	assert_non_null(strstr(message, "Is a directory"));
	assert_non_null(large);
	memset(large, '#', (1u << 20) + 1);
	assert_int_equal(open_bytes(place, large, (1u << 20) + 1, &tree, message), BM_ECONF);
	assert_non_null(strstr(message, "File too large"));
	free(large);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fail_names_file_and_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
