#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "biomatch/bytes.h"
#include "biomatch/priority.h"
#include "conn.h"

#define SWEEP_NS (250 * CLOCK_NS_PER_MS)

void loop_post(struct loop *loop, struct post *post)
{
	const uint64_t one = 1;
	bool was_empty;

	post->next = NULL;
	pthread_mutex_lock(&loop->lock);
	was_empty = !loop->inbox;
	*loop->inbox_tail = post;
	loop->inbox_tail = &post->next;
	pthread_mutex_unlock(&loop->lock);
	if (was_empty) {
		/* An eventfd that cannot be written to is full, and so awake. */
		ssize_t n = write(loop->wake_fd, &one, sizeof(one));

		(void)n;
	}
}

static void drain(struct loop *loop)
{
	struct conn *next;

	loop->draining = true;
	if (loop == &loop->server->loops[LOBBY])
		listener_stop(loop->server);
	for (struct conn *conn = loop->conns; conn; conn = next) {
		next = conn->next;
		conn_drain(conn);
	}
}

static void recheck(struct loop *loop)
{
	struct conn *next;

	/* First: what is posted from here on looks at a newer context. */
	atomic_store(&loop->recheck_posted, false);
	for (struct conn *conn = loop->conns; conn; conn = next) {
		next = conn->next;
		conn_recheck(conn);
	}
}

static void do_post(struct loop *loop, struct post *post)
{
	switch (post->kind) {
	case POST_CONNECTION:
		conn_enter(loop, post->conn);
		break;
	case POST_SEND:
		call_take_message(post->call, post->data, post->len);
		break;
	case POST_FINISH:
		call_take_finish(post->call, post);
		break;
	case POST_RECHECK:
		recheck(loop);
		break;
	case POST_DRAIN:
		drain(loop);
		break;
	case POST_CLOSE_ALL:
		loop->closing = true;
		while (loop->conns)
			conn_close(loop->conns);
		break;
	case POST_STOP:
		event_base_loopbreak(loop->base);
		break;
	}
}

static void do_inbox(struct loop *loop)
{
	struct post *post;

	pthread_mutex_lock(&loop->lock);
	post = loop->inbox;
	loop->inbox = NULL;
	loop->inbox_tail = &loop->inbox;
	pthread_mutex_unlock(&loop->lock);
	while (post) {
		struct post *next = post->next, *heap = post->is_heap ? post : NULL;

		do_post(loop, post);
		free(heap);
		post = next;
	}
	conn_flush_touched(loop);
}

static void woken(evutil_socket_t fd, short what, void *ctx)
{
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof(count));

	(void)n;
	(void)what;
	do_inbox(ctx);
}

static void sweep(evutil_socket_t fd, short what, void *ctx)
{
	struct loop *loop = ctx;
	int64_t now = clock_monotonic_ns();
	struct conn *next;

	(void)fd;
	(void)what;
	pulse_expect(&loop->pulse, now + SWEEP_NS);
	for (struct conn *conn = loop->conns; conn; conn = next) {
		next = conn->next;
		conn_sweep(conn, now);
	}
}

int loop_open(struct net_server *server, struct loop *loop)
{
	const struct timeval every = {.tv_usec = SWEEP_NS / CLOCK_NS_PER_US};

	loop->server = server;
	loop->inbox_tail = &loop->inbox;
	loop->recheck.kind = POST_RECHECK;
	pulse_init(&loop->pulse);
	pthread_mutex_init(&loop->lock, NULL);
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	loop->base = event_base_new();
	if (loop->wake_fd < 0 || !loop->base)
		return BM_ENOMEM;
	loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, woken, loop);
	loop->sweep = event_new(loop->base, -1, EV_PERSIST, sweep, loop);
	if (!loop->wake || !loop->sweep || event_add(loop->wake, NULL) ||
	    event_add(loop->sweep, &every))
		return BM_ENOMEM;
	return 0;
}

static void *run(void *ctx)
{
	struct loop *loop = ctx;
	unsigned index = (unsigned)(loop - loop->server->loops);
	char name[16] = "net-lobby";

	if (index == LOBBY) {
		priority_behind();
	} else {
		snprintf(name, sizeof(name), "net-%u", index - 1);
		priority_prompt();
	}
	pthread_setname_np(pthread_self(), name);
	pulse_expect(&loop->pulse, clock_monotonic_ns() + SWEEP_NS);
	event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
	pulse_end(&loop->pulse);
	return NULL;
}

int loop_start(struct loop *loop)
{
	sigset_t all, before;

	/* Signals are the main thread's, and a SIGPIPE nobody's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	loop->started = !pthread_create(&loop->thread, NULL, run, loop);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return loop->started ? 0 : BM_ENOMEM;
}

void loop_join(struct loop *loop)
{
	if (loop->started) {
		loop->stop.kind = POST_STOP;
		loop_post(loop, &loop->stop);
		pthread_join(loop->thread, NULL);
		loop->started = false;
	}
	loop->closing = true;
	while (loop->conns)
		conn_close(loop->conns);
	do_inbox(loop);
}

void loop_close(struct loop *loop)
{
	if (!loop->server)
		return;
	if (loop->wake)
		event_free(loop->wake);
	if (loop->sweep)
		event_free(loop->sweep);
	if (loop->base)
		event_base_free(loop->base);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
}
