# Each target runs a few commands. docs/deployment.md gives the pipenv commands for machines without make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIPENV_VERSION := 2026.10.3
IMAGE ?= cspine
BASE ?= python:3.11-slim-bookworm
BUILDER ?= $(shell command -v docker || command -v podman || command -v buildah)

.PHONY: demo test test-slow env env-serve serve image docs lock lint audit clean
.DEFAULT_GOAL := demo

env: .venv/ready
env-serve: .venv-serve/ready

.venv/ready: PACKAGES := --dev
.venv/ready: EDITABLE := --no-deps --no-build-isolation --editable .
.venv-serve/ready: PACKAGES := --categories serve
.venv/ready .venv-serve/ready: Pipfile.lock
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet pipenv==$(PIPENV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/$(@D) PIPENV_VERBOSITY=-1 $(@D)/bin/pipenv sync $(PACKAGES)
	$(if $(EDITABLE),$(@D)/bin/python -m pip install --quiet $(EDITABLE))
	touch $@

demo: env
	.venv/bin/python demo.py $(if $(ONCE),--once)

test: env env-serve lint
	.venv/bin/python -m pytest --cov

# Fuzz runs with malformed requests, images and files. They take hours, too long to run for every change.
test-slow: env env-serve
	.venv/bin/python -m tests.fuzz.fuzz_requests
	.venv/bin/python -m tests.fuzz.fuzz_parsers
	.venv/bin/python -m tests.fuzz.fuzz_decoders
	.venv/bin/python -m tests.fuzz.fuzz_folders

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# Allows the service to fetch the smoke test's slice from port 9697, although the address is not public.
serve: env-serve
	CSPINE_FETCH_ALLOW="$${CSPINE_FETCH_ALLOW-127.0.0.1:9697}" .venv-serve/bin/python predict_flask.py

docs: env
	.venv/bin/python -m sphinx -W --keep-going -b html docs build/docs

# The default image format of podman and buildah has no HEALTHCHECK, so they must write Docker's format.
image:
	$(BUILDER) build $(if $(filter docker,$(notdir $(BUILDER))),,--format docker) --build-arg BASE=$(BASE) --tag $(IMAGE) .

# Removes the package sources from the lock, so that packages are installed from the index that pip is set to.
lock: env
	PIP_CONFIG_FILE=/dev/null .venv/bin/pipenv lock
	.venv/bin/python -c "import json, pathlib; lock = pathlib.Path('Pipfile.lock'); \
	content = json.loads(lock.read_text()); content['_meta']['sources'] = []; \
	lock.write_text(json.dumps(content, indent=4) + '\n')"

# Writes the bill of materials of the locked serving packages, and checks them for known vulnerabilities.
audit: env
	mkdir -p build
	.venv/bin/pipenv requirements --categories serve --hash | grep -v '^-i ' > build/requirements.txt
	.venv/bin/cyclonedx-py requirements build/requirements.txt --output-file build/sbom.json
	.venv/bin/pip-audit --requirement build/requirements.txt --no-deps --disable-pip

clean:
	rm -rf build *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache
