# What one does with this project; `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Sources of the compiled core: it is built again when one of them is newer than the stamp.
CORE = pyproject.toml setup.py src/pageshare/_build_core.py $(wildcard csrc/*)
DIST = $(CORE) MANIFEST.in README.md LICENSE $(shell find src tests -name '*.py' -o -name '*.sh')
BENCH = $(BIN)/python -m pytest -q -o addopts=--import-mode=importlib -o tmp_path_retention_policy=none \
	--benchmark-only --benchmark-columns=median benchmarks
# Tests run in as many processes as there are CPUs; see tests/conftest.py.
WORKERS ?= -n logical --maxprocesses 8
# Saved runs of the benchmarks; AGAINST=FILE names the one to compare with.
RUNS = benchmarks/runs
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup demo test ctest sanitize lint dist pythons guests figures traces balloon answers bench benchquick answer clean

help:		## lists what there is
	@sed -n 's/^\([a-z]*\):[^#]*## */\1\t/p' Makefile | while IFS='	' read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: $(VENV)/.installed	## makes .venv and builds the core; takes from apt what that lacks

demo: setup	## captures the memory of four interpreters and scans it
	$(BIN)/pageshare demo

test: setup ctest	## all tests, small Linux guests under QEMU included, in a process per CPU (WORKERS= for one)
	sh tools/need.sh test
	$(MAKE) --no-print-directory tests/pages/node_modules/.installed
	$(BIN)/python -m pytest $(WORKERS)

ctest:		## the C tests, with cc alone
	sh tests/native/run.sh

sanitize:	## the C tests under AddressSanitizer and UndefinedBehaviorSanitizer, and under ThreadSanitizer
	sh tests/native/run.sh $(SANITIZE) & first=$$!; \
	TSAN_OPTIONS=suppressions=tests/native/tsan.supp sh tests/native/run.sh -fsanitize=thread; \
	second=$$?; wait $$first && exit $$second

lint: $(VENV)/.lint	## ruff, and mypy --strict as the oldest and the newest Python
	$(BIN)/ruff check
	$(BIN)/mypy --python-version 3.10
	$(BIN)/mypy --python-version 3.14

dist: dist/.built	## wheel and sdist, each installed and tested outside the tree
	sh tools/test_dist.sh $(BIN)/python dist/*.whl core
	sh tools/test_dist.sh $(BIN)/python dist/*.tar.gz core

pythons: dist/.built	## the tests on Python 3.10 and on the newest one, where this machine has them
	sh tools/pythons.sh $(BIN)/python

guests: setup	## boots six guests under QEMU and leaves their dumps in guests/
	sh tools/need.sh test
	$(BIN)/python tests/guests/boot.py -o guests --guests 6

figures: setup guests/same/guest10.elf	## figure 4 of the paper, beside ten guests with the same work (booted the first time)
	$(BIN)/pageshare figures 4 --guests guests/same/guest?.elf guests/same/guest??.elf

TRACES = redis apache clangd java cpython sort zeroing ruby
traces: setup	## records the laboratory's traces again (an hour; TRACES="redis sort" for some), writes the table of docs/lab/traces.md
	sh tools/need.sh traces
	set -e; for name in $(TRACES); do \
		$(BIN)/python tools/traces/record.py $$name -o src/pageshare/lab/traces/$$name.parquet; done
	$(BIN)/python tools/traces/describe.py docs/lab/traces.md

balloon: setup	## measures what Linux and QEMU do with a balloon (about seven minutes): writes docs/lab/virtio-balloon.md
	sh tools/need.sh test
	$(BIN)/python tests/guests/balloon.py -o docs/lab/virtio-balloon.json --markdown docs/lab/virtio-balloon.md

ANSWERS = figures give-back sampling polls clearing misses together
answers: setup	## the laboratory's experiments, ten seeds each (two hours; ANSWERS="polls" for some): writes pages into docs/lab
	set -e; for name in $(ANSWERS); do $(BIN)/pageshare lab answer $$name -o docs/lab --force; done

bench: $(VENV)/.bench	## the benchmarks (about ten minutes; some more the first time); saves a run, compares, writes docs/benchmarks.md
	mkdir -p $(RUNS)
	$(BENCH) --benchmark-json=$(RUNS)/now.json
	$(BIN)/python benchmarks/render.py $(RUNS)/now.json docs
	$(BIN)/python benchmarks/compare.py $(RUNS)/now.json
	-$(BIN)/python benchmarks/compare.py $(or $(AGAINST),$(RUNS)) $(RUNS)/now.json
	mv $(RUNS)/now.json $(RUNS)/$$(sed -n 's/.*"id": "\([0-9a-f]\{10\}\)[0-9a-f]*".*/\1/p' $(RUNS)/now.json | head -1).json

benchquick: $(VENV)/.bench	## the same on small inputs: shows that it works, not how fast anything is
	mkdir -p $(RUNS)/quick
	PAGESHARE_BENCH=quick $(BENCH) --benchmark-json=$(RUNS)/quick/now.json
	$(BIN)/python benchmarks/render.py $(RUNS)/quick/now.json $(RUNS)/quick
	$(BIN)/python benchmarks/compare.py $(RUNS)/quick/now.json $(RUNS)/quick/now.json

answer: $(VENV)/.bench	## every scan policy on every memory: writes docs/policies-measured.md (memories are made once: 12 minutes, 21 GiB)
	sh tools/need.sh test
	$(BIN)/python benchmarks/policies.py docs/policies-measured.md

clean:		## removes everything that make made
	rm -rf $(VENV) build dist guests tests/pages/node_modules src/*.egg-info src/pageshare/_core.abi3.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: $(CORE)
	sh tools/need.sh build $(PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

# What looks at pages in Chromium; without npm its tests are skipped.
tests/pages/node_modules/.installed: tests/pages/package.json tests/pages/package-lock.json
	! command -v npm >/dev/null || npm ci --prefix tests/pages --ignore-scripts --no-audit --no-fund --loglevel=error
	! command -v npm >/dev/null || touch $@

guests/same/guest10.elf: | setup
	sh tools/need.sh test
	$(BIN)/python tests/guests/boot.py -o guests/same --guests 10 --same

$(VENV)/.lint: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[lint]'
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	sh tools/need.sh bench
	$(BIN)/python -m pip install --quiet --editable '.[bench,test]'
	touch $@

dist/.built: $(VENV)/.installed $(DIST)
	$(BIN)/python -m pip install --quiet build
	sh tools/dist.sh $(BIN)/python
	touch $@
