/* gallery create, list, show, delete. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"

#define PAGE_SIZE 500

static const struct method create_method = {"/biomatch.v1.AdminService/CreateGallery",
					    &biomatch__v1__create_gallery_response__descriptor,
					    false};
static const struct method list_method = {"/biomatch.v1.AdminService/ListGalleries",
					  &biomatch__v1__list_galleries_response__descriptor,
					  false};
static const struct method show_method = {"/biomatch.v1.AdminService/GetGallery",
					  &biomatch__v1__get_gallery_response__descriptor, true};
static const struct method delete_method = {"/biomatch.v1.AdminService/DeleteGallery",
					    &biomatch__v1__delete_gallery_response__descriptor,
					    true};

static void print_galleries(Biomatch__V1__Gallery *const *galleries, size_t n)
{
	struct table *table = table_new(9);

	table_add(table, "gallery", "subjects", "encounters", "segments", "tail", "key",
		  "to re-encode", "created", "model", NULL);
	for (size_t i = 0; i < n; i++) {
		const Biomatch__V1__Gallery *g = galleries[i];
		char subjects[24], encounters[24], segments[24], tail[24], created[32];
		char key[16], to_reencode[24];

		snprintf(subjects, sizeof(subjects), "%" PRIu64, g->subjects);
		snprintf(encounters, sizeof(encounters), "%" PRIu64, g->encounters);
		snprintf(segments, sizeof(segments), "%" PRIu64, g->segments);
		snprintf(tail, sizeof(tail), "%" PRIu64, g->tail_rows);
		snprintf(key, sizeof(key), "%" PRIu32, g->key_generation);
		snprintf(to_reencode, sizeof(to_reencode), "%" PRIu64, g->references_to_reencode);
		time_format(g->created_at, created);
		table_add(table, g->name, subjects, encounters, segments, tail, key, to_reencode,
			  created, g->model, NULL);
	}
	table_print(table);
	table_free(table);
}

int run_gallery_create(struct cli *cli)
{
	Biomatch__V1__CreateGalleryRequest request = BIOMATCH__V1__CREATE_GALLERY_REQUEST__INIT;
	const Biomatch__V1__CreateGalleryResponse *response;
	char id[REQUEST_ID_LEN + 1];
	ProtobufCMessage *reply;
	int result = cli_request_id(cli, id, &request.request_id);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	request.name = cli->options.args[0];
	result = cli_call(cli, &create_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	response = (const Biomatch__V1__CreateGalleryResponse *)reply;
	print_galleries(&response->gallery, response->gallery ? 1 : 0);
	print_receipt(response->receipt);
	return EXIT_DONE;
}

/* Adds a page's galleries to all; both live in the arena but for all's array. */
static int add_page(Biomatch__V1__ListGalleriesResponse *all,
		    const Biomatch__V1__ListGalleriesResponse *page)
{
	size_t n = all->n_galleries + page->n_galleries;
	void *larger = realloc(all->galleries, (n ? n : 1) * sizeof(*all->galleries));

	if (!larger)
		return BM_ENOMEM;
	all->galleries = larger;
	for (size_t i = 0; i < page->n_galleries; i++)
		all->galleries[all->n_galleries++] = page->galleries[i];
	return 0;
}

int run_gallery_list(struct cli *cli)
{
	Biomatch__V1__ListGalleriesRequest request = BIOMATCH__V1__LIST_GALLERIES_REQUEST__INIT;
	Biomatch__V1__ListGalleriesResponse all = BIOMATCH__V1__LIST_GALLERIES_RESPONSE__INIT;
	const Biomatch__V1__ListGalleriesResponse *page;
	ProtobufCMessage *reply;
	int result;

	request.purpose = (char *)cli->options.purpose;
	request.page_size = PAGE_SIZE;
	do {
		result = cli_call(cli, &list_method, &request.base, &reply);
		if (result)
			goto out;
		page = (const Biomatch__V1__ListGalleriesResponse *)reply;
		if (add_page(&all, page)) {
			result = cli_fail_file(cli, "list the galleries", BM_ENOMEM);
			goto out;
		}
		request.page_token = page->next_page_token;
	} while (*request.page_token);
	if (cli->options.json)
		result = print_json(&all.base);
	else
		print_galleries(all.galleries, all.n_galleries);
out:
	free(all.galleries);
	return result;
}

int run_gallery_show(struct cli *cli)
{
	Biomatch__V1__GetGalleryRequest request = BIOMATCH__V1__GET_GALLERY_REQUEST__INIT;
	const Biomatch__V1__GetGalleryResponse *response;
	ProtobufCMessage *reply;
	int result;

	request.purpose = (char *)cli->options.purpose;
	request.name = cli->options.args[0];
	result = cli_call(cli, &show_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	response = (const Biomatch__V1__GetGalleryResponse *)reply;
	print_galleries(&response->gallery, response->gallery ? 1 : 0);
	return EXIT_DONE;
}

int run_gallery_delete(struct cli *cli)
{
	Biomatch__V1__DeleteGalleryRequest request = BIOMATCH__V1__DELETE_GALLERY_REQUEST__INIT;
	char id[REQUEST_ID_LEN + 1];
	ProtobufCMessage *reply;
	int result = cli_request_id(cli, id, &request.request_id);

	if (result)
		return result;
	request.purpose = (char *)cli->options.purpose;
	request.name = cli->options.args[0];
	result = cli_call(cli, &delete_method, &request.base, &reply);
	if (result)
		return result;
	if (cli->options.json)
		return print_json(reply);
	print_fact("deleted", "the gallery");
	print_receipt(((const Biomatch__V1__DeleteGalleryResponse *)reply)->receipt);
	return EXIT_DONE;
}
