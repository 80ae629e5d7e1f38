# Fuzzing with clang's libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   make fuzz [FUZZ_SECONDS=20]   every target for that long, starting from a copy of its corpus,
#                                 tests/fuzz/corpus/<target>/ (new inputs stay in the build folder)
#   FUZZ_CORE, FUZZ_PACKAGE       targets that need libskillbox's core only, or the package code too
#   FUZZ_HELPER                   targets in sandbox-helper's code

FUZZ_CC      ?= clang
FUZZ_SECONDS ?= 20

FUZZ_CORE    := fuzz_fastcgi
FUZZ_PACKAGE := fuzz_manifest fuzz_package fuzz_multipart
FUZZ_HELPER  := fuzz_jsontext
FUZZ_TARGETS := $(addprefix $(BUILD)/fuzz/,$(FUZZ_CORE) $(FUZZ_PACKAGE) $(FUZZ_HELPER))

FUZZ_FLAGS := -std=c11 -O1 -g -fno-omit-frame-pointer $(WARN) \
              -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined

# The sources are compiled along: coverage has to be measured inside them.
FUZZ_CORE_SRCS    := $(addprefix libskillbox/,$(LIB_CORE_SRCS))
FUZZ_PACKAGE_SRCS := $(addprefix libskillbox/,$(LIB_PACKAGE_SRCS))

$(addprefix $(BUILD)/fuzz/,$(FUZZ_PACKAGE)): $(FUZZ_PACKAGE_SRCS)
$(BUILD)/fuzz/fuzz_package: tests/unit/zipmake.c
$(addprefix $(BUILD)/fuzz/,$(FUZZ_PACKAGE)): FUZZ_LIBS := -larchive -lyaml -ljansson

$(BUILD)/fuzz/fuzz_jsontext: sandbox-helper/jsontext.c
$(BUILD)/fuzz/fuzz_jsontext: FUZZ_LIBS := -ljansson

$(FUZZ_TARGETS): $(BUILD)/fuzz/%: tests/fuzz/%.c $(FUZZ_CORE_SRCS) $(wildcard libskillbox/*.h)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS_ALL) $(FUZZ_FLAGS) -o $@ $(filter %.c,$^) $(FUZZ_LIBS) -lcrypto

.PHONY: fuzz
fuzz: $(FUZZ_TARGETS) ## fuzz every target for FUZZ_SECONDS
	@set -e; for t in $(FUZZ_TARGETS); do \
	    name=$${t##*/}; work=$(BUILD)/fuzz/corpus/$$name; log=$(BUILD)/fuzz/$$name.log; \
	    mkdir -p $$work $(BUILD)/fuzz/crashes; \
	    cp tests/fuzz/corpus/$$name/* $$work/; \
	    if ! $$t -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
	        -artifact_prefix=$(BUILD)/fuzz/crashes/$$name- $$work >$$log 2>&1; then \
	        tail -n 60 $$log; echo "$$name: failed, see $$log" >&2; exit 1; \
	    fi; \
	    echo "$$name: $(FUZZ_SECONDS) s, $$(sed -n 's/^stat::number_of_executed_units: *//p' $$log) inputs, no finding"; \
	done
