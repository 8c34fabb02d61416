#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "calibrate.h"

static bool is_picture(const char *name)
{
	static const char *const endings[] = {".jpg", ".jpeg", ".png", ".jp2"};
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && i < sizeof(endings) / sizeof(endings[0]); i++) {
		if (!strcasecmp(dot, endings[i]))
			return true;
	}
	return false;
}

/* Labels come in order: directories are walked sorted, and so are the names of files. */
static int find_label(struct pictures *p, const char *label, uint32_t *out)
{
	char **grown;

	for (size_t i = p->n_labels; i-- > 0;) {
		if (!strcmp(p->labels[i], label)) {
			*out = (uint32_t)i;
			return 0;
		}
	}
	grown = reallocarray(p->labels, p->n_labels + 1, sizeof(*grown));
	if (!grown)
		return BM_ENOMEM;
	p->labels = grown;
	p->labels[p->n_labels] = strdup(label);
	if (!p->labels[p->n_labels])
		return BM_ENOMEM;
	*out = (uint32_t)p->n_labels++;
	return 0;
}

int pictures_add(struct pictures *p, const char *label, char *path)
{
	struct picture *grown = reallocarray(p->list, p->n + 1, sizeof(*grown));
	int error = grown ? 0 : BM_ENOMEM;

	if (grown)
		p->list = grown;
	if (!error)
		error = find_label(p, label, &p->list[p->n].label);
	if (error)
		free(path);
	else
		p->list[p->n++].path = path;
	return error;
}

/* The directory below the root, or the name without "_NUMBER.ENDING". */
static void label_of(const FTSENT *entry, char label[256])
{
	bool below = entry->fts_level > 1;
	size_t end;

	snprintf(label, 256, "%s", below ? entry->fts_parent->fts_name : entry->fts_name);
	if (below)
		return;
	*strrchr(label, '.') = '\0';
	end = strlen(label);
	while (end && strchr("0123456789", label[end - 1]))
		end--;
	if (end > 1 && label[end] && label[end - 1] == '_')
		label[end - 1] = '\0';
}

static int add(struct pictures *p, const FTSENT *entry)
{
	char label[256], *path;

	if (entry->fts_info != FTS_F || !is_picture(entry->fts_name))
		return 0;
	path = strdup(entry->fts_path);
	if (!path)
		return BM_ENOMEM;
	label_of(entry, label);
	return pictures_add(p, label, path);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

int pictures_list(const char *root, struct pictures *out)
{
	char *const roots[] = {(char *)(uintptr_t)root, NULL};
	FTS *fts = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_name);
	const FTSENT *entry;
	int error = 0;

	*out = (struct pictures){0};
	if (!fts)
		return complain(BM_ENOMEM, "%s cannot be walked", root);
	while (!error && (entry = fts_read(fts))) {
		if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR ||
		    entry->fts_info == FTS_NS)
			error = complain(BM_EIO, "%s cannot be read: %s", entry->fts_path,
					 strerror(entry->fts_errno));
		else
			error = add(out, entry);
	}
	fts_close(fts);
	if (!error && !out->n)
		error = complain(BM_EINVAL, "no picture (.jpg, .png, .jp2) lies below %s", root);
	if (error)
		pictures_free(out);
	return error;
}

void pictures_free(struct pictures *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->list[i].path);
	for (size_t i = 0; i < p->n_labels; i++)
		free(p->labels[i]);
	free(p->list);
	free(p->labels);
	*p = (struct pictures){0};
}
