# biomatchd: `make help` lists the targets.

MODE ?= release
CC   ?= gcc
CXX  ?= g++
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := $(if $(findstring clang,$(CC)),clang++,g++)
endif

VERSION := $(shell cat VERSION)
TOOL    := $(if $(findstring clang,$(CC)),-clang,)
B       := build/$(MODE)$(TOOL)
GEN     := build/gen
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
# V=1 shows the commands.
Q       := $(if $(V),,@)
DESTDIR ?=
BUF     := build/node/node_modules/.bin/buf

include deps.mk

WARN := -Wall -Wextra -Werror -Wshadow -Wundef -Wvla -Wpointer-arith -Wcast-align \
        -Wformat=2 -Wwrite-strings -Wimplicit-fallthrough -Wnull-dereference
CWARN := -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
ifneq ($(TOOL),)
WARN := $(filter-out -Wnull-dereference,$(WARN))
endif

OPT_release := -O2 -DNDEBUG=1 -D_FORTIFY_SOURCE=2
OPT_debug   := -O1
OPT_asan    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_tsan    := -O1 -fsanitize=thread -fno-omit-frame-pointer
OPT_fuzz    := $(OPT_asan) -fsanitize=fuzzer-no-link
ifeq ($(OPT_$(MODE)),)
$(error MODE is release, debug, asan, tsan or fuzz, not "$(MODE)")
endif

CPPFLAGS += -D_GNU_SOURCE -DBIOMATCH_VERSION='"$(VERSION)"' -Iinclude -isystem $(GEN)
COMMON   := -g $(OPT_$(MODE)) -fstack-protector-strong -fPIC $(WARN) -MMD -MP
CFLAGS   += -std=gnu11 $(COMMON) $(CWARN)
CXXFLAGS += -std=c++17 $(COMMON)
# Sums by lanes are for vectors of any set, and the same to the bit on every one.
CFLAGS_code_encode := -O3 -ffp-contract=off
# Kernels are compiled for their instruction set and run only where it is found.
ifneq ($(filter x86_64-%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
CFLAGS_avx2   := -mavx2 -mfma
CFLAGS_avx512 := -mavx2 -mfma -mavx512f
CFLAGS_avx2_code   := -mavx2
CFLAGS_avx512_code := -O3 -mavx2 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mavx512vnni
endif
LDFLAGS  += $(filter -fsanitize%,$(OPT_$(MODE))) -Wl,-z,relro,-z,now -Wl,--as-needed

# A module's allowed closure, nearest first, and the system libraries of it.
closure = $(strip $(call uniq,$(foreach d,$(DEPS_$1),$d $(call closure,$d))))
uniq    = $(if $1,$(firstword $1) $(call uniq,$(filter-out $(firstword $1),$1)))
syslibs = $(call uniq,$(LIBS_$1) $(foreach d,$(call closure,$1),$(LIBS_$d)))
# biomatch-face alone links src/face; everybody else has only its report's shape.
linked  = $(filter-out $(if $(filter facemain face,$1),,face),$(call closure,$1))
liblibs = $(LIBS_$1) $(foreach d,$(call linked,$1),$(LIBS_$d))

sources = $(wildcard src/$1/*.c) $(wildcard src/$1/*.cpp)
objects = $(patsubst src/%,$B/obj/%.o,$(call sources,$1))

PROTOS   := $(shell cd proto && find . -name '*.proto' | sed 's|^\./||' | LC_ALL=C sort)
GOOGLE   := google/protobuf/any.proto google/protobuf/timestamp.proto google/protobuf/duration.proto \
            google/protobuf/descriptor.proto
GEN_C    := $(patsubst %.proto,$(GEN)/%.pb-c.c,$(PROTOS) $(GOOGLE))
GEN_OBJ  := $(patsubst $(GEN)/%.c,$B/obj/gen/%.o,$(GEN_C))

.PHONY: all help analyse setup demo test test-crash test-memory test-reload test-search unit e2e lint layers format clean install install-dev deb test-deb test-operate reproducible check-format \
        bench bench-attack bench-serve bench-writer bench-fleet bench-grpc soak accuracy sbom api released
.DELETE_ON_ERROR:
.SECONDARY:

all: $(addprefix $B/,$(PROGRAMS)) $B/lib/libbiomatch.a ## build the daemon, the command line, the face worker and the client library

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18
	@echo "  MODE=release|debug|asan|tsan and CC=gcc|clang build side by side under build/"

setup: ## install packages, the model pack and the sample photographs (root or sudo)
	./scripts/setup

$(GEN)/%.pb-c.c: proto/%.proto
	@mkdir -p $(GEN)
	@echo '  PROTOC  $<'
	$(Q)protoc -Iproto -I/usr/include --c_out=$(GEN) $<

$(GEN)/google/protobuf/%.pb-c.c:
	@mkdir -p $(GEN)
	$(Q)protoc -I/usr/include --c_out=$(GEN) google/protobuf/$*.proto

$(GEN)/descriptor_set.pb: $(addprefix proto/,$(PROTOS))
	@mkdir -p $(GEN)
	$(Q)protoc -Iproto -I/usr/include --include_imports --include_source_info \
		--descriptor_set_out=$@ $(PROTOS)

$(GEN)/stamp: $(GEN_C) $(GEN)/descriptor_set.pb
	@touch $@

$B/obj/gen/%.o: $(GEN)/%.c | $(GEN)/stamp
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=gnu11 -g $(filter -ffile-prefix-map=%,$(CFLAGS)) $(OPT_$(MODE)) -fPIC -w -c $< -o $@

$B/obj/%.c.o: src/%.c | $(GEN)/stamp
	@mkdir -p $(@D)
	@echo '  CC      $<'
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_$(notdir $*)) -c $< -o $@

$B/obj/%.cpp.o: src/%.cpp | $(GEN)/stamp
	@mkdir -p $(@D)
	@echo '  CXX     $<'
	$(Q)$(CXX) $(CPPFLAGS) -isystem /usr/include/opencv4 $(CXXFLAGS) -c $< -o $@

$B/obj/wire/descriptors.c.o: CFLAGS += -Wa,-I$(GEN)
$B/obj/wire/descriptors.c.o: $(GEN)/descriptor_set.pb

# The live page: its own files, and a library that the set-up command fetches.
UPLOT := build/uplot
$(UPLOT)/uPlot.LICENSE:
	./scripts/setup
$B/obj/daemon/page.c.o: CFLAGS += -Wa,-Isrc/daemon/page -Wa,-I$(UPLOT)
$B/obj/daemon/page.c.o: $(wildcard src/daemon/page/*) $(UPLOT)/uPlot.LICENSE

# One archive a module; wire carries the generated messages.
define module_rule
$B/lib/lib$1.a: $(call objects,$1) $(if $(filter wire,$1),$(GEN_OBJ))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
$B/layers/$1.so: $B/lib/lib$1.a $(foreach d,$(call linked,$1),$B/lib/lib$d.a)
	@mkdir -p $$(@D)
	$(Q)$(CC) -shared -o $$@ $(LDFLAGS) -Wl,--no-undefined -Wl,--whole-archive $B/lib/lib$1.a \
		-Wl,--no-whole-archive -Wl,--start-group $(foreach d,$(call linked,$1),$B/lib/lib$d.a) \
		-Wl,--end-group $(call liblibs,$1) -lc
endef
$(foreach m,$(MODULES),$(eval $(call module_rule,$m)))

# The client library as integrators link it: in one archive, whose other symbols stay its own.
CLIENT_API := biomatch_* biomatch__v1__* grpc_* google__* arena_* bm_error_*
$B/lib/libbiomatch.a: $(foreach d,client $(call closure,client),$B/lib/lib$d.a)
	$(Q)$(LD) -r -o $(@:.a=.o) --whole-archive $^
	$(Q)objcopy --wildcard $(CLIENT_API:%=--keep-global-symbol='%') $(@:.a=.o)
	@rm -f $@
	$(Q)ar rcs $@ $(@:.a=.o)

define program_rule
$B/$1: $(call objects,$(DIR_$1)) $(foreach d,$(call linked,$(DIR_$1)),$B/lib/lib$d.a)
	@echo '  LINK    $$@'
	$(Q)$(CC) -o $$@ $(LDFLAGS) -pie $(call objects,$(DIR_$1)) -Wl,--start-group \
		$(foreach d,$(call linked,$(DIR_$1)),$B/lib/lib$d.a) -Wl,--end-group $(call liblibs,$(DIR_$1))
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$p)))

# tests/unit/<module>/<name>_test.c links its module's closure; tests/loopback
# links the service's.
UNIT_SRC     := $(wildcard tests/unit/*/*_test.c)
LOOPBACK_SRC := $(wildcard tests/loopback/*_test.c)
UNIT_BIN     := $(patsubst tests/%.c,$B/tests/%,$(UNIT_SRC) $(LOOPBACK_SRC))
LIBS_openblas_test := -lopenblas
LIBS_face_test := -lturbojpeg
LIBS_quality_test := -lturbojpeg
LIBS_liveness_test := -lturbojpeg
LIBS_faceworker_test := -lturbojpeg -lpng16 -lopenjp2
test_module   = $(if $(filter loopback%,$1),service,$(word 2,$(subst /, ,$1)))
test_libs     = $(foreach d,$(call test_module,$1) $(call linked,$(call test_module,$1)),$B/lib/lib$d.a)

define test_rule
$B/tests/$1: tests/$1.c $(wildcard tests/support/*.h) $(call test_libs,$1)
	@mkdir -p $$(@D)
	@echo '  TEST    $$@'
	$(Q)$(CC) $(CPPFLAGS) -DBUILD_DIR='"$B"' -Itests/support $(CFLAGS) tests/$1.c -o $$@ $(LDFLAGS) -Wl,--start-group $(call test_libs,$1) \
		-Wl,--end-group $(call liblibs,$(call test_module,$1)) $(LIBS_$(notdir $1)) -lcmocka
endef
$(foreach t,$(patsubst tests/%.c,%,$(UNIT_SRC) $(LOOPBACK_SRC)),$(eval $(call test_rule,$t)))

# Power cuts, failing disks and memory that runs out, through shims that are preloaded.
$B/tests/crash/%.so: tests/crash/%.c tests/crash/%.h
	@mkdir -p $(@D)
	@echo '  LINK    $@'
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize%,$(CFLAGS)) -shared $< -o $@ -ldl

SHIMS         := $B/tests/crash/shim.so $B/tests/crash/alloc.so
CRASH_MODULES := $(call uniq,writer $(call linked,writer) audit $(call linked,audit))
CRASH_LIBS    := $(foreach d,$(CRASH_MODULES),$B/lib/lib$d.a)
CRASH_SRC     := $(addprefix tests/crash/,powercut_test.c driver.c disk.c)
$B/tests/crash/powercut_test: $(CRASH_SRC) $(wildcard tests/crash/*.h tests/support/*.h) \
		$B/tests/crash/shim.so $(CRASH_LIBS)
	@echo '  TEST    $@'
	$(Q)$(CC) $(CPPFLAGS) -DBUILD_DIR='"$B"' -Itests/support -Itests/crash \
		$(filter-out -MMD -MP,$(CFLAGS)) $(CRASH_SRC) -o $@ $(LDFLAGS) -Wl,--start-group \
		$(CRASH_LIBS) -Wl,--end-group $(foreach d,$(CRASH_MODULES),$(LIBS_$d)) -lcmocka

include bench/bench.mk
include tests/fuzz/fuzz.mk

tests: all $(UNIT_BIN) $(FUZZ_BIN) $B/tests/crash/powercut_test $(SHIMS) ## build every test

unit: tests ## run the unit and loopback tests of this MODE, and replay the fuzzers' corpora
	tests/run $B unit fuzz loopback

e2e: all $(SHIMS) ## run the end-to-end tests against the real daemon
	tests/run $B e2e

test: ## set up, build and run every test
	./scripts/setup tests
	$(MAKE) --no-print-directory all tests
	$(MAKE) --no-print-directory lint
	tests/run $B unit fuzz loopback crash e2e

test-crash: $B/tests/crash/powercut_test ## check 100,000 images that power cuts may leave
	CRASH_IMAGES=100000 $<

test-search: $B/tests/unit/gallery/search_test ## compare 10,000 random galleries with a search by brute force
	SEARCH_GALLERIES=10000 $<

test-memory: all $(SHIMS) ## fail each allocation once: starts, calls, reloads (an hour)
	MEMORY_SHARE=1 tests/e2e/memory_test.py $B

test-reload: all ## rotate policy, certificates, revocation list and log level 1,000 times under calls
	RELOADS=1000 tests/e2e/reload_test.py $B

accuracy: all ## measure the pack on the labelled faces in BIOMATCH_DATA: rates, DET plot, gain of several frames and references
	rm -f build/accuracy/templates.jsonl
	mkdir -p build/accuracy
	$B/biomatch calibrate build/packs/faceplugin-0.0.1 $(or $(BIOMATCH_DATA),../shared/data)/faces/lfw_dev \
		--templates build/accuracy/templates.jsonl --output build/accuracy
	/usr/bin/python3 tests/accuracy/frames.py build/packs/faceplugin-0.0.1 build/accuracy/templates.jsonl
	/usr/bin/python3 -B tests/accuracy/references.py build/packs/faceplugin-0.0.1 build/accuracy/templates.jsonl
	/usr/bin/python3 -B tests/accuracy/quality.py $B $(or $(BIOMATCH_DATA),../shared/data)/faces/lfw_dev

demo: setup ## set up, build, start the daemon, enrol, verify, compare, identify
	$(MAKE) --no-print-directory all
	scripts/demo $B

layers: $(foreach m,$(MODULES),$B/layers/$m.so) ## prove that no module reaches above its edges
	tests/lint/layers

check-format:
	@git ls-files '*.c' '*.h' '*.cpp' | xargs clang-format --dry-run -Werror

$B/analyse/%.c.ok: src/%.c .clang-tidy $(wildcard include/biomatch/*.h) | $(GEN)/stamp
	@mkdir -p $(@D)
	@echo '  TIDY    $<'
	$(Q)clang-tidy --quiet $< -- -std=gnu11 $(CPPFLAGS) $(filter -m%,$(CFLAGS_$(notdir $*))) 2>$@.log || { cat $@.log; false; }
	@touch $@

analyse: $(patsubst src/%,$B/analyse/%.ok,$(wildcard src/*/*.c)) ## static analysis by clang-tidy and cppcheck
	cppcheck -j$(shell nproc) --quiet --error-exitcode=1 --enable=warning,portability,performance \
		--std=c11 -D_GNU_SOURCE -Iinclude --suppressions-list=.cppcheck src

lint: layers check-format $(GEN)/descriptor_set.pb ## layer, format, length and proto checks
	tests/lint/lengths
	tests/lint/protos
	tests/lint/units

format: ## reformat the sources
	@git ls-files '*.c' '*.h' '*.cpp' | xargs clang-format -i

CLIENT_HEADERS := $(addprefix include/biomatch/,client.h arena.h error.h)
UNITS := $(wildcard systemd/*.service systemd/*.timer)
install-dev: $B/lib/libbiomatch.a ## install the client library with its headers and the protos
	install -D -m 644 -t $(DESTDIR)$(LIBDIR) $<
	install -D -m 644 -t $(DESTDIR)$(LIBDIR)/pkgconfig config/biomatch.pc
	sed -i 's|^prefix=.*|prefix=$(PREFIX)|; s|^libdir=.*|libdir=$(LIBDIR)|; s|@VERSION@|$(VERSION)|' \
		$(DESTDIR)$(LIBDIR)/pkgconfig/biomatch.pc
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/include/biomatch-1/biomatch $(CLIENT_HEADERS)
	for f in $(GEN_C:$(GEN)/%.c=%.h); do \
		install -D -m 644 $(GEN)/$$f $(DESTDIR)$(PREFIX)/include/biomatch-1/$$f; done
	for f in $(PROTOS); do install -D -m 644 proto/$$f $(DESTDIR)$(PREFIX)/share/biomatch/proto/$$f; done

install: all install-dev ## install under DESTDIR and PREFIX; configuration that is there stays
	install -D -m 755 $B/biomatchd $(DESTDIR)$(PREFIX)/sbin/biomatchd
	install -D -m 755 $B/biomatch $(DESTDIR)$(PREFIX)/bin/biomatch
	install -D -m 755 $B/biomatch-calibrate $(DESTDIR)$(PREFIX)/libexec/biomatch-calibrate
	install -D -m 755 $B/biomatch-face $(DESTDIR)$(PREFIX)/libexec/biomatch-face
	for f in $(shell cd build && find packs -type f 2>/dev/null); do \
		install -D -m 644 build/$$f $(DESTDIR)$(PREFIX)/share/biomatch/$$f; done
	for f in biomatchd policy; do test -e $(DESTDIR)/etc/biomatchd/$$f.yaml || \
		{ install -D -m 644 config/$$f.yaml $(DESTDIR)/etc/biomatchd/$$f.yaml && \
		sed -i 's|/usr/local|$(PREFIX)|' $(DESTDIR)/etc/biomatchd/$$f.yaml; }; done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/biomatch/prometheus config/prometheus/biomatchd.rules.yml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/biomatch/grafana config/grafana/biomatchd.json
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/libexec systemd/biomatchd-backup
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system $(UNITS)
	install -D -m 644 systemd/biomatchd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/biomatchd.conf
	install -D -m 644 systemd/biomatchd.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/biomatchd.conf
	sed -i 's|/usr/local|$(PREFIX)|' $(UNITS:systemd/%=$(DESTDIR)$(PREFIX)/lib/systemd/system/%)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions config/completion/biomatch
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/biomatchd.8 docs/man/biomatch-fetch-models.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 docs/man/biomatch.1
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man5 docs/man/biomatchd.yaml.5

deb: ## build the Debian packages of what is committed, and check them: build/deb/
	scripts/deb build/deb

reproducible: ## build the packages twice, under other circumstances, and compare
	scripts/reproducible

test-deb: deb ## install them in a bare Debian 12 and run the demo there (root; needs debootstrap)
	tests/fresh-root --with build/deb --with build/samples debian/tests/install debian/tests/installed

test-operate: deb ## follow docs/operate.md in a bare Debian 12 and compare what is printed (root; needs debootstrap)
	tests/fresh-root --with build/deb --with build/samples \
		"apt-get install -y -q --no-install-recommends curl jq openssl procps prometheus python3" tests/operate

sbom: all ## what the programs are made of, as SPDX 2.3: $B/biomatchd.spdx.json
	scripts/sbom $B >$B/biomatchd.spdx.json

api: $(GEN)/descriptor_set.pb ## write the API reference, docs/api.md, from the protos' comments
	scripts/api-reference $< >docs/api.md

released: all ## with a release: keep what is there as what later ones must not break
	$(BUF) breaking proto --against proto/released.binpb
	$(BUF) build proto --exclude-source-info --output proto/released.binpb
	tests/e2e/released_test.py $B --write

clean: ## remove what this MODE built
	rm -rf $B

-include $(shell find $B -name '*.d' 2>/dev/null)
