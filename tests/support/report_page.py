"""Reads the blocks of a report as the page does, in Python: a second reader, written from what columns.py says."""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

_DATA = re.compile(r'<script type="text/plain" id="([a-z0-9-]+)">([A-Za-z0-9+/=]*)</script>')


def blocks_of(page: bytes) -> dict[str, bytes]:
    """Return name -> bytes of the blocks in a page."""
    return {name: base64.b64decode(text) for name, text in _DATA.findall(page.decode())}


def document(data: bytes) -> Any:
    return json.loads(zlib.decompress(data))


class Block:
    def __init__(self, data: bytes) -> None:
        raw = zlib.decompress(data)
        size = int.from_bytes(raw[:4], "little")
        self.header = json.loads(raw[4 : 4 + size])
        self.bytes = raw[4 + size :]

    def numbers(self, told: list[Any], count: int) -> list[int]:
        kind = told[0]
        if kind == "k":
            return [int(told[1])] * count
        at, size = told[1:3]
        planes = self.bytes[at : at + size]
        width = size // count
        raw = [
            sum(planes[plane * count + row] << 8 * plane for plane in range(width))
            for row in range(count)
        ]
        if kind == "b":
            return raw
        if kind == "f":
            low, step = told[3:]
            return [low + step * each for each in raw]
        found, value = [], told[3]
        for each in raw:
            value += -(each + 1) // 2 if each % 2 else each // 2
            found.append(value)
        return found

    def column(self, told: list[Any], count: int, atoms: list[Any]) -> list[Any]:
        if told[0] == "a":
            return [atoms[each] for each in self.numbers(told[1], count)]
        if told[0] == "n":
            values = self.numbers(told[2], count)
            missing = self.numbers(told[1], count)
            return [None if no else value for no, value in zip(missing, values, strict=True)]
        return self.numbers(told, count)


def states(blocks: dict[str, bytes]) -> dict[int, dict[str, Any]]:
    """Return event -> state after it, for each event after which the state is another."""
    leaves = document(blocks["leaves"])
    paths, values = leaves["paths"], [json.loads(each) for each in leaves["values"]]
    head = document(blocks["head"])
    found: dict[int, dict[str, Any]] = {}
    for at, start in enumerate(head["segments"]):
        block = Block(blocks[f"states-{at}"])
        size, *pair = block.header["first"]
        now = dict(zip(*(block.numbers(each, size) for each in pair), strict=True))
        found[start] = _tree(now, paths, values)
        count, seqs = block.header["seqs"]
        counts = iter(block.numbers(block.header["counts"], count))
        total, *pair = block.header["set"]
        changes = iter(list(zip(*(block.numbers(each, total) for each in pair), strict=True)))
        for seq in block.numbers(seqs, count):
            for _ in range(next(counts)):
                path, value = next(changes)
                if value:
                    now[path] = value - 1
                else:
                    now.pop(path, None)
            found[seq] = _tree(now, paths, values)
    return found


def _tree(now: dict[int, int], paths: list[list[str]], values: list[Any]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, value in now.items():
        node = root
        for name in paths[path][:-1]:
            node = node.setdefault(name, {})
        node[paths[path][-1]] = values[value]
    for its in root["its"].values():
        pairs = its["translation_cache"].items()
        its["translation_cache"] = sorted(
            ([*pair.split("/"), intid] for pair, intid in pairs),
            key=lambda each: (int(each[0], 0), int(each[1], 0)),
        )
    return root


def lines(blocks: dict[str, bytes]) -> list[tuple[int, str]]:
    """Return (time in ns, line) of every event."""
    head, texts = document(blocks["head"]), document(blocks["atoms"])
    found: list[tuple[int, str]] = []
    time_ns = int(head["origin_ns"])
    for at in range(len(head["chunks"])):
        block = Block(blocks[f"events-{at}"])
        count = block.header["count"]
        rows = {}
        for group, (size, causes, *told) in block.header["parts"].items():
            columns = [block.column(each, size, texts["atoms"]) for each in told]
            cause = block.numbers(causes, size) if causes else [0] * size
            names = ["", *head["groups"][int(group)]["names"], "cause"]
            each = (dict(zip(names, row, strict=True)) for row in zip(*columns, cause, strict=True))
            rows[int(group)] = iter(list(each))
        times = block.numbers(block.header["times"], count)
        for dt, group in zip(times, block.numbers(block.header["groups"], count), strict=True):
            time_ns += dt
            found.append((time_ns, _line(next(rows[group]), texts["templates"])))
    return found


def _line(row: dict[str, Any], templates: list[list[Any]]) -> str:
    parts = templates[row[""]]
    return "".join(each if isinstance(each, str) else _number(each, row[each[0]]) for each in parts)


def _number(place: list[Any], value: int) -> str:
    return str(value) if len(place) == 1 else f"{value:#0{place[1]}x}"
