"""Objects as bytes and back: what is shared stays shared, and nothing is built but what was named."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

import pytest

from replay import graph, watched
from replay.judge import model_of, profile_named
from replay.verify import Verifier
from tests.support.scenarios import SCENARIOS
from tracer.log.checks import PayloadError
from tracer.log.opening import open_trace


@dataclass
class Node:
    name: str
    others: list


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class Other:
    pass


CLASSES = {Node: ("name", "others"), Point: ("x", "y")}


def again(value, **more):
    return graph.unpacked(graph.packed(value, CLASSES, **more), CLASSES)


@pytest.mark.parametrize(
    "value",
    [
        None, True, -1, 1 << 100, -(1 << 70), "\udcff", b"\x00", (), (1, ("a",)), [], {},
        {(1, 2): {"a": None}, "b": [b""]}, {3, 1, 2}, Point(1, 2), [Point(1, 2)] * 2,
    ],
)  # fmt: skip
def test_a_value_comes_back(value):
    found = again(value)
    assert found == value
    assert type(found) is type(value)


def test_what_is_shared_stays_shared_and_a_circle_one():
    first, second = Node("first", []), Node("second", [])
    first.others += [second, second, first]
    found = again({"a": first, "b": [second]})
    assert found["a"].others[0] is found["a"].others[1] is found["b"][0]
    assert found["a"].others[2] is found["a"]


def test_what_never_changes_makes_no_difference_by_being_one():
    point = Point(1, 2)
    assert graph.packed([point, point], CLASSES) == graph.packed([point, Point(1, 2)], CLASSES)


def test_of_a_log_the_last_item_is_packed():
    log = [Node("old", []), Node("new", [])]
    found = again({"log": log, "last": log[-1]}, logs=[log])
    assert [each and each.name for each in found["log"]] == [None, "new"]
    assert found["log"][-1] is found["last"]


def test_a_class_that_was_not_named_and_an_attribute_that_was_not_are_refused():
    with pytest.raises(TypeError, match="Other is none of the classes"):
        again([Other()])
    node = Node("more", [])
    node.extra = 1
    with pytest.raises(TypeError, match="Node has extra too"):
        again(node)


def test_bytes_that_were_changed_give_a_value_or_a_payload_error():
    rng = random.Random(7)
    raw = graph.packed({"a": Node("n", [Point(1, 2), {1, 2}, (3,)])}, CLASSES)
    for _ in range(2000):
        data = bytearray(raw)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            graph.unpacked(bytes(data[: rng.randrange(len(data) + 1)]), CLASSES)
        except PayloadError:
            continue


def test_every_attribute_of_a_verifier_and_its_own_is_named():
    with open_trace(str(SCENARIOS / "F1-lpi-outlives-ctrl-reset.its.txt")) as reader:
        named = profile_named(None, reader.header)
        verifier = Verifier(model_of(reader.header, named[0]))
    for each in (
        verifier, verifier.writers, verifier._evidence, verifier._hand_over,
        verifier._pause, verifier._trips,
    ):  # fmt: skip
        assert vars(each).keys() <= set(watched.STATE[type(each)])
    for kind in watched.VERDICTS:
        assert watched.VERDICTS[kind] == tuple(each.name for each in fields(kind))
