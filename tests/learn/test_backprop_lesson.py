"""Every line of the lesson, in Python and on the page, equals autograd's value in float64."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.learn import BackpropLesson
from steadygrad.learn.backprop import DEFAULTS, Kind, given
from tests.learn.scripts import compute, scene_of

CELLS: list[Kind] = ["rnn", "lstm"]


def by_autograd(values: dict[str, float], cell: Kind, steps: int, units: int) -> dict[str, float]:
    """The equations with one tensor per number; every d-name from its tensor's gradient."""
    v: dict[str, Tensor] = {
        n: torch.tensor(x, dtype=torch.float64, requires_grad=True) for n, x in values.items()
    }
    inputs = sum(name.startswith("x") and name.endswith("(1)") for name in values)
    at = range(1, units + 1)
    for t in range(1, steps + 1):
        for gate in [""] if cell == "rnn" else list("ifgo"):
            for j in at:
                a = v[f"b{gate}{j}"]
                for k in range(1, inputs + 1):
                    a = a + v[f"W{gate}{j}{k}"] * v[f"x{k}({t})"]
                for k in at:
                    a = a + v[f"R{gate}{j}{k}"] * v[f"h{k}({t - 1})"]
                v[f"a{gate}{j}({t})"] = a
        for j in at:
            if cell == "rnn":
                v[f"h{j}({t})"] = torch.tanh(v[f"a{j}({t})"])
                continue
            i, f, o = (torch.sigmoid(v[f"a{gate}{j}({t})"]) for gate in "ifo")
            g = torch.tanh(v[f"ag{j}({t})"])
            c = f * v[f"c{j}({t - 1})"] + i * g
            v |= {f"{n}{j}({t})": x for n, x in zip("ifogc", (i, f, o, g, c), strict=True)}
            v[f"m{j}({t})"] = c.tanh()
            v[f"h{j}({t})"] = o * v[f"m{j}({t})"]
    v |= {f"e{j}": v[f"h{j}({steps})"] - v[f"y{j}"] for j in at}
    v["L"] = torch.stack([v[f"e{j}"] ** 2 / 2 for j in at]).sum()
    for value in v.values():
        value.retain_grad()
    v["L"].backward()
    found = {n: float(x.detach()) for n, x in v.items()}
    return found | {f"d{n}": float(x.grad) for n, x in v.items() if x.grad is not None}


def values_of(lesson: BackpropLesson) -> tuple[dict[str, float], int, int]:
    problem = lesson.run().problem
    return given(problem, lesson.cell), len(problem.x), len(problem.target)


@pytest.fixture(params=[*CELLS, "own"])
def lesson(request: pytest.FixtureRequest, tmp_path: Path) -> BackpropLesson:
    """Both defaults, and an LSTM of three units, two inputs and four steps from a file."""
    if request.param != "own":
        return BackpropLesson(request.param)
    draw = torch.Generator().manual_seed(1)
    sizes = {"x": (4, 2), "target": (3,), "weight_ih": (12, 2), "weight_hh": (12, 3), "bias": (12,)}
    path = tmp_path / "own.json"
    path.write_text(
        json.dumps({n: torch.randn(s, generator=draw).tolist() for n, s in sizes.items()})
    )
    return BackpropLesson("lstm", path)


def test_every_line_is_autograds(lesson: BackpropLesson) -> None:
    result = lesson.run()
    expected = by_autograd(*values_of(lesson)[:1], lesson.cell, *values_of(lesson)[1:])
    for entry in result.entries:
        assert entry.value == pytest.approx(expected[entry.name], rel=1e-10, abs=1e-14), entry.name
    assert result.largest_difference < 1e-13


def test_every_weight_has_its_line(lesson: BackpropLesson) -> None:
    names = {entry.name for entry in lesson.run().entries}
    weights = {n for n in values_of(lesson)[0] if n[0] in "WRb"}
    assert {f"d{n}" for n in weights} <= names


def test_the_page_writes_and_computes_the_same_lines(lesson: BackpropLesson) -> None:
    scene, result = scene_of(lesson, "ledger"), lesson.run()
    (made,) = compute("backprop", "ledger", scene.values(), data=scene.data)
    for line, entry in zip(made["entries"], result.entries, strict=True):
        value = line.pop("value")
        assert value == pytest.approx(entry.value, rel=1e-12, abs=1e-16)
        shown = {"name": entry.name, "section": entry.section, "formula": entry.formula}
        assert line == shown | {"numbers": entry.numbers}


def test_the_page_changes_a_weight_or_an_input_as_autograd_does(lesson: BackpropLesson) -> None:
    scene = scene_of(lesson, "ledger")
    values, steps, units = values_of(lesson)
    names = [n for n in values if n[0] in "WRbx" and not n.endswith("(0)")]
    few = names[:: max(1, len(names) // 12)]  # of each kind some
    cases = [{"at": 1, "what": name, "by": 0.25} for name in few]
    before = by_autograd(values, lesson.cell, steps, units)
    for case, made in zip(
        cases, compute("backprop", "ledger", *cases, data=scene.data), strict=True
    ):
        name = str(case["what"])
        after = by_autograd(values | {name: values[name] + 0.25}, lesson.cell, steps, units)
        assert made["text"]["slope"] == pytest.approx(before[f"d{name}"], rel=1e-10, abs=1e-14)
        assert made["text"]["loss"] == pytest.approx(after["L"], rel=1e-12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bias": [0.0]}, "weight_hh"),
        ({"x": [[1.0], [2.0, 3.0]]}, "rows of one length"),
        ({"x": [["a"]]}, "expected numbers, got 'a'"),
        ({"x": [[1.0]] * 9}, "8 steps"),
        ({"y": [1.0]}, "expected the names x, target"),
        ({"bias": [float("inf"), 0.0]}, "finite"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(DEFAULTS["rnn"] | change))
    with pytest.raises(InputError, match=says):
        BackpropLesson("rnn", path).run()


def test_what_is_no_file_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        BackpropLesson("rnn", tmp_path / "none.json").run()
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        BackpropLesson("rnn", tmp_path / "bad.json").run()
