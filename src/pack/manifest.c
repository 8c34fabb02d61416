#include <stdio.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "biomatch/parse.h"
#include "pack.h"

#define NAME_MAX_LEN    64
#define VERSION_MAX_LEN 32
#define TEXT_MAX_LEN    1024
#define MAX_SIDE        2048
/* A rate that fewer comparisons than this reached is chance, not a measurement. */
#define MIN_FALSE_MATCHES 30.0
/* Rounding of a rate and a count written by people. */
#define SLACK 0.999

#define FAIL(open, at, ...) yaml_fail((open)->tree, at, (open)->message, __VA_ARGS__)

/* One key of a map: how it is read, and where in the map's struct to. */
struct field {
	const char *key;
	int (*read)(struct pack_open *open, const struct yaml_value *v, void *to);
	size_t offset;
	bool optional;
};

#define FIELDS(table) (table), sizeof(table) / sizeof((table)[0])

static const struct yaml_value *find_key(const struct yaml_value *map, const char *key)
{
	const struct yaml_value *v = map->first;

	while (v && strcmp(v->key, key))
		v = v->next;
	return v;
}

static int read_fields(struct pack_open *open, const struct yaml_value *map,
		       const struct field *fields, size_t n, void *to)
{
	if (map->kind != YAML_MAP)
		return FAIL(open, map, "%s needs options, as in \"file: x.onnx\"",
			    map->key ? map->key : "the list");
	for (const struct yaml_value *v = map->first; v; v = v->next) {
		size_t i = 0;
		int error;

		while (i < n && strcmp(fields[i].key, v->key))
			i++;
		if (i == n)
			return FAIL(open, v, "there is no option \"%s\" here", v->key);
		error = fields[i].read(open, v, (char *)to + fields[i].offset);
		if (error)
			return error;
	}
	for (size_t i = 0; i < n; i++) {
		if (!fields[i].optional && !find_key(map, fields[i].key))
			return FAIL(open, map, "%s is missing", fields[i].key);
	}
	return 0;
}

static int read_text(struct pack_open *open, const struct yaml_value *v, size_t max, void *to)
{
	if (v->kind != YAML_SCALAR || !*v->text || strlen(v->text) > max)
		return FAIL(open, v, "%s needs a text of at most %zu bytes", v->key, max);
	*(const char **)to = v->text;
	return 0;
}

static int read_prose(struct pack_open *open, const struct yaml_value *v, void *to)
{
	return read_text(open, v, TEXT_MAX_LEN, to);
}

static int read_name(struct pack_open *open, const struct yaml_value *v, void *to)
{
	int error = read_text(open, v, NAME_MAX_LEN, to);

	if (!error && v->text[strspn(v->text, "abcdefghijklmnopqrstuvwxyz0123456789-")])
		error = FAIL(open, v, "%s may have a-z, 0-9 and '-', not \"%s\"", v->key, v->text);
	return error;
}

static int read_version(struct pack_open *open, const struct yaml_value *v, void *to)
{
	int error = read_text(open, v, VERSION_MAX_LEN, to);

	if (!error && v->text[strspn(v->text, "abcdefghijklmnopqrstuvwxyz0123456789-.")])
		error = FAIL(open, v, "%s may have a-z, 0-9, '-' and '.', not \"%s\"", v->key,
			     v->text);
	return error;
}

static int read_real(struct pack_open *open, const struct yaml_value *v, double min, double max,
		     double *out)
{
	if (v->kind != YAML_SCALAR || parse_double(v->text, min, max, out))
		return FAIL(open, v, "%s needs a number from %g to %g", v->key, min, max);
	return 0;
}

static int read_float(struct pack_open *open, const struct yaml_value *v, double min, double max,
		      void *to)
{
	double value = 0;
	int error = read_real(open, v, min, max, &value);

	*(float *)to = (float)value;
	return error;
}

static int read_mean(struct pack_open *open, const struct yaml_value *v, void *to)
{
	return read_float(open, v, 0, 255, to);
}

static int read_scale(struct pack_open *open, const struct yaml_value *v, void *to)
{
	return read_float(open, v, 1e-3, 1e3, to);
}

static int read_share(struct pack_open *open, const struct yaml_value *v, void *to)
{
	return read_float(open, v, 0, 1, to);
}

static int read_margin(struct pack_open *open, const struct yaml_value *v, void *to)
{
	return read_float(open, v, 0.5, 3, to);
}

static int read_crop(struct pack_open *open, const struct yaml_value *v, void *to)
{
	return read_float(open, v, 1, 8, to);
}

static int read_score(struct pack_open *open, const struct yaml_value *v, void *to)
{
	return read_float(open, v, -1, 1, to);
}

static int read_rate(struct pack_open *open, const struct yaml_value *v, void *to)
{
	return read_real(open, v, 1e-12, 1, to);
}

static int read_whole(struct pack_open *open, const struct yaml_value *v, uint64_t min,
		      uint64_t max, uint64_t *out)
{
	if (v->kind != YAML_SCALAR || parse_uint(v->text, min, max, out))
		return FAIL(open, v, "%s needs a whole number from %llu to %llu", v->key,
			    (unsigned long long)min, (unsigned long long)max);
	return 0;
}

static int read_count(struct pack_open *open, const struct yaml_value *v, void *to)
{
	return read_whole(open, v, 1, UINT64_C(1000000000000000), to);
}

static int read_side(struct pack_open *open, const struct yaml_value *v, void *to)
{
	uint64_t side = 0;
	int error = read_whole(open, v, 16, MAX_SIDE, &side);

	*(unsigned *)to = (unsigned)side;
	return error;
}

static int read_dimension(struct pack_open *open, const struct yaml_value *v, void *to)
{
	uint64_t dim = 0;
	int error = read_whole(open, v, 16, PACK_MAX_DIM, &dim);

	if (!error && dim % 16)
		error = FAIL(open, v, "%s needs a multiple of 16", v->key);
	*(unsigned *)to = (unsigned)dim;
	return error;
}

/* The number of a word among n, into an enum. */
static int read_word(struct pack_open *open, const struct yaml_value *v, const char *const *words,
		     unsigned n, unsigned *out)
{
	for (unsigned i = 0; v->kind == YAML_SCALAR && i < n; i++) {
		if (!strcmp(v->text, words[i])) {
			*out = i;
			return 0;
		}
	}
	return FAIL(open, v, "%s cannot be \"%s\" here", v->key, v->text ? v->text : "");
}

static int read_colour(struct pack_open *open, const struct yaml_value *v, void *to)
{
	static const char *const words[] = {"bgr", "rgb", "grey"};

	return read_word(open, v, words, 3, to);
}

static int read_detector_kind(struct pack_open *open, const struct yaml_value *v, void *to)
{
	static const char *const words[] = {"ultraface", "yunet"};

	return read_word(open, v, words, 2, to);
}

static int read_landmarks_kind(struct pack_open *open, const struct yaml_value *v, void *to)
{
	static const char *const words[] = {"none", "points-68"};

	return read_word(open, v, words, 2, to);
}

/* A file below the pack's directory, as a path that can be opened from anywhere. */
static int read_file(struct pack_open *open, const struct yaml_value *v, void *to)
{
	const char *name = "";
	int error = read_text(open, v, TEXT_MAX_LEN, &name);
	size_t len;
	char *path;

	if (error)
		return error;
	if (name[0] == '/' || strstr(name, ".."))
		return FAIL(open, v, "%s must be below the pack, not \"%s\"", v->key, name);
	len = strlen(open->dir) + strlen(name) + 2;
	path = arena_alloc(&open->arena, len);
	if (!path)
		return BM_ENOMEM;
	snprintf(path, len, "%s/%s", open->dir, name);
	*(const char **)to = path;
	return 0;
}

static int read_sha256(struct pack_open *open, const struct yaml_value *v, void *to)
{
	if (v->kind != YAML_SCALAR || strlen(v->text) != (size_t)2 * PACK_SHA256_LEN ||
	    bytes_from_hex(v->text, to, PACK_SHA256_LEN))
		return FAIL(open, v, "%s needs 64 hexadecimal digits", v->key);
	return 0;
}

#define MODEL(member, type) (offsetof(struct pack, member) + offsetof(struct pack_model, type))
/* The options that every model has. */
#define MODEL_FIELDS(member)                                                                       \
	{"file", read_file, MODEL(member, file), false},                                           \
		{"sha256", read_sha256, MODEL(member, sha256), false},                             \
		{"width", read_side, MODEL(member, width), false},                                 \
		{"height", read_side, MODEL(member, height), false},                               \
		{"colour", read_colour, MODEL(member, colour), false},                             \
		{"mean", read_mean, MODEL(member, mean), false},                                   \
	{                                                                                          \
		"scale", read_scale, MODEL(member, scale), false                                   \
	}

static int read_detector(struct pack_open *open, const struct yaml_value *map, void *to)
{
	static const struct field fields[] = {
		MODEL_FIELDS(detector),
		{"kind", read_detector_kind, offsetof(struct pack, detector_kind), false},
		{"confidence", read_share, offsetof(struct pack, detector_confidence), false},
		{"overlap", read_share, offsetof(struct pack, detector_overlap), false},
	};
	int error = read_fields(open, map, FIELDS(fields), to);
	const struct pack *pack = &open->pack;

	if (!error && pack->detector_kind == PACK_YUNET &&
	    (pack->detector.width % 32 || pack->detector.height % 32))
		error = FAIL(open, map, "a yunet detector needs sides that are multiples of 32");
	return error;
}

static int read_landmarks(struct pack_open *open, const struct yaml_value *map, void *to)
{
	static const struct field fields[] = {
		MODEL_FIELDS(landmarks),
		{"kind", read_landmarks_kind, offsetof(struct pack, landmarks_kind), false},
		{"margin", read_margin, offsetof(struct pack, landmarks_margin), false},
	};
	int error = read_fields(open, map, FIELDS(fields), to);

	if (!error && open->pack.landmarks_kind == PACK_LANDMARKS_NONE)
		error = FAIL(open, map, "leave the section out where there is no landmark model");
	return error;
}

static int read_embedding(struct pack_open *open, const struct yaml_value *map, void *to)
{
	static const struct field fields[] = {MODEL_FIELDS(embedding)};
	int error = read_fields(open, map, FIELDS(fields), to);
	const struct pack_model *model = &open->pack.embedding;

	if (!error && (model->width != 112 || model->height != 112))
		error = FAIL(open, map, "faces are aligned to 112 by 112 pixels");
	return error;
}

static int read_liveness(struct pack_open *open, const struct yaml_value *map, void *to)
{
	static const struct field fields[] = {
		MODEL_FIELDS(liveness),
		{"margin", read_crop, offsetof(struct pack, liveness_margin), false},
	};
	int error = read_fields(open, map, FIELDS(fields), to);

	if (!error && open->pack.liveness.colour == PACK_GREY)
		error = FAIL(open, map, "a liveness model looks at colours");
	return error;
}

static int read_points(struct pack_open *open, const struct yaml_value *list, void *to)
{
	static const struct field fields[] = {
		{"fmr", read_rate, offsetof(struct pack_operating_point, fmr), false},
		{"score", read_score, offsetof(struct pack_operating_point, score), false},
	};
	struct pack *pack = to;
	struct pack_operating_point *at = pack->calibration;

	if (list->kind != YAML_LIST)
		return FAIL(open, list, "points needs a list, as in [{fmr: 0.1, score: 0.2}]");
	for (const struct yaml_value *v = list->first; v; v = v->next, at++) {
		int error;

		if (pack->calibration_len == PACK_MAX_CALIBRATION)
			return FAIL(open, v, "there may be %d points", PACK_MAX_CALIBRATION);
		error = read_fields(open, v, FIELDS(fields), at);
		if (error)
			return error;
		if (pack->calibration_len++ && (at->fmr >= at[-1].fmr || at->score <= at[-1].score))
			return FAIL(open, v,
				    "fmr must fall and score must rise from point to point");
	}
	return pack->calibration_len >= 2 ? 0 : FAIL(open, list, "points needs at least two");
}

static int read_calibration(struct pack_open *open, const struct yaml_value *map, void *to)
{
	static const struct field fields[] = {
		{"id", read_name, offsetof(struct pack, calibration_id), false},
		{"source", read_prose, offsetof(struct pack, calibration_source), false},
		{"mates", read_count, offsetof(struct pack, calibration_mates), false},
		{"non_mates", read_count, offsetof(struct pack, calibration_non_mates), false},
		{"points", read_points, 0, false},
		{"band_stranger", read_score, offsetof(struct pack, band_stranger), false},
		{"band_mate", read_score, offsetof(struct pack, band_mate), false},
	};
	struct pack *pack = to;
	int error = read_fields(open, map, FIELDS(fields), to);
	double smallest;

	if (error)
		return error;
	smallest = pack->calibration[pack->calibration_len - 1].fmr;
	if (smallest * (double)pack->calibration_non_mates < MIN_FALSE_MATCHES * SLACK)
		return FAIL(open, map, "%llu non-mates cannot support an fmr of %g: %g are needed",
			    (unsigned long long)pack->calibration_non_mates, smallest,
			    MIN_FALSE_MATCHES / smallest);
	if (pack->band_stranger >= pack->band_mate)
		return FAIL(open, map, "band_stranger must be below band_mate");
	return 0;
}

static int name_model(struct pack_open *open)
{
	struct pack *pack = &open->pack;
	size_t len = strlen(pack->name) + strlen(pack->version) + 2;
	char *model = arena_alloc(&open->arena, len);

	if (!model)
		return BM_ENOMEM;
	snprintf(model, len, "%s/%s", pack->name, pack->version);
	pack->model = model;
	return 0;
}

int pack_load_manifest(struct pack_open *open)
{
	static const struct field fields[] = {
		{"name", read_name, offsetof(struct pack, name), false},
		{"version", read_version, offsetof(struct pack, version), false},
		{"licence", read_prose, offsetof(struct pack, licence), false},
		{"dimension", read_dimension, offsetof(struct pack, dim), false},
		{"detector", read_detector, 0, false},
		{"landmarks", read_landmarks, 0, true},
		{"embedding", read_embedding, 0, false},
		{"liveness", read_liveness, 0, true},
		{"calibration", read_calibration, 0, false},
	};
	const struct yaml_value *root = yaml_tree_root(open->tree);
	struct pack *pack = &open->pack;
	int error = read_fields(open, root, FIELDS(fields), pack);

	if (!error && !pack->landmarks.file && pack->detector_kind == PACK_ULTRAFACE)
		error = FAIL(open, root,
			     "an ultraface detector gives no points: landmarks is missing");
	return error ? error : name_model(open);
}
