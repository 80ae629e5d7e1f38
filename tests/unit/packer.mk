# Tests of sandbox-packer: collect, artifacts, intake and extract talk to the real program as main does,
# confine attacks the children's cage from inside.  gzip is about a part alone.

PACKER_TESTS := $(call unit_programs,collect artifacts intake extract confine)
UNIT_TESTS   += $(PACKER_TESTS)

unit: export SB_BINDIR := $(abspath $(BUILD)/bin)

packer_peer_objs := $(BUILD)/obj/tests/unit/packer_peer.o \
                    $(call obj,sandbox-helper,nursery.c sys.c)
packer_cage_objs := $(call obj,sandbox-helper,confine.c packer_filter.c privileges.c idmap.c \
                    landlock.c report.c)

$(PACKER_TESTS): $(packer_peer_objs) | $(BUILD)/bin/sandbox-packer
$(call unit_programs,confine): $(packer_cage_objs)
$(call unit_programs,collect artifacts): $(BUILD)/obj/tests/unit/collect_run.o
$(call unit_programs,collect artifacts): PACKER_LIBS := -ljansson
$(call unit_programs,extract): PACKER_LIBS := -larchive
$(call unit_programs,intake): PACKER_LIBS := -larchive -ljansson
$(call unit_programs,confine): PACKER_LIBS := -lseccomp

$(PACKER_TESTS): $(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka $(PACKER_LIBS)

UNIT_TESTS += $(call unit_programs,gzip)
$(call unit_programs,gzip): $(BUILD)/obj/tests/unit/test_gzip.o $(call obj,sandbox-helper,gzip.c sys.c)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka -lz
