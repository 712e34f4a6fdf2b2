"""Writes the tables in docs/ that come from the code: `python -m tests.support.gendocs`.

What stands between `<!-- NAME -->` and `<!-- end -->` is generated; a test holds it to the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from replay.profiles import FLAGS, PROFILES

DOCS = Path(__file__).parents[2] / "docs"


def flag_table(family: str) -> str:
    """Return flag x image: measured profiles as columns, an assumed value in parentheses."""
    profiles = [p for p in PROFILES.values() if p.family == family and p.basis == "measured"]
    names = [profile.name.removeprefix("linux-").removeprefix("qemu-") for profile in profiles]
    lines = [
        f"| flag | bug | commit | first release | {' | '.join(names)} |",
        f"|---|---|---|---|{'---|' * len(names)}",
    ]
    for row in FLAGS[family]:
        cells = [_cell(profile, row.name) for profile in profiles]
        lines.append(
            f"| {row.name} | {row.bug} | {row.commit} | {row.first} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def _cell(profile, name):
    value = getattr(profile.choices, name)
    text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    return text if profile.known(name) == "measured" else f"({text})"


def subjects(family: str) -> str:
    """Return what each flag is called upstream."""
    return "\n".join(f"- `{row.name}`: {row.subject}" for row in FLAGS[family])


def profile_list() -> str:
    """Return every profile and what it rests on."""
    return "\n".join(f"| {p.name} | {p.family} | {p.basis} |" for p in PROFILES.values())


_LIMIT = re.compile(r"^(_?[A-Z0-9_]*MAX[A-Z0-9_]*)(?:: Final)? = [^#\n]*(?:  # (.*))?$", re.M)


def limits() -> str:
    """Return every limit of the code: what it is called, its value, where it stands, and of what."""
    lines = ["| limit | value | in | |", "|---|---|---|---|"]
    root = DOCS.parent
    for path in sorted([*root.glob("tracer/**/*.py"), *root.glob("replay/**/*.py")]):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        for limit, what in _LIMIT.findall(path.read_text()):
            value = getattr(import_module(name), limit)
            lines.append(f"| `{limit.lstrip('_')}` | {_amount(limit, value)} | {name} | {what} |")
    return "\n".join(lines)


def _amount(name, value):
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if "BYTES" in name and value >= 1 << bits and value % (1 << bits) == 0:
            return f"{value >> bits} {unit}"
    return f"{value:,}"


TABLES: dict[str, Callable[[], str]] = {
    "kvm flags": lambda: flag_table("kvm"),
    "qemu flags": lambda: flag_table("qemu"),
    "kvm subjects": lambda: subjects("kvm"),
    "qemu subjects": lambda: subjects("qemu"),
    "limits": limits,
    "profiles": lambda: "| profile | family | basis |\n|---|---|---|\n" + profile_list(),
}


def regenerated(text: str) -> str:
    """Return a page with its tables as the code has them now."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- end -->", re.S)
        made = f"<!-- {name} -->\n\n{table()}\n\n<!-- end -->"
        text = pattern.sub(lambda match, made=made: made, text)
    return text


def main() -> None:
    """Rewrite every page that has such a table."""
    for path in DOCS.glob("*.md"):
        text = path.read_text()
        if regenerated(text) != text:
            path.write_text(regenerated(text))
            print(path)


if __name__ == "__main__":
    main()
