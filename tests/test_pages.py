"""What pages say of the command line is so: sessions print what they show, and every option exists."""

from __future__ import annotations

import re
import shlex

import pytest

from replay.cli import VERBS, main
from tests.support.captures import TRACES, TWO_BOOTS
from tests.support.gendocs import DOCS, PAGES
from tests.support.pages import pattern, sessions
from tests.support.verbs import every_verb, shared_options

ROOT = DOCS.parent
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*PAGES, ROOT / "README.md", ROOT / "CHANGELOG.md", *TRACES.rglob("*.md"))
}


@pytest.mark.parametrize("name", ["time-travel", "minimize", "export"])
def test_a_page_shows_what_is_printed(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traces").symlink_to(TRACES)
    for capture in TRACES.glob("*.log"):
        (tmp_path / capture.name).symlink_to(capture)
    text = TEXTS[f"docs/{name}.md"]
    if "vm.itstrace" in text and "-o vm.itstrace" not in text:  # the reader's own
        assert main(["import", str(TRACES / TWO_BOOTS), "-o", "vm.itstrace"]) == 0
        capsys.readouterr()
    ran = 0
    for command, lines in sessions(text):
        if not command.startswith("itstrace") or "|" in command:
            continue  # of a C file or a real QEMU: make test-bugs, tests/replay/test_export_qtest.py
        assert main(shlex.split(command)[1:]) in (0, 1), command
        out = capsys.readouterr().out
        assert pattern(lines).fullmatch(out), f"$ {command}\n{out}"
        ran += 1
    assert ran >= 2


# -- options

INDENTED = re.compile(r"^ {4,}(?:\$ )?(?:\S*/)?itstrace (.*)$", re.M)
FENCED = re.compile(r"^ *- run: itstrace (.*)$", re.M)
INLINE = re.compile(r"`(?:itstrace )?([a-z]+ [^`]*)`")
ENDS = re.compile(r"\s#\s|\s\|\s|[;>]| -- |\s{3,}|\s\\$| && | \|\| ")
OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*|-[a-zA-Z])(?![\w-])")


def options():
    """Return verb -> the options that it or one of its actions takes."""
    everywhere = {each for entry in shared_options() for each in names(entry)}
    return {
        verb.name: everywhere
        | {
            name
            for each in (verb, *verb.actions)
            for entry in each.options
            for name in names(entry)
        }
        for verb in every_verb()
    }


def names(entry):
    return [each.split(" ")[0] for each in entry.written.split(", ") if each.startswith("-")]


def commands(text):
    """Yield the words behind `itstrace` of every command that a page shows or speaks of."""
    for kind in (INDENTED, FENCED, INLINE):
        for command in kind.findall(text.replace("\\\n", " ")):
            yield re.sub(r"'[^']*'|\"[^\"]*\"", "''", ENDS.split(command)[0])


def unknown(text, known):
    """Yield what a page says of the command line that is not so."""
    for command in commands(text):
        verb = command.split(" ")[0]
        if verb in known:
            for option in OPTION.findall(command.removeprefix(verb)):
                if option not in known[verb]:
                    yield f"itstrace {command}: no option {option}"


@pytest.fixture(scope="module")
def known():
    return options()


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_option_that_a_page_names_is_one(name, known):
    assert list(unknown(TEXTS[name], known)) == []


def test_what_is_no_option_is_found(known):
    page = (
        "    itstrace verify T --probe --no-such\n    $ itstrace corpus run traces --jobs 4 --nor\n"
        "and `show --when`, `state --wen X` and `git log --oneline`\n"
        "    itstrace record qemu -o T -- qemu -M virt\n"
    )
    assert [each.rpartition(" ")[2] for each in unknown(page, known)] == [
        "--no-such",
        "--nor",
        "--wen",
    ]
    assert set(known) == set(VERBS)


NOT_HERE = {"traces/scenarios/TRACE.its.txt"}  # any
FILE = re.compile(
    r"(?<![\w/.])((?:tests|replay|tracer|docs|traces/(?:bugs|scenarios))/[\w./-]+\.[a-z]{1,5})\b"
)


def test_every_file_that_a_page_names_is_there():
    for name, text in TEXTS.items():
        for path in set(FILE.findall(text)) - NOT_HERE:
            assert (ROOT / path).exists(), f"{name}: {path}"
