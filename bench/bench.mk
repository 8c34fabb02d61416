# Programs for measurements, not installed.

$B/bench/embed: bench/embed.c $(foreach d,face $(call linked,face),$B/lib/lib$d.a)
	@mkdir -p $(@D)
	@echo '  LINK    $@'
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $< -o $@ $(LDFLAGS) -Wl,--start-group \
		$(foreach d,face $(call linked,face),$B/lib/lib$d.a) -Wl,--end-group $(call liblibs,face)

# Searches side by side with faiss (libfaiss-dev, libopenblas-dev).
BENCH_ARGS   ?=
IDENTIFY_OBJ := $(patsubst %,$B/obj/bench/%.o,identify.c set.c faiss.cpp)

$B/obj/bench/%.c.o: bench/%.c
	@mkdir -p $(@D)
	@echo '  CC      $<'
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$B/obj/bench/%.cpp.o: bench/%.cpp
	@mkdir -p $(@D)
	@echo '  CXX     $<'
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -fopenmp -c $< -o $@

$B/bench/identify: $(IDENTIFY_OBJ) $B/lib/libscore.a $B/lib/libbase.a
	@mkdir -p $(@D)
	@echo '  LINK    $@'
	$(Q)$(CXX) -o $@ $(LDFLAGS) -fopenmp $^ -lfaiss -lopenblas $(LIBS_base) $(LIBS_score)

# Idle threads of OpenMP must not spin beside ours.
bench: $B/bench/identify ## measure searches beside faiss; BENCH_ARGS="-n 100000" for less
	OMP_WAIT_POLICY=passive $< $(BENCH_ARGS)

# Durable writes: build/<mode>/bench/writer DIR.
$B/bench/writer: bench/writer.c $(foreach d,writer $(call linked,writer),$B/lib/lib$d.a)
	@mkdir -p $(@D)
	@echo '  LINK    $@'
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $< -o $@ $(LDFLAGS) -Wl,--start-group \
		$(foreach d,writer $(call linked,writer),$B/lib/lib$d.a) -Wl,--end-group \
		$(call liblibs,writer)

bench-writer: $B/bench/writer ## measure durable writes on this disk, in groups and one by one; BENCH_ARGS=ENROLMENTS
	rm -rf $B/bench/store
	$< $B/bench/store $(BENCH_ARGS)
	rm -rf $B/bench/store

# The audit log: build/<mode>/bench/audit DIR.
$B/bench/audit: bench/audit.c $(foreach d,writer audit $(call linked,writer) $(call linked,audit),$B/lib/lib$d.a)
	@mkdir -p $(@D)
	@echo '  LINK    $@'
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $< -o $@ $(LDFLAGS) -Wl,--start-group \
		$(sort $(filter %.a,$^)) -Wl,--end-group $(call liblibs,writer) $(call liblibs,audit)

# Searches through the daemon, and the endpoints of a deployment.
OBJ_serve := fill
OBJ_soak  := process
OBJ_fleet := fill process transact tally line timeline
$B/obj/bench/timeline.c.o: CPPFLAGS += -Isrc/calibrate
$B/bench/fleet: $B/obj/calibrate/plot.c.o
define remote_rule
$B/bench/$1: $(patsubst %,$B/obj/bench/%.c.o,$1 remote set $(OBJ_$1)) \
		$(foreach d,gallery client $(call linked,gallery) $(call linked,client),$B/lib/lib$d.a)
	@mkdir -p $$(@D)
	@echo '  LINK    $$@'
	$(Q)$(CC) -o $$@ $(LDFLAGS) $$(filter %.o,$$^) -Wl,--start-group $$(sort $$(filter %.a,$$^)) -Wl,--end-group \
		$(call liblibs,gallery) $(call liblibs,client) $(LIBS_bench_$1)
endef
LIBS_bench_fleet := -lcairo
$(foreach p,serve soak fleet honest,$(eval $(call remote_rule,$p)))

bench-attack: all $B/bench/honest ## honest endpoints beside a hostile one, for each kind of attack; BENCH_ARGS="SECONDS KIND..."
	TMPDIR=/dev/shm bench/attack $B $(BENCH_ARGS)

bench-serve: all $B/bench/serve ## measure searches through the daemon; BENCH_ARGS="N SCANNERS SECONDS"
	TMPDIR=/dev/shm bench/serve $B ask $(BENCH_ARGS)

soak: all $B/bench/serve $B/bench/soak ## enrol, delete and search at once, all answers checked; BENCH_ARGS="N SCANNERS SECONDS"
	bench/serve $B soak $(or $(BENCH_ARGS),20000 2 300)

bench-fleet: all $B/bench/fleet $B/bench/embed ## every endpoint of config/hongkong.yaml at one daemon; BENCH_ARGS="N SECONDS LARGE"
	bench/fleet $B $(BENCH_ARGS)

# A small call through our transport and through gRPC C++ (libgrpc++-dev, protobuf-compiler-grpc).
HEALTH_CPP := $(GEN)/cpp/grpc/health/v1
$(HEALTH_CPP)/health.pb.cc $(HEALTH_CPP)/health.grpc.pb.cc &: proto/grpc/health/v1/health.proto
	@mkdir -p $(GEN)/cpp
	@echo '  PROTOC  $<'
	$(Q)protoc -Iproto --cpp_out=$(GEN)/cpp --grpc_out=$(GEN)/cpp \
		--plugin=protoc-gen-grpc="$$(command -v grpc_cpp_plugin)" $<

$B/obj/bench/%.pb.o: $(HEALTH_CPP)/%.pb.cc
	@mkdir -p $(@D)
	$(Q)$(CXX) -isystem $(GEN)/cpp -std=c++17 -g $(OPT_$(MODE)) -fPIC -w -c $< -o $@

$B/obj/bench/health_grpc.cpp.o: CPPFLAGS += -isystem $(GEN)/cpp
$B/obj/bench/health_grpc.cpp.o: | $(HEALTH_CPP)/health.grpc.pb.cc
$B/bench/health_grpc: $(patsubst %,$B/obj/bench/%.o,health_grpc.cpp health.pb health.grpc.pb)
	@mkdir -p $(@D)
	@echo '  LINK    $@'
	$(Q)$(CXX) -o $@ $(LDFLAGS) $^ $$(pkg-config --libs grpc++ protobuf)

OBJ_grpc := load
define transport_rule
$B/obj/bench/$1.c.o: | $(GEN)/stamp
$B/bench/$1: $(patsubst %,$B/obj/bench/%.c.o,$1 $(OBJ_$1)) \
		$(foreach d,net wire $(call linked,net) $(call linked,wire),$B/lib/lib$d.a)
	@mkdir -p $$(@D)
	@echo '  LINK    $$@'
	$(Q)$(CC) -o $$@ $(LDFLAGS) $$(filter %.o,$$^) -Wl,--start-group $$(sort $$(filter %.a,$$^)) -Wl,--end-group \
		$(call liblibs,net) $(call liblibs,wire)
endef
$(foreach p,health grpc,$(eval $(call transport_rule,$p)))

bench-grpc: $B/biomatch $(addprefix $B/bench/,health health_grpc grpc) ## what a small call costs our transport, beside gRPC C++; BENCH_ARGS="TURNS SECONDS"
	bench/grpc $B $(BENCH_ARGS)
