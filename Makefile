# The commands of a working day. `make` lists them.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 4
SECONDS ?=
MINUTES ?= 20
SEED ?=
ONLY ?=
ROUNDS ?=
QUICK ?=
BESIDE ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNS := $(VENV)/.runs
UV := .make/uv
CHART := .make/chart
BILL := .make/bill

# Tests start hundreds of processes: without bytecode each of them would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup servers tools demo test full plans faults mutants brokers edges soak pictures bench check fmt schema dialects dashboards wheel deb chart sbom lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## the virtual environment, exactly as locked

$(INSTALLED): requirements-dev.lock pyproject.toml | $(UV)/bin/uv
	$(PYTHON) -m venv $(VENV)
	$(UV)/bin/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirement requirements-dev.lock
	$(UV)/bin/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

servers: ## mosquitto, PostgreSQL and Redis, installed if they are missing
	$(PYTHON) deploy/local/install.py

tools: ## what only tests and benchmarks need: a browser and promtool
	$(PYTHON) deploy/local/install.py chromium promtool

$(RUNS): requirements.lock
	$(PYTHON) deploy/local/install.py venv
	@echo "installing what the product runs with"
	test ! -e $(INSTALLED) || $(MAKE) setup
	test -e $(INSTALLED) || $(PYTHON) -m venv $(VENV)
	test -e $(INSTALLED) || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

demo: $(RUNS) ## everything at once, live; SECONDS=20 ends it by itself
	$(BIN)/python -m deploy.local.demo $(if $(SECONDS),--seconds $(SECONDS))

test: setup servers tools ## the tests of every change, on real servers; JOBS=4 at a time
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

full: setup servers tools ## these and all that take long
	FULL=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

plans: setup servers ## the dashboards' queries on ten million rows: plans and times
	FULL=1 ROWS=10_000_000 $(BIN)/python -m pytest tests/integration/test_grafana_plans.py --capture=no --quiet

faults: setup servers ## every fault scenario; SEED=n plays one again
	FULL=1 $(if $(SEED),SEED=$(SEED)) $(BIN)/python -m pytest tests/faults --durations=0

brokers: setup servers ## the MQTT suite on a second broker; then what eight promise, in docs/brokers.md. Needs Go, Node and Maven
	BROKERS=all $(BIN)/python -m pytest tests/conformance --numprocesses $(JOBS)
	$(BIN)/python -m tests.brokers docs/brokers.md

edges: setup servers ## Sparkplug against edge nodes that others wrote; installs them with pip and npm
	EDGES=all $(BIN)/python -m pytest tests/acceptance/test_sparkplug_edges.py

mutants: setup servers tools ## critical lines broken one at a time: which test notices; ONLY=turns chooses
	$(BIN)/python -m tests.mutants $(if $(ONLY),--only "$(ONLY)")

soak: setup servers ## random faults for MINUTES=20, then the accounting
	$(if $(SEED),SEED=$(SEED)) $(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

pictures: setup servers tools ## pictures of the live page and of discover, for the README
	$(BIN)/python -m tests.browser.scene docs/img
	$(BIN)/python -m tests.support.recording docs/img

bench: setup servers $(if $(ONLY),$(and $(filter page,$(ONLY)),tools),tools) ## every benchmark, and the report; ONLY="ingest dirty", ROUNDS=3; QUICK=1 only tries; BESIDE=../before compares
	$(BIN)/python -m bench$(if $(BESIDE),.beside $(BESIDE)) $(ONLY) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(QUICK),--quick)

check: setup ## linters, formatting, types and layers
	$(BIN)/ruff check --no-fix
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## format, and mend what the linter can mend
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

schema: setup servers ## write gateway/schema.sql from the migrations
	$(BIN)/python -m tests.support.schema

dialects: setup ## write docs/dialects.md from the files of the dialects
	$(BIN)/python -m gateway.dialects.page

dashboards: setup ## write deploy/grafana/dashboards from their code
	$(BIN)/python -m deploy.grafana

wheel: setup ## dist/: the wheel, and the constraints to install it with
	$(BIN)/python -m deploy.packages.wheel

deb: setup ## dist/: the Debian package, for the release it is built on
	$(PYTHON) deploy/local/install.py debhelper
	$(BIN)/python -m deploy.packages.deb

chart: setup $(CHART)/bin/helm ## what the Helm chart makes, checked; builds helm with Go
	PATH="$(CURDIR)/$(CHART)/bin:$$PATH" CHART=all $(BIN)/python -m pytest tests/integration/test_chart.py

$(CHART)/bin/helm: | $(UV)/bin/uv
	$(PYTHON) -m venv $(CHART)
	$(UV)/bin/uv pip install --quiet --python $(CHART)/bin/python kubernetes-validate==1.37.0
	GOBIN=$(CURDIR)/$(CHART)/bin go install helm.sh/helm/v3/cmd/helm@v3.22.0

sbom: $(BILL)/.installed ## dist/: what is in the product, as CycloneDX, and all licences; fails on one that does not fit
	mkdir -p dist
	$(BILL)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file dist/mqtt-edge-gateway.cdx.json $(BILL)/product
	$(BILL)/bin/pip-licenses --python $(BILL)/product/bin/python --from=mixed --format plain-vertical \
		--with-license-file --no-license-path --with-urls --partial-match --fail-on "UNKNOWN;GPL;SSPL;Proprietary" \
		--output-file dist/licences.txt

$(BILL)/.installed: requirements.lock | $(UV)/bin/uv
	$(PYTHON) -m venv $(BILL)
	$(PYTHON) -m venv --without-pip $(BILL)/product
	$(UV)/bin/uv pip install --quiet --python $(BILL)/bin/python cyclonedx-bom==7.5.0 pip-licenses==5.5.5
	$(UV)/bin/uv pip install --quiet --python $(BILL)/product/bin/python --require-hashes --requirement $<
	touch $@

lock: $(UV)/bin/uv ## choose versions anew for both lock files
	$(UV)/bin/uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --upgrade \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock
	$(UV)/bin/uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --upgrade \
		--custom-compile-command "make lock" --quiet --group dev --constraint requirements.lock \
		--output-file requirements-dev.lock
	echo uv | $(UV)/bin/uv pip compile - --universal --generate-hashes --no-emit-index-url --upgrade \
		--custom-compile-command "make lock" --quiet --output-file deploy/local/requirements-uv.lock

$(UV)/bin/uv: deploy/local/requirements-uv.lock
	$(PYTHON) deploy/local/install.py venv
	$(PYTHON) -m venv $(UV)
	$(UV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

clean: ## remove what these commands made
	rm -rf $(VENV) .make build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find contract runtime gateway projector deploy tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
