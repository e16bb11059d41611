"""The site builds without a warning, asks nothing of anybody else, and fits a phone."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import steadygrad as sg
from docs import api, remedies
from tests.browser import axe_findings, chromium

ROOT = Path(__file__).parents[2]
PAGES = ("index", "first-steps", "faq", "faults", "cells", "how-to/narx", "gallery", "api/learn")


def test_the_page_of_remedies_is_the_one_that_they_give() -> None:
    assert remedies.PAGE.read_text("utf-8") == remedies.page(), "run python -m docs.remedies"


def test_the_interface_has_a_page_for_every_name_once() -> None:
    shown = re.findall(r"^::: (.+)$", "\n".join(api.pages().values()), re.MULTILINE)
    assert len(shown) == len(set(shown)) > 200
    assert "steadygrad.diagnosis.diagnose.diagnose" in shown


def test_formulas_of_several_lines_are_tables_without_a_stray_sign() -> None:
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")
    from docs.docstring import markdown
    from docs.formulas import with_blocks, with_formulas

    for name, cell in sg.cells.CELLS.items():
        drawn = with_formulas(with_blocks(markdown(inspect.cleandoc(cell.__doc__ or ""))))
        assert "<math" in drawn, name
        assert not re.search(r"<mi>(&|&amp;|\\\w+)</mi>|linebreak=", drawn), name


def test_every_file_that_a_page_links_to_outside_of_docs_is_copied() -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    from docs.site_hooks import PAGES as MOVED
    from docs.site_hooks import linked_files

    copied = {*linked_files(), *MOVED.values()}
    for page in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(((?:\.\./)+[^)#\s]+)", page.read_text("utf-8")):
            path = (page.parent / target).resolve()
            assert path.is_file(), (page.name, target)
            name = path.relative_to(ROOT).as_posix()
            assert name.startswith("docs/") or name in copied, (page.name, target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_its_pages_fit_load_nothing_from_elsewhere_and_can_be_read_by_all(
    site: Path, browser: Any, width: int, scheme: str
) -> None:
    viewport = {"width": width, "height": 900}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in PAGES:
        page.goto(f"file://{site}/{name}.html")
        page.wait_for_selector("h1")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        assert serious(page) == [], name
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def serious(page: Any) -> list[tuple[str, str]]:
    """What axe-core objects to, but for the theme's own navigation."""
    return [f for f in axe_findings(page) if "md-" not in f[1]]


@pytest.mark.slow
def test_search_finds_a_fault_without_a_network(site: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto(f"file://{site}/index.html")
    page.keyboard.press("/")
    page.keyboard.type("vanishing")
    page.wait_for_selector(".md-search-result__item", timeout=30_000)
    assert "anishing" in page.inner_text(".md-search-result__list")
