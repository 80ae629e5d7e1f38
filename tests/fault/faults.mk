# The test build of sandbox-helper's programs, with the fault points of sandbox-helper/fault.h.
# Never installed.  Only what has a point is compiled once more.

FAULT_DIR      := $(BUILD)/tests/faults
FAULT_PROGRAMS := $(addprefix $(FAULT_DIR)/,sandbox-helper sandbox-stage sandbox-packer)
FAULT_SRCS     := $(shell grep -l SB_FAULT_POINT sandbox-helper/*.c)
FAULT_BOARD    := $(BUILD)/obj-faults/tests/fault/fault_points.o

# An object, or its counterpart with the points.
with_points = $(foreach o,$(1),$(if $(filter $(o:$(BUILD)/obj/%.o=%.c),$(FAULT_SRCS)),$(o:$(BUILD)/obj/%=$(BUILD)/obj-faults/%),$(o)))

$(BUILD)/obj-faults/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) -DSB_FAULTS $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(FAULT_DIR)/sandbox-helper: $(call with_points,$(HELPER_OBJS)) $(FAULT_BOARD) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(HELPER_LIBS)

$(FAULT_DIR)/sandbox-stage: $(call with_points,$(STAGE_OBJS)) $(FAULT_BOARD) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(STAGE_LIBS)

$(FAULT_DIR)/sandbox-packer: $(call with_points,$(PACKER_OBJS)) $(FAULT_BOARD) $(LIBPACKAGE) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PACKER_LIBS)

# sandbox-stage and sandbox-packer as an attacker would have them (tests/attack/test_attack_protocol.py).
FAKE_PROGRAM   := $(BUILD)/tests/faults/fake-program
FAULT_PROGRAMS += $(FAKE_PROGRAM)

$(FAKE_PROGRAM): $(BUILD)/obj/tests/fault/fake_program.o $(BUILD)/obj/sandbox-helper/sys.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^

# Looks at a store from outside (tests/fault/store_probe.c).
STORE_PROBE    := $(BUILD)/tests/faults/store-probe
FAULT_PROGRAMS += $(STORE_PROBE)

$(STORE_PROBE): $(BUILD)/obj/tests/fault/store_probe.o $(LIBSTORE) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -llmdb -lpthread -lcrypto

# Notes what programs do to the disk (tests/fault/power_log.c); without sanitizers, which want to be loaded first.
POWER_LOG      := $(BUILD)/tests/faults/power-log.so
FAULT_PROGRAMS += $(POWER_LOG)

$(POWER_LOG): tests/fault/power_log.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -std=c11 -O2 -g $(WARN) -Wno-missing-prototypes -fPIC -shared -o $@ $< -ldl

# The wall clock as a test sets it, for nginx and sandbox-helper (tests/fault/test_clock.py).
CLOCK_SHIM     := $(BUILD)/tests/faults/clock-shim.so
FAULT_PROGRAMS += $(CLOCK_SHIM)

$(CLOCK_SHIM): tests/fault/clock_shim.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -O2 -g $(WARN) -fPIC -shared $(CFLAGS) -o $@ $<

# Threads that end after nginx has unloaded its modules (tests/fault/test_exit.py).
LATE_THREADS   := $(BUILD)/tests/faults/late-threads.so
FAULT_PROGRAMS += $(LATE_THREADS)

$(LATE_THREADS): tests/fault/late_threads.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -O2 -g $(WARN) -fPIC -shared $(CFLAGS) -o $@ $< -ldl

-include $(shell find $(BUILD)/obj-faults -name '*.d' 2>/dev/null)
