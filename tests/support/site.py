"""What mkdocs needs to know of this repository: its pages outside docs/, and links as they are in it.

A page links to others as they lie in the repository, so that it reads as well without the site. Here
such links become those of the site; a link to a file that is no page becomes its name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
HOME = "README.md"
BESIDE = (
    HOME, "CONTRIBUTING.md", "CHANGELOG.md", "traces/README.md", "traces/scenarios/README.md",
    "traces/bugs/README.md",
    *(f"traces/bugs/F{n}/{page}.md" for n in (1, 2, 3, 4) for page in ("report", "verdicts")),
    "tests/vectors/README.md",
)  # fmt: skip

_LINK = re.compile(r"\[([^\[\]]+)\]\(([^()\s#:]+)(#[^()\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for name in BESIDE:
        files.append(File.generated(config, place(name), abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page, config: MkDocsConfig, files: Files) -> str:
    """Return a page with its links as the site has them."""
    here = in_repository(page.file.src_uri)
    pages = {file.src_uri for file in files.documentation_pages()}
    return _LINK.sub(lambda link: _linked(link, here, pages), markdown)


def _linked(link: re.Match[str], here: str, pages: set[str]) -> str:
    text, target, anchor = link.groups()
    file = (ROOT / here).parent.joinpath(target).resolve()
    if not file.is_relative_to(ROOT) or not file.exists():
        return link[0]  # mkdocs says that it leads nowhere
    name = file.relative_to(ROOT).as_posix()
    if place(name) not in pages:
        return f"`{text.strip('`')}`"
    there = os.path.relpath(place(name), Path(place(here)).parent)
    return f"[{text}]({there}{anchor or ''})"


def place(name: str) -> str:
    """Return where a page of the repository is in the site."""
    return "index.md" if name == HOME else name.removeprefix("docs/")


def in_repository(uri: str) -> str:
    """Return where a page of the site is in the repository."""
    if uri == "index.md":
        return HOME
    return uri if uri in BESIDE else f"docs/{uri}"
