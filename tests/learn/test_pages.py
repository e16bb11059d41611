"""Every lesson's page in a browser: no error, no request, no overflow, axe-core, keyboard."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steadygrad.learn import LESSONS

pytestmark = pytest.mark.slow

QUICK: dict[str, dict[str, Any]] = {
    "vanish": {"hidden": 8, "steps": 20, "layers": 3},
    "remember": {"hidden": 16, "updates": 40},
}
PROGRAM = os.environ.get("STEADYGRAD_CHROMIUM") or shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, or skip and say why."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if PROGRAM is None:
        pytest.skip("no chromium here; install it or set STEADYGRAD_CHROMIUM")
    with sync_api.sync_playwright() as tool:
        # Without its sandbox: a test container has no user namespaces, and the page is our own.
        started = tool.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lessons")
    return {
        name: kind(**QUICK.get(name, {})).save(folder / f"{name}.html")
        for name, kind in LESSONS.items()
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("name", LESSONS)
def test_a_page_is_whole_and_accessible(
    name: str, width: int, scheme: str, browser: Any, pages: dict[str, Path]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core").Axe()
    # axe is put into the page, which the page's own policy would refuse.
    viewport = {"width": width, "height": 900}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: None if r.url.startswith("data:") else troubles.append(r.url))
    page.goto(pages[name].as_uri())
    assert troubles == [pages[name].as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    violations = axe.run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in violations] == []
    context.close()


@pytest.mark.parametrize("name", LESSONS)
def test_the_policy_lets_the_pages_script_run_and_keys_move_sliders(
    name: str, browser: Any, pages: dict[str, Path]
) -> None:
    page = browser.new_page()
    troubles: list[str] = []
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    page.goto(pages[name].as_uri())
    for scene in page.query_selector_all(".scene"):
        slider = scene.query_selector("input[type=range]")
        before = scene.inner_html()
        slider.focus()
        for key in ("ArrowLeft", "ArrowLeft", "ArrowRight", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
            if scene.inner_html() != before:
                break
        assert scene.inner_html() != before
        assert "NaN" not in scene.inner_text() and "undefined" not in scene.inner_text()
    area = page.query_selector(".area")
    if area is not None:
        area.focus()
        page.keyboard.press("ArrowRight")
        assert page.query_selector(".readout").inner_text().strip()
    assert troubles == []
    page.close()


def test_without_a_script_the_text_and_the_tables_are_there(
    browser: Any, pages: dict[str, Path]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["lstm"].as_uri())
    assert "This figure needs the script of the page." in page.inner_text("body")
    assert "The programme, measured by the library" in page.inner_text("body")
    context.close()
