/*
 * YAML files written by people, as a tree in which every value knows its line.
 * Scalars stay text: what a text means is for its reader to say, strictly, with
 * biomatch/parse.h. Refused: a document that is empty or not alone, aliases,
 * anchors and tags, a key that stands twice, nesting deeper than a file of ours
 * can be.
 *
 * Thread: a tree is immutable once open; any thread.
 * Errors: BM_ECONF with "file:line: reason" in the message; BM_ENOMEM.
 * Owns: all values and texts, until yaml_tree_close.
 */
#ifndef BIOMATCH_YAML_H
#define BIOMATCH_YAML_H

#include <stddef.h>

#include "biomatch/error.h"

#define YAML_MESSAGE_LEN 512

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_value {
	enum yaml_kind kind;
	unsigned line;            /* from 1 */
	const char *key;          /* its name, in a map; else NULL */
	const char *text;         /* of a scalar; else NULL */
	struct yaml_value *first; /* of a list or map, in the file's order */
	struct yaml_value *next;  /* its next sibling */
};

struct yaml_tree;

/* Reads a file of at most 1 MiB, whose outermost value must be a map. */
int yaml_tree_open(const char *path, struct yaml_tree **out,
		   char message[YAML_MESSAGE_LEN]) BM_MUST_CHECK;
void yaml_tree_close(struct yaml_tree *tree);

/* The outermost map. */
const struct yaml_value *yaml_tree_root(const struct yaml_tree *tree);

/* Writes "file:line: " and the reason to message and returns BM_ECONF. */
int yaml_fail(const struct yaml_tree *tree, const struct yaml_value *at,
	      char message[YAML_MESSAGE_LEN], const char *format, ...)
	__attribute__((format(printf, 4, 5))) BM_MUST_CHECK;

#endif
