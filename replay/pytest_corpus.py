"""Traces as tests: one for each expectation of a manifest, or for each target.

Imported only when there is a trace. Counterparts: `replay.pytest_plugin`, which finds them, and
`replay.corpus`, which runs them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from _pytest._code.code import (
    ReprEntryNative,
    ReprExceptionInfo,
    ReprFileLocation,
    ReprTraceback,
)

from replay.corpus import Result, manifest_of, run_expectation, without_trace
from replay.manifest import Manifest, looks_like_manifest
from replay.pytest_plugin import MARKER
from tracer.errors import TracerError, UsageError

if TYPE_CHECKING:
    from replay.targets.spec import Spec, Targets

_Run = Callable[[], Result]
_TARGETS: Final = pytest.StashKey["Targets"]()


class Unmet(Exception):
    """An expectation that is not met."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.sentence())
        self.result = result


class TraceItem(pytest.Item):
    """One expectation of one trace; `run` says what came."""

    def __init__(self, *, run: _Run, **known: Any) -> None:
        super().__init__(**known)
        self._run = run
        self.add_marker(MARKER)

    def runtest(self) -> None:
        """Run it; it fails with all that is known of why."""
        result = self._run()
        if result.skipped:
            raise pytest.skip.Exception(result.sentence(), _use_item_location=True)
        if not result.passed:
            raise Unmet(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what a person needs, and no traceback of ours, unless it is our bug."""
        error = excinfo.value
        if isinstance(error, Unmet):
            return self._told(report(error.result))
        if isinstance(error, TracerError):
            return self._told([str(error)])
        return super().repr_failure(excinfo, style)

    def _told(self, lines: Iterable[str]) -> ReprExceptionInfo:
        """Return lines as pytest's own shape: of a text it repeats all in its summary where CI is set."""
        text = shortened(lines, self.path, self.config)
        head = ReprFileLocation(str(self.path), 1, text.partition("\n")[0])
        entry = ReprEntryNative([text + "\n"])
        return ReprExceptionInfo(ReprTraceback([entry], None, "native"), head)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where it is, for the head of a failure."""
        return self.path, 0, f"{self.path.name} [{self.name}]"


class TraceFile(pytest.File):
    """A trace."""

    def collect(self) -> Iterator[TraceItem]:
        """Yield an item for each expectation, or for each target that was asked for."""
        manifest = manifest_of(self.path)
        if isinstance(manifest, Result):
            yield self._item("manifest", lambda: manifest)
            return
        texts = self.config.getoption("--its-target")
        yield from self._on_targets(manifest, texts) if texts else self._on_model(manifest)

    def _item(self, name: str, run: _Run) -> TraceItem:
        return TraceItem.from_parent(self, name=name, run=run)

    def _on_model(self, manifest: Manifest) -> Iterator[TraceItem]:
        for each in manifest.expectations:
            run = lambda each=each: run_expectation(self.path, manifest, each)  # noqa: E731
            yield self._item(each.name.replace(" ", "-"), run)

    def _on_targets(self, manifest: Manifest, texts: list[str]) -> Iterator[TraceItem]:
        for name, spec in _specs(texts):
            run = lambda spec=spec: self._ask(manifest, spec)  # noqa: E731
            yield self._item(name, run)

    def _ask(self, manifest: Manifest, spec: Spec) -> Result:
        from replay.corpus_targets import run_on

        return run_on(self.path, manifest, spec, _targets(self.config))


class UnusedManifest(pytest.File):
    """A TOML file that no trace is beside; a test only if it is a manifest."""

    def collect(self) -> Iterator[TraceItem]:
        """Yield the failure that it is."""
        if looks_like_manifest(self.path):
            run = lambda: without_trace(self.path)  # noqa: E731
            yield TraceItem.from_parent(self, name="manifest", run=run)


def report(result: Result) -> Iterator[str]:
    """Yield what is to be said of an expectation that is not met."""
    yield result.sentence()
    yield from (f"  {line}" for line in result.why)
    yield from (f"  more: {command}" for command in result.commands)


def shortened(lines: Iterable[str], path: Path, config: pytest.Config) -> str:
    """Return lines as a text, with paths as seen from where pytest was started, and each one clean."""
    from replay.commands.common import clean

    folder = os.path.relpath(path.parent, config.invocation_params.dir)
    prefix = "" if folder == os.curdir else folder + os.sep
    if folder.startswith(os.pardir):
        prefix = str(path.parent) + os.sep
    return "\n".join(clean(each).replace(str(path.parent) + os.sep, prefix) for each in lines)


def _specs(texts: list[str]) -> Iterator[tuple[str, Spec]]:
    """Yield each target with a short name, no two alike."""
    from replay.targets.spec import parse

    seen: set[str] = set()
    for text in texts:
        try:
            spec = parse(text)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        name = f"{spec.kind}:{Path(spec.rest).name}" if spec.rest else spec.kind
        number = sum(each.partition("#")[0] == name for each in seen)
        name += f"#{number + 1}" if number else ""
        seen.add(name)
        yield name, spec


def _targets(config: pytest.Config) -> Targets:
    """Return the targets of this session: a host is booted once, and put down at the end."""
    if _TARGETS not in config.stash:
        from replay.targets.spec import Targets

        made = config.stash[_TARGETS] = Targets()
        config.add_cleanup(lambda: made.__exit__(None, None, None))
    return config.stash[_TARGETS]
