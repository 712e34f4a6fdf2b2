"""Minimising on a target: which candidate a host died of, at which event, and what is another bug.

Fake hosts die of one value; what real kernels die of is in tests/targets/test_bugs.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from replay.minimize.crash_oracle import Death, death
from replay.minimize.oracle import Candidate
from replay.minimize.run import minimize
from replay.minimize.target_oracle import open_oracle, signature_on
from replay.minimize.verdict_oracle import VerdictOracle
from replay.profiles import find
from replay.targets import kvm as kvm_module, kvm_wire, spec
from replay.targets.kvm_boot import Host
from tests.replay.test_equivalence import HEADER as SMALL_HEADER, small_life
from tests.support.fake_kvm_host import FATAL
from tests.support.small_its import SmallIts
from tests.support.small_target import Forgetful, opener
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import make
from tracer.log.header import Header
from tracer.log.opening import open_trace

FAKE = Path(__file__).parents[1] / "support/fake_kvm_host.py"
SCENARIOS = Path(__file__).parents[2] / "traces/scenarios"
HEADER = Header(
    profile="linux-6.1.192", cpus=1, guest_ram="complete", ram_ranges=[[1 << 30, 1 << 20]]
)
DIES = "crash:vgic_its_save_tables_v0"


@pytest.fixture
def boots(monkeypatch):
    """`kvm:fatal` dies of a value; minimised on, it outlives that. Returns what was booted."""
    started = []

    def boot(mode, *, outlives=False):
        host = Host(f"kvm:{mode}", outlives=outlives)
        mode = "outlive" if outlives else mode
        started.append(mode)
        try:
            host.start([sys.executable, str(FAKE), mode, host.memory_path], seconds=5)
        except BaseException:
            host.close()
            raise
        return host

    monkeypatch.setattr(spec, "boot", boot)
    monkeypatch.setattr(kvm_module, "BATCH_SECONDS", 2.0)
    return started


def write(value, offset=0x100):
    return make("reg.write", 0, offset=offset, value=value, origin=ev.VMM)


def candidate(*values, kind="reg.write"):
    events = [write(value) for value in values]
    if kind != "reg.write":
        fatal = [make("gicd.write", 0, offset=0, value=FATAL, origin=ev.VMM)]
        events = [each for e in events for each in (fatal if e[3] == FATAL else [e])]
    return Candidate(HEADER, tuple(events))


KILLS, LIVES = candidate(1, FATAL, 2), candidate(1, 2)


def test_each_candidate_of_many_is_answered_for_itself_on_one_boot(boots):
    with open_oracle(["kvm:fatal"], KILLS, DIES) as oracle:
        asked = [LIVES, KILLS, LIVES, KILLS, KILLS, LIVES]
        assert oracle.shows(asked) == [False, True, False, True, True, False]
    assert boots == ["outlive"]


def test_the_event_that_a_host_died_of_is_the_one_that_was_carried_out(boots):
    with spec.Targets(outlive=True) as targets:
        kvm = spec.parse("kvm:fatal")
        for at in range(4):
            events = (*(write(n) for n in range(at)), write(FATAL), write(9))
            found = death(targets, kvm, Candidate(HEADER, events))
            assert found == Death("vgic_its_save_tables_v0", "reg.write", at)


def test_it_is_so_however_many_batches_the_requests_make(boots):
    listings = 3 * kvm_wire.AREA_BYTES // kvm_wire.MAX_LISTING_BYTES  # more than go into two
    events = [each for _ in range(listings) for each in (make("probe", 0, edge=0), write(1))]
    events += [write(FATAL), write(2)]
    with spec.Targets(outlive=True) as targets:
        found = death(targets, spec.parse("kvm:fatal"), Candidate(HEADER, tuple(events)))
    assert found is not None
    assert found.at == 2 * listings


def test_a_death_at_another_kind_of_event_is_another_bug(boots):
    with open_oracle(["kvm:fatal"], KILLS, DIES) as oracle:
        assert oracle.shows([candidate(1, FATAL, kind="gicd.write")]) == [False]
        assert oracle.became(candidate(FATAL, kind="gicd.write")) == f"{DIES} at gicd.write"


def test_a_death_in_another_function_is_none_of_the_trace(boots):
    oracle = open_oracle(["kvm:fatal"], KILLS, "crash:other")
    with (
        pytest.raises(UsageError, match="does not show crash:other: its kernel dies in vgic_its"),
        oracle,
    ):
        pass


def test_the_result_is_asked_again_on_fresh_hosts_that_do_not_outlive_it(boots):
    with open_oracle(["kvm:fatal"], KILLS, DIES) as oracle:
        result = minimize(oracle.first, oracle)
        assert result.candidate.events == (write(FATAL),)
        assert oracle.confirm(result.candidate) == ""
        assert boots == ["outlive", "fatal", "fatal"]
        assert oracle.confirm(LIVES) == f"{DIES} is flaky: 0 of 2 fresh targets show it"


def test_this_machine_is_not_killed(boots):
    oracle = open_oracle(["kvm"], KILLS, DIES)
    with pytest.raises(UsageError, match="would kill this machine"), oracle:
        pass


# -- verdicts, on models of kernels that have the bug


def scenario(name):
    with open_trace(str(SCENARIOS / f"{name}.its.txt")) as reader:
        events = tuple(event for _, frame in reader for event in frame)
        return Candidate(reader.header, events)


def asked_only(story):
    """Inputs and questions: what a candidate has."""
    kinds = ("reg.read", "gicr.read", "mem.read", "probe")
    events = tuple(
        e for e in story.events
        if e[0] < ev.FIRST_OUTPUT or (ev.kind_name(e[0]) in kinds and not (e[0] == 132 and e[2]))
    )  # fmt: skip
    return story._replace(events=events)


def inputs(found):
    return [ev.kind_name(e[0]) for e in found.events if e[0] < ev.FIRST_OUTPUT and e[0] != 6]


def stages(oracle):
    """Minimise as far as it goes; yield the least of each stage."""
    story = oracle.first
    while story is not None:
        least = minimize(story, oracle).candidate
        yield least
        story = oracle.following(least)


def test_a_life_is_laid_down_as_the_shortest_story_of_what_comes_back():
    """F3: 13 inputs beside RAM contents, and the list of live LPIs for a question."""
    given = asked_only(scenario("S06-K17-F3-mapd-unmap-leaves-its-entry"))
    life = given._replace(events=given.events[:15])
    target = "model:linux-5.10.223"
    with open_oracle([target], life, "stale:restore:device") as oracle:
        probed, story = stages(oracle)
        assert len(inputs(probed)) <= 9
        assert len(inputs(story)) <= 14
        behind = inputs(story)[inputs(story).index("reset") :]
        assert behind == ["reset", "reg.write", "reg.write", "restore"]
        assert oracle.confirm(story) == ""


def test_a_round_trip_that_was_not_given_its_tables_back_is_none():
    given = asked_only(scenario("S06-K17-F3-as-5.10-answered"))
    target, signature = "model:linux-5.10.223", "stale:restore:device"
    tables = [at for at, e in enumerate(given.events) if e[0] == 1 and e[2] in (0x100, 0x108)][-2:]
    with open_oracle([target], given, signature) as oracle:
        assert oracle.shows([given]) == [True]
        for gone in tables:
            events = given.events[:gone] + given.events[gone + 1 :]
            assert oracle.shows([given._replace(events=events)]) == [False]
            assert oracle.became(given._replace(events=events)) == "no difference"


def test_what_differs_because_the_its_is_off_is_another_bug():
    """Without GITS_CTLR behind the restore an MSI is refused, whoever is mapped."""
    given = asked_only(scenario("S06-K17-F3-as-5.10-answered"))
    off = tuple(e for e in given.events[:-2]) + given.events[-1:]
    with open_oracle(["model:linux-5.10.223"], given, "stale:restore:device") as oracle:
        assert oracle.shows([given._replace(events=off)]) == [False]


def test_a_recorded_story_is_cut_to_what_shows_it_and_judged_by_nothing_else():
    given = asked_only(scenario("F1-lpi-outlives-ctrl-reset"))
    with open_oracle(["model:linux-6.1.192"], given, "stale:ctrl_reset:lpi") as oracle:
        (least,) = stages(oracle)
        assert len(inputs(least)) <= 12
        reset = [e[0] for e in least.events].index(8)
        assert oracle.about(least) == len(least.events) - 1
        assert oracle.shows([least._replace(events=least.events[: reset + 1])]) == [False]


def test_a_kernel_without_the_bug_does_not_show_it():
    given = asked_only(scenario("S06-K17-F3-as-5.10-answered"))
    oracle = open_oracle(["model:linux-6.1.192"], given, "stale:restore:device")
    with pytest.raises(UsageError, match="does not show stale:restore:device"), oracle:
        pass


@pytest.mark.parametrize(
    ("name", "targets", "found"),
    [
        ("S09-K23-F4-save-after-mapc-unmap", ["model:linux-6.1.176"], DIES),
        ("F1-lpi-outlives-ctrl-reset", ["model:linux-6.1.192"], "stale:ctrl_reset:lpi"),
        ("S06-K17-F3-as-5.10-answered", ["model:linux-5.10.223"], "stale:restore:device"),
        ("S09-K23-F4-save-after-mapc-unmap", ["model:linux-6.1.192", "model:linux-6.1.176"], DIES),
        ("S05-discard-then-msi", ["model:linux-6.1.192"] * 2, None),
    ],
)
def test_what_a_trace_shows_on_targets_is_found_without_a_signature(name, targets, found):
    assert signature_on(targets, asked_only(scenario(name))) == found


def test_the_result_has_the_answers_of_the_target_up_to_its_death():
    given = asked_only(scenario("S09-K23-F4-save-after-mapc-unmap"))
    with open_oracle(["model:linux-6.1.176"], given, DIES) as oracle:
        told = oracle.answered(given)
    kinds = [ev.kind_name(e[0]) for e in told.events]
    assert kinds.count("attr.result") == kinds.count("reg.write") + kinds.count("gicr.write")
    assert kinds[-2:] == ["save", "mem.read"]


# -- a QEMU whose reset skips one field


class Small:
    """Targets that are small devices, in the place of a QEMU."""

    def __init__(self, make):
        self._open = opener(make)

    def opened(self, spec, header, needs):
        return self._open(header)

    def findings(self):
        return []


def test_a_reset_that_skips_a_field_is_minimised_to_what_fills_it():
    life = Candidate(SMALL_HEADER, tuple(small_life()))
    signature, qemu = "stale:system:GICR_PROPBASER", (spec.parse("qemu"), life)
    profile = find("qemu-7.2.22")[0]
    oracle = VerdictOracle(
        Small(lambda ram: Forgetful(ram, "propbaser")), *qemu, signature, profile
    )
    *_, least = stages(oracle)
    assert oracle.shows([least]) == [True]
    assert inputs(least) == ["gicr.write", "reset"]
    with pytest.raises(UsageError, match=f"does not show {signature}"):
        VerdictOracle(Small(SmallIts), *qemu, signature, profile)
