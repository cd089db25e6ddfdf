# What packagers need: the manual, Debian packages, and the promise about the C interface.

.PHONY: man deb test-deb test-rpm test-man test-abi test-workflow abi-baseline supply test-supply reproducible unsafe

# A page for each function and struct of the header, and vuser(7).
man: $(B)/man/man7/vuser.7

$(B)/man/man7/vuser.7: scripts/man.py scripts/header.py include/vuser.h
	@mkdir -p $(@D)
	$(PYTHON) -B scripts/man.py include/vuser.h $(VERSION) $(B)/man

# The page of the command line, which comes with the Python package.
$(B)/man/man1/vuser.1: scripts/man_command.py $(wildcard bindings/python/vuser/cli/*.py) $(B)/$(SONAME)
	VUSER_LIBRARY=$(CURDIR)/$(B)/$(SONAME) $(PYTHON) -B scripts/man_command.py $(VERSION) $@

# Everything is there, or it is an error.
test: export VUSER_REQUIRE_ALL = 1

test: test-man test-abi

# Groff has nothing to say against a page, and each has a name that apropos finds.
test-man: man $(B)/man/man1/vuser.1
	@for page in $(B)/man/man*/*; do \
	  said=$$(LC_ALL=C.UTF-8 MANROFFSEQ= MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z $$page 2>&1 >/dev/null); \
	  [ -z "$$said" ] || { echo "$$page: $$said" >&2; exit 1; }; \
	  lexgrog $$page >/dev/null || { echo "$$page: NAME can't be read" >&2; exit 1; }; \
	done; echo "test-man: $$(ls $(B)/man/man*/* | wc -l) pages without a warning"

# Whether programs that were built before still run, and whether it would be noticed if not (docs/abi.md).
test-abi:
	$(PYTHON) -B scripts/abi.py check include/vuser.h include/vuser.map abi
	$(PYTHON) -B scripts/abi.py prove include/vuser.h include/vuser.map abi

# A new promise: with each release, and before the first one whenever the interface changes.
abi-baseline:
	$(PYTHON) -B scripts/abi.py baseline include/vuser.h include/vuser.map abi

# Debian packages of the sources as they are here, built without a network from a source package: build/deb/.
deb: $(SDK)/release
	packaging/deb.sh $(B)/deb $(SDK)

test: test-deb

# Has nothing to say against the packages but what they explain (lintian), and installs, uses, removes and purges them in a
# throw-away root made over this machine's.
test-deb: deb
	packaging/test-deb.sh $(B)/deb

test: test-rpm test-workflow

# The RPM spec can be read, and is of the version that all else is.
test-rpm:
	@if command -v rpmspec >/dev/null; then \
	  got=$$(rpmspec -q --srpm --qf '%{version}\n' packaging/rpm/vuser.spec) && \
	  [ "$$got" = "$(VERSION)" ] || { echo "test-rpm: packaging/rpm/vuser.spec has version $$got, Cargo.toml $(VERSION)" >&2; exit 1; }; \
	  rpmspec -P packaging/rpm/vuser.spec >/dev/null; echo "test-rpm: the spec is read, version $$got"; \
	else echo 'test-rpm: skipped: rpmspec is missing (apt-get install rpm)' >&2; [ "$(VUSER_REQUIRE_ALL)" != 1 ]; fi

# What others' machines run is the gate, and nothing else.
test-workflow:
	@if command -v yamllint >/dev/null; then yamllint --strict -c .github/yamllint.yml .github && \
	  grep -q '^ *run: .ci/run$$' .github/workflows/ci.yml && echo 'test-workflow: the workflow runs .ci/run'; \
	else echo 'test-workflow: skipped: yamllint is missing (apt-get install yamllint)' >&2; [ "$(VUSER_REQUIRE_ALL)" != 1 ]; fi

test: test-supply

# What the library is built from is what docs/dependencies.md and deny.toml say. No network.
test-supply:
	$(PYTHON) -B scripts/supply.py check
	$(PYTHON) -B scripts/supply.py prove

# The same by cargo deny and cargo audit, and whether anything is known against a crate. What could not be done is an error.
supply:
	$(PYTHON) -B scripts/supply.py audit

# Two builds from nothing, in other places and at other times, give the same bytes. DEB=1: Debian packages, too.
reproducible: $(SDK)/release
	scripts/reproducible.sh $(B)/reproducible $(if $(DEB),deb)

# Lines of code with `unsafe`, by floor; tests are among them.
unsafe:
	@cd src && for floor in capi dev net backend device ring buf mem sys spec; do \
	  printf '%-8s %4d of %5d lines\n' $$floor $$(cat $$(find $$floor -name '*.rs') | grep -v '^ *//' | grep -cw unsafe) \
	    $$(cat $$(find $$floor -name '*.rs') | wc -l); done
