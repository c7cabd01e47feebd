PYTHON ?= $(or $(shell command -v python3.11),python3)
BIN = .venv/bin

.PHONY: .venv demo test test-slow drill lint clean

.venv: .venv/.stamp

.venv/.stamp: requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -r requirements.lock
	$(BIN)/pip install -q --no-deps -e .
	touch $@

demo: .venv
	$(BIN)/twinscale compare recipes/decoder-stdlib.toml --out build/demo --overwrite
	@echo build/demo/report.html

test: .venv
	$(BIN)/python -m pytest -q -m "not slow"

test-slow: .venv
	$(BIN)/python -m pytest -q -m slow

drill: .venv
	$(BIN)/python -m tests.drill --out build/drill $(if $(CLASS),--class $(CLASS))

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/lint-imports

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find common tfscale jaxscale benchmarks swap tests -name __pycache__ -prune -exec rm -rf {} +
