"""Measure a remedy's claim on a small example: the measurements that several remedies share."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, final

import torch
from torch import Tensor, nn

from steadygrad import nn as layers
from steadygrad.flow import recurrent_layers
from steadygrad.init.blocks import row_blocks
from steadygrad.remedies.course import Course
from steadygrad.remedies.recurrences import Recurrence, recurrences

if TYPE_CHECKING:
    from steadygrad.remedies.base import Remedy

T, B, I, H = 20, 4, 3, 16
SPIKE, STEPS, UPDATES = 1e3, 30, 60
NEAR = 1e-6  # relative; all computations here are in float64

P = ParamSpec("P")
R = TypeVar("R", bound="Remedy")


@final
@dataclass(frozen=True)
class Demonstration:
    """The result of measuring a claim.

    Attributes:
        text: The measurement in words, with its numbers.
        holds: Whether the claim holds in it; None where nothing was measured.
    """

    text: str
    holds: bool | None


def seeded(
    measure: Callable[Concatenate[R, P], Demonstration],
) -> Callable[Concatenate[R, P], Demonstration]:
    """Make a demonstration draw the same numbers each time, without changing torch's generator."""

    @functools.wraps(measure)
    def demonstrate(remedy: R, *args: P.args, **options: P.kwargs) -> Demonstration:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return measure(remedy, *args, **options)

    return demonstrate


@final
class Small(nn.Module):
    """A recurrent layer and a read-out of its last output, in float64."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn: Any = getattr(layers, kind)(I, H)
        self.head = nn.Linear(H, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def example(remedy: "Remedy") -> tuple[Small, Tensor]:
    """A model that suits the remedy, a plain RNN if possible, and an input ``(T, B, I)``."""
    model = Small("RNN")
    model = model if remedy.applicable(model) else Small("LSTM")
    return model, torch.randn(T, B, I, dtype=torch.float64)


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    """Cross-entropy of two classes that alternate over the batch."""
    return nn.functional.cross_entropy(model(x), torch.arange(x.shape[1]) % 2)


def only_recurrence(model: nn.Module) -> Recurrence:
    """The one recurrence of an example."""
    (found,) = recurrences(model)
    return found


def train(remedy: "Remedy", model: nn.Module, x: Tensor, alone: bool = False) -> list[float]:
    """Train for a few steps, on the penalty alone if ``alone``; return the penalty of each step."""
    course = Course((remedy,), model)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    course.begin(optimizer)
    values = []
    for _ in range(UPDATES):
        optimizer.zero_grad()
        loss = loss_of(model, x)
        penalty = course.penalty(loss)
        (penalty if alone else loss + penalty).backward()
        course.gradients()
        optimizer.step()
        values.append(penalty.item())
    return values


def gradients(model: nn.Module) -> list[Tensor]:
    """All gradients."""
    return [p.grad for p in model.parameters() if p.grad is not None]


def norm(tensors: list[Tensor]) -> float:
    """The global norm."""
    return float(nn.utils.get_total_norm(tensors))


@seeded
def penalty_falls(remedy: "Remedy") -> Demonstration:
    """For penalties: minimise the penalty alone."""
    model, x = example(remedy)
    values = train(remedy, model, x, alone=True)
    text = f"penalty {values[0]:.3g} to {values[-1]:.3g} in {UPDATES} steps of minimising it"
    return Demonstration(text, values[-1] < values[0])


@seeded
def spike_is_cut(remedy: "Remedy", most: float | None = None) -> Demonstration:
    """For clips: apply a gradient a thousand times as long after thirty normal ones.

    Args:
        remedy: The clip.
        most: Largest norm after clipping, if the claim states one.
    """
    model, x = example(remedy)
    course = Course((remedy,), model, torch.optim.SGD(model.parameters(), 0.1))
    before = 0.0
    for step in range(STEPS + 1):
        model.zero_grad()
        factor = (SPIKE if step == STEPS else 1.0) * (1 + 0.1 * math.sin(step))
        (factor * loss_of(model, x)).backward()
        before = norm(gradients(model))
        course.gradients()
    after = norm(gradients(model))
    holds = after < before and (most is None or after <= most * (1 + NEAR))
    return Demonstration(f"a spike of norm {before:.3g} becomes {after:.3g}", holds)


@seeded
def singular_values_lie(
    remedy: "Remedy", low: float, high: float, is_trained: bool = False
) -> Demonstration:
    """For constraints and initialisers: check the singular values of all recurrent blocks.

    Args:
        remedy: The remedy that sets or constrains them.
        low: The claim's lower bound.
        high: The claim's upper bound.
        is_trained: Whether to measure after 60 updates instead of at the start.
    """
    model, x = example(remedy)
    if is_trained:
        train(remedy, model, x)
    else:
        remedy.apply(model)
    layer = only_recurrence(model)
    blocks = row_blocks(layer.value("weight_hh").detach(), len(layer.recurrent))
    values = torch.linalg.svdvals(torch.stack(blocks))
    least, most = float(values.min()), float(values.max())
    when = f"after {UPDATES} updates" if is_trained else "at the start"
    holds = least >= low - NEAR and most <= high * (1 + NEAR)
    return Demonstration(f"singular values {least:.3f} to {most:.3f} {when}", holds)


@seeded
def gate_keeps(remedy: "Remedy", low: float, high: float) -> Demonstration:
    """For biases of the keeping gate: check the units' time constants at zero input and state.

    Args:
        remedy: The remedy that sets the bias.
        low: The claim's lower bound, in steps.
        high: The claim's upper bound, in steps.
    """
    model, _ = example(remedy)
    remedy.apply(model)
    layer = only_recurrence(model)
    both = torch.stack([bias.detach() for bias in layer.biases()]).sum(0)
    keeping = row_blocks(both, len(layer.gates))[layer.gates.index(layer.keeping_gate or "")]
    times = 1 / (1 - (layer.keeping_sign * keeping).sigmoid())
    least, most = float(times.min()), float(times.max())
    text = f"time constants {least:.1f} to {most:.1f} steps at zero input and state"
    return Demonstration(text, least >= low * (1 - NEAR) and most <= high * (1 + NEAR))


@seeded
def passes_without_weights(remedy: "Remedy", at: str) -> Demonstration:
    """For paths around the recurrent matrix: check the gradient where all weights are zero.

    Args:
        remedy: The remedy that adds the path.
        at: Where the gradient must arrive: ``"input"`` or ``"state"``.
    """

    def passed(model: Small, x: Tensor) -> float:
        with torch.no_grad():
            for _, layer in recurrent_layers(model):
                for name, parameter in layer.named_parameters():
                    if name.startswith("weight"):
                        parameter.zero_()
        x = x.clone().requires_grad_()
        state = torch.rand(1, B, H, dtype=x.dtype, requires_grad=True)
        output, _ = model.rnn(x, state)
        to = x if at == "input" else state
        (grad,) = torch.autograd.grad(output[-1].sum(), to, allow_unused=True)
        return 0.0 if grad is None else grad.norm().item()

    model, x = example(remedy)
    before = passed(model, x)
    remedy.apply(model)
    after = passed(model, x)
    where = "input" if at == "input" else f"state {T} steps back"
    text = f"with zero weights the gradient at the {where} goes from {before:.3g} to {after:.3g}"
    return Demonstration(text, before == 0 < after)


def at_inputs(model: nn.Module, x: Tensor) -> Tensor:
    """Norms ``(T,)`` of the gradient of a large loss at the input of every time step."""
    given = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(SPIKE * loss_of(model, given), given)
    return grad.flatten(1).norm(dim=1)


def ends_ratio(model: nn.Module, x: Tensor) -> float:
    """log10 of the gradient at the first input over that at the last."""
    rows = at_inputs(model, x)
    return math.log10(float(rows[0] / rows[-1])) if rows.min() > 0 else -math.inf


def ends_text(before: float, after: float) -> str:
    """The change of `ends_ratio` in words."""
    return f"log10 of the gradient at the first input over the last {before:.1f} to {after:.1f}"


@seeded
def inputs_stay_below(remedy: "Remedy", bound: float) -> Demonstration:
    """For clips within the backward pass: check the gradient at every input but the last.

    The gradient clipped to ``bound`` per sequence and step reaches the input through the weights
    W, so its norm there is at most ``bound`` |W| (times sqrt(B) for the batch).

    Args:
        remedy: The clip.
        bound: On the gradient of one sequence at one step, as a Euclidean norm.
    """
    model, x = example(remedy)
    with torch.no_grad():  # makes the gradient grow, so that the clip acts
        model.rnn.weight_hh_l0.mul_(8.0)
    before = float(at_inputs(model, x)[:-1].max())
    remedy.apply(model)
    after = float(at_inputs(model, x)[:-1].max())
    weight = float(torch.linalg.matrix_norm(model.rnn.weight_ih_l0.detach(), 2))
    most = bound * weight * math.sqrt(B)
    text = (
        f"the longest gradient at an input before the last goes from {before:.3g} to {after:.3g}; "
        f"the bound allows {most:.3g}"
    )
    return Demonstration(text, after <= most * (1 + NEAR) and after < before)
