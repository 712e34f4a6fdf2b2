"""`itstrace kernels`: arm64 kernels to be targets, fetched with this machine's apt."""

from __future__ import annotations

import argparse

from replay.commands.common import clean, print_json, say
from replay.kernels import NEEDED, fetch_kernel, folder, here


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE",
        help="fetch the kernel of this suite, such as bookworm-security; none: list what is here",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Fetch, or list; a line a kernel: its version, what its image says, and where it is."""
    kernels = [fetch_kernel(suite) for suite in options.suites] if options.suites else here()
    if options.json:
        rows = [
            {"version": each.version, "image": each.image, "target": f"kvm:{each.path}"}
            for each in kernels
        ]
        print_json({"schema": "itstrace.kernels/1", "kernels": rows})
        return 0
    for each in kernels:
        print(clean(f"{each.version:14} kvm:{each.path}  ({each.image})"))
    if not kernels:
        say(
            f"no kernel below {folder()}; `itstrace kernels bookworm-security` fetches one, and {NEEDED}"
        )
    return 0
