# The attacks' probe: static, so that it runs in any sandbox; never sanitized, since
# what it looks at is the kernel.
ATTACK_PROGRAMS := $(BUILD)/tests/attack/probe

PROBE_SRCS := $(wildcard tests/attack/*.c)

$(ATTACK_PROGRAMS): $(PROBE_SRCS) tests/attack/probe.h
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -std=c11 -O1 -g $(WARN) -static -o $@ $(PROBE_SRCS)
