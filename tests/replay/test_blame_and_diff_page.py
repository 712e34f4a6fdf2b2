"""docs/blame-and-diff.md shows what the commands print: each session is run."""

from __future__ import annotations

import re
import shlex

from replay.cli import main
from tests.support.captures import TRACES

PAGE = TRACES.parent / "docs" / "blame-and-diff.md"
PROMPT = "    $ itstrace "


def sessions(text):
    """Yield (command, output) of each session of a page, in its order."""
    blocks = re.findall(rf"^{re.escape(PROMPT)}.*\n(?:    .*\n)*", text, re.MULTILINE)
    for block in blocks:
        for part in re.split(rf"^(?={re.escape(PROMPT)})", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            lines = [line.removeprefix("    ") for line in output.splitlines()]
            yield command.removeprefix(PROMPT), "".join(f"{line}\n" for line in lines)


def test_the_page_shows_what_is_printed(tmp_path, monkeypatch, capsys):
    (tmp_path / "traces").symlink_to(TRACES)
    monkeypatch.chdir(tmp_path)
    ran = 0
    for command, output in sessions(PAGE.read_text()):
        code = main(shlex.split(command))
        assert code == int(command.startswith("diff") and "no difference" not in output)
        assert capsys.readouterr().out == output, command
        ran += 1
    assert ran >= 10
