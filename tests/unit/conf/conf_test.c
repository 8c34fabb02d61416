/* Configurations: what holds by default, how values are read, why files are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "biomatch/conf.h"
#include "biomatch/file.h"
#include "biomatch/yaml.h"

/* A directory in which every path of a configuration can be found. */
struct place {
	char dir[64], path[96];
};

static const char *const files[] = {"pki/server.pem", "pki/server.key", "pki/ca.pem",   "store.key",
				    "audit.key",      "policy.yaml",    "biomatch-face"};

/* Enough to start from, as the first lines of every file; what follows is line 5. */
#define PATHS                                                                                      \
	"face: {pack: pack, program: biomatch-face}\n"                                             \
	"store:\n"                                                                                 \
	"  path: store\n"                                                                          \
	"\n"

static void make_file(const struct place *place, const char *name, const char *text, unsigned mode)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", place->dir, name);
	unlink(path);
	assert_int_equal(file_write_new(path, text, strlen(text), mode), 0);
}

static void make_dir(const struct place *place, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", place->dir, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	strcpy(place->dir, "/tmp/biomatch-conf-XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->path, sizeof(place->path), "%s/b.yaml", place->dir);
	make_dir(place, "pki");
	make_dir(place, "pack");
	make_dir(place, "store");
	make_dir(place, "credentials");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		make_file(place, files[i], "", 0700);
	unsetenv("CREDENTIALS_DIRECTORY");
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	char command[96];

	snprintf(command, sizeof(command), "rm -r %s", place->dir);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

static int open_text(const struct place *place, const char *text, struct conf **out,
		     char message[CONF_MESSAGE_LEN])
{
	make_file(place, "b.yaml", text, 0600);
	return conf_open(place->path, out, message);
}

static struct conf *open_good(const struct place *place, const char *text)
{
	char message[CONF_MESSAGE_LEN];
	struct conf *conf;

	if (open_text(place, text, &conf, message))
		fail_msg("%s", message);
	return conf;
}

static void assert_in_dir(const struct place *place, const char *path, const char *name)
{
	char expected[160];

	snprintf(expected, sizeof(expected), "%s/%s", place->dir, name);
	assert_string_equal(path, expected);
}

static void test_defaults(void **state)
{
	const struct place *place = *state;
	struct conf *c = open_good(place, PATHS);

	assert_string_equal(c->server.listen, "0.0.0.0:8443");
	assert_in_dir(place, c->server.certificate, "pki/server.pem");
	assert_in_dir(place, c->server.private_key, "pki/server.key");
	assert_in_dir(place, c->server.client_ca, "pki/ca.pem");
	assert_int_equal(c->server.threads, 2);
	assert_int_equal(c->server.max_message, 21u << 20);
	assert_int_equal(c->server.handshake, 5000);
	assert_int_equal(c->server.idle, 600000);
	assert_true(c->server.reflection);
	assert_in_dir(place, c->store.path, "store");
	assert_true(c->store.map_size == UINT64_C(64) << 30);
	assert_in_dir(place, c->store.key, "store.key");
	assert_in_range(c->face.workers, 1, 256);
	assert_int_equal(c->match.scanners, c->face.workers);
	assert_string_equal(c->match.kernel, "auto");
	assert_in_dir(place, c->policy.file, "policy.yaml");
	assert_int_equal(c->log.level, LOG_LEVEL_INFO);
	conf_close(c);
}

static void test_values(void **state)
{
	struct conf *c = open_good(*state, PATHS "server:\n"
						 "  listen: '[::1]:0'\n"
						 "  threads: 3\n"
						 "  max_message: 65536\n"
						 "  max_total_bytes: 2GiB\n"
						 "  drain: 0s\n"
						 "  idle: 7d\n"
						 "  reflection: false\n"
						 "log: {level: debug}\n"
						 "match: {kernel: portable, scanners: 9}\n");

	assert_string_equal(c->server.listen, "[::1]:0");
	assert_int_equal(c->server.threads, 3);
	assert_int_equal(c->server.max_message, 65536);
	assert_true(c->server.max_total_bytes == UINT64_C(2) << 30);
	assert_int_equal(c->server.drain, 0);
	assert_int_equal(c->server.idle, 7 * 86400 * 1000);
	assert_false(c->server.reflection);
	assert_int_equal(c->log.level, LOG_LEVEL_DEBUG);
	assert_string_equal(c->match.kernel, "portable");
	assert_int_equal(c->match.scanners, 9);
	conf_close(c);
}

static void test_key_comes_from_systemd(void **state)
{
	const struct place *place = *state;
	char dir[160], message[CONF_MESSAGE_LEN];
	struct conf *c;

	snprintf(dir, sizeof(dir), "%s/credentials", place->dir);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", dir, 1), 0);
	assert_int_equal(open_text(place, PATHS, &c, message), BM_ECONF);
	assert_non_null(strstr(message, "store.key: "));
	assert_non_null(strstr(message, "credentials/store.key: No such file"));
	make_file(place, "credentials/store.key", "", 0600);
	make_file(place, "credentials/audit.key", "", 0600);
	c = open_good(place, PATHS);
	assert_in_dir(place, c->store.key, "credentials/store.key");
	assert_in_dir(place, c->audit.key, "credentials/audit.key");
	conf_close(c);
	/* What the file says comes first. */
	c = open_good(place, "face: {pack: pack, program: biomatch-face}\n"
			     "store: {path: store, key: store.key}\n");
	assert_in_dir(place, c->store.key, "store.key");
	conf_close(c);
}

static void test_paths_start_at_the_file(void **state)
{
	const struct place *place = *state;
	char text[512], here[512];
	struct conf *c;

	snprintf(text, sizeof(text), PATHS "policy: {file: %s/policy.yaml}\n", place->dir);
	c = open_good(place, text);
	assert_in_dir(place, c->policy.file, "policy.yaml");
	conf_close(c);
	/* A file named without a directory: they start where we are. */
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(place->dir), 0);
	assert_int_equal(conf_open("b.yaml", &c, text), 0);
	assert_int_equal(chdir(here), 0);
	assert_string_equal(c->server.certificate, "pki/server.pem");
	conf_close(c);
}

static const struct {
	unsigned line;
	const char *reason; /* part of it */
	const char *text;
} refused[] = {
	{1, "the file is empty", ""},
	{1, "must begin with a name", "- a\n"},
	{1, "face.pack: has no default", "store: {path: store}\n"},
	{5, "no section \"servers\"", PATHS "servers:\n  threads: 1\n"},
	{6, "section \"server\" has no option \"thread\"", PATHS "server:\n  thread: 1\n"},
	{6, "section \"log\" has no option \"threads\"", PATHS "log:\n  threads: 1\n"},
	{5, "needs options below it", PATHS "server: 8443\n"},
	{5, "needs options below it", PATHS "server: [listen]\n"},
	{6, "stands already", PATHS "server: {}\nserver: {}\n"},
	{6, "server.threads: \"8443x\" is not a whole number from 1 to 64",
	 PATHS "server:\n  threads: 8443x\n"},
	{7, "server.threads: \"020\"", PATHS "server:\n  idle: 1m\n  threads: 020\n"},
	{6, "server.threads: \"1e3\"", PATHS "server:\n  threads: 1e3\n"},
	{6, "server.threads: \"0.5abc\"", PATHS "server:\n  threads: 0.5abc\n"},
	{6, "server.threads: \"-1\"", PATHS "server:\n  threads: -1\n"},
	{6, "server.threads: \"0\"", PATHS "server:\n  threads: 0\n"},
	{6, "server.threads: \"65\"", PATHS "server:\n  threads: 65\n"},
	{6, "server.threads: \"\"", PATHS "server:\n  threads:\n"},
	{6, "server.threads: \"auto\"", PATHS "server:\n  threads: auto\n"},
	{6, "server.threads: needs a single value", PATHS "server:\n  threads: [1]\n"},
	{6, "match.scanners: \"many\" is not \"auto\" or a whole number from 1 to 256",
	 PATHS "match:\n  scanners: many\n"},
	{6, "max_message: \"21MB\" is not a size, as in 512MiB, from 64KiB to 64MiB",
	 PATHS "server:\n  max_message: 21MB\n"},
	{6, "max_message: \"1GiB\"", PATHS "server:\n  max_message: 1GiB\n"},
	{6, "max_total_bytes: \"99999999999999999999\"",
	 PATHS "server:\n  max_total_bytes: 99999999999999999999\n"},
	{6, "handshake: \"5\" is not a time, as in 500ms or 5s, from 100ms to 1m",
	 PATHS "server:\n  handshake: 5\n"},
	{6, "reflection: \"yes\"", PATHS "server:\n  reflection: yes\n"},
	{6, "level: \"verbose\"", PATHS "log:\n  level: verbose\n"},
	{6, "\"8443\" is not HOST:PORT", PATHS "server:\n  listen: 8443\n"},
	{6, "is not HOST:PORT", PATHS "server:\n  listen: ':8443'\n"},
	{6, "is not HOST:PORT", PATHS "server:\n  listen: localhost:http\n"},
	{6, "is not HOST:PORT", PATHS "server:\n  listen: localhost:65536\n"},
	{6, "server.certificate: /nonexistent: No such file",
	 PATHS "server:\n  certificate: /nonexistent\n"},
	{6, "server.client_ca: ", PATHS "server:\n  client_ca: pki\n"},
	{6, "policy.file: needs a path", PATHS "policy:\n  file: ''\n"},
	{2, "face.pack: ",
	 "face:\n  pack: policy.yaml\n  program: biomatch-face\nstore: {path: store}\n"},
	{3, "face.program: ", "face:\n  pack: pack\n  program: nothing\nstore: {path: store}\n"},
	{6, "max_connection_bytes must hold", PATHS "server:\n  max_connection_bytes: 1MiB\n"},
	{6, "max_total_bytes is less", PATHS "server:\n  max_total_bytes: 32MiB\n"},
	{6, "follow.leader needs follow.certificate", PATHS "follow:\n  leader: a:1\n"},
	{6, "follow.purpose needs follow.leader", PATHS "follow:\n  purpose: standby\n"},
	{6, "follow.leader: \"a\" is not HOST:PORT",
	 PATHS "follow: {certificate: pki/server.pem, private_key: pki/server.pem, purpose: p,\n"
	       "  leader: a, ca: pki/server.pem}\n"},
	{6, "follow.max_age: \"1s\" is not a time", PATHS "follow:\n  max_age: 1s\n"},
	{1, "max_resident is more",
	 "face: {pack: pack, program: biomatch-face, max_resident: 8GiB}\n"
	 "store: {path: store}\n"},
};

static void test_refused(void **state)
{
	const struct place *place = *state;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		char message[CONF_MESSAGE_LEN] = "";
		struct conf *conf;
		unsigned line = 0;
		int error = open_text(place, refused[i].text, &conf, message);

		if (error != BM_ECONF)
			fail_msg("case %zu (%s): %d", i, refused[i].reason, error);
		assert_memory_equal(message, place->path, strlen(place->path));
		assert_int_equal(sscanf(message + strlen(place->path), ":%u: ", &line), 1);
		if (!strstr(message, refused[i].reason) || line != refused[i].line)
			fail_msg("case %zu: %s", i, message);
	}
}

static void test_missing_file(void **state)
{
	char message[CONF_MESSAGE_LEN];
	struct conf *conf;

	(void)state;
	assert_int_equal(conf_open("/nonexistent.yaml", &conf, message), BM_ECONF);
	assert_non_null(strstr(message, "/nonexistent.yaml: cannot be read: No such file"));
}

static char *read_text(const char *path)
{
	uint8_t *data;
	size_t len;

	assert_int_equal(file_read(path, 1 << 20, &data, &len), 0);
	return (char *)data;
}

/* The file we ship names every option there is, and the manual page tells of each. */
static void test_every_option_is_documented(void **state)
{
	char *source = read_text("src/conf/conf.c"), *shipped = read_text("config/biomatchd.yaml");
	char *manual = read_text("docs/man/biomatchd.yaml.5");
	char section[32], key[32], wanted[96];
	int n = 0;

	(void)state;
	for (const char *p = source; (p = strstr(p, "\tOPTION(")); p++, n++) {
		assert_int_equal(sscanf(p, "\tOPTION(%31[a-z_], %31[a-z_],", section, key), 2);
		snprintf(wanted, sizeof(wanted), " %s: ", key);
		if (!strstr(shipped, wanted) && !strstr(shipped, wanted + 1))
			fail_msg("config/biomatchd.yaml lacks %s.%s", section, key);
		snprintf(wanted, sizeof(wanted), ".B %s.%s", section, key);
		if (!strstr(manual, wanted))
			fail_msg("biomatchd.yaml(5) lacks %s.%s", section, key);
	}
	assert_true(n > 30);
	free(source);
	free(shipped);
	free(manual);
}

static bool is_path(const struct yaml_value *v)
{
	return strchr(v->text, '/') || strstr(v->text, ".yaml");
}

/* Strings are compared as such, every other word of the structs as it is. */
static void assert_same(struct conf *a, struct conf *b)
{
	char **strings[] = {&b->server.listen,    &b->server.certificate, &b->server.private_key,
			    &b->server.client_ca, &b->store.path,         &b->store.key,
			    &b->face.pack,        &b->face.program,       &b->match.kernel,
			    &b->policy.file,      &b->ops.listen,         &b->audit.key};
	const size_t n = sizeof(strings) / sizeof(strings[0]);

	for (char **p = (char **)a, **q = (char **)b; p < (char **)(a + 1); p++, q++) {
		bool string = false;

		for (size_t i = 0; i < n; i++)
			string |= strings[i] == q;
		if (string)
			assert_string_equal(*p, *q);
		else
			assert_memory_equal(p, q, sizeof(*p));
	}
}

/* The values it shows are those that hold without it. */
static void test_shipped_values_are_the_defaults(void **state)
{
	const struct place *place = *state;
	char message[CONF_MESSAGE_LEN], text[4096] = "";
	struct conf *shown, *standard;
	struct yaml_tree *tree;

	if (yaml_tree_open("config/biomatchd.yaml", &tree, message))
		fail_msg("%s", message);
	for (const struct yaml_value *s = yaml_tree_root(tree)->first; s; s = s->next) {
		sprintf(text + strlen(text), "%s:\n", s->key);
		if (!strcmp(s->key, "face"))
			strcat(text, "  pack: pack\n  program: biomatch-face\n");
		if (!strcmp(s->key, "store"))
			strcat(text, "  path: store\n");
		for (const struct yaml_value *v = s->first; v; v = v->next) {
			if (!is_path(v))
				sprintf(text + strlen(text), "  %s: %s\n", v->key, v->text);
		}
	}
	yaml_tree_close(tree);
	shown = open_good(place, text);
	standard = open_good(place, PATHS);
	assert_same(shown, standard);
	conf_close(shown);
	conf_close(standard);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_key_comes_from_systemd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paths_start_at_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_every_option_is_documented),
		cmocka_unit_test_setup_teardown(test_shipped_values_are_the_defaults, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
