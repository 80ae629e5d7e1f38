# Tests of sandbox-helper's parts that stand alone; the whole is tested over its socket
# (tests/api/test_helper.py, tests/fault/test_helper_faults.py).

CGROUP_TEST  := $(call unit_programs,cgroup)
HELPER_TESTS := $(call unit_programs,helper)
UNIT_TESTS   += $(HELPER_TESTS) $(CGROUP_TEST)

$(HELPER_TESTS): $(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o \
    $(call obj,sandbox-helper,runlog.c queue.c loop.c rmtree.c request.c config.c config_runtimes.c config_zygote.c config_prestart.c image.c) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka -lyaml

$(CGROUP_TEST): $(BUILD)/obj/tests/unit/test_cgroup.o \
    $(call obj,sandbox-helper,cgroup_text.c sys.c)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka
