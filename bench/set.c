#include "set.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "biomatch/score.h"

void *set_memory(size_t bytes)
{
	void *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("bench: memory");
		exit(1);
	}
	if (madvise(memory, bytes, MADV_HUGEPAGE) != 0)
		perror("bench: huge pages");
	return memory;
}

void set_memory_free(void *memory, size_t bytes)
{
	if (munmap(memory, bytes) != 0)
		perror("bench: munmap");
}

static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* The sum of four uniform numbers, near enough to normal: the mixing does the rest. */
static float draw_normal(uint64_t *state)
{
	uint64_t bits = next(state);
	int sum = (int)(bits & 0xffff) + (int)(bits >> 16 & 0xffff) + (int)(bits >> 32 & 0xffff) +
		  (int)(bits >> 48);

	return (float)(sum - 2 * 0xffff) * (1.0f / 37837.2f);
}

static void hadamard(float *v, size_t dim)
{
	for (size_t half = 1; half < dim; half *= 2)
		for (size_t i = 0; i < dim; i += 2 * half)
			for (size_t j = i; j < i + half; j++) {
				float a = v[j], b = v[j + half];

				v[j] = a + b;
				v[j + half] = a - b;
			}
}

/* The same orthonormal mixing for every template: signs and Hadamard, twice. */
static void mix(float *v, size_t dim)
{
	uint64_t state = 99;

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < dim; i++)
			v[i] = next(&state) & 1 ? v[i] : -v[i];
		hadamard(v, dim);
	}
}

/* bench/embed writes zeros where a picture gave no template. */
static void drop_zeros(struct seeds *seeds, size_t dim)
{
	size_t kept = 0;

	for (size_t k = 0; k < seeds->n; k++)
		if (score_normalise(seeds->rows + k * dim, dim) == 0)
			memmove(seeds->rows + kept++ * dim, seeds->rows + k * dim,
				dim * sizeof(float));
	seeds->n = kept;
}

void seeds_read(struct seeds *seeds, const char *path, size_t dim)
{
	FILE *file = fopen(path, "rb");
	long bytes = -1;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (bytes = ftell(file)) < 0)
		goto fail;
	seeds->n = (size_t)bytes / (dim * sizeof(float));
	seeds->bytes = (size_t)bytes + 1;
	seeds->rows = set_memory(seeds->bytes);
	seeds->mean = set_memory(dim * sizeof(float));
	rewind(file);
	if (seeds->n < 2 || fread(seeds->rows, dim * sizeof(float), seeds->n, file) != seeds->n)
		goto fail;
	fclose(file);
	drop_zeros(seeds, dim);
	for (size_t i = 0; i < seeds->n * dim; i++)
		seeds->mean[i % dim] += seeds->rows[i] / (float)seeds->n;
	for (size_t i = 0; i < seeds->n * dim; i++)
		seeds->rows[i] -= seeds->mean[i % dim];
	return;
fail:
	fprintf(stderr, "bench: %s does not hold rows of %zu floats\n", path, dim);
	exit(1);
}

void seeds_free(struct seeds *seeds, size_t dim)
{
	if (seeds->rows == NULL)
		return;
	set_memory_free(seeds->rows, seeds->bytes);
	set_memory_free(seeds->mean, dim * sizeof(float));
}

/* Of the covariance of the seeds: a few of them, weighted at random, on their mean. */
static void draw_from_seeds(const struct set *set, uint64_t *state, float *out)
{
	const struct seeds *seeds = set->seeds;

	memcpy(out, seeds->mean, set->dim * sizeof(float));
	for (size_t k = 0; k < 16; k++) {
		const float *row = seeds->rows + next(state) % seeds->n * set->dim;
		float weight = draw_normal(state) / 4;

		for (size_t i = 0; i < set->dim; i++)
			out[i] += weight * row[i];
	}
}

/*
 * Variances that fall off as exp(-i / tau) give scores between strangers a
 * standard deviation of about sqrt(1 / (2 tau)).
 */
static void draw_from_spread(const struct set *set, uint64_t *state, float *out)
{
	float tau = 1 / (2 * set->spread * set->spread);

	for (size_t i = 0; i < set->dim; i++)
		out[i] = draw_normal(state);
	if (tau < (float)set->dim)
		for (size_t i = 0; i < set->dim; i++)
			out[i] *= expf(-(float)i / (2 * tau));
}

void set_draw(const struct set *set, uint64_t index, float *out)
{
	uint64_t state = index * UINT64_C(0xd1342543de82ef95) + 7;

	if (set->seeds != NULL)
		draw_from_seeds(set, &state, out);
	else
		draw_from_spread(set, &state, out);
	mix(out, set->dim);
	if (score_normalise(out, set->dim) != 0)
		abort();
}

size_t set_bytes_signs(const struct set *set)
{
	return code_sign_bytes(set->n, set->dim);
}

size_t set_bytes_nibbles(const struct set *set)
{
	return code_nibble_bytes(set->n, set->dim);
}

/* Blocks divide segments, so a plane of all rows is the planes of all segments in order. */
static struct code_segment segment_at(const struct set *set, size_t index)
{
	size_t first = index * SET_SEGMENT_ROWS;
	size_t rows = set->n - first < SET_SEGMENT_ROWS ? set->n - first : SET_SEGMENT_ROWS;

	return (struct code_segment){
		.signs = set->signs + code_sign_bytes(first, set->dim),
		.nibbles = set->nibbles + code_nibble_bytes(first, set->dim),
		.rows = rows,
	};
}

static size_t segments_of(const struct set *set)
{
	return (set->n + SET_SEGMENT_ROWS - 1) / SET_SEGMENT_ROWS;
}

void set_free(struct set *set)
{
	if (set->rows != NULL)
		set_memory_free(set->rows, set->n * set->dim * sizeof(float));
	set_memory_free(set->signs, set_bytes_signs(set));
	set_memory_free(set->nibbles, set_bytes_nibbles(set));
}

static bool better(float score, uint32_t row, const struct found *found, size_t i)
{
	return score > found->score[i] || (score == found->score[i] && row < found->row[i]);
}

/* Keeps the k best; returns the bar for what comes after. */
static float offer(struct found *found, size_t k, float threshold, uint32_t row, float score)
{
	size_t i;

	if (score < threshold || (found->n == k && !better(score, row, found, k - 1)))
		return found->n == k ? found->score[k - 1] : threshold;
	found->n += found->n < k;
	for (i = found->n - 1; i > 0 && better(score, row, found, i - 1); i--) {
		found->row[i] = found->row[i - 1];
		found->score[i] = found->score[i - 1];
	}
	found->row[i] = row;
	found->score[i] = score;
	return found->n == k ? found->score[k - 1] : threshold;
}

struct job {
	const struct set *set;
	struct search *search; /* NULL to read memory */
	const struct code_probe *probes;
	const uint8_t *memory;
	size_t bytes;
	size_t next; /* segment */
};

struct member {
	struct team *team;
	unsigned index;
	pthread_t thread;
	struct code_query queries[CODE_MAX_PROBES];
	struct found found[CODE_MAX_PROBES];
	uint16_t rows[CODE_MAX_PROBES][SET_SEGMENT_ROWS];
	uint64_t sum;
};

struct team {
	unsigned threads;
	pthread_barrier_t start, end;
	bool ends;
	struct job job;
	struct code_probe probes[CODE_MAX_PROBES];
	struct member member[];
};

/* The floats of a row, drawn into buffer where the set does not keep them. */
static const float *row_at(const struct set *set, uint32_t row, float *buffer)
{
	if (set->rows != NULL)
		return set->rows + (size_t)row * set->dim;
	set_draw(set, row, buffer);
	return buffer;
}

static void scan_codes(struct member *member, struct job *job, size_t s)
{
	const struct code_segment segment = segment_at(job->set, s);
	const struct search *search = job->search;
	size_t dim = job->set->dim;

	code_scan(&segment, member->queries, search->m);
	for (size_t p = 0; p < search->m; p++) {
		struct code_query *query = &member->queries[p];

		for (size_t i = 0; i < query->n; i++) {
			uint32_t row = (uint32_t)(s * SET_SEGMENT_ROWS + query->rows[i]);
			float drawn[CODE_MAX_DIM];
			float score = score_dot(search->probes + p * dim,
						row_at(job->set, row, drawn), dim);

			query->bar =
				offer(&member->found[p], search->k, search->threshold, row, score);
		}
	}
}

/* Offers the rows from first on, whose floats these are, to the searches of a pass. */
static void offer_floats(const struct set *set, const struct search *search, const float *floats,
			 size_t first, size_t n, struct found *found)
{
	float scores[CODE_MAX_PROBES * 64];

	for (size_t at = 0; at < n; at += 64) {
		size_t some = n - at < 64 ? n - at : 64;

		score_kernel()->scan(floats + at * set->dim, some, search->probes, search->m,
				     set->dim, scores);
		for (size_t p = 0; p < search->m; p++)
			for (size_t i = 0; i < some; i++)
				offer(&found[p], search->k, search->threshold,
				      (uint32_t)(first + at + i), scores[p * some + i]);
	}
}

static void scan_floats(struct member *member, struct job *job, size_t s)
{
	size_t first = s * SET_SEGMENT_ROWS;

	offer_floats(job->set, job->search, job->set->rows + first * job->set->dim, first,
		     segment_at(job->set, s).rows, member->found);
}

static void work_search(struct member *member, struct job *job)
{
	const struct search *search = job->search;

	for (size_t p = 0; p < search->m; p++) {
		member->found[p].n = 0;
		member->queries[p] = (struct code_query){
			.probe = &job->probes[p],
			.mode = search->method == METHOD_FAST ? CODE_FAST : CODE_CERTIFIED,
			.bar = search->threshold,
			.rows = member->rows[p],
		};
	}
	for (;;) {
		size_t s = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);

		if (s >= segments_of(job->set))
			return;
		if (search->method == METHOD_FLOAT)
			scan_floats(member, job, s);
		else
			scan_codes(member, job, s);
	}
}

/* One word of each line of the cache, into unrelated sums: as fast as memory gives. */
static void work_read(struct member *member, struct job *job)
{
	const size_t piece = 1 << 20, line = 64 / sizeof(uint64_t);
	uint64_t sum[4] = {0};

	for (;;) {
		size_t at = piece * __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
		const uint64_t *word = (const uint64_t *)(const void *)(job->memory + at);
		const uint64_t *end = word + piece / sizeof(uint64_t);

		if (at + piece > job->bytes)
			break;
		for (; word < end; word += 4 * line)
			for (size_t i = 0; i < 4; i++)
				sum[i] += word[i * line];
	}
	member->sum += sum[0] + sum[1] + sum[2] + sum[3];
}

static void work(struct member *member)
{
	struct job *job = &member->team->job;

	if (job->search != NULL)
		work_search(member, job);
	else
		work_read(member, job);
}

static void *run_member(void *arg)
{
	struct member *member = arg;

	for (;;) {
		pthread_barrier_wait(&member->team->start);
		if (member->team->ends)
			return NULL;
		work(member);
		pthread_barrier_wait(&member->team->end);
	}
}

struct team *team_new(unsigned threads)
{
	struct team *team = aligned_alloc(
		64, (sizeof(*team) + threads * sizeof(team->member[0]) + 63) / 64 * 64);

	if (team == NULL)
		abort();
	memset(team, 0, sizeof(*team) + threads * sizeof(team->member[0]));
	team->threads = threads;
	pthread_barrier_init(&team->start, NULL, threads);
	pthread_barrier_init(&team->end, NULL, threads);
	for (unsigned i = 0; i < threads; i++) {
		team->member[i].team = team;
		team->member[i].index = i;
		if (i > 0 && pthread_create(&team->member[i].thread, NULL, run_member,
					    &team->member[i]) != 0)
			abort();
	}
	return team;
}

static void team_work(struct team *team)
{
	pthread_barrier_wait(&team->start);
	work(&team->member[0]);
	pthread_barrier_wait(&team->end);
}

void team_free(struct team *team)
{
	team->ends = true;
	pthread_barrier_wait(&team->start);
	for (unsigned i = 1; i < team->threads; i++)
		pthread_join(team->member[i].thread, NULL);
	free(team);
}

static void gather(struct search *search, const struct found *found)
{
	for (size_t p = 0; p < search->m; p++)
		for (size_t i = 0; i < found[p].n; i++)
			offer(&search->found[p], search->k, search->threshold, found[p].row[i],
			      found[p].score[i]);
}

static void merge(struct team *team, struct search *search)
{
	for (size_t p = 0; p < search->m; p++)
		search->found[p].n = 0;
	for (unsigned t = 0; t < team->threads; t++) {
		gather(search, team->member[t].found);
		for (size_t p = 0; p < search->m; p++) {
			search->by_signs += team->member[t].queries[p].by_signs;
			search->by_nibbles += team->member[t].queries[p].by_nibbles;
		}
	}
}

void team_search(struct team *team, const struct set *set, struct search *search)
{
	search->by_signs = search->by_nibbles = 0;
	team->job = (struct job){.set = set, .search = search, .probes = team->probes};
	if (search->method != METHOD_FLOAT)
		for (size_t p = 0; p < search->m; p++)
			code_probe_init(&team->probes[p], search->probes + p * set->dim, set->dim);
	team_work(team);
	merge(team, search);
}

double team_read(struct team *team, const void *memory, size_t bytes)
{
	struct timespec from, to;

	team->job = (struct job){.memory = memory, .bytes = bytes};
	clock_gettime(CLOCK_MONOTONIC, &from);
	team_work(team);
	clock_gettime(CLOCK_MONOTONIC, &to);
	return (double)bytes /
	       ((double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9);
}

/* One thread's part of making a set. */
struct making {
	struct set *set;
	const struct search *truth;
	size_t *next; /* segment */
	float *drawn; /* of a segment, where the set does not keep its rows */
	struct found found[CODE_MAX_PROBES];
};

static void *make_segments(void *arg)
{
	struct making *making = arg;
	struct set *set = making->set;

	for (;;) {
		size_t s = __atomic_fetch_add(making->next, 1, __ATOMIC_RELAXED);
		size_t first = s * SET_SEGMENT_ROWS;
		struct code_segment segment;
		float *rows = making->drawn;

		if (s >= segments_of(set))
			return NULL;
		segment = segment_at(set, s);
		if (set->rows != NULL)
			rows = set->rows + first * set->dim;
		for (size_t i = 0; i < segment.rows; i++)
			set_draw(set, first + i, rows + i * set->dim);
		code_encode(rows, 0, segment.rows, set->dim, (void *)segment.signs,
			    (void *)segment.nibbles);
		if (making->truth != NULL)
			offer_floats(set, making->truth, rows, first, segment.rows, making->found);
	}
}

void set_make(struct set *set, size_t n, struct search *truth)
{
	size_t drawn = SET_SEGMENT_ROWS * set->dim * sizeof(float), next_segment = 0;
	struct making *making = set_memory(2 * sizeof(*making));
	pthread_t other;

	set->n = n;
	set->rows = set->lean ? NULL : set_memory(n * set->dim * sizeof(float));
	set->signs = set_memory(set_bytes_signs(set));
	set->nibbles = set_memory(set_bytes_nibbles(set));
	for (int i = 0; i < 2; i++) {
		making[i].set = set;
		making[i].truth = truth;
		making[i].next = &next_segment;
		making[i].drawn = set_memory(drawn);
	}
	if (pthread_create(&other, NULL, make_segments, &making[1]) != 0)
		abort();
	make_segments(&making[0]);
	pthread_join(other, NULL);
	for (size_t p = 0; truth != NULL && p < truth->m; p++)
		truth->found[p].n = 0;
	for (int i = 0; i < 2; i++) {
		if (truth != NULL)
			gather(truth, making[i].found);
		set_memory_free(making[i].drawn, drawn);
	}
	set_memory_free(making, 2 * sizeof(*making));
}

static uint8_t *copy_paged(const uint8_t *from, size_t bytes)
{
	uint8_t *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || madvise(memory, bytes, MADV_NOHUGEPAGE) != 0) {
		perror("bench: memory");
		exit(1);
	}
	memcpy(memory, from, bytes);
	return memory;
}

void set_copy_paged(const struct set *set, struct set *out)
{
	*out = *set;
	out->signs = copy_paged(set->signs, set_bytes_signs(set));
	out->nibbles = copy_paged(set->nibbles, set_bytes_nibbles(set));
}

void set_free_paged(struct set *set)
{
	set_memory_free(set->signs, set_bytes_signs(set));
	set_memory_free(set->nibbles, set_bytes_nibbles(set));
}
