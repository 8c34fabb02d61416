/* key add, rotate: the generations of the store key, and the galleries under them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/file.h"
#include "cli.h"

#define KEY_LEN     32
#define GENERATIONS 16
#define PATH_LEN    4096

static const struct method rotate_method = {"/biomatch.v1.AdminService/RotateGallery",
					    &biomatch__v1__rotate_gallery_response__descriptor,
					    true};

/* The file has the old keys or all of them, whatever happens meanwhile. */
static int replace(const char *path, const uint8_t *keys, size_t len)
{
	char fresh[PATH_LEN];
	int error;

	if (snprintf(fresh, sizeof(fresh), "%s.new", path) >= PATH_LEN)
		return BM_EINVAL;
	error = file_write_new(fresh, keys, len, 0600);
	if (!error && rename(fresh, path)) {
		unlink(fresh);
		error = BM_EIO;
	}
	return error;
}

int run_key_add(struct cli *cli)
{
	const char *path = cli->options.args[0];
	uint8_t keys[GENERATIONS * KEY_LEN];
	size_t n = 0;
	int error = file_read_secrets(path, keys, KEY_LEN, GENERATIONS - 1, &n);

	if (!error && getrandom(keys + n * KEY_LEN, KEY_LEN, 0) != KEY_LEN)
		error = BM_EIO;
	if (!error)
		error = replace(path, keys, (n + 1) * KEY_LEN);
	bytes_wipe(keys, sizeof(keys));
	if (error)
		return cli_fail_file(cli, "add a generation to the key file", error);
	if (cli->options.json)
		printf("{\n  \"generations\": %zu\n}\n", n + 1);
	else
		printf("%s has %zu generations; keep a copy in a safe place, reload the daemon\n",
		       path, n + 1);
	return EXIT_DONE;
}

int run_key_rotate(struct cli *cli)
{
	Biomatch__V1__RotateGalleryRequest request = BIOMATCH__V1__ROTATE_GALLERY_REQUEST__INIT;
	const Biomatch__V1__RotateGalleryResponse *response;
	char id[REQUEST_ID_LEN + 1];
	ProtobufCMessage *reply;
	int result = cli_request_id(cli, id, &request.request_id);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	request.name = cli->options.args[0];
	result = cli_call(cli, &rotate_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	response = (const Biomatch__V1__RotateGalleryResponse *)reply;
	if (response->gallery) {
		print_fact("key generation", "%" PRIu32, response->gallery->key_generation);
		print_fact("to re-encode", "%" PRIu64, response->gallery->references_to_reencode);
	}
	print_receipt(response->receipt);
	return EXIT_DONE;
}
