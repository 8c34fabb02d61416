#include "biomatch/quality.h"

#include <assert.h>
#include <ctype.h>

static const struct {
	const char *name;
	bool counts;
} components[QUALITY_COMPONENTS] = {
#define COMPONENT(symbol, counts) {#symbol, counts},
	QUALITY_COMPONENTS_LIST(COMPONENT)
#undef COMPONENT
};

const struct quality quality_portrait = {{
	[QUALITY_INTER_EYE_DISTANCE] = 100, /* 90 pixels */
	[QUALITY_SHARPNESS] = 50,
	[QUALITY_UNDER_EXPOSURE] = 70,
	[QUALITY_OVER_EXPOSURE] = 90,
	[QUALITY_DYNAMIC_RANGE] = 70,
	[QUALITY_ILLUMINATION_UNIFORMITY] = 70,
	[QUALITY_POSE_YAW] = 97,  /* 10 degrees; of the 5 allowed the points cannot be sure */
	[QUALITY_POSE_ROLL] = 98, /* 8 degrees */
	[QUALITY_MOUTH_CLOSED] = 70,
	[QUALITY_HEAD_SIZE] = 95,
	[QUALITY_HEAD_POSITION] = 90,
	[QUALITY_MARGIN_LEFT] = 100,
	[QUALITY_MARGIN_RIGHT] = 100,
	[QUALITY_MARGIN_ABOVE] = 100,
	[QUALITY_MARGIN_BELOW] = 100,
	[QUALITY_BACKGROUND_UNIFORMITY] = 60,
	[QUALITY_NATURAL_COLOUR] = 60,
	[QUALITY_COMPRESSION] = 50,
	[QUALITY_EYES_VISIBLE] = 25,
}};

uint8_t quality_overall(const struct quality *has)
{
	uint8_t least = QUALITY_UNKNOWN;

	for (int i = 0; i < QUALITY_COMPONENTS; i++) {
		if (components[i].counts && has->value[i] < least)
			least = has->value[i];
	}
	return least;
}

const char *quality_component_name(enum quality_component component)
{
	assert(component < QUALITY_COMPONENTS);
	return components[component].name;
}

static bool is_lower_of(const char *name, const char *upper)
{
	while (*upper && *name == tolower((unsigned char)*upper)) {
		name++;
		upper++;
	}
	return !*upper && !*name;
}

int quality_component_parse(const char *name, enum quality_component *out)
{
	for (int i = 0; i < QUALITY_COMPONENTS; i++) {
		if (is_lower_of(name, components[i].name)) {
			*out = (enum quality_component)i;
			return 0;
		}
	}
	return BM_EINVAL;
}

bool quality_is_asked(const struct quality *asked)
{
	for (int i = 0; i < QUALITY_COMPONENTS; i++) {
		if (asked->value[i])
			return true;
	}
	return false;
}

int quality_shortfall(const struct quality *has, const struct quality *asked,
		      enum quality_component component)
{
	uint8_t value = has->value[component];

	if (value != QUALITY_UNKNOWN)
		return asked->value[component] - value;
	return has->value[QUALITY_OVERALL] == QUALITY_UNKNOWN ? asked->value[component] : 0;
}

bool quality_falls_short(const struct quality *has, const struct quality *asked)
{
	for (int i = 0; i < QUALITY_COMPONENTS; i++) {
		if (quality_shortfall(has, asked, (enum quality_component)i) > 0)
			return true;
	}
	return false;
}
