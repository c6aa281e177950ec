# make demo | test | lint | parity | installed | clean.  All but the last two
# make the environment in .venv when it is missing and reuse it after.
PYTHON  ?= python3
VENV    ?= .venv
VARIANT ?= multi_head
# About the same time for both: the augmented prompt encodes seven rows an image.
STEPS   ?= $(if $(filter augmented_prompt,$(VARIANT)),520,1650)
BATCH   := 16
PY      := $(VENV)/bin/python
DEMO    := build/demo
DATA    := $(DEMO)/data
RUN     := $(DEMO)/$(VARIANT)-$(STEPS)

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo settings test lint parity installed environment clean

MODEL   := --gin_file=gin/models/tiny_$(VARIANT).gin --gin_file=gin/data/synthetic.gin
PLACES  := --gin.DATA_DIR='"$(DATA)"' --gin.MODEL_DIR='"$(RUN)"'

# The rate rises for 100 steps, or half of a very short run. Prompts are corrupted for the first 65 % of training
# only, so that the end sees prompts as they are.
demo: settings environment
	$(VENV)/bin/richhf synthesize $(DATA) --train 10000 --dev 250 --test 1000 --size 64 --seed 18
	$(PY) -m launch.train $(MODEL) --gin_file=gin/runs/train.gin $(PLACES) --gin.TRAIN_STEPS=$(STEPS) \
	  --gin.BATCH_SIZE=$(BATCH) --gin.WARMUP_STEPS=$$(($(STEPS) < 200 ? $(STEPS) / 2 : 100)) \
	  --gin.CORRUPT_UNTIL_EXAMPLE=$$(($(STEPS) * $(BATCH) * 65 / 100))
	$(PY) -m launch.eval $(MODEL) --gin_file=gin/runs/eval.gin $(PLACES)
	@cp $(RUN)/metrics.json $(RUN)/metrics.md $(RUN)/report.html $(DEMO)/
	@echo $(DEMO)/report.html

settings:
	@case "$(VARIANT)" in multi_head|augmented_prompt) ;; *) echo "VARIANT=$(VARIANT): expected multi_head or augmented_prompt" >&2; exit 2;; esac
	@case "$(STEPS)" in 1|0*|*[!0-9]*) echo "STEPS=$(STEPS): expected a whole number, 2 or more" >&2; exit 2;; esac

test: environment
	$(PY) -m pytest -n auto -m "not parity"

lint: environment
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Ends in a table of the measured differences.
parity: $(VENV)/parity
	$(PY) -m pytest -m parity tests/parity

# What the README shows first, from an empty folder, in an environment with nothing but the package.
installed:
	rm -rf build/installed build/lib && mkdir -p build/installed/empty
	$(PYTHON) -m venv build/installed/venv
	build/installed/venv/bin/python -m pip install --quiet --disable-pip-version-check .
	rm -rf build/lib build/bdist.*
	cd build/installed/empty && ../venv/bin/python -I ../../../tests/installed.py ../../../README.md

environment: $(VENV)/test

$(VENV)/%: setup.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "richhf needs Python 3.11 to 3.13, got " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	@$(PY) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing richhf and its [$*] extra into $(VENV) (once; a few minutes)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

clean:
	rm -rf $(DEMO) build/installed
