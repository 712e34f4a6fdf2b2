"""Blocks as one HTML file that needs nothing else and may do nothing else.

Its policy names the hashes of its one script and its one style: a guest's text that were markup would
not run, and nothing is fetched. The data are base64, which no text can break out of.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

_ASSETS: Final = files("replay.report") / "assets"
_STYLES: Final = ("vendor/uPlot.min.css", "page.css")
_SCRIPTS: Final = (
    "vendor/uPlot.iife.min.js", "columns.js", "trace.js", "filter.js", "dom.js", "list.js",
    "timeline.js", "state.js", "resets.js", "page.js", "diff.js", "corpus.js",
    "start.js",
)  # fmt: skip


def _joined(names: tuple[str, ...], separator: str) -> str:
    return separator.join((_ASSETS / name).read_text("utf-8").strip() for name in names)


def script() -> str:
    """Return the script of a page; what stands in it is the same in every page."""
    vendor, *ours = _SCRIPTS
    licence = (_ASSETS / "vendor/uPlot.LICENSE").read_text("utf-8").strip()
    return (
        f"/*\n{licence}\n*/\n"
        + _joined((vendor,), "")
        + '\n"use strict";{\n'
        + _joined(tuple(ours), "\n")
        + "\n}"
    )


def style() -> str:
    """Return the style of a page."""
    return _joined(_STYLES, "\n")


def policy() -> str:
    """Return the content security policy of a page."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script())}",
            f"style-src {_hash(style())}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def page(title: str, kind: str, blocks: Mapping[str, bytes]) -> bytes:
    """Return the file; `kind` says what it shows: trace, diff or corpus."""
    data = "\n".join(
        f'<script type="text/plain" id="{name}">{base64.b64encode(block).decode()}</script>'
        for name, block in blocks.items()
    )
    text = (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy())}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>{style()}</style>\n</head>\n"
        f'<body data-shows="{kind}">\n'
        "<noscript>This page shows a trace by a script of its own, which does not run here.</noscript>\n"
        f"{data}\n<script>{script()}</script>\n</body>\n</html>\n"
    )
    return text.encode("utf-8", "replace")
