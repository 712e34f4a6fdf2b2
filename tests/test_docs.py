"""Pages that hold tables from the code hold them as the code is."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from replay.cli import VERBS
from tests.support import man, verbs
from tests.support.gendocs import DOCS, MAN, PAGES, TABLES, make_targets, regenerated
from tracer.events import KINDS


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_is_as_it_would_be_generated_now(path):
    text = path.read_text()
    assert regenerated(text) == text


def test_every_table_is_on_a_page():
    text = "".join(path.read_text() for path in PAGES)
    assert all(text.count(f"<!-- {name} -->") == 1 for name in TABLES)


def test_the_format_page_lists_every_kind_with_its_fields():
    text = (DOCS / "trace-format.md").read_text()
    for number, cls in KINDS.items():
        row = next(
            line
            for line in text.splitlines()
            if line.startswith("| ")
            and str(number) in line.split("|")[1].replace(",", " ").split()
            and cls.name in line.split("|")[2]
        )
        for field in cls.fields:
            name = field.name.rstrip("0123456789")
            assert name in row, (cls.name, field.name)


def test_every_make_target_says_what_it_is_for():
    text = (DOCS.parent / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split())
    told = set(re.findall(r"^\| `make ([\w-]+)` \| .{10,} \|$", make_targets(), re.M))
    assert targets - told == set(), "a comment line above it in the Makefile"
    assert told - targets == set(), "its name in .PHONY"


# -- the command line


def test_the_man_pages_are_as_they_would_be_generated_now():
    kept = {path.name: path.read_text() for path in MAN.iterdir()}
    assert kept == man.pages()
    assert set(kept) == {"itstrace.1", *(f"itstrace-{verb}.1" for verb in VERBS)}


def test_every_option_says_what_it_does_and_every_verb_where_more_is_told():
    for verb in verbs.every_verb():
        page = verbs.PAGES.get(verb.name)
        assert page is None or (DOCS / f"{page}.md").exists(), verb.name
        for each in (verb, *verb.actions):
            assert each.summary
            silent = [e.written for e in (*each.arguments, *each.options) if len(e.text) < 3]
            assert silent == [], each.name
    assert set(verbs.PAGES) == set(VERBS) - {"completion"}


def test_a_verb_is_described_as_its_parser_takes_it():
    described = {each.name: each for verb in verbs.every_verb() for each in (verb, *verb.actions)}
    assert described["minimize"].usage == "itstrace minimize -o OUTPUT [OPTION ...] TRACE"
    cut = "itstrace cut -o OUTPUT (--range A..B | --reset N | --by {reset}) [OPTION ...] TRACE"
    assert described["cut"].usage == cut
    assert described["corpus"].usage == "itstrace corpus [OPTION ...] ACTION ..."
    assert "corpus add" in described
    written = [each.written for each in described["bisect"].options]
    assert {"--invariant [NAME]", "--over TARGET [TARGET ...]", "--monotone"} <= set(written)
    assert not any(each.startswith("-h") for each in written)


def test_a_default_does_not_depend_on_this_machine():
    text = man.pages()["itstrace-minimize.1"]
    assert "one for each core" in text


CHECKERS = {
    "groff": ["groff", "-man", "-ww", "-z", "-Tutf8"],
    "mandoc": ["mandoc", "-Tlint", "-Wwarning"],
}


def complaints(name, *paths):
    """Return what a checker says of man pages."""
    done = subprocess.run(
        [*CHECKERS[name], *map(str, paths)], text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return [each for each in done.stdout.splitlines() if "missing date" not in each]


@pytest.mark.parametrize("name", CHECKERS)
def test_man_pages_are_well_formed(name, tmp_path):
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    assert complaints(name, *sorted(MAN.iterdir())) == []
    wrong = tmp_path / "wrong.1"
    wrong.write_text((MAN / "itstrace.1").read_text() + ".NOREQUEST\n.TP\n\\fBx\n\\[nochar]\n")
    assert complaints(name, wrong) != []


def test_a_line_that_begins_as_a_request_is_text():
    assert man._line(".SH it - 'is' a\\b") == "\\&.SH it \\- \\(aqis\\(aq a\\eb"
