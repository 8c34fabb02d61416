# Fuzz targets: tests/fuzz/<name>.c and the modules it may use (their closures come
# along). Every MODE builds them with a main that replays the corpus; MODE=fuzz
# CC=clang builds them with libFuzzer.
FUZZ_certificates := net audit
FUZZ_conf         := conf
FUZZ_connection   := net
FUZZ_document     := document
FUZZ_envelope     := envelope
FUZZ_export       := audit
FUZZ_grpc         := net
FUZZ_jp2          := face
FUZZ_jpeg         := face
FUZZ_manifest     := pack
FUZZ_messages     := service
FUZZ_png          := face
FUZZ_policy       := policy
FUZZ_report       := faceworker
FUZZ_sod          := passive
FUZZ_text         := policy

FUZZ_SECONDS ?= 60
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(filter-out %/replay.c,$(wildcard tests/fuzz/*.c)))
FUZZ_BIN     := $(FUZZ_TARGETS:%=$B/tests/fuzz/%)
FUZZ_MAIN    := $(if $(filter fuzz,$(MODE)),-fsanitize=fuzzer,tests/fuzz/replay.c)

LIBS_fuzz_certificates := -lcmocka

fuzz_modules = $(call uniq,$(foreach m,$(FUZZ_$1),$m $(call linked,$m)))
fuzz_libs    = $(foreach m,$(call fuzz_modules,$1),$B/lib/lib$m.a)

define fuzz_rule
$B/tests/fuzz/$1: tests/fuzz/$1.c $(wildcard tests/fuzz/*.h) tests/fuzz/replay.c $(call fuzz_libs,$1)
	@mkdir -p $$(@D)
	@echo '  FUZZ    $$@'
	$(Q)$(CC) $(CPPFLAGS) -Itests/support $(filter-out -MMD -MP,$(CFLAGS)) tests/fuzz/$1.c \
		$(FUZZ_MAIN) -o $$@ $(LDFLAGS) -Wl,--start-group $(call fuzz_libs,$1) \
		-Wl,--end-group $(foreach m,$(call fuzz_modules,$1),$(LIBS_$m)) $(LIBS_fuzz_$1)
endef
$(foreach t,$(FUZZ_TARGETS),$(eval $(call fuzz_rule,$t)))

.PHONY: fuzz fuzzers
fuzzers: $(FUZZ_BIN)

fuzz: ## fuzz every parser of outside bytes with clang's libFuzzer, FUZZ_SECONDS each
	$(MAKE) --no-print-directory MODE=fuzz CC=clang fuzzers
	tests/fuzz/run build/fuzz-clang $(FUZZ_SECONDS) $(FUZZ_ONLY)
