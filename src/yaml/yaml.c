#include "biomatch/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "biomatch/arena.h"
#include "biomatch/file.h"

#define MAX_BYTES  ((size_t)1 << 20)
#define MAX_MEMORY ((size_t)64 << 20)
#define MAX_DEPTH  8

struct yaml_tree {
	char *path;
	struct arena arena;
	struct yaml_value *root;
};

struct loader {
	struct yaml_tree *tree;
	yaml_parser_t parser;
	char *message;
};

/* "file:line: " and the reason; a long path is cut so that the reason has room. */
__attribute__((format(printf, 4, 0))) static int fail_va(const struct yaml_tree *tree, size_t line,
							 char message[YAML_MESSAGE_LEN],
							 const char *format, va_list args)
{
	int n = snprintf(message, YAML_MESSAGE_LEN, "%.256s:%zu: ", tree->path, line);

	vsnprintf(message + n, YAML_MESSAGE_LEN - (size_t)n, format, args);
	return BM_ECONF;
}

__attribute__((format(printf, 3, 4))) static int fail_at(const struct loader *l, size_t line,
							 const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fail_va(l->tree, line, l->message, format, args);
	va_end(args);
	return BM_ECONF;
}

int yaml_fail(const struct yaml_tree *tree, const struct yaml_value *at,
	      char message[YAML_MESSAGE_LEN], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fail_va(tree, at->line, message, format, args);
	va_end(args);
	return BM_ECONF;
}

/* The next event; the caller deletes it. */
static int next_event(struct loader *l, yaml_event_t *event)
{
	const yaml_parser_t *parser = &l->parser;

	if (yaml_parser_parse(&l->parser, event))
		return 0;
	if (parser->error == YAML_MEMORY_ERROR)
		return BM_ENOMEM;
	return fail_at(l, parser->problem_mark.line + 1, "%s",
		       parser->problem ? parser->problem : "is not valid YAML");
}

static int check_scalar(struct loader *l, const yaml_event_t *event)
{
	size_t line = event->start_mark.line + 1;

	if (event->data.scalar.anchor || event->data.scalar.tag)
		return fail_at(l, line, "anchors and tags are not supported");
	if (memchr(event->data.scalar.value, 0, event->data.scalar.length))
		return fail_at(l, line, "a text holds a NUL");
	return 0;
}

static const char *copy_text(struct loader *l, const yaml_event_t *event)
{
	return arena_strndup(&l->tree->arena, (const char *)event->data.scalar.value,
			     event->data.scalar.length);
}

static int load_value(struct loader *l, const yaml_event_t *event, unsigned depth,
		      struct yaml_value **out);

/* Reads the key that begins an entry of a map. */
static int load_key(struct loader *l, const struct yaml_value *map, const yaml_event_t *event,
		    const char **out)
{
	size_t line = event->start_mark.line + 1;
	int error;

	if (event->type != YAML_SCALAR_EVENT)
		return fail_at(l, line, "a key must be a plain text");
	error = check_scalar(l, event);
	if (error)
		return error;
	*out = copy_text(l, event);
	if (!*out)
		return BM_ENOMEM;
	for (const struct yaml_value *v = map->first; v; v = v->next) {
		if (!strcmp(v->key, *out)) {
			return fail_at(l, line, "\"%.64s\" stands already in line %u", *out,
				       v->line);
		}
	}
	return 0;
}

/* Reads the entries of a list or map up to its end. */
static int load_entries(struct loader *l, struct yaml_value *parent, unsigned depth)
{
	struct yaml_value **link = &parent->first;
	yaml_event_type_t end =
		parent->kind == YAML_MAP ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;

	for (;;) {
		const char *key = NULL;
		unsigned line;
		yaml_event_t event;
		int error = next_event(l, &event);

		if (error)
			return error;
		if (event.type == end) {
			yaml_event_delete(&event);
			return 0;
		}
		line = (unsigned)event.start_mark.line + 1;
		if (parent->kind == YAML_MAP) {
			error = load_key(l, parent, &event, &key);
			yaml_event_delete(&event);
			if (!error)
				error = next_event(l, &event);
			if (error)
				return error;
		}
		error = load_value(l, &event, depth, link);
		yaml_event_delete(&event);
		if (error)
			return error;
		(*link)->key = key;
		(*link)->line = line;
		link = &(*link)->next;
	}
}

static int load_value(struct loader *l, const yaml_event_t *event, unsigned depth,
		      struct yaml_value **out)
{
	size_t line = event->start_mark.line + 1;
	struct yaml_value *value;
	int error;

	if (event->type == YAML_ALIAS_EVENT)
		return fail_at(l, line, "aliases are not supported");
	if (depth > MAX_DEPTH)
		return fail_at(l, line, "is nested too deeply");
	value = arena_alloc(&l->tree->arena, sizeof(*value));
	if (!value)
		return BM_ENOMEM;
	value->line = (unsigned)line;
	if (event->type == YAML_SCALAR_EVENT) {
		error = check_scalar(l, event);
		if (error)
			return error;
		value->kind = YAML_SCALAR;
		value->text = copy_text(l, event);
		error = value->text ? 0 : BM_ENOMEM;
	} else {
		/* Both kinds of start hold their anchor and tag at the same place. */
		if (event->data.mapping_start.anchor || event->data.mapping_start.tag)
			return fail_at(l, line, "anchors and tags are not supported");
		value->kind = event->type == YAML_MAPPING_START_EVENT ? YAML_MAP : YAML_LIST;
		error = load_entries(l, value, depth + 1);
	}
	*out = value;
	return error;
}

/* Reads events up to one that begins a value or ends the stream. */
static int skip_to_value(struct loader *l, yaml_event_t *event)
{
	for (;;) {
		int error = next_event(l, event);

		if (error || (event->type != YAML_STREAM_START_EVENT &&
			      event->type != YAML_DOCUMENT_START_EVENT &&
			      event->type != YAML_DOCUMENT_END_EVENT))
			return error;
		yaml_event_delete(event);
	}
}

static int load_document(struct loader *l)
{
	yaml_event_t event;
	int error = skip_to_value(l, &event);

	if (error)
		return error;
	if (event.type == YAML_STREAM_END_EVENT)
		error = fail_at(l, 1, "the file is empty");
	else if (event.type != YAML_MAPPING_START_EVENT)
		error = fail_at(l, event.start_mark.line + 1,
				"the file must begin with a name and a colon");
	else
		error = load_value(l, &event, 0, &l->tree->root);
	yaml_event_delete(&event);
	if (error)
		return error;
	error = skip_to_value(l, &event);
	if (error)
		return error;
	if (event.type != YAML_STREAM_END_EVENT)
		error = fail_at(l, event.start_mark.line + 1, "a second document begins here");
	yaml_event_delete(&event);
	return error;
}

static int load_bytes(struct yaml_tree *tree, const uint8_t *data, size_t len, char *message)
{
	struct loader l = {.tree = tree, .message = message};
	int error;

	if (!yaml_parser_initialize(&l.parser))
		return BM_ENOMEM;
	yaml_parser_set_encoding(&l.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&l.parser, data, len);
	error = load_document(&l);
	yaml_parser_delete(&l.parser);
	return error;
}

int yaml_tree_open(const char *path, struct yaml_tree **out, char message[YAML_MESSAGE_LEN])
{
	struct yaml_tree *tree = calloc(1, sizeof(*tree));
	uint8_t *data = NULL;
	size_t len = 0;
	int error = BM_ENOMEM;

	message[0] = '\0';
	if (!tree)
		goto out;
	arena_init(&tree->arena, MAX_MEMORY);
	tree->path = strdup(path);
	if (!tree->path)
		goto out;
	error = file_read(path, MAX_BYTES, &data, &len);
	if (error && error != BM_ENOMEM) {
		snprintf(message, YAML_MESSAGE_LEN, "%s: cannot be read: %s", path,
			 strerror(errno));
		error = BM_ECONF;
	}
	if (!error)
		error = load_bytes(tree, data, len, message);
out:
	free(data);
	if (!error) {
		*out = tree;
		return 0;
	}
	if (error == BM_ENOMEM)
		snprintf(message, YAML_MESSAGE_LEN, "%s: %s", path, bm_error_text(error));
	if (tree)
		yaml_tree_close(tree);
	return error;
}

void yaml_tree_close(struct yaml_tree *tree)
{
	arena_deinit(&tree->arena);
	free(tree->path);
	free(tree);
}

const struct yaml_value *yaml_tree_root(const struct yaml_tree *tree)
{
	return tree->root;
}
