"""The shell script that records a KVM host: `kvm_script.sh` with the probes of `kvm_probes`.

It stands on its own: a host needs a POSIX shell, tracefs and debugfs, and no Python. Its counterpart
is `ftrace_vms`, which reads what it prints.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from tracer.sources.kvm_probes import ACCESSES, PROBES, READ_WORDS, RETURNS_AT_ONCE, Probe

_TEMPLATE = Path(__file__).with_name("kvm_script.sh")


def script() -> str:
    """Return the script's text."""
    text = _TEMPLATE.read_text()
    for name, value in (
        ("ACCESSES", " ".join(ACCESSES)),
        ("LAST_BYTE", str(8 * (READ_WORDS - 1))),
        ("PROBES", "\n".join(map(_line, PROBES))),
    ):
        text = text.replace(f"@{name}@", value)
    return text


def _line(probe: Probe) -> str:
    kind = probe.kind if probe.kind == "p" else f"r{RETURNS_AT_ONCE}"
    words = (kind, probe.name, probe.symbol, probe.filter, probe.blind, probe.fields)
    return "\tprobe " + " ".join(map(shlex.quote, words))
