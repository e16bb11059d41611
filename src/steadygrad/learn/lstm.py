"""Lesson ``lstm``: one unit in detail: its gates, its memory, and the gradient along it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

import steadygrad.flow as flow
from steadygrad.errors import InputError
from steadygrad.learn.lesson import Lesson, Result
from steadygrad.learn.parts import Heading, Part, Table, Text
from steadygrad.learn.scene import (
    Curves,
    Entry,
    Letters,
    Picture,
    Preset,
    Readings,
    Scene,
    Sentence,
    Slider,
)
from steadygrad.nn import LSTM as LSTMLayer
from steadygrad.nn import RNN
from steadygrad.report import Line, Plot
from steadygrad.report.axis import Axis

OPERATIONS: dict[str, tuple[bool, bool, bool]] = {
    "k": (False, True, False),
    "w": (True, False, False),
    "e": (False, False, False),
    "r": (False, True, True),
}
"""For each operation, whether the input, forget and output gates are open."""
NAMES = {"k": "keep", "w": "write", "e": "erase", "r": "read"}
WEIGHTS = (0.0, 1.0, 2.0, 5.0, 10.0)
MOST = 2000
LONGEST = 24  # most operations of a programme


@dataclass(frozen=True)
class UnitStep:
    """One step of the unit.

    Attributes:
        operation: keep, write, erase or read.
        input, forget, output: Values of the gates.
        candidate: The value that would be written.
        c, h: Memory and output after the step.
        dc: dL/dc along the memory, L the output at the last step.
        dg: dL/dg, the gradient at the candidate.
    """

    operation: str
    input: float
    forget: float
    candidate: float
    output: float
    c: float
    h: float
    dc: float
    dg: float


@dataclass(frozen=True)
class Decay:
    """One weight on the forget gate, or as the whole recurrence of a tanh unit.

    Attributes:
        weight: w.
        forget: sigma(w x).
        log10_lstm: ``(N + 1,)``, log10 of dc_N/dc_(N-k) at lag k, measured.
        log10_rnn: The same of h_t = tanh(w h_(t-1) + x), its recurrent weight w.
        half_life: Steps until half of the gradient is left along the memory.
    """

    weight: float
    forget: float
    log10_lstm: tuple[float, ...]
    log10_rnn: tuple[float, ...]
    half_life: float


@dataclass(frozen=True)
class LSTMResult(Result):
    """Numbers of the lesson ``lstm``.

    Attributes:
        x: The input of the one-weight example.
        steps: Its length.
        decay: The example with the chosen weight.
        others: The same with other weights.
        open_at: Pre-activation of an open gate.
        value: The value that the programme writes.
        programme: The programme, step by step.
    """

    x: float
    steps: int
    decay: Decay
    others: tuple[Decay, ...]
    open_at: float
    value: float
    programme: tuple[UnitStep, ...]

    def parts(self) -> Sequence[Part]:
        w, n, one = self.decay.weight, self.steps, self.decay
        written = "".join(s.operation[0] for s in self.programme)
        return (
            Text(
                "An LSTM unit has a memory c that is changed by adding, and three gates, numbers "
                "between 0 and 1 that it computes anew at every step. The forget gate f says how "
                "much of the memory stays, the input gate i how much of the new value g is added, "
                "the output gate o how much of the memory is shown: c ← f c + i g, h = o tanh c."
            ),
            Heading("Keep, write, erase, read"),
            _unit(),
            Heading("A programme over time"),
            Text(
                "Opened and shut in turn, the gates make the unit a small store. The loss here is "
                "the output at the last step. Its gradient travels back along the memory "
                "through every step that keeps, stops at the step that erased, and enters the "
                "input only where something was written."
            ),
            _programme(written, self.open_at, self.value),
            Table(
                "The programme, measured by the library",
                ("step", "does", "i", "f", "o", "g", "c", "h", "dL/dc", "dL/dg"),
                [
                    (
                        str(t + 1),
                        s.operation,
                        s.input,
                        s.forget,
                        s.output,
                        s.candidate,
                        s.c,
                        s.h,
                        s.dc,
                        s.dg,
                    )
                    for t, s in enumerate(self.programme)
                ],
                f"Gates open at σ({self.open_at:g}), shut at σ(−{self.open_at:g}).",
            ),
            Heading("One weight decides how long"),
            Text(
                f"Let the forget gate be f = σ(w x) with w = {w:g} and x = {self.x:g}: "
                f"f = {one.forget:.6g}. Each step back multiplies the memory's gradient by just "
                f"that: after {n} steps {_share(one.log10_lstm[-1])} is left; half of it "
                f"is gone after {_count(one.half_life)} steps. A tanh unit with the same weight, "
                f"h ← tanh(w h + x), keeps {_share(one.log10_rnn[-1])}: its gradient is multiplied "
                "by w · tanh′, and a large w drives tanh′ to zero."
            ),
            _decay(w, n, self.x),
            Plot(
                f"What is left of the gradient, w = {w:g}",
                "Measured by the library over the lag, for the LSTM's memory and the tanh unit.",
                (
                    Line("LSTM, along c", np.arange(n + 1.0), np.array(one.log10_lstm), "main"),
                    Line("tanh unit", np.arange(n + 1.0), np.array(one.log10_rnn), "before dashed"),
                ),
                x_name="steps back",
                y_name="dc(last)/dc, dh(last)/dh",
                is_log=True,
                powers=True,
            ),
            Table(
                f"Other weights, x = {self.x:g}, {n} steps",
                ("w", "f = σ(w x)", "left, LSTM", "half-life (steps)", "left, tanh unit"),
                [
                    (
                        f"{d.weight:g}",
                        f"{d.forget:.6g}",
                        _share(d.log10_lstm[-1]),
                        _count(d.half_life),
                        _share(d.log10_rnn[-1]),
                    )
                    for d in self.others
                ],
            ),
            Heading("What “saturated” does"),
            Text(
                "A gate that sits at the end of its range is called saturated. Two gradients pass "
                "here, and they fare differently. The memory's is multiplied by the gate's value "
                "σ(a): near 1 it passes whole. The gate's own is multiplied by its slope σ′(a): "
                "near 0, so the gate hardly learns any more. A tanh unit has only the slope, "
                "so for it saturation is the end of both."
            ),
            _saturated(w * self.x),
            Text(
                "So start the forget gate open, at a bias of 1 or more, and the gradient lives "
                "from the first step of training on (remedies forget-bias and chrono-init); and "
                "look at gates that saturate shut: they have stopped learning "
                "(steadygrad explain saturated)."
            ),
        )


@final
@dataclass(frozen=True)
class LSTMLesson(Lesson):
    """One LSTM unit: drag its gates, and follow memory and gradient.

    Args:
        weight: w of the forget gate f = sigma(w x) in the one-weight example.
        x: The input there, the same at every step.
        steps: Its length, 1 to 2000.
        programme: Operations over time: k keep, w write, e erase, r read.
        open_at: Pre-activation of an open gate; a shut one has the negative.
        value: What is written, -1 to 1.
    """

    name: ClassVar[str] = "lstm"
    question: ClassVar[str] = "How does an LSTM keep a memory, and with it the gradient?"
    place: ClassVar[int] = 10

    weight: float = 10.0
    x: float = 1.0
    steps: int = 50
    programme: str = "wkkkrkkkewkkkkkr"
    open_at: float = 6.0
    value: float = 0.8

    def run(self) -> LSTMResult:
        if not 1 <= self.steps <= MOST:
            raise InputError(f"learn lstm: steps must be 1 to {MOST}, got {self.steps}")
        if len(self.programme) > LONGEST:
            raise InputError(
                f"learn lstm: programme holds at most {LONGEST} operations, "
                f"got {len(self.programme)}"
            )
        wrong = sorted(set(self.programme) - set(OPERATIONS))
        if wrong or not self.programme:
            got = ", ".join(map(repr, wrong)) or "nothing"
            raise InputError(f"learn lstm: programme is made of {', '.join(NAMES)}; got {got}")
        for name in ("weight", "x", "open_at", "value"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"learn lstm: {name} must be finite, got {getattr(self, name)}")
        if abs(self.value) > 1:
            raise InputError(f"learn lstm: value must lie in [-1, 1], got {self.value:g}")
        others = dict.fromkeys((*WEIGHTS, self.weight))
        decays = {w: decay(w, self.x, self.steps) for w in others}
        return LSTMResult(
            self.x,
            self.steps,
            decays[self.weight],
            tuple(decays[w] for w in sorted(others)),
            self.open_at,
            self.value,
            follow(self.programme, self.open_at, self.value),
        )


def decay(weight: float, x: float, steps: int) -> Decay:
    """Measure the gradient along the memory of one LSTM unit and the state of one tanh unit."""
    lstm: Any = _empty(LSTMLayer(1, 1, dtype=torch.float64))
    rnn: Any = _empty(RNN(1, 1, dtype=torch.float64))
    with torch.no_grad():
        lstm.weight_ih_l0[1] = weight  # rows: input, forget, candidate, output
        rnn.weight_hh_l0[:] = weight
        rnn.weight_ih_l0[:] = 1.0
    inputs = torch.full((steps + 1, 1, 1), x, dtype=torch.float64)
    along_c = _log10_gradient(lstm, lambda: lstm(inputs)[1][1].sum(), "c")
    along_h = _log10_gradient(rnn, lambda: rnn(inputs)[1].sum(), "h")
    forget = 1 / (1 + math.exp(-weight * x)) if weight * x > -700 else 0.0
    half = math.log(0.5) / math.log(forget) if 0 < forget < 1 else math.inf if forget else 0.0
    return Decay(weight, forget, along_c, along_h, half)


def follow(programme: str, open_at: float, value: float) -> tuple[UnitStep, ...]:
    """Run a programme on one unit of the library's LSTM, its gates driven by four inputs."""
    layer: Any = _empty(LSTMLayer(4, 1, dtype=torch.float64))
    with torch.no_grad():
        layer.weight_ih_l0[:] = torch.eye(4, dtype=torch.float64)
    inputs = torch.tensor(
        [_drive(programme, t, open_at, value) for t in range(len(programme))], dtype=torch.float64
    ).unsqueeze(1)
    inputs.requires_grad_()
    output, _ = layer(inputs)
    # All four pre-activations are separate inputs, so that their gradients are those of the gates.
    (grads,) = torch.autograd.grad(output[-1].sum(), inputs)
    gates = inputs.detach().squeeze(1)
    i, f, o = (gates[:, k].sigmoid() for k in (0, 1, 3))
    g = gates[:, 2].tanh()
    h = output.detach()[:, 0, 0]
    dg = grads[:, 0, 2] / (1 - g**2)
    by_lag = _log10_gradient(layer, lambda: layer(inputs.detach())[0][-1].sum(), "c")
    dc = 10 ** torch.tensor(by_lag[::-1], dtype=torch.float64)
    # The loss enters through h at the last step's output gate, which the tap counts as dL/dh.
    c = _memories(layer, inputs.detach())
    dc[-1] = o[-1] * (1 - c[-1].tanh() ** 2)
    return tuple(
        UnitStep(NAMES[letter], *(float(v[t]) for v in (i, f, g, o, c, h, dc, dg)))
        for t, letter in enumerate(programme)
    )


def _drive(programme: str, t: int, open_at: float, value: float) -> list[float]:
    i, f, o = (open_at if on else -open_at for on in OPERATIONS[programme[t]])
    sign = -1.0 if programme[:t].count("w") % 2 else 1.0  # each write flips the sign
    return [i, f, math.atanh(sign * min(max(value, -1 + 1e-12), 1 - 1e-12)), o]


def _memories(layer: nn.Module, inputs: Tensor) -> Tensor:
    """The memory c after every step: the last state of every prefix of the sequence."""
    with torch.no_grad():
        return torch.stack([layer(inputs[: t + 1])[1][1].flatten()[0] for t in range(len(inputs))])


def _log10_gradient(layer: nn.Module, loss: object, state: str) -> tuple[float, ...]:
    """log10 of the gradient at every step by the lag, the last step first."""
    measured = flow.gradient_through_time(layer, loss)  # type: ignore[arg-type]
    (found,) = measured.flows.values()
    return tuple(found.log10_grad_by_state[state][::-1].tolist())


def _empty(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _share(log10: float) -> str:
    if log10 == -math.inf:
        return "nothing"
    return f"{100 * 10**log10:.4g} %" if log10 > -4 else f"1e{log10:.1f}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _unit() -> Scene:
    return Scene(
        "unit",
        "One step of one unit",
        "Drag the gates, or press a button. A wire is as thick as what it carries.",
        (
            Slider("f", "forget gate f", 0, 1, 1, 0.01),
            Slider("i", "input gate i", 0, 1, 0, 0.01),
            Slider("o", "output gate o", 0, 1, 0, 0.01),
            Slider("g", "new value g", -1, 1, 0.8, 0.01),
            Slider("before", "memory before", -2, 2, 1, 0.01),
            Preset("Keep", {"f": 1, "i": 0, "o": 0}),
            Preset("Write", {"f": 0, "i": 1, "o": 0}),
            Preset("Erase", {"f": 0, "i": 0, "o": 0}),
            Preset("Read", {"f": 1, "i": 0, "o": 1}),
        ),
        (
            Picture("unit", "The wires of one LSTM unit with the values they carry", 680, 340),
            Sentence("says"),
            Readings(
                (
                    ("c", "memory c = f·before + i·g"),
                    ("h", "output h = o·tanh c"),
                    ("back", "∂c/∂before = f"),
                    ("write", "∂c/∂g = i"),
                    ("read", "∂h/∂c = o·(1 − tanh² c)"),
                )
            ),
        ),
    )


def _programme(written: str, open_at: float, value: float) -> Scene:
    return Scene(
        "programme",
        "Write a programme: k keep, w write, e erase, r read",
        "A bar above a step is the share of the last output's gradient that reaches what came in "
        "there. Make the gates less sharp and watch the store leak.",
        (
            Entry("operations", "programme", written, LONGEST),
            Slider("open", "gates at σ(±a), a", 0, 12, min(max(open_at, 0), 12), 0.1),
            Slider("value", "value written", -1, 1, value, 0.05),
            Preset("Store long", {"operations": "wkkkkkkkkkkkkkkkkkkkr"}),
            Preset("Overwrite", {"operations": "wkkkrkkkewkkkkkr"}),
            Preset("Erase too early", {"operations": "wkkkekkkkkkkkkkr"}),
            Preset("Half-open gates", {"open": 0}),
            Preset("Sharp gates", {"open": 6}),
        ),
        (
            Letters("steps", "The steps of the programme"),
            Sentence("says"),
            Curves(
                "values",
                "Memory and output",
                (("c", "main"), ("h", "before dashed")),
                Axis(0, LONGEST),
                Axis(-1.1, 1.1),
                "step",
                "value",
            ),
            Curves(
                "gradient",
                "Gradient in the backward pass",
                (("dL/dc, along the memory", "main"), ("dL/dg, into the input", "second dashdot")),
                Axis(0, LONGEST),
                Axis(-12, 0.5, True, True),
                "step",
                "gradient",
            ),
        ),
    )


def _decay(weight: float, steps: int, x: float) -> Scene:
    return Scene(
        "decay",
        "Drag the weight",
        "The same weight in both units. Look at w = 0, at w = 1 and at w = 10.",
        (
            Slider("weight", "weight w", -3, 12, min(max(weight, -3), 12), 0.1),
            Slider("x", "input x", -2, 2, min(max(x, -2), 2), 0.1),
            Slider("steps", "steps", 1, 200, min(steps, 200), 1),
        ),
        (
            Readings(
                (
                    ("f", "σ(w x), a step of the LSTM"),
                    ("left", "left, LSTM"),
                    ("rnn", "left, tanh unit"),
                    ("half", "half-life, steps"),
                )
            ),
            Curves(
                "decay",
                "What is left of the gradient after so many steps back",
                (("LSTM, along c", "main"), ("tanh unit", "before dashed")),
                Axis(0, 200),
                Axis(-16, 0.5, True, True),
                "steps back",
                "share left",
            ),
        ),
    )


def _saturated(a: float) -> Scene:
    return Scene(
        "saturated",
        "Value and slope of a gate",
        "Drag the pre-activation a. Where the value is near 1 the slope is near 0.",
        (Slider("a", "pre-activation a", -12, 12, min(max(a, -12), 12), 0.1),),
        (
            Sentence("says"),
            Readings(
                (
                    ("value", "σ(a): multiplies the memory's gradient"),
                    ("slope", "σ′(a): multiplies the gate's own"),
                    ("hundred", "σ(a)¹⁰⁰: the memory's after 100 steps"),
                )
            ),
            Curves(
                "saturated",
                "σ and σ′",
                (("σ(a)", "main"), ("σ′(a)", "before dashed"), ("here", "second dotted")),
                Axis(-12, 12),
                Axis(0, 1),
                "pre-activation a",
                "value",
            ),
        ),
    )
