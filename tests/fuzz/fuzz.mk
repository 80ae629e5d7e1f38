# Fuzzing with clang's libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   make fuzz [FUZZ_SECONDS=20]   every target for that long, starting from a copy of its corpus,
#                                 tests/fuzz/corpus/<target>/ (new inputs stay in the build folder),
#                                 with the words of tests/fuzz/<target>.dict when there is one
#                                 then a sanitized gateway from all sides (gateway_fuzz.py), each
#                                 part for that long; FUZZ_SEED=N makes that series again
#   make fuzz-gateway             the latter alone
#   FUZZ_CORE, FUZZ_PACKAGE       targets that need libskillbox's core only, or the package code too
#   FUZZ_HELPER                   targets in sandbox-helper's code

FUZZ_CC      ?= clang
FUZZ_SECONDS ?= 20

FUZZ_CORE    := fuzz_fastcgi fuzz_jsontext fuzz_journal
FUZZ_PACKAGE := fuzz_manifest fuzz_package fuzz_multipart fuzz_scan
FUZZ_HELPER  := fuzz_tar fuzz_request fuzz_connection fuzz_output fuzz_job \
                fuzz_oci fuzz_rootfs
FUZZ_TARGETS := $(addprefix $(BUILD)/fuzz/,$(FUZZ_CORE) $(FUZZ_PACKAGE) $(FUZZ_HELPER))

FUZZ_FLAGS := -std=c11 -O1 -g -fno-omit-frame-pointer $(WARN) \
              -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined

# The sources are compiled along: coverage has to be measured inside them.
FUZZ_CORE_SRCS    := $(addprefix libskillbox/,$(LIB_CORE_SRCS))
FUZZ_PACKAGE_SRCS := $(addprefix libskillbox/,$(LIB_PACKAGE_SRCS))

$(addprefix $(BUILD)/fuzz/,$(FUZZ_PACKAGE)): $(FUZZ_PACKAGE_SRCS)
$(BUILD)/fuzz/fuzz_journal: libskillbox/journal.c
$(BUILD)/fuzz/fuzz_package: tests/unit/zipmake.c
$(addprefix $(BUILD)/fuzz/,$(FUZZ_PACKAGE)): FUZZ_LIBS := -larchive -lyaml -ljansson -lutf8proc -lpcre2-8

fuzz_helper = $(BUILD)/fuzz/$(1): $(addprefix sandbox-helper/,$(2))
$(call fuzz_helper,fuzz_tar,tarball.c gzip.c sys.c)
$(call fuzz_helper,fuzz_request,request.c config.c config_runtimes.c config_zygote.c config_prestart.c image.c)
$(call fuzz_helper,fuzz_connection,connection.c loop.c)
$(call fuzz_helper,fuzz_output,output.c beneath.c sys.c)
$(call fuzz_helper,fuzz_job,jobfile.c sys.c)
$(call fuzz_helper,fuzz_oci,oci.c)
$(call fuzz_helper,fuzz_rootfs,rootfs.c rmtree.c sys.c)
$(addprefix $(BUILD)/fuzz/fuzz_,jsontext job oci): FUZZ_LIBS := -ljansson
$(BUILD)/fuzz/fuzz_tar: FUZZ_LIBS := -larchive -lz
$(BUILD)/fuzz/fuzz_request: FUZZ_LIBS := -lyaml

$(FUZZ_TARGETS): $(BUILD)/fuzz/%: tests/fuzz/%.c $(FUZZ_CORE_SRCS) \
    $(wildcard libskillbox/*.h sandbox-helper/*.h tests/fuzz/*.h)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS_ALL) $(FUZZ_FLAGS) -o $@ $(filter %.c,$^) $(FUZZ_LIBS) -lcrypto

.PHONY: fuzz
fuzz: $(FUZZ_TARGETS) ## fuzz every target, and a sanitized gateway, for FUZZ_SECONDS each
	@set -e; for t in $(FUZZ_TARGETS); do \
	    name=$${t##*/}; work=$(BUILD)/fuzz/corpus/$$name; log=$(BUILD)/fuzz/$$name.log; \
	    mkdir -p $$work $(BUILD)/fuzz/crashes; \
	    cp tests/fuzz/corpus/$$name/* $$work/; \
	    dict=; [ ! -e tests/fuzz/$$name.dict ] || dict=-dict=tests/fuzz/$$name.dict; \
	    if ! $$t $$dict -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
	        -artifact_prefix=$(BUILD)/fuzz/crashes/$$name- $$work >$$log 2>&1; then \
	        tail -n 60 $$log; echo "$$name: failed, see $$log" >&2; exit 1; \
	    fi; \
	    echo "$$name: $(FUZZ_SECONDS) s, $$(sed -n 's/^stat::number_of_executed_units: *//p' $$log) inputs, no finding"; \
	done
	@$(MAKE) -s --no-print-directory fuzz-gateway

.PHONY: fuzz-gateway
fuzz-gateway:
	@tests/tools/deps build run test sanitize
	@SKILLBOX_FUZZ_SECONDS=$(FUZZ_SECONDS) SKILLBOX_FUZZ_SEED=$(FUZZ_SEED) SANITIZE_LAYERS=api \
	    tests/tools/sanitize --only -s -k never_breaks_the_gateway
