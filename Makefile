# make demo: the whole pipeline on a toy category, from nothing but python3, pip and make.
# make test: the whole suite.  make lint: style.  make clean: removes .venv and runs.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/installed
export TF_CPP_MIN_LOG_LEVEL = 2

.PHONY: demo test lint clean

demo: $(STAMP)
	$(RUN) -m diffad_jax.main --config=configs/demo.py --workdir=runs/demo

test: $(STAMP)
	$(RUN) -m pytest

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || \
	  { echo "Python 3.11 or 3.12 is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) runs
