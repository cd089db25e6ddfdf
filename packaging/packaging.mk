# What packagers need: the manual, Debian packages, and the promise about the C interface.

.PHONY: man deb test-deb test-man test-abi abi-baseline

# A page for each function and struct of the header, and vuser(7).
man: $(B)/man/man7/vuser.7

$(B)/man/man7/vuser.7: scripts/man.py scripts/header.py include/vuser.h
	@mkdir -p $(@D)
	$(PYTHON) -B scripts/man.py include/vuser.h $(VERSION) $(B)/man

test: test-man test-abi

# Groff has nothing to say against a page, and each has a name that apropos finds.
test-man: man
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
