#include "biomatch/clock.h"
#include "biomatch/v1/admin_service.pb-c.h"
#include "call.h"
#include "times.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX     1000

static int check_name(struct service_call *call, const char *field, const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
	int error = call_check_text(call, field, name, 1, GALLERY_NAME_MAX);

	if (error)
		return error;
	if (name[0] < 'a' || name[0] > 'z' || name[strspn(name, allowed)])
		return call_fail(call, BM_EINVAL, field,
				 "a gallery's name is a letter followed by a-z, 0-9, '-', '_' or "
				 "'.'");
	return 0;
}

static Biomatch__V1__Gallery *gallery_to_wire(struct service_call *call,
					      const struct gallery_info *from)
{
	Biomatch__V1__Gallery *to = call_message(call, &biomatch__v1__gallery__descriptor);

	if (!to)
		return NULL;
	to->name = arena_strndup(&call->arena, from->name, strlen(from->name));
	to->model = arena_strndup(&call->arena, from->model, strlen(from->model));
	to->created_at = time_to_wire(call, from->created_ms);
	to->dimension = from->dim;
	to->subjects = from->subjects;
	to->encounters = from->encounters;
	to->held_subjects = from->held;
	to->segments = from->segments;
	to->tail_rows = from->tail_rows;
	to->key_generation = from->key_generation + 1;
	return to->name && to->model && to->created_at ? to : NULL;
}

/* The same, with how far it is on its way to another key. */
static int gallery_told(struct service_call *call, struct gallery_snapshot *snapshot,
			const struct gallery_info *from, Biomatch__V1__Gallery **out)
{
	*out = gallery_to_wire(call, from);
	return *out ? gallery_rows_to_reencode(snapshot, from, &(*out)->references_to_reencode)
		    : BM_ENOMEM;
}

/* What every change of a whole gallery is asked first. */
static int prepare_write(struct service_call *call, const char *purpose, const char *name,
			 const char *request_id)
{
	int error = check_name(call, "name", name);

	if (!error)
		error = call_allow(call, purpose, name);
	return error ? error : call_check_request_id(call, request_id);
}

static int create_prepare(struct service_call *call)
{
	const Biomatch__V1__CreateGalleryRequest *request = (const void *)call->request;

	return prepare_write(call, request->purpose, request->name, request->request_id);
}

static int create(struct service_call *call, struct db_txn *txn)
{
	const Biomatch__V1__CreateGalleryRequest *request = (const void *)call->request;
	Biomatch__V1__CreateGalleryResponse *out =
		call_message(call, &biomatch__v1__create_gallery_response__descriptor);
	struct gallery_change change = {
		.kind = GALLERY_CREATE,
		.gallery = request->name,
		.now_ms = clock_wall_ms(),
	};
	struct gallery_outcome outcome = {0};
	int error;

	if (!out)
		return BM_ENOMEM;
	error = gallery_apply(call->service->options.store, txn, &change, &outcome);
	if (error)
		return error;
	out->gallery = gallery_to_wire(call, &outcome.gallery);
	call->response = &out->base;
	return out->gallery ? 0 : BM_ENOMEM;
}

const struct rpc create_gallery_rpc = {
	.path = "/biomatch.v1.AdminService/CreateGallery",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__create_gallery_request__descriptor,
	.response = &biomatch__v1__create_gallery_response__descriptor,
	.receipt = offsetof(Biomatch__V1__CreateGalleryResponse, receipt),
	.prepare = create_prepare,
	.apply = create,
};

static int delete_prepare(struct service_call *call)
{
	const Biomatch__V1__DeleteGalleryRequest *request = (const void *)call->request;

	return prepare_write(call, request->purpose, request->name, request->request_id);
}

static int delete_gallery(struct service_call *call, struct db_txn *txn)
{
	const Biomatch__V1__DeleteGalleryRequest *request = (const void *)call->request;
	struct gallery_change change = {
		.kind = GALLERY_DROP,
		.gallery = request->name,
		.now_ms = clock_wall_ms(),
	};
	struct gallery_outcome outcome = {0};

	call->response = call_message(call, &biomatch__v1__delete_gallery_response__descriptor);
	if (!call->response)
		return BM_ENOMEM;
	return gallery_apply(call->service->options.store, txn, &change, &outcome);
}

const struct rpc delete_gallery_rpc = {
	.path = "/biomatch.v1.AdminService/DeleteGallery",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__delete_gallery_request__descriptor,
	.response = &biomatch__v1__delete_gallery_response__descriptor,
	.receipt = offsetof(Biomatch__V1__DeleteGalleryResponse, receipt),
	.prepare = delete_prepare,
	.apply = delete_gallery,
};

static int rotate_prepare(struct service_call *call)
{
	const Biomatch__V1__RotateGalleryRequest *request = (const void *)call->request;

	return prepare_write(call, request->purpose, request->name, request->request_id);
}

static int rotate_gallery(struct service_call *call, struct db_txn *txn)
{
	const Biomatch__V1__RotateGalleryRequest *request = (const void *)call->request;
	Biomatch__V1__RotateGalleryResponse *out =
		call_message(call, &biomatch__v1__rotate_gallery_response__descriptor);
	struct gallery_change change = {
		.kind = GALLERY_ROTATE,
		.gallery = request->name,
		.now_ms = clock_wall_ms(),
	};
	struct gallery_outcome outcome = {0};
	int error;

	if (!out)
		return BM_ENOMEM;
	error = gallery_apply(call->service->options.store, txn, &change, &outcome);
	if (error)
		return error;
	out->gallery = gallery_to_wire(call, &outcome.gallery);
	call->response = &out->base;
	if (!out->gallery)
		return BM_ENOMEM;
	out->gallery->references_to_reencode = outcome.gallery.encounters;
	return 0;
}

const struct rpc rotate_gallery_rpc = {
	.path = "/biomatch.v1.AdminService/RotateGallery",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__rotate_gallery_request__descriptor,
	.response = &biomatch__v1__rotate_gallery_response__descriptor,
	.receipt = offsetof(Biomatch__V1__RotateGalleryResponse, receipt),
	.prepare = rotate_prepare,
	.apply = rotate_gallery,
};

static int get_prepare(struct service_call *call)
{
	const Biomatch__V1__GetGalleryRequest *request = (const void *)call->request;
	int error = check_name(call, "name", request->name);

	return error ? error : call_allow(call, request->purpose, request->name);
}

static int get(struct service_call *call, struct faceworker *worker)
{
	const Biomatch__V1__GetGalleryRequest *request = (const void *)call->request;
	Biomatch__V1__GetGalleryResponse *out =
		call_message(call, &biomatch__v1__get_gallery_response__descriptor);
	struct gallery_snapshot *snapshot;
	struct gallery_info info;
	int error;

	(void)worker;
	if (!out)
		return BM_ENOMEM;
	error = gallery_snapshot_open(call->service->options.store, &snapshot);
	if (error)
		return error;
	error = gallery_find(snapshot, request->name, &info);
	if (!error)
		error = gallery_told(call, snapshot, &info, &out->gallery);
	gallery_snapshot_close(snapshot);
	if (error)
		return call_fail(call, error, error == BM_ENOGALLERY ? "name" : NULL, NULL);
	call->response = &out->base;
	return 0;
}

const struct rpc get_gallery_rpc = {
	.path = "/biomatch.v1.AdminService/GetGallery",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__get_gallery_request__descriptor,
	.response = &biomatch__v1__get_gallery_response__descriptor,
	.receipt = offsetof(Biomatch__V1__GetGalleryResponse, receipt),
	.prepare = get_prepare,
	.steps = {{CALL_READ, get}},
};

static int list_prepare(struct service_call *call)
{
	const Biomatch__V1__ListGalleriesRequest *request = (const void *)call->request;
	int error = call_check_text(call, "page_token", request->page_token, 0, GALLERY_NAME_MAX);

	if (!error && request->page_size > PAGE_MAX)
		error = call_failf(call, BM_EINVAL, "page_size", "at most %d galleries a page",
				   PAGE_MAX);
	if (!error)
		error = call_allow(call, request->purpose, NULL);
	return error ? error : call_may_read(call);
}

/* The page token is the last name of the page before. */
static int list(struct service_call *call, struct faceworker *worker)
{
	const Biomatch__V1__ListGalleriesRequest *request = (const void *)call->request;
	Biomatch__V1__ListGalleriesResponse *out =
		call_message(call, &biomatch__v1__list_galleries_response__descriptor);
	size_t n = 0, max = request->page_size ? request->page_size : PAGE_DEFAULT;
	struct gallery_info *page = call_alloc(call, max * sizeof(*page));
	struct gallery_snapshot *snapshot;
	int error;

	(void)worker;
	if (!out || !page)
		return BM_ENOMEM;
	error = gallery_snapshot_open(call->service->options.store, &snapshot);
	if (error)
		return error;
	error = gallery_list(snapshot, request->page_token, page, max, &n);
	out->galleries = call_alloc(call, (n + 1) * sizeof(*out->galleries));
	if (!error && !out->galleries)
		error = BM_ENOMEM;
	for (; !error && out->n_galleries < n; out->n_galleries++)
		error = gallery_told(call, snapshot, &page[out->n_galleries],
				     &out->galleries[out->n_galleries]);
	gallery_snapshot_close(snapshot);
	if (error)
		return error;
	if (n == max)
		out->next_page_token = out->galleries[n - 1]->name;
	call->response = &out->base;
	return 0;
}

const struct rpc list_galleries_rpc = {
	.path = "/biomatch.v1.AdminService/ListGalleries",
	.operation = POLICY_ADMIN,
	.request = &biomatch__v1__list_galleries_request__descriptor,
	.response = &biomatch__v1__list_galleries_response__descriptor,
	.receipt = offsetof(Biomatch__V1__ListGalleriesResponse, receipt),
	.prepare = list_prepare,
	.steps = {{CALL_READ, list}},
};
