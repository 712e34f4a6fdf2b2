"""Scenarios planted in the middle of a long life of the same family: what minimising has to find.

Before the scenario there is a life, then a power-on of the same VM, then the scenario with other
identifiers, and with noise between its events; behind it another life. All of it was asked of the
device that the scenario's fixed variant describes (or the buggy one, where the bug must be seen
to be stale), so that the trace is what such a device would have left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from replay.generator.answers import answered
from replay.generator.dice import Dice
from replay.generator.life import Life
from replay.judge import DIVERGENT, judge, model_of, with_flags
from replay.manifest import manifest_path, read_manifest
from replay.minimize.items import COMMAND, KICK, Item, command, kick
from replay.minimize.model_oracle import Frames
from replay.minimize.oracle import Candidate
from replay.minimize.script import Script, lift, lower
from replay.profiles import Profile, find
from tracer import events as ev
from tracer.events import make
from tracer.log.opening import open_trace

