"""Scenario traces as lives of the vectors: what was asked, one line an operation, and what was seen.

So that a scenario can be run again on a real kernel (lab/run-oracle.sh), and its outputs held
against what real implementations answered (tests/vectors/*/scenarios.*.txt.gz).
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

from replay.corpus import trace_name
from tests.support.captures import TRACES
from tracer.events import CTRL_RESET, SYSTEM, VMM, fields_of, kind_name
from tracer.log.text import TextReader

SCENARIOS = TRACES / "scenarios"
VECTORS = Path(__file__).parents[1] / "vectors"

# An operation, and its answer as the vectors spell it; None where the trace does not show it.
Step = tuple[str, str | None]


def paths() -> list[Path]:
    """Return the scenario traces."""
    return sorted(SCENARIOS.glob("*.its.txt"))


def recorded(image: str) -> dict[str, list[str]]:
    """Return scenario -> lines that an image answered."""
    family = "qemu" if image.startswith("qemu") else "kvm"
    return _recorded(VECTORS / family / f"scenarios.{image}.txt.gz")


@cache
def _recorded(path: Path) -> dict[str, list[str]]:
    lives: dict[str, list[str]] = {}
    name = ""
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        if line.startswith("#"):
            name = line.split()[2]
            lives[name] = []
        else:
            lives[name].append(line)
    return lives


def answered_as_shown(path: Path, image: str) -> bool:
    """Return whether an image gave every answer that the trace shows; it ran the same life."""
    lines = recorded(image)[trace_name(path)]
    life = steps(path)
    assert len(lines) == len(life)
    same = True
    for line, (operation, answer) in zip(lines, life, strict=True):
        assert line.split()[: len(operation.split())] == operation.split(), (path.name, line)
        if answer is not None:
            same = same and line == f"{operation} {answer}".rstrip()
    return same


@cache
def steps(path: Path) -> list[Step]:
    """Return the life of a trace."""
    with path.open() as stream:
        reader = TextReader(stream, path.name)
        events = [fields_of(e) | {"kind": kind_name(e[0])} for _, block in reader for e in block]
        kvm = (reader.header.profile or "").startswith("linux")
        ids = reader.header.mpidrs or list(range(reader.header.cpus or 1))
    found: list[Step] = []
    at: dict[int, int] = {}  # event -> step
    for seq, event in enumerate(events):
        kind = event["kind"]
        if kind in ("attr.result", "msi.result"):
            step = at[seq - event["cause"]]
            answer = str(event["errno" if kind == "attr.result" else "result"])
            found[step] = (found[step][0], answer)
        elif kind == "lpi.live":
            operation, rows = found[-1]
            found[-1] = (operation, f"{rows} {_row(event)}".lstrip())
        elif kind != "probe" or event["edge"] == 0:
            at[seq] = len(found)
            found.append(_step(event, ids, kvm=kvm))
    return found


def _row(event: dict[str, Any]) -> str:
    return (
        f"{event['intid']},{event['target']},{event['flags']:07b},"
        f"{event['priority']},{event['queued']}"
    )


def _step(event: dict[str, Any], ids: list[int], *, kvm: bool) -> Step:
    kind = event["kind"]
    ok = " 0" if kvm else ""
    if kind in ("reg.write", "reg.read"):
        assert event["size"] == _size(event["offset"], kvm=kvm)
        if kind == "reg.write":
            return f"W {event['offset']:x} {event['value']:x}", None
        return f"R {event['offset']:x}", f"{event['value']:x}{ok}"
    if kind in ("gicr.write", "gicr.read"):
        register = (ids[event["cpu"]] if kvm else event["cpu"]) << 32 | event["offset"]
        assert event["size"] == 4
        if kind == "gicr.write":
            return f"G {register:x} {event['value']:x}", None
        return f"g {register:x}", f"{event['value']:x}{ok}"
    return _other(event)


def _size(offset: int, *, kvm: bool) -> int:
    return 4 if not kvm and (offset in (0, 4) or offset >= 0xFFD0) else 8


def _other(event: dict[str, Any]) -> Step:
    kind = event["kind"]
    match kind:
        case "mem.write":
            words = _words(event["data"])
            letter = "Q" if len(words) == 4 else "M"
            assert len(words) in (1, 4)
            return " ".join([letter, f"{event['gpa']:x}", *(f"{word:x}" for word in words)]), None
        case "mem.read":
            words = _words(event["data"])
            rows = [f"{index}:{word:x}" for index, word in enumerate(words) if word]
            return f"m {event['gpa']:x} {len(words):x}", " ".join(rows)
        case "gicd.write":
            return f"D {event['offset']:x} {event['value']:x}", None
        case "msi":
            assert event["origin"] == VMM
            return f"I {event['device_id']:x} {event['event_id']:x}", None
        case "attr.set":
            return f"X {event['attr']:x}", None
        case "reset":
            assert event["how"] in (CTRL_RESET, SYSTEM)
            return "X 4", None
        case "probe":
            return "V", ""
    return {"save": "X 1", "restore": "X 2", "save_pending": "P"}[kind], None


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
