# Everything a newcomer needs: `make demo`, `make test`. Each sets up what it needs (apt, .venv).
PY := .venv/bin/python
PYTEST := .venv/bin/pytest
# Twice as many tests at once as there are cores: most wait for a Postfix, a bot or a kernel.
AT_ONCE := -n $$((2 * $$(nproc)))
# Store compiled modules: each worker, daemon and command starts faster.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help root setup check lint test docs mutants deb bench demo fuzz soak soak-fleet soak-overload machines newcomer pythons clean
help:
	@sed -n 's/^## //p' Makefile

SOURCES := pyproject.toml scripts/bootstrap hatch_build.py $(wildcard throttled/bpf/*.[ch])
.venv/.ready: $(SOURCES)
	scripts/bootstrap
.venv/.demo: $(SOURCES)
	scripts/bootstrap demo

setup: .venv/.ready

root:
	@[ "$$(id -u)" = 0 ] || { echo "most tests need root: sudo make test; without root: make check" >&2; exit 3; }

## make check  lint, types, unit tests and stories, without root: a few minutes
check: lint
	$(PYTEST) -q $(AT_ONCE) -m 'not root' tests/unit tests/stories

## make lint   ruff, mypy --strict, import-linter
lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo 2>/dev/null || .venv/bin/lint-imports

## make test   all tests: units, real nftables, Postfix and systemd in namespaces (root)
# Coverage doubles the time of a test: only for those that scripts/check-coverage is about.
test: root lint
	scripts/bootstrap test
	$(PYTEST) -n $$(nproc) -m pure --cov --cov-context=test --cov-report= $$($(PY) scripts/pure.py)
	.venv/bin/python scripts/check-coverage
	$(PYTEST) $(AT_ONCE) -m 'not pure'

## make docs   the reference, from the commands and the configuration's schema
docs: setup
	$(PY) scripts/gen-docs

## make mutants  changes of a module that no test notices: ARGS=throttled/decide/limits.py
mutants: setup
	nice $(PY) scripts/mutate $(ARGS)

## make deb    the Debian package in dist/, checked by lintian; prints its path
deb:
	scripts/bootstrap deb
	@package=$$(scripts/build-deb dist) && \
	    lintian --fail-on error,warning --allow-root "$$package" && echo "$$package"

## make demo   a flood on a real Postfix, stopped (root)
demo: .venv/.demo
	$(PY) scripts/demo

## make bench  the figures of docs/performance.md, as ratios in one run (root)
bench: setup
	$(PY) scripts/bench

## make fuzz   every parser, bounded: SECONDS=60
fuzz: setup
	$(PY) scripts/fuzz

## make soak   a night of mishaps on a real Postfix (root): SECONDS=600 SEED=1
soak: setup
	$(PY) scripts/soak --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

## make soak-fleet  a fleet whose parts are killed again and again (root): SECONDS=600 SEED=1
soak-fleet: setup
	$(PY) scripts/soak-fleet --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

## make soak-overload  bots from thousands of addresses for so long (root): SECONDS=600 SEED=1
soak-overload: setup
	$(PY) scripts/soak-overload --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

## make machines  the package on stock Debian 12 and 13, in qemu (root): ARGS="trixie --tests"
machines: setup
	scripts/bootstrap machines
	$(PY) scripts/machines $(ARGS)

## make newcomer  demo, deb and check in a fresh, minimal Debian 12 and 13 (root): ARGS=trixie
newcomer: setup
	scripts/bootstrap test
	$(PY) scripts/newcomer $(ARGS)

## make pythons  the tests of make check with other Pythons found here: VERSIONS="3.12 3.13"
pythons: setup
	scripts/pythons $(VERSIONS)

clean:
	rm -rf .venv build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
