# Two commands do everything: `make demo` and `make test`. The rest is for working on the project.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test test-kvm test-targets test-bugs qemu test-qemu fuzz-qemu fuzz fuzz-long bench-qemu lint types imports check test-outside corpus-real site bench bench-targets big deep mutants pythons clean bench-minimize bench-diff bench-export bench-travel test-damage bench-corpus babeltrace bench-peers test-consumers bench-counts chromium test-web screenshots bench-growth compiled bench-segments bench-watchers bench-kvm-text

$(VENV)/core: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/web $(VENV)/consumers: $(VENV)/dev

$(VENV)/%: requirements-%.txt $(VENV)/core
	$(PIP) install --require-hashes -r $<
	touch $@

# The README's session: import a capture that is shipped, and judge its resets; seconds, once .venv is made.
demo: $(VENV)/core
	$(BIN)/itstrace demo

# Every test that needs nothing but a QEMU, on all cores; eight minutes on two.
test: $(VENV)/dev
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-fail-under=90

# Installs what real QEMUs and real kernels are tested with, where it is missing; as root, on Debian.
qemu:
	command -v qemu-system-aarch64 && command -v aarch64-linux-gnu-gcc && command -v cpio || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	    qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross cpio; }

# Records a real QEMU with bare-metal guests, and with a Linux guest whose kernel apt fetches.
# ITSTRACE_TEST_QEMU names another QEMU than the one that is installed.
test-qemu: $(VENV)/dev
	$(BIN)/python -m pytest tests/real

# A minute of random registers and commands from a guest, under record.
fuzz-qemu: $(VENV)/dev
	ITSTRACE_FUZZ_SECONDS=60 $(BIN)/python -m pytest tests/real/test_fuzz_guest.py

# Coverage-guided fuzzing of every reader (tests/fuzz), ten minutes in all; what breaks one is kept for CI.
fuzz: $(VENV)/fuzz
	$(BIN)/python -m tests.fuzz.run --seconds 45

# Half an hour for each of the readers of files that somebody sends; goes on from what it found before.
fuzz-long: $(VENV)/fuzz
	$(BIN)/python -m tests.fuzz.run --seconds 1800 --target trace text qemu_log ftrace manifest

# What recording costs beside QEMU's own trace, in boots of a Linux guest; wants a quiet machine.
bench-qemu: $(VENV)/dev
	$(BIN)/python tests/bench/record_cost.py

# Records Debian's 6.1 and 6.12 as KVM hosts, under TCG; takes minutes, and fetches half a gigabyte once. Needs the apt
# packages qemu-system-arm, mmdebstrap, cpio, binutils. KVM=bookworm runs one of the two, KVM=bullseye (5.10) or KVM=sid another.
KVM ?= bookworm or trixie
test-kvm: $(VENV)/dev
	ITSTRACE_KVM=1 $(BIN)/python -m pytest tests/real_kvm -k "$(KVM)"

# ruff, as linter and as formatter; a second.
lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy; ten seconds.
types: $(VENV)/dev
	$(BIN)/mypy

# import-linter: who may import whom; a second.
imports: $(VENV)/dev
	$(BIN)/lint-imports

# Everything that CI asks.
check: lint types imports test

# What reading, replaying, verifying and recording cost, per event; ten seconds.
bench: $(VENV)/dev
	$(BIN)/python tests/bench/bench.py
	$(BIN)/python tests/bench/recorder.py

# The wheel that mypyc compiles (docs/compiled.md) in a venv of its own, and the suite on it; takes a C compiler, minutes.
compiled: $(VENV)/dev
	$(BIN)/python -m tests.compiled
	cd .cache/compiled/tree && ../venv/bin/python tests/bench/bench.py

# What a recorder reads of a KVM host, with other devices' accesses and without: lines, bytes, time; half a minute.
bench-kvm-text: $(VENV)/dev
	$(BIN)/python -m tests.bench.kvm_text

# Instructions an event, as callgrind counts them: what a busy machine does not change. Takes valgrind, as root.
bench-counts: $(VENV)/dev
	command -v valgrind || { apt-get update -qq && apt-get install -y -qq --no-install-recommends valgrind; }
	$(BIN)/python -m tests.bench.counts

# A million events against a million, and twice as many in the same memory; takes minutes.
bench-diff: $(VENV)/dev
	$(BIN)/python tests/bench/diff.py

# Finds in real kernels what is known of them; needs qemu-system-aarch64 and `itstrace kernels SUITE`.
test-targets: $(VENV)/dev
	$(BIN)/python -m pytest tests/targets

# The bugs of traces/bugs on every kernel that is here (`itstrace kernels SUITE...`), of which some die; minutes.
test-bugs: $(VENV)/dev
	ITSTRACE_BUGS=1 $(BIN)/python -m pytest tests/bugs

# What exporting 1,000,000 events in each form costs; three minutes.
bench-export: $(VENV)/dev
	$(BIN)/python -m tests.bench.export

# A project that has only the built wheel runs its traces in pytest, and docs/ci.md's jobs do; half a minute.
# OUTSIDE='-k image' runs some of it.
OUTSIDE ?=
test-outside: $(VENV)/dev
	ITSTRACE_OUTSIDE=1 $(BIN)/python -m pytest tests/outside $(OUTSIDE)

# The corpus of traces/ on the QEMU and on every kernel that is here (`itstrace kernels SUITE...`); two minutes.
corpus-real: $(VENV)/dev
	$(BIN)/python -m tests.real_corpus

# 10,000 small traces and a large one in one process, in two, on a dask cluster of two, and with one killed.
bench-corpus: $(VENV)/dev
	$(BIN)/python -m tests.bench.corpus

# A trace of 5,000,000 events and one of 10,000,000 in one process and in two, on a dask cluster, and with one killed.
bench-segments: $(VENV)/dev
	$(BIN)/python -m tests.bench.segments

# The pages of docs/ as a site in build/site, which needs no network to be read.
site: $(VENV)/dev
	$(BIN)/mkdocs build --strict --quiet

# Installs the browser that reports are tested in, where it is missing; as root, on Debian.
chromium:
	command -v chromium || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

# Reports in a real browser: states, links, filters, addresses, hostile text, accessibility, a million events; minutes.
test-web: $(VENV)/web chromium
	ITSTRACE_WEB=1 $(BIN)/python -m pytest -s tests/web

# The pictures of docs/report.md, made anew.
screenshots: $(VENV)/web chromium
	$(BIN)/python -m tests.web.screenshots

# Installs babeltrace2, which reads CTF, and its Python bindings, where they are missing; as root, on Debian.
babeltrace:
	command -v babeltrace2 && /usr/bin/python3 -c 'import bt2' || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends babeltrace2 python3-bt2; }

# Exports read back by whom they are for: Babeltrace, DuckDB, Perfetto's own descriptors; a quarter of a minute.
test-consumers: $(VENV)/consumers babeltrace
	ITSTRACE_CONSUMERS=1 $(BIN)/python -m pytest tests/consumers

# itstrace beside mcap, eventsourcing, SQLite, DuckDB, babeltrace2, a real QEMU and bare msgpack; writes
# docs/performance.md. Twenty minutes of a quiet machine; PEERS=--quick tries all of it in two. Where there is a C
# compiler, a compiled itstrace has rows of its own.
bench-peers: $(VENV)/bench $(VENV)/dev qemu babeltrace
	python=$(CURDIR)/.cache/compiled/venv/bin/python; \
	$(BIN)/python -m tests.compiled --only-build && compiled="--compiled $$python" || compiled=; \
	$(BIN)/python -m tests.bench.peers.run $$compiled $(PEERS)

# What an event costs among ten thousand, a million and a hundred million, what real VMs do, and a fleet on paper;
# writes docs/scale.md. Half an hour; needs a kernel, which it fetches, for an idle and a busy guest.
bench-growth: $(VENV)/bench qemu
	$(BIN)/python -m tests.bench.scale.run $(GROWTH)

# Costs of a real QEMU and a real kernel as targets; needs qemu-system-aarch64, and a kernel.
bench-targets: $(VENV)/dev
	$(BIN)/python tests/bench/targets.py

# Every prefix and every bit flip of the golden traces and 1,000 random damages of a large one; seven minutes on two cores.
test-damage: $(VENV)/dev
	ITSTRACE_DAMAGE=1 $(BIN)/python -m pytest -n auto tests/log/test_damage.py

# Candidates a second against starts of qemu-system-aarch64 a second.
bench-minimize: $(VENV)/dev
	$(BIN)/python tests/bench/minimize.py

# Time travel over traces of a million events beside a replay of them, and that both arrive at equal states.
bench-travel: $(VENV)/dev
	$(BIN)/python -m tests.bench.time_travel

# What a verdict and a report cost beside a replay, with 10 to 1000 devices mapped; minutes.
bench-watchers: $(VENV)/dev
	$(BIN)/python -m tests.bench.watchers

# Imports a log of a million lines; ten seconds.
big: $(VENV)/dev
	$(BIN)/python tests/bench/big_import.py

# The fast models beside naive ones, over lives of thousands of operations; what they say that changed, beside the whole.
deep: $(VENV)/dev
	HYPOTHESIS_PROFILE=deep $(BIN)/pytest -q tests/replay/test_stateful.py tests/replay/test_stateful_qemu.py tests/replay/test_kept_lists.py

# Every one-line fault of tests/mutants/catalogue.py must be killed by a test; a second or two for each of hundreds.
mutants: $(VENV)/dev
	$(BIN)/python tests/mutants/run.py

# The state digests on every Python from 3.12 on that is here (PYTHONS names others).
PYTHONS ?= $(foreach v,3.12 3.13 3.14,$(firstword $(wildcard $(HOME)/.pyenv/versions/$(v).*/bin/python) $(shell command -v python$(v))))
pythons: $(VENV)/dev
	set -e; for python in $(PYTHONS); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  $$python -m venv .cache/venv-$$version; \
	  .cache/venv-$$version/bin/pip --disable-pip-version-check --quiet install --require-hashes -r requirements.txt; \
	  .cache/venv-$$version/bin/python -m tests.support.digests | cmp - tests/golden/states.json; \
	  echo "digests are equal on Python $$version"; \
	done

# Removes .venv and what was built.
clean:
	rm -rf $(VENV) build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
