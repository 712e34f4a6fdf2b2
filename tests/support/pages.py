"""Sessions on pages of docs/: commands behind a prompt, and what they print.

`...` on a line of its own stands for any lines, and within a line for part of it. A command that ends
with a backslash goes on in the next line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

PROMPT = "    $ "


def sessions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (command, the lines printed) of each prompt of a page, in its order."""
    for block in re.findall(r"^    \$ .*\n(?:    .*\n)*", text, re.M):
        for part in re.split(r"^    \$ ", block.replace("\\\n", " "), flags=re.M)[1:]:
            command, *lines = part.removesuffix("\n").split("\n")
            yield command, [line.removeprefix("    ") for line in lines]


def pattern(lines: list[str], *, counted: bool = True) -> re.Pattern[str]:
    """Return what an output must match; unless `counted`, decimal numbers may be others."""
    return re.compile("".join(_line(each, counted=counted) for each in lines))


def _line(line: str, *, counted: bool) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*?"
    exact = re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
    return exact if counted else re.sub(r"\b\d+\b", r"\\d+", exact)
