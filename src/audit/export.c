#include <errno.h>
#include <stdlib.h>

#include "entry.h"

/*
 * An export is a packed AuditExport, field by field: every one has a length and a
 * number below 16, so that its tag is one byte.
 */
enum tag { TAG_FORMAT = 0x0a, TAG_HEAD = 0x12, TAG_ENTRY = 0x1a };

#define FORMAT         "biomatch-audit-1"
#define LENGTH_MAX_LEN 3 /* bytes of a length up to AUDIT_ENTRY_MAX */

struct audit_export {
	FILE *file;
	uint8_t *head, *entry;
	size_t head_len;
};

_Static_assert(AUDIT_ENTRY_MAX < 1u << 7 * LENGTH_MAX_LEN, "its length fits");

static int write_field(FILE *file, enum tag tag, struct bytes value)
{
	size_t n = 0, left = value.len;
	uint8_t front[1 + LENGTH_MAX_LEN];

	if (value.len > AUDIT_ENTRY_MAX)
		return BM_EAUDIT;
	front[n++] = (uint8_t)tag;
	do {
		front[n++] = (uint8_t)(left > 0x7f ? left | 0x80 : left);
		left >>= 7;
	} while (left);
	return fwrite(front, n, 1, file) == 1 && fwrite(value.data, value.len, 1, file) == 1
		       ? 0
		       : BM_EIO;
}

int audit_export_begin(FILE *file, struct bytes head)
{
	int error = write_field(file, TAG_FORMAT,
				(struct bytes){(const uint8_t *)FORMAT, strlen(FORMAT)});

	return error ? error : write_field(file, TAG_HEAD, head);
}

int audit_export_add(FILE *file, struct bytes entry)
{
	return write_field(file, TAG_ENTRY, entry);
}

/* The shortest form alone: no two files say the same. */
static int read_length(FILE *file, size_t *out)
{
	size_t len = 0;

	for (unsigned i = 0; i < LENGTH_MAX_LEN; i++) {
		int c = getc_unlocked(file);

		if (c == EOF)
			return ferror(file) ? BM_EIO : BM_EAUDIT;
		len |= (size_t)(c & 0x7f) << 7 * i;
		if (c < 0x80) {
			*out = len;
			return len && len <= AUDIT_ENTRY_MAX && (c || !i) ? 0 : BM_EAUDIT;
		}
	}
	return BM_EAUDIT;
}

/* Reads a field into room for AUDIT_ENTRY_MAX bytes; *len is 0 at the file's end. */
static int read_field(FILE *file, enum tag tag, uint8_t *value, size_t *len)
{
	int error, c = getc_unlocked(file);

	*len = 0;
	if (c == EOF)
		return ferror(file) ? BM_EIO : 0;
	if (c != (int)tag)
		return BM_EAUDIT;
	error = read_length(file, len);
	if (!error && fread(value, *len, 1, file) != 1)
		error = ferror(file) ? BM_EIO : BM_EAUDIT;
	return error;
}

static int read_front(struct audit_export *x)
{
	size_t len;
	int error = read_field(x->file, TAG_FORMAT, x->entry, &len);

	if (!error && (len != strlen(FORMAT) || memcmp(x->entry, FORMAT, len)))
		error = BM_EAUDIT;
	if (!error)
		error = read_field(x->file, TAG_HEAD, x->head, &x->head_len);
	return !error && !x->head_len ? BM_EAUDIT : error;
}

int audit_export_open(const char *path, struct audit_export **out)
{
	struct audit_export *x = calloc(1, sizeof(*x));
	int error = BM_ENOMEM;

	if (!x)
		return BM_ENOMEM;
	x->head = malloc(AUDIT_ENTRY_MAX);
	x->entry = malloc(AUDIT_ENTRY_MAX);
	if (x->head && x->entry) {
		x->file = fopen(path, "rbe");
		error = x->file ? read_front(x) : BM_EIO;
	}
	if (error) {
		int why = errno;

		audit_export_close(x);
		errno = why;
		return error;
	}
	*out = x;
	return 0;
}

void audit_export_close(struct audit_export *x)
{
	if (!x)
		return;
	if (x->file)
		fclose(x->file);
	free(x->head);
	free(x->entry);
	free(x);
}

struct bytes audit_export_head(const struct audit_export *x)
{
	return (struct bytes){x->head, x->head_len};
}

int audit_export_next(struct audit_export *x, struct bytes *entry)
{
	size_t len;
	int error = read_field(x->file, TAG_ENTRY, x->entry, &len);

	*entry = len && !error ? (struct bytes){x->entry, len} : (struct bytes){0};
	return error;
}

static int walk(struct audit_export *x, const struct audit_receipt *receipt,
		struct audit_verdict *out)
{
	const Biomatch__V1__AuditEntry *entry;
	struct bytes packed;
	struct arena arena;
	int error;

	arena_init(&arena, 64 * AUDIT_ENTRY_MAX);
	while (!(error = audit_export_next(x, &packed)) && packed.len) {
		error = audit_chain_take(&out->chain, packed, &arena, &entry);
		arena_reset(&arena);
		if (error)
			break;
		if (receipt && receipt->sequence == out->chain.head.sequence)
			out->receipt_found =
				!memcmp(receipt->hash, out->chain.head.hash, AUDIT_HASH_LEN);
	}
	arena_deinit(&arena);
	return error;
}

static int check_end(const struct audit_export *x, struct audit_chain *chain)
{
	uint8_t hash[AUDIT_HASH_LEN];
	int error = audit_hash(audit_export_head(x), hash);

	if (error)
		return error;
	if (chain->head.sequence && !memcmp(hash, chain->head.hash, AUDIT_HASH_LEN) &&
	    entry_is_signed_by(audit_export_head(x), chain->trust))
		return 0;
	chain->fault = "is missing: the file does not end with its signed head";
	return BM_EAUDIT;
}

int audit_export_verify(const char *path, const struct audit_trust *trust, uint64_t first,
			const struct audit_receipt *receipt, struct audit_verdict *out)
{
	struct audit_export *x = NULL;
	int error;

	*out = (struct audit_verdict){
		.chain = {.trust = trust, .next = first, .fault = "is no part of an export"}};
	error = audit_export_open(path, &x);
	if (error)
		return error;
	error = walk(x, receipt, out);
	if (!error)
		error = check_end(x, &out->chain);
	audit_export_close(x);
	return error;
}
