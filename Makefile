# One word each. Set-up happens by itself: once, and again when the requirements change.
#
#   make demo                    simulated pools, the endpoint and real traffic, end to end
#   make test ARGS=tests/unit    arguments go through to the command behind the word
#   make torture SEED=7          a run whose seed was printed, again
#
# PYTHON names the interpreter that makes .venv (3.11 or later); without it the newest suitable one is found.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM := .venv-vllm
VLLM_READY := $(VLLM)/.ready
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-header --no-annotate

.PHONY: help demo serve test test-vllm torture bench lint format types examples lock clean
.DEFAULT_GOAL := help

help: ## list these words
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## simulated pools, the endpoint and real traffic: a cost report in under two minutes
	@$(BIN)/sluice demo $(ARGS)

serve: $(READY) ## the endpoint in front of simulated pools; stays up until Ctrl-C
	@$(BIN)/sluice serve --simulate $(ARGS)

test: $(READY) ## every test, on all cores
	@$(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

test-vllm: $(READY) $(VLLM_READY) ## the endpoint in front of real vLLM servers on CPU; 2.4 GB the first time
	@$(BIN)/pytest tests/vllm $(ARGS)

torture: $(READY) ## replicas, Redis and wires killed and cut under 10,000 requests; up to fifteen minutes
	@TORTURE=full SEED=$(or $(SEED),$(shell od -An -N3 -tu4 /dev/urandom)) $(BIN)/pytest tests/faults/test_torture.py -s $(ARGS)

bench: $(READY) ## time what the README promises; writes benchmarks/RESULTS.md
	@$(BIN)/python benchmarks/run.py $(ARGS)

lint: $(READY) ## ruff: rules and formatting, nothing is changed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(READY) ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(READY) ## mypy --strict
	@$(BIN)/mypy
	@$(BIN)/mypy benchmarks tests/support .ci/counts.py

examples: $(READY) ## write anew what the commands in the docs print
	@PYTHONPATH=tests $(BIN)/python -m support.examples

lock: $(READY) ## compile requirements/*.in to hashed requirements/*.txt; ARGS=--upgrade takes new versions
	@cd requirements && ../$(LOCK) $(ARGS) --output-file runtime.txt runtime.in
	@cd requirements && ../$(LOCK) $(ARGS) --constraint runtime.txt --output-file dev.txt dev.in
	@cd requirements && ../$(LOCK) $(ARGS) --constraint dev.txt --output-file build.txt build.in
	@cd requirements && ../$(LOCK) $(ARGS) --excludes vllm.without --output-file vllm.txt vllm.in

clean: ## remove what these words made
	@rm -rf $(VENV) $(VLLM) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): requirements/dev.txt requirements/runtime.in requirements/install pyproject.toml
	@sh requirements/install $(VENV) $(PYTHON)
	@touch $@

$(VLLM_READY): requirements/vllm.txt requirements/install-vllm | $(READY)
	@sh requirements/install-vllm $(VLLM) $(BIN)/python
	@touch $@
