"""Scenarios planted in the middle of a long life of the same family: what minimising has to find.

Before the scenario there is a life, then a power-on of the same VM, then the scenario with other
identifiers, and with noise between its events; behind it another life. All of it was asked of the
device that the scenario's fixed variant describes (or the buggy one, where the bug must be seen
to be stale), so that the trace is what such a device would have left.
"""

from __future__ import annotations
