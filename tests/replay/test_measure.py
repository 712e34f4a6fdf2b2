"""Fingerprints of real targets: flags are told by what a target answers, not by its version."""

from __future__ import annotations

import json
import shutil
import tomllib

import pytest

from replay import cli, measure
from replay.fingerprint import LIVES_OF, answers, nearest
from replay.fingerprint_qemu import QEMU_LIVES
from replay.judge import model_of, with_flags
from replay.measure import DEADLY, measured, told
from replay.model.effects import HostCrash
from replay.profile_file import MAX_BYTES, format_profile, read_profile
from replay.profiles import FLAGS, PROFILES, find
from replay.targets.errors import TargetError
from replay.targets.model_target import ModelTarget
from replay.targets.spec import Targets, parse
from tests.support.compiled import pure_only
from tests.support.kernels import kernel
from tracer.errors import UsageError


class ModelHosts:
    """Targets that are models of one profile: every life is carried out as on a real one."""

    def __init__(self, profile):
        self.profile = profile

    def opened(self, spec, header, needs):
        target = ModelTarget(model_of(header, self.profile))

        class Opened:
            def __enter__(self):
                return target

            def __exit__(self, *_):
                pass

        return Opened()


MEASURED = [
    name for name, each in PROFILES.items()
    if each.basis == "measured" and each.family in ("kvm", "qemu") and "gicv4" not in name
]  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_a_profile_carried_out_as_a_target_is_told_as_itself(name):
    profile = find(name)[0]
    kind = profile.family
    found = measured(ModelHosts(profile), parse(kind))
    start = nearest(found, kind)
    flags = told(found, start)
    wrong = {
        flag: value
        for flag, value in flags.items()
        if value is not None and value != getattr(profile.choices, flag)
    }
    assert wrong == {}
    assert sum(value is None for value in flags.values()) <= 5
    for flag, seen in found.items():
        given = answers(profile, LIVES_OF[kind][flag])
        assert seen == given or seen[-1].startswith("the host dies"), flag


@pytest.mark.parametrize("flag", QEMU_LIVES)
def test_each_flag_of_qemu_is_told_by_its_life(flag):
    other = with_flags(find("qemu-7.2.22")[0], {flag: False})
    found = measured(ModelHosts(other), parse("qemu"))
    assert told(found, find("qemu-7.2.22")[0])[flag] is False
    assert [f for f, v in told(found, find("qemu-7.2.22")[0]).items() if v is False] == [flag]


def test_a_host_that_dies_of_a_life_is_told_by_its_death():
    profile = find("linux-6.1.176")[0]
    found = measured(ModelHosts(profile), parse("kvm"))
    assert found["save_zeroes_ite_without_collection"][-1].startswith("the host dies in ")
    assert told(found, profile)["save_zeroes_ite_without_collection"] is False
    assert set(DEADLY) <= set(LIVES_OF["kvm"])


def test_a_life_that_never_ends_is_left_out_where_it_would_not():
    found = measured(ModelHosts(find("linux-6.12.117")[0]), parse("kvm"))
    assert "debugfs_hides_intids_above_16_bits" not in found


@pure_only
def test_a_listing_that_is_none_tells_nothing(monkeypatch):
    profile = find("linux-6.1.192")[0]
    monkeypatch.setattr("replay.targets.kvm_model.KvmModel.live_rows", lambda _: None)
    found = measured(ModelHosts(profile), parse("kvm"))
    assert "movall_moves_source_only" not in found
    assert told(found, profile)["movall_moves_source_only"] is None


def test_a_target_that_is_not_there_is_said(monkeypatch):
    def nowhere(*_):
        raise TargetError("kvm:K: there is none")

    monkeypatch.setattr(Targets, "opened", nowhere)
    with Targets() as made, pytest.raises(TargetError, match="there is none"):
        measured(made, parse("kvm:K"))


@pytest.mark.skipif(shutil.which("qemu-system-aarch64") is None, reason="no qemu-system-aarch64")
def test_a_real_qemu_is_told(capsys, tmp_path):
    path = tmp_path / "q.toml"
    assert cli.main(["fingerprint", "qemu", "--json", "--profile-out", str(path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["name"].startswith("qemu-")
    assert set(answer["flags"]) == set(QEMU_LIVES)
    assert all(value is True for value in answer["flags"].values())
    assert tomllib.loads(path.read_text())["name"] == answer["name"]


def test_a_real_kernel_is_told_as_its_profile(capsys, tmp_path):
    path = tmp_path / "k.toml"
    target = f"kvm:{kernel('living')}"
    assert cli.main(["fingerprint", target, "--profile-out", str(path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("linux-6.1.")
    assert ": as linux-6.1.192: " in line
    assert "Debian 6.1." in line
    trace = tmp_path / "t.itstrace"
    assert cli.main(["generate", "--seed", "1", "--profile", str(path), "-o", str(trace)]) == 0
    assert cli.main(["check", "--profile", str(path), str(trace)]) == 0


def test_a_kernel_that_dies_of_its_life_is_told(capsys):
    assert cli.main(["fingerprint", f"kvm:{kernel('dying of K23')}", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["flags"]["save_zeroes_ite_without_collection"] is False
    assert answer["nearest"] in ("linux-6.1.176", "linux-5.10.223")


# -- profiles as files


def test_a_profile_goes_into_a_file_and_back(tmp_path):
    start = find("linux-6.1.192")[0]
    flags = dict.fromkeys(row.name for row in FLAGS["kvm"]) | {
        "mapd_unmap_clears_dte": False, "gic_implementation_revision": 2,
    }  # fmt: skip
    path = tmp_path / "p.toml"
    path.write_text(format_profile("linux-6.1.999", start, 'a "quoted" \\ image\n', flags))
    found = read_profile(str(path))
    assert (found.name, found.family, found.basis) == ("linux-6.1.999", "kvm", "measured")
    assert found.choices.mapd_unmap_clears_dte is False
    assert found.choices.gic_implementation_revision == 2
    assert found.known("mapd_unmap_clears_dte") == "measured"
    assert found.known("discard_clears_ite") == "read"


GOOD = 'name = "linux-1.2.3"\nnearest = "linux-6.1.192"\n[flags]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 1", "`name` and `nearest`, a known profile, must be there"),
        (GOOD.replace("6.1.192", "9.9"), "`name` and `nearest`"),
        (GOOD.replace("linux-1.2.3", "../x"), "`name` and `nearest`"),
        (GOOD + "no_such_flag = true\n", "flag 'no_such_flag' must not be True"),
        (GOOD + "discard_clears_ite = 1\n", "flag 'discard_clears_ite' must not be 1"),
        (GOOD.replace("[flags]", "flags = 3"), "must be a table"),
        ("[[[", "this is no profile"),
        ("\udcff", "this is no profile"),
        ("#" * (MAX_BYTES + 1), f"a profile has at most {MAX_BYTES} bytes"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path, text, said):
    path = tmp_path / "p.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=said.replace("[", r"\[")):
        find(str(path), files=True)


def test_a_file_that_is_not_there_is_said():
    with pytest.raises(UsageError, match="No such file"):
        find("/nowhere/p.toml", files=True)


def test_a_models_flags_need_no_measuring(capsys):
    assert cli.main(["fingerprint", "model:linux-6.1.192"]) == 2
    assert "a model's flags are in its profile" in capsys.readouterr().err


def test_a_death_is_an_answer_wherever_it_was():
    assert str(HostCrash("f")).startswith("the host dies")
    assert measure.DEADLY[0] == "save_zeroes_ite_without_collection"
