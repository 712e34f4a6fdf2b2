"""Takes from C files the parts that a program uses, so that none is left over.

The parts of `selftest/*.c` are separated by blank lines at the left margin; a part defines the names
that stand there. A compiler that is told -Werror accepts no static function without a use.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).with_name("selftest")
# In the order in which a C file has them.
_FILES: Final = ("head", "tap", "attributes", "ram", "vm", "guest", "answers", "child")
_BETWEEN: Final = re.compile(r"\n\n(?=[^\s}])")
_NOT_CODE: Final = re.compile(r'/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', re.DOTALL)
_WORD: Final = re.compile(r"\w+")


def parts() -> list[str]:
    """Return the parts in their order; the first three, includes and constants, are always used."""
    texts = [(_FOLDER / f"{name}.c").read_text().rstrip() for name in _FILES]
    return [part for text in texts for part in _BETWEEN.split(text)]


def used_by(program: str) -> tuple[list[str], list[str]]:
    """Return the parts that come before a program's own constants, and those that come behind."""
    always, rest = parts()[:3], parts()[3:]
    wanted = set(_WORD.findall(_NOT_CODE.sub("", program)))
    taken: dict[int, str] = {}
    again = True
    while again:
        again = False
        for at, part in enumerate(rest):
            if at not in taken and wanted & defined(part):
                taken[at] = part
                wanted |= set(_WORD.findall(_NOT_CODE.sub("", part)))
                again = True
    return always, [taken[at] for at in sorted(taken)]


def defined(part: str) -> set[str]:
    """Return the names that a part defines."""
    code = _NOT_CODE.sub("", part)
    found = re.findall(r"^static [^={(;]*?(\w+)\s*(?:\[[^\]]*\])*\s*(?=[=({;])", code, re.MULTILINE)
    found += re.findall(r"^#define (\w+)", code, re.MULTILINE)
    found += re.findall(r"^} (\w+)\[", code, re.MULTILINE)
    found += re.findall(r"^struct (\w+) \{", code, re.MULTILINE)
    return set(found)
