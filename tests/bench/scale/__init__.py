"""Growth to a hundred million events, the rates of real VMs, and a fleet on paper: `make bench-growth`.

Written to docs/scale.md, whose words are `scale.md.in`.
"""

from __future__ import annotations
