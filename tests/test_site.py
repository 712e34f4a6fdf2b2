"""The site of docs/ is built without a warning, loads nothing from elsewhere, and has every page."""

from __future__ import annotations

import logging
import re
import shutil
from html.parser import HTMLParser

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from tests.support import site

CONFIG = site.ROOT / "mkdocs.yml"
FOREIGN = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.I)
FROM_CSS = re.compile(r"(?:url\(|@import)\s*['\"]?\s*(?:[a-z]+:)?//[^)]*", re.I)


class Loads(HTMLParser):
    """Collects what a page makes a browser fetch from another host; links that one may follow are none."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            fetched = name in ("src", "srcset", "data", "poster") or (name == "href" and tag != "a")
            if fetched and FOREIGN.match(value or ""):
                self.found.append(value)
        for name, value in attrs:
            self.found += FROM_CSS.findall(value or "") if name == "style" else []


def loads(text):
    parser = Loads()
    parser.feed(text)
    return parser.found + FROM_CSS.findall(text)


def built(folder, **changes):
    config = load_config(str(CONFIG), strict=True, site_dir=str(folder), **changes)
    config.plugins.on_startup(command="build", dirty=False)
    try:
        build(config)
    finally:
        config.plugins.on_shutdown()
        logging.getLogger("mkdocs").handlers.clear()
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The site, built with --strict."""
    return built(tmp_path_factory.mktemp("site"))


def test_no_page_loads_anything_from_elsewhere(pages):
    read = [path for path in pages.rglob("*") if path.suffix in (".html", ".css")]
    assert len(read) > 30
    found = {path.name: loads(path.read_text()) for path in read}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        '<img src="http://example.org/x.png">',
        '<p style="background: url(https://example.org/x.png)">',
        "@import 'https://example.org/x.css';",
        "@font-face { src: url('https://example.org/x.woff') }",
    ],
)
def test_what_loads_from_elsewhere_is_found(text):
    assert len(loads(text)) >= 1
    assert loads('<a href="https://example.org">x</a><script src="js/x.js"></script>') == []


def test_every_page_is_in_the_site_and_the_navigation_begins_with_the_first_steps(pages):
    names = {path.relative_to(site.ROOT / "docs") for path in (site.ROOT / "docs").rglob("*.md")}
    for name in names:
        assert (pages / name.with_suffix(".html")).exists(), name
    home = (pages / "index.html").read_text()
    for name in names:
        assert f'href="{name.with_suffix(".html").as_posix()}"' in home, (
            f"{name}: not in mkdocs.yml's nav"
        )
    places = [home.index(f'"{page}.html"') for page in ("first-trace", "capture", "verdicts", "ci")]
    assert places == sorted(places)


def test_links_that_lead_nowhere_and_pages_outside_the_navigation_end_the_build(tmp_path, caplog):
    docs = tmp_path / "docs"
    shutil.copytree(site.ROOT / "docs", docs)
    with (docs / "ci.md").open("a") as page:
        page.write("[x](nowhere.md) [y](capture.md#no-such-part)")
    (docs / "left-out.md").write_text("# Left out\n")
    with pytest.raises(Abort, match="3 warnings"):
        built(tmp_path / "site", docs_dir=str(docs))
    told = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    for what in ("nowhere.md", "no-such-part", "left-out.md"):
        assert sum(what in each for each in told) == 1, what


PAGES = {"index.md", "ci.md", "decisions/a.md", "traces/README.md", "traces/bugs/README.md"}


@pytest.mark.parametrize(
    ("here", "text", "made"),
    [
        ("README.md", "[a](docs/ci.md)", "[a](ci.md)"),
        ("README.md", "[a](traces/README.md#x)", "[a](traces/README.md#x)"),
        ("docs/ci.md", "[a](../traces/README.md)", "[a](traces/README.md)"),
        ("docs/ci.md", "[a](../README.md)", "[a](index.md)"),
        ("docs/ci.md", "[`a`](../tests/conformance.py)", "`a`"),
        ("docs/ci.md", "[a](nowhere.md)", "[a](nowhere.md)"),
        ("traces/bugs/README.md", "[a](../../docs/ci.md)", "[a](../../ci.md)"),
        ("docs/decisions/0001-dependencies.md", "[a](../ci.md)", "[a](../ci.md)"),
        ("README.md", "[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(here, text, made):
    link = site._LINK.search(text)
    assert (text if link is None else site._linked(link, here, PAGES)) == made
