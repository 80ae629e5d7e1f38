# Makes other kinds of hosts out of this one (tests/api/test_hosts.py).
CAGE := $(BUILD)/tests/cage/cage

$(CAGE): tests/cage/cage.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< -lseccomp
