#include "line.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "remote.h"

#define MAX_PAIRS 512
#define TICK_MS   2
#define SLOW_MS   50

/* What was read on one side and is to be written on the other. */
struct direction {
	uint8_t bytes[4096];
	size_t from, to;
};

struct pair {
	int fd[2]; /* the endpoint's, the daemon's */
	struct direction way[2];
	bool cut;
};

struct line {
	int listener;
	uint16_t port, to;
	pthread_t thread;
	atomic_int state;
	atomic_bool over;
	struct pair *pairs[MAX_PAIRS];
	size_t n;
};

static struct sockaddr_in local(uint16_t port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A connection to the daemon. It is on the same machine: connecting does not wait. */
static int reach(uint16_t port)
{
	struct sockaddr_in to = local(port);
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) ||
			     setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
		     ? BM_ENET
		     : 0,
	     "line");
	return fd;
}

static void adopt(struct line *line)
{
	int fd = accept4(line->listener, NULL, NULL, SOCK_CLOEXEC);
	struct pair *pair;

	if (fd < 0)
		return;
	pair = calloc(1, sizeof(*pair));
	must(pair && line->n < MAX_PAIRS ? 0 : BM_ENOMEM, "line");
	pair->fd[0] = fd;
	pair->fd[1] = reach(line->to);
	line->pairs[line->n++] = pair;
}

/* Moves up to limit bytes; false once the connection is over. */
static bool move(int from, int to, struct direction *way, size_t limit)
{
	ssize_t n;

	if (way->from == way->to) {
		n = recv(from, way->bytes, limit, MSG_DONTWAIT);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		way->from = 0;
		way->to = (size_t)n;
	}
	n = send(to, way->bytes + way->from, way->to - way->from, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN;
	way->from += (size_t)n;
	return true;
}

/* Nothing that arrives on the socket reaches TCP any more. */
static void cut(struct pair *pair)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = {1, &drop};

	must(setsockopt(pair->fd[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program))
		     ? BM_ENET
		     : 0,
	     "line");
	pair->cut = true;
}

static void drop(struct line *line, size_t at)
{
	struct pair *pair = line->pairs[at];

	close(pair->fd[0]);
	close(pair->fd[1]);
	free(pair);
	line->pairs[at] = line->pairs[--line->n];
}

static void serve(struct line *line, int state)
{
	size_t limit = state == LINE_SLOW ? LINE_SLOW_BYTES * SLOW_MS / 1000
					  : sizeof(line->pairs[0]->way[0].bytes);

	for (size_t i = line->n; i-- > 0;) {
		struct pair *pair = line->pairs[i];

		if (state == LINE_DEAD) {
			if (!pair->cut)
				cut(pair);
		} else if (pair->cut || !move(pair->fd[0], pair->fd[1], &pair->way[0], limit) ||
			   !move(pair->fd[1], pair->fd[0], &pair->way[1], limit)) {
			drop(line, i);
		}
	}
}

static void *relay(void *arg)
{
	struct line *line = arg;

	while (!atomic_load(&line->over)) {
		int state = atomic_load(&line->state);
		struct timespec tick = {0, (state == LINE_SLOW ? SLOW_MS : TICK_MS) * 1000000L};
		size_t n;

		do {
			n = line->n;
			adopt(line);
		} while (line->n > n);
		serve(line, state);
		nanosleep(&tick, NULL);
	}
	return NULL;
}

struct line *line_open(uint16_t port)
{
	struct line *line = calloc(1, sizeof(*line));
	struct sockaddr_in address = local(0);
	socklen_t len = sizeof(address);

	must(line ? 0 : BM_ENOMEM, "line");
	line->to = port;
	line->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	must(line->listener < 0 ||
			     bind(line->listener, (struct sockaddr *)&address, sizeof(address)) ||
			     listen(line->listener, MAX_PAIRS) ||
			     getsockname(line->listener, (struct sockaddr *)&address, &len) ||
			     pthread_create(&line->thread, NULL, relay, line)
		     ? BM_ENET
		     : 0,
	     "line");
	line->port = ntohs(address.sin_port);
	return line;
}

uint16_t line_port(const struct line *line)
{
	return line->port;
}

void line_set(struct line *line, enum line_state state)
{
	atomic_store(&line->state, state);
}

void line_close(struct line *line)
{
	atomic_store(&line->over, true);
	pthread_join(line->thread, NULL);
	while (line->n)
		drop(line, line->n - 1);
	close(line->listener);
	free(line);
}
