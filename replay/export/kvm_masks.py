"""Which bits of a read register a reset promises: what no clause speaks of is no bug.

Counterparts: `replay.contracts`, the clauses, and `replay.equivalence.words`, which gives words by
the same ones.
"""

from __future__ import annotations

from typing import Final

from replay.contracts import ALL_BITS, CHANGED, KEPT, clause_for
from replay.equivalence.plan import RESET, Question
from replay.profiles import find
from tracer import events as ev
from tracer.events import NUMBER, Event, fields_of
from tracer.its.registers import gicr_register, its_register

_NEAREST: Final = "linux-6.1.192"
_FINDERS: Final = {NUMBER["reg.read"]: its_register, NUMBER["gicr.read"]: gicr_register}


def mask_of(question: Question | None, event: Event) -> int:
    """Return the bits of a register's read that must be equal behind a reset."""
    finder = _FINDERS.get(event[0])
    if question is None or question.what != RESET or question.how is None or finder is None:
        return ALL_BITS
    f = fields_of(event)
    found = finder(f["offset"])
    if found is None:
        return 0
    name, _, start = found
    suffix = f"[{f['cpu']}]" if "cpu" in f else ""
    tables = CHANGED if question.how == ev.REINIT else ""
    clause = clause_for(find(_NEAREST)[0], ev.RESET_KINDS[question.how], name + suffix, tables)
    if clause is None or clause.word == KEPT:
        return 0
    return int(clause.mask >> 8 * (f["offset"] - start))
