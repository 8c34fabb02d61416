/*
 * A deployment's endpoints, each a thread with a connection and a certificate of its own,
 * what they do phase by phase, and what became of every call.
 */
#ifndef BENCH_FLEET_H
#define BENCH_FLEET_H

#include <pthread.h>
#include <stdatomic.h>

#include "process.h"
#include "remote.h"

#define FLEET_PEOPLE     64 /* templates that probes are taken from, the first of each gallery */
#define FLEET_MAX_PHASES 9

enum kind { CHECK, VERIFY, COMPARE, IDENTIFY, ENROL, VERIFY_IMAGE, SEARCH, KINDS };

/* What a reply tells of the daemon's time, and what is left of the client's. */
enum stage { QUEUE, DECODE, DETECT, ALIGN, EMBED, MATCH, QUALITY, REST, STAGES };

/* What an endpoint of a class does, by turns. */
struct class
{
	const char *name, *purpose, *gallery;
	enum kind kinds[4];
	size_t n_kinds;
};

enum way {
	PACED,    /* a transaction at each pace */
	STORM,    /* one health check each, over a new connection */
	RESTART,  /* the daemon is restarted; a health check each, until one is answered */
	PICTURES, /* some verify a photograph one after the other */
	CROWD     /* all verify a photograph at moments of their own */
};

/* What is wrong with the line of one site. */
enum trouble { NO_TROUBLE, SLOW, DEAD };

/* What all endpoints do for a while, and how that went. */
struct phase {
	const char *name;
	enum way way;
	double seconds;
	double verifications; /* a second, of all; 0 for each at its class's own pace */
	double load;          /* CROWD: photographs a second in all, of those that PICTURES did */
	bool search;          /* the large gallery is searched without a pause */
	enum trouble trouble;
	int64_t from_ns;
	atomic_int_least64_t to_ns;
	double took;    /* seconds */
	double up;      /* RESTART: until the daemon listened again */
	double noticed; /* DEAD: until the daemon had let go; 0 for never */
	struct process_usage before, after;
	double clients_cpu_ms; /* of this process */
};

struct sample {
	float at;                  /* seconds from the first phase, when the call ended */
	float ms;                  /* as the client saw it */
	float stage[STAGES];       /* ms */
	uint8_t phase, kind, code; /* gRPC's; 255 where there was no answer */
	bool troubled;             /* its site's line was not well */
};

struct endpoint {
	struct fleet *fleet;
	pthread_t thread;
	char certificate[512], site[64];
	const struct class *class;
	size_t number;
	uint64_t calls;
	struct sample *samples;
	size_t n, room;
};

struct fleet {
	struct remote remote;
	const char *dir; /* of the daemon's pid and port */
	pid_t daemon;
	struct endpoint *endpoints;
	size_t n;
	Biomatch__V1__Template people[FLEET_PEOPLE];
	uint8_t *image;
	size_t image_len;
	double bare; /* photographs a second of the models alone */
	struct phase phases[FLEET_MAX_PHASES];
	size_t phase; /* the current */
	pthread_barrier_t meeting;
	char run[32]; /* in request ids: unlike those of other runs */
};

/* Whether the endpoint's site has the trouble of the phase. */
bool endpoint_troubled(const struct endpoint *e, const struct phase *phase);

/* Ends the process where no transactions are known of the class. */
const struct class *class_of(const char *name);
/* One call, whose fate is noted. */
void transact(struct endpoint *e, struct biomatch_client *client, enum kind kind);
/* Health checks until one is answered with OK, noted with the time since the phase began. */
void transact_until_answered(struct endpoint *e, struct biomatch_client *client);

/* Notes a call that began then. times: of the reply, NULL without. */
void tally_note(struct endpoint *e, enum kind kind, int64_t began, int code,
		const Biomatch__V1__StageTimes *times);
const char *tally_kind(enum kind kind);
/* Calls of the phase that were answered with OK, of sites whose lines are well, a second. */
double tally_rate(const struct fleet *fleet, size_t phase, enum kind kind);
/* Their times in milliseconds at share q; NAN without any. */
double tally_quantile(const struct fleet *fleet, size_t phase, enum kind kind, double q);
/* Calls of the phase that were neither answered with OK nor refused for want of room. */
size_t tally_failed(const struct fleet *fleet, size_t phase);
/* Tables in Markdown: the head, rows of the phase that is over, and the rest at the end. */
void tally_begin(void);
void tally_phase(const struct fleet *fleet);
void tally_end(const struct fleet *fleet, size_t n_phases);

/* Times by second of each kind of call, the phases marked: PATH.svg and PATH.png. */
void timeline_draw(const struct fleet *fleet, size_t n_phases, const char *path);

#endif
