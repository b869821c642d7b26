# make demo     motion videos, shards, pretraining with a stop and a resume, evaluation, report: a few minutes
# make test     lint and all tests
# make lint     ruff and pyright
# make bench    the speed of every stage beside its peers (`intravid bench`), in about ten minutes
# make venv     only the environment: .venv with intravid (editable) in it
# make clean    remove the environment and caches; runs and data stay
#
# Needed: Linux (or macOS, without DALI), python3 of 3.10 or newer with its venv module, make.
#
# Variables, on the command line or in the environment:
#   PYTHON=python3.12            the Python that makes .venv
#   EXTRAS=dev                   what to install: dali or dali-cuda12, and dev (default: by this machine)
#   INTRAVID_TORCH_INDEX=URL     a further package index for torch. PyPI's torch for Linux is a CUDA build (large, but it
#                                runs without a GPU too); https://download.pytorch.org/whl/cpu has CPU builds, and
#                                .../whl/cu126 has builds for drivers older than CUDA 13.
#   JOBS=2                       test processes
#   TESTS="tests/pipelines -k x" what `make test` hands to pytest

PYTHON ?= python3
JOBS ?= 2
TESTS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
LOG := $(VENV)/install.log

# A GPU is there where nvidia-smi lists one or the driver's library can be found.
HAS_CUDA := $(shell { nvidia-smi -L || ldconfig -p | grep 'libcuda[.]so'; } >/dev/null 2>&1 && echo yes)
# Newest CUDA major version that the driver runs; empty without one.
DRIVER_CUDA := $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9][0-9]*\).*/\1/p' | head -n 1)

ifeq ($(shell uname -s),Linux)
    ifeq ($(filter 1 2 3 4 5 6 7 8 9 10 11 12,$(DRIVER_CUDA)),)
        EXTRAS ?= dali,video,flow,dev
    else
        EXTRAS ?= dali-cuda12,video,flow,dev
    endif
else
    EXTRAS ?= video,flow,dev
endif

PIP_OPTIONS := $(if $(HAS_CUDA),,--constraint constraints.txt)
PIP_OPTIONS += $(if $(INTRAVID_TORCH_INDEX),--extra-index-url $(INTRAVID_TORCH_INDEX))

.PHONY: demo test lint bench venv clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	@$(BIN)/intravid demo

test: lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(TESTS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(STAMP)
	@set -e; for stage in build clip index loader start step; do $(BIN)/intravid bench $$stage; echo; done

venv: $(STAMP)

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "intravid needs Python 3.10 or newer; $(PYTHON) is missing or older: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) has no venv module; on Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	@echo "making $(VENV) with [$(EXTRAS)], $(if $(HAS_CUDA),torch as it comes,torch of constraints.txt) (minutes, once)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) --editable '.[$(EXTRAS)]' >$(LOG) 2>&1 || { \
	    tail -n 20 $(LOG); echo "the installation failed; all of it is in $(LOG), the variables are explained in Makefile"; \
	    exit 1; }
	@touch $@
	@$(BIN)/python -c 'import torch; print("intravid is installed in $(VENV), with torch", torch.__version__)'

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
