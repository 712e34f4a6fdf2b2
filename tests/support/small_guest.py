"""A guest for a small ITS: it boots, sends an MSI, and reads what a reset should have cleared.

`its` is a `tracer.Recorder` or anything with the same methods.
"""

from __future__ import annotations

import struct

from tests.support.small_its import (
    BASER0,
    BASER1,
    CBASER,
    CREADR,
    CTLR,
    CWRITER,
    GICR_CTLR,
    IIDR,
    PENDBASER,
    PIDR2,
    PROPBASER,
    TYPER,
)  # fmt: skip
from tracer.its.commands import encode

VALID = 1 << 63
DEVICES, COLLECTIONS, QUEUE = 0x4000_0000, 0x4001_0000, 0x4002_0000
PROPERTIES, PENDING, ITT = 0x4003_0000, 0x4004_0000, 0x4006_0000
DEVICE_ID, EVENT_ID, INTID = 2, 1, 8195


def boot(its, tables=0):
    """Set everything up (tables `tables` bytes further up), map one event and send it."""
    its.gicr_write(0, PROPBASER, PROPERTIES + tables | 0xF)
    its.gicr_write(0, PENDBASER, PENDING + tables)
    its.gicr_write(0, GICR_CTLR, 1, 4)
    its.reg_write(BASER0, VALID | DEVICES + tables)
    its.reg_write(BASER1, VALID | COLLECTIONS + tables)
    its.reg_write(CBASER, VALID | QUEUE + tables)
    its.reg_write(CWRITER, 0)
    its.reg_write(CTLR, 1, 4)
    if not tables:
        commands(
            its,
            encode("MAPD", device_id=DEVICE_ID, size=3, itt_addr=ITT, v=1),
            encode("MAPC", icid=1, rdbase=0, v=1),
            encode("MAPTI", device_id=DEVICE_ID, event_id=EVENT_ID, pintid=INTID, icid=1),
            encode("SYNC", rdbase=0),
        )
    its.msi(DEVICE_ID, EVENT_ID)


def commands(its, *doublewords):
    """Put commands at the start of the queue and run them."""
    for at, dws in enumerate(doublewords):
        its.memory.write(QUEUE + 32 * at, struct.pack("<4Q", *dws))
    its.reg_write(CWRITER, 32 * len(doublewords))


def look(its):
    """Read every register that tells of a reset."""
    for offset in (CTLR, IIDR, PIDR2):
        its.reg_read(offset, 4)
    for offset in (TYPER, CBASER, CWRITER, CREADR, *range(BASER0, BASER0 + 64, 8)):
        its.reg_read(offset)
    its.gicr_read(0, GICR_CTLR, 4)
    its.gicr_read(0, PROPBASER)
    its.gicr_read(0, PENDBASER)
