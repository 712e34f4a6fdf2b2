"""Text inside C: comments and strings that nothing foreign can break out of.

Whoever sent a trace chose its notes and a guest chose its bytes. A comment and a string here are
printable ASCII without a backslash, a quote, a trigraph or an end of a comment.
"""

from __future__ import annotations

import re
import textwrap
from typing import Final

COLUMNS: Final = 92
MAX_TEXT: Final = 2000
_PLAIN: Final = re.compile(r"[^A-Za-z0-9 _.,:;=()+<>#'/*\[\]@&|!-]")


def plain(text: str) -> str:
    """Return `text` as one line that may stand in a comment or a string."""
    line = _PLAIN.sub("_", " ".join(text[:MAX_TEXT].split()))
    return re.sub(r"/(?=[*/])|\*(?=/)", "_", line)


def string(text: str) -> str:
    """Return a C string."""
    return f'"{plain(text)}"'


def lines_of_text(lines: list[str]) -> str:
    """Return a C string of whole lines, one below the other."""
    literals = [f'"{plain(line)}\\n"' for line in lines]
    return "\n\t            ".join(literals) or '""'  # below the arguments of expect_lpis()


def call(function: str, *arguments: str) -> list[str]:
    """Return a statement, its arguments on as many lines as they need."""
    lines, begin = [], f"\t{function}("
    for at, argument in enumerate(arguments):
        end = ");" if at == len(arguments) - 1 else ","
        joined = begin + " " if at else begin
        if at and len(joined) + len(argument) + 8 > COLUMNS:
            lines.append(begin)
            joined = "\t" + " " * (len(function) + 1)
        begin = joined + argument + end
    return [*lines, begin]


def comment(text: str, indent: str = "\t") -> list[str]:
    """Return the lines of a comment."""
    lines = textwrap.wrap(plain(text), COLUMNS - 8 * len(indent)) or [""]
    if len(lines) == 1:
        return [f"{indent}/* {lines[0]} */"]
    return [f"{indent}/*", *(f"{indent} * {line}" for line in lines), f"{indent} */"]


def paragraphs(texts: list[str]) -> list[str]:
    """Return one comment of several paragraphs, at the left margin."""
    lines = ["/*"]
    for at, text in enumerate(texts):
        lines += [" *"] if at else []
        lines += [f" * {line}" for line in textwrap.wrap(plain(text), COLUMNS)]
    return [*lines, " */"]
