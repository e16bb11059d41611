"""Where two runs part: planted differences are found in their place, and nothing else is."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import steadygrad as sg
from steadygrad.cli import app
from steadygrad.record import Record
from steadygrad.report.compare_runs import Comparison, compare

STEPS, TIMES = 12, 9


def record(
    path: Path,
    *,
    loss: dict[int, float] | None = None,
    grad: dict[tuple[str, int, int], float] | None = None,
    dead: dict[int, float] | None = None,
    every: int = 1,
    seed: int = 0,
) -> Path:
    """A run that is everywhere the same but where it is told otherwise."""
    with Record.create(path, config={"seed": seed}) as rec:
        for step in range(STEPS):
            rec.scalars(step, {"loss": (loss or {}).get(step, 1.0 / (step + 1))})
            if step % every:
                continue
            for layer in ("lstm.l0", "lstm.l0_reverse"):
                row = np.linspace(-5, -1, TIMES)
                for (where, when, t), value in (grad or {}).items():
                    if (where, when) == (layer, step):
                        row[t] = value
                rec.row(step, "log10_grad", layer, row)
            rec.row(step, "gate:forget", "lstm.l0", [(dead or {}).get(step, 0.25)])
    return path


def of(tmp_path: Path, **differs: object) -> Comparison:
    record(tmp_path / "a.db")
    record(tmp_path / "b.db", **differs)  # type: ignore[arg-type]
    return compare(tmp_path / "a.db", tmp_path / "b.db")


def test_equal_runs_do_not_part_and_how_much_was_compared_is_said(tmp_path: Path) -> None:
    found = of(tmp_path)
    assert found.first is None and found.steps == STEPS and found.last == STEPS - 1
    assert f"over {STEPS} training steps up to step {STEPS - 1}" in str(found)


def test_the_first_step_layer_gate_and_time_step_are_found(tmp_path: Path) -> None:
    grad = {("lstm.l0", 7, 2): -3.0, ("lstm.l0", 7, 6): -9.0, ("lstm.l0", 8, 8): 0.0}
    found = of(tmp_path, grad=grad, dead={9: 0.5}, loss={10: math.nan}, seed=1)
    assert (found.step, found.layer, found.gate, found.time_step) == (7, "lstm.l0", "forget", 6)
    assert [p.step for p in found.partings] == [7, 9, 10]
    assert found.first is not None and found.first.second == -9.0
    assert found.options == {"seed": (0, 1)}
    told = str(found)
    assert "part at training step 7: grad in lstm.l0, time step 6" in told
    assert "step 9: share of dead units in the forget gate of lstm.l0" in told
    assert json.loads(json.dumps(found.to_json()))["time_step"] == 6


def test_a_reverse_direction_is_read_from_its_own_end(tmp_path: Path) -> None:
    grad = {("lstm.l0_reverse", 3, 2): -3.0, ("lstm.l0_reverse", 3, 6): -9.0}
    assert of(tmp_path, grad=grad).time_step == 2


@pytest.mark.parametrize(("factor", "parts"), [(1 + 1e-7, False), (1 + 1e-3, True)])
def test_rounding_is_no_difference(tmp_path: Path, factor: float, parts: bool) -> None:
    assert (of(tmp_path, loss={5: factor / 6}).first is not None) == parts


def test_values_are_told_apart_however_near_they_are(tmp_path: Path) -> None:
    found = of(tmp_path, loss={5: 1.0001 / 6}, grad={("lstm.l0", 7, 0): -4.99})
    assert "loss (0.16667 and 0.16668)" in str(found)
    assert "time step 0 (10^-5 and 10^-4.988)" in str(found)


def test_nan_equals_nan_and_nothing_else(tmp_path: Path) -> None:
    for name, value in (("a", math.nan), ("b", math.nan), ("c", math.inf), ("d", 1.0)):
        record(tmp_path / f"{name}.db", loss={4: value})
    assert compare(tmp_path / "a.db", tmp_path / "b.db").first is None
    assert compare(tmp_path / "a.db", tmp_path / "c.db").step == 4
    assert compare(tmp_path / "c.db", tmp_path / "d.db").step == 4


def test_only_steps_of_both_are_compared_and_never_called_equal_without_any(tmp_path: Path) -> None:
    found = of(tmp_path, grad={("lstm.l0", 7, 2): -3.0}, every=5)
    assert found.first is None  # step 7 was not measured in the second
    with Record.create(tmp_path / "c.db", config={}) as rec:
        rec.scalars(0, {"other": 1.0})
    none = compare(tmp_path / "a.db", tmp_path / "c.db")
    assert not none.steps and none.sentence.startswith("Not compared")
    assert none.only[1] == ("other",)


def test_the_command_tells_it_in_text_json_and_as_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = record(tmp_path / "one" / "run.db").parent
    second = record(tmp_path / "two" / "run.db", loss={3: 9.0}).parent
    page = tmp_path / "parting.html"
    assert app.run(["compare", str(first), str(second), "--out", str(page)]) == 1
    assert "part at training step 3: loss (0.25 and 9)" in capsys.readouterr().out
    text = page.read_text()
    assert "The runs part at training step 3" in text and "How much is left" in text
    assert app.run(["compare", str(first), str(first), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] is None
    assert app.run(["compare", str(first), str(second), "--tolerance", "-1"]) == 2
    assert "tolerance must be at least 0" in capsys.readouterr().err
    assert "part at training step 3" in sg.compare(first, second)._repr_html_()
