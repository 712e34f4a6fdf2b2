"""`itstrace record`: a trace of a VM, written while it runs; what is recorded has a file of its own.

The counterpart is `import`, which reads what another tool left behind.
"""

from __future__ import annotations

import argparse
from typing import Final

from replay.commands.common import Actions, add_actions, run_action

# source -> (module in replay.commands, one line)
SOURCES: Final[Actions] = {
    "qemu": ("record_qemu", "a VM of QEMU: start it with its own command line, or join it"),
    "kvm": ("record_kvm", "the VMs of an arm64 KVM host, here or through ssh"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the sources; each declares its options when it is the one."""
    add_actions(parser, "source", SOURCES)


def run(options: argparse.Namespace) -> int:
    """Record one VM until it ends."""
    return run_action(options, "source", SOURCES)
