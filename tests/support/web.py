"""A report in a browser: opened from disk, offline, with all that goes wrong in it noted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
TIMEOUT_MS = 60_000


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

    @property
    def seq(self) -> int:
        return self.page.evaluate("itstrace.views[0].seq")


def open_page(browser: Any, path: Path, address: str = "", **context: Any) -> Opened:
    """Return a report that is ready."""
    where = browser.new_context(
        offline=True, viewport={"width": 1500, "height": 950}, **context
    )  # fmt: skip
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
