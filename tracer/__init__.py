"""What was observed: the ITS as written, the event schema, the trace file and its sources.

Counterpart: `replay`, which rebuilds state from what this package recorded. `tracer` never
imports `replay`.
"""
