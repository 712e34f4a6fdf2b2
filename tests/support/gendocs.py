"""Writes what of docs/ comes from the code: `python -m tests.support.gendocs`.

What stands between `<!-- NAME -->` and `<!-- end -->` of a page is generated, and the man pages in
docs/man/ are wholly; a test holds both to the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from replay import pytest_plugin
from replay.profiles import FLAGS, PROFILES
from tests.support import facts, man, verbs

DOCS = Path(__file__).parents[2] / "docs"
MAN = DOCS / "man"
PAGES = (*sorted(DOCS.glob("*.md")), DOCS.parent / "CONTRIBUTING.md")


OPTION = ("option", "what it does")


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


def command_line() -> str:
    """Return a section for each verb: how it is called, its options, and where more is told."""
    return "\n\n".join("\n\n".join(_verb(verb, "##")) for verb in verbs.every_verb())


def _verb(verb: verbs.Verb, level: str) -> Iterator[str]:
    yield f"{level} {verb.name}"
    more = f" See [{page}.md]({page}.md)." if (page := verbs.PAGES.get(verb.name)) else ""
    yield f"{verb.summary[0].upper()}{verb.summary[1:]}.{more}"
    yield f"    {verb.usage}"
    if rows := [(f"`{each.written}`", each.text) for each in (*verb.arguments, *verb.options)]:
        yield facts.table(OPTION, rows)
    if verb.epilog:
        yield " ".join(verb.epilog.split())
    for action in verb.actions:
        yield from _verb(action, f"{level}#")


def exit_codes() -> str:
    """Return the exit codes of every verb."""
    return facts.table(("code", "says"), ((str(n), text) for n, text in verbs.exit_codes()))


def shared_options() -> str:
    """Return the options of every verb."""
    rows = ((f"`{each.written}`", each.text) for each in verbs.shared_options())
    return facts.table(OPTION, rows)


def plugin_options() -> str:
    """Return the options that the plugin gives pytest."""
    asked = _Asked()
    pytest_plugin.pytest_addoption(asked)
    rows = ((f"`{name} {_choices(known)}`", known["help"]) for name, known in asked.options)
    return facts.table(OPTION, rows)


def _choices(known):
    return known.get("metavar") or "{" + ",".join(known["choices"]) + "}"


class _Asked:
    """What pytest is to the plugin while it declares its options."""

    def __init__(self):
        self.options = []

    def getgroup(self, name):
        return self

    def addoption(self, name, **known):
        self.options.append((name, known))


_TARGET = re.compile(r"((?:^# .*\n)+)(?:^\w+ \?=.*\n)*^([\w-]+):", re.M)


def make_targets() -> str:
    """Return what each target of the Makefile says of itself."""
    rows = (
        (f"`make {target}`", " ".join(comment.replace("# ", "").split()))
        for comment, target in _TARGET.findall((DOCS.parent / "Makefile").read_text())
    )
    return facts.table(("target", "what it does, and what it takes"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "kvm flags": lambda: flag_table("kvm"),
    "qemu flags": lambda: flag_table("qemu"),
    "kvm subjects": lambda: subjects("kvm"),
    "qemu subjects": lambda: subjects("qemu"),
    "xen subjects": lambda: subjects("xen"),
    "limits": limits,
    "verbs": command_line,
    "exit codes": exit_codes,
    "shared options": shared_options,
    "plugin options": plugin_options,
    "events": facts.events,
    "entries": facts.entries,
    "its registers": facts.its_registers,
    "gicr registers": facts.gicr_registers,
    "its commands": facts.commands,
    "make targets": make_targets,
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
    """Rewrite every page that has such a table, and the man pages."""
    made = {path: regenerated(path.read_text()) for path in PAGES}
    made |= {MAN / name: text for name, text in man.pages().items()}
    for path, text in made.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path)
    for path in set(MAN.iterdir()) - set(made):
        path.unlink()


if __name__ == "__main__":
    main()
