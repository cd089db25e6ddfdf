# vuser: what a packager and a developer type. Everything that is built goes to build/.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=
CARGO ?= cargo
CC ?= cc
# Checks of the C library and of the stack, as distributions' own flags have them.
CFLAGS ?= -O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2
CARGO_FLAGS ?=
INSTALL ?= install
PYTHON ?= python3

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
SONAME := libvuser.so.0
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
B := build

WARN := -std=c99 -Wall -Wextra -pedantic
# $ORIGIN lets what is in build/ run where it is, without being installed.
LINK = -Iinclude -L$(B) -l:$(SONAME) -Wl,-z,relro,-z,now -Wl,-rpath,'$$ORIGIN/..'
EXAMPLES := loopback forward generate capture exception_path
FOREIGN := $(B)/tests/traffic $(B)/tests/changes $(B)/tests/extras
PEERS := $(B)/tests/switch $(B)/tests/soak $(B)/tests/hang $(B)/tests/mix

# The DPDK driver is built for the DPDK that is installed, and for no other release.
PKG_CONFIG ?= pkg-config
SDK := $(B)/dpdk-sdk
PMD_SOURCES := $(wildcard bindings/dpdk/*.c)
PMD_OBJECTS := $(PMD_SOURCES:bindings/dpdk/%.c=$(B)/pmd/%.o)
PMD_CFLAGS = -std=gnu11 -Wall -Wextra -fPIC -fvisibility=hidden -ffile-prefix-map=$(CURDIR)=. \
  -DALLOW_INTERNAL_API -DALLOW_EXPERIMENTAL_API \
  -Iinclude -I$(SDK)/include $(shell $(PKG_CONFIG) --cflags libdpdk)
# Where DPDK looks for drivers, .../pmds-23.0, and the version of its interface that this name ends in.
DRIVERDIR ?= $(shell echo RTE_EAL_PMD_PATH | $(CC) $$($(PKG_CONFIG) --cflags libdpdk) -include rte_build_config.h -E -P - | tail -1 | tr -d '"')
PMD_ABI = $(lastword $(subst -, ,$(DRIVERDIR)))

.PHONY: all lib pmd install-pmd examples install clean demo test test-unit test-vm test-foreign test-peers soak soak-fallen soak-restart test-dpdk fuzz test-fuzz bench bench-dpdk hostile \
  miri vm-kernel coverage docs test-docs header lint prepare venv test-python lint-python wheel test-wheel bench-python FORCE

all: lib examples

include packaging/packaging.mk

lib: $(B)/$(SONAME) $(B)/libvuser.a $(B)/libvuser.so

# What is built does not tell where: the same sources give the same bytes in any directory (make reproducible). Flags of
# whoever builds, in RUSTFLAGS, are taken in place of these.
REMAP = --config 'build.rustflags=["--remap-path-prefix=$(CURDIR)=.","--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo"]'

$(B)/libvuser.a: FORCE
	@mkdir -p $(B)
	$(CARGO) build --release --lib --locked $(REMAP) $(CARGO_FLAGS)
	@cmp -s $(TARGET_DIR)/release/libvuser.a $@ || cp $(TARGET_DIR)/release/libvuser.a $@

# rustc can't give a shared library versioned symbols, so the C compiler links it from the static one.
$(B)/$(SONAME) $(B)/checked/$(SONAME): %/$(SONAME): %/libvuser.a include/vuser.map
	$(CC) -shared -o $@ -Wl,-soname,$(SONAME) -Wl,--version-script=include/vuser.map \
	  -Wl,-z,defs,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections -Wl,--as-needed -Wl,--build-id \
	  $(LDFLAGS) -Wl,--whole-archive $< -Wl,--no-whole-archive -lgcc_s -lpthread -lm -ldl -lc

$(B)/libvuser.so: $(B)/$(SONAME)
	ln -sf $(SONAME) $@

# The same that watches its callers (docs/trust.md, "Caller errors"), to be put in the other's place by LD_PRELOAD.
.PHONY: checked
checked: $(B)/checked/$(SONAME)

$(B)/checked/libvuser.a: FORCE
	@mkdir -p $(@D)
	$(CARGO) rustc --lib --crate-type staticlib --locked --features checked $(CARGO_FLAGS)
	@grep -qa 'vuser_watches_its_callers' $(TARGET_DIR)/debug/libvuser.a || \
	  { echo 'another build has replaced $(TARGET_DIR)/debug/libvuser.a meanwhile: make checked once more' >&2; exit 1; }
	@cmp -s $(TARGET_DIR)/debug/libvuser.a $@ || cp $(TARGET_DIR)/debug/libvuser.a $@

examples: $(EXAMPLES:%=$(B)/examples/%)

$(B)/examples/%: examples/%.c examples/common.h include/vuser.h $(B)/$(SONAME) Makefile
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $< -o $@ $(LINK)

$(B)/tests/%: tests/foreign/%.c include/vuser.h $(B)/$(SONAME)
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $< -o $@ $(LINK) -pthread

$(B)/tests/extras: tests/capi/extras.c tests/capi/check.h include/vuser.h $(B)/$(SONAME)
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $< -o $@ $(LINK)

$(PEERS): $(B)/tests/%: tests/peers/%.c tests/peers/flow.c tests/peers/child.c tests/peers/census.c tests/peers/peers.h include/vuser.h $(B)/$(SONAME)
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $(filter %.c,$^) -o $@ $(LINK) -pthread

$(B)/tests/mix: tests/peers/plan.c tests/peers/traffic.c tests/peers/mix.h

# The front-end in C that meets the hostile device.
$(B)/tests/front: tests/hostile/front.c tests/peers/flow.c tests/peers/census.c tests/peers/peers.h include/vuser.h $(B)/$(SONAME)
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $(filter %.c,$^) -o $@ $(LINK)

# The hostile device, as a program.
$(B)/tests/hostile: FORCE
	@mkdir -p $(@D)
	$(INSTALL) -m 755 "$$($(CARGO) test --locked --features header --test hostile --no-run --message-format=json | \
	  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)" $@

# A DPDK program that drives ports of any driver; what the tests of the driver tell.
$(B)/tests/port: $(wildcard tests/dpdk/port/*.c) tests/dpdk/port/port.h
	@mkdir -p $(@D)
	$(CC) -std=gnu99 -Wall -Wextra $(CFLAGS) -DALLOW_EXPERIMENTAL_API $$($(PKG_CONFIG) --cflags libdpdk) $(filter %.c,$^) \
	  -o $@ $$($(PKG_CONFIG) --libs libdpdk) -lrte_net_vhost

# The same with DPDK and the driver in it.
DPDK_STATIC := eal kvargs telemetry ethdev net mbuf mempool ring meter bus_vdev mempool_ring net_vhost vhost hash \
  cryptodev dmadev rcu timer
$(B)/tests/port-static: $(wildcard tests/dpdk/port/*.c) tests/dpdk/port/port.h $(B)/librte_net_vuser.a
	@mkdir -p $(@D)
	$(CC) -std=gnu99 -Wall -Wextra $(CFLAGS) -DALLOW_EXPERIMENTAL_API $$($(PKG_CONFIG) --cflags libdpdk) \
	  $$($(PKG_CONFIG) --libs-only-L libdpdk) $(filter %.c,$^) -o $@ -Wl,--whole-archive \
	  $(DPDK_STATIC:%=-l:librte_%.a) $(B)/librte_net_vuser.a -Wl,--no-whole-archive $(B)/libvuser.a \
	  -lpthread -ldl -lm -lnuma -lbsd -latomic

# A device on DPDK's vhost library, with its notes on what is in flight.
$(B)/tests/inflight: tests/inflight/vhost.c
	@mkdir -p $(@D)
	$(CC) -std=gnu99 -Wall -Wextra $(CFLAGS) -DALLOW_EXPERIMENTAL_API $$($(PKG_CONFIG) --cflags libdpdk) $< -o $@ \
	  $$($(PKG_CONFIG) --libs libdpdk)

# Programs of DPDK's own, unmodified, if scripts/dpdk-sdk.sh has found their source.
DPDK_TESTS := $(B)/tests/port $(B)/tests/port-static $(B)/tests/inflight $(B)/tests/dpdk-l2fwd $(B)/tests/dpdk-skeleton $(B)/bench/versus_dpdk
$(filter $(B)/tests/dpdk-%,$(DPDK_TESTS)): $(B)/tests/dpdk-%: $(SDK)/release
	@mkdir -p $(@D)
	@[ ! -d $(SDK)/examples/$* ] || { set -x; $(CC) $(CFLAGS) $$($(PKG_CONFIG) --cflags libdpdk) $(SDK)/examples/$*/*.c \
	  -o $@ $$($(PKG_CONFIG) --libs libdpdk); }

# The .pc file is made here and now, so that it can't hold another PREFIX than the files it describes.
install: lib man
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)
	$(INSTALL) -m 755 $(B)/$(SONAME) $(DESTDIR)$(LIBDIR)/libvuser.so.$(VERSION)
	ln -sf libvuser.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libvuser.so
	$(INSTALL) -m 644 $(B)/libvuser.a $(DESTDIR)$(LIBDIR)/
	$(INSTALL) -m 644 include/vuser.h include/virtio_user_compat.h $(DESTDIR)$(INCLUDEDIR)/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	  -e 's|@VERSION@|$(VERSION)|' include/vuser.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/vuser.pc
	$(INSTALL) -d $(DESTDIR)$(MANDIR)/man3 $(DESTDIR)$(MANDIR)/man7
	$(INSTALL) -m 644 $(B)/man/man3/* $(DESTDIR)$(MANDIR)/man3/
	$(INSTALL) -m 644 $(B)/man/man7/* $(DESTDIR)$(MANDIR)/man7/
	@[ -n '$(DESTDIR)' ] || [ "$$(id -u)" != 0 ] || PATH=$$PATH:/usr/sbin:/sbin ldconfig || :

pmd: $(B)/librte_net_vuser.so $(B)/librte_net_vuser.a

# Needed by all objects, and cheap when the headers are there.
$(SDK)/release: FORCE
	@PKG_CONFIG='$(PKG_CONFIG)' CC='$(CC)' scripts/dpdk-sdk.sh $(SDK)

$(B)/pmd/%.o: bindings/dpdk/%.c $(wildcard bindings/dpdk/*.h) include/vuser.h $(SDK)/release Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(PMD_CFLAGS) -c $< -o $@

# A program that is linked with it takes all of it, since nothing refers to a driver, and libvuser.a:
# -Wl,--whole-archive -l:librte_net_vuser.a -Wl,--no-whole-archive -lvuser
$(B)/librte_net_vuser.a: $(PMD_OBJECTS)
	rm -f $@
	$(AR) rcsD $@ $^

# It has the library in it, and shows nothing of it. One plug-in that can't be loaded ends any DPDK program, so that
# all it needs must be named and there.
$(B)/librte_net_vuser.so: $(PMD_OBJECTS) $(B)/libvuser.a
	$(CC) -shared -o $@ -Wl,-soname,librte_net_vuser.so.$(firstword $(subst ., ,$(PMD_ABI))) -Wl,--exclude-libs,ALL \
	  -Wl,-z,defs,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections -Wl,--as-needed -Wl,--build-id $(LDFLAGS) \
	  $(PMD_OBJECTS) $(B)/libvuser.a $$($(PKG_CONFIG) --libs-only-L libdpdk) -lrte_ethdev -lrte_bus_vdev -lrte_telemetry \
	  -lrte_net -lrte_mbuf -lrte_mempool -lrte_kvargs -lrte_eal -lgcc_s -lpthread -lm -ldl -lc

install-pmd: pmd
	$(INSTALL) -d $(DESTDIR)$(DRIVERDIR) $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 755 $(B)/librte_net_vuser.so $(DESTDIR)$(DRIVERDIR)/librte_net_vuser.so.$(PMD_ABI)
	ln -sf librte_net_vuser.so.$(PMD_ABI) $(DESTDIR)$(DRIVERDIR)/librte_net_vuser.so.$(firstword $(subst ., ,$(PMD_ABI)))
	$(INSTALL) -m 644 $(B)/librte_net_vuser.a $(DESTDIR)$(LIBDIR)/

header:
	$(CARGO) build --locked --features header
	cp "$$(ls -t $(TARGET_DIR)/debug/build/vuser-*/out/vuser.h | head -1)" include/vuser.h
	scripts/python_abi.py

demo: lib $(B)/examples/loopback
	$(B)/examples/loopback --seconds 5

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --features header -- -D warnings

# Installs what the tests need, as root; otherwise says what is missing.
prepare:
	@scripts/prepare.sh

# What is missing is installed before anything else is begun, with -j too.
ifneq (,$(filter test,$(MAKECMDGOALS)))
.NOTPARALLEL:
endif

test: prepare vm-kernel all checked pmd $(B)/tests/front $(FOREIGN) $(PEERS) $(DPDK_TESTS) lint test-docs
	VUSER_REQUIRE_ALL=1 $(CARGO) test --locked --features header
	VUSER_REQUIRE_ALL=1 $(MAKE) test-python
	$(MAKE) test-fuzz

# Rings and their reference, whole queues and devices that lie, and options as text under Miri; a nightly toolchain with miri and
# rust-src is needed (rustup component add --toolchain nightly miri rust-src). By hand, for hours: no test needs it. MIRI: only those
# of queues with this in their names. Both sides of a ring access it in widths of their own, as hardware does, which Miri's weak memory
# can't: that is what tests/models is for.
miri: export MIRIFLAGS = -Zmiri-permissive-provenance -Zmiri-disable-weak-memory-emulation -Zmiri-env-forward=VUSER_LIES_STEPS
miri: export VUSER_LIES_STEPS = 800
miri:
	$(if $(MIRI),,$(CARGO) +nightly miri test --locked --test reference)
	$(CARGO) +nightly miri test --locked --test miri -- --skip mem:: --skip gate:: $(MIRI)
	$(if $(MIRI),,$(CARGO) +nightly miri test --locked --lib -- dev::config ring::)

# Which branches of rings, queues and the vhost-user back-end the tests take, and whether docs/coverage.md explains the others; needs
# rustup's llvm-tools. It builds the library and its tests once more, so it is run by hand. PIECES=1: what was not run at all, too.
coverage:
	CARGO='$(CARGO)' $(PYTHON) scripts/coverage.py $(TARGET_DIR)/coverage $(if $(PIECES),--pieces)

# All that needs neither DPDK nor root.
test-unit: lib checked
	$(CARGO) test --locked --features header --lib --test rings --test lies --test wrap --test offloads --test life --test vhost_user \
	  --test capi --test floors --test header --test hotpath --test turnstile --test models --test reference --test reconnect --test wakeups

# The C face with DPDK's vhost and without under tools that watch memory and threads, by hand, SECONDS (60) for each of two runs:
# docs/trust.md. TOOLS: some of these; thread needs a nightly toolchain with rust-src.
.PHONY: sanitize
sanitize: lib examples
	@for tool in $(or $(TOOLS),address valgrind thread); do \
	  CARGO='$(CARGO)' scripts/sanitize.sh $(B) $(or $(SECONDS),60) $$tool || exit 1; done

test-foreign: lib $(FOREIGN)
	$(CARGO) test --locked --features header --test foreign --test capture

# Open vSwitch and testpmd, which come and go.
test-peers: lib examples $(PEERS)
	$(CARGO) test --locked --features header --test peers --test pairs

# The kernel of tests/vm, if there is none yet: seven minutes of one processor, behind all else. The tests wait for it.
vm-kernel:
	@env -u MAKEFLAGS nice -n 10 setsid nohup tests/vm/uml/build.sh > /dev/null 2>&1 &

# In a kernel of their own, which is built once and kept (tests/vm/uml/build.sh).
test-vm: lib examples
	$(CARGO) test --locked --features header --test vm

# A hundred deaths of a back-end in each of eight ways, and the ledger of each.
soak-restart: lib $(PEERS)
	VUSER_SOAK_KILLS=$(or $(KILLS),100) $(CARGO) test --locked --features header --test peers soak -- --nocapture

# The front-end is killed under traffic, twenty times in each of five ways, and what the back-end holds is counted.
soak-fallen: lib examples $(PEERS)
	VUSER_FRONT_KILLS=$(or $(KILLS),20) $(CARGO) test --locked --features header --test peers fallen -- --nocapture

# Whatever can happen to a device while frames move, for HOURS or MINUTES (10), drawn from SEED: docs/trust.md. HOSTILE= leaves
# out the device that lies.
HOSTILE ?= $(B)/tests/hostile
soak: lib examples $(PEERS) $(HOSTILE)
	@dir=$$(mktemp -d) && RUNTIME_DIRECTORY=$$dir $(B)/tests/mix --dir $$dir --own $(B)/examples/loopback \
	  $$(! command -v dpdk-testpmd > /dev/null || echo --testpmd dpdk-testpmd) $(SEED:%=--seed %) $(FROM:%=--from %) $(HOSTILE:%=--hostile %) \
	  --seconds $$(( $(or $(HOURS),0) * 3600 + $(or $(MINUTES),$(if $(HOURS),0,10)) * 60 )); \
	  rc=$$?; [ $$rc = 0 ] || tail -20 $$dir/log; rm -rf $$dir; exit $$rc

test-dpdk: pmd $(DPDK_TESTS)
	$(CARGO) test --locked --features header --test dpdk --test inflight

# The site, build/docs/docs/index.html; a warning is an error. LINKS=1 asks the sites that it links to, too.
docs: $(B)/venv-docs/ready lib
	$(B)/venv-docs/bin/python scripts/docs.py $(B)
	$(if $(LINKS),$(B)/venv-docs/bin/python scripts/docs.py $(B) --links)

$(B)/venv-docs/ready: docs/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# What the README and the pages tell people to type is typed, and their programs are compiled and run.
test-docs: all pmd docs venv
	$(B)/venv-docs/bin/python tests/docs/main.py
# A virtual environment with what the tests of the Python package, and its wheels, are made with.
VENV := $(B)/venv

venv: $(VENV)/.python

$(VENV)/.python: tests/python/requirements.txt
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# The package as it lies in bindings/python, with the library of this tree. ARGS: of pytest. Another Python:
# make test-python PYTHON=python3.13 VENV=build/venv313
test-python: lib checked venv lint-python
	PYTHONPATH=bindings/python VUSER_LIBRARY=$(abspath $(B)/$(SONAME)) $(VENV)/bin/python -m pytest -q $(ARGS)

lint-python: venv
	$(VENV)/bin/ruff check --quiet bindings/python tests/python
	$(VENV)/bin/mypy

# dist/: the source distribution, and a wheel for manylinux2014.
wheel: venv
	scripts/wheel.sh $(VENV)

# The same, put into a virtual environment of its own, where frames come back. Not in `make test`: it builds all crates once more.
test-wheel: wheel
	rm -rf $(B)/wheel/venv
	$(PYTHON) -m venv $(B)/wheel/venv
	$(B)/wheel/venv/bin/pip install --quiet --no-index --no-cache-dir dist/*.whl
	cd $(B)/wheel && env -u PYTHONPATH -u VUSER_LIBRARY venv/bin/python -B -c 'import vuser; \
	  print("test-wheel:", vuser.library_path); device = vuser.Device(path="loopback"); device.start(); \
	  assert device.tx[0].burst([bytes(60)]) == 1 and device.rx[0].wait(30) and len(device.rx[0].burst()) == 1'

# Coverage-guided, each target for so long; see fuzz/README.md. TARGETS: only these. SANITIZER=address: with AddressSanitizer.
fuzz:
	CARGO='$(CARGO)' SANITIZER='$(SANITIZER)' fuzz/run.sh $(or $(SECONDS),60) $(TARGETS)

# Every seed, and some seconds of chance for each target, from the seeds anew.
test-fuzz:
	rm -rf $(B)/fuzz-test
	CARGO='$(CARGO)' FUZZ_DIR='$(abspath $(B)/fuzz-test)' fuzz/run.sh 8

bench:
	$(CARGO) bench --locked --bench bursts

# Python beside the same loop in C, both in bursts of 256. SECONDS=1: of each.
bench-python: lib venv $(B)/bench/loopback
	VUSER_LIBRARY=$(abspath $(B)/$(SONAME)) PYTHONPATH=bindings/python $(VENV)/bin/python benches/python.py \
	  $(B)/bench/loopback $(or $(SECONDS),5)

$(B)/bench/loopback: examples/loopback.c examples/common.h include/vuser.h $(B)/$(SONAME)
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) -DBURST=256 $< -o $@ $(LINK)

VERSUS := benches/versus_dpdk

$(B)/bench/versus_dpdk: $(wildcard $(VERSUS)/*.c $(VERSUS)/*.h)
	@mkdir -p $(@D)
	$(CC) -std=gnu99 -D_GNU_SOURCE -Wall -Wextra $(CFLAGS) $$($(PKG_CONFIG) --cflags libdpdk) $(filter %.c,$^) -o $@ \
	  $$($(PKG_CONFIG) --libs-only-L libdpdk) -lrte_ethdev -lrte_mempool -lrte_mbuf -lrte_eal -lpthread

# The driver beside DPDK's own. QUICK=1: in two minutes in place of fifteen. VERSUS_ARGS: options of versus_dpdk.
bench-dpdk: pmd $(B)/bench/versus_dpdk
	QUICK=$(QUICK) $(VERSUS)/run.sh $(B) $(VERSUS_ARGS)

# Each fault of a hostile device against each front-end, a line each. PEER=1: DPDK's own driver beside, for ten minutes.
# HOSTILE_ARGS: --list, --fault NAME, --part data, --face c, --layout packed, --markdown, --all FILE, --json FILE (tests/hostile/main.rs).
hostile: lib pmd $(B)/tests/front $(B)/tests/port
	VUSER_REQUIRE_ALL=1 $(CARGO) test --locked --features header --test hostile -- --each $(if $(PEER),--peer) $(HOSTILE_ARGS)

clean:
	rm -rf $(B)
	$(CARGO) clean
