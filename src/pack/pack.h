/* Shared inside the module: a pack while its manifest is read. */
#ifndef PACK_PACK_H
#define PACK_PACK_H

#include "biomatch/arena.h"
#include "biomatch/pack.h"
#include "biomatch/yaml.h"

/* What pack_open gives out is the first member. */
struct pack_open {
	struct pack pack;
	struct yaml_tree *tree; /* holds the strings */
	struct arena arena;     /* holds the paths */
	char *dir;              /* without a link in it */
	char *message;          /* of the caller, while the pack is being opened */
};

/* Fills the pack from its tree. The message is written on failure. */
int pack_load_manifest(struct pack_open *open) BM_MUST_CHECK;
/* Computes the pack's digest and, with verify, compares every model's file. */
int pack_check_models(struct pack_open *open, bool verify) BM_MUST_CHECK;

#endif
