#!/usr/bin/env python3
"""Looks a receipt up in an exported audit log: receipt.py EXPORT SEQUENCE:HASH

The entry of that number must have that hash. That nobody changed the log around it, and who signed it, is told by
`biomatch audit verify EXPORT --public-key audit.pem`. Exits with 0 where the receipt holds.
"""
import hashlib
import sys

from biomatch.v1.audit_pb2 import AuditEntry, AuditExport


def main(export, receipt):
    sequence, digest = receipt.split(":")
    with open(export, "rb") as file:
        log = AuditExport.FromString(file.read())
    for packed in log.entries:
        entry = AuditEntry.FromString(packed)
        if entry.sequence == int(sequence):
            holds = hashlib.sha256(packed).hexdigest() == digest  # of the bytes as they are: nobody packs them again
            print("holds" if holds else "does not hold", entry.operation, entry.outcome, entry.time.ToJsonString())
            return 0 if holds else 1
    print("the log has no such entry")
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    sys.exit(main(*sys.argv[1:]))
