#include "biomatch/conf.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "biomatch/parse.h"
#include "biomatch/yaml.h"

enum kind {
	LISTEN,     /* char *: "host:port" */
	FILE_PATH,  /* char *: a file that can be read */
	FILE_MAYBE, /* as FILE_PATH; NULL where the file does not say it */
	KEY_PATH,   /* as FILE_PATH; by default a systemd credential where there are any */
	DIR_READ,   /* char *: a directory */
	DIR_WRITE,  /* char *: a directory that can be written */
	PROGRAM,    /* char *: an executable file */
	TEXT,       /* char * */
	TEXT_MAYBE, /* as TEXT; NULL where the file does not say it */
	COUNT,      /* unsigned */
	COUNT_CPU,  /* unsigned; "auto" for one per processor */
	SIZE,       /* uint64_t, bytes */
	DURATION,   /* uint32_t, ms */
	BOOL,       /* bool */
	LEVEL,      /* enum log_level */
};

struct option {
	const char *section, *key;
	enum kind kind;
	size_t offset;        /* in struct conf */
	const char *standard; /* what holds where the file says nothing; NULL: it must say */
	const char *min, *max;
};

#define OPTION(section, key, kind, ...)                                                            \
	{                                                                                          \
#section, #key, kind, offsetof(struct conf, section.key), __VA_ARGS__              \
	}

static const struct option options[] = {
	OPTION(server, listen, LISTEN, "0.0.0.0:8443", NULL, NULL),
	OPTION(server, certificate, FILE_PATH, "pki/server.pem", NULL, NULL),
	OPTION(server, private_key, FILE_PATH, "pki/server.key", NULL, NULL),
	OPTION(server, client_ca, FILE_PATH, "pki/ca.pem", NULL, NULL),
	OPTION(server, crl, FILE_MAYBE, "", NULL, NULL),
	OPTION(server, threads, COUNT, "2", "1", "64"),
	OPTION(server, max_connections, COUNT, "4096", "1", "100000"),
	OPTION(server, max_streams, COUNT, "64", "1", "1000"),
	OPTION(server, max_message, SIZE, "21MiB", "64KiB", "64MiB"),
	OPTION(server, max_connection_bytes, SIZE, "64MiB", "64KiB", "1GiB"),
	OPTION(server, max_total_bytes, SIZE, "1GiB", "64KiB", "64GiB"),
	OPTION(server, connection_share, COUNT, "5", "1", "100"),
	OPTION(server, handshake, DURATION, "5s", "100ms", "1m"),
	OPTION(server, idle, DURATION, "10m", "1s", "7d"),
	OPTION(server, request, DURATION, "30s", "100ms", "10m"),
	OPTION(server, stall, DURATION, "30s", "100ms", "10m"),
	OPTION(server, drain, DURATION, "20s", "0s", "10m"),
	OPTION(server, queue, COUNT, "256", "1", "65536"),
	OPTION(server, wait, DURATION, "250ms", "10ms", "10m"),
	OPTION(server, reflection, BOOL, "true", NULL, NULL),
	OPTION(ops, listen, LISTEN, "127.0.0.1:8444", NULL, NULL),
	OPTION(store, path, DIR_WRITE, "/var/lib/biomatchd", NULL, NULL),
	OPTION(store, map_size, SIZE, "64GiB", "16MiB", "64TiB"),
	OPTION(store, key, KEY_PATH, "store.key", NULL, NULL),
	OPTION(store, queue, COUNT, "1024", "1", "65536"),
	OPTION(store, max_group, COUNT, "256", "1", "4096"),
	OPTION(face, pack, DIR_READ, NULL, NULL, NULL),
	OPTION(face, program, PROGRAM, "/usr/local/libexec/biomatch-face", NULL, NULL),
	OPTION(face, workers, COUNT_CPU, "auto", "1", "256"),
	OPTION(face, start, DURATION, "30s", "1s", "10m"),
	OPTION(face, run, DURATION, "5s", "100ms", "1m"),
	OPTION(face, max_memory, SIZE, "4GiB", "512MiB", "64GiB"),
	OPTION(face, max_resident, SIZE, "1GiB", "256MiB", "64GiB"),
	OPTION(match, readers, COUNT, "2", "1", "64"),
	OPTION(match, scanners, COUNT_CPU, "auto", "1", "256"),
	OPTION(match, kernel, TEXT, "auto", NULL, NULL),
	OPTION(policy, file, FILE_PATH, "policy.yaml", NULL, NULL),
	OPTION(documents, csca, FILE_MAYBE, "", NULL, NULL),
	OPTION(documents, crl, FILE_MAYBE, "", NULL, NULL),
	OPTION(audit, key, KEY_PATH, "audit.key", NULL, NULL),
	OPTION(audit, checkpoint, DURATION, "10m", "1s", "1d"),
	OPTION(follow, leader, TEXT_MAYBE, "", NULL, NULL),
	OPTION(follow, certificate, FILE_MAYBE, "", NULL, NULL),
	OPTION(follow, private_key, FILE_MAYBE, "", NULL, NULL),
	OPTION(follow, ca, FILE_MAYBE, "", NULL, NULL),
	OPTION(follow, server_name, TEXT_MAYBE, "", NULL, NULL),
	OPTION(follow, purpose, TEXT_MAYBE, "", NULL, NULL),
	OPTION(follow, max_age, DURATION, "10s", "2s", "1d"),
	OPTION(changes, age, DURATION, "7d", "1m", "40d"),
	OPTION(changes, entries, COUNT, "1000000", "1", "1000000000"),
	OPTION(log, level, LEVEL, "info", NULL, NULL),
};

#define OPTIONS (sizeof(options) / sizeof(options[0]))

struct loader {
	struct conf *conf;
	struct yaml_tree *tree;
	const char *path;
	char *message;
};

/* What an option's value is, and where it stands. */
struct value {
	const struct option *option;
	const struct yaml_value *at; /* the root for what the file does not say */
	const char *text;
};

static void *field_of(struct conf *conf, const struct option *option)
{
	return (char *)conf + option->offset;
}

__attribute__((format(printf, 3, 4))) static int
fail_value(const struct loader *l, const struct value *v, const char *format, ...)
{
	char reason[CONF_MESSAGE_LEN / 2];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	return yaml_fail(l->tree, v->at, l->message, "%s.%s: %s", v->option->section,
			 v->option->key, reason);
}

static int fail_range(const struct loader *l, const struct value *v, const char *what)
{
	return fail_value(l, v, "\"%.64s\" is not %s from %s to %s", v->text, what, v->option->min,
			  v->option->max);
}

static int store_text(const struct loader *l, const struct value *v, const char *text)
{
	char **field = field_of(l->conf, v->option);

	*field = strdup(text);
	return *field ? 0 : BM_ENOMEM;
}

static int read_listen(const struct loader *l, const struct value *v)
{
	const char *colon = strrchr(v->text, ':');
	uint64_t port;

	if (!colon || colon == v->text || parse_uint(colon + 1, 0, 65535, &port))
		return fail_value(l, v, "\"%.64s\" is not HOST:PORT", v->text);
	return store_text(l, v, v->text);
}

/* A path as the process reaches it; the caller frees it. NULL when memory is out. */
static char *resolve(const struct loader *l, const struct value *v)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	const char *slash = strrchr(l->path, '/');
	char *path;
	int n;

	if (v->text[0] == '/')
		n = asprintf(&path, "%s", v->text);
	else if (v->option->kind == KEY_PATH && !v->at->key && credentials)
		n = asprintf(&path, "%s/%s", credentials, v->text);
	else if (slash)
		n = asprintf(&path, "%.*s/%s", (int)(slash - l->path), l->path, v->text);
	else
		n = asprintf(&path, "%s", v->text);
	return n < 0 ? NULL : path;
}

/* 0 or the errno that using the path would give. */
static int check_path(const char *path, enum kind kind)
{
	static const int wanted[] = {
		[FILE_PATH] = R_OK,
		[FILE_MAYBE] = R_OK,
		[KEY_PATH] = R_OK,
		[DIR_READ] = R_OK | X_OK,
		[DIR_WRITE] = R_OK | W_OK | X_OK,
		[PROGRAM] = X_OK,
	};
	bool dir = kind == DIR_READ || kind == DIR_WRITE;
	struct stat st;

	if (stat(path, &st))
		return errno;
	if (dir && !S_ISDIR(st.st_mode))
		return ENOTDIR;
	if (!dir && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
	return access(path, wanted[kind]) ? errno : 0;
}

static int read_path(const struct loader *l, const struct value *v)
{
	char *path;
	int error;

	if (!*v->text)
		return fail_value(l, v, "needs a path");
	path = resolve(l, v);
	if (!path)
		return BM_ENOMEM;
	error = check_path(path, v->option->kind);
	if (error) {
		error = fail_value(l, v, "%.160s: %s", path, strerror(error));
		free(path);
		return error;
	}
	*(char **)field_of(l->conf, v->option) = path;
	return 0;
}

static int read_count(const struct loader *l, const struct value *v)
{
	uint64_t min = strtoull(v->option->min, NULL, 10), max = strtoull(v->option->max, NULL, 10);
	uint64_t n;

	if (v->option->kind == COUNT_CPU && !strcmp(v->text, "auto")) {
		long processors = sysconf(_SC_NPROCESSORS_ONLN);

		n = processors < 1 ? 1 : (uint64_t)processors;
		n = n > max ? max : n;
	} else if (parse_uint(v->text, min, max, &n)) {
		return fail_range(l, v,
				  v->option->kind == COUNT_CPU ? "\"auto\" or a whole number"
							       : "a whole number");
	}
	*(unsigned *)field_of(l->conf, v->option) = (unsigned)n;
	return 0;
}

/* For the table's own bounds, which are well formed. */
static uint64_t bound(const char *text, int (*parse)(const char *, uint64_t, uint64_t, uint64_t *))
{
	uint64_t n = 0;

	return parse(text, 0, UINT64_MAX, &n) ? 0 : n;
}

static int read_size(const struct loader *l, const struct value *v)
{
	uint64_t *field = field_of(l->conf, v->option);

	if (parse_size(v->text, bound(v->option->min, parse_size),
		       bound(v->option->max, parse_size), field))
		return fail_range(l, v, "a size, as in 512MiB,");
	return 0;
}

static int read_duration(const struct loader *l, const struct value *v)
{
	uint64_t ms;

	if (parse_duration_ms(v->text, bound(v->option->min, parse_duration_ms),
			      bound(v->option->max, parse_duration_ms), &ms))
		return fail_range(l, v, "a time, as in 500ms or 5s,");
	*(uint32_t *)field_of(l->conf, v->option) = (uint32_t)ms;
	return 0;
}

static int read_value(const struct loader *l, const struct value *v)
{
	switch (v->option->kind) {
	case LISTEN:
		return read_listen(l, v);
	case TEXT:
	case TEXT_MAYBE:
		if (v->option->kind == TEXT_MAYBE && !*v->text)
			return fail_value(l, v, "needs a text");
		return store_text(l, v, v->text);
	case COUNT:
	case COUNT_CPU:
		return read_count(l, v);
	case SIZE:
		return read_size(l, v);
	case DURATION:
		return read_duration(l, v);
	case BOOL:
		if (parse_bool(v->text, field_of(l->conf, v->option)))
			return fail_value(l, v, "\"%.64s\" is neither true nor false", v->text);
		return 0;
	case LEVEL:
		if (log_level_parse(v->text, field_of(l->conf, v->option)))
			return fail_value(l, v,
					  "\"%.64s\" is not error, warning, notice, info or debug",
					  v->text);
		return 0;
	default:
		return read_path(l, v);
	}
}

static const struct yaml_value *find_key(const struct yaml_value *map, const char *key)
{
	const struct yaml_value *v = map ? map->first : NULL;

	while (v && strcmp(v->key, key))
		v = v->next;
	return v;
}

/* Where the file says an option, else its root. */
static const struct yaml_value *place_of(const struct loader *l, const char *section,
					 const char *key)
{
	const struct yaml_value *root = yaml_tree_root(l->tree);
	const struct yaml_value *at = find_key(find_key(root, section), key);

	return at ? at : root;
}

static int load_option(const struct loader *l, const struct option *option)
{
	const struct yaml_value *at = place_of(l, option->section, option->key);
	struct value v = {option, at, at->key ? at->text : option->standard};

	if (!at->key && (option->kind == FILE_MAYBE || option->kind == TEXT_MAYBE))
		return 0;
	if (at->key && at->kind != YAML_SCALAR)
		return fail_value(l, &v, "needs a single value");
	if (!v.text)
		return fail_value(l, &v, "has no default and must be set");
	return read_value(l, &v);
}

/* Every section and key must be one of the table's. */
static int check_keys(const struct loader *l)
{
	for (const struct yaml_value *s = yaml_tree_root(l->tree)->first; s; s = s->next) {
		const struct option *first = options, *o;

		while (first < options + OPTIONS && strcmp(first->section, s->key))
			first++;
		if (first == options + OPTIONS)
			return yaml_fail(l->tree, s, l->message, "there is no section \"%.64s\"",
					 s->key);
		if (s->kind != YAML_MAP && !(s->kind == YAML_SCALAR && !*s->text))
			return yaml_fail(l->tree, s, l->message,
					 "section \"%s\" needs options below it", s->key);
		for (const struct yaml_value *v = s->first; v; v = v->next) {
			for (o = first; o < options + OPTIONS; o++) {
				if (!strcmp(o->section, s->key) && !strcmp(o->key, v->key))
					break;
			}
			if (o == options + OPTIONS)
				return yaml_fail(l->tree, v, l->message,
						 "section \"%s\" has no option \"%.64s\"", s->key,
						 v->key);
		}
	}
	return 0;
}

/* Limits that only make sense together. */
static int check_limits(const struct loader *l)
{
	const struct conf *c = l->conf;

	if (c->server.max_connection_bytes < c->server.max_message)
		return yaml_fail(l->tree, place_of(l, "server", "max_connection_bytes"), l->message,
				 "server.max_connection_bytes must hold a message of max_message");
	if (c->server.max_total_bytes < c->server.max_connection_bytes)
		return yaml_fail(l->tree, place_of(l, "server", "max_total_bytes"), l->message,
				 "server.max_total_bytes is less than max_connection_bytes");
	if (c->face.max_memory < c->face.max_resident)
		return yaml_fail(l->tree, place_of(l, "face", "max_resident"), l->message,
				 "face.max_resident is more than max_memory");
	return 0;
}

/* Whoever follows has to be told how. */
static int check_follow(const struct loader *l)
{
	const struct conf *c = l->conf;
	const struct {
		const char *key, *value;
	} needed[] = {
		{"certificate", c->follow.certificate},
		{"private_key", c->follow.private_key},
		{"ca", c->follow.ca},
		{"purpose", c->follow.purpose},
	};
	const char *colon = c->follow.leader ? strrchr(c->follow.leader, ':') : NULL;
	uint64_t port;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (c->follow.leader && !needed[i].value)
			return yaml_fail(l->tree, place_of(l, "follow", "leader"), l->message,
					 "follow.leader needs follow.%s", needed[i].key);
		if (!c->follow.leader && needed[i].value)
			return yaml_fail(l->tree, place_of(l, "follow", needed[i].key), l->message,
					 "follow.%s needs follow.leader", needed[i].key);
	}
	if (c->follow.leader &&
	    (!colon || colon == c->follow.leader || parse_uint(colon + 1, 1, 65535, &port)))
		return yaml_fail(l->tree, place_of(l, "follow", "leader"), l->message,
				 "follow.leader: \"%.64s\" is not HOST:PORT", c->follow.leader);
	return 0;
}

int conf_open(const char *path, struct conf **out, char message[CONF_MESSAGE_LEN])
{
	struct loader l = {.path = path, .message = message};
	int error = BM_ENOMEM;

	message[0] = '\0';
	l.conf = calloc(1, sizeof(*l.conf));
	if (l.conf)
		error = yaml_tree_open(path, &l.tree, message);
	if (!error)
		error = check_keys(&l);
	for (size_t i = 0; !error && i < OPTIONS; i++)
		error = load_option(&l, &options[i]);
	if (!error)
		error = check_limits(&l);
	if (!error)
		error = check_follow(&l);
	if (l.tree)
		yaml_tree_close(l.tree);
	if (!error) {
		*out = l.conf;
		return 0;
	}
	if (error == BM_ENOMEM)
		snprintf(message, CONF_MESSAGE_LEN, "%s: %s", path, bm_error_text(error));
	if (l.conf)
		conf_close(l.conf);
	return error;
}

void conf_close(struct conf *conf)
{
	for (size_t i = 0; i < OPTIONS; i++) {
		switch (options[i].kind) {
		case LISTEN:
		case FILE_PATH:
		case FILE_MAYBE:
		case KEY_PATH:
		case DIR_READ:
		case DIR_WRITE:
		case PROGRAM:
		case TEXT:
		case TEXT_MAYBE:
			free(*(char **)field_of(conf, &options[i]));
			break;
		default:
			break;
		}
	}
	free(conf);
}

_Static_assert(CONF_MESSAGE_LEN == YAML_MESSAGE_LEN, "the message is handed through");
