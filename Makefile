SHELL := /bin/bash
.DEFAULT_GOAL := help
STAMP := .venv/.ready-$(shell sed '/^\[mypy\]/,$$d' setup.cfg | cat requirements.lock docker/environment - | cksum | tr ' ' -)

# Else each process compiles pandas, Spark and all the others anew: half the CPU of a short command.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help env demo up down new test test-s3 test-airflow check bench bench-serving bench-training bench-lake bench-airflow bench-sync lock

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP) ## Make .venv from requirements.lock, with Java and Delta's jars; does nothing when it is there
	@:

$(STAMP):
	@docker/environment $@

demo: env ## Take real flights from raw files to served features
	@.venv/bin/headwater demo

up: env ## Start Airflow, the online store and serving on this machine: make up PROJECT=my_features (none: that of make demo)
	@docker/up $(or $(PROJECT),demo)

down: env ## Stop what make up started; all data stay
	@docker/down $(or $(PROJECT),demo)

new: env ## Write a new group's file and its test: make new GROUP=visits SOURCE=page_views PROJECT=my_features (none: our own catalog)
	@.venv/bin/headwater new $(GROUP) $(if $(SOURCE),--source $(SOURCE)) $(if $(PROJECT),--project $(PROJECT),--catalog feature_definitions/catalog)

test: env ## Run the whole test suite
	@.venv/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test-s3: env ## Kill runs, S3 and PostgreSQL while a reader loops (10 minutes; needs Go, which builds an S3 server the first time)
	@.venv/bin/python -m tests.s3
	@.venv/bin/python -m pytest -s tests/durability

test-airflow: env ## Run the DAGs under a real scheduler on PostgreSQL (12 minutes)
	@.venv/bin/python -m pytest -s -x tests/scheduler

check: env ## Check style, types and imports: what CI runs before the tests
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: env ## Run the shorter benchmarks, one after the other
	@set -e; for script in $(filter-out %_training.py %_lake.py %_airflow.py %_sync.py,$(wildcard tests/benchmarks/bench_*.py)); do echo "$$script"; .venv/bin/python -m $$(echo "$${script%.py}" | tr / .); done

bench-lake: env ## Compare a lake on S3 with one in a folder: the flights of a month and one day more (--days 7 in ARGS is less)
	@.venv/bin/python -m tests.benchmarks.bench_lake $(ARGS)

bench-sync: env ## Compare a sync with Feast's, and see what readers wait meanwhile (ARGS="--rows 1000000" is the full size)
	@.venv/bin/python -m tests.benchmarks.bench_sync $(ARGS)

bench-serving: env ## Measure the server: CPU by request beside Feast's, latency at 1,000 connections, slow connections, memory (--near is less)
	@.venv/bin/python -m tests.benchmarks.bench_serving $(ARGS)

bench-training: env ## Compare the join of training sets with Feast and others, at a tenth (ARGS="--only U --scale 1")
	@.venv/bin/python -m tests.benchmarks.bench_training $(ARGS)

bench-airflow: env ## Measure what Airflow costs beside the work (ARGS="--days 60")
	@.venv/bin/python -m tests.benchmarks.bench_airflow $(ARGS)

lock: env ## Resolve requirements.in into requirements.lock (then run make env)
	@.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements.in -o requirements.lock
