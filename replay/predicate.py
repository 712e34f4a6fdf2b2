"""Conditions on a model's state: comparisons of its values, joined by and, or, not, and `changes`.

    devices[0x8].valid and lpis[8192].pending == set
    registers.GITS_BASER0.Valid changes or count(devices) > 3

Paths are those of `itstrace.state/1` (docs/time-travel.md lists them). What is not known is neither
true nor false, so that neither it nor its opposite holds; what is absent equals nothing. Nothing is
evaluated but what this parser knows. Counterpart: `glimpse`, which looks up one path.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, NoReturn

from replay.filter import COMPARE
from replay.glimpse import ABSENT, family_of
from replay.judge import AnyModel
from tracer.errors import UsageError
from tracer.its.layout import Field
from tracer.its.registers import gicr_register_names, its_register_names, layout_of

MAX_TEXT: Final = 4096
MAX_TOKENS: Final = 1000
MAX_DEPTH: Final = 50
_MAX_NUMBER: Final = (1 << 64) - 1

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<op>==|!=|<=|>=|&&|\|\||[<>!()\[\].])|(?P<number>0[xX][0-9a-fA-F]+|[0-9]+)"
    r"|(?P<word>[A-Za-z_][A-Za-z_0-9]*))"
)
_WORDS: Final = {"&&": "and", "||": "or", "!": "not"}
_STATES: Final = ("set", "clear", "maybe")  # of a pending bit
_TRUTHS: Final = {"true": True, "false": False}
_COMPARE: Final = {each: COMPARE[each] for each in ("==", "!=", "<", "<=", ">", ">=")}
_EQUALITY: Final = ("==", "!=")

# Part of the state -> how many keys lead to an entry, and the names that an entry has.
_ENTRIES: Final = {
    "devices": (1, ("valid", "itt_addr", "eventid_bits", "confirmed", "events")),
    "events": (1, ("valid", "intid", "icid", "vpe_id", "doorbell", "confirmed")),
    "collections": (1, ("valid", "rdbase", "confirmed")),
    "vpes": (1, ("valid", "vpt_addr", "vpt_size", "rdbase", "confirmed")),
    "translation_cache": (2, ("valid", "intid")),
    "lpis": (1, ("valid", "pending", "target", "queued")),
}
_PARTS: Final = ("registers", "redistributors", "its", *_ENTRIES)
_COUNTED: Final = ("devices", "collections", "vpes", "translation_cache", "lpis")


class Now(NamedTuple):
    """The moment at which a predicate is asked."""

    model: AnyModel
    family: Any  # of `glimpse`
    moved: tuple[bool, ...]  # for each `changes`, whether its path did with this event


Reading = Callable[[Now], Any]
Truth = Callable[[Now], bool | None]


@dataclass(slots=True)
class Predicate:
    """A condition that was understood."""

    text: str
    truth: Truth
    changing: list[Reading]
    _last: list[Any] = field(default_factory=list)

    def begin(self, model: AnyModel) -> bool:
        """Look at the state from which changes count; return whether it holds there."""
        now = self._now(model)
        self._last = [read(now) for read in self.changing]
        return self.truth(now) is True

    def holds(self, model: AnyModel) -> bool:
        """Return whether it holds after one more event."""
        now = self._now(model)
        if not self.changing:
            return self.truth(now) is True
        values = [read(now) for read in self.changing]
        moved = tuple(old != new for old, new in zip(self._last, values, strict=True))
        self._last = values
        return self.truth(now._replace(moved=moved)) is True

    def still_holds(self, model: AnyModel) -> bool:
        """Return whether it holds after an event that changed nothing."""
        return self.truth(self._now(model)) is True

    def _now(self, model: AnyModel) -> Now:
        return Now(model, family_of(model), (False,) * len(self.changing))


def compile_predicate(text: str) -> Predicate:
    """Return the predicate of a text.

    Raises:
        UsageError: with the place where it cannot be understood.
    """
    parser = _Parser(text)
    truth = parser.either(0)
    parser.end()
    return Predicate(text, truth, parser.changing)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent; `depth` counts how many ( and `not` are open."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.changing: list[Reading] = []
        self._tokens: list[_Token] = []
        self._at = 0
        self._split()

    def _split(self) -> None:
        text, at = self._text.rstrip(), 0
        if len(text) > MAX_TEXT:
            raise UsageError(f"a predicate must have at most {MAX_TEXT} characters")
        while at < len(text):
            match = _TOKEN.match(text, at)
            if not match:
                self._wrong(at, f"cannot understand {text[at:].strip()[:20]!r}")
            if len(self._tokens) == MAX_TOKENS:
                self._wrong(at, f"there must be at most {MAX_TOKENS} words")
            kind = str(match.lastgroup)
            self._tokens.append(
                _Token(kind, _WORDS.get(match[kind], match[kind]), match.start(kind))
            )
            at = match.end()
        self._tokens.append(_Token("end", "", len(text)))

    def _wrong(self, at: int, what: str) -> NoReturn:
        raise UsageError(f"predicate, column {at + 1}: {what}")

    def _expected(self, what: str) -> NoReturn:
        token = self._tokens[self._at]
        self._wrong(token.at, f"{what} is expected, not {token.text[:40] or 'the end'!r}")

    def _next_is(self, *texts: str) -> bool:
        return self._tokens[self._at].text in texts

    def _took(self, text: str) -> bool:
        if self._tokens[self._at].text != text:
            return False
        self._at += 1
        return True

    def _take(self, text: str) -> None:
        if not self._took(text):
            self._expected(f"{text!r}")

    def _number(self) -> int:
        token = self._tokens[self._at]
        if token.kind != "number":
            self._expected("a number")
        value = (
            int(token.text, 16 if token.text[:2] in ("0x", "0X") else 10)
            if (len(token.text) <= 20)
            else _MAX_NUMBER + 1
        )
        if value > _MAX_NUMBER:
            self._wrong(token.at, f"a number must be at most {_MAX_NUMBER:#x}")
        self._at += 1
        return value

    def _name(self, names: tuple[str, ...], what: str) -> str:
        token = self._tokens[self._at]
        if token.text not in names:
            near = get_close_matches(token.text, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            said = token.text[:40] or "the end"
            self._wrong(token.at, f"{said!r} is no {what}; {hint}")
        self._at += 1
        return token.text

    def end(self) -> None:
        """Check that all was read."""
        if self._tokens[self._at].kind != "end":
            self._expected("and, or, or the end")

    # -- truths

    def either(self, depth: int) -> Truth:
        """Parse `both {or both}`."""
        truths = [self._both(depth)]
        while self._took("or"):
            truths.append(self._both(depth))
        return truths[0] if len(truths) == 1 else _any(truths)

    def _both(self, depth: int) -> Truth:
        truths = [self._one(depth)]
        while self._took("and"):
            truths.append(self._one(depth))
        return truths[0] if len(truths) == 1 else _all(truths)

    def _one(self, depth: int) -> Truth:
        if depth > MAX_DEPTH:
            self._wrong(self._tokens[self._at].at, f"nested more than {MAX_DEPTH} deep")
        if self._took("not"):
            inner = self._one(depth + 1)
            return lambda now: None if (value := inner(now)) is None else not value
        if self._took("("):
            inside = self.either(depth + 1)
            self._take(")")
            return inside
        return self._comparison()

    def _comparison(self) -> Truth:
        token = self._tokens[self._at]
        left = self._operand()
        if self._took("changes"):
            if token.kind != "word":
                self._wrong(token.at, "only a path changes")
            number = len(self.changing)
            self.changing.append(left)
            return lambda now: now.moved[number]
        if self._next_is(*_COMPARE):
            operator = self._tokens[self._at].text
            self._at += 1
            return _compared(operator, left, self._operand())
        return lambda now: _truth(left(now))

    # -- values

    def _operand(self) -> Reading:
        token = self._tokens[self._at]
        if token.kind == "number":
            number = self._number()
            return lambda now: number
        if token.text in _STATES or token.text in _TRUTHS:
            self._at += 1
            value = _TRUTHS.get(token.text, token.text)
            return lambda now: value
        if token.text in ("count", "known"):
            self._at += 1
            self._take("(")
            reading = self._counted() if token.text == "count" else _known(self._path())
            self._take(")")
            return reading
        return self._path()

    def _counted(self) -> Reading:
        self._its()
        part = self._name(_COUNTED, "list that can be counted")
        if part == "devices" and self._took("["):
            device_id = self._number()
            self._take("]")
            self._take(".")
            self._name(("events",), "list of a device")
            return lambda now: now.family.count_events(now.model, device_id)
        return lambda now: now.family.count(now.model, part)

    def _its(self) -> None:
        """Step over `its[0].`, which every path may begin with."""
        if self._took("its"):
            self._take("[")
            at = self._tokens[self._at].at
            if self._number():
                self._wrong(at, "there is one ITS, 0")
            self._take("]")
            self._take(".")

    def _path(self) -> Reading:
        self._its()
        part = self._name(_PARTS, "part of the state")
        if part == "registers":
            self._take(".")
            name = self._name(tuple(its_register_names()), "register of the ITS")
            return self._field(name, lambda now: now.family.register(now.model, name))
        if part == "redistributors":
            cpu = self._keys(1)[0]
            self._take(".")
            name = self._name(tuple(gicr_register_names()), "register of a redistributor")
            return self._field(
                name, _of_entry(lambda now: now.family.redistributor(now.model, cpu), name)
            )
        return self._entry(part)

    def _keys(self, count: int) -> tuple[int, ...]:
        found = []
        for _ in range(count):
            self._take("[")
            found.append(self._number())
            self._take("]")
        return tuple(found)

    def _entry(self, part: str) -> Reading:
        if part == "events":
            self._at -= 1
            self._expected("devices[...], which has the events,")
        count, names = _ENTRIES[part]
        keys = self._keys(count)
        look = _LOOKS[part]
        if not self._took("."):
            return _whole(lambda now: look(now, *keys))
        name = self._name(names, f"value of {part}")
        if name != "events":
            return _of_entry(lambda now: look(now, *keys), name)
        device_id, (event_id,) = keys[0], self._keys(1)

        def event(now: Now) -> Any:
            return now.family.event(now.model, device_id, event_id)

        if not self._took("."):
            return _whole(event)
        return _of_entry(event, self._name(_ENTRIES["events"][1], "value of an event"))

    def _field(self, register: str, read: Reading) -> Reading:
        """Parse `.Field` behind a register, if there is one."""
        if not self._took("."):
            return read
        fields = {each.name: each for each in layout_of(register).fields_}
        found: Field = fields[self._name(tuple(fields), f"field of {register}")]

        def value(now: Now) -> Any:
            raw = read(now)
            return found.get(raw) if isinstance(raw, int) else raw

        return value


_LOOKS: Final[dict[str, Callable[..., Any]]] = {
    "devices": lambda now, device_id: now.family.device(now.model, device_id),
    "collections": lambda now, icid: now.family.collection(now.model, icid),
    "vpes": lambda now, vpe_id: now.family.vpe(now.model, vpe_id),
    "translation_cache": lambda now, *pair: now.family.translation(now.model, *pair),
    "lpis": lambda now, intid: now.family.lpi(now.model, intid),
}


def _whole(look: Reading) -> Reading:
    """Return a reading of a whole entry, without how it is known."""

    def value(now: Now) -> Any:
        entry = look(now)
        if not isinstance(entry, dict):
            return entry
        return tuple((key, item) for key, item in entry.items() if key != "confirmed")

    return value


def _of_entry(look: Reading, name: str) -> Reading:
    """Return a reading of one value of an entry."""

    def value(now: Now) -> Any:
        entry = look(now)
        if name == "valid":
            return None if entry is None else entry is not ABSENT
        return entry.get(name, ABSENT) if isinstance(entry, dict) else entry

    return value


def _known(read: Reading) -> Reading:
    return lambda now: (value := read(now)) is not None and value is not ABSENT


def _truth(value: Any) -> bool | None:
    if value is None:
        return None
    return value is not ABSENT and bool(value)


def _compared(operator: str, left: Reading, right: Reading) -> Truth:
    compare, only_equality = _COMPARE[operator], operator in _EQUALITY

    def truth(now: Now) -> bool | None:
        a, b = left(now), right(now)
        if a is ABSENT or b is ABSENT:
            return False
        if a is None or b is None:
            return None
        if only_equality or (isinstance(a, int) and isinstance(b, int)):
            return compare(a, b)
        return False

    return truth


def _any(truths: list[Truth]) -> Truth:
    def truth(now: Now) -> bool | None:
        found: bool | None = False
        for each in truths:
            value = each(now)
            if value:
                return True
            found = None if value is None else found
        return found

    return truth


def _all(truths: list[Truth]) -> Truth:
    def truth(now: Now) -> bool | None:
        found: bool | None = True
        for each in truths:
            value = each(now)
            if value is False:
                return False
            found = None if value is None else found
        return found

    return truth
