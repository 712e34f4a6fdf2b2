"""KVM_DEV_ARM_ITS_CTRL_RESET, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.model.kvm.layout import VALID
from replay.model.kvm.tables import free_collections, free_devices

if TYPE_CHECKING:
    from replay.model.kvm.state import State


def reset(state: State) -> None:
    """Do what `vgic_its_reset` does, and no more.

    Linux 3eb4271b4ab6 ("vgic-its: Implement KVM_DEV_ARM_ITS_CTRL_RESET") (in v4.15). Of the BASERs
    only Valid goes; guest RAM, the redistributors' registers, and LPIs queued on a vCPU stay. The
    cache goes with each device that is freed, so an ITS without devices keeps it.
    """
    state.coll_baser &= ~VALID
    state.device_baser &= ~VALID
    state.cbaser = 0
    state.creadr = 0
    state.cwriter = 0
    state.enabled = False
    for name in ("GITS_CTLR", "GITS_CBASER", "GITS_CREADR", "GITS_CWRITER"):
        state.unknown.know(name)
    for name in ("GITS_BASER0", "GITS_BASER1"):
        state.unknown.know(name, VALID)
    free_devices(state)
    free_collections(state)
