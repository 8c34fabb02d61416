#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "cli.h"

#define CELL_MAX   160
#define FACT_WIDTH 13
#define SHA256_LEN 32

struct table {
	size_t columns, cells, room;
	char (*cell)[CELL_MAX];
};

void text_clean(const char *text, char *out, size_t room)
{
	size_t n = 0;

	for (; *text && n + 1 < room; text++) {
		unsigned char c = (unsigned char)*text;

		/* The C1 controls are 0xc2 0x80 to 0xc2 0x9f in UTF-8. */
		if (c == 0xc2 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] < 0xa0)
			continue;
		out[n++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	/* Not half a character at the end. */
	while (n && *text && ((unsigned char)out[n - 1] & 0xc0) == 0x80)
		n--;
	if (n && *text && (unsigned char)out[n - 1] >= 0xc0)
		n--;
	out[n] = '\0';
}

/* Columns of a terminal: East Asian characters, U+3000 to U+DFFF, take two. */
static size_t text_width(const char *text)
{
	size_t n = 0;

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		n += ((c & 0xc0) != 0x80) + (c >= 0xe3 && c <= 0xed);
	}
	return n;
}

struct table *table_new(size_t columns)
{
	struct table *table = calloc(1, sizeof(*table));

	if (table)
		table->columns = columns;
	return table;
}

void table_free(struct table *table)
{
	if (table)
		free(table->cell);
	free(table);
}

static bool table_reserve(struct table *table)
{
	size_t want = table->cells + table->columns;
	void *larger;

	if (want <= table->room)
		return true;
	larger = realloc(table->cell, 2 * want * sizeof(*table->cell));
	if (!larger)
		return false;
	table->cell = larger;
	table->room = 2 * want;
	return true;
}

void table_add(struct table *table, ...)
{
	va_list args;

	if (!table || !table_reserve(table))
		return;
	va_start(args, table);
	for (size_t i = 0; i < table->columns; i++) {
		const char *text = va_arg(args, const char *);

		text_clean(text ? text : "", table->cell[table->cells++], CELL_MAX);
	}
	va_end(args);
}

static size_t column_width(const struct table *table, size_t column)
{
	size_t width = 0;

	for (size_t i = column; i < table->cells; i += table->columns) {
		size_t w = text_width(table->cell[i]);

		width = w > width ? w : width;
	}
	return width;
}

void table_print(struct table *table)
{
	for (size_t i = 0; table && i < table->cells; i++) {
		size_t column = i % table->columns;
		bool last = column + 1 == table->columns;
		size_t pad =
			last ? 0 : column_width(table, column) - text_width(table->cell[i]) + 2;

		printf("%s%*s%s", table->cell[i], (int)pad, "", last ? "\n" : "");
	}
}

void print_fact(const char *name, const char *format, ...)
{
	char text[512], clean[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	text_clean(text, clean, sizeof(clean));
	printf("%-*s%s\n", FACT_WIDTH, name, clean);
}

const char *enum_text(const ProtobufCEnumDescriptor *type, int value, const char *prefix)
{
	const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);
	size_t skip = strlen(prefix);

	if (!known)
		return "?";
	return strncmp(known->name, prefix, skip) ? known->name : known->name + skip;
}

static const char *band_text(Biomatch__V1__ScoreBand band)
{
	return enum_text(&biomatch__v1__score_band__descriptor, (int)band, "SCORE_BAND_");
}

void print_reason(const char *name, Biomatch__V1__Reason reason)
{
	static const int codes[] = {
		[BIOMATCH__V1__REASON__REASON_NO_FACE] = BM_ENOFACE,
		[BIOMATCH__V1__REASON__REASON_SEVERAL_FACES] = BM_EMANYFACES,
		[BIOMATCH__V1__REASON__REASON_FACE_TOO_SMALL] = BM_EFACESMALL,
		[BIOMATCH__V1__REASON__REASON_NO_REFERENCE] = BM_ENOREFERENCE,
		[BIOMATCH__V1__REASON__REASON_REFERENCE_EXPIRED] = BM_EEXPIRED,
		[BIOMATCH__V1__REASON__REASON_FACE_INCOMPLETE] = BM_EFACECUT,
		[BIOMATCH__V1__REASON__REASON_PRESENTATION_ATTACK] = BM_EATTACK,
		[BIOMATCH__V1__REASON__REASON_FRAMES_DIFFER] = BM_EFRAMES,
		[BIOMATCH__V1__REASON__REASON_ATTEMPTS_EXCEEDED] = BM_EATTEMPTS,
		[BIOMATCH__V1__REASON__REASON_LOW_QUALITY] = BM_ELOWQUALITY,
		[BIOMATCH__V1__REASON__REASON_NOT_A_PORTRAIT] = BM_ENOPORTRAIT,
		[BIOMATCH__V1__REASON__REASON_UNCERTAIN] = BM_EUNCERTAIN,
	};
	const char *text = enum_text(&biomatch__v1__reason__descriptor, (int)reason, "REASON_");

	if (reason == BIOMATCH__V1__REASON__REASON_UNSPECIFIED)
		return;
	if ((size_t)reason < sizeof(codes) / sizeof(codes[0]))
		print_fact(name, "%s: %s", text, bm_error_text(codes[reason]));
	else
		print_fact(name, "%s", text);
}

void print_raw(const Biomatch__V1__RawScore *raw)
{
	if (raw)
		print_fact("score", "%.4f, threshold %.4f, reached by %.1e of strangers",
			   (double)raw->score, (double)raw->threshold, raw->fmr);
}

void print_basis(const Biomatch__V1__MatchBasis *basis, const char *rate_name)
{
	if (!basis)
		return;
	print_fact("strictness", "%s %g, calibration %s", rate_name, basis->target_rate,
		   basis->calibration_id);
	if (basis->refer_rate > 0)
		print_fact("refers up to", "%s %g", rate_name, basis->refer_rate);
	print_fact("compared", "%llu, model %s", (unsigned long long)basis->compared, basis->model);
}

static void print_liveness(const Biomatch__V1__Liveness *liveness)
{
	if (liveness && liveness->raw)
		print_fact("live", "%s: %.3f, threshold %.3f", liveness->live ? "yes" : "no",
			   (double)liveness->raw->score, (double)liveness->raw->threshold);
	else if (liveness)
		print_fact("live", "%s", liveness->live ? "yes" : "no");
}

/* What was asked of the picture and is not met. */
static void print_checks(const Biomatch__V1__ProbeReport *report)
{
	for (size_t i = 0; i < report->n_checks; i++) {
		const Biomatch__V1__QualityCheck *check = report->checks[i];

		if (check->value < check->minimum)
			print_fact(i ? "" : "to mend", "%s is %u, needs %u",
				   enum_text(&biomatch__v1__quality_component__descriptor,
					     (int)check->component, "QUALITY_COMPONENT_"),
				   check->value, check->minimum);
	}
}

void print_report(const char *name, const Biomatch__V1__ProbeReport *report)
{
	if (!report || !report->width)
		return;
	if (!report->n_faces) {
		print_fact(name, "%ux%u, no face", report->width, report->height);
		return;
	}
	print_fact(name, "%ux%u, %zu face%s, %.0f pixels between the eyes", report->width,
		   report->height, report->n_faces, report->n_faces == 1 ? "" : "s",
		   (double)report->faces[0]->inter_eye_distance);
	print_liveness(report->liveness);
	print_checks(report);
}

void print_times(const Biomatch__V1__StageTimes *t, int64_t elapsed_us)
{
	if (t)
		print_fact("times (ms)",
			   "queue %.1f  decode %.1f  detect %.1f  align %.1f  embed %.1f  "
			   "match %.1f  round trip %.1f",
			   t->queue_us / 1e3, t->decode_us / 1e3, t->detect_us / 1e3,
			   t->align_us / 1e3, t->embed_us / 1e3, t->match_us / 1e3,
			   (double)elapsed_us / 1e3);
}

void print_receipt(const Biomatch__V1__Receipt *receipt)
{
	char hash[2 * SHA256_LEN + 1];

	if (!receipt || receipt->hash.len != SHA256_LEN)
		return;
	bytes_to_hex(receipt->hash.data, SHA256_LEN, hash);
	print_fact("receipt", "%llu:%s", (unsigned long long)receipt->sequence, hash);
}

void print_candidates(Biomatch__V1__Candidate *const *candidates, size_t n)
{
	struct table *table = table_new(6);

	table_add(table, "rank", "gallery", "subject", "encounter", "band", "score", NULL);
	for (size_t i = 0; i < n; i++) {
		const Biomatch__V1__Candidate *c = candidates[i];
		char rank[24], score[16] = "-";

		snprintf(rank, sizeof(rank), "%zu", i + 1);
		if (c->raw)
			snprintf(score, sizeof(score), "%.4f", (double)c->raw->score);
		table_add(table, rank, c->gallery, c->subject_id, c->encounter_id,
			  band_text(c->band), score, NULL);
	}
	if (n)
		table_print(table);
	table_free(table);
}
