"""`itstrace import` of a KVM host's kernel trace text: a trace for each VM that is in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from replay.commands.common import progress
from replay.commands.ring_options import Folder, opened_output
from tracer.errors import SourceError, UsageError
from tracer.events import Event
from tracer.log.header import Header
from tracer.log.ring import Ring
from tracer.log.stream import Writer
from tracer.sources.ftrace_vms import Vm, Vms
from tracer.sources.lines import LineReader

PLACE: Final = "%p"  # in the name of an output: the VM
MAX_NAMED: Final = 16

MakeWriter = Callable[[BinaryIO | Folder, Header, str], Writer | Ring]
Open = Callable[[str], AbstractContextManager[BinaryIO | Folder]]


class Outputs:
    """The trace of each VM: one file, or one for each VM where the name has a place for it."""

    def __init__(self, name: str, *, open_output: Open, make: MakeWriter) -> None:
        self.writers: dict[str, Writer | Ring] = {}
        self._name = name
        self._open = open_output
        self._make = make
        self._files = ExitStack()

    def add(self, vm: Vm, events: Iterable[Event]) -> None:
        """Write a VM's next events; of a single file's VMs only the first one's are kept."""
        writer = self.writers.get(vm.id)
        if writer is None:
            if self.writers and PLACE not in self._name:
                return
            assert vm.header is not None
            name = self._name.replace(PLACE, vm.id)
            out = self._files.enter_context(self._open(name))
            writer = self.writers[vm.id] = self._make(out, vm.header, name)
        for event in events:
            writer.add(event)

    def close(self) -> None:
        """End every trace well."""
        for writer in self.writers.values():
            writer.close()
        self._files.close()

    def abandon(self, *, remove: bool) -> None:
        """Leave the traces as they are, or take away what should not have been written."""
        for writer in self.writers.values():
            writer.abandon()
        self._files.close()
        if remove and self._name != "-" and self.writers:
            Path(self._name).unlink(missing_ok=True)


def import_vms(
    lines: LineReader, output: str, options: argparse.Namespace, make: MakeWriter
) -> tuple[Vms, dict[str, Writer | Ring]]:
    """Write the traces; return what was met, and the writers by VM.

    Raises:
        UsageError: there are several VMs, and nothing says which; or not the one that was wanted.
        SourceError: there is no VM with an ITS.
    """
    vms = Vms(only=options.pid, its_base=options.its_base)
    open_output = partial(opened_output, options)
    outputs = Outputs(output, open_output=open_output, make=make)
    try:
        every = lambda: sum(each.next_seq for each in outputs.writers.values())  # noqa: E731
        for vm, events in progress(_events(vms, lines), "events", every=every):
            outputs.add(vm, events)
    except BaseException:
        outputs.abandon(remove=False)
        raise
    found = [vm for vm in vms.known.values() if vm.header is not None]
    if len(found) > 1 and PLACE not in output:
        outputs.abandon(remove=True)
        raise UsageError(
            f"{lines.name}: there are {len(found)} VMs in it: {_named(found)}; choose one with "
            f"--pid, or write each into its own file with -o 'NAME-{PLACE}.itstrace'"
        )
    if not found:
        raise _nothing(vms, lines.name, options.pid)
    outputs.close()
    return vms, outputs.writers


def _events(vms: Vms, lines: LineReader) -> Iterator[tuple[Vm, list[Event]]]:
    for line in lines:
        yield from vms.take(line, complete=lines.complete)
    yield from vms.end()


def _named(vms: list[Vm]) -> str:
    names = [
        f"{vm.id} ({' '.join(vm.header.command_line)[:60]})"
        if vm.header and vm.header.command_line
        else vm.id
        for vm in vms[:MAX_NAMED]
    ]
    more = len(vms) - MAX_NAMED
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _nothing(vms: Vms, name: str, pid: int | None) -> Exception:
    """Return the error for a text without a VM, with the way out that the text suggests."""
    if pid is not None:
        others = [vm for vm in vms.known.values() if vm.tgid is not None]
        there = f"there are {_named(others)}" if others else "it tells no process of any record"
        return UsageError(f"{name}: no VM of process {pid} is in it: {there}")
    places = [vm.log.places.elsewhere for vm in vms.known.values()]
    found = next((place for place in places if place is not None), None)
    hint = "" if found is None else f"; MSIs go to an ITS at {found:#x}: give --its-base {found:#x}"
    return SourceError(f"{name}: no record in it is of an ITS{hint}")
