"""`itstrace record`: a trace of a VM, written while it runs; what is recorded has a file of its own.

The counterpart is `import`, which reads what another tool left behind.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Final

# source -> (module in replay.commands, one line)
SOURCES: Final = {
    "qemu": ("record_qemu", "a VM of QEMU: start it with its own command line, or join it"),
    "kvm": ("record_kvm", "the VMs of an arm64 KVM host, here or through ssh"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare each source's options."""
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, (module, text) in SOURCES.items():
        source = sources.add_parser(
            name, help=text, description=text, formatter_class=parser.formatter_class
        )
        import_module(f"replay.commands.{module}").configure(source)


def run(options: argparse.Namespace) -> int:
    """Record one VM until it ends."""
    code: int = import_module(f"replay.commands.{SOURCES[options.source][0]}").run(options)
    return code
