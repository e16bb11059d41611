"""Draw the pictures of the gallery: run the blocks of the page, and take what they save."""

import contextlib
import os
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_suffix(".md")


def blocks() -> list[str]:
    """The Python blocks of the page, in their order."""
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def draw(folder: Path) -> list[Path]:
    """Run the page in a folder; returns the pictures that are there then."""
    os.environ.setdefault("MPLBACKEND", "agg")
    names: dict[str, Any] = {}
    with contextlib.chdir(folder), contextlib.redirect_stdout(None):
        for code in blocks():
            exec(compile(code, str(PAGE), "exec"), names)
    return sorted(folder.glob("*.svg"))
