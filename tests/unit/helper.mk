# Tests of sandbox-helper's parts that stand alone; the whole is tested over its socket
# (tests/api/test_helper.py, tests/fault/test_helper_faults.py).

CGROUP_TEST  := $(call unit_programs,cgroup)
HELPER_TESTS := $(call unit_programs,helper queue)
SPOOL_TEST   := $(call unit_programs,spool)
CONN_TEST    := $(call unit_programs,connection)
UNIT_TESTS   += $(HELPER_TESTS) $(CGROUP_TEST) $(SPOOL_TEST) $(CONN_TEST)

$(HELPER_TESTS): $(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o \
    $(call obj,sandbox-helper,runlog.c queue.c loop.c rmtree.c request.c config.c config_runtimes.c config_zygote.c config_prestart.c image.c) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka -lyaml

$(SPOOL_TEST): $(BUILD)/obj/tests/unit/test_spool.o \
    $(call obj,sandbox-helper,spool.c syncer.c loop.c log.c sys.c) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka

$(CONN_TEST): $(BUILD)/obj/tests/unit/test_connection.o \
    $(call obj,sandbox-helper,connection.c loop.c) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka

$(CGROUP_TEST): $(BUILD)/obj/tests/unit/test_cgroup.o \
    $(call obj,sandbox-helper,cgroup_text.c sys.c)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka
