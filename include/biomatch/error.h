/*
 * Error codes, their stable names, their gRPC statuses and their texts: one
 * table for the daemon, the worker and the command line.
 *
 * A function that can fail returns 0 or a negative BM_E* code and is marked
 * BM_MUST_CHECK. A text says what to do next and never holds personal data.
 *
 * Thread: any.  Owns: nothing; every string is static.
 */
#ifndef BIOMATCH_ERROR_H
#define BIOMATCH_ERROR_H

#define BM_MUST_CHECK __attribute__((warn_unused_result))

/* The gRPC status codes (grpc.io, "Status codes and their use in gRPC"). */
enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

/*
 * X(symbol, ErrorInfo reason, gRPC status, text). Numbers follow the order and
 * stay inside one build; the reason is what others may rely on.
 *
 * The first block are findings about a face: an RPC with a decision answers
 * REFER with the Reason of that name, any other RPC answers the status.
 */
#define BM_ERRORS(X)                                                                               \
	X(ENOFACE, "NO_FACE", FAILED_PRECONDITION, "no face was found; take the picture again")    \
	X(EMANYFACES, "SEVERAL_FACES", FAILED_PRECONDITION,                                        \
	  "several faces of comparable size were found; one person at a time")                     \
	X(EFACESMALL, "FACE_TOO_SMALL", FAILED_PRECONDITION,                                       \
	  "the face has too few pixels; come closer or send a larger picture")                     \
	X(EFACECUT, "FACE_INCOMPLETE", FAILED_PRECONDITION,                                        \
	  "the face is cut off by the edge of the picture; take it again")                         \
	X(EATTACK, "PRESENTATION_ATTACK", FAILED_PRECONDITION,                                     \
	  "the face does not look live; take the picture again, with nothing before the camera "   \
	  "but the person")                                                                        \
	X(EFRAMES, "FRAMES_DIFFER", FAILED_PRECONDITION,                                           \
	  "the frames do not show the same face; send frames of one capture")                      \
	X(EATTEMPTS, "ATTEMPTS_EXCEEDED", RESOURCE_EXHAUSTED,                                      \
	  "too many attempts on this subject here; an officer decides, or wait")                   \
	X(ELOWQUALITY, "LOW_QUALITY", FAILED_PRECONDITION,                                         \
	  "the picture is not good enough for the purpose; mend what the checks name, worst "      \
	  "first")                                                                                 \
	X(ENOPORTRAIT, "NOT_A_PORTRAIT", FAILED_PRECONDITION,                                      \
	  "the photograph breaks a rule for portraits; bring one that meets the checks")           \
	X(EUNCERTAIN, "UNCERTAIN", FAILED_PRECONDITION,                                            \
	  "the faces are too alike to say no and not alike enough to say yes; an officer decides") \
	X(ENOREFERENCE, "NO_REFERENCE", NOT_FOUND, "the subject is not in the gallery")            \
	X(EEXPIRED, "REFERENCE_EXPIRED", FAILED_PRECONDITION,                                      \
	  "every reference of the subject has expired; enrol a new one")                           \
                                                                                                   \
	X(EINVAL, "INVALID_ARGUMENT", INVALID_ARGUMENT, "a field of the request is not valid")     \
	X(EMISSING, "FIELD_MISSING", INVALID_ARGUMENT, "a required field is missing")              \
	X(EPROTO, "MESSAGE_MALFORMED", INVALID_ARGUMENT,                                           \
	  "the message is not valid protobuf of this type")                                        \
	X(ETOOBIG, "MESSAGE_TOO_LARGE", RESOURCE_EXHAUSTED,                                        \
	  "the message is larger than the service accepts")                                        \
	X(EIMGFORMAT, "IMAGE_FORMAT", INVALID_ARGUMENT,                                            \
	  "the picture is not JPEG, PNG or JPEG 2000")                                             \
	X(EDG2, "DOCUMENT_FACE", INVALID_ARGUMENT,                                                 \
	  "the data group is not a DG2 with a face picture; send the whole file as the chip "      \
	  "gives it")                                                                              \
	X(EIMGTRUNC, "IMAGE_TRUNCATED", INVALID_ARGUMENT,                                          \
	  "the picture ends too early; send the whole file")                                       \
	X(EIMGCORRUPT, "IMAGE_CORRUPT", INVALID_ARGUMENT, "the picture cannot be decoded")         \
	X(EIMGSIZE, "IMAGE_TOO_LARGE", INVALID_ARGUMENT,                                           \
	  "the picture has more bytes or pixels than the service accepts")                         \
	X(EIMGSMALL, "IMAGE_TOO_SMALL", INVALID_ARGUMENT,                                          \
	  "the picture has fewer pixels than a face needs")                                        \
	X(EFRAMECOUNT, "TOO_MANY_FRAMES", INVALID_ARGUMENT,                                        \
	  "the probe has more frames than the purpose allows")                                     \
	X(ETEMPLATE, "TEMPLATE_INVALID", INVALID_ARGUMENT,                                         \
	  "the template was not made by this service or is damaged")                               \
	X(EMODEL, "TEMPLATE_MODEL", FAILED_PRECONDITION,                                           \
	  "the template was made by another model; extract it again")                              \
                                                                                                   \
	X(ECSCA, "CSCA_MISSING", FAILED_PRECONDITION,                                              \
	  "no country signing certificates are configured; set documents.csca")                    \
	X(EPEER, "PEER_IDENTITY", UNAUTHENTICATED,                                                 \
	  "the client certificate names no endpoint of this deployment")                           \
	X(EPURPOSE, "PURPOSE_UNKNOWN", PERMISSION_DENIED,                                          \
	  "the purpose is not defined; ask the operator which one to use")                         \
	X(EDENIED, "PURPOSE_DENIED", PERMISSION_DENIED,                                            \
	  "the purpose does not allow this operation for this endpoint and gallery")               \
	X(ENOGALLERY, "GALLERY_UNKNOWN", NOT_FOUND, "no gallery has this name")                    \
	X(ENOENCOUNTER, "ENCOUNTER_UNKNOWN", NOT_FOUND,                                            \
	  "the subject has no encounter of this name")                                             \
	X(EERASED, "ANSWER_ERASED", FAILED_PRECONDITION,                                           \
	  "what this request answered was erased with its subject; ask under a new request_id")    \
	X(ENOIMAGE, "IMAGE_NOT_KEPT", NOT_FOUND, "no picture is kept of the encounter")            \
	X(EEXISTS, "ALREADY_EXISTS", ALREADY_EXISTS, "that name is taken")                         \
	X(EHELD, "LEGAL_HOLD", FAILED_PRECONDITION,                                                \
	  "a legal hold keeps what is held of the subject; have every hold released first")        \
	X(ENOHOLD, "HOLD_UNKNOWN", NOT_FOUND, "no hold on the subject is for this matter")         \
	X(ENOTEMPTY, "GALLERY_NOT_EMPTY", FAILED_PRECONDITION,                                     \
	  "the gallery still holds subjects; delete them first")                                   \
	X(EPRUNED, "CHANGES_PRUNED", OUT_OF_RANGE,                                                 \
	  "the change log does not reach back so far; make a new copy from a backup")              \
	X(EDIVERGED, "CHANGES_DIVERGED", FAILED_PRECONDITION,                                      \
	  "the two change logs are not of one history; make a new copy from a backup")             \
	X(EFOLLOWER, "FOLLOWS_ANOTHER", FAILED_PRECONDITION,                                       \
	  "this daemon is a standby and takes no changes; ask its leader")                         \
	X(ESUPERSEDED, "SUPERSEDED", UNAVAILABLE,                                                  \
	  "another daemon has taken the lead; make this one its standby")                          \
	X(ESTALE, "STANDBY_STALE", UNAVAILABLE,                                                    \
	  "the standby has not kept up with its leader for longer than follow.max_age")            \
	X(EREUSED, "REQUEST_ID_REUSED", INVALID_ARGUMENT,                                          \
	  "the request_id was used with another body; use a new one")                              \
	X(ETARGET, "TARGET_UNSUPPORTED", FAILED_PRECONDITION,                                      \
	  "the calibration cannot support the purpose's target rate over so many references")      \
	X(EKEYNEWEST, "KEY_NEWEST", FAILED_PRECONDITION,                                           \
	  "the gallery is under the newest key; add one to the key file and reload the daemon")    \
	X(EREENCODING, "REENCODING", FAILED_PRECONDITION,                                          \
	  "the gallery still moves to another key; ask again when that is done")                   \
	X(EAPPROVAL, "APPROVAL_MISSING", FAILED_PRECONDITION,                                      \
	  "another endpoint has to approve this export, for this key, first")                      \
	X(EAPPROVALLATE, "APPROVAL_EXPIRED", FAILED_PRECONDITION,                                  \
	  "the approval of this export has expired; have it approved again")                       \
	X(EAPPROVALOWN, "APPROVAL_OWN", FAILED_PRECONDITION,                                       \
	  "who approved this export cannot make it; another endpoint has to")                      \
	X(ELIMIT, "LIMIT_REACHED", FAILED_PRECONDITION,                                            \
	  "a limit on stored items is reached; remove some first")                                 \
                                                                                                   \
	X(EBUSY, "OVERLOADED", RESOURCE_EXHAUSTED, "the service is at capacity; retry later")      \
	X(EDEADLINE, "DEADLINE", DEADLINE_EXCEEDED,                                                \
	  "the deadline passed before the work was done")                                          \
	X(ECANCELLED, "CANCELLED", CANCELLED, "the caller cancelled")                              \
	X(EDRAIN, "SHUTTING_DOWN", UNAVAILABLE, "the service is shutting down; reconnect")         \
	X(EWORKER, "FACE_WORKER_LOST", UNAVAILABLE,                                                \
	  "the process analysing the picture failed on it; retry once")                            \
	X(EWORKERTIME, "FACE_WORKER_TIMEOUT", UNAVAILABLE,                                         \
	  "analysing the picture took too long and was stopped")                                   \
	X(ENOSERVICE, "SERVICE_UNKNOWN", NOT_FOUND, "the server has no service of this name")      \
	X(EUNIMPL, "METHOD_UNKNOWN", UNIMPLEMENTED, "the service has no such method")              \
                                                                                                   \
	X(ENOMEM, "OUT_OF_MEMORY", RESOURCE_EXHAUSTED, "out of memory; retry later")               \
	X(EIO, "STORE_IO", UNAVAILABLE, "the store cannot be read or written; see the log")        \
	X(EFULL, "STORE_FULL", RESOURCE_EXHAUSTED,                                                 \
	  "the disk of the store is full; free some of it, then restart the daemon")               \
	X(EMAPFULL, "STORE_MAP_FULL", RESOURCE_EXHAUSTED,                                          \
	  "the store has reached store.map_size; raise it and reload the daemon")                  \
	X(EREADONLY, "STORE_READ_ONLY", UNAVAILABLE,                                               \
	  "a write to the store failed and it is read-only until the daemon is restarted")         \
	X(ECORRUPT, "STORE_CORRUPT", DATA_LOSS, "a stored record fails its checksum")              \
	X(ESTOREVER, "STORE_VERSION", FAILED_PRECONDITION,                                         \
	  "the store is of a version that this software does not know")                            \
	X(ESTORENEW, "STORE_NEWER", FAILED_PRECONDITION,                                           \
	  "the store was made by a newer version of the software; install that one")               \
	X(EKEY, "STORE_KEY", FAILED_PRECONDITION,                                                  \
	  "the store was made under another key; configure the right store key")                   \
	X(EAUDIT, "AUDIT_BROKEN", DATA_LOSS,                                                       \
	  "the audit log does not hold together: an entry was changed, or is missing")             \
	X(ELOCKED, "STORE_LOCKED", FAILED_PRECONDITION, "another daemon has the store open")       \
	X(EBACKUP, "BACKUP_INVALID", DATA_LOSS,                                                    \
	  "the backup is damaged, not whole, or sealed to another key")                            \
	X(EDUMP, "DUMP_INVALID", DATA_LOSS,                                                        \
	  "the dump is damaged, not whole, or of a format that this version does not read")        \
	X(ECONF, "CONFIG_INVALID", INVALID_ARGUMENT, "the configuration is not valid")             \
	X(EPACK, "PACK_INVALID", FAILED_PRECONDITION,                                              \
	  "the model pack is missing or damaged; run the set-up again")                            \
	X(ETLS, "TLS", UNAVAILABLE, "the TLS connection could not be made")                        \
	X(ENET, "NETWORK", UNAVAILABLE, "the service cannot be reached")                           \
	X(EINTERNAL, "INTERNAL", INTERNAL, "a fault in the service; see its log")

enum bm_error {
	BM_OK = 0,
#define BM_ERROR_POSITIVE(symbol, reason, grpc, text) BM_POSITIVE_##symbol,
	BM_BEFORE_FIRST = 0,
	BM_ERRORS(BM_ERROR_POSITIVE)
#undef BM_ERROR_POSITIVE
#define BM_ERROR_NEGATIVE(symbol, reason, grpc, text) BM_##symbol = -(int)BM_POSITIVE_##symbol,
		BM_ERRORS(BM_ERROR_NEGATIVE)
#undef BM_ERROR_NEGATIVE
};

/* The stable ErrorInfo reason of a code; "INTERNAL" for a number that is none. */
const char *bm_error_reason(int code);
/* The text of a code: what is wrong and what to do next. */
const char *bm_error_text(int code);
/* The gRPC status of a code; GRPC_OK for 0. */
enum grpc_status bm_error_grpc(int code);
/* The upper-case name of a gRPC status, "UNKNOWN" for a number that is none. */
const char *grpc_status_name(int status);

#endif
