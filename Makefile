# The doors of the project; what is behind each is in scripts/.
#   PYTHON=/path/to/python3   another CPython (3.11 or newer) than the newest one found
#   PORT=8080                 another port for `make run`
#   ARGS='...'                more arguments for the program behind `make test`, `run` and `bench`

.DEFAULT_GOAL := help
.PHONY: help run test build bench lint fmt clean

help: ## show this list
	@sed -n 's/^\([a-z]*\): ## \(.*\)/  make \1	\2/p' Makefile

run: ## serve examples/weather and examples/battery on http://127.0.0.1:8000
	@exec scripts/run $(ARGS)

test: ## build, then run every test
	@scripts/test $(ARGS)

build: ## set up .venv, build the release binary and install the wheel
	@scripts/build all

bench: ## measure beside Granian and uvicorn, and beside multiprocessing
	@scripts/bench $(ARGS)

lint: ## check formatting, lints, types and licences
	@scripts/lint

fmt: ## format the Rust and the Python sources
	@scripts/venv .venv requirements/test.txt
	@cargo fmt --all
	@.venv/bin/ruff format --quiet python/exuvia tests examples bench crates/runtime/src

clean: ## remove everything built and installed here
	@scripts/clean
