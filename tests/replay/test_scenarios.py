"""The bug corpus: real kernels gave the answers that scenarios show, and each flag has one.

That each meets its manifest is what pytest runs traces/ for: see `testpaths`.
"""

from __future__ import annotations

import re
import tomllib

import pytest

from replay.corpus import find_traces, matrix, run_trace, trace_name, unused_manifests
from replay.judge import judge
from replay.manifest import manifest_path, read_manifest
from replay.profiles import FLAGS, PROFILES
from replay.verdict import FINDINGS
from tests.support.scenarios import SCENARIOS, answered_as_shown, paths, recorded
from tracer.log.opening import open_trace

TRACES = paths()
BY_NAME = {trace_name(path): path for path in TRACES}
IMAGES = (
    "linux-5.10.223", "linux-6.1.176", "linux-6.1.192",
    "linux-6.12.107", "linux-6.12.117", "linux-7.2.13",
)  # fmt: skip
# Where the host kernel died of a scenario when it was run, alone, for this corpus.
DIED = {
    "S09-K23-F4-save-after-mapc-unmap": {"linux-5.10.223", "linux-6.1.176", "linux-6.12.107"},
    "F4-K23-save-after-a-failed-restore": {"linux-6.1.176", "linux-6.12.107"},
}
# Not run there: the first would kill the host as the two above do, reading the second never ends.
NOT_RUN = {
    "K23-chain-past-zeroed-entries": {"linux-5.10.223", "linux-6.1.176", "linux-6.12.107"},
    "change-debugfs-hides-wide-intids": {"linux-6.12.107", "linux-6.12.117"},
}
WITHOUT_SCENARIO = {
    # With one ITS, no pair of (DeviceID, EventID) can share a key with another in either cache.
    "translation_cache_per_its",
}


@pytest.mark.parametrize("trace", TRACES, ids=trace_name)
def test_a_scenario_shows_what_its_image_answered(trace):
    profile = read_manifest(manifest_path(trace)).profile
    assert answered_as_shown(trace, profile)
    assert tomllib.loads(manifest_path(trace).read_text())["source"].startswith(
        f"outputs measured on {profile}"
    )
    with open_trace(str(trace)) as reader:
        assert reader.header.profile == profile


def on(trace, image):
    with open_trace(str(trace)) as reader:
        return judge(reader, PROFILES[image])


def test_what_a_restore_brings_back_did_not_outlive_the_reset():
    for result in run_trace(BY_NAME["S08-K20-unmapped-collection-restored"]):
        assert result.passed, result.sentence()


@pytest.mark.parametrize("image", IMAGES)
def test_on_every_image_that_ran_it_a_scenario_diverges_just_where_the_answers_did(image):
    ran = 0
    for name, trace in BY_NAME.items():
        if not read_manifest(manifest_path(trace)).profile.startswith("linux"):
            continue
        judged = on(trace, image)
        if image in DIED.get(name, ()):
            assert judged.word == "crash", name
        elif name in recorded(image):
            ran += 1
            same = answered_as_shown(trace, image)
            assert (judged.engine.tally.divergent == 0) == same, name
        else:
            assert image in NOT_RUN[name], name
    assert ran >= 58


def test_every_scenario_of_the_catalogue_is_there():
    for number in range(1, 20):
        assert any(name.startswith(f"S{number:02}-") for name in BY_NAME), number
    for number in range(1, 6):
        assert any(re.search(rf"\bF{number}-", name) for name in BY_NAME), number


def test_every_behaviour_flag_has_a_scenario():
    for family in ("kvm", "qemu"):  # Xen's two are what its host has, not bugs
        rows = FLAGS[family]
        told = set()
        for trace in TRACES:
            manifest = read_manifest(manifest_path(trace))
            if PROFILES[manifest.profile].family == family:
                told |= manifest.flags
        expected = {row.name for row in rows}
        assert expected - told == WITHOUT_SCENARIO & expected


def test_buggy_and_fixed_differ_by_word_or_signature():
    for trace in TRACES:
        variants = {each.variant: each for each in run_trace(trace) if each.variant != "as it is"}
        if not variants:
            continue
        assert set(variants) == {"buggy", "fixed"}, trace
        buggy, fixed = variants["buggy"], variants["fixed"]
        assert (buggy.got, buggy.signatures) != (fixed.got, fixed.signatures), trace
        finding = fixed if buggy.got == "equal" else buggy
        assert finding.signatures, trace


def test_a_scenario_flips_one_flag_and_its_own_profile_has_one_of_the_two_values():
    for trace in TRACES:
        manifest = read_manifest(manifest_path(trace))
        variants = [each for each in manifest.expectations if each.flags]
        if not variants:
            continue
        (flag,) = manifest.flags
        values = {each.flags[flag] for each in variants}
        assert len(values) == 2
        assert getattr(PROFILES[manifest.profile].choices, flag) in values, trace


def test_no_manifest_is_left_over():
    assert find_traces([str(SCENARIOS)]) == TRACES
    assert unused_manifests([str(SCENARIOS)], TRACES) == []


def test_every_trace_begins_by_saying_what_it_shows():
    for trace in TRACES:
        text = trace.read_text()
        first = text[: text.index("\n. ")]
        assert "\n## " in first, trace


# -- the table


@pytest.fixture(scope="module")
def tables():
    return matrix(TRACES)


def test_the_matrix_has_a_cell_for_every_scenario_and_profile(tables):
    assert set(tables) == {"kvm", "qemu", "qemu-gicv4"}
    rows = [name for _, rows in tables.values() for name in rows]
    assert sorted(rows) == sorted(BY_NAME)
    columns = [name for names, _ in tables.values() for name in names]
    assert sorted(columns) == sorted(
        name for name, each in PROFILES.items() if each.family in ("kvm", "qemu")
    )
    for names, table in tables.values():
        assert all(list(row) == names for row in table.values())


@pytest.mark.parametrize(
    ("name", "found", "word"),
    [
        ("S06-K17-F3-mapd-unmap-leaves-its-entry", ["linux-5.10.223"], "suspected"),
        ("S06-K17-F3-as-5.10-answered", ["linux-5.10.223"], "stale"),
        ("S07-K18-discard-leaves-its-entry", ["linux-5.10.223"], "suspected"),
        ("F1-lpi-outlives-ctrl-reset", IMAGES, "stale"),
        ("F1-cured-by-lpis-off", [], "stale"),
        ("F2-vmm-writes-propbaser-first", IMAGES, "stale"),
        ("F2-vmm-writes-ctlr-first", [], "stale"),
        (
            "S09-K23-F4-save-after-mapc-unmap",
            ["linux-5.10.223", "linux-6.1.176", "linux-6.12.107"], "crash",
        ),
        ("F4-K23-save-after-a-failed-restore", ["linux-6.1.176", "linux-6.12.107"], "crash"),
        ("F5-baser-keeps-its-address", [], "stale"),
        ("F5-baser-keeps-its-address-strict", IMAGES, "stale"),
    ],
)  # fmt: skip
def test_the_matrix_finds_a_bug_on_the_images_that_have_it(tables, name, found, word):
    row = tables["kvm"][1][name]
    assert [image for image in IMAGES if row[image].word == word] == list(found)
    assert all(row[image].word not in FINDINGS for image in IMAGES if image not in found)


def test_a_cell_is_measured_only_where_its_flags_were(tables):
    row = tables["kvm"][1]["S10-K5-movall-moves-every-lpi"]
    assert row["linux-6.12.107"].basis == "measured"
    assert row["linux-6.10"].basis == "read"
    hidden = tables["kvm"][1]["K21-failed-itt-restore-leaves-a-device"]
    assert hidden["linux-5.10.223"].basis == "measured"
    assert hidden["linux-7.2.13"].basis == "read"


# -- the page


def test_the_page_lists_every_scenario_with_its_verdicts():
    page = (SCENARIOS / "README.md").read_text()
    rows = dict(re.findall(r"^\| ([A-Za-z0-9.-]+) \| .* \| ([a-z]+(?: / [a-z]+)?) \| ", page, re.M))
    assert rows.pop("scenario", None) == "shows"  # the head
    expected = {
        name: " / ".join(each.expect for each in read_manifest(manifest_path(path)).expectations)
        for name, path in BY_NAME.items()
    }
    assert rows == expected
