"""Gradient flossing: pull Lyapunov exponents to zero, before training and in bouts during it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.flow import lyapunov_exponents, recurrent_layers
from steadygrad.nn import cell_of
from steadygrad.nn.arrangement import time_axis
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.call_hooks import at_calls
from steadygrad.remedies.demonstration import Demonstration, example, loss_of, seeded
from steadygrad.remedies.unsuitable import no_layer_to_see


@final
@dataclass(frozen=True)
class Flossing(Remedy):
    r"""Minimise, over the weights of each recurrent layer, the distance of its exponents to zero.

    .. math::
        \frac{1}{k} \sum_{i=1}^{k} (\lambda_i - \text{target})^2

    with the first :math:`k` Lyapunov exponents :math:`\lambda_i` in nats per step, along the
    trajectory driven by the current batch. The gradient survives in as many directions as there
    are exponents near zero; flossing acts on all of them, not only on the one that the loss uses.

    It happens automatically within the first training call of a layer and some later ones, with its
    own Adam: it is not a term of the loss, and independent of the training's optimiser. Each
    training call counts as one update; call a layer once per step.

    Args:
        before: Steps of flossing before the first update.
        bout: Steps of each later bout.
        bouts: How many later bouts.
        every: Updates from one bout to the next, the first included.
        exponents: :math:`k`, counted from the largest; all if not given.
        steps: Number of leading time steps of the batch that are used.
        discard: How many of these are skipped while the directions converge; of a shorter batch
            all but the last.
        rate: Step size of Adam.
        target: In nats per step; at 0 the gradient neither grows nor decays.

    References:
        Engelken, *Gradient Flossing: Improving Gradient Descent through Dynamic Control of
        Jacobians*, 2023. The defaults are those of the author's code, which takes 75 of 80
        exponents.
    """

    name: ClassVar[str] = "flossing"
    claim: ClassVar[str] = "Lyapunov exponents move to target before training and in bouts"
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "exploding")
    needs_whole_batch: ClassVar[bool] = True
    short: ClassVar[Mapping[str, Any]] = {"steps": 30, "discard": 5, "rate": 3e-3}
    few_steps: ClassVar[Mapping[str, Any]] = {
        "before": 1,
        "bout": 1,
        "bouts": 1,
        "every": 1,
        "rate": 0.01,
        "discard": 1,
    }
    other: ClassVar[Mapping[str, Any]] = {
        "before": 2,
        "bout": 2,
        "bouts": 3,
        "every": 2,
        "exponents": 2,
        "steps": 3,
        "discard": 3,
        "rate": 0.02,
        "target": -0.5,
    }

    before: int = 50
    bout: int = 50
    bouts: int = 2
    every: int = 10
    exponents: int | None = None
    steps: int = 55
    discard: int = 16
    rate: float = 1e-3
    target: float = 0.0

    def __post_init__(self) -> None:
        for option in ("before", "bout", "bouts", "discard"):
            self.expect(option, getattr(self, option) >= 0, "a whole number, 0 or above")
        for option in ("every", "steps"):
            self.expect(option, getattr(self, option) >= 1, "a whole number above 0")
        few = self.exponents is None or self.exponents >= 1
        self.expect("exponents", few, "a whole number above 0, or none")
        self.expect("rate", 0 < self.rate < float("inf"), "a finite number above 0")
        self.expect("target", abs(self.target) < float("inf"), "a finite number")

    def unsuitable(self, model: nn.Module) -> str | None:
        for path, layer in recurrent_layers(model):
            size = int(getattr(layer, "hidden_size", 0)) * len(cell_of(layer).states)
            if self.exponents is not None and self.exponents > size:
                return f"{path} has a state of {size}, fewer than exponents={self.exponents}"
        return no_layer_to_see(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for path, layer in recurrent_layers(model):
            for parameter in layer.parameters():
                applied.keep(parameter)
            at_calls(path, layer, applied, self.moments(), self.steps, partial(floss, self))
            applied.note(f"{path}: layer flossed at updates {self.moments()}, in its calls")

    def moments(self) -> dict[int, int]:
        """Steps of flossing, by the number of earlier updates."""
        later = {n * self.every: self.bout for n in range(1, self.bouts + 1)}
        return {at: steps for at, steps in ({0: self.before} | later).items() if steps}

    @seeded
    def demonstrate(self) -> Demonstration:
        model, x = example(self)

        def away() -> float:
            """Root mean square distance of the exponents to the target, in nats per step."""
            with torch.no_grad():
                exponents = lyapunov_exponents(model.rnn, x, discard=5)
            return (exponents - self.target).square().mean().sqrt().item()

        before = away()
        self.apply(model)
        loss_of(model, x)
        after = away()
        change = f"{before:.3f} to {after:.3f} nats per step"
        text = f"exponents' distance to {self.target:g} (rms) {change}"
        return Demonstration(text, after < before)


def floss(remedy: Flossing, layer: nn.Module, x: Tensor, steps: int) -> list[float]:
    """Minimise the flossing loss of one layer over ``x``; return its values.

    Args:
        remedy: Gives exponents, target, step size, and the number of skipped time steps.
        layer: Its weights are changed, their ``.grad`` is not.
        x: Input of the layer.
        steps: Steps of Adam.
    """
    parameters = [p for p in layer.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, remedy.rate)
    values = []
    with _own_gradients(parameters):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = distance(remedy, layer, x)
            # no exponent is finite: weights are non-finite, or all directions collapsed
            if not loss.requires_grad:
                break
            loss.backward()
            optimizer.step()
            values.append(loss.item())
    return values


def distance(remedy: Flossing, layer: nn.Module, x: Tensor) -> Tensor:
    """Mean squared distance of the exponents to the target, summed over layers and directions."""
    total = x.new_zeros((), dtype=torch.float64)
    discard = min(remedy.discard, x.shape[time_axis(layer, x)] - 1)
    for index in range(int(getattr(layer, "num_layers", 1))):
        for reverse in (False, True)[: 1 + bool(getattr(layer, "bidirectional", False))]:
            found = lyapunov_exponents(
                layer, x, None, remedy.exponents, discard, index=index, reverse=reverse
            )
            # a collapsed direction has log 0 = -inf and no useful gradient
            found = found[found.isfinite()]
            if len(found):
                total = total + (found - remedy.target).square().mean()
    return total


@contextmanager
def _own_gradients(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Set the gradients of the training aside, and restore them afterwards."""
    kept = [p.grad for p in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        yield
    finally:
        for parameter, grad in zip(parameters, kept, strict=True):
            parameter.grad = grad
