"""What a corpus showed, for other programs: JUnit XML, GitHub annotations, Markdown for a job's page.

Names of files, words of manifests and what a guest wrote are strangers' texts: each form escapes them all.
Counterpart: `replay.commands.corpus`, which tells a person.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Final
from xml.etree import ElementTree

from replay.commands.common import clean
from replay.corpus import LOST, Result, exit_code

MAX_SHOWN: Final = 50  # failures: a job's page takes a megabyte, and GitHub shows ten annotations
_NOT_XML: Final = re.compile(r"[\ud800-\udfff\ufffe\uffff]")
_MARKDOWN: Final = re.compile(r"([!-/:-@\[-`{-~])")
_ANNOTATION: Final = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY: Final = _ANNOTATION | {":": "%3A", ",": "%2C"}


def headline(results: Sequence[Result], traces: int) -> str:
    """Return how many there are, and how many are not met."""
    skipped = sum(bool(each.skipped) for each in results)
    failed = sum(not each.passed and not each.skipped for each in results)
    line = f"{len(results)} expectations of {traces} traces, {failed} not met"
    return line + (f", {skipped} not judged" if skipped else "")


def details(result: Result) -> Iterator[str]:
    """Yield why, and what shows more, a line each."""
    yield from map(clean, result.why)
    yield from (f"more: {clean(command)}" for command in result.commands)


# -- JUnit XML


def junit(results: Sequence[Result]) -> bytes:
    """Return a JUnit report: a test case for each expectation; damaged traces are errors."""
    failed = [each for each in results if not each.passed and not each.skipped]
    errors = sum(each.code == LOST for each in failed)
    counts = {
        "tests": len(results),
        "failures": len(failed) - errors,
        "errors": errors,
        "skipped": sum(bool(each.skipped) for each in results),
    }
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        suites, "testsuite", {"name": "itstrace"} | {name: str(n) for name, n in counts.items()}
    )
    for each in results:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": _xml(str(each.trace)), "name": _xml(each.variant)}
        )
        if not each.passed:
            tag = "skipped" if each.skipped else "error" if each.code == LOST else "failure"
            told = ElementTree.SubElement(case, tag, {"message": _xml(each.sentence())})
            told.text = "\n".join(map(_xml, details(each))) or None
    text: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _xml(text: str) -> str:
    """Return a text of characters that XML can hold; ElementTree escapes the rest."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", clean(text))


# -- GitHub


def github(results: Sequence[Result]) -> Iterator[str]:
    """Yield a workflow command for each failure: GitHub shows it at the manifest's place."""
    failed = [each for each in results if not each.passed and not each.skipped]
    for each in failed[:MAX_SHOWN]:
        title = f"{each.trace.name} [{each.variant}]"
        message = "\n".join([clean(each.sentence()), *details(each)])
        yield (
            f"::error file={_escaped(clean(str(each.trace)), _PROPERTY)},line=1,"
            f"title={_escaped(clean(title), _PROPERTY)}::{_escaped(message, _ANNOTATION)}"
        )


def _escaped(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(each, each) for each in text)


# -- Markdown


def markdown(results: Sequence[Result], traces: int) -> str:
    """Return a section for a job's page: the count, a table of what failed, and why."""
    mark = "\N{WHITE HEAVY CHECK MARK}" if exit_code(results) == 0 else "\N{CROSS MARK}"
    lines = [f"## {mark} itstrace: {headline(results, traces)}", ""]
    failed = [each for each in results if not each.passed and not each.skipped]
    if failed:
        lines += ["| trace | under | expected | got |", "|---|---|---|---|"]
    for each in failed[:MAX_SHOWN]:
        wanted = f"{each.expected} ({each.signature})" if each.signature else each.expected
        found = ", ".join(each.signatures)
        got = f"{each.got} ({found})" if found else each.got
        cells = (str(each.trace), each.variant, wanted, got)
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    if len(failed) > MAX_SHOWN:
        lines += ["", f"and {len(failed) - MAX_SHOWN} more"]
    for each in failed[:MAX_SHOWN]:
        text = html.escape("\n".join(details(each)))
        name = html.escape(clean(f"{each.trace} [{each.variant}]"))
        if text:
            lines += ["", f"<details><summary>{name}</summary>", "", f"<pre>{text}</pre>", ""]
            lines.append("</details>")
    skipped = dict.fromkeys(each.skipped for each in results if each.skipped)
    if skipped:
        lines += ["", "Not judged:", ""]
        lines += [f"- {_cell(each)}" for each in list(skipped)[:MAX_SHOWN]]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    """Return a text of which Markdown, HTML included, reads nothing as markup."""
    return _MARKDOWN.sub(r"\\\1", clean(text).replace("\t", " "))
