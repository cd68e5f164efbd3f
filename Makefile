# make demo | paper | gemma | serve-demo | cluster-demo | chaos | test | test-fast | test-all | lint | docs | bench | bench-quick | bench-check | audit | sbom. The first of them makes a virtual environment and installs into it.
# PyTorch is installed first and alone, so that a build of your choice stays: for PyTorch's CPU build, or that for
# your CUDA, set TORCH to what its website says to install, for example
#   make test TORCH="torch==2.13.0 --index-url <index of that build>"

PYTHON ?= python3.11
VENV ?= .venv
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Where it is set, every process of the tests would compile the whole project anew.
unexport PYTHONDONTWRITEBYTECODE

# Tests run side by side, but those with Ray in one process: two that each start one disturb each other. It often
# waits, and two others go on meanwhile.
PYTEST := $(BIN)/python -m pytest
SIDE_BY_SIDE := --dist loadgroup -n

.PHONY: install demo paper gemma serve-demo cluster-demo chaos test test-fast test-all lint format docs bench bench-quick bench-check audit sbom clean
.DEFAULT_GOAL := test

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(TORCH) -c constraints.txt
	$(BIN)/python -m pip install -c constraints.txt -e ".[platform,serve,mlflow,gguf,opponents,dev]"
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python -m jobs.world --folder runs/demo/world --users 360
	$(BIN)/python -m jobs.run --config jobs/configs/demo.yaml

# Exhibits in the manner of the paper's figures and tables, with all the runs they need: half an hour or more.
# What is finished is reused; `behaviorlm paper … --dry-run` says what is left (docs/paper.md).
paper: $(INSTALLED)
	$(BIN)/python -m jobs.paper --config jobs/configs/paper/paper.yaml

# Gemma 3 270M, a real base to try, into ~/.cache/behaviorlm: only on request, since Google's terms apply (docs/gemma.md).
gemma: $(INSTALLED)
	$(BIN)/python -m behaviorlm_lab.gemma

# What `make demo` found best, at http://127.0.0.1:8000 until Ctrl-C.
serve-demo: $(INSTALLED)
	rm -rf exported/demo
	$(BIN)/python -m jobs.export --run runs/demo --to exported/demo
	$(BIN)/python -m jobs.serve --model exported/demo

cluster-demo: $(INSTALLED)
	$(BIN)/python -m cluster.demo

chaos: $(INSTALLED)
	$(BIN)/python -m cluster.chaos --seeds 0 1 2

test: $(INSTALLED)
	$(PYTEST) $(SIDE_BY_SIDE) 3 -m "not slow"

test-fast: $(INSTALLED)
	$(PYTEST) $(SIDE_BY_SIDE) 2 -m "not heavy and not ray and not slow"

test-all: $(INSTALLED)
	$(PYTEST) $(SIDE_BY_SIDE) 2 -m "not ray"
	$(PYTEST) -m ray

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A site in build/site; a dead link is an error.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/site

# With TRL=<the Python of an environment with TRL> it is a peer of tuning.
BENCH := $(BIN)/python -m benchmarks.bench_
TUNING := tuning $(if $(TRL),--trl $(TRL))
bench: $(INSTALLED)
	set -e; for benchmark in label_scoring "$(TUNING)" serve precision preparation; do $(BENCH)$$benchmark; done

# Small inputs, in minutes; their records are held against those in benchmarks/results of this kind of machine.
QUICK := build/benchmarks/quick.json
bench-quick: $(INSTALLED)
	rm -f $(QUICK)
	$(BENCH)label_scoring --labels 20 40 --prompts 8 --peers lm-eval kv-per-prompt kv-shared --peer-prompts 4 --lm-eval-labels 10 --write $(QUICK)
	$(BENCH)$(TUNING) --caps 1 8 --samples 8 --write $(QUICK)
	$(BENCH)serve --clients 8 --seconds 2 --write $(QUICK)
	$(BENCH)preparation build/benchmarks/preparation --events 100000 --write $(QUICK) --remove

# Names each ratio whose whole interval lies below .9 of its baseline, and fails; also names baselines that were not
# compared, as those of TRL without TRL=. Not in CI: baselines are of one kind of machine.
bench-check: bench-quick
	$(BIN)/python -m benchmarks.records $(QUICK)

# Tools of an environment of their own, whose packages are not this project's.
AUDIT_TOOLS := pip-audit==2.10.1 cyclonedx-bom==7.5.0
build/tools/.installed: Makefile
	test -x build/tools/bin/python || $(PYTHON) -m venv build/tools
	build/tools/bin/python -m pip install --quiet $(AUDIT_TOOLS)
	touch $@

# What is pinned, against the advisories of the Python Packaging Authority: needs the network. Exit 1 for any that is known.
audit: build/tools/.installed
	build/tools/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# What is installed here as CycloneDX 1.6, checked against its schema. The image makes its own: /opt/behaviorlm/sbom.json.
sbom: $(INSTALLED) build/tools/.installed
	build/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --spec-version 1.6 \
	  --output-reproducible --validate --output-format JSON --output-file build/sbom.json $(BIN)/python

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
