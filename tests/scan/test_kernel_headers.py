"""The C headers of the kernels: one text, formatted, shipped, and their table right."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest
import torch

from steadygrad.cells import CELLS
from steadygrad.scan.backends.c import compiler, kernel, runtime
from steadygrad.scan.backends.c.printer.file import head
from tests.helpers.marks import needs_compiler

HEADERS = sorted(
    Path(str(file)) for file in resources.files(runtime).iterdir() if file.name.endswith(".h")
)
TWO_OVER_PI = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163
BITS = 216
"""Of the fraction of 2 / pi above: as many as the largest float needs, and 50 more."""


def test_every_header_is_in_the_text_of_a_kernel_once() -> None:
    text = head("float", exact=False)
    assert '#include "' not in text and "#pragma once" not in text
    for file in HEADERS:
        # The words of its first comment stand in no other file.
        first = file.read_text().splitlines()[0]
        assert text.count(first) == 1, file.name


def test_the_table_of_half_turns() -> None:
    text = (resources.files(runtime) / "sincos.h").read_text()
    body = re.search(r"half_turns\[106\] = \{(.*?)\}", text, re.DOTALL)
    assert body is not None
    table = [float.fromhex(word) for word in body[1].split(",")]
    whole = 1 << BITS + 2  # two turns, in units of the last bit
    bits = [(TWO_OVER_PI << power) % whole for power in range(106)]
    assert table == [(b - whole if b >> BITS + 1 else b) / (1 << BITS + 1) for b in bits]


@needs_compiler
@pytest.mark.parametrize("name", ["lstm", "lstm-layer-norm"])
def test_the_compiler_warns_of_nothing(name: str) -> None:
    """Of a macro that two headers define, for one: the headers of a kernel are one text."""
    text = kernel.printed(CELLS[name](), torch.float32, exact=False).text
    command = [*compiler.compiler_or_raise(), "-fsyntax-only", "-Werror", "-std=gnu11", "-xc", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_wheel_holds_the_headers(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds the wheel")
    root = Path(__file__).parents[2]
    (wheel,) = builder.WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        held = {Path(name).name for name in archive.namelist() if "/c/runtime/" in name}
    assert {file.name for file in HEADERS} <= held


def test_the_headers_are_formatted() -> None:
    command = shutil.which("clang-format", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("clang-format is not installed")
    done = subprocess.run(
        [command, "--dry-run", "--Werror", *map(str, HEADERS)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
