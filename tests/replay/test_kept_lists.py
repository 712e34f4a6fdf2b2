"""What inputs changed, said by the model: nothing is missing, and who asks seldom misses nothing either.

HYPOTHESIS_PROFILE=deep does so over every trace, vectors and many more lives.
"""

from __future__ import annotations

import ast
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from replay.generator.answers import answered, header_of
from replay.generator.guest import CTLR, DEVICE_IDS, DEVICES, LEVEL1
from replay.generator.life import Life
from replay.judge import model_of
from replay.kept_lists import KeptLists
from replay.model import touched
from replay.model.kvm.layout import VALID
from replay.model.kvm.tables import add_device
from replay.model.memory import GuestRam
from replay.profiles import find
from tests.support import scenarios
from tests.support.busy_lives import busy_life
from tests.support.captures import TRACES
from tests.support.compiled import pure_only
from tests.support.whole_states import (
    PROFILES,
    WAYS,
    AgainstTheWhole,
    Frames,
    InRam,
    life,
    watched,
    watched_trace,
)
from tracer.events import make
from tracer.log.header import Header

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SEEDS, EVENTS = (40, 2000) if DEEP else (1, 150)


@pytest.mark.parametrize("how", WAYS)
def test_generated_lives(how):
    for seed in range(SEEDS):
        for at in range(len(PROFILES)):
            name = PROFILES[(at + WAYS.index(how)) % len(PROFILES)]
            profile = narrow(find(name)[0]) if at % 2 else find(name)[0]
            found = watched(life(seed * 100 + at, name, how, EVENTS), profile, AgainstTheWhole)
            assert found.looks, name


@pytest.mark.parametrize(("name", "devices"), [("linux-6.1", 10), ("qemu-7.2.22", 2)])
def test_a_guest_in_use_fills_its_cache_and_has_lpis_pending(name, devices):
    """Of QEMU not all RAM is seen, so that a pending bit is known by itself."""
    header, events = busy_life(name, devices, 1)
    first = list(islice(events, 1000))
    found = watched(
        Frames(replace(header, guest_ram="observed"), first),
        narrow(find(name)[0]),
        AgainstTheWhole,
    )
    assert found.looks > len(first) // 4


class OneItt(Life):
    """A guest that gives all its devices one ITT, or its tables' own memory for it."""

    def __init__(self, seed, profile):
        super().__init__(seed, profile)
        self.two_levels = True

    def itt(self, device_id):
        return super().itt(DEVICE_IDS[0]) if device_id != DEVICE_IDS[2] else DEVICES

    def msi(self, device_id, event_id):
        if self.dice.chance(20):
            self.mapd(DEVICE_IDS[1], 4)
        if self.two_levels and self.dice.chance(20):
            self.store(LEVEL1, 0)
            self.level1()
        super().msi(device_id, event_id)


@pytest.mark.parametrize("name", ["qemu-7.2.22", "qemu-10.0.13-gicv4", "linux-6.1"])
@pytest.mark.parametrize("ram", ["complete", "observed"])
def test_tables_that_share_their_memory(name, ram):
    profile = find(name)[0]
    for seed in range(SEEDS):
        header = header_of(seed, profile, EVENTS)
        asked = OneItt(seed, profile).lived(EVENTS)
        events = list(answered(asked, model_of(header, profile), frozenset()))
        reader = Frames(replace(header, guest_ram=ram), events)
        assert watched(reader, profile, AgainstTheWhole).looks > EVENTS


def test_events_go_with_their_device():
    profile = find("qemu-7.2.22")[0]
    guest = Life(0, profile)
    guest.tables()
    guest.write(CTLR, 1)
    guest.mapc(0, 0)
    guest.mapd(8, 4)
    guest.mapti(8, 1, 8192, 0)
    guest.mapti(8, 2, 8200, 0)
    guest.command(0x8 | 8 << 32)  # MAPD without Valid
    model = model_of(header_of(0, profile, EVENTS), profile)
    lists = InRam(model)
    lists.begin()  # as where a recording is joined
    counts = []
    for event in guest.events:
        model.apply(event, ())
        lists.look(event, seldom=True)
        counts.append(len(lists.kept.now["events"]))
    assert max(counts) == 2
    assert counts[-1] == 0


@pytest.mark.parametrize("change", [
    lambda ram: ram.remove_slot(0x1000, 0x1000), lambda ram: ram.restore(GuestRam().snapshot()),
])  # fmt: skip
def test_where_ram_is_another_anything_may_be_told_otherwise(change):
    ram = GuestRam([(0x1000, 0x1000)])
    ram.stored = touched.Touched()
    since = ram.stored.reader()
    ram.store64(0x1008, 1)
    assert since.taken() == {"words": {0x402, 0x403}}
    change(ram)
    assert since.taken() is None


def narrow(profile):
    """Return a profile whose translation cache is soon full, where it has a list."""
    if profile.family != "kvm" or profile.choices.translation_cache_entries_per_vcpu <= 0:
        return profile
    choices = replace(profile.choices, translation_cache_entries_per_vcpu=1)
    return replace(profile, choices=choices)


def test_traces():
    paths = [*scenarios.paths(), *sorted(TRACES.glob("bugs/*/*.its.txt"))]
    found = [watched_trace(str(path), AgainstTheWhole) for path in paths]
    assert sum(each.changes > 0 for each in found if each) > 40


# What lists show of a state, and its containers: who writes into one says which key that was.
SHOWN = {"pending", "target", "queued", "refs", "shown", "collection"}
CONTAINERS = {"devices", "events", "collections", "cache", "lpis"}
MODEL = Path(__file__).parents[2] / "replay/model/kvm"
# They make a state, or write into one that nobody watches yet: `restore` says so.
WHOLE = {
    ("state.py", "restore_state"),
    ("state.py", "_restored_lpi"),
    ("state.py", "_restored_device"),
}
OTHERS = {("save.py", "_save_events"), ("lpi.py", "_sync_pending")}  # it sorts; its caller notes
NOTES = ("touch", "hold(state", "put_lpi(state", "point_collection(state")  # who note it themselves


def writes(node):
    """Yield the names of attributes that a statement writes, or writes into."""
    targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else []
    targets = [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else targets
    for target in (each for top in targets for each in ast.walk(top)):
        if isinstance(target, ast.Attribute) and target.attr in SHOWN | CONTAINERS:
            yield target.attr
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"pop", "append", "remove", "clear", "update", "setdefault", "insert"}
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr in CONTAINERS
    ):
        yield node.func.value.attr


def test_whoever_writes_what_lists_show_notes_it_in_the_same_function():
    writers = {}
    for path in sorted(MODEL.glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name != "__init__":
                found = {name for node in ast.walk(function) for name in writes(node)}
                if found:
                    text = ast.unparse(function)
                    writers[path.name, function.name] = any(each in text for each in NOTES)
    assert len(writers) > 20
    assert {each for each, notes in writers.items() if not notes} == WHOLE | OTHERS


def test_saving_says_which_of_two_devices_with_one_id_counts_now():
    """Such a kernel's restore does not ask what is there; its save sorts them."""
    header = Header(source="test", profile="linux-5.4", cpus=2, guest_ram="complete")
    model = model_of(header, find("linux-5.4")[0])
    kept = KeptLists(model)
    model.vm.state.device_baser |= VALID
    for itt in (0x1000, 0x2000):
        add_device(model.vm.state, 8, itt, 4)
    kept.look()
    assert kept.now["devices"][8]["itt_addr"] == 0x2000
    model.apply(make("save", 0), ())
    assert kept.look()
    assert kept.now == model.structures()
    assert kept.now["devices"][8]["itt_addr"] == 0x1000


class Model:
    """As much of a model as keeps lists."""

    def __init__(self):
        self.lists = {"devices": {}, "events": {}}
        self.touched = touched.Touched()

    def structures(self):
        return {name: dict(kept) for name, kept in self.lists.items()}

    def value(self, component, key):
        return self.lists[component].get(key)

    def touched_since(self):
        return self.touched.reader()

    def put(self, key):
        self.lists["devices"][key] = key
        self.touched.devices.add(key)
        self.touched.carried_out(ran=False)


def test_one_who_asks_takes_nothing_from_another():
    model = Model()
    first, second = KeptLists(model), KeptLists(model)
    model.put(1)
    assert [each.key for each in first.look()] == [1]
    model.put(2)
    assert [each.key for each in second.look()] == [1, 2]
    assert [each.key for each in first.look()] == [2]
    assert first.look() == second.look() == []


@pure_only
def test_more_keys_than_anybody_wants_to_look_up_are_all_of_them(monkeypatch):
    monkeypatch.setattr(touched, "MAX_KEYS", 10)
    model = Model()
    kept = KeptLists(model)
    for key in range(1000):
        model.put(key)
    assert len(model.touched.devices) <= 10
    assert kept._since.taken() is None
    model.put(1000)
    kept._again["devices"] = set(range(1000))
    assert len(kept.look()) == 1001
    assert kept.now == model.lists


def test_what_was_not_looked_at_goes_on_being_so_in_a_copy():
    model = Model()
    model.put(1)
    kept = KeptLists(model)
    model.put(2)
    del model.lists["devices"][1]
    model.touched.devices.add(1)
    assert kept.behind == kept.behind == {"devices": {2: None, 1: 1}}
    other = KeptLists.__new__(KeptLists)
    other.model, other.behind = model, kept.behind
    assert kept.now == other.now == {"devices": {1: 1}, "events": {}}
    assert kept.look() == other.look() != []
    assert kept.now == other.now == {"devices": {2: 2}, "events": {}}
