# Skillbox for nginx.  `make help` lists the targets.

PREFIX  ?= /usr/local
DESTDIR ?=
BUILD   ?= build
ifeq ($(origin CC),default)
CC := gcc
endif
JOBS    ?= $(shell nproc)
PYTHON  ?= /usr/bin/python3

VERSION := 0.1.0

.SECONDEXPANSION:

WARN     := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
            -Wformat=2 -Wvla -Wno-unused-parameter
ifneq ($(WERROR),0)
WARN     += -Werror
endif
OPT      ?= -O2 -g
HARDEN   := -fPIE -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2
LDHARDEN := -pie -Wl,-z,relro,-z,now,-z,noexecstack

# make SAN=1 ...: AddressSanitizer and UndefinedBehaviorSanitizer in everything of ours
ifeq ($(SAN),1)
OPT      := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
            -fno-sanitize-recover=undefined
HARDEN   := -fPIE
LDSAN    := -fsanitize=address,undefined
endif

LIBEXECDIR := $(PREFIX)/libexec/skillbox
CPPFLAGS_ALL := -D_GNU_SOURCE -I. -DSB_VERSION='"$(VERSION)"' -DSB_LIBEXECDIR='"$(LIBEXECDIR)"' \
                -DSB_PREFIX='"$(PREFIX)"' $(CPPFLAGS)
CFLAGS_ALL   := -std=c11 $(OPT) $(WARN) $(HARDEN) $(CFLAGS)
LDFLAGS_ALL  := $(LDHARDEN) $(LDSAN) $(LDFLAGS)

include libskillbox/sources.mk
include sandbox-helper/sources.mk
include cli/sources.mk
-include tests/attack/attack.mk
include tests/cage/cage.mk

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(addprefix $(1)/,$(2)))

CORE_OBJS    := $(call obj,libskillbox,$(LIB_CORE_SRCS))
STORE_OBJS   := $(call obj,libskillbox,$(LIB_STORE_SRCS))
PACKAGE_OBJS := $(call obj,libskillbox,$(LIB_PACKAGE_SRCS))
HELPER_OBJS  := $(call obj,sandbox-helper,$(HELPER_SRCS))
STAGE_OBJS   := $(call obj,sandbox-helper,$(STAGE_SRCS))
PACKER_OBJS  := $(call obj,sandbox-helper,$(PACKER_SRCS))
ZYGOTE_OBJS  := $(patsubst %.c,$(BUILD)/obj-pic/%.o,$(addprefix sandbox-helper/,$(ZYGOTE_SRCS)) \
                $(ZYGOTE_LIB_SRCS:%=libskillbox/%)) $(BUILD)/obj-pic/sandbox-helper/zygote_boot.o
CLI_OBJS     := $(call obj,cli,$(CLI_SRCS)) $(call obj,sandbox-helper,$(CLI_HELPER_SRCS))

HELPER_LIBS := -lyaml -lcrypto
STAGE_LIBS  := -lseccomp -ljansson -lcrypto
PACKER_LIBS := -lseccomp -larchive -lz -lyaml -ljansson -lutf8proc -lpcre2-8 -lcrypto

LIBCORE    := $(BUILD)/lib/libskillbox-core.a
LIBSTORE   := $(BUILD)/lib/libskillbox-store.a
LIBPACKAGE := $(BUILD)/lib/libskillbox-package.a

PROGRAMS := $(BUILD)/bin/sandbox-helper $(BUILD)/bin/sandbox-stage $(BUILD)/bin/sandbox-packer \
            $(BUILD)/bin/sandbox-zygote.so $(BUILD)/bin/skillbox
MODULE   := $(BUILD)/nginx/ngx_http_skillbox_module.so

.PHONY: all programs module help
all: programs module ## build everything
programs: $(PROGRAMS)
module: $(MODULE)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/obj/sandbox-helper/ready_script.o: sandbox-helper/node_ready.cjs

$(LIBCORE): $(CORE_OBJS)
$(LIBSTORE): $(STORE_OBJS)
$(LIBPACKAGE): $(PACKAGE_OBJS)
$(LIBCORE) $(LIBSTORE) $(LIBPACKAGE):
	@mkdir -p $(@D)
	rm -f $@ && ar rcs $@ $^

$(BUILD)/bin/sandbox-helper: $(HELPER_OBJS) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(HELPER_LIBS)

# Forked twice for each run: without shared libraries it has a third of the mappings to copy and to
# give back.  `make STAGE_STATIC=` where the C library, libseccomp or jansson have no static archive.
STAGE_STATIC  ?= -static-pie
STAGE_LDFLAGS := $(LDFLAGS_ALL)
ifneq ($(STAGE_STATIC),)
ifeq ($(SAN),) # the sanitizers' runtime is no part of a static program
STAGE_LDFLAGS := $(subst -pie,$(STAGE_STATIC),$(LDHARDEN)) $(LDFLAGS)
endif
endif
$(BUILD)/bin/sandbox-stage: $(STAGE_OBJS) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(STAGE_LDFLAGS) -o $@ $^ $(STAGE_LIBS)

# Loaded by interpreters of any distribution: of libraries it needs only the C library, and of that
# only what all have.  No sanitizers: they want to be there before the interpreter.
ZYGOTE_CFLAGS := -std=c11 -O2 -g $(WARN) -fPIC -fvisibility=hidden -fstack-protector-strong \
                 -U_FORTIFY_SOURCE $(CFLAGS)
PYTHON_INC    ?= $(shell /usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')

$(BUILD)/obj-pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(if $(findstring zygote_,$@),-isystem $(PYTHON_INC)) $(ZYGOTE_CFLAGS) \
	    -MMD -MP -c -o $@ $<

$(BUILD)/obj-pic/sandbox-helper/zygote_boot.c: sandbox-helper/zygote_boot.py
	@mkdir -p $(@D)
	{ echo 'extern const char zygote_boot_py[]; const char zygote_boot_py[] = {'; \
	  od -An -v -tx1 $< | sed 's/ \([0-9a-f]\{2\}\)/0x\1,/g'; echo '0};'; } >$@

$(BUILD)/obj-pic/sandbox-helper/zygote_boot.o: $(BUILD)/obj-pic/sandbox-helper/zygote_boot.c
	$(CC) $(ZYGOTE_CFLAGS) -c -o $@ $<

# The distribution's static jansson is made for programs: its one reference to a variable of the C
# library, in a function that is never called, can't be in a shared object.
JANSSON_A ?= $(shell $(CC) -print-file-name=libjansson.a)
$(BUILD)/obj-pic/libjansson.a: $(JANSSON_A)
	@mkdir -p $(@D)
	objcopy --redefine-sym stdin=zygote_no_stdin $< $@

$(BUILD)/bin/sandbox-zygote.so: $(ZYGOTE_OBJS) $(BUILD)/obj-pic/libjansson.a
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--exclude-libs,ALL $(LDFLAGS) -o $@ $^ -lpthread

$(BUILD)/bin/sandbox-packer: $(PACKER_OBJS) $(LIBPACKAGE) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PACKER_LIBS)

$(BUILD)/bin/skillbox: $(CLI_OBJS) $(LIBSTORE) $(LIBPACKAGE) $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcurl -llmdb -larchive -lyaml -ljansson -lutf8proc -lpcre2-8 -lcrypto

# The module is built against Debian's nginx-dev, out of tree; docs/operations.md
# has the commands for a stock nginx source tree.
NGINX_SRC ?= /usr/share/nginx/src
MODULE_DEPS := config $(wildcard ngx_skillbox_module/*.[ch] libskillbox/*.[ch])
$(MODULE): $(MODULE_DEPS)
	@mkdir -p $(BUILD)
	tests/tools/build-module $(NGINX_SRC) $(abspath $(BUILD)/nginx)

include tests/unit/unit.mk
include tests/fuzz/fuzz.mk
include tests/fault/faults.mk
include tests/layers/layers.mk
include tests/hosts/hosts.mk
include tests/bench/bench.mk

-include $(shell find $(BUILD)/obj $(BUILD)/obj-pic -name '*.d' 2>/dev/null)

# ---- people's targets ----

.PHONY: deps demo test api attack fault soak bench sanitize lint install

deps: ## install the Debian packages that demo and test need (no-op when they are there)
	@tests/tools/deps build run test

demo: ## build, start a private gateway, push a skill and run it over HTTP
	@tests/tools/deps build run
	@$(MAKE) -s --no-print-directory -j$(JOBS) all
	@BUILD=$(abspath $(BUILD)) tests/tools/demo

# Everything a test layer runs besides the programs and the module.
TEST_PROGRAMS = $(UNIT_TESTS) $(ATTACK_PROGRAMS) $(CAGE) $(FAULT_PROGRAMS)

test: ## build and run every test
	@tests/tools/deps build run test
	@$(MAKE) -s --no-print-directory -j$(JOBS) all test-programs
	@$(PYTHON) tests/tools/run-tests $(BUILD)

.PHONY: test-programs
test-programs: $$(TEST_PROGRAMS)

# One layer alone, as the user you are; ARGS goes to pytest: make api ARGS='-k upload'
api fault: all test-programs ## one layer of the tests
	@$(PYTHON) tests/tools/run-tests --once --layers $@ $(BUILD) $(ARGS)

# As root and as an ordinary user, with the tests that take long; ARGS='--once -k mounts' for less.
attack: all test-programs ## every attack of docs/attacks.md, with a table of what was observed
	@SKILLBOX_FULL=1 $(PYTHON) tests/tools/run-tests --layers $@ $(BUILD) $(ARGS)
	@SKILLBOX_FULL=1 SKILLBOX_PROBE_FROM=python $(PYTHON) tests/tools/run-tests --layers $@ $(BUILD) $(ARGS)
	@SKILLBOX_FULL=1 SKILLBOX_PROBE_FROM=node $(PYTHON) tests/tools/run-tests --layers $@ $(BUILD) $(ARGS)

soak: all test-programs ## 10,000 runs in a row and 200 at once, with a table of what was left
	@SKILLBOX_FULL=1 $(PYTHON) tests/tools/run-tests --once --layers fault $(BUILD) -s -k soak

# ARGS='--help' tells what can be chosen; ARGS='--only python,catalog --rounds 3' is a part of it.
bench: ## compare with the host's bare commands, other sandboxes and nginx's own return 200
	@tests/tools/deps build run test bench
	@$(MAKE) -s --no-print-directory -j$(JOBS) all $(BENCH_TOOLS)
	@$(PYTHON) tests/bench/bench.py $(BUILD) $(ARGS)

sanitize: ## everything of ours, and nginx with it, under ASan and UBSan
	@tests/tools/deps build run test sanitize
	@tests/tools/sanitize

lint: ## clang-format, clang-tidy, cppcheck, ShellCheck when it is there
	@tests/tools/deps build lint
	@tests/tools/lint

# Every C file of the programs for aarch64, not linked: Debian's cross compiler has no libraries for
# it, and the headers of those here do not depend on the architecture.
CROSS      := aarch64-linux-gnu-gcc
CROSS_INC   = -idirafter /usr/include -idirafter /usr/include/$(shell $(CC) -print-multiarch)
# (Python's headers do depend on it.)
CROSS_SRCS := $(filter-out sandbox-helper/zygote_%,$(wildcard libskillbox/*.c sandbox-helper/*.c cli/*.c))
CROSS_OBJS := $(CROSS_SRCS:%.c=$(BUILD)/aarch64/%.o)

$(CROSS_OBJS): $(BUILD)/aarch64/%.o: %.c
	@mkdir -p $(@D)
	$(CROSS) $(CPPFLAGS_ALL) $(CROSS_INC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
-include $(CROSS_OBJS:.o=.d)

.PHONY: cross
cross: ## compile the programs for aarch64, without linking them
	@if command -v $(CROSS) >/dev/null; then $(MAKE) -s --no-print-directory -j$(JOBS) $(CROSS_OBJS); \
	else echo "cross: NOT DONE: there is no $(CROSS) (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross)" >&2; fi

# The helper's programs are found in PREFIX/libexec/skillbox: build and install with the same PREFIX.
COMPLETIONS := bash-completion/completions zsh/site-functions fish/vendor_completions.d
install: all ## install below DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(PREFIX)/lib/nginx/modules \
	    $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/skillbox/examples
	install -m 755 $(BUILD)/bin/skillbox $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(BUILD)/bin/sandbox-helper $(BUILD)/bin/sandbox-stage \
	    $(BUILD)/bin/sandbox-packer $(BUILD)/bin/sandbox-zygote.so $(DESTDIR)$(LIBEXECDIR)/
	install -m 644 $(MODULE) $(DESTDIR)$(PREFIX)/lib/nginx/modules/
	install -m 644 cli/skillbox.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,$(COMPLETIONS))
	$(BUILD)/bin/skillbox completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/skillbox
	$(BUILD)/bin/skillbox completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_skillbox
	$(BUILD)/bin/skillbox completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/skillbox.fish
	install -m 644 conf/nginx.conf.example conf/helper.yaml conf/systemd/sandbox-helper.service \
	    $(DESTDIR)$(PREFIX)/share/skillbox/examples/
	install -m 644 conf/systemd/sandbox-helper.socket conf/systemd/nginx.service.d-skillbox.conf \
	    conf/systemd/sysusers-skillbox.conf conf/systemd/tmpfiles-skillbox.conf \
	    conf/monitoring/dashboard.json conf/monitoring/alerts.yaml \
	    $(DESTDIR)$(PREFIX)/share/skillbox/examples/
	install -m 644 conf/logrotate/skillbox $(DESTDIR)$(PREFIX)/share/skillbox/examples/logrotate-skillbox
	install -m 644 conf/apparmor/skillbox $(DESTDIR)$(PREFIX)/share/skillbox/examples/apparmor-skillbox
	install -m 644 conf/logrotate/skillbox $(DESTDIR)$(PREFIX)/share/skillbox/examples/logrotate-skillbox
	install -m 644 conf/apparmor/skillbox $(DESTDIR)$(PREFIX)/share/skillbox/examples/apparmor-skillbox

.PHONY: clean
clean: ## remove what was built
	rm -rf build
