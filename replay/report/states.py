"""The states of a trace as checkpoints and changes, as one replay of the model passes through them.

A state is a set of leaves: a path into `itstrace.state/1` and a JSON value. A segment holds all
leaves of its first state, and then, of each event after which the state is another, the leaves that are
no longer so. The page puts leaves into a tree, and knows nothing of what they mean.

The digest of a state stands in the page while states are few; it is as random as it is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from replay.judge import AnyModel
from replay.model.effects import Effect
from replay.report.columns import Block
from replay.report.follow import Followed, Path, leaves
from replay.targets.kvm_model import KvmModel
from tracer.events import NUMBER, Event

MAX_DIGESTS: Final = 4096  # changes of a trace whose digests are in its report
MAX_DIGESTED_LEAVES: Final = 1_000_000  # of states whose digests are made for a report
_MIN_CHANGED: Final = 4096  # leaves that change before a segment ends
_REG_READ: Final = NUMBER["reg.read"]
# Inputs after which the state is as before, its digest apart. KVM shows nothing of what lies in guest RAM.
_QUIET: Final = frozenset((NUMBER["context"],))
_QUIET_ON_KVM: Final = frozenset((NUMBER["mem.write"],))


class StateTable:
    """A watcher that notes each change of a model's state."""

    def __init__(self, model: AnyModel, first_seq: int) -> None:
        self.model = model
        self.paths: dict[Path, int] = {}
        self.values: dict[str, int] = {}
        self.segments: list[bytes] = []
        self.starts: list[int] = []  # the event after which each segment begins
        self.changed = 0  # events that changed anything
        self._followed = Followed(model)
        self._size = 0  # leaves, as this segment begins
        self._digested = 0  # leaves of states whose digests were made
        self._digesting = True
        self._seqs: list[int] = []
        self._counts: list[int] = []
        self._set: list[tuple[int, int]] = []  # (path, value + 1), 0 for none
        self._joined = model.joined
        self._quiet = _QUIET | (_QUIET_ON_KVM if isinstance(model, KvmModel) else frozenset())
        self._begin(first_seq - 1)

    # -- the engine's watcher

    def resumed(self, seq: int, *, overlap: bool) -> None:
        """The model was filled before the first event: it begins as it is now."""
        self.starts.clear()
        self._followed.anew()
        self._begin(seq - 1)

    def before_input(self, seq: int, event: Event) -> None:
        """Nothing has happened yet."""

    def after_input(
        self, seq: int, event: Event, done: list[Effect], outputs: Sequence[Event]
    ) -> None:
        """An input was carried out."""
        if event[0] not in self._quiet or self._digesting:
            self.look(seq)

    def output(self, seq: int, event: Event, expected: int | None) -> None:
        """An answer may have been learned from; a register's read only where things are unknown."""
        if event[0] != _REG_READ or self._joined:
            self.look(seq)

    def note(self, seq: int, event: Event) -> None:
        """A loss makes things unknown."""
        self._joined = True
        self.look(seq)

    # -- what is noted

    def _begin(self, seq: int) -> None:
        """Begin a segment with the state as it is, after event `seq`."""
        self._followed.begin(digest=self._digests())
        self.starts.append(seq)
        self._first = [
            (self._path(path), self._value(text)) for path, text in leaves(self._followed.state)
        ]
        self._size = len(self._first)
        self._limit = max(_MIN_CHANGED, 4 * self._size)

    def _digests(self) -> bool:
        """Return whether the state is told with its digest now, and count that it is told."""
        self._digesting = self.changed <= MAX_DIGESTS and self._digested <= MAX_DIGESTED_LEAVES
        self._digested += self._size
        return self._digesting

    def look(self, seq: int) -> None:
        """Note what changed, after event `seq`."""
        digests = self._digests()
        found = self._followed.whole(digest=True) if digests else self._followed.look()
        if not found:
            return
        if self._seqs and self._seqs[-1] == seq:
            self._counts[-1] += len(found)
        else:
            self._seqs.append(seq)
            self._counts.append(len(found))
            self.changed += 1
        for path, text in found.items():
            self._set.append((self._path(path), 0 if text is None else self._value(text) + 1))
        if len(self._set) >= self._limit:
            self._cut()
            self._begin(seq)

    def _path(self, path: Path) -> int:
        return self.paths.setdefault(path, len(self.paths))

    def _value(self, text: str) -> int:
        return self.values.setdefault(text, len(self.values))

    def _cut(self) -> None:
        block = Block()
        header = {
            "first": [len(self._first), *self._pair(block, self._first)],
            "seqs": [len(self._seqs), block.numbers(self._seqs)],
            "counts": block.numbers(self._counts),
            "set": [len(self._set), *self._pair(block, self._set)],
        }
        self.segments.append(block.packed(header))
        self._seqs, self._counts, self._set = [], [], []

    @staticmethod
    def _pair(block: Block, pairs: list[tuple[int, int]]) -> tuple[list[Any], list[Any]]:
        return block.numbers([a for a, _ in pairs]), block.numbers([b for _, b in pairs])

    def close(self) -> None:
        """End the last segment."""
        self._cut()
