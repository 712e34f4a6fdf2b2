"""`itstrace reset`: have a VM that is being recorded reset, with nothing running meanwhile.

The counterpart is `record qemu`, which carries it out.
"""

from __future__ import annotations

import argparse

from replay.commands.common import say
from tracer.sources.qemu_control import ask_reset


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="the trace that `itstrace record qemu` is writing")


def run(options: argparse.Namespace) -> int:
    """Ask for one reset and wait for its end."""
    ask_reset(options.trace)
    say(f"{options.trace}: the VM was stopped, looked at, reset and looked at again")
    return 0
