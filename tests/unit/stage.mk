# Test of sandbox-stage: talks to the real program as main does.

STAGE_TEST := $(call unit_programs,stage)
UNIT_TESTS += $(STAGE_TEST)

$(STAGE_TEST): $(BUILD)/obj/tests/unit/test_stage.o $(BUILD)/obj/tests/unit/stage_peer.o \
    $(call obj,sandbox-helper,sys.c idmap.c) | $(BUILD)/bin/sandbox-stage
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka
