"""`itstrace corpus`: traces as tests: run them against their manifests, list them, add one, count them."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Final

from replay.commands.common import LazyParser

# what to do -> (module in replay.commands, one line)
ACTIONS: Final = {
    "run": ("corpus_run", "run traces against what their manifests say they show"),
    "list": ("corpus_list", "say of each trace what it is of and what it must show"),
    "add": ("corpus_add", "make a trace a test: write its manifest from what it shows now"),
    "stats": ("corpus_stats", "count traces, words, bugs and profiles"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done; each declares its options when it is the one."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=LazyParser
    )
    for name, (module, text) in ACTIONS.items():
        action = actions.add_parser(
            name, help=text, description=text, formatter_class=parser.formatter_class
        )
        action.module = f"replay.commands.{module}"


def run(options: argparse.Namespace) -> int:
    """Do it."""
    code: int = import_module(f"replay.commands.{ACTIONS[options.action][0]}").run(options)
    return code
