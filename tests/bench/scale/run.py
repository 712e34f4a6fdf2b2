"""Growth, rates and the fleet, in one run that writes docs/scale.md: `make bench-growth`."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.bench.peers import machine
from tests.bench.peers.asking import ROOT, ask
from tests.bench.peers.measure import Row, Samples, best
from tests.bench.peers.page import rendered
from tests.bench.scale import fleet, growth, rates
from tests.bench.scale.fleet import Assumed, Costs
from tests.bench.scale.rates import Life

FOLDER: Final = ROOT / ".cache" / "bench-growth"
PAGE: Final = ROOT / "docs" / "scale.md"
TEMPLATE: Final = Path(__file__).with_name("scale.md.in")
MILLION: Final = 1_000_000
HELD: Final = 200_000  # events in memory, to know what appending alone costs
STRETCH_SECONDS: Final = 30.0


def grown(largest: int, rounds: int) -> dict[tuple[str, int], Samples]:
    """Return all samples, telling of each as it is had."""
    found: dict[tuple[str, int], Samples] = {}
    sizes = [size for size in growth.SIZES if size <= largest]
    for task, size, samples in growth.measured(sizes, rounds, FOLDER):
        found[task, size] = samples
        took = best(samples, "cpu")
        print(
            f"{task} of {size:,}: {took:.2f} s of a core, {took / size * 1e6:.3f} us an event",
            flush=True,
        )
    return found


def costs(found: Mapping[tuple[str, int], Samples], seconds: float) -> Costs:
    """Return what was measured, at a million events, with the rates of real VMs."""
    read, replay = (best(found[task, MILLION], "cpu") / MILLION for task in ("read", "replay"))
    adding = Row("itstrace, append", "ours", "append", HELD, {"worn": True, "variant": "held"})
    append = best([ask(adding, "append", FOLDER)[0] for _ in range(5)], "cpu") / HELD
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        boots = list(rates.boots(folder))
        idle, busy = (rates.stretch(life, life, seconds, folder) for life in ("idle", "wait"))
        importing = rates.reading(folder)
        start = Row("itstrace check", "starts", "check", 604)
        ask(start, "append", folder)
        checks = [ask(start, "check", folder)[0] for _ in range(5)]
    return Costs(append, read, replay, importing, idle, busy, boots, best(checks, "cpu"))


def lives(cost: Costs) -> list[list[str]]:
    """Return the rates as a table."""
    head = ["a VM", "events", "MSIs", "events a boot", "events/s", "bytes an event"]
    return [head, *map(_life, (*cost.boots, cost.idle, cost.busy))]


def _life(life: Life) -> list[str]:
    return [
        life.name,
        f"{life.events:,}",
        f"{life.msis:,}",
        f"{life.events / life.boots:,.0f}" if life.boots else "",
        f"{life.events / life.seconds:,.1f}" if life.seconds else "",
        f"{life.bytes / life.events:.2f}" if life.events else "",
    ]


def assumed(names: Assumed) -> list[list[str]]:
    """Return the assumptions as a table."""
    return [
        ["assumed", ""],
        *([name.replace("_", " "), f"{value:,}"] for name, value in vars(names).items()),
    ]


def main() -> int:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--events", type=int, default=growth.SIZES[-1], help="the most, at least a million"
    )
    parser.add_argument("--rounds", type=int, default=growth.ROUNDS)
    parser.add_argument(
        "--seconds", type=float, default=STRETCH_SECONDS, help="of idle and busy life"
    )
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    about = machine.described() | {"load before": machine.load()}
    began = time.monotonic()
    found = grown(max(options.events, MILLION), options.rounds)
    cost, names = costs(found, options.seconds), Assumed()
    shutil.rmtree(FOLDER)
    minutes = (time.monotonic() - began) / 60
    about |= {"load after": machine.load(), "took": f"{minutes:.0f} minutes"}
    parts = {
        "about": [["what", "which"], *([name, value] for name, value in about.items())],
        "growth": growth.table(found), "lives": lives(cost), "assumed": assumed(names),
        "interrupts": fleet.interrupts(cost), "boots": fleet.boots_only(cost, names), "flight": fleet.flight(cost, names),
        "everything": fleet.everything(cost, names), "needs": fleet.bottleneck(cost, names),
    }  # fmt: skip
    tables = {name: rendered(rows) for name, rows in parts.items()}
    first = next(iter(sorted(fleet.needs(cost, names), key=lambda need: -need.part)))
    tables["first"] = f"{first.name} ({first.part:.0%} of it)"
    print("\n\n".join(tables.values()))
    PAGE.write_text(re.sub(r"\{\{(\w+)\}\}", lambda each: tables[each[1]], TEMPLATE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
