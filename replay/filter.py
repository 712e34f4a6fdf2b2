"""The filter language of `show -Y`: comparisons of an event's names, joined by and, or, not.

    command == MAPTI and DeviceID == 0x8
    register ~ BASER or kind == reset

A bare word stands for `kind == word`, `register == word` or `command == word`. Nothing is evaluated
but what this parser knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from replay.decode import names
from tracer.errors import UsageError

Predicate = Callable[[dict[str, Any]], bool]

_TOKEN: Final = re.compile(
    r"\s*(?:(==|!=|<=|>=|<|>|~|\(|\)|&&|\|\||!)|(\"[^\"]*\"|[A-Za-z_0-9.\[\]-]+))"
)
_WORDS: Final = {"&&": "and", "||": "or", "!": "not"}
_MAX_TOKENS: Final = 1000
_MAX_DEPTH: Final = 100  # `not` and ( may open no later than this

COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
    "~": lambda a, b: str(b).lower() in str(a).lower(),
}


def compile_filter(text: str) -> Predicate:
    """Return a function from a decoded event to whether it passes.

    Raises:
        UsageError: with the place where the filter cannot be understood.
    """
    parser = _Parser(text)
    predicate = parser.either()
    parser.end()
    return predicate


class _Parser:
    """Recursive descent over the tokens; depth is bounded by their number."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split()
        self._at = 0
        self._names = names()

    def _split(self) -> list[str]:
        tokens: list[str] = []
        at = 0
        text = self._text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if not match or len(tokens) >= _MAX_TOKENS:
                raise UsageError(f"filter: cannot understand {text[at:]!r:.40}")
            tokens.append(_WORDS.get(match[1], match[1]) if match[1] else match[2])
            at = match.end()
        return tokens

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str:
        token = self._peek()
        if token is None:
            raise UsageError(f"filter: {self._text!r:.60} ends too early")
        self._at += 1
        return token

    def end(self) -> None:
        """Check that all was read."""
        if self._peek() is not None:
            raise UsageError(f"filter: {self._peek()!r} is not expected there")

    def either(self) -> Predicate:
        """Parse `both {or both}`."""
        left = self._both()
        while self._peek() == "or":
            self._next()
            left = _or(left, self._both())
        return left

    def _both(self) -> Predicate:
        left = self._one()
        while self._peek() == "and":
            self._next()
            left = _and(left, self._one())
        return left

    def _one(self) -> Predicate:
        if self._at > _MAX_DEPTH and self._peek() in ("not", "("):
            raise UsageError("filter: nested too deeply")
        token = self._next()
        if token == "not":
            inner = self._one()
            return lambda shown: not inner(shown)
        if token == "(":
            inside = self.either()
            if self._next() != ")":
                raise UsageError("filter: a ) is missing")
            return inside
        if self._peek() in COMPARE:
            return self._comparison(token)
        word = token.strip('"')
        return lambda shown: word in (
            shown["kind"], shown.get("register"), shown.get("command"),
        )  # fmt: skip

    def _comparison(self, name: str) -> Predicate:
        if name not in self._names:
            raise UsageError(f"filter: no event has a field called {name!r:.40}")
        compare, wanted = COMPARE[self._next()], _value(self._next())

        def passes(shown: dict[str, Any]) -> bool:
            value = shown.get(name)
            if value is None or (compare is not COMPARE["~"] and type(value) is not type(wanted)):
                return False
            return compare(value, wanted)

        return passes


def _or(left: Predicate, right: Predicate) -> Predicate:
    return lambda shown: left(shown) or right(shown)


def _and(left: Predicate, right: Predicate) -> Predicate:
    return lambda shown: left(shown) and right(shown)


def _value(token: str) -> int | str:
    try:
        return int(token, 0)
    except ValueError:
        return token.strip('"')
