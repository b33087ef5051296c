# A fresh machine needs only python3 and make: start with `make demo` or `make test`.
# Works with GNU make from 3.81 (macOS) and any /bin/sh.
#
#   PYTHON=...      interpreter to build .venv with (default: the first one that is 3.11 or newer)
#   FUZZ=...        number of inputs per reader of make fuzz
#   FIRST=...       number of the first input
#   KILLS=...       number of kills of make stress
#   PIP_FLAGS=...   more options for pip, for example a package index

PYTHON    ?=
PIP_FLAGS ?=
FUZZ      ?= 100000
FIRST     ?= 0
KILLS     ?= 200

CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/installed
AUDIT := $(VENV)/audit

# On a busy machine, OpenMP threads that spin while they wait slow everything down.
OMP_WAIT_POLICY ?= PASSIVE
export OMP_WAIT_POLICY

# The stamp holds the directory in which the environment was built. An environment that was copied or moved still points
# to the old checkout, and one whose interpreter is gone cannot run: both are built again.
BUILT_IN := $(shell test -x $(BIN)/python && cat $(STAMP) 2>/dev/null)

# Show a command as one would type it, then run it inside the environment.
run = @printf '\n$$ %s\n' '$(1)'; PATH="$(CURDIR)/$(BIN):$$PATH"; export PATH; $(1)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test slow fuzz audit stress lowest docs fmt lint types build clean distclean force

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: $(STAMP) ## train a small model, estimate its log Z and log-likelihood, write a report into demo/
	@if [ -f demo/config.json ]; then \
	  echo 'demo/ holds an earlier run, which continues; remove demo/ to start a new one'; \
	fi
	$(call run,dvae-train digits --preset demo --out demo$(if $(wildcard demo/config.json), --resume))
	$(call run,dvae-eval logz demo/model.pt --method pt-bar --against-exact)
	$(call run,dvae-eval ll demo/model.pt --samples 1000 --limit 300)
	$(call run,dvae-eval report demo)
	@printf '%s\n' '' \
	  'demo/ now holds' \
	  '    model.pt       a discrete VAE of 8x8 digits' \
	  '    logz.json      log Z of its prior, compared with the exact value' \
	  '    ll.json        its test log-likelihood' \
	  '    report.html    a report with figures; open it in a browser:' \
	  '' \
	  '    $(CURDIR)/demo/report.html' \
	  '' \
	  'Next steps:' \
	  '    . $(BIN)/activate' \
	  '    dvae-train bars-and-stripes --out runs/bars   # log p(x) is known exactly' \
	  '    dvae-train mnist --out runs/mnist             # downloads MNIST' \
	  '    dvae-eval logz --help                         # other ways to estimate log Z' \
	  '    make test                                     # checks this checkout'

# One process per core; the tests of a file share its fixtures. A test that hangs fails with the stacks of its threads.
test: lint types ## check style, types and imports, then run the tests
	$(BIN)/python -m pytest -q -n auto --dist loadfile --timeout 600

slow: $(STAMP) ## run the statistical suites that take minutes
	$(BIN)/python -m pytest -q -m slow

fuzz: $(STAMP) ## read 100000 tampered files with every reader (an hour); FUZZ=1000 for fewer
	DVAE_FUZZ_INPUTS=$(FUZZ) DVAE_FUZZ_FIRST=$(FIRST) $(BIN)/python -m pytest -q -s tests/system/test_fuzz.py

# The auditor has its own environment: its dependencies are not part of the audit.
audit: $(STAMP) ## look up known vulnerabilities of the pinned dependencies (needs the network)
	@if [ ! -x $(AUDIT)/bin/pip-audit ]; then \
	  { $(BIN)/python -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install -q --disable-pip-version-check \
	    --retries 1 --timeout 10 $(PIP_FLAGS) pip-audit; } >/dev/null 2>&1; \
	fi; \
	$(BIN)/python tests/audit.py $(AUDIT)/bin/pip-audit

stress: $(STAMP) ## kill commands at 200 random moments and continue them (minutes); KILLS=20 for fewer
	$(BIN)/python tests/stress/kills.py --kills $(KILLS)

lowest: $(STAMP) ## test core, commands and reports with the oldest dependencies that pyproject.toml allows (downloads them)
	$(BIN)/python tests/lowest.py $(PIP_FLAGS)

docs: $(STAMP) ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # --quiet would suppress warnings before they count
	@echo 'Built site/. Open in a browser: $(CURDIR)/site/index.html'

fmt: $(STAMP) ## format the code and apply the fixes of ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP) ## check style, format and the direction of imports
	$(BIN)/ruff check --output-format=concise .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(STAMP) ## check types
	$(BIN)/python -m mypy

build: $(STAMP) ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build --no-isolation

clean: ## remove build products and caches
	rm -rf build dist site .docs_cache *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find dvae_core dvae_eval reports cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## also remove the environment and the demo
	rm -rf $(VENV) demo

ifneq ($(BUILT_IN),$(CURDIR))
$(STAMP): force
endif
$(STAMP): pyproject.toml constraints.txt
	@python=; \
	for candidate in $(CANDIDATES); do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    python=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'No Python >= 3.11 among $(CANDIDATES); install one, or name it: make PYTHON=/path/to/python3' >&2; \
	  exit 1; \
	fi; \
	echo "Building $(VENV) with $$($$python --version) (the first time takes minutes, mostly for torch)"; \
	quiet=; [ -t 1 ] || quiet=-q; \
	if [ '$(BUILT_IN)' != '$(CURDIR)' ]; then $$python -m venv --clear $(VENV) || exit 1; fi; \
	$(BIN)/python -m pip install $$quiet --disable-pip-version-check $(PIP_FLAGS) \
	  -c constraints.txt -e '.[dev,docs]' || exit 1; \
	printf '%s\n' '$(CURDIR)' > $(STAMP)
