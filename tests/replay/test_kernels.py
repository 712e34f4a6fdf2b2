"""Fetching kernels with this machine's apt: its sources are read, images tell their version."""

from __future__ import annotations

import gzip
import json
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from replay import cli, kernels
from replay.kernel_image import banner
from replay.kernels import _entries, _source, fetch, fetch_kernel, here
from replay.targets.errors import TargetError
from tests.support.kernels import kernel
from tracer.log import codec, format as fmt

BANNER = b"Linux version 6.1.0-56-arm64 (who@where) (gcc-12, GNU ld) #1 SMP Debian 6.1.192-2 (2026-11-16)\n"
IMAGE = bytes(64) + b"..." + BANNER + bytes(100)
SAID = "6.1.0-56-arm64 #1 SMP Debian 6.1.192-2 (2026-11-16)"


def zboot(payload, compression):
    return (
        b"MZ\0\0zimg"
        + struct.pack("<II", 64, len(payload))
        + bytes(8)
        + compression.ljust(40, b"\0")
        + payload
    )


@pytest.mark.parametrize(
    "data",
    [
        IMAGE,
        gzip.compress(IMAGE),
        zboot(gzip.compress(IMAGE), b"gzip"),
        zboot(codec.compress(IMAGE, fmt.CODEC_ZSTD), b"zstd"),
        IMAGE.replace(b"...", b"Linux version 6.1.0-56-arm64 (who@where) (gcc) # SMP\0"),
    ],
)
def test_an_image_tells_its_version_whatever_it_is_packed_in(tmp_path, data):
    path = tmp_path / "vmlinuz"
    path.write_bytes(data)
    assert banner(path) == SAID
    assert kernels.kernel_at(path).version == "6.1.192-2"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1f\x8b",
        b"\x1f\x8bnonsense",
        zboot(b"\x28\xb5\x2f\xfdxx", b"zstd"),
        b"MZ\0\0zimg",
        bytes(99),
    ],
)
def test_what_tells_nothing_is_unknown(tmp_path, data):
    path = tmp_path / "Image"
    path.write_bytes(data)
    assert banner(path) == "unknown"


def test_kernels_below_the_folder_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ITSTRACE_KERNELS", str(tmp_path))
    assert cli.main(["kernels"]) == 0
    assert "`itstrace kernels bookworm-security` fetches one" in capsys.readouterr().err
    (tmp_path / "a/boot").mkdir(parents=True)
    (tmp_path / "a/boot/vmlinuz-6.1").write_bytes(IMAGE)
    (tmp_path / "Image").write_bytes(IMAGE.replace(b" Debian", b""))
    assert [each.version for each in here()] == ["6.1.0-56-arm64", "6.1.192-2"]
    assert cli.main(["kernels", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["kernels"]
    assert rows[1]["target"] == f"kvm:{tmp_path}/a/boot/vmlinuz-6.1"


DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.fixture
def apt(tmp_path):
    top = tmp_path / "apt"
    (top / "sources.list.d").mkdir(parents=True)
    return top


def test_sources_of_both_formats_are_read(apt):
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    (apt / "sources.list").write_text(
        "# deb http://no.example/debian old main\n"
        "deb http://one.example/debian trixie main contrib\n"
        "deb [arch=arm64 signed-by=/k/debian.gpg] http://two.example/debian sid main\n"
    )
    (apt / "sources.list.d/other.list").write_text("deb http://packages.example/apt stable main\n")
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert list(_entries(apt)) == [
        ("http://mirror.example/debian", ["bookworm", "bookworm-updates"], keyring),
        ("http://mirror.example/debian-security", ["bookworm-security"], keyring),
        ("http://one.example/debian", ["trixie"], ""),
        ("http://two.example/debian", ["sid"], "/k/debian.gpg"),
    ]


def test_a_suite_is_asked_of_the_mirror_that_the_machine_uses(apt, monkeypatch):
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    real = _entries
    monkeypatch.setattr(kernels, "_entries", lambda _: real(apt))
    keyring = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
    assert _source("sid") == f"deb [arch=arm64 {keyring}] http://mirror.example/debian sid main"
    assert "debian-security trixie-security main" in _source("trixie-security")


def test_a_machine_without_a_mirror_says_what_is_needed(monkeypatch):
    monkeypatch.setattr(kernels, "_entries", lambda _: [])
    with pytest.raises(TargetError, match="name no mirror for it; any arm64 Image or vmlinuz"):
        _source("bookworm")


def test_a_machine_without_apt_says_what_is_needed(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ITSTRACE_KERNELS", str(tmp_path))
    monkeypatch.setattr(kernels.shutil, "which", lambda _: None)
    assert cli.main(["kernels", "bookworm"]) == 4
    assert "any arm64 Image or vmlinuz is a target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("suite", "package"), [("../x", "p"), ("bookworm", "--help"), ("-o", "pp")]
)
def test_no_option_and_no_path_comes_in_as_a_name(suite, package):
    with pytest.raises(TargetError, match="names no suite and package"):
        fetch(suite, package)


APT_GET = """\
#!/bin/sh
for word in "$@"; do
  case "$word" in update) exit {update};; download) mode=download;; esac
  last=$word
done
if [ "$mode" = download ]; then : > "$last"_1_arm64.deb; fi
"""
APT_CACHE = """\
#!/bin/sh
for word in "$@"; do last=$word; done
[ "$last" = linux-image-arm64 ] && echo "  Depends: linux-image-6.1.0-56-arm64"
[ "$last" = linux-image-6.1.0-56-arm64 ] && echo "  Depends: linux-binary-6.1.0-56-arm64" && echo "  Depends: kmod"
exit 0
"""
DPKG = '#!/bin/sh\nmkdir -p "$3/boot"\ncase "$2" in *binary*) cp {image} "$3/boot/vmlinuz-6.1";; esac\necho "$2" >> {log}\n'


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """apt and dpkg that are none: they note what is fetched."""
    top = tmp_path / "bin"
    top.mkdir()
    (tmp_path / "image").write_bytes(IMAGE)
    monkeypatch.setenv("PATH", f"{top}:{os.environ['PATH']}")
    monkeypatch.setenv("ITSTRACE_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(kernels, "_source", lambda suite: f"deb http://mirror.example {suite} main")
    texts = {
        "apt-get": APT_GET.format(update=0),
        "apt-cache": APT_CACHE,
        "dpkg-deb": DPKG.format(image=tmp_path / "image", log=tmp_path / "log"),
    }
    for name, text in texts.items():
        (top / name).write_text(text)
        (top / name).chmod(0o755)
    return top


def test_a_metapackage_is_followed_to_what_holds_the_kernel_and_fetched_once(tools, tmp_path):
    found = fetch_kernel("sid")
    assert found.version == "6.1.192-2"
    assert (
        found.path == tmp_path / "kernels/sid/linux-binary-6.1.0-56-arm64_1_arm64/boot/vmlinuz-6.1"
    )
    assert len((tmp_path / "log").read_text().splitlines()) == 3
    assert fetch_kernel("sid") == found
    assert len((tmp_path / "log").read_text().splitlines()) == 3


def test_what_apt_cannot_do_is_said_with_its_words(tools):
    (tools / "apt-get").write_text("#!/bin/sh\necho 'E: no such suite' >&2\nexit 100\n")
    with pytest.raises(TargetError, match="sid: apt-get update: E: no such suite"):
        fetch_kernel("sid")


def test_a_real_kernel_tells_its_version():
    found = kernels.kernel_at(kernel("living"))
    assert found.version.startswith("6.1.")
    assert " SMP Debian 6.1." in found.image


def test_two_that_fetch_the_same_at_once_fetch_it_once(tmp_path, monkeypatch):
    began = []

    class SlowApt:
        def __init__(self, suites, state):
            began.append(suites)
            time.sleep(0.2)  # in which the other one comes

        def led_to(self, package):
            return [package]

        def unpacked(self, package, top):
            return f"{package}_1_arm64"

    monkeypatch.setenv("ITSTRACE_KERNELS", str(tmp_path))
    monkeypatch.setattr(kernels, "_Apt", SlowApt)
    monkeypatch.setattr(kernels, "_check", lambda suites, packages: None)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: fetch("bookworm", "busybox-static"), range(2)))
    assert began == [["bookworm"]]
    assert found == [[tmp_path / "bookworm/busybox-static_1_arm64"]] * 2


def test_a_folder_that_cannot_be_made_is_named_with_the_way_out(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ITSTRACE_KERNELS", str(tmp_path / "file"))
    monkeypatch.setattr(kernels, "_check", lambda *_: None)
    with pytest.raises(TargetError, match="Not a directory; ITSTRACE_KERNELS names another"):
        kernels.fetch_kernel("sid")
