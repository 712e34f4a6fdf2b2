"""`itstrace record`: a trace of a VM, written while it runs; what is recorded has a file of its own.

The counterpart is `import`, which reads what another tool left behind.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Final

from replay.commands.common import LazyParser

# source -> (module in replay.commands, one line)
SOURCES: Final = {
    "qemu": ("record_qemu", "a VM of QEMU: start it with its own command line, or join it"),
    "kvm": ("record_kvm", "the VMs of an arm64 KVM host, here or through ssh"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the sources; each declares its options when it is the one."""
    sources = parser.add_subparsers(
        dest="source", required=True, metavar="SOURCE", parser_class=LazyParser
    )
    for name, (module, text) in SOURCES.items():
        source = sources.add_parser(
            name, help=text, description=text, formatter_class=parser.formatter_class
        )
        source.module = f"replay.commands.{module}"


def run(options: argparse.Namespace) -> int:
    """Record one VM until it ends."""
    code: int = import_module(f"replay.commands.{SOURCES[options.source][0]}").run(options)
    return code
