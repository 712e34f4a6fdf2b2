"""The header of a recorded QEMU: what its log tells, and what its monitor knows better.

Counterpart: `replay.commands.record_qemu`, which writes the rest.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from replay.profiles import PROFILES
from tracer.log.header import Header
from tracer.sources import qemu_log
from tracer.sources.ftrace_facts import Facts
from tracer.sources.qemu_machine import Machine

_MAX_VERSION_BYTES: Final = 1000
_QEMU_PROFILE: Final = re.compile(r"qemu-([0-9.]+)(-gicv4)?")


def make_header(start: bytes, machine: Machine) -> Header:
    """Return what the log tells, with what the monitor knows better."""
    header = qemu_log.header(start)
    header.source = "record-qemu"
    known: dict[str, Any] = {
        "cpus": machine.cpus,
        "mpidrs": machine.mpidrs,
        "its_bases": None if machine.its_base is None else [machine.its_base],
        "ram_ranges": None if machine.ram is None else [list(each) for each in machine.ram],
    }
    if machine.kvm:
        known |= _of_kernel(header)
    elif machine.version:
        version = ".".join(map(str, machine.version))
        header.profile = _nearest(machine.version, gicv4=machine.is_gicv4)
        known["implementation_version"] = version
        if header.profile.split("-")[1] == version:
            known["profile"] = header.profile
    if machine.kvm is not None:
        known["implementation"] = "linux-kvm" if machine.kvm else header.implementation
    for key, value in known.items():
        if value is not None:
            setattr(header, key, value)
            header.guessed = [name for name in header.guessed if name != key]
    header.annotations = machine.annotations()
    return header


def _of_kernel(header: Header) -> dict[str, Any]:
    """Put the kernel that we run on into the header: on KVM the ITS is in it."""
    facts = Facts()
    with suppress(OSError):
        facts.take(b"#its version: " + Path("/proc/version").read_bytes()[:_MAX_VERSION_BYTES])
    facts.release = os.uname().release
    header.profile = None if facts.kernel is None else f"linux-{facts.kernel}"
    return {"implementation_version": facts.kernel}


def _nearest(version: tuple[int, ...], *, gicv4: bool) -> str:
    """Return the newest profile that is not newer than `version`, or else the oldest."""
    known = {
        tuple(map(int, match[1].split("."))): name
        for name in PROFILES
        if (match := _QEMU_PROFILE.fullmatch(name)) and bool(match[2]) == gicv4
    }
    return known[max((each for each in known if each <= version), default=min(known))]
