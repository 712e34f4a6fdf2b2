"""`export --to kvm-c`: files that a strict compiler takes, that assert what they say, hostile input.

That they show bugs on real kernels is held by tests/bugs/test_exported.py; one of them boots here,
too.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from replay import cli
from replay.export import library
from replay.export.c_text import comment, plain, string
from replay.export.kvm_c import export
from replay.export.plot import Plot, plot_of
from tests.support import kselftest
from tests.support.kernels import kernel
from tracer.errors import TracerError, UsageError
from tracer.events import KINDS, make
from tracer.log.header import Header
from tracer.log.opening import open_trace

SCENARIOS = Path(__file__).parents[2] / "traces/scenarios"
F1, F3, F4 = (
    SCENARIOS / f"{name}.its.txt"
    for name in (
        "F1-lpi-outlives-ctrl-reset",
        "S06-K17-F3-mapd-unmap-leaves-its-entry",
        "S09-K23-F4-save-after-mapc-unmap",
    )
)
F5 = SCENARIOS / "F5-baser-keeps-its-address.its.txt"
needs_compiler = pytest.mark.skipif(
    shutil.which(kselftest.COMPILER) is None, reason=f"{kselftest.COMPILER} is not installed"
)


def read(path):
    with open_trace(str(path)) as reader:
        return reader.header, [event for _, frame in reader for event in frame]


def exported(path, how=None, at=None):
    header, events = read(path)
    return export(header, plot_of(events, str(path), how, at))


def by_a_guest(text):
    """Return F1 with the accesses of a VMM made by the guest, as wide as its registers are."""
    lines = []
    for line in text.splitlines():
        if re.search(r"(reg|gicr|gicd)\.(write|read)", line):
            line = line.replace(" origin=vmm", "")
            if re.search(r"reg\.(write|read) offset=0x0 ", line):
                line += " size=4"
        lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.fixture
def guest_f1(tmp_path):
    path = tmp_path / "guest.its.txt"
    path.write_text(by_a_guest(F1.read_text()))
    return path


def compiles(text, tmp_path):
    path = tmp_path / "exported.c"
    path.write_text(text)
    command = [kselftest.COMPILER, *kselftest.FLAGS[1:], "-c", "-o", str(tmp_path / "o"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


# -- what is asked


@pytest.mark.parametrize(
    ("path", "how"), [(F4, "crash"), (F1, "reset"), (F3, "round-trip")], ids=["F4", "F1", "F3"]
)
def test_the_way_follows_from_the_manifest_and_the_events(path, how):
    _, events = read(path)
    assert plot_of(events, str(path), None).how == how


def test_a_trace_without_a_reset_is_held_to_what_was_recorded():
    path = SCENARIOS / "S05-discard-then-msi.its.txt"
    plot = plot_of(read(path)[1], str(path), None)
    assert plot.how == "outputs"
    with pytest.raises(UsageError, match="there is no reset to ask about"):
        plot_of(read(path)[1], str(path), "reset")


def test_a_crash_warns_before_it_and_tells_that_the_host_lives_behind_it():
    text = exported(F4).text
    main = text[text.index("int main(void)") :]
    warning = main.index("dies of this test, in vgic_its_save_tables_v0")
    assert warning < main.index('"the host lives after SAVE_TABLES"')
    assert "WARNING" in text[: text.index("#include")]
    assert "tap_begin(1)" in main


def test_a_reset_is_asked_of_a_vm_with_a_past_and_of_a_fresh_one_with_its_ram():
    text = exported(F1).text
    main = text[text.index("int main(void)") :]
    order = [
        "life(&old)", "reset(&old)", "no_life(&fresh)", "copy_ram(&fresh, &old)",
        "questions(&fresh)", "questions(&old)", "compare_ram(&old, &fresh)",
    ]  # fmt: skip
    assert [main.index(each) for each in order] == sorted(main.index(each) for each in order)
    asked = text[text.index("static void questions") : text.index("int main")]
    # CTLR, LPIs, a save and two parts of RAM; the reset, the last save and all RAM stand beside them
    assert main.count("tap_begin(8)") == 1
    assert asked.count("answer") == 6
    assert asked.index('"at the end: SAVE_PENDING_TABLES"') > asked.index('"event 33: ')
    given = text[text.index("static void no_life") : text.index("static void questions")]
    assert "its_write" not in given
    assert "gicr_write" in given


def test_bits_that_no_clause_speaks_of_are_not_asked():
    asked = exported(F5, "reset").text
    assert re.search(r'BASER0", its_read\(vm, GITS_BASER0\),\s+0x8000000000000000\)', asked)


def test_commands_stand_there_as_people_read_them():
    text = exported(F4).text
    assert "/* MAPD DeviceID=0x0 Size=0x3 ITT_addr=0x40600000 V=0x1 */" in text
    assert "queue(vm, 0x40300000, 0x8, 0x3, 0x8000000040600000, 0x0);" in text
    assert "/* Physical_Address=0x40100000 Valid */\n\tits_write(vm, GITS_BASER0, 0x8" in text
    assert "#define GITS_BASER0\t0x0100\n" in text
    assert "GITS_BASER2" not in text  # what nothing names is not defined
    assert "/* ITT of device 0x0 +0x0 */\n\tram_write64(vm, 0x40600000, 0xdead" in text


@pytest.mark.parametrize(("told", "made"), [(256, 256), (100, 64), (1 << 40, 64), (0, 64)])
def test_a_gic_has_as_many_interrupts_as_kvm_would_make_of_it(told, made):
    events = [make("attr.set", 0, device=1, group=3, attr=0, value=told), READ]
    text = export(header_of(), Plot("outputs", events, range(2), range(0))).text
    assert f"#define NR_IRQS\t\t{made}\n" in text


def test_no_line_is_longer_than_a_kernels():
    for path, how in ((F1, "reset"), (F1, "outputs"), (F3, "round-trip"), (F4, "crash")):
        lines = exported(path, how).text.expandtabs(8).splitlines()
        assert max(map(len, lines)) <= 100


def test_a_queue_that_is_filled_before_it_is_named_is_a_queue():
    events = [
        make("mem.write", 0, gpa=0x40300000, data=bytes([5]) + bytes(31)),
        make("reg.write", 0, offset=0x80, value=1 << 63 | 0x40300000, origin=1),
        make("reg.read", 0, offset=0x80, value=0, origin=1),
    ]
    plot = Plot("outputs", events, range(3), range(0))
    assert "/* SYNC RDbase=0x0 */" in export(Header(guest_ram="complete"), plot).text


def test_ram_that_the_trace_does_not_show_is_put_there_and_told():
    header, events = (
        Header(cpus=1, profile="linux-6.1.192", guest_ram="observed"),
        [
            make("reg.write", 0, offset=0x100, value=1 << 63 | 0x40100000, origin=1),
            make("reg.write", 0, offset=0x80, value=1 << 63 | 0x40300000, origin=1),
            make("reg.write", 0, offset=0x0, value=1, origin=1),
            make("reg.write", 0, offset=0x88, value=0x20, origin=1),
            make(
                "command", 0, cause=1, queue_offset=0, dw0=8, dw1=3, dw2=1 << 63 | 0x40600000, dw3=0
            ),
            make("reg.read", 0, offset=0x90, value=0x20, origin=1),
            make("probe", 0, edge=0),
            make("probe", 0, edge=1, lists=1),
        ],
    )
    result = export(header, Plot("outputs", events, range(len(events)), range(0)))
    assert "ram_fill(vm, 0x40100000, 0, 0x1000);" in result.text
    assert "queue(vm, 0x40300000, 0x8, 0x3, 0x8000000040600000, 0x0);" in result.text
    assert result.left_out == {
        "command": 1,
        "probe (the trace does not show all of guest RAM)": 1,
    }
    assert "expect_lpis" not in result.text
    assert result.assumed == {"the guest handed over zeroed tables": 1}


# -- what cannot be said


def header_of(**changes):
    usual = {"cpus": 1, "guest_ram": "complete", "profile": "linux-6.1.192"}
    return Header(**(usual | changes))


READ = make("reg.read", 0, offset=0, value=0, origin=1)


@pytest.mark.parametrize(
    ("header", "events", "why"),
    [
        (header_of(profile="qemu-7.2.22"), [READ], "not KVM's"),
        (header_of(starts="running"), [READ], "in the middle"),
        (header_of(), [READ, make("vcpu", 0, cpu=0, action=0)], "ran a guest"),
        (header_of(), [make("context", 0, its=1), READ], "several ITSes"),
        (header_of(), [make("save", 0)], "nothing in it can be asked"),
    ],
)
def test_what_would_show_nothing_is_not_written(header, events, why):
    result = export(header, Plot("outputs", events, range(len(events)), range(0)))
    assert why in str(result.meaningless)


def test_the_verb_ends_with_4_and_writes_nothing(tmp_path, capsys):
    made = tmp_path / "a.c"
    trace = SCENARIOS / "Q7-movall.its.txt"
    assert cli.main(["export", str(trace), "--to", "kvm-c", "-o", str(made)]) == 4
    assert "not KVM's" in capsys.readouterr().err
    assert not made.exists()


def test_a_cut_trace_is_not_taken_for_a_whole_life(tmp_path, capsys):
    path = tmp_path / "cut.its.txt"
    path.write_text(F4.read_text().replace("# cpus: 1\n", "# cpus: 1\n# first_seq: 9\n"))
    assert cli.main(["export", str(path), "--to", "kvm-c"]) == 4
    captured = capsys.readouterr()
    assert "begins in the middle" in captured.err
    assert captured.out == ""


def test_lost_events_are_told(tmp_path, capsys):
    path = tmp_path / "lossy.its.txt"
    path.write_text(F1.read_text() + '. +0 loss reason="*/ full" count=3\n')
    assert cli.main(["export", str(path), "--to", "kvm-c"]) == 0
    captured = capsys.readouterr()
    assert "1 places where events were lost" in captured.err
    assert "full" not in captured.out


def test_an_output_that_exists_is_kept(tmp_path, capsys):
    made = tmp_path / "a.c"
    made.write_text("mine")
    assert cli.main(["export", str(F4), "--to", "kvm-c", "-o", str(made)]) == 2
    assert made.read_text() == "mine"
    assert cli.main(["export", str(F4), "--to", "kvm-c", "-o", str(made), "--force"]) == 0
    assert made.read_text().startswith("// SPDX-License-Identifier: GPL-2.0 OR MIT\n")


def test_a_trace_that_no_compiler_takes_is_refused():
    plot = Plot("outputs", [READ] * 20_001, range(20_001), range(0))
    with pytest.raises(UsageError, match="a C file takes 20000 events"):
        export(header_of(), plot)


# -- hostile text and numbers

HOSTILE = (
    '*/ int main(void) { system("x"); } /*',
    "a\nEOF\n; rm -rf /\n",
    "trigraph ??/\n*??/ /",
    "\\\n#include </etc/passwd>",
    '"); abort(); ("',
    "\x1b[31m\x00%s%n`id`$(id)",
    "\u202e*\u2215/ caf\u00e9",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_stays_in_its_comment_and_its_string(text):
    for safe in (plain(text), *comment(text), string(text)):
        assert safe.isascii()
        assert safe.isprintable() or "\t" in safe
        assert not set('\\?"`$%{}') & set(safe.strip('"'))
    inner = "\n".join(comment(text)).strip()
    assert inner.startswith("/*")
    assert inner.endswith("*/")
    assert inner.count("*/") == 1
    assert inner.count("/*") == 1


@needs_compiler
def test_a_manifest_cannot_write_into_the_file(tmp_path):
    path = tmp_path / "evil.its.txt"
    path.write_text(F1.read_text())
    shows = "".join(HOSTILE).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    shows = re.sub(r"[\x00-\x1f]", "", shows)
    (tmp_path / "evil.toml").write_text(
        f'shows = "{shows}"\nsources = ["{shows}"]\nprofile = "linux-6.1.192"\n'
        f'expect = "crash"\nsignature = "crash:x*/ evil"\n'
    )
    text = exported(path).text
    assert "evil" not in text
    compiles(text, tmp_path)


def test_nothing_of_the_recorder_is_in_the_file():
    header, events = read(F1)
    header.host = "secret-host"
    header.command_line = ["secret-command"]
    header.annotations = {"note": "secret-note"}
    text = export(header, plot_of(events, str(F1), None)).text
    assert "secret" not in text


@pytest.mark.parametrize("base", ["x", "-1", "0x" + "f" * 17, "1" * 5000])
def test_a_gic_at_no_address_is_refused(base):
    header = header_of(annotations={"gicd_base": base})
    with pytest.raises(UsageError, match="gicd_base must be an address"):
        export(header, Plot("outputs", [READ], range(1), range(0)))


def anything(rng, field):
    if isinstance(field.form, tuple):
        return rng.randrange(len(field.form))
    if field.form == "bytes":
        return rng.randbytes(rng.choice((0, 1, 8, 32, 64, 100)))
    if field.form == "text":
        return rng.choice(HOSTILE)
    if field.form == "int":
        return rng.choice((0, 1, -1, -22, -(2**63), 2**63 - 1))
    return rng.choice((0, 1, 2, 4, 8, 3, 0x80, 0x100, 1 << 32, 1 << 63, (1 << 64) - 1))


def life_of(seed):
    rng = random.Random(seed)
    kinds = [cls for number, cls in KINDS.items() if cls.name != "vcpu"]
    events = []
    for _ in range(60):
        cls = rng.choice(kinds)
        events.append(make(cls.name, 0, **{f.name: anything(rng, f) for f in cls.fields}))
    header = header_of(
        guest_ram=rng.choice(("complete", "observed")),
        ram_ranges=rng.choice((None, [[0, 1 << 63], [(1 << 64) - 1, 1]])),
        its_bases=rng.choice((None, [(1 << 64) - 1])),
    )
    return header, events, rng.choice(("outputs", "crash", "reset", "round-trip"))


def written(seed):
    header, events, how = life_of(seed)
    try:
        return export(header, plot_of(events, "-", how)).text
    except TracerError:
        return None


def test_any_events_give_a_file_or_an_error_of_ours():
    texts = [written(seed) for seed in range(400)]
    made = [text for text in texts if text]
    assert len(made) > 100
    assert all(text.isascii() and text.count("/*") == text.count("*/") for text in made)


@needs_compiler
def test_any_events_give_a_file_that_compiles(tmp_path):
    texts = [text for text in map(written, range(30)) if text]
    for text in texts[:6]:
        compiles(text, tmp_path)


# -- the compiler, and a kernel


def test_every_part_of_the_library_has_a_name_of_its_own():
    names = [name for part in library.parts() for name in library.defined(part)]
    assert len(names) == len(set(names))
    assert all(library.defined(part) for part in library.parts())


@needs_compiler
@pytest.mark.parametrize("how", ["outputs", "crash", "reset"])
def test_a_file_compiles_without_a_warning(how, guest_f1, tmp_path):
    compiles(exported(guest_f1, how).text, tmp_path)


@needs_compiler
def test_a_round_trip_compiles_without_a_warning(tmp_path):
    compiles(exported(F3).text, tmp_path)


def test_a_kernel_is_told_of_its_bug_by_a_guest_of_its_own(guest_f1, tmp_path):
    image = kernel("living")
    source = tmp_path / "f1.c"
    source.write_text(exported(guest_f1, "reset").text)
    tap = kselftest.run(source, image)
    assert tap.whole(), tap.console
    assert tap.exit == 1
    assert "event 32: pending table of vCPU 0 +0x400" in tap.bad.values()
    assert "event 28: the live LPIs" in tap.bad.values()
    assert "event 19: GITS_CTLR" in tap.good.values()
    assert "expected: LPI 8192 vCPU 1" in tap.console
