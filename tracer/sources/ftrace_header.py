"""The header of one VM's trace: what the stream and the VM's own records told, and what is a guess."""

from __future__ import annotations

from typing import Final

from tracer.log.header import MAX_CPUS, POWER_ON, RUNNING, Header
from tracer.sources import ftrace_formats as ft
from tracer.sources.ftrace import NAME, Ftrace
from tracer.sources.ftrace_facts import Facts

DEFAULT_VERSION: Final = "6.1.192"  # of a kernel that nothing tells


def header(facts: Facts, log: Ftrace, name: str, tgid: int | None) -> Header:
    """Return what is known of a VM now; what is a guess is named."""
    places = log.places
    version = facts.kernel or DEFAULT_VERSION
    guesses = {
        "command.queue_offset": facts.stream is None,
        "cpus": places.cpus is None and places.touched > 0,
        "gicd_base": not places.gicd_told,
        "gicr_base": not places.regions,
        "implementation_version": facts.kernel is None,
        "its_bases": not places.its_told,
        "profile": facts.kernel is None,
    }
    return Header(
        source=NAME,
        order="per_cpu",
        implementation="linux-kvm",
        implementation_version=version,
        profile=f"linux-{version}",
        its_bases=[places.its],
        cpus=min(places.cpus or places.touched, MAX_CPUS) or None,
        clock=facts.clock,
        guest_ram="observed",
        starts=POWER_ON if log.born else RUNNING,
        guessed=[key for key, guessed in guesses.items() if guessed],
        command_line=None if tgid is None else facts.commands.get(tgid),
        annotations=_notes(facts, log, None if tgid is None else name),
    )


def _notes(facts: Facts, log: Ftrace, name: str | None) -> dict[str, str]:
    gicr = log.places.regions[0][0] if log.places.regions else ft.GICR_BASE
    notes = {"gicd_base": hex(log.places.gicd), "gicr_base": hex(gicr)}
    if facts.release and facts.stream:
        notes["release"] = facts.release
    if facts.missing:
        notes["missing"] = "; ".join(facts.missing)
    if name is not None:
        notes["vm"] = name
    return notes
