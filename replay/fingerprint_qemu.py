"""Short lives that each make one behaviour flag of QEMU's ITS speak, as operation vectors.

Counterpart: `replay.fingerprint`. They are told by registers and tables in guest RAM alone.
"""

from __future__ import annotations

from typing import Final

from replay.fingerprint_lives import CQ, DT, ITT, PEND, VALID, Script

_SYNC, _MOVI, _MOVALL, _INT = 0x5, 0x1, 0xE, 0x3
_MAPD: Final = (0x8, 0, VALID | ITT, 0)  # in the place of a command that was carried out


def _two_collections() -> Script:
    """Event 0 of device 0 as INTID 8192 in collection 0 on CPU 0; collection 1 is on CPU 1."""
    return Script().one().mapc(1, 1)


def _pending(script: Script) -> Script:
    return script.do("m", PEND + 0x400, 1).do("m", PEND + 0x2_0400, 1)


QEMU_LIVES: Final[dict[str, Script]] = {
    "creadr_kept_on_enable": (
        Script().base().command(_SYNC).do("W", 0, 0).do("Q", CQ, *_MAPD).do("W", 0, 1)
    ).do("m", DT, 1),
    "cwriter_kept_on_cbaser_write": (
        Script().do("W", 0x88, 0x20).do("W", 0x80, VALID | CQ).do("R", 0x88)
    ),
    "unimplemented_baser_ignores_writes": Script().do("W", 0x118, VALID).do("R", 0x118),
    "movi_implemented": _pending(_two_collections().command(_MOVI, 0, 1).command(_INT, 0)),
    "movall_implemented": _pending(
        _two_collections().command(_INT, 0).command(_MOVALL, 0, 0, 1 << 16)
    ),
    "ite_high_word_stored_apart": Script().one().do("m", ITT, 2),
}
