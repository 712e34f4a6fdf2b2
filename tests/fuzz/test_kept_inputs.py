"""The seeds of the fuzzers, and all that ever broke a target, break none; atheris is not needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.targets import TARGETS, feed

HERE = Path(__file__).parent
KEPT = sorted(path for path in HERE.glob("*/*/*") if path.parts[-3] in ("corpus", "found"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name[:30]}")
def test_a_kept_input_breaks_nothing(path: Path) -> None:
    feed(path.parent.name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_a_seed_that_its_reader_accepts(name: str) -> None:
    """Else nothing but the refusal of a first byte would be fuzzed."""
    run, documented = TARGETS[name]
    accepted = 0
    for path in (HERE / "corpus" / name).iterdir():
        try:
            run(path.read_bytes())
        except documented:
            continue
        accepted += 1
    assert accepted


def test_an_undocumented_error_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> None:
        raise KeyError(data)

    monkeypatch.setitem(targets.TARGETS, "trace", (broken, TARGETS["trace"][1]))
    with pytest.raises(KeyError):
        feed("trace", b"")
