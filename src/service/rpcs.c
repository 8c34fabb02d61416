#include "call.h"

extern const struct rpc verify_rpc, compare_rpc, verify_document_rpc, identify_rpc;
extern const struct rpc enrol_rpc, get_subject_rpc, get_image_rpc;
extern const struct rpc delete_encounter_rpc, delete_subject_rpc;
extern const struct rpc analyse_rpc, extract_rpc;
extern const struct rpc create_gallery_rpc, list_galleries_rpc, get_gallery_rpc, delete_gallery_rpc;
extern const struct rpc rotate_gallery_rpc, approve_subject_export_rpc, export_subject_rpc;
extern const struct rpc place_legal_hold_rpc, release_legal_hold_rpc, list_legal_holds_rpc;
extern const struct rpc create_audit_checkpoint_rpc, export_audit_rpc, prune_audit_rpc;
extern const struct rpc stream_changes_rpc, promote_standby_rpc, reload_rpc;
extern const struct rpc health_check_rpc, health_watch_rpc;
extern const struct rpc reflection_rpc, reflection_alpha_rpc;

const struct rpc *const service_rpcs[] = {
	&verify_rpc,
	&compare_rpc,
	&verify_document_rpc,
	&identify_rpc,
	&enrol_rpc,
	&get_subject_rpc,
	&get_image_rpc,
	&delete_encounter_rpc,
	&delete_subject_rpc,
	&analyse_rpc,
	&extract_rpc,
	&create_gallery_rpc,
	&list_galleries_rpc,
	&get_gallery_rpc,
	&delete_gallery_rpc,
	&rotate_gallery_rpc,
	&approve_subject_export_rpc,
	&export_subject_rpc,
	&place_legal_hold_rpc,
	&release_legal_hold_rpc,
	&list_legal_holds_rpc,
	&create_audit_checkpoint_rpc,
	&export_audit_rpc,
	&prune_audit_rpc,
	&stream_changes_rpc,
	&promote_standby_rpc,
	&reload_rpc,
	&health_check_rpc,
	&health_watch_rpc,
	&reflection_rpc,
	&reflection_alpha_rpc,
	NULL,
};
