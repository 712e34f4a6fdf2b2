"""(G) Minimising the same trace with the same oracle."""

from __future__ import annotations

from typing import Final

from tests.bench.peers.measure import NAME, Column, Measure, Row, Samples, fact, median, seconds

NOISE: Final = {"noise": 20}
OURS: Final = Row("itstrace, on the model", "reducers", "ours", options=NOISE, ours=True)
QEMU: Final = Row("lines, a QEMU a candidate", "reducers", "start_for_each", options=NOISE)


def _rate(_: Row, samples: Samples) -> str:
    return f"{median(samples, 'tests') / median(samples):,.0f}"


MEASURE: Final = Measure(
    "G",
    "reduce",
    "Minimising the same trace",
    """The scenario Q7-movall among noise (`tests/bench/peers/needle.py`), as a QEMU before 7.0 answered it; the oracle is
that a QEMU 7.2 answers the last read of RAM otherwise than was recorded. On the model that is a divergence, and the
time includes the first replay. *Lines* leaves out lines of qtest as QEMU's own minimiser does, with a start of QEMU
for each candidate. Every result is asked of a real QEMU once more, and shows it.""",
    (
        OURS,
        Row("itstrace's search, a QEMU a candidate", "reducers", "ours_on_qemu", options=NOISE, ours=True),
        QEMU,
    ),
    (
        NAME, *seconds("s"), fact("candidates", "tests", ",.0f"), Column("a second", _rate),
        fact("lines before", "before", ",.0f"), fact("lines after", "lines", ",.0f"),
    ),
    agree=("shown",),
)  # fmt: skip
