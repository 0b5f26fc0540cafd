# captiond: `make demo` shows it at work, `make test` proves it. Both need Debian 12 (or the like), Python 3.11 and make.
# What runs is written once here and once in pixi.toml; a test holds the two equal.

PYTHON ?= python3
EXTRAS ?= dev
ARGS ?=

DEMO = captiond demo
SERVE = captiond serve
TEST = python -m pytest
CHECK = ruff check . && ruff format --check . && mypy && lint-imports
PARITY = python -m tests.parity.report
BENCH = captiond bench engine
BENCH_GPU = python -m engine.bench.gpu
BENCH_LIVE = python -m daemon.bench.live

# Every command runs in .venv, which is made or brought up to date first.
ENVIRONMENT = @command -v $(PYTHON) >/dev/null || { \
	echo "captiond: no $(PYTHON) here. Debian and Ubuntu: apt install python3 python3-venv" >&2; exit 1; }; \
	$(PYTHON) .ci/environment.py
RUN = @PATH="$(CURDIR)/.venv/bin:$$PATH"

.PHONY: help demo test check bench bench-gpu bench-live parity serve clean

help:
	@echo "make demo        speak the bundled sample into a daemon and show its captions"
	@echo "make test        everything that must pass          (ARGS='-k words' for pytest)"
	@echo "make check       style, types and import rules"
	@echo "make serve       the daemon                         (ARGS='--model demo-en')"
	@echo "make parity      tokens and logits against openai-whisper and torch"
	@echo "make bench       the whole model beside openai-whisper, faster-whisper, transformers, whisper.cpp"
	@echo "make bench-gpu   a GPU: parity, times against torch, streams, memory, what bounds it"
	@echo "make bench-live  latency, stability and WER of a running daemon, at real-time pace"
	@echo "make clean       remove .venv and what tools left behind"

demo:
	$(ENVIRONMENT) demo
	$(RUN) $(DEMO) $(ARGS)

serve:
	$(ENVIRONMENT) demo
	$(RUN) $(SERVE) $(ARGS)

test:
	$(ENVIRONMENT) $(EXTRAS)
	$(RUN) $(TEST) $(ARGS)

check:
	$(ENVIRONMENT) dev
	$(RUN); export PATH; $(CHECK)

parity:
	$(ENVIRONMENT) dev parity
	$(RUN) $(PARITY) $(ARGS)

bench:
	$(ENVIRONMENT) bench
	$(RUN) $(BENCH) $(ARGS)

bench-gpu:
	$(ENVIRONMENT) demo
	$(RUN) $(BENCH_GPU) $(ARGS)

bench-live:
	$(ENVIRONMENT) demo
	$(RUN) $(BENCH_LIVE) $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find clients daemon engine tests -name __pycache__ -type d -prune -exec rm -rf {} +
