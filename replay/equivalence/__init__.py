"""Check 3 of a reset: a real target is asked, twice, and no model is trusted (docs/targets.md)."""
