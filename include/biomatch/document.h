/*
 * What an electronic passport holds of its owner's face: data group 2 of its chip
 * (ICAO Doc 9303-10, 4.7.2), with a facial record of ISO/IEC 19794-5:2005 or a face
 * image data block of ISO/IEC 39794-5:2019 in it. Nothing is allocated or copied:
 * the picture is a part of the bytes given. Its format is for a decoder to tell; what a
 * record says of it is not believed.
 *
 * The bytes come from whoever holds a chip: the face worker walks them, not the daemon.
 *
 * Thread: any.
 * Errors: BM_EDG2 for anything that is not a whole DG2 with a picture.
 * Owns: nothing; the picture lives as long as the bytes.
 */
#ifndef BIOMATCH_DOCUMENT_H
#define BIOMATCH_DOCUMENT_H

#include <stdbool.h>

#include "biomatch/bytes.h"
#include "biomatch/error.h"

/* True for bytes that begin as a DG2, and as no picture does. */
bool document_is_dg2(struct bytes file);
/*
 * The first picture of the first face in a whole DG2. Lengths are definite, of at most
 * four bytes, and every one of them must fit in what encloses it; nothing may follow.
 */
int document_find_picture(struct bytes dg2, struct bytes *picture) BM_MUST_CHECK;

#endif
