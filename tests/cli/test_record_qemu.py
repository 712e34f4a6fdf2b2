"""What `record qemu` makes of the monitor's answers; recording itself is in tests/real."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from replay import cli
from replay.commands.record_header import make_header
from replay.profiles import PROFILES
from tracer.sources.qemu_machine import Machine


@pytest.mark.parametrize(
    ("numbers", "profile", "guessed"),
    [
        ((6, 1, 0), "qemu-6.2", True),
        ((7, 2, 21), "qemu-6.2", True),
        ((7, 2, 22), "qemu-7.2.22", False),
        ((9, 2, 0), "qemu-7.2.22", True),
        ((10, 0, 13), "qemu-10.0.13", False),
        ((11, 0, 0), "qemu-10.0.13", True),
    ],
)
def test_the_version_names_a_profile(numbers, profile, guessed):
    header = make_header(b"", Machine(version=numbers, cpus=2))
    assert header.profile == profile in PROFILES
    assert ("profile" in header.guessed) is guessed
    assert header.implementation_version == ".".join(map(str, numbers))
    assert "implementation_version" not in header.guessed
    assert header.cpus == 2


@pytest.mark.parametrize(
    ("properties", "profile"),
    [
        ({"gic-version": "4"}, "qemu-10.0.13-gicv4"),
        ({"gic-version": "max", "virtualization": True}, "qemu-10.0.13-gicv4"),
        ({"gic-version": "max", "virtualization": False}, "qemu-10.0.13"),
        ({"gic-version": "3", "virtualization": True}, "qemu-10.0.13"),
    ],
)
def test_the_machine_names_a_profile(properties, profile):
    machine = Machine(version=(10, 0, 13), properties=properties)
    assert make_header(b"", machine).profile == profile


def test_what_is_not_known_stays_a_guess():
    header = make_header(b"", Machine())
    assert {"implementation", "implementation_version", "profile", "its_bases"} <= set(
        header.guessed
    )
    assert header.cpus is None


def test_what_is_known_is_no_guess():
    machine = Machine(
        version=(7, 2, 22),
        kvm=False,
        cpus=2,
        mpidrs=[0, 1],
        its_base=0x9000000,
        ram=[(0x40000000, 0x1000)],
        properties={"type": "virt-7.2-machine", "gic-version": "3", "its": True},
    )
    header = make_header(b"", machine)
    assert header.guessed == ["reset.how"]
    assert header.its_bases == [0x9000000]
    assert header.mpidrs == [0, 1]
    assert header.ram_ranges == [[0x40000000, 0x1000]]
    assert header.annotations == {
        "qemu.accelerator": "tcg",
        "qemu.gic-version": "3",
        "qemu.type": "virt-7.2-machine",
    }


def test_on_kvm_it_is_the_kernels_its(monkeypatch):
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(release="6.1.0-56-arm64"))
    proc = (
        b"Linux version 6.1.0-56-arm64 (gcc-12 (Debian 12.2.0-14) 12.2.0) #1 SMP Debian 6.1.192-2\n"
    )
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda self: proc)
    header = make_header(b"", Machine(version=(7, 2, 22), kvm=True, properties={}))
    assert header.implementation == "linux-kvm"
    assert header.implementation_version == "6.1.192"
    assert header.profile == "linux-6.1.192"
    assert {"profile"} <= set(header.guessed)
    assert not {"implementation", "implementation_version"} & set(header.guessed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give -- and QEMU's command line"),
        (["--log", "x", "--", "qemu"], "give -- and QEMU's command line"),
        (["--attach", "--qmp", "x"], "--attach takes --qmp SOCKET and --log FILE"),
        (["--attach", "--qmp", "x", "--log", "y", "--", "qemu"], "and no command"),
        (["--skip-probe", "GITS_BASER9", "--", "qemu"], "'GITS_BASER9' is not probed; these are"),
        (["--probe-resets", "--", "qemu", "-no-reboot"], "-no-reboot cannot be given"),
        (["--probe-resets", "--", "qemu", "--action", "x"], "--action cannot be given"),
        (["-o", "-", "--", "qemu"], "standard output belongs to the VM"),
    ],
)
def test_a_wrong_call_is_refused(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["record", "qemu", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_reset_needs_a_recorder(tmp_path, capsys):
    trace = tmp_path / "t.itstrace"
    assert cli.main(["reset", str(tmp_path / "no folder" / "t.itstrace")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert cli.main(["reset", str(trace)]) == 2
    assert "no `itstrace record qemu` of this machine is writing it" in capsys.readouterr().err
