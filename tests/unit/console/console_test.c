#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those above. */
#include <arpa/inet.h>
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "biomatch/console.h"

static int render_number(void *ctx, FILE *out)
{
	fprintf(out, "number %d\n", ++*(int *)ctx);
	return 200;
}

static int render_busy(void *ctx, FILE *out)
{
	(void)ctx;
	fputs("busy\n", out);
	return 503;
}

static const struct console_page pages[] = {
	{.path = "/number", .type = "text/plain", .render = render_number},
	{.path = "/busy", .type = "text/plain", .render = render_busy},
	{.path = "/fixed",
	 .type = "text/html",
	 .content = {.data = (const uint8_t *)"<p>a\0b", .len = 6}},
};

static struct console *opened(int *number)
{
	const struct console_options options = {
		.listen = "127.0.0.1:0", .pages = pages, .n_pages = 3, .ctx = number};
	struct console *console;
	char message[256] = "";

	if (console_open(&options, &console, message))
		fail_msg("%s", message);
	assert_true(console_port(console) > 0);
	return console;
}

/* Sends a request and reads until the console closes the connection. */
static void ask(const struct console *console, const char *request, char *out, size_t size)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons(console_port(console)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	size_t len = 0;
	ssize_t n;

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	while (len < size - 1 && (n = recv(fd, out + len, size - 1 - len, 0)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	close(fd);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"

static void test_pages(void **state)
{
	int number = 0;
	struct console *console = opened(&number);
	char text[4096];

	(void)state;
	ask(console, GET("/number"), text, sizeof(text));
	assert_ptr_equal(strstr(text, "HTTP/1.1 200 "), text);
	assert_non_null(strstr(text, "Content-Type: text/plain\r\n"));
	assert_non_null(strstr(text, "Cache-Control: no-store\r\n"));
	assert_non_null(strstr(text, "\r\n\r\nnumber 1\n"));
	ask(console, GET("/number?x=y"), text, sizeof(text));
	assert_non_null(strstr(text, "\r\n\r\nnumber 2\n"));
	ask(console, GET("/busy"), text, sizeof(text));
	assert_ptr_equal(strstr(text, "HTTP/1.1 503 "), text);
	assert_non_null(strstr(text, "\r\n\r\nbusy\n"));
	console_close(console);
}

static void test_fixed_page(void **state)
{
	int number = 0;
	struct console *console = opened(&number);
	char text[4096];

	(void)state;
	ask(console, GET("/fixed"), text, sizeof(text));
	assert_ptr_equal(strstr(text, "HTTP/1.1 200 "), text);
	assert_non_null(strstr(text, "Content-Type: text/html\r\n"));
	assert_non_null(strstr(text, "Content-Length: 6\r\n"));
	assert_non_null(
		strstr(text, "Content-Security-Policy: default-src 'none'; script-src 'self'"));
	assert_memory_equal(strstr(text, "\r\n\r\n") + 4, "<p>a\0b", 6);
	console_close(console);
}

static void test_refuses(void **state)
{
	int number = 0;
	struct console *console = opened(&number);
	char text[4096], large[16384];

	(void)state;
	ask(console, GET("/other"), text, sizeof(text));
	assert_ptr_equal(strstr(text, "HTTP/1.1 404 "), text);
	ask(console, GET("/number/../number"), text, sizeof(text));
	assert_ptr_equal(strstr(text, "HTTP/1.1 404 "), text);
	ask(console, "DELETE /number HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", text,
	    sizeof(text));
	assert_null(strstr(text, "HTTP/1.1 200 "));
	ask(console, "POST /number HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", text,
	    sizeof(text));
	assert_null(strstr(text, "HTTP/1.1 200 "));
	strcpy(large, "GET /number HTTP/1.1\r\nX: ");
	memset(large + strlen(large), 'x', 12000);
	strcpy(large + 12000, "\r\n\r\n");
	ask(console, large, text, sizeof(text));
	assert_null(strstr(text, "HTTP/1.1 200 "));
	assert_int_equal(number, 0);
	ask(console, GET("/number"), text, sizeof(text));
	assert_non_null(strstr(text, "number 1\n"));
	console_close(console);
}

static void test_addresses(void **state)
{
	int number = 0;
	struct console *console = opened(&number), *second;
	char message[256] = "", listen[32];
	struct console_options options = {.listen = listen, .pages = pages, .n_pages = 2};

	(void)state;
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", console_port(console));
	assert_int_equal(console_open(&options, &second, message), BM_ENET);
	assert_ptr_equal(strstr(message, listen), message);
	options.listen = "nowhere";
	assert_int_equal(console_open(&options, &second, message), BM_ENET);
	assert_non_null(strstr(message, "host:port"));
	console_close(console);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_fixed_page),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
