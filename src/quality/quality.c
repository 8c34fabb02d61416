#include "biomatch/quality.h"

static const uint8_t counts[QUALITY_COMPONENTS] = {
#define COUNTS(symbol, counts) counts,
	QUALITY_COMPONENTS_LIST(COUNTS)
#undef COUNTS
};

uint8_t quality_overall(const struct quality *has)
{
	uint8_t least = QUALITY_UNKNOWN;

	for (int i = 0; i < QUALITY_COMPONENTS; i++) {
		if (counts[i] && has->value[i] < least)
			least = has->value[i];
	}
	return least;
}
