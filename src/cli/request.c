#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "biomatch/bytes.h"
#include "biomatch/file.h"
#include "biomatch/wire.h"
#include "cli.h"

static int read_template(struct probe *p)
{
	size_t skip = strlen(TEMPLATE_MAGIC);
	ProtobufCMessage *message;

	if (wire_unpack(&biomatch__v1__template__descriptor, &p->arena,
			(struct bytes){p->data + skip, p->len - skip}, &message))
		return BM_ETEMPLATE;
	p->message.kind_case = BIOMATCH__V1__PROBE__KIND_TEMPLATE;
	p->message.template_ = (Biomatch__V1__Template *)message;
	return 0;
}

int probe_read(const char *path, struct probe *out)
{
	struct probe *p = out;
	size_t magic = strlen(TEMPLATE_MAGIC);
	int error;

	*p = (struct probe){.message = BIOMATCH__V1__PROBE__INIT,
			    .image = BIOMATCH__V1__IMAGE__INIT};
	arena_init(&p->arena, 1 << 20);
	error = file_read(path, CLI_MAX_PICTURE, &p->data, &p->len);
	if (error)
		return error == BM_EINVAL ? errno == EFBIG ? BM_EIMGSIZE : BM_EIO : error;
	if (p->len >= magic && !memcmp(p->data, TEMPLATE_MAGIC, magic)) {
		error = read_template(p);
		if (error)
			probe_free(p);
		return error;
	}
	p->image.data = (ProtobufCBinaryData){p->len, p->data};
	p->message.kind_case = BIOMATCH__V1__PROBE__KIND_IMAGE;
	p->message.image = &p->image;
	return 0;
}

void probe_free(struct probe *p)
{
	arena_deinit(&p->arena);
	if (p->data)
		bytes_wipe(p->data, p->len);
	free(p->data);
	p->data = NULL;
}

static void add_frame(struct capture *c, const struct probe *probe)
{
	Biomatch__V1__Frame *frame = &c->frame[c->n];

	biomatch__v1__frame__init(frame);
	if (probe->message.kind_case == BIOMATCH__V1__PROBE__KIND_IMAGE) {
		frame->kind_case = BIOMATCH__V1__FRAME__KIND_IMAGE;
		frame->image = probe->message.image;
	} else {
		frame->kind_case = BIOMATCH__V1__FRAME__KIND_TEMPLATE;
		frame->template_ = probe->message.template_;
	}
	c->list[c->n++] = frame;
}

int capture_read(const struct options *options, const char *path, struct capture *out)
{
	const struct list *more = &options->images;
	int error = 0;

	out->n = 0;
	biomatch__v1__frames__init(&out->frames);
	for (size_t i = 0; !error && i <= more->n; i++) {
		error = probe_read(i ? more->items[i - 1] : path, &out->probes[i]);
		if (!error)
			add_frame(out, &out->probes[i]);
	}
	if (error) {
		capture_free(out);
		return error;
	}
	out->message = out->probes[0].message;
	if (out->n == 1)
		return 0;
	out->frames.n_frames = out->n;
	out->frames.frames = out->list;
	out->message.kind_case = BIOMATCH__V1__PROBE__KIND_FRAMES;
	out->message.frames = &out->frames;
	return 0;
}

/* Whoever reports a file that could not be read needs errno. */
void capture_free(struct capture *c)
{
	int saved = errno;

	for (size_t i = 0; i < c->n; i++)
		probe_free(&c->probes[i]);
	errno = saved;
}

static int request_id_random(char out[REQUEST_ID_LEN + 1])
{
	uint8_t random[REQUEST_ID_LEN / 2];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return BM_EIO;
	bytes_to_hex(random, sizeof(random), out);
	return 0;
}

int cli_request_id(const struct cli *cli, char room[REQUEST_ID_LEN + 1], char **out)
{
	int error = cli->options.request_id ? 0 : request_id_random(room);

	*out = cli->options.request_id ? cli->options.request_id : room;
	return error ? cli_fail_file(cli, "make a request id", error) : EXIT_DONE;
}

int request_id_of(const ProtobufCMessage *request, const char *name, char out[REQUEST_ID_LEN + 1])
{
	uint8_t *packed = NULL, digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	size_t len = 0;
	int error = wire_pack(request, &packed, &len);

	if (!error && (!hash || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1 ||
		       EVP_DigestUpdate(hash, packed, len) != 1 ||
		       EVP_DigestUpdate(hash, name, strlen(name)) != 1 ||
		       EVP_DigestFinal_ex(hash, digest, NULL) != 1))
		error = BM_ENOMEM;
	if (!error)
		bytes_to_hex(digest, REQUEST_ID_LEN / 2, out);
	if (packed)
		bytes_wipe(packed, len);
	free(packed);
	EVP_MD_CTX_free(hash);
	return error;
}

int time_parse(const char *text, int64_t *out)
{
	static const char *const formats[] = {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"};

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		struct tm tm = {.tm_isdst = 0}, normal;
		const char *rest = strptime(text, formats[i], &tm);
		time_t t;

		if (!rest || *rest)
			continue;
		/* timegm would move the 31st of February into March. */
		normal = tm;
		t = timegm(&normal);
		if (t <= 0 || normal.tm_mday != tm.tm_mday)
			return BM_EINVAL;
		*out = t;
		return 0;
	}
	return BM_EINVAL;
}

void time_format(const Google__Protobuf__Timestamp *t, char out[32])
{
	time_t seconds = t ? (time_t)t->seconds : 0;
	struct tm tm;

	if (!t || !gmtime_r(&seconds, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		out[0] = '\0';
}
