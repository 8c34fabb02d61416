/* BER-TLV (ITU-T X.690): elements in a run of bytes, one after another. */
#ifndef DOCUMENT_TLV_H
#define DOCUMENT_TLV_H

#include "biomatch/bytes.h"
#include "biomatch/error.h"

/*
 * Takes the element at the beginning of *in: its tag as the bytes it has, first byte
 * highest (0x7f61), and its value. *in is then what follows. BM_EDG2 for a tag of more
 * than two bytes, an indefinite length, or one that reaches past the end.
 */
int tlv_take(struct bytes *in, unsigned *tag, struct bytes *value) BM_MUST_CHECK;
/* As tlv_take, of an element that must have this tag. */
int tlv_expect(struct bytes *in, unsigned tag, struct bytes *value) BM_MUST_CHECK;
/* The first element of this tag in a run, which is walked whole; BM_EDG2 without one. */
int tlv_find(struct bytes in, unsigned tag, struct bytes *value) BM_MUST_CHECK;

#endif
