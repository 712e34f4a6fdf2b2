"""A person at the page: moves through time, follows links, filters, shares an address, reads states."""

from __future__ import annotations

import random
import re

import pytest

from replay.decode import describe
from replay.timetravel.timeline import Timeline
from tests.support.captures import PROBED, TRACES, TWO_BOOTS
from tests.support.linear import model_for
from tracer.log.opening import open_trace

F1 = "scenarios/F1-lpi-outlives-ctrl-reset.its.txt"
F4 = "scenarios/S09-K23-F4-save-after-mapc-unmap.its.txt"
PLACES = 200


def told(state):
    """Return what `state --at` prints, less what names the trace and the place."""
    return {key: each for key, each in state.items() if key not in ("schema", "seq", "profile")}


def same_states(shown, places, seed=1, *, digests=True):
    """Compare the states at random events; return how many different ones there were."""
    dice = random.Random(seed)
    seen = set()
    with Timeline(str(shown.trace), model_for, keep=False) as line:
        first, last = line.first_seq, line.last()
        for _ in range(places):
            seq = dice.randint(first, last)
            shown.go(seq)
            want = told(line.state_at(seq))
            got = shown.state()
            seen.add(want["digest"])
            if not digests and "digest" not in got:
                del want["digest"]
            assert got == want, seq
    return len(seen)


@pytest.mark.parametrize(("name", "least"), [(TWO_BOOTS, 50), (PROBED, 10), (F1, 10), (F4, 3)])
def test_states_are_those_of_state_at(opened, name, least):
    assert same_states(opened(name), PLACES) >= least


@pytest.mark.parametrize(("bytes_", "word"), [(700, "cut off"), (None, "damaged")])
def test_a_trace_that_could_not_be_read_is_not_shown_as_one_without_resets(
    opened, tmp_path, bytes_, word
):
    path = tmp_path / "a.itstrace"
    data = bytearray((TRACES / PROBED).read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data[:bytes_])
    page = opened(path).page
    page.wait_for_selector(".resets-body p")
    assert page.locator(".badge.unread").inner_text() == word
    said = page.locator(".resets-body").inner_text()
    assert said == "No reset in what could be read of this trace."
    state = page.locator(".state")
    assert state.locator("h2").first.inner_text() == "State before the first event"
    assert "changed" not in state.inner_text()


def test_what_is_wrong_comes_into_view(opened):
    shown = opened("bugs/F1/F1-life.itstrace", viewport={"width": 1280, "height": 420})
    body = shown.page.locator(".resets-body")
    shown.until("document.querySelector('.resets-body').scrollTop > 0")
    bad = shown.page.locator(".reset[open] .badge.bad").first
    inside, found = body.bounding_box(), bad.bounding_box()
    assert inside["y"] <= found["y"] < inside["y"] + inside["height"]


def test_what_is_seen_is_the_state(opened):
    shown = opened(TWO_BOOTS, "#seq=567")
    page = shown.page
    assert page.locator(".state h2").first.inner_text() == "State after event 567"
    registers = dict(
        zip(
            page.locator(".register .name").all_inner_texts(),
            page.locator(".register .value").all_inner_texts(),
            strict=True,
        )
    )
    with Timeline(str(shown.trace), model_for, keep=False) as line:
        state = line.state_at(567)
    want = state["its"]["0"]["registers"]
    assert {name: registers[name] for name in want} == want
    cells = page.locator("section.state table.grid").filter(has_text="itt_addr").locator("tbody tr")
    devices = [row.split("\t")[:2] for row in cells.all_inner_texts()]
    told = [[id_, each["itt_addr"]] for id_, each in state["its"]["0"]["devices"].items()]
    assert devices == told
    assert len(told) == 3


def test_bits_are_shown_as_the_layout_has_them(opened):
    page = opened(TWO_BOOTS, "#seq=567").page
    register = page.locator("details.register").filter(has_text="GITS_CBASER")
    register.locator("summary").click()
    register.locator(".fields tr").first.wait_for()
    fields = dict(
        re.split(r"\s+[0-9:]+\s+", row) for row in register.locator(".fields tr").all_inner_texts()
    )
    assert fields["Valid"] == "0x1"
    assert fields["Size"] == "0xf"
    assert fields["Physical_Address"] == "0x42580000"
    digits = "".join(register.locator(".bits .digits i").all_inner_texts())
    assert int(digits, 2) == 0xB80000004258040F


def test_a_change_is_marked(opened):
    shown = opened(TWO_BOOTS)
    page = shown.page
    with Timeline(str(shown.trace), model_for, keep=False) as line:
        before, after = line.state_at(343), line.state_at(344)
    page.locator("input.number").fill("343")
    page.locator("input.number").press("Enter")
    page.get_by_role("button", name="The next reset").click()
    shown.until("itstrace.views[0].state.seq === 344")
    marked = page.locator(".register.changed .name").all_inner_texts()
    one, other = (each["its"]["0"]["registers"] for each in (before, after))
    assert [name for name in one if one[name] != other[name]] == [
        name for name in marked if name.startswith("GITS")
    ]
    assert "GITS_CTLR" in marked
    assert page.locator("tr.gone").first.is_visible()


def test_a_stale_lpi_leads_to_the_msi_that_planted_it(opened):
    shown = opened(F1)
    page = shown.page
    assert shown.seq == 18  # it opens at the first finding
    assert page.locator(".reset .badge.bad").first.inner_text() == "stale"
    story = page.locator(".story li").all_inner_texts()
    assert [int(each.split()[0][1:]) for each in story] == [15, 15, 15, 16, 18]
    assert "MAPTI" in story[2]
    assert story[4] == "#18 ctrl_reset, which left it as it was"
    page.locator("a.planted").click()
    shown.until("itstrace.views[0].state.seq === 16")
    assert page.evaluate("location.hash") == "#seq=16"
    assert page.locator(".row[aria-selected=true] .line").inner_text().startswith("msi device_id")
    assert shown.state()["lpis"]["8192"]["pending"] == "set"
    page.go_back()
    shown.until("itstrace.views[0].state.seq === 18")


def test_filtering_leaves_what_passes(opened):
    shown = opened(TWO_BOOTS)
    page = shown.page
    page.keyboard.press("/")
    page.keyboard.type("command == MAPTI and DeviceID == 0x8")
    shown.until("/^[0-9]+ of 832 events$/.test(document.querySelector('.found').textContent)")
    lines = page.locator(".row .line").all_inner_texts()
    with open_trace(str(shown.trace)) as reader:
        told = [describe(event) for _, events in reader for event in events]
    assert lines == [line for line in told if "MAPTI" in line and "DeviceID=0x8 " in line]
    assert len(lines) > 4
    page.locator(".filter").fill("nothing == 1")
    page.wait_for_selector(".filter[aria-invalid=true]")
    assert "no event has a field called nothing" in page.locator(".found").inner_text()
    page.locator(".filter").fill("")
    shown.until("document.querySelector('.found').textContent === '832 events'")


def test_an_address_can_be_shared(opened):
    one = opened(TWO_BOOTS, "#seq=100")
    one.page.locator(".filter").fill('register ~ "CREADR" and seq > 0x20')
    one.until("location.hash.includes('&filter=')")
    one.page.evaluate("location.hash = '#seq=567&' + location.hash.split('&')[1]")
    one.until("itstrace.views[0].state.seq === 567")
    one.until("location.hash.startsWith('#seq=567&filter=register')")
    address = one.page.evaluate("location.hash")
    other = opened(TWO_BOOTS, address)
    assert other.seq == 567
    assert other.page.locator(".filter").input_value() == 'register ~ "CREADR" and seq > 0x20'
    assert other.state() == one.state()
    texts = [each.page.locator(".found").inner_text() for each in (one, other)]
    assert texts[0] == texts[1] != "832 events"


@pytest.mark.parametrize(
    "address", ["#seq=99999999", "#seq=-5", "#seq=x", "#nothing", "#filter=%", "#seq=1&filter=)("]
)
def test_a_wrong_address_does_no_harm(opened, address):
    shown = opened(TWO_BOOTS, address)
    assert -1 <= shown.seq <= 831


def test_keys_move_through_time(opened):
    shown = opened(TWO_BOOTS, "#seq=100")
    page = shown.page
    for key, seq in (
        ("ArrowRight", 101), ("ArrowLeft", 100), ("]", 344), ("[", 0), ("n", None), ("p", None),
    ):  # fmt: skip
        page.keyboard.press(key)
        if seq is not None:
            shown.until(f"itstrace.views[0].state.seq === {seq}")
    page.locator(".events").focus()
    page.keyboard.press("End")
    shown.until("itstrace.views[0].state.seq === 831")
    assert (
        page.locator(f"#{page.locator('.events').get_attribute('aria-activedescendant')}")
        .inner_text()
        .startswith("831")
    )
    page.locator(".slider").focus()
    page.keyboard.press("Home")
    shown.until("itstrace.views[0].state.seq === -1")
    page.keyboard.press("ArrowRight")
    shown.until("itstrace.views[0].state.seq === 0")
    shown.until("document.getElementById('live').textContent.includes('event 0: reset')")


def test_the_timeline_leads_to_events(opened):
    shown = opened(TWO_BOOTS)
    page = shown.page
    shown.until("itstrace.views[0].timeline.ready")
    box = page.locator(".u-over").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 5)
    shown.until("itstrace.views[0].seq !== 831")
    assert abs(shown.seq - 416) < 10


def test_a_dead_host_has_no_state_behind(opened):
    shown = opened(F4, "", "--profile", "linux-6.1.176")
    page = shown.page
    assert "The host dies at" in page.locator(".crash").inner_text()
    crash = page.evaluate("itstrace.views[0].trace.head.crash.seq")
    last = page.evaluate("itstrace.views[0].trace.lastSeq")
    assert last > crash
    shown.go(last)
    assert "nothing follows" in page.locator(".state .note").inner_text()
    assert shown.state() is None
    shown.go(crash - 1)
    assert shown.state()["its"]["0"]["registers"]["GITS_CTLR"]


def test_light_and_dark(opened):
    backs = set()
    for scheme in ("light", "dark"):
        page = opened(TWO_BOOTS, "", color_scheme=scheme).page
        backs.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.get_by_role("button", name="Light, dark").click()
        backs.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backs) == 2


def test_nothing_is_fetched_and_nothing_else_runs(opened):
    page = opened(TWO_BOOTS)
    tried = page.page.evaluate(
        """async () => {
          const wrong = [];
          addEventListener("securitypolicyviolation", (each) => wrong.push(each.effectiveDirective));
          const script = document.createElement("script");
          try { script.textContent = "window.ran = 1"; document.body.append(script); } catch { wrong.push("text"); }
          try { document.body.innerHTML += "<b>x</b>"; wrong.push("markup went in"); } catch { wrong.push("markup"); }
          try { setTimeout("window.ran = 2"); } catch { wrong.push("eval"); }
          const image = document.createElement("img");
          image.src = "https://example.org/x.png";
          document.body.append(image);
          await fetch("https://example.org/").catch(() => wrong.push("fetch"));
          await new Promise((resolve) => setTimeout(resolve, 200));
          return [wrong, window.ran];
        }"""
    )
    page.wrong.clear()  # what the page's policy said of it
    assert {"text", "markup", "fetch", "img-src", "connect-src"} <= set(tried[0])
    assert tried[1] is None


def test_two_traces_side_by_side(opened, reports, tmp_path_factory):
    from replay import cli

    folder = tmp_path_factory.mktemp("disks")
    paths = []
    for name in ("one-disk", "two-disks"):
        paths.append(folder / f"{name}.itstrace")
        log = TRACES / f"qemu-7.2.22-linux-6.1-{name}.log.gz"
        assert cli.main(["import", str(log), "-o", str(paths[-1])]) == 0
    shown = opened(paths[0], "", str(paths[1]))
    page = shown.page
    page.wait_for_selector(".difference")
    assert page.locator(".difference h3").first.inner_text() == "1: only in B"
    assert page.evaluate("itstrace.views.map((each) => each.seq)") == [157, 165]
    page.evaluate("itstrace.chosen('command == MAPC', 0).then((found) => itstrace.go(found[1], 0))")
    shown.until("Math.abs(itstrace.views[1].seq - itstrace.views[0].seq) < 10")
    lines = page.evaluate("itstrace.views.map((each) => each.trace.line(each.seq))")
    assert lines[0] == lines[1]
    assert "MAPC" in lines[0]
    page.locator(".difference a").first.click()
    shown.until("itstrace.views[1].state.seq === 165")
    for side, path in enumerate(paths):
        with Timeline(str(path), model_for, keep=False) as line:
            want = told(line.state_at(page.evaluate(f"itstrace.views[{side}].seq")))
        assert page.evaluate(f"itstrace.state({side})") == want
    page.evaluate("location.hash = '#a=7&b=300'")
    shown.until("itstrace.views[0].state.seq === 7 && itstrace.views[1].state.seq === 300")


def test_a_corpus_has_an_index(browser, tmp_path):
    import shutil

    from replay import cli
    from tests.support.web import open_page

    corpus = tmp_path / "traces"
    corpus.mkdir()
    for name in (F1, F4):
        stem = (TRACES / name).name.removesuffix(".its.txt")
        for suffix in (".its.txt", ".toml"):
            shutil.copy(TRACES / "scenarios" / f"{stem}{suffix}", corpus)
    out = tmp_path / "out"
    assert cli.main(["report", str(corpus), "-o", str(out)]) == 0
    shown = open_page(browser, out / "index.html")
    page = shown.page
    assert page.locator("main tbody tr").count() == 2
    assert page.locator(".bar .badge").inner_text() == "all as expected"
    row = page.locator("main tbody tr").filter(has_text="F1")
    assert "stale" in row.inner_text()
    page.locator("#only").fill("crash")
    assert page.locator("main tbody tr").count() == 1
    page.locator("#only").fill("")
    row.locator("a").click()
    page.wait_for_selector("body[data-ready] .story", state="attached")
    assert shown.wrong == []
    page.context.close()
