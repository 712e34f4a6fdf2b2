"""One target under atheris, which ends this process: `python -m tests.fuzz.inside NAME OPTIONS...`.

The options are libFuzzer's. Started by `tests.fuzz.run`.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["tracer", "replay"]):
    from tests.fuzz.targets import feed

if __name__ == "__main__":
    program, name, *options = sys.argv
    atheris.Setup([program, *options], lambda data: feed(name, data))
    atheris.Fuzz()
