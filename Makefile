# `make serve` and `make test` need make and Python 3.11+ (with venv), nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
# What `make check` holds the wire contract against.
BASE   ?= HEAD
SLO    ?= p99=10ms,errors=0.1%

.PHONY: serve test test-slow test-sanitize check audit format protos lock sbom wheel bench loadtest docs clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): pyproject.toml requirements-dev.txt $(wildcard setup.py ranker/*/*/*.c ranker/*/*/*.h)
	@echo "setting up $(VENV): a minute or two the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@PYTHONWARNINGS=ignore $(PIP) install --no-deps --require-hashes -r requirements-dev.txt
	@rm -rf *.egg-info # of an earlier release, it would be asked for the exporters
	@PYTHONWARNINGS=ignore $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

serve: $(READY) ## the demo book ranker, trained, exported and served
	@$(BIN)/python -m demo.books --out build/demo
	@echo
	@echo "Once it listens, rank the demo's books from a second terminal:"
	@echo
	@echo "    $(BIN)/ranker rank build/demo/candidates.csv --top-k 5"
	@echo
	@exec $(BIN)/ranker serve build/demo/books.onnx

# Many tests wait. And those that start servers start hundreds of processes, which would
# compile everything anew where bytecode is not kept.
test: export PYTHONDONTWRITEBYTECODE =
test: $(READY) ## all tests but the slow ones
	$(BIN)/python -m pytest -n 6 --dist worksteal

test-slow: $(READY) ## the minutes-long tests
	$(BIN)/python -m pytest -m slow --timeout 1800

check: $(READY) ## lint, types, wire contract, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	cd protos && ../$(BIN)/buf breaking --against '../.git#ref=$(BASE),subdir=protos'
	@$(BIN)/python deploy/audit.py

audit: $(READY) ## known vulnerabilities of what is locked, where the package index can be asked
	@$(BIN)/python deploy/audit.py

sbom: $(READY) ## build/sbom.json: what the image has, in CycloneDX
	@mkdir -p build
	@# Not among the tests' packages: with what it brings, jsonschema takes seconds to import.
	$(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements \
		deploy/image/requirements.txt --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file build/sbom.json

# The same bytes from the same commit: times from it, and no path of this machine.
wheel: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
wheel: $(READY) ## dist/*.whl, the same bytes each time
	rm -rf build/lib* build/temp* build/bdist* *.egg-info
	CFLAGS="-ffile-prefix-map=$(CURDIR)=." $(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

format: $(READY) ## ruff's and buf's formatting, applied
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cd protos && ../$(BIN)/buf format -w

# What uv finds in the file that it writes stays, unless it is told UPGRADE=--upgrade, or that no longer fits.
# No index is named: each installs from its own.
LOCK   = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(UPGRADE) pyproject.toml
IMAGE  := --extra serve --extra gcp --extra otel --extra remote
lock: ## requirements-dev.txt, constraints.txt and those of the images, from pyproject.toml
	@test -x $(BIN)/uv || $(MAKE) $(READY)
	$(LOCK) --extra dev --output-file requirements-dev.txt
	sed -nE 's/^([A-Za-z0-9._-]+==[^ ;]+).*/\1/p' requirements-dev.txt > constraints.txt
	echo setuptools | $(LOCK) - $(IMAGE) -c constraints.txt --output-file deploy/image/requirements.txt
	printf 'setuptools\nonnxruntime-gpu[cuda,cudnn]\n' | $(LOCK) - $(IMAGE) --extra gpu \
		-c constraints.txt --output-file deploy/image/requirements-gpu.txt

protos: $(READY) ## the code from protos/, and a copy of our own contract for the wheel
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. \
		protos/ranker/v1/ranking.proto protos/ranker/v1/log.proto
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=ranker --pyi_out=ranker \
		protos/inference/open_inference.proto
	cp protos/ranker/v1/ranking.proto protos/ranker/v1/log.proto ranker/v1/

# importlib: else pytest puts the repository first in the path, and its own extensions are tested.
test-sanitize: $(READY) ## the C extensions' tests under AddressSanitizer and UBSan
	CFLAGS="-O1 -fsanitize=address,undefined -fno-sanitize-recover=all" \
		$(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	cd build/sanitize/lib && ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		$(CURDIR)/$(BIN)/python -m pytest --import-mode=importlib \
		$(CURDIR)/tests/engine/simd/test_simd.py \
		$(CURDIR)/tests/engine/simd/test_simd_layout.py \
		$(CURDIR)/tests/engine/simd/test_simd_sizes.py \
		$(CURDIR)/tests/engine/simd/test_simd_explainer.py \
		$(CURDIR)/tests/serving/messages/test_messages.py --timeout 600

bench: $(READY) ## lists what can be measured; NAME=server measures, ARGS="--rounds 1" has options
	@$(BIN)/python -m benchmarks $(NAME) $(ARGS)

loadtest: $(READY) ## a minute of locust on the demo ranker, held to SLO=p99=10ms,errors=0.1%
	$(BIN)/python -m demo.books --out build/demo
	$(BIN)/python -m loadtests locust --serve build/demo/books.onnx --slo "$(SLO)"

docs: $(READY) ## docs/reference/ and deploy/dashboards/ from the code
	$(BIN)/python docs/reference/generate.py
	$(BIN)/python deploy/dashboards/generate.py

clean: ## everything that was made here
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
