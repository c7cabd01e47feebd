PYTHON312 ?= python3.12
PYTHON ?= $(or $(shell command -v python3.11),python3)
BIN = .venv/bin
NEWEST = .venv312/bin
ROOMS = common tfscale jaxscale benchmarks swap
GOLDENS = $(wildcard recipes/goldens/*.json recipes/tpu/goldens/*.json)

.PHONY: .venv demo test test-slow drill hostile pages preflight preflight-newest lint docs notebook clean

.venv: .venv/.stamp

.venv/.stamp: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -r requirements.lock
	$(BIN)/pip install -q --no-deps -e .
	touch $@

# The TPU's compiler, beside the packages: where JAX finds it, it looks for a TPU. Without it its tests are skipped.
# Pip would leave what says the old one's version.
.venv/libtpu/.stamp: requirements-tpu.lock .venv/.stamp
	rm -rf .venv/libtpu
	-$(BIN)/pip install -q --no-deps --target .venv/libtpu -r requirements-tpu.lock && touch $@

demo: .venv
	$(BIN)/twinscale compare recipes/decoder-stdlib.toml --out build/demo --overwrite
	@echo build/demo/report.html

test: .venv .venv/libtpu/.stamp
	$(BIN)/python -m pytest -q -m "not slow and not pages" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv .venv/libtpu/.stamp
	$(BIN)/python -m pytest -q -m slow

# Every kind of page in Chromium, which must be there, as must node and npm. Screenshots lie beside the pages.
pages: .venv build/pages/.stamp
	$(BIN)/python -m pytest -q -m pages tests/pages
	@ls build/pages/*/*.png | wc -l | xargs -I N echo N screenshots in build/pages

build/pages/.stamp:
	mkdir -p build/pages
	npm install --prefix build/pages --no-audit --no-fund axe-core@4 playwright-core@1
	touch $@

drill: .venv
	$(BIN)/python -m tests.drill --out build/drill $(if $(CLASS),--class $(CLASS))

hostile: .venv
	$(BIN)/python -m tests.hostile --out build/hostile $(if $(ONLY),--only '$(ONLY)')

preflight: $(GOLDENS:.json=.checked)
	@echo $(words $(GOLDENS)) recipes are no worse than their goldens

%.checked: .venv .venv/libtpu/.stamp
	$(BIN)/twinscale preflight $(subst goldens/,,$*).toml --check $*.json --overwrite \
		--out build/preflight/$(subst goldens/,,$*)

# The same with the newest libtpu that was tested, which wants Python 3.12. There is no TensorFlow beside it.
preflight-newest: $(GOLDENS:.json=.newest)
	@echo $(words $(GOLDENS)) recipes are no worse than their goldens with $$(grep '^libtpu==' requirements-tpu-newest.lock)

.venv312/.stamp: requirements-tpu-newest.lock
	$(PYTHON312) -m venv .venv312
	$(NEWEST)/pip install -q -r requirements-tpu-newest.lock
	$(NEWEST)/pip install -q --no-deps -e .
	touch $@

%.newest: .venv312/.stamp
	$(NEWEST)/twinscale preflight $(subst goldens/,,$*).toml --backend jax --check $*.json --overwrite \
		--out build/preflight-newest/$(subst goldens/,,$*)

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/hadolint $(wildcard docker/*.Dockerfile)
	mkdir -p build/lint/twinscale
	ln -sfn $(addprefix $(CURDIR)/,$(ROOMS) $(wildcard twinscale/*.py)) build/lint/twinscale/
	cd build/lint && PYTHONPATH=. $(CURDIR)/$(BIN)/lint-imports --config $(CURDIR)/pyproject.toml
	cd build/lint && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p twinscale

# The pages of docs/, with what they say of the code made from it; no framework is wanted, so they have a place of their own.
docs: .venv-docs/.stamp
	.venv-docs/bin/sphinx-build -q -n -W --keep-going docs build/docs
	@echo build/docs/index.html

.venv-docs/.stamp: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install -q -r requirements-docs.lock
	touch $@

# What the notebook of docs/ shows is what it printed: this runs it anew, where it lies.
notebook: .venv
	$(BIN)/pip install -q -r requirements-notebook.lock
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace docs/a-verdict-in-a-notebook.ipynb

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find common tfscale jaxscale benchmarks swap docs tests -name __pycache__ -prune -exec rm -rf {} +
