# llmd: build, run, test. `make help` lists the targets.
#
# Knobs: BUILD= output folder, SANITIZE=address,undefined | thread, CC=, V=1 to see commands,
#        DEBUG=1 for audits of invariants, FAULTS=1: `make` builds BUILD/faults/llmd (core/util/fault.h),
#        T= seconds per fuzzer, CUDA=1: the CUDA backend, too (needs nvcc; default 0, for its build takes
#        minutes), GPU_ARCH= its devices ("90a": a quick build for an H200 alone),
#        PACKAGE=1: as packages carry it (small libraries linked statically, no path of the builder).

SANITIZE ?=
DEBUG    ?= 0
FAULTS   ?= 0
V        ?= 0
T        ?= 10
CUDA     ?= 0
GPU_ARCH ?= 75 80 86 89 90a 100f 120f
comma    := ,
BUILD    ?= build$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))$(if $(filter 1,$(DEBUG)),/debug)
Q        := $(if $(filter 1,$(V)),,@)

VERSION  := $(shell cat VERSION)
PACKAGE  ?= 0
STATIC   := $(BUILD)/libjansson.a -Wl,-Bstatic -lconfuse -lutf8proc -lxxhash -lsqlite3 -Wl,-Bdynamic
SHARED   := -lconfuse -ljansson -lutf8proc -lxxhash -lsqlite3
LIBS     := -lmicrohttpd $(if $(filter 1,$(PACKAGE)),$(STATIC),$(SHARED)) -lssl -lcrypto -lcurl -lpthread -lm -ldl

WARN     := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
            -Wold-style-definition -Wvla -Wformat=2 -Wundef -Wwrite-strings
HARDEN   := -fstack-protector-strong -fPIE -fno-plt $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2)
OPT      := $(if $(SANITIZE),-O1 -g1,-O2 -g) -fno-omit-frame-pointer
# Arithmetic must not depend on the compiler: no contraction except where the source says fma.
MATH     := -ffp-contract=off
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE -DLLMD_VERSION='"$(VERSION)"' -I. -I$(GEN) $(WARN) $(HARDEN) $(OPT) $(MATH) \
             $(if $(filter 1,$(DEBUG)),-DLLMD_DEBUG) $(if $(filter 1,$(WITH_FAULTS)),-DLLMD_FAULTS) $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all) \
             $(if $(filter 1,$(PACKAGE)),-ffile-prefix-map=$(CURDIR)=.) -MMD -MP $(CFLAGS)
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(LDFLAGS)

MODULES  ?= util observe config store model backend request engine router supervise edge bench
GEN      := $(BUILD)/gen
SRC      := $(foreach m,$(MODULES),$(wildcard core/$(m)/*.c))
OBJ      := $(SRC:%.c=$(BUILD)/%.o)
CMD_SRC  := $(wildcard cmd/*.c)
CMD_OBJ  := $(CMD_SRC:%.c=$(BUILD)/%.o)
LIB      := $(BUILD)/libllmd.a
UNIT_SRC ?= $(wildcard tests/unit/test_*.c)
UNIT     := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)

.PHONY: all run test check soak lint asan tsan fuzz golden bench clean help unit deps model vocabs
.SECONDARY:
all: $(BUILD)/$(if $(filter 1,$(FAULTS)),faults/)llmd

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make            build build/llmd (CUDA=1: with the GPU backend)
# Linked anew when CUDA= is another than last time.
$(BUILD)/linked-cuda$(CUDA): FORCE
	@mkdir -p $(@D)
	@test -e $@ || { rm -f $(BUILD)/linked-cuda* && touch $@; }
.PHONY: FORCE
$(BUILD)/llmd: $(BUILD)/linked-cuda$(CUDA)
ifneq ($(CUDA),1)
$(BUILD)/llmd: $(CMD_OBJ) $(LIB)
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(CMD_OBJ) $(LIB) $(LIBS)
endif

# In an archive jansson's own utf8_encode would meet ours: it gets another name.
ifeq ($(PACKAGE),1)
$(BUILD)/llmd: $(BUILD)/libjansson.a
endif
$(BUILD)/libjansson.a:
	@mkdir -p $(@D)
	$(Q)objcopy --redefine-sym utf8_encode=jansson_utf8_encode $$($(CC) -print-file-name=libjansson.a) $@

$(LIB): $(OBJ)
	@echo "  AR   $@"
	$(Q)rm -f $@ && ar crs $@ $(OBJ)

$(BUILD)/%.o: %.c VERSION Makefile
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(CFLAGS_ALL) $(ISA) $(KERNEL) -c -o $@ $<

# The schema of the request log as a C string.
$(GEN)/core/store/schema_sql.h: core/store/schema.sql
	@mkdir -p $(@D)
	$(Q)sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/"&\\n"/' $< > $@
$(BUILD)/core/store/schema.o: $(GEN)/core/store/schema_sql.h

# What /openapi.json says, likewise.
$(GEN)/core/edge/openapi_json.h: core/edge/openapi.json VERSION
	@mkdir -p $(@D)
	$(Q)sed -e 's/@VERSION@/$(VERSION)/' -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/"&\\n"/' $< > $@
$(BUILD)/core/edge/openapi.o: $(GEN)/core/edge/openapi_json.h

# The status page: the files of web/, one by one. The list is a file, so that one more is noticed.
WEB := $(wildcard web/*.html web/*.css web/*.js web/*.svg)
$(GEN)/web-files: FORCE
	@mkdir -p $(@D)
	@echo $(WEB) | cmp -s - $@ || echo $(WEB) > $@
$(GEN)/core/edge/page_assets_list.h: $(WEB) web/embed.sh $(GEN)/web-files
	@mkdir -p $(@D)
	$(Q)web/embed.sh $(GEN)/web $(WEB) > $@.new && mv $@.new $@
$(BUILD)/core/edge/page_assets.o: $(GEN)/core/edge/page_assets_list.h

# The kernels are inlined into a few huge functions, which a sanitizer's checks make take minutes to
# compile and to run: they are built as for release, everything that calls them is checked.
$(BUILD)/core/backend/cpu_kern_%.o: KERNEL := $(if $(SANITIZE),-fno-sanitize=all -O2)
# Files for one instruction set; which of them runs is chosen when the program starts.
$(BUILD)/%_avx2.o: ISA := -mavx2 -mfma -mf16c
$(BUILD)/%_amx.o: ISA := -mamx-tile -mamx-int8 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c
$(BUILD)/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c -mprefer-vector-width=512

# ---- fault injection: only sources that name core/util/fault.h differ. They are compiled twice, and
# ---- stand before the library where faults are wanted; nothing else ever sees them.
FAULT_USE  := $(shell grep -lF '"core/util/fault.h"' $(SRC) $(CMD_SRC) $(wildcard tests/*/*.c))
FAULT_OBJ  := $(patsubst %.c,$(BUILD)/faults/%.o,$(filter core/%,$(FAULT_USE)))
FAULT_CMD  := $(filter cmd/%,$(FAULT_USE))
FAULT_TEST := $(patsubst tests/%.c,$(BUILD)/%,$(filter tests/%,$(FAULT_USE)))
FAULT_WRAP := $(patsubst %,-Wl$(comma)--wrap=%,malloc calloc realloc aligned_alloc strdup strndup)
$(BUILD)/faults/%.o: private WITH_FAULTS := 1
$(BUILD)/faults/%.o: %.c VERSION Makefile
	@mkdir -p $(@D)
	@echo "  CC   $< (faults)"
	$(Q)$(CC) $(CFLAGS_ALL) -c -o $@ $<
$(BUILD)/faults/llmd: $(filter-out $(FAULT_CMD:%.c=$(BUILD)/%.o),$(CMD_OBJ)) $(FAULT_CMD:%.c=$(BUILD)/faults/%.o) $(FAULT_OBJ) $(LIB)
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS_ALL) $(FAULT_WRAP) -o $@ $^ $(LIBS)
$(FAULT_TEST): private WITH_FAULTS := 1
$(FAULT_TEST): private LDFLAGS += $(FAULT_WRAP)
$(FAULT_TEST): $(FAULT_OBJ)

$(BUILD)/unit/%: tests/unit/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  TEST $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< $(filter %.o,$^) $(LIB) -lcmocka $(LIBS)

.PHONY: unit-build print-unit print-build fuzz-build venv
unit-build: $(UNIT)
print-unit:
	@echo $(UNIT)
print-build:
	@echo $(BUILD)

## make unit       build and run the C unit tests
unit: $(UNIT)
	$(Q)for t in $(UNIT); do echo "== $$t"; $$t || exit 1; done

# ---- the CUDA backend, gpu/: nvcc compiles it when CUDA=1 ----
GPU_CU   := $(wildcard gpu/*.cu)
GPU_C    := $(wildcard gpu/*.c)
GPU_LIB  := $(BUILD)/libllmd-gpu.a
# One device: its code alone. Several: code for each, and PTX of the last for those to come.
GPU_GEN  := $(foreach a,$(GPU_ARCH),-gencode arch=compute_$(a),code=sm_$(a)) \
            $(if $(word 2,$(GPU_ARCH)),-gencode arch=compute_120$(comma)code=compute_120)
NVFLAGS  := -std=c++17 -O3 -I. $(GPU_GEN) -Werror all-warnings -Xptxas -warn-spills \
            -Xcompiler -Wall,-Wextra,-fPIE
# nvcc writes names of its temporary files into objects, and with -lineinfo the folder: not into packages.
NVPLACE   = $(if $(filter 1,$(PACKAGE)),--keep --keep-dir $@.tmp -frandom-seed $< -Xcompiler -ffile-prefix-map=$(CURDIR)=.,-lineinfo)
# What knows whether the backend is there is compiled twice; the rest of the program is the same.
GPU_CMD  := cmd/gpus cmd/gpu_watch
GPU_WITH := $(GPU_CMD:%=$(BUILD)/%.with.o)
GPU_REST := $(filter-out $(GPU_CMD:%=$(BUILD)/%.o),$(CMD_OBJ))
$(BUILD)/%.with.o: %.c VERSION Makefile
	@mkdir -p $(@D)
	@echo "  CC   $< (CUDA)"
	$(Q)$(CC) $(CFLAGS_ALL) -DLLMD_CUDA -c -o $@ $<
# The CUDA runtime is linked statically; it opens the driver when a GPU is asked for.
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(realpath $(shell command -v nvcc)))
CUDART    := -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/lib -L$(CUDA_HOME)/targets/x86_64-linux/lib -lcudart_static -lrt
ifeq ($(CUDA),1)
$(BUILD)/llmd: $(GPU_REST) $(GPU_WITH) $(GPU_LIB) $(LIB)
	@echo "  LINK $@ (CUDA)"
	$(Q)$(CXX) $(LDFLAGS_ALL) -static-libstdc++ -o $@ $(filter %.o %.a,$^) $(CUDART) $(LIBS)
endif
$(GPU_LIB): $(GPU_CU:%.cu=$(BUILD)/%.cuda.o) $(GPU_C:%.c=$(BUILD)/%.o)
	@echo "  AR   $@"
	$(Q)rm -f $@ && ar crs $@ $^
$(BUILD)/%.cuda.o: %.cu Makefile
	@mkdir -p $(@D)
	@echo "  NVCC $<"
	$(Q)mkdir -p $@.tmp && nvcc $(NVFLAGS) $(NVPLACE) -MMD -MP -c -o $@ $< && rm -rf $@.tmp

# ---- the same files for the host: tests/gpu/host stands in for the device ----
HOST_LIB := $(BUILD)/libllmd-gpu-host.a
HOST_CU  := $(filter-out gpu/runtime_cuda.cu,$(GPU_CU))
HOST_CC  := $(wildcard tests/gpu/host/*.cc)
HOST_OBJ := $(HOST_CU:%.cu=$(BUILD)/%.host.o) $(HOST_CC:%.cc=$(BUILD)/%.o) $(GPU_C:%.c=$(BUILD)/%.o)
CXXFLAGS_ALL = -std=c++17 -D_GNU_SOURCE -DGPU_STAND_IN='"tests/gpu/host/device.hh"' -I. -Wall -Wextra -Werror \
             -Wshadow -Wpointer-arith -Wundef -Wwrite-strings -Wno-missing-field-initializers -Wno-unknown-pragmas \
             $(HARDEN) $(OPT) $(MATH) $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all) -MMD -MP
GPU_TEST_SRC ?= $(wildcard tests/gpu/test_*.c tests/gpu/test_*.cc)
GPU_TEST := $(patsubst tests/gpu/%,$(BUILD)/gpu-test/%,$(basename $(GPU_TEST_SRC)))
$(BUILD)/%.host.o: %.cu Makefile
	@mkdir -p $(@D)
	@echo "  CXX  $<"
	$(Q)$(CXX) $(CXXFLAGS_ALL) -x c++ -c -o $@ $<
$(BUILD)/%.o: %.cc Makefile
	@mkdir -p $(@D)
	@echo "  CXX  $<"
	$(Q)$(CXX) $(CXXFLAGS_ALL) -c -o $@ $<
$(HOST_LIB): $(HOST_OBJ)
	@echo "  AR   $@"
	$(Q)rm -f $@ && ar crs $@ $(HOST_OBJ)
$(BUILD)/gpu-test/%: $(BUILD)/tests/gpu/%.o $(HOST_LIB) $(LIB)
	@mkdir -p $(@D)
	@echo "  TEST $@"
	$(Q)$(CXX) $(LDFLAGS_ALL) -o $@ $< $(HOST_LIB) $(LIB) -lcmocka $(LIBS)
# The program on the stand-in: for tests of `devices = { "cuda:0" }` and of a GPU's faults.
$(BUILD)/stand-in/llmd: $(GPU_REST) $(GPU_WITH) $(HOST_LIB) $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CXX) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)
# NVIDIA's management library, made up.
FAKE_NVML := $(BUILD)/gpu-test/libnvidia-ml.so.1
$(FAKE_NVML): tests/gpu/fake_nvml.c
	@mkdir -p $(@D)
	@echo "  SO   $@"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O1 -fPIC -shared -o $@ $<
$(BUILD)/gpu-test/test_nvml: $(FAKE_NVML)
# Its library of matrix products, made up.
FAKE_BLAS := $(BUILD)/gpu-test/libfake_cublaslt.so
$(FAKE_BLAS): tests/gpu/fake_cublaslt.c tests/gpu/fake_cublaslt.h
	@mkdir -p $(@D)
	@echo "  SO   $@"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -I. -O1 -fPIC -shared -o $@ $<
$(BUILD)/gpu-test/test_gpu_linear $(BUILD)/gpu-test/test_cuda_worker: $(FAKE_BLAS)
# The program of tests/gpu/run.sh, on the stand-in.
DEVICE_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/gpu/device/*.c)) $(BUILD)/tests/gpu/device/ref.host.o
$(BUILD)/gpu-test/device_run: $(DEVICE_OBJ) $(HOST_LIB) $(LIB) $(FAKE_BLAS)
	@mkdir -p $(@D)
	@echo "  TEST $@"
	$(Q)$(CXX) $(LDFLAGS_ALL) -Wl,--undefined=stand_in_call -Wl,--export-dynamic-symbol=stand_in_call -o $@ \
		$(DEVICE_OBJ) $(HOST_LIB) $(LIB) $(LIBS)
.PHONY: gpu-test-build print-gpu-test gpu-test gpu-serve-build
gpu-test-build: $(GPU_TEST)
gpu-serve-build: all $(BUILD)/stand-in/llmd $(FAKE_NVML)
print-gpu-test:
	@echo $(GPU_TEST)
## make gpu-test   the CUDA kernels and backend on the host stand-in
gpu-test: $(GPU_TEST)
	$(Q)for t in $(GPU_TEST); do echo "== $$t"; $$t || exit 1; done

# ---- fuzzing: one libFuzzer binary per parser, all sources instrumented ----
FUZZ_BUILD := build/fuzz
# One sanitized build for the C tests, the drills and the fuzzers: clang's, with what its fuzzers need.
ASAN_BUILD := build/asan
ASAN_ARGS  := CC=clang CXX=clang++ BUILD=$(ASAN_BUILD) SANITIZE=address,undefined,fuzzer-no-link
print-asan:
	@echo $(ASAN_ARGS)
.PHONY: print-asan
FUZZ       := $(FUZZ_SRC:tests/fuzz/%.c=$(FUZZ_BUILD)/%)
fuzz-build: $(FUZZ)
# A make of its own with other flags; `fuzz-lib` is no file, so it is asked every time.
fuzz-lib:
	$(Q)$(MAKE) --no-print-directory $(ASAN_ARGS) lib
lib: $(LIB)
.PHONY: fuzz-lib lib
$(FUZZ_BUILD)/fuzz_%: tests/fuzz/fuzz_%.c fuzz-lib
	@mkdir -p $(@D)
	@echo "  FUZZ $@"
	$(Q)clang -std=c11 -D_GNU_SOURCE -DLLMD_VERSION='"$(VERSION)"' -I. -O1 -g1 -fsanitize=fuzzer,address,undefined \
	    -fno-sanitize-recover=all -o $@ $< $(ASAN_BUILD)/libllmd.a $(LIBS)

## make fuzz       run every fuzz target for T seconds (default 10)
fuzz: fuzz-build
	$(Q)tests/fuzz/run.sh $(T)

# ---- set-up: packages, demo model, vocabularies, Python for the API tests ----
MODEL := models/SmolLM2-135M-Instruct.Q4_1.gguf
model:
	$(Q)packaging/fetch-model.sh
vocabs:
	$(Q)packaging/fetch-vocabs.sh
venv: build/venv/.stamp
build/venv/.stamp: tests/api/requirements.txt
	@echo "  VENV build/venv"
	$(Q)python3 -m venv build/venv && build/venv/bin/pip install -q --disable-pip-version-check -r $< && touch $@

## make run        set up, build, fetch the demo model, serve it on 127.0.0.1:8080
run:
	$(Q)packaging/deps.sh build
	$(Q)$(MAKE) --no-print-directory -j2 all
	$(Q)packaging/fetch-model.sh
	$(Q)mkdir -p build
	$(BUILD)/llmd serve --config conf/demo.conf

## make test       set up, build, run everything that needs no GPU
test:
	$(Q)packaging/deps.sh build test
	$(Q)packaging/fetch-model.sh
	$(Q)packaging/fetch-vocabs.sh
	$(Q)$(MAKE) --no-print-directory check

## make check      the tests without the set-up
check: venv
	$(Q)T=$(T) tests/run.sh

## make asan       C tests under AddressSanitizer and UBSan
asan:
	$(Q)tests/run.sh asan
## make tsan       threaded C tests under ThreadSanitizer
tsan:
	$(Q)tests/run.sh tsan

## make soak       the long rest: 64 and 1,000 streams for minutes, overload for 30, all fuzzers, memory watched
soak: all venv
	$(Q)tests/soak/run.sh

## make lint       layers, format, sizes, headers, banned functions, kernels' registers, options, openapi, web, shellcheck, clang-tidy
lint:
	$(Q)packaging/deps.sh build lint
	$(Q)tests/lint/run.sh

## make golden     regenerate golden files from the real libraries (torch, tokenizers, jinja2)
golden: model vocabs
	$(Q)tests/golden/run.sh

# ---- benches ----
BENCH := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))
$(BUILD)/bench/%: tests/bench/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  CC   $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< $(LIB) -lcmocka $(LIBS)
bench-build: $(BENCH)
# llmd as it is, but each push of a token is noted for tests/bench/edge_reader.c.
$(BUILD)/bench/llmd: $(CMD_OBJ) $(BUILD)/tests/bench/edge/push_stamp.o $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,--wrap=stream_push_gap -o $@ $^ $(LIBS)
.PHONY: bench-build
## make bench      speed beside a peer, same file and threads
bench: bench-build
	$(Q)tests/bench/peer-llamacpp.sh

# ---- drills ----
DRILLS := $(patsubst tests/drills/%.c,$(BUILD)/drills/%,$(wildcard tests/drills/*.c))
$(BUILD)/drills/%: tests/drills/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  CC   $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< $(filter %.o,$^) $(LIB) -lcmocka $(LIBS)
.PHONY: drill-build drills
drill-build: $(DRILLS)
## make drills     what goes wrong on purpose: no text may change, every error is clean
drills:
	$(Q)tests/drills/run.sh
	$(Q)tests/drills/store.sh
	$(Q)tests/drills/edge.sh

# ---- packages ----
## make deb rpm    build/packages/llmd*.deb, .rpm, with the CUDA backend where there is nvcc (CUDA=0: without)
.PHONY: deb rpm
deb rpm:
	$(Q)packaging/deps.sh build package
	$(Q)packaging/build.sh $@ $(if $(filter command line environment,$(origin CUDA)),$(CUDA))

## make clean      remove build/
clean:
	rm -rf build

-include $(wildcard $(BUILD)/faults/*/*.d $(BUILD)/faults/*/*/*.d)
-include $(GPU_WITH:.o=.d) $(OBJ:.o=.d) $(CMD_OBJ:.o=.d) $(UNIT:=.d) $(BENCH:=.d) $(BUILD)/tests/bench/edge/push_stamp.d $(DRILLS:=.d) $(HOST_OBJ:.o=.d) \
         $(GPU_CU:%.cu=$(BUILD)/%.cuda.d) $(patsubst tests/gpu/%,$(BUILD)/tests/gpu/%.d,$(basename $(GPU_TEST_SRC)))
