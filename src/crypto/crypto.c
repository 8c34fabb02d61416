#include "biomatch/crypto.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <stdlib.h>

static _Thread_local bool ran_out;

static void *take(size_t size, const char *file, int line)
{
	void *p = size ? malloc(size) : NULL;

	(void)file, (void)line;
	ran_out = ran_out || (size && !p);
	return p;
}

static void give(void *p, const char *file, int line)
{
	(void)file, (void)line;
	free(p);
}

static void *retake(void *p, size_t size, const char *file, int line)
{
	void *larger;

	if (!size) {
		give(p, file, line);
		return NULL;
	}
	larger = realloc(p, size);
	ran_out = ran_out || !larger;
	return larger;
}

void crypto_init(void)
{
	int taken = CRYPTO_set_mem_functions(take, retake, give);

	assert(taken);
	(void)taken;
}

bool crypto_ran_out(void)
{
	bool told = ran_out;

	ran_out = false;
	return told;
}
