"""The header of a trace: what was recorded, by whom, and what is known of it.

What a source cannot know is None; what it guessed is named in `guessed`. Keys that a newer writer
added are kept in `extra` and written back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

from tracer.log import format as fmt
from tracer.log.checks import PayloadError, brief
from tracer.log.codec import check_plain, pack_map

RECORDER: Final = "itstrace"
IN_PROCESS: Final = "recorder"  # the source of a device that is under test
POWER_ON: Final = "power_on"
RUNNING: Final = "running"


@dataclass(slots=True)
class Header:
    """One field a key of the header map; docs/trace-format.md says what each means."""

    version: int = fmt.VERSION
    uuid: str = ""
    parent_uuid: str | None = None
    first_seq: int = 0
    base_digest: str | None = None
    created: str | None = None
    recorder: str = RECORDER
    recorder_version: str | None = None
    source: str | None = None
    order: str | None = None
    implementation: str | None = None
    implementation_version: str | None = None
    profile: str | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    its_bases: list[int] | None = None
    cpus: int | None = None
    mpidrs: list[int] | None = None
    ram_ranges: list[list[int]] | None = None
    clock: str = "none"
    guest_ram: str = "observed"
    starts: str = POWER_ON
    guessed: list[str] = field(default_factory=list)
    command_line: list[str] | None = None
    host: str | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def to_map(self) -> dict[str, Any]:
        """Return the header map, keys in the order of this class."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        if self.starts == POWER_ON:
            del known["starts"]  # as in traces made before there was this key
        return known | self.extra

    def payload(self) -> bytes:
        """Return what a header frame holds; PayloadError when no reader would take it."""
        values = self.to_map()
        Header.from_map(values)
        if values["version"] != fmt.VERSION:
            raise PayloadError(f"header: version must be {fmt.VERSION}")
        payload = pack_map(values)
        if len(payload) > fmt.MAX_HEADER_RAW_BYTES:
            raise PayloadError(f"the header must be at most {fmt.MAX_HEADER_RAW_BYTES} bytes")
        return payload

    @classmethod
    def from_map(cls, value: dict[str, Any]) -> Header:
        """Return the header of a map as read; PayloadError when a key has the wrong type."""
        header = cls()
        for key, item in value.items():
            try:
                check_plain({key: item})
            except PayloadError as error:
                raise PayloadError(f"header: {brief(key)}: {error}") from error
            if key not in _TYPES:
                header.extra[key] = item
            elif not _TYPES[key](item):
                raise PayloadError(f"header: {key} must not be {brief(item)}")
            else:
                setattr(header, key, item)
        return header


def _text(item: object) -> bool:
    return isinstance(item, str)


def _maybe_text(item: object) -> bool:
    return item is None or isinstance(item, str)


def _number(item: object) -> bool:
    return type(item) is int and 0 <= item < 2**64


def _seq(item: object) -> bool:
    return type(item) is int and 0 <= item < fmt.MAX_SEQ


def _cpus(item: object) -> bool:
    return item is None or (type(item) is int and 1 <= item <= MAX_CPUS)


def _list_of(check: Any) -> Any:
    return lambda item: isinstance(item, list | tuple) and all(check(each) for each in item)


def _maybe_list_of(check: Any) -> Any:
    inner = _list_of(check)
    return lambda item: item is None or inner(item)


def _pair(item: object) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and all(map(_number, item))


def _text_map(item: object) -> bool:
    return (
        isinstance(item, dict)
        and all(isinstance(k, str) for k in item)
        and all(isinstance(v, str) for v in item.values())
    )


def _flags(item: object) -> bool:
    """A flag is name -> [value, how it is known]; the value is a bool, a number or a name."""
    return isinstance(item, dict) and all(
        isinstance(name, str)
        and isinstance(flag, list | tuple)
        and len(flag) == 2
        and isinstance(flag[0], bool | int | str)
        and isinstance(flag[1], str)
        for name, flag in item.items()
    )


MAX_CPUS: Final = 512  # of a GICv3 VM on Linux KVM (KVM_MAX_VCPUS) and on QEMU's virt machine

_TYPES: Final[dict[str, Any]] = {
    "version": _number,
    "uuid": _text,
    "parent_uuid": _maybe_text,
    "first_seq": _seq,
    "base_digest": _maybe_text,
    "created": _maybe_text,
    "recorder": _text,
    "recorder_version": _maybe_text,
    "source": _maybe_text,
    "order": _maybe_text,
    "implementation": _maybe_text,
    "implementation_version": _maybe_text,
    "profile": _maybe_text,
    "flags": _flags,
    "its_bases": _maybe_list_of(_number),
    "cpus": _cpus,
    "mpidrs": _maybe_list_of(_number),
    "ram_ranges": _maybe_list_of(_pair),
    "clock": _text,
    "guest_ram": lambda item: item in ("observed", "complete"),
    "starts": lambda item: item in (POWER_ON, RUNNING),
    "guessed": _list_of(_text),
    "command_line": _maybe_list_of(_text),
    "host": _maybe_text,
    "annotations": _text_map,
}
