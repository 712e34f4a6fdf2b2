"""A replay's state with its verifier's, as bytes and back: from there a trace is judged on as from its beginning.

Counterparts: `replay.checkpoints`, which packs the model, and `replay.segments`, which begins and ends there.
The verdicts of resets before the last one are nobody's evidence any more: they are counted, not packed.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import msgpack

from replay import checkpoints, graph
from replay.checkpoints import Standing
from replay.contracts import Clause, Shown
from replay.evidence import Evidence
from replay.judge import AnyModel
from replay.kept import MODELS
from replay.kept_lists import KeptLists
from replay.reinit import HandOver, _Life
from replay.round_trips import RoundTrips
from replay.timetravel.stops import MAX_STOP_BYTES
from replay.verdict import Component, Observation, ResetVerdict, RoundTrip
from replay.verify import Verifier
from replay.vmm_reset import Pause
from replay.writers import Writers
from tracer.errors import UsageError
from tracer.log.checks import PayloadError

_CLASSES: Final[dict[type, tuple[str, ...]]] = {
    each: tuple(field.name for field in fields(each))
    for each in (Clause, Shown, Component, Observation, ResetVerdict, RoundTrip, _Life)
}
VERDICTS: Final[graph.Classes] = _CLASSES
# The attributes of what is no dataclass; one that is missing here is found out as it is packed.
STATE: Final[graph.Classes] = _CLASSES | {
    Verifier: (
        "strict", "_under_test", "resets", "writers", "_before", "_left", "_evidence", "_lists",
        "_planted", "_reference", "_past", "_gone", "_overlap", "_perturbing", "_tables_before",
        "_dumped", "_hand_over", "_learned", "_read_back", "_listed", "_pause", "_trips",
        "round_trips", "_joined", "model", "_fresh_redistributors",
    ),
    KeptLists: ("model", "behind"),
    Writers: ("_registers", "_keys", "_gone"),
    Evidence: ("_verdict", "_current", "_open", "_indirect"),
    HandOver: ("used", "_life"),
    Pause: ("reset", "before"),
    RoundTrips: ("found", "_writers", "_trip", "_remapped", "_saved"),
}  # fmt: skip
_ITSELF: Final = b""


def kind_of(verifier: Verifier) -> str:
    """Return what distinguishes a verifier's states from those of another of the same trace."""
    return f"verifier, strict {verifier.strict}, under test {verifier._under_test}"


def packed(model: AnyModel, seq: int, standing: Standing, verifier: Verifier | None) -> bytes:
    """Return the state before event `seq`; without a verifier it is a checkpoint.

    Raises:
        UsageError: it is larger than what is kept.
    """
    checkpoint = checkpoints.snapshot(model, seq, standing)
    if verifier is None:
        return checkpoint

    def given(value: Any) -> bytes | None:
        if value is model:
            return _ITSELF
        return checkpoints.snapshot(value, 0, Standing()) if type(value) in MODELS else None

    logs: list[list[Any]] = [verifier.resets, verifier.round_trips]
    watched = graph.packed(verifier, STATE, logs=logs, given=given)
    raw: bytes = msgpack.packb([checkpoint, watched])
    if len(raw) > MAX_STOP_BYTES:
        raise UsageError(f"the state has {len(raw)} bytes, {MAX_STOP_BYTES} are kept")
    return raw


def restored(raw: bytes, model: AnyModel, *, watched: bool) -> tuple[Standing, Verifier | None]:
    """Fill a new `model`; return where the replay stood, and the verifier that watched it.

    Raises:
        PayloadError: the bytes are none of `packed`.
    """
    if not watched:
        return checkpoints.load(raw).restore(model), None
    try:
        checkpoint, state = msgpack.unpackb(raw)
    except ValueError as error:
        raise PayloadError(str(error)) from error
    standing = checkpoints.load(checkpoint).restore(model)

    def made(plain: bytes) -> Any:
        if plain == _ITSELF:
            return model
        other = model.fresh()
        checkpoints.load(plain).restore(other)
        return other

    verifier = graph.unpacked(state, STATE, made=made)
    if type(verifier) is not Verifier:
        raise PayloadError("there must be a verifier")
    return standing, verifier
