"""One stream of kernel trace text, one trace for each VM in it.

A record is given to its VM by the process of the thread that made it, or by the `struct kvm` that
it names: threads of the kernel work for any VM, and an interrupt may come in anybody's thread.
A thread that nothing has told of yet holds up what came behind it, for a while. Everything that a
stream can make grow has a limit; what goes beyond is said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tracer.errors import SourceError
from tracer.events import NUMBER, Event
from tracer.log.header import Header
from tracer.sources import ftrace_formats as ft
from tracer.sources.ftrace import Ftrace
from tracer.sources.ftrace_facts import Facts
from tracer.sources.ftrace_header import header
from tracer.sources.ftrace_places import Places
from tracer.sources.ftrace_records import Record, parse
from tracer.sources.ftrace_samples import MAX_SAMPLES, Sample
from tracer.sources.stats import Stats

MAX_VMS: Final = 256
MAX_EARLY: Final = 64  # notes before the first VM
MAX_KVMS: Final = 4096  # addresses of `struct kvm`
HOLD_EVENTS: Final = 1024  # of a VM until its header is known
HOLD_NS: Final = 10_000_000_000
WAIT_RECORDS: Final = 8192  # behind a thread that nothing has told of
WAIT_NS: Final = 2_000_000_000
TICK_NS: Final = 1_000_000_000

# Records that only the VMM's own threads make: their kvm and their process belong together.
_BINDING: Final = frozenset(
    (b"set_attr", b"get_attr", b"gset_attr", b"gget_attr", b"rd", b"savep", b"create")
)
# In whose thread these come says nothing: an interrupt's, or a worker's. They name no VM, but
# what the same thread did right before them does.
_ANYWHERE: Final = frozenset((b"msic_ret", b"msi_ret"))
_ITS_KINDS: Final = frozenset(
    NUMBER[name]
    for name in (
        "reg.read",
        "reg.write",
        "command",
        "init",
        "create",
        "reset",
        "msi",
        "lpi.live",
        "its.live",
    )
)
_ONLY: Final = "vm"  # the name of the one VM of a stream that tells nothing of processes


@dataclass(slots=True)
class Vm:
    """One VM: its events so far, and its header from its first events on."""

    id: str
    tgid: int | None
    log: Ftrace
    since_ns: int
    kvm: int | None = None
    header: Header | None = None
    its: bool = False  # whether it showed that it has one
    gone: bool = False
    held: list[Event] = field(default_factory=list)


class Vms:
    """All VMs of one stream."""

    def __init__(self, *, only: int | None = None, its_base: int | None = None) -> None:
        """`only` is the process of the VM that is wanted; `its_base` is better known than guessed."""
        self.facts = Facts()
        self.stats = Stats()
        self.known: dict[str, Vm] = {}
        self._only = only
        self._its_base = its_base
        self._by_tgid: dict[int, Vm] = {}  # the latest of each process
        self._by_kvm: dict[int, Vm] = {}
        self._samples: dict[int, Sample] = {}
        self._waiting: deque[Record] = deque()
        self._inside: dict[int, Vm] = {}  # thread -> whose cached MSI it is sending
        self._ticked_ns = 0
        self._now_ns = 0
        self._lost = 0
        self._rest: Vm | None = None  # whatever is beyond the limit
        self._early: list[Callable[[Vm], None]] = []
        self._whole: list[tuple[Vm, list[Event]]] = []  # events that are complete, until they go

    def take(self, line: bytes | None, *, complete: bool = True) -> list[tuple[Vm, list[Event]]]:
        """Take a line (None: one that is too long); return each VM's events that are whole now.

        `complete` is False for a last line without its newline.

        Raises:
            SourceError: the recorder says that it did not begin.
        """
        self.stats.lines += 1
        self._line(line, complete=complete)
        self._resolve()
        if self._now_ns - self._ticked_ns >= TICK_NS:
            self._ticked_ns = self._now_ns
            for vm in self.known.values():
                self._give(vm)
        whole, self._whole = self._whole, []
        return [each for vm, events in whole for each in self._ready(vm, events)]

    def end(self) -> list[tuple[Vm, list[Event]]]:
        """Return what is left when nothing more comes."""
        self._resolve(last=True)
        self._lost_at_end()
        self._whole += [(vm, vm.log.finish()) for vm in self.known.values()]
        return [each for vm, events in self._whole for each in self._ready(vm, events, last=True)]

    def _give(self, vm: Vm) -> None:
        self._whole.append((vm, vm.log.give(self._now_ns)))

    # -- lines

    def _line(self, line: bytes | None, *, complete: bool) -> None:
        if line is None:
            self._gap("the line is longer than any record of the kernel's")
            return
        head = ft.HEAD.search(line)
        if head is None:
            self._headless(line, complete=complete)
        elif not complete:
            # The last line lacks its newline: its last number may lack digits.
            self.stats.cut_last_line = True
        else:
            found = parse(line, head)
            if isinstance(found, str):
                self._gap(found)
            else:
                self._record(found)

    def _headless(self, line: bytes, *, complete: bool) -> None:
        lost = ft.LOSS.search(line)
        entries = ft.ENTRIES.match(line)
        if lost:
            self._lose("the kernel's ring buffer was full", lost[1] or lost[2] or lost[3])
        elif entries and int(entries[1]) < int(entries[2]):
            overwritten = int(entries[2]) - int(entries[1])
            self._lose("the kernel's ring buffer overwrote the oldest records", overwritten)
        elif line.startswith(b"#") and self.facts.take(line):
            self.stats.skipped += 1
            if self.facts.error is not None:
                raise SourceError(f"the recorder did not begin: {self.facts.error}")
        elif not any(mark in line for mark in ft.MARKS):
            self.stats.skipped += 1
        elif not complete:
            self.stats.cut_last_line = True
        else:
            self._gap("a record of ours without its head, or with a damaged one")

    def _gap(self, reason: str) -> None:
        """Note a line that could not be read: nobody knows whose it was."""
        line = self.stats.lines
        self.stats.gap(line, reason)
        self._all(lambda vm: vm.log.gap(reason, line))

    def _lose(self, reason: str, count: bytes | int | None) -> None:
        number = None if count is None else int(count)
        self.stats.ours += 1
        self._lost += number or 0
        self._all(lambda vm: vm.log.lose(reason, number))

    def _all(self, note: Callable[[Vm], None]) -> None:
        """Note something in every VM; what comes before the first one, in each when it comes."""
        if not self.known and len(self._early) < MAX_EARLY:
            self._early.append(note)
        for vm in self.known.values():
            note(vm)

    def _lost_at_end(self) -> None:
        """Note what the recorder counted and the stream did not show in its place."""
        if self.facts.lost > self._lost:
            self._lose("the kernel counted more as lost", self.facts.lost - self._lost)
        for probe, count in self.facts.missed:
            self._lose(f"the kernel did not run our probe {probe}", count)

    # -- records

    def _record(self, record: Record) -> None:
        self._now_ns = max(self._now_ns, record.time_ns)
        self.stats.ours += 1
        if record.name == ft.MARKER:
            self._said(record)
            return
        if record.tgid is not None and not record.kernel:
            self.facts.thread(record.thread, record.tgid)
        if record.name == ft.WHO:
            self._who(record)
        else:
            self._waiting.append(record)

    def _who(self, record: Record) -> None:
        """Learn at once whose a `struct kvm` is: what waits before this may be waiting for it."""
        kvm, tgid = record.kvm, record.tgid or self.facts.threads.get(record.thread)
        known = self._by_kvm.get(kvm or 0)
        if kvm and tgid is not None and (known is None or known.gone):
            self._bind(kvm, tgid)

    def _resolve(self, *, last: bool = False) -> None:
        """Give waiting records to their VMs, in order."""
        waiting = self._waiting
        while waiting:
            record = waiting[0]
            vm = self._vm_of(record)
            early = not last and self._now_ns - record.time_ns < WAIT_NS
            if vm is None and early and len(waiting) < WAIT_RECORDS:
                break
            waiting.popleft()
            vm = vm or self._by_default(record)
            if vm is None or not self._wanted(vm):
                self.stats.ours -= 1
                self.stats.skipped += 1
                continue
            vm.log.take(record)
            vm.gone = vm.gone or record.name == b"destroy"
            self._give(vm)

    def _wanted(self, vm: Vm) -> bool:
        return vm is not self._rest and self._only in (None, vm.tgid)

    def _vm_of(self, record: Record) -> Vm | None:
        """Return the VM of a record; None while nothing tells."""
        kvm = record.kvm
        tgid = None if record.kernel else record.tgid or self.facts.threads.get(record.thread)
        if kvm is not None:
            vm = self._by_kvm.get(kvm)
            if vm is not None and not vm.gone:
                return self._remember(record, vm)
            if record.name in _BINDING or (record.name == b"msi" and not record.kernel):
                # the kernel may not know the process of a thread's first records; ours says it soon
                told = tgid is not None or self.facts.stream is None
                return self._bind(kvm, tgid) if told else None
            lonely = [each for each in self.known.values() if each.kvm is None and not each.gone]
            if len(lonely) == 1 and len(self.known) == 1:
                return self._remember(record, self._bound(lonely[0], kvm))
            return None
        if record.name in _ANYWHERE and record.thread in self._inside:
            return self._inside[record.thread]
        if tgid is not None:
            return self._by_tgid.get(tgid) or self._made(str(tgid), tgid)
        if self.facts.stream is None and not self._by_tgid and not self._by_kvm:
            return self.known.get(_ONLY) or self._made(_ONLY, None)
        return None

    def _remember(self, record: Record, vm: Vm) -> Vm:
        """The return of a cached MSI names no VM: it is the one that its entry named."""
        if record.name in (b"msic", b"msi"):
            if len(self._inside) >= MAX_KVMS:
                self._inside.clear()
            self._inside[record.thread] = vm
        return vm

    def _bind(self, kvm: int, tgid: int | None) -> Vm:
        """Return the VM of a `struct kvm` that a thread of a process uses for the first time."""
        vm = self._by_tgid.get(tgid) if tgid is not None else self.known.get(_ONLY)
        if vm is not None and vm.kvm is None:
            return self._bound(vm, kvm)
        if vm is not None and not vm.gone:
            vm.log.tell("its process has several VMs: whose an access is, nothing tells")
        name = _ONLY if tgid is None else str(tgid)
        count = sum(each.tgid == tgid for each in self.known.values())
        return self._bound(self._made(f"{name}-{count + 1}" if count else name, tgid), kvm)

    def _bound(self, vm: Vm, kvm: int) -> Vm:
        if len(self._by_kvm) >= MAX_KVMS:
            del self._by_kvm[next(iter(self._by_kvm))]
        vm.kvm = kvm
        self._by_kvm[kvm] = vm
        return vm

    def _by_default(self, record: Record) -> Vm | None:
        """Return the VM of a record that nothing has told of in time: the only one, if there is."""
        if len(self.known) == 1:
            return next(iter(self.known.values()))
        if not self.known:
            return self._made(_ONLY, None)
        self._gap("a record of a thread that nothing tells the VM of")
        return None

    def _made(self, name: str, tgid: int | None) -> Vm:
        """Return a new VM; when there are too many, one for the rest that nobody is given."""
        asked_for = tgid is not None and tgid == self._only
        if len(self.known) >= MAX_VMS and not asked_for:
            if self._rest is None:
                self._rest = Vm("the rest", None, Ftrace(self.stats, Places()), self._now_ns)
                self._gap(f"there are more than {MAX_VMS} VMs: records of others are not used")
            return self._rest
        fact = self.facts.vms.get(tgid) if tgid is not None else None
        places = Places(last=fact.vcpus if fact else None)
        base = self._its_base or (fact.its_bases[0] if fact and fact.its_bases else None)
        if base is not None:
            places.set_its(base)
        probed = self.facts.stream is not None
        has_returns = probed and not any("mmio_write" in each for each in self.facts.missing)
        vm = Vm(name, tgid, Ftrace(self.stats, places, returns=has_returns), self._now_ns)
        vm.log.vmm_seen = probed
        for each in self.facts.missing:
            vm.log.tell(f"this kernel lacks {each}")
        for note in self._early:
            note(vm)
        self.known[name] = vm
        if tgid is not None:
            self._by_tgid[tgid] = vm
        return vm

    # -- what our recorder says through trace_marker

    def _said(self, record: Record) -> None:
        said = ft.SAID.match(record.text)
        sample = None if said else ft.SAMPLE.match(record.text)
        if said is not None and not self.facts.say(said[1], said[2]):
            self._gap("what our recorder says cannot be read")
        elif sample is not None:
            self._sample(record, int(sample[1]), sample[2], sample[3] or b"")
        elif said is None:
            self.stats.ours -= 1
            self.stats.skipped += 1

    def _sample(self, record: Record, number: int, what: bytes, text: bytes) -> None:
        self._resolve()
        if what == b"begin":
            self._sample_begins(record, number, text)
            return
        sample = self._samples.get(number)
        if sample is None:
            self._gap("a line of a listing whose begin is missing")
        elif what == b"end":
            del self._samples[number]
            self._sample_ends(record, sample, text)
        else:
            sample.line(record.time_ns, what, text)

    def _sample_begins(self, record: Record, number: int, text: bytes) -> None:
        match = ft.SAMPLE_BEGIN.fullmatch(text.strip())
        if match is None:
            self._gap("the begin of a listing cannot be read")
            return
        if len(self._samples) >= MAX_SAMPLES:
            del self._samples[next(iter(self._samples))]
        thread = int(match[1])
        tgid = self.facts.threads.get(thread, thread)
        vm = self._by_tgid.get(tgid)
        inputs = None if vm is not None and vm.log.busy else (vm.log.inputs if vm else 0)
        self._samples[number] = Sample(tgid, record.time_ns, inputs)

    def _sample_ends(self, record: Record, sample: Sample, text: bytes) -> None:
        probes = sample.events(record.time_ns, text)
        if probes is None:
            self._gap("the end of a listing cannot be read")
            return
        vm = self._by_tgid.get(sample.tgid) or self._made(str(sample.tgid), sample.tgid)
        if not self._wanted(vm):
            return
        if sample.vcpus and vm.log.places.last is None:
            vm.log.places.last = sample.vcpus
        overlap = vm.log.busy or sample.inputs != vm.log.inputs
        for probe in probes:
            vm.log.listed(probe, overlap=overlap)

    # -- headers

    def _ready(
        self, vm: Vm, events: list[Event], *, last: bool = False
    ) -> Iterator[tuple[Vm, list[Event]]]:
        """Yield a VM's events once its header is known; hold them until then, within limits."""
        if vm.header is not None:
            if events:
                yield vm, events
            return
        vm.held += events
        vm.its = vm.its or any(event[0] in _ITS_KINDS for event in events)
        full = len(vm.held) >= HOLD_EVENTS
        late = self._now_ns - vm.since_ns >= HOLD_NS
        told = vm.log.places.cpus is not None and vm.log.places.its_told
        asked = last and self._only is not None and vm.tgid == self._only
        if full or asked or (vm.its and (told or late or last)):
            vm.header = header(self.facts, vm.log, vm.id, vm.tgid)
            held, vm.held = vm.held, []
            yield vm, held
