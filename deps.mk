# The modules and their allowed edges: the single source of the layering.
# DEPS_x names the modules that src/x may include and link; LIBS_x the system
# libraries that only x may use. `make layers` proves both.

MODULES := base crypto accuracy quality document passive yaml pack keys conf wire db changes requests audit score face faceworker batch policy \
           net gallery writer client standby service metrics console envelope dump

DEPS_base       :=
DEPS_quality    := base
DEPS_document   := base
DEPS_passive    := base crypto
DEPS_crypto     :=
DEPS_pack       := base yaml
DEPS_keys       := base
DEPS_yaml       := base
DEPS_conf       := base yaml
DEPS_wire       := base
DEPS_db         := base
DEPS_changes    := base db keys
DEPS_requests   := base db keys
DEPS_audit      := base wire db keys
DEPS_score      := base
DEPS_face       := base pack score quality document
DEPS_faceworker := base pack face quality
DEPS_accuracy   := base score
DEPS_batch      := base
DEPS_policy     := base yaml pack batch quality
DEPS_net        := base
DEPS_gallery    := base db changes requests score keys pack
DEPS_writer     := base db changes requests gallery keys pack
DEPS_dump       := base audit db gallery wire
DEPS_metrics    := base
DEPS_envelope   := base crypto
DEPS_console    := base
DEPS_standby    := base client db changes requests gallery keys wire writer
DEPS_service    := base passive wire audit envelope changes requests score gallery keys pack policy writer batch faceworker face db metrics quality standby client
DEPS_client     := base wire

# Programs: everything below src/<program> links into build/<mode>/<program>.
PROGRAMS := biomatchd biomatch biomatch-face biomatch-calibrate
DIR_biomatchd      := daemon
DIR_biomatch       := cli
DIR_biomatch-face  := facemain
DIR_biomatch-calibrate := calibrate
DEPS_daemon        := base crypto passive yaml conf pack keys db changes requests gallery writer policy batch faceworker face \
                      service net score wire metrics console audit envelope dump quality standby client
DEPS_cli           := base client wire audit envelope
DEPS_calibrate     := base accuracy pack face faceworker score
DEPS_facemain      := base pack face faceworker score quality document

LIBS_base       := -lxxhash -lsystemd -pthread
LIBS_pack       := -lcrypto -lm
LIBS_quality    :=
LIBS_document   :=
LIBS_passive    := -lcrypto
LIBS_crypto     := -lcrypto
LIBS_keys       := -lcrypto
LIBS_yaml       := -lyaml
LIBS_conf       :=
LIBS_wire       := -lprotobuf-c
LIBS_db         := -llmdb
LIBS_changes    := -lcrypto
LIBS_requests   :=
LIBS_audit      := -lcrypto
LIBS_score      := -lm
LIBS_face       := -lopencv_dnn -lopencv_imgproc -lopencv_core -ljpeg -lpng16 -lopenjp2 -lstdc++ -lm
LIBS_faceworker :=
LIBS_accuracy   := -lm
LIBS_batch      := -pthread
LIBS_policy     := -lm
LIBS_net        := -levent_core -lnghttp2 -lssl -lcrypto -pthread
LIBS_gallery    := -lm
LIBS_envelope   := -lcrypto
LIBS_dump       := -lcrypto
LIBS_writer     := -pthread
LIBS_metrics    := -lm -pthread
LIBS_console    := -levent_extra -levent_core -pthread
LIBS_standby    := -pthread
LIBS_service    := -lcrypto -pthread
LIBS_client     := -lnghttp2 -lssl -lcrypto
LIBS_daemon     := -lsystemd -levent_core
LIBS_cli        := -ljansson -lncurses -lcrypto -pthread
LIBS_calibrate  := -lcairo -ljansson -lm -pthread
LIBS_facemain   := -lseccomp
