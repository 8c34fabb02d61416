/*
 * One probe against the references of one subject.
 */
#include <math.h>

#include "biomatch/score.h"
#include "store.h"

/* The references that are compared, the newest capture first. */
struct chosen {
	const struct stored_encounter *encounters[GALLERY_MAX_REFERENCES];
	unsigned n;
	bool expired; /* some would have been, had their time not been over */
};

/* A probe as it meets them, and what came of it so far. */
struct meeting {
	struct gallery_snapshot *snapshot;
	struct gallery_record record;
	const struct subject *subject;
	const float *probe;
	unsigned generation; /* of the rotation that turned was made by */
	_Alignas(64) float turned[PACK_MAX_DIM];
	_Alignas(64) float sum[PACK_MAX_DIM]; /* of the references under that rotation */
};

static bool counts(const struct gallery_references *references,
		   const struct stored_encounter *encounter)
{
	char type[GALLERY_TYPE_MAX + 1];

	text_load(type, encounter->type, GALLERY_TYPE_MAX);
	for (size_t i = 0; i < references->n_types; i++) {
		if (!strcmp(type, references->types[i]))
			return true;
	}
	return !references->n_types;
}

/* Of two captures of one moment, the one that was enrolled later comes first. */
static void choose(struct chosen *chosen, unsigned max, const struct stored_encounter *encounter)
{
	unsigned at = chosen->n;

	while (at && chosen->encounters[at - 1]->captured_ms <= encounter->captured_ms)
		at--;
	if (at == max)
		return;
	if (chosen->n < max)
		chosen->n++;
	memmove(&chosen->encounters[at + 1], &chosen->encounters[at],
		(chosen->n - at - 1) * sizeof(chosen->encounters[0]));
	chosen->encounters[at] = encounter;
}

static int choose_all(const struct subject *subject, const struct gallery_references *references,
		      int64_t now_ms, struct chosen *chosen)
{
	assert(references->max && references->max <= GALLERY_MAX_REFERENCES);
	*chosen = (struct chosen){.expired = !subject->n};
	for (uint16_t i = 0; i < subject->n; i++) {
		const struct stored_encounter *encounter = &subject->encounters[i];

		if (!counts(references, encounter))
			continue;
		if (encounter->expires_ms > now_ms)
			choose(chosen, references->max, encounter);
		else
			chosen->expired = true;
	}
	if (chosen->n)
		return 0;
	return chosen->expired ? BM_EEXPIRED : BM_ENOREFERENCE;
}

static int turn_probe(struct meeting *meeting, unsigned generation)
{
	if (generation == meeting->generation)
		return 0;
	meeting->generation = generation;
	return rotation_apply(meeting->snapshot->store, meeting->record.id, generation,
			      meeting->probe, meeting->record.dim, meeting->turned);
}

/* What was added up under another rotation comes along to that of the row. */
static int turn_sum(struct meeting *meeting, unsigned generation)
{
	size_t dim = meeting->record.dim;
	float before[PACK_MAX_DIM];
	int error;

	if (generation == meeting->generation)
		return 0;
	memcpy(before, meeting->sum, dim * sizeof(float));
	error = rotation_turn(meeting->snapshot->store, meeting->record.id, meeting->generation,
			      generation, before, dim, meeting->sum);
	bytes_wipe(before, dim * sizeof(float));
	return error;
}

static int meet(struct meeting *meeting, const struct stored_encounter *encounter, float *score)
{
	unsigned generation = row_generation(encounter->row);
	size_t dim = meeting->record.dim;
	struct row row;
	int error = row_read(&meeting->snapshot->txn, &meeting->record, encounter->row, &row);

	if (!error && memcmp(row.facts.subject, meeting->subject->pseudonym, KEYS_PSEUDONYM_LEN))
		error = BM_ECORRUPT;
	if (!error)
		error = turn_sum(meeting, generation);
	if (!error)
		error = turn_probe(meeting, generation);
	if (error)
		return error;
	for (size_t i = 0; i < dim; i++)
		meeting->sum[i] += row.floats[i];
	*score = score_dot(row.floats, meeting->turned, dim);
	return 0;
}

/* With r the references and q the probe: q . sum(r) / |sum(r)|. */
static float fused_score(const struct meeting *meeting)
{
	size_t dim = meeting->record.dim;
	float length = sqrtf(score_dot(meeting->sum, meeting->sum, dim));

	return length > 0 ? score_dot(meeting->sum, meeting->turned, dim) / length : 0;
}

static int meet_all(struct meeting *meeting, const struct chosen *chosen, bool fused,
		    struct gallery_candidate *best)
{
	for (unsigned i = 0; i < chosen->n; i++) {
		float score;
		int error = meet(meeting, chosen->encounters[i], &score);

		if (error)
			return error;
		if (!i || score > best->score) {
			best->score = score;
			text_load(best->encounter, chosen->encounters[i]->id,
				  GALLERY_ENCOUNTER_MAX);
		}
	}
	if (fused)
		best->score = fused_score(meeting);
	return 0;
}

int gallery_verify(struct gallery_snapshot *snapshot, const struct gallery_info *gallery,
		   const char *subject, const struct gallery_references *references,
		   const float *probe, size_t dim, int64_t now_ms, struct gallery_candidate *best,
		   uint64_t *compared)
{
	struct meeting meeting = {
		.snapshot = snapshot,
		.record = record_of(gallery),
		.probe = probe,
		.generation = row_generation(gallery->next_row),
	};
	struct subject found;
	struct chosen chosen = {0};
	int error = record_fits(snapshot->store, &meeting.record, dim);

	*compared = 0;
	if (!error)
		error = subject_read_named(snapshot, gallery->id, subject, &found);
	if (!error)
		error = choose_all(&found, references, now_ms, &chosen);
	if (!error)
		error = rotation_apply(snapshot->store, gallery->id, meeting.generation, probe, dim,
				       meeting.turned);
	meeting.subject = &found;
	if (!error)
		error = meet_all(&meeting, &chosen, references->fused, best);
	if (!error) {
		*compared = chosen.n;
		strcpy(best->subject, subject);
	}
	bytes_wipe(meeting.turned, sizeof(meeting.turned));
	bytes_wipe(meeting.sum, sizeof(meeting.sum));
	return error;
}
