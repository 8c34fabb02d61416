/*
 * The endpoints of a deployment, each with a connection and a certificate of its own, and the
 * transactions of its class at its pace. The script `fleet` starts the daemon.
 *
 *   fleet fill STORE KEY PACK GALLERIES N       templates into each of "a,b,c"
 *   fleet run TARGET PKI KEY PACK ENDPOINTS N SECONDS IMAGE
 *
 * ENDPOINTS has a line for each: certificate, class.
 */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "biomatch/clock.h"
#include "biomatch/file.h"
#include "biomatch/gallery.h"
#include "biomatch/score.h"
#include "biomatch/v1/enrolment_service.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"
#include "remote.h"
#include "set.h"

#define MAX_ENDPOINTS 2000
#define PEOPLE        64   /* templates that probes are taken from, the first of each gallery */
#define PACE_MS       7000 /* of a passage through a gate */
#define STACK         (256 << 10)
#define IMAGE_CLIENTS 4

enum kind { CHECK, VERIFY, COMPARE, IDENTIFY, ENROL, VERIFY_IMAGE, KINDS };

static const char *const kind_names[KINDS] = {"Check",    "Verify", "Compare",
					      "Identify", "Enrol",  "Verify image"};

/* What an endpoint of a class does, by turns. */
struct class
{
	const char *name, *purpose, *gallery;
	enum kind kinds[4];
	size_t n_kinds;
};

static const struct class classes[] = {
	{"echannel-departure", "departure", "arrivals", {VERIFY}, 1},
	{"vehicle-echannel", "vehicle-clearance", "drivers", {VERIFY}, 1},
	{"arrival-counter", "arrival", "arrivals", {COMPARE, ENROL}, 2},
	{"registration-kiosk", "visitor-registration", "visitors", {COMPARE, IDENTIFY, ENROL}, 3},
	{"id-registration-counter",
	 "id-application",
	 "residents",
	 {VERIFY, VERIFY, VERIFY, ENROL},
	 4},
	{"id-collection-kiosk", "id-collection", "residents", {VERIFY}, 1},
	{"passport-application-kiosk", "passport-photo", NULL, {COMPARE}, 1},
};

/* What all endpoints do for a while. */
struct phase {
	const char *name;
	int64_t from_ns, to_ns;
	int64_t pace_ns; /* 0 for one call after the other */
	bool only_check; /* one health check each, over a new connection */
	bool images;     /* some endpoints verify a picture without a pause */
};

struct sample {
	float ms;
	uint8_t kind, code; /* gRPC's; 255 where there was no answer */
};

struct endpoint {
	struct fleet *fleet;
	pthread_t thread;
	char certificate[512];
	const struct class *class;
	size_t number;
	uint64_t calls;
	uint64_t random;
	struct sample *samples;
	size_t n, room;
};

struct fleet {
	struct remote remote;
	struct endpoint *endpoints;
	size_t n;
	Biomatch__V1__Template people[PEOPLE];
	uint8_t *image;
	size_t image_len;
	struct phase phase;
	bool ends;
	pthread_barrier_t start, end;
	char run[32]; /* in request ids: unlike those of other runs */
};

static const struct class *class_of(const char *name)
{
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (!strcmp(classes[i].name, name))
			return &classes[i];
	}
	fprintf(stderr, "fleet: no transactions are known of class %s\n", name);
	exit(1);
}

static void note(struct endpoint *e, enum kind kind, int64_t began, int code)
{
	if (e->n == e->room) {
		e->room = e->room ? 2 * e->room : 64;
		e->samples = realloc(e->samples, e->room * sizeof(*e->samples));
		must(e->samples ? 0 : BM_ENOMEM, "samples");
	}
	e->samples[e->n++] = (struct sample){
		.ms = (float)((double)(clock_monotonic_ns() - began) / CLOCK_NS_PER_MS),
		.kind = (uint8_t)kind,
		.code = (uint8_t)code,
	};
}

static void send(struct endpoint *e, struct biomatch_client *client, enum kind kind,
		 const char *path, const ProtobufCMessage *request,
		 const ProtobufCMessageDescriptor *type, struct arena *arena)
{
	int64_t began = clock_monotonic_ns();
	struct biomatch_status status;
	ProtobufCMessage *reply;
	int error =
		biomatch_client_call(client, path, request, type, 30000, arena, &reply, &status);

	note(e, kind, began, error ? 255 : (int)status.code);
	if (error || status.code != GRPC_OK) {
		static unsigned told;

		if (__atomic_fetch_add(&told, 1, __ATOMIC_RELAXED) < 3)
			fprintf(stderr, "fleet: %s: %s\n", kind_names[kind],
				error ? biomatch_client_error(client) : status.message);
	}
}

static void set_probe(struct fleet *fleet, Biomatch__V1__Probe *probe, size_t person)
{
	biomatch__v1__probe__init(probe);
	probe->kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
	probe->template_ = &fleet->people[person];
}

static void verify(struct endpoint *e, struct biomatch_client *client, enum kind kind,
		   struct arena *arena)
{
	Biomatch__V1__VerifyRequest request = BIOMATCH__V1__VERIFY_REQUEST__INIT;
	size_t person = e->calls % PEOPLE;
	Biomatch__V1__Probe probe;
	Biomatch__V1__Image image = BIOMATCH__V1__IMAGE__INIT;
	char subject[32];

	set_probe(e->fleet, &probe, person);
	if (kind == VERIFY_IMAGE) {
		image.data = (ProtobufCBinaryData){e->fleet->image_len, e->fleet->image};
		probe.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
		probe.image = &image;
	}
	snprintf(subject, sizeof(subject), "s%zu", person);
	request.purpose = (char *)(uintptr_t)e->class->purpose;
	request.gallery = (char *)(uintptr_t)e->class->gallery;
	request.subject_id = subject;
	request.probe = &probe;
	send(e, client, kind, "/biomatch.v1.MatchingService/Verify", &request.base,
	     &biomatch__v1__verify_response__descriptor, arena);
}

static void compare(struct endpoint *e, struct biomatch_client *client, struct arena *arena)
{
	Biomatch__V1__CompareRequest request = BIOMATCH__V1__COMPARE_REQUEST__INIT;
	Biomatch__V1__Probe probe, reference;

	set_probe(e->fleet, &probe, e->calls % PEOPLE);
	set_probe(e->fleet, &reference, e->calls * 7 % PEOPLE);
	request.purpose = (char *)(uintptr_t)e->class->purpose;
	request.probe = &probe;
	request.reference = &reference;
	send(e, client, COMPARE, "/biomatch.v1.MatchingService/Compare", &request.base,
	     &biomatch__v1__compare_response__descriptor, arena);
}

static void identify(struct endpoint *e, struct biomatch_client *client, struct arena *arena)
{
	Biomatch__V1__IdentifyRequest request = BIOMATCH__V1__IDENTIFY_REQUEST__INIT;
	char *gallery = (char *)(uintptr_t)e->class->gallery;
	Biomatch__V1__Probe probe;

	set_probe(e->fleet, &probe, e->calls % PEOPLE);
	request.purpose = (char *)(uintptr_t)e->class->purpose;
	request.galleries = &gallery;
	request.n_galleries = 1;
	request.max_candidates = 5;
	request.probe = &probe;
	send(e, client, IDENTIFY, "/biomatch.v1.MatchingService/Identify", &request.base,
	     &biomatch__v1__identify_response__descriptor, arena);
}

static void enrol(struct endpoint *e, struct biomatch_client *client, struct arena *arena)
{
	Biomatch__V1__EnrolRequest request = BIOMATCH__V1__ENROL_REQUEST__INIT;
	Biomatch__V1__Probe reference;
	char id[96];

	set_probe(e->fleet, &reference, e->calls % PEOPLE);
	snprintf(id, sizeof(id), "%s-%zu-%llu", e->fleet->run, e->number,
		 (unsigned long long)e->calls);
	request.purpose = (char *)(uintptr_t)e->class->purpose;
	request.gallery = (char *)(uintptr_t)e->class->gallery;
	request.subject_id = id;
	request.request_id = id;
	request.reference = &reference;
	send(e, client, ENROL, "/biomatch.v1.EnrolmentService/Enrol", &request.base,
	     &biomatch__v1__enrol_response__descriptor, arena);
}

static void check(struct endpoint *e, struct biomatch_client *client, struct arena *arena)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	send(e, client, CHECK, "/grpc.health.v1.Health/Check", &request.base,
	     &grpc__health__v1__health_check_response__descriptor, arena);
}

static void transact(struct endpoint *e, struct biomatch_client *client, enum kind kind)
{
	struct arena arena;

	arena_init(&arena, 4 << 20);
	e->calls++;
	switch (kind) {
	case VERIFY:
	case VERIFY_IMAGE:
		verify(e, client, kind, &arena);
		break;
	case COMPARE:
		compare(e, client, &arena);
		break;
	case IDENTIFY:
		identify(e, client, &arena);
		break;
	case ENROL:
		enrol(e, client, &arena);
		break;
	default:
		check(e, client, &arena);
	}
	arena_deinit(&arena);
}

static void wait_until(int64_t ns)
{
	struct timespec until = {ns / CLOCK_NS_PER_SEC, ns % CLOCK_NS_PER_SEC};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static struct biomatch_client *dial(struct endpoint *e)
{
	char message[BIOMATCH_MESSAGE_MAX] = "", key[520], ca[512];
	struct biomatch_options options = {.target = e->fleet->remote.target,
					   .certificate = e->certificate,
					   .private_key = key,
					   .ca = ca,
					   .server_name = "localhost",
					   .connect_ms = 30000};
	struct biomatch_client *client;

	snprintf(key, sizeof(key), "%.*s.key", (int)strlen(e->certificate) - 4, e->certificate);
	snprintf(ca, sizeof(ca), "%s/ca.pem", e->fleet->remote.pki);
	must(biomatch_client_open(&options, &client, message), message);
	return client;
}

/* Endpoints begin at different moments of their pace, and keep to it. */
static void take_part(struct endpoint *e, struct biomatch_client *client)
{
	const struct phase *phase = &e->fleet->phase;
	int64_t next = phase->from_ns;

	if (phase->only_check) {
		transact(e, client, CHECK);
		return;
	}
	if (phase->images) {
		while (e->number < IMAGE_CLIENTS && clock_monotonic_ns() < phase->to_ns)
			transact(e, client, VERIFY_IMAGE);
		return;
	}
	next += (int64_t)((double)e->number / (double)e->fleet->n * (double)phase->pace_ns);
	while (next < phase->to_ns && clock_monotonic_ns() < phase->to_ns) {
		if (phase->pace_ns)
			wait_until(next);
		transact(e, client, e->class->kinds[e->calls % e->class->n_kinds]);
		next += phase->pace_ns;
	}
}

static void *live(void *arg)
{
	struct endpoint *e = arg;
	struct biomatch_client *client = dial(e);

	for (;;) {
		pthread_barrier_wait(&e->fleet->start);
		if (e->fleet->ends)
			break;
		if (e->fleet->phase.only_check) {
			biomatch_client_close(client);
			client = dial(e);
			pthread_barrier_wait(&e->fleet->end);
			pthread_barrier_wait(&e->fleet->start);
		}
		take_part(e, client);
		pthread_barrier_wait(&e->fleet->end);
	}
	biomatch_client_close(client);
	return NULL;
}

static void report_kind(struct fleet *fleet, enum kind kind, double seconds)
{
	size_t n = 0, ok = 0, refused = 0, all = 0;
	double *ms;

	for (size_t i = 0; i < fleet->n; i++)
		all += fleet->endpoints[i].n;
	ms = calloc(all + 1, sizeof(*ms));
	must(ms ? 0 : BM_ENOMEM, "samples");
	for (size_t i = 0; i < fleet->n; i++) {
		const struct endpoint *e = &fleet->endpoints[i];

		for (size_t s = 0; s < e->n; s++) {
			if (e->samples[s].kind != kind)
				continue;
			n++;
			refused += e->samples[s].code == GRPC_RESOURCE_EXHAUSTED;
			if (e->samples[s].code == GRPC_OK)
				ms[ok++] = (double)e->samples[s].ms;
		}
	}
	if (n)
		printf("| %-12s | %-12s | %7.1f | %8.2f | %8.2f | %8.2f | %6zu | %6zu |\n",
		       fleet->phase.name, kind_names[kind], (double)ok / seconds,
		       quantile(ms, ok, 0.5), quantile(ms, ok, 0.99), quantile(ms, ok, 0.999),
		       refused, n - ok - refused);
	free(ms);
}

static void run_phase(struct fleet *fleet, struct phase phase, double seconds)
{
	int64_t began;
	double took;

	for (size_t i = 0; i < fleet->n; i++)
		fleet->endpoints[i].n = 0;
	fleet->phase = phase;
	if (phase.only_check) { /* all have hung up, and call at once */
		pthread_barrier_wait(&fleet->start);
		pthread_barrier_wait(&fleet->end);
	}
	began = clock_monotonic_ns();
	fleet->phase.from_ns = began;
	fleet->phase.to_ns = began + (int64_t)(seconds * 1e9);
	pthread_barrier_wait(&fleet->start);
	pthread_barrier_wait(&fleet->end);
	took = (double)(clock_monotonic_ns() - began) / 1e9;
	for (int kind = 0; kind < KINDS; kind++)
		report_kind(fleet, (enum kind)kind, took);
	if (phase.only_check)
		printf("all %zu connections were made in %.2f s\n", fleet->n, took);
	fflush(stdout);
}

static void read_endpoints(struct fleet *fleet, const char *path)
{
	char line[640], class[64];
	FILE *file = fopen(path, "r");

	must(file ? 0 : BM_EIO, path);
	fleet->endpoints = calloc(MAX_ENDPOINTS, sizeof(*fleet->endpoints));
	must(fleet->endpoints ? 0 : BM_ENOMEM, "endpoints");
	while (fleet->n < MAX_ENDPOINTS && fgets(line, sizeof(line), file)) {
		struct endpoint *e = &fleet->endpoints[fleet->n];

		if (sscanf(line, "%511s %63s", e->certificate, class) != 2)
			continue;
		e->fleet = fleet;
		e->class = class_of(class);
		e->number = fleet->n++;
	}
	fclose(file);
}

static void make_people(struct fleet *fleet, struct arena *arena)
{
	struct set set = {.dim = fleet->remote.pack->dim, .spread = SET_SPREAD};
	float v[CODE_MAX_DIM];

	for (size_t i = 0; i < PEOPLE; i++) {
		set_draw(&set, i, v);
		remote_template(&fleet->remote, v, arena, &fleet->people[i]);
	}
}

static void start_all(struct fleet *fleet)
{
	pthread_attr_t small;

	must(pthread_attr_init(&small) || pthread_attr_setstacksize(&small, STACK) ? BM_ENOMEM : 0,
	     "thread");
	pthread_barrier_init(&fleet->start, NULL, (unsigned)fleet->n + 1);
	pthread_barrier_init(&fleet->end, NULL, (unsigned)fleet->n + 1);
	for (size_t i = 0; i < fleet->n; i++)
		must(pthread_create(&fleet->endpoints[i].thread, &small, live, &fleet->endpoints[i])
			     ? BM_ENOMEM
			     : 0,
		     "thread");
	pthread_attr_destroy(&small);
}

static void end_all(struct fleet *fleet)
{
	fleet->ends = true;
	pthread_barrier_wait(&fleet->start);
	for (size_t i = 0; i < fleet->n; i++) {
		pthread_join(fleet->endpoints[i].thread, NULL);
		free(fleet->endpoints[i].samples);
	}
	free(fleet->endpoints);
}

static void run(struct fleet *fleet, double seconds)
{
	struct rlimit files = {.rlim_cur = 8192, .rlim_max = 8192};

	if (setrlimit(RLIMIT_NOFILE, &files))
		perror("fleet: descriptors");
	signal(SIGPIPE, SIG_IGN);
	snprintf(fleet->run, sizeof(fleet->run), "%lld", (long long)clock_wall_ms());
	start_all(fleet);
	printf("%zu endpoints, each with a connection and a certificate of its own\n\n", fleet->n);
	printf("| phase | call | a second | p50 ms | p99 ms | p99.9 ms | refused | failed |\n"
	       "|---|---|--:|--:|--:|--:|--:|--:|\n");
	run_phase(fleet, (struct phase){.name = "storm", .only_check = true}, 0);
	run_phase(fleet,
		  (struct phase){.name = "peak", .pace_ns = PACE_MS * (int64_t)CLOCK_NS_PER_MS},
		  seconds);
	run_phase(fleet, (struct phase){.name = "images", .images = true}, seconds / 2);
	run_phase(fleet, (struct phase){.name = "overload"}, seconds / 4);
	run_phase(fleet, (struct phase){.name = "storm again", .only_check = true}, 0);
	end_all(fleet);
}

static void fill_gallery(struct gallery_store *store, struct db *db, const char *gallery,
			 const struct set *set, size_t n)
{
	struct gallery_change create = {.kind = GALLERY_CREATE, .gallery = gallery};
	struct gallery_outcome outcome;
	struct db_txn txn;

	must(db_begin_write(db, &txn), "begin");
	must(gallery_apply(store, &txn, &create, &outcome), "create");
	for (size_t i = 0; i < n; i++) {
		float v[CODE_MAX_DIM];
		char subject[32];
		struct gallery_change change = {
			.kind = GALLERY_PUT,
			.now_ms = clock_wall_ms(),
			.gallery = gallery,
			.subject = subject,
			.embedding = v,
			.dim = set->dim,
			.encounter = {.id = "e", .expires_ms = GALLERY_NEVER}};

		snprintf(subject, sizeof(subject), "s%zu", i);
		set_draw(set, i, v);
		must(gallery_apply(store, &txn, &change, &outcome), "put");
	}
	must(db_commit(&txn), "commit");
}

static void fill(const char *dir, const char *key, const char *pack_dir, char *galleries, size_t n)
{
	char message[PACK_MESSAGE_LEN] = "";
	struct gallery_store *store;
	struct pack *pack;
	struct keys *keys;
	struct db *db;
	struct set set = {.spread = SET_SPREAD};

	must(pack_open(pack_dir, true, &pack, message), message);
	must(keys_open(key, &keys), key);
	must(db_open(dir, UINT64_C(16) << 30, 64, &db, message), message);
	must(gallery_store_open(db, keys, pack, &store), "store");
	set.dim = pack->dim;
	for (char *name = strtok(galleries, ","); name; name = strtok(NULL, ","))
		fill_gallery(store, db, name, &set, n);
	gallery_store_close(store);
	db_close(db);
	keys_close(keys);
	pack_close(pack);
}

int main(int argc, char **argv)
{
	static struct fleet fleet;
	struct arena arena;

	must(score_init(NULL), "score");
	if (argc == 7 && !strcmp(argv[1], "fill")) {
		fill(argv[2], argv[3], argv[4], argv[5], strtoul(argv[6], NULL, 10));
		return 0;
	}
	if (argc != 9 || strcmp(argv[1], "run")) {
		fprintf(stderr, "usage: see bench/fleet\n");
		return 64;
	}
	arena_init(&arena, 1 << 20);
	remote_init(&fleet.remote, argv[2], argv[3], argv[4], argv[5]);
	read_endpoints(&fleet, argv[6]);
	must(file_read(argv[8], 16 << 20, &fleet.image, &fleet.image_len), argv[8]);
	make_people(&fleet, &arena);
	run(&fleet, strtod(argv[7], NULL));
	remote_deinit(&fleet.remote);
	arena_deinit(&arena);
	free(fleet.image);
	return 0;
}
