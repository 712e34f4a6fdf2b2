"""The text form of a trace: one line an event, for editors and diffs. Lossless both ways.

    # itstrace: 1
    # profile: "qemu-7.2.22"
    0 +0 reset how=power_on
    1 +0 reg.read offset=0xffe8 value=0x3b size=4

A header line is `# key: JSON`; a comment begins with `##`, on a line of its own or behind an event.
`.` in place of a sequence number stands for the next one. Counterpart: `tracer.log.stream`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, TextIO

from tracer.errors import DamagedTrace, NewerTrace, NotATrace
from tracer.events import (
    KINDS,
    NUMBER,
    REQUIRED,
    Event,
    Field,
    Kind,
    fields_of,
    kind_name,
    trim,
)
from tracer.its import commands
from tracer.log import format as fmt
from tracer.log.checks import PayloadError, brief, check_event, fits
from tracer.log.codec import compress, decompress
from tracer.log.header import Header
from tracer.log.source import Place, Problem

SUFFIX: Final = ".its.txt"
_FIRST: Final = "# itstrace: "
_CHECKPOINT: Final = "checkpoint"  # as a header line has it; no key of the header
_EVENTS_PER_BLOCK: Final = 1024
_TOKEN: Final = re.compile(r'([a-z_0-9.]+)=("(?:[^"\\]|\\.)*"|\S+)\s*')
_CALL: Final = re.compile(r"([A-Za-z0-9]+)\(([a-z0-9_=,xA-F]{0,2000})\)")
_MAX_LINE: Final = 8 * fmt.MAX_FRAME_RAW_BYTES  # an event in JSON takes up to 7 times its size


def format_value(field: Field, value: Any) -> str:
    """Return `value` as the text form writes it."""
    if value is None:
        return "-"
    if isinstance(field.form, tuple):
        return field.form[value] if value < len(field.form) else str(value)
    if field.form == "hex":
        return hex(value)
    if field.form == "bytes":
        return _format_bytes(value)
    if field.form == "text":
        return json.dumps(value)
    return str(value)


def _format_bytes(data: bytes) -> str:
    """Hex digits; a command that has nothing beside its fields as `MAPD(device_id=0x1,...)`."""
    if len(data) == commands.COMMAND_SIZE_BYTES:
        raw = int.from_bytes(data, "little")
        spec = commands.BY_OPCODE.get(raw & 0xFF)
        if spec and not raw & spec.layout.reserved_:
            fields = [field for field in spec.layout.fields_ if field.attr != "opcode"]
            shown = ",".join(f"{each.attr}={each.get(raw):#x}" for each in fields if each.get(raw))
            return f"{spec.name}({shown})"
    return data.hex() or '""'


def _parse_bytes(text: str) -> bytes:
    """Hex digits, a command, or `u64(0x..,0x..)`; ValueError for anything else."""
    if text == '""':
        return b""
    match = _CALL.fullmatch(text)
    if not match:
        return bytes.fromhex(text)
    arguments = [each for each in match[2].split(",") if each]
    if match[1] == "u64":
        return b"".join(int(each, 0).to_bytes(8, "little") for each in arguments)
    if match[1] not in commands.BY_NAME:
        raise ValueError
    pairs = [each.split("=") for each in arguments]
    words = commands.encode(match[1], **{name: int(value, 0) for name, value in pairs})
    return b"".join(word.to_bytes(8, "little") for word in words)


def format_event(seq: int, event: Event) -> str:
    """Return one line, without its newline; fields at their defaults are left out."""
    cls = KINDS.get(event[0])
    parts = [str(seq), f"{event[1]:+d}", kind_name(event[0])]
    known = {field.name: field for field in cls.fields} if cls else {}
    for name, value in fields_of(event).items():
        field = known.get(name)
        if field is None:
            parts.append(f"{name}={_format_unknown(value)}")
        elif field.default is REQUIRED or value != field.default:
            parts.append(f"{name}={format_value(field, value)}")
    return " ".join(parts)


def _format_unknown(value: Any) -> str:
    """A value of a newer trace, whose field is not known: JSON, bytes as {"hex": ...}."""
    return json.dumps(json.dumps(value, default=lambda item: {"hex": item.hex()}))


def write_text(
    header: Header,
    events: Iterable[tuple[int, Event]],
    out: TextIO,
    checkpoint: bytes | None = None,
) -> None:
    """Write a whole trace in text form."""
    out.write(f"{_FIRST}{fmt.VERSION}\n")
    defaults = Header().to_map()
    for key, value in header.to_map().items():
        if key != "version" and (key not in defaults or value != defaults[key]):
            out.write(f"# {key}: {json.dumps(value, sort_keys=True)}\n")
    if checkpoint is not None:
        packed = base64.b64encode(compress(checkpoint, fmt.CODEC_ZLIB)).decode()
        out.write(f"# {_CHECKPOINT}: {json.dumps([len(checkpoint), packed])}\n")
    for seq, event in events:
        out.write(format_event(seq, event) + "\n")


class TextReader:
    """Reads the text form; used as `tracer.log.stream.Reader` is.

    Raises:
        NotATrace, NewerTrace, DamagedTrace: the last names the line and what it should be.
    """

    def __init__(self, stream: TextIO | BinaryIO, name: str = "trace") -> None:
        self.name = name
        self.problems: list[Problem] = []
        self.events = 0
        self.chain = b""
        self.checkpoint: bytes | None = None
        self._stream = stream
        self._line_number = 0
        self._offset = self._line_offset = 0  # behind and before the line that was read last
        self._pending: str | None = None
        self.header = self._header()
        self.next_seq = self.header.first_seq

    @property
    def status(self) -> str:
        """Always `clean`: a wrong line is an error at once."""
        return "clean"

    @property
    def open_end(self) -> bool:
        """Never: whoever wrote it by hand meant it to end there."""
        return False

    @property
    def here(self) -> Place:
        """Where the next block of events begins."""
        if self._pending is not None:
            return Place(self._line_offset, self.next_seq, line=self._line_number - 1)
        return Place(self._offset, self.next_seq, line=self._line_number)

    def go_to(self, place: Place) -> None:
        """Read on from `place` in this file."""
        self._stream.seek(place.offset)
        self._offset, self._line_number, self._pending = place.offset, place.line, None
        self.next_seq = place.seq

    def _wrong(self, what: str) -> DamagedTrace:
        error = DamagedTrace(self.name, 0, what)
        error.args = (f"{self.name}:{self._line_number}: {what}",)
        return error

    def _next_line(self) -> str | None:
        line = self._stream.readline(_MAX_LINE)
        if not line:
            return None
        self._line_number += 1
        self._line_offset = self._offset
        self._offset += len(line)
        if len(line) >= _MAX_LINE:
            raise self._wrong(f"a line must be shorter than {_MAX_LINE} characters")
        try:
            return (line.decode() if isinstance(line, bytes) else line).strip()
        except UnicodeDecodeError as error:
            raise self._wrong("text must be UTF-8") from error

    def _header(self) -> Header:
        first = self._next_line() or ""
        if not first.startswith(_FIRST):
            raise NotATrace(self.name, 0, f"a trace in text form begins with {_FIRST!r}")
        version = first.removeprefix(_FIRST)
        if not version.isdecimal() or len(version) > 9 or int(version) == 0:
            raise self._wrong(f"the format version must be a number, not {version!r:.20}")
        if int(version) > fmt.VERSION:
            raise NewerTrace(self.name, 0, f"format version {version}: use a newer itstrace")
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while (line := self._next_line()) is not None:
            if line.startswith("##") or not line:
                continue
            if not line.startswith("#"):
                self._pending = line
                break
            key, colon, text = line[1:].partition(":")
            if not colon:
                raise self._wrong("a header line must be `# key: value`; a comment begins with ##")
            key = key.strip()
            if key in values:
                raise self._wrong(f"{key} is given twice")
            lines[key] = self._line_number
            values[key] = self._json(text)
            if key == _CHECKPOINT:
                self.checkpoint = self._state(values.pop(key))
        return self._checked(values, lines)

    def _state(self, value: Any) -> bytes:
        """Return the checkpoint that a header line holds."""
        try:
            size, packed = value
            if type(size) is not int or not 0 < size <= fmt.MAX_CHECKPOINT_BYTES:
                raise PayloadError(f"a checkpoint has at most {fmt.MAX_CHECKPOINT_BYTES} bytes")
            return decompress(base64.b64decode(packed, validate=True), fmt.CODEC_ZLIB, size)
        except (ValueError, TypeError) as error:
            raise self._wrong(f"{_CHECKPOINT} must be [size, zlib in base64]: {error}") from error

    def _checked(self, values: dict[str, Any], lines: dict[str, int]) -> Header:
        """Return the header; an error names the line of the key that is wrong."""
        at = self._line_number
        for key, value in values.items():
            self._line_number = lines[key]
            try:
                Header.from_map({key: value})
            except PayloadError as error:
                raise self._wrong(str(error)) from error
            if key == "version" and value != fmt.VERSION:
                raise self._wrong(f"version must be {fmt.VERSION}, as the first line says")
        self._line_number = at
        return Header.from_map(values)

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"this must be JSON: {error}") from error

    def __iter__(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        block: list[Event] = []
        while (line := self._pending or self._next_line()) is not None:
            self._pending = None
            line = _without_comment(line)
            if not line:
                continue
            block.append(self._event(line, self.next_seq + len(block)))
            if len(block) == _EVENTS_PER_BLOCK:
                yield self._block(block)
                block = []
        if block:
            yield self._block(block)

    def _block(self, block: list[Event]) -> tuple[int, tuple[Event, ...]]:
        first_seq = self.next_seq
        self.next_seq += len(block)
        self.events += len(block)
        return first_seq, tuple(block)

    def _event(self, line: str, seq: int) -> Event:
        parts = line.split(None, 3)
        if len(parts) < 3:
            raise self._wrong("an event must be `SEQ +DT kind key=value ...`")
        if parts[0] not in (".", str(seq)):
            raise self._wrong(f"the sequence number must be {seq}, or . for the next one")
        if not re.fullmatch(r"[+-][0-9]{1,20}", parts[1]):
            raise self._wrong(
                f"the time must be +NANOSECONDS or -NANOSECONDS, not {parts[1]!r:.30}"
            )
        kind, dt_ns = self._kind(parts[2]), int(parts[1])
        tokens = self._tokens(parts[3] if len(parts) > 3 else "")
        event = self._known(kind, dt_ns, tokens)
        try:
            check_event(event)
        except PayloadError as error:
            raise self._wrong(str(error)) from error
        return event

    def _kind(self, name: str) -> int:
        if name in NUMBER:
            return NUMBER[name]
        match = re.fullmatch(r"kind\.([0-9]{1,3})", name)
        if match and int(match[1]) <= 255:
            return int(match[1])
        raise self._wrong(f"there is no kind of event called {name!r:.40}")

    def _tokens(self, text: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if not match:
                raise self._wrong(f"fields must be key=value, not {text[at:]!r:.40}")
            if match[1] in found:
                raise self._wrong(f"{match[1]} is given twice")
            unknown = match[1].startswith("field.")
            found[match[1]] = self._unknown(match[2]) if unknown else match[2]
            at = match.end()
        return found

    def _unknown(self, text: str) -> Any:
        try:
            return _thaw(self._json(self._json(text)) if text.startswith('"') else self._json(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise self._wrong(f"{text!r:.40} is not the value of a field") from error

    def _known(self, kind: int, dt_ns: int, tokens: dict[str, Any]) -> Event:
        cls = KINDS.get(kind, Kind)
        name = kind_name(kind)
        event: list[Any] = [kind, dt_ns]
        for field in cls.fields:
            text = tokens.pop(field.name, None)
            if text is None and field.default is REQUIRED:
                raise self._wrong(f"{name} needs {field.name}")
            event.append(field.default if text is None else self._value(name, field, text))
        extra: list[Any] = []
        while (key := f"field.{len(cls.fields) + len(extra)}") in tokens:
            extra.append(tokens.pop(key))
        if tokens:
            raise self._wrong(f"{name} has no field {', '.join(tokens)}")
        return (*event, *extra) if extra else trim(event, cls)

    def _value(self, kind: str, field: Field, text: str) -> Any:
        value = _parse_value(field, text)
        if value is REQUIRED or not fits(field, value):
            raise self._wrong(f"{kind}: {field.name} must not be {brief(text)}{_fields_of(text)}")
        return value


def _without_comment(line: str) -> str:
    """Cut a trailing `##` comment that is not inside a quoted string."""
    if "##" not in line:
        return line
    quoted = escaped = False
    for at, char in enumerate(line):
        if escaped:
            escaped = False
        elif char == "\\" and quoted:
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "#" and not quoted and line.startswith("##", at):
            return line[:at].rstrip()
    return line


def _parse_value(field: Field, text: str) -> Any:
    """Return the value, or REQUIRED when the text is not of the field's form."""
    try:
        if text == "-":
            return None
        if isinstance(field.form, tuple):
            return field.form.index(text)
        if field.form == "bytes":
            return _parse_bytes(text)
        if field.form == "text":
            return json.loads(text)
        return int(text, 0) if len(text) <= 40 else REQUIRED
    except (ValueError, RecursionError, OverflowError, TypeError):
        return REQUIRED


def _fields_of(text: str) -> str:
    """Return what the command in a text that cannot be read may have, for whoever wrote it."""
    match = _CALL.fullmatch(text)
    spec = match and commands.BY_NAME.get(match[1])
    if not spec:
        return ""
    names = [field.attr for field in spec.layout.fields_ if field.attr != "opcode"]
    return f"; {spec.name} has {', '.join(names)}"


def _thaw(value: Any) -> Any:
    """JSON back to what msgpack gives: arrays are tuples, {"hex": ...} is bytes."""
    if isinstance(value, list):
        return tuple(_thaw(item) for item in value)
    if isinstance(value, dict) and set(value) == {"hex"} and isinstance(value["hex"], str):
        return bytes.fromhex(value["hex"])
    return value
