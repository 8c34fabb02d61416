/*
 * The quality of a face picture: which components are judged, and what is asked
 * of them. Names and meanings follow ISO/IEC 29794-5; the measures are our own (docs/quality.md).
 *
 * A component is 0 to 100, more is better, or QUALITY_UNKNOWN where it could not
 * be judged.
 *
 * Thread: any.  Errors: BM_EINVAL for a name that is none.  Owns: nothing.
 */
#ifndef BIOMATCH_QUALITY_H
#define BIOMATCH_QUALITY_H

#include <stdbool.h>
#include <stdint.h>

#include "biomatch/error.h"

#define QUALITY_MAX     100
#define QUALITY_UNKNOWN 255

/* X(symbol, counts). Those that count are what a comparison depends on. */
#define QUALITY_COMPONENTS_LIST(X)                                                                 \
	X(OVERALL, 0)                                                                              \
	X(INTER_EYE_DISTANCE, 1)                                                                   \
	X(SHARPNESS, 1)                                                                            \
	X(UNDER_EXPOSURE, 1)                                                                       \
	X(OVER_EXPOSURE, 1)                                                                        \
	X(DYNAMIC_RANGE, 1)                                                                        \
	X(ILLUMINATION_UNIFORMITY, 1)                                                              \
	X(POSE_YAW, 1)                                                                             \
	X(POSE_ROLL, 1)                                                                            \
	X(MOUTH_CLOSED, 0)                                                                         \
	X(HEAD_SIZE, 0)                                                                            \
	X(HEAD_POSITION, 0)                                                                        \
	X(MARGIN_LEFT, 0)                                                                          \
	X(MARGIN_RIGHT, 0)                                                                         \
	X(MARGIN_ABOVE, 0)                                                                         \
	X(MARGIN_BELOW, 0)                                                                         \
	X(BACKGROUND_UNIFORMITY, 0)                                                                \
	X(NATURAL_COLOUR, 0)                                                                       \
	X(COMPRESSION, 1)                                                                          \
	X(EYES_VISIBLE, 0)                                                                         \
	X(MOUTH_VISIBLE, 0)

enum quality_component {
#define QUALITY_SYMBOL(symbol, counts) QUALITY_##symbol,
	QUALITY_COMPONENTS_LIST(QUALITY_SYMBOL)
#undef QUALITY_SYMBOL
		QUALITY_COMPONENTS
};

/* What a picture has, or the least that is asked of one, 0 for nothing. */
struct quality {
	uint8_t value[QUALITY_COMPONENTS];
};

#ifdef __cplusplus
extern "C" {
#endif

/* The least of the components that count; QUALITY_UNKNOWN where none is known. */
uint8_t quality_overall(const struct quality *has);

/* "SHARPNESS" */
const char *quality_component_name(enum quality_component component);
/* The component of a name in lower case, "sharpness". */
int quality_component_parse(const char *name, enum quality_component *out) BM_MUST_CHECK;

/* True where anything is asked. */
bool quality_is_asked(const struct quality *asked);
/*
 * By how much a component misses what is asked of it, 0 or less where it is met.
 * What could not be judged misses nothing, unless nothing could be.
 */
int quality_shortfall(const struct quality *has, const struct quality *asked,
		      enum quality_component component);
/* True where some component misses. */
bool quality_falls_short(const struct quality *has, const struct quality *asked);

/* What a passport photograph needs: ICAO 9303-3, ISO/IEC 39794-5 annex D; docs/quality.md. */
extern const struct quality quality_portrait;

#ifdef __cplusplus
}
#endif

#endif
