# All commands for people. `make` alone lists them.
# Each target installs what is missing. The scripts are in setup/, one per duty.
.DEFAULT_GOAL := help
.PHONY: help demo test test-nodes bench simulate soak lint docs format stub pins tools images dist clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## start everything on this machine and run the manual's calculation through it
	@setup/demo.sh

test: ## run all tests (PYTEST_ARGS='-k word -x' narrows them)
	@setup/test.sh $(PYTEST_ARGS)

test-nodes: ## make nodes of this machine by the package and run jobs on them (as root)
	@setup/test_nodes.sh $(PYTEST_ARGS)

bench: ## measure with the peer (SLURM) beside it (BENCH_ARGS='--only intake --repeat 3 --jobs 2000')
	@setup/bench.sh $(BENCH_ARGS)

simulate: ## run jobs on many simulated nodes (SIMULATE_ARGS='--nodes 100 --jobs 3000')
	@setup/venv.sh
	@setup/tools.sh
	@setup/tools.sh nodesim
	@.venv/bin/python -m bench.simulate $(SIMULATE_ARGS)

soak: ## submit 50,000 jobs and run 2,000 while every part is killed (SOAK_ARGS='--drain 300')
	@setup/soak.sh $(SOAK_ARGS)

lint: ## ruff, mypy, import-linter, shellcheck and the links of the documents
	@setup/packages.sh lint
	@setup/venv.sh
	@setup/lint.sh

docs: ## build the documents as a site in build/docs
	@setup/venv.sh
	@setup/docs.sh

format: ## format the code, and fix what ruff can fix
	@setup/venv.sh
	@.venv/bin/ruff check --config ruff.toml --fix . || true
	@.venv/bin/ruff format --config ruff.toml .

stub: ## write the stub of the SQL statements for mypy (after a change of store/sql)
	@setup/venv.sh
	@.venv/bin/python setup/query_stub.py

pins: ## update requirements/*.txt to the newest versions, with hashes
	@setup/venv.sh
	@setup/pins.sh

tools: ## find or build nomad, leruli-driver, leruli-runner and leruli-objects, linked into .venv/bin
	@setup/venv.sh
	@setup/tools.sh

images: ## make the missing Docker images of images/*.recipe
	@setup/packages.sh docker images
	@images/build.sh $(basename $(notdir $(wildcard images/*.recipe)))

dist: ## build dist/nomadrun.tar, the package that makes a machine a node, and the programs of a service
	@setup/dist.sh
	@setup/tools.sh

clean: ## remove .venv and the files of builds and tests in the tree (not .demo, not the cache)
	rm -rf .venv .venv.lock build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	rm -rf *.egg-info cli/*.egg-info node_setup/*.egg-info cli/build node_setup/build
	find leruli_queue cli node_setup tests setup bench soak -name __pycache__ -type d -prune -exec rm -rf {} +
