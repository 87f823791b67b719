# Every target works in a fresh clone: what it lacks, it installs into .venv first.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# The newest uv that was tried; one already on the PATH is used as it is.
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
# The Python that runs this, where the project supports it; else uv looks for one that it does.
export UV_PYTHON ?= $(shell $(PYTHON) -c 'import sys; print(sys.executable if (3, 10) <= sys.version_info[:2] <= (3, 13) else "")' 2>/dev/null)
# Options for pytest, as in: make test ARGS="-k tasks"
ARGS ?=
# What `make compare-algorithms` trains: on which experiment, for how many outer steps of 16 tasks of the tested size, which models
# (all of configs/model that take images and train), with which other overrides. As in: make compare-algorithms EXPERIMENT=quickdraw_5w1s STEPS=500 OVERRIDES="seed=0,1,2"
EXPERIMENT ?= omniglot_5w1s
STEPS ?= 1000
OVERRIDES ?= seed=0
comma := ,
space := $(subst ,, )
MODELS ?= $(subst $(space),$(comma),$(strip $(filter-out _% tfidf_% rating_% logistic mahalanobis ridge,$(basename $(notdir $(sort $(wildcard configs/model/*.yaml)))))))

.PHONY: help setup extras train test test-fast prove goldens bench compare-algorithms lint tensorboard pins clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## install everything into .venv

extras: $(INSTALLED) ## install what not everybody wants too: mlflow, onnx, optuna, sentence-transformers, submitit, timm, wandb
	$(UV) sync --quiet --all-extras

train: $(INSTALLED) ## train and test on the embedded dataset, a few minutes on two cores
	$(BIN)/python train.py

test: $(INSTALLED) ## all tests but the long proofs; those on real data need FEWSHOT_DATA_DIR=FOLDER
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --durations=20 -m "not proof" $(ARGS)

test-fast: $(INSTALLED) ## the tests of milliseconds: no real run, no process
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --durations=20 -m "not slow and not proof" $(ARGS)

prove: $(INSTALLED) ## all tests, the long proofs too, and the table of docs/reliability.md, promise by promise
	OMP_NUM_THREADS=1 $(BIN)/python .ci/prove.py $(ARGS)

goldens: $(INSTALLED) ## write the golden losses anew, after a change that is meant to change them
	OMP_NUM_THREADS=1 FEWSHOT_RENEW_GOLDENS=1 $(BIN)/pytest -q tests/test_goldens.py

bench: $(INSTALLED) ## time training steps against learn2learn, higher and torchopt; half an hour
	$(UV) sync --quiet --group bench
	$(BIN)/python -W ignore -m benchmarks.run

compare-algorithms: $(INSTALLED) ## train every algorithm on the same tasks, and write results/EXPERIMENT.md; hours
	$(BIN)/python train.py -m experiment=$(EXPERIMENT) model=$(MODELS) trainer.max_steps=$(STEPS) \
	  'data.train.ways=$${data.ways}' 'data.train.shots=$${data.shots}' 'data.train.queries=$${data.queries}' \
	  data.meta_batch_size=16 callbacks=minimal launcher=local $(OVERRIDES) hydra.sweep.dir=logs/algorithms/$(EXPERIMENT)-$(STEPS)
	$(BIN)/python -m benchmarks.algorithms logs/algorithms/$(EXPERIMENT)-$(STEPS) results/$(EXPERIMENT).md

lint: $(INSTALLED) ## ruff, mypy, YAML, notebooks, spelling: what pre-commit checks
	$(BIN)/pre-commit run --all-files

tensorboard: $(INSTALLED) ## look at the runs in logs
	$(BIN)/tensorboard --logdir logs

pins: $(INSTALLED) ## write requirements.txt from what uv resolves
	$(BIN)/python .ci/pins.py $(UV)

clean: ## remove the environment and caches; logs and data stay
	rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml | $(filter .tools/bin/uv,$(UV))
	@$(PYTHON) .ci/compiler.py
	@echo "Installing PyTorch with CUDA, Lightning, learn2learn and what they need into .venv: gigabytes, which take minutes"
	$(UV) sync --quiet
	@touch $@

.tools/bin/uv:
	@$(PYTHON) -m venv .tools || { rm -rf .tools; \
	  echo "error: $(PYTHON) cannot make a virtual environment; install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; \
	  exit 2; }
	.tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
