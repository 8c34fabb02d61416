/*
 * A face worker seen from the daemon: a sandboxed process that looks at one
 * picture at a time. The picture travels in shared memory, the orders over a
 * socketpair.
 *
 * Thread: a worker belongs to one thread, which is blocked while it works.
 * Errors: BM_EWORKER when the process died on the picture, BM_EWORKERTIME when
 * it was killed at its time limit, BM_EDEADLINE when the caller's deadline came
 * first; whatever face_engine_run says of the picture.
 */
#ifndef BIOMATCH_FACEWORKER_H
#define BIOMATCH_FACEWORKER_H

#include <stdint.h>
#include <sys/types.h>

#include "biomatch/error.h"
#include "biomatch/face.h"

struct faceworker;

struct faceworker_options {
	const char *program;   /* path of biomatch-face */
	const char *pack_dir;  /* the model pack it loads */
	uint32_t dim;          /* elements of that pack's templates */
	uint32_t start_ms;     /* time allowed for loading the models */
	uint32_t run_ms;       /* time allowed for one picture */
	uint64_t max_memory;   /* address space it may use, bytes */
	uint64_t max_resident; /* a worker grown past this is replaced after its call */
};

/* Starts a worker and waits until its models are loaded and it is confined. */
int faceworker_open(const struct faceworker_options *options,
		    struct faceworker **out) BM_MUST_CHECK;
void faceworker_close(struct faceworker *worker);

/*
 * Makes sure that the process is there, starting another where the last one was
 * lost or outgrew its limit. Called between pictures, so that the wait for the
 * models is not part of a call.
 */
int faceworker_ready(struct faceworker *worker) BM_MUST_CHECK;

/* Looks at one picture; wanted as for face_engine_run. The report is wiped by the caller. */
int faceworker_run(struct faceworker *worker, const uint8_t *data, size_t len, unsigned wanted,
		   int64_t deadline_ns, struct face_report *report) BM_MUST_CHECK;

/*
 * What passes between the daemon and biomatch-face: the daemon writes the picture,
 * then an order; the worker writes the report, then an answer. The first answer
 * says that the worker is ready, or why it is not. Neither side trusts the other:
 * the daemon copies a report before it checks it.
 */
#define FACEWORKER_SOCKET_FD 3
#define FACEWORKER_MEMORY_FD 4

struct faceworker_memory {
	struct face_report report;
	uint8_t picture[FACE_MAX_IMAGE_BYTES];
};

struct faceworker_order {
	uint32_t len; /* of the picture */
	uint32_t wanted;
};

struct faceworker_answer {
	int32_t result; /* of face_engine_run */
};

/* The process id now, -1 while there is none. Any thread. */
pid_t faceworker_pid(const struct faceworker *worker);

#endif
