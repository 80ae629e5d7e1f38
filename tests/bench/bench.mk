# The tools of `make bench`, tests/bench/*.c; each file's head says what it measures and how it is called.

BENCH_DIR   := $(BUILD)/tests/bench
BENCH_TOOLS := $(addprefix $(BENCH_DIR)/,spawn load call null_helper seed stalls)

bench_objs = $(addprefix $(BUILD)/obj/tests/bench/,$(1))

$(BENCH_DIR)/spawn: $(call bench_objs,spawn.o samples.o)
$(BENCH_DIR)/load: $(call bench_objs,load.o samples.o)
$(BENCH_DIR)/load: BENCH_LIBS := -lm
$(BENCH_DIR)/call: $(call bench_objs,call.o samples.o) $(LIBCORE)
$(BENCH_DIR)/null_helper: $(call bench_objs,null_helper.o) $(LIBCORE)
$(BENCH_DIR)/seed: $(call bench_objs,seed.o samples.o) $(LIBSTORE) $(LIBCORE)
$(BENCH_DIR)/seed: BENCH_LIBS := -llmdb -lpthread

$(BENCH_DIR)/stalls: $(call bench_objs,stalls.o samples.o)
$(BENCH_DIR)/stalls: BENCH_LIBS := -lpthread

$(BENCH_TOOLS):
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(BENCH_LIBS) -lcrypto
