#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conn.h"

static void server_free(struct net_server *server)
{
	/* The lobby first: the others take what it gives. */
	for (unsigned i = 0; server->loops && i < server->n_loops; i++)
		loop_join(&server->loops[i]);
	listener_stop(server);
	for (unsigned i = 0; server->loops && i < server->n_loops; i++)
		loop_close(&server->loops[i]);
	SSL_CTX_free(server->tls);
	pthread_cond_destroy(&server->emptied);
	pthread_mutex_destroy(&server->lock);
	pthread_mutex_destroy(&server->tls_lock);
	free(server->loops);
	free(server);
}

static int start(struct net_server *server)
{
	int error = 0;

	for (unsigned i = 0; !error && i < server->n_loops; i++)
		error = loop_open(server, &server->loops[i]);
	if (!error)
		error = listener_start(server);
	for (unsigned i = 0; !error && i < server->n_loops; i++)
		error = loop_start(&server->loops[i]);
	return error;
}

static void init_locks(struct net_server *server)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&server->tls_lock, NULL);
	pthread_mutex_init(&server->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&server->emptied, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

int net_server_open(const struct net_options *options, const struct net_handler *handler,
		    struct net_server **out, char message[256])
{
	struct net_server *server = calloc(1, sizeof(*server));
	int error = BM_ENOMEM;

	if (!server)
		return BM_ENOMEM;
	server->options = *options;
	server->handler = *handler;
	server->listen_fd = server->reserve_fd = -1;
	server->n_loops = 1 + options->threads;
	init_locks(server);
	server->loops = calloc(server->n_loops, sizeof(*server->loops));
	if (server->loops)
		error = tls_context(options, &server->tls, message);
	if (!error)
		error = listener_open(server, message);
	if (!error)
		error = start(server);
	if (error) {
		server_free(server);
		return error;
	}
	*out = server;
	return 0;
}

uint16_t net_server_port(const struct net_server *server)
{
	return server->port;
}

int net_server_reload(struct net_server *server, const struct net_options *options,
		      char message[256])
{
	SSL_CTX *fresh, *old;
	int error = tls_context(options, &fresh, message);

	if (error)
		return error;
	pthread_mutex_lock(&server->tls_lock);
	old = server->tls;
	server->tls = fresh;
	pthread_mutex_unlock(&server->tls_lock);
	/* Connections that use it hold references of their own. */
	SSL_CTX_free(old);
	for (unsigned i = 0; i < server->n_loops; i++) {
		struct loop *loop = &server->loops[i];

		if (!atomic_exchange(&loop->recheck_posted, true))
			loop_post(loop, &loop->recheck);
	}
	return 0;
}

void net_server_drain(struct net_server *server, uint32_t wait_ms)
{
	struct timespec until;
	int rc = 0;

	for (unsigned i = 0; i < server->n_loops; i++) {
		server->loops[i].drain.kind = POST_DRAIN;
		loop_post(&server->loops[i], &server->loops[i].drain);
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += wait_ms / 1000;
	until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
	if (until.tv_nsec >= CLOCK_NS_PER_SEC) {
		until.tv_sec++;
		until.tv_nsec -= CLOCK_NS_PER_SEC;
	}
	pthread_mutex_lock(&server->lock);
	while (atomic_load(&server->connections) && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&server->emptied, &server->lock, &until);
	pthread_mutex_unlock(&server->lock);
	for (unsigned i = 0; i < server->n_loops; i++) {
		server->loops[i].close_all.kind = POST_CLOSE_ALL;
		loop_post(&server->loops[i], &server->loops[i].close_all);
	}
}

void net_server_close(struct net_server *server)
{
	if (server)
		server_free(server);
}

static uint32_t late_ms(struct net_server *server)
{
	int64_t now = clock_monotonic_ns();
	uint32_t most = 0;

	for (unsigned i = 0; i < server->n_loops; i++) {
		uint32_t late = pulse_late_ms(&server->loops[i].pulse, now);

		most = late > most ? late : most;
	}
	return most;
}

void net_server_stat(struct net_server *server, struct net_stat *out)
{
	*out = (struct net_stat){
		.connections = atomic_load(&server->connections),
		.handshaking = atomic_load(&server->handshaking),
		.accepted = atomic_load(&server->accepted),
		.handshakes = atomic_load(&server->handshakes),
		.handshake_failures = atomic_load(&server->handshake_failures),
		.revoked = atomic_load(&server->revoked),
		.rests = atomic_load(&server->rests),
		.calls = atomic_load(&server->calls),
		.bytes_held = atomic_load(&server->bytes_held),
		.calls_open = atomic_load(&server->calls_open),
		.late_ms = late_ms(server),
	};
	pthread_mutex_lock(&server->tls_lock);
	out->certificate_ends_ms =
		tls_time_ms(X509_get0_notAfter(SSL_CTX_get0_certificate(server->tls)));
	out->client_ca_ends_ms = tls_client_ca_ends_ms(server->tls);
	out->crl_ends_ms = revocation_ends_ms(SSL_CTX_get_cert_store(server->tls));
	pthread_mutex_unlock(&server->tls_lock);
}

const struct net_peer *net_call_peer(const struct net_call *call)
{
	return &call->peer;
}

int64_t net_call_deadline(const struct net_call *call)
{
	return call->deadline_ns;
}

const char *net_call_traceparent(const struct net_call *call)
{
	return call->traceparent;
}

bool net_call_cancelled(const struct net_call *call)
{
	return atomic_load(&call->cancelled);
}

void net_call_send(struct net_call *call, uint8_t *data, size_t len)
{
	struct post *post = calloc(1, sizeof(*post));

	if (!post) {
		/* An answer with a hole must not look whole: finish tells. */
		atomic_store(&call->lost, true);
		bytes_wipe(data, len);
		free(data);
		return;
	}
	post->kind = POST_SEND;
	post->is_heap = true;
	post->call = call;
	post->data = data;
	post->len = len;
	atomic_fetch_add(&call->unsent, len);
	loop_post(call->loop, post);
}

void net_call_finish(struct net_call *call, const struct net_status *status)
{
	struct post *post = &call->end;

	post->kind = POST_FINISH;
	post->call = call;
	post->code = status->code;
	if (status->message)
		post->message = grpc_message_encode(status->message, NET_STATUS_MESSAGE_MAX);
	if (status->details.len && status->details.len <= NET_STATUS_DETAILS_MAX)
		post->data =
			(uint8_t *)grpc_binary_encode(status->details.data, status->details.len);
	loop_post(call->loop, post);
}
