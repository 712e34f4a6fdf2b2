"""Reset: Xen has none.

A domain's ITS is made with the domain and freed with it; a reboot of dom0 is a reboot of the host.
So a reset is a new VM in the RAM of the old one, and there is no step that could be left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.model.xen.state import XenState

if TYPE_CHECKING:
    from replay.model.xen.vm import XenVm


def run(vm: XenVm) -> None:
    """Put a new ITS, new redistributors and a host without devices in the place of the old."""
    vm.state = XenState(vm.cpus)
    vm.hand_over()
