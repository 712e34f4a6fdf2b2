"""Memory attributes that Xen does not take as they are written."""

from __future__ import annotations

_INNER_SHAREABLE = 1
_OUTER_SHAREABLE = 2
_RAWB = 3
_NC = 1


def sanitise(value: int, inner: int, outer: int) -> int:
    """Return a base register with the attributes that Xen allows (sanitize_its_base_reg).

    Args:
        value: the register.
        inner: shift of its inner cacheability field.
        outer: shift of its outer cacheability field.
    """
    if value >> 10 & 3 == _OUTER_SHAREABLE:
        value = value & ~(3 << 10) | _INNER_SHAREABLE << 10
    if value >> inner & 7 <= _NC:
        value = value & ~(7 << inner) | _RAWB << inner
    if value >> outer & 7 > _NC:  # neither SameAsInner nor nC
        value = value & ~(7 << outer) | _NC << outer
    return value


def is_sane(value: int, inner: int, outer: int) -> bool:
    """Return whether `sanitise` would change nothing."""
    return sanitise(value, inner, outer) == value
