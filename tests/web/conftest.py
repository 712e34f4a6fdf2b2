"""A real browser, driven by playwright; only `make test-web` has it."""

from __future__ import annotations

import os
import shutil

import pytest

from replay import cli
from tests.support.captures import TRACES, TWO_BOOTS, TWO_BOOTS_TIMED, trace_bytes
from tests.support.web import CHROMIUM, Opened, open_page


def pytest_collection_modifyitems(items):
    """Leave all out where nobody asked for them."""
    skip = None
    if not os.environ.get("ITSTRACE_WEB"):
        skip = pytest.mark.skip(reason="needs a browser: make test-web")
    elif not shutil.which(CHROMIUM):
        skip = pytest.mark.skip(reason=f"needs {CHROMIUM}")
    for item in items if skip else ():
        if "tests/web/" in item.path.as_posix():
            item.add_marker(skip)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-gpu"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory):
    """Return a function from a trace's name, or a path, to (trace, page)."""
    folder = tmp_path_factory.mktemp("reports")
    made = {}

    def make(name, *options):
        key = (str(name), *options)
        if key not in made:
            path = folder / f"{name}.itstrace" if name in (TWO_BOOTS, TWO_BOOTS_TIMED) else name
            if name in (TWO_BOOTS, TWO_BOOTS_TIMED):
                path.write_bytes(trace_bytes(name))
            elif isinstance(name, str):
                path = TRACES / name
            out = folder / f"{len(made)}.html"
            code = cli.main(["report", str(path), *options, "-o", str(out)])
            assert code in (0, 3)
            made[key] = path, out
        return made[key]

    return make


@pytest.fixture
def opened(browser, reports):
    """Return a function that opens the page of a trace; nothing may go wrong in it, ever."""
    pages: list[Opened] = []

    def show(name, address="", *options, **context):
        trace, page = reports(name, *options)
        shown = open_page(browser, page, address, **context)
        shown.trace = trace
        pages.append(shown)
        return shown

    yield show
    for each in pages:
        wrong = list(each.wrong)
        each.page.context.close()
        assert wrong == []
