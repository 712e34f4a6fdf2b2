"""`itstrace corpus`: traces as tests: run them against their manifests, list them, add one, count them."""

from __future__ import annotations

import argparse
from typing import Final

from replay.commands.common import Actions, add_actions, run_action

# what to do -> (module in replay.commands, one line)
ACTIONS: Final[Actions] = {
    "run": ("corpus_run", "run traces against what their manifests say they show"),
    "list": ("corpus_list", "say of each trace what it is of and what it must show"),
    "add": ("corpus_add", "make a trace a test: write its manifest from what it shows now"),
    "stats": ("corpus_stats", "count traces, words, bugs and profiles"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done; each declares its options when it is the one."""
    add_actions(parser, "action", ACTIONS)


def run(options: argparse.Namespace) -> int:
    """Do it."""
    return run_action(options, "action", ACTIONS)
