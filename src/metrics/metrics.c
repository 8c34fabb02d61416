#include "biomatch/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "biomatch/clock.h"
#include "family.h"

/* A histogram's cells: its buckets, the one without bound, and the sum in nanoseconds. */
#define HISTOGRAM_CELLS (METRICS_BOUNDS + 2)
#define SUM_CELL        (METRICS_BOUNDS + 1)

/* A proportion's cells; expected hits are counted in units of EXPECTED. */
enum { TRIALS_CELL, HITS_CELL, EXPECTED_CELL, PROPORTION_CELLS };
#define EXPECTED 1e-12

/* Room for the labels of one series as Prometheus writes them, every byte escaped. */
#define LABELS_LEN (METRICS_MAX_LABELS * (2 * METRICS_LABEL_MAX + 32))

/* One combination of labels. Made once, never changed. */
struct series {
	uint64_t hash;
	char labels[]; /* name="value",... */
};

typedef _Atomic(struct series *) series_slot;

/* One thread's cells. Only it writes them. */
struct shard {
	struct shard *next;
	_Atomic uint64_t cells[];
};

struct metrics {
	pthread_key_t mine; /* the thread's shard */
	_Atomic(struct shard *) shards;
	size_t n_cells;
	struct {
		size_t first_cell;
		series_slot *slots; /* max_series by hash, then the one of the others */
	} families[METRICS_FAMILIES];
};

static size_t cells_of(enum metrics_id id)
{
	switch (metrics_families[id].kind) {
	case METRICS_HISTOGRAM:
		return HISTOGRAM_CELLS;
	case METRICS_PROPORTION:
		return PROPORTION_CELLS;
	default:
		return 1;
	}
}

int metrics_open(struct metrics **out)
{
	struct metrics *metrics = calloc(1, sizeof(*metrics));

	if (!metrics)
		return BM_ENOMEM;
	if (pthread_key_create(&metrics->mine, NULL)) {
		free(metrics);
		return BM_ENOMEM;
	}
	for (int id = 0; id < METRICS_FAMILIES; id++) {
		size_t n = metrics_families[id].max_series + 1u;

		metrics->families[id].first_cell = metrics->n_cells;
		metrics->families[id].slots = calloc(n, sizeof(series_slot));
		metrics->n_cells += n * cells_of((enum metrics_id)id);
		if (!metrics->families[id].slots) {
			metrics_close(metrics);
			return BM_ENOMEM;
		}
	}
	*out = metrics;
	return 0;
}

void metrics_close(struct metrics *metrics)
{
	struct shard *shard = atomic_load(&metrics->shards);

	while (shard) {
		struct shard *next = shard->next;

		free(shard);
		shard = next;
	}
	for (int id = 0; id < METRICS_FAMILIES; id++) {
		for (size_t i = 0;
		     metrics->families[id].slots && i <= metrics_families[id].max_series; i++)
			free(atomic_load(&metrics->families[id].slots[i]));
		free(metrics->families[id].slots);
	}
	pthread_key_delete(metrics->mine);
	free(metrics);
}

/* The calling thread's cells, made at its first count; they outlive it. */
static struct shard *shard_of_thread(struct metrics *metrics)
{
	struct shard *shard = pthread_getspecific(metrics->mine);

	if (shard)
		return shard;
	shard = calloc(1, sizeof(*shard) + metrics->n_cells * sizeof(shard->cells[0]));
	if (!shard || pthread_setspecific(metrics->mine, shard)) {
		free(shard);
		return NULL;
	}
	shard->next = atomic_load(&metrics->shards);
	while (!atomic_compare_exchange_weak(&metrics->shards, &shard->next, shard))
		;
	return shard;
}

static void bump(_Atomic uint64_t *cell, uint64_t n)
{
	uint64_t was = atomic_load_explicit(cell, memory_order_relaxed);

	atomic_store_explicit(cell, was + n, memory_order_relaxed);
}

/* One pair as Prometheus reads it; gives the end. */
static char *put_label(char *at, const char *name, const char *value)
{
	at = stpcpy(at, name);
	at = stpcpy(at, "=\"");
	for (size_t i = 0; i < METRICS_LABEL_MAX && value[i]; i++) {
		if (value[i] == '\\' || value[i] == '"' || value[i] == '\n')
			*at++ = '\\';
		*at++ = value[i] == '\n' ? 'n' : value[i];
	}
	return stpcpy(at, "\"");
}

/* The labels of a family as text; NULL values stand for the series of the others. */
static size_t put_labels(enum metrics_id id, const char *const *values, char out[LABELS_LEN])
{
	char *at = out;

	for (int i = 0; i < METRICS_MAX_LABELS && metrics_families[id].labels[i]; i++) {
		if (i)
			*at++ = ',';
		at = put_label(at, metrics_families[id].labels[i], values ? values[i] : "other");
	}
	return (size_t)(at - out);
}

static bool is_series(const struct series *series, uint64_t hash, const char *labels)
{
	return series->hash == hash && !strcmp(series->labels, labels);
}

/* What stands in the slot, put there now where it was empty; NULL when memory is out. */
static const struct series *fill_slot(series_slot *slot, uint64_t hash, const char *labels,
				      size_t len)
{
	struct series *there = NULL, *fresh = malloc(sizeof(*fresh) + len + 1);

	if (!fresh)
		return NULL;
	fresh->hash = hash;
	memcpy(fresh->labels, labels, len + 1);
	if (atomic_compare_exchange_strong(slot, &there, fresh))
		return fresh;
	free(fresh);
	return there;
}

/* The number of the series among its family's; the last for those that found no room. */
static size_t find_series(struct metrics *metrics, enum metrics_id id, const char *const *values)
{
	series_slot *slots = metrics->families[id].slots;
	size_t max = metrics_families[id].max_series;
	char labels[LABELS_LEN];
	size_t len = put_labels(id, values, labels);
	uint64_t hash = bytes_checksum(labels, len);

	for (size_t i = 0; i < max; i++) {
		size_t at = (hash + i) % max;
		const struct series *series =
			atomic_load_explicit(&slots[at], memory_order_acquire);

		if (!series)
			series = fill_slot(&slots[at], hash, labels, len);
		if (series && is_series(series, hash, labels))
			return at;
	}
	if (!atomic_load_explicit(&slots[max], memory_order_acquire)) {
		len = put_labels(id, NULL, labels);
		(void)fill_slot(&slots[max], 0, labels, len);
	}
	return max;
}

static size_t cell_of(const struct metrics *metrics, enum metrics_id id, size_t series)
{
	return metrics->families[id].first_cell + series * cells_of(id);
}

void metrics_add(struct metrics *metrics, enum metrics_id id, const char *const *labels, uint64_t n)
{
	struct shard *shard = shard_of_thread(metrics);

	if (shard)
		bump(&shard->cells[cell_of(metrics, id, find_series(metrics, id, labels))], n);
}

void metrics_move(struct metrics *metrics, enum metrics_id id, const char *const *labels,
		  int64_t by)
{
	/* What one thread adds another may take away: the cells' sum wraps around to the level. */
	metrics_add(metrics, id, labels, (uint64_t)by);
}

void metrics_note_time(struct metrics *metrics, enum metrics_id id, const char *const *labels)
{
	struct shard *shard = shard_of_thread(metrics);

	if (shard)
		atomic_store_explicit(
			&shard->cells[cell_of(metrics, id, find_series(metrics, id, labels))],
			(uint64_t)clock_wall_ms(), memory_order_relaxed);
}

void metrics_observe(struct metrics *metrics, enum metrics_id id, const char *const *labels,
		     int64_t ns)
{
	struct shard *shard = shard_of_thread(metrics);
	size_t bucket = 0;
	_Atomic uint64_t *cells;

	if (!shard)
		return;
	while (bucket < METRICS_BOUNDS && ns > metrics_bounds[bucket])
		bucket++;
	cells = &shard->cells[cell_of(metrics, id, find_series(metrics, id, labels))];
	bump(&cells[bucket], 1);
	bump(&cells[SUM_CELL], (uint64_t)ns);
}

void metrics_add_trials(struct metrics *metrics, enum metrics_id id, const char *const *labels,
			uint64_t trials, uint64_t hits, double probability)
{
	struct shard *shard = shard_of_thread(metrics);
	_Atomic uint64_t *cells;

	if (!shard)
		return;
	cells = &shard->cells[cell_of(metrics, id, find_series(metrics, id, labels))];
	bump(&cells[TRIALS_CELL], trials);
	bump(&cells[HITS_CELL], hits);
	bump(&cells[EXPECTED_CELL], (uint64_t)((double)trials * probability / EXPECTED));
}

static uint64_t read_cell(struct metrics *metrics, size_t cell)
{
	uint64_t sum = 0;

	for (struct shard *s = atomic_load(&metrics->shards); s; s = s->next)
		sum += atomic_load_explicit(&s->cells[cell], memory_order_relaxed);
	return sum;
}

static uint64_t read_latest(struct metrics *metrics, size_t cell)
{
	uint64_t latest = 0;

	for (struct shard *s = atomic_load(&metrics->shards); s; s = s->next) {
		uint64_t ms = atomic_load_explicit(&s->cells[cell], memory_order_relaxed);

		latest = ms > latest ? ms : latest;
	}
	return latest;
}

static void write_counter(FILE *out, const char *name, const char *labels, uint64_t value)
{
	fprintf(out, "%s{%s} %llu\n", name, labels, (unsigned long long)value);
}

static void write_histogram(struct metrics *metrics, FILE *out, const char *name,
			    const char *labels, size_t cell)
{
	uint64_t count = 0;

	for (size_t i = 0; i < METRICS_BOUNDS; i++) {
		count += read_cell(metrics, cell + i);
		fprintf(out, "%s_bucket{%s,le=\"%g\"} %llu\n", name, labels,
			(double)metrics_bounds[i] / CLOCK_NS_PER_SEC, (unsigned long long)count);
	}
	count += read_cell(metrics, cell + METRICS_BOUNDS);
	fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %llu\n", name, labels, (unsigned long long)count);
	fprintf(out, "%s_sum{%s} %.9f\n", name, labels,
		(double)read_cell(metrics, cell + SUM_CELL) / CLOCK_NS_PER_SEC);
	fprintf(out, "%s_count{%s} %llu\n", name, labels, (unsigned long long)count);
}

/*
 * Wilson's score interval at 95 % (Wilson 1927), which holds for no hits too:
 * then its upper end is 3.84 / (n + 3.84). Trials are taken as independent.
 */
static void write_bounds(FILE *out, const char *name, const char *labels, double n, double hits)
{
	static const double z2 = 1.959964 * 1.959964;
	double p = hits / n, middle = (p + z2 / (2 * n)) / (1 + z2 / n);
	double half = sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n);
	const struct {
		const char *name;
		double value;
	} bounds[] = {
		{"lower", hits > 0 ? middle - half : 0},
		{"estimate", p},
		{"upper", hits < n ? middle + half : 1},
	};

	for (int i = 0; i < 3; i++)
		fprintf(out, "%s{%s,bound=\"%s\"} %.9g\n", name, labels, bounds[i].name,
			bounds[i].value);
}

/* One series of a family as each family that Prometheus sees tells it. */
struct view {
	const char *suffix, *type, *help;
	void (*write)(struct metrics *metrics, FILE *out, const char *name, const char *labels,
		      size_t cell);
};

static void view_value(struct metrics *metrics, FILE *out, const char *name, const char *labels,
		       size_t cell)
{
	write_counter(out, name, labels, read_cell(metrics, cell));
}

static void view_level(struct metrics *metrics, FILE *out, const char *name, const char *labels,
		       size_t cell)
{
	fprintf(out, "%s{%s} %lld\n", name, labels, (long long)read_cell(metrics, cell));
}

static void view_time(struct metrics *metrics, FILE *out, const char *name, const char *labels,
		      size_t cell)
{
	fprintf(out, "%s{%s} %.3f\n", name, labels, (double)read_latest(metrics, cell) / 1000);
}

static void view_hits(struct metrics *metrics, FILE *out, const char *name, const char *labels,
		      size_t cell)
{
	write_counter(out, name, labels, read_cell(metrics, cell + HITS_CELL));
}

static void view_expected(struct metrics *metrics, FILE *out, const char *name, const char *labels,
			  size_t cell)
{
	fprintf(out, "%s{%s} %.9g\n", name, labels,
		(double)read_cell(metrics, cell + EXPECTED_CELL) * EXPECTED);
}

static void view_bounds(struct metrics *metrics, FILE *out, const char *name, const char *labels,
			size_t cell)
{
	double n = (double)read_cell(metrics, cell + TRIALS_CELL);

	if (n > 0)
		write_bounds(out, name, labels, n, (double)read_cell(metrics, cell + HITS_CELL));
}

/* Those of each kind; the one without suffix is the last. */
static const struct view views[][4] = {
	[METRICS_COUNTER] = {{"", "counter", ".", view_value}},
	[METRICS_LEVEL] = {{"", "gauge", ".", view_level}},
	[METRICS_TIME] = {{"", "gauge", ".", view_time}},
	[METRICS_HISTOGRAM] = {{"", "histogram", ".", write_histogram}},
	[METRICS_PROPORTION] = {{"_trials_total", "counter", ": trials.", view_value},
				{"_hits_total", "counter", ": hits.", view_hits},
				{"_expected_total", "counter",
				 ": hits to be expected at the targets in force.", view_expected},
				{"", "gauge",
				 ", since the start, with the bounds of 95 % confidence.",
				 view_bounds}},
};

static void write_view(struct metrics *metrics, FILE *out, enum metrics_id id,
		       const struct view *view)
{
	const struct metrics_family *family = &metrics_families[id];
	char name[96], help[256];

	snprintf(name, sizeof(name), "%s%s", family->name, view->suffix);
	snprintf(help, sizeof(help), "%s%s", family->help, view->help);
	metrics_write_head(out, name, view->type, help);
	for (size_t i = 0; i <= family->max_series; i++) {
		const struct series *series =
			atomic_load_explicit(&metrics->families[id].slots[i], memory_order_acquire);

		if (series)
			view->write(metrics, out, name, series->labels, cell_of(metrics, id, i));
	}
}

static void write_family(struct metrics *metrics, FILE *out, enum metrics_id id)
{
	for (const struct view *view = views[metrics_families[id].kind];; view++) {
		write_view(metrics, out, id, view);
		if (!*view->suffix)
			return;
	}
}

void metrics_write(struct metrics *metrics, FILE *out)
{
	for (int id = 0; id < METRICS_FAMILIES; id++)
		write_family(metrics, out, (enum metrics_id)id);
}

void metrics_write_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_write_sample(FILE *out, const char *name, const char *const *labels, double value)
{
	char text[2 * METRICS_LABEL_MAX + 64];

	fputs(name, out);
	for (size_t i = 0; labels && labels[i]; i += 2) {
		put_label(text, labels[i], labels[i + 1]);
		fprintf(out, "%c%s", i ? ',' : '{', text);
	}
	fprintf(out, labels && labels[0] ? "} %.17g\n" : " %.17g\n", value);
}
