# Everything below needs only Python >= 3.11, make and a package registry.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-slow test-data lint docs bench gpu package lock clean

setup: .venv/installed

# uv, itself taken from the lock with its hash, installs the rest ten times faster than pip; where it cannot reach your
# registry (it does not read pip.conf), pip does the same work from the same hashes.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deconvnet needs Python 3.11 or newer: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	sed -n '/^uv==/,/^    # via/p' requirements.lock > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock \
	  || $(BIN)/python -m pip install --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Offline. NETWORK shows another network: make demo NETWORK=alexnet:imagenet1k; OUT is a new folder, if not demo/
demo: setup
	$(BIN)/deconvnet demo $(if $(NETWORK),--network $(NETWORK)) $(if $(OUT),--out $(OUT))

# Tests marked `data` skip unless DECONVNET_DATA names the folder of real photos and weights (docs/architecture.md).
# Two processes with a thread each: most tests are too small for a second thread to help.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test: setup
	$(PYTEST) -m "not slow"
	@echo "Tests marked slow were left out: make test-slow runs them."

# What cannot be quick: kills at many moments, long walks in a browser, installations.
test-slow: setup
	$(PYTEST) -m slow

# On real photos and weights, in the folder that DECONVNET_DATA names.
test-data: setup
	$(PYTEST) -m data

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, with the notebook run (minutes) so that it shows its pictures; make docs NOTEBOOKS=off leaves that out.
NOTEBOOKS ?= force
docs: setup
	NOTEBOOKS=$(NOTEBOOKS) $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo "Open $(CURDIR)/build/docs/index.html"

# Results as tables here and as JSON in benchmarks/results, about an hour of them; pass NETWORK and IMAGES (a folder of JPEGs)
# to measure on your own. Training and loading are ZFNet's whatever NETWORK is. One alone: make bench BENCHMARKS=mining
BENCHMARKS ?= mining projection occlusion_speed step loading growth
bench: setup
	for name in $(BENCHMARKS); do \
	  case $$name in step|loading) network= ;; *) network="$(if $(NETWORK),--network $(NETWORK))" ;; esac; \
	  $(BIN)/python benchmarks/$$name.py $$network $(if $(IMAGES),--images $(IMAGES)) || exit 1; \
	done

# Everything that needs a GPU, in ten minutes, without installing anything (docs/performance.md); PYTHON has PyTorch. IMAGES is
# Imagenette, packed or not; OUT is the folder for the results, out-gpu/ if it is not given.
gpu:
	benchmarks/on_gpu.sh $(if $(IMAGES),--images $(IMAGES)) $(if $(OUT),--out $(OUT))

# The source distribution, and the wheel that is made of it, in dist/.
package: setup
	$(BIN)/uv build --no-build-isolation --python $(BIN)/python --out-dir dist

# Names, versions and hashes of everything, for every platform; no addresses.
lock:
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --generate-hashes --universal --python-version 3.11 \
	  --no-emit-index-url --quiet --output-file requirements.lock

clean:
	rm -rf .venv build
