#include <openssl/evp.h>
#include <string.h>

#include "biomatch/bytes.h"
#include "call.h"

void call_decode_text(char *text)
{
	char *out = text;

	for (const char *p = text; *p; p++) {
		char hex[3] = {p[0] == '%' ? p[1] : '\0', p[1] ? p[2] : '\0', '\0'};
		uint8_t byte;

		if (*hex && !bytes_from_hex(hex, &byte, 1) && byte) {
			*out++ = (char)byte;
			p += 2;
		} else {
			*out++ = *p;
		}
	}
	*out = '\0';
}

int call_decode_base64(char *text, size_t *len)
{
	unsigned char out[CALL_MAX_DETAILS];
	size_t given = strcspn(text, "="), whole = (given + 3) & ~(size_t)3;
	int n;

	/* Padded here, whatever was sent; EVP_DecodeBlock also skips white space. */
	if (text[given + strspn(text + given, "=")] || given % 4 == 1 || whole >= sizeof(out) ||
	    strcspn(text, " \t\r\n") < given)
		return BM_EPROTO;
	memset(text + given, '=', whole - given);
	n = EVP_DecodeBlock(out, (unsigned char *)text, (int)whole);
	if (n < 0)
		return BM_EPROTO;
	*len = (size_t)n - (whole - given);
	memcpy(text, out, *len);
	return 0;
}
