"""What a keyboard and a screen reader need. ITSTRACE_AXE names an axe.min.js, which then has its say, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.captures import TRACES, TWO_BOOTS

F1 = "scenarios/F1-lpi-outlives-ctrl-reset.its.txt"
SHOWN = {"findings": (F1,), "boots": (TWO_BOOTS, "#seq=344"), "two": (F1, "", str(TRACES / F1))}
AXE = os.environ.get("ITSTRACE_AXE")

# Names of what can be operated and has none, and of regions that are called the same.
NAMELESS = """() => {
  const named = (e) => (e.getAttribute("aria-label") || e.innerText || e.title || [...(e.labels || [])].map((l) => l.innerText).join("")).trim();
  const all = [...document.querySelectorAll("a, button, input, summary, [tabindex], [role=region], nav, section")];
  return all.filter((e) => e.offsetParent && !named(e)).map((e) => e.outerHTML.slice(0, 120));
}"""
REGIONS = """() => [...document.querySelectorAll("section, nav, [role=region]")].filter((e) => e.offsetParent)
  .map((e) => `${e.tagName} ${e.getAttribute("aria-label")}`)"""
LANDMARKS = (
    "() => ['header', 'main', 'nav', 'h1'].map((name) => document.querySelectorAll(name).length)"
)

# [contrast, text] of every text that is seen.
CONTRASTS = """() => {
  const luminance = ([r, g, b]) => {
    const part = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (text) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const back = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || !e.checkVisibility() || e.closest(".hidden, script, style, dialog")) continue;
    const [one, other] = [luminance(rgba(getComputedStyle(e).color)), luminance(back(e))];
    found.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), `${e.className}: ${node.data.slice(0, 40)}`]);
  }
  return found;
}"""


@pytest.fixture(params=[(name, scheme) for name in SHOWN for scheme in ("light", "dark")], ids=str)
def page(request, opened):
    name, scheme = request.param
    shown = opened(*SHOWN[name], color_scheme=scheme, bypass_csp=bool(AXE))
    shown.until("document.body.dataset.whole !== undefined")
    return shown.page


def test_all_have_names_and_landmarks(page):
    assert page.evaluate(NAMELESS) == []
    regions = page.evaluate(REGIONS)
    assert len(regions) == len(set(regions)) > 5
    header, main, nav, h1 = page.evaluate(LANDMARKS)
    assert (header, main, h1) == (1, 1, 1)
    assert nav >= 1
    assert page.evaluate("document.documentElement.lang") == "en"


def test_every_text_can_be_read(page):
    found = page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [each for each in found if each[0] < 4.5] == []


def test_the_keyboard_reaches_all_and_is_seen_where_it_is(page):
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => { const e = document.activeElement;
                  if (e === document.body) return ["", ""];
                  return [e.getAttribute("aria-label") || e.innerText || e.id, getComputedStyle(e).outlineStyle]; }"""
            )
        )
    names = " ".join(str(name) for name, _ in reached)
    for wanted in ("Keys", "event number", "The next reset", "events"):
        assert wanted in names
    assert {style for name, style in reached if name} == {"solid"}


@pytest.mark.skipif(not AXE, reason="ITSTRACE_AXE names no axe.min.js")
def test_axe_finds_nothing(page):
    page.evaluate(Path(AXE or "").read_text())
    found = page.evaluate("axe.run()")
    assert [(each["id"], each["nodes"][0]["target"]) for each in found["violations"]] == []
    assert len(found["passes"]) > 30
