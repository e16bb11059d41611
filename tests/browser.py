"""A headless Chromium for tests of pages; skips, with the reason, where there is none."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

PROGRAM = os.environ.get("STEADYGRAD_CHROMIUM") or shutil.which("chromium")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Chromium without a window, or skip and say why."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if PROGRAM is None:
        pytest.skip("no chromium here; install it or set STEADYGRAD_CHROMIUM")
    with sync_api.sync_playwright() as tool:
        # Without its sandbox: a test container has no user namespaces, and the page is our own.
        started = tool.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield started
        started.close()


def axe_findings(page: Any) -> list[tuple[str, str]]:
    """What axe-core objects to, as rule and element; the page must be open without its policy."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core").Axe()
    violations = axe.run(page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in violations]


def troubles_of(page: Any) -> list[str]:
    """A list that fills with errors of the page's scripts and of its policy."""
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    return troubles
