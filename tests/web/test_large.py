"""A million events: how large the page is, how soon it is there, and whether its states are right."""

from __future__ import annotations

import pytest

from replay import cli
from tests.support.web import million, open_page
from tests.web.test_page import PLACES, same_states

EVENTS = 1_000_000
MAX_BYTES = 8_000_000
MAX_READY_MS = 2000  # the issue's own bound; what is measured is printed


@pytest.fixture(scope="module")
def large(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    path, out = folder / "large.itstrace", folder / "large.html"
    million(path, EVENTS)
    assert cli.main(["report", str(path), "-o", str(out)]) == 0
    shown = open_page(browser, out)
    shown.trace = path
    yield shown, out
    assert shown.wrong == []
    shown.page.context.close()


def test_it_is_small_and_soon_there(large):
    shown, out = large
    shown.until("document.body.dataset.whole !== undefined")
    ready, whole = (
        int(shown.page.evaluate(f"document.body.dataset.{name}")) for name in ("ready", "whole")
    )
    size = out.stat().st_size
    print(
        f"\n{EVENTS:,} events: {size:,} bytes; a state is shown after {ready} ms, all is read after {whole} ms"
    )
    assert size < MAX_BYTES
    assert ready < MAX_READY_MS


def test_its_states_are_those_of_state_at(large):
    assert same_states(large[0], PLACES, digests=False) > 50


def test_it_is_filtered(large):
    shown, _ = large
    found = shown.chosen("reset")
    boots = shown.page.evaluate("itstrace.views[0].trace.head.resets.length")
    assert len(found) >= boots > 500
    rest = shown.chosen("not reset")
    assert len(rest) + len(found) == EVENTS
    shown.chosen("")


def test_its_list_reaches_the_end(large):
    page = large[0].page
    page.locator(".events").focus()
    page.keyboard.press("End")
    large[0].until("itstrace.views[0].state.seq === 999999")
    assert page.locator(".row[aria-selected=true] .seq").inner_text() == "999999"
    page.mouse.move(*(page.locator(".events").bounding_box()[side] + 50 for side in ("x", "y")))
    page.mouse.wheel(0, -210)
    page.wait_for_timeout(200)
    seen = [int(text) for text in page.locator(".row .seq").all_inner_texts()]
    assert seen == list(range(seen[0], seen[0] + len(seen)))
    assert 999_900 < seen[-1] < 999_999
    assert page.locator(".row").count() < 100
