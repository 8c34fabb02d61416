/*
 * Searches of one gallery side by side: faiss, a scan of float32, and the codes
 * of module `score`. See README.md for what each row means.
 */
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "biomatch/score.h"
#include "faiss.h"
#include "set.h"

#define BATCH    16
#define K        10
#define MAX_RUNS 101
/* Templates from here on are probes. */
#define FIRST_PROBE (UINT64_C(1) << 40)

struct options {
	size_t n[8], sizes;
	size_t dim, runs, mates, approximate;
	float threshold, spread;
	const char *seeds, *kernel;
	bool faiss, growth;
};

/* One way to search, ready to run. */
struct way {
	const char *name;
	bool approximate;  /* or quantised: may miss */
	bool single;       /* gains nothing by batches, or loses */
	double bytes;      /* a vector, of what is always read; 0 where that has no meaning */
	struct peer *peer; /* or a method of ours */
	bool sgemm;
	enum method method;
};

struct bench {
	const struct options *options;
	struct set *set;
	struct team *team;
	unsigned threads;
	float *probes;             /* BATCH strangers */
	struct found truth[BATCH]; /* of the scan of float32 */
	double memory;             /* bytes a second */
	double faiss[2], scan[2];  /* seconds a query: single, batch */
	float *mates;              /* probes with a mate in the set */
	uint32_t *mate_rows;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(v[0]), compare);
	return v[n / 2];
}

/* Searches with m probes; ids and scores of the candidates at or above the threshold. */
static void run(struct bench *bench, const struct way *way, const float *probes, size_t m, size_t k,
		struct search *search, struct found *found)
{
	float scores[BATCH * SET_MAX_FOUND];
	int64_t ids[BATCH * SET_MAX_FOUND];

	if (way->peer == NULL) {
		*search = (struct search){.method = way->method,
					  .probes = probes,
					  .m = m,
					  .threshold = bench->options->threshold,
					  .k = k,
					  .found = found};
		team_search(bench->team, bench->set, search);
		return;
	}
	peer_use_sgemm(way->sgemm);
	peer_search(way->peer, probes, m, k, scores, ids);
	for (size_t p = 0; p < m; p++) {
		found[p].n = 0;
		for (size_t i = p * k; i < (p + 1) * k; i++)
			if (ids[i] >= 0 && scores[i] >= bench->options->threshold) {
				found[p].row[found[p].n] = (uint32_t)ids[i];
				found[p].score[found[p].n++] = scores[i];
			}
	}
}

/* Seconds a query, the median of some runs: fewer where one takes long. */
static double measure(struct bench *bench, const struct way *way, size_t m, struct search *search,
		      struct found *found)
{
	double times[MAX_RUNS], from = now();
	size_t runs = bench->options->runs, n = 0;

	run(bench, way, bench->probes, m, K, search, found);
	while (n < runs && (n < 3 || now() - from < 8)) {
		double start = now();

		run(bench, way, bench->probes, m, K, search, found);
		times[n++] = (now() - start) / (double)m;
	}
	return median(times, n);
}

static bool same_bits(const struct found *a, const struct found *b, size_t m)
{
	for (size_t p = 0; p < m; p++)
		if (a[p].n != b[p].n ||
		    memcmp(a[p].row, b[p].row, a[p].n * sizeof(a[p].row[0])) != 0 ||
		    memcmp(a[p].score, b[p].score, a[p].n * sizeof(a[p].score[0])) != 0)
			return false;
	return true;
}

static size_t count_missed(struct bench *bench, const struct way *way, size_t mates)
{
	struct found found[BATCH];
	struct search search;
	size_t missed = 0;

	for (size_t first = 0; first < mates; first += BATCH) {
		size_t m = mates - first < BATCH ? mates - first : BATCH;

		run(bench, way, bench->mates + first * bench->set->dim, m, SET_MAX_FOUND, &search,
		    found);
		for (size_t p = 0; p < m; p++) {
			bool hit = false;

			for (size_t i = 0; i < found[p].n; i++)
				hit |= found[p].row[i] == bench->mate_rows[first + p];
			missed += !hit;
		}
	}
	return missed;
}

static void print_head(const struct bench *bench)
{
	printf("\nN = %zu, d = %zu, %u thread%s, %s kernels; memory reads %.1f GB/s\n\n",
	       bench->set->n, bench->set->dim, bench->threads, bench->threads > 1 ? "s" : "",
	       score_kernel()->name, bench->memory * 1e-9);
	printf("| %-33s | batch | ms/query | x faiss | x scan | bytes | GB/s        | rows left   "
	       "| same "
	       "|\n",
	       "method");
	printf("|---|--:|--:|--:|--:|--:|--:|--:|---|\n");
}

/* How many times as fast; empty where there is nothing to compare with. */
static const char *ratio(double of, double seconds, char text[16])
{
	text[0] = '\0';
	if (!isnan(of))
		snprintf(text, 16, "%.1f", of / seconds);
	return text;
}

static void print_row(const struct bench *bench, const struct way *way, size_t m, double seconds,
		      const struct search *search, bool same)
{
	double read = way->bytes * (double)bench->set->n / ((double)m * seconds);
	const char *equal = way->peer != NULL ? "" : (same ? "yes" : "NO");
	bool batch = m > 1, codes = way->peer == NULL && way->method != METHOD_FLOAT;
	char left[32] = "", bytes[32] = "", share[32] = "", faiss[16], scan[16];

	if (codes)
		snprintf(left, sizeof(left), "%.0f, %.0f", (double)search->by_signs / (double)m,
			 (double)search->by_nibbles / (double)m);
	if (way->bytes > 0) {
		snprintf(bytes, sizeof(bytes), "%.0f", way->bytes);
		snprintf(share, sizeof(share), "%.1f (%.0f%%)", read * 1e-9,
			 100 * read / bench->memory);
	}
	printf("| %-33s | %5zu | %8.3f | %7s | %6s | %5s | %11s | %11s | %-4s |\n", way->name, m,
	       seconds * 1e3, ratio(bench->faiss[batch], seconds, faiss),
	       ratio(bench->scan[batch], seconds, scan), bytes, share, left, equal);
	fflush(stdout);
}

/* Ratios are to faiss at its best, so its rows come first. */
static void run_ways(struct bench *bench, const struct way *ways, size_t n)
{
	bench->memory = 0;
	for (int i = 0; i < 5; i++)
		bench->memory = fmax(bench->memory,
				     team_read(bench->team, bench->set->rows,
					       bench->set->n * bench->set->dim * sizeof(float)));
	print_head(bench);
	for (size_t m = 1; m <= BATCH; m += BATCH - 1) {
		double seconds[16];
		struct search search[16];
		bool same[16];

		bench->faiss[m > 1] = bench->scan[m > 1] = NAN;
		for (size_t i = 0; i < n; i++) {
			struct found found[BATCH];

			if (m > 1 && ways[i].single)
				continue;
			seconds[i] = measure(bench, &ways[i], m, &search[i], found);
			if (ways[i].peer != NULL && !ways[i].approximate)
				bench->faiss[m > 1] = fmin(bench->faiss[m > 1], seconds[i]);
			if (ways[i].peer == NULL && ways[i].method == METHOD_FLOAT) {
				bench->scan[m > 1] = seconds[i];
				memcpy(bench->truth, found, m * sizeof(found[0]));
			}
			same[i] = same_bits(found, bench->truth, m);
		}
		for (size_t i = 0; i < n; i++)
			if (m == 1 || !ways[i].single)
				print_row(bench, &ways[i], m, seconds[i], &search[i], same[i]);
	}
}

static void report_missed(struct bench *bench, const struct way *ways, size_t n)
{
	printf("\nMates planted at cosines from %.2f to 1, and missed:\n\n",
	       bench->options->threshold);
	for (size_t i = 0; i < n; i++) {
		size_t mates = bench->options->mates;

		if (ways[i].peer != NULL || ways[i].method == METHOD_FLOAT)
			mates = mates < 1000 ? mates : 1000;
		if (ways[i].single)
			mates = mates < 96 ? mates : 96;
		printf("| %-33s | %6zu | %4zu |\n", ways[i].name, mates,
		       count_missed(bench, &ways[i], mates));
		fflush(stdout);
	}
}

/* A probe whose score with the row is as near above the cosine as floats allow. */
static void plant(const struct set *set, size_t number, const float *row, float cosine, float *out)
{
	float other[CODE_MAX_DIM];
	double along = 0, rest = 0, c = (double)cosine;

	set_draw(set, 2 * FIRST_PROBE + number, other);
	for (size_t i = 0; i < set->dim; i++)
		along += (double)other[i] * (double)row[i];
	for (size_t i = 0; i < set->dim; i++) {
		other[i] -= (float)along * row[i];
		rest += (double)other[i] * (double)other[i];
	}
	do {
		for (size_t i = 0; i < set->dim; i++)
			out[i] = (float)(c * (double)row[i] +
					 sqrt((1 - c * c) / rest) * (double)other[i]);
		if (score_normalise(out, set->dim) != 0)
			abort();
		c = fmin(c + 1e-7, 1);
	} while (score_dot(out, row, set->dim) < cosine && c < 1);
}

/*
 * Half of the mates lie at the threshold, above it by what the rounding of another
 * order of summation may take; half evenly above it.
 */
static void make_probes(struct bench *bench)
{
	const struct set *set = bench->set;
	size_t mates = bench->options->mates;
	float t = bench->options->threshold;

	bench->probes = set_memory(BATCH * set->dim * sizeof(float));
	bench->mates = set_memory(mates * set->dim * sizeof(float) + 1);
	bench->mate_rows = set_memory(mates * sizeof(uint32_t) + 1);
	for (size_t i = 0; i < BATCH; i++)
		set_draw(set, FIRST_PROBE + i, bench->probes + i * set->dim);
	for (size_t i = 0; i < mates; i++) {
		size_t row = i * 2654435761u % set->n;
		float above = i % 2 == 0 ? 1e-5f : (float)i / (float)mates * (0.999f - t);

		bench->mate_rows[i] = (uint32_t)row;
		plant(set, i, set->rows + row * set->dim, t + above, bench->mates + i * set->dim);
	}
}

static void free_probes(struct bench *bench)
{
	size_t row = bench->set->dim * sizeof(float), mates = bench->options->mates;

	set_memory_free(bench->probes, BATCH * row);
	set_memory_free(bench->mates, mates * row + 1);
	set_memory_free(bench->mate_rows, mates * sizeof(uint32_t) + 1);
}

static void report_spread(const struct bench *bench)
{
	double sum = 0, squares = 0, n = 0;

	for (size_t row = 0; row < bench->set->n; row += 37)
		for (size_t p = 0; p < BATCH; p++) {
			double s = (double)score_dot(bench->probes + p * bench->set->dim,
						     bench->set->rows + row * bench->set->dim,
						     bench->set->dim);

			sum += s;
			squares += s * s;
			n++;
		}
	printf("\nScores of strangers: mean %.4f, standard deviation %.4f\n", sum / n,
	       sqrt(squares / n - sum / n * sum / n));
}

#define FAISS_WAYS       6
#define FAISS_EXHAUSTIVE 4

/* Bytes are of an element here. */
static const struct way faiss_ways[FAISS_WAYS] = {
	{.name = "faiss IndexFlatIP, its own loops", .single = true, .bytes = 4},
	{.name = "faiss IndexFlatIP, sgemm", .sgemm = true, .bytes = 4},
	{.name = "faiss IndexScalarQuantizer fp16",
	 .approximate = true,
	 .single = true,
	 .bytes = 2},
	{.name = "faiss IndexScalarQuantizer 8 bit",
	 .approximate = true,
	 .single = true,
	 .bytes = 1},
	{.name = "faiss IVF256,Flat, nprobe 16", .approximate = true},
	{.name = "faiss HNSW32, efSearch 128", .approximate = true},
};

static const enum peer_kind faiss_kinds[FAISS_WAYS] = {PEER_FLAT, PEER_FLAT, PEER_FP16,
						       PEER_SQ8,  PEER_IVF,  PEER_HNSW};

static size_t list_ways(struct bench *bench, struct way *ways, struct peer **peers)
{
	const struct set *set = bench->set;
	double dim = (double)set->dim, n = (double)set->n;
	size_t count = 0;

	if (bench->options->faiss) {
		bool small = set->n <= bench->options->approximate;

		for (int kind = PEER_FLAT; kind <= (small ? PEER_HNSW : PEER_FP16); kind++)
			peers[kind] = peer_new((enum peer_kind)kind, set->rows, set->n, set->dim);
		memcpy(ways, faiss_ways, sizeof(faiss_ways));
		count = small ? FAISS_WAYS : FAISS_EXHAUSTIVE;
		for (size_t i = 0; i < count; i++) {
			ways[i].peer = peers[faiss_kinds[i]];
			ways[i].bytes *= dim;
		}
	}
	ways[count++] =
		(struct way){.name = "float32 scan", .bytes = 4 * dim, .method = METHOD_FLOAT};
	ways[count++] = (struct way){.name = "certified",
				     .bytes = (double)set_bytes_nibbles(set) / n,
				     .method = METHOD_CERTIFIED};
	ways[count++] = (struct way){
		.name = "fast", .bytes = (double)set_bytes_signs(set) / n, .method = METHOD_FAST};
	return count;
}

static void bench_size(const struct options *options, const struct seeds *seeds, size_t n)
{
	struct set set = {.dim = options->dim, .seeds = seeds, .spread = options->spread};
	struct bench bench = {.options = options, .set = &set};
	struct peer *peers[PEER_HNSW + 1] = {0};
	struct way ways[16];
	size_t count;

	set_make(&set, n, NULL);
	make_probes(&bench);
	report_spread(&bench);
	count = list_ways(&bench, ways, peers);
	for (bench.threads = 1; bench.threads <= 2; bench.threads++) {
		bench.team = team_new(bench.threads);
		peer_use_threads(bench.threads);
		run_ways(&bench, ways, count);
		if (bench.threads == 2)
			report_missed(&bench, ways, count);
		team_free(bench.team);
	}
	for (size_t i = 0; i <= PEER_HNSW; i++)
		peer_free(peers[i]);
	free_probes(&bench);
	set_free(&set);
}

/* What a query costs as the gallery grows: codes alone are kept, so that ten million fit. */
static void grow(const struct options *options, const struct seeds *seeds, size_t n,
		 double first[2][2])
{
	static const struct way ways[2] = {{.name = "certified", .method = METHOD_CERTIFIED},
					   {.name = "fast", .method = METHOD_FAST}};
	struct set set = {
		.dim = options->dim, .seeds = seeds, .spread = options->spread, .lean = true};
	struct bench bench = {.options = options, .set = &set};
	struct search search = {.m = BATCH, .threshold = options->threshold, .k = K};

	bench.probes = set_memory(BATCH * set.dim * sizeof(float));
	for (size_t i = 0; i < BATCH; i++)
		set_draw(&set, FIRST_PROBE + i, bench.probes + i * set.dim);
	search.probes = bench.probes;
	search.found = bench.truth;
	set_make(&set, n, &search);
	for (bench.threads = 1; bench.threads <= 2; bench.threads++) {
		bench.team = team_new(bench.threads);
		for (size_t w = 0; w < 2; w++) {
			struct found found[BATCH];
			double seconds = measure(&bench, &ways[w], 1, &search, found);
			double cost = seconds / (double)n;
			bool same = same_bits(found, bench.truth, 1);

			if (first[bench.threads - 1][w] == 0)
				first[bench.threads - 1][w] = cost;
			printf("| %8zu | %u | %-9s | %8.3f | %8.3f | %5.2f | %8.0f | %-4s |\n", n,
			       bench.threads, ways[w].name, seconds * 1e3, cost * 1e9,
			       cost / first[bench.threads - 1][w], (double)search.by_nibbles,
			       same ? "yes" : "NO");
			fflush(stdout);
		}
		team_free(bench.team);
	}
	set_memory_free(bench.probes, BATCH * set.dim * sizeof(float));
	set_free(&set);
}

static void bench_growth(const struct options *options, const struct seeds *seeds)
{
	double first[2][2] = {{0}};

	printf("\n| N | threads | method | ms/query | ms a million | to the first | rows scored | "
	       "same |\n"
	       "|--:|--:|---|--:|--:|--:|--:|---|\n");
	for (size_t i = 0; i < options->sizes; i++)
		grow(options, seeds, options->n[i], first);
}

static void parse_sizes(struct options *options, char *list)
{
	options->sizes = 0;
	for (char *word = strtok(list, ","); word != NULL && options->sizes < 8;
	     word = strtok(NULL, ","))
		options->n[options->sizes++] = strtoul(word, NULL, 10);
}

static void usage(void)
{
	fputs("usage: identify [-n rows,...] [-d dim] [-t threshold] [-s spread] [-e embeddings]\n"
	      "                [-r runs] [-m mates] [-a rows] [-k kernel] [-g] [-x]\n"
	      "  -d  a power of two, 16..1024\n"
	      "  -e  file of float32 embeddings to draw from, dim each\n"
	      "  -a  largest gallery that IVF and HNSW are built for\n"
	      "  -g  only how the cost of a query grows with the gallery\n"
	      "  -x  without faiss\n",
	      stderr);
	exit(2);
}

static void parse(struct options *options, int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "n:d:t:s:e:r:m:a:k:gx")) != -1) {
		switch (option) {
		case 'n':
			parse_sizes(options, optarg);
			break;
		case 'd':
			options->dim = strtoul(optarg, NULL, 10);
			break;
		case 't':
			options->threshold = strtof(optarg, NULL);
			break;
		case 's':
			options->spread = strtof(optarg, NULL);
			break;
		case 'e':
			options->seeds = optarg;
			break;
		case 'r':
			options->runs = strtoul(optarg, NULL, 10);
			break;
		case 'm':
			options->mates = strtoul(optarg, NULL, 10);
			break;
		case 'a':
			options->approximate = strtoul(optarg, NULL, 10);
			break;
		case 'k':
			options->kernel = optarg;
			break;
		case 'g':
			options->growth = true;
			break;
		case 'x':
			options->faiss = false;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || options->sizes == 0 || options->runs == 0 ||
	    options->runs > MAX_RUNS || options->dim < 16 || options->dim > CODE_MAX_DIM ||
	    (options->dim & (options->dim - 1)) != 0)
		usage();
}

int main(int argc, char **argv)
{
	struct options options = {.n = {100000, 1000000},
				  .sizes = 2,
				  .dim = 512,
				  .runs = 21,
				  .mates = 10000,
				  .approximate = 100000,
				  .threshold = 0.4f,
				  .spread = SET_SPREAD,
				  .faiss = true};
	struct seeds seeds = {0};

	parse(&options, argc, argv);
	if (score_init(options.kernel) != 0) {
		fputs("bench: that kernel does not run here\n", stderr);
		return 1;
	}
	if (options.seeds != NULL)
		seeds_read(&seeds, options.seeds, options.dim);
	printf("Threshold %.2f, %d best, median of %zu runs.\n", options.threshold, K,
	       options.runs);
	if (options.growth)
		bench_growth(&options, options.seeds == NULL ? NULL : &seeds);
	for (size_t i = 0; !options.growth && i < options.sizes; i++)
		bench_size(&options, options.seeds == NULL ? NULL : &seeds, options.n[i]);
	seeds_free(&seeds, options.dim);
	return 0;
}
