/*
 * What was asked of a store, and what it acknowledged: told by notes, known as
 * the encounters that each subject must have.
 */
#ifndef CRASH_HISTORY_H
#define CRASH_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "biomatch/audit.h"

#define HISTORY_SUBJECTS   24
#define HISTORY_ENCOUNTERS 8
#define HISTORY_OPS        4096

enum note_what {
	NOTE_READY, /* the store is made and has its gallery */
	NOTE_BEGUN, /* the operation is the writer's */
	NOTE_ACKED, /* its done callback ran without an error */
};

enum op_kind { OP_PUT, OP_DELETE_ENCOUNTER, OP_DELETE_SUBJECT };

/* Written whole to the file "notes". */
struct note {
	uint32_t what, kind;
	uint32_t subject;
	uint32_t op;     /* counts from 0; names the encounter that OP_PUT makes, and its request */
	uint32_t target; /* of OP_DELETE_ENCOUNTER: the op that made the encounter */
	struct audit_receipt receipt; /* of NOTE_ACKED */
};

/* The ops whose encounters a subject has, oldest first. */
struct history_subject {
	uint32_t n;
	uint32_t ops[HISTORY_ENCOUNTERS];
	bool busy; /* an operation is begun and not acknowledged */
	struct note flying;
};

struct history {
	bool ready;
	struct history_subject subjects[HISTORY_SUBJECTS];
	uint32_t ops, acks;           /* so far */
	struct audit_receipt receipt; /* the last that was told */
	bool acked[HISTORY_OPS];
};

/* Applies an operation to what a subject has. */
static inline void history_apply(struct history_subject *subject, const struct note *note)
{
	uint32_t kept = 0;

	if (note->kind == OP_PUT) {
		subject->ops[subject->n++] = note->op;
		return;
	}
	for (uint32_t i = 0; i < subject->n && note->kind == OP_DELETE_ENCOUNTER; i++) {
		if (subject->ops[i] != note->target)
			subject->ops[kept++] = subject->ops[i];
	}
	subject->n = kept;
}

static inline void history_take(struct history *history, const struct note *note)
{
	struct history_subject *subject = &history->subjects[note->subject];

	if (note->what == NOTE_READY) {
		history->ready = true;
	} else if (note->what == NOTE_BEGUN) {
		subject->busy = true;
		subject->flying = *note;
		history->ops = note->op + 1;
	} else {
		history_apply(subject, note);
		subject->busy = false;
		history->acked[note->op] = true;
		history->acks++;
		if (note->receipt.sequence > history->receipt.sequence)
			history->receipt = note->receipt;
	}
}

#endif
