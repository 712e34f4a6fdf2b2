"""itstrace beside its peers on the same events: `make bench-peers`, written to docs/performance.md.

`run` takes turns with the rows of `measures/`, each a task of one of `contestants/` in a process of its own
(`worker`, `job`); `expected` holds what they saw against the workload; `aims` and `page` say what came of it.
"""

from __future__ import annotations
