# Each target is one or two pipenv commands; docs/deployment.md gives them for machines without make.
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

# Hours of malformed requests, images and files: too long for every change.
test-slow: env env-serve
	.venv/bin/python -m tests.fuzz.fuzz_requests
	.venv/bin/python -m tests.fuzz.fuzz_parsers
	.venv/bin/python -m tests.fuzz.fuzz_decoders

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The smoke test's own slice, on port 9697, may be fetched although its address is not public.
serve: env-serve
	CSPINE_FETCH_ALLOW="$${CSPINE_FETCH_ALLOW-127.0.0.1:9697}" .venv-serve/bin/python predict_flask.py

docs: env
	.venv/bin/python -m sphinx -W --keep-going -b html docs build/docs

# Podman and buildah drop the HEALTHCHECK from their own format.
image:
	$(BUILDER) build $(if $(filter docker,$(notdir $(BUILDER))),,--format docker) --build-arg BASE=$(BASE) --tag $(IMAGE) .

# The lock names no package source, so that it installs from whichever index pip is set to.
lock: env
	PIP_CONFIG_FILE=/dev/null .venv/bin/pipenv lock
	.venv/bin/python -c "import json, pathlib; lock = pathlib.Path('Pipfile.lock'); \
	content = json.loads(lock.read_text()); content['_meta']['sources'] = []; \
	lock.write_text(json.dumps(content, indent=4) + '\n')"

# A bill of materials of what serves, as the lock has it, and its known vulnerabilities.
audit: env
	mkdir -p build
	.venv/bin/pipenv requirements --categories serve --hash | grep -v '^-i ' > build/requirements.txt
	.venv/bin/cyclonedx-py requirements build/requirements.txt --output-file build/sbom.json
	.venv/bin/pip-audit --requirement build/requirements.txt --no-deps --disable-pip

clean:
	rm -rf build *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache
