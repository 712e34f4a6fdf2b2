"""A report's blocks, read by a second reader: every state, every line, and what the file may do."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from replay import cli
from replay.decode import describe
from replay.report import build, columns, page
from replay.report.columns import Atoms
from tests.support.captures import PROBED, TRACES, TWO_BOOTS, TWO_BOOTS_TIMED, trace_bytes
from tests.support.linear import passed
from tests.support.report_page import Block, blocks_of, document, lines, states
from tracer.log.opening import open_trace

ASSETS = Path(page.__file__).parent / "assets"
VENDORED = {
    "uPlot.LICENSE": "8f989229699b4fe2", "uPlot.iife.min.js": "19c8d4c6ad88929a", "uPlot.min.css": "df630c6a8d6f8eea",
}  # fmt: skip
BIG = (1 << 64) - 1
# Columns of which each is stored in another way, or nearly.
TRICKY = {
    "same": [7] * 9, "same and big": [BIG] * 3, "steps": [32 * n for n in range(300)], "few": [0, 1, 0, 1, 1],
    "growing": list(range(10_000, 90_000, 7)), "falling": [5, -9, 3, -1 << 52, 1 << 52], "big": [0, BIG, 1 << 53],
    "safe": [(1 << 53) - 1, 0], "not safe": [1 << 53, 0], "missing": [None, 3, None, 1 << 40],
    "negative and big": [-1, BIG], "texts": ["a", "", "a", "<b>"], "all": [None, "x", 1, b"\x00"], "none": [None, None],
    "wide": [n << 33 for n in (5, 1, 9, 2)],
}  # fmt: skip
CUT = "cut"  # a part of a trace, that begins with a checkpoint
SCENARIOS = (
    "F1-lpi-outlives-ctrl-reset.its.txt",
    "S09-K23-F4-save-after-mapc-unmap.its.txt",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function from a capture's or scenario's name to (trace, page)."""
    folder = tmp_path_factory.mktemp("reports")
    pages = {}

    def make(name):
        if name not in pages:
            path = TRACES / "scenarios" / name if name in SCENARIOS else folder / f"{name}.itstrace"
            if name == CUT:
                whole = str(make(TWO_BOOTS)[0])
                assert cli.main(["cut", whole, "--range", "400..700", "-o", str(path)]) == 0
            elif name in (TWO_BOOTS, TWO_BOOTS_TIMED):
                path.write_bytes(trace_bytes(name))
            elif name not in SCENARIOS:
                path.write_bytes((TRACES / name).read_bytes())
            out = folder / f"{name}.html"
            assert cli.main(["report", str(path), "-o", str(out)]) == 0
            pages[name] = path, out.read_bytes()
        return pages[name]

    return make


def shortened(event):
    """Return a line of `show`, of long data only the beginning."""
    short = tuple(each[:64] if isinstance(each, bytes) else each for each in event)
    sizes = [len(each) for each in event if isinstance(each, bytes) and len(each) > 64]
    return describe(short) + "".join(f"... ({size} in all)" for size in sizes)


@pytest.mark.parametrize("name", [TWO_BOOTS, CUT, PROBED, *SCENARIOS])
def test_checkpoints_and_changes_give_every_state(made, name):
    path, shown = made(name)
    blocks = blocks_of(shown)
    head = document(blocks["head"])
    found = states(blocks)
    last = head["first_seq"] - 1
    seen = 0
    for seq, model in passed(str(path), range(head["first_seq"], head["states_until"] + 1)):
        last = seq if seq in found else last
        assert found[last] == model.state(), seq
        seen += 1
    crashed = head["crash"] is not None
    assert seen == head["states_until"] - head["first_seq"] + 1 - crashed


@pytest.mark.parametrize("name", [TWO_BOOTS_TIMED, CUT, PROBED, *SCENARIOS])
def test_every_event_reads_as_show_has_it(made, name):
    path, shown = made(name)
    with open_trace(str(path)) as reader:
        events = [event for _, frame in reader for event in frame]
    told = []
    time_ns = 0
    for event in events:
        time_ns += event[1]
        told.append((time_ns, shortened(event)))
    assert lines(blocks_of(shown)) == told
    assert len(told) > 10


class Elements(HTMLParser):
    """Collects the elements of a page, and what stands in scripts and styles."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.inside = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if not self.found:
            return
        tag, attrs = self.found[-1]
        if tag in ("script", "style") and "type" not in attrs and data.strip():
            self.inside.append((tag, data))


def elements(page):
    parser = Elements()
    parser.feed(page.decode())
    return parser


def hashed(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(made):
    parsed = elements(made(TWO_BOOTS)[1])
    policy = next(a["content"] for t, a in parsed.found if t == "meta" and "http-equiv" in a)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("script-src") == hashed(
        next(text for tag, text in parsed.inside if tag == "script")
    )
    assert rules.pop("style-src") == hashed(
        next(text for tag, text in parsed.inside if tag == "style")
    )
    assert [tag for tag, _ in parsed.inside] == ["style", "script"]
    assert rules == {
        "default-src": "'none'", "base-uri": "'none'", "form-action": "'none'",
        "require-trusted-types-for": "'script'", "trusted-types": "'none'",
    }  # fmt: skip


def test_the_page_is_one_file(made):
    parsed = elements(made(TWO_BOOTS)[1])
    allowed = {"html", "head", "meta", "title", "style", "body", "noscript", "script"}
    assert {tag for tag, _ in parsed.found} == allowed
    assert not [a for _, a in parsed.found if {"src", "href", "style"} & a.keys()]
    assert not [name for _, a in parsed.found for name in a if name.startswith("on")]


def test_two_boots_are_small(made):
    assert len(made(TWO_BOOTS)[1]) < 1_000_000
    assert len(made(TWO_BOOTS_TIMED)[1]) < 1_000_000


WORDS = re.compile(
    r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|setTimeout\([\"'`]|createContextual"
    r"|https?://|import\(|fetch\(|XMLHttp|WebSocket|sendBeacon"
)


def test_our_scripts_make_no_markup_and_reach_for_nothing():
    found = {each.name: WORDS.findall(each.read_text()) for each in ASSETS.glob("*.js")}
    assert len(found) >= 11
    assert {name: words for name, words in found.items() if words} == {}
    assert WORDS.findall("x.innerHTML = y")


def test_the_vendored_script_is_the_one_that_was_looked_at():
    folder = ASSETS / "vendor"
    digests = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()[:16] for each in folder.iterdir()
    }
    assert digests == VENDORED
    assert "v1.6.32" in (folder / "uPlot.iife.min.js").read_text()
    assert (folder / "uPlot.LICENSE").read_text().startswith("The MIT License")


def test_a_name_is_no_markup(tmp_path):
    path = tmp_path / "<script>x&\"'.itstrace"
    path.write_bytes(trace_bytes(TWO_BOOTS))
    out = tmp_path / "out.html"
    assert cli.main(["report", str(path), "-o", str(out)]) == 0
    parsed = elements(out.read_bytes())
    assert [tag for tag, _ in parsed.inside] == ["style", "script"]
    assert "<title>&lt;script&gt;x&amp;" in out.read_text()


def test_what_is_there_is_not_overwritten(tmp_path, capsys):
    path, out = tmp_path / "t.itstrace", tmp_path / "out.html"
    path.write_bytes(trace_bytes(TWO_BOOTS))
    out.write_text("mine")
    assert cli.main(["report", str(path), "-o", str(out)]) == 2
    assert out.read_text() == "mine"
    assert cli.main(["report", str(path), "-o", str(out), "--force"]) == 0
    assert cli.main(["report", str(tmp_path), "-o", str(tmp_path)]) == 2
    assert cli.main(["report", str(path), "-", "-o", str(out), "--force"]) == 2
    capsys.readouterr()


def test_a_damaged_trace_is_shown_as_far_as_it_goes(tmp_path, capsys):
    data = bytearray(trace_bytes(TWO_BOOTS))
    data[len(data) // 2] ^= 1
    path, out = tmp_path / "t.itstrace", tmp_path / "out.html"
    path.write_bytes(data)
    assert cli.main(["report", str(path), "-o", str(out)]) == 3
    head = document(blocks_of(out.read_bytes())["head"])
    assert "was not used" in head["notes"][0]
    assert head["events"] < 832
    capsys.readouterr()


def test_too_many_events_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "MAX_EVENTS", 800)
    path = tmp_path / "t.itstrace"
    path.write_bytes(trace_bytes(TWO_BOOTS))
    assert cli.main(["report", str(path), "-o", str(tmp_path / "out.html")]) == 2
    assert "itstrace cut" in capsys.readouterr().err


def test_who_planted_what_is_stale_is_in_the_page(made):
    told = document(blocks_of(made(SCENARIOS[0])[1])["verdicts"])
    blame = told["resets"][0]["blames"]["lpis"]
    assert blame["seq"] == 16
    assert blame["story"]["name"] == "lpi 8192"
    assert [each["seq"] for each in blame["story"]["behind"]] == [15, 15, 15, 16]
    assert [each["seq"] for each in blame["story"]["resets"]] == [18]


def test_two_traces_know_which_event_is_which(made, tmp_path):
    paths = [str(made(name)[0]) for name in (TWO_BOOTS, TWO_BOOTS_TIMED)]
    out = tmp_path / "out.html"
    assert cli.main(["report", *paths, "-o", str(out)]) == 0
    blocks = blocks_of(out.read_bytes())
    block = Block(blocks["pairs"])
    count, *told = block.header["pairs"]
    a, b = (block.numbers(each, count) for each in told)
    sides = [
        lines({name[2:]: each for name, each in blocks.items() if name[:2] == f"{side}-"})
        for side in "ab"
    ]
    words = [[line.split()[0] for _, line in side] for side in sides]
    assert count > 100
    assert all(words[0][one] == words[1][other] for one, other in zip(a, b, strict=True))


@pytest.mark.parametrize("name", TRICKY)
def test_columns_come_back(name):
    values = TRICKY[name]
    atoms = Atoms()
    block = columns.Block()
    told = block.column(values, atoms)
    read = Block(block.packed({"told": told}))
    found = read.column(read.header["told"], len(values), atoms.values)
    assert found == [
        each if isinstance(each, int | None) and abs(each or 0) < 1 << 64 else told_as(each)
        for each in values
    ] or (found == [told_as(each) for each in values])


def test_big_numbers_are_no_floating_ones():
    """What JavaScript has no exact number for is said to be big, so that the page makes BigInts."""
    block = columns.Block()
    assert block.numbers([0, 1 << 53])[0] == "b"
    assert block.numbers([1, (1 << 53) + 1])[0] == "b"
    assert block.numbers([0, (1 << 53) - 1])[0] != "b"


def told_as(value):
    if isinstance(value, bytes):
        return ["y", value.hex()]
    return ["i", str(value)] if isinstance(value, int) else value


def test_a_corpus_has_an_index(tmp_path, capsys):
    corpus, out = tmp_path / "traces", tmp_path / "out"
    corpus.mkdir()
    for name in SCENARIOS:
        shutil.copy(TRACES / "scenarios" / name, corpus)
    manifest = SCENARIOS[0].replace(".its.txt", ".toml")
    text = (TRACES / "scenarios" / manifest).read_text()
    (corpus / manifest).write_text(text)
    assert cli.main(["report", str(corpus), "-o", str(out)]) == 1  # one has no manifest
    rows = document(blocks_of((out / "index.html").read_bytes())["corpus"])["rows"]
    assert [row["name"] for row in rows] == [name.removesuffix(".its.txt") for name in SCENARIOS]
    assert [[each["passed"] for each in row["results"]] for row in rows] == [[True], [False]]
    assert rows[0]["cells"]["linux-6.1.192"] == ["stale", "measured"]
    assert rows[0]["cells"]["linux-6.7"][1] == "read"
    assert {row["page"] for row in rows} | {"index.html"} == {each.name for each in out.iterdir()}
    assert cli.main(["report", str(corpus), "-o", str(out)]) == 2
    (corpus / SCENARIOS[1]).unlink()
    assert cli.main(["report", str(corpus), "-o", str(out), "--force"]) == 0
    capsys.readouterr()
