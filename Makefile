# Two commands matter: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
PORT ?= 8000
DEMO ?= 1
DEBUG ?= 1
ASTER_DATA_DIR ?= var
T ?= tests
S ?=
UV_VERSION := 0.13.8
export PORT DEBUG ASTER_DATA_DIR
export UV_PYTHON_DOWNLOADS = never
export UV_PROJECT_ENVIRONMENT = .venv
BIN := .venv/bin

.PHONY: help run test check lint format types browser screenshots benchmark benchmark-turn benchmark-gateway benchmark-refresh conformance clients clean
.DEFAULT_GOAL := help

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# uv comes from the PATH or into a folder of its own; the environment is exactly the lock file.
.uv/bin/uv:
	@command -v uv >/dev/null && mkdir -p .uv/bin && ln -sf "$$(command -v uv)" .uv/bin/uv \
	  || { $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }

.venv/.run: pyproject.toml uv.lock | .uv/bin/uv
	@.uv/bin/uv sync --quiet --frozen --no-default-groups --inexact --python $(PYTHON)
	@touch $@

.venv/.dev: pyproject.toml uv.lock | .uv/bin/uv
	@.uv/bin/uv sync --quiet --frozen --python $(PYTHON)
	@touch $@ .venv/.run

run: .venv/.run ## Serve everything on http://127.0.0.1:$(PORT) (DEMO=0 without the demo world)
	@exec $(BIN)/python manage.py serve --port $(PORT) $(if $(filter-out 0,$(DEMO)),--demo)

test: .venv/.dev browser ## Run all tests; T=path runs some of them
	@$(BIN)/python -m pytest $(T)

check: lint types ## Everything CI checks besides the tests
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python manage.py makemigrations --check --dry-run
	@$(BIN)/python manage.py check
	@$(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null
	@.uv/bin/uv lock --check --quiet

lint: .venv/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@git ls-files -z 'templates/*.html' | xargs -0 $(BIN)/djade --check --target-version 5.2

types: .venv/.dev
	@$(BIN)/mypy

format: .venv/.dev ## Format code and templates
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .
	@git ls-files -z 'templates/*.html' | xargs -0 $(BIN)/djade --target-version 5.2

# The browser tests drive the system's chromium; on Debian it is installed when it is missing and we may.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
	  || echo "No chromium found: the browser tests will be skipped. Install one to run them."

screenshots: .venv/.dev browser ## Take pictures of every hub page into screenshots/
	@$(BIN)/python -m tests.browser.screenshots

benchmark: benchmark-turn benchmark-gateway benchmark-refresh ## Measure turns, gateway calls and the background refresh, as ratios

benchmark-turn benchmark-gateway benchmark-refresh: benchmark-%: .venv/.dev
	@$(BIN)/python -m benchmarks.$* $(if $(PEERS),$(if $(filter gateway,$*),--peers))

# The public MCP conformance suite and a Node for it, exactly as locked; nothing of it runs while it is installed.
conformance/node_modules/.installed: conformance/package.json conformance/package-lock.json
	@command -v npm >/dev/null || { echo "make conformance needs npm: the suite is a Node program. Install Node.js."; exit 1; }
	@npm ci --prefix conformance --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

conformance: .venv/.dev conformance/node_modules/.installed ## Run the public MCP conformance suite; S=auth/ runs some of it
	@$(BIN)/python -m conformance.run $(S)

# Released MCP clients, exactly as locked: the Node ones like the suite, older Python ones in environments of their own.
conformance/clients/node_modules/.installed: conformance/clients/package.json conformance/clients/package-lock.json
	@command -v npm >/dev/null || { echo "make clients needs npm: half of the clients are Node programs. Install Node.js."; exit 1; }
	@npm ci --prefix conformance/clients --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

conformance/clients/.venv/%/.installed: conformance/clients/%.txt | .uv/bin/uv
	@.uv/bin/uv venv --quiet --clear --python $(PYTHON) $(@D)
	@.uv/bin/uv pip install --quiet --python $(@D)/bin/python --require-hashes --only-binary :all: -r $<
	@touch $@

clients: .venv/.dev conformance/clients/node_modules/.installed $(patsubst %,conformance/clients/.venv/%/.installed,mcp1 fastmcp) ## Run real MCP clients against the gateway; S=fastmcp for one
	@$(BIN)/python -m conformance.clients.run $(S)

clean: ## Remove environments and caches, keep data
	@rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache screenshots conformance/node_modules conformance/clients/node_modules conformance/clients/.venv
