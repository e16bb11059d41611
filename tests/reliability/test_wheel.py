"""Two builds of the wheel are identical, whatever the modes and times of the source files."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD = 1_000_000_000


def built(folder: Path, mode: int, time: int | None) -> Path:
    """The wheel of a copy whose files have this mode and time."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, folder / name)
    source = folder / "src" / "steadygrad"
    shutil.copytree(
        ROOT / "src" / "steadygrad", source, ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
            if time is not None:
                os.utime(path, (time, time))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    (wheel,) = (folder / "out").iterdir()
    return wheel


@pytest.mark.slow
def test_two_builds_are_equal_and_hold_what_is_needed(tmp_path: Path) -> None:
    one, other = built(tmp_path / "one", 0o644, None), built(tmp_path / "other", 0o600, OLD)
    assert one.name == other.name and one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as file:
        names = set(file.namelist())
    assert {"steadygrad/py.typed", "steadygrad/scan/backends/c/runtime/dots.h"} <= names
    assert all(n.startswith(("steadygrad/", "steadygrad-")) for n in names)
    assert not [n for n in names if n.endswith((".csv", ".safetensors", ".db", ".pyc"))]
