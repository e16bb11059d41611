"""Lesson ``backprop``: backpropagation through time by hand, number by number."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from steadygrad.errors import InputError
from steadygrad.learn.ledger import Entry, Line, Term, digits, evaluate
from steadygrad.learn.lesson import Lesson, Result
from steadygrad.learn.parts import Heading, Part, Table, Text
from steadygrad.learn.scene import Choice, Ledger, Readings, Scene, Sentence, Slider, Step
from steadygrad.nn import LSTM, RNN

Kind = Literal["rnn", "lstm"]
GATES: dict[Kind, tuple[str, ...]] = {"rnn": ("",), "lstm": ("i", "f", "g", "o")}
DEFAULTS: dict[Kind, dict[str, Any]] = {
    "rnn": {
        "x": [[1.0], [0.5], [-1.0]],
        "target": [0.5, -0.5],
        "weight_ih": [[0.5], [-0.3]],
        "weight_hh": [[0.4, -0.2], [0.1, 0.6]],
        "bias": [0.1, 0.0],
    },
    "lstm": {
        "x": [[1.0], [0.5], [-1.0]],
        "target": [0.5, -0.5],
        "weight_ih": [[0.5], [-0.3], [0.2], [0.4], [0.9], [-0.7], [0.3], [0.1]],
        "weight_hh": [
            [0.1, -0.2], [0.3, 0.1], [0.2, 0.0], [-0.1, 0.2],
            [0.4, -0.3], [0.1, 0.5], [-0.2, 0.1], [0.2, 0.3],
        ],
        "bias": [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0],
    },
}  # fmt: skip
"""The form of the file of the option ``weights``; rows as in torch, of an LSTM i, f, g, o."""
MOST_UNITS, MOST_STEPS = 4, 8


@dataclass(frozen=True)
class Problem:
    """Weights, inputs and target, as nested lists.

    Attributes:
        x: ``(T, I)``.
        target: ``(H,)``, of h at the last step.
        weight_ih, weight_hh: ``(G*H, I)`` and ``(G*H, H)``.
        bias: ``(G*H,)``.
    """

    x: list[list[float]]
    target: list[float]
    weight_ih: list[list[float]]
    weight_hh: list[list[float]]
    bias: list[float]


@dataclass(frozen=True)
class BackpropResult(Result):
    """Numbers of the lesson ``backprop``.

    Attributes:
        cell: ``"rnn"`` or ``"lstm"``.
        problem: The given numbers.
        entries: All lines of forward pass, loss, backward pass and weight gradients.
        loss: Half the squared distance of h at the last step from the target.
        largest_difference: Largest difference of a gradient here from autograd's.
    """

    cell: Kind
    problem: Problem
    entries: tuple[Entry, ...]
    loss: float
    largest_difference: float

    def parts(self) -> Sequence[Part]:
        steps, units = len(self.problem.x), len(self.problem.target)
        sums = [e for e in self.entries if e.section == WEIGHTS]
        return (
            Text(
                f"{_article(self.cell)} of {units} units reads {steps} inputs. Below are all "
                "numbers of the forward pass, the loss, the backward pass and the gradients, each "
                "computed from numbers above it. Names: h1(2) is unit 1 at step 2, dh1(2) the "
                "gradient of the loss L by it, W for input weights, R for recurrent weights, b "
                "for biases."
            ),
            Heading("Line by line"),
            _scene(self),
            Text(
                "The one step that makes it backpropagation through time: dh at a step is the sum "
                "of what comes from the loss and what comes back through R from the step after. "
                "And each weight is used at every step, so its gradient is a sum over the steps."
            ),
            Heading("The gradients"),
            Table(
                "Gradient of every weight, summed over the steps",
                ("weight", "sum over the steps", "in numbers", "gradient"),
                [(e.name, e.formula, e.numbers, digits(e.value)) for e in sums],
                "Largest difference from autograd in float64: "
                f"{self.largest_difference:.1e}. Loss: {self.loss:.6f}.",
            ),
            Text(
                "Your own numbers: write x, target, weight_ih, weight_hh and bias into a JSON file "
                f"and run steadygrad learn backprop --cell {self.cell} --weights FILE."
            ),
        )


WEIGHTS = "gradients of the weights"


@final
@dataclass(frozen=True)
class BackpropLesson(Lesson):
    """Backpropagation through time by hand, checked against autograd.

    Args:
        cell: A plain tanh RNN or an LSTM.
        weights: A JSON file with x, target, weight_ih, weight_hh and bias of your own; at most 4
            units, 4 inputs and 8 steps.
    """

    name: ClassVar[str] = "backprop"
    question: ClassVar[str] = "What does backpropagation through time compute, number by number?"
    place: ClassVar[int] = 20

    cell: Kind = "rnn"
    weights: Path | None = None

    def run(self) -> BackpropResult:
        if self.cell not in GATES:
            raise InputError(f"learn backprop: cell must be rnn or lstm, got {self.cell!r}")
        found = DEFAULTS[self.cell] if self.weights is None else _read(self.weights)
        problem = _checked(found, self.cell, str(self.weights or "defaults"))
        lines, values = lines_of(problem, self.cell), given(problem, self.cell)
        entries = tuple(evaluate(lines, values))
        (loss,) = (e.value for e in entries if e.name == "L")
        grads = {e.name: e.value for e in entries if e.section == WEIGHTS}
        expected = by_autograd(problem, self.cell)
        largest = max(abs(grads[name] - value) for name, value in expected.items())
        return BackpropResult(self.cell, problem, entries, loss, largest)


def given(problem: Problem, cell: Kind) -> dict[str, float]:
    """Every given number by its name: x1(2), Wf12, Rf12, bf1, y1, h1(0), c1(0)."""
    units = len(problem.target)
    values = {f"x{k}({t})": v for t, row in _count(problem.x) for k, v in _count(row)}
    for row, (gate, j) in zip(range(len(problem.bias)), _rows(cell, units), strict=True):
        values |= {f"W{gate}{j}{k}": v for k, v in _count(problem.weight_ih[row])}
        values |= {f"R{gate}{j}{k}": v for k, v in _count(problem.weight_hh[row])}
        values[f"b{gate}{j}"] = problem.bias[row]
    values |= {f"y{j}": v for j, v in _count(problem.target)}
    states = ("h",) if cell == "rnn" else ("h", "c")
    return values | {f"{s}{j}(0)": 0.0 for s in states for j in range(1, units + 1)}


def lines_of(problem: Problem, cell: Kind) -> list[Line]:
    """The whole computation: forward pass, loss, backward pass, gradients of the weights."""
    steps, units, inputs = len(problem.x), len(problem.target), len(problem.x[0])
    forward, backward = (_rnn, _rnn_back) if cell == "rnn" else (_lstm, _lstm_back)
    lines: list[Line] = []
    for t in range(1, steps + 1):
        for gate, j in _rows(cell, units):
            lines.append(_preactivation(gate, j, t, units, inputs))
        lines += [line for j in range(1, units + 1) for line in forward(j, t)]
    for j in range(1, units + 1):
        terms: tuple[Term, ...] = ((1.0, (f"h{j}({steps})",)), (-1.0, (f"y{j}",)))
        lines.append(Line(f"e{j}", "loss", terms))
    halves = tuple((0.5, (f"e{j}", f"e{j}")) for j in range(1, units + 1))
    lines.append(Line("L", "loss", halves))
    for t in range(steps, 0, -1):
        for j in range(1, units + 1):
            lines += backward(j, t, steps, units)
    for gate, j in _rows(cell, units):
        lines += _sums(gate, j, steps, units, inputs)
    return lines


def by_autograd(problem: Problem, cell: Kind) -> dict[str, float]:
    """Gradients of every weight and bias by the library's layer, by name with a leading d."""
    units, inputs = len(problem.target), len(problem.x[0])
    layer: Any = (RNN if cell == "rnn" else LSTM)(inputs, units, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(_tensor(problem.weight_ih))
        layer.weight_hh_l0.copy_(_tensor(problem.weight_hh))
        layer.bias_ih_l0.copy_(_tensor(problem.bias))
        nn.init.zeros_(layer.bias_hh_l0)
    output, _ = layer(_tensor(problem.x).unsqueeze(1))
    loss = (output[-1, 0] - _tensor(problem.target)).square().sum() / 2
    loss.backward()
    found: dict[str, float] = {}
    for row, (gate, j) in enumerate(_rows(cell, units)):
        for letter, grads in (("W", layer.weight_ih_l0.grad), ("R", layer.weight_hh_l0.grad)):
            assert grads is not None
            found |= {f"d{letter}{gate}{j}{k}": v for k, v in _count(grads[row].tolist())}
        assert layer.bias_ih_l0.grad is not None
        found[f"db{gate}{j}"] = float(layer.bias_ih_l0.grad[row])
    return found


def _preactivation(gate: str, j: int, t: int, units: int, inputs: int) -> Line:
    terms: list[Term] = [(1.0, (f"W{gate}{j}{k}", f"x{k}({t})")) for k in range(1, inputs + 1)]
    terms += [(1.0, (f"R{gate}{j}{k}", f"h{k}({t - 1})")) for k in range(1, units + 1)]
    return Line(f"a{gate}{j}({t})", f"forward, step {t}", (*terms, (1.0, (f"b{gate}{j}",))))


def _rnn(j: int, t: int) -> Iterator[Line]:
    yield Line(f"h{j}({t})", f"forward, step {t}", ((1.0, (f"a{j}({t})",)),), "tanh")


def _lstm(j: int, t: int) -> Iterator[Line]:
    section, at = f"forward, step {t}", f"{j}({t})"
    for gate in GATES["lstm"]:
        function = "tanh" if gate == "g" else "σ"
        yield Line(f"{gate}{at}", section, ((1.0, (f"a{gate}{at}",)),), function)
    kept: Term = (1.0, (f"f{at}", f"c{j}({t - 1})"))
    yield Line(f"c{at}", section, (kept, (1.0, (f"i{at}", f"g{at}"))))
    yield Line(f"m{at}", section, ((1.0, (f"c{at}",)),), "tanh")
    yield Line(f"h{at}", section, ((1.0, (f"o{at}", f"m{at}")),))


def _arriving(gates: Sequence[str], j: int, t: int, steps: int, units: int) -> tuple[Term, ...]:
    """dL/dh_j(t): from the loss at the last step, through R from the step after at all others."""
    if t == steps:
        return ((1.0, (f"e{j}",)),)
    return tuple(
        (1.0, (f"R{g}{k}{j}", f"da{g}{k}({t + 1})")) for g in gates for k in range(1, units + 1)
    )


def _rnn_back(j: int, t: int, steps: int, units: int) -> Iterator[Line]:
    section, at = f"backward, step {t}", f"{j}({t})"
    yield Line(f"dh{at}", section, _arriving(GATES["rnn"], j, t, steps, units))
    yield Line(f"da{at}", section, ((1.0, (f"dh{at}", f"1-h{at}²")),))


def _lstm_back(j: int, t: int, steps: int, units: int) -> Iterator[Line]:
    section, at = f"backward, step {t}", f"{j}({t})"
    yield Line(f"dh{at}", section, _arriving(GATES["lstm"], j, t, steps, units))
    terms: list[Term] = [(1.0, (f"dh{at}", f"o{at}", f"1-m{at}²"))]
    if t < steps:
        terms.append((1.0, (f"dc{j}({t + 1})", f"f{j}({t + 1})")))
    yield Line(f"dc{at}", section, tuple(terms))
    meets = {"i": ("dc", f"g{at}"), "f": ("dc", f"c{j}({t - 1})"), "g": ("dc", f"i{at}")}
    meets["o"] = ("dh", f"m{at}")
    for gate, (from_, other) in meets.items():
        slope = (f"1-g{at}²",) if gate == "g" else (f"{gate}{at}", f"1-{gate}{at}")
        yield Line(f"da{gate}{at}", section, ((1.0, (f"{from_}{at}", other, *slope)),))


def _sums(gate: str, j: int, steps: int, units: int, inputs: int) -> Iterator[Line]:
    times = range(1, steps + 1)
    for k in range(1, inputs + 1):
        terms = tuple((1.0, (f"da{gate}{j}({t})", f"x{k}({t})")) for t in times)
        yield Line(f"dW{gate}{j}{k}", WEIGHTS, terms)
    for k in range(1, units + 1):
        terms = tuple((1.0, (f"da{gate}{j}({t})", f"h{k}({t - 1})")) for t in times)
        yield Line(f"dR{gate}{j}{k}", WEIGHTS, terms)
    yield Line(f"db{gate}{j}", WEIGHTS, tuple((1.0, (f"da{gate}{j}({t})",)) for t in times))


def _rows(cell: Kind, units: int) -> Iterator[tuple[str, int]]:
    """Gate and unit of every row of the weights."""
    return ((gate, j) for gate in GATES[cell] for j in range(1, units + 1))


def _count(values: Sequence[Any]) -> list[tuple[int, Any]]:
    return list(enumerate(values, 1))


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _article(cell: Kind) -> str:
    return "A plain tanh network" if cell == "rnn" else "An LSTM"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def _checked(found: Mapping[str, Any], cell: Kind, where: str) -> Problem:
    """Check names and shapes, and name the wrong number."""
    names = tuple(Problem.__dataclass_fields__)
    if set(found) != set(names):
        raise InputError(
            f"{where}: expected the names {', '.join(names)}, got {', '.join(map(str, found))}"
        )
    shapes = {name: _shape(found[name], f"{where}: {name}") for name in names}
    if len(shapes["x"]) != 2 or len(shapes["target"]) != 1:
        raise InputError(f"{where}: x must be (T, I) and target (H,), got {_told(shapes)}")
    (steps, inputs), (units,) = shapes["x"], shapes["target"]
    rows = len(GATES[cell]) * units
    want = {
        "x": (steps, inputs), "target": (units,), "weight_ih": (rows, inputs),
        "weight_hh": (rows, units), "bias": (rows,),
    }  # fmt: skip
    if shapes != want:
        raise InputError(f"{where}: for this {cell} expected {_told(want)}; got {_told(shapes)}")
    if not (1 <= units <= MOST_UNITS and 1 <= inputs <= MOST_UNITS and 1 <= steps <= MOST_STEPS):
        raise InputError(
            f"{where}: at most {MOST_UNITS} units, {MOST_UNITS} inputs and {MOST_STEPS} steps can "
            f"be read by a person; got {units}, {inputs} and {steps}"
        )
    return Problem(**{name: found[name] for name in names})


def _told(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _shape(values: Any, where: str) -> tuple[int, ...]:
    if isinstance(values, bool) or not isinstance(values, int | float | list):
        raise InputError(f"{where}: expected numbers, got {values!r}")
    if not isinstance(values, list):
        if not math.isfinite(values):
            raise InputError(f"{where}: expected finite numbers, got {values}")
        return ()
    inner = {_shape(value, where) for value in values}
    if len(inner) != 1:
        raise InputError(f"{where}: expected rows of one length and at least one number")
    return len(values), *inner.pop()


def _scene(result: BackpropResult) -> Scene:
    problem, cell = result.problem, result.cell
    lines = lines_of(problem, cell)
    values = given(problem, cell)
    weights = [name for name in values if name[0] in "WRbx" and not name.endswith("(0)")]
    return Scene(
        "ledger",
        "Forward, then back",
        "Step through the lines with the buttons or the arrow keys on the slider. Then change a "
        "weight or an input: all lines follow, and the gradient says what the loss will do.",
        (
            Slider("at", "line", 1, len(lines), 1, 1),
            Choice("what", "change", [(n, f"{n} = {values[n]:g}") for n in weights], weights[0]),
            Slider("by", "by", -1, 1, 0, 0.01),
            Step("Back", "at", -1),
            Step("Next", "at", 1),
            Step("Ten on", "at", 10),
        ),
        (
            Sentence("says"),
            Readings(
                (
                    ("loss", "loss L"),
                    ("slope", "gradient by it"),
                    ("predicted", "change of L by the gradient"),
                    ("real", "change of L"),
                )
            ),
            Ledger("lines", "Every line in its order", ("value", "is", "in numbers", "equals")),
        ),
        {"lines": [asdict(line) for line in lines], "given": values},
    )
