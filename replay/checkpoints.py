"""A model's state, with the replay's own, as bytes and back.

A model that goes on from a checkpoint answers as the one that it was made of. The bytes come with
a trace and are as hostile as its events: nothing is built but what the tables of `replay.kept`
name, and nothing is larger than what the bytes themselves hold. Counterparts: `replay.engine`,
which begins where a checkpoint ends, and docs/trace-format.md, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from replay.kept import FLAG, INT, MODELS, U64, Kept
from replay.shapes import Each, Keyed, Maybe, Number, Record, Room, Row
from tracer.errors import DamagedTrace, NewerTrace, UsageError
from tracer.log import format as fmt
from tracer.log.checks import PayloadError, brief
from tracer.log.codec import unpack_plain

FORMAT: Final = 1
_KEYS: Final = ("format", "family", "version", "profile", "cpus", "seq", "replay", "state")
_MAX_NAME: Final = 200


@dataclass(slots=True)
class Standing:
    """Where a replay stands between two events, beside its model."""

    overlap: bool = False  # a context that overlaps another holds
    # The kinds of output that the trace was seen to have.
    seen_kinds: set[int] = field(default_factory=set)
    asked: int = -1  # the last event that asked for itself
    rows: dict[int, tuple[int, ...]] | None = None  # INTID -> row of a listing being read
    # What the file before it told; a trace that begins with a checkpoint tells it anew.
    joined: bool = False  # whether registers may be unknown
    lost: int = 0
    unknown_inputs: dict[int, int] = field(default_factory=dict)


_ROWS: Final = Keyed(U64, Row((INT,) * 5))
_STANDING: Final = Record(Standing, {
    "overlap": FLAG, "seen_kinds": Each(set, Number(0, 255)), "asked": INT, "rows": Maybe(_ROWS),
}, anew=frozenset(("joined", "lost", "unknown_inputs")))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose outside was checked; `restore` checks the rest."""

    family: str
    version: int
    profile: str
    cpus: int
    seq: int  # of the event that comes next
    replay: Any
    state: Any

    def restore(self, model: Any) -> Standing:
        """Fill `model`, a new one for the same VM, and return where the replay stood.

        Raises:
            PayloadError: the state is not one that any model can be in.
            UsageError: the model is of another family.
        """
        kept = _kept(model)
        if kept.family != self.family:
            raise UsageError(
                f"the state at the beginning is of {self.profile}: a model of {kept.family} "
                "cannot go on from it"
            )
        if kept.version != self.version:
            raise NewerCheckpoint(
                f"a state of {self.family} in version {self.version}, this itstrace has "
                f"{kept.version}: use the one that wrote it"
            )
        room = Room(self.cpus)
        standing = Standing()
        _STANDING.fill(standing, self.replay, room)
        kept.record.fill(model, self.state, room)
        kept.check_links(model)
        return standing


def _kept(model: Any) -> Kept:
    kept = MODELS.get(type(model))
    if kept is None:
        raise UsageError(f"{model.name} has no state that a checkpoint could keep")
    return kept


def snapshot(model: Any, seq: int, standing: Standing) -> bytes:
    """Return the state of `model` before event `seq`.

    Raises:
        UsageError: it is larger than a checkpoint may be.
    """
    kept = _kept(model)
    values = (
        FORMAT, kept.family, kept.version, model.name, kept.cpus(model), seq,
        _STANDING.pack(standing), kept.record.pack(model),
    )  # fmt: skip
    raw: bytes = msgpack.packb(dict(zip(_KEYS, values, strict=True)), use_bin_type=True)
    if len(raw) > fmt.MAX_CHECKPOINT_BYTES:
        raise UsageError(
            f"the model's state has {len(raw)} bytes, a checkpoint at most "
            f"{fmt.MAX_CHECKPOINT_BYTES}"
        )
    return raw


def load(raw: bytes) -> Checkpoint:
    """Return what the bytes hold, its outside checked.

    Raises:
        PayloadError: they are no checkpoint.
        NewerCheckpoint: a newer itstrace made them.
    """
    value = unpack_plain(raw, fmt.MAX_CHECKPOINT_BYTES)
    number = value.get("format")
    if type(number) is int and number > FORMAT:
        raise NewerCheckpoint(f"checkpoint format {number}: use a newer itstrace")
    if number != FORMAT or tuple(value) != _KEYS:
        raise PayloadError(f"a checkpoint must have {', '.join(_KEYS)}")
    family, profile = value["family"], value["profile"]
    for name in (family, profile):
        if type(name) is not str or len(name) > _MAX_NAME:
            raise PayloadError(f"a name must not be {brief(name)}")
    room = Room(0)
    return Checkpoint(
        family,
        Number(0, 1 << 16).take(value["version"], room),
        profile,
        Number(1, 1 << 16).take(value["cpus"], room),
        U64.take(value["seq"], room),
        value["replay"],
        value["state"],
    )


class NewerCheckpoint(PayloadError):
    """Made by a newer itstrace."""


def resume(raw: bytes, name: str, first_seq: int, model: Any) -> Standing:
    """Put `model` where the checkpoint of trace `name` says that its first event stands.

    Raises:
        DamagedTrace, NewerTrace: the bytes cannot be used.
        UsageError: the model is of another family.
    """
    return _told(name, lambda: _resumed(load(raw), first_seq, model))


def _resumed(checkpoint: Checkpoint, first_seq: int, model: Any) -> Standing:
    if checkpoint.seq != first_seq:
        raise PayloadError(f"it is of event {checkpoint.seq}, the trace begins with {first_seq}")
    cpus = _kept(model).cpus(model)
    if checkpoint.cpus != cpus:
        raise PayloadError(f"it has {checkpoint.cpus} CPUs, the trace {cpus}")
    return checkpoint.restore(model)


def _told(name: str, action: Callable[[], Standing]) -> Standing:
    try:
        return action()
    except NewerCheckpoint as error:
        raise NewerTrace(name, 0, str(error)) from error
    except PayloadError as error:
        raise DamagedTrace(name, 0, f"checkpoint: {error}") from error
