#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/score.h"
#include "calibrate.h"

static json_t *template_json(const float *v, size_t dim)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < dim; i++) {
		if (json_array_append_new(list, json_real((double)v[i]))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static int write_line(FILE *file, json_t *line)
{
	bool ok = line && !json_dumpf(line, file, JSON_COMPACT | JSON_REAL_PRECISION(9)) &&
		  fputc('\n', file) != EOF;

	json_decref(line);
	return ok ? 0 : BM_EIO;
}

static int write_look(FILE *file, const char *label, const struct look *look, const float *v,
		      size_t dim)
{
	if (!look->made)
		return write_line(file,
				  json_pack("{s:s,s:s}", "label", label, "reason", look->reason));
	return write_line(file, json_pack("{s:s,s:s,s:o}", "label", label, "reason", look->reason,
					  "template", template_json(v, dim)));
}

int templates_write(const char *path, const struct pack *pack, const struct pictures *pictures,
		    const struct looks *looks)
{
	FILE *file = fopen(path, "wxe");
	int error = BM_EIO;

	if (!file)
		return complain(BM_EIO, "%s cannot be made: %m", path);
	error = write_line(
		file, json_pack("{s:s,s:i}", "model", pack->model, "dimension", (int)pack->dim));
	for (size_t i = 0; !error && i < looks->n; i++)
		error = write_look(file, pictures->labels[pictures->list[i].label], &looks->list[i],
				   looks->templates + i * looks->dim, looks->dim);
	if (fclose(file))
		error = BM_EIO;
	return error ? complain(error, "%s cannot be written", path) : 0;
}

/* Makes room for one more in steps that double. */
static int grow(struct looks *looks)
{
	struct look *list;
	float *templates;

	if (looks->n & (looks->n - 1))
		return 0;
	list = reallocarray(looks->list, looks->n ? 2 * looks->n : 1, sizeof(*list));
	if (list)
		looks->list = list;
	templates = reallocarray(looks->templates, looks->n ? 2 * looks->n : 1,
				 looks->dim * sizeof(*templates));
	if (templates)
		looks->templates = templates;
	return list && templates ? 0 : BM_ENOMEM;
}

/* Unit length, as the service takes templates. */
static int read_template(const json_t *list, float *out, size_t dim)
{
	if (json_array_size(list) != dim)
		return BM_EINVAL;
	for (size_t i = 0; i < dim; i++)
		out[i] = (float)json_number_value(json_array_get(list, i));
	return score_normalise(out, dim);
}

static int read_look(const json_t *line, struct pictures *pictures, struct looks *looks)
{
	const char *label = json_string_value(json_object_get(line, "label"));
	const char *reason = json_string_value(json_object_get(line, "reason"));
	const json_t *list = json_object_get(line, "template");
	float *to;
	int error;

	if (!label || !reason || strlen(reason) > MAX_REASON)
		return BM_EINVAL;
	error = grow(looks);
	if (error)
		return error;
	to = looks->templates + looks->n * looks->dim;
	memset(to, 0, looks->dim * sizeof(*to));
	looks->list[looks->n] = (struct look){.made = list != NULL, .liveness = -1};
	snprintf(looks->list[looks->n].reason, MAX_REASON + 1, "%s", reason);
	looks->n++;
	if (list)
		error = read_template(list, to, looks->dim);
	return error ? error : pictures_add(pictures, label, NULL);
}

static int read_first(const json_t *line, const char *path, const struct pack *pack)
{
	const char *model = json_string_value(json_object_get(line, "model"));

	if (model && !strcmp(model, pack->model) &&
	    json_integer_value(json_object_get(line, "dimension")) == (json_int_t)pack->dim)
		return 0;
	return complain(BM_EINVAL, "%s holds no templates of %s", path, pack->model);
}

static int read_line(const char *text, size_t n, const char *path, const struct pack *pack,
		     struct pictures *pictures, struct looks *looks)
{
	json_t *line = json_loads(text, 0, NULL);
	int error;

	if (!line)
		return complain(BM_EINVAL, "%s, line %zu: not JSON", path, n);
	error = n == 1 ? read_first(line, path, pack) : read_look(line, pictures, looks);
	json_decref(line);
	return error && n > 1 ? complain(error, "%s, line %zu: not a template of %zu numbers", path,
					 n, looks->dim)
			      : error;
}

int templates_read(const char *path, const struct pack *pack, struct pictures *pictures,
		   struct looks *looks)
{
	FILE *file = fopen(path, "re");
	size_t n = 0, size = 0;
	char *text = NULL;
	int error = 0;

	*pictures = (struct pictures){0};
	*looks = (struct looks){.dim = pack->dim};
	if (!file)
		return complain(BM_EIO, "%s cannot be read: %m", path);
	while (!error && getline(&text, &size, file) > 0)
		error = read_line(text, ++n, path, pack, pictures, looks);
	if (!error && (ferror(file) || n < 2))
		error = complain(BM_EIO, "%s is empty or cannot be read", path);
	fclose(file);
	free(text);
	if (error) {
		looks_free(looks);
		pictures_free(pictures);
	}
	return error;
}
