# Everything runs from .venv, which the first target makes. `make test` is what CI calls.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint bench results clean

demo: .venv/ready
	$(BIN)/fewlabels demo

test: .venv/ready
	$(BIN)/pytest -q -n auto

test-all: .venv/ready
	$(BIN)/pytest -q -n auto -m "slow or not slow"

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/bench
	$(BIN)/python benchmarks/augmentation.py

# SIGNS: folder of sign-digits-<labels>-s<draw>.csv; CIFAR: CIFAR-10's train.parquet
results: .venv/ready
	$(BIN)/python benchmarks/results.py $(if $(SIGNS),--signs $(SIGNS)) $(if $(CIFAR),--cifar $(CIFAR))

clean:
	rm -rf .venv

# the constraints keep torch at a version whose CPU build pip finds where one is at hand
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# the peers that benchmarks/augmentation.py compares with
.venv/bench: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@
