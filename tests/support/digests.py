"""State digests of every capture, by name: run it on any Python, the output must be the same.

`python -m tests.support.digests` prints them; tests/golden/states.json holds what 3.11 printed.
"""

from __future__ import annotations

import json

from replay.engine import Engine
from replay.profiles import find
from replay.targets.qemu_model import QemuModel
from tests.support.captures import ALL, open_capture


def state_digests() -> dict[str, list[str]]:
    """Return name -> [state digest in the middle, state digest at the end]."""
    found = {}
    for name in ALL:
        total = sum(len(events) for _, events in open_capture(name))
        digests = []
        for until in (total // 2, None):
            reader = open_capture(name)
            model = QemuModel(reader.header, find(reader.header.profile or "")[0])
            Engine(reader, model).run(until)
            digests.append(model.state()["digest"])
        found[name] = digests
    return found


if __name__ == "__main__":
    print(json.dumps(state_digests(), indent=1, sort_keys=True))
