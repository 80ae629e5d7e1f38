# Unit tests: one cmocka program a file, tests/unit/test_<subject>.c.
#
#   make unit                  builds and runs all of them
#   UNIT_CORE                  subjects that need libskillbox's core only
#   UNIT_STORE, UNIT_PACKAGE   those that need the store (LMDB), the package code (libarchive,
#                              libyaml, jansson)
# A test with other needs adds its program to UNIT_TESTS and has its own rule.

UNIT_CORE    := err buf names units semver uuid7 signature fastcgi fold
UNIT_STORE   := store store_tenants store_heads store_files store_executions store_lists store_faults \
                store_usage store_journal
UNIT_PACKAGE := manifest package zip zip_make multipart scan

unit_programs = $(addprefix $(BUILD)/tests/unit/test_,$(1))
UNIT_TESTS   := $(call unit_programs,$(UNIT_CORE) $(UNIT_STORE) $(UNIT_PACKAGE))

$(call unit_programs,$(UNIT_STORE)): $(BUILD)/obj/tests/unit/store_fixture.o $(LIBSTORE)
$(call unit_programs,$(UNIT_STORE)): UNIT_LIBS := -llmdb -lpthread
$(call unit_programs,store_heads): UNIT_LIBS := -llmdb -lpthread -ljansson
$(call unit_programs,$(UNIT_PACKAGE)): $(LIBPACKAGE)
$(call unit_programs,$(UNIT_PACKAGE)): UNIT_LIBS := -larchive -lyaml -ljansson -lutf8proc -lpcre2-8
$(call unit_programs,package zip): \
    $(addprefix $(BUILD)/obj/tests/unit/,zipmake.o package_check.o)

$(call unit_programs,$(UNIT_CORE) $(UNIT_STORE) $(UNIT_PACKAGE)): $(BUILD)/tests/unit/%: \
    $(BUILD)/obj/tests/unit/%.o $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ -Wl,--start-group $^ -Wl,--end-group -lcmocka $(UNIT_LIBS) -lcrypto

include tests/unit/packer.mk
include tests/unit/stage.mk
include tests/unit/helper.mk

.PHONY: unit
unit: $$(UNIT_TESTS) ## build and run the unit tests
	@failed=; for t in $(UNIT_TESTS); do timeout 180 $$t || failed="$$failed $${t##*/}"; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi
