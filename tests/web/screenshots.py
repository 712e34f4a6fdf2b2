"""The pictures of docs/report.md: `make screenshots` takes them anew, of the captures that are shipped."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from replay import cli
from tests.support.captures import TRACES, TWO_BOOTS_TIMED
from tests.support.png import smaller
from tests.support.web import CHROMIUM, Opened, open_page

DOCS = TRACES.parent / "docs"
MAX_BYTES = 150_000
VIEWPORT = {"width": 1360, "height": 860}
F1 = TRACES / "scenarios" / "F1-lpi-outlives-ctrl-reset.its.txt"
DISKS = [TRACES / f"qemu-7.2.22-linux-6.1-{name}.log.gz" for name in ("one-disk", "two-disks")]


def traces(folder: Path, logs: list[Path]) -> list[str]:
    """Import logs; return the traces."""
    made = []
    for log in logs:
        made.append(str(folder / f"{log.name.partition('.log')[0]}.itstrace"))
        assert cli.main(["import", str(log), "-o", made[-1]]) == 0
    return made


def taken(browser: Any, name: str, traces: list[str], address: str, scheme: str) -> int:
    """Take one picture; return 1 when it is too large."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        assert cli.main(["report", *traces, "-o", str(page)]) == 0
        shown = open_page(browser, page, address, color_scheme=scheme, viewport=VIEWPORT)
        _settled(shown)
        out = DOCS / f"report-{name}.png"
        out.write_bytes(smaller(shown.page.screenshot()))
        shown.page.context.close()
    print(f"{out.name}: {out.stat().st_size:,} bytes")
    return int(out.stat().st_size > MAX_BYTES)


def _settled(shown: Opened) -> None:
    shown.until("document.body.dataset.whole !== undefined")
    shown.page.wait_for_timeout(500)


def main() -> int:
    """Take them all; 1 when one is too large."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-lcd-text"]
        )
        boots = traces(Path(folder), [TRACES / TWO_BOOTS_TIMED])
        disks = traces(Path(folder), DISKS)
        wrong = taken(browser, "light", boots, "#seq=417", "light")
        wrong += taken(browser, "dark", [str(F1)], "", "dark")
        wrong += taken(browser, "diff", disks, "", "light")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
