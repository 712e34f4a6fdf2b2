"""Real streams of our recorder, of QEMU on a KVM host: replayed, judged, joined in their middle."""

from __future__ import annotations

import gzip
import io
import random
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from replay.engine import Engine
from replay.profiles import find
from replay.targets.kvm_model import KvmModel
from replay.verdict import ResetVerdict
from replay.verify import verify
from tests.support.ftrace_text import mutate, split
from tracer.events import fields_of, kind_name
from tracer.log.stream import Reader, Writer

TRACES = Path(__file__).parents[2] / "traces"
RESET = TRACES / "kvm-6.1.192-qemu-7.2-system-reset.stream.txt.gz"
CPUS = 4
TABLES = [f"GICR_{each}BASER[{cpu}]" for each in ("PROP", "PEND") for cpu in range(CPUS)]


@cache
def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def is_stream(path: Path) -> bool:
    with gzip.open(path) as file:
        return file.read(12) == b"#its stream:"


ONE_VM = [path for path in sorted(TRACES.glob("kvm-*.txt.gz")) if "two-vms" not in path.name]
STREAMS = [path for path in ONE_VM if is_stream(path)]


def reader_of(text: str) -> Reader:
    _, found = split(text.encode(errors="replace"))
    ((header, events),) = found.values()
    out = io.BytesIO()
    writer = Writer(out, header, bound_ms=0)
    for event in events:
        writer.add(event)
    writer.close()
    return Reader(io.BytesIO(out.getvalue()), "the.itstrace")


def model_of(reader: Reader) -> KvmModel:
    assert reader.header.profile is not None
    return KvmModel(reader.header, find(reader.header.profile)[0])


def resets_of(text: str) -> list[ResetVerdict]:
    reader = reader_of(text)
    verifier, engine = verify(reader, model_of(reader))
    assert engine.tally.divergences == []
    return verifier.resets


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.name)
def test_no_output_of_a_real_stream_diverges(path: Path) -> None:
    reader = reader_of(text_of(path))
    tally = Engine(reader, model_of(reader), invariants=True).run()
    assert tally.divergences == []
    assert tally.matched > 9 * tally.assumed
    assert reader.header.starts == "power_on"
    assert "command.queue_offset" not in reader.header.guessed


def test_a_stream_is_counted_as_its_text_counts_it() -> None:
    text = text_of(RESET)
    _, found = split(text.encode())
    ((_, events),) = found.values()
    count = {kind: sum(kind_name(each[0]) == kind for each in events) for kind in
             ("command", "save", "save_pending", "reset", "lpi.live", "loss", "source.gap")}  # fmt: skip
    assert count["command"] == len(re.findall(r" rd: ", text)) > 80
    assert count["save"] == len(re.findall(r": set_attr: .* group=4 attr=0x1 ", text)) == 2
    assert count["reset"] == len(re.findall(r": set_attr: .* group=4 attr=0x4 ", text)) == 2
    assert count["save_pending"] == len(re.findall(r": gset_attr: .* group=4 attr=0x3 ", text)) == 2
    assert count["lpi.live"] == len(re.findall(r" its: sample [0-9]+ lpi ", text)) > 0
    assert (count["loss"], count["source.gap"]) == (0, 0)


def test_every_value_that_qemu_was_given_is_a_read_with_a_result() -> None:
    text = text_of(RESET)
    _, found = split(text.encode())
    ((_, events),) = found.values()
    for name, kind in (("get_attr", "reg.read"), ("gget_attr", "gicr.read")):
        group = 8 if name == "get_attr" else 5
        attrs = re.findall(rf": {name}: .* group={group} attr=(0x[0-9a-f]+)", text)
        offsets = [int(attr, 16) & 0xFFFFFFFF for attr in attrs]
        asked = [each for each in offsets if group == 8 or each in (0, 0x70, 0x74, 0x78, 0x7C)]
        shown = [
            fields_of(after)["errno"]
            for each, after in pairwise(events)
            if kind_name(each[0]) == kind and fields_of(each)["origin"] == 1
        ]
        assert len(shown) == len(asked) > 10
        assert set(shown) == {0}


def test_the_old_guests_lpi_tables_are_stale_after_qemus_system_reset() -> None:
    """F2, named from what QEMU was given, with the old guest's writes as the blame."""
    made, reset = resets_of(text_of(RESET))
    words = reset.statuses()
    assert {name for name, word in words.items() if word == "stale"} == set(TABLES)
    assert (reset.how, reset.unit, made.unit) == ("ctrl_reset", "lpi", "lpi")
    events = [event for _, frame in reader_of(text_of(RESET)) for event in frame]
    for each in reset.components:
        if each.name in TABLES:
            assert each.blame is not None
            blamed = fields_of(events[each.blame])
            assert kind_name(events[each.blame][0]) == "gicr.write"
            assert (blamed["origin"], blamed["cpu"]) == (0, int(each.name[-2]))
            assert each.blame < reset.seq
    assert not {"stale", "suspected"} & set(made.statuses().values())


def test_what_else_the_reset_left_is_verified_or_unspecified() -> None:
    words = resets_of(text_of(RESET))[1].statuses()
    assert {name for name, word in words.items() if word == "unspecified"} == {
        "GITS_BASER0", "GITS_BASER1",
    }  # fmt: skip
    verified = {name for name, word in words.items() if word == "verified"}
    assert {
        "GITS_CTLR",
        "GITS_CBASER",
        "GITS_CREADR",
        "GITS_CWRITER",
        "GITS_IIDR",
        "lpis",
    } <= verified
    assert {f"GICR_CTLR[{cpu}]" for cpu in range(CPUS)} <= verified


@pytest.mark.parametrize("start", [1_000, 3_000, 6_000, 9_000, 12_000, 14_000])
def test_a_stream_that_is_joined_in_its_middle_never_diverges(start: int) -> None:
    """From any line on: what the lines before it told is unknown, and no finding."""
    lines = text_of(RESET).splitlines(True)
    facts = "".join(each for each in lines[:20] if each.startswith("#its "))
    reader = reader_of(facts + "".join(lines[start:]))
    assert reader.header.starts == "running"
    model = model_of(reader)
    tally = Engine(reader, model, invariants=True).run()
    assert tally.divergences == []
    assert tally.learned > 0


def test_a_joined_stream_still_names_what_is_stale_and_that_it_was_there_before() -> None:
    lines = text_of(RESET).splitlines(True)
    facts = "".join(each for each in lines[:20] if each.startswith("#its "))
    (reset,) = resets_of(facts + "".join(lines[4_000:]))
    stale = [each for each in reset.components if each.name in TABLES]
    assert {each.status(strict=False) for each in stale} == {"stale"}
    assert all(reset.planted_before(each) for each in stale)


@pytest.mark.parametrize("seed", range(2))
def test_a_mutated_stream_is_replayed_and_judged_without_an_error_of_ours(seed: int) -> None:
    rng = random.Random(seed)
    whole = text_of(RESET).splitlines()
    ours = [each for each in whole if "kvm_mmio" not in each or " gpa 0x80" in each]
    judged = 0
    for _ in range(12):
        at = rng.randrange(len(ours))
        lines = ours[:6] + ours[at : at + rng.randrange(200, 2000)]
        for _ in range(rng.randrange(1, 60)):
            mutate(rng, lines)
        _, found = split("\n".join(lines).encode(errors="replace"))
        if len(found) != 1:
            continue
        reader = reader_of("\n".join(lines))
        model = KvmModel(reader.header, find("linux-6.1.192")[0])
        verifier, engine = verify(reader, model)
        assert model.state()["digest"]
        assert all(reset.statuses() for reset in verifier.resets)
        judged += engine.tally.outputs > 0
    assert judged > 3
