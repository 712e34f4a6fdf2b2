"""`blame` names the right event: in every scenario, as somebody found by reading it."""

from __future__ import annotations

import io
import itertools
import json

import pytest

from replay.blame import Blamer
from replay.cli import main
from replay.components import parse_target
from replay.corpus import trace_name
from replay.engine import Engine
from replay.history import History
from replay.judge import model_of
from replay.manifest import manifest_path, read_manifest
from replay.profiles import find
from replay.verify import Verifier
from tests.support.planting import COMPONENTS, KINDS, life
from tests.support.scenarios import paths
from tracer.log.text import TextReader, write_text

TRACES = paths()


def blame(capsys, *args):
    code = main(["blame", "--json", *map(str, args)])
    out = capsys.readouterr()
    return code, json.loads(out.out) if out.out else out.err


@pytest.mark.parametrize("trace", TRACES, ids=trace_name)
def test_the_right_event_is_named_in_every_scenario(trace, capsys):
    planted = read_manifest(manifest_path(trace)).planted
    code, answer = blame(capsys, trace, planted.component)
    assert code == 0
    act = answer["written"] if answer["present"] else answer["removed"]
    assert (act and act["seq"]) == planted.seq, planted.because
    queued_by = act and act["command"] and act["command"]["queued_by"]
    assert queued_by == planted.queued_by, planted.because
    behind = [*answer["chain"], *([] if act is answer["written"] else [answer["written"]])]
    assert set(planted.behind) <= {each["seq"] for each in behind}


# -- generated lives with something planted in them

IMAGES = ("qemu-7.2.22", "linux-6.1.192", "linux-5.10.223", "linux-7.2.13")
LIVES = 100


def traced(header, events):
    text = io.StringIO()
    write_text(header, enumerate(events), text)
    return TextReader(io.BytesIO(text.getvalue().encode()), "life")


def ask(header, events, component, at):
    profile = find(header.profile)[0]
    model = model_of(header, profile)
    verifier = Verifier(model, writers=History())
    blamer = Blamer(model, verifier, parse_target(component), at)
    engine = Engine(traced(header, events), model, blamer)
    engine.run()
    return blamer.finish(engine.seq, "life")


@pytest.mark.parametrize("image", IMAGES)
def test_what_was_planted_in_a_generated_life_is_found(image):
    profile = find(image)[0]
    found = dict.fromkeys(KINDS, 0)
    for seed in itertools.count():
        if sum(found.values()) == LIVES // len(IMAGES):
            break
        kind = KINDS[seed % len(KINDS)]
        planted_life = life(seed, profile, kind)
        if planted_life is None:
            continue  # it ended before
        header, events, planted, queued_by, asked_at = planted_life
        found[kind] += 1
        blame = ask(header, events, COMPONENTS[kind], asked_at)
        act = blame.writer if kind != "discarded" else blame.record.removed
        assert act.seq == planted, (seed, kind)
        assert blame.present == (kind != "discarded")
        by = act.command and act.command.queued_by
        if kind == "register":  # the upper half was written last, the address is in the lower
            (by,) = (each for each, bits in blame.bits if bits & 0xFFFF_0000)
        assert (by and by.seq) == queued_by, (seed, kind)
    assert all(found.values())
