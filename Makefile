# Everything here makes what it needs: `make demo` and `make test` work from a bare clone, alone and in either order.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test docs lint bench clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.user: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.developer: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.user $(VENV)/.writer

$(VENV)/.writer: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[docs]"
	touch $@ $(VENV)/.user

demo: $(VENV)/.user  ## the paths of ten handwritten digits: a table, a picture, a page and a file
	mkdir -p out
	$(BIN)/find-path --out out/paths.json --plot out/path.png --report out/report.html --overwrite
	@echo "the paths are in out/paths.json, the first one's picture in out/path.png, a page to explore in out/report.html"

test: $(VENV)/.developer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --numprocesses auto --maxprocesses 4

docs: $(VENV)/.writer  ## the documentation as a web site: no network is needed to read it, a server only to search it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the documentation is in site/index.html; to search in it: $(BIN)/python -m http.server --directory site"

lint: $(VENV)/.developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.developer  ## the docs' figures of the embedded model and of random weights, on this machine: hours on 2 cores
	mkdir -p out/bench
	for name in cost memory quality circuits class_circuits default_path edges scoreboard planted features throughput pruned_speed \
		pruned_units data_sets listing scaling explorer; do \
		$(BIN)/python benchmarks/$$name.py --out out/bench/$$name.json || exit 1; done

clean:
	rm -rf $(VENV) out site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
