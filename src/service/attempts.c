#include "attempts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "biomatch/clock.h"

/* 65,536 counts in 3 MiB; those whose names agree in SET_BITS compete for WAYS places. */
#define SET_BITS 13
#define WAYS     8

struct count {
	uint8_t name[KEYS_PSEUDONYM_LEN];
	int64_t ends_ns; /* of its window; free from then on */
	unsigned taken;
	unsigned inherited; /* of them, what the place held when it was taken over */
};

struct attempts {
	pthread_mutex_t lock;
	struct count sets[1u << SET_BITS][WAYS];
};

int attempts_open(struct attempts **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return BM_ENOMEM;
	pthread_mutex_init(&(*out)->lock, NULL);
	return 0;
}

void attempts_close(struct attempts *attempts)
{
	if (!attempts)
		return;
	pthread_mutex_destroy(&attempts->lock);
	free(attempts);
}

/* A name is an HMAC, whose first bytes nobody outside can choose. */
static struct count *set_of(struct attempts *attempts, const uint8_t *name)
{
	uint16_t first;

	memcpy(&first, name, sizeof(first));
	return attempts->sets[first & ((1u << SET_BITS) - 1)];
}

static struct count *find(struct attempts *attempts, const uint8_t *name)
{
	struct count *set = set_of(attempts, name);

	for (int i = 0; i < WAYS; i++) {
		if (!memcmp(set[i].name, name, KEYS_PSEUDONYM_LEN))
			return &set[i];
	}
	return NULL;
}

/* The place of a new count: one that is free, else the one with the fewest taken. */
static struct count *make_room(struct attempts *attempts, const uint8_t *name, int64_t now_ns)
{
	struct count *set = set_of(attempts, name), *least = set;

	for (int i = 0; i < WAYS; i++) {
		if (set[i].ends_ns <= now_ns)
			return &set[i];
		if (set[i].taken < least->taken)
			least = &set[i];
	}
	return least;
}

static void begin(struct count *count, const uint8_t *name, uint64_t window_ms, int64_t now_ns)
{
	int64_t ends_ns = now_ns + (int64_t)window_ms * CLOCK_NS_PER_MS;

	if (count->ends_ns <= now_ns) {
		count->taken = 0;
		count->ends_ns = now_ns;
	}
	count->inherited = count->taken;
	if (count->ends_ns < ends_ns)
		count->ends_ns = ends_ns;
	memcpy(count->name, name, KEYS_PSEUDONYM_LEN);
}

static uint32_t left_ms(const struct count *count, int64_t now_ns)
{
	int64_t ms = (count->ends_ns - now_ns - 1) / CLOCK_NS_PER_MS + 1;

	return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

uint32_t attempts_take(struct attempts *attempts, const uint8_t name[KEYS_PSEUDONYM_LEN],
		       unsigned limit, uint64_t window_ms, int64_t now_ns)
{
	struct count *count;
	uint32_t wait = 0;

	pthread_mutex_lock(&attempts->lock);
	count = find(attempts, name);
	if (!count || count->ends_ns <= now_ns) {
		if (!count)
			count = make_room(attempts, name, now_ns);
		begin(count, name, window_ms, now_ns);
	}
	if (count->taken < limit)
		count->taken++;
	else
		wait = left_ms(count, now_ns);
	pthread_mutex_unlock(&attempts->lock);
	return wait;
}

void attempts_return(struct attempts *attempts, const uint8_t name[KEYS_PSEUDONYM_LEN])
{
	struct count *count;

	pthread_mutex_lock(&attempts->lock);
	count = find(attempts, name);
	if (count && count->taken > count->inherited)
		count->taken--;
	pthread_mutex_unlock(&attempts->lock);
}

void attempts_clear(struct attempts *attempts, const uint8_t name[KEYS_PSEUDONYM_LEN])
{
	struct count *count;

	pthread_mutex_lock(&attempts->lock);
	count = find(attempts, name);
	if (count)
		count->taken = count->inherited;
	pthread_mutex_unlock(&attempts->lock);
}
