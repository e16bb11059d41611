"""Recurrent rate: shorter steps for the parameters of the recurrence alone."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steadygrad.flow.state_change import INPUT_SIDE
from steadygrad.nn import Recurrent
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, example, norm, seeded
from steadygrad.remedies.recurrences import blocks_of


@final
@dataclass(frozen=True)
class RecurrentRate(Remedy):
    r"""Make the steps of the recurrent parameters ``factor`` times as long, and no others.

    .. math:: \theta_{rec} \leftarrow \theta_{rec} + \text{factor} \cdot \Delta \theta_{rec}

    :math:`\Delta \theta` is what any optimiser and schedule does, weight decay included. Where
    memory is long, the states depend far more on :math:`\theta_{rec}`, the recurrent matrix and
    what a cell has per unit, than on all other weights: of a linear unit
    :math:`\mathrm E (\mathrm d h / \mathrm d \lambda)^2` grows as :math:`(1 - \lambda^2)^{-3}`.

    It acts from `begin` on, which takes the optimiser.

    Args:
        factor: Above 0.

    References:
        Zucchet and Orvieto, *Recurrent neural networks: vanishing and exploding gradients are not
        the end of the story*, NeurIPS 2024, sections 2 and 3. Orvieto et al., *Resurrecting
        Recurrent Neural Networks for Long Sequences*, 2023 (recurrent parameters at a lower rate).
    """

    name: ClassVar[str] = "recurrent-rate"
    claim: ClassVar[str] = "A step of the recurrent weights is factor times as long, and no other"
    helps: ClassVar[tuple[str, ...]] = ("curse-of-memory",)
    rank: ClassVar[Mapping[str, int]] = {"curse-of-memory": 10}
    other: ClassVar[Mapping[str, Any]] = {"factor": 0.5}

    factor: float = 0.1

    def __post_init__(self) -> None:
        self.expect("factor", 0 < self.factor < float("inf"), "a number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        if any(True for _ in recurrent_parameters(model)):
            return None
        return "none of its parameters that require a gradient belongs to a recurrence"

    def on_optimizer(
        self, optimizer: torch.optim.Optimizer, model: nn.Module
    ) -> Iterable[RemovableHandle]:
        before: list[tuple[nn.Parameter, Tensor]] = []

        def keep(*_: Any) -> None:
            # Looked up at every step: a remedy may replace layers between two of them.
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            chosen = [p for p in recurrent_parameters(model) if id(p) in held]
            before[:] = [(p, p.detach().clone()) for p in chosen]

        @torch.no_grad()
        def shorten(*_: Any) -> None:
            for parameter, old in before:
                parameter.copy_(torch.lerp(old, parameter, self.factor))
            before.clear()

        return (
            optimizer.register_step_pre_hook(keep),
            optimizer.register_step_post_hook(shorten),
        )

    @seeded
    def demonstrate(self) -> Demonstration:
        steps: list[tuple[float, float]] = []
        for is_treated in (False, True):
            model, _ = example(self)
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            if is_treated:
                self.begin(model, optimizer)
            recurrent = {id(p) for p in recurrent_parameters(model)}
            before = [(p, p.detach().clone()) for p in model.parameters()]
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            optimizer.step()
            inside = [p.detach() - b for p, b in before if id(p) in recurrent]
            outside = [p.detach() - b for p, b in before if id(p) not in recurrent]
            steps.append((norm(inside), norm(outside)))
        (whole, other), (short, same) = steps
        holds = math.isclose(short, self.factor * whole, rel_tol=1e-6)
        text = (
            f"a step of the recurrent weights of length {whole:.3g} becomes {short:.3g} long; that "
            f"of the others stays at {same:.3g}"
        )
        return Demonstration(text, holds and math.isclose(same, other, rel_tol=1e-6))


def recurrent_parameters(model: nn.Module) -> Iterable[nn.Parameter]:
    """The parameters of ``model`` that act through the state of a recurrent layer.

    The recurrent matrix and what a cell has per unit; of a parametrised matrix what it is made of.
    """
    seen: set[int] = set()
    for module in model.modules():
        if blocks_of(module) is None and not isinstance(module, Recurrent):
            continue
        for name, parameter in module.named_parameters():
            own = name.removeprefix("parametrizations.")
            if (
                not own.startswith(INPUT_SIDE)
                and parameter.requires_grad
                and id(parameter) not in seen
            ):
                seen.add(id(parameter))
                yield parameter
