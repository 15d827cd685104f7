# Sets the lab up and runs it: `make` alone lists what there is.
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.stamp

# The stamp holds the folder it was made in. Without it .venv is half-made, and a moved copy or a Python that
# no longer starts is no better: making the stamp then starts afresh.
READY := $(shell { [ "$$(cat $(STAMP))" = "$$(pwd -P)" ] && $(PY) -c 'print("yes")'; } 2>/dev/null)
ifneq ($(READY),yes)
.PHONY: $(STAMP)
endif

# Two workers, and one thread for each and for what they start: on two cores more would wait for each other.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n 2 --dist loadscope --no-loadscope-reorder
define CHECKED
$(PY) -m ruff check .
$(PY) -m ruff format --check .
$(PY) -m mypy
endef

.PHONY: help lab check test evidence faults bench reset clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

# .jupyter holds three settings; the home folder stays as it is. One keeps JupyterLab from asking about news. One sends
# clicks the kernel's main way: the side way of JupyterLab 4.6 loses them after a page is loaded again. The third draws
# all cells at once: JupyterLab 4.6, left to choose, now and then shows the lab with tabs that hear no click.
lab: $(STAMP) ## open the playground in JupyterLab (the first time: set up, some minutes)
	JUPYTER_CONFIG_PATH="$$PWD/.jupyter$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" \
		$(PY) -m jupyterlab notebooks/01_playground.ipynb

check: $(STAMP) ## check style, types and numbers: every test that starts no kernel, browser or process (2 minutes)
	$(CHECKED)
	$(PYTEST) -m "not slow"

test: $(STAMP) ## check style and types and run every test (10 minutes)
	$(CHECKED)
	$(PYTEST)

evidence: $(STAMP) ## run every notebook in full and print what it claims, what is expected and what was measured
	$(PY) tests/evidence.py

faults: $(STAMP) ## inject real faults by the hundred into reports, sweeps and trainings, and print what held
	$(PY) tests/campaign.py

bench: $(STAMP) ## measure the lab against plain PyTorch on this machine
	PYTHONPATH=tests $(PY) -m bench

reset: ## bring the notebooks back to their lesson state (yours are kept in notebooks/.saved-DATE)
	@git rev-parse -q --verify HEAD >/dev/null || { echo "make reset needs the lab as a git clone."; exit 1; }
	@saved=notebooks/.saved-$$(date +%Y-%m-%d-%H%M%S); \
	git -c core.quotepath=off diff HEAD --relative --name-only --diff-filter=MD -- 'notebooks/*.ipynb' | \
	while IFS= read -r file; do \
		if [ -f "$$file" ]; then \
			mkdir -p "$$saved" && cp -p "$$file" "$$saved/" && echo "Your $$file is kept in $$saved"; \
		fi && git checkout -q HEAD -- "$$file" || exit 1; \
	done
	@echo "All notebooks are in their lesson state."

clean: ## remove .venv and caches
	rm -rf .venv .pytest_cache .ruff_cache build *.egg-info
	find labkit tests notebooks -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
ifeq ($(READY),yes)
	@echo "pyproject.toml or constraints.txt changed: bringing .venv up to date."
else
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "labkit needs Python 3.11 or newer; $(PYTHON) says: $$($(PYTHON) --version 2>&1)." \
			"Name another: make lab PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@if [ -e .venv ]; then echo ".venv is half-made, moved or broken: building it again."; \
		else echo "Building .venv, once; this takes some minutes."; fi
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
endif
	@$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[serve,trust,test]' || { \
		echo "Setting up stopped: pip's lines above say why (most often the network)." \
			"Then run the same make again."; exit 1; }
	@$(PY) -m labkit.core.kernel_cache
	@pwd -P > $(STAMP)
