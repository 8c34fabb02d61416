#include "reading.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "biomatch/clock.h"

/* No daemon tells more: its families are bounded. */
#define MAX_PAGE ((size_t)16 << 20)

static int open_socket(const struct addrinfo *at, uint32_t timeout_ms)
{
	const struct timeval wait = {.tv_sec = timeout_ms / 1000,
				     .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
	int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);

	if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) &&
	    !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) &&
	    !connect(fd, at->ai_addr, at->ai_addrlen))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static int dial(const char *host, uint16_t port, uint32_t timeout_ms)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	char service[8];
	int fd = -1;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &list))
		return -1;
	for (const struct addrinfo *at = list; at && fd < 0; at = at->ai_next)
		fd = open_socket(at, timeout_ms);
	freeaddrinfo(list);
	return fd;
}

/* All that comes until the end, with a NUL behind it. */
static int read_all(int fd, char **out)
{
	size_t room = 64 << 10, len = 0;
	char *text = malloc(room), *larger;
	ssize_t n = 1;
	int error = text ? 0 : BM_ENOMEM;

	while (!error && n > 0) {
		if (room - len < 2) {
			larger = room < MAX_PAGE ? realloc(text, 2 * room) : NULL;
			error = larger ? 0 : BM_ENOMEM;
			text = larger ? larger : text;
			room *= 2;
			continue;
		}
		n = recv(fd, text + len, room - len - 1, 0);
		error = n < 0 ? BM_ENET : 0;
		len += n > 0 ? (size_t)n : 0;
	}
	if (error) {
		free(text);
		return error;
	}
	text[len] = '\0';
	*out = text;
	return 0;
}

/* Leaves the body of an answer, which begins where the text does; false for anything but 200. */
static bool strip_head(char *text)
{
	char *body = strstr(text, "\r\n\r\n");

	if (!body || (strncmp(text, "HTTP/1.1 200 ", 13) && strncmp(text, "HTTP/1.0 200 ", 13)))
		return false;
	body += 4;
	memmove(text, body, strlen(body) + 1);
	return true;
}

int reading_take(const char *host, uint16_t port, uint32_t timeout_ms, struct reading *out)
{
	/* The older version of HTTP: the end of the connection is the end of the page. */
	static const char request[] = "GET /metrics HTTP/1.0\r\nHost: biomatchd\r\n\r\n";
	int fd = dial(host, port, timeout_ms), error = BM_ENET;
	char *text;

	if (fd < 0)
		return BM_ENET;
	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(request) - 1)
		error = read_all(fd, &text);
	close(fd);
	if (error)
		return error;
	if (!strip_head(text)) {
		free(text);
		return BM_EINVAL;
	}
	return reading_parse(text, out);
}

/* False for a line that is none. */
static bool parse_line(char *line, struct sample *out)
{
	char *value = strrchr(line, ' '), *brace = strchr(line, '{'), *end;

	if (!value || value == line || *line == '#')
		return false;
	*out = (struct sample){.name = line, .labels = ""};
	out->value = strtod(value + 1, &end);
	if (*end || end == value + 1)
		return false;
	*value = '\0';
	if (!brace || brace > value)
		return true;
	if (value[-1] != '}')
		return false;
	value[-1] = *brace = '\0';
	out->labels = brace + 1;
	return true;
}

int reading_parse(char *text, struct reading *out)
{
	size_t lines = 1;
	char *rest;

	*out = (struct reading){.text = text, .at_ms = clock_wall_ms()};
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		lines++;
	out->samples = calloc(lines, sizeof(out->samples[0]));
	if (!out->samples) {
		reading_deinit(out);
		return BM_ENOMEM;
	}
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		out->n += parse_line(line, &out->samples[out->n]);
	if (out->n)
		return 0;
	reading_deinit(out);
	return BM_EINVAL;
}

void reading_deinit(struct reading *reading)
{
	free(reading->samples);
	free(reading->text);
	*reading = (struct reading){0};
}

void reading_label(const struct sample *sample, const char *name, char out[READING_LABEL_MAX])
{
	size_t len = strlen(name), n = 0;
	const char *at = sample->labels;

	while ((at = strstr(at, name)) &&
	       ((at != sample->labels && at[-1] != ',') || strncmp(at + len, "=\"", 2)))
		at += len;
	for (at = at ? at + len + 2 : ""; *at && *at != '"' && n < READING_LABEL_MAX - 2; at++) {
		if (*at == '\\' && at[1])
			out[n++] = *at++;
		out[n++] = *at;
	}
	out[n] = '\0';
}

static bool has_labels(const struct sample *sample, const char *const *wanted)
{
	char value[READING_LABEL_MAX];

	for (; wanted && wanted[0]; wanted += 2) {
		reading_label(sample, wanted[0], value);
		if (strcmp(value, wanted[1]))
			return false;
	}
	return true;
}

double reading_sum(const struct reading *reading, const char *name, const char *const *wanted)
{
	double sum = 0;

	for (size_t i = 0; i < reading->n; i++) {
		if (!strcmp(reading->samples[i].name, name) &&
		    has_labels(&reading->samples[i], wanted))
			sum += reading->samples[i].value;
	}
	return sum;
}
