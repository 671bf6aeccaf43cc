# All that a person types. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-all lint format bench docs build lock proto clean
PY := .venv/bin/python
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=FATHOM_SERVER,FATHOM_TOKEN)

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## install what the other commands need (Debian packages, .venv); nothing to do = under 3 s
	@tools/setup.sh

run: setup ## start Fathom on this machine's real traffic (asks for root by sudo)
	@exec $(SUDO) .venv/bin/fathom up $(ARGS)

test: setup ## what a person runs, in minutes: unit, layout, kernel (as root), store, end to end
	@tools/test.sh

test-all: setup ## `test`, and long properties, other kernels in guests, containers, clusters (about an hour)
	@tools/test.sh --all

lint: setup ## ruff, mypy, import contracts, clang-format, generated files
	@tools/lint.sh

format: setup ## put the code in shape
	@.venv/bin/ruff format --quiet src tests benchmarks && .venv/bin/ruff check --fix --quiet src tests benchmarks
	@clang-format -i $$(git ls-files '*.c' '*.h')

bench: setup ## the benchmarks, in pairs; writes benchmarks/RESULTS.md
	@$(PY) -m benchmarks

docs: setup ## generate the pages of docs/reference
	@$(PY) tools/reference.py
	@$(PY) -m fathom.server.reference > docs/reference/rest.md
	@$(PY) -m fathom.cli.reference > docs/reference/cli.md

proto: setup ## generate src/fathom/v1 from api/
	@tools/proto.sh

build: setup ## the Linux wheel (libbpf bundled), the pure wheel and the sdist, into dist/
	@tools/build.sh

lock: setup ## pin requirements/dev.in with hashes
	@tools/lock.sh

clean: ## remove what the others made
	@rm -rf .venv build dist wheelhouse .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
