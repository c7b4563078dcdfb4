# Longshore: everything a person runs. `make help` shows it.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
PROTOS := $(shell find proto -name '*.proto' | sort)
# A test has its own deadline of 120 s; this one is for a process that died inside C and whose parent waits for it.
BOUNDED := timeout --foreground --kill-after=30 2700
# Tests wait for no disk that others use, where there are 6 GB of memory to spare.
SCRATCH := $(shell [ "$$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)" -gt 6000000 ] 2>/dev/null && echo env PYTEST_DEBUG_TEMPROOT=/dev/shm)
CODE := common control_plane agent regional deploy benchmarks tests

.DEFAULT_GOAL := help
.PHONY: help setup proto lock format check lint types contracts fresh test demo bench-registry bench-spread bench-swarm soak-swarm soak-fleet descriptor bench-delta bench-boot bench-fleet installer migration clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(BIN)/.ready ## virtual environment, locked dependencies, the four commands

$(BIN)/.ready: requirements/all.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON); install Python 3.11 with venv, or set PYTHON="; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

proto: setup ## generate code from the .proto files, beside them
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)

descriptor: setup ## at a release: remember today's protocol as the one that the next release must understand
	$(BIN)/python -m grpc_tools.protoc -I . --include_imports --descriptor_set_out=tests/compatibility/previous.binpb $(PROTOS)

lock: ## resolve the dependencies again into requirements/all.lock
	$(BIN)/uv pip compile pyproject.toml --extra all --extra dev --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 --upgrade -o requirements/all.lock

migration: setup ## write the next database migration: make migration MESSAGE="what changes"
	$(BIN)/python -m control_plane.migrations.migrate new "$(MESSAGE)"

format: setup ## let ruff format the code and mend what it can
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

check: lint types contracts fresh ## format, lint, strict types, import contracts, fresh generated code

lint: setup
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

fresh: setup
	$(BIN)/python -m tests.architecture.fresh_protos $(PROTOS)

test: setup ## every test; as root on Debian it installs the servers that it needs
	$(BIN)/python -m tests.engines.install
	# loadgroup hands tests out one by one, but for the modules that share a server of their own.
	$(SCRATCH) $(BOUNDED) $(BIN)/python -m pytest -n 3 --dist loadgroup --ignore tests/processes
	# Whole fleets mostly wait, for heartbeats and shaped links: three fit beside each other. A file shares its fleet.
	$(SCRATCH) $(BOUNDED) $(BIN)/python -m pytest -n 3 --dist loadfile tests/processes

demo: setup ## push an image and watch it spread to two data centres: IMAGE=... DEMO_EXIT=1
	$(BIN)/python -m deploy.demo

installer: setup ## kernel and initramfs that install machines, from Debian's packages: OUTPUT=/tftpboot/static REFRESH=1
	$(BIN)/python -m deploy.installer $(or $(OUTPUT),installer) --packages $(or $(PACKAGES),installer-packages) \
	  $(if $(REFRESH),--refresh) $(if $(FIRMWARE),--firmware $(FIRMWARE)) $(if $(LAYOUT),--layout $(LAYOUT))

bench-registry: setup ## the registry against Debian's docker-registry and nginx (wrk, PostgreSQL, Ceph)
	@$(BIN)/python -m benchmarks.registry

bench-spread: setup ## origin bytes per IDC and makespan against plain HTTP, in network namespaces (root)
	@$(BIN)/python -m benchmarks.spread

bench-swarm: setup ## the swarm against aria2, transmission and nginx on shaped links; BENCH_ONLY=flat8 ... (root)
	@$(BIN)/python -m benchmarks.swarm

soak-swarm: setup ## SOAK_SPREADS=50 spreads while agents, regional and control plane are killed (root)
	@$(BIN)/python -m benchmarks.swarm.soak

soak-fleet: setup ## SIMULATION_SEEDS=200 rollouts over a simulated fleet while everything breaks
	@$(BIN)/python -m tests.simulation.soak --seeds $(or $(SIMULATION_SEEDS),200)

bench-delta: setup ## a new version of a disk image of which a tenth changed: BENCH_MIB=1024
	@$(BIN)/python -m benchmarks.delta

bench-boot: setup ## TFTP, HTTP and DHCP against dnsmasq, tftpd-hpa, atftpd and nginx (root): BENCH_RUNS=3 BENCH_ONLY=tftp
	@$(BIN)/python -m benchmarks.boot

bench-fleet: setup ## 1,000, 5,000 and 10,000 simulated agents: cost, storms, fan-out; BENCH_ONLY=steady BENCH_HOLD=60
	@$(BIN)/python -m benchmarks.fleet

clean: ## remove what was generated outside of git
	rm -rf .venv demo-data installer installer-packages .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
