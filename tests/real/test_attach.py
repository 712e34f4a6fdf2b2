"""`record qemu --attach` with a real QEMU that runs already: joined, left, and left as it was.

Needs qemu-system-aarch64 and nothing else: the guest is `bare_metal`.
"""

from __future__ import annotations

import signal
from time import sleep

import pytest

from replay import cli
from tests.real.test_probe_resets import FOR_EVER, expected, looked_at, runs_on
from tests.support.bare_metal import image
from tests.support.recorded_vm import itstrace, needs_qemu, read, resets, until
from tracer.events import PROBE, SYSTEM

pytestmark = needs_qemu

SPIN = 1_000_000  # a guest that logs without a pause is faster than a file can be followed


@pytest.fixture
def join(tmp_path):
    """Return a function that joins a VM; the recorder is gone at the end."""
    started = []

    def make(vm, *options):
        words = ("record", "qemu", "--attach", "--qmp", vm.other, "--log", vm.log)
        started.append(itstrace(*words, "-o", vm.trace, "--bound-ms", "50", *options))
        until(lambda: vm.trace.exists() and vm.trace.stat().st_size > 1000)
        return started[-1]

    yield make
    for recorder in started:
        with recorder:
            recorder.kill()


@pytest.fixture
def running(start, tmp_path):
    """Return a function that starts a VM which nobody records, with a second monitor."""

    def make(*options, code=None, **more):
        other = tmp_path / "other"
        vm = start(
            "-qmp",
            f"unix:{other},server=on,wait=off",
            *options,
            code=code or image(spin=SPIN),
            record=None,
            **more,
        )
        vm.connect()
        vm.other = other
        vm.log = tmp_path / "log"
        until(lambda: vm.lives() > 20)
        return vm

    return make


def leave(recorder):
    recorder.send_signal(signal.SIGINT)
    _, said = recorder.communicate(timeout=30)
    assert recorder.returncode == 0, said
    return said


def events_on(vm):
    found = vm.ask("trace-event-get-state", name="gicv3_its_*")
    found += vm.ask("trace-event-get-state", name="resettable_phase_hold_exec")
    return [each["name"] for each in found if each["state"] == "enabled"]


def joined(path):
    """Check what every trace of a joined VM holds; return its events."""
    status, header, events = read(path)
    assert status == "clean"
    assert header.starts == "running"
    assert header.cpus == 1
    assert next(name for name, _ in events if name != "marker") == "probe"
    end = next(at for at, (name, fields) in enumerate(events) if name == "probe" and fields["edge"])
    ours = [
        (fields.get("cpu"), fields["offset"], fields["size"])
        for name, fields in events[:end]
        if fields.get("origin") == PROBE
    ]
    assert sorted(ours, key=str) == expected(1)
    assert not any(fields["perturbing"] for name, fields in events[: end + 1] if name == "probe")
    return events


@pytest.mark.parametrize("named", [False, True])
def test_a_running_vm_is_joined_and_left(running, join, tmp_path, named):
    log = tmp_path / "log"
    vm = running(*(("-D", log) if named else ()))
    recorder = join(vm)
    assert events_on(vm)
    until(lambda: vm.trace.stat().st_size > 10_000)
    before = vm.lives()
    leave(recorder)
    assert vm.status() == "running"
    assert vm.lives() > before
    assert events_on(vm) == []
    assert log.exists() is named
    events = joined(vm.trace)
    assert sum(name == "command" for name, _ in events) > 100
    assert resets(events) == []
    ours = [fields for _, fields in events if fields.get("origin") == PROBE]
    assert len(ours) == len(expected(1))  # a guest's reads are not taken for ours


def test_a_reset_of_a_joined_vm_is_looked_at_when_asked_for(running, join):
    vm = running()
    recorder = join(vm)
    assert cli.main(["reset", str(vm.trace)]) == 0
    before = vm.lives()
    until(lambda: vm.lives() > before + 20)
    vm.ask("system_reset")
    sleep(0.2)
    leave(recorder)
    events = joined(vm.trace)
    assert resets(events) == [SYSTEM, SYSTEM]
    (_, asked), (_, passed) = looked_at(events)
    assert sorted(asked, key=str) == expected(1)
    assert passed == []


def test_every_reset_of_a_joined_vm_can_be_looked_at(running, join):
    vm = running(code=image(FOR_EVER, spin=SPIN))
    recorder = join(vm, "--probe-resets")
    before = vm.lives()
    until(lambda: vm.lives() > before + 5)
    leave(recorder)
    runs_on(vm)
    events = joined(vm.trace)
    assert len(resets(events)) > 3
    assert set(resets(events)) == {SYSTEM}
    looks = [sorted(after, key=str) for _, after in looked_at(events)]
    first, last = looks.index(expected(1)), len(looks) - looks[::-1].index(expected(1))
    assert last - first > 3
    assert looks[first:last] == [expected(1)] * (last - first)


def test_events_that_were_on_stay_on(running, join):
    vm = running("-trace", "gicv3_its_write")
    leave(join(vm))
    assert events_on(vm) == ["gicv3_its_write"]


@pytest.mark.parametrize("probe", [[], ["--probe-resets"]])
def test_a_killed_recorder_leaves_a_vm_as_it_was(running, join, probe):
    vm = running(code=image(FOR_EVER, spin=SPIN))
    recorder = join(vm, *probe)
    recorder.kill()
    recorder.wait()
    until(lambda: events_on(vm) == [])
    runs_on(vm)


def test_a_killed_qemu_leaves_a_whole_trace(running, join):
    vm = running()
    recorder = join(vm)
    vm.recorder.kill()
    _, said = recorder.communicate(timeout=30)
    assert recorder.returncode in (0, 3), said  # 3 when it was in the middle of a write
    joined(vm.trace)


def test_what_cannot_be_joined_is_said(tmp_path, capsys):
    words = ["record", "qemu", "-o", str(tmp_path / "t"), "--attach"]
    log = tmp_path / "log"
    nobody = tmp_path / "nobody"
    assert cli.main([*words, "--qmp", str(nobody), "--log", str(log)]) == 2
    assert f"{nobody}: No such file or directory" in capsys.readouterr().err
    assert not log.exists()
    assert not (tmp_path / "t").exists()
