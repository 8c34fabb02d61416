/*
 * Entries as bytes, shared by the log and by those who check it.
 */
#ifndef AUDIT_ENTRY_H
#define AUDIT_ENTRY_H

#include "biomatch/audit.h"

/*
 * The signature is the entry's last field: its tag of two bytes (field 21, of a
 * length), the length, and 64 bytes.
 */
#define ENTRY_SIGNATURE_TAG     "\xaa\x01\x40"
#define ENTRY_SIGNATURE_TAG_LEN 3
#define ENTRY_SIGNATURE_LEN     (ENTRY_SIGNATURE_TAG_LEN + KEYS_SIGNATURE_LEN)

/* Unpacks into the arena. BM_EAUDIT for what is no entry. */
int entry_unpack(struct bytes packed, struct arena *arena,
		 Biomatch__V1__AuditEntry **out) BM_MUST_CHECK;
/* True when one of the keys signed the packed checkpoint. */
bool entry_is_signed_by(struct bytes packed, const struct audit_trust *trust);

#endif
