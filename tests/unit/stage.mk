# Test of sandbox-stage: talks to the real program as main does.

STAGE_TEST := $(call unit_programs,stage)
UNIT_TESTS += $(STAGE_TEST)

$(STAGE_TEST): $(BUILD)/obj/tests/unit/test_stage.o $(BUILD)/obj/tests/unit/stage_peer.o \
    $(call obj,sandbox-helper,sys.c idmap.c) | $(BUILD)/bin/sandbox-stage
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka

# Test of the system call policy: the table, and the program that is made of it.
POLICY_TEST := $(call unit_programs,policy)
UNIT_TESTS += $(POLICY_TEST)

$(POLICY_TEST): $(BUILD)/obj/tests/unit/test_policy.o \
    $(call obj,sandbox-helper,policy.c policy_print.c filter.c sys.c)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lseccomp -lcmocka

# Test of the process that keeps a script's memory.
KEEPER_TEST := $(call unit_programs,keeper)
UNIT_TESTS += $(KEEPER_TEST)

$(KEEPER_TEST): $(BUILD)/obj/tests/unit/test_keeper.o \
    $(call obj,sandbox-helper,keeper.c sys.c idmap.c privileges.c rlimits.c filter_load.c)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka
