"""What a guest, a VMM or a sender has chosen stays text: markup, quotes, control characters."""

from __future__ import annotations

import re

import pytest

from tests.support.captures import TRACES
from tests.support.traces import build, small_events, small_header
from tests.support.web import open_page
from tracer.events import make

MARKUP = (
    "</script><script>window.pwned=1</script>", "<img src=x onerror=window.pwned=1>", "--><svg/onload=window.pwned=1>",
    "' onfocus=window.pwned=1 autofocus x='", '" onmouseover="window.pwned=1', "]]><![CDATA[", "&lt;b&gt;&#60;b>",
    "${window.pwned=1}", "javascript:window.pwned=1", "\u2028window.pwned=1\u2029", "\x00\x1b[31m\x07\x9b2J\x7f",
    "\u202ereversed\u2066", "<!--", "</style><style>*{display:none}</style>", "</noscript><h1>x</h1>",
    "__proto__", "constructor", "\ud800 half", "a" * 20_000, "<b>" * 3000,
)  # fmt: skip
NAME = "<img src=x onerror=window.pwned=1>&quot;'\u202ename"
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def texts():
    return [each.encode("utf-8", "replace").decode() for each in MARKUP]


def hostile_trace():
    notes = [make("marker", 0, text=each) for each in texts()]
    reasons = [make("source.gap", 0, reason=each) for each in texts()]
    others = [(127, 0, each, each.encode()) for each in texts()] + [
        (200, 0, (each, [each])) for each in texts()
    ]
    joined = "".join(texts())
    header = dict.fromkeys(
        ("created", "recorder", "source", "implementation", "implementation_version", "clock"),
        joined,
    )
    life = small_events()
    events = [*life[:-1], *notes, make("reset", 0, how=1), *life[4:5], *notes, *others, *reasons]
    return build(events, small_header(**header, command_line=[joined], host=joined))


@pytest.fixture
def hostile(browser, tmp_path):
    from replay import cli

    folder = tmp_path / "x"
    folder.mkdir()
    path = folder / f"{NAME}.itstrace"
    path.write_bytes(hostile_trace())
    out = tmp_path / "report.html"
    assert cli.main(["report", str(path), "-o", str(out)]) in (0, 3)
    shown = open_page(browser, out)
    yield shown
    assert shown.wrong == []
    shown.page.context.close()


def test_markup_stays_text(hostile):
    page = hostile.page
    count = page.evaluate("itstrace.views[0].trace.count")
    first = page.evaluate("itstrace.views[0].trace.firstSeq")
    for seq in range(first, first + count):
        hostile.go(seq)
    page.locator(".about summary").click()
    for each in page.locator("details.reset summary").all():
        each.click()
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, svg, iframe, object, embed, link, base").count() == 0
    assert page.locator("script").count() <= 1 + page.locator("script[type='text/plain']").count()
    assert page.evaluate("Object.prototype.pwned") is None
    told = page.evaluate("document.body.innerText")
    assert not RAW.search(told)
    assert "<img src=x onerror=window.pwned=1>" in told
    named = page.evaluate(
        "[...document.querySelectorAll('*')].flatMap((e) => [...e.attributes]).filter((a) => /^on/i.test(a.name)).length"
    )
    assert named == 0


def test_what_is_hostile_is_still_shown(hostile):
    page = hostile.page
    found = hostile.chosen("kind == marker and text ~ onerror")
    assert len(found) == 2
    hostile.go(found[0] + page.evaluate("itstrace.views[0].trace.firstSeq"))
    assert (
        page.locator(".detail .line").inner_text().count("<img src=x onerror=window.pwned=1>") == 1
    )


def test_a_filter_is_no_markup_either(hostile):
    page = hostile.page
    page.locator(".filter").fill("<img src=x onerror=window.pwned=1>")
    page.wait_for_selector(".filter[aria-invalid=true]")
    assert page.locator("img").count() == 0
    assert "cannot understand" in page.locator(".found").inner_text()


def test_a_manifest_is_no_markup_either(browser, tmp_path):
    import json
    import shutil

    from replay import cli

    corpus = tmp_path / "traces"
    corpus.mkdir()
    shutil.copy(
        TRACES / "scenarios" / "F1-lpi-outlives-ctrl-reset.its.txt", corpus / "<b>x.its.txt"
    )
    reason = "".join(text for text in texts() if RAW.search(text) is None)[:3000]
    (corpus / "<b>x.toml").write_text(f'expect = "stale"\nreason = {json.dumps(reason)}\n')
    out = tmp_path / "out"
    assert cli.main(["report", str(corpus), "-o", str(out)]) in (0, 1)
    assert sorted(each.name for each in out.iterdir()) == ["0000--b-x.its.txt.html", "index.html"]
    shown = open_page(browser, out / "index.html")
    assert shown.page.locator("main th a").inner_text() == "<b>x"
    assert shown.page.locator("img, b").count() == 0
    assert shown.page.evaluate("window.pwned") is None
    assert shown.wrong == []
    shown.page.context.close()
