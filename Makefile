# `make serve` and `make test` need make and Python 3.11+ (with venv), nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# What `make check` holds the wire contract against.
BASE   ?= HEAD
SLO    ?= p99=10ms,errors=0.1%
TRANSPORT ?= core

.PHONY: serve test test-slow test-sanitize check format protos bench-engine bench-explain bench-threads bench-server bench-overload bench-load bench-metrics bench-gpu bench-workers soak loadtest docs clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): pyproject.toml constraints.txt $(wildcard setup.py ranker/engine/simd/*.c ranker/engine/simd/*.h)
	@echo "setting up $(VENV): about a minute the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

serve: $(READY) ## the demo book ranker, trained, exported and served
	@$(BIN)/python -m demo.books --out build/demo
	@echo
	@echo "Once it listens, rank the demo's books from a second terminal:"
	@echo
	@echo "    $(BIN)/ranker rank build/demo/candidates.csv --top-k 5"
	@echo
	@exec $(BIN)/ranker serve build/demo/books.onnx

test: $(READY) ## all tests but the slow ones
	$(BIN)/python -m pytest -n auto --maxprocesses 4

test-slow: $(READY) ## the minutes-long tests
	$(BIN)/python -m pytest -m slow --timeout 1800

check: $(READY) ## lint, types, wire contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	cd protos && ../$(BIN)/buf breaking --against '../.git#ref=$(BASE),subdir=protos'

format: $(READY) ## ruff's and buf's formatting, applied
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cd protos && ../$(BIN)/buf format -w

protos: $(READY) ## ranker/v1/ from protos/: the code, and a copy for the wheel
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. protos/ranker/v1/ranking.proto
	cp protos/ranker/v1/ranking.proto ranker/v1/

bench-engine: $(READY) ## the engines against onnxruntime and xgboost
	$(BIN)/python -m benchmarks.engine

bench-explain: $(READY) ## explanations against XGBoost's own
	$(BIN)/python -m benchmarks.explain

bench-threads: $(READY) ## two threads on one large batch against one, and against two cores
	$(BIN)/python -m benchmarks.threads

test-sanitize: $(READY) ## the C extension's tests under AddressSanitizer and UBSan
	CFLAGS="-O1 -fsanitize=address,undefined -fno-sanitize-recover=all" \
		$(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	cd build/sanitize/lib && ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		$(CURDIR)/$(BIN)/python -m pytest $(CURDIR)/tests/engine/simd/test_simd.py \
		$(CURDIR)/tests/engine/simd/test_simd_layout.py \
		$(CURDIR)/tests/engine/simd/test_simd_explainer.py --timeout 600

bench-server: $(READY) ## the server against the floor of grpc.aio; more with h2load
	$(BIN)/python -m benchmarks.server

bench-overload: $(READY) ## goodput at up to three times the capacity; needs h2load
	$(BIN)/python -m benchmarks.overload

bench-metrics: $(READY) ## what metrics cost, of a server's CPU time and by themselves
	$(BIN)/python -m benchmarks.metrics

bench-load: $(READY) ## what loading a model takes, in time and memory
	$(BIN)/python -m benchmarks.load

bench-gpu: $(READY) ## the GPU engine, where there is a GPU
	$(BIN)/python -m benchmarks.gpu --serve --out build/gpu

bench-workers: $(READY) ## two workers against one; needs h2load (Debian: nghttp2-client)
	$(BIN)/python -m benchmarks.workers

soak: $(READY) ## ten minutes of mixed and hostile traffic, on TRANSPORT=core or aio
	$(BIN)/python -m benchmarks.soak --transport $(TRANSPORT)

loadtest: $(READY) ## a minute of locust on the demo ranker, held to SLO=p99=10ms,errors=0.1%
	$(BIN)/python -m demo.books --out build/demo
	$(BIN)/python -m loadtests locust --serve build/demo/books.onnx --slo "$(SLO)"

docs: $(READY) ## docs/reference/ from the code
	$(BIN)/python docs/reference/generate.py

clean: ## everything that was made here
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
