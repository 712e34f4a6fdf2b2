"""How a trace shows its signature, and what is another bug although it is called the same."""

from __future__ import annotations

import pytest

from replay.judge import judge, with_flags
from replay.manifest import manifest_path, read_manifest
from replay.minimize.agreement import agree
from replay.minimize.case import Told, open_case
from replay.minimize.model_oracle import ANSWERS, INPUTS, RECORDED, Frames
from replay.minimize.run import minimize
from replay.minimize.script import lift, lower
from replay.minimize.written import flags_beside
from replay.profiles import FLAGS, PROFILES, find
from tests.support.planted import cases, name_of, read
from tests.support.scenarios import SCENARIOS
from tracer.errors import UsageError
from tracer.events import make

CASES = cases()
# No fix of a known bug cures these: all kernels have them.
INCURABLE = ("F1", "F2", "F5", "S16")


def told_by(path, variant, *, others=True):
    manifest = read_manifest(manifest_path(path))
    base = find(manifest.profile)[0]
    known = tuple(
        with_flags(base, each.flags)
        for each in manifest.expectations
        if others and each.name != variant.name
    )
    strict = bool(manifest.values.get("strict"))
    return with_flags(base, variant.flags), Told(variant.signature, known, strict)


def opened(name, variant="buggy"):
    path = SCENARIOS / f"{name}.its.txt"
    (chosen,) = (each for where, each in CASES if where == path and each.name == variant)
    return open_case(read(path), *told_by(path, chosen))


def shows(found, *events):
    return found.oracle.shows([found.candidate._replace(events=events)])[0]


def without(events, *gone):
    return tuple(event for at, event in enumerate(events) if at not in gone)


@pytest.mark.parametrize(("path", "variant"), CASES, ids=[name_of(*each) for each in CASES])
def test_what_cures_a_scenario_is_found_out_where_nobody_tells(path, variant):
    profile, told = told_by(path, variant, others=False)
    found = open_case(read(path), profile, told).case
    if path.name.startswith(INCURABLE):
        assert found.cure is None
        return
    assert found.cure is not None
    differs = {
        row.name
        for row in FLAGS[profile.family]
        if getattr(found.cure.choices, row.name) != getattr(profile.choices, row.name)
    }
    assert differs == set(variant.flags)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("S09-K23-F4-save-after-mapc-unmap", INPUTS),
        ("S06-K17-F3-mapd-unmap-leaves-its-entry", INPUTS),
        ("S06-K17-F3-as-5.10-answered", ANSWERS),
        ("S03-K4-baser0-repointed-with-valid-1", ANSWERS),
    ],
)
def test_outputs_are_had_as_the_signature_needs_them(name, way):
    assert opened(name).case.way == way


def test_what_nobody_can_answer_again_stays_as_recorded():
    path = SCENARIOS / "S03-K4-baser0-repointed-with-valid-1.its.txt"
    original = read(path)
    original.header.guest_ram = "observed"
    found = open_case(original, PROFILES["linux-6.1.192"], Told())
    assert found.case.way == RECORDED
    assert [event[0] for event in found.candidate.events].count(69) == 2


def test_a_divergence_without_its_cause_is_another_bug():
    """Without BASER0's second write the MSI still gets 1 where 0 is recorded: nobody would say 0."""
    found = opened("S03-K4-baser0-repointed-with-valid-1")
    events = found.candidate.events
    assert shows(found, *events)
    again = [at for at, each in enumerate(events) if each[:3] == (1, 0, 0x100)]
    assert len(again) == 2
    recorded = read(SCENARIOS / "S03-K4-baser0-repointed-with-valid-1.its.txt")
    left = without(recorded.events, *[
        at for at, each in enumerate(recorded.events) if each[:3] == (1, 0, 0x100)
    ][1:])  # fmt: skip
    judged = judge(Frames(recorded._replace(events=left)), found.case.profile)
    assert found.case.signature in judged.signatures  # who looks at the signature alone slips
    assert not shows(found, *without(events, again[1]))


def test_another_result_is_another_bug():
    """With its LPIs off the vCPU refuses the MSI, -16 beside 0: the same signature, another mark."""
    found = opened("S03-K4-baser0-repointed-with-valid-1")
    lpis_on = next(at for at, e in enumerate(found.candidate.events) if e[:5] == (3, 0, 0, 0, 1))
    left = without(found.candidate.events, lpis_on)
    assert not shows(found, *left)
    assert found.oracle.became(found.candidate._replace(events=left)) == (
        "the same signature, of another making"
    )


def test_what_the_cure_does_not_cure_is_another_bug():
    """Whoever writes the entry of a device by hand has it back on every kernel: that is not F3."""
    found = opened("S06-K17-F3-mapd-unmap-leaves-its-entry")
    events = found.candidate.events
    at = next(at for at, each in enumerate(events) if each[0] == 8)
    entry = (1 << 63 | 0x4060_0000 >> 8 << 5 | 3).to_bytes(8, "little")
    by_hand = (*events[:at], make("mem.write", 0, gpa=0x4010_0000, data=entry), *events[at:])
    for profile in (found.case.profile, found.case.cure):
        judged = judge(Frames(found.candidate._replace(events=by_hand)), profile)
        assert found.case.signature in judged.signatures
    assert not shows(found, *by_hand)


def test_a_finding_beside_it_that_the_original_had_not_is_refused():
    found = opened("S06-K17-F3-mapd-unmap-leaves-its-entry")
    events = found.candidate.events
    assert shows(found, *events)
    interrupt = make("msi", 0, device_id=0, event_id=0, origin=1)
    save = next(at for at, each in enumerate(events) if each[0] == 9)
    enabled = make("gicd.write", 0, offset=0, value=2, size=4, origin=1)
    pending = (enabled, *events[:save], interrupt, *events[save:])
    signatures = judge(
        Frames(found.candidate._replace(events=pending)), found.case.profile
    ).signatures
    assert found.case.signature in signatures
    assert "suspected:ctrl_reset:lpi" in signatures  # F1
    assert not shows(found, *pending)


def test_the_worst_is_kept_and_the_others_are_named():
    original = read(SCENARIOS / "S06-K17-F3-as-5.10-answered.its.txt")
    profile = with_flags(PROFILES["linux-5.10.223"], {})
    found = open_case(original, profile, Told())
    assert found.case.signature == "stale:restore:device"
    assert "stale:restore:event" in found.beside


def test_a_trace_that_does_not_show_it_says_what_it_shows():
    original = read(SCENARIOS / "S09-K23-F4-save-after-mapc-unmap.its.txt")
    dies = with_flags(PROFILES["linux-6.1.192"], {"save_zeroes_ite_without_collection": False})
    with pytest.raises(UsageError, match=r"does not show crash:other: it shows crash:vgic_its"):
        open_case(original, dies, Told("crash:other"))
    with pytest.raises(UsageError, match="shows no fault that could be kept"):
        open_case(original, PROFILES["linux-6.1.192"], Told())


@pytest.mark.parametrize(("path", "variant"), CASES[::6], ids=[name_of(*e) for e in CASES[::6]])
def test_behaviours_that_agree_never_diverge(path, variant):
    """The quick look may only say that nothing differs where nothing does."""
    found = open_case(read(path), *told_by(path, variant))
    case = found.case
    if case.way != ANSWERS or case.cure is None:
        return
    for at in range(len(found.candidate.events)):
        left = found.candidate._replace(events=without(found.candidate.events, at))
        if agree(left, case.profile, case.cure):
            run = found.oracle._run(left, case.profile, case.answering)
            assert found.oracle._find(run) is None


def test_outputs_that_are_recorded_go_with_their_input():
    path = SCENARIOS / "S03-K4-baser0-repointed-with-valid-1.its.txt"
    original = read(path)
    script = lift(original, outputs=True)
    assert lower(script).events == original.events


def test_a_recorded_divergence_stays_the_first():
    """Nobody can answer: an input may only go if all that is left is answered as before."""
    original = read(SCENARIOS / "S03-K4-baser0-repointed-with-valid-1.its.txt")
    original.header.guest_ram = "observed"
    found = open_case(original, PROFILES["linux-6.1.192"], Told())
    assert (found.case.way, found.case.signature) == (RECORDED, "divergent:msi.result:result")
    result = minimize(found.candidate, found.oracle)
    judged = judge(Frames(result.candidate), found.case.profile)
    assert judged.signatures == ["divergent:msi.result:result"]
    assert judged.engine.tally.divergent == 1
    assert flags_beside(found.case.profile) == {}
