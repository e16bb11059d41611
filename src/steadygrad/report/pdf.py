"""Print a page or a drawing as PDF with an installed Chromium."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from steadygrad.record.ownership import GENERATOR

VARIABLE = "STEADYGRAD_CHROMIUM"
"""Environment variable that names the browser to print with."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_NAMES += ("microsoft-edge", "msedge")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_SECONDS = 120.0
_WHOLE = (
    "<!doctype html><meta charset=utf-8><title>{title}</title><style>@page{{size:{w}px {h}px;"
    "margin:0}}body{{margin:0}}svg{{display:block}}</style>{svg}"
)


def program(file: Path) -> str:
    """Return the browser that prints ``file``.

    Raises:
        ValueError: No browser was found.
    """
    named = os.environ.get(VARIABLE)
    names = (named,) if named else (*_NAMES, *_PLACES)
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise ValueError(
            f"{file}: a PDF is printed by Chromium, Chrome or Edge, and none was found; install "
            f"one, set {VARIABLE} to its program, or write an .html file and print that"
        )
    return found


def printed(content: str, name: Path) -> bytes:
    """Print an HTML page, or an SVG drawing on a sheet of its own size.

    Args:
        content: The page or the drawing.
        name: The requested file, for messages.

    Raises:
        ValueError: There is no Chromium, or it cannot print; nothing is written then.
    """
    browser = program(name)
    if content.startswith("<svg"):
        content = _sheet(content, name)
    with tempfile.TemporaryDirectory() as folder:
        page, out = Path(folder) / "page.html", Path(folder) / "page.pdf"
        page.write_text(content, encoding="utf-8")
        # Where no sandbox can start (as root, in a container), print without one: the page is our
        # own, loads nothing, and its policy allows no foreign script.
        for sandbox in ((), ("--no-sandbox",)):
            error = _print(browser, page, out, Path(folder) / "profile", sandbox)
            if out.exists():
                # PDF readers ignore bytes after the end; this comment marks our files.
                return out.read_bytes() + f"\n% Made by {GENERATOR}\n".encode()
    raise ValueError(f"{name}: {browser} did not print it ({error}); write an .html file instead")


def _print(browser: str, page: Path, out: Path, profile: Path, options: tuple[str, ...]) -> str:
    command = [browser, "--headless", "--disable-gpu", "--no-first-run", "--no-pdf-header-footer"]
    command += [f"--user-data-dir={profile}", f"--print-to-pdf={out}", *options, page.as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer in {_SECONDS:.0f} seconds"
    except OSError as error:
        return str(error.strerror)
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {done.returncode}"


def _sheet(svg: str, name: Path) -> str:
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size is not None  # every drawing of ours has a view box
    return _WHOLE.format(title=f"{GENERATOR} figure", w=size[1], h=size[2], svg=svg)
