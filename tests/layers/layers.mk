# sandbox-stage with layers missing, for `make layers` and the attack tests; see without.c.
#
#   $(BUILD)/tests/layers/<set>/sandbox-stage     <set> is a number: bit n is layer n of without.c
#
# The objects are the shipped program's own; only without.c is compiled for each set.
LAYERS_WRAPPED := sys_clone unshare sethostname ioctl idmap_write sys_write_text mount sys_pivot_root \
    sys_mount_set mounts_tmpfs_at sys_move_mount mounts_proc filter_load filter_load_second landlock_apply landlock_finish \
    privileges_no_new privileges_dumpable privileges_drop_caps \
    privileges_drop_bounding rlimits_apply sys_close_range dup3 \
    nursery_run execve kill memwatch_over

comma := ,
$(BUILD)/tests/layers/%/sandbox-stage: tests/layers/without.c $(STAGE_OBJS) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -DSB_TEST_WITHOUT=$*UL -c -o $(@D)/without.o $<
	$(CC) $(LDFLAGS_ALL) $(addprefix -Wl$(comma)--wrap=,$(LAYERS_WRAPPED)) -o $@ $(STAGE_OBJS) \
	    $(@D)/without.o $(LIBCORE) -lseccomp -ljansson -lcrypto

LAYERS_SETS = $(shell $(PYTHON) tests/layers/layers.py --sets)
ATTACK_PROGRAMS += $(patsubst %,$(BUILD)/tests/layers/%/sandbox-stage,$(shell $(PYTHON) tests/layers/layers.py --few))

.PHONY: layers layers-programs
layers-programs: $$(addprefix $$(BUILD)/tests/layers/,$$(addsuffix /sandbox-stage,$$(LAYERS_SETS)))
layers: programs ## which layers stop which attack: stages without some of them (takes minutes)
	@$(MAKE) -s --no-print-directory layers-programs
	@SKILLBOX_BUILD=$(BUILD) $(PYTHON) tests/layers/layers.py --check
