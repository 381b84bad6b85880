# SPDX-License-Identifier: Apache-2.0
#
# make build   release binaries and plugins in .build/dist
# make demo    the five-minute tour, by itself: clicks become deals, a kill -9 doubles none, a rule moves a HubSpot deal
# make test    everything that proves it, in about twenty minutes
# make deb     Debian packages
# make help    the rest

SHELL := /bin/bash
DIST := .build/dist
VENV := .venv
PLUGINS := pipedrive hubspot custom-hook
SWIFT_FLAGS := -c release
# Where the vendors' API descriptions and the real click data lie; a checkout beside this one by default.
export MILEPOST_SHARED ?= $(abspath ../shared)
export MILEPOST_DIST := $(abspath $(DIST))

.PHONY: help build deps venv binaries plugins demo deb deb-from-source test test-full test-packages test-swift test-plugins test-python bench lint format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

deps: ## install the system libraries that are missing (Debian)
	@packaging/ensure-dependencies.sh

venv: $(VENV)/.complete

$(VENV)/.complete: Tests/requirements.txt
	@echo "== Python packages for the tests"
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r Tests/requirements.txt
	@touch $@

build: deps binaries plugins ## release binaries and plugins into .build/dist
	@echo "built: $$(ls $(DIST) $(DIST)/plugins | tr '\n' ' ')"

binaries:
	@echo "== binaries (the first build takes about five minutes)"
	swift build $(SWIFT_FLAGS)
	@mkdir -p $(DIST)/plugins
	@bin=$$(swift build $(SWIFT_FLAGS) --show-bin-path) && for name in milepostd milepost milepost-sandbox milepost-plugin-worker milepost-plugin-check; do \
		install -m 0755 $$bin/$$name $(DIST)/$$name; done

plugins:
	@for name in $(PLUGINS); do echo "== plugin $$name"; PLUGIN_UNSTRIPPED=$(MILEPOST_DIST)/unstripped Plugins/build.sh $$name $(DIST)/plugins || exit 1; done

demo: build ## clicks become deals, a kill -9 doubles none, a rule moves a HubSpot deal on
	@Tests/Demo/demo.sh

test: build venv ## everything that proves it, about twenty minutes
	@$(VENV)/bin/python Tests/run.py quick

test-full: build venv ## the large counts: 200 kills, long streams
	@$(VENV)/bin/python Tests/run.py full

deb: build ## Debian packages of what 'make build' made, into .build/packages
	@packaging/ensure-dependencies.sh packages
	@packaging/make_deb.sh --prebuilt $(DIST) .build/packages

deb-from-source: deps ## the same, compiled anew at a path that does not show
	@packaging/ensure-dependencies.sh packages
	@swift package resolve
	@packaging/make_deb.sh .build/packages

test-packages: build venv ## installs, upgrades and purges the packages in a booted Debian of its own; needs root
	@packaging/ensure-dependencies.sh packages
	@$(VENV)/bin/python -m pytest -q -c Tests/pytest.ini --rootdir Tests --timeout 900 Tests/Packages

bench: build venv ## figures and ratios to bare baselines taken in the same run
	@$(VENV)/bin/python Tests/Bench/bench.py

lint: ## formatting and house rules
	swift format lint --strict --recursive --parallel Package.swift Sources Plugins Tests
	@if command -v clang-format >/dev/null; then git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror; else echo "clang-format is not installed: C files not checked"; fi

format: ## bring the sources into shape
	swift format --in-place --recursive --parallel Package.swift Sources Plugins Tests
	@if command -v clang-format >/dev/null; then git ls-files '*.c' '*.h' | xargs clang-format -i; fi

clean: ## remove what building made
	rm -rf .build Plugins/*/.build Sources/MilepostKit/.build
