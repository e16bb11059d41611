"""``steadygrad warm``: kernels built before somebody waits for them."""

import json
from pathlib import Path

import pytest
import torch

import steadygrad as sg
from steadygrad.cli import main
from steadygrad.scan.backends.c import build, cache, compiler, kernel
from tests.helpers.marks import needs_compiler

pytestmark = [needs_compiler, pytest.mark.usefixtures("any_backend", "shipped_builds")]
ODD = """
import torch
from dataclasses import dataclass
from steadygrad.cells import Cell

@dataclass(frozen=True)
class Odd(Cell):
    name = "odd"
    gates = ("candidate",)

    def step(self, x, recur, state, unit):
        return (torch.cumsum(x.candidate, -1),)
"""


def test_what_is_built_ahead_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kernels"))
    cell = tmp_path / "odd.py"
    cell.write_text(ODD)
    assert main(["warm", "elman", f"{cell}:Odd", "--json"]) == 1
    elman, odd = json.loads(capsys.readouterr().out)["cells"]
    assert elman["problem"] is None and "cumsum" in odd["problem"]
    assert len(list((tmp_path / "kernels").glob("*.so"))) == 2
    monkeypatch.setattr(compiler, "run", None)
    build.forget()  # as another process
    kernel.loaded.cache_clear()
    sg.RNN(2, 3)(torch.randn(4, 1, 2))[0].sum().backward()


def test_wrong_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--all", "lstm"], ["no-such-cell"], ["gru", "--project"]):
        assert main(["warm", *given]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
