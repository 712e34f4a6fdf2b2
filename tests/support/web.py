"""A report in a browser: opened from disk, offline, with all that goes wrong in it noted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from time import monotonic
from typing import Any

from tests.support.captures import TWO_BOOTS_TIMED, open_capture
from tracer.events import Event
from tracer.log.stream import Writer

CHROMIUM = "/usr/bin/chromium"
VIEWPORT = {"width": 1500, "height": 950}
TIMEOUT_MS = 30_000


@dataclass
class Opened:
    page: Any
    wrong: list[str] = field(default_factory=list)  # messages, errors, requests
    trace: Path | None = None

    def go(self, seq: int) -> None:
        self.page.evaluate("seq => itstrace.go(seq)", seq)

    def state(self) -> dict[str, Any]:
        return self.page.evaluate("itstrace.state()")

    def chosen(self, text: str) -> list[int] | None:
        return self.page.evaluate("text => itstrace.chosen(text)", text)

    def until(self, expression: str) -> None:
        """Wait for something; asked from outside, since the page's policy lets no text run in it."""
        end = monotonic() + TIMEOUT_MS / 1000
        while not self.page.evaluate(expression):
            assert monotonic() < end, expression
            self.page.wait_for_timeout(20)

    @property
    def seq(self) -> int:
        return self.page.evaluate("itstrace.views[0].seq")


def open_page(browser: Any, path: Path, address: str = "", **context: Any) -> Opened:
    """Return a report that is ready."""
    where = browser.new_context(**{"offline": True, "viewport": VIEWPORT} | context)
    page = where.new_page()
    shown = Opened(page)
    page.on("console", lambda each: shown.wrong.append(f"{each.type}: {each.text}"))
    page.on("pageerror", lambda each: shown.wrong.append(f"error: {each}"))
    page.on("dialog", lambda each: shown.wrong.append(f"dialog: {each.message}"))
    page.on(
        "request",
        lambda each: each.url.startswith("file:") or shown.wrong.append(f"request: {each.url}"),
    )
    page.goto(path.resolve().as_uri() + address)
    ready(page)
    return shown


def ready(page: Any) -> None:
    page.wait_for_selector("body[data-ready]", state="attached", timeout=TIMEOUT_MS)


def million(path: Path, events: int = 1_000_000) -> None:
    """Write a trace of so many events: a real QEMU's boots, each at times of its own."""
    reader = open_capture(TWO_BOOTS_TIMED)
    once = [event for _, block in reader for event in block]
    dice = random.Random(1)

    def lived() -> Iterator[Event]:
        yield once[0]
        for number in count():
            for event in once if number else once[1:]:
                dt_ns = max(event[1], 0) if event is not once[0] else 1_000_000
                noise = dice.randrange(2000) * 1000 if dt_ns else 0
                yield (event[0], dt_ns + noise, *event[2:])

    with path.open("wb") as out:
        writer = Writer(out, reader.header, bound_ms=0)
        for event in islice(lived(), events):
            writer.add(event)
        writer.close()
