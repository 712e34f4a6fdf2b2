"""`export --to qtest`: the printed line, run by sh, asks a real QEMU and shows what differs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from replay import cli
from replay.export.plot import Plot
from replay.export.qtest_shell import export
from tests.replay.test_export_kvm_c import HOSTILE
from tests.support.captures import TRACES
from tracer.errors import UsageError
from tracer.events import make
from tracer.log.header import Header

SCENARIOS = Path(__file__).parents[2] / "traces/scenarios"
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-aarch64") is None, reason="qemu-system-aarch64 is not installed"
)
ANSWER = re.compile(r"^# (OK 0x[0-9a-f]+)  event \d+: ", re.MULTILINE)
HEAD = """\
# itstrace: 1
# profile: "qemu-7.2.22"
# cpus: 1
# ram_ranges: [[1073741824, 67108864]]
# guest_ram: "complete"
"""
# An MSI of a device that is mapped sets its bit in the pending table.
MSI = (
    HEAD
    + """\
. +0 mem.write gpa=0x40400000 data=a1
. +0 gicr.write cpu=0 offset=0x70 value=0x4040000f size=4
. +0 gicr.write cpu=0 offset=0x78 value=0x40500000 size=4
. +0 gicr.write cpu=0 offset=0x0 value=0x1 size=4
. +0 reg.write offset=0x100 value=0x8000000040100000
. +0 reg.write offset=0x108 value=0x8000000040200000
. +0 reg.write offset=0x80 value=0x8000000040300000
. +0 reg.write offset=0x0 value=0x1 size=4
. +0 mem.write gpa=0x40300000 data=MAPD(device_id=0x9,size=0x3,itt_addr=0x40600000,v=0x1)
. +0 mem.write gpa=0x40300020 data=MAPC(v=0x1)
. +0 mem.write gpa=0x40300040 data=MAPTI(device_id=0x9,event_id=0x2,pintid=0x2000)
. +0 reg.write offset=0x88 value=0x60
. +0 msi device_id=0x9 event_id=0x2
. +0 mem.read cause=1 gpa=0x40500400 data=u64(0x1)
. +0 reg.read offset=0x90 value=0x60
"""
)
# Bits 63:20 of CWRITER are RES0 (IHI 0069, GITS_CWRITER); QEMU 7.2.22 keeps what is written there.
CWRITER = (
    HEAD
    + """\
. +0 reg.write offset=0x88 value=0x100000020
. +0 reg.read offset=0x88 value=0x20
. +0 reg.read offset=0x0 value=0x80000000 size=4
"""
)


def exported(trace, tmp_path):
    made = tmp_path / "reproducer.sh"
    assert cli.main(["export", str(trace), "--to", "qtest", "-o", str(made)]) == 0
    return made


def answers(script):
    """Return what the script says was recorded, and what QEMU answers to it."""
    done = subprocess.run(
        ["timeout", "60", "sh", str(script)], capture_output=True, text=True, cwd=script.parent,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return ANSWER.findall(script.read_text()), done.stdout.splitlines()


def written(text, tmp_path):
    path = tmp_path / "a.its.txt"
    path.write_text(text)
    return path


@needs_qemu
@pytest.mark.parametrize("name", ["Q7-movall", "S13-Q2-enable-runs-the-queue-again"])
def test_a_clean_trace_shows_no_difference(name, tmp_path):
    recorded, got = answers(exported(SCENARIOS / f"{name}.its.txt", tmp_path))
    assert got == recorded
    assert len(got) >= 3


@needs_qemu
def test_an_msi_is_sent_by_a_device_of_qemus_own(tmp_path):
    script = exported(written(MSI, tmp_path), tmp_path)
    said = "#   0x40300040 MAPTI DeviceID=0x9 EventID=0x2 pINTID=0x2000 ICID=0x0\n"
    assert said in script.read_text()
    recorded, got = answers(script)
    assert got == recorded == ["OK 0x0100000000000000", "OK 0x0000000000000060"]


@needs_qemu
def test_a_system_reset_stands_between_two_parts(tmp_path):
    recorded, got = answers(exported(SCENARIOS / "S01-qemu-system-reset.its.txt", tmp_path))
    assert got == recorded
    assert got[0] == "OK 0x0000000000000060"  # CREADR before it
    assert "OK 0x0107000000000200" in got  # BASER0 behind it
    assert not list(tmp_path.glob("qmp.*"))


@needs_qemu
def test_a_device_is_set_up_again_behind_a_reset(tmp_path):
    head, life = MSI[: len(HEAD)], MSI[len(HEAD) :]
    zeroed = ". +0 mem.write gpa=0x40500400 data=u64(0x0)\n"
    text = f"{head}{life}. +0 reset how=system\n{zeroed}{life}"
    recorded, got = answers(exported(written(text, tmp_path), tmp_path))
    assert got == recorded == ["OK 0x0100000000000000", "OK 0x0000000000000060"] * 2


@needs_qemu
def test_two_boots_of_a_real_guest_are_answered_as_they_were(tmp_path):
    capture = SCENARIOS.parent / "qemu-7.2.22-linux-6.1-two-boots.log"
    trace = tmp_path / "a.itstrace"
    assert cli.main(["import", str(capture), "-o", str(trace)]) == 0
    recorded, got = answers(exported(trace, tmp_path))
    assert got == recorded
    assert len(got) == 295


@needs_qemu
def test_a_bug_of_the_installed_qemu_is_seen_in_its_answer(tmp_path):
    version = subprocess.run(
        ["qemu-system-aarch64", "--version"], capture_output=True, text=True, check=True
    ).stdout
    if " 7.2." not in version:
        pytest.skip(f"measured on 7.2 only: {version.splitlines()[0]}")
    recorded, got = answers(exported(written(CWRITER, tmp_path), tmp_path))
    assert recorded == ["OK 0x0000000000000020", "OK 0x0000000080000000"]
    assert got == ["OK 0x0000000100000020", "OK 0x0000000080000000"]


def test_where_the_model_answers_otherwise_its_answer_stands_there(tmp_path):
    text = CWRITER.replace("0x80000000 size=4", "0x1 size=4")
    script = exported(written(text, tmp_path), tmp_path).read_text()
    expected = "(readl 0x8080000); the model of qemu-7.2.22 expects 0x80000000"
    assert expected in script
    assert script.count("expects") == 2  # it stores what is written to CWRITER, as QEMU does


# -- what cannot be said


def header_of(**changes):
    usual = {
        "cpus": 1, "profile": "qemu-7.2.22", "guest_ram": "complete",
        "ram_ranges": [[0x40000000, 1 << 26]],
    }  # fmt: skip
    return Header(**(usual | changes))


READ = make("reg.read", 0, offset=0, value=0, size=4)


@pytest.mark.parametrize(
    ("header", "events", "why"),
    [
        (header_of(profile="linux-6.1.192"), [READ], "not QEMU's"),
        (header_of(starts="running"), [READ], "in the middle"),
        (header_of(profile=None), [make("save", 0), READ], "QEMU has no save"),
        (header_of(), [READ, make("reset", 0, how=0), READ], "reset of the kind power_on"),
        (header_of(), [READ, make("reset", 0, how=2)], "reset of the kind ctrl_reset"),
        (header_of(), [make("reg.write", 0, offset=0, value=0)], "nothing in it can be asked"),
    ],
)
def test_what_would_show_nothing_is_told(header, events, why):
    result = export(header, Plot("outputs", events, range(len(events)), range(0)))
    assert why in str(result.meaningless)


def test_what_no_line_can_be_is_counted(tmp_path, capsys):
    text = MSI + ". +0 msi device_id=0x12345 event_id=0x2\n. +0 lpi cause=1 intid=8192 cpu=0\n"
    exported(written(text, tmp_path), tmp_path)
    assert "1 lpi, 1 msi that no line of qtest can be" in capsys.readouterr().err


def test_a_trace_that_is_too_long_is_refused():
    plot = Plot("outputs", [READ] * 20_001, range(20_001), range(0))
    with pytest.raises(UsageError, match="a shell line takes 20000 events"):
        export(header_of(), plot)


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_stays_in_its_comment(text):
    header = header_of(host=text, command_line=[text], annotations={"note": text})
    plot = Plot("outputs", [READ], range(1), range(0), None, "", "shows " + text, [text])
    script = export(header, plot).text
    assert script.isascii()
    lines = script.splitlines()
    begin = next(at for at, line in enumerate(lines) if line.startswith("cat << EOF | qemu"))
    assert all(line.startswith("#") for line in lines[:begin])
    end = lines.index("EOF", begin)
    assert all(
        re.fullmatch(r"(read|write)[lwbq]? [0-9a-fx ]+", each) for each in lines[begin + 1 : end]
    )
    assert all(line.startswith("#") for line in lines[end + 1 :])
    assert "\\" not in script


def test_the_model_has_the_flags_of_the_header(tmp_path):
    text = (TRACES / "scenarios" / "Q7-movall.its.txt").read_text()
    flags = '# flags: {"movall_implemented": [false, "assumed"]}\n# profile:'
    for name, each in (("with", text), ("without", text.replace("# profile:", flags))):
        (tmp_path / name).mkdir()
        script = exported(written(each, tmp_path / name), tmp_path / name).read_text()
        assert ("expects" in script) == (name == "without")
