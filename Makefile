# Every target sets up what it needs: a virtual environment in .venv from the hash-pinned locks and, for `test` as
# root, the daemons of the real lab. Nothing is written outside this directory except by that installation.

PYTHON ?= python3
# Tests side by side: what they start keeps a processor busy.
WORKERS ?= $(shell nproc)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input

.PHONY: help demo play test chaos fuzz check lint types imports lab lock clean soak sbom audit

help:
	@echo 'make demo     the main job on a simulated site: no privileges, no FreeBSD'
	@echo 'make play     the same site, kept running for you to push to'
	@echo 'make test     every check and every test (as root also those of the real lab)'
	@echo 'make chaos    deaths while images are built, cuts, take-overs (a quarter of an hour; ROUNDS=N for more), and the controller'
	@echo '              killed at every fail point, at 2,000 pairs of them and 1,000 times at random (hours)'
	@echo 'make fuzz     a million hostile manifests, 10,000 hostile values per grammar (hours; goes on where it stopped)'
	@echo 'make soak     ten thousand passes that must leave nothing behind (a quarter of an hour); PASSES=N for more'
	@echo 'make check    style, types and import directions only'
	@echo 'make lock     pin the dependencies of pyproject.toml again'
	@echo 'make sbom     write what requirements.lock pins to build/sbom.json (CycloneDX)'
	@echo 'make audit    ask for advisories about what it pins'
	@echo 'make clean    remove what these targets made'

# Plays the story and ends; `make play` keeps the site running for you to push to.
demo: .venv/runtime.stamp
	$(BIN)/jailops demo --script $(ARGS)

play: .venv/runtime.stamp
	$(BIN)/jailops demo $(ARGS)

# In the continuous integration the dependencies are audited, too. 3: nobody answers here, and the tests' floors hold anyway.
test: check lab
	@if [ "$(CI)" = true ]; then tools/audit.sh || [ $$? = 3 ]; fi
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: .venv/test.stamp
	JAILOPS_ROUNDS=$(or $(ROUNDS),100) $(BIN)/python -m pytest -n 0 -s tests/faults/test_kills.py $(ARGS)
	JAILOPS_CUTS=$(or $(CUTS),600) JAILOPS_HISTORIES=$(or $(HISTORIES),200) JAILOPS_FLOOD=1024 $(BIN)/python -m pytest -n 0 -s \
		tests/transport/test_cuts.py tests/transport/test_takeover.py tests/transport/test_flood.py $(ARGS)
	JAILOPS_SCENES=all JAILOPS_POINTS=0 JAILOPS_PAIRS=$(or $(PAIRS),2000) JAILOPS_RANDOM=$(or $(RANDOM_KILLS),1000) \
	  JAILOPS_SEED=$(or $(SEED),1) JAILOPS_PLAYED=$(or $(PLAYED),build/deaths.jsonl) \
	  $(BIN)/python -m pytest -n 0 -s tests/kills $(ARGS)

# The manifests go on where they stopped, and begin anew after `rm -r .fuzz`. CASES=N and VALUES=N for other sizes, SEED=WORD
# for the same again.
fuzz: .venv/test.stamp
	@mkdir -p .fuzz
	$(BIN)/python -m tests.fuzz.manifests --cases $(or $(CASES),1000000) --seed "$(SEED)" --jobs $(WORKERS) --limit 1 --state .fuzz/manifests
	JAILOPS_VALUES=$(or $(VALUES),10000) JAILOPS_SEED="$(SEED)" $(BIN)/python -m pytest -n $(WORKERS) -o timeout=0 tests/fuzz/test_fuzz_values.py tests/manifests/test_manifest_graphs.py $(ARGS)

soak: .venv/test.stamp
	JAILOPS_PASSES=$(or $(PASSES),10000) $(BIN)/python -m pytest -n 0 -s tests/core/test_soak.py $(ARGS)

check: lint types imports

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test.stamp
	$(BIN)/mypy

imports: .venv/test.stamp
	$(BIN)/lint-imports

lab:
	@if [ "$$(id -u)" = 0 ]; then tools/install-lab.sh; else echo 'not root: the tests of the real lab will be skipped'; fi

lock: .venv/test.stamp
	tools/lock.sh

sbom: .venv/test.stamp
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --validate --output-format JSON \
		--output-file build/sbom.json requirements.lock

audit: .venv/test.stamp
	@tools/audit.sh

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	tools/make-venv.sh "$(PYTHON)"

# setuptools comes with the lock, so the package itself is installed without any network.
.venv/runtime.stamp: requirements.lock pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/test.stamp: requirements-test.lock .venv/runtime.stamp
	$(PIP) install --require-hashes -r requirements-test.lock
	@touch $@
