"""Starts VMs for a test and leaves nothing of them behind."""

from __future__ import annotations

import pytest

from tests.support.recorded_vm import Vm


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a recorded VM; nothing of it is left behind."""
    started = []

    def make(*options, **more):
        started.append(Vm(tmp_path, *options, **more))
        return started[-1]

    yield make
    for vm in started:
        vm.clean_up()
