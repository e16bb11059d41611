"""Lesson ``vanish``: why a gradient vanishes or explodes: a product of Jacobians."""

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
from steadygrad.learn.scene import Curves, Picture, Preset, Readings, Scene, Sentence, Slider
from steadygrad.nn import RNN, QuantisedLSTM, Recurrent
from steadygrad.report import Line, Plot
from steadygrad.report.axis import Axis

CELLS = ("elman", "lstm", "lstm, forget bias 3", "gru", "lem")
STYLES = ("before dashed", "main", "main dotted", "second dashdot", "third longdash")
QUANTISED = (
    ("full", "none"), ("binary", "none"), ("binary", "weight"), ("binary", "layer"),
    ("ternary", "none"), ("ternary", "weight"),
)  # fmt: skip
INPUTS = 4
REACH = -4.0  # log10 of the share below which a gradient counts as lost


@dataclass(frozen=True)
class CellDecay:
    """The product of Jacobians of one cell at its initialisation.

    Attributes:
        cell: Its name.
        radius, norm: Largest absolute eigenvalue and singular value of R, over its blocks.
        mean_slope: Mean of the derivative of the activation over steps and units; for cells with
            gates the mean of the gate that holds the memory; nan if there is neither.
        log10_norm: ``(T + 1,)``, log10 of the spectral norm of the product of k Jacobians.
        per_step: Decades per step, from first to last.
        reach: Steps until less than 1e-4 is left; None if more is left at the end.
    """

    cell: str
    radius: float
    norm: float
    mean_slope: float
    log10_norm: tuple[float, ...]
    per_step: float
    reach: int | None


@dataclass(frozen=True)
class Depth:
    """A stack of plain layers: log10 of the gradient's norm by layer and steps back.

    Attributes:
        layers: ``layers[l][k]``, the lowest layer first, the last step first.
    """

    layers: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Bound:
    """The bound of Hou et al. for an LSTM with quantised weights.

    Attributes:
        method, norm: Of `steadygrad.nn.QuantisedLSTM`.
        lambda1, lambda2: Median over steps; at the first, where h is zero, a layer norm divides by
            nearly zero.
        growth: Measured growth of the gradient in decades per step.
    """

    method: str
    norm: str
    lambda1: float
    lambda2: float
    growth: float


@dataclass(frozen=True)
class VanishResult(Result):
    """Numbers of the lesson ``vanish``.

    Attributes:
        hidden, steps: Units and time steps.
        cells: Cells side by side.
        depth: Depth beside time.
        bounds: Quantised LSTMs.
    """

    hidden: int
    steps: int
    cells: tuple[CellDecay, ...]
    depth: Depth
    bounds: tuple[Bound, ...]

    def parts(self) -> Sequence[Part]:
        lags = np.arange(self.steps + 1.0)
        plain = self.cells[0]
        top = len(self.depth.layers)
        marks = sorted({round(k * (self.steps - 1) / 4) for k in range(5)})
        return (
            Text(
                "A gradient that goes back one step is multiplied by that step's Jacobian, the "
                "matrix of how the new state depends on the old. Over k steps it is multiplied by "
                "a product of k matrices. Whether it lives is a matter of that product alone."
            ),
            Heading("A product of matrices"),
            _product(),
            Heading("In a network: the activation takes its share"),
            Text(
                f"For a plain network the Jacobian is diag(tanh′) R. Here R ({self.hidden} units, "
                f"torch's initialisation) has its largest eigenvalue at {plain.radius:.3f}, its "
                f"largest singular value at {plain.norm:.3f}, and tanh′ is {plain.mean_slope:.3f} "
                f"in the mean. Measured, the product loses {-plain.per_step:.3f} decades a step."
            ),
            Table(
                f"The product of Jacobians at initialisation, {self.steps} steps",
                ("cell", "ρ(R)", "σmax(R)", "mean slope or gate", "decades a step", "reaches"),
                [
                    (
                        c.cell,
                        f"{c.radius:.3f}",
                        f"{c.norm:.3f}",
                        "–" if math.isnan(c.mean_slope) else f"{c.mean_slope:.3f}",
                        f"{c.per_step:.4f}",
                        f"over {self.steps} steps" if c.reach is None else f"{c.reach} steps",
                    )
                    for c in self.cells
                ],
                "Mean slope: of tanh for elman. Mean gate: of the one that keeps (forget, update). "
                "Reaches: until less than 1e-4 is left.",
            ),
            Plot(
                "Cells side by side",
                "Spectral norm of the product of Jacobians, of h and c together.",
                [
                    Line(c.cell, lags, np.array(c.log10_norm), style)
                    for c, style in zip(self.cells, STYLES, strict=True)
                ],
                x_name="steps back",
                y_name="largest factor on a gradient",
                is_log=True,
                powers=True,
            ),
            Text(
                "A gate changes the factor from slope times matrix to a number near the gate's own "
                "value. At its default start an LSTM's forget gate is near one half and loses "
                "0.3 decades a step along c; what h carries beside it makes the whole product "
                "lose less. A bias of 3 on the forget gate makes the half a 0.95."
            ),
            Heading("Depth beside time"),
            Text(
                f"In a stack of {top} plain layers the gradient flows back through time and "
                "through the layers. The loss enters at the top layer and the last step. Each "
                "number is the gradient's norm there, relative to where it entered: to the right "
                "time is lost, downwards depth."
            ),
            Table(
                "log10 of the gradient's norm",
                ("layer", *(f"{k} back" for k in marks)),
                [
                    (
                        f"{index + 1}{' (top)' if index + 1 == top else ''}",
                        *(f"{row[k]:.1f}" for k in marks),
                    )
                    for index, row in reversed(list(enumerate(self.depth.layers)))
                ],
            ),
            Heading("Weights of one bit: λ₁ and λ₂"),
            Text(
                "For an LSTM there is a bound on what one step can do: |dL/dh(t−1)| ≤ "
                "λ₁ |dL/dh(t)| + λ₂ |dL/dc(t+1)| (Hou et al., 2019). It is made of the norms of "
                "the four recurrent blocks. Weights of −1 and +1 have norms of at least the root "
                "of the number of units, so λ₁ is far above one and the gradient may explode; a "
                "normalisation brings both down again."
            ),
            Table(
                f"LSTMs of {self.hidden} units with quantised weights",
                ("weights", "normalisation", "λ₁", "λ₂", "may explode", "measured, decades a step"),
                [
                    (
                        b.method,
                        b.norm,
                        f"{b.lambda1:.2f}",
                        f"{b.lambda2:.2f}",
                        "yes" if b.lambda1 > 1 else "no",
                        f"{b.growth:+.3f}",
                    )
                    for b in self.bounds
                ],
                "Medians over steps. The bound is loose: λ₁ above 1 is necessary for an explosion, "
                "not sufficient. The measured column is the product of Jacobians.",
            ),
        )


@final
@dataclass(frozen=True)
class VanishLesson(Lesson):
    """Why gradients vanish and explode: products of Jacobians, measured side by side.

    Args:
        hidden: Units of each network, 4 to 128.
        steps: Time steps, 8 to 400.
        layers: Layers of the stack, 2 to 8.
        seed: Of weights and inputs.
    """

    name: ClassVar[str] = "vanish"
    question: ClassVar[str] = "Why do gradients vanish and explode?"
    place: ClassVar[int] = 30

    hidden: int = 32
    steps: int = 60
    layers: int = 5
    seed: int = 0

    def run(self) -> VanishResult:
        for name, low, high in (("hidden", 4, 128), ("steps", 8, 400), ("layers", 2, 8)):
            if not low <= getattr(self, name) <= high:
                raise InputError(
                    f"learn vanish: {name} must be {low} to {high}, got {getattr(self, name)}"
                )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            x = torch.randn(self.steps, 1, INPUTS, dtype=torch.float64)
            cells = tuple(cell_decay(name, self.hidden, x) for name in CELLS)
            depth = through_depth(self.hidden, self.layers, x)
            bounds = tuple(bound(method, norm, self.hidden, x) for method, norm in QUANTISED)
        return VanishResult(self.hidden, self.steps, cells, depth, bounds)


def cell_decay(name: str, hidden: int, x: Tensor) -> CellDecay:
    """Measure one cell at its initialisation."""
    cell, _, bias = name.partition(", forget bias ")
    layer: Any = Recurrent(cell, INPUTS, hidden, dtype=torch.float64)
    if bias:
        with torch.no_grad():
            layer.bias_ih_l0[hidden : 2 * hidden] = float(bias)
            layer.bias_hh_l0[hidden : 2 * hidden] = 0.0
    with torch.no_grad():
        log10 = norms_by_lag(layer, x)
        weights = flow.recurrent_weights(layer)
        per_step = (log10[-1] - log10[0]) / (len(log10) - 1)
        reach = next((k for k, v in enumerate(log10) if v < REACH), None)
        radii = [r for r in weights.spectral_radius.values() if r is not None]
        norm = max(weights.spectral_norm.values())
        return CellDecay(name, max(radii), norm, _slope(layer, x), log10, per_step, reach)


def norms_by_lag(layer: nn.Module, x: Tensor) -> tuple[float, ...]:
    """log10 of the spectral norm of the product of the last k step Jacobians, k = 0 .. T."""
    jacobians = flow.step_jacobians(layer, x).detach()
    found, product, scale = [0.0], torch.eye(jacobians.shape[-1], dtype=torch.float64), 0.0
    for step in jacobians[:, 0].flip(0):
        product = product @ step
        size = float(torch.linalg.matrix_norm(product, 2))
        if size == 0:  # below the smallest float64: the product is exactly zero from here on
            return (*found, *[-math.inf] * (len(jacobians) + 1 - len(found)))
        scale += math.log10(size)
        product = product / size
        found.append(scale)
    return tuple(found)


def through_depth(hidden: int, layers: int, x: Tensor) -> Depth:
    """Measure the gradient in every layer of a stack, for a loss at the top and the last step."""
    stack = RNN(INPUTS, hidden, layers, dtype=torch.float64)
    target = torch.randn(hidden, dtype=torch.float64)
    measured = flow.gradient_through_time(stack, lambda: stack(x)[0][-1, 0] @ target)
    found = sorted(measured.flows.values(), key=lambda f: int(f.name.rpartition("l")[2]))
    rows = [f.log10_grad[::-1] for f in found]
    start = float(rows[-1][0])
    return Depth(tuple(tuple((row - start).tolist()) for row in rows))


def bound(method: str, norm: str, hidden: int, x: Tensor) -> Bound:
    """Compute the bound of one quantised LSTM on ``x``, and measure the actual growth."""
    layer = QuantisedLSTM(INPUTS, hidden, method, norm, dtype=torch.float64).rnn
    with torch.no_grad():
        found = flow.lstm_bound(layer, x)
        log10 = norms_by_lag(layer, x)
    growth = (log10[-1] - log10[0]) / (len(log10) - 1)
    return Bound(method, norm, float(found.lambda1.median()), float(found.lambda2.median()), growth)


def _slope(layer: Any, x: Tensor) -> float:
    """Mean tanh' of a plain recurrence, otherwise the mean of the keeping gate."""
    output, _ = layer(x)
    cell = layer.cell
    if cell.name == "elman":
        return float((1 - output**2).mean())
    if cell.keeping is None:
        return math.nan
    gate, _ = cell.keeping
    index = cell.gates.index(gate)
    before = torch.cat([torch.zeros_like(output[:1]), output[:-1]])
    rows = slice(index * layer.hidden_size, (index + 1) * layer.hidden_size)
    total = x @ layer.weight_ih_l0[rows].T + before @ layer.weight_hh_l0[rows].T
    return float((total + layer.bias_ih_l0[rows] + layer.bias_hh_l0[rows]).sigmoid().mean())


def _product() -> Scene:
    return Scene(
        "product",
        "One matrix, many times",
        "The dashed circle is a gradient of length one in every direction; the line is what the "
        "steps make of it. Eigenvalues say how it ends, singular values how it begins.",
        (
            Slider("scale", "size of eigenvalues", 0.3, 1.3, 0.8, 0.01),
            Slider("angle", "rotation, degrees", 0, 90, 0, 1),
            Slider("shear", "shear", -3, 3, 2, 0.05),
            Slider("slope", "slope tanh′", 0.1, 1, 1, 0.01),
            Slider("steps", "steps", 0, 40, 4, 1),
            Preset("Rotation keeps", {"scale": 1, "angle": 20, "shear": 0, "slope": 1}),
            Preset("Saturated units", {"scale": 1, "angle": 20, "shear": 0, "slope": 0.5}),
            Preset(
                "Grows, then dies", {"scale": 0.8, "angle": 0, "shear": 2, "slope": 1, "steps": 4}
            ),
            Preset("Explodes", {"scale": 1.2, "angle": 20, "shear": 0, "slope": 1}),
        ),
        (
            Picture("ellipse", "The unit circle and what the product makes of it", 400, 400),
            Sentence("says"),
            Readings(
                (
                    ("radius", "largest eigenvalue ρ of a step"),
                    ("norm", "largest singular value σ of a step"),
                    ("left", "largest factor after the steps"),
                )
            ),
            Curves(
                "norms",
                "Largest factor after k steps, and the two estimates",
                (("σ of the product", "main"), ("ρᵏ", "before dashed"), ("σᵏ", "second dotted")),
                Axis(0, 40),
                Axis(-10, 10, True, True),
                "steps",
                "factor",
            ),
        ),
    )
